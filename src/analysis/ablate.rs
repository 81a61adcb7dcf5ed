//! Ablation: what the model still does when a part of it is taken out, on the clean prompts.
//!
//! Four things can stand in a part's place, and they answer different questions: zeros (a place the model has never been,
//! so that effects are often far too large), the part's mean over reference prompts, its mean at each position, and its
//! value on another prompt (Chan et al. 2022; Zhang & Nanda 2024). Everything after the part is recomputed, norms included. The
//! change of every metric is reported, because one number hides what another shows (Heimersheim & Nanda 2024).

mod measure;
pub(crate) mod neurons;
mod plan;
mod reference;
mod rows;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

pub use plan::By;
pub use reference::Over;

use crate::analysis::patch::Reach;
use crate::analysis::{Analysis, Findings, NOTABLE};
use crate::edit::Edit;
use crate::error::{Error, Result};
use crate::groups::Sets;
use crate::lab::Lab;
use crate::lesion::{Instead, Sample};
use crate::metric::Metric;
use crate::model::Base;
use crate::ops;
use crate::site::{At, Site};
use crate::sweep::{Cell, Reading, sweep};
use crate::task::{Place, Side, Task};
use measure::Measures;
use plan::{Lesion, Plan};
use reference::Reference;
use rows::Results;

/// What each part is needed for: the change of every metric when it is taken out, by four kinds of ablation.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ablate {
    /// What takes a part's place: `zero`, `mean`, `mean-by-position`, `resample`.
    pub kinds: Vec<Kind>,
    /// What is taken out: each `head`, each layer's attention and MLP (`layer`), these at one position (`position`), the
    /// `neuron`s that matter most, the `set`s.
    pub by: Vec<By>,
    /// Lists of parts that are taken out together, by name (`{movers = ["a2.h0", "a2.h1"], last = ["L3"]}`) or as lists. By
    /// default the roles of several parts that the model's own description gives for the task, and all of its roles together.
    #[serde(alias = "groups")]
    pub sets: Sets,
    /// Where means and other prompts come from when no reference is given: the `task`'s other prompts, the `corrupt` ones,
    /// `random` tokens; `auto` takes the first of these that there is for every prompt.
    pub over: Over,
    /// Reference prompts.
    pub reference: Option<Vec<Sample>>,
    /// How many random sequences, where random ones are used.
    pub sequences: usize,
    /// How many other prompts `resample` draws for each prompt; the metrics are averaged over them.
    pub draws: usize,
    /// How many neurons are taken out, each alone: those with the largest attribution.
    pub neurons: usize,
    /// From what share of the largest change of the same kind and metric on a change is notable, if its interval excludes 0.
    pub notable: f64,
    /// The metric by which parts are ordered, and whose change is listed first.
    pub metric: Metric,
}

impl Default for Ablate {
    fn default() -> Self {
        Ablate {
            kinds: Kind::ALL.to_vec(),
            by: By::ALL.to_vec(),
            sets: Sets::default(),
            over: Over::Auto,
            reference: None,
            sequences: 64,
            draws: 4,
            neurons: 10,
            notable: NOTABLE,
            metric: Metric::LogitDiff,
        }
    }
}

/// What takes a part's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Zeros.
    Zero,
    /// Its mean over all positions of the reference prompts.
    Mean,
    /// Its mean over the reference prompts at each position, of prompts that are aligned.
    MeanByPosition,
    /// Its value on another prompt that is aligned, at the same position.
    Resample,
}

impl Kind {
    /// Every kind, in the order of the tables.
    pub const ALL: [Kind; 4] = [Kind::Zero, Kind::Mean, Kind::MeanByPosition, Kind::Resample];

    /// The name in studies and tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Zero => "zero",
            Kind::Mean => "mean",
            Kind::MeanByPosition => "mean-by-position",
            Kind::Resample => "resample",
        }
    }

    /// Whether it takes values position by position, so that reference prompts must be aligned with the prompt.
    fn is_aligned(self) -> bool {
        matches!(self, Kind::MeanByPosition | Kind::Resample)
    }
}

/// Everything measured, by example.
struct Measured {
    /// `[measure][example]`.
    whole: Vec<Vec<f64>>,
    /// `[kind][lesion][measure][example]`.
    lesioned: Vec<Vec<Vec<Vec<f64>>>>,
}

impl Analysis for Ablate {
    const NAME: &'static str = "ablate";
    const ABOUT: &'static str = "what the model still does without a head, layer, position, neuron or set: zero, mean and resample ablation";
    const TAKES_METRIC: bool = true;
    const TAKES_REFERENCE: bool = true;

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        task.fits(&lab.model)?;
        let kinds = self.kinds()?;
        let measures = Measures::of(self.metric, task)?;
        let reference = Reference::choose(self, lab, task, &kinds)?;
        let places = task.places();
        let neurons = if self.by.contains(&By::Neuron) {
            neurons::top(lab, task, measures.sloped(self.metric), self.neurons, None)?
        } else {
            Vec::new()
        };
        let plan = Plan::new(self, lab, task, places.len(), neurons)?;
        let setting = Setting {
            kinds: &kinds,
            reference: &reference,
            places: &places,
            plan: &plan,
            measures: &measures,
        };
        let measured = self.measure(lab, task, &setting)?;
        Ok(Results { ablate: self, lab, task, setting: &setting, measured: &measured }.findings())
    }
}

/// What a run is made of.
struct Setting<'a> {
    kinds: &'a [Kind],
    reference: &'a Reference,
    places: &'a [Place],
    plan: &'a Plan,
    measures: &'a Measures,
}

