//! Tables that a report makes from others: attention of the heads that matter, and long forms for small multiples.

mod ablation;
mod circuit;
mod direct;
mod lesions;
mod patch;
mod path;
mod probe;
mod scores;
mod series;
mod stages;
mod steer;
mod training;
mod weights;

use std::collections::BTreeMap;

use super::explore::attention_rows;
use super::story::{Run, Story, column};
use crate::error::Result;
use crate::patterns::patterns;
use crate::row::Rows;
use crate::task::{Example, Task};

pub(super) use circuit::{chosen, scored};
pub(super) use probe::probed;
pub(super) use scores::sequences;
pub(super) use steer::against;

/// Heads whose attention is shown.
const SHOWN: usize = 6;
/// The same on a page that is about more than the finished model.
const SHOWN_BESIDE: usize = 2;

/// The tables, each with whether it is a result (written to the folder) or only the form a picture needs.
pub(super) fn tables(run: &Run, found: &BTreeMap<String, Rows>) -> Result<Vec<(Rows, bool)>> {
    let story = Story { run: *run, tables: found.clone(), pictures: BTreeMap::new() };
    let mut made = Vec::new();
    let heads = story.heads();
    let most = if run.study.is_series() { SHOWN_BESIDE } else { SHOWN };
    let floor = 0.02 * heads.first().map_or(0.0, |c| c.total.abs());
    let matter = heads.iter().filter(|c| c.total.abs() >= floor);
    let top: Vec<(usize, usize)> = matter.filter_map(|c| c.head()).take(most).collect();
    let attention = match (found.get("attention"), top.as_slice()) {
        (Some(chosen), _) => Some((chosen.clone(), false)),
        (None, []) => None,
        (None, top) => Some((patterns(run.lab, run.task, top, 0)?, true)),
    };
    let mut found = found.clone();
    if let Some((rows, is_new)) = attention {
        if is_new {
            made.push((rows.clone(), true));
        }
        found.insert(rows.name.clone(), rows);
    }
    if !found.contains_key("examples_attention")
        && let Some(rows) = attention_rows(run, &story)?
    {
        made.push((rows, true));
    }
    if let Some(rows) = found.get("lens")
        && let Some(rows) = lens_end(rows, run.task)?
    {
        made.push((rows, false));
    }
    let mut forms = forms(&found, Some(run.task))?;
    // along training, habits are shown by step; the finished model's own need no second picture
    forms.retain(|rows| !(run.study.is_series() && rows.name == "head_scores_each"));
    made.extend(forms.into_iter().map(|rows| (rows, false)));
    Ok(made)
}

/// The forms that pictures need and that follow from the tables; without the prompts, no position is known to be a subject's.
pub(super) fn forms(found: &BTreeMap<String, Rows>, task: Option<&Task>) -> Result<Vec<Rows>> {
    let mut made = Vec::new();
    if let Some(rows) = found.get("attention") {
        let mut view = Rows { name: "attention_view".to_owned(), ..rows.clone() };
        let (layers, heads) = (view.texts("layer")?, view.texts("head")?);
        let names: Vec<String> = layers.iter().zip(&heads).map(|(l, h)| format!("L{l}H{h}")).collect();
        view.columns.push(column("name", "The head.", &names));
        made.push(view);
    }
    if let Some(rows) = found.get("attribution_source") {
        made.push(labelled(sources(rows, found)?, "attribution_source_top")?);
    }
    if let (Some(parts), Some(accumulated)) = (found.get("attribution"), found.get("accumulated")) {
        made.extend(direct::sum(parts, accumulated)?);
    }
    if let Some(rows) = found.get("resid_by_pos") {
        made.push(labelled(rows.clone(), "resid_by_pos_view")?);
    }
    if let Some(rows) = found.get("edges")
        && let Some(method) = rows.texts("method")?.first()
    {
        made.push(Rows { name: "edges_first".to_owned(), ..rows.only("method", method)? });
    }
    if let Some(rows) = found.get("patch_pattern") {
        made.push(patch::patterns(rows)?);
    }
    if let (Some(rows), None) = (found.get("lens"), found.get("lens_first")) {
        made.push(Rows { name: "lens_first".to_owned(), ..rows.clone() });
    }
    if let Some(rows) = found.get("head_scores") {
        made.extend(scores::tables(rows)?);
    }
    if let (Some(effects), Some(summary)) = (found.get("ablate_effect"), found.get("ablate")) {
        made.extend(ablation::tables(effects, summary)?);
    }
    if let Some(rows) = found.get("path") {
        made.push(path::table(rows)?);
    }
    made.extend(circuit::tables(found)?);
    made.extend(training::tables(found)?);
    made.extend(probe::tables(found)?);
    made.extend(steer::tables(found)?);
    made.extend(lesions::tables(task, found)?);
    made.extend(weights::tables(found)?);
    Ok(made)
}

