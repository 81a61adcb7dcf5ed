//! What circuits do alone: every edge outside is cut, exactly.

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Chosen, Circuits};
use crate::analysis::edges::Runs;
use crate::error::Result;
use crate::graph::{Circuit, Writer};

/// A circuit that was tried.
pub(super) struct Tried {
    /// By what its edges were ordered: `absolute`, `signed`, `random`, `acdc`.
    pub(super) order: &'static str,
    /// The standard fraction of edges it stands for.
    pub(super) fraction: Option<f64>,
    /// How many edges were asked for.
    pub(super) asked: Option<usize>,
    /// ACDC's threshold.
    pub(super) threshold: Option<f64>,
    /// The circuit, pruned.
    pub(super) circuit: Circuit,
    /// The metric of each example with everything else cut.
    pub(super) measured: Vec<f64>,
}

/// What the chosen circuit does and lacks.
pub(super) struct Judged {
    /// The metric of each example in the circuit alone.
    pub(super) measured: Vec<f64>,
    pub(super) complete: Vec<Complete>,
    pub(super) minimal: Vec<Minimal>,
}

/// The whole model and the circuit without the same nodes: a complete circuit loses what the model loses.
pub(super) struct Complete {
    pub(super) without: BTreeSet<Writer>,
    /// The metric of each example: whole model, circuit.
    pub(super) whole: Vec<f64>,
    pub(super) circuit: Vec<f64>,
}

/// What a node adds to the circuit, where it adds most.
pub(super) struct Minimal {
    pub(super) node: Writer,
    pub(super) without: BTreeSet<Writer>,
    /// The metric of each example without `without`, and without the node as well.
    pub(super) before: Vec<f64>,
    pub(super) after: Vec<f64>,
}

/// (M(C) − M(∅)) / (M(whole) − M(∅)), means over examples.
pub(super) fn faithfulness(runs: &Runs, measured: &[f64]) -> f64 {
    let kept: f64 = measured.iter().zip(&runs.other).map(|(m, other)| m - other).sum();
    kept / (runs.gap() * measured.len() as f64)
}

/// Runs every circuit, equal ones once.
pub(super) fn measure(runs: &Runs, tried: &mut [Tried]) -> Result<()> {
    let mut distinct: Vec<Circuit> = Vec::new();
    let places: Vec<usize> = tried
        .iter()
        .map(|tried| match distinct.iter().position(|circuit| *circuit == tried.circuit) {
            Some(place) => place,
            None => {
                distinct.push(tried.circuit.clone());
                distinct.len() - 1
            }
        })
        .collect();
    let measured = cut(runs, "circuits", &distinct)?;
    for (tried, place) in tried.iter_mut().zip(places) {
        tried.measured.clone_from(&measured[place]);
    }
    Ok(())
}

fn cut(runs: &Runs, what: &str, circuits: &[Circuit]) -> Result<Vec<Vec<f64>>> {
    runs.lab.progress.begin(what, (runs.batches() * circuits.len()) as u64);
    let lists: Vec<Vec<usize>> = circuits.iter().map(Circuit::cut).collect();
    let measured = runs.cut(&lists)?;
    runs.lab.progress.end();
    Ok(measured)
}

/// Judges the chosen circuit: alone, without random sets of its nodes beside the whole model without them, and without each of its nodes.
pub(super) fn judge(parameters: &Circuits, runs: &Runs, chosen: &Chosen) -> Result<Judged> {
    let (graph, circuit) = (&runs.graph, &chosen.circuit);
    let whole = Circuit::whole(graph);
    let nodes: Vec<Writer> =
        circuit.writers(graph).into_iter().filter(|&node| node != Writer::Input).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(runs.lab.seed ^ 0x5E_75);
    let mut sets = vec![BTreeSet::new()];
    for _ in 0..parameters.subsets {
        let set: BTreeSet<Writer> = nodes.iter().copied().filter(|_| rng.random_bool(0.5)).collect();
        if !set.is_empty() && !sets.contains(&set) {
            sets.push(set);
        }
    }
    let mut circuits = Vec::new();
    for set in &sets {
        circuits.extend([whole.without(graph, set), circuit.without(graph, set)]);
    }
    // each node with each set that does not hold it
    let mut pairs = Vec::new();
    if parameters.subsets > 0 {
        for &node in &nodes {
            for (place, set) in sets.iter().enumerate().filter(|(_, set)| !set.contains(&node)) {
                let with: BTreeSet<Writer> = set.iter().copied().chain([node]).collect();
                pairs.push((node, place));
                circuits.push(circuit.without(graph, &with));
            }
        }
    }
    let mut measured = cut(runs, "completeness and minimality", &circuits)?;
    let after = measured.split_off(2 * sets.len());
    let of_circuit = |place: usize| &measured[2 * place + 1];
    let mut minimal: Vec<Minimal> = Vec::new();
    let change = |before: &[f64], after: &[f64]| -> f64 {
        before.iter().zip(after).map(|(before, after)| before - after).sum::<f64>().abs()
    };
    for ((node, place), after) in pairs.into_iter().zip(after) {
        let found = Minimal { node, without: sets[place].clone(), before: of_circuit(place).clone(), after };
        match minimal.iter_mut().find(|known| known.node == node) {
            None => minimal.push(found),
            Some(known) if change(&known.before, &known.after) < change(&found.before, &found.after) => {
                *known = found;
            }
            Some(_) => {}
        }
    }
    let complete = sets.iter().enumerate().skip(1).map(|(place, set)| Complete {
        without: set.clone(),
        whole: measured[2 * place].clone(),
        circuit: of_circuit(place).clone(),
    });
    Ok(Judged { complete: complete.collect(), minimal, measured: of_circuit(0).clone() })
}
