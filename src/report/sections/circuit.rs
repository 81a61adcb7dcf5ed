//! The circuit: which edges were kept, what they do alone, and what they lack.

use crate::report::page::{Block, Inline, Section, Table, Words, say};
use crate::report::story::{Story, number, paragraph};

pub(super) fn section(story: &Story) -> Option<Section> {
    let summary = story.table("circuit_summary")?;
    let mut blocks = vec![paragraph(
        "A circuit is a claim: these edges carry the behaviour, and all others may carry anything. It is put to the test by cutting every \
         other edge at once, so that each carries what its writer wrote on the other prompt, and by letting that be felt downstream. \
         **Faithfulness** is what is left of the behaviour. A faithful circuit can still be wrong: **completeness** asks whether it breaks as \
         the whole model breaks when the same nodes are taken out of both, **minimality** whether every node in it is needed.",
        [],
    )];
    blocks.push(Block::Paragraph(sentence(story)?));
    blocks.extend(story.figure("circuit", "circuit_graph"));
    blocks.extend(story.figure("circuit_sizes", "circuit_sizes"));
    // the curves of all methods stand where edges are told of
    if story.table("edges_roc").is_none() {
        blocks.extend(story.figure("circuit_roc", "circuit_roc"));
    }
    let scored = story
        .table("circuit")
        .is_some_and(|rows| rows.numbers("effect").is_ok_and(|effects| effects.iter().any(Option::is_some)));
    let edges_are = if scored {
        "The edges of the circuit. `effect`: the score by which each was chosen, an estimate unless the method is exact. `stability`: the \
         share of resamples of the prompts whose circuit has the edge."
    } else {
        "The edges of the circuit."
    };
    let shown = |name: &str, columns: &[&str], most: usize, caption: &str| -> Option<Block> {
        let rows = story.table(name)?;
        let filled =
            |column: &&&str| rows.numbers(column).map_or(true, |numbers| numbers.iter().any(Option::is_some));
        Some(Block::Table(Table {
            rows: rows.clone(),
            columns: columns.iter().filter(filled).map(|&column| column.to_owned()).collect(),
            max_rows: Some(most),
            bars: Vec::new(),
            caption: say(caption, []),
        }))
    };
    blocks.extend(shown("circuit_nodes", &["node", "role", "edges_in", "edges_out", "adds", "ci_lo", "ci_hi", "beside"], 40, "The nodes of the circuit. `adds`: what the node adds to the circuit where it adds most, as a share of the gap."));
    blocks.extend(shown(
        "circuit",
        &["edge", "effect", "ci_lo", "ci_hi", "stability", "known"],
        60,
        edges_are,
    ));
    blocks.extend(shown(
        "circuit_completeness",
        &["without", "whole", "circuit", "incompleteness", "n"],
        12,
        "The whole model and the circuit without the same nodes.",
    ));
    blocks.push(Block::Table(Table {
        rows: summary.clone(),
        columns: ["measure", "value", "ci_lo", "ci_hi", "n", "meaning"].map(str::to_owned).to_vec(),
        max_rows: None,
        bars: Vec::new(),
        caption: say("The circuit in numbers.", []),
    }));
    blocks.extend(story.notes("circuit"));
    Some(Section { id: "circuit".to_owned(), title: "The circuit".to_owned(), blocks })
}

/// A number of the summary.
fn measure(story: &Story, name: &str) -> Option<f64> {
    let rows = story.table("circuit_summary")?.only("measure", name).ok()?;
    rows.numbers("value").ok()?.first().copied().flatten()
}

fn sentence(story: &Story) -> Option<Words> {
    let count = |name: &str| measure(story, name).map(|n| Inline::Text(format!("{n:.0}")));
    let mut words = say(
        "{} edges between {} nodes keep {} of the behaviour",
        [count("edges")?, count("nodes")?, number(measure(story, "faithfulness")?)],
    );
    if let (Some(precision), Some(recall)) = (measure(story, "edge precision"), measure(story, "edge recall"))
    {
        words.extend(say(
            "; against the edges that the model was designed to have, their precision is {} and their recall {}",
            [number(precision), number(recall)],
        ));
    }
    if let Some(stability) = measure(story, "stability") {
        words.extend(say(
            ". Other prompts of the same kind would have chosen edges that overlap with these by {} (IoU, mean over resamples)",
            [number(stability)],
        ));
    }
    words.push(Inline::Text(".".to_owned()));
    Some(words)
}
