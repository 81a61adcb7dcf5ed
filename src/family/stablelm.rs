//! StableLM (Bellagente et al. 2024): Llama with LayerNorm and partly rotary positions, parallel or not.

use candle_core::Tensor;

use super::parts::{LLAMA, Part, QKVO, decoder};
use super::rope::{Defaults, USUAL, rotary};
use super::{Family, llama};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Block, Config, HeadNorm, Layer, Norm, NormKind, QkNorm, Transformer, Wiring};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "stablelm",
    about: "LayerNorm, partly rotary positions, gated MLP, parallel or not; norms of each head",
    model_types: &["stablelm"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = llama::sizes(keys, Some(("layer_norm_eps", 1e-5)))?;
    let rotary = Some(rotary(keys, c.d_head, c.n_ctx, Defaults { part: 0.25, partly: true, ..USUAL })?);
    keys.only("rotary_scaling_factor", 1.0)?;
    let parallel = keys.flag_or("use_parallel_residual", false)?;
    Ok(Config {
        norm: NormKind::Layer,
        norm_bias: true,
        qk_norm: if keys.flag_or("qk_layernorm", false)? { QkNorm::EachHead } else { QkNorm::None },
        wiring: if parallel { Wiring::Parallel } else { Wiring::Sequential },
        layers: vec![Layer { rotary, ..Layer::plain(c.d_head) }],
        ..c
    })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let bias = keys.flag_or("use_qkv_bias", false)?;
    decoder(config, keys, tensors, &LLAMA, None, |part, layer| {
        let mut attention = part.attention(layer, QKVO, bias, false)?;
        if part.c.qk_norm == QkNorm::EachHead {
            attention.q_norm = Some(head_norm(part, "self_attn.q_layernorm", part.c.n_heads)?);
            attention.k_norm = Some(head_norm(part, "self_attn.k_layernorm", part.c.n_kv_heads)?);
        }
        let ln1 = part.norm("input_layernorm")?;
        let ln2 = match part.c.wiring {
            Wiring::Parallel => ln1.clone(),
            Wiring::Sequential => part.norm("post_attention_layernorm")?,
        };
        Block::new(part.c.wiring, ln1, attention, ln2, part.gated_mlp(false)?)
    })
}

/// A norm with a gain for each head, in tensors of their own.
fn head_norm(part: &mut Part, name: &str, heads: usize) -> Result<HeadNorm> {
    let width = part.c.d_head;
    let gains = (0..heads).map(|head| part.take(&format!("{name}.norms.{head}.weight"), &[width]));
    let gain = Tensor::cat(&gains.collect::<Result<Vec<_>>>()?, 0)?;
    let norm = Norm { kind: NormKind::Layer, eps: part.c.norm_eps, gain, bias: None };
    Ok(HeadNorm { norm, whole: false })
}
