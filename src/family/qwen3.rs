//! Qwen3 (Yang et al. 2025): Llama with norms of queries and keys.

use super::parts::{LLAMA, QKVO, decoder};
use super::{Family, llama, qwen2};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Block, Config, QkNorm, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "qwen3",
    about: "Llama with norms of queries and keys; sliding windows in some layers",
    model_types: &["qwen3"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    keys.size("head_dim")?; // no quotient of the others
    let c = Config { qk_norm: QkNorm::Head, ..llama::sizes(keys, llama::RMS)? };
    let layers = qwen2::layers(keys, &c)?;
    Ok(Config { layers, ..c })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let bias = keys.flag_or("attention_bias", false)?;
    decoder(config, keys, tensors, &LLAMA, None, |part, layer| {
        let mut attention = part.attention(layer, QKVO, bias, bias)?;
        part.qk_norms(&mut attention, ["self_attn.q_norm", "self_attn.k_norm"])?;
        let (ln1, ln2) = (part.norm("input_layernorm")?, part.norm("post_attention_layernorm")?);
        Block::new(part.c.wiring, ln1, attention, ln2, part.gated_mlp(false)?)
    })
}
