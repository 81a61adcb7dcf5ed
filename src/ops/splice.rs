//! All edits of one activation in a single copy of it.
//!
//! Each edit is affine in the activation, y = L·x + c on a region; the gradient of x is L applied to the gradient of y
//! on the same region, so that one operation serves both directions.

use std::collections::BTreeSet;
use std::mem::discriminant;

use candle_core::{CpuStorage, CustomOp1, D, Device, Layout, Result, Shape, Tensor, WithDType, bail};

use super::kernel::{Real, has_kernels, numbers};

/// What happens to the numbers of a region; lists follow the region's row-major order.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Each number becomes this one.
    Set(Vec<f64>),
    /// This number is added to each.
    Add(Vec<f64>),
    /// Every number is multiplied.
    Scale(f64),
    /// The component along this unit vector of the last axis is removed, or a share of it: u with |u|² = share.
    Project(Vec<f64>),
}

/// Indices of every axis, and what happens there.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    pub(crate) part: Vec<Vec<usize>>,
    pub(crate) change: Change,
}

/// x with every region changed, in order. Indices must lie inside `x`; the caller resolved them.
pub(crate) fn splice(x: &Tensor, regions: Vec<Region>) -> Result<Tensor> {
    if has_kernels(x) { x.contiguous()?.apply_op1(Splice { regions }) } else { composite(x, &regions) }
}

/// The same in candle's own operations: for each block of rows a few, however many edits it joins.
fn composite(x: &Tensor, regions: &[Region]) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let flat = x.reshape(((), width))?; // [row, width]
    let changed = blocks(regions, x.dims())?.iter().try_fold(flat, |y, block| block.change(&y))?;
    changed.reshape(x.shape())
}

impl Region {
    /// The rows of an activation of this shape that the region covers, all axes but the last counted as one, and the columns.
    fn rows(&self, dims: &[usize]) -> Result<(Vec<usize>, &[usize])> {
        let (last, outer) = match self.part.split_last() {
            Some(split) if self.part.len() == dims.len() => split,
            _ => bail!("splice: a region of {} axes on {dims:?}", self.part.len()),
        };
        let mut rows = vec![0];
        for (indices, &size) in outer.iter().zip(dims) {
            rows = rows.iter().flat_map(|&row| indices.iter().map(move |&i| row * size + i)).collect();
        }
        Ok((rows, last))
    }
}

/// Rows, none of them twice, whose same columns change in the same way, each by numbers of its own.
struct Block<'a> {
    kind: &'a Change,
    columns: &'a [usize],
    rows: Vec<usize>,
    taken: BTreeSet<usize>,
    /// For each row one number per column, or one in all where the row is multiplied.
    numbers: Vec<f64>,
}

/// Regions row by row, joined as far as their order allows: edits of one activation are many, and each block copies it.
fn blocks<'a>(regions: &'a [Region], dims: &[usize]) -> Result<Vec<Block<'a>>> {
    let mut blocks: Vec<Block> = Vec::new();
    for region in regions {
        let (rows, columns) = region.rows(dims)?;
        let kind = &region.change;
        for (i, row) in rows.into_iter().enumerate() {
            let numbers = match kind {
                Change::Set(values) | Change::Add(values) => {
                    values.get(i * columns.len()..(i + 1) * columns.len()).unwrap_or_default()
                }
                Change::Scale(factor) => std::slice::from_ref(factor),
                Change::Project(unit) => unit,
            };
            let joins = |block: &&mut Block| {
                let alike = discriminant(block.kind) == discriminant(kind) && block.columns == columns;
                alike && !block.taken.contains(&row)
            };
            match blocks.last_mut().filter(joins) {
                Some(block) => {
                    block.rows.push(row);
                    block.taken.insert(row);
                    block.numbers.extend(numbers);
                }
                None => {
                    let (taken, numbers) = (BTreeSet::from([row]), numbers.to_vec());
                    blocks.push(Block { kind, columns, rows: vec![row], taken, numbers });
                }
            }
        }
    }
    Ok(blocks)
}

impl Block<'_> {
    /// x `[row, width]` with the block's part changed.
    fn change(&self, x: &Tensor) -> Result<Tensor> {
        let rows = x.index_select(&ids(&self.rows, x)?, 0)?; // [n, width]
        let part = rows.index_select(&ids(self.columns, x)?, 1)?; // [n, columns]
        let numbers = Tensor::from_slice(&self.numbers, (self.rows.len(), ()), &Device::Cpu)?;
        let numbers = numbers.to_dtype(x.dtype())?.to_device(x.device())?; // [n, columns] or [n, 1]
        let part = match self.kind {
            Change::Set(_) => numbers,
            Change::Add(_) => (part + numbers)?,
            // A masked score times zero stays what it is: 0 · −∞ is not a number.
            Change::Scale(_) => {
                part.eq(f64::NEG_INFINITY)?.where_cond(&part, &part.broadcast_mul(&numbers)?)?
            }
            Change::Project(_) => {
                let dot = (&part * &numbers)?.sum_keepdim(1)?;
                (part - numbers.broadcast_mul(&dot)?)?
            }
        };
        exchanged(x, &exchanged(&rows, &part, self.columns, 1)?, &self.rows, 0)
    }
}

/// x with the entries `at` of an axis exchanged for those of `new`. (The gradient of candle's `scatter` reaches entries that
/// were written over.)
fn exchanged(x: &Tensor, new: &Tensor, at: &[usize], axis: usize) -> Result<Tensor> {
    let mut from: Vec<usize> = (0..x.dim(axis)?).collect();
    let size = from.len();
    at.iter().enumerate().for_each(|(i, &at)| from[at] = size + i);
    Tensor::cat(&[x, new], axis)?.index_select(&ids(&from, x)?, axis)
}

