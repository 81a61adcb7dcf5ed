//! How attention and MLP join the residual stream.

use candle_core::Tensor;

use super::{Attention, Base, Entry, Left, Mlp, Norm, Tap};
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

    /// Whether the MLP reads what attention of its own block wrote.
    pub fn mlp_reads_mid(&self) -> bool {
        self.wiring == Wiring::Sequential
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
    ///
    /// Where parts of the pass begin inside of the block ([`Entry`]), what the base run had there joins the others'.
    pub(super) fn forward(
        &self,
        x: Tensor,
        learned: Option<&Tensor>,
        left: &mut Left,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let (base, layer) = (left.base(), tap.layer);
        let of = |base: &Base, at| base.kept.block(layer, at).cloned();

        let pre = tap.at(At::ResidPre, x)?;
        let z = tap.unless_idle(&pre, |tap| self.attention.mix(&pre, learned, &self.ln1, left, tap))?;
        tap.only_read(true);
        let pre = tap.kept(&pre)?;
        let [pre, z] =
            tap.enter(Entry::Z, base, [pre, z], |base| Ok([of(base, At::ResidPre)?, of(base, At::Z)?]))?;
        let attention = tap.unless_idle(&pre, |tap| {
            let attention = self.attention.write(z, tap)?;
            self.after(&self.ln1_post, attention, [At::Ln1PostScale, At::Ln1Post], tap)
        })?;
        let [pre, attention] = tap.enter(Entry::AttnOut, base, [pre, attention], |base| {
            Ok([of(base, At::ResidPre)?, of(base, At::AttnOut)?])
        })?;
        let mid = ops::add(&pre, &tap.at(At::AttnOut, attention)?)?;
        let [pre, mid] = tap.enter(Entry::Mid, base, [pre, mid], |base| {
            Ok([of(base, At::ResidPre)?, self.mid(base, layer)?])
        })?;
        let mid = if self.has_mid() { tap.at(At::ResidMid, mid)? } else { mid };
        let input = if self.wiring == Wiring::Parallel { &pre } else { &mid };
        let post = match &self.mlp {
            Mlp::Absent => mid,
            mlp => {
                let wrote = tap.unless_idle(&mid, |tap| self.feed(mlp, input, tap))?;
                let [mid, wrote] = tap.enter(Entry::MlpOut, base, [mid, wrote], |base| {
                    Ok([self.mid(base, layer)?, of(base, At::MlpOut)?])
                })?;
                ops::add(&mid, &tap.at(At::MlpOut, wrote)?)?
            }
        };
        let [post] = tap.enter(Entry::ResidPost, base, [post], |base| Ok([of(base, At::ResidPost)?]))?;
        tap.at(At::ResidPost, post)
    }

    /// The stream between attention and MLP, as a base run had it.
    fn mid(&self, base: &Base, layer: usize) -> Result<Tensor> {
        let of = |at| base.kept.block(layer, at);
        if self.has_mid() {
            of(At::ResidMid).cloned()
        } else {
            Ok(ops::add(of(At::ResidPre)?, of(At::AttnOut)?)?)
        }
    }

    /// What the MLP adds to the stream, from the stream that it reads.
    fn feed(&self, mlp: &Mlp, input: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let wanted = tap.wants(tap.block(At::MlpIn));
        let input = if wanted { tap.at(At::MlpIn, input.clone())? } else { input.clone() };
        let n = self.ln2.forward(&input, tap, tap.block(At::Ln2Scale), tap.block(At::Ln2))?;
        let wrote = mlp.forward(&n, tap)?;
        self.after(&self.ln2_post, wrote, [At::Ln2PostScale, At::Ln2Post], tap)
    }

    fn after(&self, norm: &Norm, x: Tensor, [scale, normalized]: [At; 2], tap: &mut Tap) -> Result<Tensor> {
        norm.forward(&x, tap, tap.block(scale), tap.block(normalized))
    }
}
