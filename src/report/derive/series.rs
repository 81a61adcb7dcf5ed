//! What is followed through the tables of all stages: behaviour, the heads with the clearest habits, the heads with the
//! largest effects; along training as curves, with the stages between which each of them came.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::row;
use crate::row::Rows;

/// Heads followed for each model and score, and for each model by effect.
const FOLLOWED: usize = 3;
/// A score that counts as a habit.
pub(super) const HABIT: f64 = 0.3;

row! {
    /// One quantity of one stage.
    pub struct Point {
        /// Updates done, where steps of training were asked for.
        pub step: Option<i64>,
        /// The model, where several are compared.
        pub model: Option<String>,
        /// What is followed: `logit difference`, `induction`, `total effect`, ….
        pub quantity: String,
        /// The head, of quantities of heads.
        pub part: Option<String>,
        /// The line's name: model and part.
        pub line: String,
        /// Its value.
        pub value: Option<f64>,
        /// Lower end of its 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub ci_hi: Option<f64>,
        /// Over how many prompts or sequences.
        pub n: Option<i64>,
    }
}

row! {
    /// Between which stages a quantity passed half of its way.
    pub struct Onset {
        /// The model, where several are compared.
        pub model: Option<String>,
        /// What is followed.
        pub quantity: String,
        /// The head, of quantities of heads.
        pub part: Option<String>,
        /// Its value at the first stage.
        pub first: f64,
        /// Its value in the finished model.
        pub last: f64,
        /// The last stage before it first passed the middle between the two.
        pub after: i64,
        /// The stage at which it had.
        pub by: i64,
    }
}

