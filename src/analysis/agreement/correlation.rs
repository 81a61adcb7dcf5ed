//! Correlations that are absent where they mean nothing, and what a sample says of the rest.

/// Pearson's correlation; none for fewer than three pairs and where one side hardly varies (all equal but for rounding).
pub(super) fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    if a.len() < 3 || a.len() != b.len() {
        return None;
    }
    // in units of the widest deviation, so that no square is lost
    let center = |x: &[f64]| -> Option<Vec<f64>> {
        let mean = x.iter().sum::<f64>() / n;
        let widest = |x: &[f64]| x.iter().fold(0.0, |widest: f64, x| widest.max(x.abs()));
        let centered: Vec<f64> = x.iter().map(|x| x - mean).collect();
        let (size, width) = (widest(x), widest(&centered));
        let varies = mean.is_finite() && width > 1e-12 * size;
        varies.then(|| centered.iter().map(|x| x / width).collect())
    };
    let (a, b) = (center(a)?, center(b)?);
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    Some((product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()).clamp(-1.0, 1.0))
}

/// Spearman's: Pearson's of the ranks, equals sharing the mean of theirs.
pub(super) fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.iter().chain(b).any(|x| x.is_nan()) {
        return None;
    }
    pearson(&shared(a), &shared(b))
}

/// Ranks from 1, the least first; equals share the first of theirs.
pub(super) fn ranks(x: &[f64]) -> Vec<usize> {
    let mut sorted = x.to_vec();
    sorted.sort_by(f64::total_cmp);
    x.iter().map(|x| 1 + sorted.partition_point(|y| y.total_cmp(x).is_lt())).collect()
}

/// Ranks with equals sharing the mean of theirs.
fn shared(x: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = x.iter().map(|x| x + 0.0).collect(); // −0 is 0
    sorted.sort_by(f64::total_cmp);
    let place = |x: f64| {
        let (below, upto) = (sorted.partition_point(|y| *y < x), sorted.partition_point(|y| *y <= x));
        (below + upto + 1) as f64 / 2.0
    };
    x.iter().map(|&x| place(x)).collect()
}

/// With 95 % confidence, at most so many of `all` are hits when `drawn` of them, drawn at random without return, hold `hits`: the
/// largest number under which so few hits have a chance of 5 % or more (hypergeometric).
pub(super) fn at_most(hits: usize, drawn: usize, all: usize) -> usize {
    let drawn = drawn.min(all);
    // the chance of drawing at most `hits` of `marked` falls as `marked` grows
    let chance = |marked: usize| -> f64 {
        let log_choose =
            |n: usize, k: usize| (0..k).map(|i| ((n - i) as f64 / (k - i) as f64).ln()).sum::<f64>();
        let one = |found: usize| {
            if found > marked || drawn - found > all - marked {
                return 0.0;
            }
            (log_choose(marked, found) + log_choose(all - marked, drawn - found) - log_choose(all, drawn))
                .exp()
        };
        (0..=hits.min(drawn)).map(one).sum()
    };
    let (mut low, mut high) = (hits.min(all), all);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if chance(middle) >= 0.05 { low = middle } else { high = middle - 1 }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_are_those_of_numpy() {
        // numpy.corrcoef of the values, and of their ranks with equals sharing a mean rank
        let (a, b) = ([1.0, 2.0, 2.0, 4.0, -3.0], [0.5, 0.1, 3.0, 2.0, -1.0]);
        assert!((pearson(&a, &b).unwrap() - 0.742_972_481_750_901_9).abs() < 1e-12, "{:?}", pearson(&a, &b));
        assert!(
            (spearman(&a, &b).unwrap() - 0.666_885_928_855_350_1).abs() < 1e-12,
            "{:?}",
            spearman(&a, &b)
        );
    }

    #[test]
    fn what_does_not_vary_has_no_correlation() {
        let (flat, line) = ([0.1 + 0.2; 4], [1.0, 2.0, 3.0, 4.0]);
        assert_eq!((pearson(&flat, &line), spearman(&line, &flat)), (None, None));
        assert_eq!(pearson(&[0.3, 0.1 + 0.2, 0.3, 0.3], &line), None, "rounding is no variation");
        assert_eq!(pearson(&line[..2], &line[..2]), None, "two points are always on a line");
        assert_eq!(pearson(&[f64::NAN, 1.0, 2.0, 3.0], &line), None);
        assert_eq!(pearson(&line, &line), Some(1.0));
        assert_eq!(spearman(&[-0.0, 0.0, 1.0], &[0.0, -0.0, 1.0]), Some(1.0));
    }

    #[test]
    fn ranks_count_what_is_smaller() {
        assert_eq!(ranks(&[3.0, 1.0, 1.0, 2.0]), [4, 1, 1, 3]);
    }

    #[test]
    fn a_sample_bounds_what_it_did_not_see() {
        // none of 10 of 100: with 25 marked the chance is .0479 ([75 over 10] / [100 over 10]), with 24 it is .0551
        assert_eq!(at_most(0, 10, 100), 24);
        assert_eq!(at_most(0, 100, 100), 0);
        assert_eq!(at_most(3, 100, 100), 3);
        assert_eq!(at_most(0, 0, 7), 7);
        assert_eq!(at_most(10, 10, 100), 100);
    }
}
