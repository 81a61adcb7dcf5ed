//! Induction (Olsson et al. 2022): a random sequence begins again; what came next the first time?

use rand::Rng;

use super::generate::{Generator, Request};
use super::writer::Writer;
use super::{Example, Task};
use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// `--task induction`.
pub const GENERATOR: Generator = Generator {
    name: "induction",
    about: "what followed this token the first time (random tokens; corrupt: the earlier occurrence trades places)",
    labels: &[],
    make,
};

/// Length of the sequence, the token with which its second copy ends, and the one that the corrupt prompt has there.
const LENGTH: usize = 16;
const LAST: usize = 10;
const OTHER: usize = 13;

/// In the corrupt prompt the earlier occurrence of the last token is replaced by another token of the sequence, whose
/// place it takes: it is still there, but something else follows it, which is the wrong answer.
fn make(request: &Request, vocabulary: &Vocabulary) -> Result<Task> {
    let mut writer = Writer::new("induction", request, vocabulary)?;
    let tokenizer = vocabulary.tokenizer()?;
    let special = tokenizer.get_added_tokens_decoder();
    let ids: Vec<u32> =
        (0..tokenizer.get_vocab_size(true) as u32).filter(|id| !special.contains_key(id)).collect();
    if ids.len() < 2 * LENGTH {
        return Err(Error::input(
            format!(
                "the task `induction` needs {} distinct tokens; this model has {}",
                2 * LENGTH,
                ids.len()
            ),
            "use a model with a larger vocabulary",
        ));
    }
    let mut examples = Vec::with_capacity(request.n);
    for i in 0..request.n {
        let mut sequence: Vec<u32> = Vec::with_capacity(LENGTH);
        while sequence.len() < LENGTH {
            let id = ids[writer.rng.random_range(0..ids.len())];
            if !sequence.contains(&id) {
                sequence.push(id);
            }
        }
        let mut traded = sequence.clone();
        traded.swap(LAST, OTHER);
        let bos: Vec<u32> = writer.bos().into_iter().collect();
        let written = |first: &[u32]| [&bos, first, &sequence[..=LAST]].concat();
        let (clean, corrupt) = (written(&sequence), written(&traded));
        let pos = [
            ("earlier".to_owned(), bos.len() + LAST),
            ("next".to_owned(), bos.len() + LAST + 1),
            ("end".to_owned(), clean.len() - 1),
        ];
        examples.push(Example {
            id: format!("induction-{i}"),
            answers: vec![sequence[LAST + 1]],
            wrong: vec![sequence[OTHER + 1]],
            clean,
            corrupt: Some(corrupt),
            pos: pos.into(),
            group: "repeat".into(),
            ..Example::default()
        });
    }
    Ok(Task { name: "induction".into(), examples, bos: writer.bos().is_some(), ..Task::default() })
}
