//! The pieces of a norm, kept apart so that its scale and its normalised value can be read and written.

use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor, bail};

use super::kernel::{
    Fill, Map, Pair, Real, Zip, each_row, has_kernels, map, numbers, pair, row_of, sum_by, zip,
};

/// x `[…, d]` → x − mean(x) over the last axis.
pub fn center(x: &Tensor) -> Result<Tensor> {
    map(x, Center)
}

/// x `[…, d]` → √(mean(x²) + eps) `[…, 1]`.
pub fn rms(x: &Tensor, eps: f64) -> Result<Tensor> {
    map(x, Rms { eps })
}

/// x `[…, d]`, scale `[…, 1]` → x / scale.
pub fn divide(x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    pair(x, scale, Divide)
}

/// x `[…, d]` · gain `[d]`.
pub fn scale_rows(x: &Tensor, gain: &Tensor) -> Result<Tensor> {
    by_row(x, gain, ByRow::Scale)
}

/// x `[…, d]` + bias `[d]`.
pub fn shift_rows(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    by_row(x, bias, ByRow::Shift)
}

/// a + b of one shape.
///
/// candle's own addition waits for a second pool of threads, which spins beside rayon's: on few cores that doubles the
/// processor time of a sweep.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    pair(a, b, Add)
}

/// a, n `[…, d]` → a − n·mean(n·a) over the last axis: a without what of it lies along n, where mean(n²) is 1.
pub fn without(a: &Tensor, n: &Tensor) -> Result<Tensor> {
    pair(a, n, Without)
}

#[derive(Clone, Copy)]
struct Without;

impl Zip for Without {
    const NAME: &'static str = "without";

    #[inline(always)]
    fn row<T: Real>(&self, a: &[T], n: &[T], out: &mut [T], _: usize) {
        let along = sum_by(a.len(), |i| n[i] * a[i]) / T::of(a.len() as f64);
        for ((y, &a), &n) in out.iter_mut().zip(a).zip(n) {
            *y = a - n * along;
        }
    }

    /// To a: the same of the gradient; to n: −(g·mean(n·a) + a·mean(n·g)), with means over the last axis of both.
    fn backward(&self, a: &Tensor, n: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
        let mean = |x: &Tensor| (n * x)?.mean_keepdim(D::Minus1);
        let to_n = (grad.broadcast_mul(&mean(a)?)? + a.broadcast_mul(&mean(grad)?)?)?.neg()?;
        Ok((without(grad, n)?, to_n))
    }
}

impl Pair for Without {
    fn composite(&self, a: &Tensor, n: &Tensor) -> Result<Tensor> {
        a - n.broadcast_mul(&(n * a)?.mean_keepdim(D::Minus1)?)?
    }
}

#[derive(Clone, Copy)]
struct Add;

impl Zip for Add {
    const NAME: &'static str = "add";

    #[inline(always)]
    fn row<T: Real>(&self, a: &[T], b: &[T], out: &mut [T], _: usize) {
        for ((y, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    }

    fn backward(&self, _: &Tensor, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((grad.clone(), grad.clone()))
    }
}

impl Pair for Add {
    fn composite(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a + b
    }
}

/// a ⊙ b of one shape, for gradients: they are not differentiated again.
pub(super) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    zip(a, b, Product)
}

#[derive(Clone, Copy)]
struct Product;

impl Zip for Product {
    const NAME: &'static str = "product";

    #[inline(always)]
    fn row<T: Real>(&self, a: &[T], b: &[T], out: &mut [T], _: usize) {
        for ((y, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *y = a * b;
        }
    }
}

fn by_row(x: &Tensor, v: &Tensor, how: ByRow) -> Result<Tensor> {
    match (how, has_kernels(x)) {
        (_, true) => x.contiguous()?.apply_op2(&v.contiguous()?, how),
        (ByRow::Scale, false) => x.broadcast_mul(v),
        (ByRow::Shift, false) => x.broadcast_add(v),
    }
}

/// The same vector multiplied onto, or added to, every row.
#[derive(Clone, Copy)]
enum ByRow {
    Scale,
    Shift,
}

impl ByRow {
    fn run<T: Real>(self, x: &[T], v: &[T]) -> Vec<T> {
        let mut out = vec![T::ZERO; x.len()];
        each_row(&mut out, v.len(), &ByRows { how: self, x, v });
        out
    }
}

struct ByRows<'a, T> {
    how: ByRow,
    x: &'a [T],
    v: &'a [T],
}

impl<T: Real> Fill<T> for ByRows<'_, T> {
    #[inline(always)]
    fn fill(&self, row: usize, out: &mut [T]) {
        let x = row_of(self.x, row, self.v.len());
        match self.how {
            ByRow::Scale => out.iter_mut().zip(x).zip(self.v).for_each(|((y, &x), &v)| *y = x * v),
            ByRow::Shift => out.iter_mut().zip(x).zip(self.v).for_each(|((y, &x), &v)| *y = x + v),
        }
    }
}

