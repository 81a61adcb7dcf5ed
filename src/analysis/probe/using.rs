//! Does the model use what a probe reads? The subspace is taken out of the activation, and the model asked again.
//!
//! x ← x − B·Bᵀ(x − μ), with the rows of B an orthonormal basis of what the probe reads (of two classes: one direction) and μ the
//! mean activation: afterwards the probe says the same of every example. B and μ come from the fold that did not see the example.
//! For comparison a random subspace of the same dimension is taken out in the same way, and the change made as long as the
//! probe's, example by example: what counts is where the activation is moved, not how far.

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Probe;
use super::measure::Measured;
use super::question::Question;
use crate::analysis::attribution::numbers;
use crate::edit::{Edit, Op};
use crate::error::Result;
use crate::lab::Lab;
use crate::learn::{Matrix, basis, dot};
use crate::metric::Metric;
use crate::model::Base;
use crate::ops;
use crate::record::at_positions;
use crate::site::{Positions, Slice};
use crate::sweep::{Cell, Reading, sweep, unchanged};
use crate::task::Side;

/// What came of taking one probe's subspace out: per kept example.
pub(super) struct Used {
    /// Which of the measured probes.
    pub(super) measured: usize,
    /// The metric, and whether the answer leads, in the model as it is.
    pub(super) before: Vec<[f64; 2]>,
    /// The same without the probe's subspace.
    pub(super) after: Vec<[f64; 2]>,
    /// The same, mean over changes as large in random directions.
    pub(super) random: Vec<[f64; 2]>,
    /// How far the activation was moved, as a share of its distance from the mean.
    pub(super) moved: Vec<f64>,
    /// Directions taken out, the most of any fold.
    pub(super) rank: usize,
}

/// What one fold's probe reads, and the mean it is taken out about.
struct Cut<'a> {
    read: Matrix,
    mean: &'a [f64],
    /// Random subspaces of the same dimension.
    random: Vec<Matrix>,
}

/// Runs every intervention.
pub(super) fn all(lab: &Lab, question: &Question, measured: &[Measured], probe: &Probe) -> Result<Vec<Used>> {
    let (model, task) = (&lab.model, question.task);
    let n = question.kept.len();
    let blank = |measured: usize| Used {
        measured,
        before: vec![[0.0; 2]; n],
        after: vec![[0.0; 2]; n],
        random: vec![[0.0; 2]; n],
        moved: vec![0.0; n],
        rank: 0,
    };
    let mut used: Vec<Used> = (0..measured.len()).map(blank).collect();
    let mut row_of = vec![None; task.examples.len()];
    question.kept.iter().enumerate().for_each(|(row, &i)| row_of[i] = Some(row));

    let wanted = |site| question.spots.iter().any(|spot| spot.site == site);
    let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
    let each = 4 * model.recorded_bytes(longest, |site| wanted(site) || Base::needs(model, site));
    let batches = task.batches((lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize);
    lab.progress.begin("intervene", (batches.len() * measured.len() * (1 + probe.directions)) as u64);
    for batch in batches {
        let (batch, rows): (Vec<usize>, Vec<usize>) =
            batch.into_iter().filter_map(|i| Some((i, row_of[i]?))).unzip();
        if batch.is_empty() {
            continue;
        }
        lab.check()?;
        let read = task.ends(&batch);
        let base = Base::record(model, &task.tokens(model, &batch, Side::Clean)?, wanted)?;
        let logits = base.logits(model, &read)?;
        let clean = (probe.metric == Metric::Kl).then(|| ops::log_softmax(&logits)).transpose()?;
        let targets = task.targets(&batch, clean);
        let before = |metric| unchanged(lab, &base, &Reading::metric(&read, metric, &targets));
        let (metric, lead) = (before(probe.metric)?, before(Metric::LogitDiff)?);
        let now: Vec<[f64; 2]> = pairs(&metric, &lead);
        for (used, one) in used.iter_mut().zip(measured) {
            let spot = &question.spots[one.spot];
            let positions: Vec<usize> = batch.iter().map(|&i| question.positions(spot)[i]).collect();
            let x = at_positions(base.kept.get(spot.site)?, &positions)?;
            let x = Matrix { rows: rows.len(), cols: spot.width, data: numbers(&x.flatten_all()?)? };
            let cuts = cuts(lab, probe, one);
            used.rank = cuts.iter().map(|cut| cut.read.rows).max().unwrap_or(0);
            let mut changes = vec![Matrix::zeros(x.rows, x.cols); 1 + probe.directions];
            for (r, &row) in rows.iter().enumerate() {
                let cut = &cuts[one.folds.of[row]];
                used.moved[row] = cut.changes(x.row(r), r, &mut changes);
            }
            let cell = |change: Matrix| -> Result<Cell> {
                let values = Tensor::from_vec(change.data, (change.rows, change.cols), &Device::Cpu)?;
                let at = Slice::whole(spot.site).pos(Positions::PerRow(positions.clone()));
                Ok(Cell { edits: vec![Edit { at, op: Op::Add(values) }] })
            };
            let cells: Vec<Cell> = changes.into_iter().map(cell).collect::<Result<_>>()?;
            let by = |metric| sweep(lab, &base, &cells, &Reading::metric(&read, metric, &targets));
            let metric = by(probe.metric)?;
            let lead = match probe.metric {
                Metric::LogitDiff => metric.clone(),
                _ => by(Metric::LogitDiff)?,
            };
            let mut after = metric.iter().zip(&lead).map(|(metric, lead)| pairs(metric, lead));
            let own = after.next().unwrap_or_default();
            let random: Vec<Vec<[f64; 2]>> = after.collect();
            for (r, &row) in rows.iter().enumerate() {
                used.before[row] = now[r];
                used.after[row] = own[r];
                for draw in &random {
                    used.random[row][0] += draw[r][0] / random.len() as f64;
                    used.random[row][1] += draw[r][1] / random.len() as f64;
                }
            }
        }
    }
    lab.progress.end();
    Ok(used)
}

/// The metric, and 1 where the answer leads.
fn pairs(metric: &[f64], lead: &[f64]) -> Vec<[f64; 2]> {
    metric.iter().zip(lead).map(|(&m, &lead)| [m, f64::from(u8::from(lead > 0.0))]).collect()
}

/// One cut for each fold of a probe. The random subspaces depend on seed, draw and dimension only.
fn cuts<'a>(lab: &Lab, probe: &Probe, one: &'a Measured) -> Vec<Cut<'a>> {
    let each = one.held.fits.iter().map(|fit| {
        let read = fit.linear.subspace();
        let random = (0..probe.directions).map(|draw| {
            let mut rng = ChaCha8Rng::seed_from_u64(lab.seed.wrapping_add(draw as u64) ^ 0xD1_2EC7);
            let data = (0..read.rows * read.cols).map(|_| normal(&mut rng)).collect();
            basis(&Matrix { rows: read.rows, cols: read.cols, data })
        });
        Cut { random: random.collect(), mean: &fit.mean, read }
    });
    each.collect()
}

