//! What the page's script shows: tables, prompts, attention and commands, as one JSON value.
//!
//! The script draws from this and nothing else; it computes no effect. Tables behind the page's figures go in whole, with
//! every digit, so that a figure's CSV can be saved from a page that has left its folder; what grows with the number of
//! prompts goes in packed, with every digit as well, and in part where a page would grow too large. Each text is made visible here
//! ([`show::visible`]), so that no token can act on the screen, whatever the script does with it.

mod attention;
mod packed;
mod prompts;
mod tables;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::command;
use super::page::{Block, Page};
use super::story::Story;
use crate::error::Result;
use crate::show;

pub(super) use attention::rows as attention_rows;

/// Tables with a row for each head: any of them makes heads worth opening.
const OF_HEADS: [&str; 8] = [
    "components",
    "patch_head",
    "ablate_head",
    "ablate_effect",
    "attribution_head",
    "atp_head",
    "head_scores",
    "weights",
];

/// Tables that the script's panels read.
const READ: [&str; 10] = [
    "components",
    "patch_head",
    "ablate_head",
    "attribution_head",
    "atp_head",
    "head_scores",
    "weights",
    "resid_by_pos",
    "lens",
    "lens_first",
];

/// Rows of a table that a page carries at most; of a larger one it carries none, and names the file instead.
const MOST_ROWS: usize = 2500;

/// The value; none if there is nothing that a script could add to the page.
pub(super) fn data(story: &Story, page: &Page) -> Result<Option<Value>> {
    let blocks = page.sections.iter().flat_map(|section| &section.blocks);
    let figures = blocks.filter_map(|block| match block {
        Block::Figure(figure) => figure.data.as_ref(),
        _ => None,
    });
    let behind = figures.map(|table| table.rows.name.as_str());
    let names: BTreeSet<&str> = READ.into_iter().chain(behind).collect();
    let mut carried = Map::new();
    for rows in names.into_iter().filter_map(|name| story.table(name)).filter(|t| t.len() <= MOST_ROWS) {
        carried.insert(rows.name.clone(), tables::exact(rows));
    }
    if carried.is_empty() {
        return Ok(None);
    }
    let (run, about) = (&story.run, &story.run.lab.about);
    let prompts = prompts::Shown::of(run.task);
    let mut commands = Map::new();
    let by_prompt =
        ["examples_attention", "examples_lens"].into_iter().filter(|name| story.table(name).is_some());
    for table in carried.keys().map(String::as_str).chain(by_prompt) {
        commands.insert(table.to_owned(), command::of(story, table).into());
    }
    commands.insert("study".to_owned(), command::ALL.into());
    let config = &run.lab.model.config;
    let mut value = json!({
        "model": { "name": show::visible(&about.name), "layers": config.n_layers, "heads": config.n_heads },
        "task": {
            "name": show::visible(&run.task.name),
            "n": run.task.examples.len(),
            "metric": run.study.metric.name(),
            "paired": run.task.is_paired(),
        },
        "prompts": prompts.value(run),
        "tables": carried,
        "each": tables::each(story, &prompts)?,
        "commands": commands,
    });
    if let Some(readings) = tables::readings(story, &prompts)? {
        value["readings"] = readings;
    }
    if let Some(rows) = story.table("examples_attention") {
        value["attention"] = attention::value(rows, story, &prompts)?;
    }
    Ok(Some(value))
}
