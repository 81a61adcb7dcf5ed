//! All edits of one activation in a single copy of it.
//!
//! Each edit is affine in the activation, y = L·x + c on a region; the gradient of x is L applied to the gradient of y
//! on the same region, so that one operation serves both directions.

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, WithDType, bail};

use super::kernel::{Real, numbers};

/// What happens to the numbers of a region; lists follow the region's row-major order.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Each number becomes this one.
    Set(Vec<f64>),
    /// This number is added to each.
    Add(Vec<f64>),
    /// Every number is multiplied.
    Scale(f64),
    /// The component along this unit vector of the last axis is removed.
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
    let device = x.device();
    let y = x.to_device(&Device::Cpu)?.contiguous()?.apply_op1(Splice { regions })?;
    y.to_device(device)
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
    let (last, outer) = match region.part.split_last() {
        Some(split) if region.part.len() == dims.len() => split,
        _ => bail!("splice: a region of {} axes on {dims:?}", region.part.len()),
    };
    let mut starts = vec![0];
    for (indices, &size) in outer.iter().zip(dims) {
        starts = starts.iter().flat_map(|&start| indices.iter().map(move |&i| start * size + i)).collect();
    }
    let width = dims[dims.len() - 1];
    for (row, start) in starts.into_iter().enumerate() {
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
