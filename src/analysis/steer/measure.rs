//! Every dose on every prompt.

use candle_core::{Device, Tensor};

use super::Place;
use crate::edit::{Edit, Op};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::metric::Metric;
use crate::model::{Base, Transformer};
use crate::ops;
use crate::site::{Positions, Site, Slice};
use crate::steering::stream;
use crate::sweep::{Cell, Reading, sweep};
use crate::task::{Side, Task};

/// What is added, and what is removed.
pub(super) struct Doses {
    /// Strengths, lowest first.
    pub(super) strengths: Vec<f64>,
    /// Shares of the direction that are removed, smallest first; the whole is among them.
    pub(super) shares: Vec<f64>,
}

impl Doses {
    pub(super) fn new(strengths: &[f64], shares: &[f64]) -> Result<Doses> {
        let mut strengths = strengths.to_vec();
        if strengths.is_empty() || strengths.iter().any(|dose| !dose.is_finite()) {
            return Err(Error::usage(
                "the strengths are not numbers",
                "write `strengths = [-1.0, 0.0, 1.0]`",
            ));
        }
        let mut shares = shares.to_vec();
        if shares.iter().any(|share| !(share.is_finite() && *share >= 0.0)) {
            return Err(Error::usage(
                "`shares` to remove are numbers from 0 on",
                "write `shares = [0.5, 1.0]`; 1 removes all of the direction",
            ));
        }
        shares.push(1.0);
        for doses in [&mut strengths, &mut shares] {
            // −0 and 0 are one dose
            doses.iter_mut().for_each(|dose| *dose += 0.0);
            doses.sort_by(f64::total_cmp);
            doses.dedup();
        }
        Ok(Doses { strengths, shares })
    }

    /// How many for each direction.
    pub(super) fn count(&self) -> usize {
        self.strengths.len() + self.shares.len()
    }

    /// Where the removal of all of it stands among the shares.
    pub(super) fn whole(&self) -> usize {
        self.shares.iter().position(|share| *share == 1.0).unwrap_or(0)
    }
}

/// What one prompt says under one change.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said {
    /// The metric.
    pub(super) value: f64,
    /// Probability of the answers.
    pub(super) prob: f64,
    /// KL(unsteered ‖ steered).
    pub(super) kl: f64,
}

/// What prompts say at one place.
pub(super) struct AtPlace {
    /// Untouched: `[example]`.
    pub(super) plain: Vec<Said>,
    /// `[direction][dose][example]`; direction 0 is the one found, the others are random.
    pub(super) doses: Vec<Vec<Vec<Said>>>,
    /// With shares of the direction removed from the stream everywhere: `[direction][share][example]`.
    pub(super) removed: Vec<Vec<Vec<Said>>>,
}

/// Everything measured, by place.
pub(super) struct Measured {
    pub(super) positive: Vec<AtPlace>,
    pub(super) negative: Vec<AtPlace>,
    pub(super) ordinary: Option<Vec<AtPlace>>,
}

/// Runs the examples `which`, steered at position `at[example]`.
#[expect(clippy::too_many_arguments, reason = "the two tasks differ in all of them")]
pub(super) fn measure(
    lab: &Lab,
    task: &Task,
    side: Side,
    at: &[usize],
    which: &[usize],
    places: &[Place],
    doses: &Doses,
    metric: Metric,
) -> Result<Vec<AtPlace>> {
    let model = &lab.model;
    let empty = |place: &Place| {
        let none = vec![Said::default(); which.len()];
        let directions = if place.norm > 0.0 { 1 + place.randoms.len() } else { 0 };
        AtPlace {
            plain: none.clone(),
            doses: vec![vec![none.clone(); doses.strengths.len()]; directions],
            removed: vec![vec![none; doses.shares.len()]; directions],
        }
    };
    let mut all: Vec<AtPlace> = places.iter().map(empty).collect();
    let longest = which.iter().map(|&i| task.examples[i].clean.len()).max().unwrap_or(1);
    let each = 4 * model.recorded_bytes(longest, |site| Base::needs(model, site) || site == Site::Logits);
    let most = (lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize;
    let chosen = Task { examples: which.iter().map(|&i| task.examples[i].clone()).collect(), ..task.clone() };
    for batch in chosen.batches(most) {
        let read = chosen.ends(&batch);
        let here: Vec<usize> = batch.iter().map(|&i| at[which[i]]).collect();
        let base = Base::record(model, &chosen.tokens(model, &batch, side)?, |_| false)?;
        let unsteered = ops::log_softmax(&base.logits(model, &read)?)?;
        for (place, all) in places.iter().zip(&mut all) {
            let pushed = |direction: &Tensor, dose: f64| -> Result<Cell> {
                let op = Op::Add(direction.affine(dose, 0.0)?);
                let at = Slice::whole(place.site).pos(Positions::PerRow(here.clone()));
                Ok(Cell { edits: vec![Edit { at, op }] })
            };
            let run = |cells: &[Cell], unsteered: &Tensor| -> Result<Vec<Vec<Said>>> {
                let targets = chosen.targets(&batch, Some(unsteered.clone()));
                let reading = Reading::metrics(&read, &[metric, Metric::Prob, Metric::Kl], &targets);
                let said = |three: &[f64]| Said { value: three[0], prob: three[1], kl: three[2].max(0.0) };
                let scores = sweep(lab, &base, cells, &reading)?;
                Ok(scores.iter().map(|scores| scores.chunks_exact(3).map(said).collect()).collect())
            };
            // adding nothing at the same place: the same computation as every dose, so that no dose is no change, exactly
            let nothing = [pushed(&place.direction, 0.0)?];
            let plain =
                sweep(lab, &base, &nothing, &Reading::new(&read, |logits, _| Ok(logits.clone())))?.concat();
            let plain = Tensor::from_vec(plain, (batch.len(), ()), &Device::Cpu)?.to_dtype(model.dtype())?;
            let plain = ops::log_softmax(&plain.to_device(model.device())?)?;
            put(&mut all.plain, &batch, &run(&nothing, &plain)?.concat());
            let directions = || std::iter::once(&place.direction).chain(&place.randoms);
            for (direction, all) in directions().zip(&mut all.doses) {
                let cells = doses
                    .strengths
                    .iter()
                    .map(|&dose| pushed(direction, dose))
                    .collect::<Result<Vec<_>>>()?;
                for (said, all) in run(&cells, &plain)?.iter().zip(all) {
                    put(all, &batch, said);
                }
            }
            for (direction, all) in directions().zip(&mut all.removed) {
                let cells: Vec<Cell> =
                    doses.shares.iter().map(|&share| removal(model, direction, share)).collect();
                for (said, all) in run(&cells, &unsteered)?.iter().zip(all) {
                    put(all, &batch, said);
                }
            }
        }
    }
    Ok(all)
}

/// x ← x − share · r̂ r̂ᵀx wherever the stream can be read, at every layer and position.
fn removal(model: &Transformer, direction: &Tensor, share: f64) -> Cell {
    let op = match share {
        1.0 => Op::Project(direction.clone()),
        share => Op::Damp(direction.clone(), share),
    };
    let edit = |site| Edit { at: Slice::whole(site), op: op.clone() };
    Cell { edits: stream(model).into_iter().map(edit).collect() }
}

fn put(all: &mut [Said], examples: &[usize], said: &[Said]) {
    examples.iter().zip(said).for_each(|(&example, &said)| all[example] = said);
}
