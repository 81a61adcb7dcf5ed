//! How the model came to be, or how it differs: the same questions along its training, or to other models.

use std::collections::BTreeMap;

use crate::checkpoint;
use crate::report::page::{Block, Inline, Section, Table, Words, say};
use crate::report::story::{Story, listed, number, paragraph, plain};
use crate::row::Rows;

pub(super) fn section(story: &Story) -> Option<Section> {
    if let Some(rows) = story.table("compared") {
        return Some(compared(rows));
    }
    story.table("training")?;
    let stages = story.run.study.stages().ok()?;
    let mut by_model: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for stage in &stages {
        by_model.entry(&stage.model).or_default().extend(stage.step.map(|step| step.to_string()));
    }
    let each: Vec<Words> = by_model
        .iter()
        .map(|(model, steps)| {
            say("`{}` after {} steps", [Inline::Text((*model).to_owned()), Inline::Text(steps.join(", "))])
        })
        .collect();
    let mut opening = say("The same questions, put to the weights that were kept during training: ", []);
    opening.extend(listed(each));
    opening.extend(say(
        ". The last is the finished model, of which the rest of this page tells. Between two stages nothing is known: a \
         rise is dated only to the stages before and after it.",
        [],
    ));
    let mut blocks = vec![Block::Paragraph(opening)];
    blocks.push(paragraph(
        "**What it does**: how well the model does the task. **What its heads attend to**, on random tokens said twice: for each habit \
         up to three heads of a model that have it in the end, or the one that comes nearest. **What its heads are good for on this \
         task**: total effect and direct effect of up to three heads of a model that matter most in the end. A habit is no effect: \
         a head can attend as it will in the end long before anything depends on it.",
        [],
    ));
    blocks.extend(story.figure("training", "training"));
    let mut multiples = |names: &[&str], table: &str, words: &str| {
        let figures: Vec<Block> = names.iter().filter_map(|name| story.figure(name, table)).collect();
        if !figures.is_empty() {
            blocks.push(paragraph(words, []));
            blocks.extend(figures);
        }
    };
    multiples(
        &["forming_total", "forming_previous", "forming_duplicate", "forming_induction"],
        "training_heads",
        "**Every head at every stage**, on one scale: which of them come to matter, and when.",
    );
    multiples(
        &["forming_edges"],
        "training_edges",
        "**Who tells whom.** The edges whose cut costs most in the finished model, followed back to the beginning.",
    );
    if let Some(onsets) = story.table("training_onset") {
        blocks.push(Block::Table(onset_table(onsets)));
    }
    blocks.extend(supervised(story, by_model.keys().copied()));
    Some(Section { id: "training".to_owned(), title: "How it came to be".to_owned(), blocks })
}

/// Models beside each other, none of them along its training.
fn compared(rows: &Rows) -> Section {
    let columns = ["quantity", "model", "part", "value", "ci_lo", "ci_hi", "n"];
    let table = Table {
        rows: rows.clone(),
        columns: columns.map(str::to_owned).to_vec(),
        max_rows: Some(40),
        bars: Vec::new(),
        caption: say(
            "The models beside each other: behaviour, and of each up to three heads that stand out.",
            [],
        ),
    };
    let text = "The same questions were put to other models too; the rest of this page tells of the first. A head of one model \
                has nothing to do with the head of the same name in another.";
    let blocks = vec![paragraph(text, []), Block::Table(table)];
    Section { id: "compared".to_owned(), title: "Beside other models".to_owned(), blocks }
}

fn onset_table(onsets: &Rows) -> Table {
    let named = onsets.texts("model").is_ok_and(|models| models.iter().any(|model| !model.is_empty()));
    let columns = ["model", "quantity", "part", "first", "last", "after", "by"];
    Table {
        rows: onsets.clone(),
        columns: columns.into_iter().filter(|&c| named || c != "model").map(str::to_owned).collect(),
        max_rows: Some(40),
        bars: Vec::new(),
        caption: say(
            "When each curve first passed the middle between its first and its last value: after one stage, by the next. \
             A curve that is past it at once or never moves is left out, and so are habits that no head has in the end.",
            [],
        ),
    }
}

/// What the models themselves say about how they were made.
fn supervised<'a>(story: &Story, models: impl Iterator<Item = &'a str>) -> Vec<Block> {
    let stages = story.run.study.stages().unwrap_or_default();
    let mut points: Vec<Words> = Vec::new();
    for model in models {
        let word = stages.iter().find(|stage| stage.model == model && !stage.word.contains("@step"));
        let caveats = word.and_then(|stage| checkpoint::locate(&stage.word).ok()?.caveats().ok());
        let told = match caveats.as_deref() {
            None | Some([]) => {
                "its files name no supervision of anything but its next-token predictions".to_owned()
            }
            Some(caveats) => caveats.join(" "),
        };
        points.push(say("`{}`: {}", [Inline::Text(model.to_owned()), Inline::Text(told)]));
    }
    vec![
        paragraph(
            "**What was trained.** Curves of heads whose attention was supervised show the supervision taking hold, not a \
                   circuit being found:",
            [],
        ),
        Block::List(points),
    ]
}

/// When the behaviour came, in a sentence.
pub(super) fn lead(story: &Story) -> Option<Words> {
    let onsets = story.table("training_onset")?.only("quantity", "logit difference").ok()?;
    let (models, last) = (onsets.texts("model").ok()?, onsets.numbers("last").ok()?);
    let (after, by) = (onsets.numbers("after").ok()?, onsets.numbers("by").ok()?);
    let whole = |x: Option<f64>| Inline::Text(x.map_or_else(String::new, |x| format!("{x:.0}")));
    let each: Vec<Words> = (0..onsets.len())
        .map(|i| {
            let mut words = say("between steps **{}** and **{}**", [whole(after[i]), whole(by[i])]);
            if !models[i].is_empty() {
                words.extend(say(" in `{}`", [Inline::Text(models[i].clone())]));
            }
            words.extend(say(" (to {} in the end)", [number(last[i].unwrap_or(f64::NAN))]));
            words
        })
        .collect();
    if each.is_empty() {
        return Some(plain(
            "In training, the logit difference never passes half of its way between two of the stages kept.",
        ));
    }
    let mut words = say("In training, the logit difference passes half of its way ", []);
    words.extend(listed(each));
    words.push(Inline::Text(".".to_owned()));
    Some(words)
}
