//! Activation patching: a run in which one activation is taken from the run on the other prompt of the pair.
//!
//! Denoising runs the corrupt prompt and restores from the clean run: effect = (patched − corrupt) / (clean − corrupt),
//! what suffices. Noising runs the clean prompt and inserts from the corrupt run: effect = (clean − patched) / (clean −
//! corrupt), what is needed. They are not mirror images (Heimersheim & Nanda 2024). Effects are ratios of means over
//! examples. Norms are recomputed downstream.

mod reach;
mod rows;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

pub(crate) use reach::Reach;

use crate::analysis::attribution::numbers;
use crate::analysis::{Analysis, Findings};
use crate::edit::{Edit, Op};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::metric::{Metric, Targets};
use crate::model::{Base, Transformer};
use crate::ops;
use crate::record::at_positions;
use crate::site::{At, Site, Slice};
use crate::sweep::{Cell, sweep};
use crate::task::{Place, Side, Task};

/// What each activation carries: total effects by swapping it between the runs on a pair of prompts.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patch {
    /// Which activations; by default every one that the model has.
    pub sites: Option<Vec<PatchSite>>,
    /// `denoise`, `noise` or `both`.
    pub direction: Direction,
    /// How finely: `position` for sites without heads; `head` and `head-position` for sites with them.
    pub by: Vec<By>,
    /// The number the effect is measured in.
    pub metric: Metric,
}

impl Default for Patch {
    fn default() -> Self {
        Patch {
            sites: None,
            direction: Direction::Both,
            by: vec![By::Position, By::Head],
            metric: Metric::LogitDiff,
        }
    }
}

/// An activation that can be patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the site of its name; `At` explains them")]
pub enum PatchSite {
    ResidPre,
    ResidMid,
    ResidPost,
    AttnOut,
    MlpOut,
    Z,
    Q,
    K,
    V,
    Pattern,
}

impl PatchSite {
    /// Every one, in the order of the tables.
    pub const ALL: [PatchSite; 10] = [
        PatchSite::ResidPre,
        PatchSite::ResidMid,
        PatchSite::ResidPost,
        PatchSite::AttnOut,
        PatchSite::MlpOut,
        PatchSite::Z,
        PatchSite::Q,
        PatchSite::K,
        PatchSite::V,
        PatchSite::Pattern,
    ];

    /// The place in a block, and the name in tables.
    fn at(self) -> (At, &'static str) {
        match self {
            PatchSite::ResidPre => (At::ResidPre, "resid_pre"),
            PatchSite::ResidMid => (At::ResidMid, "resid_mid"),
            PatchSite::ResidPost => (At::ResidPost, "resid_post"),
            PatchSite::AttnOut => (At::AttnOut, "attn_out"),
            PatchSite::MlpOut => (At::MlpOut, "mlp_out"),
            PatchSite::Z => (At::Z, "z"),
            PatchSite::Q => (At::Q, "q"),
            PatchSite::K => (At::K, "k"),
            PatchSite::V => (At::V, "v"),
            PatchSite::Pattern => (At::Pattern, "pattern"),
        }
    }

    /// How many heads the activation has: none for the stream and what is added to it, key-value heads for k and v.
    fn heads(self, model: &Transformer) -> Option<usize> {
        match self {
            PatchSite::Z | PatchSite::Q | PatchSite::Pattern => Some(model.config.n_heads),
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

impl Direction {
    fn each(self) -> &'static [Direction] {
        match self {
            Direction::Denoise => &[Direction::Denoise],
            Direction::Noise => &[Direction::Noise],
            Direction::Both => &[Direction::Denoise, Direction::Noise],
        }
    }
}

/// The grain of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Layer × position: sites without heads. Table `resid_by_pos`.
    Position,
    /// Layer × head, all positions at once: sites with heads. Table `patch_head`.
    Head,
    /// Layer × head × position: sites with heads. Table `patch_head_pos`.
    HeadPosition,
}

/// One cell of a table: what is swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Swap {
    site: PatchSite,
    layer: usize,
    head: Option<usize>,
    /// Index into the task's places; none means every position.
    place: Option<usize>,
}

/// Everything measured, by example.
struct Measured {
    clean: Vec<f64>,
    corrupt: Vec<f64>,
    /// The metric of the patched run: `[direction][swap][example]`, directions as in [`Direction::each`].
    patched: Vec<Vec<Vec<f64>>>,
    /// How many runs of a swap were not needed because they could change nothing.
    exact: usize,
}

