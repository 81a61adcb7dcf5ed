//! Questions put to a model: prompt pairs, their answers, and the positions that have names.

mod agreement;
mod batch;
mod capital;
mod facts;
mod gains;
mod generate;
mod greater_than;
mod induction;
mod ioi;
mod jsonl;
pub mod language;
mod prompt;
mod reader;
mod span;
mod writer;

use std::collections::BTreeMap;

pub use batch::Side;
use candle_core::Tensor;
pub use gains::read_gains;
pub use jsonl::read as read_jsonl;
pub use prompt::{Prompt, complete};
pub use reader::{read_prompt, read_prompt_aloud};

pub use generate::{Corruption, GENERATORS, Generator, LabelKind, Request, generate};

use crate::error::{Error, Result};
use crate::metric::{Gains, Targets};

/// One prompt pair, as token ids (BOS included where one is used).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Example {
    /// Stable name within the task.
    pub id: String,
    /// The prompt that shows the behaviour.
    pub clean: Vec<u32>,
    /// A matched prompt of the same length that does not.
    pub corrupt: Option<Vec<u32>>,
    /// Right next tokens of the clean prompt.
    pub answers: Vec<u32>,
    /// Wrong next tokens it is compared with.
    pub wrong: Vec<u32>,
    /// Named positions, counted with BOS. `end`, where the answer is due, is always there.
    pub pos: BTreeMap<String, usize>,
    /// Template: positions align only within one group.
    pub group: String,
    /// What a probe may be asked to read, by the label's name: `city` → `Rome`.
    pub labels: BTreeMap<String, String>,
    /// What it is about, if that is known: examples of one subject are near duplicates.
    pub subject: Option<String>,
}

impl Example {
    /// Where the answer is due: the metric is read from the logits at this position.
    pub fn end(&self) -> usize {
        self.pos.get("end").copied().unwrap_or(self.clean.len().saturating_sub(1))
    }
}

/// A list of examples with one question in common.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Task {
    /// `ioi`, a file's stem, or `prompt`.
    pub name: String,
    /// The examples.
    pub examples: Vec<Example>,
    /// Whether every prompt begins with the tokenizer's BOS.
    pub bos: bool,
    /// What a reader must know: warnings met while reading the prompts.
    pub notes: Vec<String>,
    /// What choices gain and cost, for `expected-gain`.
    pub gains: Option<Gains>,
    /// The labels that examples carry, the usual one first.
    pub labels: Vec<Label>,
}

/// Something true of examples that a probe may be asked to read.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// Its name: `city`.
    pub name: String,
    /// The named position where it is first asked for.
    pub at: String,
}

/// A column of a layer × position table: one position in every example, known by the same name or place.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The named position, or the number of the position.
    pub label: String,
    /// The position in each example.
    pub positions: Vec<usize>,
}

impl Task {
    /// Checks what every analysis relies on: prompts are there, pairs are of one length, positions lie inside.
    pub fn check(&self) -> Result<()> {
        if self.examples.is_empty() {
            return Err(Error::usage(
                "there are no prompts",
                "give `--prompt`, `--prompts FILE.jsonl` or `--task`",
            ));
        }
        for example in &self.examples {
            let (id, length) = (&example.id, example.clean.len());
            if length == 0 {
                return Err(Error::input(
                    format!("the prompt of `{id}` is empty"),
                    "give at least one token",
                ));
            }
            if let Some(corrupt) = example.corrupt.as_ref().filter(|corrupt| corrupt.len() != length) {
                return Err(Error::input(
                    format!(
                        "`{id}`: the clean prompt has {length} tokens and the corrupt one {}",
                        corrupt.len()
                    ),
                    "patching copies activations position by position: make both the same number of tokens",
                ));
            }
            let twice = |ids: &[u32]| {
                ids.iter().enumerate().find(|(i, id)| ids[..*i].contains(id)).map(|(_, id)| *id)
            };
            if let Some(token) = twice(&example.answers).or_else(|| twice(&example.wrong)) {
                return Err(Error::input(
                    format!("`{id}` names the answer token {token} twice"),
                    "name each answer once: it would be counted twice",
                ));
            }
            if let Some((name, pos)) = example.pos.iter().find(|(_, pos)| **pos >= length) {
                return Err(Error::input(
                    format!("`{id}`: position `{name}` is {pos}, but the prompt has {length} tokens"),
                    "positions count from 0",
                ));
            }
        }
        Ok(())
    }

    /// Whether every example has a corrupt prompt.
    pub fn is_paired(&self) -> bool {
        !self.examples.is_empty() && self.examples.iter().all(|example| example.corrupt.is_some())
    }

    /// For each example the first that has the same clean prompt: the units that intervals are taken over.
    pub fn units(&self) -> Vec<usize> {
        let mut first: BTreeMap<&[u32], usize> = BTreeMap::new();
        self.examples.iter().enumerate().map(|(i, e)| *first.entry(&e.clean).or_insert(i)).collect()
    }

    /// Examples that can share a batch: lists of indices of equal prompt length, at most `most` each, in order.
    pub fn batches(&self, most: usize) -> Vec<Vec<usize>> {
        let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, example) in self.examples.iter().enumerate() {
            by_length.entry(example.clean.len()).or_default().push(i);
        }
        let chunks = by_length.values().flat_map(|list| list.chunks(most.max(1)).map(<[usize]>::to_vec));
        chunks.collect()
    }

    /// What a batch of these examples is measured against. `clean_log_probs` `[batch, d_vocab]`, of the same examples
    /// at their end, is needed only for KL.
    pub fn targets(&self, indices: &[usize], clean_log_probs: Option<Tensor>) -> Targets {
        let of = |ids: fn(&Example) -> &Vec<u32>| {
            indices.iter().filter_map(|&i| self.examples.get(i)).map(|example| ids(example).clone()).collect()
        };
        Targets {
            answers: of(|example| &example.answers),
            wrong: of(|example| &example.wrong),
            clean_log_probs,
            gains: self.gains.clone(),
        }
    }

    /// The columns over which examples may be averaged: every position when all examples are of one group and length,
    /// else the named positions that all of them have, in the order of their mean position. Positions that do not
    /// correspond are never averaged.
    pub fn places(&self) -> Vec<Place> {
        let Some(first) = self.examples.first() else { return Vec::new() };
        let same = |e: &Example| e.group == first.group && e.clean.len() == first.clean.len();
        if self.examples.iter().all(same) {
            let every = |pos| Place { label: format!("{pos}"), positions: vec![pos; self.examples.len()] };
            return (0..first.clean.len()).map(every).collect();
        }
        let mut places: Vec<Place> = Vec::new();
        for name in first.pos.keys() {
            let positions: Option<Vec<usize>> =
                self.examples.iter().map(|example| example.pos.get(name).copied()).collect();
            if let Some(positions) = positions {
                places.push(Place { label: name.clone(), positions });
            }
        }
        places.sort_by_key(|place| (place.positions.iter().sum::<usize>(), place.label.clone()));
        places
    }
}
