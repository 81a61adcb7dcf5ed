//! Where replacements come from: which prompts, and which of them are aligned with a prompt, so that position p of one is
//! position p of the other.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Ablate, Kind};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::lesion::{Sample, Sums, random_prompts};
use crate::record::Activations;
use crate::site::Site;
use crate::task::Task;

/// Where means and other prompts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// The reference given; else the first of the others that there is for every prompt.
    #[default]
    Auto,
    /// The task's other clean prompts.
    Task,
    /// The task's corrupt prompts; resampling takes a prompt's own corrupt partner.
    Corrupt,
    /// Random tokens.
    Random,
}

/// The prompts that replacements come from.
pub(super) struct Reference {
    source: Source,
    /// In the order of the task's examples where the source is the task or its corrupt prompts.
    samples: Vec<Sample>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    /// Prompts of a file; `grouped` when their groups are those of the task.
    Given {
        grouped: bool,
    },
    Task,
    Corrupt,
    Random,
}

impl Reference {
    pub(super) fn choose(ablate: &Ablate, lab: &Lab, task: &Task, kinds: &[Kind]) -> Result<Reference> {
        let aligned = kinds.iter().any(|kind| kind.is_aligned());
        let own = |source| Reference { source, samples: own(task, source) };
        let chosen = match (&ablate.reference, ablate.over) {
            (Some(_), over) if over != Over::Auto => {
                let message = "`over` and a reference of one's own exclude each other";
                return Err(Error::usage(message, "leave `over` or `--reference` out"));
            }
            (Some(given), _) => {
                let known: Vec<&str> = task.examples.iter().map(|example| example.group.as_str()).collect();
                let grouped = given.iter().any(|sample| known.contains(&sample.group.as_str()));
                Reference { source: Source::Given { grouped }, samples: given.clone() }
            }
            (None, Over::Task) => own(Source::Task),
            (None, Over::Corrupt) if !task.is_paired() => {
                return Err(Error::usage(
                    "there is no corrupt prompt for every prompt to take values from",
                    "give `--corrupt` or a task with pairs, or choose `over=task` or `over=random`",
                ));
            }
            (None, Over::Corrupt) => own(Source::Corrupt),
            (None, Over::Random) => Reference::random(ablate, lab, task)?,
            (None, Over::Auto) if own(Source::Task).serves(task, aligned) => own(Source::Task),
            (None, Over::Auto) if task.is_paired() => own(Source::Corrupt),
            (None, Over::Auto) => Reference::random(ablate, lab, task)?,
        };
        let needed = kinds.iter().any(|&kind| kind != Kind::Zero);
        if needed && !chosen.serves(task, aligned) {
            return Err(chosen.unserved(task));
        }
        Ok(chosen)
    }

    fn random(ablate: &Ablate, lab: &Lab, task: &Task) -> Result<Reference> {
        let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
        let prompts = random_prompts(lab, task.first_bos(), longest, ablate.sequences)?;
        Ok(Reference { source: Source::Random, samples: prompts.into_iter().map(Sample::from).collect() })
    }

    /// Whether there is something to take the place of every prompt's activations.
    fn serves(&self, task: &Task, aligned: bool) -> bool {
        if !aligned {
            return self.samples.len() > usize::from(self.source == Source::Task);
        }
        (0..task.examples.len()).all(|i| !self.others(task, i).is_empty())
    }

    fn unserved(&self, task: &Task) -> Error {
        let missing = (0..task.examples.len()).find(|&i| self.others(task, i).is_empty());
        let Some(example) = missing.and_then(|i| task.examples.get(i)) else {
            return Error::input("the reference has no prompts", "give at least one");
        };
        let (id, length, group) = (&example.id, example.clean.len(), &example.group);
        let like = match self.source {
            Source::Given { grouped: false } | Source::Random => format!("at least {length} tokens"),
            _ => format!("{length} tokens and the template {group:?}"),
        };
        Error::input(
            format!("no other prompt of the reference is aligned with `{id}`: it would need {like}"),
            "give more such prompts, choose `over=random`, or `kinds=[\"zero\", \"mean\"]`, which need no alignment",
        )
    }

    /// The reference prompts aligned with example i: of its template and length, or, where templates are not known, as long
    /// as it is at least, from the first token.
    fn aligned(&self, task: &Task, i: usize) -> Vec<usize> {
        let Some(example) = task.examples.get(i) else { return Vec::new() };
        let length = example.clean.len();
        let fits = |sample: &Sample| match self.source {
            Source::Given { grouped: false } | Source::Random => sample.tokens.len() >= length,
            _ => sample.tokens.len() == length && sample.group == example.group,
        };
        (0..self.samples.len()).filter(|&s| fits(&self.samples[s])).collect()
    }

    /// The aligned prompts that can be drawn for example i: other than its own.
    fn others(&self, task: &Task, i: usize) -> Vec<usize> {
        match (self.source, task.examples.get(i)) {
            (Source::Corrupt, _) => vec![i],
            (_, Some(example)) => {
                let length = example.clean.len();
                let differs =
                    |&s: &usize| self.samples[s].tokens.get(..length) != Some(example.clean.as_slice());
                self.aligned(task, i).into_iter().filter(differs).collect()
            }
            (_, None) => Vec::new(),
        }
    }

