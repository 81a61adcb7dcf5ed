//! Self-repair: which later components make up for one that is taken out, and by how much.
//!
//! LD = Σ_j d_j, with d_j the direct effect of component j. Take component c out, and every d_j can change. With the divisors of
//! the norms held at the whole run's values, the drop of the logit difference is
//!
//! LD − LD' = lost + Σ_later (d_j − d_j') + norms
//!
//! where lost is c's own drop and the last term what the norms' new divisors take. A later component that changes against the
//! lost effect repairs it; one that changes along with it lost its input, which is an indirect effect and no repair (Wang et al.
//! 2022; McGrath et al. 2023; Rushing & Nanda 2024).

mod rows;
mod taken;

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::analysis::attribution::{Readout, direct_needs, direct_writes, numbers, unbent};
use crate::analysis::components::{Means, repeated};
use crate::analysis::patch::{Pair, Reach};
use crate::analysis::{Analysis, Findings, put};
use crate::component::Component;
use crate::error::{Error, Result};
use crate::groups::Sets;
use crate::lab::Lab;
use crate::lesion::{Instead, Part, Sample};
use crate::metric::{Metric, Targets};
use crate::model::{Base, Transformer};
use crate::record::{Activations, at_positions, of_rows};
use crate::site::{At, Site};
use crate::sweep::{Cell, Reading, sweep};
use crate::task::{Side, Task};
use taken::Taken;

/// What later components do about one that is taken out.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Repair {
    /// What takes a component's place: its value on the corrupt prompt (`resample`), its `mean` over reference prompts, `zero`.
    /// By default `resample`, or `mean` where there are no pairs.
    pub kinds: Option<Vec<Kind>>,
    /// What is taken out, each in turn: heads, MLPs, all heads of a layer (`a9`). By default every head and MLP whose lost direct
    /// effect is a tenth of the largest or more.
    pub ablate: Vec<String>,
    /// Lists of heads and MLPs that are taken out together, by name (`{movers = ["a2.h0", "a2.h1"]}`) or as lists; their parts are
    /// taken out alone too. By default, where `ablate` is left out, the roles of several parts that the model's own
    /// description gives for the task, and all of its roles together.
    #[serde(alias = "groups")]
    pub sets: Sets,
    /// Prompts over which means are taken; by default random sequences over the vocabulary.
    pub reference: Option<Vec<Sample>>,
    /// How many random sequences, when no reference is given.
    pub sequences: usize,
}

impl Default for Repair {
    fn default() -> Self {
        Repair { kinds: None, ablate: Vec::new(), sets: Sets::default(), reference: None, sequences: 64 }
    }
}

/// What takes a component's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Its value on the pair's corrupt prompt.
    Resample,
    /// Its mean over reference prompts.
    Mean,
    /// Zeros.
    Zero,
}

impl Kind {
    /// The name in studies and tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Resample => "resample",
            Kind::Mean => "mean",
            Kind::Zero => "zero",
        }
    }
}

/// One ablation of every example.
struct Ablated {
    kind: Kind,
    taken: Taken,
    /// The logit difference.
    logit_diff: Vec<f64>,
    /// Direct effects with the divisors of the whole run: `[component][example]`.
    frozen: Vec<Vec<f64>>,
    /// The same with the run's own divisors.
    own: Vec<Vec<f64>>,
}

impl Ablated {
    /// Takes up the numbers of [`Whole::score`], row by row.
    fn put(&mut self, examples: &[usize], rows: &[f64]) {
        let count = self.frozen.len();
        for (&example, row) in examples.iter().zip(rows.chunks_exact(1 + 2 * count)) {
            let (first, rest) = row.split_at(1);
            let (frozen, own) = rest.split_at(count);
            self.logit_diff[example] = first[0];
            for (all, values) in [(&mut self.frozen, frozen), (&mut self.own, own)] {
                all.iter_mut().zip(values).for_each(|(all, &value)| all[example] = value);
            }
        }
    }
}

