//! GPT-Neo (Black et al. 2021): GPT-2 with unscaled scores and attention that is local in every other layer.

use serde_json::{Value, json};

use super::parts::{Names, decoder};
use super::{Family, activation, gpt2, shared_width};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Activation, Block, Config, Layer, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "gpt_neo",
    about: "LayerNorm, learned positions, unscaled scores, local attention in some layers",
    model_types: &["gpt_neo"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let (d_model, n_heads) = (keys.size("hidden_size")?, keys.few("num_heads")?);
    let (n_layers, d_vocab) = (keys.few("num_layers")?, keys.size("vocab_size")?);
    let d_head = shared_width(keys, d_model, n_heads, "num_heads")?;
    let window = keys.size_opt("window_size")?.unwrap_or(256);
    let local = kinds(keys, n_layers)?;
    let layer =
        |local| Layer { scale: 1.0, window: if local { Some(window) } else { None }, ..Layer::plain(d_head) };
    Ok(Config {
        d_model,
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: keys.size_opt("intermediate_size")?.unwrap_or(4 * d_model),
        d_vocab,
        d_vocab_out: d_vocab,
        n_ctx: keys.size("max_position_embeddings")?,
        norm_eps: keys.positive_or("layer_norm_epsilon", 1e-5)?,
        layers: local.into_iter().map(layer).collect(),
        activation: activation(keys, "activation_function", Activation::GeluTanh)?,
        ..Config::default()
    })
}

/// `attention_types` is a list of patterns, each with how often it repeats: `[[["global", "local"], 6]]`.
fn kinds(keys: &mut Keys, n_layers: usize) -> Result<Vec<bool>> {
    let written_out = keys.list_opt("attention_layers")?;
    let supported = format!("patterns of \"global\" and \"local\" that make up {n_layers} layers");
    let usual = json!([[["global", "local"], n_layers / 2]]);
    let groups = keys.list_opt("attention_types")?.or(usual.as_array().cloned()).unwrap_or_default();
    let with = |mut all: Vec<bool>, group: &Value| -> Option<Vec<bool>> {
        let [pattern, times] = group.as_array()?.as_slice() else { return None };
        let times = times.as_u64()? as usize;
        let pattern = pattern.as_array()?.iter().map(|kind| match kind.as_str()? {
            "global" => Some(false),
            "local" => Some(true),
            _ => None,
        });
        let pattern: Vec<bool> = pattern.collect::<Option<_>>()?;
        // checked first: a repetition is as long as it says
        pattern.len().checked_mul(times).filter(|more| *more <= n_layers - all.len())?;
        all.extend(pattern.repeat(times));
        Some(all)
    };
    let all = groups.iter().try_fold(Vec::new(), with).filter(|all| all.len() == n_layers);
    let all = all.ok_or_else(|| keys.unsupported("attention_types", &Value::Array(groups), &supported))?;
    let names = || all.iter().map(|&local| Value::from(if local { "local" } else { "global" }));
    match written_out {
        Some(list) if !list.iter().cloned().eq(names()) => {
            let hint = "what `attention_types` says, layer by layer";
            Err(keys.unsupported("attention_layers", &Value::Array(list), hint))
        }
        _ => Ok(all),
    }
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    const NAMES: Names = gpt2::NAMES;
    decoder(config, keys, tensors, &NAMES, Some(("wpe", 0)), |part, layer| {
        part.skip(&["attn.attention.bias", "attn.attention.masked_bias"]); // the mask, and what it is filled with
        let names = ["q_proj", "k_proj", "v_proj", "out_proj"].map(|name| format!("attn.attention.{name}"));
        let attention = part.attention(layer, names.each_ref().map(String::as_str), false, true)?;
        let (ln1, ln2) = (part.norm("ln_1")?, part.norm("ln_2")?);
        Block::new(part.c.wiring, ln1, attention, ln2, part.plain_mlp(["mlp.c_fc", "mlp.c_proj"], true)?)
    })
}
