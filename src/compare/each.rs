//! The values of every example behind a table's means.

use std::borrow::Cow;
use std::collections::HashMap;

use super::columns::Spec;
use super::draws::Interval;
use super::side::Side;
use crate::error::Result;
use crate::row::{Cell, Column, Rows};

/// The table of examples behind a table where its name is not `examples_<table>`.
const BEHIND: [(&str, &str); 9] = [
    ("accumulated", ""),
    ("attribution_head", "examples_attribution"),
    ("attribution_neuron", ""),
    ("attribution_source", ""),
    ("attribution_swap", ""),
    ("circuit", ""),
    ("circuit_summary", ""),
    ("lens_first", ""),
    ("path_set", "examples_path"),
];

/// Tables, a column of their examples, and the key of the table that it stands for: a lens names a position that lies elsewhere in
/// each prompt, and sets send as single parts do.
const STANDS_FOR: [(&str, &str, &str); 2] = [("lens", "place", "pos"), ("path_set", "sender", "set")];

/// The metrics of `behaviour` and what each is of a row of `prediction`.
const BEHAVIOUR: [(&str, &str); 8] = [
    ("accuracy", "logit_diff"),
    ("top-1 accuracy", "correct"),
    ("prob", "prob"),
    ("rank", "rank"),
    ("logit-diff", "logit_diff"),
    ("logit-diff corrupt", "logit_diff_corrupt"),
    ("expected-gain", "expected_gain"),
    ("entropy", "entropy"),
];

/// The numbers of `examples_ablate`, each of which is a row of its own in `ablate_effect`.
const ABLATE: [&str; 9] = [
    "logit_diff",
    "log_prob",
    "prob",
    "prob_diff",
    "rank",
    "kl",
    "expected_gain",
    "accuracy",
    "top_accuracy",
];

/// Every example of one run, as one table has them.
pub(super) struct Sample<'a> {
    /// The examples, in the order in which they are resampled.
    pub(super) ids: Vec<String>,
    /// For each the first that has the same prompt.
    pub(super) units: Vec<usize>,
    /// For each its gap divided by the mean gap, if effects are shares of one and it is known.
    pub(super) gaps: Option<Vec<f64>>,
    /// Whether examples are prompts of the task rather than sequences that the method drew.
    pub(super) is_prompts: bool,
    rows: Cow<'a, Rows>,
    /// Rows by what they are of, in the order of the examples.
    places: HashMap<String, Vec<usize>>,
    /// The columns that say what a row is of.
    keys: Vec<String>,
}

impl<'a> Sample<'a> {
    /// What there is behind this table; the reason where nothing can be resampled.
    pub(super) fn of(
        side: &'a Side,
        table: &Rows,
        spec: &Spec,
    ) -> Result<std::result::Result<Sample<'a>, &'static str>> {
        let Some(rows) = behind(side, &table.name)? else { return Ok(Err(Interval::NO_EXAMPLES)) };
        let column = ["example", "sequence"].into_iter().find(|name| rows.column(name).is_ok());
        let Some(column) = column else { return Ok(Err(Interval::NO_EXAMPLES)) };
        let keys: Vec<String> = spec.keys.iter().filter(|key| rows.column(key).is_ok()).cloned().collect();
        let all = rows.texts(column)?;
        let mut ids: Vec<String> = Vec::new();
        let mut index: HashMap<&str, usize> = HashMap::new();
        for id in &all {
            index.entry(id).or_insert_with(|| {
                ids.push(id.clone());
                ids.len() - 1
            });
        }
        let mut places: HashMap<String, Vec<Option<usize>>> = HashMap::new();
        let mut twice: Vec<String> = Vec::new();
        for (i, (key, id)) in named(&rows, &keys)?.into_iter().zip(&all).enumerate() {
            let Some(&at) = index.get(id.as_str()) else { continue };
            let own = places.entry(key.clone()).or_insert_with(|| vec![None; ids.len()]);
            match own.get_mut(at) {
                Some(place @ None) => *place = Some(i),
                _ => twice.push(key),
            }
        }
        twice.iter().for_each(|key| _ = places.remove(key));
        // what some examples lack is a mean over others
        let whole =
            places.into_iter().filter_map(|(key, own)| Some((key, own.into_iter().collect::<Option<_>>()?)));
        let places: HashMap<String, Vec<usize>> = whole.collect();
        if !named(table, &keys)?.iter().any(|name| places.contains_key(name)) {
            return Ok(Err("a run does not keep values of every example by the names of its rows"));
        }
        let is_prompts = column == "example";
        // sequences that a method drew are all different
        let units = if is_prompts { units(side, &ids)? } else { Some((0..ids.len()).collect()) };
        let Some(units) = units else {
            return Ok(Err("a run does not keep which of its examples have the same prompt"));
        };
        let gaps = spec.share_of.map(|analysis| gaps(side, analysis, &ids)).transpose()?.flatten();
        let of_gap = |unit: &String| unit == "gap";
        let has_shares = || table.texts("unit").map_or(true, |units| units.iter().any(of_gap));
        if spec.share_of.is_some() && gaps.is_none() && has_shares() {
            return Ok(Err("a run does not keep the gap of each prompt, of which its effects are shares"));
        }
        Ok(Ok(Sample { ids, units, gaps, is_prompts, rows, places, keys }))
    }

