//! Logistic regression, of two classes and of more.

use super::matrix::{Matrix, add, dot};
use super::{Curvature, Linear, Optimum, minimise, softmax};

/// C·Σ loss + ½‖w‖² over one training set; intercepts are not penalised. The objective and C are scikit-learn's; inside,
/// it is divided by C·n, so that tolerances do not depend on either.
///
/// Two classes have one row of weights, more have one each (softmax). Classes without an example are left out of the fit, and
/// examples that are equal in everything are counted rather than repeated: activations of equal beginnings of prompts are.
#[derive(Debug)]
pub struct Logistic {
    /// The distinct examples.
    x: Matrix,
    /// Each one's class among those present.
    y: Vec<usize>,
    /// How often each occurs, and their sum.
    counts: Vec<f64>,
    n: f64,
    present: Vec<usize>,
    classes: usize,
}

impl Logistic {
    /// The problem of telling `classes` classes apart.
    pub fn new(x: &Matrix, y: &[usize], classes: usize) -> Logistic {
        let mut place = vec![usize::MAX; classes];
        let mut present = Vec::new();
        for class in (0..classes).filter(|class| y.contains(class)) {
            place[class] = present.len();
            present.push(class);
        }
        let (rows, counts) = distinct(x, y);
        let y = rows.iter().map(|&i| place[y[i]]).collect();
        Logistic { x: x.take(&rows), y, counts, n: x.rows as f64, present, classes }
    }

    /// Rows of weights that are fitted: 1 for two classes, else one per class.
    fn rows(&self) -> usize {
        if self.present.len() == 2 { 1 } else { self.present.len() }
    }

    /// Fits at penalty C from a start: another penalty's optimum, or empty for zeros.
    pub fn fit(&self, c: f64, start: &[f64], tolerance: f64, most: usize) -> Optimum {
        let size = self.rows() * (self.x.cols + 1);
        let start = if start.len() == size { start.to_vec() } else { vec![0.0; size] };
        if self.present.len() < 2 {
            return Optimum { x: vec![0.0; size], value: 0.0, slope: 0.0, steps: 0, converged: true };
        }
        let loss = &mut |at: &[f64], gradient: &mut [f64]| self.mean_loss(c, at, gradient);
        minimise(start, loss, &mut |at| self.curvature(c, at), tolerance, most)
    }

    /// The curvature of the mean loss. Of two classes it is exact; of more, each class's own is taken to be the mean of theirs,
    /// and that between them to be nothing. With fewer examples than features the passes are cheaper than it.
    fn curvature(&self, c: f64, at: &[f64]) -> Option<Curvature> {
        /// Beyond this many features its memory tells.
        const WIDEST: usize = 2048;
        let (rows, width) = (self.rows(), self.x.cols);
        if width > WIDEST || self.x.rows < width {
            return None;
        }
        let (w, b) = at.split_at(rows * width);
        let weight = |i: usize| {
            let x = self.x.row(i);
            let mut p: Vec<f64> = w.chunks_exact(width.max(1)).zip(b).map(|(w, b)| b + dot(w, x)).collect();
            if rows == 1 {
                p.push(0.0); // σ(s) is a softmax of s and 0
            }
            softmax(&mut p);
            let spread: f64 = p.iter().map(|p| p * (1.0 - p)).sum();
            self.counts[i] / self.n * spread / p.len() as f64
        };
        let weights: Vec<f64> = (0..self.x.rows).map(weight).collect();
        Curvature::new(&self.x, &weights, 1.0 / (c * self.n))
    }

    /// The objective C·Σ loss + ½‖w‖² at parameters `[row, feature]` followed by intercepts.
    pub fn objective(&self, c: f64, at: &[f64]) -> f64 {
        self.mean_loss(c, at, &mut vec![0.0; at.len()]) * c * self.n
    }

    /// (Σ loss)/n + ½‖w‖²/(C·n) and its gradient.
    fn mean_loss(&self, c: f64, at: &[f64], gradient: &mut [f64]) -> f64 {
        // the widest registers there are, in the same order of sums
        pulp::Arch::new().dispatch(|| self.mean_loss_here(c, at, gradient))
    }

