//! Softmax, log-softmax and the attention mask, over the last axis.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::kernel::{Map, Real, Zip, map, sum_by, zip};

/// softmax over the last axis. Entries of −∞ get exactly 0; a row of only −∞ gets zeros, as in the classic model.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    map(x, Softmax { sinks: None })
}

/// A score for each head that takes part in its softmax and attends to nothing.
#[derive(Debug, Clone)]
pub struct Sinks {
    /// One score for each head.
    pub scores: Arc<[f64]>,
    /// Queries per head.
    pub queries: usize,
}

/// softmax over the last axis of scores `[batch, head, query, key]`, each row with its head's sink beside the keys: what
/// the sink takes is missing from the row's sum (Xiao et al. 2023).
pub fn softmax_with_sinks(x: &Tensor, scores: &Arc<[f64]>) -> Result<Tensor> {
    let (_, heads, queries, _) = x.dims4()?;
    if scores.len() != heads {
        bail!("{} sinks for {heads} heads", scores.len());
    }
    map(x, Softmax { sinks: Some(Sinks { scores: Arc::clone(scores), queries }) })
}

/// log softmax over the last axis.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    map(x, LogSoftmax)
}

/// Which keys a query sees.
#[derive(Debug, Clone, Default)]
pub struct Mask {
    /// Only keys at and before its own position.
    pub causal: bool,
    /// The position of the first query among the keys.
    pub first_query: usize,
    /// Only its row's own keys, where rows are padded: one range of positions per row, repeated over the batch. A query
    /// outside the range sees nothing.
    pub own: Option<Arc<[Range<usize>]>>,
    /// Only this many keys, its own position the last of them.
    pub window: Option<usize>,
    /// What is added for the distance between query and key.
    pub alibi: Option<Alibi>,
}

/// Linear biases of attention (Press et al. 2022): a score loses with each position between key and query.
#[derive(Debug, Clone, PartialEq)]
pub struct Alibi {
    /// `table[head][position]`: a key at `k` seen from `q` gets `table[head][k] − table[head][q]`, positions counted
    /// from the row's first own token.
    pub table: Arc<[Vec<f64>]>,
}

/// Attention scores `[batch, head, query, key]` scaled, with the scores of keys that a query does not see set to −∞.
pub fn masked(scores: &Tensor, scale: f64, mask: Mask) -> Result<Tensor> {
    let (_, heads, queries, keys) = scores.dims4()?;
    let short = |alibi: &Alibi| alibi.table.len() != heads || alibi.table.iter().any(|row| row.len() < keys);
    if mask.alibi.as_ref().is_some_and(short) {
        bail!("the distance biases do not cover {heads} heads and {keys} keys");
    }
    if mask.first_query + queries > keys {
        bail!("{queries} queries from position {} do not fit {keys} keys", mask.first_query);
    }
    map(scores, Masked { scale, mask, heads, queries })
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

#[derive(Clone)]
struct Softmax {
    sinks: Option<Sinks>,
}

impl Softmax {
    /// The sink of a row `[batch · head · query]`; −∞ where there is none.
    #[inline(always)]
    fn sink<T: Real>(&self, row: usize) -> T {
        match &self.sinks {
            None => T::NEG_INFINITY,
            Some(Sinks { scores, queries }) => T::of(scores[row / queries % scores.len()]),
        }
    }
}

impl Map for Softmax {
    const NAME: &'static str = "softmax";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], out: &mut [T], row: usize) {
        let (top, sink) = (maximum(x), self.sink::<T>(row));
        let top = if sink > top { sink } else { top };
        // only a row with nothing to attend to; a NaN is not hidden, it spreads over its row through the sum
        if x.iter().all(|&x| x == T::NEG_INFINITY) {
            return;
        }
        for (y, &x) in out.iter_mut().zip(x) {
            *y = (x - top).exp_();
        }
        let total = sum_by(out.len(), |i| out[i]);
        let total = if self.sinks.is_some() { total + (sink - top).exp_() } else { total };
        for y in out.iter_mut() {
            *y /= total;
        }
    }

    fn backward(&self, _: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Tensor> {
        zip(y, grad, self.clone())
    }
}

/// The gradient: y·(g − Σ g·y), with or without a sink, to which no gradient comes.
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

#[derive(Clone)]
struct Masked {
    scale: f64,
    mask: Mask,
    heads: usize,
    queries: usize,
}

impl Masked {
    /// The keys seen by the query of a row `[batch · head · query]`.
    #[inline(always)]
    fn visible(&self, keys: usize, row: usize) -> Range<usize> {
        let query = self.mask.first_query + row % self.queries;
        let end = if self.mask.causal { (query + 1).min(keys) } else { keys };
        let start = self.mask.window.map_or(0, |window| (query + 1).saturating_sub(window));
        match self.own(row) {
            None => start..end,
            Some(own) if own.contains(&query) => start.max(own.start)..end.min(own.end),
            Some(_) => 0..0,
        }
    }

    /// The columns that are a row's own, if rows are padded.
    #[inline(always)]
    fn own(&self, row: usize) -> Option<&Range<usize>> {
        let own = self.mask.own.as_ref()?;
        Some(&own[row / (self.queries * self.heads) % own.len()])
    }

    /// The visible part of `x` scaled, the rest filled.
    #[inline(always)]
    fn scaled<T: Real>(&self, x: &[T], out: &mut [T], row: usize, rest: T) {
        let (visible, scale) = (self.visible(x.len(), row), T::of(self.scale));
        out[..visible.start].fill(rest);
        out[visible.end..].fill(rest);
        for (y, &x) in out[visible.clone()].iter_mut().zip(&x[visible]) {
            *y = x * scale;
        }
    }
}

impl Map for Masked {
    const NAME: &'static str = "masked";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], out: &mut [T], row: usize) {
        self.scaled(x, out, row, T::NEG_INFINITY);
        let Some(alibi) = &self.mask.alibi else { return };
        let (visible, first) = (self.visible(x.len(), row), self.own(row).map_or(0, |own| own.start));
        let table = &alibi.table[row / self.queries % self.heads];
        let query = self.mask.first_query + row % self.queries;
        for key in visible {
            out[key] += T::of(table[key - first] - table[query - first]);
        }
    }

    fn backward(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Tensor> {
        zip(x, grad, self.clone())
    }
}

impl Zip for Masked {
    const NAME: &'static str = "masked backward";

    #[inline(always)]
    fn row<T: Real>(&self, _: &[T], grad: &[T], out: &mut [T], row: usize) {
        self.scaled(grad, out, row, T::ZERO);
    }
}
