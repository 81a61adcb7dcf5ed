//! First-order effects of one place of one layer: difference × gradient, summed over what a node is made of.

use candle_core::{D, DType, Device, Tensor};

use super::Grain;
use super::nodes::{Node, NodeSite};
use crate::error::Result;

/// Effects of the nodes of one activation, for every row of a batch.
pub(super) struct Values {
    pub(super) pos: usize,
    pub(super) units: usize,
    /// `[row, pos, unit]`: one unit at one position. Empty for neurons.
    pub(super) by_pos: Vec<f64>,
    /// `[row, unit]`: one unit at all positions.
    pub(super) whole: Vec<f64>,
    /// `[row, head, query, key]`, of patterns only.
    pub(super) by_key: Vec<f64>,
}

/// A tensor on the CPU in f64.
pub(super) fn double(x: &Tensor) -> Result<Tensor> {
    Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?)
}

/// All numbers of a tensor.
pub(super) fn flat(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.flatten_all()?.to_vec1()?)
}

impl Values {
    /// From the change of an activation and the gradient there, both in the activation's shape.
    pub(super) fn linear(site: NodeSite, change: &Tensor, gradient: &Tensor) -> Result<Values> {
        let product = (double(change)? * double(gradient)?)?;
        match site {
            NodeSite::Pattern => {
                let by_key = flat(&product)?; // [row, head, query, key]
                let by_query = product.sum(D::Minus1)?.transpose(1, 2)?; // [row, query, head]
                Ok(Values { by_key, ..Values::of(&by_query)? })
            }
            NodeSite::MlpPre | NodeSite::MlpPost => {
                let whole = product.sum(1)?; // [row, neuron]
                let units = whole.dim(1)?;
                Ok(Values { pos: 0, units, by_pos: Vec::new(), whole: flat(&whole)?, by_key: Vec::new() })
            }
            NodeSite::Z | NodeSite::Result | NodeSite::Q | NodeSite::K | NodeSite::V => {
                Values::of(&product.sum(D::Minus1)?)
            }
            _ => Values::of(&product.sum_keepdim(D::Minus1)?),
        }
    }

    /// From effects `[row, pos, unit]` that add up over positions.
    fn of(each: &Tensor) -> Result<Values> {
        let (_, pos, units) = each.dims3()?;
        let whole = flat(&each.sum(1)?)?;
        Ok(Values { pos, units, by_pos: flat(each)?, whole, by_key: Vec::new() })
    }

    /// The effect of a node in one row, whose places are these positions.
    pub(super) fn get(&self, node: &Node, row: usize, position: impl Fn(usize) -> usize) -> f64 {
        let at = |place: Option<usize>| place.map_or(0, &position);
        let found = match node.grain {
            Grain::Head | Grain::Neuron => self.whole.get(row * self.units + node.unit),
            Grain::Position | Grain::HeadPosition => {
                self.by_pos.get((row * self.pos + at(node.place)) * self.units + node.unit)
            }
            Grain::QueryKey => {
                let query = (row * self.units + node.unit) * self.pos + at(node.place);
                self.by_key.get(query * self.pos + at(node.key))
            }
        };
        found.copied().unwrap_or(f64::NAN)
    }
}