impl Analysis for Patch {
    const NAME: &'static str = "patch";
    const ABOUT: &'static str =
        "activation patching between clean and corrupt prompt, by layer, position and head";
    const NEEDS_PAIRS: bool = true;
    const TAKES_METRIC: bool = true;

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        if let Some(example) = task.examples.iter().find(|example| example.corrupt.is_none()) {
            return Err(Error::usage(
                format!("patching needs a corrupt prompt for every clean one, and `{}` has none", example.id),
                "give `--corrupt`, or the field `corrupt` of each line; without pairs, `components` ablates to a mean",
            ));
        }
        let places = task.places();
        let sites = self.sites(&lab.model)?;
        let swaps = self.swaps(&lab.model, &sites, places.len())?;
        let measured = self.measure(lab, task, &places, (&sites, &swaps))?;
        Ok(rows::findings(self, lab, task, &places, &swaps, &measured))
    }
}

impl Patch {
    /// The activations to patch; one that is named must be in every layer, or somewhere at least.
    fn sites(&self, model: &Transformer) -> Result<Vec<PatchSite>> {
        let there = |site: &PatchSite| model.blocks.iter().any(|block| block.has(site.at().0));
        let Some(asked) = &self.sites else {
            return Ok(PatchSite::ALL.into_iter().filter(there).collect());
        };
        match asked.iter().find(|site| !there(site)) {
            None => Ok(asked.clone()),
            Some(PatchSite::ResidMid) => Err(Error::usage(
                "there is no resid_mid to patch: in this model no MLP reads a stream that attention has written to",
                "leave `resid_mid` out; `attn_out` is what attention writes",
            )),
            Some(site) => Err(Error::usage(
                format!("there is no {} to patch: this model has no MLPs", site.at().1),
                "leave it out; `attn_out` and `z` are what its layers write",
            )),
        }
    }

    /// Every cell of every table, table by table.
    fn swaps(&self, model: &Transformer, sites: &[PatchSite], places: usize) -> Result<Vec<Swap>> {
        let mut swaps = Vec::new();
        for by in [By::Position, By::Head, By::HeadPosition] {
            for &site in sites.iter().filter(|_| self.by.contains(&by)) {
                let heads: Vec<Option<usize>> = match (by, site.heads(model)) {
                    (By::Position, None) => vec![None],
                    (By::Head | By::HeadPosition, Some(heads)) => (0..heads).map(Some).collect(),
                    _ => continue,
                };
                let places: Vec<Option<usize>> = match by {
                    By::Head => vec![None],
                    _ => (0..places).map(Some).collect(),
                };
                for (layer, _) in model.blocks.iter().enumerate().filter(|(_, block)| block.has(site.at().0))
                {
                    for &head in &heads {
                        swaps.extend(places.iter().map(|&place| Swap { site, layer, head, place }));
                    }
                }
            }
        }
        if swaps.is_empty() {
            return Err(Error::usage(
                "these sites and grains leave nothing to patch",
                "`position` is for resid_pre, resid_mid, resid_post, attn_out and mlp_out; `head` and \
                 `head-position` for z, q, k, v and pattern",
            ));
        }
        Ok(swaps)
    }

