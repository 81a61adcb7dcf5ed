//! Attention with every step a place.

use std::sync::Arc;

use candle_core::Tensor;

use super::{Config, HeadNorm, Layer, Linear, Norm, Prefix, Rotary, Slopes, Tap};
use crate::error::Result;
use crate::ops;
use crate::site::{At, Site};

/// Multi-head attention; under grouped queries, `n_heads / n_kv_heads` heads share each key-value head.
#[derive(Debug, Clone)]
pub struct Attention {
    /// `[d_model, n_heads · d_head]`.
    pub q: Linear,
    /// `[d_model, n_kv_heads · d_head]`.
    pub k: Linear,
    /// `[d_model, n_kv_heads · d_head]`.
    pub v: Linear,
    /// `[n_heads · d_head, d_model]`; its bias is the shared `b_O`.
    pub o: Linear,
    /// Query heads.
    pub n_heads: usize,
    /// Key-value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Scores are multiplied by this (1/√d_head as a rule).
    pub scale: f64,
    /// Whether a query sees only keys at and before its own position.
    pub causal: bool,
    /// How many keys a query sees, its own position the last of them; all if none.
    pub window: Option<usize>,
    /// Rotation of queries and keys, if positions enter that way.
    pub rotary: Option<Rotary>,
    /// What scores lose with distance, if positions enter that way.
    pub slopes: Option<Slopes>,
    /// Queries, keys and values are kept within ± this.
    pub clip: Option<f64>,
    /// Norm of queries.
    pub q_norm: Option<HeadNorm>,
    /// Norm of keys.
    pub k_norm: Option<HeadNorm>,
    /// Scores are bent to stay within ± this.
    pub cap: Option<f64>,
    /// One score for each head that attends to nothing.
    pub sinks: Option<Arc<[f64]>>,
}

impl Attention {
    /// The attention of a layer with these weights; norms of queries and keys, and sinks, are weights too and come later.
    pub fn new(c: &Config, layer: usize, [q, k, v, o]: [Linear; 4]) -> Attention {
        let Layer { scale, window, rotary, slopes, .. } = c.layer(layer);
        Attention {
            q,
            k,
            v,
            o,
            n_heads: c.n_heads,
            n_kv_heads: c.n_kv_heads,
            d_head: c.d_head,
            scale,
            causal: c.causal,
            window,
            rotary,
            slopes,
            clip: c.qkv_clip,
            q_norm: None,
            k_norm: None,
            cap: c.score_cap,
            sinks: None,
        }
    }

    /// x `[batch, pos, d_model]` (the stream before `norm`) → what attention writes, same shape. `learned` `[batch, pos,
    /// d_model]` is added to what queries and keys read.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        learned: Option<&Tensor>,
        norm: &Norm,
        prefix: Prefix,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let (batch, pos, _) = x.dims3()?;
        let (heads, kv_heads) = (self.n_heads, self.n_kv_heads);
        let n = norm.forward(x, tap, tap.block(At::Ln1Scale), tap.block(At::Ln1))?;
        let source = Source { x, normed: &n, norm, learned };
        let q = self.read(&self.q, At::QInput, heads, source, tap)?; // [batch, pos, head, d_head]
        let k = self.read(&self.k, At::KInput, kv_heads, source, tap)?; // [batch, pos, kv_head, d_head]
        let v = self.read(&self.v, At::VInput, kv_heads, Source { learned: None, ..source }, tap)?;
        let q = tap.at(At::Q, q)?;
        let k = tap.at(At::K, k)?;
        let v = tap.at(At::V, v)?;
        let q = normed(self.q_norm.as_ref(), q, At::QNormed, tap)?;
        let k = normed(self.k_norm.as_ref(), k, At::KNormed, tap)?;
        let (q, k) = match &self.rotary {
            None => (q, k),
            Some(rotary) => {
                let positions = tap.padding.positions(batch, tap.first_pos, pos, x.device())?;
                let lengths = tap.padding.lengths(batch, tap.first_pos + pos);
                let (cos, sin) = rotary.tables(&positions, &lengths, x.dtype())?;
                let q = tap.at(At::RotQ, ops::rotate(&q, &cos, &sin, rotary.pairs)?)?;
                (q, tap.at(At::RotK, ops::rotate(&k, &cos, &sin, rotary.pairs)?)?)
            }
        };
        let (k, v) = prefix.extend(k, v)?; // [batch, key, kv_head, d_head]
        let keys = k.dim(1)?;

