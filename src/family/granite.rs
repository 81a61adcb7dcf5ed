//! Granite (IBM 2024): Llama with four multipliers. Three of them go into the weights, so that the stream is the sum of what
//! is written to it: of embeddings into W_E, of what is added to the stream into W_O and W_out, of logits into W_U.

use super::parts::{scale_writers, times};
use super::rope::{USUAL, rotary};
use super::{Family, llama};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Config, Layer, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "granite",
    about: "Llama with multipliers of embeddings, scores, the stream and logits (W_E, W_O, W_out, W_U are after them)",
    model_types: &["granite"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = llama::sizes(keys, llama::RMS)?;
    let rotary = Some(rotary(keys, c.d_head, c.n_ctx, USUAL)?);
    let scale = keys.positive_or("attention_multiplier", 1.0)?;
    Ok(Config { layers: vec![Layer { scale, rotary, ..Layer::plain(c.d_head) }], ..c })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let attention = keys.flag_or("attention_bias", false)?;
    let mlp = keys.flag_or("mlp_bias", false)?;
    let mut model = llama::plain(config, keys, tensors, [attention, attention, mlp])?;
    model.embed = model.embed.affine(keys.positive_or("embedding_multiplier", 1.0)?, 0.0)?;
    scale_writers(&mut model, keys.positive_or("residual_multiplier", 1.0)?)?;
    model.unembed = times(&model.unembed, 1.0 / keys.positive_or("logits_scaling", 1.0)?)?;
    Ok(model)
}
