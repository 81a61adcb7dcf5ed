//! Activation patching: a run in which one activation is taken from another run.
//!
//! Denoising runs the corrupt prompt and restores from the clean run: effect = (patched − corrupt) / (clean − corrupt),
//! what suffices. Noising runs the clean prompt and inserts from the corrupt run: effect = (clean − patched) / (clean −
//! corrupt), what is needed. They are not mirror images (Heimersheim & Nanda 2024). Effects are ratios of means over
//! examples. Norms are recomputed downstream.
//!
//! The values may also come from a file of recorded activations or be means over reference prompts. Without pairs there is no
//! gap to take a share of, and the effect is the change of the metric.

mod cells;
mod notes;
mod plan;
mod rows;
mod source;

use std::collections::BTreeSet;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

pub(crate) use crate::sweep::Reach;
pub(crate) use notes::doubted;

pub use plan::{By, Neurons};
pub use source::Origin;

use crate::analysis::{Analysis, Findings, NOTABLE, PAIR, put, refuse_small_gap};
use crate::error::{Error, Result};
use crate::groups::Sets;
use crate::lab::Lab;
use crate::lesion::Sample;
use crate::metric::{Metric, Targets};
use crate::model::{Base, Transformer};
use crate::ops;
use crate::site::{At, Site};
use crate::sweep::{Cell, Reading, sweep, unchanged};
use crate::task::{Place, Side, Task};
use plan::Plan;
use source::Source;

/// What each activation carries: total effects by swapping it between the runs on a pair of prompts.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patch {
    /// Which activations; by default every one that the model has, but for `result` (which is `z`) and the neurons.
    pub sites: Option<Vec<PatchSite>>,
    /// `denoise`, `noise` or `both`.
    pub direction: Direction,
    /// How finely: `all` positions at once; by `position` (sites without heads); by `head`, `head-position` and, of patterns,
    /// `query-key` (sites with heads); by `neuron`; by `set`.
    pub by: Vec<By>,
    /// How many layers in a row are patched together, where a table is by layer or by layer and position.
    pub window: usize,
    /// Lists of parts that are patched together, by name (`{movers = ["a2.h0", "a2.h1"], last = ["L3"]}`) or as lists. By
    /// default the roles of several parts that the model's own description gives for the task, and all of its roles together.
    #[serde(alias = "groups")]
    pub sets: Sets,
    /// Which neurons are patched one by one: so many with the largest attribution, or a list (`["m1.n12", "m2.n0"]`).
    pub neurons: Neurons,
    /// Where values come from: the other prompt of the `pair`, a `file` of activations, the `mean` over the reference; `auto`
    /// takes the file if there is one, else the pair if there is one, else the mean.
    pub from: Origin,
    /// Reference prompts, for means.
    pub reference: Option<Vec<Sample>>,
    /// From what effect on (share of the gap; without pairs, share of the largest effect) a cell is notable, if its interval
    /// excludes 0.
    pub notable: f64,
    /// The number the effect is measured in.
    pub metric: Metric,
}

impl Default for Patch {
    fn default() -> Self {
        Patch {
            sites: None,
            direction: Direction::Both,
            by: vec![By::Position, By::Head, By::Set],
            window: 1,
            sets: Sets::default(),
            neurons: Neurons::Top(10),
            from: Origin::Auto,
            reference: None,
            notable: NOTABLE,
            metric: Metric::LogitDiff,
        }
    }
}

/// An activation that can be patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the site of its name; `At` explains them")]
pub enum PatchSite {
    ResidPre,
    ResidMid,
    ResidPost,
    AttnOut,
    MlpOut,
    Z,
    Result,
    Q,
    K,
    V,
    Pattern,
    MlpPre,
    MlpPost,
}

impl PatchSite {
    /// Every one, in the order of the tables.
    pub const ALL: [PatchSite; 13] = [
        PatchSite::ResidPre,
        PatchSite::ResidMid,
        PatchSite::ResidPost,
        PatchSite::AttnOut,
        PatchSite::MlpOut,
        PatchSite::Z,
        PatchSite::Result,
        PatchSite::Q,
        PatchSite::K,
        PatchSite::V,
        PatchSite::Pattern,
        PatchSite::MlpPre,
        PatchSite::MlpPost,
    ];

