//! Facts about people of the bundled model's language: "Ada Abbott plays the sport of".

use rand::seq::IndexedRandom;

use super::generate::{Generator, LabelKind, Request, labels};
use super::language::sentence::fact;
use super::language::{Language, Person};
use super::writer::Writer;
use super::{Example, Task};
use crate::error::Result;
use crate::vocabulary::Vocabulary;

/// `--task facts`.
pub const GENERATOR: Generator = Generator {
    name: "facts",
    about: "work, sport or city of a person (corrupt: another person; people only the bundled models know)",
    labels: &[
        LabelKind { name: "city", about: "where the person lives", at: "subject" },
        LabelKind { name: "job", about: "the person's work", at: "subject" },
        LabelKind { name: "sport", about: "the person's sport", at: "subject" },
        LabelKind { name: "relation", about: "what is asked: work, sport or city", at: "end" },
    ],
    make,
};

fn make(request: &Request, vocabulary: &Vocabulary) -> Result<Task> {
    let mut writer = Writer::new("facts", request, vocabulary)?;
    let language = Language::new();
    let relations = ["work", "sport", "city"];
    let mut examples = Vec::with_capacity(request.n);
    for i in 0..request.n {
        let relation = i % relations.len();
        let pair = other_answer(&language.people, relation, &mut writer);
        let person = pair.0;
        let ((clean, answer), (corrupt, wrong)) = (fact(pair.0, relation), fact(pair.1, relation));
        let mut pos = std::collections::BTreeMap::new();
        for name in ["subject", "end"] {
            if let Some(index) = clean.place(name) {
                pos.insert(name.to_owned(), writer.place(&clean.words, index)?);
            }
        }
        pos.insert("first".to_owned(), writer.place(&clean.words, 0)?);
        // each name must be one token, so that position 1 is the last name
        for word in &clean.words {
            writer.token(word)?;
        }
        examples.push(Example {
            id: format!("facts-{i}"),
            clean: writer.prompt(&clean.words)?,
            corrupt: Some(writer.prompt(&corrupt.words)?),
            answers: vec![writer.token(answer)?],
            wrong: vec![writer.token(wrong)?],
            pos,
            group: relations[relation].into(),
            labels: labels([
                ("city", person.city),
                ("job", person.job),
                ("sport", person.sport),
                ("relation", relations[relation]),
            ]),
            subject: Some(format!("{} {}", person.first, person.last)),
        });
    }
    Ok(Task { name: "facts".into(), examples, bos: writer.bos().is_some(), ..Task::default() })
}

/// Two people of whom the relation tells different things.
fn other_answer<'a>(people: &'a [Person], relation: usize, writer: &mut Writer) -> (&'a Person, &'a Person) {
    loop {
        let pair: Vec<&Person> = people.choose_multiple(&mut writer.rng, 2).collect();
        if fact(pair[0], relation).1 != fact(pair[1], relation).1 {
            return (pair[0], pair[1]);
        }
    }
}
