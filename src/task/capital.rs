//! Capitals: "The capital of France is".

use rand::seq::IndexedRandom;

use super::generate::{Generator, Request};
use super::language::words::{self, list};
use super::writer::Writer;
use super::{Example, Task};
use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// `--task capital`.
pub const GENERATOR: Generator = Generator {
    name: "capital",
    about: "the capital of a country (corrupt: another country)",
    labels: &[],
    make,
};

fn make(request: &Request, vocabulary: &Vocabulary) -> Result<Task> {
    let mut writer = Writer::new("capital", request, vocabulary)?;
    let countries = list(words::COUNTRIES).into_iter().zip(list(words::CAPITALS));
    let known: Vec<(&str, u32, u32)> = countries
        .filter_map(|(country, capital)| {
            Some((country, writer.token(country).ok()?, writer.token(capital).ok()?))
        })
        .collect();
    if known.len() < 2 {
        return Err(Error::input(
            format!(
                "the task `capital` needs countries and capitals that are one token each; this model knows {}",
                known.len()
            ),
            "ask in the model's own words with `--prompt` or `--prompts`",
        ));
    }
    let mut examples = Vec::with_capacity(request.n);
    for i in 0..request.n {
        let pair: Vec<_> = known.choose_multiple(&mut writer.rng, 2).copied().collect();
        let of = |country: &str| -> Vec<String> {
            ["The", "capital", "of", country, "is"].map(str::to_owned).to_vec()
        };
        let ((country, _, capital), (other, _, other_capital)) = (pair[0], pair[1]);
        let clean = of(country);
        let pos =
            [("subject".to_owned(), writer.place(&clean, 3)?), ("end".to_owned(), writer.place(&clean, 4)?)];
        examples.push(Example {
            id: format!("capital-{i}"),
            clean: writer.prompt(&clean)?,
            corrupt: Some(writer.prompt(&of(other))?),
            answers: vec![capital],
            wrong: vec![other_capital],
            pos: pos.into(),
            group: "capital".into(),
            subject: Some(country.to_owned()),
            ..Example::default()
        });
    }
    Ok(Task { name: "capital".into(), examples, bos: writer.bos().is_some(), ..Task::default() })
}