    /// Whether it is patched when nobody names sites: `result` says what `z` says, and neurons what `mlp_out` does.
    fn is_usual(self) -> bool {
        !matches!(self, PatchSite::Result | PatchSite::MlpPre | PatchSite::MlpPost)
    }

    /// The place in a block, and the name in tables.
    pub(super) fn at(self) -> (At, &'static str) {
        match self {
            PatchSite::ResidPre => (At::ResidPre, "resid_pre"),
            PatchSite::ResidMid => (At::ResidMid, "resid_mid"),
            PatchSite::ResidPost => (At::ResidPost, "resid_post"),
            PatchSite::AttnOut => (At::AttnOut, "attn_out"),
            PatchSite::MlpOut => (At::MlpOut, "mlp_out"),
            PatchSite::Z => (At::Z, "z"),
            PatchSite::Result => (At::Result, "result"),
            PatchSite::Q => (At::Q, "q"),
            PatchSite::K => (At::K, "k"),
            PatchSite::V => (At::V, "v"),
            PatchSite::Pattern => (At::Pattern, "pattern"),
            PatchSite::MlpPre => (At::MlpPre, "mlp_pre"),
            PatchSite::MlpPost => (At::MlpPost, "mlp_post"),
        }
    }

    /// How many heads the activation has: none for the stream, what is added to it and neurons; key-value heads for k and v.
    fn heads(self, model: &Transformer) -> Option<usize> {
        match self {
            PatchSite::Z | PatchSite::Result | PatchSite::Q | PatchSite::Pattern => {
                Some(model.config.n_heads)
            }
            PatchSite::K | PatchSite::V => Some(model.config.n_kv_heads),
            _ => None,
        }
    }
}

/// Which run is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The corrupt run, with values of the clean one.
    Denoise,
    /// The clean run, with values of the corrupt one.
    Noise,
    /// Each in turn.
    Both,
}

/// One way of patching, and what its effect is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The corrupt run is changed; the share of the gap that closes.
    Denoise,
    /// The clean run is changed; the share of the gap that opens.
    Noise,
    /// The clean run is changed, and there is no other; the change of the metric.
    Insert,
}

impl Way {
    /// The name in tables.
    fn name(self) -> &'static str {
        match self {
            Way::Denoise => "denoise",
            Way::Noise => "noise",
            Way::Insert => "insert",
        }
    }

    /// What a patch did on each example.
    fn change(self, measured: &Measured, patched: &[f64]) -> Vec<f64> {
        let (from, sign) = match self {
            Way::Denoise => (&measured.corrupt, 1.0),
            Way::Noise => (&measured.clean, -1.0),
            Way::Insert => (&measured.clean, 1.0),
        };
        patched.iter().zip(from).map(|(patched, from)| sign * (patched - from)).collect()
    }
}

/// What a run is made of.
struct Setting {
    ways: Vec<Way>,
    source: Source,
    places: Vec<Place>,
    plan: Plan,
}

/// Everything measured, by example.
struct Measured {
    clean: Vec<f64>,
    /// Empty without pairs.
    corrupt: Vec<f64>,
    /// The metric of the patched run: `[way][swap][example]`.
    patched: Vec<Vec<Vec<f64>>>,
    /// Whether a swap was run at all: `[way][swap]`.
    run: Vec<Vec<bool>>,
    /// How many runs of a swap were not needed because they could change nothing.
    exact: usize,
    /// On how many clean prompts the answer is preferred to the wrong one, where both are known.
    right: Option<usize>,
}

