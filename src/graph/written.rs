//! What every writer wrote in a run.

use candle_core::Tensor;

use super::{Graph, Writer};
use crate::error::Result;
use crate::model::{Norm, Transformer};
use crate::record::Activations;
use crate::site::{At, Site};

/// The values of every writer of a graph in one run.
#[derive(Debug, Clone)]
pub struct Written {
    /// Of each writer `[rows, pos, d_model]`. What a head wrote is taken before the norm behind attention, if there is one.
    pub each: Vec<Tensor>,
    /// Of each layer with a norm behind attention, what attention wrote before it `[rows, pos, d_model]`.
    sums: Vec<Option<Tensor>>,
}

impl Written {
    /// Whether a run must keep this site for [`Written::of`], or to have edges cut in it.
    pub fn needs(site: Site) -> bool {
        matches!(site, Site::Block(0, At::ResidPre) | Site::Block(_, At::Z | At::ResidMid | At::MlpOut))
    }

    /// The values of a run that kept what is needed.
    pub fn of(model: &Transformer, graph: &Graph, kept: &Activations) -> Result<Written> {
        let mut each = Vec::with_capacity(graph.writers().len());
        for &writer in graph.writers() {
            match writer {
                Writer::Input => each.push(kept.block(0, At::ResidPre)?.clone()),
                Writer::Head(layer, 0) => {
                    each.extend(by_head(model, layer, kept.block(layer, At::Z)?)?);
                }
                Writer::Head(..) => {}
                Writer::Mlp(layer) => each.push(kept.block(layer, At::MlpOut)?.clone()),
            }
        }
        let mut sums = Vec::with_capacity(model.blocks.len());
        for (layer, block) in model.blocks.iter().enumerate() {
            let behind = block.ln1_post.is_some();
            sums.push(behind.then(|| sum(model, layer, kept.block(layer, At::Z)?)).transpose()?);
        }
        Ok(Written { each, sums })
    }

    /// What attention of a layer wrote, before the norm behind it.
    pub(super) fn sum(&self, layer: usize) -> Option<&Tensor> {
        self.sums.get(layer)?.as_ref()
    }
}

/// The norm behind a layer's attention, if there is one.
pub(super) fn behind(model: &Transformer, layer: usize) -> Result<Option<&Norm>> {
    Ok(Some(&model.block(layer)?.ln1_post).filter(|norm| norm.is_some()))
}

/// z `[rows, pos, head, d_head]` → what each head writes `[rows, pos, d_model]`.
pub(super) fn by_head(model: &Transformer, layer: usize, z: &Tensor) -> Result<Vec<Tensor>> {
    let results = model.block(layer)?.attention.results(z)?;
    let heads = results.dim(2)?;
    (0..heads).map(|head| Ok(results.narrow(2, head, 1)?.squeeze(2)?.contiguous()?)).collect()
}

/// z `[rows, pos, head, d_head]` → Σ_head z·W_O + b_O `[rows, pos, d_model]`.
pub(super) fn sum(model: &Transformer, layer: usize, z: &Tensor) -> Result<Tensor> {
    model.block(layer)?.attention.o.forward(&z.flatten_from(2)?)
}
