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
    let c = sizes(keys, ["hidden_act", "hidden_activation"])?;
    let rotary = Some(rotary(keys, c.d_head, c.n_ctx, USUAL)?);
    Ok(Config { layers: vec![Layer { rotary, ..Layer::plain(c.d_head) }], ..c })
}

/// The keys that the Gemmas share. The activation has two names, of which one counts: the other must say the same.
pub(super) fn sizes(keys: &mut Keys, [counts, other]: [&str; 2]) -> Result<Config> {
    keys.size("head_dim")?; // no quotient of the others
    keys.only("use_bidirectional_attention", false)?;
    let c = llama::sizes(keys, llama::RMS)?;
    let mut named = |name: &str, usual: Activation| -> Result<Activation> {
        let named = activation(keys, name, usual)?;
        // Gemma's first configs say "gelu" where the tanh form was trained
        let meant = [name, counts] == ["hidden_act"; 2] && named == Activation::Gelu;
        Ok(if meant { Activation::GeluTanh } else { named })
    };
    let activation = named(counts, Activation::GeluTanh)?;
    if named(other, activation)? != activation {
        let value = keys.word_opt(other)?.into();
        return Err(keys.unsupported(other, &value, &format!("what `{counts}` says")));
    }
    Ok(Config { activation, ..c })
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
