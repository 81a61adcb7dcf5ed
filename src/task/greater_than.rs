//! Greater-than (Hanna et al. 2023): "The war lasted from the year 1732 to the year 17" continues with a later year.

use rand::Rng;

use super::generate::{Generator, LabelKind, Request, labels};
use super::language::words::{self, list};
use super::writer::Writer;
use super::{Example, Task};
use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// `--task greater-than`.
pub const GENERATOR: Generator = Generator {
    name: "greater-than",
    about: "a year later than the one given (corrupt: the year ends in 01; measure with --metric prob-diff)",
    labels: &[
        LabelKind {
            name: "half",
            about: "whether the first year is before or after the middle of the century",
            at: "end",
        },
        LabelKind { name: "decade", about: "of the first year: its tens", at: "end" },
    ],
    make,
};

fn make(request: &Request, vocabulary: &Vocabulary) -> Result<Task> {
    let mut writer = Writer::new("greater-than", request, vocabulary)?;
    let events = writer.known(list(words::EVENTS), "events", 1)?;
    // A year is a century and two digits: with a space between them where the model's words are so, else without.
    let split = |glue: &'static str| {
        let year = |y: usize| writer.after("the year 17", &format!("{glue}{y:02}"));
        (1..100).map(year).collect::<Option<Vec<u32>>>().map(|ids| (glue, ids))
    };
    let Some((glue, years)) = split(" ").or_else(|| split("")) else {
        return Err(Error::input(
            "the task `greater-than` needs every two-digit year as one token, which this model does not have",
            "ask in the model's own words with `--prompt` or `--prompts`",
        ));
    };
    let mut examples = Vec::with_capacity(request.n);
    for i in 0..request.n {
        let (century, year) = (writer.rng.random_range(11..20), writer.rng.random_range(2..98));
        let event = events[writer.rng.random_range(0..events.len())];
        let start = |year: usize| format!("The {event} lasted from the year {century}{glue}{year:02}");
        let say = |year: usize| writer.whole(&format!("{} to the year {century}", start(year)));
        let clean = say(year)?;
        let pos =
            [("year".to_owned(), writer.whole(&start(year))?.len() - 1), ("end".to_owned(), clean.len() - 1)];
        examples.push(Example {
            id: format!("greater-than-{i}"),
            clean,
            corrupt: Some(say(1)?),
            answers: years[year..].to_vec(), // index 0 is the year 01
            wrong: years[..year].to_vec(),
            pos: pos.into(),
            group: "span".into(),
            labels: labels([
                ("half", if year < 50 { "before" } else { "after" }),
                ("decade", &(year / 10 * 10).to_string()),
            ]),
            subject: Some(format!("{year:02}")),
        });
    }
    Ok(Task { name: "greater-than".into(), examples, bos: writer.bos().is_some(), ..Task::default() })
}
