//! Activation functions, number by number, alone or as the gate of a product.

use candle_core::{Result, Tensor};

use super::kernel::{Map, Pair, Real, Zip, map, pair, zip};
use super::norm::product;
use super::softmax;

/// GELU in the tanh form of GPT-2: x·σ(2u), u = √(2/π)·(x + 0.044715·x³), which equals ½x(1 + tanh u).
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    map(x, Alone(GeluTanh))
}

/// Exact GELU: x·Φ(x). (The gradient of candle's own is off in the seventh digit.)
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    map(x, Alone(Gelu))
}

/// SiLU (swish): x·σ(x).
pub fn silu(x: &Tensor) -> Result<Tensor> {
    map(x, Alone(Swish::<false>))
}

/// The quick form of GELU: x·σ(1.702·x).
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    map(x, Alone(Swish::<true>))
}

/// SoLU: x·softmax(x) over the last axis (Elhage et al. 2022).
pub fn solu(x: &Tensor) -> Result<Tensor> {
    x * softmax(x)?
}

/// max(x, 0).
pub fn relu(x: &Tensor) -> Result<Tensor> {
    x.relu()
}

/// What the gate of a product goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// As [`gelu_tanh`].
    GeluTanh,
    /// As [`gelu`].
    Gelu,
    /// As [`silu`].
    Silu,
    /// As [`quick_gelu`].
    QuickGelu,
}

/// act(gate) ⊙ x, both of one shape, in one step: the bits of the two steps (Shazeer 2020).
pub fn gated(gate: &Tensor, x: &Tensor, act: Gate) -> Result<Tensor> {
    if gate.dims() != x.dims() {
        candle_core::bail!("gated: a gate {:?} for {:?}", gate.dims(), x.dims());
    }
    match act {
        Gate::GeluTanh => pair(gate, x, Gated(GeluTanh)),
        Gate::Gelu => pair(gate, x, Gated(Gelu)),
        Gate::Silu => pair(gate, x, Gated(Swish::<false>)),
        Gate::QuickGelu => pair(gate, x, Gated(Swish::<true>)),
    }
}

/// A response to a number.
trait Response: Copy + Send + Sync + 'static {
    const NAME: &'static str;
    fn of<T: Real>(&self, x: T) -> T;
    /// The derivative.
    fn slope<T: Real>(&self, x: T) -> T;
    /// The same in candle's own operations, for devices without kernels.
    fn composite(&self, x: &Tensor) -> Result<Tensor>;
}

/// The response of every number.
#[derive(Clone, Copy)]
struct Alone<R>(R);

impl<R: Response> Map for Alone<R> {
    const NAME: &'static str = R::NAME;

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], out: &mut [T], _: usize) {
        for (y, &x) in out.iter_mut().zip(x) {
            *y = self.0.of(x);
        }
    }

    fn backward(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Tensor> {
        zip(x, grad, *self)
    }

    fn composite(&self, x: &Tensor) -> Result<Tensor> {
        self.0.composite(x)
    }
}

/// The gradient.
impl<R: Response> Zip for Alone<R> {
    const NAME: &'static str = R::NAME;

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], grad: &[T], out: &mut [T], _: usize) {
        for ((y, &x), &g) in out.iter_mut().zip(x).zip(grad) {
            *y = g * self.0.slope(x);
        }
    }
}

/// The response of one number times another.
#[derive(Clone, Copy)]
struct Gated<R>(R);

impl<R: Response> Zip for Gated<R> {
    const NAME: &'static str = R::NAME;

    #[inline(always)]
    fn row<T: Real>(&self, gate: &[T], x: &[T], out: &mut [T], _: usize) {
        for ((y, &gate), &x) in out.iter_mut().zip(gate).zip(x) {
            *y = self.0.of(gate) * x;
        }
    }

    fn backward(&self, gate: &Tensor, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((zip(gate, &product(grad, x)?, Alone(self.0))?, zip(gate, grad, *self)?))
    }
}

impl<R: Response> Pair for Gated<R> {
    fn composite(&self, gate: &Tensor, x: &Tensor) -> Result<Tensor> {
        self.0.composite(gate)? * x
    }
}

const ROOT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
const CUBIC: f64 = 0.044_715;

#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp_())
}

/// x·σ(u), with σ by way of tanh: the gradient of a quotient of exponentials is no number where they overflow.
fn by_sigmoid(x: &Tensor, u: &Tensor) -> Result<Tensor> {
    x * u.affine(0.5, 0.0)?.tanh()?.affine(0.5, 0.5)?
}

