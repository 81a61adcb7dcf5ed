//! How well circuits and scores of edges agree with a reference circuit, and the areas that MIB reports.
//!
//! What has no value (a precision of nothing found, a rate over no positives) is `None`, never 0 and never a division.

mod files;

use std::cmp::Ordering;
use std::collections::BTreeSet;

pub use files::{Compared, Each, files};

use super::{Circuit, Graph};

/// The sizes of circuits, as fractions of all edges, at which MIB's circuit track evaluates (Mueller et al. 2025).
pub const FRACTIONS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// How many things two sets hold and share: edges, or nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// In the set that is judged.
    pub found: usize,
    /// In the reference.
    pub reference: usize,
    /// In both.
    pub shared: usize,
}

impl Agreement {
    /// Of a set with a reference.
    pub fn of<T: Ord>(found: &BTreeSet<T>, reference: &BTreeSet<T>) -> Agreement {
        let shared = found.intersection(reference).count();
        Agreement { found: found.len(), reference: reference.len(), shared }
    }

    /// Of the edges of two circuits.
    pub fn of_edges(found: &Circuit, reference: &Circuit) -> Agreement {
        Agreement::of(&found.edges().collect(), &reference.edges().collect())
    }

    /// Of the nodes of two circuits: writers with a kept edge, the input among them.
    pub fn of_nodes(graph: &Graph, found: &Circuit, reference: &Circuit) -> Agreement {
        Agreement::of(&found.writers(graph), &reference.writers(graph))
    }

    /// How many are in the set that is judged and not in the reference.
    pub fn only_found(&self) -> usize {
        self.found - self.shared
    }

    /// How many are in the reference and not in the set that is judged.
    pub fn only_reference(&self) -> usize {
        self.reference - self.shared
    }

    /// Of what was found, the part that is in the reference; none if nothing was found.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.shared, self.found)
    }

    /// Of the reference, the part that was found; none if there is no reference.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.shared, self.reference)
    }

    /// The harmonic mean of precision and recall; none if both sets are empty.
    pub fn f1(&self) -> Option<f64> {
        ratio(2 * self.shared, self.found + self.reference)
    }

    /// What both hold over what either holds (Jaccard); 1 for two empty sets, as [`Circuit::overlap`].
    pub fn iou(&self) -> f64 {
        ratio(self.shared, self.found + self.reference - self.shared).unwrap_or(1.0)
    }
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Points of true positive over false positive rates, and the area under the line through them.
#[derive(Debug, Clone, PartialEq)]
pub struct Roc {
    /// (false positive rate, true positive rate), from (0, 0) to (1, 1).
    pub points: Vec<(f64, f64)>,
    /// The area, by trapezoids.
    pub area: f64,
}

/// The probability that a positive scores higher than a negative, ties counting half (Mann and Whitney 1947): the area under the
/// curve of [`roc`]. None without positives, without negatives, or if a score is NaN.
pub fn auroc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let groups = by_score(scores, positive)?;
    let (positives, negatives) = totals(&groups);
    let (mut wins, mut above) = (0.0, 0.0);
    for (positive, negative) in groups {
        wins += negative * (above + positive / 2.0);
        above += positive;
    }
    (positives > 0.0 && negatives > 0.0).then(|| wins / (positives * negatives))
}

/// The curve of a threshold that falls through the scores: what scores at least that much is called positive. One point per distinct
/// score, so that ties are one straight piece. None where [`auroc`] is.
pub fn roc(scores: &[f64], positive: &[bool]) -> Option<Roc> {
    let groups = by_score(scores, positive)?;
    let (positives, negatives) = totals(&groups);
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (mut points, mut hits, mut alarms) = (vec![(0.0, 0.0)], 0.0, 0.0);
    for (positive, negative) in groups {
        hits += positive;
        alarms += negative;
        points.push((alarms / negatives, hits / positives));
    }
    Some(Roc { area: trapezoids(&points), points })
}

