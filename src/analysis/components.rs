//! Direct and total effect of every component side by side, in logits.
//!
//! With pairs both are of one swap, clean → corrupt: direct = (c_clean − c_corrupt) · direction / σ_clean on the straight
//! path to the logits, total = LD_clean − LD with only that component taken from the corrupt run (noising, later
//! components respond). Without pairs direct is the attribution itself and total = LD − LD with the component set to its
//! mean over reference prompts.

mod rows;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::analysis::attribution::{Readout, direct_needs, direct_writes, unbent};
use crate::analysis::patch::{Pair, Reach};
use crate::analysis::{Analysis, Findings, NOTABLE, put};
use crate::component::Component;
use crate::error::Result;
use crate::groups::{Group, Sets};
use crate::lab::Lab;
use crate::lesion::{Instead, Part, Sample, Sums, random_prompts};
use crate::metric::Metric;
use crate::model::Base;
use crate::record::Activations;
use crate::site::{At, Positions, Site};
use crate::sweep::{Cell, Reading, sweep, unchanged};
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
    /// Lists of components that are also replaced together, by name (`{movers = ["a2.h0", "a2.h1"], last = ["L3"]}`) or as
    /// lists. By default the roles of several parts that the model's own description gives for the task, and all of its
    /// roles together.
    #[serde(alias = "groups")]
    pub sets: Sets,
    /// From what share of the largest total effect on a total effect is notable, if its interval excludes 0.
    pub notable: f64,
}

impl Default for Components {
    fn default() -> Self {
        Components { reference: None, sequences: 64, sets: Sets::default(), notable: NOTABLE }
    }
}

/// Everything measured: `[component][example]`.
struct Measured {
    direct: Vec<Vec<f64>>,
    /// The direct effect of the very swap that `total` makes.
    swapped: Vec<Vec<f64>>,
    total: Vec<Vec<f64>>,
    /// Loss of logit difference when a whole set is replaced, and each part that is no component: `[target][example]`.
    sets: Vec<Vec<f64>>,
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
    /// The means of what these places hold over the reference prompts, or over so many random sequences.
    pub(crate) fn over(
        lab: &Lab,
        task: &Task,
        (reference, sequences): (Option<&[Sample]>, usize),
        wanted: impl Fn(Site) -> bool,
    ) -> Result<Means> {
        let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
        let prompts = match reference {
            Some(given) => given.iter().map(|sample| sample.tokens.clone()).collect(),
            None => random_prompts(lab, task.first_bos(), longest, sequences)?,
        };
        let by_position = prompts.iter().all(|prompt| prompt.len() >= longest);
        let values = Sums::over(lab, &prompts, by_position.then_some(longest), wanted)?.mean()?;
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
        let sets = Replaced::new(self.sets.groups(lab, task)?, &components)?;
        let measured = match unbent(&lab.model) {
            Cow::Borrowed(_) => self.measure(lab, task, &components, &sets)?,
            // both effects of the same logits, so that they can be compared
            Cow::Owned(model) => {
                let unbent = Lab::new(model, lab.vocabulary.clone(), lab.about.clone()).beside(lab);
                self.measure(&unbent, task, &components, &sets)?
            }
        };
        Ok(rows::findings(self, lab, task, (&components, &sets), &measured))
    }
}