        // Heads of one group are rows of one product with their shared keys: head = kv_head · group + member.
        let group = heads / kv_heads;
        let q = q.transpose(1, 2)?.reshape((batch, kv_heads, group * pos, self.d_head))?;
        let scores = ops::matmul(&q, &k.permute((0, 2, 3, 1))?)?.reshape((batch, heads, pos, keys))?;
        let scores = tap.at(At::Scores, self.masked(&scores, tap)?)?;
        let pattern = match &self.sinks {
            None => ops::softmax(&scores)?,
            Some(sinks) => ops::softmax_with_sinks(&scores, sinks)?,
        };
        let pattern = tap.at(At::Pattern, pattern)?; // [batch, head, query, key]
        let pattern = pattern.reshape((batch, kv_heads, group * pos, keys))?;
        let z = ops::matmul(&pattern, &v.transpose(1, 2)?)?; // [batch, kv_head, group·pos, d_head]
        let z = z.reshape((batch, heads, pos, self.d_head))?.transpose(1, 2)?.contiguous()?;
        let z = tap.at(At::Z, z)?; // [batch, pos, head, d_head]
        self.write(&z, tap)
    }

    /// q·k `[batch, head, query, key]` → scores: scaled, capped, with the biases of distance, −∞ where a query sees nothing.
    fn masked(&self, products: &Tensor, tap: &Tap) -> Result<Tensor> {
        let keys = products.dim(3)?;
        let mask = ops::Mask {
            causal: self.causal,
            first_query: tap.first_pos,
            own: tap.padding.ranges(),
            window: self.window,
            alibi: self.slopes.as_ref().map(|slopes| slopes.table(keys)),
        };
        Ok(match self.cap {
            None => ops::masked(products, self.scale, mask)?,
            Some(cap) => ops::masked(&ops::softcap(&products.affine(self.scale, 0.0)?, cap)?, 1.0, mask)?,
        })
    }

    /// Queries, keys or values: from the shared norm, or, when the reader's own input is wanted, from that.
    fn read(&self, weights: &Linear, input: At, heads: usize, from: Source, tap: &mut Tap) -> Result<Tensor> {
        let (batch, pos, d_model) = from.x.dims3()?;
        let read = if tap.wants(tap.block(input)) {
            let copies =
                |x: &Tensor| x.unsqueeze(2)?.broadcast_as((batch, pos, heads, d_model))?.contiguous();
            let own = from.norm.apply(&tap.at(input, copies(from.x)?)?)?; // [batch, pos, head, d_model]
            let own = match from.learned {
                Some(learned) => ops::add(&own, &copies(learned)?)?,
                None => own,
            };
            weights.forward_by_head(&own)?
        } else {
            let shared = match from.learned {
                Some(learned) => ops::add(from.normed, learned)?,
                None => from.normed.clone(),
            };
            weights.forward(&shared)?.reshape((batch, pos, heads, self.d_head))?
        };
        Ok(match self.clip {
            Some(bound) => ops::clamp(&read, -bound, bound)?,
            None => read,
        })
    }

    /// z `[batch, pos, head, d_head]` → Σ_head z·W_O + b_O `[batch, pos, d_model]`.
    fn write(&self, z: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let (batch, pos, heads, d_head) = z.dims4()?;
        if !tap.wants(tap.block(At::Result)) {
            return self.o.forward(&z.reshape((batch, pos, heads * d_head))?);
        }
        let result = tap.at(At::Result, self.results(z)?)?.sum(2)?;
        Ok(match &self.o.b {
            Some(b) => ops::shift_rows(&result, b)?,
            None => result,
        })
    }

    /// What each head writes: z `[batch, pos, head, d_head]` → z·W_O `[batch, pos, head, d_model]`, without `b_O`.
    pub fn results(&self, z: &Tensor) -> Result<Tensor> {
        let (batch, pos, heads, d_head) = z.dims4()?;
        let rows = z.permute((2, 0, 1, 3))?.reshape((heads, batch * pos, d_head))?;
        let w = self.o.w.reshape((heads, d_head, self.o.w.dim(1)?))?;
        let each = ops::matmul(&rows, &w)?.reshape((heads, batch, pos, w.dim(2)?))?;
        Ok(each.permute((1, 2, 0, 3))?.contiguous()?)
    }

    /// The place that holds keys as they are attended to, but for the gain of their norm where that is [`At::KNormed`].
    pub(super) fn key_site(&self) -> At {
        match (&self.rotary, &self.k_norm) {
            (Some(_), _) => At::RotK,
            (None, Some(_)) => At::KNormed,
            (None, None) => At::K,
        }
    }

    /// Keys as attended to, from what was recorded at [`Attention::key_site`].
    pub(super) fn keys(&self, recorded: &Tensor) -> Result<Tensor> {
        match (&self.rotary, &self.k_norm) {
            (None, Some(norm)) => norm.gained(recorded),
            _ => Ok(recorded.clone()),
        }
    }
}

/// What queries, keys and values are read from.
#[derive(Clone, Copy)]
struct Source<'a> {
    /// The stream `[batch, pos, d_model]`.
    x: &'a Tensor,
    /// The same after the norm.
    normed: &'a Tensor,
    /// The norm, for readers with an input of their own.
    norm: &'a Norm,
    /// Added after the norm.
    learned: Option<&'a Tensor>,
}

fn normed(norm: Option<&HeadNorm>, x: Tensor, at: At, tap: &mut Tap) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(&x, tap, at),
        None => Ok(x),
    }
}

impl Tap<'_> {
    /// The site of a place in the block being run.
    pub(super) fn block(&self, at: At) -> Site {
        Site::Block(self.layer, at)
    }
}