    /// Puts the examples into another order; false where they are not the same.
    pub(super) fn reorder(&mut self, ids: &[String]) -> bool {
        let index: HashMap<&str, usize> =
            self.ids.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
        let order: Option<Vec<usize>> = ids.iter().map(|id| index.get(id.as_str()).copied()).collect();
        let Some(order) = order.filter(|order| order.len() == self.ids.len()) else { return false };
        let pick =
            |list: &[usize]| -> Vec<usize> { order.iter().filter_map(|&i| list.get(i).copied()).collect() };
        self.places.values_mut().for_each(|places| *places = pick(places));
        if let Some(gaps) = &mut self.gaps {
            *gaps = order.iter().filter_map(|&i| gaps.get(i).copied()).collect();
        }
        self.ids = ids.to_vec();
        // groups are told by prompts, which are the same
        true
    }

    /// What rows of the table are called here.
    pub(super) fn names(&self, table: &Rows) -> Result<Vec<String>> {
        named(table, &self.keys)
    }

    /// Whether there are numbers of this name.
    pub(super) fn has(&self, column: &str) -> bool {
        self.rows.column(column).is_ok()
    }

    /// The column's numbers.
    pub(super) fn column(&self, column: &str) -> Result<Vec<Option<f64>>> {
        self.rows.numbers(column)
    }

    /// The numbers of one cell in every example; nothing where one is missing.
    pub(super) fn values(&self, cells: &[Option<f64>], name: &str) -> Option<Vec<f64>> {
        let places = self.places.get(name)?;
        places.iter().map(|&i| cells.get(i).copied().flatten().filter(|x| x.is_finite())).collect()
    }
}

/// The cells of these columns of each row, as one text.
pub(super) fn named(rows: &Rows, keys: &[String]) -> Result<Vec<String>> {
    let columns = keys.iter().map(|key| rows.texts(key)).collect::<Result<Vec<_>>>()?;
    let cell = |i: usize| -> Vec<&str> {
        columns.iter().map(|column| column.get(i).map_or("", String::as_str)).collect()
    };
    Ok((0..rows.len()).map(|i| cell(i).join("\u{1f}")).collect())
}

/// The table of examples behind a table, made from another one where it is not written as such.
fn behind<'a>(side: &'a Side, table: &str) -> Result<Option<Cow<'a, Rows>>> {
    match table {
        "behaviour" => side.tables.get("prediction").map(|rows| Ok(Cow::Owned(behaviour(rows)?))).transpose(),
        "ablate_effect" => {
            side.tables.get("examples_ablate").map(|rows| Ok(Cow::Owned(melted(rows)?))).transpose()
        }
        _ => {
            let known = BEHIND.iter().find(|(name, _)| *name == table);
            let name = known.map_or_else(|| format!("examples_{table}"), |(_, name)| (*name).to_owned());
            let Some(rows) = side.tables.get(&name) else { return Ok(None) };
            let stands = STANDS_FOR.iter().find(|(name, ..)| *name == table);
            let stands = stands.filter(|(_, there, _)| rows.column(there).is_ok());
            Ok(Some(
                stands.map_or(Cow::Borrowed(rows), |(_, there, key)| Cow::Owned(renamed(rows, there, key))),
            ))
        }
    }
}

