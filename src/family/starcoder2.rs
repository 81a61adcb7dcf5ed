//! StarCoder2 (Lozhkov et al. 2024): Llama's attention with a sliding window, LayerNorm and a plain MLP.

use super::parts::{LLAMA, Names, QKVO, decoder};
use super::rope::{USUAL, rotary};
use super::{Family, activation, llama};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Activation, Block, Config, Layer, MlpKind, NormKind, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "starcoder2",
    about: "LayerNorm, rotary positions, grouped queries, sliding window, plain MLP",
    model_types: &["starcoder2"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = llama::sizes(keys, Some(("norm_epsilon", 1e-5)))?;
    let rotary = Some(rotary(keys, c.d_head, c.n_ctx, USUAL)?);
    let window = keys.size_opt("sliding_window")?;
    keys.only("scale_attn_weights", true)?;
    keys.ignore(&["layer_norm_epsilon", "scale_attention_softmax_in_fp32"]); // `norm_epsilon` is what is read
    keys.only("mlp_type", "default")?;
    keys.only("norm_type", "layer_norm")?;
    Ok(Config {
        norm: NormKind::Layer,
        norm_bias: true,
        layers: vec![Layer { rotary, window, ..Layer::plain(c.d_head) }],
        activation: activation(keys, "hidden_act", Activation::GeluTanh)?,
        mlp: MlpKind::Plain,
        ..c
    })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    const NAMES: Names = Names { tied: true, ..LLAMA };
    let bias = keys.flag_or("use_bias", true)?;
    decoder(config, keys, tensors, &NAMES, None, |part, layer| {
        let attention = part.attention(layer, QKVO, bias, bias)?;
        let (ln1, ln2) = (part.norm("input_layernorm")?, part.norm("post_attention_layernorm")?);
        Block::new(part.c.wiring, ln1, attention, ln2, part.plain_mlp(["mlp.c_fc", "mlp.c_proj"], bias)?)
    })
}
