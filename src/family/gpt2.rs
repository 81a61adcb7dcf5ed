//! GPT-2 (Radford et al. 2019): LayerNorm before each part, learned positions, a plain MLP.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde_json::{Value, json};

use super::parts::{Names, Part, Split, decoder};
use super::{Family, activation, shared_width};
use crate::checkpoint::{Keys, Tensors};
use crate::error::{Error, Result};
use crate::model::{
    Activation, Attention, Block, Config, Dense, Layer, Linear, Mlp, MlpKind, Transformer, Wiring,
};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "gpt2",
    about: "LayerNorm, learned positions, plain MLP; tied or untied unembedding",
    model_types: &["gpt2"],
    config,
    build,
};

/// GPT-2's names.
pub(super) const NAMES: Names = Names {
    prefixes: &["transformer."],
    embed: "wte",
    blocks: "h",
    ln_final: "ln_f",
    head: "lm_head",
    tied: true,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let mut c = sizes(keys)?;
    let scaled = keys.flag_or("scale_attn_weights", true)?;
    let by_layer = keys.flag_or("scale_attn_by_inverse_layer_idx", false)?;
    let scale = if scaled { 1.0 / (c.d_head as f64).sqrt() } else { 1.0 };
    let scale = |layer: usize| if by_layer { scale / (layer + 1) as f64 } else { scale };
    // one entry, which repeats, where layers do not differ
    let different = if by_layer { c.n_layers } else { 1 };
    c.layers = (0..different).map(|layer| Layer { scale: scale(layer), ..Layer::plain(c.d_head) }).collect();
    Ok(c)
}

/// The keys that GPT-2's kin share.
pub(super) fn sizes(keys: &mut Keys) -> Result<Config> {
    let (d_model, n_heads, n_ctx) = (keys.size("n_embd")?, keys.few("n_head")?, keys.size("n_positions")?);
    keys.only("n_ctx", n_ctx)?;
    // Only the rounding of half precision, in which nothing is computed here.
    keys.ignore(&["reorder_and_upcast_attn"]);
    // Of the first release, read by nobody.
    keys.ignore(&["n_special", "predict_special_tokens"]);
    let d_vocab = keys.size("vocab_size")?;
    Ok(Config {
        d_model,
        n_layers: keys.few("n_layer")?,
        n_heads,
        n_kv_heads: n_heads,
        d_head: shared_width(keys, d_model, n_heads, "n_head")?,
        d_mlp: keys.size_opt("n_inner")?.unwrap_or(4 * d_model),
        d_vocab,
        d_vocab_out: d_vocab,
        n_ctx,
        norm_eps: keys.positive_or("layer_norm_epsilon", 1e-5)?,
        activation: activation(keys, "activation_function", Activation::GeluTanh)?,
        ..Config::default()
    })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    decoder(config, keys, tensors, &NAMES, Some(("wpe", 0)), |part, layer| {
        let c = part.c;
        part.skip(&["attn.bias", "attn.masked_bias"]); // the causal mask, and what it is filled with
        let fused = conv1d(part, "attn.c_attn", c.d_model, 3 * c.d_model)?;
        let [q, k, v] = Split::Thirds.apart(&fused, c)?;
        let o = conv1d(part, "attn.c_proj", c.d_model, c.d_model)?;
        let (pre, out) = ("mlp.c_fc", "mlp.c_proj");
        let mlp = Dense::plain(
            conv1d(part, pre, c.d_model, c.d_mlp)?,
            conv1d(part, out, c.d_mlp, c.d_model)?,
            c.activation,
        );
        let (ln1, ln2) = (part.norm("ln_1")?, part.norm("ln_2")?);
        Block::new(c.wiring, ln1, Attention::new(c, layer, [q, k, v, o]), ln2, Mlp::Dense(mlp))
    })
}

/// The files' `Conv1D` holds `[d_in, d_out]`, as we do.
fn conv1d(part: &mut Part, name: &str, d_in: usize, d_out: usize) -> Result<Linear> {
    let w = part.take(&format!("{name}.weight"), &[d_in, d_out])?;
    Ok(Linear { w, b: Some(part.take(&format!("{name}.bias"), &[d_out])?) })
}

