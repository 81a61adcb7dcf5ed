//! Direct and total effect of every component, side by side.

use crate::metric::Metric;
use crate::report::page::{Block, Inline, Section, Table, Words, say};
use crate::report::story::{Story, figure, listed, number, paragraph};
use crate::row::{Column, Rows};

pub(super) fn section(story: &Story) -> Option<Section> {
    let rows = story.table("components")?;
    let components = story.components();
    let paired = story.run.task.is_paired();
    let mut blocks = vec![if paired {
        paragraph(
            "For each component two numbers, in logits and for the same swap. **Direct**: what its own output adds to the \
             logit difference on its way straight to the output, clean minus corrupt. **Total**: how far the logit \
             difference falls when that component alone takes its value from the corrupt prompt and everything after it \
             is recomputed. A component with a large total and a small direct effect works through others; one with a large \
             direct and a small total effect is made up for elsewhere.",
            [],
        )
    } else {
        paragraph(
            "For each component two numbers, in logits. **Direct**: what its own output adds to the logit difference on its \
             way straight to the output. **Total**: how far the logit difference falls when that component alone is \
             replaced by its mean over reference sequences (mean ablation) and everything after it is recomputed.",
            [],
        )
    }];
    if story.run.study.metric != Metric::LogitDiff {
        blocks.push(Block::Note(say(
            "Effects of components are in logits, whatever the metric; `{}` is what patching measures below.",
            [Inline::Text(story.run.study.metric.to_string())],
        )));
    }
    blocks.extend(story.figure("components", "components"));
    if let Some(sentence) = strongest(story) {
        blocks.push(Block::Paragraph(sentence));
    }
    blocks.extend(story.figure("direct_total", "components"));
    let named: Vec<Words> = components
        .iter()
        .filter(|c| !c.note.is_empty())
        .take(8)
        .map(|c| {
            let mut words = c.spoken();
            words.extend(say(
                ": direct {}, total {}; {}",
                [number(c.direct), number(c.total), Inline::Text(c.note.clone())],
            ));
            words
        })
        .collect();
    if !named.is_empty() {
        blocks.push(paragraph("Components with one effect and not the other:", []));
        blocks.push(Block::List(named));
    }
    blocks.push(Block::Table(Table {
        rows: by_rank(rows),
        columns: ["rank", "component", "role", "direct", "total", "total_ci_lo", "total_ci_hi", "n"]
            .into_iter()
            .filter(|&column| column != "role" || components.iter().any(|c| !c.role.is_empty()))
            .map(str::to_owned)
            .collect(),
        max_rows: Some(12),
        bars: vec!["total".to_owned()],
        caption: say("Every component, by the size of its total effect.", []),
    }));
    if let Some(rows) = story.table("components_set") {
        blocks.push(paragraph(
            "Sets of components replaced together, beside the sums of what their parts do alone: a positive interaction is \
             what parts that stand in for each other hide, a negative one what parts of one chain count twice.",
            [],
        ));
        let columns = [
            "set",
            "total",
            "total_ci_lo",
            "total_ci_hi",
            "sum_of_parts",
            "interaction",
            "ci_lo",
            "ci_hi",
            "n",
        ];
        blocks.push(Block::Table(Table {
            rows: rows.clone(),
            columns: columns.map(str::to_owned).to_vec(),
            max_rows: Some(12),
            bars: Vec::new(),
            caption: say("Sets replaced as wholes (logits).", []),
        }));
    }
    blocks.extend(story.notes("components"));
    Some(Section { id: "components".to_owned(), title: "Which components drive it".to_owned(), blocks })
}

fn by_rank(rows: &Rows) -> Rows {
    let ranks = rows.numbers("rank").unwrap_or_default();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| {
        let rank = |i: usize| ranks.get(i).copied().flatten().unwrap_or(f64::INFINITY);
        rank(a).total_cmp(&rank(b))
    });
    let mut ranked = rows.take(&order);
    for (name, _, column) in &mut ranked.columns {
        if let (true, Column::Text(cells)) = (name == "role", column) {
            // no role is no text, not an empty token
            cells.iter_mut().for_each(|cell| *cell = cell.take().filter(|role| !role.is_empty()));
        }
    }
    ranked
}

/// The heads with the largest total effect, with intervals.
fn strongest(story: &Story) -> Option<Words> {
    let heads = story.heads();
    let largest = heads.first()?.total.abs();
    let items = heads.iter().take(4).filter(|c| c.total.abs() > 0.1 * largest).map(|c| {
        let mut words = c.spoken();
        let interval =
            c.interval.map(|(lo, hi)| format!(" [{}, {}]", figure(lo), figure(hi))).unwrap_or_default();
        words.push(Inline::Text(format!(", {}{interval}", figure(c.total))));
        words
    });
    let mut words = say("Among heads, the largest total effects are those of ", []);
    words.extend(listed(items.collect()));
    words.push(Inline::Text(".".to_owned()));
    Some(words)
}
