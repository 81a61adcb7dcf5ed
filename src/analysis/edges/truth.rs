//! Scores of edges against the edges that the model's own description gives.

use rayon::prelude::*;

use super::rows::ranked;
use super::{Runs, Scored};
use crate::analysis::circuit::Known;
use crate::error::Result;
use crate::row::Rows;
use crate::stats::Bootstrap;

crate::row! {
    /// How a method's ranking finds the edges that are known.
    pub struct TruthRow {
        /// The method.
        pub method: String,
        /// The probability that a known edge has a larger |effect| than another, ties counting half: 1 finds them all first.
        pub auroc: f64,
        /// Lower end of its 95 % interval: effects of resampled prompts, ranked anew.
        pub ci_lo: Option<f64>,
        /// Upper end.
        pub ci_hi: Option<f64>,
        /// The known edges among as many edges with the largest |effect|.
        pub found: usize,
        /// Known edges.
        pub known: usize,
        /// Edges that the description speaks of: not those of the input, where it gives none of them.
        pub n: usize,
        /// The known edge that is ranked lowest.
        pub last: String,
        /// Its rank among those.
        pub last_rank: usize,
    }
}

crate::row! {
    /// A point of a method's curve of finding the known edges as the threshold on |effect| falls; equal effects are one step.
    pub struct RocRow {
        /// The method.
        pub method: String,
        /// Edges found that are not known, of all that are not known.
        pub false_positives: f64,
        /// Known edges found, of all known.
        pub true_positives: f64,
        /// Lower end of the 95 % interval of the area below the method's curve.
        pub auroc_ci_lo: Option<f64>,
        /// Upper end.
        pub auroc_ci_hi: Option<f64>,
    }
}

/// `edges_truth` and the curves whose areas it gives, `edges_roc`; none for a model without a description.
pub(super) fn tables(runs: &Runs, scored: &[Scored], bootstrap: &Bootstrap) -> Result<Vec<Rows>> {
    let Some(known) = Known::of(runs.lab, runs.task, &runs.graph)? else { return Ok(Vec::new()) };
    let one = |Scored { scoring, lost }: &Scored| {
        // dividing all edges by one gap, as effects do, changes no rank
        let sums = |weights: &[f64]| -> Vec<f64> {
            let sum =
                |lost: &Vec<f64>| lost.iter().zip(weights).fold(0.0, |sum, (x, weight)| sum + weight * x);
            lost.iter().map(sum).collect()
        };
        let area = bootstrap.weighted(&|weights| known.roc(&sums(weights)).map_or(f64::NAN, |roc| roc.area));
        let whole = sums(&vec![1.0; runs.own.len()]);
        let mut order = ranked(&whole);
        order.retain(|edge| known.described.contains(edge));
        let last = order.iter().rposition(|&edge| known.circuit.has(edge))?;
        let method = scoring.name().to_owned();
        let point = |(false_positives, true_positives)| RocRow {
            method: method.clone(),
            false_positives,
            true_positives,
            auroc_ci_lo: area.lo,
            auroc_ci_hi: area.hi,
        };
        let curve: Vec<RocRow> = known.roc(&whole)?.points.into_iter().map(point).collect();
        let found = order.iter().take(known.circuit.len()).filter(|&&edge| known.circuit.has(edge)).count();
        let row = TruthRow {
            method: method.clone(),
            auroc: area.value,
            ci_lo: area.lo,
            ci_hi: area.hi,
            found,
            known: known.circuit.len(),
            n: known.described.len(),
            last: runs.graph.edge(*order.get(last)?).to_string(),
            last_rank: last + 1,
        };
        Some((row, curve))
    };
    let (truth, curves): (Vec<TruthRow>, Vec<Vec<RocRow>>) =
        scored.par_iter().filter_map(one).collect::<Vec<_>>().into_iter().unzip();
    if truth.is_empty() {
        return Ok(Vec::new());
    }
    let curves: Vec<RocRow> = curves.into_iter().flatten().collect();
    Ok(vec![Rows::of("edges_truth", &truth), Rows::of("edges_roc", &curves)])
}