/// `example`, `metric`, `value` from the columns of `prediction`; a metric that some prompts lack is left out.
fn behaviour(rows: &Rows) -> Result<Rows> {
    let ids = rows.texts("example")?;
    let (mut examples, mut metrics, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (metric, column) in BEHAVIOUR {
        let Ok(cells) = rows.numbers(column) else { continue };
        for (id, cell) in ids.iter().zip(cells) {
            examples.push(id.clone());
            metrics.push(metric.to_owned());
            values.push(cell.map(|x| if metric == "accuracy" { f64::from(u8::from(x > 0.0)) } else { x }));
        }
    }
    let columns = vec![
        text("example", &examples),
        text("metric", &metrics),
        ("value".into(), String::new(), Column::Num(values)),
    ];
    Ok(Rows { name: "examples_behaviour".into(), columns })
}

/// `examples_ablate` with a row for each metric and a column `change`.
fn melted(rows: &Rows) -> Result<Rows> {
    let all: Vec<usize> = (0..rows.len()).collect();
    let mut whole: Option<Rows> = None;
    for name in ABLATE {
        let Ok(changes) = rows.numbers(name) else { continue };
        let mut part = Rows { name: "examples_ablate_effect".into(), ..rows.take(&all) };
        part.columns.retain(|(name, _, _)| !ABLATE.contains(&name.as_str()));
        part.columns.push(text("metric", &vec![name.replace('_', "-"); rows.len()]));
        part.columns.push(("change".into(), String::new(), Column::Num(changes)));
        match &mut whole {
            Some(whole) => whole.append(part)?,
            None => whole = Some(part),
        }
    }
    Ok(whole.unwrap_or_default())
}

fn text(name: &str, cells: &[String]) -> (String, String, Column) {
    (name.to_owned(), String::new(), String::column(cells.iter()))
}

/// With the column `there` in the place of `key`.
fn renamed(rows: &Rows, there: &str, key: &str) -> Rows {
    let mut rows = rows.clone();
    rows.columns.retain(|(name, _, _)| name != key);
    rows.columns
        .iter_mut()
        .filter(|(name, _, _)| name == there)
        .for_each(|(name, _, _)| *name = key.to_owned());
    rows
}

/// For each example the first with the same prompt; nothing where that is not known.
fn units(side: &Side, ids: &[String]) -> Result<Option<Vec<usize>>> {
    let kept = |table: &str, column: &str| -> Result<Option<HashMap<String, String>>> {
        let Some(rows) = side.tables.get(table) else { return Ok(None) };
        Ok(Some(rows.texts("example")?.into_iter().zip(rows.texts(column)?).collect()))
    };
    let known = match kept("examples_units", "unit")? {
        Some(known) => Some(known),
        None => kept("prediction", "prompt")?,
    };
    let Some(known) = known else { return Ok(None) };
    let mut first: HashMap<&str, usize> = HashMap::new();
    let unit = |(i, id): (usize, &String)| Some(*first.entry(known.get(id)?).or_insert(i));
    Ok(ids.iter().enumerate().map(unit).collect())
}

/// For each example its gap by the mean gap, as the analysis measured it; nothing where that is not known.
fn gaps(side: &Side, analysis: &str, ids: &[String]) -> Result<Option<Vec<f64>>> {
    let Some(rows) = side.tables.get(&format!("examples_gap_{analysis}")) else { return Ok(None) };
    let known: HashMap<String, Option<f64>> =
        rows.texts("example")?.into_iter().zip(rows.numbers("gap")?).collect();
    let gaps: Option<Vec<f64>> = ids.iter().map(|id| *known.get(id)?).collect();
    Ok(gaps.and_then(|gaps| {
        let mean = gaps.iter().sum::<f64>() / gaps.len().max(1) as f64;
        (mean != 0.0 && mean.is_finite()).then(|| gaps.iter().map(|gap| gap / mean).collect())
    }))
}
