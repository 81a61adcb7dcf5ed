//! Small multiples along training: every head at every stage, and the edges that carry the finished model, on one scale.

use std::collections::BTreeSet;

use super::series::HABIT;
use crate::error::Result;
use crate::row;
use crate::row::Rows;
use crate::stats::false_discovery;

/// Edges followed, over all models together.
const EDGES: usize = 8;

row! {
    /// One quantity of one head at one stage.
    pub struct HeadPoint {
        /// Updates done.
        pub step: Option<i64>,
        /// The model, where several are compared.
        pub model: Option<String>,
        /// The stage in words: over a panel.
        pub stage: String,
        /// What it is: `total effect`, `induction`, ….
        pub quantity: String,
        /// Layer.
        pub layer: i64,
        /// Head.
        pub head: i64,
        /// Its value.
        pub value: Option<f64>,
        /// Lower end of its 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub ci_hi: Option<f64>,
        /// The p-value of its being 0, of what its table tests.
        pub p: Option<f64>,
        /// The p-value corrected for all heads at all stages (Benjamini-Hochberg).
        pub q: Option<f64>,
    }
}

row! {
    /// What the behaviour loses at one stage when one edge is cut, or an estimate of it.
    pub struct EdgePoint {
        /// Updates done.
        pub step: Option<i64>,
        /// The model, where several are compared.
        pub model: Option<String>,
        /// How edges are scored; all but `exact` are estimates.
        pub method: String,
        /// The edge.
        pub edge: String,
        /// The line's name: model and edge.
        pub line: String,
        /// What the metric loses, in its own unit; as a share of the gap it could not be followed, for early on there is no gap.
        pub lost: Option<f64>,
    }
}

/// Quantities of heads: the table, what it is called, its column, the ends of its interval and its p-value, whether it is a habit.
const HEADS: [(&str, &str, &str, [&str; 3], bool); 5] = [
    ("components", "total effect", "total", ["total_ci_lo", "total_ci_hi", "p"], false),
    ("components", "direct effect", "direct", ["direct_ci_lo", "direct_ci_hi", ""], false),
    ("head_scores", "previous token", "previous", ["previous_ci_lo", "previous_ci_hi", ""], true),
    ("head_scores", "duplicate token", "duplicate", ["duplicate_ci_lo", "duplicate_ci_hi", ""], true),
    ("head_scores", "induction", "induction", ["induction_ci_lo", "induction_ci_hi", ""], true),
];

/// `training_heads` and `training_edges`, from the tables of all stages; nothing where steps of training were not asked for.
pub(super) fn tables(joined: &[Rows]) -> Result<Vec<Rows>> {
    let find = |name: &str| joined.iter().find(|rows| rows.name == name && rows.column("step").is_ok());
    let mut points = Vec::new();
    for (table, quantity, value, sure, is_habit) in HEADS {
        let Some(rows) = find(table) else { continue };
        let found = heads(rows, quantity, value, sure)?;
        // a habit that no head ever has is no picture
        let has = |point: &HeadPoint| point.value.is_some_and(|value| value >= HABIT);
        if !is_habit || found.iter().any(has) {
            points.extend(found);
        }
    }
    let mut made = Vec::new();
    if !points.is_empty() {
        made.push(Rows::of("training_heads", &points));
    }
    if let Some(rows) = find("edges") {
        made.push(Rows::of("training_edges", &edges(rows)?));
    }
    Ok(made)
}

/// A stage: its step, its model, and both in words.
type Stage = (Option<i64>, Option<String>, String);

/// The stage of each row.
fn stages(rows: &Rows) -> Result<Vec<Stage>> {
    let steps = rows.numbers("step")?.into_iter().map(|step| step.map(|step| step as i64));
    let models =
        if rows.column("model").is_ok() { rows.texts("model")? } else { vec![String::new(); rows.len()] };
    let stage = |(step, model): (Option<i64>, String)| {
        let number = step.map_or_else(String::new, |step| format!("step {step}"));
        let words = if model.is_empty() { number } else { format!("{model}, {number}") };
        (step, Some(model).filter(|model| !model.is_empty()), words)
    };
    Ok(steps.zip(models).map(stage).collect())
}

