//! Softmax, log-softmax and the attention mask, over the last axis.

use candle_core::{Result, Tensor, bail};

use super::kernel::{Map, Real, Zip, map, sum_by, zip};

/// softmax over the last axis. Entries of −∞ get exactly 0; a row of only −∞ gets zeros, as in the classic model.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    map(x, Softmax)
}

/// log softmax over the last axis.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    map(x, LogSoftmax)
}

/// Attention scores `[batch, head, query, key]` scaled, with keys to the right of the query set to −∞ when causal.
/// `first_query` is the position of the first query among the keys.
pub fn masked(scores: &Tensor, scale: f64, causal: bool, first_query: usize) -> Result<Tensor> {
    let (_, _, queries, keys) = scores.dims4()?;
    if first_query + queries > keys {
        bail!("{queries} queries from position {first_query} do not fit {keys} keys");
    }
    map(scores, Masked { scale, causal, first_query, queries })
}

#[inline(always)]
fn maximum<T: Real>(x: &[T]) -> T {
    let mut top = T::NEG_INFINITY;
    for &x in x {
        if x > top {
            top = x;
        }
    }
    top
}

#[derive(Clone, Copy)]
struct Softmax;

impl Map for Softmax {
    const NAME: &'static str = "softmax";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], out: &mut [T], _: usize) {
        let top = maximum(x);
        // only a row with nothing to attend to; a NaN is not hidden, it spreads over its row through the sum
        if x.iter().all(|&x| x == T::NEG_INFINITY) {
            return;
        }
        for (y, &x) in out.iter_mut().zip(x) {
            *y = (x - top).exp_();
        }
        let total = sum_by(out.len(), |i| out[i]);
        for y in out.iter_mut() {
            *y /= total;
        }
    }

    fn backward(&self, _: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Tensor> {
        zip(y, grad, *self)
    }
}

/// The gradient: y·(g − Σ g·y).
impl Zip for Softmax {
    const NAME: &'static str = "softmax backward";

    #[inline(always)]
    fn row<T: Real>(&self, y: &[T], grad: &[T], out: &mut [T], _: usize) {
        let dot = sum_by(y.len(), |i| y[i] * grad[i]);
        for ((out, &y), &g) in out.iter_mut().zip(y).zip(grad) {
            *out = y * (g - dot);
        }
    }
}

#[derive(Clone, Copy)]
struct LogSoftmax;

impl Map for LogSoftmax {
    const NAME: &'static str = "log_softmax";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], out: &mut [T], _: usize) {
        let top = maximum(x);
        for (y, &x) in out.iter_mut().zip(x) {
            *y = (x - top).exp_();
        }
        let log_total = top + sum_by(out.len(), |i| out[i]).ln_();
        for (y, &x) in out.iter_mut().zip(x) {
            *y = x - log_total;
        }
    }

    fn backward(&self, _: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Tensor> {
        zip(y, grad, *self)
    }
}

/// The gradient: g − eʸ·Σ g.
impl Zip for LogSoftmax {
    const NAME: &'static str = "log_softmax backward";

    #[inline(always)]
    fn row<T: Real>(&self, y: &[T], grad: &[T], out: &mut [T], _: usize) {
        let total = sum_by(grad.len(), |i| grad[i]);
        for ((out, &y), &g) in out.iter_mut().zip(y).zip(grad) {
            *out = g - y.exp_() * total;
        }
    }
}

#[derive(Clone, Copy)]
struct Masked {
    scale: f64,
    causal: bool,
    first_query: usize,
    queries: usize,
}

impl Masked {
    #[inline(always)]
    fn visible(&self, keys: usize, row: usize) -> usize {
        if self.causal { (self.first_query + row % self.queries + 1).min(keys) } else { keys }
    }
}

impl Map for Masked {
    const NAME: &'static str = "masked";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], out: &mut [T], row: usize) {
        let (visible, scale) = (self.visible(x.len(), row), T::of(self.scale));
        for (y, &x) in out[..visible].iter_mut().zip(x) {
            *y = x * scale;
        }
        out[visible..].fill(T::NEG_INFINITY);
    }

    fn backward(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Tensor> {
        zip(x, grad, *self)
    }
}

impl Zip for Masked {
    const NAME: &'static str = "masked backward";

    #[inline(always)]
    fn row<T: Real>(&self, _: &[T], grad: &[T], out: &mut [T], row: usize) {
        let (visible, scale) = (self.visible(grad.len(), row), T::of(self.scale));
        for (y, &g) in out[..visible].iter_mut().zip(grad) {
            *y = g * scale;
        }
        out[visible..].fill(T::ZERO);
    }
}
