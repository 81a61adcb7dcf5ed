//! How attention and MLP join the residual stream.

use candle_core::Tensor;

use super::{Attention, Mlp, Norm, Prefix, Tap};
use crate::error::Result;
use crate::ops;
use crate::site::At;

/// What the MLP reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// The stream with what attention wrote.
    Sequential,
    /// The stream as the block received it, beside attention.
    Parallel,
}

/// mid = x + post₁(attention(norm₁(x))), out = mid + post₂(mlp(norm₂(mid))); in parallel, the MLP reads x instead of mid.
/// Any of the four norms may be absent.
#[derive(Debug, Clone)]
pub struct Block {
    /// What the MLP reads.
    pub wiring: Wiring,
    /// Before attention.
    pub ln1: Norm,
    /// Attention.
    pub attention: Attention,
    /// After attention, before it joins the stream.
    pub ln1_post: Norm,
    /// Before the MLP. Parallel parts that share one norm have it twice.
    pub ln2: Norm,
    /// MLP.
    pub mlp: Mlp,
    /// After the MLP, before it joins the stream.
    pub ln2_post: Norm,
}

impl Block {
    /// A block without norms behind its parts.
    pub fn new(wiring: Wiring, ln1: Norm, attention: Attention, ln2: Norm, mlp: Mlp) -> Result<Block> {
        let none = Norm::none(&attention.q.w)?;
        Ok(Block { wiring, ln1, attention, ln1_post: none.clone(), ln2, mlp, ln2_post: none })
    }

    /// Whether there is a stream between attention and MLP.
    pub fn has_mid(&self) -> bool {
        self.wiring == Wiring::Sequential && !matches!(self.mlp, Mlp::Absent)
    }

    /// Whether the block has this place.
    pub fn has(&self, at: At) -> bool {
        let a = &self.attention;
        let (dense, experts) = (self.mlp.dense(), self.mlp.experts());
        let (any_mlp, neurons) =
            (!matches!(self.mlp, Mlp::Absent), dense.and_then(|dense| dense.norm.as_ref()));
        match at {
            At::Ln1Scale | At::Ln1 => self.ln1.is_some(),
            At::Ln1PostScale | At::Ln1Post => self.ln1_post.is_some(),
            At::Ln2Scale | At::Ln2 => any_mlp && self.ln2.is_some(),
            At::Ln2PostScale | At::Ln2Post => any_mlp && self.ln2_post.is_some(),
            At::QNormed => a.q_norm.is_some(),
            At::KNormed => a.k_norm.is_some(),
            At::RotQ | At::RotK => a.rotary.is_some(),
            At::ResidMid => self.has_mid(),
            At::MlpIn | At::MlpOut => any_mlp,
            At::MlpPre | At::MlpPost => dense.is_some(),
            At::MlpLinear => dense.is_some_and(|dense| dense.linear.is_some()),
            At::MlpMid | At::MlpScale | At::MlpNormed => neurons.is_some(),
            At::Router | At::ExpertWeights | At::ExpertPre | At::ExpertPost => experts.is_some(),
            At::ExpertLinear => {
                experts.is_some_and(|experts| experts.experts.iter().all(|expert| expert.linear.is_some()))
            }
            _ => true,
        }
    }

    /// x `[batch, pos, d_model]` → same shape. `learned` is what queries and keys read besides, if anything.
    pub(super) fn forward(
        &self,
        x: Tensor,
        learned: Option<&Tensor>,
        prefix: Prefix,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let pre = tap.at(At::ResidPre, x)?;
        let attention = self.attention.forward(&pre, learned, &self.ln1, prefix, tap)?;
        let attention = self.after(&self.ln1_post, attention, [At::Ln1PostScale, At::Ln1Post], tap)?;
        let mid = ops::add(&pre, &tap.at(At::AttnOut, attention)?)?;
        let mid = if self.has_mid() { tap.at(At::ResidMid, mid)? } else { mid };
        let input = if self.wiring == Wiring::Parallel { &pre } else { &mid };
        let post = match self.feed(input, tap)? {
            Some(mlp) => ops::add(&mid, &tap.at(At::MlpOut, mlp)?)?,
            None => mid,
        };
        tap.at(At::ResidPost, post)
    }

    /// What the MLP adds to the stream, from the stream that it reads.
    fn feed(&self, input: &Tensor, tap: &mut Tap) -> Result<Option<Tensor>> {
        if matches!(self.mlp, Mlp::Absent) {
            return Ok(None);
        }
        let wanted = tap.wants(tap.block(At::MlpIn));
        let input = if wanted { tap.at(At::MlpIn, input.clone())? } else { input.clone() };
        let n = self.ln2.forward(&input, tap, tap.block(At::Ln2Scale), tap.block(At::Ln2))?;
        let Some(mlp) = self.mlp.forward(&n, tap)? else { return Ok(None) };
        self.after(&self.ln2_post, mlp, [At::Ln2PostScale, At::Ln2Post], tap).map(Some)
    }

    fn after(&self, norm: &Norm, x: Tensor, [scale, normalized]: [At; 2], tap: &mut Tap) -> Result<Tensor> {
        norm.forward(&x, tap, tap.block(scale), tap.block(normalized))
    }
}