/// Everything measured, by example.
struct Measured {
    /// The logit difference of the whole run.
    logit_diff: Vec<f64>,
    /// Direct effects of the whole run: `[component][example]`.
    direct: Vec<Vec<f64>>,
    ablated: Vec<Ablated>,
    notes: Vec<String>,
}

impl Analysis for Repair {
    const NAME: &'static str = "repair";
    const ABOUT: &'static str = "self-repair: which later components make up for one that is taken out, told from indirect effects and the norm's scale";
    const TAKES_REFERENCE: bool = true;

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        task.fits(&lab.model)?;
        let components = Component::all(&lab.model);
        let measured = match unbent(&lab.model) {
            Cow::Borrowed(_) => self.measure(lab, task, &components)?,
            // the logits that direct effects are shares of
            Cow::Owned(model) => {
                let unbent = Lab::new(model, lab.vocabulary.clone(), lab.about.clone()).beside(lab);
                self.measure(&unbent, task, &components)?
            }
        };
        Ok(rows::findings(lab, task, &components, &measured))
    }
}

impl Repair {
    /// The kinds asked for, each once.
    fn kinds(&self, task: &Task) -> Result<Vec<Kind>> {
        let usual = if task.is_paired() { Kind::Resample } else { Kind::Mean };
        let asked = self.kinds.clone().unwrap_or_else(|| vec![usual]);
        let mut kinds: Vec<Kind> = Vec::new();
        asked.into_iter().for_each(|kind| {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        });
        if kinds.is_empty() {
            return Err(Error::usage(
                "`kinds` is empty: nothing would take a component's place",
                "write `kinds = [\"resample\", \"mean\", \"zero\"]`, or some of them",
            ));
        }
        if kinds.contains(&Kind::Resample) && !task.is_paired() {
            return Err(Error::usage(
                "there is no corrupt prompt for every prompt to take values from",
                "give `--corrupt` or a task with pairs, or choose `kinds=[\"mean\"]`",
            ));
        }
        Ok(kinds)
    }

    /// What is taken out: each component alone, then the sets.
    fn taken(
        &self,
        lab: &Lab,
        task: &Task,
        components: &[Component],
        lost: &[Vec<f64>],
    ) -> Result<Vec<Taken>> {
        let mut taken = match &self.ablate[..] {
            [] => taken::notable(components, lost),
            names => names.iter().map(|name| Taken::named(name, &lab.model)).collect::<Result<_>>()?,
        };
        let wanted = self.ablate.is_empty() || !self.sets.is_empty();
        let groups = if wanted { self.sets.groups(lab, task)? } else { Vec::new() };
        let sets: Vec<Taken> =
            groups.into_iter().map(|group| Taken::set(group, &lab.model)).collect::<Result<_>>()?;
        for &member in sets.iter().flat_map(|set| &set.components) {
            if taken.iter().all(|alone| alone.components != [member]) {
                taken.push(Taken::from(member));
            }
        }
        taken.extend(sets);
        Ok(taken)
    }

