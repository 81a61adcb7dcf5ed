//! Tasks made rather than read: each a generator over the model's vocabulary.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::{Label, Task};
use crate::error::{Error, Result};
use crate::vocabulary::{Bos, Vocabulary};

/// A generator: one file beside this one.
pub struct Generator {
    /// As written after `--task`.
    pub name: &'static str,
    /// What it asks, in one line.
    pub about: &'static str,
    /// What its examples are labelled with, for probes; the usual one first.
    pub labels: &'static [LabelKind],
    /// Makes the task.
    pub make: fn(&Request, &Vocabulary) -> Result<Task>,
}

/// A label that a generator gives every example.
pub struct LabelKind {
    /// As written in `label=`.
    pub name: &'static str,
    /// What it says, in a few words.
    pub about: &'static str,
    /// The named position where a probe looks for it unless told otherwise.
    pub at: &'static str,
}

/// Every generator, in the order of `glassbox list tasks`.
pub const GENERATORS: &[Generator] = &[
    super::ioi::GENERATOR,
    super::induction::GENERATOR,
    super::greater_than::GENERATOR,
    super::capital::GENERATOR,
    super::facts::GENERATOR,
    super::agreement::GENERATOR,
];

/// How the corrupt prompts of `ioi` differ from the clean ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Corruption {
    /// The second mention of the subject becomes the indirect object: the answer flips.
    #[default]
    Flip,
    /// It becomes a third name.
    Random,
    /// All names become three others.
    Abc,
}

impl Corruption {
    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Corruption::Flip => "flip",
            Corruption::Random => "random",
            Corruption::Abc => "abc",
        }
    }
}

impl FromStr for Corruption {
    type Err = Error;

    fn from_str(name: &str) -> Result<Corruption> {
        let all = [Corruption::Flip, Corruption::Random, Corruption::Abc];
        let found = all.into_iter().find(|corruption| corruption.name() == name);
        found.ok_or_else(|| Error::unknown("corruption", name, all.map(Corruption::name)))
    }
}

/// What is asked of a generator.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Prompt pairs.
    pub n: usize,
    /// Decides which.
    pub seed: u64,
    /// For `ioi`.
    pub corruption: Corruption,
    /// Whether prompts begin with the tokenizer's BOS.
    pub bos: Bos,
}

impl Default for Request {
    fn default() -> Self {
        Request { n: 64, seed: 0, corruption: Corruption::default(), bos: Bos::default() }
    }
}

/// The labels of one example.
pub(super) fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Makes the named task for the model that this vocabulary belongs to.
pub fn generate(name: &str, request: &Request, vocabulary: &Vocabulary) -> Result<Task> {
    let Some(generator) = GENERATORS.iter().find(|generator| generator.name == name) else {
        return Err(Error::unknown("task", name, GENERATORS.iter().map(|generator| generator.name)));
    };
    if request.n == 0 {
        return Err(Error::usage(format!("`{name}` is asked for 0 prompts"), "write `--n 64`"));
    }
    if request.corruption != Corruption::default() && name != "ioi" {
        let corruption = request.corruption.name();
        return Err(Error::usage(
            format!("`{name}` knows one way to corrupt a prompt, not `{corruption}`"),
            "`--corruption` belongs to `--task ioi`",
        ));
    }
    let mut task = (generator.make)(request, vocabulary)?;
    let label = |kind: &LabelKind| Label { name: kind.name.to_owned(), at: kind.at.to_owned() };
    task.labels = generator.labels.iter().map(label).collect();
    task.check()?;
    Ok(task)
}
