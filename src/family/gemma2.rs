//! Gemma 2 (Gemma Team 2024): norms around each part, bounded scores and logits, windows in every other layer.

use super::parts::{LLAMA, Names, Part, QKVO, decoder};
use super::rope::{USUAL, rotary};
use super::{Family, gemma, sliding};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Block, Config, Layer, NormPlaces, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "gemma2",
    about: "Gemma with norms around each part, soft caps of scores and logits, alternating windows",
    model_types: &["gemma2"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = sizes(keys)?;
    let rotary = rotary(keys, c.d_head, c.n_ctx, USUAL)?;
    let window = keys.size_or_null("sliding_window", 4096)?;
    if let Some(window) = window {
        keys.only("sliding_window_size", window)?; // an older name beside it
    }
    let scale = 1.0 / keys.positive_or("query_pre_attn_scalar", 256.0)?.sqrt();
    let slides = sliding(keys, c.n_layers, window, |layer| layer % 2 == 0)?;
    let layer = |slides: bool| Layer {
        scale,
        rotary: Some(rotary.clone()),
        window: window.filter(|_| slides),
        ..Layer::plain(c.d_head)
    };
    let score_cap = keys.positive_or_null("attn_logit_softcapping", 50.0)?;
    let logit_cap = keys.positive_or_null("final_logit_softcapping", 30.0)?;
    Ok(Config { layers: slides.into_iter().map(layer).collect(), score_cap, logit_cap, ..c })
}

/// Gemma with norms around each part.
pub(super) fn sizes(keys: &mut Keys) -> Result<Config> {
    Ok(Config { norm_places: NormPlaces::Around, ..gemma::sizes(keys, ["hidden_activation", "hidden_act"])? })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    const NAMES: Names = Names { tied: true, ..LLAMA };
    let bias = keys.flag_or("attention_bias", false)?;
    gemma::finish(decoder(config, keys, tensors, &NAMES, None, |part, layer| block(part, layer, bias))?)
}

pub(super) fn block(part: &mut Part, layer: usize, bias: bool) -> Result<Block> {
    let mut attention = part.attention(layer, QKVO, bias, bias)?;
    part.qk_norms(&mut attention, ["self_attn.q_norm", "self_attn.k_norm"])?;
    Ok(Block {
        wiring: part.c.wiring,
        ln1: part.norm("input_layernorm")?,
        attention,
        ln1_post: part.norm("post_attention_layernorm")?,
        ln2: part.norm("pre_feedforward_layernorm")?,
        mlp: part.gated_mlp(false)?,
        ln2_post: part.norm("post_feedforward_layernorm")?,
    })
}
