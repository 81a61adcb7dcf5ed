//! Attention with every step a place.

use candle_core::Tensor;

use super::{Linear, Norm, Prefix, Rotary, Tap};
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
    /// Rotation of queries and keys, if positions enter that way.
    pub rotary: Option<Rotary>,
}

impl Attention {
    /// x `[batch, pos, d_model]` (the stream before `norm`) → what attention writes, same shape.
    pub(super) fn forward(&self, x: &Tensor, norm: &Norm, prefix: Prefix, tap: &mut Tap) -> Result<Tensor> {
        let (batch, pos, _) = x.dims3()?;
        let (heads, kv_heads) = (self.n_heads, self.n_kv_heads);
        let n = norm.forward(x, tap, tap.block(At::Ln1Scale), tap.block(At::Ln1))?;
        let q = self.read(&self.q, At::QInput, heads, x, &n, norm, tap)?; // [batch, pos, head, d_head]
        let k = self.read(&self.k, At::KInput, kv_heads, x, &n, norm, tap)?; // [batch, pos, kv_head, d_head]
        let v = self.read(&self.v, At::VInput, kv_heads, x, &n, norm, tap)?;
        let q = tap.at(At::Q, q)?;
        let k = tap.at(At::K, k)?;
        let v = tap.at(At::V, v)?;
        let (q, k) = match &self.rotary {
            None => (q, k),
            Some(rotary) => {
                let positions = tap.padding.positions(batch, tap.first_pos, pos, x.device())?;
                let (cos, sin) = rotary.tables(&positions, x.dtype())?;
                let q = tap.at(At::RotQ, ops::rotate(&q, &cos, &sin)?)?;
                (q, tap.at(At::RotK, ops::rotate(&k, &cos, &sin)?)?)
            }
        };
        let (k, v) = prefix.extend(k, v)?; // [batch, key, kv_head, d_head]
        let keys = k.dim(1)?;

        // Heads of one group are rows of one product with their shared keys: head = kv_head · group + member.
        let group = heads / kv_heads;
        let q = q.transpose(1, 2)?.reshape((batch, kv_heads, group * pos, self.d_head))?;
        let scores = ops::matmul(&q, &k.permute((0, 2, 3, 1))?)?.reshape((batch, heads, pos, keys))?;
        let mask = ops::Mask { causal: self.causal, first_query: tap.first_pos, own: tap.padding.ranges() };
        let scores = tap.at(At::Scores, ops::masked(&scores, self.scale, mask)?)?;
        let pattern = tap.at(At::Pattern, ops::softmax(&scores)?)?; // [batch, head, query, key]
        let pattern = pattern.reshape((batch, kv_heads, group * pos, keys))?;
        let z = ops::matmul(&pattern, &v.transpose(1, 2)?)?; // [batch, kv_head, group·pos, d_head]
        let z = z.reshape((batch, heads, pos, self.d_head))?.transpose(1, 2)?.contiguous()?;
        let z = tap.at(At::Z, z)?; // [batch, pos, head, d_head]
        self.write(&z, tap)
    }

    /// Queries, keys or values: from the shared norm, or, when the reader's own input is wanted, from that.
    #[expect(clippy::too_many_arguments, reason = "one place that knows both ways of reading")]
    fn read(
        &self,
        weights: &Linear,
        input: At,
        heads: usize,
        x: &Tensor,
        normed: &Tensor,
        norm: &Norm,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let (batch, pos, d_model) = x.dims3()?;
        if !tap.wants(tap.block(input)) {
            return Ok(weights.forward(normed)?.reshape((batch, pos, heads, self.d_head))?);
        }
        let copies = x.unsqueeze(2)?.broadcast_as((batch, pos, heads, d_model))?.contiguous()?;
        let copies = tap.at(input, copies)?; // [batch, pos, head, d_model]
        weights.forward_by_head(&norm.apply(&copies)?)
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
}

impl Tap<'_> {
    /// The site of a place in the block being run.
    pub(super) fn block(&self, at: At) -> Site {
        Site::Block(self.layer, at)
    }
}
