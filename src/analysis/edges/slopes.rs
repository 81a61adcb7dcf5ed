//! Scores of all edges from a few gradients.
//!
//! The score of an edge u → v is Σ (own − other) · ∂M/∂input_v over positions and components: to first order what the metric
//! loses when the edge carries the other value. The input of every reader has a place of its own, so that one backward
//! pass gives the gradients of all; all edges are then one product of writers × readers, and no edge is ever `d_model` wide.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::runs::{Batch, INPUT, Runs};
use crate::error::Result;
use crate::gradient::Gradients;
use crate::graph::{Reader, Writer};
use crate::hook::Hook;
use crate::model::Stream;
use crate::ops;
use crate::record::{Activations, Recorder};
use crate::site::{At, Site};

/// Where gradients are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// In the run itself.
    Own,
    /// In the run itself and in the other one, each with half the weight.
    Both,
    /// With the input between the other run's and its own: k / steps of the way, k = 0 .. steps − 1.
    Inputs(usize),
    /// For the edges out of each writer (heads of a layer together) with what it writes between the two: k / steps of the way, k = 1
    /// .. steps, everything before it as in the run itself.
    Activations(usize),
}

/// A pass: what is set where, how far between the two runs, and with which weight its gradients count.
struct Pass {
    /// The writers whose edges it scores: all, or those that write at one place.
    at: Option<Site>,
    /// 1 is the run's own value, 0 the other's.
    own: f64,
    weight: f64,
}

impl Path {
    fn passes(self, runs: &Runs) -> Vec<Pass> {
        let input = |own, weight| Pass { at: Some(INPUT), own, weight };
        match self {
            Path::Own => vec![Pass { at: None, own: 1.0, weight: 1.0 }],
            Path::Both => vec![Pass { at: None, own: 1.0, weight: 0.5 }, input(0.0, 0.5)],
            Path::Inputs(steps) => {
                (0..steps).map(|k| input(k as f64 / steps as f64, 1.0 / steps as f64)).collect()
            }
            Path::Activations(steps) => {
                let mut places = vec![INPUT];
                for (layer, block) in runs.lab.model.blocks.iter().enumerate() {
                    places.push(Site::Block(layer, At::Z));
                    places.extend(block.has(At::MlpOut).then_some(Site::Block(layer, At::MlpOut)));
                }
                let each = |&site| {
                    (1..=steps).map(move |k| Pass {
                        at: Some(site),
                        own: k as f64 / steps as f64,
                        weight: 1.0 / steps as f64,
                    })
                };
                places.iter().flat_map(each).collect()
            }
        }
    }

    /// How many passes it takes.
    pub(super) fn count(self, runs: &Runs) -> usize {
        self.passes(runs).len()
    }
}

/// The scores of every edge for every example of a batch, `[row][edge]`.
pub(super) fn slopes(runs: &Runs, batch: &Batch, path: Path) -> Result<Vec<Vec<f64>>> {
    let mut all = vec![vec![0.0; runs.graph.len()]; batch.examples.len()];
    for pass in path.passes(runs) {
        runs.lab.check()?;
        let only_writer = matches!(path, Path::Activations(_)).then_some(pass.at).flatten();
        let (gradients, sums) = gradients(runs, batch, &pass, only_writer)?;
        let differences = differences(runs, batch, &sums, only_writer)?;
        add(runs, batch, &gradients, &differences, pass.weight, &mut all)?;
        runs.lab.progress.advance(1);
    }
    Ok(all)
}

/// Sets what stands at a place.
struct Put(Option<(Site, Tensor)>);

impl Hook for Put {
    fn wants(&self, site: Site) -> bool {
        self.0.as_ref().is_some_and(|(own, _)| *own == site)
    }

    fn visit(&mut self, _: Site, _: usize, x: Tensor) -> Result<Tensor> {
        Ok(self.0.as_ref().map_or(x, |(_, value)| value.clone()))
    }
}

