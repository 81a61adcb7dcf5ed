//! Tables in which the runs stand side by side: behaviour, components, prompts, and what one run alone has.

use crate::compare::{Compared, Fact, Joined};
use crate::error::Result;
use crate::report::story::column;
use crate::row;
use crate::row::{Cell, Column, Rows};

row! {
    /// A row that one run alone has.
    pub struct Unmatched {
        /// The table.
        pub table: String,
        /// The run that has it.
        pub run: String,
        /// What the row is of.
        pub row: String,
    }
}

/// Tables made for the page, beside the joined ones.
pub(super) struct Made {
    /// What was asked of each run.
    pub(super) facts: Rows,
    /// `behaviour` with both runs and the difference in one row.
    pub(super) behaviour: Option<Rows>,
    /// `components` in the same way, largest change of the total effect first.
    pub(super) changes: Option<Rows>,
    /// Prompts of both runs, largest change of the logit difference first.
    pub(super) prompts: Option<Rows>,
    /// What one run alone has.
    pub(super) unmatched: Rows,
}

/// Columns whose names no run may take.
const OWN: [&str; 13] = [
    "metric",
    "component",
    "role",
    "n",
    "example",
    "prompt",
    "answer",
    "difference",
    "fact",
    "differs",
    "part",
    "edge",
    "ablated",
];

/// A run's name as a column's.
pub(super) fn heading(name: &str) -> String {
    if OWN.contains(&name) { format!("run {name}") } else { name.to_owned() }
}

