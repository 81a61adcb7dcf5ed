//! A linear map as the field writes it: row vectors times `[d_in, d_out]`.

use candle_core::Tensor;

use crate::error::Result;
use crate::ops;

/// y = x·w + b.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[d_in, d_out]`, whatever the checkpoint's orientation.
    pub w: Tensor,
    /// `[d_out]`.
    pub b: Option<Tensor>,
}

impl Linear {
    /// x `[…, d_in]` → `[…, d_out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::linear(x, &self.w, self.b.as_ref())?)
    }

    /// One product per head: x `[batch, pos, head, d_in]`, w read as `[d_in, head, d_head]` → `[batch, pos, head,
    /// d_head]`.
    pub(super) fn forward_by_head(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, pos, heads, d_in) = x.dims4()?;
        let d_head = self.w.dim(1)? / heads;
        let rows = x.permute((2, 0, 1, 3))?.reshape((heads, batch * pos, d_in))?;
        let w = self.w.reshape((d_in, heads, d_head))?.permute((1, 0, 2))?;
        let y = ops::matmul(&rows, &w)?; // [head, batch·pos, d_head]
        let y = y.reshape((heads, batch, pos, d_head))?.permute((1, 2, 0, 3))?;
        Ok(match &self.b {
            Some(b) => y.broadcast_add(&b.reshape((heads, d_head))?)?,
            None => y.contiguous()?,
        })
    }
}
