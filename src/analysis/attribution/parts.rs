//! Below the component: what a head takes from each source token, and what each neuron of an MLP adds.

use candle_core::{DType, Device, Tensor};

use super::readout::Readout;
use crate::error::Result;
use crate::model::Transformer;
use crate::record::{Activations, at_positions};
use crate::site::{At, Site};
use crate::{ops, task::Place};

/// A[q, s] · v_s · W_O · direction of one layer, for the query position of each row: `[head][row][source position]`.
/// Over the sources it sums to the head's own direct effect.
pub(super) fn sources(
    model: &Transformer,
    readout: &Readout,
    kept: &Activations,
    layer: usize,
    positions: &[usize],
) -> Result<Vec<Vec<Vec<f64>>>> {
    let attention = &model.blocks[layer].attention;
    let (heads, kv_heads, d_head) = (attention.n_heads, attention.n_kv_heads, attention.d_head);
    let (pattern, v) = (kept.block(layer, At::Pattern)?, kept.block(layer, At::V)?);
    let (batch, _, queries, keys) = pattern.dims4()?;
    let rows: Vec<u32> = positions
        .iter()
        .enumerate()
        .flat_map(|(row, &pos)| (0..heads).map(move |head| ((row * heads + head) * queries + pos) as u32))
        .collect();
    let rows = Tensor::from_vec(rows, batch * heads, pattern.device())?;
    let attended = pattern.flatten(0, 2)?.index_select(&rows, 0)?.reshape((batch, heads, keys))?;

    let group = heads / kv_heads;
    let before = readout.before_heads(model, layer)?.reshape((batch, kv_heads, group, d_head))?;
    let worth = ops::matmul(&before, &v.permute((0, 2, 3, 1))?)?; // [batch, kv_head, group, source]
    let each = (attended * worth.reshape((batch, heads, keys))?)?.transpose(0, 1)?;
    Ok(each.contiguous()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec3()?)
}

/// The columns of source tokens. A name that is another's everywhere is left out. Positions without a name are summed
/// as `other`, less what two names share in an example, so that a row still sums to the head.
pub(super) struct Columns {
    /// One for each column of the table, `other` not among them.
    pub(super) places: Vec<Place>,
    /// Whether `other` covers anything.
    pub(super) has_other: bool,
}

impl Columns {
    /// Columns for examples of these lengths.
    pub(super) fn new(places: Vec<Place>, lengths: &[usize]) -> Columns {
        let mut distinct: Vec<Place> = Vec::new();
        for place in places {
            if distinct.iter().all(|kept| kept.positions != place.positions) {
                distinct.push(place);
            }
        }
        let named = |example: usize| {
            let mut taken: Vec<usize> = distinct.iter().map(|place| place.positions[example]).collect();
            taken.sort_unstable();
            taken.dedup();
            taken.len()
        };
        let shared = |example: usize| named(example) < distinct.len();
        let has_other =
            lengths.iter().enumerate().any(|(example, &length)| named(example) < length || shared(example));
        Columns { places: distinct, has_other }
    }

    /// The values of an example's source positions dealt out to the columns, `other` last.
    pub(super) fn deal(&self, example: usize, values: &[f64]) -> Vec<f64> {
        let at = |place: &Place| values.get(place.positions[example]).copied().unwrap_or(0.0);
        let mut dealt: Vec<f64> = self.places.iter().map(at).collect();
        if self.has_other {
            dealt.push(values.iter().sum::<f64>() - dealt.iter().sum::<f64>());
        }
        dealt
    }
}

/// Neurons of one layer at one position per row: activation · (W_out · direction) `[batch, d_mlp]`; none where the layer
/// has no MLP that every token goes through.
pub(super) fn neurons(
    model: &Transformer,
    readout: &Readout,
    kept: &Activations,
    layer: usize,
    positions: &[usize],
) -> Result<Tensor> {
    let block = model.block(layer)?;
    let Some(mlp) = block.mlp.dense() else {
        return Ok(Tensor::zeros((positions.len(), 0), model.dtype(), model.device())?);
    };
    let post = at_positions(kept.get(Site::Block(layer, At::MlpPost))?, positions)?;
    Ok((post * readout.before_neurons(layer, &mlp.out.w)?)?)
}

/// The `k` neurons (layer, neuron) with the largest |mean over examples|, largest first, with their values by example.
///
/// `layers[layer]` holds one `[batch, d_mlp]` for each batch; rows are in the order of `order`.
pub(super) fn top_neurons(
    layers: &[Vec<Tensor>],
    order: &[usize],
    k: usize,
) -> Result<Vec<(usize, usize, Vec<f64>)>> {
    let mut sums: Vec<(f64, usize, usize)> = Vec::new();
    for (layer, batches) in layers.iter().enumerate() {
        let mut total: Vec<f64> = Vec::new();
        for batch in batches {
            let sum: Vec<f64> = batch.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.sum(0)?.to_vec1()?;
            total.resize(sum.len(), 0.0);
            total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
        }
        sums.extend(total.into_iter().enumerate().map(|(neuron, sum)| (sum.abs(), layer, neuron)));
    }
    // largest first; the earlier neuron first among equals
    sums.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    sums.truncate(k);
    let mut found = Vec::with_capacity(sums.len());
    for (_, layer, neuron) in sums {
        let mut values = vec![0.0; order.len()];
        let mut examples = order.iter();
        for batch in &layers[layer] {
            let column: Vec<f64> = batch
                .narrow(1, neuron, 1)?
                .squeeze(1)?
                .to_device(&Device::Cpu)?
                .to_dtype(DType::F64)?
                .to_vec1()?;
            column.into_iter().zip(&mut examples).for_each(|(value, &example)| values[example] = value);
        }
        found.push((layer, neuron, values));
    }
    Ok(found)
}
