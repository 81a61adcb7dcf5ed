//! Estimates of every node in every example, batch by batch.

use super::nodes::Node;
use super::passes::{Found, Left, Passes, Swap, Wanted};
use super::{Atp, Grain};
use crate::analysis::patch::{Direction, Pair};
use crate::analysis::{PAIR, put, refuse_small_gap};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::ops;
use crate::task::{Place, Task};

/// Everything measured, by example.
pub(super) struct Measured {
    pub(super) clean: Vec<f64>,
    pub(super) corrupt: Vec<f64>,
    pub(super) directions: Vec<Estimates>,
}

/// Estimated changes of the metric in one direction, signed as in `patch`: patched − corrupt, or clean − patched.
pub(super) struct Estimates {
    pub(super) direction: Direction,
    /// `[node][example]`.
    pub(super) change: Vec<Vec<f64>>,
    /// The same with the softmax linearised too; empty for nodes where that is no other number.
    pub(super) linear: Vec<Vec<f64>>,
    /// Mean over dropped layers of |change|; empty where nothing was dropped.
    pub(super) dropped: Vec<Vec<f64>>,
    /// What swapping the whole input would do, to first order: exactly, it is the gap.
    pub(super) input: Vec<f64>,
}

/// Neurons are many: estimates of all of them, for every example, must not take more than a quarter of the memory allowed.
/// Otherwise they are left out, with a note, or refused where there is nothing else.
pub(super) fn leave_out_what_does_not_fit(
    lab: &Lab,
    task: &Task,
    directions: usize,
    nodes: &mut Vec<Node>,
) -> Result<Option<String>> {
    let neurons = nodes.iter().filter(|node| node.grain == Grain::Neuron).count();
    let bytes = (16 * neurons * task.examples.len() * directions) as u64;
    if bytes <= lab.memory / 4 {
        return Ok(None);
    }
    let message = format!(
        "estimates of {neurons} neurons in {} prompts take {} MiB, more than a quarter of the memory allowed ({} MiB)",
        task.examples.len(),
        bytes >> 20,
        lab.memory >> 20
    );
    nodes.retain(|node| node.grain != Grain::Neuron);
    if nodes.is_empty() {
        return Err(Error::usage(message, "raise `--memory`, or give fewer prompts or one site"));
    }
    Ok(Some(format!("neurons are left out: {message}")))
}

/// Runs every batch in every direction.
pub(super) fn measure(
    atp: &Atp,
    lab: &Lab,
    task: &Task,
    places: &[Place],
    directions: &[Direction],
    nodes: &[Node],
) -> Result<Measured> {
    let (n, layers) = (task.examples.len(), lab.model.config.n_layers);
    let passes = Passes::new(atp, lab, task, nodes);
    let empty = |of: &dyn Fn(&Node) -> bool| -> Vec<Vec<f64>> {
        nodes.iter().map(|node| if of(node) { vec![0.0; n] } else { Vec::new() }).collect()
    };
    let estimates = |&direction: &Direction| Estimates {
        direction,
        change: empty(&|_| true),
        linear: empty(&|node| passes.fix && node.site.is_asked()),
        dropped: empty(&|node| atp.grad_drop && (layers > 1 || !node.site.is_inside())),
        input: vec![0.0; n],
    };
    let mut all = Measured {
        clean: vec![0.0; n],
        corrupt: vec![0.0; n],
        directions: directions.iter().map(estimates).collect(),
    };
    let drops = if atp.grad_drop { layers } else { 0 };
    lab.progress.begin("attribution patching", (n * directions.len() * (1 + drops)) as u64);
    for batch in &task.batches(passes.most()) {
        lab.check()?;
        let pair = Pair::of(&lab.model, task, batch)?;
        let first = pair.read.iter().copied().chain([pair.reach.first()]).min().unwrap_or(0);
        let whole =
            Wanted { batch, read: &pair.read, clean: None, graded: false, drop: None, left: Left::default() };
        let base = if first > 0 { Some(passes.base(&pair.clean)?) } else { None };
        let left = Left { first, base: base.as_ref() };
        let plain = Wanted { left, ..whole };
        let graded = |direction| directions.contains(&direction);
        let clean = match &base {
            Some(base) if !graded(Direction::Noise) => passes.of_base(base, plain)?,
            _ => passes.run(&pair.clean, Wanted { graded: graded(Direction::Noise), ..plain })?,
        };
        let log_probs = ops::log_softmax(&clean.logits)?;
        let plain = Wanted { clean: Some(&log_probs), ..plain };
        let corrupt = passes.run(&pair.corrupt, Wanted { graded: graded(Direction::Denoise), ..plain })?;
        put(&mut all.clean, batch, &clean.scores);
        put(&mut all.corrupt, batch, &corrupt.scores);
        for estimates in &mut all.directions {
            let (base, source, tokens, sign) = match estimates.direction {
                Direction::Noise => (&clean, &corrupt, &pair.clean, -1.0),
                _ => (&corrupt, &clean, &pair.corrupt, 1.0),
            };
            let Some(gradients) = &base.gradients else { continue };
            let swap = Swap::new(&passes, base, source, left)?;
            let deal = Deal { nodes, places, batch, sign };
            let input: Vec<f64> = swap.input(gradients)?.iter().map(|change| sign * change).collect();
            put(&mut estimates.input, batch, &input);
            deal.out(&swap.effects(gradients)?, |node, i, change| estimates.change[node][i] = change);
            deal.out(&swap.linear(gradients)?, |node, i, change| estimates.linear[node][i] = change);
            lab.progress.advance(batch.len() as u64);
            for layer in 0..drops {
                lab.check()?;
                let run = passes.run(tokens, Wanted { graded: true, drop: Some(layer), ..plain })?;
                let Some(gradients) = &run.gradients else { continue };
                deal.out(&swap.effects(gradients)?, |node, i, change| {
                    // what is inside the dropped layer reaches nothing: its mean is over the other layers
                    let inside = nodes[node].site.is_inside();
                    if !(inside && nodes[node].layer == layer) {
                        let others = layers - usize::from(inside);
                        estimates.dropped[node][i] += change.abs() / others as f64;
                    }
                });
                lab.progress.advance(batch.len() as u64);
            }
        }
    }
    lab.progress.end();
    refuse_small_gap(atp.metric, PAIR, &all.clean, &all.corrupt)?;
    Ok(all)
}

/// Deals effects by activation and layer out to the nodes and examples they belong to.
struct Deal<'a> {
    nodes: &'a [Node],
    places: &'a [Place],
    batch: &'a [usize],
    sign: f64,
}

impl Deal<'_> {
    fn out(&self, found: &Found, mut to: impl FnMut(usize, usize, f64)) {
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(values) = found.get(&(node.site, node.layer)) else { continue };
            for (row, &example) in self.batch.iter().enumerate() {
                let position = |place: usize| self.places[place].positions[example];
                to(index, example, self.sign * values.get(node, row, position));
            }
        }
    }
}
