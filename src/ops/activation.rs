//! Activation functions, elementwise.

use candle_core::cpu::erf::erf_f64 as erf;
use candle_core::{Result, Tensor};

use super::kernel::{Map, Real, Zip, map, zip};
use super::softmax;

/// GELU in the tanh form of GPT-2: x·σ(2u), u = √(2/π)·(x + 0.044715·x³), which equals ½x(1 + tanh u).
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    map(x, GeluTanh)
}

/// Exact GELU: x·Φ(x). (The gradient of candle's own is off in the seventh digit.)
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    map(x, Gelu)
}

/// SiLU (swish): x·σ(x).
pub fn silu(x: &Tensor) -> Result<Tensor> {
    map(x, Swish { slope: 1.0 })
}

/// The quick form of GELU: x·σ(1.702·x).
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    map(x, Swish { slope: 1.702 })
}

/// SoLU: x·softmax(x) over the last axis (Elhage et al. 2022).
pub fn solu(x: &Tensor) -> Result<Tensor> {
    x * softmax(x)?
}

/// max(x, 0).
pub fn relu(x: &Tensor) -> Result<Tensor> {
    x.relu()
}

const ROOT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
const CUBIC: f64 = 0.044_715;

#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp_())
}

/// x·σ(u), with σ by way of tanh: the gradient of a quotient of exponentials is no number where they overflow.
fn gated(x: &Tensor, u: &Tensor) -> Result<Tensor> {
    x * u.affine(0.5, 0.0)?.tanh()?.affine(0.5, 0.5)?
}

#[derive(Clone, Copy)]
struct GeluTanh;

impl Map for GeluTanh {
    const NAME: &'static str = "gelu_tanh";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], out: &mut [T], _: usize) {
        let (a, b) = (T::of(2.0 * ROOT_2_OVER_PI), T::of(2.0 * ROOT_2_OVER_PI * CUBIC));
        for (y, &x) in out.iter_mut().zip(x) {
            *y = x * sigmoid(x * (a + b * x * x));
        }
    }

    fn backward(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Tensor> {
        zip(x, grad, *self)
    }

    fn composite(&self, x: &Tensor) -> Result<Tensor> {
        let slope = x.sqr()?.affine(2.0 * ROOT_2_OVER_PI * CUBIC, 2.0 * ROOT_2_OVER_PI)?;
        gated(x, &(x * slope)?)
    }
}

impl Zip for GeluTanh {
    const NAME: &'static str = "gelu_tanh backward";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], grad: &[T], out: &mut [T], _: usize) {
        let (a, b) = (T::of(2.0 * ROOT_2_OVER_PI), T::of(2.0 * ROOT_2_OVER_PI * CUBIC));
        let three = T::of(3.0);
        for ((y, &x), &g) in out.iter_mut().zip(x).zip(grad) {
            let s = sigmoid(x * (a + b * x * x));
            *y = g * (s + x * s * (T::ONE - s) * (a + three * b * x * x));
        }
    }
}

/// Φ(x), the normal distribution function.
#[inline(always)]
fn normal<T: Real>(x: T) -> T {
    T::of(0.5 * (1.0 + erf(x.to_f64() * std::f64::consts::FRAC_1_SQRT_2)))
}

#[derive(Clone, Copy)]
struct Gelu;

impl Map for Gelu {
    const NAME: &'static str = "gelu";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], out: &mut [T], _: usize) {
        for (y, &x) in out.iter_mut().zip(x) {
            *y = x * normal(x);
        }
    }

    fn backward(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Tensor> {
        zip(x, grad, *self)
    }

    fn composite(&self, x: &Tensor) -> Result<Tensor> {
        x * x.affine(std::f64::consts::FRAC_1_SQRT_2, 0.0)?.erf()?.affine(0.5, 0.5)?
    }
}

/// The gradient: Φ(x) + x·φ(x).
impl Zip for Gelu {
    const NAME: &'static str = "gelu backward";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], grad: &[T], out: &mut [T], _: usize) {
        let (root, half) =
            (T::of(0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2), T::of(-0.5));
        for ((y, &x), &g) in out.iter_mut().zip(x).zip(grad) {
            *y = g * (normal(x) + x * root * (half * x * x).exp_());
        }
    }
}

/// x·σ(slope·x).
#[derive(Clone, Copy)]
struct Swish {
    slope: f64,
}

impl Map for Swish {
    const NAME: &'static str = "swish";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], out: &mut [T], _: usize) {
        let slope = T::of(self.slope);
        for (y, &x) in out.iter_mut().zip(x) {
            *y = x * sigmoid(slope * x);
        }
    }

    fn backward(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Tensor> {
        zip(x, grad, *self)
    }

    fn composite(&self, x: &Tensor) -> Result<Tensor> {
        gated(x, &x.affine(self.slope, 0.0)?)
    }
}

impl Zip for Swish {
    const NAME: &'static str = "swish backward";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], grad: &[T], out: &mut [T], _: usize) {
        let slope = T::of(self.slope);
        for ((y, &x), &g) in out.iter_mut().zip(x).zip(grad) {
            let s = sigmoid(slope * x);
            *y = g * (s + slope * x * s * (T::ONE - s));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::check::composite_equals_kernel;
    use super::*;

    #[test]
    fn composites_equal_kernels() {
        composite_equals_kernel(&[3, 7, 11], GeluTanh);
        composite_equals_kernel(&[3, 7, 11], Gelu);
        composite_equals_kernel(&[3, 7, 11], Swish { slope: 1.0 });
        composite_equals_kernel(&[3, 7, 11], Swish { slope: 1.702 });
    }
}
