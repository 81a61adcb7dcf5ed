//! The kinds of probes, each a way from examples to [`Linear`] scores.

use serde::{Deserialize, Serialize};

use super::matrix::Matrix;
use super::{Linear, Logistic, Ridge, Spread, Standard, mass_mean, softmax};

/// How a probe is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Logistic regression on standardised features: C·Σ loss + ½‖w‖², intercept free.
    Logistic,
    /// Ridge regression of ±1 targets on standardised features: ‖error‖² + α‖w‖², intercept free.
    Ridge,
    /// The nearest class mean (Marks & Tegmark 2023): the direction between means, nothing fitted.
    MassMean,
    /// The same through the inverse covariance within classes, shrunk by a share: linear discriminant analysis.
    MassMeanIid,
}

/// A fit at one penalty.
#[derive(Debug, Clone)]
pub(super) struct Fitted {
    pub(super) linear: Linear,
    pub(super) converged: bool,
}

impl Method {
    /// Every one, in the order of tables.
    pub const ALL: [Method; 4] = [Method::Logistic, Method::Ridge, Method::MassMean, Method::MassMeanIid];

    /// The name used in studies and tables.
    pub fn name(self) -> &'static str {
        match self {
            Method::Logistic => "logistic",
            Method::Ridge => "ridge",
            Method::MassMean => "mass-mean",
            Method::MassMeanIid => "mass-mean-iid",
        }
    }

    /// The penalties among which one is chosen, strongest first: C, α, or the share of shrinkage. None where nothing is
    /// penalised.
    pub fn grid(self) -> &'static [f64] {
        match self {
            Method::Logistic => &[1e-3, 1e-2, 1e-1, 1.0, 10.0],
            Method::Ridge => &[1e4, 1e3, 1e2, 10.0, 1.0],
            Method::MassMean => &[],
            Method::MassMeanIid => &[0.9, 0.5, 0.1, 0.01],
        }
    }

    /// Whether the softmax of its scores is a probability.
    pub fn is_probability(self) -> bool {
        matches!(self, Method::Logistic | Method::MassMeanIid)
    }

    /// Fits at each penalty in turn (one fit when there are none), each logistic fit starting from the one before. Scores are
    /// those of the features as they are, not standardised. A fit that numbers do not allow has zero weights and did not
    /// converge.
    pub(super) fn path(
        self,
        x: &Matrix,
        y: &[usize],
        classes: usize,
        penalties: &[f64],
        tolerance: f64,
    ) -> Vec<Fitted> {
        let nothing = || Linear { weights: Matrix::zeros(classes, x.cols), bias: vec![0.0; classes] };
        let fitted = |linear: Option<Linear>| {
            let converged = linear.is_some();
            Fitted { linear: linear.unwrap_or_else(nothing), converged }
        };
        match self {
            Method::Logistic => {
                let standard = Standard::of(x);
                let z = standard.apply(x);
                let problem = Logistic::new(&z, y, classes);
                let mut last = Vec::new();
                let each = penalties.iter().map(|&c| {
                    let optimum = problem.fit(c, &last, tolerance, MOST_STEPS);
                    let linear = standard.undo(&problem.linear(&optimum.x));
                    last = optimum.x;
                    Fitted { linear, converged: optimum.converged }
                });
                each.collect()
            }
            Method::Ridge => {
                let standard = Standard::of(x);
                let problem = Ridge::new(&standard.apply(x), y, classes);
                penalties
                    .iter()
                    .map(|&a| fitted(problem.fit(a).map(|linear| standard.undo(&linear))))
                    .collect()
            }
            Method::MassMean => vec![fitted(mass_mean(x, y, classes, Spread::Plain))],
            Method::MassMeanIid => {
                let at = |&share: &f64| fitted(mass_mean(x, y, classes, Spread::Within(share)));
                penalties.iter().map(at).collect()
            }
        }
    }

    /// The mean price of held-out examples by which a penalty is chosen: −ln p of the right class where scores are
    /// probabilities, else the squared error of ±1 targets. `seen` training examples decide how sure a probability may be.
    pub(super) fn price(self, scores: &Matrix, y: &[usize], seen: usize) -> f64 {
        let each = y.iter().enumerate().map(|(i, &class)| {
            let scores = scores.row(i);
            if self.is_probability() {
                return -hedged(scores, seen)[class].ln();
            }
            let target = |k: usize| if k == class { 1.0 } else { -1.0 };
            let error =
                |(k, score): (usize, &f64)| if score.is_finite() { (score - target(k)).powi(2) } else { 1.0 };
            scores.iter().enumerate().map(error).sum()
        });
        each.sum::<f64>() / y.len().max(1) as f64
    }
}

/// Steps of L-BFGS after which a fit is given up as not converged.
const MOST_STEPS: usize = 1000;

/// Probabilities of the classes by softmax, as `seen` examples allow them: counted with one more example of every class, which is to
/// say mixed with classes/(seen + classes) of the uniform distribution (Laplace's rule). A class that was not seen has a finite
/// price.
pub(super) fn hedged(scores: &[f64], seen: usize) -> Vec<f64> {
    let mut p = scores.to_vec();
    softmax(&mut p);
    let (seen, classes) = (seen as f64, p.len() as f64);
    p.iter_mut().for_each(|p| *p = (seen * *p + 1.0) / (seen + classes));
    p
}
