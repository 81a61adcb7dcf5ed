//! Row kernels: a function of one row, run over all rows in parallel with the widest vectors the machine has.
//!
//! Results do not depend on the number of threads: each row is computed by itself, in one order. Kernels run on the CPU; for
//! every other device each function says what it is made of in candle's own operations, its *composite*, whose gradients
//! candle knows.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

pub(crate) use super::real::Real;

/// Sum over eight lanes, then over the lanes: vectorises, and has one order whatever the machine.
#[inline(always)]
pub(crate) fn sum_by<T: Real>(n: usize, f: impl Fn(usize) -> T) -> T {
    let mut lanes = [T::ZERO; 8];
    let whole = n - n % 8;
    let mut i = 0;
    while i < whole {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(i + lane);
        }
        i += 8;
    }
    let mut total = T::ZERO;
    for i in whole..n {
        total += f(i);
    }
    for lane in lanes {
        total += lane;
    }
    total
}

/// Work that is compiled for the widest vectors the machine has, and told whether it multiplies and adds in one step.
pub(crate) trait Vectored {
    fn run<const FUSED: bool>(self);
}

/// Does it. Everything it calls must be `#[inline(always)]`.
pub(crate) fn vectored(work: impl Vectored) {
    struct Op<W>(W);
    impl<W: Vectored> pulp::WithSimd for Op<W> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) {
            if S::IS_SCALAR { self.0.run::<false>() } else { self.0.run::<true>() }
        }
    }
    pulp::Arch::new().dispatch(Op(work));
}

/// A function of one row with a gradient.
pub(crate) trait Map: Clone + Send + Sync + 'static {
    const NAME: &'static str;
    /// Length of a result row for an input row of length `n`.
    fn width(&self, n: usize) -> usize {
        n
    }
    /// Fills result row `row` from the same row of `x`.
    fn row<T: Real>(&self, x: &[T], out: &mut [T], row: usize);
    /// The gradient of the argument, from argument, result and gradient of the result.
    fn backward(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Tensor>;
    /// The same function in candle's own operations, for devices without kernels.
    fn composite(&self, x: &Tensor) -> Result<Tensor>;
}

/// A function of two rows (the second may be a single number per row), used to write gradients.
pub(crate) trait Zip: Clone + Send + Sync + 'static {
    const NAME: &'static str;
    fn row<T: Real>(&self, a: &[T], b: &[T], out: &mut [T], row: usize);
    fn backward(&self, _a: &Tensor, _b: &Tensor, _y: &Tensor, _grad: &Tensor) -> Result<(Tensor, Tensor)> {
        bail!("{} has no second derivative", Self::NAME)
    }
}

/// A function of two tensors, rather than the gradient of one.
pub(crate) trait Pair: Zip {
    /// The same function in candle's own operations, for devices without kernels.
    fn composite(&self, a: &Tensor, b: &Tensor) -> Result<Tensor>;
}

/// Whether kernels run where this tensor is.
pub(crate) fn has_kernels(x: &Tensor) -> bool {
    #[cfg(test)]
    if WITHOUT_KERNELS.get() {
        return false;
    }
    x.device().is_cpu()
}

#[cfg(test)]
thread_local! {
    static WITHOUT_KERNELS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// What `work` computes as on a device without kernels: no test machine has one.
#[cfg(test)]
pub(crate) fn without_kernels<T>(work: impl FnOnce() -> T) -> T {
    WITHOUT_KERNELS.set(true);
    let done = work();
    WITHOUT_KERNELS.set(false);
    done
}

/// The function `kernel` over the rows (last axis) of `x`.
pub(crate) fn map<K: Map>(x: &Tensor, kernel: K) -> Result<Tensor> {
    if has_kernels(x) { x.contiguous()?.apply_op1(One(kernel)) } else { kernel.composite(x) }
}

/// The function `kernel` over the rows of `a` and `b` together.
pub(crate) fn pair<K: Pair>(a: &Tensor, b: &Tensor, kernel: K) -> Result<Tensor> {
    if has_kernels(a) { zip(a, b, kernel) } else { kernel.composite(a, b) }
}

/// Runs `kernel` over the rows of `a` and `b` together, on the CPU: the gradients of kernels, which ran there too.
pub(crate) fn zip<K: Zip>(a: &Tensor, b: &Tensor, kernel: K) -> Result<Tensor> {
    a.contiguous()?.apply_op2(&b.contiguous()?, Two(kernel))
}

/// The numbers of a contiguous storage.
pub(crate) fn numbers<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => bail!("a row kernel was given a strided view"),
    }
}

