//! How well the model does it, what it predicts, and what a decision would choose.

use crate::report::page::{Block, Inline, Section, Table, say};
use crate::report::story::{Story, paragraph};
use crate::row::Rows;

pub(super) fn section(story: &Story) -> Option<Section> {
    let likely = story.table("predict")?;
    let mut blocks = Vec::new();
    if let (Some(rows), true) = (story.table("behaviour"), story.run.task.examples.len() > 1) {
        blocks.push(paragraph(
            "Before asking how the model does something, ask whether it does it. Intervals are 95 % bootstrap intervals \
             over whole prompts.",
            [],
        ));
        blocks.push(table(
            rows.clone(),
            &["metric", "value", "ci_lo", "ci_hi", "n"],
            "How well the model does the task.",
        ));
    }
    let id = &story.run.task.examples.first()?.id;
    let of_first = |rows: &Rows| rows.only("example", id).ok();
    blocks.push(paragraph(
        "A language model computes a probability for every next token; choosing one is a second step.{}",
        [Inline::Text(match story.run.task.examples.len() {
            1 => String::new(),
            _ => " Here is the first prompt.".to_owned(),
        })],
    ));
    if let Some(rows) = of_first(likely) {
        let mut top =
            table(rows, &["rank", "token", "prob", "surprisal", "logit"], "The most probable next tokens.");
        if let Block::Table(table) = &mut top {
            table.bars = vec!["prob".to_owned()];
        }
        blocks.push(top);
    }
    if let Some(rows) = story.table("decisions").and_then(of_first) {
        let caption = "What each decision rule would choose, and how likely that rule is to choose it.";
        let columns = ["rule", "token", "prob", "picked", "expected_gain"];
        let given = story.run.task.gains.is_some();
        blocks.push(table(rows, if given { &columns } else { &columns[..4] }, caption));
    }
    blocks.extend(story.notes("predict"));
    Some(Section { id: "prediction".to_owned(), title: "Prediction and decision".to_owned(), blocks })
}

fn table(rows: Rows, columns: &[&str], caption: &str) -> Block {
    Block::Table(Table {
        rows,
        columns: columns.iter().map(|&c| c.to_owned()).collect(),
        max_rows: Some(12),
        bars: Vec::new(),
        caption: say(caption, []),
    })
}
