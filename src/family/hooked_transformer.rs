//! The toy models that papers are written on: a `config.json` in the fields of the classic TransformerLens
//! `HookedTransformerConfig`, weights under its names and in its layouts.

use candle_core::Tensor;
use serde_json::Value;

use super::{Family, even, shared_width};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::Pairs;
use crate::model::{
    Activation, Attention, Block, Config, Dense, Layer, Linear, Mlp, MlpKind, Norm, NormKind, PositionKind,
    Rotary, RotaryScaling, Transformer, Wiring,
};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "hooked_transformer",
    about: "toy models in TransformerLens' own fields and names: any norm or none, any activation, with MLP or without",
    model_types: &["hooked_transformer"],
    config,
    build,
};

/// Fields that say how the library worked, not what the model is.
const BOOKKEEPING: &[&str] = &[
    // of `use_NTK_by_parts_rope`, which is not supported
    "NTK_by_parts_factor",
    "NTK_by_parts_high_freq_factor",
    "NTK_by_parts_low_freq_factor",
    "NTK_original_ctx_len",
    "checkpoint_index",
    "checkpoint_label_type",
    "checkpoint_value",
    "default_prepend_bos",
    "device",
    "from_checkpoint",
    "init_mode",
    "init_weights",
    "model_name",
    "n_devices",
    "n_params",
    "original_architecture",
    "seed",
    "tokenizer_name",
    "tokenizer_prepends_bos",
    "trust_remote_code",
    "ungroup_grouped_query_attention",
    "use_attn_in",
    "use_attn_result",
    "use_hook_mlp_in",
    "use_hook_tokens",
    "use_split_qkv_input",
];

fn config(keys: &mut Keys) -> Result<Config> {
    keys.ignore(BOOKKEEPING);
    for name in [
        "load_in_4bit",
        "post_embedding_ln",
        "tie_word_embeddings",
        "use_NTK_by_parts_rope",
        "use_normalization_before_and_after",
    ] {
        keys.only(name, false)?;
    }
    let d_model = keys.size("d_model")?;
    let d_head = match sized(keys, "d_head")? {
        Some(d_head) => d_head,
        None => {
            let n_heads = keys.few("n_heads")?;
            shared_width(keys, d_model, n_heads, "n_heads")?
        }
    };
    let n_heads = sized(keys, "n_heads")?.unwrap_or((d_model / d_head).max(1));
    let n_kv_heads = keys.few_opt("n_key_value_heads")?.unwrap_or(n_heads);
    if !n_heads.is_multiple_of(n_kv_heads) {
        let divisors = format!("divisors of the {n_heads} query heads");
        return Err(keys.unsupported("n_key_value_heads", &Value::from(n_kv_heads), &divisors));
    }
    let (n_layers, n_ctx, d_vocab) = (keys.few("n_layers")?, keys.size("n_ctx")?, keys.size("d_vocab")?);
    let attn_only = keys.flag_or("attn_only", false)?;
    let gated = keys.flag_or("gated_mlp", false)?;
    let (norm, weighed) = norm(keys)?;
    if attn_only {
        keys.ignore(&["act_fn"]); // of no neuron
    }
    let (activation, mlp_norm) = if attn_only { (Activation::Relu, false) } else { response(keys)? };
    let d_mlp = sized(keys, "d_mlp")?.unwrap_or(4 * d_model);
    let positions = keys.word_opt("positional_embedding_type")?.unwrap_or_else(|| "standard".into());
    let kinds = "standard, shortformer, rotary";
    let positions = match positions.as_str() {
        "standard" => PositionKind::Learned,
        "shortformer" => PositionKind::Shortformer,
        "rotary" => PositionKind::None,
        _ => return Err(keys.unsupported("positional_embedding_type", &Value::String(positions), kinds)),
    };
    let parallel = keys.flag_or("parallel_attn_mlp", false)?;
    Ok(Config {
        d_model,
        n_layers,
        n_heads,
        n_kv_heads,
        d_head,
        d_mlp,
        d_vocab,
        d_vocab_out: sized(keys, "d_vocab_out")?.unwrap_or(d_vocab),
        n_ctx,
        norm,
        norm_eps: keys.positive_or("eps", 1e-5)?,
        norm_gain: weighed,
        norm_bias: weighed && norm == NormKind::Layer,
        final_norm: norm != NormKind::None,
        wiring: if parallel { Wiring::Parallel } else { Wiring::Sequential },
        positions,
        layers: layers(keys, d_head, n_layers, positions == PositionKind::None)?,
        score_cap: sized_number(keys, "attn_scores_soft_cap")?,
        activation,
        mlp: match (attn_only, gated) {
            (true, _) => MlpKind::Absent,
            (false, true) => MlpKind::Gated,
            (false, false) => MlpKind::Plain,
        },
        mlp_norm,
        logit_cap: sized_number(keys, "output_logits_soft_cap")?,
        causal: direction(keys)?,
        ..Config::default()
    })
}

