//! Linear models of plain numbers: what a probe is made of. Everything is f64 and deterministic; no tensor, model, file or
//! text is known here.
//!
//! Rows of a [`Matrix`] are examples, classes are counted from 0, groups (of examples that may not be parted between training
//! and test) likewise. Inputs are checked where a caller meets this folder: in [`Set::new`].

mod code;
mod cross;
mod curvature;
mod folds;
mod lbfgs;
mod logistic;
mod mass_mean;
mod matrix;
mod method;
mod ridge;
mod scores;
mod standard;

pub use code::{Code, online_code};
pub use cross::{Fit, Held, Penalty, cross_validate};
pub use curvature::Curvature;
pub use folds::{Folds, grouped, recurring};
pub use lbfgs::{Optimum, minimise};
pub use logistic::Logistic;
pub use mass_mean::{Spread, mass_mean};
pub use matrix::{Matrix, basis, dot};
pub use method::Method;
pub use ridge::Ridge;
pub use scores::{Ranking, balanced_accuracy};
pub use standard::Standard;

use crate::error::{Error, Result};

/// Examples with their classes and groups.
#[derive(Debug, Clone)]
pub struct Set<'a> {
    /// `[example, feature]`.
    pub x: &'a Matrix,
    /// Each example's class.
    pub y: Vec<usize>,
    /// How many classes there are.
    pub classes: usize,
    /// Each example's group, counted from 0: examples of one group are never parted.
    pub groups: &'a [usize],
}

impl<'a> Set<'a> {
    /// Checks that lists are of one length, classes are at least two, and every number is finite.
    pub fn new(x: &'a Matrix, y: Vec<usize>, classes: usize, groups: &'a [usize]) -> Result<Set<'a>> {
        let wrong = |what: String| Err(Error::Tensor(what));
        if x.rows != y.len() || x.rows != groups.len() {
            return wrong(format!("{} rows, {} classes and {} groups", x.rows, y.len(), groups.len()));
        }
        if classes < 2 || y.iter().any(|&class| class >= classes) {
            return wrong(format!("classes must be two or more, and below {classes}"));
        }
        if x.data.iter().any(|value| !value.is_finite()) {
            return Err(Error::input(
                "an activation is not a finite number, and nothing can be learnt from it",
                "compute in f64 (`--dtype f64`), or leave the place out",
            ));
        }
        Ok(Set { x, y, classes, groups })
    }

    /// The same examples with other classes.
    pub fn relabelled(&self, y: Vec<usize>) -> Set<'a> {
        Set { y, ..*self }
    }
}

/// Affine scores of each class: `weights [class, feature] · x + bias`; the highest wins. A class that training never saw has
/// a bias of −∞. Of two classes, the rows are each other's negatives, so that their difference is the usual single row.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// `[class, feature]`.
    pub weights: Matrix,
    /// One per class.
    pub bias: Vec<f64>,
}

impl Linear {
    /// The scores `[example, class]`.
    pub fn scores(&self, x: &Matrix) -> Matrix {
        let mut scores = Matrix::zeros(x.rows, self.bias.len());
        for i in 0..x.rows {
            for (class, score) in scores.row_mut(i).iter_mut().enumerate() {
                *score = self.bias[class] + dot(self.weights.row(class), x.row(i));
            }
        }
        scores
    }

    /// The subspace that the scores' differences read, as orthonormal rows `[rank, feature]`: what must be taken out of an
    /// activation for the model to say the same of all of them.
    pub fn subspace(&self) -> Matrix {
        let seen: Vec<usize> = (0..self.bias.len()).filter(|&class| self.bias[class].is_finite()).collect();
        let mut rows = self.weights.take(&seen);
        let mean = rows.mean_row();
        rows.data.chunks_exact_mut(rows.cols.max(1)).for_each(|row| {
            row.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= mean);
        });
        basis(&rows)
    }
}

/// The class with the highest score, the first of equals.
pub fn best(scores: &[f64]) -> usize {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    best
}

/// Softmax in place; −∞ becomes 0.
pub fn softmax(scores: &mut [f64]) {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut total = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - top).exp();
        total += *score;
    }
    scores.iter_mut().for_each(|score| *score /= total);
}
