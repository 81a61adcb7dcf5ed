//! GPT-BigCode (SantaCoder and StarCoder; Li et al. 2023): GPT-2 whose queries share one key-value head.

use super::parts::{Split, decoder};
use super::{Family, gpt2};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Block, Config, Layer, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "gpt_bigcode",
    about: "GPT-2 with one key-value head for all queries, or one for each",
    model_types: &["gpt_bigcode"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = gpt2::sizes(keys)?;
    let n_kv_heads = if keys.flag_or("multi_query", true)? { 1 } else { c.n_heads };
    keys.only("num_key_value_heads", n_kv_heads)?;
    // ways of computing the same numbers, and settings of a server
    keys.ignore(&["scale_attention_softmax_in_fp32", "inference_runner", "validate_runner_input"]);
    keys.ignore(&["pad_key_length", "pre_allocate_kv_cache", "max_batch_size", "max_sequence_length"]);
    let plain = Layer::plain(c.d_head);
    let scale = if keys.flag_or("scale_attn_weights", true)? { plain.scale } else { 1.0 };
    Ok(Config { n_kv_heads, layers: vec![Layer { scale, ..plain }], ..c })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let split = if config.n_kv_heads == 1 { Split::Thirds } else { Split::ByGroup };
    decoder(config, keys, tensors, &gpt2::NAMES, Some(("wpe", 0)), |part, layer| {
        part.skip(&["attn.bias", "attn.masked_bias"]); // the mask, and what it is filled with
        let attention = part.fused_attention(layer, ["attn.c_attn", "attn.c_proj"], [true, true], split)?;
        let (ln1, ln2) = (part.norm("ln_1")?, part.norm("ln_2")?);
        Block::new(part.c.wiring, ln1, attention, ln2, part.plain_mlp(["mlp.c_fc", "mlp.c_proj"], true)?)
    })
}