/// The gradients of the metric at every reader's input in a pass, and what attention wrote where a norm stands behind it.
fn gradients(
    runs: &Runs,
    batch: &Batch,
    pass: &Pass,
    only: Option<Site>,
) -> Result<(Activations, BTreeMap<usize, Tensor>)> {
    let model = &runs.lab.model;
    let window = |x: &Tensor| x.narrow(1, batch.first_pos, x.dim(1)?.saturating_sub(batch.first_pos));
    let put = match pass.at {
        None => None,
        Some(site) => {
            let (own, other) = (window(batch.base.kept.get(site)?)?, window(batch.carried.get(site)?)?);
            Some((site, ((own * pass.own)? + (other * (1.0 - pass.own))?)?))
        }
    };
    // what comes before the place that is set is as it was
    let first = only.and_then(Site::layer).unwrap_or(0);
    let read =
        |site: Site| matches!(site, Site::Block(layer, at) if layer >= first && reads(runs, layer, at));
    let bent = |site: Site| matches!(site, Site::Block(layer, At::Z) if model.blocks.get(layer).is_some_and(|b| b.ln1_post.is_some()));
    let mut hook = (Put(put), (Recorder::new(bent), Gradients::new(read)));
    let from = batch.base.stream(first, batch.first_pos)?;
    let from = Stream { resid: from.resid.detach(), ..from };
    let stream = model.run(from, Some(&batch.base), model.config.n_layers, &mut hook)?;
    let logits = model.unembed(&stream.at(&batch.read)?, &mut ())?.squeeze(1)?;
    let (_, (recorder, gradients)) = hook;
    let found = gradients.of(&runs.terms.metric.score(&logits, &batch.targets)?)?;
    let mut sums = BTreeMap::new();
    for (site, z) in recorder.kept.0 {
        if let Site::Block(layer, _) = site {
            let sum = model.block(layer)?.attention.o.forward(&z.flatten_from(2)?)?;
            sums.insert(layer, sum.detach());
        }
    }
    Ok((found, sums))
}

/// Whether a reader has its input at this place.
fn reads(runs: &Runs, layer: usize, at: At) -> bool {
    match at {
        At::QInput | At::KInput | At::VInput | At::MlpIn => true,
        At::ResidPost => layer + 1 == runs.lab.model.config.n_layers,
        _ => false,
    }
}

/// own − other of every writer `[rows, writers, window · d_model]`, as it arrives in the stream to first order. Of writers that
/// are not asked for it is zero.
fn differences(
    runs: &Runs,
    batch: &Batch,
    sums: &BTreeMap<usize, Tensor>,
    only: Option<Site>,
) -> Result<Tensor> {
    let model = &runs.lab.model;
    let window = |x: &Tensor| x.narrow(1, batch.first_pos, x.dim(1)?.saturating_sub(batch.first_pos));
    let mut each = Vec::new();
    for (place, &writer) in runs.graph.writers().iter().enumerate() {
        let difference = (window(&batch.own.each[place])? - window(&batch.other.each[place])?)?;
        let asked = only.is_none_or(|site| writes_at(writer) == site);
        let difference = match (asked, writer) {
            (false, _) => difference.zeros_like()?,
            (true, Writer::Head(layer, _)) => match sums.get(&layer) {
                Some(sum) => model.block(layer)?.ln1_post.differential(sum, &difference)?,
                None => difference,
            },
            _ => difference,
        };
        each.push(difference.flatten_from(1)?);
    }
    Ok(Tensor::stack(&each, 1)?)
}

/// The place at which a writer's value is set.
fn writes_at(writer: Writer) -> Site {
    match writer {
        Writer::Input => INPUT,
        Writer::Head(layer, _) => Site::Block(layer, At::Z),
        Writer::Mlp(layer) => Site::Block(layer, At::MlpOut),
    }
}

/// Adds weight · differences × gradients to the score of every edge.
fn add(
    runs: &Runs,
    batch: &Batch,
    gradients: &Activations,
    differences: &Tensor,
    weight: f64,
    all: &mut [Vec<f64>],
) -> Result<()> {
    let (graph, rows) = (&runs.graph, batch.examples.len());
    let mut reader = 0;
    while let Some(&first) = graph.readers().get(reader) {
        let site = match first {
            Reader::Head { layer, channel, .. } => Site::Block(layer, channel.input()),
            Reader::Mlp(layer) => Site::Block(layer, At::MlpIn),
            Reader::Logits => Site::Block(runs.lab.model.config.n_layers.saturating_sub(1), At::ResidPost),
        };
        let together = match (first, gradients.0.get(&site)) {
            (Reader::Head { .. }, Some(gradient)) => gradient.dim(2)?,
            (Reader::Head { channel, .. }, None) => runs.graph.readers_of(channel),
            _ => 1,
        };
        if let Some(gradient) = gradients.0.get(&site) {
            let by_reader =
                if gradient.rank() == 4 { gradient.transpose(1, 2)? } else { gradient.unsqueeze(1)? };
            let by_reader = by_reader.contiguous()?.flatten_from(2)?; // [rows, reader, window · d_model]
            let reach = graph.reach(reader);
            let scores = ops::matmul(&differences.narrow(1, 0, reach)?, &by_reader.transpose(1, 2)?)?;
            let scores: Vec<f64> =
                scores.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
            for (row, all) in all.iter_mut().enumerate().take(rows) {
                for writer in 0..reach {
                    for head in 0..together {
                        let score = scores[(row * reach + writer) * together + head];
                        all[graph.number(writer, reader + head)] += weight * score;
                    }
                }
            }
        }
        reader += together;
    }
    Ok(())
}
