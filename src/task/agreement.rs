//! Subject-verb agreement across an attractor (Linzen et al. 2016): "The keys near the cabinet" continues with "are".

use rand::Rng;

use super::generate::{Generator, LabelKind, Request, labels};
use super::language::words::{self, list};
use super::writer::Writer;
use super::{Example, Task};
use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// `--task agreement`.
pub const GENERATOR: Generator = Generator {
    name: "agreement",
    about: "is or are, by the number of the subject (corrupt: the subject in the other number)",
    labels: &[
        LabelKind { name: "number", about: "of the subject: singular or plural", at: "end" },
        LabelKind { name: "attractor", about: "the number of the noun between subject and verb", at: "end" },
    ],
    make,
};

fn make(request: &Request, vocabulary: &Vocabulary) -> Result<Task> {
    let mut writer = Writer::new("agreement", request, vocabulary)?;
    let is_known = |noun: &&str| writer.token(noun).is_ok() && writer.token(&format!("{noun}s")).is_ok();
    let nouns: Vec<&str> = list(words::SINGULAR).into_iter().filter(is_known).collect();
    let prepositions = writer.known(list(words::PREPOSITIONS), "prepositions", 1)?;
    if nouns.len() < 2 {
        return Err(Error::input(
            format!(
                "the task `agreement` needs nouns that are one token in both numbers; this model knows {}",
                nouns.len()
            ),
            "ask in the model's own words with `--prompt` or `--prompts`",
        ));
    }
    let verbs = [writer.token("is")?, writer.token("are")?];
    let numbers = ["singular", "plural"];
    let mut examples = Vec::with_capacity(request.n);
    for i in 0..request.n {
        // four kinds in turn: the subject's number times the attractor's
        let (plural, other_plural) = (i % 2, i / 2 % 2);
        let mut any = |words: &[&'static str]| words[writer.rng.random_range(0..words.len())];
        let (subject, other, preposition) = (any(&nouns), any(&nouns), any(&prepositions));
        let numbered = |noun: &str, plural: usize| format!("{noun}{}", ["", "s"][plural]);
        let say = |plural: usize| -> Vec<String> {
            let words =
                ["The", &numbered(subject, plural), preposition, "the", &numbered(other, other_plural)];
            words.map(str::to_owned).to_vec()
        };
        let clean = say(plural);
        let pos = [
            ("subject".to_owned(), writer.place(&clean, 1)?),
            ("end".to_owned(), writer.place(&clean, clean.len() - 1)?),
        ];
        examples.push(Example {
            id: format!("agreement-{i}"),
            corrupt: Some(writer.prompt(&say(1 - plural))?),
            answers: vec![verbs[plural]],
            wrong: vec![verbs[1 - plural]],
            pos: pos.into(),
            group: format!("{}-{}", numbers[plural], numbers[other_plural]),
            labels: labels([("number", numbers[plural]), ("attractor", numbers[other_plural])]),
            subject: Some(subject.to_owned()),
            clean: writer.prompt(&clean)?,
        });
    }
    Ok(Task { name: "agreement".into(), examples, bos: writer.bos().is_some(), ..Task::default() })
}