/// A model as tensors under Hugging Face's names, unembedding untied: what [`build`](FAMILY) reads back bit for bit.
pub fn export(model: &Transformer) -> Result<BTreeMap<String, Tensor>> {
    fits(&model.config)?;
    let mut out = BTreeMap::new();
    let mut put = |name: String, tensor: Tensor| out.insert(name, tensor);
    let missing =
        || Error::input("a part of the model has no bias, but this layout needs one", "give it zeros");
    let positions = model.pos_embed.clone().ok_or_else(|| foreign("positions"))?;
    if model.unembed.b.is_some() {
        return Err(Error::input(
            "the unembedding has a bias, which this layout cannot hold",
            "leave it out",
        ));
    }
    put("transformer.wte.weight".into(), model.embed.clone());
    put("transformer.wpe.weight".into(), positions);
    put("lm_head.weight".into(), model.unembed.w.t()?.contiguous()?);
    let mut pair = |name: String, weight: Tensor, bias: Option<Tensor>| -> Result<()> {
        put(format!("{name}.weight"), weight);
        put(format!("{name}.bias"), bias.ok_or_else(missing)?);
        Ok(())
    };
    pair("transformer.ln_f".into(), model.ln_final.gain.clone(), model.ln_final.bias.clone())?;
    for (layer, block) in model.blocks.iter().enumerate() {
        let name = |part: &str| format!("transformer.h.{layer}.{part}");
        let Attention { q, k, v, o, .. } = &block.attention;
        let biases = [q, k, v].map(|part| part.b.as_ref());
        let bias = match biases {
            [Some(q), Some(k), Some(v)] => Some(Tensor::cat(&[q, k, v], 0)?),
            _ => None,
        };
        pair(name("attn.c_attn"), Tensor::cat(&[&q.w, &k.w, &v.w], 1)?.contiguous()?, bias)?;
        let mlp = block.mlp.dense().ok_or_else(|| foreign("the MLP"))?;
        for (part, linear) in [("attn.c_proj", o), ("mlp.c_fc", &mlp.pre), ("mlp.c_proj", &mlp.out)] {
            pair(name(part), linear.w.clone(), linear.b.clone())?;
        }
        for (part, norm) in [("ln_1", &block.ln1), ("ln_2", &block.ln2)] {
            pair(name(part), norm.gain.clone(), norm.bias.clone())?;
        }
    }
    Ok(out)
}

/// The `config.json` that belongs to [`export`]ed tensors.
pub fn config_json(config: &Config) -> Result<Value> {
    fits(config)?;
    let activation = match config.activation {
        Activation::GeluTanh => "gelu_new",
        Activation::Gelu => "gelu",
        Activation::QuickGelu => "quick_gelu",
        Activation::Silu => "silu",
        Activation::Relu => "relu",
        Activation::ReluSquared => "relu2",
        Activation::Solu => return Err(foreign("the activation")),
    };
    Ok(json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": activation,
        "layer_norm_epsilon": config.norm_eps,
        "n_ctx": config.n_ctx,
        "n_embd": config.d_model,
        "n_head": config.n_heads,
        "n_inner": config.d_mlp,
        "n_layer": config.n_layers,
        "n_positions": config.n_ctx,
        "tie_word_embeddings": false,
        "vocab_size": config.d_vocab,
    }))
}

/// Checks that an architecture can be written in this layout: with these sizes and this activation, it is GPT-2's own.
fn fits(c: &Config) -> Result<()> {
    let Config { d_model, n_layers, n_heads, d_head, d_mlp, d_vocab, n_ctx, norm_eps, activation, .. } = *c;
    let own = Config {
        d_model,
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp,
        d_vocab,
        d_vocab_out: d_vocab,
        n_ctx,
        norm_eps,
        activation,
        ..Config::default()
    };
    let plain = [
        ("the norm", c.norm == own.norm && c.norm_gain && c.norm_bias),
        ("positions", c.positions == own.positions),
        ("the MLP", c.mlp == MlpKind::Plain && c.experts.is_none()),
        ("grouped heads", c.n_kv_heads == c.n_heads),
        ("the width of heads", c.n_heads * c.d_head == c.d_model),
        ("the attention mask", c.causal),
        ("the wiring", c.wiring == Wiring::Sequential),
        ("attention", (0..c.n_layers).all(|layer| c.layer(layer) == Layer::plain(c.d_head))),
        ("something else", own == Config { layers: Vec::new(), ..c.clone() }),
    ];
    plain.iter().try_for_each(|(what, fits)| if *fits { Ok(()) } else { Err(foreign(what)) })
}

fn foreign(what: &str) -> Error {
    Error::input(
        format!("the model cannot be written in GPT-2 layout: {what} would not fit"),
        "only LayerNorm, learned positions, a plain MLP and one key-value head per head do",
    )
}