/// What fills the rows of a result. Its method must be `#[inline(always)]`, and what that calls too: only what is inlined is
/// compiled for the widest vectors, a closure may not be.
pub(crate) trait Fill<T>: Sync {
    fn fill(&self, row: usize, out: &mut [T]);
}

/// Fills every row of `out`, in parallel when there is enough work.
pub(crate) fn each_row<T: Real>(out: &mut [T], width: usize, with: &impl Fill<T>) {
    const PARALLEL_FROM: usize = 16 * 1024;
    if width == 0 || out.is_empty() {
        return;
    }
    if out.len() < PARALLEL_FROM {
        vectored(Rows { with, first: 0, rows: out, width });
    } else {
        let rows_each = (4 * 1024 / width).max(1);
        out.par_chunks_mut(rows_each * width)
            .enumerate()
            .for_each(|(chunk, rows)| vectored(Rows { with, first: chunk * rows_each, rows, width }));
    }
}

struct Rows<'a, T, F> {
    with: &'a F,
    first: usize,
    rows: &'a mut [T],
    width: usize,
}

impl<T: Real, F: Fill<T>> Vectored for Rows<'_, T, F> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (i, row) in self.rows.chunks_exact_mut(self.width).enumerate() {
            self.with.fill(self.first + i, row);
        }
    }
}

/// Row `row` of some of this width.
#[inline(always)]
pub(crate) fn row_of<T>(x: &[T], row: usize, width: usize) -> &[T] {
    &x[row * width..(row + 1) * width]
}

#[derive(Clone)]
struct One<K>(K);

struct OneRow<'a, K, T> {
    kernel: &'a K,
    x: &'a [T],
    width: usize,
}

impl<K: Map, T: Real> Fill<T> for OneRow<'_, K, T> {
    #[inline(always)]
    fn fill(&self, row: usize, out: &mut [T]) {
        self.kernel.row(row_of(self.x, row, self.width), out, row);
    }
}

impl<K: Map> One<K> {
    fn run<T: Real>(&self, x: &[T], width: usize) -> Vec<T> {
        let out_width = self.0.width(width);
        let rows = x.len().checked_div(width).unwrap_or(0);
        let mut out = vec![T::ZERO; rows * out_width];
        each_row(&mut out, out_width, &OneRow { kernel: &self.0, x, width });
        out
    }
}

impl<K: Map> CustomOp1 for One<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut dims = layout.dims().to_vec();
        let width = dims.last().copied().unwrap_or(1);
        if let Some(last) = dims.last_mut() {
            *last = self.0.width(width);
        }
        let out = match storage {
            CpuStorage::F32(_) => CpuStorage::F32(self.run(numbers(storage, layout)?, width)),
            CpuStorage::F64(_) => CpuStorage::F64(self.run(numbers(storage, layout)?, width)),
            _ => bail!("{} takes f32 or f64", K::NAME),
        };
        Ok((out, dims.into()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.0.backward(x, y, grad).map(Some)
    }
}

struct Two<K>(K);

struct TwoRows<'a, K, T> {
    kernel: &'a K,
    a: &'a [T],
    b: &'a [T],
    width: usize,
    b_width: usize,
}