impl Ablate {
    /// The kinds asked for, each once, in the order of the tables.
    fn kinds(&self) -> Result<Vec<Kind>> {
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| self.kinds.contains(kind)).collect();
        if kinds.is_empty() {
            return Err(Error::usage(
                "`kinds` is empty: nothing would take a part's place",
                "write `kinds = [\"zero\", \"mean\", \"mean-by-position\", \"resample\"]`, or some of them",
            ));
        }
        if kinds.contains(&Kind::Resample) && self.draws == 0 {
            return Err(Error::usage("`draws` is 0: resampling would draw no prompt", "write 1 or more"));
        }
        Ok(kinds)
    }

    fn measure(&self, lab: &Lab, task: &Task, setting: &Setting) -> Result<Measured> {
        let (model, n) = (&lab.model, task.examples.len());
        let Setting { kinds, reference, plan, measures, .. } = *setting;
        let none = vec![vec![0.0; n]; measures.len()];
        let mut all =
            Measured { whole: none.clone(), lesioned: vec![vec![none; plan.lesions.len()]; kinds.len()] };
        let wanted = |site| plan.sites.contains(&site);
        let pooled = match kinds.contains(&Kind::Mean) {
            true => Some(reference.pooled(lab, wanted)?),
            false => None,
        };
        let classes = reference::classes(task);
        let draws = |kind: &Kind| if *kind == Kind::Resample { reference.draws(self.draws) } else { 1 };
        let runs: usize = kinds.iter().map(draws).sum();
        let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
        let kept = |site| wanted(site) || Base::needs(model, site) || site == Site::Logits;
        let each = 6 * model.recorded_bytes(longest, kept);
        let most = (lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize;
        let batches: usize = classes.iter().map(|class| class.len().div_ceil(most)).sum();
        lab.progress.begin("ablation", (batches * runs * plan.lesions.len()) as u64);
        for class in classes {
            let by_position = match kinds.contains(&Kind::MeanByPosition) {
                true => Some(reference.by_position(lab, task, &class, wanted)?),
                false => None,
            };
            for batch in class.chunks(most) {
                lab.check()?;
                let read = task.ends(batch);
                let base = Base::record(model, &task.tokens(model, batch, Side::Clean)?, wanted)?;
                let logits = base.logits(model, &read)?;
                let targets = task.targets(batch, Some(ops::log_softmax(&logits)?));
                add(&mut all.whole, batch, &numbers(&measures.score(&logits, &targets)?)?, 1.0);
                let reach = Reach::everywhere(model, base.dims()?.1, &read);
                let score = |logits: &Tensor, rows: &[usize]| measures.score(logits, &targets.rows(rows)?);
                let reading = Reading::new(&read, score);
                for (kind, lesioned) in kinds.iter().zip(&mut all.lesioned) {
                    let draws = draws(kind);
                    for draw in 0..draws {
                        let values = match kind {
                            Kind::Zero => None,
                            Kind::Mean => pooled
                                .as_ref()
                                .map(|p| reference.mean(p, task, batch, &base.kept))
                                .transpose()?,
                            Kind::MeanByPosition => {
                                let sums = by_position.as_ref();
                                sums.map(|p| reference.mean(p, task, batch, &base.kept)).transpose()?
                            }
                            Kind::Resample => {
                                let others = reference.drawn(task, lab.seed, batch, draw, draws)?;
                                Some(model.read(&model.tokens(&others)?, &read, wanted)?.1)
                            }
                        };
                        let instead = values.as_ref().map_or(Instead::Zero, Instead::Values);
                        let mut cells = Vec::new();
                        for lesion in &plan.lesions {
                            let edits = edits(lesion, setting.places, batch, &base, instead, &reach)?;
                            cells.push(Cell { edits });
                        }
                        let scores = sweep(lab, &base, &cells, &reading)?;
                        for (lesioned, scores) in lesioned.iter_mut().zip(scores) {
                            add(lesioned, batch, &scores, 1.0 / draws as f64);
                        }
                    }
                }
            }
        }
        lab.progress.end();
        Ok(all)
    }
}

/// The edits that make a lesion on these examples; none where the part is not read.
fn edits(
    lesion: &Lesion,
    places: &[Place],
    batch: &[usize],
    base: &Base,
    instead: Instead,
    reach: &Reach,
) -> Result<Vec<Edit>> {
    let place: Option<Vec<usize>> = lesion
        .place
        .and_then(|place| places.get(place))
        .map(|place| batch.iter().map(|&i| place.positions[i]).collect());
    let mut edits = Vec::new();
    for part in &lesion.parts {
        let (layer, at) = match part.slice()?.site {
            Site::Block(layer, at) => (layer, at),
            _ => (0, At::ResidPre),
        };
        let positions = match &place {
            None => reach.all(layer, at),
            Some(place) => reach.place(layer, at, place),
        };
        if let Some(positions) = positions {
            edits.push(part.edit_inside(base, instead, positions)?);
        }
    }
    Ok(edits)
}

/// Numbers `[row][measure]` as they come from a sweep, weighted into `[measure][example]`.
fn add(all: &mut [Vec<f64>], examples: &[usize], values: &[f64], weight: f64) {
    for (&example, values) in examples.iter().zip(values.chunks_exact(all.len().max(1))) {
        all.iter_mut().zip(values).for_each(|(all, value)| all[example] += weight * value);
    }
}

fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.flatten_all()?.to_vec1()?)
}