#[derive(Clone, Copy)]
struct GeluTanh;

impl Response for GeluTanh {
    const NAME: &'static str = "gelu_tanh";

    #[inline(always)]
    fn of<T: Real>(&self, x: T) -> T {
        let (a, b) = (T::of(2.0 * ROOT_2_OVER_PI), T::of(2.0 * ROOT_2_OVER_PI * CUBIC));
        x * sigmoid(x * (a + b * x * x))
    }

    #[inline(always)]
    fn slope<T: Real>(&self, x: T) -> T {
        let (a, b) = (T::of(2.0 * ROOT_2_OVER_PI), T::of(2.0 * ROOT_2_OVER_PI * CUBIC));
        let s = sigmoid(x * (a + b * x * x));
        s + x * s * (T::ONE - s) * (a + T::of(3.0) * b * x * x)
    }

    fn composite(&self, x: &Tensor) -> Result<Tensor> {
        let slope = x.sqr()?.affine(2.0 * ROOT_2_OVER_PI * CUBIC, 2.0 * ROOT_2_OVER_PI)?;
        by_sigmoid(x, &(x * slope)?)
    }
}

#[derive(Clone, Copy)]
struct Gelu;

impl Response for Gelu {
    const NAME: &'static str = "gelu";

    #[inline(always)]
    fn of<T: Real>(&self, x: T) -> T {
        x * x.normal_()
    }

    /// Φ(x) + x·φ(x).
    #[inline(always)]
    fn slope<T: Real>(&self, x: T) -> T {
        let root = T::of(0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2);
        x.normal_() + x * root * (T::of(-0.5) * x * x).exp_()
    }

    fn composite(&self, x: &Tensor) -> Result<Tensor> {
        x * x.affine(std::f64::consts::FRAC_1_SQRT_2, 0.0)?.erf()?.affine(0.5, 0.5)?
    }
}

/// x·σ(slope·x). The slope is a constant of the type: read from a field as f64 it would halve the vectors.
#[derive(Clone, Copy)]
struct Swish<const QUICK: bool>;

impl<const QUICK: bool> Swish<QUICK> {
    const SLOPE: f64 = if QUICK { 1.702 } else { 1.0 };
}

impl<const QUICK: bool> Response for Swish<QUICK> {
    const NAME: &'static str = "swish";

    #[inline(always)]
    fn of<T: Real>(&self, x: T) -> T {
        x * sigmoid(T::of(Self::SLOPE) * x)
    }

    #[inline(always)]
    fn slope<T: Real>(&self, x: T) -> T {
        let slope = T::of(Self::SLOPE);
        let s = sigmoid(slope * x);
        s + slope * x * s * (T::ONE - s)
    }

    fn composite(&self, x: &Tensor) -> Result<Tensor> {
        by_sigmoid(x, &x.affine(Self::SLOPE, 0.0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::check::{alike, composite_equals_kernel, noise};
    use super::*;
    use candle_core::DType;

    #[test]
    fn composites_equal_kernels() {
        composite_equals_kernel(&[3, 7, 11], Alone(GeluTanh));
        composite_equals_kernel(&[3, 7, 11], Alone(Gelu));
        composite_equals_kernel(&[3, 7, 11], Alone(Swish::<false>));
        composite_equals_kernel(&[3, 7, 11], Alone(Swish::<true>));
        for act in [Gate::GeluTanh, Gate::Gelu, Gate::Silu, Gate::QuickGelu] {
            let inputs = [noise(&[3, 7, 11], 0.3), noise(&[3, 7, 11], 0.9)];
            alike("gated", &inputs, |x| gated(&x[0], &x[1], act));
        }
        assert!(gated(&noise(&[2, 3], 0.0), &noise(&[3], 0.0), Gate::Silu).is_err());
    }

    #[test]
    fn a_gate_in_one_step_and_in_two_has_the_same_bits() {
        for dtype in [DType::F32, DType::F64] {
            let [gate, x] = [0.3, 0.9].map(|salt| noise(&[70, 301], salt).to_dtype(dtype).unwrap());
            let flat = |x: Tensor| -> Vec<f64> {
                x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
            };
            for (act, alone) in [
                (Gate::GeluTanh, gelu_tanh(&gate)),
                (Gate::Gelu, gelu(&gate)),
                (Gate::Silu, silu(&gate)),
                (Gate::QuickGelu, quick_gelu(&gate)),
            ] {
                let two = (alone.unwrap() * &x).unwrap();
                assert_eq!(flat(gated(&gate, &x, act).unwrap()), flat(two), "{act:?}");
            }
        }
    }
}
