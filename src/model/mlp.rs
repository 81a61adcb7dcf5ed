//! The MLP: plain, gated, or a choice of experts.

use candle_core::Tensor;

use super::{Experts, Linear, Norm, Tap};
use crate::error::Result;
use crate::ops;
use crate::site::At;

/// A neuron's response to its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// GELU, tanh form.
    GeluTanh,
    /// GELU, exact.
    Gelu,
    /// x·σ(1.702·x).
    QuickGelu,
    /// x·σ(x).
    Silu,
    /// max(x, 0).
    Relu,
    /// max(x, 0)².
    ReluSquared,
    /// x·softmax(x) over the neurons.
    Solu,
}

impl Activation {
    /// The same, where it can be applied and multiplied in one step.
    fn gate(self) -> Option<ops::Gate> {
        match self {
            Activation::GeluTanh => Some(ops::Gate::GeluTanh),
            Activation::Gelu => Some(ops::Gate::Gelu),
            Activation::QuickGelu => Some(ops::Gate::QuickGelu),
            Activation::Silu => Some(ops::Gate::Silu),
            Activation::Relu | Activation::ReluSquared | Activation::Solu => None,
        }
    }

    /// Elementwise but for SoLU, which is over the last axis.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::GeluTanh => ops::gelu_tanh(x)?,
            Activation::Gelu => ops::gelu(x)?,
            Activation::QuickGelu => ops::quick_gelu(x)?,
            Activation::Silu => ops::silu(x)?,
            Activation::Relu => ops::relu(x)?,
            Activation::ReluSquared => ops::relu(x)?.sqr()?,
            Activation::Solu => ops::solu(x)?,
        })
    }
}

/// What follows attention in a block.
#[derive(Debug, Clone)]
pub enum Mlp {
    /// Nothing: a model of attention only.
    Absent,
    /// One MLP for every token.
    Dense(Dense),
    /// Several, of which a router chooses some for each token.
    Experts(Experts),
}

impl Mlp {
    /// The one MLP of every token, if that is what there is.
    pub fn dense(&self) -> Option<&Dense> {
        match self {
            Mlp::Dense(dense) => Some(dense),
            _ => None,
        }
    }

    /// The same, for changing.
    pub fn dense_mut(&mut self) -> Option<&mut Dense> {
        match self {
            Mlp::Dense(dense) => Some(dense),
            _ => None,
        }
    }

    /// The experts, if there are any.
    pub fn experts(&self) -> Option<&Experts> {
        match self {
            Mlp::Experts(experts) => Some(experts),
            _ => None,
        }
    }

    /// Every map that reads the stream.
    pub fn readers(&mut self) -> Vec<&mut Linear> {
        match self {
            Mlp::Absent => Vec::new(),
            Mlp::Dense(dense) => dense.readers().collect(),
            Mlp::Experts(experts) => std::iter::once(&mut experts.router)
                .chain(experts.experts.iter_mut().flat_map(Dense::readers))
                .collect(),
        }
    }

    /// Every map that writes to the stream.
    pub fn writers(&mut self) -> Vec<&mut Linear> {
        match self {
            Mlp::Absent => Vec::new(),
            Mlp::Dense(dense) => vec![&mut dense.out],
            Mlp::Experts(experts) => experts.experts.iter_mut().map(|expert| &mut expert.out).collect(),
        }
    }

    /// x `[batch, pos, d_model]` → same shape; zeros where there is no MLP.
    pub(super) fn forward(&self, x: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        match self {
            Mlp::Absent => Ok(x.zeros_like()?),
            Mlp::Dense(dense) => dense.forward(x, tap),
            Mlp::Experts(experts) => experts.forward(x, tap),
        }
    }
}

/// out = act(x·W_in) · W_out, or act(x·W_gate) ⊙ (x·W_in) · W_out when gated.
#[derive(Debug, Clone)]
pub struct Dense {
    /// `[d_model, d_mlp]`: its result goes through the activation (of a gated MLP: the gate).
    pub pre: Linear,
    /// `[d_model, d_mlp]`: the linear branch of a gated MLP.
    pub linear: Option<Linear>,
    /// `[d_mlp, d_model]`.
    pub out: Linear,
    /// The neurons' response.
    pub activation: Activation,
    /// `[d_mlp]`: added to the neurons behind the activation and the gate.
    pub shift: Option<Tensor>,
    /// Bounds: the gate is kept at most, the linear branch within ± this, and 1 is added to the latter.
    pub limit: Option<f64>,
    /// Over the neurons, after the activation.
    pub norm: Option<Norm>,
}

impl Dense {
    /// Neither gated nor bounded nor normed.
    pub fn plain(pre: Linear, out: Linear, activation: Activation) -> Dense {
        Dense { pre, linear: None, out, activation, shift: None, limit: None, norm: None }
    }

    /// Neurons.
    pub fn width(&self) -> Result<usize> {
        Ok(self.pre.w.dim(1)?)
    }

    /// Lays the weights that read the stream out for products of few rows ([`ops::spaced`]).
    pub(crate) fn lay_out(&mut self) -> Result<()> {
        for linear in self.readers() {
            linear.w = ops::spaced(&linear.w)?;
        }
        Ok(())
    }

    fn readers(&mut self) -> impl Iterator<Item = &mut Linear> {
        std::iter::once(&mut self.pre).chain(&mut self.linear)
    }

    /// x `[batch, pos, d_model]` → same shape.
    fn forward(&self, x: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let pre = tap.at(At::MlpPre, self.pre.forward(x)?)?; // [batch, pos, d_mlp]
        let linear = match &self.linear {
            Some(linear) => Some(tap.at(At::MlpLinear, linear.forward(x)?)?),
            None => None,
        };
        let post = self.respond(&pre, linear.as_ref())?;
        let post = match &self.norm {
            None => post,
            Some(norm) => {
                let mid = tap.at(At::MlpMid, post)?;
                norm.forward(&mid, tap, tap.block(At::MlpScale), tap.block(At::MlpNormed))?
            }
        };
        let post = tap.at(At::MlpPost, post)?;
        self.out.forward(&post) // [batch, pos, d_model]
    }

    /// Neurons after the activation, from those before it and the linear branch, all `[…, d_mlp]`.
    pub(super) fn respond(&self, pre: &Tensor, linear: Option<&Tensor>) -> Result<Tensor> {
        let post = match (self.limit, linear) {
            (_, None) => self.activation.apply(pre)?,
            (None, Some(linear)) => match self.activation.gate() {
                Some(gate) => ops::gated(pre, linear, gate)?,
                None => (self.activation.apply(pre)? * linear)?,
            },
            (Some(limit), Some(linear)) => {
                let gate = self.activation.apply(&ops::clamp(pre, f64::NEG_INFINITY, limit)?)?;
                (gate * (ops::clamp(linear, -limit, limit)? + 1.0)?)?
            }
        };
        Ok(match &self.shift {
            Some(shift) => ops::shift_rows(&post, shift)?,
            None => post,
        })
    }
}
