//! The same for devices without the kernel: stretches of one shape that follow each other are one batch.

use candle_core::{Result, Tensor};

use super::{Attend, Stretch};
use crate::ops;

pub(super) fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    left: Option<(&Tensor, &Tensor)>,
    how: &Attend,
) -> Result<Tensor> {
    let (queries, heads, d_head) = q.dims3()?;
    let empty = |n: usize| Tensor::zeros((n, heads, d_head), q.dtype(), q.device());
    let (mut parts, mut done) = (Vec::new(), 0);
    for batch in how.stretches.chunk_by(alike) {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { continue };
        if first.queries.start > done {
            parts.push(empty(first.queries.start - done)?);
        }
        done = last.queries.end;
        if !first.queries.is_empty() {
            parts.push(together(q, k, v, left, how, batch)?);
        }
    }
    if queries > done || parts.is_empty() {
        parts.push(empty(queries - done)?);
    }
    Tensor::cat(&parts, 0)
}

/// Whether a stretch follows another in memory and has its shape.
fn alike(a: &Stretch, b: &Stretch) -> bool {
    let shape = |s: &Stretch| (s.queries.len(), s.first_query, s.keys.len(), s.first_key);
    shape(a) == shape(b) && a.queries.end == b.queries.start && a.keys.end == b.keys.start
}

fn together(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    left: Option<(&Tensor, &Tensor)>,
    how: &Attend,
    batch: &[Stretch],
) -> Result<Tensor> {
    let (first, n) = (&batch[0], batch.len());
    let ((_, heads, d_head), kv_heads) = (q.dims3()?, k.dim(1)?);
    let (queries, keys) = (first.queries.len(), first.keys.len());
    let rows: Vec<u32> = batch.iter().map(|stretch| stretch.left as u32).collect();
    let rows = Tensor::from_vec(rows, n, q.device())?;
    let all = |own: &Tensor, left: Option<&Tensor>| -> Result<Tensor> {
        let own = own.narrow(0, first.keys.start, n * keys)?.reshape((n, keys, kv_heads, d_head))?;
        match left.filter(|_| first.first_key > 0) {
            None => Ok(own),
            Some(left) => {
                let left = left.narrow(1, 0, first.first_key)?.contiguous()?.index_select(&rows, 0)?;
                Tensor::cat(&[left, own], 1)
            }
        }
    };
    let (k, v) = (all(k, left.map(|left| left.0))?, all(v, left.map(|left| left.1))?); // [batch, key, kv_head, d_head]
    let keys = k.dim(1)?;
    let q = q.narrow(0, first.queries.start, n * queries)?.reshape((n, queries, heads, d_head))?;
    let group = heads / kv_heads;
    let q = q.transpose(1, 2)?.reshape((n, kv_heads, group * queries, d_head))?;
    let scores = ops::matmul(&q, &k.permute((0, 2, 3, 1))?)?.reshape((n, heads, queries, keys))?;
    let mask = ops::Mask {
        causal: how.causal,
        first_query: first.first_query,
        own: Some(batch.iter().map(|stretch| stretch.own.clone()).collect()),
        window: how.window,
        alibi: how.alibi.clone(),
    };
    let scores = match how.cap {
        None => ops::masked(&scores, how.scale, mask)?,
        Some(cap) => ops::masked(&ops::softcap(&scores.affine(how.scale, 0.0)?, cap)?, 1.0, mask)?,
    };
    let pattern = match &how.sinks {
        None => ops::softmax(&scores)?,
        Some(sinks) => ops::softmax_with_sinks(&scores, sinks)?,
    };
    let pattern = pattern.reshape((n, kv_heads, group * queries, keys))?;
    let z = ops::matmul(&pattern, &v.transpose(1, 2)?)?.reshape((n, heads, queries, d_head))?;
    z.transpose(1, 2)?.reshape((n * queries, heads, d_head))
}
