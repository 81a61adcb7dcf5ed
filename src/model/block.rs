//! How attention and MLP join the residual stream.

use candle_core::Tensor;

use super::{Attention, Mlp, Norm, Prefix, Tap};
use crate::error::Result;
use crate::ops;
use crate::site::At;

/// mid = x + attention(norm₁(x)), out = mid + mlp(norm₂(mid)).
#[derive(Debug, Clone)]
pub struct Block {
    /// Before attention.
    pub ln1: Norm,
    /// Attention.
    pub attention: Attention,
    /// Before the MLP.
    pub ln2: Norm,
    /// MLP.
    pub mlp: Mlp,
}

impl Block {
    /// x `[batch, pos, d_model]` → same shape.
    pub(super) fn forward(&self, x: Tensor, prefix: Prefix, tap: &mut Tap) -> Result<Tensor> {
        let pre = tap.at(At::ResidPre, x)?;
        let attention = self.attention.forward(&pre, &self.ln1, prefix, tap)?;
        let mid = ops::add(&pre, &tap.at(At::AttnOut, attention)?)?;
        let mid = tap.at(At::ResidMid, mid)?;
        let input =
            if tap.wants(tap.block(At::MlpIn)) { tap.at(At::MlpIn, mid.clone())? } else { mid.clone() };
        let n = self.ln2.forward(&input, tap, tap.block(At::Ln2Scale), tap.block(At::Ln2))?;
        let mlp = self.mlp.forward(&n, tap)?;
        let post = ops::add(&mid, &tap.at(At::MlpOut, mlp)?)?;
        tap.at(At::ResidPost, post)
    }
}
