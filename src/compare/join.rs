//! Two tables of one name, row by row.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::columns::{Part, Spec};
use super::draws::{Draws, Interval, Pair};
use super::each::named;
use super::side::Side;
use crate::error::Result;
use crate::row::{Cell, Column, Rows};
use crate::stats::false_discovery;

/// A table that both runs have.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The rows of A, of B, and of the difference, in the columns that both have.
    pub sides: [Rows; 3],
    /// The columns that name a row.
    pub keys: Vec<String>,
    /// What only A and only B has, each row by its key.
    pub only: [Vec<String>; 2],
    /// What intervals of differences stand on.
    pub interval: Interval,
    /// Whether effects are shares of a gap, which each run has its own.
    pub is_share: bool,
}

impl Joined {
    /// What each of these rows, of one of the sides, is called: its keys, joined.
    pub fn names(&self, rows: &Rows) -> Result<Vec<String>> {
        named(rows, &self.keys)
    }

    /// One long table: the column `run`, which says whose row it is, and then the table's own.
    pub fn long(&self, names: &[String; 3]) -> Result<Rows> {
        stacked(&self.sides, names)
    }
}

/// Tables of the same columns below each other, with a column `run` in front.
pub fn stacked(sides: &[Rows], names: &[String]) -> Result<Rows> {
    let mut all: Option<Rows> = None;
    for (rows, name) in sides.iter().zip(names) {
        let mut rows = rows.clone();
        let about = "Whose row it is: of a run, or of the difference.".to_owned();
        let cells = String::column(vec![name.clone(); rows.len()].iter());
        rows.columns.insert(0, ("run".to_owned(), about, cells));
        match &mut all {
            Some(all) => all.append(rows)?,
            None => all = Some(rows),
        }
    }
    Ok(all.unwrap_or_default())
}

/// Joins the two; the inner error says why that cannot be.
pub(super) fn join(
    sides: &[Side; 2],
    tables: [&Rows; 2],
    same: bool,
) -> Result<std::result::Result<Joined, String>> {
    let [a, b] = tables;
    let kind = |rows: &Rows, name: &str| rows.column(name).ok().map(std::mem::discriminant);
    let shared: Vec<String> = a
        .columns
        .iter()
        .map(|(name, _, _)| name.clone())
        .filter(|name| kind(a, name) == kind(b, name) && name != "run")
        .collect();
    let only_shared = |rows: &Rows| {
        let find = |name: &String| rows.columns.iter().find(|(known, _, _)| known == name).cloned();
        Rows { name: rows.name.clone(), columns: shared.iter().filter_map(find).collect() }
    };
    let [a, b] = [only_shared(a), only_shared(b)];
    let spec = Spec::of(&a);
    if spec.keys.is_empty() {
        return Ok(Err("no column says what a row is of".to_owned()));
    }
    let (of_a, of_b) = (named(&a, &spec.keys)?, named(&b, &spec.keys)?);
    for names in [&of_a, &of_b] {
        let mut seen = HashSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
            let row = shown(twice);
            return Ok(Err(format!("two of its rows are of the same: {row}")));
        }
    }
    let place: HashMap<&str, usize> = of_b.iter().enumerate().map(|(j, name)| (name.as_str(), j)).collect();
    let rows: Vec<[usize; 2]> =
        of_a.iter().enumerate().filter_map(|(i, name)| Some([i, *place.get(name.as_str())?])).collect();
    let known: HashSet<&str> = of_a.iter().map(String::as_str).collect();
    let only = [
        of_a.iter().filter(|name| !place.contains_key(name.as_str())).map(|name| shown(name)).collect(),
        of_b.iter().filter(|name| !known.contains(name.as_str())).map(|name| shown(name)).collect(),
    ];
    let (draws, interval) = match Draws::of(sides, [&a, &b], &spec, same)? {
        Ok(draws) => {
            let interval = draws.interval.clone();
            (Some(draws), interval)
        }
        Err(why) => (None, Interval::None(why)),
    };
    let difference = difference([&a, &b], &spec, &rows, draws.as_ref())?;
    let is_share = spec.share_of.is_some();
    Ok(Ok(Joined { sides: [a, b, difference], keys: spec.keys, only, interval, is_share }))
}