impl Made {
    pub(super) fn of(compared: &Compared) -> Result<Made> {
        let table = |name: &str| compared.tables.get(name);
        let behaviour = table("behaviour").map(|joined| {
            let columns = [("value", "", "ci_")];
            wide(&joined.sides, &compared.names, "behaviour_beside", &["metric"], &columns)
        });
        let changes = table("components").map(|joined| {
            let columns = [("total", "total", "total_ci_"), ("direct", "direct", "direct_ci_")];
            let keys = ["component", "role"];
            let rows = wide(&joined.sides, &compared.names, "components_beside", &keys, &columns)?;
            largest(&rows, "change of total")
        });
        let same = compared.same_examples;
        let prompts = table("prediction").filter(|_| same).map(|joined| prompts(joined, compared));
        let mut unmatched = Vec::new();
        // rows of single prompts are only counted
        let listed = |joined: &Joined| !joined.keys.iter().any(|key| key == "example");
        for (name, joined) in compared.tables.iter().filter(|(_, joined)| listed(joined)) {
            for (rows, run) in joined.only.iter().zip(&compared.names) {
                let row =
                    |row: &String| Unmatched { table: name.clone(), run: run.clone(), row: row.clone() };
                unmatched.extend(rows.iter().map(row));
            }
        }
        Ok(Made {
            facts: facts(compared),
            behaviour: behaviour.transpose()?,
            changes: changes.transpose()?,
            prompts: prompts.transpose()?.flatten(),
            unmatched: Rows::of("unmatched", &unmatched),
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Rows> {
        let some = [&self.behaviour, &self.changes, &self.prompts].into_iter().flatten();
        [&self.facts, &self.unmatched].into_iter().chain(some)
    }
}

/// The facts under the names of the runs.
fn facts(compared: &Compared) -> Rows {
    let facts = &compared.facts;
    let text = |of: fn(&Fact) -> String| facts.iter().map(of).collect::<Vec<String>>();
    let [a, b, _] = &compared.names;
    let cells = |of: fn(&Fact) -> Option<String>| facts.iter().map(of).collect::<Vec<Option<String>>>();
    Rows {
        name: "facts".to_owned(),
        columns: vec![
            column("fact", "What it is.", &text(|fact| fact.fact.clone())),
            column(
                "differs",
                "Whether the runs differ in it.",
                &facts.iter().map(|f| f.differs).collect::<Vec<_>>(),
            ),
            column(&heading(a), "As it is in A.", &cells(|fact| fact.a.clone())),
            column(&heading(b), "As it is in B.", &cells(|fact| fact.b.clone())),
        ],
    }
}

/// One row for each row of either run: keys, and of each number A's and B's value with their intervals, and the difference with
/// its own. `columns` are the number's column, what it is called (nothing where there is one alone), and how its interval begins.
pub(super) fn wide(
    sides: &[Rows; 3],
    names: &[String; 3],
    name: &str,
    keys: &[&str],
    columns: &[(&str, &str, &str)],
) -> Result<Rows> {
    let [a, b, difference] = sides;
    let named = |rows: &Rows| rows.texts(keys.first().copied().unwrap_or_default());
    let (of_a, of_b, of_d) = (named(a)?, named(b)?, named(difference)?);
    let more = of_b.iter().filter(|name| !of_a.contains(name));
    let all: Vec<&String> = of_a.iter().chain(more).collect();
    let place = |names: &[String]| -> Vec<Option<usize>> {
        all.iter().map(|name| names.iter().position(|known| known == *name)).collect()
    };
    let places = [place(&of_a), place(&of_b), place(&of_d)];
    let mut made = Rows { name: name.to_owned(), columns: Vec::new() };
    for key in keys {
        // A's word, else B's
        let (Ok(one), Ok(two)) = (a.texts(key), b.texts(key)) else { continue };
        let cell = |(i, j): (&Option<usize>, &Option<usize>)| {
            let found = i.and_then(|i| one.get(i)).filter(|word| !word.is_empty());
            found.or(j.and_then(|j| two.get(j))).cloned().filter(|word| !word.is_empty())
        };
        let [of_a, of_b, _] = &places;
        let cells: Vec<Option<String>> = of_a.iter().zip(of_b).map(cell).collect();
        made.columns.push(column(key, "As in both runs.", &cells));
    }
    for (value, called, interval) in columns {
        let stem = |name: &str| if called.is_empty() { name.to_owned() } else { format!("{called}, {name}") };
        let change = if called.is_empty() { "difference".to_owned() } else { format!("change of {called}") };
        let stems = [stem(&heading(&names[0])), stem(&heading(&names[1])), change];
        for ((rows, places), stem) in sides.iter().zip(&places).zip(&stems) {
            for (source, name) in [
                ((*value).to_owned(), stem.clone()),
                (format!("{interval}lo"), format!("{stem}_ci_lo")),
                (format!("{interval}hi"), format!("{stem}_ci_hi")),
            ] {
                let Ok(cells) = rows.numbers(&source) else { continue };
                let cells: Vec<Option<f64>> =
                    places.iter().map(|i| i.and_then(|i| cells.get(i).copied().flatten())).collect();
                made.columns.push(column(&name, "As in the table of the run, or the difference.", &cells));
            }
        }
    }
    Ok(made)
}

/// The rows by the size of a number, largest first; equals as they stood.
fn largest(rows: &Rows, name: &str) -> Result<Rows> {
    let values = rows.numbers(name)?;
    let size = |i: usize| values.get(i).copied().flatten().filter(|x| x.is_finite()).map_or(-1.0, f64::abs);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| size(b).total_cmp(&size(a)).then(a.cmp(&b)));
    Ok(rows.take(&order))
}

/// The prompts with what each run says first and how far it prefers the answer.
fn prompts(joined: &Joined, compared: &Compared) -> Result<Option<Rows>> {
    let [a, b, difference] = &joined.sides;
    if difference.is_empty() || !difference.numbers("logit_diff")?.iter().any(Option::is_some) {
        return Ok(None);
    }
    let mut made = Rows { name: "prompts_beside".to_owned(), columns: Vec::new() };
    let ids = difference.texts("example")?;
    for name in ["example", "prompt", "answer"] {
        if let Some(found) = difference.columns.iter().find(|(known, _, _)| known == name) {
            made.columns.push(found.clone());
        }
    }
    for (rows, name) in [a, b].into_iter().zip(&compared.names) {
        let known = rows.texts("example")?;
        let places: Vec<usize> =
            ids.iter().filter_map(|id| known.iter().position(|known| known == id)).collect();
        let own = rows.take(&places);
        for (source, what) in [("top", "says"), ("logit_diff", "logit difference"), ("prob", "probability")] {
            let Ok(cells) = own.column(source) else { continue };
            made.columns.push((
                format!("{name}: {what}"),
                "As in the table of the run.".to_owned(),
                cells.clone(),
            ));
        }
    }
    let change = Column::Num(difference.numbers("logit_diff")?);
    let about = "Logit difference of B minus that of A.".to_owned();
    made.columns.push(("change".to_owned(), about, change));
    Ok(Some(largest(&made, "change")?))
}

/// A change below this share of the largest is not named.
const LEAST: f64 = 0.05;

/// Where the largest changes are, for a picture that names them: a column of yes and no.
pub(super) fn marked(rows: &Rows, change: &str, most: usize) -> Result<Column> {
    let values = rows.numbers(change)?;
    let size = |i: usize| values.get(i).copied().flatten().map_or(0.0, f64::abs);
    let least = LEAST * (0..rows.len()).map(size).fold(0.0, f64::max);
    let mut order: Vec<usize> = (0..rows.len()).filter(|&i| size(i) > least).collect();
    order.sort_by(|&a, &b| size(b).total_cmp(&size(a)).then(a.cmp(&b)));
    order.truncate(most);
    let marks: Vec<bool> = (0..rows.len()).map(|i| order.contains(&i)).collect();
    Ok(bool::column(marks.iter()))
}