impl Components {
    fn measure(&self, lab: &Lab, task: &Task, components: &[Component], sets: &Replaced) -> Result<Measured> {
        let (model, n) = (&lab.model, task.examples.len());
        let (means, against) = if task.is_paired() {
            (None, Against::Corrupt)
        } else {
            let wanted = |site| direct_writes(site) || sets.sites.contains(&site);
            let means = Means::over(lab, task, (self.reference.as_deref(), self.sequences), wanted)?;
            let Means { sequences, given, by_position, .. } = means;
            (Some(means.values), Against::Mean { sequences, given, by_position })
        };
        let empty = vec![vec![0.0; n]; components.len()];
        let replaced = vec![vec![0.0; n]; sets.targets.len()];
        let mut all =
            Measured { direct: empty.clone(), swapped: empty.clone(), total: empty, sets: replaced, against };
        let needs = |site| direct_needs(site) || sets.sites.contains(&site);
        let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
        let kept = |site| needs(site) || Base::needs(model, site) || site == Site::Logits;
        let each = 4 * model.recorded_bytes(longest, kept);
        let batches = task.batches((lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize);
        let targets_in_all = components.len() + sets.targets.len();
        lab.progress.begin("components", (batches.len() * targets_in_all) as u64);
        for batch in batches {
            lab.check()?;
            let targets = task.targets(&batch, None);
            let read = task.ends(&batch);
            let base = Base::record(model, &task.tokens(model, &batch, Side::Clean)?, needs)?;
            let clean = unchanged(lab, &base, &Reading::metric(&read, Metric::LogitDiff, &targets))?;
            let readout = Readout::new(model, &targets, &base.kept, &read)?;

            // what stands in each component's place, and what that is worth where the logits are read
            let (other, reach, other_read) = match &means {
                None => {
                    let pair = Pair::of(model, task, &batch)?;
                    let wanted = |site| direct_writes(site) || sets.sites.contains(&site);
                    let (_, kept) = model.read(&pair.corrupt, &read, wanted)?;
                    (kept, pair.reach, read.clone())
                }
                Some(means) => {
                    let reach = Reach::everywhere(model, base.dims()?.1, &read);
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
            let singles = components.iter().map(|&component| vec![Part::from(component)]);
            for (index, parts) in singles.chain(sets.targets.iter().cloned()).enumerate() {
                let mut edits = Vec::new();
                for part in parts {
                    let Some(positions) = reached(part, means.is_none(), &reach) else { continue };
                    let instead = Instead::Values(means.as_ref().unwrap_or(&other));
                    edits.push(part.edit_inside(&base, instead, positions)?);
                }
                if !edits.is_empty() {
                    indices.push(index);
                    cells.push(Cell { edits });
                }
            }
            lab.progress.advance((targets_in_all - cells.len()) as u64);
            let reading = Reading::metric(&read, Metric::LogitDiff, &targets).swapping(&reach);
            for (&index, patched) in indices.iter().zip(sweep(lab, &base, &cells, &reading)?) {
                let total: Vec<f64> =
                    clean.iter().zip(patched).map(|(clean, patched)| clean - patched).collect();
                match index.checked_sub(components.len()) {
                    None => put(&mut all.total[index], &batch, &total),
                    Some(target) => put(&mut all.sets[target], &batch, &total),
                }
            }
        }
        lab.progress.end();
        Ok(all)
    }
}

/// Where a part's change can matter; none where nothing can change.
fn reached(part: Part, paired: bool, reach: &Reach) -> Option<Positions> {
    match part {
        // the same in every run, as position embeddings are in a pair of prompts of one length
        Part::Writer(Component::Bias(_)) => None,
        Part::Writer(Component::PosEmbed) if paired => None,
        Part::Writer(Component::Embed | Component::PosEmbed) => reach.all(0, At::ResidPre),
        Part::Writer(Component::Head(layer, _)) => reach.all(layer, At::Z),
        Part::Writer(Component::Mlp(layer)) => reach.all(layer, At::MlpOut),
        Part::Attention(layer) => reach.all(layer, At::AttnOut),
        Part::Neuron(layer, _) => reach.all(layer, At::MlpPost),
    }
}

/// What is replaced together, beside the components one by one.
struct Replaced {
    sets: Vec<Group>,
    /// The sets, then those of their parts that are no components and are measured for the sum.
    targets: Vec<Vec<Part>>,
    /// What these parts need beyond what components do.
    sites: BTreeSet<Site>,
}

impl Replaced {
    fn new(sets: Vec<Group>, components: &[Component]) -> Result<Replaced> {
        let members: BTreeSet<Part> = sets.iter().flat_map(|set| set.parts.iter().copied()).collect();
        let sites = members.iter().map(|part| Ok(part.slice()?.site)).collect::<Result<_>>()?;
        let others = members.into_iter().filter(|part| !components.iter().any(|c| *part == Part::from(*c)));
        let targets = sets.iter().map(|set| set.parts.clone()).chain(others.map(|part| vec![part])).collect();
        Ok(Replaced { sets, targets, sites })
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
