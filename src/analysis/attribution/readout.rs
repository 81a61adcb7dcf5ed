//! How the final stream reads as a logit difference, and what each part of the stream is worth in it.
//!
//! LD = Σ_c (c − mean(c)) ⊙ γ / σ · ΔW_U + β·ΔW_U + Δb_U, with ΔW_U = mean W_U[answers] − mean W_U[wrong] and the
//! final norm's divisor σ frozen at the run's own value. Centring is symmetric, so it is applied once to γ ⊙ ΔW_U
//! instead of to every component, and only where the norm is a LayerNorm (Elhage et al. 2021; nostalgebraist 2020).

use candle_core::{D, DType, Device, Tensor};

use crate::component::Component;
use crate::error::Result;
use crate::metric::Targets;
use crate::model::Transformer;
use crate::ops;
use crate::record::{Activations, at_positions};
use crate::site::{At, Site};

/// The linear map from the stream to the logit difference, one for each row of a batch.
pub(crate) struct Readout {
    /// centred(γ ⊙ ΔW_U) / σ `[batch, d_model]`.
    pub(crate) direction: Tensor,
    /// β·ΔW_U of each row; 0 where the final norm has no bias.
    pub(crate) norm_bias: Vec<f64>,
    /// Δb_U of each row; 0 where the unembedding has no bias.
    pub(crate) unembed_bias: Vec<f64>,
}

impl Readout {
    /// The map for rows with these targets and this final divisor `[batch, 1]`. Every row has answers and wrong ones.
    pub(crate) fn new(model: &Transformer, targets: &Targets, scale: &Tensor) -> Result<Readout> {
        let (weights, ids) = weights(model, targets)?;
        let difference = ops::linear(&weights, &model.unembed.w.index_select(&ids, 1)?.t()?, None)?;
        let norm = &model.ln_final;
        let direction = ops::divide(&norm.centered(&ops::scale_rows(&difference, &norm.gain)?)?, scale)?;
        let none = || vec![0.0; targets.answers.len()];
        let norm_bias = match &norm.bias {
            Some(bias) => numbers(&difference.broadcast_mul(bias)?.sum(D::Minus1)?)?,
            None => none(),
        };
        let unembed_bias = match &model.unembed.b {
            Some(bias) => numbers(&weights.broadcast_mul(&bias.index_select(&ids, 0)?)?.sum(D::Minus1)?)?,
            None => none(),
        };
        Ok(Readout { direction, norm_bias, unembed_bias })
    }

    /// What vectors x `[batch, d_model]`, or one vector `[d_model]` for all rows, are worth.
    pub(crate) fn worth(&self, x: &Tensor) -> Result<Vec<f64>> {
        numbers(&self.direction.broadcast_mul(x)?.sum(D::Minus1)?)
    }

    /// The direction as seen before a layer's output matrix w `[width, d_model]`: `[batch, width]`.
    pub(crate) fn before(&self, w: &Tensor) -> Result<Tensor> {
        Ok(ops::linear(&self.direction, &w.t()?, None)?)
    }

    /// What each component of a run is worth at one position per row: one list of rows for each component.
    pub(crate) fn direct(
        &self,
        model: &Transformer,
        components: &[Component],
        kept: &Activations,
        positions: &[usize],
    ) -> Result<Vec<Vec<f64>>> {
        let at = |site| at_positions(kept.get(site)?, positions);
        let mut heads: Vec<Vec<f64>> = Vec::new(); // of the layer being read
        let mut all = Vec::with_capacity(components.len());
        for &component in components {
            all.push(match component {
                Component::Embed => self.worth(&at(Site::Embed)?)?,
                Component::PosEmbed => self.worth(&at(Site::PosEmbed)?)?,
                Component::Mlp(layer) => self.worth(&at(Site::Block(layer, At::MlpOut))?)?,
                Component::Bias(layer) => match &model.blocks[layer].attention.o.b {
                    Some(bias) => self.worth(bias)?,
                    None => vec![0.0; positions.len()],
                },
                Component::Head(layer, head) => {
                    if head == 0 {
                        heads = self.heads(model, layer, &at(Site::Block(layer, At::Z))?)?;
                    }
                    heads[head].clone()
                }
            });
        }
        Ok(all)
    }

    /// Each head of a layer, from z `[batch, head, d_head]`: one list of rows for each head.
    fn heads(&self, model: &Transformer, layer: usize, z: &Tensor) -> Result<Vec<Vec<f64>>> {
        let before = self.before(&model.blocks[layer].attention.o.w)?.reshape(z.shape())?;
        let worth = (z * before)?.sum(D::Minus1)?.t()?; // [head, batch]
        Ok(worth.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2()?)
    }
}

/// The sites [`Readout::direct`] reads, and the final divisor.
pub(crate) fn direct_needs(site: Site) -> bool {
    matches!(
        site,
        Site::Embed | Site::PosEmbed | Site::FinalScale | Site::Block(_, At::Z) | Site::Block(_, At::MlpOut)
    )
}

/// A tensor `[n]` as numbers.
pub(crate) fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?)
}

/// +1/n on each answer and −1/n on each wrong answer `[batch, ids]`, and the ids that are columns of it.
fn weights(model: &Transformer, targets: &Targets) -> Result<(Tensor, Tensor)> {
    let sets = || targets.answers.iter().zip(&targets.wrong);
    let mut ids: Vec<u32> =
        sets().flat_map(|(answers, wrong)| answers.iter().chain(wrong)).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let mut weights = vec![0.0; targets.answers.len() * ids.len()];
    for (row, (answers, wrong)) in weights.chunks_mut(ids.len().max(1)).zip(sets()) {
        for (set, sign) in [(answers, 1.0), (wrong, -1.0)] {
            for column in set.iter().filter_map(|id| ids.binary_search(id).ok()) {
                row[column] += sign / set.len() as f64;
            }
        }
    }
    let (shape, device) = ((targets.answers.len(), ids.len()), model.device());
    let weights =
        Tensor::from_vec(weights, shape, &Device::Cpu)?.to_dtype(model.dtype())?.to_device(device)?;
    Ok((weights, Tensor::new(ids, device)?))
}
