//! Intervals over examples, and tests of many effects at once.

mod flip;

pub use flip::{FEWEST, false_discovery, sign_flip, sign_flips};

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// A mean with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The statistic over all examples.
    pub value: f64,
    /// Lower end; absent for a single example.
    pub lo: Option<f64>,
    /// Upper end; absent for a single example.
    pub hi: Option<f64>,
    /// How many examples.
    pub n: usize,
}

impl Estimate {
    /// Whether it is at least this far from 0, and its interval excludes 0.
    pub fn is_notable(&self, least: f64) -> bool {
        let excludes = self.lo.zip(self.hi).is_some_and(|(lo, hi)| lo > 0.0 || hi < 0.0);
        excludes && self.value.abs() >= least
    }
}

/// Percentile bootstrap (Efron 1979) over whole examples.
///
/// One list of resamples is drawn for a given number of examples and reused for every statistic, so that intervals of
/// cells of one table move together and results do not depend on the order of computation.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    n: usize,
    draws: Vec<Vec<u32>>,
}

impl Bootstrap {
    /// How many resamples are drawn.
    pub const DRAWS: usize = 1000;

    /// Resamples of `n` examples.
    pub fn new(n: usize, seed: u64) -> Bootstrap {
        Bootstrap::grouped(&(0..n).collect::<Vec<_>>(), seed)
    }

    /// Resamples of examples of which those with one number belong together and are drawn together: copies of a prompt are no
    /// further evidence. With less than two groups there is no interval.
    pub fn grouped(group: &[usize], seed: u64) -> Bootstrap {
        let mut members: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (i, &g) in group.iter().enumerate() {
            members.entry(g).or_default().push(i as u32);
        }
        let groups: Vec<Vec<u32>> = members.into_values().collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xB007_57A9);
        let one = |rng: &mut ChaCha8Rng| {
            let drawn = (0..groups.len()).map(|_| rng.random_range(0..groups.len() as u32));
            drawn.flat_map(|g| groups[g as usize].iter().copied()).collect()
        };
        let draws =
            if groups.len() < 2 { Vec::new() } else { (0..Self::DRAWS).map(|_| one(&mut rng)).collect() };
        Bootstrap { n: group.len(), draws }
    }

    /// The first so many resamples, as lists of examples; none where there is no interval.
    pub fn resamples(&self, count: usize) -> Vec<&[u32]> {
        self.draws.iter().take(count).map(Vec::as_slice).collect()
    }

    /// The mean of per-example values. An empty list gives NaN.
    pub fn mean(&self, values: &[f64]) -> Estimate {
        self.ratio(values, None)
    }

    /// Σ top / Σ bottom, the ratio of means (bottom absent: the mean), resampled jointly.
    pub fn ratio(&self, top: &[f64], bottom: Option<&[f64]>) -> Estimate {
        self.over(bottom).ratio(top)
    }

    /// Ratios over one denominator, whose sums are taken once for all.
    pub fn over(&self, bottom: Option<&[f64]>) -> Over<'_> {
        let one = vec![1.0; self.n];
        let bottom = bottom.unwrap_or(&one);
        let below = self.draws.iter().map(|draw| drawn(bottom, draw)).collect();
        Over { bootstrap: self, whole: bottom.iter().fold(0.0, |sum, x| sum + x), below }
    }

    /// Any statistic of weighted units: of all with weight 1, and of resamples, in which a unit weighs as often as it was drawn.
    /// Resamples in which the statistic is not a number (no pair to compare, say) are left out.
    pub fn weighted(&self, statistic: &dyn Fn(&[f64]) -> f64) -> Estimate {
        let value = statistic(&vec![1.0; self.n]);
        let resampled = self.draws.iter().map(|draw| {
            let mut weights = vec![0.0; self.n];
            draw.iter().for_each(|&i| weights[i as usize] += 1.0);
            statistic(&weights)
        });
        self.interval(value, resampled.filter(|value| !value.is_nan()).collect())
    }

    fn interval(&self, value: f64, resampled: Vec<f64>) -> Estimate {
        let (lo, hi) = percentiles(resampled).unzip();
        Estimate { value, lo, hi, n: self.n }
    }
}