    fn measure(&self, lab: &Lab, task: &Task, components: &[Component]) -> Result<Measured> {
        let (model, n, count) = (&lab.model, task.examples.len(), components.len());
        let kinds = self.kinds(task)?;
        let means = match kinds.contains(&Kind::Mean) {
            true => Some(Means::over(lab, task, (self.reference.as_deref(), self.sequences), direct_writes)?),
            false => None,
        };
        let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
        let kept = |site| direct_needs(site) || Base::needs(model, site) || site == Site::Logits;
        let each = 6 * model.recorded_bytes(longest, kept);
        let batches = task.batches((lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize);
        let empty = || vec![vec![0.0; n]; count];

        // the whole run, and what a component's direct effect is without anything else changing
        let mut all =
            Measured { logit_diff: vec![0.0; n], direct: empty(), ablated: Vec::new(), notes: Vec::new() };
        let mut lost = empty();
        for batch in &batches {
            lab.check()?;
            let whole = Whole::of(model, task, batch, components)?;
            put(&mut all.logit_diff, batch, &whole.logit_diff);
            all.direct.iter_mut().zip(&whole.direct).for_each(|(all, values)| put(all, batch, values));
            if !self.ablate.is_empty() {
                continue;
            }
            let place = Place::of(model, task, batch, &whole, kinds[0], means.as_ref())?;
            let against = place.worth(model, components, &whole)?;
            for ((lost, direct), against) in lost.iter_mut().zip(&whole.direct).zip(&against) {
                let gap: Vec<f64> = direct.iter().zip(against).map(|(a, b)| a - b).collect();
                put(lost, batch, &gap);
            }
        }
        let taken = self.taken(lab, task, components, &lost)?;
        let each = |kind: Kind| {
            let ablated = |taken: &Taken| Ablated {
                kind,
                taken: taken.clone(),
                logit_diff: vec![0.0; n],
                frozen: empty(),
                own: empty(),
            };
            taken.iter().map(ablated).collect::<Vec<_>>()
        };
        all.ablated = kinds.iter().flat_map(|&kind| each(kind)).collect();
        all.notes.extend(means.as_ref().filter(|_| kinds.contains(&Kind::Mean)).map(Means::note));

        lab.progress.begin("self-repair", (batches.len() * all.ablated.len()) as u64);
        for batch in &batches {
            let whole = Whole::of(model, task, batch, components)?;
            for &kind in &kinds {
                let place = Place::of(model, task, batch, &whole, kind, means.as_ref())?;
                let mut ablated: Vec<&mut Ablated> =
                    all.ablated.iter_mut().filter(|ablated| ablated.kind == kind).collect();
                let (mut changed, mut cells) = (Vec::new(), Vec::new());
                for (index, ablated) in ablated.iter_mut().enumerate() {
                    let cell = place.cell(&ablated.taken, &whole)?;
                    if cell.edits.is_empty() {
                        let row = |row| whole.unchanged(row);
                        let rows: Vec<f64> = (0..batch.len()).flat_map(row).collect();
                        ablated.put(batch, &rows);
                        lab.progress.advance(1);
                    } else {
                        changed.push(index);
                        cells.push(cell);
                    }
                }
                let score = |logits: &Tensor, seen: &Activations, rows: &[usize]| {
                    whole.score(model, components, logits, seen, rows)
                };
                let reading = Reading::watching(&whole.read, &direct_needs, score).swapping(&place.reach);
                let scores = sweep(lab, &whole.base, &cells, &reading)?;
                for (index, scores) in changed.into_iter().zip(&scores) {
                    ablated[index].put(batch, scores);
                }
            }
        }
        lab.progress.end();
        Ok(all)
    }
}

/// The whole run of a batch.
struct Whole {
    base: Base,
    read: Vec<usize>,
    targets: Targets,
    logit_diff: Vec<f64>,
    readout: Readout,
    /// `[component][row]`.
    direct: Vec<Vec<f64>>,
}

impl Whole {
    fn of(model: &Transformer, task: &Task, batch: &[usize], components: &[Component]) -> Result<Whole> {
        let read = task.ends(batch);
        let targets = task.targets(batch, None);
        let base = Base::record(model, &task.tokens(model, batch, Side::Clean)?, direct_needs)?;
        let logits = base.logits(model, &read)?;
        let logit_diff = numbers(&Metric::LogitDiff.score(&logits, &targets)?)?;
        let readout = Readout::new(model, &targets, &base.kept, &read)?;
        let direct = readout.direct(model, components, &base.kept, &read)?;
        Ok(Whole { base, read, targets, logit_diff, readout, direct })
    }

