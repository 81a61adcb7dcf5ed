//! ACDC (Conmy et al. 2023): from the logits backwards, every edge is cut for good unless that costs too much.
//!
//! Readers are visited in reverse order of execution, and the edges into each from the last writer to the first. An edge goes if the loss
//! rises by less than τ. A reader that feeds nothing of the circuit any more loses all its edges unasked. As most edges go, several are
//! tried at once: the first alone, the first two, the first three, …, each in its own copy of the prompts; what comes after the first that
//! stays is tried again. The result is the same as one at a time.

use crate::analysis::edges::Runs;
use crate::error::Result;
use crate::graph::{Circuit, Reader};
use crate::metric::Metric;
use crate::stats::mean;

/// How many edges are tried at once, at most.
const WIDEST: usize = 64;

/// The circuit at a threshold, not yet pruned; and the loss of it.
pub(super) fn acdc(runs: &Runs, loss: Metric, threshold: f64) -> Result<(Circuit, f64)> {
    let graph = &runs.graph;
    let mut circuit = Circuit::whole(graph);
    let measure = |lists: &[Vec<usize>]| -> Result<Vec<f64>> {
        let sign = if matches!(loss, Metric::Kl | Metric::Rank) { 1.0 } else { -1.0 };
        Ok(runs.cut_by(loss, lists)?.iter().map(|scores| sign * mean(scores)).collect())
    };
    let mut current = measure(&[Vec::new()])?.first().copied().unwrap_or(0.0);
    // every edge is tried once at least; what is tried anew is not known beforehand
    runs.lab.progress.begin("ACDC", (runs.batches() * graph.len()) as u64);
    for reader in (0..graph.readers().len()).rev() {
        let name = graph.readers()[reader];
        let mut left: Vec<usize> =
            (0..graph.reach(reader)).rev().map(|writer| graph.number(writer, reader)).collect();
        if name != Reader::Logits {
            let writing = circuit.writers(graph);
            if !graph.owners(name).iter().any(|owner| writing.contains(owner)) {
                left.iter().try_for_each(|&edge| circuit.put(edge, false))?;
                continue;
            }
        }
        let mut width = 4;
        while !left.is_empty() {
            let together = &left[..width.min(left.len())];
            let cut = circuit.cut();
            let lists: Vec<Vec<usize>> =
                (1..=together.len()).map(|n| [&cut, &together[..n]].concat()).collect();
            let mut done = 0;
            let mut stayed = false;
            for (&edge, with) in together.iter().zip(measure(&lists)?) {
                done += 1;
                if with - current < threshold {
                    circuit.put(edge, false)?;
                    current = with;
                } else {
                    stayed = true;
                    break;
                }
            }
            width = if stayed { (done + 1).max(2) } else { (2 * width).min(WIDEST) };
            left.drain(..done);
        }
    }
    runs.lab.progress.end();
    Ok((circuit, current))
}
