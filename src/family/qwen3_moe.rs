//! Qwen3 with experts (Yang et al. 2025), in all layers or in some.

use serde_json::Value;

use super::parts::{LLAMA, QKVO, decoder};
use super::rope::{USUAL, rotary};
use super::{Family, check_routing, llama};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Block, Config, Layer, Mlp, QkNorm, Routing, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "qwen3_moe",
    about: "Qwen3 with experts in all layers or in some",
    model_types: &["qwen3_moe"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let mut c = Config { qk_norm: QkNorm::Head, ..llama::sizes(keys, llama::RMS)? };
    let rotary = Some(rotary(keys, c.d_head, c.n_ctx, USUAL)?);
    let used = keys.flag_or("use_sliding_window", false)?;
    let window = keys.size_or_null("sliding_window", 4096)?.filter(|_| used);
    match window {
        Some(_) => keys.only("max_window_layers", 0)?, // its library has windows in all layers, if in any
        None => keys.ignore(&["max_window_layers"]),
    }
    c.layers = vec![Layer { rotary, window, ..Layer::plain(c.d_head) }; c.n_layers];
    let count = match keys.few_opt("num_experts")? {
        Some(count) => count,
        None => keys.few("num_local_experts")?,
    };
    keys.only("num_local_experts", count)?;
    let routing = Routing {
        experts: count,
        per_token: keys.few("num_experts_per_tok")?,
        renormalised: keys.flag_or("norm_topk_prob", false)?,
        d_expert: keys.size("moe_intermediate_size")?,
    };
    let step = keys.size_opt("decoder_sparse_step")?.unwrap_or(1);
    let dense = keys.list_opt("mlp_only_layers")?.unwrap_or_default();
    if dense.iter().any(|layer| layer.as_u64().is_none()) {
        return Err(keys.unsupported("mlp_only_layers", &Value::Array(dense), "a list of layer numbers"));
    }
    for (number, layer) in c.layers.iter_mut().enumerate() {
        let named = dense.iter().any(|layer| layer.as_u64() == Some(number as u64));
        layer.experts = !named && (number + 1).is_multiple_of(step);
    }
    c.experts = Some(check_routing(keys, routing)?);
    Ok(c)
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let bias = keys.flag_or("attention_bias", false)?;
    decoder(config, keys, tensors, &LLAMA, None, |part, layer| {
        let mut attention = part.attention(layer, QKVO, bias, bias)?;
        part.qk_norms(&mut attention, ["self_attn.q_norm", "self_attn.k_norm"])?;
        let (ln1, ln2) = (part.norm("input_layernorm")?, part.norm("post_attention_layernorm")?);
        let mlp = match part.c.routing(layer) {
            Some(_) => Mlp::Experts(part.experts(layer, "mlp", ["gate_proj", "up_proj", "down_proj"])?),
            None => part.gated_mlp(false)?,
        };
        Block::new(part.c.wiring, ln1, attention, ln2, mlp)
    })
}
