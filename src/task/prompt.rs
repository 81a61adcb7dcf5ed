//! One prompt from flags, and the answers that a model itself suggests.

use std::collections::BTreeMap;

use candle_core::{DType, Device};

use super::reader::Reader;
use super::{Example, Side, Task};
use crate::decide::{ranked, softmax};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::vocabulary::Bos;

/// A prompt as flags give it: as text, or as token ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prompt {
    /// `--prompt`.
    pub text: Option<String>,
    /// `--corrupt`.
    pub corrupt: Option<String>,
    /// `--answer`, any number of times: each one token.
    pub answers: Vec<String>,
    /// `--wrong`, any number of times.
    pub wrong: Vec<String>,
    /// `--tokens`: instead of `--prompt`; no BOS is added.
    pub tokens: Option<Vec<u32>>,
    /// `--corrupt-tokens`.
    pub corrupt_tokens: Option<Vec<u32>>,
    /// `--answer-id`, any number of times.
    pub answer_ids: Vec<u32>,
    /// `--wrong-id`, any number of times.
    pub wrong_ids: Vec<u32>,
    /// `--bos`.
    pub bos: Bos,
}

impl Prompt {
    /// The task of this one prompt. What it does not say, the model does: the answer is its first choice, the wrong
    /// answer the runner-up, and a note says so.
    pub fn task(&self, lab: &Lab) -> Result<Task> {
        let mut reader = Reader::new(&lab.vocabulary, self.bos)?;
        let (clean, corrupt) = match (&self.text, &self.tokens) {
            (Some(_), Some(_)) => {
                return Err(Error::usage(
                    "the prompt is given twice",
                    "give `--prompt` or `--tokens`, not both",
                ));
            }
            (None, None) => {
                return Err(Error::usage("there is no prompt", "give `--prompt \"…\"` or `--tokens 1,2,3`"));
            }
            (Some(text), None) => {
                if self.corrupt_tokens.is_some() {
                    return Err(mixed());
                }
                let corrupt = self.corrupt.as_deref().map(|text| reader.prompt(text)).transpose()?;
                (reader.prompt(text)?, corrupt)
            }
            (None, Some(tokens)) => {
                if self.corrupt.is_some() {
                    return Err(mixed());
                }
                if tokens.is_empty() {
                    return Err(Error::usage("the prompt is empty", "give at least one token"));
                }
                (tokens.clone(), self.corrupt_tokens.clone())
            }
        };
        let mut set = |texts: &[String], ids: &[u32]| -> Result<Vec<u32>> {
            let mut set = Vec::new();
            let texts: Vec<u32> = texts.iter().map(|text| reader.answer(text)).collect::<Result<_>>()?;
            for id in texts.into_iter().chain(ids.iter().copied()) {
                if !set.contains(&id) {
                    set.push(id);
                }
            }
            Ok(set)
        };
        let answers = set(&self.answers, &self.answer_ids)?;
        let wrong = set(&self.wrong, &self.wrong_ids)?;
        reader.check(&clean, corrupt.as_deref(), &answers, &wrong)?;
        if corrupt.as_ref() == Some(&clean) {
            reader.note("The corrupt prompt equals the clean one: nothing can differ between them.".into());
        }
        let bos = self.text.is_some() && lab.vocabulary.bos(self.bos)?.is_some();
        let pos = BTreeMap::from([("end".to_owned(), clean.len() - 1)]);
        let (id, group) = ("prompt".to_owned(), "all".to_owned());
        let mut task = Task {
            name: "prompt".into(),
            examples: vec![Example { id, clean, corrupt, answers, wrong, pos, group, ..Example::default() }],
            bos,
            notes: reader.notes(self.text.is_some()),
            ..Task::default()
        };
        complete(lab, &mut task)?;
        Ok(task)
    }
}

fn mixed() -> Error {
    Error::usage(
        "one prompt is a text and the other a list of token ids",
        "give `--prompt` with `--corrupt`, or `--tokens` with `--corrupt-tokens`",
    )
}

/// Gives examples without an answer the model's first choice, and those without a wrong answer the most probable token
/// that is no answer. Notes say what was chosen, or for how many prompts.
pub fn complete(lab: &Lab, task: &mut Task) -> Result<()> {
    task.check()?;
    task.fits(&lab.model)?;
    let open = |example: &Example| example.answers.is_empty() || example.wrong.is_empty();
    let (mut answered, mut opposed) = (Vec::new(), Vec::new());
    // whether the answer is the first choice, so that the next one is the runner-up
    let mut leads = true;
    for batch in task.batches(task.fitting(lab, 0)) {
        let batch: Vec<usize> = batch.into_iter().filter(|&i| open(&task.examples[i])).collect();
        if batch.is_empty() {
            continue;
        }
        let logits = task.logits(lab, &batch, Side::Clean)?;
        let rows: Vec<Vec<f64>> = logits.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2()?;
        for (index, logits) in batch.into_iter().zip(rows) {
            let p = softmax(&logits, 1.0);
            let said = |id: u32| format!("{:?} (p {:.3})", lab.vocabulary.token(id), p[id as usize]);
            let example = &mut task.examples[index];
            let order: Vec<u32> = ranked(&logits).into_iter().map(|id| id as u32).collect();
            if example.answers.is_empty() {
                let Some(first) = order.iter().copied().find(|id| !example.wrong.contains(id)) else {
                    continue;
                };
                example.answers.push(first);
                answered.push(said(first));
            }
            if example.wrong.is_empty() {
                let Some(next) = order.iter().copied().find(|id| !example.answers.contains(id)) else {
                    continue;
                };
                leads &= order.first().is_some_and(|first| example.answers.contains(first));
                example.wrong.push(next);
                opposed.push(said(next));
            }
        }
    }
    for (chosen, role, what) in [
        (answered, "answer", "the model's first choice"),
        (opposed, "wrong", if leads { "the runner-up" } else { "the most probable other token" }),
    ] {
        match &chosen[..] {
            [] => {}
            [one] => task.notes.push(format!("{role} = {what} {one}")),
            many => task.notes.push(format!("{role} = {what}, for {} prompts that name none", many.len())),
        }
    }
    Ok(())
}
