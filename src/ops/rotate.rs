//! Rotary position embedding (Su et al. 2021), half-rotation layout.

use candle_core::{D, Result, Tensor};

/// Rotates pairs (i, i + d/2) of the first `d` entries of each head by the angle of its position.
///
/// x `[batch, pos, head, d_head]`; cos, sin `[pos, d/2]`, or `[batch, pos, d/2]`, of the positions of `x` → same shape as
/// `x`.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = cos.dim(D::Minus1)?;
    let over_heads = |x: &Tensor| x.unsqueeze(x.rank() - 1); // [pos, 1, d/2] or [batch, pos, 1, d/2]
    let (cos, sin) = (over_heads(cos)?, over_heads(sin)?);
    let (left, right) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let turned_left = (left.broadcast_mul(&cos)? - right.broadcast_mul(&sin)?)?;
    let turned_right = (right.broadcast_mul(&cos)? + left.broadcast_mul(&sin)?)?;
    let rest = x.dim(D::Minus1)? - 2 * half;
    if rest == 0 {
        Tensor::cat(&[turned_left, turned_right], D::Minus1)
    } else {
        Tensor::cat(&[turned_left, turned_right, x.narrow(D::Minus1, 2 * half, rest)?], D::Minus1)
    }
}