impl Analysis for Patch {
    const NAME: &'static str = "patch";
    const ABOUT: &'static str =
        "activation patching between clean and corrupt prompt, by layer, position, head, neuron and set";
    const NEEDS_PAIRS: bool = true;
    const TAKES_METRIC: bool = true;
    const TAKES_REFERENCE: bool = true;
    const TAKES_VALUES: bool = true;

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        task.fits(&lab.model)?;
        let (mut source, ways) = (Source::choose(self, lab, task)?, self.ways(task)?);
        let places = task.places();
        let plan = Plan::new(self, lab, task, &places, &source)?;
        source.load(lab, task, &plan.sites)?;
        let setting = Setting { ways, source, places, plan };
        let measured = self.measure(lab, task, &setting)?;
        Ok(rows::findings(self, lab, task, &setting, &measured))
    }
}

impl Patch {
    /// The ways asked for; without pairs there is one.
    fn ways(&self, task: &Task) -> Result<Vec<Way>> {
        match (self.direction, task.is_paired()) {
            (Direction::Denoise, false) => Err(Error::usage(
                "denoising changes the run on the corrupt prompt, and there is none",
                "give `--corrupt` or a task with pairs, or leave `direction` out",
            )),
            (_, false) => Ok(vec![Way::Insert]),
            (Direction::Denoise, true) => Ok(vec![Way::Denoise]),
            (Direction::Noise, true) => Ok(vec![Way::Noise]),
            (Direction::Both, true) => Ok(vec![Way::Denoise, Way::Noise]),
        }
    }

    fn measure(&self, lab: &Lab, task: &Task, setting: &Setting) -> Result<Measured> {
        let (model, n) = (&lab.model, task.examples.len());
        let Setting { ways, source, places, plan } = setting;
        let paired = task.is_paired();
        let opposed = task.examples.iter().all(|e| !e.answers.is_empty() && !e.wrong.is_empty());
        let batches = task.batches(most(lab, task, plan));
        let mut all = Measured {
            clean: vec![0.0; n],
            corrupt: vec![0.0; if paired { n } else { 0 }],
            patched: Vec::new(),
            run: vec![vec![false; plan.swaps.len()]; ways.len()],
            exact: 0,
            right: opposed.then_some(0),
        };
        // both runs of a single batch are kept; those of many are made again when their turn comes
        let none = BTreeSet::new();
        let mut kept = None;
        for batch in &batches {
            lab.check()?;
            let runs = Runs::of(lab, task, batch, if batches.len() == 1 { &plan.sites } else { &none })?;
            let targets = runs.targets(model, task, batch, self.metric)?;
            let measure = |run, metric| unchanged(lab, run, &Reading::metric(&runs.read, metric, &targets));
            put(&mut all.clean, batch, &measure(&runs.clean, self.metric)?);
            if let Some(right) = &mut all.right {
                let preferred = measure(&runs.clean, Metric::LogitDiff)?;
                *right += preferred.iter().filter(|&&difference| difference > 0.0).count();
            }
            if let Some(corrupt) = &runs.corrupt {
                put(&mut all.corrupt, batch, &measure(corrupt, self.metric)?);
            }
            kept = (batches.len() == 1).then_some(runs);
        }
        if !all.corrupt.is_empty() {
            refuse_small_gap(self.metric, PAIR, &all.clean, &all.corrupt)?;
        }
        let unpatched = |way: &Way| if *way == Way::Denoise { &all.corrupt } else { &all.clean };
        all.patched = ways.iter().map(|way| vec![unpatched(way).clone(); plan.swaps.len()]).collect();

        let steps = batches.len() * ways.len() * plan.swaps.len();
        lab.progress.begin("patching", steps as u64);
        for batch in &batches {
            let runs = kept.take().map_or_else(|| Runs::of(lab, task, batch, &plan.sites), Ok)?;
            let targets = runs.targets(model, task, batch, self.metric)?;
            let Runs { clean, corrupt, read, reach } = &runs;
            let (_, length, _) = clean.dims()?;
            let fixed = source.of(batch, length)?;
            // values of neither prompt differ everywhere
            let everywhere = Reach::everywhere(model, length, read);
            let reach = reach.as_ref().filter(|_| fixed.is_none()).unwrap_or(&everywhere);
            for (w, way) in ways.iter().enumerate() {
                let (base, other) = match (way, corrupt) {
                    (Way::Denoise, Some(corrupt)) => (corrupt, clean),
                    (_, Some(corrupt)) => (clean, corrupt),
                    (_, None) => (clean, clean),
                };
                let values = fixed.as_ref().unwrap_or(&other.kept);
                let mut cells = Vec::new();
                for (index, swap) in plan.swaps.iter().enumerate() {
                    let edits = swap.edits(model, base, values, reach, (places, batch))?;
                    match edits.is_empty() {
                        true => all.exact += 1,
                        false => all.run[w][index] = true,
                    }
                    cells.push(Cell { edits });
                }
                let reading = Reading::metric(read, self.metric, &targets).swapping(reach);
                for (index, scores) in sweep(lab, base, &cells, &reading)?.into_iter().enumerate() {
                    put(&mut all.patched[w][index], batch, &scores);
                }
            }
        }
        lab.progress.end();
        Ok(all)
    }
}

