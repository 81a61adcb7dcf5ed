//! Which circuit is taken, and how much that hangs on the very prompts.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::acdc::acdc;
use super::judge::{Tried, faithfulness};
use super::{Chosen, Circuits, Method};
use crate::analysis::edges::{Runs, Scoring};
use crate::error::Result;
use crate::graph::Circuit;
use crate::graph::compare::FRACTIONS;
use crate::stats::Bootstrap;
use crate::stats::mean;

/// Sizes tried besides the standard fractions: so many between one edge and all, evenly by ratio.
const SIZES: usize = 20;

impl Circuits {
    /// The circuit of edges with the largest scores.
    pub(super) fn by_scores(&self, runs: &Runs, scoring: Scoring) -> Result<Chosen> {
        let lost = scoring.scores(runs, self.steps)?;
        let scores: Vec<f64> = lost.iter().map(|lost| mean(lost) / runs.gap()).collect();
        let tried = self.sizes(runs, &scores)?;
        let best = tried
            .iter()
            .filter(|tried| tried.order == "absolute")
            .find(|tried| self.is_faithful(runs, tried));
        let asked = self.edges.or(best.and_then(|tried| tried.asked)).unwrap_or(runs.graph.len());
        let circuit = self.choose(runs, &scores, asked, true);
        let mut notes = Vec::new();
        if self.edges.is_none() && best.is_none() {
            notes.push(format!(
                "no circuit that was tried keeps between {} and {} of the behaviour: the whole graph is taken",
                self.faithful,
                2.0 - self.faithful
            ));
        }
        let (lost, scores, asked) = (Some(lost), Some(scores), Some(asked));
        Ok(Chosen { method: scoring.name(), circuit, lost, scores, asked, tried, notes })
    }

    /// The smallest circuit that ACDC finds faithful.
    pub(super) fn by_acdc(&self, runs: &Runs) -> Result<Chosen> {
        let mut thresholds = self.thresholds.clone();
        thresholds.sort_by(|a, b| b.total_cmp(a));
        let mut tried = Vec::new();
        for &threshold in &thresholds {
            let (circuit, _) = acdc(runs, self.loss, threshold)?;
            tried.push(Tried {
                order: "acdc",
                fraction: None,
                asked: None,
                threshold: Some(threshold),
                circuit: circuit.pruned(&runs.graph),
                measured: Vec::new(),
            });
        }
        super::judge::measure(runs, &mut tried)?;
        let best = tried.iter().find(|tried| self.is_faithful(runs, tried)).or(tried.last());
        let circuit = best.map_or_else(|| Circuit::whole(&runs.graph), |tried| tried.circuit.clone());
        let threshold = best.and_then(|tried| tried.threshold).unwrap_or(0.0);
        let notes = vec![format!(
            "ACDC: edges are cut from the logits backwards unless {} rises by {threshold} or more (mean over prompts); of {} thresholds \
             the largest whose circuit is faithful, or else the smallest",
            self.loss,
            thresholds.len()
        )];
        let method = Method::Acdc.name();
        Ok(Chosen { method, circuit, lost: None, scores: None, asked: None, tried, notes })
    }

    /// Edges by their scores, pruned.
    pub(super) fn choose(&self, runs: &Runs, scores: &[f64], n: usize, absolute: bool) -> Circuit {
        self.select.choose(&runs.graph, scores, n, absolute).pruned(&runs.graph)
    }

    /// Circuits of many sizes, judged: by the size of scores, by scores with their sign, and by random ones.
    pub(super) fn sizes(&self, runs: &Runs, scores: &[f64]) -> Result<Vec<Tried>> {
        let edges = runs.graph.len();
        let standard = FRACTIONS.map(|fraction| (Some(fraction), (fraction * edges as f64) as usize));
        let between = (0..SIZES).map(|i| (edges as f64).powf(i as f64 / (SIZES - 1) as f64).round() as usize);
        let mut sizes: Vec<(Option<f64>, usize)> = between.map(|n| (None, n)).collect();
        sizes.extend(self.edges.map(|n| (None, n.min(edges))));
        sizes.sort_unstable_by_key(|(_, n)| *n);
        sizes.dedup();
        let mut tried = Vec::new();
        let mut put = |order: &'static str, scores: &[f64], (fraction, n): (Option<f64>, usize)| {
            let circuit = self.choose(runs, scores, n, order != "signed");
            tried.push(Tried {
                order,
                fraction,
                asked: Some(n),
                threshold: None,
                circuit,
                measured: Vec::new(),
            });
        };
        for size in standard.into_iter().chain(sizes) {
            put("absolute", scores, size);
        }
        for size in standard {
            put("signed", scores, size);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(runs.lab.seed ^ 0xC1_4C_17);
        for _ in 0..self.randoms {
            let random: Vec<f64> = scores.iter().map(|_| rng.random()).collect();
            for size in standard {
                put("random", &random, size);
            }
        }
        tried.sort_by_key(|tried| (tried.order != "absolute", tried.order, tried.asked));
        super::judge::measure(runs, &mut tried)?;
        Ok(tried)
    }

    fn is_faithful(&self, runs: &Runs, tried: &Tried) -> bool {
        let f = faithfulness(runs, &tried.measured);
        f >= self.faithful && f <= 2.0 - self.faithful
    }

    /// How the choice changes when prompts are drawn anew from those there are: overlap of edges with the circuit for each
    /// resample, and for every edge the share of resamples that have it. None where edges have no score of each example.
    pub(super) fn stability(&self, runs: &Runs, chosen: &Chosen) -> Option<(Vec<f64>, Vec<f64>)> {
        let (lost, asked) = (chosen.lost.as_ref()?, chosen.asked?);
        let bootstrap = Bootstrap::grouped(&runs.task.units(), runs.lab.seed);
        let draws = bootstrap.resamples(self.resamples);
        if draws.is_empty() {
            return None;
        }
        let mut kept = vec![0.0; runs.graph.len()];
        let mut overlaps = Vec::new();
        for draw in &draws {
            let over = |values: &[f64]| -> f64 {
                draw.iter().filter_map(|&i| values.get(i as usize)).sum::<f64>() / draw.len().max(1) as f64
            };
            let gap = over(&runs.gaps());
            let scores: Vec<f64> = lost.iter().map(|lost| over(lost) / gap).collect();
            let circuit = self.choose(runs, &scores, asked, true);
            overlaps.push(circuit.overlap(&chosen.circuit));
            circuit.edges().for_each(|edge| kept[edge] += 1.0 / draws.len() as f64);
        }
        Some((overlaps, kept))
    }
}