    /// The numbers of [`Whole::score`] for a row in which nothing changes.
    fn unchanged(&self, row: usize) -> Vec<f64> {
        let direct = || self.direct.iter().map(|values| values[row]);
        std::iter::once(self.logit_diff[row]).chain(direct()).chain(direct()).collect()
    }

    /// Of each row of a changed run its logit difference, and every component's direct effect with this run's divisors and with
    /// its own: `[rows, 1 + 2 · components]`.
    fn score(
        &self,
        model: &Transformer,
        components: &[Component],
        logits: &Tensor,
        seen: &Activations,
        rows: &[usize],
    ) -> Result<Tensor> {
        let (targets, here) = (self.targets.rows(rows)?, vec![0; rows.len()]);
        let mut frozen = seen.clone(); // shares the tensors
        for (site, x) in frozen.0.iter_mut().filter(|(site, _)| is_divisor(**site)) {
            let all = at_positions(self.base.kept.get(*site)?, &self.read)?.unsqueeze(1)?;
            *x = of_rows(&all, rows)?;
        }
        let mut columns = vec![numbers(&Metric::LogitDiff.score(logits, &targets)?)?];
        for divisors in [&frozen, seen] {
            let readout = Readout::new(model, &targets, divisors, &here)?;
            columns.extend(readout.direct(model, components, seen, &here)?);
        }
        let width = columns.len();
        let columns = Tensor::from_vec(columns.concat(), (width, rows.len()), &Device::Cpu)?;
        Ok(columns.to_dtype(DType::F64)?.t()?.contiguous()?)
    }
}

fn is_divisor(site: Site) -> bool {
    matches!(site, Site::FinalScale | Site::Block(_, At::Ln1PostScale | At::Ln2PostScale))
}

/// What takes components' place on a batch.
struct Place {
    /// None for zeros.
    values: Option<Activations>,
    /// Where the values stand that are read at the end: of a mean over all positions there is one.
    read: Vec<usize>,
    reach: Reach,
}

impl Place {
    fn of(
        model: &Transformer,
        task: &Task,
        batch: &[usize],
        whole: &Whole,
        kind: Kind,
        means: Option<&Means>,
    ) -> Result<Place> {
        let read = whole.read.clone();
        let everywhere = || Ok::<_, Error>(Reach::everywhere(model, whole.base.dims()?.1, &read));
        match (kind, means) {
            (Kind::Resample, _) => {
                let Pair { corrupt, reach, .. } = Pair::of(model, task, batch)?;
                let (_, kept) = model.read(&corrupt, &read, direct_needs)?;
                Ok(Place { values: Some(kept), read, reach })
            }
            (Kind::Mean, Some(means)) => {
                let (values, reach) = (repeated(&means.values, batch.len())?, everywhere()?);
                let read = if means.by_position { read } else { vec![0; batch.len()] };
                Ok(Place { values: Some(values), read, reach })
            }
            _ => Ok(Place { values: None, reach: everywhere()?, read }),
        }
    }

    /// What each component would be worth in the whole run's readout: `[component][row]`.
    fn worth(&self, model: &Transformer, components: &[Component], whole: &Whole) -> Result<Vec<Vec<f64>>> {
        match &self.values {
            Some(values) => whole.readout.direct(model, components, values, &self.read),
            None => Ok(vec![vec![0.0; self.read.len()]; components.len()]),
        }
    }

    /// The edits that take these components out.
    fn cell(&self, taken: &Taken, whole: &Whole) -> Result<Cell> {
        let instead = self.values.as_ref().map_or(Instead::Zero, Instead::Values);
        let mut edits = Vec::new();
        for &component in &taken.components {
            let positions = match component {
                Component::Head(layer, _) => self.reach.all(layer, At::Z),
                Component::Mlp(layer) => self.reach.all(layer, At::MlpOut),
                _ => None,
            };
            if let Some(positions) = positions {
                edits.push(Part::from(component).edit_inside(&whole.base, instead, positions)?);
            }
        }
        Ok(Cell { edits })
    }
}
