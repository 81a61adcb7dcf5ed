//! Direct and total effect of every component side by side, in logits.
//!
//! With pairs both are of one swap, clean → corrupt: direct = (c_clean − c_corrupt) · direction / σ_clean on the straight
//! path to the logits, total = LD_clean − LD with only that component taken from the corrupt run (noising, later
//! components respond). Without pairs direct is the attribution itself and total = LD − LD with the component set to its
//! mean over reference prompts.

mod means;
mod rows;

use candle_core::Tensor;
use serde::Deserialize;

use crate::analysis::attribution::{Readout, direct_needs, numbers};
use crate::analysis::patch::{Pair, Reach};
use crate::analysis::{Analysis, Findings};
use crate::component::Component;
use crate::edit::{Edit, Op};
use crate::error::Result;
use crate::lab::Lab;
use crate::metric::Metric;
use crate::model::Base;
use crate::record::{Activations, at_positions};
use crate::site::{At, Site, Slice};
use crate::sweep::{Cell, sweep};
use crate::task::{Side, Task};

/// What each component does directly and in total, ranked.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Components {
    /// Prompts (token ids) whose mean takes a component's place where there is no corrupt prompt. By default random
    /// sequences over the vocabulary.
    pub reference: Option<Vec<Vec<u32>>>,
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

impl Analysis for Components {
    const NAME: &'static str = "components";
    const ABOUT: &'static str =
        "direct and total effect of every component side by side, ranked by total effect";
    const TAKES_REFERENCE: bool = true;

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        let components = Component::all(&lab.model);
        let measured = self.measure(lab, task, &components)?;
        Ok(rows::findings(lab, task, &components, &measured))
    }
}

impl Components {
    fn measure(&self, lab: &Lab, task: &Task, components: &[Component]) -> Result<Measured> {
        let (model, n) = (&lab.model, task.examples.len());
        let (means, against) = if task.is_paired() {
            (None, Against::Corrupt)
        } else {
            let sequences = means::sequences(lab, task, self.reference.as_deref(), self.sequences)?;
            let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
            let (count, given) = (sequences.len(), self.reference.is_some());
            let by_position = means::by_position(&sequences, longest);
            let means = means::over(lab, &sequences, longest)?;
            (Some(means), Against::Mean { sequences: count, given, by_position })
        };
        let empty = vec![vec![0.0; n]; components.len()];
        let mut all = Measured { direct: empty.clone(), swapped: empty.clone(), total: empty, against };
        let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
        let kept = |site| needs(site) || Base::needs(model, site) || site == Site::Logits;
        let each = 4 * model.recorded_bytes(longest, kept);
        let batches = task.batches((lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize);
        lab.progress.begin("components", (batches.len() * components.len()) as u64);
        for batch in batches {
            lab.check()?;
            let targets = task.targets(&batch, None);
            let read = task.ends(&batch);
            let base = Base::record(model, &task.tokens(model, &batch, Side::Clean)?, needs)?;
            let logits = at_positions(&base.logits, &read)?;
            let clean = numbers(&Metric::LogitDiff.score(&logits, &targets)?)?;
            let scale = at_positions(base.kept.get(Site::FinalScale)?, &read)?;
            let readout = Readout::new(model, &targets, &scale)?;

            // what stands in each component's place, whole, and what that is worth where the logits are read
            let (other, reach, other_read) = match &means {
                None => {
                    let pair = Pair::of(model, task, &batch)?;
                    let (_, kept) =
                        model.read(&pair.corrupt, &read, |site| needs(site) && site != Site::FinalScale)?;
                    (Other::Run(kept), pair.reach, read.clone())
                }
                Some(means) => {
                    let reach = Reach::everywhere(model, base.logits.dim(1)?, &read);
                    let means = means::repeat(means, batch.len(), base.logits.dim(1)?)?;
                    let pooled = means.get(Site::Embed)?.dim(1)? == 1;
                    (Other::Means(means), reach, if pooled { vec![0; batch.len()] } else { read.clone() })
                }
            };
            let direct = readout.direct(model, components, &base.kept, &read)?;
            let against = readout.direct(model, components, other.kept(), &other_read)?;
            for (index, (direct, against)) in direct.iter().zip(&against).enumerate() {
                let swapped: Vec<f64> = direct.iter().zip(against).map(|(a, b)| a - b).collect();
                put(&mut all.direct[index], &batch, if means.is_none() { &swapped } else { direct });
                put(&mut all.swapped[index], &batch, &swapped);
            }

            let mut indices = Vec::new();
            let mut cells = Vec::new();
            for (index, &component) in components.iter().enumerate() {
                if let Some(edit) = other.edit(component, &base.kept, &reach)? {
                    indices.push(index);
                    cells.push(Cell { edits: vec![edit] });
                }
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

/// Where the values come from that take the components' places.
enum Other {
    /// Another run on the same batch: `[batch, pos, …]`.
    Run(Activations),
    /// Means `[batch, pos, …]`, or `[batch, 1, …]` for every position.
    Means(Activations),
}

impl Other {
    fn kept(&self) -> &Activations {
        match self {
            Other::Run(kept) | Other::Means(kept) => kept,
        }
    }

    /// The edit that swaps one component at all positions where it can matter; none where nothing can change. The
    /// embeddings are swapped in the stream that enters layer 0, which is their sum.
    fn edit(&self, component: Component, own: &Activations, reach: &Reach) -> Result<Option<Edit>> {
        let (layer, at, head) = match component {
            Component::Head(layer, head) => (layer, At::Z, Some(head)),
            Component::Mlp(layer) => (layer, At::MlpOut, None),
            Component::Embed | Component::PosEmbed => (0, At::ResidPre, None),
            Component::Bias(_) => return Ok(None), // the same in every run
        };
        let Some(positions) = reach.all(layer, at) else { return Ok(None) };
        let slice = Slice { head, ..Slice::whole(Site::Block(layer, at)) }.pos(positions);
        let site = match component {
            Component::Embed => Site::Embed,
            Component::PosEmbed => Site::PosEmbed,
            _ => slice.site,
        };
        let (mine, theirs) = (own.get(site)?, self.kept().get(site)?);
        let whole = match component {
            // position embeddings of equal prompts are equal: in a pair, nothing is swapped
            Component::PosEmbed if matches!(self, Other::Run(_)) => return Ok(None),
            Component::Embed | Component::PosEmbed => {
                let stream = own.block(0, At::ResidPre)?;
                (stream - mine)?.broadcast_add(theirs)?
            }
            _ => theirs.broadcast_as(mine.shape())?.contiguous()?,
        };
        let values = slice.take(&whole)?;
        Ok(Some(Edit { at: slice, op: Op::Set(values) }))
    }
}

/// The sites read: what components write, the stream that enters layer 0, the final divisor.
fn needs(site: Site) -> bool {
    direct_needs(site) || site == Site::Block(0, At::ResidPre)
}

fn put(all: &mut [f64], examples: &[usize], values: &[f64]) {
    examples.iter().zip(values).for_each(|(&example, &value)| all[example] = value);
}