fn heads(rows: &Rows, quantity: &str, value: &str, sure: [&str; 3]) -> Result<Vec<HeadPoint>> {
    let places: Vec<Option<(i64, i64)>> = match rows.texts("component") {
        Ok(names) => names.iter().map(|name| head(name)).collect(),
        Err(_) => {
            let whole = |name: &str| -> Result<Vec<Option<i64>>> {
                Ok(rows.numbers(name)?.into_iter().map(|x| x.map(|x| x as i64)).collect())
            };
            whole("layer")?.into_iter().zip(whole("head")?).map(|(layer, head)| layer.zip(head)).collect()
        }
    };
    let [lo, hi, p] =
        sure.map(|name| if name.is_empty() { Ok(vec![None; rows.len()]) } else { rows.numbers(name) });
    let numbers = rows.numbers(value)?.into_iter().zip(lo?.into_iter().zip(hi?).zip(p?));
    let each = stages(rows)?.into_iter().zip(places).zip(numbers);
    let point = |(((step, model, stage), place), (value, ((ci_lo, ci_hi), p)))| {
        let (layer, head) = place?;
        let quantity = quantity.to_owned();
        Some(HeadPoint { step, model, stage, quantity, layer, head, value, ci_lo, ci_hi, p, q: None })
    };
    let mut points: Vec<HeadPoint> = each.filter_map(point).collect();
    let p: Vec<Option<f64>> = points.iter().map(|point| point.p).collect();
    points.iter_mut().zip(false_discovery(&p)).for_each(|(point, q)| point.q = q);
    Ok(points)
}

/// Layer and head of `a9.h6`.
fn head(name: &str) -> Option<(i64, i64)> {
    let (layer, head) = name.strip_prefix('a')?.split_once(".h")?;
    Some((layer.parse().ok()?, head.parse().ok()?))
}

/// The edges whose cut costs most in the end, by the first method, at every stage.
fn edges(rows: &Rows) -> Result<Vec<EdgePoint>> {
    let Some(method) = rows.texts("method")?.into_iter().next() else { return Ok(Vec::new()) };
    let rows = rows.only("method", &method)?;
    let (stages, names, lost) = (stages(&rows)?, rows.texts("edge")?, rows.numbers("lost")?);
    let models: BTreeSet<&Option<String>> = stages.iter().map(|(_, model, _)| model).collect();
    let each = (EDGES / models.len().max(1)).max(1);
    let size = |i: usize| lost.get(i).copied().flatten().map_or(0.0, f64::abs);
    let mut points = Vec::new();
    for model in models {
        let own = |i: &usize| stages.get(*i).is_some_and(|(_, known, _)| known == model);
        let own: Vec<usize> = (0..rows.len()).filter(own).collect();
        let step = |i: usize| stages.get(i).and_then(|(step, _, _)| *step);
        let last = own.iter().map(|&i| step(i)).max().flatten();
        let mut finished: Vec<usize> = own.iter().copied().filter(|&i| step(i) == last).collect();
        finished.sort_by(|&a, &b| size(b).total_cmp(&size(a)).then_with(|| names.get(a).cmp(&names.get(b))));
        for edge in finished.iter().take(each).filter_map(|&i| names.get(i)) {
            let line = model.as_ref().map_or_else(|| edge.clone(), |model| format!("{model} {edge}"));
            let at = own.iter().filter(|&&i| names.get(i) == Some(edge));
            points.extend(at.map(|&i| EdgePoint {
                step: step(i),
                model: model.clone(),
                method: method.clone(),
                edge: edge.clone(),
                line: line.clone(),
                lost: lost.get(i).copied().flatten(),
            }));
        }
    }
    Ok(points)
}
