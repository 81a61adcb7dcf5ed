//! GPT-2 (Radford et al. 2019): LayerNorm before each part, learned positions, a plain MLP.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde_json::{Value, json};

use super::{Family, activation, shared_width, unembed};
use crate::checkpoint::{Keys, Tensors};
use crate::error::{Error, Result};
use crate::model::{
    Activation, Attention, Block, Config, Linear, Mlp, Norm, NormKind, PositionKind, Transformer,
};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "gpt2",
    about: "LayerNorm, learned positions, plain MLP; tied or untied unembedding",
    model_types: &["gpt2"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let (d_model, n_heads, n_ctx) = (keys.size("n_embd")?, keys.size("n_head")?, keys.size("n_positions")?);
    keys.only("n_ctx", n_ctx)?;
    // Only the rounding of half precision, in which nothing is computed here.
    keys.ignore(&["reorder_and_upcast_attn"]);
    Ok(Config {
        d_model,
        n_layers: keys.size("n_layer")?,
        n_heads,
        n_kv_heads: n_heads,
        d_head: shared_width(keys, d_model, n_heads, "n_head")?,
        d_mlp: keys.size_opt("n_inner")?.unwrap_or(4 * d_model),
        d_vocab: keys.size("vocab_size")?,
        n_ctx,
        norm: NormKind::Layer,
        norm_eps: keys.positive_or("layer_norm_epsilon", 1e-5)?,
        positions: PositionKind::Learned,
        activation: activation(keys, "activation_function", Activation::GeluTanh)?,
        gated_mlp: false,
        causal: true,
    })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let c = &config;
    let scaled = keys.flag_or("scale_attn_weights", true)?;
    let by_layer = keys.flag_or("scale_attn_by_inverse_layer_idx", false)?;
    let prefix = tensors.prefix(&["transformer."]);
    let wte = format!("{prefix}wte.weight");
    let embed = tensors.take(&wte, &[c.d_vocab, c.d_model])?;
    let pos_embed = Some(tensors.take(&format!("{prefix}wpe.weight"), &[c.n_ctx, c.d_model])?);
    let mut blocks = Vec::new();
    for layer in 0..c.n_layers {
        let name = |part: &str| format!("{prefix}h.{layer}.{part}");
        tensors.skip(&name("attn.bias")); // the causal mask
        tensors.skip(&name("attn.masked_bias")); // what it is filled with
        let fused = conv1d(tensors, &name("attn.c_attn"), c.d_model, 3 * c.d_model)?;
        let scale = if scaled { 1.0 / (c.d_head as f64).sqrt() } else { 1.0 };
        blocks.push(Block {
            ln1: norm(tensors, &name("ln_1"), c)?,
            attention: Attention {
                q: third(&fused, 0)?,
                k: third(&fused, 1)?,
                v: third(&fused, 2)?,
                o: conv1d(tensors, &name("attn.c_proj"), c.d_model, c.d_model)?,
                n_heads: c.n_heads,
                n_kv_heads: c.n_kv_heads,
                d_head: c.d_head,
                scale: if by_layer { scale / (layer + 1) as f64 } else { scale },
                causal: true,
                rotary: None,
            },
            ln2: norm(tensors, &name("ln_2"), c)?,
            mlp: Mlp {
                pre: conv1d(tensors, &name("mlp.c_fc"), c.d_model, c.d_mlp)?,
                linear: None,
                out: conv1d(tensors, &name("mlp.c_proj"), c.d_mlp, c.d_model)?,
                activation: c.activation,
            },
        });
    }
    let ln_final = norm(tensors, &format!("{prefix}ln_f"), c)?;
    let unembed = unembed(keys, tensors, true, (&wte, &embed))?;
    Ok(Transformer { config, embed, pos_embed, blocks, ln_final, unembed })
}

/// The files' `Conv1D` holds `[d_in, d_out]`, as we do.
fn conv1d(tensors: &mut Tensors, name: &str, d_in: usize, d_out: usize) -> Result<Linear> {
    let w = tensors.take(&format!("{name}.weight"), &[d_in, d_out])?;
    Ok(Linear { w, b: Some(tensors.take(&format!("{name}.bias"), &[d_out])?) })
}

/// Queries (0), keys (1) or values (2) of the fused `[d_model, 3·d_model]`.
fn third(fused: &Linear, part: usize) -> Result<Linear> {
    let width = fused.w.dim(1)? / 3;
    let w = fused.w.narrow(1, part * width, width)?.contiguous()?;
    let b = fused.b.as_ref().map(|b| b.narrow(0, part * width, width)?.copy()).transpose()?;
    Ok(Linear { w, b })
}

fn norm(tensors: &mut Tensors, name: &str, c: &Config) -> Result<Norm> {
    let gain = tensors.take(&format!("{name}.weight"), &[c.d_model])?;
    let bias = Some(tensors.take(&format!("{name}.bias"), &[c.d_model])?);
    Ok(Norm { kind: NormKind::Layer, eps: c.norm_eps, gain, bias })
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
        for (part, linear) in
            [("attn.c_proj", o), ("mlp.c_fc", &block.mlp.pre), ("mlp.c_proj", &block.mlp.out)]
        {
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
        Activation::Silu => "silu",
        Activation::Relu => "relu",
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

/// Checks that an architecture can be written in this layout.
fn fits(c: &Config) -> Result<()> {
    let plain = [
        ("the norm", c.norm == NormKind::Layer),
        ("positions", c.positions == PositionKind::Learned),
        ("the gated MLP", !c.gated_mlp),
        ("grouped heads", c.n_kv_heads == c.n_heads),
        ("the width of heads", c.n_heads * c.d_head == c.d_model),
        ("the attention mask", c.causal),
    ];
    plain.iter().try_for_each(|(what, fits)| if *fits { Ok(()) } else { Err(foreign(what)) })
}

fn foreign(what: &str) -> Error {
    Error::input(
        format!("the model cannot be written in GPT-2 layout: {what} would not fit"),
        "only LayerNorm, learned positions, a plain MLP and one key-value head per head do",
    )
}