/// Both runs of a batch.
struct Runs {
    clean: Base,
    /// None without pairs.
    corrupt: Option<Base>,
    read: Vec<usize>,
    /// What swaps between the two can change.
    reach: Option<Reach>,
}

impl Runs {
    /// The runs, with the activations that are needed.
    fn of(lab: &Lab, task: &Task, batch: &[usize], needed: &BTreeSet<Site>) -> Result<Runs> {
        let model = &lab.model;
        let record = |tokens: &Tensor| Base::record(model, tokens, |site| needed.contains(&site));
        if !task.is_paired() {
            let clean = record(&task.tokens(model, batch, Side::Clean)?)?;
            return Ok(Runs { clean, corrupt: None, read: task.ends(batch), reach: None });
        }
        let Pair { clean, corrupt, read, reach } = Pair::of(model, task, batch)?;
        let clean = record(&clean)?;
        let corrupt = clean.beside(model, &corrupt, reach.first())?;
        Ok(Runs { clean, corrupt: Some(corrupt), read, reach: Some(reach) })
    }

    fn targets(&self, model: &Transformer, task: &Task, batch: &[usize], metric: Metric) -> Result<Targets> {
        let clean = || Ok::<_, Error>(ops::log_softmax(&self.clean.logits(model, &self.read)?)?);
        Ok(task.targets(batch, (metric == Metric::Kl).then(clean).transpose()?))
    }
}

/// How many examples share a batch: both runs' activations and the values to insert are held at once.
fn most(lab: &Lab, task: &Task, plan: &Plan) -> usize {
    let model = &lab.model;
    let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
    let kept = |site| plan.sites.contains(&site) || Base::needs(model, site);
    let each = 4 * model.recorded_bytes(longest, kept);
    (lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize
}

/// The prompts of a batch of pairs.
pub(crate) struct Pair {
    /// `[batch, pos]`.
    pub(crate) clean: Tensor,
    /// `[batch, pos]`.
    pub(crate) corrupt: Tensor,
    /// Where each row's answer is due.
    pub(crate) read: Vec<usize>,
    /// What swaps between the two can change.
    pub(crate) reach: Reach,
}

impl Pair {
    /// The pairs of these examples, all of one length, each with a corrupt prompt.
    pub(crate) fn of(model: &Transformer, task: &Task, batch: &[usize]) -> Result<Pair> {
        let examples = || batch.iter().filter_map(|&i| task.examples.get(i));
        let clean: Vec<&[u32]> = examples().map(|example| example.clean.as_slice()).collect();
        let corrupt: Vec<&[u32]> = examples().filter_map(|example| example.corrupt.as_deref()).collect();
        let read = task.ends(batch);
        let reach = Reach::new(model, &clean, &corrupt, &read);
        let tokens = |side| task.tokens(model, batch, side);
        Ok(Pair { clean: tokens(Side::Clean)?, corrupt: tokens(Side::Corrupt)?, read, reach })
    }
}
