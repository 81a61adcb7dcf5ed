//! Falcon (Almazrouei et al. 2023): multi-query or grouped attention in parallel with the MLP; its smallest kin has
//! linear biases and no parallel parts.

use serde_json::Value;

use super::parts::{Split, decoder};
use super::rope::{USUAL, rotary};
use super::{Family, activation, bloom, shared_width};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Activation, Block, Config, Layer, PositionKind, Slopes, Transformer, Wiring};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "falcon",
    about: "LayerNorm, rotary positions or linear biases, multi-query or grouped attention, parallel or not",
    model_types: &["falcon"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let (d_model, n_heads) = (keys.size("hidden_size")?, keys.few("num_attention_heads")?);
    let (n_ctx, d_vocab) =
        (keys.size_opt("max_position_embeddings")?.unwrap_or(2048), keys.size("vocab_size")?);
    let d_head = shared_width(keys, d_model, n_heads, "num_attention_heads")?;
    let grouped = keys.flag_or("new_decoder_architecture", false)?;
    let (multi, parallel) = (keys.flag_or("multi_query", true)?, keys.flag_or("parallel_attn", true)?);
    let kv = keys.few_opt("num_kv_heads")?.unwrap_or(n_heads);
    keys.only("apply_residual_connection_post_layernorm", false)?;
    if grouped {
        keys.only("parallel_attn", true)?;
    } else if !multi {
        keys.only("num_kv_heads", n_heads)?;
    }
    keys.ignore(&["ff_factor"]); // `ffn_hidden_size` says the same
    let plain = Layer::plain(d_head);
    let biased = keys.flag_or("alibi", false)?;
    let n_ctx = if biased { 1 << 20 } else { n_ctx }; // no rotation bounds it
    let layer = if biased {
        // biases are added before the scale
        let per_head = Slopes::new(n_heads).per_head;
        keys.ignore(&["rope_parameters", "rope_scaling", "rope_theta"]); // no rotation beside them
        Layer { slopes: Some(Slopes { per_head, rounded: true, factor: plain.scale }), ..plain }
    } else {
        Layer { rotary: Some(rotary(keys, d_head, n_ctx, USUAL)?), ..plain }
    };
    Ok(Config {
        d_model,
        n_layers: keys.few("num_hidden_layers")?,
        n_heads,
        n_kv_heads: if grouped {
            kv
        } else if multi {
            1
        } else {
            n_heads
        },
        d_head,
        d_mlp: keys.size_opt("ffn_hidden_size")?.unwrap_or(4 * d_model),
        d_vocab,
        d_vocab_out: d_vocab,
        n_ctx,
        norm_eps: keys.positive_or("layer_norm_epsilon", 1e-5)?,
        wiring: if grouped || parallel { Wiring::Parallel } else { Wiring::Sequential },
        positions: PositionKind::None,
        layers: vec![layer],
        activation: activation(keys, "activation", Activation::Gelu)?,
        ..Config::default()
    })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let bias = keys.flag_or("bias", false)?;
    let grouped = keys.flag_or("new_decoder_architecture", false)?;
    let norms = keys.size_opt("num_ln_in_parallel_attn")?.unwrap_or(if grouped { 2 } else { 1 });
    if norms > if grouped { 2 } else { 1 } {
        let value = Value::from(norms);
        return Err(keys.unsupported("num_ln_in_parallel_attn", &value, "1, and 2 in the new architecture"));
    }
    let split = if grouped || config.n_kv_heads > 1 { Split::ByGroup } else { Split::Thirds };
    decoder(config, keys, tensors, &bloom::NAMES, None, |part, layer| {
        let names = ["self_attention.query_key_value", "self_attention.dense"];
        let attention = part.fused_attention(layer, names, [bias, bias], split)?;
        let (ln1, ln2) = match (part.c.wiring, grouped && norms == 2) {
            (_, true) => (part.norm("ln_attn")?, part.norm("ln_mlp")?),
            (Wiring::Parallel, false) => {
                let shared = part.norm("input_layernorm")?;
                (shared.clone(), shared)
            }
            _ => (part.norm("input_layernorm")?, part.norm("post_attention_layernorm")?),
        };
        let mlp = part.plain_mlp(["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"], bias)?;
        Block::new(part.c.wiring, ln1, attention, ln2, mlp)
    })
}