/// The middle 95 % of what resamples gave; none of none.
pub fn percentiles(mut resampled: Vec<f64>) -> Option<(f64, f64)> {
    let mut at = |q: f64| (!resampled.is_empty()).then(|| quantile(&mut resampled, q));
    at(0.025).zip(at(0.975))
}

/// Ratios of sums over one denominator.
pub struct Over<'a> {
    bootstrap: &'a Bootstrap,
    /// The denominator of all examples, and of each resample.
    whole: f64,
    below: Vec<f64>,
}

impl Over<'_> {
    /// Σ top / Σ bottom, resampled jointly.
    pub fn ratio(&self, top: &[f64]) -> Estimate {
        debug_assert_eq!(top.len(), self.bootstrap.n);
        self.bootstrap.interval(self.value(top), self.resampled(top))
    }

    /// Σ top / Σ bottom of all examples.
    pub fn value(&self, top: &[f64]) -> f64 {
        top.iter().fold(0.0, |sum, x| sum + x) / self.whole
    }

    /// The ratio in each resample, in the order of the draws; none where there is no interval.
    pub fn resampled(&self, top: &[f64]) -> Vec<f64> {
        let draws = self.bootstrap.draws.iter().zip(&self.below);
        draws.map(|(draw, below)| drawn(top, draw) / below).collect()
    }
}

/// The sum over a resample, in the order of its draws.
fn drawn(values: &[f64], draw: &[u32]) -> f64 {
    draw.iter().filter_map(|&i| values.get(i as usize)).fold(0.0, |sum, x| sum + x)
}

/// The q-quantile of values in any order, with linear interpolation: the two it lies between are found without sorting the rest.
fn quantile(values: &mut [f64], q: f64) -> f64 {
    let place = q * (values.len() - 1) as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    let (_, &mut low, rest) = values.select_nth_unstable_by(below, f64::total_cmp);
    let high = rest.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    low + (high - low) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_mean_has_the_width_of_theory() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 20)).collect();
        let estimate = Bootstrap::new(400, 1).mean(&values);
        let sd = (399.0f64 / 12.0).sqrt(); // uniform on 0..19: (20² − 1)/12
        let half = 1.96 * sd / 20.0;
        assert!((estimate.value - 9.5).abs() < 1e-12);
        assert!((estimate.hi.unwrap() - 9.5 - half).abs() < 0.15 * half, "{estimate:?} {half}");
        assert!((9.5 - estimate.lo.unwrap() - half).abs() < 0.15 * half, "{estimate:?} {half}");
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_list() {
        for n in [1, 2, 3, 40, 1000] {
            let values: Vec<f64> = (0..n).map(|i| f64::from(i * 389 % 1009)).collect();
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            for q in [0.0, 0.025, 0.5, 0.975, 1.0] {
                let place = q * f64::from(n - 1);
                let [below, above] = [place.floor(), place.ceil()].map(|at| sorted[at as usize]);
                assert_eq!(quantile(&mut values.clone(), q), below + (above - below) * place.fract());
            }
        }
    }

    #[test]
    fn one_example_has_no_interval() {
        let estimate = Bootstrap::new(1, 1).mean(&[3.0]);
        assert_eq!((estimate.value, estimate.lo, estimate.hi, estimate.n), (3.0, None, None, 1));
    }

    #[test]
    fn a_ratio_is_of_means_not_a_mean_of_ratios() {
        let estimate = Bootstrap::new(2, 1).ratio(&[1.0, 3.0], Some(&[2.0, 2.0]));
        assert_eq!(estimate.value, 1.0);
    }

    #[test]
    fn copies_are_no_further_evidence() {
        let once: Vec<f64> = (0..50).map(|i| f64::from(i * 37 % 50)).collect();
        let four: Vec<f64> = once.iter().flat_map(|&x| [x; 4]).collect();
        let groups: Vec<usize> = (0..200).map(|i| i / 4).collect();
        let (once, four) = (Bootstrap::new(50, 3).mean(&once), Bootstrap::grouped(&groups, 3).mean(&four));
        assert_eq!((once.lo, once.hi, four.n), (four.lo, four.hi, 200));
        assert!(Bootstrap::grouped(&[7; 9], 3).mean(&[1.0; 9]).lo.is_none());
    }
}
