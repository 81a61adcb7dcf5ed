//! Direct and total effect of every component side by side, in logits.
//!
//! With pairs both are of one swap, clean → corrupt: direct = (c_clean − c_corrupt) · direction / σ_clean on the straight
//! path to the logits, total = LD_clean − LD with only that component taken from the corrupt run (noising, later
//! components respond). Without pairs direct is the attribution itself and total = LD − LD with the component set to its
//! mean over reference prompts.

mod rows;

use std::borrow::Cow;
use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::Deserialize;

use crate::analysis::attribution::{Readout, direct_needs, direct_writes, numbers, unbent};
use crate::analysis::patch::{Pair, Reach};
use crate::analysis::{Analysis, Findings};
use crate::component::Component;
use crate::error::Result;
use crate::lab::Lab;
use crate::lesion::{Instead, Part, Sample, Sums, random_prompts};
use crate::metric::Metric;
use crate::model::Base;
use crate::record::{Activations, at_positions};
use crate::site::{At, Positions, Site};
use crate::sweep::{Cell, sweep};
use crate::task::{Side, Task};

/// What each component does directly and in total, ranked.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Components {
    /// Prompts (token ids) whose mean takes a component's place where there is no corrupt prompt. By default random
    /// sequences over the vocabulary.
    pub reference: Option<Vec<Sample>>,
    /// How many random sequences, when no reference is given.
    pub sequences: usize,
}

impl Default for Components {
    fn default() -> Self {
        Components { reference: None, sequences: 64 }
    }
}

/// Everything measured: `[component][example]`.
struct Measured {
    direct: Vec<Vec<f64>>,
    /// The direct effect of the very swap that `total` makes.
    swapped: Vec<Vec<f64>>,
    total: Vec<Vec<f64>>,
    /// What took the components' place, for the notes.
    against: Against,
}

/// What takes a component's place.
enum Against {
    /// Its value on the corrupt prompt.
    Corrupt,
    /// Its mean over prompts: how many, whether they were given, and whether each position has its own mean.
    Mean { sequences: usize, given: bool, by_position: bool },
}

/// What stands in for a component without pairs: its mean over the reference, position by position where every reference is
/// as long as the longest prompt, so that what a position alone says is kept; else over all positions.
pub(crate) struct Means {
    /// `[1, pos, …]`, or `[1, 1, …]` over all positions.
    pub(crate) values: Activations,
    sequences: usize,
    given: bool,
    pub(crate) by_position: bool,
}

impl Means {
    /// The means of what writes to the stream over these prompts, or over random sequences.
    pub(crate) fn over(
        lab: &Lab,
        task: &Task,
        reference: Option<&[Sample]>,
        sequences: usize,
    ) -> Result<Means> {
        let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
        let prompts = match reference {
            Some(given) => given.iter().map(|sample| sample.tokens.clone()).collect(),
            None => random_prompts(lab, task.first_bos(), longest, sequences)?,
        };
        let by_position = prompts.iter().all(|prompt| prompt.len() >= longest);
        let values = Sums::over(lab, &prompts, by_position.then_some(longest), direct_writes)?.mean()?;
        Ok(Means { values, sequences: prompts.len(), given: reference.is_some(), by_position })
    }

    /// What the means are taken over, in a sentence.
    pub(crate) fn note(&self) -> String {
        let of = if self.given { "reference prompts" } else { "sequences of random tokens" };
        let how = if self.by_position { "at each position" } else { "over all positions" };
        format!("means {how} over {} {of}", self.sequences)
    }
}

impl Analysis for Components {
    const NAME: &'static str = "components";
    const ABOUT: &'static str =
        "direct and total effect of every component side by side, ranked by total effect";
    const TAKES_REFERENCE: bool = true;

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        let components = Component::all(&lab.model);
        let measured = match unbent(&lab.model) {
            Cow::Borrowed(_) => self.measure(lab, task, &components)?,
            // both effects of the same logits, so that they can be compared
            Cow::Owned(model) => {
                let unbent = Lab::new(model, lab.vocabulary.clone(), lab.about.clone()).beside(lab);
                self.measure(&unbent, task, &components)?
            }
        };
        Ok(rows::findings(lab, task, &components, &measured))
    }
}

