//! First-order effects of one place of one layer: difference × gradient, summed over what a node is made of.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::Grain;
use super::nodes::{Node, NodeSite};
use crate::error::Result;

/// Effects of the nodes of one activation, for every row of a batch, from the position `first` on; to its left all are 0.
#[derive(Default)]
pub(super) struct Values {
    pub(super) first: usize,
    /// Positions from there on.
    pub(super) pos: usize,
    pub(super) units: usize,
    /// `[row, pos, unit]`: one unit at one position. Empty for neurons.
    pub(super) by_pos: Vec<f64>,
    /// `[row, unit]`: one unit at all positions.
    pub(super) whole: Vec<f64>,
    /// `[row, head, query, key]`, of patterns only; keys are counted from 0.
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

/// The products of two tensors of one shape, added up in f64.
struct Products<'a, T> {
    change: &'a [T],
    gradient: &'a [T],
}

fn product<T: Into<f64>>(a: T, b: T) -> f64 {
    let (a, b): (f64, f64) = (a.into(), b.into());
    a * b
}

impl<T: Copy + Into<f64> + Sync> Products<'_, T> {
    /// Σ over each `width` numbers in a row.
    fn sums(&self, width: usize) -> Vec<f64> {
        let rows = self.change.par_chunks(width.max(1)).zip(self.gradient.par_chunks(width.max(1)));
        let sum = |(a, b): (&[T], &[T])| -> f64 { a.iter().zip(b).map(|(&a, &b)| product(a, b)).sum() };
        rows.with_min_len(16).map(sum).collect()
    }

    /// Σ over the rows of `width` numbers in each block of `block` numbers: one sum for each column of each block.
    fn columns(&self, block: usize, width: usize) -> Vec<f64> {
        let (block, width) = (block.max(1), width.max(1));
        let blocks = self.change.par_chunks(block).zip(self.gradient.par_chunks(block));
        let sums = |(a, b): (&[T], &[T])| {
            let mut sums = vec![0.0; width];
            for (a, b) in a.chunks(width).zip(b.chunks(width)) {
                sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (&a, &b))| *sum += product(a, b));
            }
            sums
        };
        blocks.flat_map_iter(sums).collect()
    }

    fn values(&self, site: NodeSite, dims: &[usize]) -> Values {
        let size = |axis: usize| dims.get(axis).copied().unwrap_or(1);
        match site {
            NodeSite::Pattern => {
                let (heads, queries, keys) = (size(1), size(2), size(3)); // [row, head, query, key]
                let by_key = self.sums(1);
                let by_query: Vec<f64> = by_key.chunks(keys.max(1)).map(|keys| keys.iter().sum()).collect();
                let rows = by_query.chunks((heads * queries).max(1));
                let turned = |row: &[f64]| -> Vec<f64> {
                    let at = |i: usize| row.get(i % heads * queries + i / heads).copied().unwrap_or(0.0);
                    (0..row.len()).map(at).collect()
                };
                Values { by_key, ..Values::of(rows.flat_map(turned).collect(), queries, heads) }
            }
            NodeSite::MlpPre | NodeSite::MlpPost => {
                let units = size(2);
                Values { units, whole: self.columns(size(1) * units, units), ..Values::default() }
            }
            NodeSite::Z | NodeSite::Result | NodeSite::Q | NodeSite::K | NodeSite::V => {
                Values::of(self.sums(size(3)), size(1), size(2))
            }
            _ => Values::of(self.sums(size(2)), size(1), 1),
        }
    }
}

impl Values {
    /// From the change of an activation and the gradient there, both in the activation's shape from the position `first` on.
    pub(super) fn linear(site: NodeSite, change: &Tensor, gradient: &Tensor, first: usize) -> Result<Values> {
        let dims = change.dims();
        let cpu = |x: &Tensor| x.to_device(&Device::Cpu)?.flatten_all();
        let (change, gradient) = (cpu(change)?, cpu(gradient)?);
        let values = match change.dtype() {
            DType::F32 => {
                let (change, gradient) = (change.to_vec1::<f32>()?, gradient.to_vec1::<f32>()?);
                Products { change: &change, gradient: &gradient }.values(site, dims)
            }
            _ => {
                let (change, gradient) = (change.to_vec1::<f64>()?, gradient.to_vec1::<f64>()?);
                Products { change: &change, gradient: &gradient }.values(site, dims)
            }
        };
        Ok(Values { first, ..values })
    }

    /// From effects `[row, pos, unit]` that add up over positions.
    fn of(by_pos: Vec<f64>, pos: usize, units: usize) -> Values {
        let mut whole = Vec::with_capacity(by_pos.len() / pos.max(1));
        for row in by_pos.chunks((pos * units).max(1)) {
            let mut sums = vec![0.0; units];
            row.chunks(units.max(1)).for_each(|each| sums.iter_mut().zip(each).for_each(|(s, x)| *s += x));
            whole.extend(sums);
        }
        Values { pos, units, by_pos, whole, ..Values::default() }
    }

    /// The effect of a node in one row, whose places are these positions.
    pub(super) fn get(&self, node: &Node, row: usize, position: impl Fn(usize) -> usize) -> f64 {
        let at = |place: Option<usize>| place.map_or(0, &position);
        let inside = |place: Option<usize>| at(place).checked_sub(self.first);
        let found = match (node.grain, inside(node.place)) {
            (Grain::Head | Grain::Neuron, _) => self.whole.get(row * self.units + node.unit),
            (_, None) => return 0.0, // both runs are the same there
            (Grain::Position | Grain::HeadPosition, Some(pos)) => {
                self.by_pos.get((row * self.pos + pos) * self.units + node.unit)
            }
            (Grain::QueryKey, Some(query)) => {
                let query = (row * self.units + node.unit) * self.pos + query;
                self.by_key.get(query * (self.first + self.pos) + at(node.key))
            }
        };
        found.copied().unwrap_or(f64::NAN)
    }
}