    #[inline(always)]
    fn mean_loss_here(&self, c: f64, at: &[f64], gradient: &mut [f64]) -> f64 {
        let (rows, width, n) = (self.rows(), self.x.cols, self.n);
        let (w, b) = at.split_at(rows * width);
        let (into_w, into_b) = gradient.split_at_mut(rows * width);
        let ridge = 1.0 / (c * n);
        into_w.iter_mut().zip(w).for_each(|(g, w)| *g = ridge * w);
        into_b.fill(0.0);
        let mut loss = 0.0;
        let mut scores = vec![0.0; rows];
        for i in 0..self.x.rows {
            let (x, y, count) = (self.x.row(i), self.y[i], self.counts[i]);
            for (k, score) in scores.iter_mut().enumerate() {
                *score = b[k] + dot(&w[k * width..(k + 1) * width], x);
            }
            if rows == 1 {
                // −log σ(±s), without overflow
                let sign = if y == 1 { 1.0 } else { -1.0 };
                let margin = sign * scores[0];
                let price =
                    if margin > 0.0 { (-margin).exp().ln_1p() } else { margin.exp().ln_1p() - margin };
                loss += count * price;
                scores[0] = -sign / (1.0 + margin.exp());
            } else {
                let own = scores[y];
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|score| (score - top).exp()).sum();
                loss += count * (top + total.ln() - own);
                softmax(&mut scores);
                scores[y] -= 1.0;
            }
            for (k, slope) in scores.iter().enumerate() {
                add(&mut into_w[k * width..(k + 1) * width], count * slope / n, x);
                into_b[k] += count * slope / n;
            }
        }
        loss / n + 0.5 * ridge * dot(w, w)
    }

    /// The scores that parameters stand for.
    pub fn linear(&self, at: &[f64]) -> Linear {
        let (rows, width) = (self.rows(), self.x.cols);
        let mut linear = Linear {
            weights: Matrix::zeros(self.classes, width),
            bias: vec![f64::NEG_INFINITY; self.classes],
        };
        for (k, &class) in self.present.iter().enumerate() {
            // one row s of two classes is ∓s/2, whose softmax is σ(s)
            let (row, factor) = if rows == 1 { (0, k as f64 - 0.5) } else { (k, 1.0) };
            add(linear.weights.row_mut(class), factor, &at[row * width..(row + 1) * width]);
            linear.bias[class] = factor * at[rows * width + row];
        }
        linear
    }
}

