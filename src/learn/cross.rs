//! Cross-validation: every example is judged by a probe that saw neither it nor its group.

use rayon::prelude::*;

use super::matrix::Matrix;
use super::{Folds, Linear, Method, Set, best, grouped, softmax};
use crate::error::Result;

/// Where the penalty of each fold's probe comes from.
#[derive(Debug, Clone, Copy)]
pub enum Penalty<'a> {
    /// Chosen inside the fold's training part, by group-wise folds of its own.
    Inside(usize),
    /// These, one per fold: for a baseline of a probe whose penalties were chosen before.
    Given(&'a [f64]),
}

/// A fold's probe.
#[derive(Debug, Clone)]
pub struct Fit {
    /// Scores of the features as they are.
    pub linear: Linear,
    /// The mean of the training part.
    pub mean: Vec<f64>,
    /// The penalty, where the method has one; NaN else.
    pub penalty: f64,
    /// Whether the optimum was reached.
    pub converged: bool,
}

/// What was said of every example while it was held out.
#[derive(Debug, Clone)]
pub struct Held {
    /// The class with the highest score.
    pub predicted: Vec<usize>,
    /// Scores `[example, class]`: probabilities where the method has them.
    pub scores: Matrix,
    /// The probe of each fold.
    pub fits: Vec<Fit>,
}

impl Held {
    /// The share of examples that were recognised.
    pub fn accuracy(&self, y: &[usize]) -> f64 {
        let right = self.predicted.iter().zip(y).filter(|(a, b)| a == b).count();
        right as f64 / y.len().max(1) as f64
    }

    /// The penalties of the folds.
    pub fn penalties(&self) -> Vec<f64> {
        self.fits.iter().map(|fit| fit.penalty).collect()
    }
}

/// Largest entry of a gradient at which a fit counts as an optimum; while a penalty is being chosen, a looser one.
const TOLERANCE: f64 = 1e-6;
const CHOOSING: f64 = 1e-4;

/// Fits one probe per fold on the others' examples and asks it about its own. Folds run in parallel; the result does not depend on
/// how many threads there are.
pub fn cross_validate(set: &Set, method: Method, folds: &Folds, penalty: Penalty, seed: u64) -> Result<Held> {
    let each = (0..folds.count).into_par_iter().map(|fold| {
        let train: Vec<usize> = (0..set.y.len()).filter(|&i| folds.of[i] != fold).collect();
        let x = set.x.take(&train);
        let y: Vec<usize> = train.iter().map(|&i| set.y[i]).collect();
        let chosen: Vec<f64> = match penalty {
            _ if method.grid().is_empty() => Vec::new(),
            Penalty::Given(list) => list.get(fold).copied().into_iter().collect(),
            Penalty::Inside(inner) => {
                let groups: Vec<usize> = train.iter().map(|&i| set.groups[i]).collect();
                vec![choose(&x, &y, set.classes, &groups, method, inner, seed)?]
            }
        };
        let fitted = method.path(&x, &y, set.classes, &chosen, TOLERANCE).swap_remove(0);
        let penalty = chosen.first().copied().unwrap_or(f64::NAN);
        Ok(Fit { linear: fitted.linear, mean: x.mean_row(), penalty, converged: fitted.converged })
    });
    let fits: Vec<Fit> = each.collect::<Result<_>>()?;
    let mut scores = Matrix::zeros(set.y.len(), set.classes);
    let mut predicted = vec![0; set.y.len()];
    for (fold, fit) in fits.iter().enumerate() {
        let held: Vec<usize> = (0..set.y.len()).filter(|&i| folds.of[i] == fold).collect();
        let said = fit.linear.scores(&set.x.take(&held));
        for (row, &i) in held.iter().enumerate() {
            predicted[i] = best(said.row(row));
            scores.row_mut(i).copy_from_slice(said.row(row));
            if method.is_probability() {
                softmax(scores.row_mut(i));
            }
        }
    }
    Ok(Held { predicted, scores, fits })
}

/// The penalty with the smallest price over group-wise folds of a training part; of equals, the strongest.
fn choose(
    x: &Matrix,
    y: &[usize],
    classes: usize,
    groups: &[usize],
    method: Method,
    inner: usize,
    seed: u64,
) -> Result<f64> {
    let grid = method.grid();
    let folds = grouped(y, classes, groups, inner, seed)?;
    let mut prices = vec![0.0; grid.len()];
    for fold in 0..folds.count {
        let (held, train): (Vec<usize>, Vec<usize>) = (0..y.len()).partition(|&i| folds.of[i] == fold);
        let pick = |rows: &[usize]| rows.iter().map(|&i| y[i]).collect::<Vec<_>>();
        let (own, asked) = (x.take(&train), x.take(&held));
        let path = method.path(&own, &pick(&train), classes, grid, CHOOSING);
        for (price, fitted) in prices.iter_mut().zip(path) {
            *price +=
                method.price(&fitted.linear.scores(&asked), &pick(&held), train.len()) * held.len() as f64;
        }
    }
    let mut chosen = 0;
    for (i, price) in prices.iter().enumerate() {
        if *price < prices[chosen] {
            chosen = i;
        }
    }
    Ok(grid[chosen])
}