/// A count, where −1 (as `null`) leaves it to the other fields.
fn sized(keys: &mut Keys, name: &str) -> Result<Option<usize>> {
    Ok(if keys.number_opt(name)? == Some(-1.0) { None } else { keys.size_opt(name)? })
}

/// A number above 0, where −1 (as `null`) means none.
fn sized_number(keys: &mut Keys, name: &str) -> Result<Option<f64>> {
    Ok(if keys.number_opt(name)? == Some(-1.0) { None } else { keys.positive_opt(name)? })
}

/// The norm, and whether it has weights.
fn norm(keys: &mut Keys) -> Result<(NormKind, bool)> {
    let Some(kind) = keys.word_or_null("normalization_type", "LN")? else {
        return Ok((NormKind::None, false));
    };
    Ok(match kind.as_str() {
        "LN" => (NormKind::Layer, true),
        "LNPre" => (NormKind::Layer, false),
        "RMS" => (NormKind::Rms, true),
        "RMSPre" => (NormKind::Rms, false),
        _ => {
            let known = "null, LN, LNPre, RMS, RMSPre";
            return Err(keys.unsupported("normalization_type", &Value::String(kind), known));
        }
    })
}

/// The activation, and whether a norm over the neurons follows it.
fn response(keys: &mut Keys) -> Result<(Activation, bool)> {
    let Some(word) = keys.word_opt("act_fn")? else {
        return Err(keys.unsupported("act_fn", &Value::Null, "a name, as the model has an MLP"));
    };
    let (name, normed) = word.strip_suffix("_ln").map_or((word.as_str(), false), |name| (name, true));
    let activation = match name {
        "relu" => Activation::Relu,
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Activation::GeluTanh,
        "silu" => Activation::Silu,
        "solu" => Activation::Solu,
        "quick_gelu" => Activation::QuickGelu,
        _ => {
            let known =
                "relu, gelu, gelu_new, gelu_fast, silu, solu, quick_gelu; with `_ln` also a norm behind it";
            return Err(keys.unsupported("act_fn", &Value::String(word), known));
        }
    };
    Ok((activation, normed))
}

fn direction(keys: &mut Keys) -> Result<bool> {
    let word = keys.word_opt("attention_dir")?.unwrap_or_else(|| "causal".into());
    match word.as_str() {
        "causal" => Ok(true),
        "bidirectional" => Ok(false),
        _ => Err(keys.unsupported("attention_dir", &Value::String(word), "causal, bidirectional")),
    }
}

fn layers(keys: &mut Keys, d_head: usize, n_layers: usize, rotated: bool) -> Result<Vec<Layer>> {
    let divisor = sized_number(keys, "attn_scale")?.unwrap_or((d_head as f64).sqrt());
    let scale = if keys.flag_or("use_attn_scale", true)? { 1.0 / divisor } else { 1.0 };
    let by_layer = keys.flag_or("scale_attn_by_inverse_layer_idx", false)?;
    let base = keys.positive_or("rotary_base", 10_000.0)?;
    let dims = if rotated { even(keys, "rotary_dim", d_head, d_head)? } else { 0 };
    let adjacent = keys.flag_or("rotary_adjacent_pairs", false)?;
    if !rotated {
        keys.ignore(&["rotary_dim"]);
    }
    let pairs = if adjacent { Pairs::Adjacent } else { Pairs::Halves };
    let rotary = rotated.then_some(Rotary { base, dims, pairs, scaling: RotaryScaling::None });
    let window = keys.size_opt("window_size")?;
    let kinds = keys.list_opt("attn_types")?.unwrap_or_default();
    let local = keys.flag_or("use_local_attn", false)?;
    let named = |layer: usize| kinds.get(layer).and_then(Value::as_str);
    if local
        && (window.is_none() || (0..n_layers).any(|layer| !matches!(named(layer), Some("local" | "global"))))
    {
        let hint = format!("{n_layers} times \"local\" or \"global\", with a `window_size`");
        return Err(keys.unsupported("attn_types", &Value::Array(kinds.clone()), &hint));
    }
    let layer = |layer: usize| Layer {
        scale: if by_layer { scale / (layer + 1) as f64 } else { scale },
        window: window.filter(|_| local && named(layer) == Some("local")),
        rotary: rotary.clone(),
        ..Layer::plain(d_head)
    };
    Ok((0..n_layers).map(layer).collect())
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let c = &config;
    let final_rms = keys.flag_or("final_rms", false)?;
    let embed = tensors.take("embed.W_E", &[c.d_vocab, c.d_model])?;
    let learned = c.positions != PositionKind::None;
    let pos_embed = learned.then(|| tensors.take("pos_embed.W_pos", &[c.n_ctx, c.d_model])).transpose()?;
    let blocks = (0..c.n_layers).map(|layer| block(c, layer, tensors)).collect::<Result<_>>()?;
    let final_kind = if final_rms && c.norm == NormKind::Layer { NormKind::Rms } else { c.norm };
    let ln_final = norm_of(c, final_kind, tensors, "ln_final", c.d_model)?;
    let w = tensors.take("unembed.W_U", &[c.d_model, c.d_vocab_out])?;
    let unembed = Linear { w, b: bias(tensors, "unembed.b_U", &[c.d_vocab_out])? };
    Ok(Transformer { config, embed, pos_embed, blocks, ln_final, unembed })
}