/// A key as a person reads it.
fn shown(key: &str) -> String {
    key.split('\u{1f}').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// B − A of the rows that both have.
fn difference([a, b]: [&Rows; 2], spec: &Spec, rows: &[[usize; 2]], draws: Option<&Draws>) -> Result<Rows> {
    let mut columns: Vec<(String, String, Column)> = Vec::new();
    for (name, about, own) in &a.columns {
        let other = b.column(name)?;
        let column = match spec.part(name, own) {
            Part::Value => {
                let (own, other) = (a.numbers(name)?, b.numbers(name)?);
                Column::Num(rows.iter().map(|&[i, j]| Some(at(&other, j)? - at(&own, i)?)).collect())
            }
            Part::Bound => Column::Num(vec![None; rows.len()]),
            Part::Beside if name == "n" => {
                let n = draws.and_then(|draws| match draws.interval {
                    Interval::Paired(n) => Some(n as i64),
                    _ => None,
                });
                Column::Int(vec![n; rows.len()])
            }
            Part::Beside => nothing(own, rows.len()),
            Part::Fact => same(own, other, rows),
            Part::Key | Part::Words => words(own, other, rows),
        };
        columns.push((name.clone(), about.clone(), column));
    }
    let mut difference = Rows { name: a.name.clone(), columns };
    let Some(draws) = draws else { return Ok(difference) };
    let units = a.texts("unit").ok();
    for (name, _, own) in &a.columns {
        let (Part::Value, Some([lo, hi])) = (spec.part(name, own), spec.bounds(a, name)) else { continue };
        let (own, other) = (a.numbers(name)?, b.numbers(name)?);
        let is_share = |i: usize| {
            let of_gap = units.as_ref().is_none_or(|units| units.get(i).is_some_and(|unit| unit == "gap"));
            spec.share_of.is_some() && name == "effect" && of_gap
        };
        let nan = |x: Option<f64>| x.unwrap_or(f64::NAN);
        let pair = |&[i, j]: &[usize; 2]| Pair {
            rows: [i, j],
            values: [nan(at(&own, i)), nan(at(&other, j))],
            is_share: is_share(i),
        };
        let pairs: Vec<Pair> = rows.iter().map(pair).collect();
        let sure = draws.of_column(name, [a, b], &pairs)?;
        let mut set = |wanted: &str, cells: Vec<Option<f64>>| {
            let found = difference.columns.iter_mut().find(|(known, _, _)| known == wanted);
            found.into_iter().for_each(|(_, _, column)| *column = Column::Num(cells.clone()));
        };
        for (end, bound) in [lo, hi].iter().enumerate() {
            let ends = sure.iter().map(|sure| sure.interval.and_then(|ends| ends.get(end).copied()));
            set(bound, ends.collect());
        }
        if spec.is_tested(name) {
            // what can change in neither run is not tested in either
            let tests = [a, b].map(|rows| rows.numbers("p").unwrap_or_default());
            let is_tested = |&[i, j]: &[usize; 2]| at(&tests[0], i).or(at(&tests[1], j)).is_some();
            let p = sure.iter().zip(rows).map(|(sure, pair)| sure.p.filter(|_| is_tested(pair)));
            let p: Vec<Option<f64>> = p.collect();
            // what neither run corrects, since it lists a choice of what it tested, cannot be corrected here either
            let is_corrected = |rows: &&Rows| rows.numbers("q").is_ok_and(|q| q.iter().any(Option::is_some));
            if [a, b].iter().any(is_corrected) {
                let families = named(a, &spec.family)?;
                let of_row = rows.iter().map(|[i, _]| families.get(*i).map_or("", String::as_str));
                set("q", corrected(&p, &of_row.collect::<Vec<_>>()));
            }
            set("p", p);
        }
    }
    Ok(difference)
}

/// The q-values of tests, each within its family.
fn corrected(p: &[Option<f64>], families: &[&str]) -> Vec<Option<f64>> {
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    families.iter().enumerate().for_each(|(i, family)| members.entry(family).or_default().push(i));
    let mut all = vec![None; p.len()];
    for places in members.values() {
        let own: Vec<Option<f64>> = places.iter().map(|&i| at(p, i)).collect();
        for (&i, q) in places.iter().zip(false_discovery(&own)) {
            if let Some(place) = all.get_mut(i) {
                *place = q;
            }
        }
    }
    all
}

fn at(cells: &[Option<f64>], i: usize) -> Option<f64> {
    cells.get(i).copied().flatten()
}

/// A column of the same kind with nothing in it.
fn nothing(own: &Column, n: usize) -> Column {
    match own {
        Column::Int(_) => Column::Int(vec![None; n]),
        Column::Num(_) => Column::Num(vec![None; n]),
        Column::Text(_) => Column::Text(vec![None; n]),
        Column::Bool(_) => Column::Bool(vec![None; n]),
    }
}

/// The cells of both where they are the same, else nothing.
fn same(own: &Column, other: &Column, rows: &[[usize; 2]]) -> Column {
    fn pick<T: Clone + PartialEq>(a: &[Option<T>], b: &[Option<T>], rows: &[[usize; 2]]) -> Vec<Option<T>> {
        let cell = |&[i, j]: &[usize; 2]| {
            let (a, b) = (a.get(i)?, b.get(j)?);
            if a == b { a.clone() } else { None }
        };
        rows.iter().map(cell).collect()
    }
    match (own, other) {
        (Column::Int(a), Column::Int(b)) => Column::Int(pick(a, b, rows)),
        (Column::Bool(a), Column::Bool(b)) => Column::Bool(pick(a, b, rows)),
        (own, _) => nothing(own, rows.len()),
    }
}

/// Words of both: once where they agree, else the one and the other with an arrow between. Keys agree always.
fn words(own: &Column, other: &Column, rows: &[[usize; 2]]) -> Column {
    let (Column::Text(a), Column::Text(b)) = (own, other) else {
        return own.take(&rows.iter().map(|[i, _]| *i).collect::<Vec<_>>());
    };
    let cell = |&[i, j]: &[usize; 2]| {
        let (a, b) = (a.get(i)?, b.get(j)?);
        let (Some(one), Some(two)) = (a, b) else { return a.clone().or_else(|| b.clone()) };
        Some(if one == two { one.clone() } else { format!("{one} \u{2192} {two}") })
    };
    Column::Text(rows.iter().map(cell).collect())
}