    fn measure(
        &self,
        lab: &Lab,
        task: &Task,
        places: &[Place],
        (sites, swaps): (&[PatchSite], &[Swap]),
    ) -> Result<Measured> {
        let (model, n) = (&lab.model, task.examples.len());
        let directions = self.direction.each();
        let batches = task.batches(most(lab, task, sites));
        let mut all = Measured { clean: vec![0.0; n], corrupt: vec![0.0; n], patched: Vec::new(), exact: 0 };
        for batch in &batches {
            lab.check()?;
            let pair = Pair::of(model, task, batch)?;
            let (clean, _) = model.read(&pair.clean, &pair.read, |_| false)?;
            let (corrupt, _) = model.read(&pair.corrupt, &pair.read, |_| false)?;
            let targets = task.targets(batch, Some(ops::log_softmax(&clean)?));
            put(&mut all.clean, batch, &numbers(&self.metric.score(&clean, &targets)?)?);
            put(&mut all.corrupt, batch, &numbers(&self.metric.score(&corrupt, &targets)?)?);
        }
        refuse_small_gap(self.metric, &all)?;
        all.patched = directions
            .iter()
            .map(|&direction| if direction == Direction::Noise { &all.clean } else { &all.corrupt })
            .map(|unpatched| vec![unpatched.clone(); swaps.len()])
            .collect();

        let steps = batches.len() * directions.len() * swaps.len();
        lab.progress.begin("patching", steps as u64);
        for batch in &batches {
            let pair = Pair::of(model, task, batch)?;
            let record = |tokens| Base::record(model, tokens, |site| needs(sites, site));
            let (clean, corrupt) = (record(&pair.clean)?, record(&pair.corrupt)?);
            let at_end = at_positions(&clean.logits, &pair.read)?;
            let targets = task.targets(batch, Some(ops::log_softmax(&at_end)?));
            for (&direction, patched) in directions.iter().zip(&mut all.patched) {
                let (base, source) =
                    if direction == Direction::Noise { (&clean, &corrupt) } else { (&corrupt, &clean) };
                let mut cells = Vec::new();
                for (index, swap) in swaps.iter().enumerate() {
                    let place: Option<Vec<usize>> =
                        swap.place.map(|p| batch.iter().map(|&i| places[p].positions[i]).collect());
                    if let Some(edit) = swap.edit(model, source, &pair.reach, place.as_deref())? {
                        cells.push((index, Cell { edits: vec![edit] }));
                    }
                }
                all.exact += swaps.len() - cells.len();
                lab.progress.advance((swaps.len() - cells.len()) as u64);
                let (indices, cells): (Vec<usize>, Vec<Cell>) = cells.into_iter().unzip();
                let score = |logits: &Tensor| self.score(logits, &targets);
                for (index, scores) in indices.iter().zip(sweep(lab, base, &cells, &pair.read, &score)?) {
                    put(&mut patched[*index], batch, &scores);
                }
            }
        }
        lab.progress.end();
        Ok(all)
    }

    /// The metric of `copies` copies of the rows that the targets belong to.
    fn score(&self, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let copies = logits.dim(0)? / targets.answers.len().max(1);
        self.metric.score(logits, &targets.repeat(copies)?)
    }
}

/// Whether a site's values are swapped.
fn needs(sites: &[PatchSite], site: Site) -> bool {
    matches!(site, Site::Block(_, at) if sites.iter().any(|site| site.at().0 == at))
}

/// How many examples share a batch: both runs' activations and the values to insert are held at once.
fn most(lab: &Lab, task: &Task, sites: &[PatchSite]) -> usize {
    let model = &lab.model;
    let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
    let kept = |site| needs(sites, site) || Base::needs(model, site) || site == Site::Logits;
    let each = 4 * model.recorded_bytes(longest, kept);
    (lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize
}

impl Swap {
    /// The edit that makes this swap with values of `source`, or none when it can change nothing.
    fn edit(
        &self,
        model: &Transformer,
        source: &Base,
        reach: &Reach,
        place: Option<&[usize]>,
    ) -> Result<Option<Edit>> {
        // what leaves a block is what the next one receives: starting there saves the block
        let (layer, at) = match (self.layer, self.site.at().0) {
            (layer, At::ResidPost) if layer + 1 < model.config.n_layers => (layer + 1, At::ResidPre),
            place => place,
        };
        let positions = match place {
            None => reach.all(layer, at),
            Some(place) => reach.place(layer, at, place),
        };
        let Some(positions) = positions else { return Ok(None) };
        let whole = Slice { head: self.head, ..Slice::whole(Site::Block(layer, at)) };
        let slice = whole.pos(positions);
        let values = slice.take(source.kept.block(layer, at)?)?;
        Ok(Some(Edit { at: slice, op: Op::Set(values) }))
    }
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

/// Effects are shares of the gap: a share of nothing is refused, with the numbers.
fn refuse_small_gap(metric: Metric, all: &Measured) -> Result<()> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (clean, corrupt) = (mean(&all.clean), mean(&all.corrupt));
    if (clean - corrupt).abs() >= 0.01 {
        return Ok(());
    }
    Err(Error::input(
        format!(
            "clean and corrupt prompts hardly differ in {metric}: the means are {clean:.4} and {corrupt:.4}, a gap of \
             {:.4}; effects are shares of the gap and need at least 0.01",
            clean - corrupt
        ),
        "choose a corruption that takes the behaviour away, or another metric",
    ))
}

fn put(all: &mut [f64], examples: &[usize], values: &[f64]) {
    examples.iter().zip(values).for_each(|(&example, &value)| all[example] = value);
}
