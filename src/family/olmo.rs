//! OLMo (Groeneveld et al. 2024): Llama with a LayerNorm that has no weights, and bounded queries, keys and values.

use super::rope::{USUAL, rotary};
use super::{Family, llama};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Config, Layer, NormKind, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "olmo",
    about: "Llama with LayerNorm without weights; queries, keys and values cut off at a bound",
    model_types: &["olmo"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = llama::sizes(keys, None)?;
    let rotary = Some(rotary(keys, c.d_head, c.n_ctx, USUAL)?);
    Ok(Config {
        norm: NormKind::Layer,
        norm_gain: false,
        layers: vec![Layer { rotary, ..Layer::plain(c.d_head) }],
        qkv_clip: keys.positive_opt("clip_qkv")?,
        ..c
    })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let bias = keys.flag_or("attention_bias", false)?;
    llama::plain(config, keys, tensors, [bias, bias, false])
}
