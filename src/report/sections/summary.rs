//! Title, the answer in a few sentences, and where it comes from.

use crate::report::command;
use crate::report::page::{Inline, Words, say};
use crate::report::story::{Story, figure, listed, number, percent};

/// The study's title, or the question in general.
pub(super) fn title(story: &Story) -> String {
    let (study, lab) = (story.run.study, story.run.lab);
    study.title.clone().unwrap_or_else(|| match story.run.task.examples.as_slice() {
        [_] => format!("What drives this prediction of {}?", lab.about.name),
        _ => format!("What drives the predictions of {} on {}?", lab.about.name, story.run.task.name),
    })
}

/// How well the model does it, and which components carry it.
pub(super) fn lead(story: &Story) -> Option<Words> {
    Some(summary(story))
}

fn summary(story: &Story) -> Words {
    let mut words = behaviour(story);
    let components = story.components();
    let top: Vec<_> =
        components.iter().filter(|c| c.name.contains(".h") || c.name.starts_with('m')).collect();
    let Some(first) = top.first() else { return words };
    let floor = 0.25 * first.total.abs();
    let strong: Vec<_> = top.iter().filter(|c| c.total.abs() >= floor).take(6).collect();
    let how = if story.run.task.is_paired() {
        "takes its value from the corrupt prompt"
    } else {
        "is replaced by its mean over reference sequences"
    };
    let by = |falls: bool| -> Vec<Words> {
        let such = strong.iter().filter(|c| (c.total > 0.0) == falls);
        such.map(|c| {
            let mut words = vec![Inline::Text(format!("{} for ", figure(c.total.abs())))];
            words.extend(c.spoken());
            words
        })
        .collect()
    };
    let mut start = format!(" When one component alone {how}, the logit difference");
    for (falls, verb) in [(true, "falls"), (false, "rises")] {
        let list = by(falls);
        if !list.is_empty() {
            words.push(Inline::Text(format!("{start} {verb} by ")));
            words.extend(listed(list));
            words.push(Inline::Text(".".to_owned()));
            start = " It".to_owned();
        }
    }
    let indirect = strong.iter().filter(|c| c.note.starts_with("indirect"));
    let indirect: Vec<Words> = indirect.map(|c| vec![Inline::Code(c.name.clone())]).collect();
    if !indirect.is_empty() {
        let verb = if indirect.len() == 1 { "acts" } else { "act" };
        words.push(Inline::Text(" Of these, ".to_owned()));
        words.extend(listed(indirect));
        words.push(Inline::Text(format!(
            " {verb} through later components rather than on the output directly."
        )));
    }
    words
}

fn behaviour(story: &Story) -> Words {
    let model = Inline::Text(story.run.lab.about.name.clone());
    let prompts = Inline::Text(story.prompts());
    let Some(rows) = story.table("behaviour") else {
        return say("{} was studied on {}.", [model, prompts]);
    };
    let (Ok(metrics), Ok(values)) = (rows.texts("metric"), rows.numbers("value")) else {
        return Words::new();
    };
    let value = |name: &str| metrics.iter().position(|m| m == name).and_then(|i| values[i]);
    match (value("logit-diff"), value("accuracy")) {
        (Some(difference), Some(accuracy)) if story.run.task.examples.len() > 1 => say(
            "On {}, {} prefers the answer to the wrong one in **{}** of cases; its logit is higher by **{}** on average.",
            [prompts, model, percent(accuracy), number(difference)],
        ),
        (Some(difference), _) => {
            let example = &story.run.task.examples[0];
            let set = |ids: &[u32]| {
                let tokens = ids.iter().map(|&id| vec![Inline::Token(story.run.lab.vocabulary.token(id))]);
                listed(tokens.collect())
            };
            let (mut liked, mut other) = (set(&example.answers), set(&example.wrong));
            if difference < 0.0 {
                std::mem::swap(&mut liked, &mut other);
            }
            let mut words = say("On this prompt, {} prefers ", [model]);
            words.extend(liked);
            words.push(Inline::Text(" to ".to_owned()));
            words.extend(other);
            words.extend(say(" by **{}** logits.", [number(difference.abs())]));
            if difference < 0.0 {
                words.extend(say(" That is *not* the answer it was asked about.", []));
            }
            words
        }
        _ => say("{} was studied on {}.", [model, prompts]),
    }
}

/// How the page was made and how to make it again.
pub(super) fn provenance(story: &Story) -> Vec<(String, Words)> {
    let (study, lab) = (story.run.study, story.run.lab);
    let text = |t: String| vec![Inline::Text(t)];
    let c = &lab.model.config;
    let shape = format!(
        "{} ({} layers, {} heads, d_model {}, {} parameters)",
        lab.about.name, c.n_layers, c.n_heads, c.d_model, lab.about.parameters
    );
    let folded = lab.folding().map_or_else(|| text("no".into()), |steps| vec![Inline::Code(steps)]);
    let mut facts = vec![
        ("Model".to_owned(), text(shape)),
        ("Weights (sha256)".to_owned(), vec![Inline::Code(lab.about.hash.clone())]),
    ];
    facts.extend(lab.about.revision.clone().map(|sha| ("Revision".to_owned(), vec![Inline::Code(sha)])));
    facts.push(("Weights folded".to_owned(), folded));
    facts.extend([
        ("Prompts".to_owned(), text(story.prompts())),
        ("Metric".to_owned(), vec![Inline::Code(study.metric.to_string())]),
        ("Seed".to_owned(), text(study.seed.to_string())),
        ("Numbers".to_owned(), text(format!("{} on the CPU", study.dtype))),
        ("glassbox".to_owned(), text(env!("CARGO_PKG_VERSION").to_owned())),
        (
            "Run again".to_owned(),
            say("`{}` in this report's folder", [Inline::Text(command::ALL.to_owned())]),
        ),
    ]);
    facts
}
