//! What activations encode: probes, what they are compared with, and whether the model uses what they read.

use crate::error::Result;
use crate::report::page::{Block, Inline, Section, Table, Words, say};
use crate::report::story::{Story, number, paragraph, percent};

pub(super) fn section(story: &Story) -> Option<Section> {
    let rows = story.table("probe")?;
    let mut blocks = vec![paragraph(
        "A *linear probe* is asked to tell a label from an activation by a weighted sum of its numbers. It is always asked about \
         examples whose whole group was held out, and a high score alone says little: tokens may give the label away before \
         any layer has run, and with many dimensions a probe can remember. So it stands beside the same probe on the \
         embeddings, on random weights, on shuffled labels, and beside a control task.",
        [],
    )];
    blocks.extend(story.figure("probe_curve", "probe"));
    blocks.extend(story.figure("probe_grid", "probe_grid"));
    blocks.extend(story.figure("probe_control", "probe_control"));
    if story.table("probe_use").is_some() {
        blocks.push(paragraph(
            "What can be read need not be used. Each probe is therefore paired with an intervention: the subspace that it reads \
             is taken out of the activation, so that the probe says the same of every prompt, and the model runs on from there.",
            [],
        ));
    }
    blocks.extend(story.figure("probe_use", "probe_use"));
    blocks.extend(story.figure("probe_use_groups", "probe_use_groups"));
    let columns = [
        "site",
        "layer",
        "pos",
        "method",
        "accuracy",
        "ci_lo",
        "ci_hi",
        "auroc",
        "majority",
        "shuffled",
        "embedding",
        "random_weights",
        "selectivity",
        "compression",
        "used",
        "not_above",
        "n",
    ];
    blocks.push(Block::Table(Table {
        rows: rows.clone(),
        columns: columns.map(str::to_owned).to_vec(),
        max_rows: Some(40),
        bars: vec!["accuracy".to_owned()],
        caption: say(
            "Every probe. *Selectivity*: accuracy minus that of the control task, where types recur. *Compression*: how many times \
             shorter the labels can be sent with the probe's help (online code; below 1 the probe costs more than it saves). \
             *Used*: whether the model's answers change more than by random directions when what the probe reads is taken out.",
            [],
        ),
    }));
    blocks.extend(story.notes("probe"));
    Some(Section { id: "probes".to_owned(), title: "What its activations encode".to_owned(), blocks })
}

/// The best reading along the stream, and whether the model uses it there.
pub(super) fn lead(story: &Story) -> Option<Words> {
    sentence(story).ok().flatten()
}

fn sentence(story: &Story) -> Result<Option<Words>> {
    let Some(rows) = story.table("probe_curve") else { return Ok(None) };
    let (sites, layers, places) = (rows.texts("site")?, rows.texts("layer")?, rows.texts("pos")?);
    let (labels, methods, accuracy) =
        (rows.texts("label")?, rows.texts("method")?, rows.numbers("accuracy")?);
    let (majority, embedding) = (rows.numbers("majority")?, rows.numbers("embedding")?);
    let value = |list: &[Option<f64>], i: usize| list.get(i).copied().flatten();
    let best = (0..rows.len()).reduce(|a, b| if value(&accuracy, b) > value(&accuracy, a) { b } else { a });
    let Some((i, top)) = best.and_then(|i| Some((i, value(&accuracy, i)?))) else { return Ok(None) };
    let place = |i: usize| format!("{} of layer {}", sites[i], layers[i]);
    let mut words = say(
        "A {} probe reads `{}` at `{}` in up to **{}** of unseen cases ({}; most frequent class {}",
        [
            Inline::Text(methods[i].clone()),
            Inline::Text(labels[i].clone()),
            Inline::Text(places[i].clone()),
            percent(top),
            Inline::Text(place(i)),
            percent(value(&majority, i).unwrap_or(f64::NAN)),
        ],
    );
    if let Some(embedding) = value(&embedding, i) {
        words.extend(say(", from the embeddings {}", [percent(embedding)]));
    }
    words.push(Inline::Text(").".to_owned()));
    let Some(used) = story.table("probe_use_curve") else { return Ok(Some(words)) };
    let (at, of) = (used.texts("site")?, used.texts("layer")?);
    let (change, random, is_used) = (used.numbers("change")?, used.numbers("random")?, used.numbers("used")?);
    let found = |i: usize| (0..used.len()).find(|&k| at[k] == sites[i] && of[k] == layers[i]);
    if let Some(k) = found(i) {
        let metric = Inline::Text(story.run.study.metric.name().to_owned());
        let numbers = [
            metric,
            number(value(&change, k).unwrap_or(f64::NAN)),
            number(value(&random, k).unwrap_or(f64::NAN)),
        ];
        let ending = match value(&is_used, k) {
            Some(1.0) => {
                " The model uses it: without what the probe reads there, its {} changes by **{}**, by random changes as \
                          large by {}."
            }
            Some(_) => {
                " The model does not use it there: without what the probe reads, its {} changes by {}, by random changes as \
                        large by {}."
            }
            None => {
                " Without what the probe reads there, its {} changes by {}, by random changes as large by {}."
            }
        };
        words.extend(say(ending, numbers));
    }
    // the latest place where the label is well above the most frequent class and yet unused
    let lo = rows.numbers("ci_lo")?;
    let idle = (0..rows.len()).rev().find(|&i| {
        value(&lo, i) > value(&majority, i) && found(i).and_then(|k| value(&is_used, k)) == Some(0.0)
    });
    if let Some(j) = idle.filter(|&j| j != i) {
        words.extend(say(
            " At {} it can still be read ({}), but is used no more.",
            [Inline::Text(place(j)), percent(value(&accuracy, j).unwrap_or(f64::NAN))],
        ));
    }
    Ok(Some(words))
}