/// A standard normal draw (Box & Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, angle) = (rng.random_range(f64::MIN_POSITIVE..1.0), rng.random_range(0.0..1.0));
    (-2.0 * f64::ln(radius)).sqrt() * (std::f64::consts::TAU * angle).cos()
}

impl Cut<'_> {
    /// Writes into row `r` of each matrix what is added to `x`: first what takes the probe's subspace out, then changes as long in
    /// random subspaces. Returns the length as a share of the distance from the mean.
    fn changes(&self, x: &[f64], r: usize, into: &mut [Matrix]) -> f64 {
        let off: Vec<f64> = x.iter().zip(self.mean).map(|(x, mean)| x - mean).collect();
        let out = within(&self.read, &off);
        let (length, all) = (dot(&out, &out).sqrt(), dot(&off, &off).sqrt());
        for (k, change) in into.iter_mut().enumerate() {
            let (part, factor) = match k.checked_sub(1) {
                None => (out.clone(), -1.0),
                Some(draw) => {
                    let part = within(&self.random[draw], &off);
                    let own = dot(&part, &part).sqrt();
                    (part, if own > 0.0 { -length / own } else { 0.0 })
                }
            };
            change.row_mut(r).iter_mut().zip(part).for_each(|(change, part)| *change = factor * part);
        }
        if all > 0.0 { length / all } else { 0.0 }
    }
}

/// Bᵀ(B·v): the part of a vector within the span of orthonormal rows.
fn within(rows: &Matrix, v: &[f64]) -> Vec<f64> {
    let mut part = vec![0.0; v.len()];
    for k in 0..rows.rows {
        let along = dot(rows.row(k), v);
        part.iter_mut().zip(rows.row(k)).for_each(|(part, b)| *part += along * b);
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probes_subspace_is_gone_and_random_changes_are_as_long() {
        let data = (0..12).map(|i| f64::from(i * 7 % 11) - 5.0).collect();
        let read = basis(&Matrix { rows: 2, cols: 6, data });
        let data = (0..12).map(|i| f64::from(i * 5 % 13) - 6.0).collect();
        let random = basis(&Matrix { rows: 2, cols: 6, data });
        let mean = [1.0, -1.0, 0.5, 0.0, 2.0, 1.0];
        let cut = Cut { read, mean: &mean, random: vec![random] };
        let x = [3.0, 1.0, -2.0, 4.0, 0.5, 1.5];
        let mut changes = vec![Matrix::zeros(1, 6); 2];
        let moved = cut.changes(&x, 0, &mut changes);
        let after: Vec<f64> = x.iter().zip(&changes[0].data).map(|(x, c)| x + c).collect();
        for k in 0..2 {
            let (left, of_mean) = (dot(cut.read.row(k), &after), dot(cut.read.row(k), &mean));
            assert!((left - of_mean).abs() < 1e-12, "the probe reads what it reads in the mean");
        }
        let length = |c: &Matrix| dot(&c.data, &c.data).sqrt();
        assert!((length(&changes[0]) - length(&changes[1])).abs() < 1e-12);
        let off: Vec<f64> = x.iter().zip(mean).map(|(x, m)| x - m).collect();
        assert!((moved - length(&changes[0]) / dot(&off, &off).sqrt()).abs() < 1e-12);
    }
}
