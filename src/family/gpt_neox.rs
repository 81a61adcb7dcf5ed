//! GPT-NeoX (Black et al. 2022) and Pythia (Biderman et al. 2023): rotary positions, attention and MLP in parallel.

use super::parts::{Names, Split, decoder};
use super::rope::{Defaults, rotary};
use super::{Family, activation, shared_width};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Activation, Block, Config, Layer, PositionKind, Transformer, Wiring};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "gpt_neox",
    about: "LayerNorm, partly rotary positions, attention and MLP in parallel or in sequence",
    model_types: &["gpt_neox"],
    config,
    build,
};

const NAMES: Names = Names {
    prefixes: &["gpt_neox."],
    embed: "embed_in",
    blocks: "layers",
    ln_final: "final_layer_norm",
    head: "embed_out",
    tied: false,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let (d_model, n_heads) = (keys.size("hidden_size")?, keys.few("num_attention_heads")?);
    let (n_ctx, d_vocab) = (keys.size("max_position_embeddings")?, keys.size("vocab_size")?);
    let d_head = shared_width(keys, d_model, n_heads, "num_attention_heads")?;
    // older configs have names of their own for rotation
    let base = keys.positive_or("rotary_emb_base", 10_000.0)?;
    let part = keys.positive_or("rotary_pct", 0.25)?;
    keys.only("rope_theta", base)?;
    keys.only("partial_rotary_factor", part)?;
    let rotary = rotary(keys, d_head, n_ctx, Defaults { base, part, partly: true })?;
    let parallel = keys.flag_or("use_parallel_residual", true)?;
    Ok(Config {
        d_model,
        n_layers: keys.few("num_hidden_layers")?,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: keys.size("intermediate_size")?,
        d_vocab,
        d_vocab_out: d_vocab,
        n_ctx,
        norm_eps: keys.positive_or("layer_norm_eps", 1e-5)?,
        wiring: if parallel { Wiring::Parallel } else { Wiring::Sequential },
        positions: PositionKind::None,
        layers: vec![Layer { rotary: Some(rotary), ..Layer::plain(d_head) }],
        activation: activation(keys, "hidden_act", Activation::Gelu)?,
        ..Config::default()
    })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let bias = keys.flag_or("attention_bias", true)?;
    decoder(config, keys, tensors, &NAMES, None, |part, layer| {
        part.skip(&["attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"]); // follow from the config
        let names = ["attention.query_key_value", "attention.dense"];
        let attention = part.fused_attention(layer, names, [bias, bias], Split::ByGroup)?;
        let (ln1, ln2) = (part.norm("input_layernorm")?, part.norm("post_attention_layernorm")?);
        let mlp = part.plain_mlp(["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"], true)?;
        Block::new(part.c.wiring, ln1, attention, ln2, mlp)
    })
}