impl<K: Zip, T: Real> Fill<T> for TwoRows<'_, K, T> {
    #[inline(always)]
    fn fill(&self, row: usize, out: &mut [T]) {
        self.kernel.row(row_of(self.a, row, self.width), row_of(self.b, row, self.b_width), out, row);
    }
}

impl<K: Zip> Two<K> {
    fn run<T: Real>(&self, a: &[T], b: &[T], width: usize, b_width: usize) -> Vec<T> {
        let mut out = vec![T::ZERO; a.len()];
        each_row(&mut out, width, &TwoRows { kernel: &self.0, a, b, width, b_width });
        out
    }
}

impl<K: Zip> CustomOp2 for Two<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let width = l1.dims().last().copied().unwrap_or(1);
        let b_width = l2.dims().last().copied().unwrap_or(1);
        if l1.shape().elem_count() * b_width != l2.shape().elem_count() * width {
            bail!("{}: rows of {:?} and {:?} do not match", K::NAME, l1.dims(), l2.dims());
        }
        let out = match (s1, s2) {
            (CpuStorage::F32(_), CpuStorage::F32(_)) => {
                CpuStorage::F32(self.run(numbers(s1, l1)?, numbers(s2, l2)?, width, b_width))
            }
            (CpuStorage::F64(_), CpuStorage::F64(_)) => {
                CpuStorage::F64(self.run(numbers(s1, l1)?, numbers(s2, l2)?, width, b_width))
            }
            _ => bail!("{} takes two f32 or two f64 tensors", K::NAME),
        };
        Ok((out, l1.shape().clone()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.0.backward(a, b, y, grad).map(|(a, b)| (Some(a), Some(b)))
    }
}

/// Composites held against kernels, values and gradients.
#[cfg(test)]
pub(crate) mod check {
    use candle_core::{DType, Device, Result, Tensor, Var};

    use super::{Map, map, without_kernels};

    /// Numbers that look random and are the same on every machine.
    pub(crate) fn noise(shape: &[usize], salt: f64) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|i| ((i as f64 + salt) * 12.9898).sin() * 3.0).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    pub(crate) fn composite_equals_kernel<K: Map>(shape: &[usize], kernel: K) {
        alike(K::NAME, &[noise(shape, 0.3)], |x| map(&x[0], kernel.clone()));
    }

    /// f and the gradient of Σ w·f to every input are the same with kernels as without.
    pub(crate) fn alike(name: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-12)] {
            let run = || -> Result<Vec<Vec<f64>>> {
                let vars: Vec<Var> =
                    inputs.iter().map(|x| Var::from_tensor(&x.to_dtype(dtype)?)).collect::<Result<_>>()?;
                let y = f(&vars.iter().map(|var| var.as_tensor().clone()).collect::<Vec<_>>())?;
                let weights = noise(y.dims(), 0.7).to_dtype(dtype)?;
                // what is hidden is −∞ and has no weight
                let finite = y.gt(f64::NEG_INFINITY)?.where_cond(&y, &y.zeros_like()?)?;
                let grads = (finite * weights)?.sum_all()?.backward()?;
                let flat = |x: &Tensor| x.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
                let grads = vars.iter().map(|var| match grads.get(var) {
                    Some(grad) => flat(grad),
                    None => candle_core::bail!("{name}: no gradient"),
                });
                std::iter::once(flat(&y)).chain(grads).collect()
            };
            let (with, without) = (run().unwrap(), without_kernels(run).unwrap());
            for (what, (with, without)) in with.iter().zip(&without).enumerate() {
                assert_eq!(with.len(), without.len());
                for (a, b) in with.iter().zip(without) {
                    let near = a == b || (a - b).abs() <= tolerance * a.abs().max(1.0);
                    assert!(near, "{name} in {dtype:?}, {what} (0: value, then gradients): {a} and {b}");
                }
            }
        }
    }
}
