//! Total effects by activation patching, or why there are none.

use crate::report::page::{Block, Inline, Section, Table, say};
use crate::report::story::{Story, paragraph, plain};
use crate::row::Rows;

/// The tables of patching, and what one of their cells is.
const TABLES: [(&str, &str); 6] = [
    ("patch_layer", "whole activations"),
    ("resid_by_pos", "activations at one position"),
    ("patch_head", "heads"),
    ("patch_head_pos", "heads at one position"),
    ("patch_pattern", "cells of attention"),
    ("patch_neuron", "neurons"),
];

pub(super) fn section(story: &Story) -> Option<Section> {
    let title = "What carries the difference: activation patching".to_owned();
    let id = "patching".to_owned();
    let skipped = story.run.outcomes.iter().find_map(|o| o.skipped.as_ref().filter(|_| o.name == "patch"));
    if let Some(why) = skipped {
        let blocks = vec![Block::Note(plain(&format!("This section is absent: {why}.")))];
        return Some(Section { id, title, blocks });
    }
    let tables = || TABLES.iter().filter_map(|(name, what)| Some((story.table(name)?, *what)));
    if tables().next().is_none() && story.table("patch_set").is_none() {
        return None;
    }
    let mut blocks = vec![paragraph(
        "Two prompts that differ in one word differ in their activations. Running the corrupt prompt and restoring one \
         activation from the clean run (*denoising*) asks what suffices to bring the answer back; running the clean \
         prompt and inserting one from the corrupt run (*noising*) asks what is needed. The two can differ. Everything \
         after the patch is recomputed, norms included.",
        [],
    )];
    for (figure, table) in [
        ("patch_layer", "patch_layer"),
        ("resid_by_pos", "resid_by_pos"),
        ("resid_by_pos_change", "resid_by_pos"),
        ("patch_head", "patch_head"),
        ("patch_head_change", "patch_head"),
        ("patch_pattern", "patch_pattern"),
    ] {
        blocks.extend(story.figure(figure, table));
    }
    blocks.extend(tables().filter_map(|(rows, what)| counted(rows, what)));
    if let Some(rows) = story.table("patch_neuron") {
        let columns =
            ["site", "direction", "layer", "neuron", "estimate", "effect", "ci_lo", "ci_hi", "q", "n"];
        blocks.push(table(rows, &columns, "Neurons patched one by one, at all positions."));
    }
    if let Some(rows) = story.table("patch_set") {
        blocks.push(paragraph(
            "Sets are patched as wholes. Parts that stand in for each other do little alone and much together; parts in a \
             chain do the same alone as together. The interaction is the whole minus the sum of the parts.",
            [],
        ));
        let columns = [
            "set",
            "direction",
            "effect",
            "ci_lo",
            "ci_hi",
            "sum_of_parts",
            "interaction",
            "interaction_ci_lo",
            "interaction_ci_hi",
            "n",
        ];
        blocks.push(table(rows, &columns, "Sets patched as wholes, beside the sums of their parts."));
    }
    blocks.extend(story.notes("patch"));
    Some(Section { id, title, blocks })
}

/// How many cells of a table are worth a remark, and how many are no accident.
fn counted(rows: &Rows, what: &str) -> Option<Block> {
    rows.numbers("ci_lo").ok()?.iter().flatten().next()?; // of one prompt nothing is known to be no accident
    let notable = rows.numbers("notable").ok()?.iter().flatten().filter(|x| **x > 0.0).count();
    let q: Vec<f64> = rows.numbers("q").ok()?.into_iter().flatten().collect();
    let number = |n: usize| Inline::Text(n.to_string());
    let mut words = say(
        "Of {} patches of {} {} are notable: large enough, with an interval that excludes 0",
        [number(rows.len()), Inline::Text(what.to_owned()), number(notable)],
    );
    if q.is_empty() {
        words.extend(plain("."));
    } else {
        let found = q.iter().filter(|q| **q <= 0.05).count();
        let sentence = "; of {} that were tested {} differ from 0 at a false-discovery rate of 5 %.";
        words.extend(say(sentence, [number(q.len()), number(found)]));
    }
    Some(Block::Paragraph(words))
}

fn table(rows: &Rows, columns: &[&str], caption: &str) -> Block {
    Block::Table(Table {
        rows: rows.clone(),
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
        max_rows: Some(16),
        bars: Vec::new(),
        caption: say(caption, []),
    })
}