/// A column of a joined table that is followed: table, the quantity's name, value, interval.
struct Followed {
    table: &'static str,
    quantity: &'static str,
    value: &'static str,
    interval: [&'static str; 2],
    /// Whether only heads that have it as a habit are followed, if there are such.
    is_score: bool,
}

/// The quantities of heads. One that comes from two tables is taken from the first that is there.
const HEADS: [Followed; 6] = [
    score("previous token", "previous", ["previous_ci_lo", "previous_ci_hi"]),
    score("duplicate token", "duplicate", ["duplicate_ci_lo", "duplicate_ci_hi"]),
    score("induction", "induction", ["induction_ci_lo", "induction_ci_hi"]),
    Followed {
        table: "components",
        quantity: "total effect",
        value: "total",
        interval: ["total_ci_lo", "total_ci_hi"],
        is_score: false,
    },
    Followed {
        table: "components",
        quantity: "direct effect",
        value: "direct",
        interval: ["direct_ci_lo", "direct_ci_hi"],
        is_score: false,
    },
    Followed {
        table: "attribution_head",
        quantity: "direct effect",
        value: "direct",
        interval: ["ci_lo", "ci_hi"],
        is_score: false,
    },
];

const fn score(quantity: &'static str, value: &'static str, interval: [&'static str; 2]) -> Followed {
    Followed { table: "head_scores", quantity, value, interval, is_score: true }
}

/// Metrics of the table `behaviour`, and what they are called.
const BEHAVIOUR: [(&str, &str); 3] =
    [("logit-diff", "logit difference"), ("accuracy", "accuracy"), ("prob", "probability")];

/// A point for each quantity and stage: `training` with `training_onset` where steps of training were asked for, `compared`
/// where only models were.
pub(super) fn tables(joined: &[Rows]) -> Result<Vec<Rows>> {
    let find = |name: &str| joined.iter().find(|rows| rows.name == name);
    let mut points = Vec::new();
    if let Some(rows) = find("behaviour") {
        points.extend(behaviour(rows)?);
    }
    for followed in &HEADS {
        let known = points.iter().any(|point: &Point| point.quantity == followed.quantity);
        if let Some(rows) = find(followed.table).filter(|_| !known) {
            points.extend(heads(rows, followed)?);
        }
    }
    if points.is_empty() {
        return Ok(Vec::new());
    }
    if points.iter().all(|point| point.step.is_none()) {
        return Ok(vec![Rows::of("compared", &points)]);
    }
    Ok(vec![Rows::of("training", &points), Rows::of("training_onset", &onsets(&points))])
}

/// The models of a joined table's rows; without a column, one without a name.
fn models(rows: &Rows) -> Result<Vec<String>> {
    if rows.column("model").is_ok() { rows.texts("model") } else { Ok(vec![String::new(); rows.len()]) }
}

/// A name that is there.
fn told(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}

/// The updates done at each row; none where steps were not asked for.
fn steps(rows: &Rows) -> Result<Vec<Option<i64>>> {
    match rows.column("step") {
        Ok(_) => Ok(rows.numbers("step")?.into_iter().map(|step| step.map(|step| step as i64)).collect()),
        Err(_) => Ok(vec![None; rows.len()]),
    }
}

fn behaviour(rows: &Rows) -> Result<Vec<Point>> {
    let (models, metrics, steps) = (models(rows)?, rows.texts("metric")?, steps(rows)?);
    let (values, n) = (rows.numbers("value")?, rows.numbers("n")?);
    let (lo, hi) = (rows.numbers("ci_lo")?, rows.numbers("ci_hi")?);
    let mut points = Vec::new();
    for (metric, quantity) in BEHAVIOUR {
        for i in (0..rows.len()).filter(|&i| metrics[i] == metric) {
            let name = if models[i].is_empty() { quantity } else { &models[i] };
            points.push(Point {
                step: steps[i],
                model: told(&models[i]),
                quantity: quantity.to_owned(),
                part: None,
                line: name.to_owned(),
                value: values[i],
                ci_lo: lo[i],
                ci_hi: hi[i],
                n: n[i].map(|n| n as i64),
            });
        }
    }
    Ok(points)
}

/// The points of the heads worth following: of each model those that stand out in the end.
fn heads(rows: &Rows, followed: &Followed) -> Result<Vec<Point>> {
    let names = match rows.texts("component") {
        Ok(names) => names,
        Err(_) => {
            let heads = rows.texts("layer")?.into_iter().zip(rows.texts("head")?);
            heads.map(|(layer, head)| format!("a{layer}.h{head}")).collect()
        }
    };
    let (models, steps) = (models(rows)?, steps(rows)?);
    let (values, n) = (rows.numbers(followed.value)?, rows.numbers("n")?);
    let [lo, hi] = followed.interval;
    let (lo, hi) = (rows.numbers(lo)?, rows.numbers(hi)?);
    let size = |i: usize| values[i].map_or(0.0, f64::abs);
    let mut order: Vec<&String> = Vec::new();
    for model in &models {
        if !order.contains(&model) {
            order.push(model);
        }
    }
    let mut points = Vec::new();
    for model in order {
        let of = |i: &usize| models[*i] == *model && names[*i].contains(".h");
        let own: Vec<usize> = (0..rows.len()).filter(of).collect();
        let last = own.iter().map(|&i| steps[i]).max().flatten();
        let mut finished: Vec<usize> = own.iter().copied().filter(|&i| steps[i] == last).collect();
        finished.sort_by(|&a, &b| size(b).total_cmp(&size(a)).then_with(|| names[a].cmp(&names[b])));
        let floor = if followed.is_score { HABIT } else { 0.1 * finished.first().map_or(0.0, |&i| size(i)) };
        // where no head has the habit, the nearest to it shows that none has
        let count = finished.iter().filter(|&&i| size(i) >= floor).count().clamp(1, FOLLOWED);
        let mut chosen: Vec<String> = finished.iter().take(count).map(|&i| names[i].clone()).collect();
        chosen.sort();
        for name in chosen {
            for &i in own.iter().filter(|&&i| names[i] == name) {
                points.push(Point {
                    step: steps[i],
                    model: told(model),
                    quantity: followed.quantity.to_owned(),
                    part: Some(name.clone()),
                    line: if model.is_empty() { name.clone() } else { format!("{model} {name}") },
                    value: values[i],
                    ci_lo: lo[i],
                    ci_hi: hi[i],
                    n: n[i].map(|n| n as i64),
                });
            }
        }
    }
    Ok(points)
}

/// When each line first passed the middle between its first and its last value.
fn onsets(points: &[Point]) -> Vec<Onset> {
    /// Model, quantity, part.
    type Key<'a> = (Option<&'a str>, &'a str, Option<&'a str>);
    let mut order: Vec<Key> = Vec::new();
    let mut lines: BTreeMap<Key, Vec<(i64, f64)>> = BTreeMap::new();
    for point in points {
        let key = (point.model.as_deref(), point.quantity.as_str(), point.part.as_deref());
        if !order.contains(&key) {
            order.push(key);
        }
        lines.entry(key).or_default().extend(point.step.zip(point.value));
    }
    let onset = |key: &Key| {
        let line = lines.get(key)?;
        let ((_, first), (_, last)) = (*line.first()?, *line.last()?);
        // a habit that no head has in the end has no beginning either
        if last.abs() < HABIT && HEADS.iter().any(|head| head.is_score && head.quantity == key.1) {
            return None;
        }
        let middle = (first + last) / 2.0;
        let passed = |value: f64| if last > first { value >= middle } else { value <= middle };
        let place = line.iter().position(|(_, value)| passed(*value)).filter(|&place| place > 0)?;
        let (model, quantity, part) = (key.0.map(str::to_owned), key.1.to_owned(), key.2.map(str::to_owned));
        Some(Onset { model, quantity, part, first, last, after: line[place - 1].0, by: line[place].0 })
    };
    order.iter().filter_map(onset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: i64, value: f64) -> Point {
        let text = |t: &str| t.to_owned();
        let (model, quantity, part, line) = (Some(text("m")), text("q"), None, text("m"));
        let (step, value) = (Some(step), Some(value));
        Point { step, model, quantity, part, line, value, ci_lo: None, ci_hi: None, n: None }
    }

    #[test]
    fn an_onset_is_where_the_middle_is_first_passed() {
        let rises =
            [(1, 0.0), (2, 0.4), (3, 0.6), (4, 0.3), (5, 1.0)].map(|(step, value)| point(step, value));
        let onset = &onsets(&rises)[0];
        assert_eq!((onset.after, onset.by, onset.first, onset.last), (2, 3, 0.0, 1.0));
        let falls = [(1, 0.0), (2, -0.2), (3, -2.0)].map(|(step, value)| point(step, value));
        assert_eq!((onsets(&falls)[0].after, onsets(&falls)[0].by), (2, 3));
        assert!(onsets(&[point(1, 0.5)]).is_empty(), "one stage has no onset");
        assert!(onsets(&[point(1, 0.5), point(2, 0.5)]).is_empty(), "what never moves has none");
    }
}