fn block(c: &Config, layer: usize, tensors: &mut Tensors) -> Result<Block> {
    let name = |part: &str| format!("blocks.{layer}.{part}");
    // the mask, what it is filled with, and tables that follow from the config
    for buffer in ["mask", "IGNORE", "rotary_sin", "rotary_cos"] {
        tensors.skip(&name(&format!("attn.{buffer}")));
    }
    let (d, e) = (c.d_model, c.d_head);
    let mut reader = |what: &str, heads: usize| -> Result<Linear> {
        // grouped heads are kept under names of their own
        let grouped = name(&format!("attn._W_{what}"));
        let own = if tensors.has(&grouped) { "_" } else { "" };
        let w = tensors.take(&name(&format!("attn.{own}W_{what}")), &[heads, d, e])?;
        let b = bias(tensors, &name(&format!("attn.{own}b_{what}")), &[heads, e])?;
        let b = b.map(|b| b.reshape(heads * e)).transpose()?;
        Ok(Linear { w: w.permute((1, 0, 2))?.reshape((d, heads * e))?, b })
    };
    let (q, k, v) = (reader("Q", c.n_heads)?, reader("K", c.n_kv_heads)?, reader("V", c.n_kv_heads)?);
    let w_o = tensors.take(&name("attn.W_O"), &[c.n_heads, e, d])?.reshape((c.n_heads * e, d))?;
    let o = Linear { w: w_o, b: bias(tensors, &name("attn.b_O"), &[d])? };
    let ln1 = norm_of(c, c.norm, tensors, &name("ln1"), d)?;
    let attention = Attention::new(c, layer, [q, k, v, o]);
    if c.mlp == MlpKind::Absent {
        return Block::new(c.wiring, ln1, attention, Norm::none(&tensors.ones(1)?)?, Mlp::Absent);
    }
    let ln2 = norm_of(c, c.norm, tensors, &name("ln2"), d)?;
    let gated = c.mlp == MlpKind::Gated;
    let w_in = tensors.take(&name("mlp.W_in"), &[d, c.d_mlp])?;
    let b_in = bias(tensors, &name("mlp.b_in"), &[c.d_mlp])?;
    let out = tensors.take(&name("mlp.W_out"), &[c.d_mlp, d])?;
    let out = Linear { w: out, b: bias(tensors, &name("mlp.b_out"), &[d])? };
    let neurons = c.mlp_norm.then(|| norm_of(c, c.norm, tensors, &name("mlp.ln"), c.d_mlp)).transpose()?;
    let plain = |pre: Linear| Dense { norm: neurons, ..Dense::plain(pre, out, c.activation) };
    let mlp = if gated {
        // the bias of a gated MLP comes behind the product
        let gate = tensors.take(&name("mlp.W_gate"), &[d, c.d_mlp])?;
        let linear = Some(Linear { w: w_in, b: None });
        Dense { linear, shift: b_in, ..plain(Linear { w: gate, b: None }) }
    } else {
        plain(Linear { w: w_in, b: b_in })
    };
    Block::new(c.wiring, ln1, attention, ln2, Mlp::Dense(mlp))
}

/// A bias, if the file has it: one that is missing is zero.
fn bias(tensors: &mut Tensors, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
    if tensors.has(name) { tensors.take(name, shape).map(Some) } else { Ok(None) }
}

fn norm_of(c: &Config, kind: NormKind, tensors: &mut Tensors, name: &str, width: usize) -> Result<Norm> {
    if kind == NormKind::None {
        return Norm::none(&tensors.ones(1)?);
    }
    let gain =
        if c.norm_gain { tensors.take(&format!("{name}.w"), &[width])? } else { tensors.ones(width)? };
    let biased = c.norm_gain && kind == NormKind::Layer;
    let bias = biased.then(|| tensors.take(&format!("{name}.b"), &[width])).transpose()?;
    Ok(Norm { kind, eps: c.norm_eps, gain, bias })
}
