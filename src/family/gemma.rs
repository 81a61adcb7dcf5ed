//! Gemma (Gemma Team 2024): Llama with embeddings scaled by √d_model and gains written as what is added to 1.

use super::parts::one_plus;
use super::rope::{USUAL, rotary};
use super::{Family, activation, llama};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Activation, Config, Layer, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "gemma",
    about: "Llama with scaled embeddings (W_E is after it), GELU and wide heads",
    model_types: &["gemma"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = sizes(keys)?;
    let rotary = Some(rotary(keys, c.d_head, c.n_ctx, USUAL)?);
    Ok(Config { layers: vec![Layer { rotary, ..Layer::plain(c.d_head) }], ..c })
}

/// The keys that the Gemmas share. `hidden_activation` comes before the older `hidden_act`, which named another.
pub(super) fn sizes(keys: &mut Keys) -> Result<Config> {
    keys.size("head_dim")?; // no quotient of the others
    keys.only("use_bidirectional_attention", false)?;
    let c = llama::sizes(keys)?;
    // the older key says "gelu" where the tanh form was trained
    let older = match activation(keys, "hidden_act", Activation::GeluTanh)? {
        Activation::Gelu => Activation::GeluTanh,
        other => other,
    };
    Ok(Config { activation: activation(keys, "hidden_activation", older)?, ..c })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let bias = keys.flag_or("attention_bias", false)?;
    finish(llama::tied(config, keys, tensors, [bias, bias, false])?)
}

/// Gains and embeddings as they are used.
pub(super) fn finish(mut model: Transformer) -> Result<Transformer> {
    one_plus(&mut model)?;
    model.embed = model.embed.affine((model.config.d_model as f64).sqrt(), 0.0)?;
    Ok(model)
}