impl CustomOp2 for ByRow {
    fn name(&self) -> &'static str {
        "by_row"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if l1.dims().last() != l2.dims().last() || l2.dims().len() != 1 {
            bail!("rows of {:?} and a vector {:?} do not match", l1.dims(), l2.dims());
        }
        let out = match (s1, s2) {
            (CpuStorage::F32(_), CpuStorage::F32(_)) => {
                CpuStorage::F32(self.run(numbers(s1, l1)?, numbers(s2, l2)?))
            }
            (CpuStorage::F64(_), CpuStorage::F64(_)) => {
                CpuStorage::F64(self.run(numbers(s1, l1)?, numbers(s2, l2)?))
            }
            _ => bail!("rows and vector must both be f32 or f64"),
        };
        Ok((out, l1.shape().clone()))
    }

    /// To x: g·v or g; to v, when it is a variable: Σ over rows of g·x or g.
    fn bwd(
        &self,
        x: &Tensor,
        v: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let over_rows = |t: Tensor| t.reshape(((), v.elem_count()))?.sum(0);
        let to_x = match (x.track_op(), self) {
            (false, _) => None,
            (true, ByRow::Scale) => Some(scale_rows(grad, v)?),
            (true, ByRow::Shift) => Some(grad.clone()),
        };
        let to_v = match (v.track_op(), self) {
            (false, _) => None,
            (true, ByRow::Scale) => Some(over_rows((grad * x)?)?),
            (true, ByRow::Shift) => Some(over_rows(grad.clone())?),
        };
        Ok((to_x, to_v))
    }
}

#[derive(Clone, Copy)]
struct Center;

impl Map for Center {
    const NAME: &'static str = "center";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], out: &mut [T], _: usize) {
        let mean = sum_by(x.len(), |i| x[i]) / T::of(x.len() as f64);
        for (y, &x) in out.iter_mut().zip(x) {
            *y = x - mean;
        }
    }

    /// Centring is a symmetric projection: its own adjoint.
    fn backward(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Tensor> {
        center(grad)
    }

    fn composite(&self, x: &Tensor) -> Result<Tensor> {
        x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)
    }
}

#[derive(Clone, Copy)]
struct Rms {
    eps: f64,
}

impl Map for Rms {
    const NAME: &'static str = "rms";

    fn width(&self, _: usize) -> usize {
        1
    }

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], out: &mut [T], _: usize) {
        let mean_square = sum_by(x.len(), |i| x[i] * x[i]) / T::of(x.len() as f64);
        out[0] = (mean_square + T::of(self.eps)).sqrt_();
    }

    /// ∂/∂x = x / (d · y).
    fn backward(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let d = x.dim(D::Minus1)? as f64;
        x.broadcast_mul(&(grad / y)?.affine(1.0 / d, 0.0)?)
    }

    fn composite(&self, x: &Tensor) -> Result<Tensor> {
        x.sqr()?.mean_keepdim(D::Minus1)?.affine(1.0, self.eps)?.sqrt()
    }
}

#[derive(Clone, Copy)]
struct Divide;

impl Zip for Divide {
    const NAME: &'static str = "divide";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], scale: &[T], out: &mut [T], _: usize) {
        for (y, &x) in out.iter_mut().zip(x) {
            *y = x / scale[0];
        }
    }

    /// ∂/∂x = g / scale, ∂/∂scale = −Σ g·y / scale.
    fn backward(&self, _: &Tensor, scale: &Tensor, y: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
        let to_scale = ((grad * y)?.sum_keepdim(D::Minus1)? / scale)?.neg()?;
        Ok((divide(grad, scale)?, to_scale))
    }
}

impl Pair for Divide {
    fn composite(&self, x: &Tensor, scale: &Tensor) -> Result<Tensor> {
        x.broadcast_div(scale)
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::check::{alike, composite_equals_kernel, noise};
    use super::*;

    #[test]
    fn composites_equal_kernels() {
        composite_equals_kernel(&[3, 7, 11], Center);
        composite_equals_kernel(&[3, 7, 11], Rms { eps: 1e-3 });
        let (x, positive) = (noise(&[3, 7, 11], 0.0), noise(&[3, 7, 1], 1.0).sqr().unwrap());
        let positive = (positive + 0.5).unwrap();
        alike("divide", &[x.clone(), positive], |x| divide(&x[0], &x[1]));
        alike("without", &[x.clone(), noise(&[3, 7, 11], 4.0)], |x| without(&x[0], &x[1]));
        alike("add", &[x.clone(), noise(&[3, 7, 11], 2.0)], |x| add(&x[0], &x[1]));
        alike("scale_rows", &[x.clone(), noise(&[11], 3.0)], |x| scale_rows(&x[0], &x[1]));
        alike("shift_rows", &[x, noise(&[11], 3.0)], |x| shift_rows(&x[0], &x[1]));
    }
}