fn ids(indices: &[usize], like: &Tensor) -> Result<Tensor> {
    Tensor::from_iter(indices.iter().map(|&i| i as u32), like.device())
}

struct Splice {
    regions: Vec<Region>,
}

impl CustomOp1 for Splice {
    fn name(&self) -> &'static str {
        "splice"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: Real>(regions: &[Region], x: &[T], dims: &[usize]) -> Result<Vec<T>> {
            let mut y = x.to_vec();
            for region in regions {
                apply(&mut y, dims, region)?;
            }
            Ok(y)
        }
        let dims = layout.dims();
        let out = match storage {
            CpuStorage::F32(_) => CpuStorage::F32(run(&self.regions, numbers(storage, layout)?, dims)?),
            CpuStorage::F64(_) => CpuStorage::F64(run(&self.regions, numbers(storage, layout)?, dims)?),
            _ => bail!("splice takes f32 or f64"),
        };
        Ok((out, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        // y = Lₙ…L₁x + c, so the gradient passes the regions in the opposite order; every L is symmetric.
        let linear = self.regions.iter().rev().filter_map(|region| {
            let change = match &region.change {
                Change::Set(_) => Change::Scale(0.0),
                Change::Add(_) => return None,
                other => other.clone(),
            };
            Some(Region { part: region.part.clone(), change })
        });
        splice(grad, linear.collect()).map(Some)
    }
}

fn apply<T: Real>(y: &mut [T], dims: &[usize], region: &Region) -> Result<()> {
    let (rows, last) = region.rows(dims)?;
    let width = dims[dims.len() - 1];
    for (row, start) in rows.into_iter().enumerate() {
        let y = &mut y[start * width..(start + 1) * width];
        match &region.change {
            Change::Set(values) => {
                let values = &values[row * last.len()..];
                last.iter().zip(values).for_each(|(&i, &v)| y[i] = number(v));
            }
            Change::Add(values) => {
                let values = &values[row * last.len()..];
                last.iter().zip(values).for_each(|(&i, &v)| y[i] += number(v));
            }
            // A masked score times zero stays what it is: 0 · −∞ is not a number.
            Change::Scale(factor) => last.iter().for_each(|&i| {
                if y[i] != T::NEG_INFINITY {
                    y[i] *= number(*factor);
                }
            }),
            Change::Project(unit) => {
                let dot: f64 = last.iter().zip(unit).map(|(&i, &u)| y[i].to_f64() * u).sum();
                last.iter().zip(unit).for_each(|(&i, &u)| y[i] += number(-dot * u));
            }
        }
    }
    Ok(())
}

fn number<T: WithDType>(x: f64) -> T {
    T::from_f64(x)
}

#[cfg(test)]
mod tests {
    use super::super::kernel::check::{alike, noise};
    use super::super::kernel::without_kernels;
    use super::*;

    fn region(part: &[&[usize]], change: Change) -> Region {
        Region { part: part.iter().map(|axis| axis.to_vec()).collect(), change }
    }

    /// Regions of `[2, 3, 4]`: rows and columns apart, and some over others.
    fn regions() -> Vec<Region> {
        let numbers = |n: usize| (0..n).map(|i| i as f64 - 2.5).collect::<Vec<_>>();
        let unit = vec![0.6, 0.8];
        vec![
            region(&[&[0], &[0, 2], &[0, 1, 2, 3]], Change::Set(numbers(8))),
            region(&[&[1], &[0, 1], &[0, 1, 2, 3]], Change::Set(numbers(8))),
            region(&[&[0, 1], &[1], &[2, 0]], Change::Add(numbers(4))),
            region(&[&[0], &[1, 2], &[3]], Change::Scale(-2.0)),
            region(&[&[1], &[2], &[3]], Change::Scale(0.0)),
            region(&[&[1], &[0, 1, 2], &[1, 3]], Change::Project(unit.clone())),
            region(&[&[1], &[0], &[1, 3]], Change::Project(unit)),
            region(&[&[1], &[0, 1], &[1]], Change::Add(vec![0.5, 0.25])),
        ]
    }

    #[test]
    fn composites_equal_kernels() {
        alike("splice", &[noise(&[2, 3, 4], 0.0)], |x| splice(&x[0], regions()));
        for region in regions() {
            alike("splice", &[noise(&[2, 3, 4], 0.0)], |x| splice(&x[0], vec![region.clone()]));
        }
    }

    #[test]
    fn edits_that_do_not_meet_are_one_block() {
        let all = regions();
        let rows: Vec<usize> =
            blocks(&all, &[2, 3, 4]).unwrap().iter().map(|block| block.rows.len()).collect();
        assert_eq!(rows, [4, 2, 3, 3, 1, 2]);
    }

    #[test]
    fn hidden_scores_are_set_and_kept_exactly() {
        let x = Tensor::new(&[[f32::NEG_INFINITY, 1.0], [2.0, f32::NEG_INFINITY]], &Device::Cpu).unwrap();
        let all =
            vec![region(&[&[0], &[0]], Change::Set(vec![0.1])), region(&[&[1], &[0, 1]], Change::Scale(0.0))];
        let run = || splice(&x, all.clone()).unwrap().to_vec2::<f32>().unwrap();
        let want = [[0.1, 1.0], [0.0, f32::NEG_INFINITY]];
        assert_eq!(run(), want);
        assert_eq!(without_kernels(run), want);
    }
}
