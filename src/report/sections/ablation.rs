//! What the model still does without a part, and how much the answer depends on what takes its place.

use crate::report::page::{Block, Inline, Section, Table, say};
use crate::report::story::{Story, number, paragraph};
use crate::row::Rows;

/// A part is worth comparing from this share of the largest change on.
const NOTABLE: f64 = 0.1;

pub(super) fn section(story: &Story) -> Option<Section> {
    let summary = story.table("ablate")?;
    let metric = summary.texts("metric").ok()?.first()?.clone();
    let mut blocks = vec![paragraph(
        "Take a part out, and see what the model still does on the clean prompts. What stands in its place matters as much \
         as the part. **Zeros** are a place the model has never been: everything that leans on the part's mere presence \
         breaks too. Its **mean** keeps what it always writes, its **mean at each position** also what that position \
         always brings. **Resampling** puts another prompt's value there, which the model could have met. Where the four \
         agree, the part carries something about this very prompt. Where only zeros and the plain mean hurt, either the \
         model's ordinary running was broken, or the part carries what all the reference prompts have in common.",
        [],
    )];
    blocks.extend(story.figure("ablate_kinds", "ablate"));
    blocks.extend(contrast(summary));
    blocks.extend(story.figure("ablate_head", "ablate_head"));
    blocks.extend(story.figure("ablate_attention", "ablate_position"));
    blocks.extend(story.figure("ablate_mlp", "ablate_position"));
    blocks.extend(sets(story, &metric));
    blocks.extend(every_metric(story, &metric));
    blocks.extend(neurons(summary));
    blocks.extend(story.notes("ablate"));
    Some(Section {
        id: "ablation".to_owned(),
        title: "What it does without a part: ablation".to_owned(),
        blocks,
    })
}

/// The parts about which zeros and another prompt's value disagree most.
fn contrast(summary: &Rows) -> Option<Block> {
    let (parts, zero, resample) =
        (summary.texts("part").ok()?, summary.numbers("zero").ok()?, summary.numbers("resample").ok()?);
    let pairs: Vec<(usize, f64, f64)> = zero
        .iter()
        .zip(&resample)
        .enumerate()
        .map(|(i, (zero, resample))| Some((i, (*zero)?, (*resample)?)))
        .collect::<Option<_>>()?;
    let size = |(_, a, b): &(usize, f64, f64)| a.abs().max(b.abs());
    let largest = pairs.iter().map(size).fold(0.0, f64::max);
    let notable: Vec<_> =
        pairs.iter().filter(|pair| size(pair) >= NOTABLE * largest && largest > 0.0).collect();
    let by = |over: bool| -> Vec<&(usize, f64, f64)> {
        let mut found: Vec<_> = notable
            .iter()
            .filter(|(_, a, b)| if over { a.abs() > 2.0 * b.abs() } else { b.abs() > 2.0 * a.abs() })
            .copied()
            .collect();
        found.sort_by(|x, y| (y.1 - y.2).abs().total_cmp(&(x.1 - x.2).abs()).then(x.0.cmp(&y.0)));
        found
    };
    let (over, under) = (by(true), by(false));
    let mut words = say(
        "Of {} parts whose removal matters by either measure, zeros change more than twice as much as resampling in {}",
        [notable.len(), over.len()].map(|n| Inline::Text(n.to_string())),
    );
    let example = |&&(i, zero, resample): &&(usize, f64, f64)| {
        say(
            " (most of all `{}`: {} against {})",
            [Inline::Text(parts[i].clone()), number(zero), number(resample)],
        )
    };
    words.extend(over.first().iter().flat_map(|pair| example(pair)));
    words.extend(say(", and less than half as much in {}", [Inline::Text(under.len().to_string())]));
    words.extend(under.first().iter().flat_map(|pair| example(pair)));
    words.push(Inline::Text(".".to_owned()));
    (!notable.is_empty()).then_some(Block::Paragraph(words))
}

/// Sets as wholes beside the sums of their parts.
fn sets(story: &Story, metric: &str) -> Vec<Block> {
    let Some(rows) = story.table("ablate_set").and_then(|rows| rows.only("metric", metric).ok()) else {
        return Vec::new();
    };
    let text = paragraph(
        "Parts that stand in for each other do little harm alone and much together; parts in a chain do the same harm \
         alone as together. The interaction is the whole minus the sum of the parts.",
        [],
    );
    let columns = ["set", "parts", "kind", "change", "sum_of_parts", "interaction", "ci_lo", "ci_hi", "n"];
    vec![text, table(rows, &columns, 16, "Sets taken out as wholes.")]
}

/// The part with the largest change by the last of the kinds, in every metric.
fn every_metric(story: &Story, metric: &str) -> Option<Block> {
    let effects = story.table("ablate_effect")?;
    let kind = effects.texts("kind").ok()?.last()?.clone();
    let rows = effects.only("kind", &kind).ok()?;
    let (parts, grains) = (rows.texts("part").ok()?, rows.texts("grain").ok()?);
    let (metrics, changes) = (rows.texts("metric").ok()?, rows.numbers("change").ok()?);
    let single =
        |i: &usize| metrics[*i] == metric && matches!(grains[*i].as_str(), "layer" | "head" | "neuron");
    let size = |i: usize| changes[i].map_or(0.0, f64::abs);
    let largest =
        (0..rows.len()).filter(single).max_by(|&a, &b| size(a).total_cmp(&size(b)).then(b.cmp(&a)))?;
    let rows = rows.filter(|i| parts[i] == parts[largest] && grains[i] == grains[largest]);
    let columns = ["part", "kind", "reference", "metric", "value", "change", "ci_lo", "ci_hi", "n"];
    Some(table(
        rows,
        &columns,
        12,
        "The part with the largest change by this kind of ablation, in every metric.",
    ))
}

fn neurons(summary: &Rows) -> Option<Block> {
    let rows = summary.only("grain", "neuron").ok().filter(|rows| !rows.is_empty())?;
    let columns = ["part", "zero_estimate", "zero", "mean", "mean_by_position", "resample", "n"];
    Some(table(rows, &columns, 20, "Neurons, chosen by gradient × activation and then taken out one by one."))
}

fn table(rows: Rows, columns: &[&str], most: usize, caption: &str) -> Block {
    Block::Table(Table {
        rows,
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
        max_rows: Some(most),
        bars: Vec::new(),
        caption: say(caption, []),
    })
}