/// The curve through circuits of several sizes, such as those of ACDC's thresholds, which need not contain each other. The circuits' rates
/// of edges, with (0, 0) and (1, 1), in order of false positives; a circuit that finds less than one with fewer or as many false positives
/// does not pull the line down (its point is raised to that circuit's). None if the reference has no edges, or all.
pub fn roc_of_circuits(graph: &Graph, circuits: &[Circuit], reference: &Circuit) -> Option<Roc> {
    let (positives, all) = (reference.len(), graph.len());
    let mut points = vec![(0.0, 0.0), (1.0, 1.0)];
    for circuit in circuits {
        let both = Agreement::of_edges(circuit, reference);
        points.push((ratio(both.only_found(), all - positives)?, both.recall()?));
    }
    ratio(all, all - positives).and(ratio(all, positives))?;
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut best: f64 = 0.0;
    for (_, rate) in &mut points {
        best = best.max(*rate);
        *rate = best;
    }
    Some(Roc { area: trapezoids(&points), points })
}

/// MIB's two areas over circuits of growing size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Areas {
    /// Circuit performance ratio: the area under faithfulness f. Larger is better.
    pub cpr: f64,
    /// Circuit–model distance: the area under |1 − f|. Smaller is better.
    pub cmd: f64,
}

/// The areas of faithfulness at these fractions of edges, by trapezoids over the nominal fractions as they stand: no piece from 0 to the first
/// of them, so that a perfect curve over [`FRACTIONS`] has a CPR of 0.999. None if there are fewer than two points, if fractions do not
/// rise, or if a number is not finite.
pub fn areas(fractions: &[f64], faithfulness: &[f64]) -> Option<Areas> {
    let finite = fractions.iter().chain(faithfulness).all(|x| x.is_finite());
    let rising = fractions.is_sorted_by(|a, b| a < b);
    if fractions.len() < 2 || fractions.len() != faithfulness.len() || !finite || !rising {
        return None;
    }
    let under = |f: &dyn Fn(f64) -> f64| {
        let points: Vec<(f64, f64)> = fractions.iter().zip(faithfulness).map(|(&x, &y)| (x, f(y))).collect();
        trapezoids(&points)
    };
    Some(Areas { cpr: under(&|f| f), cmd: under(&|f| (1.0 - f).abs()) })
}

fn trapezoids(points: &[(f64, f64)]) -> f64 {
    points.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[1].1 + pair[0].1) / 2.0).sum()
}

/// Positives and negatives of each distinct score, the largest first.
fn by_score(scores: &[f64], positive: &[bool]) -> Option<Vec<(f64, f64)>> {
    if scores.len() != positive.len() || scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let mut each: Vec<(f64, bool)> = scores.iter().copied().zip(positive.iter().copied()).collect();
    // compared as numbers, for which 0 and -0 are one
    each.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal));
    let groups = each.chunk_by(|a, b| a.0 == b.0).map(|group| {
        let positives = group.iter().filter(|(_, positive)| *positive).count();
        (positives as f64, (group.len() - positives) as f64)
    });
    Some(groups.collect())
}