    /// Sums over all positions of all prompts.
    pub(super) fn pooled(&self, lab: &Lab, wanted: impl Fn(Site) -> bool) -> Result<Sums> {
        Sums::over(lab, &self.samples, None, wanted)
    }

    /// Sums at each position of the prompts aligned with the examples of one class.
    pub(super) fn by_position(
        &self,
        lab: &Lab,
        task: &Task,
        class: &[usize],
        wanted: impl Fn(Site) -> bool,
    ) -> Result<Sums> {
        let first = class.first().copied().unwrap_or(0);
        let length = task.examples.get(first).map_or(0, |example| example.clean.len());
        let prompts: Vec<&Sample> = self.aligned(task, first).into_iter().map(|s| &self.samples[s]).collect();
        Sums::over(lab, &prompts, Some(length), wanted)
    }

    /// What stands for these examples' activations by these sums: of the task itself, the mean over the other prompts, copies of
    /// the example's own left out with it.
    pub(super) fn mean(
        &self,
        sums: &Sums,
        task: &Task,
        examples: &[usize],
        own: &Activations,
    ) -> Result<Activations> {
        if self.source != Source::Task {
            return sums.mean();
        }
        let same = |i: usize, sample: &Sample| {
            task.examples.get(i).is_some_and(|e| sample.tokens == e.clean && sample.group == e.group)
        };
        let copies = |&i: &usize| self.samples.iter().filter(|&sample| same(i, sample)).count();
        sums.without(own, &examples.iter().map(copies).collect::<Vec<_>>())
    }

    /// How many draws `wanted` make: a corrupt partner is only one.
    pub(super) fn draws(&self, wanted: usize) -> usize {
        if self.source == Source::Corrupt { 1 } else { wanted }
    }

    /// The prompts drawn for these examples in one draw of several, cut to their length. An example's draws differ while there
    /// are enough prompts, and depend on the seed and the task alone.
    pub(super) fn drawn<'a>(
        &'a self,
        task: &Task,
        seed: u64,
        examples: &[usize],
        draw: usize,
        draws: usize,
    ) -> Result<Vec<&'a [u32]>> {
        let one = |&i: &usize| {
            let mut others = self.others(task, i);
            let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xAB1A_7E00 ^ ((i as u64) << 32));
            let (drawn, _) = others.partial_shuffle(&mut rng, draws);
            let length = task.examples.get(i).map_or(0, |example| example.clean.len());
            let sample = drawn.get(draw % drawn.len().max(1)).and_then(|&s| self.samples.get(s));
            sample.and_then(|sample| sample.tokens.get(..length)).ok_or_else(|| self.unserved(task))
        };
        examples.iter().map(one).collect()
    }

    /// One word for tables.
    pub(super) fn name(&self) -> &'static str {
        match self.source {
            Source::Given { .. } => "given",
            Source::Task => "task",
            Source::Corrupt => "corrupt",
            Source::Random => "random",
        }
    }

    /// A sentence for each kind that takes values from prompts.
    pub(super) fn notes(&self, task: &Task, kinds: &[Kind], draws: usize) -> Vec<String> {
        let count = self.samples.len();
        let who = match self.source {
            Source::Given { .. } => format!("the {count} reference prompts"),
            Source::Task => format!("the other clean prompts of the task ({count} in all)"),
            Source::Corrupt => format!("the {count} corrupt prompts"),
            Source::Random => format!("{count} sequences of random tokens"),
        };
        let how = match self.source {
            Source::Given { grouped: false } | Source::Random => {
                "compared position by position from the first token".to_owned()
            }
            _ => {
                let others = |i| match self.source {
                    Source::Task => self.others(task, i).len(),
                    _ => self.aligned(task, i).len(),
                };
                let others = (0..task.examples.len()).map(others).min().unwrap_or(0);
                format!("of the prompt's own template and length (at least {others} for each prompt)")
            }
        };
        let sentence = |kind: &Kind| match kind {
            Kind::Zero => {
                "zero: the part writes zeros, where the model has never been: effects are often far too large"
                    .to_owned()
            }
            Kind::Mean => format!("mean: the part's mean over all positions of {who}"),
            Kind::MeanByPosition => format!(
                "mean-by-position: the part's mean at each position over {who}, {how}; what all of these share at a position \
                 is not taken away"
            ),
            Kind::Resample if self.source == Source::Corrupt => {
                "resample: the part's value on the prompt's own corrupt partner, which `patch` calls noising"
                    .to_owned()
            }
            Kind::Resample => format!(
                "resample: the part's value on another prompt, drawn from {who}, {how}; metrics are averaged over {draws} \
                 draws, which are of fewer prompts where there are fewer"
            ),
        };
        kinds.iter().map(sentence).collect()
    }
}

fn own(task: &Task, source: Source) -> Vec<Sample> {
    let sample = |example: &crate::task::Example| {
        let tokens = if source == Source::Corrupt { example.corrupt.clone()? } else { example.clean.clone() };
        Some(Sample { tokens, group: example.group.clone() })
    };
    task.examples.iter().filter_map(sample).collect()
}

/// The examples by template and length: within a class positions correspond.
pub(super) fn classes(task: &Task) -> Vec<Vec<usize>> {
    let mut classes: BTreeMap<(&str, usize), Vec<usize>> = BTreeMap::new();
    for (i, example) in task.examples.iter().enumerate() {
        classes.entry((&example.group, example.clean.len())).or_default().push(i);
    }
    classes.into_values().collect()
}
