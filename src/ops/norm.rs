//! The pieces of a norm, kept apart so that its scale and its normalised value can be read and written.

use candle_core::{D, Result, Tensor};

use super::kernel::{Map, Real, Zip, map, sum_by, zip};

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
    zip(x, scale, Divide)
}

/// x `[…, d]` · gain `[d]`.
pub fn scale_rows(x: &Tensor, gain: &Tensor) -> Result<Tensor> {
    x.broadcast_mul(gain)
}

/// x `[…, d]` + bias `[d]`.
pub fn shift_rows(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.broadcast_add(bias)
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
