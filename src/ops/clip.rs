//! Values kept inside of bounds, hard or soft.

use candle_core::{Result, Tensor};

use super::kernel::{Map, Real, Zip, map, zip};

/// x where `low ≤ x ≤ high`, else the nearer bound.
pub fn clamp(x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    map(x, Clamp { low, high })
}

/// cap · tanh(x / cap): like x where it is small, never beyond ±cap (Gemma Team 2024).
pub fn softcap(x: &Tensor, cap: f64) -> Result<Tensor> {
    map(x, Softcap { cap })
}

#[derive(Clone, Copy)]
struct Clamp {
    low: f64,
    high: f64,
}

impl Map for Clamp {
    const NAME: &'static str = "clamp";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], out: &mut [T], _: usize) {
        let (low, high) = (T::of(self.low), T::of(self.high));
        for (y, &x) in out.iter_mut().zip(x) {
            let x = if x < low { low } else { x };
            *y = if x > high { high } else { x };
        }
    }

    fn backward(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Tensor> {
        zip(x, grad, *self)
    }

    fn composite(&self, x: &Tensor) -> Result<Tensor> {
        // candle's own gives half of the gradient at a bound
        let inside = (x.ge(self.low)? * x.le(self.high)?)?;
        inside.where_cond(x, &x.detach().clamp(self.low, self.high)?)
    }
}

/// The gradient: g inside of the bounds, 0 beyond them.
impl Zip for Clamp {
    const NAME: &'static str = "clamp backward";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], grad: &[T], out: &mut [T], _: usize) {
        let (low, high) = (T::of(self.low), T::of(self.high));
        for ((y, &x), &g) in out.iter_mut().zip(x).zip(grad) {
            *y = if x < low || x > high { T::ZERO } else { g };
        }
    }
}

#[derive(Clone, Copy)]
struct Softcap {
    cap: f64,
}

impl Map for Softcap {
    const NAME: &'static str = "softcap";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], out: &mut [T], _: usize) {
        let cap = T::of(self.cap);
        for (y, &x) in out.iter_mut().zip(x) {
            *y = cap * (x / cap).tanh_();
        }
    }

    fn backward(&self, _: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Tensor> {
        zip(y, grad, *self)
    }

    fn composite(&self, x: &Tensor) -> Result<Tensor> {
        x.affine(1.0 / self.cap, 0.0)?.tanh()?.affine(self.cap, 0.0)
    }
}

/// The gradient: g · (1 − tanh²), from the result.
impl Zip for Softcap {
    const NAME: &'static str = "softcap backward";

    #[inline(always)]
    fn row<T: Real>(&self, y: &[T], grad: &[T], out: &mut [T], _: usize) {
        let cap = T::of(self.cap);
        for ((out, &y), &g) in out.iter_mut().zip(y).zip(grad) {
            let t = y / cap;
            *out = g * (T::ONE - t * t);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::check::composite_equals_kernel;
    use super::*;

    #[test]
    fn composites_equal_kernels() {
        composite_equals_kernel(&[3, 7, 11], Clamp { low: -1.0, high: 2.0 });
        composite_equals_kernel(&[3, 7, 11], Softcap { cap: 2.0 });
    }
}
