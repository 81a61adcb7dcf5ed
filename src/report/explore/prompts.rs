//! The prompts that a page carries, each token by its place in one list of words.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::report::story::Run;
use crate::show;
use crate::task::{Example, Task};

/// Prompts that a page carries at most.
const PROMPTS: usize = 256;
/// Tokens in them, both sides together.
const TOKENS: usize = 60_000;

/// How many of a task's prompts a page carries: the first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shown(pub(super) usize);

impl Shown {
    pub(super) fn of(task: &Task) -> Shown {
        let mut tokens = 0;
        let fits = |example: &&Example| {
            tokens += example.clean.len() + example.corrupt.as_ref().map_or(0, Vec::len);
            tokens <= TOKENS
        };
        Shown(task.examples.iter().take(PROMPTS).take_while(fits).count())
    }

    /// They themselves.
    pub(super) fn examples(self, task: &Task) -> impl Iterator<Item = &Example> {
        task.examples.iter().take(self.0)
    }

    /// The prompts with the words they are made of.
    pub(super) fn value(self, run: &Run) -> Value {
        let mut words = Vec::new();
        let mut known = BTreeMap::new();
        let mut spell = |ids: &[u32]| -> Vec<usize> {
            let place = |&id: &u32| {
                *known.entry(id).or_insert_with(|| {
                    words.push(show::visible(&run.lab.vocabulary.token(id)));
                    words.len() - 1
                })
            };
            ids.iter().map(place).collect()
        };
        let mut all = Vec::new();
        for example in self.examples(run.task) {
            let pos: BTreeMap<String, usize> =
                example.pos.iter().map(|(name, pos)| (show::visible(name), *pos)).collect();
            let mut one = json!({
                "id": show::visible(&example.id),
                "clean": spell(&example.clean),
                "pos": pos,
                "end": example.end(),
                "answers": spell(&example.answers),
                "wrong": spell(&example.wrong),
            });
            if let Some(corrupt) = &example.corrupt {
                one["corrupt"] = spell(corrupt).into();
            }
            all.push(one);
        }
        json!({ "words": words, "all": all })
    }
}
