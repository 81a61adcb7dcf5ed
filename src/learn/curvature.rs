//! Second derivatives of a sum of losses of linear scores, factored: what turns a gradient into a step of Newton's.

use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::linalg::solvers::{Llt, Solve};
use faer::{Accum, Mat, MatMut, MatRef, Par, Side};

use super::matrix::Matrix;

/// The Cholesky factor of Σ wᵢ (xᵢ, 1)(xᵢ, 1)ᵀ, with a ridge on every feature and none on the intercept. It is in f32, which is twice as
/// fast: a step need not be exact, the gradient that it is made from is.
#[derive(Debug)]
pub struct Curvature {
    factor: Llt<f32>,
    size: usize,
}

impl Curvature {
    /// Of examples with these weights, none of which is negative. Nothing where the sum is not positive definite.
    pub fn new(x: &Matrix, weights: &[f64], ridge: f64) -> Option<Curvature> {
        /// Examples whose products are added at a time.
        const TOGETHER: usize = 256;
        let size = x.cols + 1;
        let mut sum = Mat::<f32>::zeros(size, size);
        let mut some = Vec::with_capacity(TOGETHER * size);
        for (part, weights) in weights.chunks(TOGETHER).enumerate() {
            some.clear();
            for (i, weight) in weights.iter().enumerate() {
                let root = weight.sqrt();
                some.extend(x.row(part * TOGETHER + i).iter().map(|value| (root * value) as f32));
                some.push(root as f32);
            }
            let a = MatRef::from_row_major_slice(&some, weights.len(), size);
            let (lower, whole) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
            matmul(sum.as_mut(), lower, Accum::Add, a.transpose(), whole, a, whole, 1.0, Par::Seq);
        }
        (0..x.cols).for_each(|j| sum[(j, j)] += ridge as f32);
        let factor = sum.llt(Side::Lower).ok()?;
        Some(Curvature { factor, size })
    }

    /// Solves for each row of parameters: `[row, feature]` followed by their intercepts.
    pub fn solve(&self, parameters: &mut [f64]) {
        let rows = parameters.len() / self.size;
        let (w, b) = parameters.split_at_mut(rows * (self.size - 1));
        for (w, b) in w.chunks_exact_mut((self.size - 1).max(1)).zip(b) {
            let mut own: Vec<f32> = w.iter().chain(std::iter::once(&*b)).map(|&value| value as f32).collect();
            self.factor.solve_in_place(MatMut::from_column_major_slice_mut(&mut own, self.size, 1));
            w.iter_mut().chain(std::iter::once(b)).zip(own).for_each(|(to, value)| *to = f64::from(value));
        }
    }
}