/// One of each kind of examples that are equal in features and class, in order of first appearance, and how many there are.
fn distinct(x: &Matrix, y: &[usize]) -> (Vec<usize>, Vec<f64>) {
    let order = |&a: &usize, &b: &usize| {
        let pairs = x.row(a).iter().zip(x.row(b));
        let features = pairs.map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
        y[a].cmp(&y[b]).then(features.unwrap_or(std::cmp::Ordering::Equal))
    };
    let mut sorted: Vec<usize> = (0..x.rows).collect();
    sorted.sort_by(order); // stable: of equals, the first stays first
    let runs = sorted.chunk_by(|a, b| order(a, b).is_eq());
    let mut kinds: Vec<(usize, f64)> = runs.map(|run| (run[0], run.len() as f64)).collect();
    kinds.sort_by_key(|(first, _)| *first);
    kinds.into_iter().unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let data = (0..60).map(|i| ((i * 29 % 41) as f64 - 20.0) / 9.0).collect();
        let x = Matrix { rows: 12, cols: 5, data };
        for classes in [2, 3, 4] {
            let y: Vec<usize> = (0..12).map(|i| i * 7 % classes).collect();
            let problem = Logistic::new(&x, &y, classes);
            let at: Vec<f64> = (0..problem.rows() * 6).map(|i| ((i * 13 % 17) as f64 - 8.0) / 10.0).collect();
            let mut gradient = vec![0.0; at.len()];
            problem.mean_loss(0.3, &at, &mut gradient);
            for i in 0..at.len() {
                let value = |h: f64| {
                    let mut at = at.clone();
                    at[i] += h;
                    problem.mean_loss(0.3, &at, &mut vec![0.0; at.len()])
                };
                let slope = (value(1e-5) - value(-1e-5)) / 2e-5;
                assert!((slope - gradient[i]).abs() < 1e-9, "{classes} {i}: {slope} {}", gradient[i]);
            }
        }
    }

    #[test]
    fn the_curvature_agrees_with_finite_differences() {
        let data = (0..60).map(|i| ((i * 29 % 41) as f64 - 20.0) / 9.0).collect();
        let x = Matrix { rows: 12, cols: 5, data };
        let y: Vec<usize> = (0..12).map(|i| i * 7 % 2).collect();
        let problem = Logistic::new(&x, &y, 2);
        let at: Vec<f64> = (0..6).map(|i| (f64::from(i * 13 % 17) - 8.0) / 10.0).collect();
        let direction: Vec<f64> = (0..6).map(|i| f64::from(i * 5 % 7) - 2.5).collect();
        let gradient = |h: f64| {
            let mut gradient = vec![0.0; 6];
            let at: Vec<f64> = at.iter().zip(&direction).map(|(at, d)| at + h * d).collect();
            problem.mean_loss(0.3, &at, &mut gradient);
            gradient
        };
        let (ahead, behind) = (gradient(1e-5), gradient(-1e-5));
        let mut back: Vec<f64> = ahead.iter().zip(behind).map(|(a, b)| (a - b) / 2e-5).collect();
        problem.curvature(0.3, &at).unwrap().solve(&mut back);
        for (back, d) in back.iter().zip(&direction) {
            assert!((back - d).abs() < 1e-4, "{back} {d}");
        }
    }

    /// Features of sizes from 1 to 80: the same optimum as without the curvature, in far fewer steps.
    #[test]
    fn the_curvature_saves_steps_and_moves_no_optimum() {
        let value = |i: usize| ((i * 7919 % 1009) as f64 - 504.0) / 300.0;
        let data = (0..300 * 20).map(|i| value(i) * 10f64.powf((i % 20) as f64 / 10.0)).collect();
        let x = Matrix { rows: 300, cols: 20, data };
        for classes in [2, 4] {
            let y: Vec<usize> = (0..300).map(|i| (i * 31 % 37) % classes).collect();
            let problem = Logistic::new(&x, &y, classes);
            let found = problem.fit(1.0, &[], 1e-8, 1000);
            let loss = &mut |at: &[f64], gradient: &mut [f64]| problem.mean_loss(1.0, at, gradient);
            let plain = minimise(vec![0.0; found.x.len()], loss, &mut |_| None, 1e-8, 20_000);
            assert!(found.converged && plain.converged, "{found:?} {plain:?}");
            assert!(3 * found.steps < plain.steps, "{} {}", found.steps, plain.steps);
            // the objective is 1/300 convex in the weights
            let far =
                found.x.iter().zip(&plain.x).take(20).fold(0.0f64, |far, (a, b)| far.max((a - b).abs()));
            assert!(far < 2e-5, "{far}");
        }
    }

    #[test]
    fn a_class_without_examples_is_never_chosen() {
        let x = Matrix { rows: 4, cols: 1, data: vec![-2.0, -1.0, 1.0, 2.0] };
        let problem = Logistic::new(&x, &[0, 0, 2, 2], 3);
        let fit = problem.fit(1.0, &[], 1e-8, 100);
        let linear = problem.linear(&fit.x);
        assert_eq!(linear.bias[1], f64::NEG_INFINITY);
        let scores = linear.scores(&x);
        assert_eq!([0, 1, 2, 3].map(|i| super::super::best(scores.row(i))), [0, 0, 2, 2]);
        let one = Logistic::new(&x, &[1; 4], 3);
        assert_eq!(super::super::best(one.linear(&one.fit(1.0, &[], 1e-8, 9).x).scores(&x).row(0)), 1);
    }

    #[test]
    fn equal_examples_are_counted() {
        let x =
            Matrix::of(&[vec![1.0, 2.0], vec![0.0, 1.0], vec![1.0, 2.0], vec![1.0, 2.0], vec![0.0, -1.0]]);
        assert_eq!(distinct(&x, &[0, 0, 1, 0, 1]), (vec![0, 1, 2, 4], vec![2.0, 1.0, 1.0, 1.0]));
    }
}
