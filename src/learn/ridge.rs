//! Ridge regression on ±1 targets, one per class, as a classifier.

use super::Linear;
use super::matrix::{Matrix, add, dot};

/// ‖y − Xw − b‖² + α‖w‖² for every class at once; the intercept is not penalised. The Gram matrix is made once and serves
/// every α: of features, or of examples where these are fewer.
#[derive(Debug)]
pub struct Ridge {
    centred: Matrix,
    mean: Vec<f64>,
    /// Centred targets `[class, example]`, and their means.
    targets: Matrix,
    target_mean: Vec<f64>,
    present: Vec<bool>,
    gram: Matrix,
    by_feature: bool,
}

impl Ridge {
    /// The problem of telling `classes` classes apart.
    pub fn new(x: &Matrix, y: &[usize], classes: usize) -> Ridge {
        let mean = x.mean_row();
        let mut centred = x.clone();
        (0..x.rows).for_each(|i| add(centred.row_mut(i), -1.0, &mean));
        let mut targets = Matrix::zeros(classes, x.rows);
        let mut target_mean = vec![0.0; classes];
        for (class, mean) in target_mean.iter_mut().enumerate() {
            let row = targets.row_mut(class);
            row.iter_mut().zip(y).for_each(|(t, &y)| *t = if y == class { 1.0 } else { -1.0 });
            *mean = row.iter().sum::<f64>() / x.rows.max(1) as f64;
            row.iter_mut().for_each(|t| *t -= *mean);
        }
        let by_feature = x.cols <= x.rows;
        let gram = if by_feature { centred.t().outer_gram() } else { centred.outer_gram() };
        let present = (0..classes).map(|class| y.contains(&class)).collect();
        Ridge { centred, mean, targets, target_mean, present, gram, by_feature }
    }

    /// The scores at penalty α; none where the sums are not finite. Classes without an example are never chosen.
    pub fn fit(&self, alpha: f64) -> Option<Linear> {
        let size = self.gram.rows;
        let mut regular = self.gram.clone();
        (0..size).for_each(|i| regular.data[i * size + i] += alpha);
        let factor = regular.cholesky()?;
        let classes = self.target_mean.len();
        let mut linear = Linear {
            weights: Matrix::zeros(classes, self.centred.cols),
            bias: vec![f64::NEG_INFINITY; classes],
        };
        for class in (0..classes).filter(|&class| self.present[class]) {
            let target = self.targets.row(class);
            let weights = if self.by_feature {
                factor.cholesky_solve(&self.combine(target))
            } else {
                self.combine(&factor.cholesky_solve(target))
            };
            linear.bias[class] = self.target_mean[class] - dot(&weights, &self.mean);
            linear.weights.row_mut(class).copy_from_slice(&weights);
        }
        Some(linear)
    }

    /// Xᵀv.
    fn combine(&self, v: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; self.centred.cols];
        v.iter().enumerate().for_each(|(i, v)| add(&mut sum, *v, self.centred.row(i)));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_examples_and_few_features_give_one_answer() {
        // 6 examples of 5 features, and the same with a sixth and seventh feature that are zero: primal and dual
        let wide = |extra: usize| {
            let row = |i: usize| {
                let mut row: Vec<f64> = (0..5).map(|j| ((i * 17 + j * 5) % 11) as f64 - 5.0).collect();
                row.resize(5 + extra, 0.0);
                row
            };
            Matrix::of(&(0..6).map(row).collect::<Vec<_>>())
        };
        let y = [0, 1, 2, 0, 1, 2];
        let (primal, dual) = (Ridge::new(&wide(0), &y, 3), Ridge::new(&wide(2), &y, 3));
        assert!(primal.by_feature && !dual.by_feature);
        let (a, b) = (primal.fit(0.7).unwrap(), dual.fit(0.7).unwrap());
        for class in 0..3 {
            assert!((a.bias[class] - b.bias[class]).abs() < 1e-10);
            let pairs = a.weights.row(class).iter().zip(b.weights.row(class));
            assert!(pairs.fold(0.0f64, |most, (a, b)| most.max((a - b).abs())) < 1e-10);
        }
    }
}