fn totals(groups: &[(f64, f64)]) -> (f64, f64) {
    groups.iter().fold((0.0, 0.0), |(p, n), (positives, negatives)| (p + positives, n + negatives))
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Config, Transformer};

    /// Every pair of a positive and a negative, by the definition.
    fn brute(scores: &[f64], positive: &[bool]) -> Option<f64> {
        let of =
            |wanted: bool| scores.iter().zip(positive).filter(move |(_, p)| **p == wanted).map(|(s, _)| *s);
        let win = |a: f64, b: f64| {
            if a > b {
                1.0
            } else if a == b {
                0.5
            } else {
                0.0
            }
        };
        let pairs: Vec<f64> = of(true).flat_map(|a| of(false).map(move |b| win(a, b))).collect();
        (!pairs.is_empty()).then(|| pairs.iter().sum::<f64>() / pairs.len() as f64)
    }

    proptest! {
        #[test]
        fn the_area_is_the_share_of_pairs_in_order(each in prop::collection::vec((-3i32..3, any::<bool>()), 0..40)) {
            let scores: Vec<f64> = each.iter().map(|(score, _)| f64::from(*score) * 0.1).collect();
            let positive: Vec<bool> = each.iter().map(|(_, positive)| *positive).collect();
            let (expected, area) = (brute(&scores, &positive), auroc(&scores, &positive));
            prop_assert_eq!(expected.is_some(), area.is_some());
            let curve = roc(&scores, &positive);
            prop_assert_eq!(curve.is_some(), area.is_some());
            if let (Some(expected), Some(area), Some(curve)) = (expected, area, curve) {
                prop_assert!((expected - area).abs() < 1e-12, "{} {}", expected, area);
                prop_assert!((curve.area - area).abs() < 1e-12, "{} {}", curve.area, area);
                prop_assert_eq!(curve.points.last(), Some(&(1.0, 1.0)));
            }
        }
    }

    #[test]
    fn ties_count_half_and_what_has_no_value_is_none() {
        assert_eq!(auroc(&[0.0, -0.0, 0.0, 0.0], &[true, false, true, false]), Some(0.5));
        assert_eq!(auroc(&[f64::INFINITY, 1.0], &[true, false]), Some(1.0));
        assert_eq!(auroc(&[1.0, 2.0], &[true, true]), None);
        assert_eq!(auroc(&[1.0, 2.0], &[false, false]), None);
        assert_eq!(auroc(&[f64::NAN, 2.0], &[false, true]), None);
        assert_eq!(auroc(&[], &[]), None);
        let none = Agreement { found: 0, reference: 0, shared: 0 };
        assert_eq!((none.precision(), none.recall(), none.f1(), none.iou()), (None, None, None, 1.0));
    }

    #[test]
    fn sets_agree_by_hand() {
        let of = |items: &[i32]| items.iter().copied().collect::<BTreeSet<i32>>();
        let agreement = Agreement::of(&of(&[1, 2, 3, 4]), &of(&[3, 4, 5, 6, 7, 8]));
        assert_eq!(agreement, Agreement { found: 4, reference: 6, shared: 2 });
        assert_eq!((agreement.precision(), agreement.recall()), (Some(0.5), Some(2.0 / 6.0)));
        assert_eq!((agreement.f1(), agreement.iou()), (Some(0.4), 0.25));
    }

    #[test]
    fn circuits_make_a_curve_that_a_worse_one_does_not_lower() {
        let graph = Graph::of(&Transformer::random(Config::tiny(), 0, DType::F32).unwrap());
        let of = |edges: std::ops::Range<usize>| Circuit::of(&graph, edges).unwrap();
        let reference = of(0..10);
        let n = graph.len() as f64 - 10.0;
        let half = roc_of_circuits(&graph, &[of(5..25)], &reference).unwrap();
        assert_eq!(half.points, [(0.0, 0.0), (15.0 / n, 0.5), (1.0, 1.0)]);
        let x: f64 = 15.0 / n;
        assert!((half.area - (x * 0.25 + (1.0 - x) * 0.75)).abs() < 1e-12);
        let found = roc_of_circuits(&graph, &[of(0..10), of(8..30), of(0..0)], &reference).unwrap();
        assert!((found.area - 1.0).abs() < 1e-12 && found.points.contains(&(20.0 / n, 1.0)), "{found:?}");
        assert_eq!(roc_of_circuits(&graph, &[], &reference).unwrap().area, 0.5);
        assert!(roc_of_circuits(&graph, &[of(0..3)], &of(0..0)).is_none());
        assert!(roc_of_circuits(&graph, &[], &Circuit::whole(&graph)).is_none());
        assert_eq!(
            Agreement::of_edges(&of(5..25), &reference),
            Agreement { found: 20, reference: 10, shared: 5 }
        );
    }

    #[test]
    fn areas_are_trapezoids_over_nominal_fractions() {
        let perfect = areas(&FRACTIONS, &[1.0; 10]).unwrap();
        assert!((perfect.cpr - 0.999).abs() < 1e-12 && perfect.cmd == 0.0, "{perfect:?}");
        // by hand: 0.1·(0 + 0.5)/2 + 0.4·(0.5 + 1.5)/2 + 0.5·(1.5 + 1)/2, and of 1, 0.5, 0.5, 0
        let mixed = areas(&[0.0, 0.1, 0.5, 1.0], &[0.0, 0.5, 1.5, 1.0]).unwrap();
        assert!((mixed.cpr - 1.05).abs() < 1e-12, "{mixed:?}");
        assert!((mixed.cmd - (0.075 + 0.2 + 0.125)).abs() < 1e-12, "{mixed:?}");
        for (fractions, faithfulness) in [
            (&[0.5][..], &[1.0][..]),
            (&[0.1, 0.5], &[1.0]),
            (&[0.5, 0.1], &[1.0, 1.0]),
            (&[0.5, 0.5], &[1.0, 1.0]),
            (&[0.1, 0.5], &[1.0, f64::NAN]),
            (&[], &[]),
        ] {
            assert_eq!(areas(fractions, faithfulness), None);
        }
    }
}
