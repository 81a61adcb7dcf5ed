//! Scores of all edges from a few gradients.
//!
//! The score of an edge u → v is Σ (own − other) · ∂M/∂input_v over positions and components: to first order what the metric
//! loses when the edge carries the other value. One backward pass gives the gradients at queries, keys and values, and those
//! at a head's input follow from its weights and the norm before it, without a pass that keeps an input for each head. All
//! edges are then one product of writers × readers, and no edge is ever `d_model` wide.

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
    let written = differences(runs, batch)?;
    for pass in path.passes(runs) {
        runs.lab.check()?;
        let only = matches!(path, Path::Activations(_)).then_some(pass.at).flatten();
        let (gradients, kept) = gradients(runs, batch, &pass, only)?;
        let arriving = arriving(runs, &written, &kept, only)?;
        add(runs, &gradients, &kept, &arriving, pass.weight, &mut all)?;
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

/// The gradients of the metric behind every reader's input in a pass, and what was recorded to bring them to it.
fn gradients(
    runs: &Runs,
    batch: &Batch,
    pass: &Pass,
    only: Option<Site>,
) -> Result<(Activations, Activations)> {
    let model = &runs.lab.model;
    let put = match pass.at {
        None => None,
        Some(site) => {
            let (own, other) =
                (batch.window(batch.base.kept.get(site)?)?, batch.window(batch.carried.get(site)?)?);
            Some((site, ((own * pass.own)? + (other * (1.0 - pass.own))?)?))
        }
    };
    // what comes before the place that is set is as it was
    let first = only.and_then(Site::layer).unwrap_or(0);
    let last = model.config.n_layers.saturating_sub(1);
    let read = |site: Site| match site {
        Site::Block(layer, At::Q | At::K | At::V | At::MlpIn) => layer >= first,
        Site::Block(layer, At::ResidPost) => layer == last,
        _ => false,
    };
    let beside = |site: Site| match site {
        Site::Block(layer, At::ResidPre) => layer >= first,
        Site::Block(layer, At::Q | At::K | At::V) => layer >= first && model.config.qkv_clip.is_some(),
        Site::Block(layer, At::Z) => model.blocks.get(layer).is_some_and(|block| block.ln1_post.is_some()),
        _ => false,
    };
    let mut hook = (Put(put), (Recorder::new(beside), Gradients::new(read)));
    let from = batch.base.stream(first, batch.first_pos)?;
    let from = Stream { resid: from.resid.detach(), ..from };
    let stream = model.run(from, Some(&batch.base), model.config.n_layers, &mut hook)?;
    let logits = model.unembed(&stream.at(&batch.read)?, &mut ())?.squeeze(1)?;
    let (_, (recorder, gradients)) = hook;
    let found = gradients.of(&runs.terms.metric.score(&logits, &batch.targets)?)?;
    let kept = recorder.kept.0.into_iter().map(|(site, x)| (site, x.detach())).collect();
    Ok((found, Activations(kept)))
}

/// What writers wrote in the window, own − other: `[rows, so many, window, d_model]` of each place that is written at, heads before
/// a norm that stands behind them.
fn differences(runs: &Runs, batch: &Batch) -> Result<BTreeMap<Site, Tensor>> {
    let mut all = BTreeMap::new();
    for &writer in runs.graph.writers() {
        let site = writes_at(writer);
        if all.contains_key(&site) {
            continue;
        }
        let (own, other) = (batch.base.kept.get(site)?, batch.carried.get(site)?);
        let difference = (batch.window(own)? - batch.window(other)?)?;
        let each = match site {
            Site::Block(layer, At::Z) => {
                let attention = &runs.lab.model.block(layer)?.attention;
                attention.results(&difference)?.transpose(1, 2)?.contiguous()?
            }
            _ => difference.unsqueeze(1)?,
        };
        all.insert(site, each);
    }
    Ok(all)
}

/// Writers in the order of the graph, from a first one on.
struct Arriving {
    first: usize,
    /// `[rows, writers, window · d_model]`.
    values: Tensor,
}

/// What was written as it arrives in the stream to first order, of all writers or of those at one place.
fn arriving(
    runs: &Runs,
    written: &BTreeMap<Site, Tensor>,
    kept: &Activations,
    only: Option<Site>,
) -> Result<Arriving> {
    let model = &runs.lab.model;
    let (mut first, mut each) = (0, Vec::new());
    for (&site, difference) in written {
        if only.is_some_and(|only| only != site) {
            first += if only > Some(site) { difference.dim(1)? } else { 0 };
            continue;
        }
        let difference = match (site, kept.0.get(&site)) {
            (Site::Block(layer, At::Z), Some(z)) => {
                let block = model.block(layer)?;
                let sum = block.attention.o.forward(&z.flatten_from(2)?)?.unsqueeze(1)?;
                let sum = sum.broadcast_as(difference.shape())?.contiguous()?;
                block.ln1_post.differential(&sum, difference)?
            }
            _ => difference.clone(),
        };
        each.push(difference.flatten_from(2)?);
    }
    Ok(Arriving { first, values: Tensor::cat(&each, 1)? })
}

/// From gradients at queries, keys or values `[rows, window, head, d_head]` to those at each head's input `[rows, head, window ·
/// d_model]`.
fn at_inputs(runs: &Runs, layer: usize, at: At, gradients: &Tensor, kept: &Activations) -> Result<Tensor> {
    let block = runs.lab.model.block(layer)?;
    let gradients = match block.attention.clip {
        None => gradients.clone(),
        // nothing comes back from beyond a bound
        Some(bound) => {
            let inside = kept.block(layer, at)?.abs()?.lt(bound)?;
            inside.where_cond(gradients, &gradients.zeros_like()?)?
        }
    };
    let x = kept.block(layer, At::ResidPre)?;
    let (rows, window, d_model) = x.dims3()?;
    let heads = gradients.dim(2)?;
    let by_head = gradients.permute((2, 0, 1, 3))?.contiguous()?.flatten(1, 2)?; // [head, rows · window, d_head]
    let behind = ops::back_by_head(&by_head, &block.attention.reader(at).w)?
        .reshape((heads, rows, window, d_model))?;
    let x = x.unsqueeze(0)?.broadcast_as(behind.shape())?.contiguous()?;
    Ok(block.ln1.pullback(&x, &behind)?.transpose(0, 1)?.contiguous()?.flatten_from(2)?)
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
    gradients: &Activations,
    kept: &Activations,
    arriving: &Arriving,
    weight: f64,
    all: &mut [Vec<f64>],
) -> Result<()> {
    let (graph, last) = (&runs.graph, runs.lab.model.config.n_layers.saturating_sub(1));
    let mut reader = 0;
    while let Some(&read) = graph.readers().get(reader) {
        let (site, together) = match read {
            Reader::Head { layer, channel, .. } => {
                (Site::Block(layer, channel.output()), graph.readers_of(channel))
            }
            Reader::Mlp(layer) => (Site::Block(layer, At::MlpIn), 1),
            Reader::Logits => (Site::Block(last, At::ResidPost), 1),
        };
        let writers = graph.reach(reader).min(arriving.first + arriving.values.dim(1)?);
        let writers = writers.saturating_sub(arriving.first);
        if let (Some(gradient), Site::Block(layer, at)) =
            (gradients.0.get(&site).filter(|_| writers > 0), site)
        {
            let by_reader = match at {
                At::Q | At::K | At::V => at_inputs(runs, layer, at, gradient, kept)?,
                _ => gradient.unsqueeze(1)?.contiguous()?.flatten_from(2)?,
            }; // [rows, reader, window · d_model]
            let scores = ops::inner(&arriving.values.narrow(1, 0, writers)?, &by_reader)?;
            let scores: Vec<f64> =
                scores.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
            for (all, scores) in all.iter_mut().zip(scores.chunks(writers * together)) {
                for (i, score) in scores.iter().enumerate() {
                    all[graph.number(arriving.first + i / together, reader + i % together)] += weight * score;
                }
            }
        }
        reader += together;
    }
    Ok(())
}
