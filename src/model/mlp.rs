//! The MLP, plain or gated.

use candle_core::Tensor;

use super::{Linear, Tap};
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
    /// x·σ(x).
    Silu,
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// Elementwise.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::GeluTanh => ops::gelu_tanh(x)?,
            Activation::Gelu => ops::gelu(x)?,
            Activation::Silu => ops::silu(x)?,
            Activation::Relu => ops::relu(x)?,
        })
    }
}

/// out = act(x·W_in) · W_out, or act(x·W_gate) ⊙ (x·W_in) · W_out when gated.
#[derive(Debug, Clone)]
pub struct Mlp {
    /// `[d_model, d_mlp]`: its result goes through the activation (of a gated MLP: the gate).
    pub pre: Linear,
    /// `[d_model, d_mlp]`: the linear branch of a gated MLP.
    pub linear: Option<Linear>,
    /// `[d_mlp, d_model]`.
    pub out: Linear,
    /// The neurons' response.
    pub activation: Activation,
}

impl Mlp {
    /// x `[batch, pos, d_model]` → same shape.
    pub(super) fn forward(&self, x: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let pre = tap.at(At::MlpPre, self.pre.forward(x)?)?; // [batch, pos, d_mlp]
        let post = self.activation.apply(&pre)?;
        let post = match &self.linear {
            Some(linear) => (post * tap.at(At::MlpLinear, linear.forward(x)?)?)?,
            None => post,
        };
        let post = tap.at(At::MlpPost, post)?;
        self.out.forward(&post) // [batch, pos, d_model]
    }
}
