//! OLMo 2 (OLMo Team 2025): norms behind attention and MLP instead of before them, norms of whole queries and keys.

use super::parts::{LLAMA, QKVO, decoder};
use super::rope::{USUAL, rotary};
use super::{Family, llama};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Block, Config, Layer, NormPlaces, QkNorm, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "olmo2",
    about: "Norms behind attention and MLP, norms of whole queries and keys",
    model_types: &["olmo2"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = llama::sizes(keys, Some(("rms_norm_eps", 1e-5)))?;
    let rotary = Some(rotary(keys, c.d_head, c.n_ctx, USUAL)?);
    let layers = vec![Layer { rotary, ..Layer::plain(c.d_head) }];
    Ok(Config { norm_places: NormPlaces::After, qk_norm: QkNorm::Whole, layers, ..c })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let bias = keys.flag_or("attention_bias", false)?;
    decoder(config, keys, tensors, &LLAMA, None, |part, layer| {
        let mut attention = part.attention(layer, QKVO, bias, bias)?;
        part.qk_norms(&mut attention, ["self_attn.q_norm", "self_attn.k_norm"])?;
        let none = part.no_norm()?;
        Ok(Block {
            wiring: part.c.wiring,
            ln1: none.clone(),
            attention,
            ln1_post: part.norm("post_attention_layernorm")?,
            ln2: none,
            mlp: part.gated_mlp(false)?,
            ln2_post: part.norm("post_feedforward_layernorm")?,
        })
    })
}
