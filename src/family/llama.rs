//! Llama (Touvron et al. 2023; Grattafiori et al. 2024): RMSNorm, rotary positions, grouped queries, a gated MLP.

use serde_json::Value;

use super::parts::{LLAMA, Names, QKVO, decoder};
use super::rope::{USUAL, rotary};
use super::{Family, activation, shared_width};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Activation, Block, Config, Layer, MlpKind, NormKind, PositionKind, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "llama",
    about: "RMSNorm, rotary positions with every scaling, grouped queries, gated MLP",
    model_types: &["llama"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = sizes(keys, RMS)?;
    keys.only("rope_interleaved", false)?;
    keys.only("use_sliding_window", false)?;
    keys.ignore(&["is_llama_config", "max_sequence_length"]); // written by some trainers, read by nobody
    let rotary = rotary(keys, c.d_head, c.n_ctx, USUAL)?;
    Ok(Config { layers: vec![Layer { rotary: Some(rotary), ..Layer::plain(c.d_head) }], ..c })
}

/// The key of the norms' ε, and what it is where a config does not say; nothing where no key says it.
pub(super) type Epsilon = Option<(&'static str, f64)>;

/// Llama's own.
pub(super) const RMS: Epsilon = Some(("rms_norm_eps", 1e-6));

/// The keys that Llama's kin share: RMSNorm, a gated MLP, no layers yet.
pub(super) fn sizes(keys: &mut Keys, eps: Epsilon) -> Result<Config> {
    let (d_model, n_heads) = (keys.size("hidden_size")?, keys.few("num_attention_heads")?);
    let n_kv_heads = keys.few_opt("num_key_value_heads")?.unwrap_or(n_heads);
    if !n_heads.is_multiple_of(n_kv_heads) {
        let divisors = format!("divisors of the {n_heads} query heads");
        return Err(keys.unsupported("num_key_value_heads", &Value::from(n_kv_heads), &divisors));
    }
    let d_head = match keys.size_opt("head_dim")? {
        Some(width) => width,
        None => shared_width(keys, d_model, n_heads, "num_attention_heads")?,
    };
    if !d_head.is_multiple_of(2) {
        let even = "even widths, which pairs are rotated in";
        return Err(keys.unsupported("head_dim", &Value::from(d_head), even));
    }
    let d_vocab = keys.size("vocab_size")?;
    // the first conversions have it under another name
    let n_ctx = match keys.size_opt("max_position_embeddings")? {
        Some(n_ctx) => n_ctx,
        None => {
            keys.size_opt("max_sequence_length")?.ok_or_else(|| keys.absent("max_position_embeddings"))?
        }
    };
    Ok(Config {
        d_model,
        n_layers: keys.few("num_hidden_layers")?,
        n_heads,
        n_kv_heads,
        d_head,
        d_mlp: keys.size("intermediate_size")?,
        d_vocab,
        d_vocab_out: d_vocab,
        n_ctx,
        norm: NormKind::Rms,
        norm_eps: eps.map_or(Ok(1e-5), |(name, usual)| keys.positive_or(name, usual))?,
        norm_bias: false,
        positions: PositionKind::None,
        activation: activation(keys, "hidden_act", Activation::Silu)?,
        mlp: MlpKind::Gated,
        ..Config::default()
    })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let attention = keys.flag_or("attention_bias", false)?;
    let mlp = keys.flag_or("mlp_bias", false)?;
    plain(config, keys, tensors, [attention, attention, mlp])
}

/// Llama's tensors; biases of queries, keys and values, of attention's output, of the MLP.
pub(super) fn plain(
    c: Config,
    keys: &mut Keys,
    tensors: &mut Tensors,
    biases: [bool; 3],
) -> Result<Transformer> {
    named(c, keys, tensors, &LLAMA, biases)
}

/// The same, where the unembedding is the embedding unless the config says otherwise.
pub(super) fn tied(
    c: Config,
    keys: &mut Keys,
    tensors: &mut Tensors,
    biases: [bool; 3],
) -> Result<Transformer> {
    named(c, keys, tensors, &Names { tied: true, ..LLAMA }, biases)
}

fn named(
    c: Config,
    keys: &mut Keys,
    tensors: &mut Tensors,
    names: &Names,
    [qkv_bias, o_bias, mlp_bias]: [bool; 3],
) -> Result<Transformer> {
    decoder(c, keys, tensors, names, None, |part, layer| {
        let attention = part.attention(layer, QKVO, qkv_bias, o_bias)?;
        let (ln1, ln2) = (part.norm("input_layernorm")?, part.norm("post_attention_layernorm")?);
        Block::new(part.c.wiring, ln1, attention, ln2, part.gated_mlp(mlp_bias)?)
    })
}
