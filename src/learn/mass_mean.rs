//! Mass-mean probes (Marks & Tegmark 2023): directions between the means of classes.

use super::Linear;
use super::matrix::{Matrix, add, dot};

/// What distances between means are measured by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spread {
    /// Plain distance: θ = μ₊ − μ₋.
    Plain,
    /// The covariance within classes, shrunk towards a ball of the same trace by this share: Σ⁻¹θ, linear discriminant analysis.
    Within(f64),
}

/// Scores μ_k·x − ½‖μ_k‖², of which the nearest class mean has the highest; with Σ⁻¹ in both products for
/// [`Spread::Within`]. For two classes the difference is θ·(x − midpoint). None where the covariance cannot be inverted.
pub fn mass_mean(x: &Matrix, y: &[usize], classes: usize, spread: Spread) -> Option<Linear> {
    let center = x.mean_row();
    let mut means = Matrix::zeros(classes, x.cols);
    let mut counts = vec![0usize; classes];
    for (i, &class) in y.iter().enumerate() {
        add(means.row_mut(class), 1.0, x.row(i));
        counts[class] += 1;
    }
    for (class, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let row = means.row_mut(class);
        row.iter_mut().zip(&center).for_each(|(sum, center)| *sum = *sum / count as f64 - center);
    }
    let factor = match spread {
        Spread::Plain => None,
        Spread::Within(shrink) => Some(within(x, y, &means, &center, shrink).cholesky()?),
    };
    let mut linear =
        Linear { weights: Matrix::zeros(classes, x.cols), bias: vec![f64::NEG_INFINITY; classes] };
    for class in (0..classes).filter(|&class| counts[class] > 0) {
        let mean = means.row(class);
        let weights = factor.as_ref().map_or_else(|| mean.to_vec(), |factor| factor.cholesky_solve(mean));
        linear.bias[class] = -0.5 * dot(&weights, mean) - dot(&weights, &center);
        linear.weights.row_mut(class).copy_from_slice(&weights);
    }
    Some(linear)
}

/// The covariance within classes, shrunk.
fn within(x: &Matrix, y: &[usize], means: &Matrix, center: &[f64], shrink: f64) -> Matrix {
    let mut off = x.clone();
    for (i, &class) in y.iter().enumerate() {
        add(off.row_mut(i), -1.0, center);
        add(off.row_mut(i), -1.0, means.row(class));
    }
    let (n, d) = (x.rows.max(1) as f64, x.cols);
    let mut covariance = off.t().outer_gram();
    covariance.data.iter_mut().for_each(|value| *value *= (1.0 - shrink) / n);
    let trace: f64 = (0..d).map(|i| covariance.data[i * d + i]).sum::<f64>() / (1.0 - shrink);
    (0..d).for_each(|i| covariance.data[i * d + i] += shrink * trace / d as f64);
    covariance
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::best;

    #[test]
    fn two_classes_are_parted_half_way_between_their_means() {
        let x = Matrix { rows: 4, cols: 2, data: vec![0.0, 1.0, 0.0, -1.0, 4.0, 1.0, 4.0, -1.0] };
        let y = [0, 0, 1, 1];
        let at = |linear: &Linear, point: [f64; 2]| {
            let scores = linear.scores(&Matrix { rows: 1, cols: 2, data: point.to_vec() });
            scores.data[1] - scores.data[0]
        };
        let plain = mass_mean(&x, &y, 2, Spread::Plain).unwrap();
        assert!(at(&plain, [2.0, 7.0]).abs() < 1e-12);
        assert!((at(&plain, [3.0, 0.0]) - 4.0).abs() < 1e-12); // θ = (4, 0)
        // Σ = diag(0, 1); shrunk by ½: diag(¼, ¾)
        let within = mass_mean(&x, &y, 2, Spread::Within(0.5)).unwrap();
        assert!((at(&within, [3.0, 0.0]) - 16.0).abs() < 1e-12);
        assert_eq!(best(within.scores(&x).row(3)), 1);
        assert!(mass_mean(&x, &y, 2, Spread::Within(0.0)).is_none());
    }
}