impl Components {
    fn measure(&self, lab: &Lab, task: &Task, components: &[Component]) -> Result<Measured> {
        let (model, n) = (&lab.model, task.examples.len());
        let (means, against) = if task.is_paired() {
            (None, Against::Corrupt)
        } else {
            let means = Means::over(lab, task, self.reference.as_deref(), self.sequences)?;
            let Means { sequences, given, by_position, .. } = means;
            (Some(means.values), Against::Mean { sequences, given, by_position })
        };
        let empty = vec![vec![0.0; n]; components.len()];
        let mut all = Measured { direct: empty.clone(), swapped: empty.clone(), total: empty, against };
        let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
        let kept = |site| direct_needs(site) || Base::needs(model, site) || site == Site::Logits;
        let each = 4 * model.recorded_bytes(longest, kept);
        let batches = task.batches((lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize);
        lab.progress.begin("components", (batches.len() * components.len()) as u64);
        for batch in batches {
            lab.check()?;
            let targets = task.targets(&batch, None);
            let read = task.ends(&batch);
            let base = Base::record(model, &task.tokens(model, &batch, Side::Clean)?, direct_needs)?;
            let logits = at_positions(&base.logits, &read)?;
            let clean = numbers(&Metric::LogitDiff.score(&logits, &targets)?)?;
            let readout = Readout::new(model, &targets, &base.kept, &read)?;

            // what stands in each component's place, and what that is worth where the logits are read
            let (other, reach, other_read) = match &means {
                None => {
                    let pair = Pair::of(model, task, &batch)?;
                    let (_, kept) = model.read(&pair.corrupt, &read, direct_writes)?;
                    (kept, pair.reach, read.clone())
                }
                Some(means) => {
                    let reach = Reach::everywhere(model, base.logits.dim(1)?, &read);
                    let pooled = means.get(Site::Embed)?.dim(1)? == 1;
                    let means = repeated(means, batch.len())?;
                    (means, reach, if pooled { vec![0; batch.len()] } else { read.clone() })
                }
            };
            let direct = readout.direct(model, components, &base.kept, &read)?;
            let against = readout.direct(model, components, &other, &other_read)?;
            for (index, (direct, against)) in direct.iter().zip(&against).enumerate() {
                let swapped: Vec<f64> = direct.iter().zip(against).map(|(a, b)| a - b).collect();
                put(&mut all.direct[index], &batch, if means.is_none() { &swapped } else { direct });
                put(&mut all.swapped[index], &batch, &swapped);
            }

            let mut indices = Vec::new();
            let mut cells = Vec::new();
            for (index, &component) in components.iter().enumerate() {
                let Some(positions) = reached(component, means.is_none(), &reach) else { continue };
                let instead = Instead::Values(means.as_ref().unwrap_or(&other));
                let edit = Part::from(component).edit_inside(&base, instead, positions)?;
                indices.push(index);
                cells.push(Cell { edits: vec![edit] });
            }
            lab.progress.advance((components.len() - cells.len()) as u64);
            let score = |logits: &Tensor| {
                let copies = logits.dim(0)? / batch.len().max(1);
                Metric::LogitDiff.score(logits, &targets.repeat(copies)?)
            };
            for (&index, patched) in indices.iter().zip(sweep(lab, &base, &cells, &read, &score)?) {
                let total: Vec<f64> =
                    clean.iter().zip(patched).map(|(clean, patched)| clean - patched).collect();
                put(&mut all.total[index], &batch, &total);
            }
        }
        lab.progress.end();
        Ok(all)
    }
}

/// Where a component's change can matter; none where nothing can change.
fn reached(component: Component, paired: bool, reach: &Reach) -> Option<Positions> {
    match component {
        // the same in every run, as position embeddings are in a pair of prompts of one length
        Component::Bias(_) => None,
        Component::PosEmbed if paired => None,
        Component::Embed | Component::PosEmbed => reach.all(0, At::ResidPre),
        Component::Head(layer, _) => reach.all(layer, At::Z),
        Component::Mlp(layer) => reach.all(layer, At::MlpOut),
    }
}

/// The same means for every row of a batch.
pub(crate) fn repeated(means: &Activations, batch: usize) -> Result<Activations> {
    let mut all = BTreeMap::new();
    for (&site, mean) in &means.0 {
        let mut shape = mean.dims().to_vec();
        shape[0] = batch;
        all.insert(site, mean.broadcast_as(shape)?.contiguous()?);
    }
    Ok(Activations(all))
}

fn put(all: &mut [f64], examples: &[usize], values: &[f64]) {
    examples.iter().zip(values).for_each(|(&example, &value)| all[example] = value);
}
