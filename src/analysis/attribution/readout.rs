//! How the final stream reads as a logit difference, and what each part of the stream is worth in it.
//!
//! LD = Σ_c (c − mean(c)) ⊙ γ / σ · ΔW_U + β·ΔW_U + Δb_U, with ΔW_U = mean W_U[answers] − mean W_U[wrong] and the
//! final norm's divisor σ frozen at the run's own value. Centring is symmetric, so it is applied once to γ ⊙ ΔW_U
//! instead of to every component, and only where the norm is a LayerNorm (Elhage et al. 2021; nostalgebraist 2020).
//!
//! What attention or the MLP writes passes the norm behind it, where there is one, before it joins the stream: seen from
//! in front of that norm the direction is centred(γ_post ⊙ d) / σ_post, σ_post frozen likewise, and β_post·d is a constant.
//! Where logits are bent to a bound, all this is of the logits before that.

use std::borrow::Cow;

use candle_core::{D, DType, Device, Tensor};

use crate::component::Component;
use crate::error::Result;
use crate::metric::Targets;
use crate::model::{Norm, Transformer};
use crate::ops;
use crate::record::{Activations, at_positions};
use crate::site::{At, Site};

/// The linear map from the stream to the logit difference, one for each row of a batch.
pub(crate) struct Readout {
    /// centred(γ ⊙ ΔW_U) / σ `[batch, d_model]`.
    pub(crate) direction: Tensor,
    /// The same in front of the norm behind attention, for each layer.
    attention: Vec<Tensor>,
    /// The same in front of the norm behind the MLP, for each layer.
    mlp: Vec<Tensor>,
    /// β·ΔW_U of each row; 0 where the final norm has no bias.
    pub(crate) norm_bias: Vec<f64>,
    /// Δb_U of each row; 0 where the unembedding has no bias.
    pub(crate) unembed_bias: Vec<f64>,
}

impl Readout {
    /// The map for rows with these targets, read at one position per row, with the divisors of `kept` frozen. Every row
    /// has answers and wrong ones.
    pub(crate) fn new(
        model: &Transformer,
        targets: &Targets,
        kept: &Activations,
        positions: &[usize],
    ) -> Result<Readout> {
        let (weights, ids) = weights(model, targets)?;
        let difference = ops::linear(&weights, &model.unembed.w.index_select(&ids, 1)?.t()?, None)?;
        let norm = &model.ln_final;
        let frozen = |site| at_positions(kept.get(site)?, positions); // [batch, 1]
        let direction = in_front(norm, &difference, || match kept.get(Site::FinalScale)? {
            only if only.dim(1)? == 1 => Ok(only.squeeze(1)?), // a run that unembedded these positions alone
            _ => frozen(Site::FinalScale),
        })?;
        let behind = |layer, norm, at| in_front(norm, &direction, || frozen(Site::Block(layer, at)));
        let blocks = || model.blocks.iter().enumerate();
        let attention = blocks().map(|(layer, block)| behind(layer, &block.ln1_post, At::Ln1PostScale));
        let mlp = blocks().map(|(layer, block)| match block.has(At::Ln2PostScale) {
            true => behind(layer, &block.ln2_post, At::Ln2PostScale),
            false => Ok(direction.clone()),
        });
        let (attention, mlp) = (attention.collect::<Result<_>>()?, mlp.collect::<Result<_>>()?);
        let none = || vec![0.0; targets.answers.len()];
        let norm_bias = match &norm.bias {
            Some(bias) => numbers(&difference.broadcast_mul(bias)?.sum(D::Minus1)?)?,
            None => none(),
        };
        let unembed_bias = match &model.unembed.b {
            Some(bias) => numbers(&weights.broadcast_mul(&bias.index_select(&ids, 0)?)?.sum(D::Minus1)?)?,
            None => none(),
        };
        Ok(Readout { direction, attention, mlp, norm_bias, unembed_bias })
    }

    /// What vectors x `[batch, d_model]`, or one vector `[d_model]` for all rows, are worth.
    pub(crate) fn worth(&self, x: &Tensor) -> Result<Vec<f64>> {
        along(&self.direction, x)
    }

    /// The direction as seen in front of a layer's W_O: `[batch, n_heads · d_head]`.
    pub(super) fn before_heads(&self, model: &Transformer, layer: usize) -> Result<Tensor> {
        Ok(ops::linear(&self.attention[layer], &model.block(layer)?.attention.o.w.t()?, None)?)
    }

    /// The direction as seen in front of the output matrix w `[width, d_model]` of a layer's MLP or expert: `[batch, width]`.
    pub(super) fn before_neurons(&self, layer: usize, w: &Tensor) -> Result<Tensor> {
        Ok(ops::linear(&self.mlp[layer], &w.t()?, None)?)
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
                Component::Bias(layer) => self.bias(model, layer)?,
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
        let before = self.before_heads(model, layer)?.reshape(z.shape())?;
        let worth = (z * before)?.sum(D::Minus1)?.t()?; // [head, batch]
        Ok(worth.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2()?)
    }

    /// What a layer's attention writes whatever its heads do: b_O through the norm behind it, and that norm's own bias.
    fn bias(&self, model: &Transformer, layer: usize) -> Result<Vec<f64>> {
        let block = model.block(layer)?;
        let rows = self.norm_bias.len();
        let each = |bias: &Option<Tensor>, direction: &Tensor| match bias {
            Some(bias) => along(direction, bias),
            None => Ok(vec![0.0; rows]),
        };
        let shared = each(&block.attention.o.b, &self.attention[layer])?;
        let behind = each(&block.ln1_post.bias, &self.direction)?;
        Ok(shared.iter().zip(behind).map(|(shared, behind)| shared + behind).collect())
    }
}

/// A direction d `[batch, d_model]` as seen in front of a norm whose divisor is frozen at `scale` `[batch, 1]`:
/// centred(γ ⊙ d) / σ; d itself where there is no norm.
fn in_front(norm: &Norm, d: &Tensor, scale: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
    if !norm.is_some() {
        return Ok(d.clone());
    }
    Ok(ops::divide(&norm.centered(&ops::scale_rows(d, &norm.gain)?)?, &scale()?)?)
}

fn along(direction: &Tensor, x: &Tensor) -> Result<Vec<f64>> {
    numbers(&direction.broadcast_mul(x)?.sum(D::Minus1)?)
}

/// The model without the bound that its logits are bent to stay within: the logits that direct effects are shares of.
pub(crate) fn unbent(model: &Transformer) -> Cow<'_, Transformer> {
    if model.config.logit_cap.is_none() {
        return Cow::Borrowed(model);
    }
    let mut model = model.clone(); // shares the weights
    model.config.logit_cap = None;
    Cow::Owned(model)
}

/// What a reader must know where logits are bent.
pub(crate) fn bent(model: &Transformer) -> Option<String> {
    let cap = model.config.logit_cap?;
    Some(format!(
        "this model bends its logits to stay within ±{cap}: effects here are of the logit difference before that, which is \
         a sum of what components write; what the model says is behind it"
    ))
}

/// The sites that hold what components write.
pub(crate) fn direct_writes(site: Site) -> bool {
    matches!(site, Site::Embed | Site::PosEmbed | Site::Block(_, At::Z | At::MlpOut))
}

/// The sites [`Readout::direct`] reads, and the divisors that are frozen.
pub(crate) fn direct_needs(site: Site) -> bool {
    direct_writes(site)
        || matches!(site, Site::FinalScale | Site::Block(_, At::Ln1PostScale | At::Ln2PostScale))
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
