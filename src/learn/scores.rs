//! How good predictions are, with a weight for each example: a resample counts an example as often as it drew it.

use super::matrix::Matrix;

/// Mean over the classes of the share of their examples that were recognised; classes without weight are left out.
pub fn balanced_accuracy(y: &[usize], predicted: &[usize], classes: usize, weights: &[f64]) -> f64 {
    let (mut right, mut all) = (vec![0.0; classes], vec![0.0; classes]);
    for i in 0..y.len() {
        all[y[i]] += weights[i];
        if predicted[i] == y[i] {
            right[y[i]] += weights[i];
        }
    }
    let recalls: Vec<f64> =
        right.iter().zip(&all).filter(|(_, all)| **all > 0.0).map(|(r, a)| r / a).collect();
    recalls.iter().sum::<f64>() / recalls.len() as f64
}

/// Examples in order of their scores, from which the area under the ROC curve of any reweighting is read.
#[derive(Debug)]
pub struct Ranking {
    /// For each class that is ranked (of two, only the second), its orders, one per fold.
    orders: Vec<(usize, Vec<Order>)>,
    y: Vec<usize>,
}

/// Examples by rising score, each with whether its score equals the one before.
type Order = Vec<(usize, bool)>;

impl Ranking {
    /// Of scores `[example, class]`. Scores of different folds come from different probes and are not compared.
    pub fn new(scores: &Matrix, y: &[usize], folds: &[usize]) -> Ranking {
        let ranked = if scores.cols == 2 { 1..2 } else { 0..scores.cols };
        let count = folds.iter().map(|fold| fold + 1).max().unwrap_or(0);
        let order = |class: usize| {
            let each = (0..count).map(|fold| {
                let mut list: Vec<usize> = (0..y.len()).filter(|&i| folds[i] == fold).collect();
                let of =
                    |i: usize| scores.row(i)[class] - if scores.cols == 2 { scores.row(i)[0] } else { 0.0 };
                list.sort_by(|&a, &b| of(a).total_cmp(&of(b)));
                let tied = |k: usize| k > 0 && of(list[k]) == of(list[k - 1]);
                (0..list.len()).map(|k| (list[k], tied(k))).collect()
            });
            each.collect()
        };
        Ranking { orders: ranked.map(|class| (class, order(class))).collect(), y: y.to_vec() }
    }

    /// The probability that a member of a class has a higher score for it than a non-member of the same fold, ties counting half;
    /// the mean over classes (one against the rest). NaN when there is no pair.
    pub fn auroc(&self, weights: &[f64]) -> f64 {
        let mut areas = Vec::new();
        for (class, folds) in &self.orders {
            let (mut wins, mut pairs) = (0.0, 0.0);
            for order in folds {
                let (mut members, mut below, mut tied_members, mut tied_others) = (0.0, 0.0, 0.0, 0.0);
                for &(i, tied) in order {
                    if !tied {
                        wins += tied_members * (below + 0.5 * tied_others);
                        below += tied_others;
                        (tied_members, tied_others) = (0.0, 0.0);
                    }
                    if self.y[i] == *class {
                        tied_members += weights[i];
                        members += weights[i];
                    } else {
                        tied_others += weights[i];
                    }
                }
                wins += tied_members * (below + 0.5 * tied_others);
                pairs += members * (below + tied_others);
            }
            if pairs > 0.0 {
                areas.push(wins / pairs);
            }
        }
        areas.iter().sum::<f64>() / areas.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_counts_pairs() {
        // scores rounded so that many are tied; weights 0 to 2; two folds
        let n = 40;
        let score = |i: usize| (i * 17 % 13) as f64 + [3.0, 0.0, 0.0][i % 3];
        let y: Vec<usize> = (0..n).map(|i| [1, 0, 0][i * 5 % 3]).collect();
        let folds: Vec<usize> = (0..n).map(|i| i % 2).collect();
        let weights: Vec<f64> = (0..n).map(|i| (i / 2 % 3) as f64).collect();
        let scores = Matrix::of(&(0..n).map(|i| vec![0.0, score(i)]).collect::<Vec<_>>());
        let (mut wins, mut pairs) = (0.0, 0.0);
        for i in (0..n).filter(|&i| y[i] == 1) {
            for j in (0..n).filter(|&j| y[j] == 0 && folds[i] == folds[j]) {
                let w = weights[i] * weights[j];
                pairs += w;
                wins += w * if score(i) > score(j) {
                    1.0
                } else if score(i) == score(j) {
                    0.5
                } else {
                    0.0
                };
            }
        }
        assert!((Ranking::new(&scores, &y, &folds).auroc(&weights) - wins / pairs).abs() < 1e-12);
        assert!(Ranking::new(&scores, &vec![0; n], &folds).auroc(&weights).is_nan());
    }

    #[test]
    fn balance_weighs_classes_alike() {
        let (y, predicted) = ([0, 0, 0, 1], [0, 0, 0, 0]);
        assert_eq!(balanced_accuracy(&y, &predicted, 3, &[1.0; 4]), 0.5);
        assert_eq!(balanced_accuracy(&y, &predicted, 3, &[1.0, 1.0, 1.0, 0.0]), 1.0);
    }
}
