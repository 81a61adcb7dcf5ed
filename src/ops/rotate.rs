//! Rotary position embedding (Su et al. 2021).

use candle_core::{D, Result, Tensor};

/// Which entries of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// (i, i + d/2).
    Halves,
    /// (2i, 2i + 1).
    Adjacent,
}

/// Rotates pairs of the first `d` entries of each head by the angle of its position.
///
/// x `[batch, pos, head, d_head]`; cos, sin `[pos, d/2]`, or `[batch, pos, d/2]`, of the positions of `x` → same shape as
/// `x`.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor, pairs: Pairs) -> Result<Tensor> {
    let half = cos.dim(D::Minus1)?;
    let over_heads = |x: &Tensor| x.unsqueeze(x.rank() - 1); // [pos, 1, d/2] or [batch, pos, 1, d/2]
    let (cos, sin) = (over_heads(cos)?, over_heads(sin)?);
    let turned = x.narrow(D::Minus1, 0, 2 * half)?;
    let (a, b) = match pairs {
        Pairs::Halves => (turned.narrow(D::Minus1, 0, half)?, turned.narrow(D::Minus1, half, half)?),
        Pairs::Adjacent => {
            let (batch, pos, heads, _) = turned.dims4()?;
            let pairs = turned.reshape((batch, pos, heads, half, 2))?;
            (pairs.narrow(4, 0, 1)?.squeeze(4)?, pairs.narrow(4, 1, 1)?.squeeze(4)?)
        }
    };
    let turned_a = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let turned_b = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    let turned = match pairs {
        Pairs::Halves => Tensor::cat(&[turned_a, turned_b], D::Minus1)?,
        Pairs::Adjacent => Tensor::stack(&[turned_a, turned_b], 4)?.reshape(turned.shape())?,
    };
    let rest = x.dim(D::Minus1)? - 2 * half;
    if rest == 0 {
        Ok(turned)
    } else {
        Tensor::cat(&[turned, x.narrow(D::Minus1, 2 * half, rest)?], D::Minus1)
    }
}
