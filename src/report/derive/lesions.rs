//! The forms that pictures of attention knockout, causal tracing and self-repair need: few enough lines and columns to read.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::report::story::column;
use crate::row::Rows;
use crate::task::{Example, Place, Task};

/// Lines of a curve that can be told apart.
const LINES: usize = 8;
/// Columns of a heat map of components.
const COLUMNS: usize = 16;

/// The tables that can be made from those there are.
pub(super) fn tables(task: Option<&Task>, found: &BTreeMap<String, Rows>) -> Result<Vec<Rows>> {
    let mut made = Vec::new();
    if let Some(rows) = found.get("knockout") {
        made.extend(knockout(rows)?);
    }
    if let Some(rows) = found.get("trace") {
        let metrics = rows.texts("metric")?;
        for (view, is_prob) in [("trace_view", true), ("trace_metric_view", false)] {
            let kept = rows.filter(|i| (metrics[i] == "prob") == is_prob);
            if !kept.is_empty() {
                made.push(traced(super::labelled(kept, view)?, task)?);
            }
        }
    }
    if let (Some(rows), Some(later)) = (found.get("repair"), found.get("repair_later")) {
        let kind = rows.texts("kind")?.into_iter().next().unwrap_or_default();
        made.push(Rows { name: "repair_view".to_owned(), ..rows.only("kind", &kind)? });
        let later = strongest(&later.only("kind", &kind)?, "component", "change", COLUMNS)?;
        if !later.is_empty() {
            made.push(Rows { name: "repair_later_view".to_owned(), ..later });
        }
    }
    Ok(made)
}

/// With the states' names short enough to stand over a panel, and which positions are the subject's.
fn traced(mut rows: Rows, task: Option<&Task>) -> Result<Rows> {
    let short = |state: String| {
        let state = state.replace("resid_post, ", "post, ").replace("resid_pre, ", "pre, ");
        state.replace("mlp severed", "mlp cut").replace("attention severed", "attn cut")
    };
    let panels: Vec<String> = rows.texts("state")?.into_iter().map(short).collect();
    let subjects = task.map(subjects).unwrap_or_default();
    let subject: Vec<bool> = rows.texts("pos")?.iter().map(|place| subjects.contains(place)).collect();
    rows.columns.push(column("panel", "The state, short; `cut` is severed.", &panels));
    rows.columns.push(column("subject", "Whether the position belongs to the subject.", &subject));
    Ok(rows)
}

/// The places of the subject: those so named or, where none is, those in which clean and corrupt prompts differ.
fn subjects(task: &Task) -> Vec<String> {
    let named = |example: &Example, position: usize| {
        example.pos.iter().any(|(name, at)| name.starts_with("subject") && *at == position)
    };
    let differs = |example: &Example, position: usize| {
        example.corrupt.as_ref().is_some_and(|corrupt| corrupt.get(position) != example.clean.get(position))
    };
    let any_named = task.examples.iter().any(|e| e.pos.keys().any(|name| name.starts_with("subject")));
    let subject = |place: &Place| {
        let mut at = task.examples.iter().zip(&place.positions);
        if any_named { at.all(|(e, at)| named(e, *at)) } else { at.any(|(e, at)| differs(e, *at)) }
    };
    task.places().into_iter().filter(subject).map(|place| place.label).collect()
}

/// The sources whose loss matters most, named by the token where they are mere numbers.
fn knockout(rows: &Rows) -> Result<Option<Rows>> {
    let relative = rows.numbers("relative")?;
    let rows = strongest(&rows.filter(|i| relative[i].is_some()), "source", "relative", LINES)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let (sources, tokens) = (rows.texts("source")?, rows.texts("token")?);
    let named = |(source, token): (String, String)| match source.parse::<usize>() {
        Ok(_) if token != source => format!("{source}: {token}"),
        _ => source,
    };
    let at: Vec<String> = sources.into_iter().zip(tokens).map(named).collect();
    let mut view = Rows { name: "knockout_view".to_owned(), ..rows };
    view.columns.push(column("at", "How the source is written.", &at));
    Ok(Some(view))
}

/// The rows of the groups with the largest values, at most so many groups.
fn strongest(rows: &Rows, group: &str, value: &str, most: usize) -> Result<Rows> {
    let (groups, values) = (rows.texts(group)?, rows.numbers(value)?);
    let mut largest: BTreeMap<&str, f64> = BTreeMap::new();
    for (group, value) in groups.iter().zip(&values) {
        let size = largest.entry(group).or_insert(0.0);
        *size = size.max(value.unwrap_or(0.0).abs());
    }
    let mut order: Vec<(&str, f64)> = largest.into_iter().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    order.truncate(most);
    Ok(rows.filter(|i| order.iter().any(|(name, _)| *name == groups[i])))
}
