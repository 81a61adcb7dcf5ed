//! Softmax, log-softmax and the attention mask, over the last axis.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{D, Device, Result, Tensor, bail};

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

/// The largest number, in lanes that vectorise; what is no number is passed over.
#[inline(always)]
fn maximum<T: Real>(x: &[T]) -> T {
    let mut lanes = [T::NEG_INFINITY; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        for (top, &x) in lanes.iter_mut().zip(chunk) {
            *top = if x > *top { x } else { *top };
        }
    }
    let mut top = T::NEG_INFINITY;
    for &x in lanes.iter().chain(rest) {
        top = if x > top { x } else { top };
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

    fn composite(&self, x: &Tensor) -> Result<Tensor> {
        let top = x.detach().max_keepdim(D::Minus1)?;
        // a row with nothing to attend to is counted from 0 rather than from −∞, and divided by 1
        let empty = top.eq(f64::NEG_INFINITY)?;
        let top = empty.where_cond(&top.zeros_like()?, &top)?;
        let sink = match &self.sinks {
            None => None,
            Some(Sinks { scores, .. }) => {
                let scores = Tensor::from_slice(scores, (scores.len(), 1, 1), &Device::Cpu)?;
                Some(scores.to_dtype(x.dtype())?.to_device(x.device())?.broadcast_as(top.shape())?)
            }
        };
        let top = sink.as_ref().map_or(Ok(top.clone()), |sink| top.maximum(sink))?;
        let raised = x.broadcast_sub(&top)?.exp()?;
        let total = (raised.sum_keepdim(D::Minus1)? + empty.to_dtype(x.dtype())?)?;
        let total = match sink {
            None => total,
            Some(sink) => (total + (sink - top)?.exp()?)?,
        };
        raised.broadcast_div(&total)
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

    fn composite(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?;
        x.broadcast_sub(&x.exp()?.sum_keepdim(D::Minus1)?.log()?)
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

    /// Where a query sees a key, as `[batch or 1, 1, query, key]` of 0 and 1: heads share it, and rows unless they are padded.
    fn seen(&self, scores: &Tensor) -> Result<Tensor> {
        let (batch, heads, queries, keys) = scores.dims4()?;
        let rows = if self.mask.own.is_some() { batch } else { 1 };
        let mut seen = vec![0u8; rows * queries * keys];
        for (i, seen) in seen.chunks_exact_mut(keys.max(1)).enumerate() {
            let row = i / queries * heads * queries + i % queries; // of the first head
            seen[self.visible(keys, row)].fill(1);
        }
        Tensor::from_vec(seen, (rows, 1, queries, keys), scores.device())
    }

    /// What is added for distances, as `[batch or 1, head, query, key]`, 0 where nothing is seen.
    fn biases(&self, scores: &Tensor) -> Result<Option<Tensor>> {
        let Some(alibi) = &self.mask.alibi else { return Ok(None) };
        let (batch, heads, queries, keys) = scores.dims4()?;
        let rows = if self.mask.own.is_some() { batch } else { 1 };
        let mut biases = vec![0f64; rows * heads * queries * keys];
        for (row, biases) in biases.chunks_exact_mut(keys.max(1)).enumerate() {
            let first = self.own(row).map_or(0, |own| own.start);
            let table = &alibi.table[row / queries % heads];
            let query = self.mask.first_query + row % queries;
            for key in self.visible(keys, row) {
                biases[key] = table[key - first] - table[query - first];
            }
        }
        let biases = Tensor::from_vec(biases, (rows, heads, queries, keys), &Device::Cpu)?;
        Ok(Some(biases.to_dtype(scores.dtype())?.to_device(scores.device())?))
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

    fn composite(&self, x: &Tensor) -> Result<Tensor> {
        let scaled = x.affine(self.scale, 0.0)?;
        let scaled = match self.biases(x)? {
            None => scaled,
            Some(biases) => scaled.broadcast_add(&biases)?,
        };
        let seen = self.seen(x)?.broadcast_as(x.shape())?;
        let rest = Tensor::new(f32::NEG_INFINITY, x.device())?.to_dtype(x.dtype())?;
        seen.where_cond(&scaled, &rest.broadcast_as(x.shape())?)
    }
}

impl Zip for Masked {
    const NAME: &'static str = "masked backward";

    #[inline(always)]
    fn row<T: Real>(&self, _: &[T], grad: &[T], out: &mut [T], row: usize) {
        self.scaled(grad, out, row, T::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::check::{composite_equals_kernel, noise};
    use super::*;
    use candle_core::DType;

    #[test]
    fn composites_equal_kernels() {
        composite_equals_kernel(&[3, 7, 11], Softmax { sinks: None });
        let sinks = Sinks { scores: [0.5, -1.0].into(), queries: 4 };
        composite_equals_kernel(&[3, 2, 4, 6], Softmax { sinks: Some(sinks) });
        composite_equals_kernel(&[3, 7, 11], LogSoftmax);
        let own: Arc<[Range<usize>]> = [1..6, 0..4, 2..usize::MAX].into();
        let slopes = [0.5, 0.25].map(|slope| (0..6).map(|pos| slope * f64::from(pos)).collect::<Vec<_>>());
        let alibi = Alibi { table: slopes.into() };
        for mask in [
            Mask::default(),
            Mask { causal: true, ..Mask::default() },
            Mask { causal: true, first_query: 2, ..Mask::default() },
            Mask { causal: true, first_query: 2, own: Some(own.clone()), ..Mask::default() },
            Mask { causal: true, first_query: 2, window: Some(2), ..Mask::default() },
            Mask { causal: true, first_query: 2, own: Some(own.clone()), window: None, alibi: Some(alibi) },
            Mask { causal: false, first_query: 0, own: Some(own.clone()), ..Mask::default() },
        ] {
            // two copies of three padded rows
            composite_equals_kernel(&[6, 2, 4, 6], Masked { scale: 0.3, mask, heads: 2, queries: 4 });
        }
    }

    #[test]
    fn masked_rows_are_softened_alike() {
        let own: Arc<[Range<usize>]> = [1..4, 0..2].into();
        for dtype in [DType::F32, DType::F64] {
            let scores = noise(&[2, 3, 4, 4], 0.0).to_dtype(dtype).unwrap();
            let mask = Mask { causal: true, first_query: 0, own: Some(own.clone()), ..Mask::default() };
            let scores = masked(&scores, 1.0, mask).unwrap(); // some rows see nothing
            let (kernel, composite) =
                (softmax(&scores).unwrap(), Softmax { sinks: None }.composite(&scores).unwrap());
            let gap = (&kernel - &composite).unwrap().abs().unwrap().to_dtype(DType::F64).unwrap();
            assert!(gap.max_all().unwrap().to_scalar::<f64>().unwrap() < 1e-7);
            let hidden = (kernel.eq(0.0).unwrap(), composite.eq(0.0).unwrap());
            let flat = |x: Tensor| x.flatten_all().unwrap().to_vec1::<u8>().unwrap();
            assert_eq!(flat(hidden.0), flat(hidden.1), "exactly 0 in the same places");
        }
    }
}
