//! Features to mean 0 and deviation 1, and back.

use super::Linear;
use super::matrix::{Matrix, add, dot};

/// Means and deviations of a training set's features.
#[derive(Debug, Clone, PartialEq)]
pub struct Standard {
    /// Subtracted.
    pub mean: Vec<f64>,
    /// Divided by; ∞ where a feature hardly varies, which makes it 0.
    pub scale: Vec<f64>,
}

impl Standard {
    /// Of these rows. A feature whose deviation is below a hundred-thousandth of the largest is rounding noise: it would be blown
    /// up to the size of all others.
    pub fn of(x: &Matrix) -> Standard {
        let mean = x.mean_row();
        let mut scale = vec![0.0; x.cols];
        for i in 0..x.rows {
            scale
                .iter_mut()
                .zip(x.row(i).iter().zip(&mean))
                .for_each(|(s, (x, mean))| *s += (x - mean).powi(2));
        }
        scale.iter_mut().for_each(|s| *s = (*s / x.rows.max(1) as f64).sqrt());
        let floor = 1e-5 * scale.iter().copied().fold(0.0, f64::max);
        scale.iter_mut().filter(|s| **s <= floor).for_each(|s| *s = f64::INFINITY);
        Standard { mean, scale }
    }

    /// (x − mean) / scale.
    pub fn apply(&self, x: &Matrix) -> Matrix {
        let mut z = x.clone();
        for i in 0..x.rows {
            let row = z.row_mut(i);
            add(row, -1.0, &self.mean);
            row.iter_mut().zip(&self.scale).for_each(|(z, s)| *z /= s);
        }
        z
    }

    /// Scores of standardised features as scores of the features themselves: w / scale, b − w·(mean / scale).
    pub fn undo(&self, linear: &Linear) -> Linear {
        let mut undone = linear.clone();
        for (class, bias) in undone.bias.iter_mut().enumerate() {
            let row = undone.weights.row_mut(class);
            row.iter_mut().zip(&self.scale).for_each(|(w, s)| *w /= s);
            *bias -= dot(row, &self.mean);
        }
        undone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_the_same_before_and_after() {
        let data = (0..40).map(|i| if i % 4 == 3 { 7.0 } else { (i * 31 % 23) as f64 * 0.7 - 3.0 }).collect();
        let x = Matrix { rows: 10, cols: 4, data };
        let standard = Standard::of(&x);
        let z = standard.apply(&x);
        assert!(z.mean_row().iter().all(|mean| mean.abs() < 1e-12));
        assert!((0..10).all(|i| z.row(i)[3] == 0.0), "a constant feature says nothing");
        let weights = Matrix { rows: 2, cols: 4, data: (0..8).map(|i| f64::from(i) - 3.0).collect() };
        let linear = Linear { weights, bias: vec![0.25, f64::NEG_INFINITY] };
        let (before, after) = (linear.scores(&z), standard.undo(&linear).scores(&x));
        for (a, b) in before.data.iter().zip(&after.data) {
            assert!(a == b || (a - b).abs() < 1e-10, "{a} {b}");
        }
    }
}
