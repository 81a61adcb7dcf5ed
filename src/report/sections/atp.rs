//! Patches estimated from gradients, and how far the estimates hold.

use crate::report::page::{Block, Inline, Section, Table, Words, say};
use crate::report::story::{Story, number, paragraph};

pub(super) fn section(story: &Story) -> Option<Section> {
    story.table("atp_head").or_else(|| story.table("atp_position")).or_else(|| story.table("atp_neuron"))?;
    let mut blocks = vec![paragraph(
        "One gradient estimates every patch at once: the difference that a patch would make to an activation, times the \
         slope of the metric there (*attribution patching*). It is the first step of a way that may bend. Where a softmax or \
         a norm is saturated between the activation and the output, the slope is nearly flat however much is lost at the \
         end of the way; where a direct and an indirect effect have opposite signs, the slope may vanish. So each ranking \
         is held against exact patching in the same direction.",
        [],
    )];
    blocks.extend(story.figure("atp_head", "atp_head"));
    blocks.extend(worst(story).map(Block::Paragraph));
    blocks.extend(story.figure("agreement_z", "atp_agreement"));
    for name in ["agreement_head_denoise", "agreement_head_noise"] {
        blocks.extend(story.figure(name, "atp_agreement"));
    }
    if let Some(rows) = story.table("atp_agreement_summary") {
        let columns = [
            "grain",
            "site",
            "direction",
            "method",
            "checked",
            "components",
            "pearson",
            "spearman",
            "worst_error",
            "sign_disagreements",
            "misses",
            "misses_at_most",
        ];
        blocks.push(Block::Table(Table {
            rows: rows.clone(),
            columns: columns.map(str::to_owned).to_vec(),
            max_rows: Some(50),
            bars: Vec::new(),
            caption: say(
                "Each ranking and each way to estimate it, against exact patching. atp: plain; atp+qk: with the softmax behind \
                 queries and keys computed anew; atp*: sizes with layers dropped from the gradient, against mean sizes. \
                 Misses are components of the exact top that the estimate does not have in its own.",
                [],
            ),
        }));
    }
    blocks.extend(story.notes("atp"));
    Some(Section {
        id: "attribution-patching".to_owned(),
        title: "What gradients say, and what patching says: attribution patching".to_owned(),
        blocks,
    })
}

/// The head whose estimate is furthest from the truth, in a sentence.
fn worst(story: &Story) -> Option<Words> {
    let rows = story.table("atp_agreement")?.only("signed", "true").ok()?.only("grain", "head").ok()?;
    let errors = rows.numbers("error").ok()?;
    let size = |i: usize| errors.get(i).copied().flatten().unwrap_or(0.0).abs();
    let worst = (0..rows.len()).max_by(|&a, &b| size(a).total_cmp(&size(b)).then(b.cmp(&a)))?;
    let text = |column| rows.texts(column).ok()?.get(worst).cloned();
    let value = |column| rows.numbers(column).ok()?.get(worst).copied().flatten();
    let (approx, exact) = (value("approx")?, value("exact")?);
    let verdict = if size(worst) <= 0.1 {
        ": among heads, the estimates hold everywhere to a tenth of the gap"
    } else {
        ""
    };
    let mut words = say(
        "The estimate furthest from the truth among heads is that of {} ({}, {}): {} of the gap, where patching measures {}",
        [
            Inline::Code(text("component")?),
            Inline::Text(text("direction")?),
            Inline::Text(text("method")?),
            number(approx),
            number(exact),
        ],
    );
    words.push(Inline::Text(format!("{verdict}.")));
    Some(words)
}
