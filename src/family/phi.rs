//! Phi (Li et al. 2023): attention and MLP in parallel behind one norm, partly rotary positions, biases everywhere.

use super::parts::{LLAMA, Names, decoder};
use super::rope::{Defaults, USUAL, rotary};
use super::{Family, activation, llama};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Activation, Block, Config, Layer, MlpKind, NormKind, QkNorm, Transformer, Wiring};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "phi",
    about: "LayerNorm, partly rotary positions, attention and MLP in parallel behind one norm",
    model_types: &["phi"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = llama::sizes(keys, Some(("layer_norm_eps", 1e-5)))?;
    let rotary = Some(rotary(keys, c.d_head, c.n_ctx, Defaults { part: 0.5, partly: true, ..USUAL })?);
    Ok(Config {
        norm: NormKind::Layer,
        norm_bias: true,
        qk_norm: if keys.flag_or("qk_layernorm", false)? { QkNorm::Head } else { QkNorm::None },
        wiring: Wiring::Parallel,
        layers: vec![Layer { rotary, ..Layer::plain(c.d_head) }],
        activation: activation(keys, "hidden_act", Activation::GeluTanh)?,
        mlp: MlpKind::Plain,
        ..c
    })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    const NAMES: Names = Names { ln_final: "final_layernorm", ..LLAMA };
    let mut model = decoder(config, keys, tensors, &NAMES, None, |part, layer| {
        let names = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.dense"];
        let mut attention = part.attention(layer, names, true, true)?;
        part.qk_norms(&mut attention, ["self_attn.q_layernorm", "self_attn.k_layernorm"])?;
        let norm = part.norm("input_layernorm")?;
        Block::new(
            part.c.wiring,
            norm.clone(),
            attention,
            norm,
            part.plain_mlp(["mlp.fc1", "mlp.fc2"], true)?,
        )
    })?;
    model.unembed.b = Some(tensors.take("lm_head.bias", &[model.config.d_vocab])?);
    Ok(model)
}
