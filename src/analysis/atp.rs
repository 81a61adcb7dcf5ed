//! Attribution patching: what every patch would do, to first order, from one gradient (Nanda 2023).
//!
//! Noising, clean run: (n_corrupt − n_clean) · ∂M/∂n at the clean run stands for the change of the metric when n is taken from
//! the corrupt run. Denoising, corrupt run: (n_clean − n_corrupt) · ∂M/∂n at the corrupt run. Both in the unit and with
//! the sign of `patch`: shares of the gap, ratios of means over examples. Two forward passes and one backward for all nodes.
//!
//! Two corrections of AtP* (Kramár et al. 2024, arXiv 2403.00745) are on unless turned off. `qk_fix`: behind queries and keys
//! the softmax is computed anew ([`softmax`]), since a saturated one has no gradient. `grad_drop`: for each layer ℓ, one
//! more backward pass without the gradient through what ℓ writes; the mean over ℓ of the |effects|, so that direct and
//! indirect effects of opposite sign cannot hide a node. Its sign is lost: it has a column of its own.
//!
//! An approximation is to be checked: the largest are patched exactly ([`agreement`](super::agreement)).

mod measure;
mod nodes;
mod passes;
mod rows;
mod softmax;
mod values;
mod verify;

use serde::{Deserialize, Serialize};

pub use nodes::NodeSite;

use crate::analysis::patch::Direction;
use crate::analysis::{Analysis, Findings};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::metric::Metric;
use crate::task::Task;

/// What every patch would do, estimated from gradients; the largest checked by exact patching.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Atp {
    /// Which activations; by default every one that the model has, but for `result` (the same as `z`) and `mlp_pre`.
    pub sites: Option<Vec<NodeSite>>,
    /// `denoise`, `noise` or `both`.
    pub direction: Direction,
    /// How finely: `position` for sites without heads; `head` and `head-position` for sites with them; `query-key` for patterns;
    /// `neuron` for MLPs.
    pub by: Vec<Grain>,
    /// The number the effect is measured in; it must have a gradient.
    pub metric: Metric,
    /// Whether the softmax behind queries and keys is computed anew rather than linearised.
    pub qk_fix: bool,
    /// Whether there are further backward passes, one for each layer, without what that layer writes.
    pub grad_drop: bool,
    /// How many neurons to list.
    pub neurons: usize,
    /// How many of each ranking are patched exactly; 0 checks nothing.
    pub top: usize,
    /// Rankings of at most so many nodes are patched exactly from end to end.
    pub full: usize,
    /// How many others of a longer ranking are drawn and patched exactly, to bound what was missed.
    pub sample: usize,
}

impl Default for Atp {
    fn default() -> Self {
        Atp {
            sites: None,
            direction: Direction::Both,
            by: vec![Grain::Position, Grain::Head, Grain::Neuron],
            metric: Metric::LogitDiff,
            qk_fix: true,
            grad_drop: true,
            neurons: 20,
            top: 10,
            full: 64,
            sample: 10,
        }
    }
}

/// The grain of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grain {
    /// Layer × position: sites without heads. Table `atp_position`.
    Position,
    /// Layer × head, all positions at once: sites with heads. Table `atp_head`.
    Head,
    /// Layer × head × position: sites with heads. Table `atp_head_pos`.
    HeadPosition,
    /// Layer × head × query × key: patterns. Table `atp_pattern`.
    QueryKey,
    /// Layer × neuron, all positions at once: the largest. Table `atp_neuron`.
    Neuron,
}

impl Grain {
    /// Every one, in the order of the tables.
    pub const ALL: [Grain; 5] =
        [Grain::Position, Grain::Head, Grain::HeadPosition, Grain::QueryKey, Grain::Neuron];

    /// The name in parameters and tables.
    fn name(self) -> &'static str {
        match self {
            Grain::Position => "position",
            Grain::Head => "head",
            Grain::HeadPosition => "head-position",
            Grain::QueryKey => "query-key",
            Grain::Neuron => "neuron",
        }
    }
}

impl Analysis for Atp {
    const NAME: &'static str = "atp";
    const ABOUT: &'static str =
        "attribution patching: every patch estimated from gradients (AtP, AtP*), the largest checked exactly";
    const NEEDS_PAIRS: bool = true;
    const TAKES_METRIC: bool = true;

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        if let Some(example) = task.examples.iter().find(|example| example.corrupt.is_none()) {
            return Err(Error::usage(
                format!("patching needs a corrupt prompt for every clean one, and `{}` has none", example.id),
                "give `--corrupt`, or the field `corrupt` of each line; without pairs, `ablate` takes parts out",
            ));
        }
        let (directions, mut notes) = self.directions()?;
        let places = task.places();
        let mut nodes = self.nodes(&lab.model, &self.sites(&lab.model)?, places.len())?;
        notes.extend(measure::leave_out_what_does_not_fit(lab, task, directions.len(), &mut nodes)?);
        let measured = measure::measure(self, lab, task, &places, &directions, &nodes)?;
        let agreement = verify::verify(self, lab, task, &places, &nodes, &measured)?;
        let told = rows::Told { atp: self, lab, task, places: &places, nodes: &nodes, measured: &measured };
        Ok(rows::findings(&told, &agreement, notes))
    }
}

impl Atp {
    /// The directions in which there is a gradient, and why one is left out.
    fn directions(&self) -> Result<(Vec<Direction>, Vec<String>)> {
        if !self.metric.has_gradient() {
            return Err(Error::usage(
                format!("{} has no gradient: it jumps from one whole number to the next", self.metric),
                "choose `logit-diff` or `log-prob`, or patch exactly with `glassbox patch`",
            ));
        }
        if self.metric != Metric::Kl {
            return Ok(match self.direction {
                Direction::Both => (vec![Direction::Denoise, Direction::Noise], Vec::new()),
                one => (vec![one], Vec::new()),
            });
        }
        let why = "kl is least at the clean run, where its gradient is 0: to first order no node matters when the clean run \
                   is noised";
        match self.direction {
            Direction::Noise => Err(Error::usage(
                why,
                "use `direction=denoise`, another metric, or patch exactly with `glassbox patch`",
            )),
            Direction::Denoise => Ok((vec![Direction::Denoise], Vec::new())),
            Direction::Both => Ok((
                vec![Direction::Denoise],
                vec![format!(
                    "{why}; only denoising is estimated. `patch` with `direction = \"noise\"` measures the other exactly"
                )],
            )),
        }
    }
}

/// The word in tables.
fn word(direction: Direction) -> &'static str {
    if direction == Direction::Noise { "noise" } else { "denoise" }
}