/// Curves and small multiples over training, from the tables of all stages.
pub(super) fn training(joined: &[Rows]) -> Result<Vec<Rows>> {
    let mut made = series::tables(joined)?;
    made.extend(stages::tables(joined)?);
    Ok(made)
}

/// A copy with a column `at`: how a position is written under a picture. Its name where prompts of several templates
/// were averaged by named positions, else the token that stands there.
fn labelled(mut rows: Rows, name: &str) -> Result<Rows> {
    let (places, tokens) = (rows.texts("pos")?, rows.texts("token")?);
    let at: Vec<String> = places
        .into_iter()
        .zip(tokens)
        .map(|(place, token)| match place.parse::<usize>() {
            // where prompts differ there is no token, and a bare number could be one
            Ok(_) if place == token => format!("pos {place}"),
            Ok(_) => token,
            Err(_) => place,
        })
        .collect();
    rows.columns.push(column("at", "How the position is written.", &at));
    rows.name = name.to_owned();
    Ok(rows)
}

/// The rows of the heads with the largest direct effect, each head named in one column.
fn sources(rows: &Rows, found: &BTreeMap<String, Rows>) -> Result<Rows> {
    let (layers, heads) = (rows.texts("layer")?, rows.texts("head")?);
    let names: Vec<String> = layers.iter().zip(&heads).map(|(l, h)| format!("L{l}H{h}")).collect();
    let mut strongest: Vec<(f64, String)> = Vec::new();
    if let Some(by_head) = found.get("attribution_head") {
        let (layers, heads, direct) =
            (by_head.texts("layer")?, by_head.texts("head")?, by_head.numbers("direct")?);
        for i in 0..by_head.len() {
            strongest.push((direct[i].unwrap_or(0.0).abs(), format!("L{}H{}", layers[i], heads[i])));
        }
    }
    strongest.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    strongest.truncate(SHOWN);
    let keep: Vec<usize> =
        (0..rows.len()).filter(|&i| strongest.iter().any(|(_, name)| *name == names[i])).collect();
    let mut kept = rows.take(&keep);
    let names: Vec<String> = keep.iter().map(|&i| names[i].clone()).collect();
    kept.columns.push(column("component", "The head.", &names));
    kept.name = "attribution_source_top".to_owned();
    Ok(kept)
}

/// The lens where the answer is due, in order of the stream: `0_pre`, `0_mid`, `0_post`, `1_mid`, ….
fn lens_end(rows: &Rows, task: &Task) -> Result<Option<Rows>> {
    let (sites, layers, places) = (rows.texts("site")?, rows.numbers("layer")?, rows.texts("pos")?);
    let ends: Vec<usize> = task.examples.iter().map(Example::end).collect();
    // prompts of one template may end at different places: then no column is the end of all
    let Some(end) = task.places().into_iter().find(|place| place.positions == ends) else { return Ok(None) };
    let half = |site: &str| ["resid_pre", "resid_mid", "resid_post"].iter().position(|s| *s == site);
    // a block's resid_pre is the block before's resid_post
    let mut keep: Vec<usize> = (0..rows.len())
        .filter(|&i| places[i] == end.label && (sites[i] != "resid_pre" || layers[i] == Some(0.0)))
        .collect();
    keep.sort_by(|&a, &b| {
        let key = |i: usize| 3.0 * layers[i].unwrap_or(0.0) + half(&sites[i]).unwrap_or(0) as f64;
        key(a).total_cmp(&key(b))
    });
    let at: Vec<String> = keep
        .iter()
        .map(|&i| format!("{}_{}", layers[i].unwrap_or(0.0), sites[i].trim_start_matches("resid_")))
        .collect();
    let mut end = rows.take(&keep);
    end.columns.push(column("at", "Where the stream is read.", &at));
    end.name = "lens_end".to_owned();
    Ok(Some(end))
}
