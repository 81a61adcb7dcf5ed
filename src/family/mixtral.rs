//! Mixtral (Jiang et al. 2024): Mistral with eight MLPs, of which a router chooses two for each token.

use super::parts::{LLAMA, QKVO, decoder};
use super::rope::{Defaults, USUAL, rotary};
use super::{Family, llama};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Block, Config, Layer, Mlp, Routing, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "mixtral",
    about: "Mistral with experts: a router chooses some for each token",
    model_types: &["mixtral"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = llama::sizes(keys, Some(("rms_norm_eps", 1e-5)))?;
    let rotary = Some(rotary(keys, c.d_head, c.n_ctx, Defaults { base: 1e6, ..USUAL })?);
    let window = keys.size_opt("sliding_window")?;
    let routing = Routing {
        experts: keys.few_opt("num_local_experts")?.unwrap_or(8),
        per_token: keys.few_opt("num_experts_per_tok")?.unwrap_or(2),
        renormalised: true,
        d_expert: c.d_mlp,
    };
    Ok(Config {
        layers: vec![Layer { rotary, window, ..Layer::plain(c.d_head) }],
        experts: Some(super::check_routing(keys, routing)?),
        ..c
    })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    decoder(config, keys, tensors, &LLAMA, None, |part, layer| {
        let attention = part.attention(layer, QKVO, false, false)?;
        let (ln1, ln2) = (part.norm("input_layernorm")?, part.norm("post_attention_layernorm")?);
        let experts = part.experts(layer, "block_sparse_moe", ["w1", "w3", "w2"])?;
        Block::new(part.c.wiring, ln1, attention, ln2, Mlp::Experts(experts))
    })
}
