//! Where the answer can be brought back into a corrupted run.

use crate::report::page::{Block, Inline, Section, Table, Words, say};
use crate::report::story::{Story, listed, number, paragraph};
use crate::row::Rows;
use crate::task::Example;

pub(super) fn section(story: &Story) -> Option<Section> {
    let rows = story.table("trace")?;
    let mut blocks = vec![paragraph(
        "The subject of the prompt is corrupted, so that the answer is lost; then one state at a time is restored from the clean \
         run (*causal tracing*, Meng et al. 2022). What brings the answer back carries what the model had made of the subject by \
         then. A high effect says that the state is *enough* at its place, not that the fact is kept there: where editing a \
         fact works does not follow from it (Hase et al. 2023), and noise takes the model where it has never been.",
        [],
    )];
    blocks.extend(strongest(story, rows).map(Block::Paragraph));
    blocks.extend(story.figure("trace", "trace_view"));
    blocks.extend(story.figure("trace_metric", "trace_metric_view"));
    if let Some(totals) = story.table("trace_total") {
        blocks.push(Block::Table(Table {
            rows: totals.clone(),
            max_rows: Some(4),
            caption: say("What the corruption takes away in all.", []),
            ..Table::default()
        }));
    }
    blocks.extend(story.notes("trace"));
    let title = "Where the answer comes back: causal tracing".to_owned();
    Some(Section { id: "tracing".to_owned(), title, blocks })
}

/// Of each kind of state the place that brings back most of the answer's probability. The stream where the answer is due holds
/// all of it in the end, which says nothing.
fn strongest(story: &Story, rows: &Rows) -> Option<Words> {
    let rows = rows.only("metric", "prob").ok()?;
    let ends: Vec<usize> = story.run.task.examples.iter().map(Example::end).collect();
    let end = story.run.task.places().into_iter().find(|place| place.positions == ends);
    let (states, places) = (rows.texts("state").ok()?, rows.texts("pos").ok()?);
    let said = |i: usize| {
        let stream = states[i].starts_with("resid");
        let at_end = end.as_ref().is_some_and(|end| end.label == places[i]);
        !(states[i].contains("severed") || stream && at_end)
    };
    let rows = rows.filter(said);
    let (states, effects) = (rows.texts("state").ok()?, rows.numbers("effect").ok()?);
    let (layers, places, shares) =
        (rows.texts("layer").ok()?, rows.texts("pos").ok()?, rows.numbers("share").ok()?);
    let tokens = rows.texts("token").ok()?;
    let mut best: Vec<usize> = Vec::new();
    for i in 0..rows.len() {
        match best.iter_mut().find(|known| states[**known] == states[i]) {
            None => best.push(i),
            Some(known) if effects[i] > effects[*known] => *known = i,
            Some(_) => {}
        }
    }
    let items = best.iter().map(|&i| {
        let place = if places[i].parse::<usize>().is_ok() { &tokens[i] } else { &places[i] };
        let mut words = say(
            "{} at layer {}, {}: {}",
            [
                Inline::Code(states[i].clone()),
                Inline::Text(layers[i].clone()),
                Inline::Token(place.clone()),
                number(effects[i].unwrap_or(f64::NAN)),
            ],
        );
        if let Some(share) = shares[i] {
            words.extend(say(" ({} of what was lost)", [crate::report::story::percent(share)]));
        }
        words
    });
    let mut words = say("Most of the answer's probability comes back with ", []);
    words.extend(listed(items.collect()));
    words.push(Inline::Text(".".to_owned()));
    (!best.is_empty()).then_some(words)
}
