//! One file per model family: which config keys and tensors it has, and what they mean.
//!
//! A family turns keys into a [`Config`] and tensors into a [`Transformer`]. Both readers are strict, so a family that
//! overlooks something fails to load rather than compute something else. The names of families appear nowhere else.

pub mod gpt2;
pub mod llama;

use serde_json::Value;

use crate::checkpoint::{Directory, Keys, Need, Tensors, available};
use crate::error::{Error, Result};
use crate::model::{Activation, Config, Linear, Transformer};
use candle_core::{DType, Device, Tensor};

/// How checkpoints of one family are read.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// What it is called.
    pub name: &'static str,
    /// What distinguishes it, for `glassbox list families`.
    pub about: &'static str,
    /// The values of `model_type` it reads.
    pub model_types: &'static [&'static str],
    /// Config keys → architecture.
    pub config: fn(&mut Keys) -> Result<Config>,
    /// Tensors → model. What only the layout of the weights depends on is read from the keys here.
    pub build: fn(Config, &mut Keys, &mut Tensors) -> Result<Transformer>,
}

/// Every family.
pub const FAMILIES: &[Family] = &[gpt2::FAMILY, llama::FAMILY];

/// The family that reads a `model_type`.
pub fn find(model_type: &str) -> Result<&'static Family> {
    FAMILIES.iter().find(|family| family.model_types.contains(&model_type)).ok_or_else(|| {
        let known: Vec<&str> = FAMILIES.iter().flat_map(|family| family.model_types).copied().collect();
        Error::input(
            format!("config.json: models of type {model_type:?} are not supported"),
            format!("supported: {}; see `glassbox list families`", known.join(", ")),
        )
    })
}

/// The model in a directory, computed in `dtype`; the family that read it; how many weights it has.
pub fn load(
    directory: &Directory,
    dtype: DType,
    device: &Device,
) -> Result<(Transformer, &'static Family, usize)> {
    let (mut keys, family, config, mut tensors) = open(directory, dtype, device)?;
    tensors.need([config.d_vocab, config.d_model]).check(directory.name(), available())?;
    let model = (family.build)(config, &mut keys, &mut tensors)?;
    keys.finish()?;
    tensors.finish()?;
    Ok((model, family, tensors.parameters()))
}

/// What loading the model in a directory takes.
pub fn need(directory: &Directory, dtype: DType, device: &Device) -> Result<Need> {
    let (_, _, config, tensors) = open(directory, dtype, device)?;
    Ok(tensors.need([config.d_vocab, config.d_model]))
}

/// Config and headers: all that is read before memory is taken.
fn open(
    directory: &Directory,
    dtype: DType,
    device: &Device,
) -> Result<(Keys, &'static Family, Config, Tensors)> {
    let mut keys = directory.keys()?;
    let model_type = keys.word_opt("model_type")?.ok_or_else(|| {
        let known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        Error::input(
            "config.json: the key `model_type` is missing",
            format!("it is one of {}", known.join(", ")),
        )
    })?;
    let family = find(&model_type)?;
    // Nothing but a plain decoder.
    keys.only("is_encoder_decoder", false)?;
    keys.only("add_cross_attention", false)?;
    keys.only("tie_encoder_decoder", false)?;
    keys.only("pruned_heads", Value::Object(serde_json::Map::new()))?;
    let config = (family.config)(&mut keys)?;
    Ok((keys, family, config, directory.tensors(dtype, device)?))
}

/// The neurons' response that a key names, in the words of Hugging Face's `ACT2FN`.
fn activation(keys: &mut Keys, name: &str, default: Activation) -> Result<Activation> {
    let Some(word) = keys.word_opt(name)? else { return Ok(default) };
    Ok(match word.as_str() {
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_python_tanh" => Activation::GeluTanh,
        "gelu" | "gelu_python" => Activation::Gelu,
        "silu" | "swish" => Activation::Silu,
        "relu" => Activation::Relu,
        _ => {
            let supported = "gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, silu, relu";
            return Err(keys.unsupported(name, &Value::String(word), supported));
        }
    })
}

/// Width of a head when the heads share the stream: `d_model / n_heads`.
fn shared_width(keys: &Keys, d_model: usize, n_heads: usize, name: &str) -> Result<usize> {
    if d_model.is_multiple_of(n_heads) {
        return Ok(d_model / n_heads);
    }
    Err(keys.unsupported(name, &Value::from(n_heads), &format!("divisors of the width {d_model}")))
}

/// A linear map whose weights the file holds as `[d_out, d_in]`, the way of torch's `Linear`.
fn linear(tensors: &mut Tensors, name: &str, d_in: usize, d_out: usize, bias: bool) -> Result<Linear> {
    let w = tensors.take_turned(&format!("{name}.weight"), d_out, d_in)?;
    let b = bias.then(|| tensors.take(&format!("{name}.bias"), &[d_out])).transpose()?;
    Ok(Linear { w, b })
}

/// The unembedding: the embedding turned over if `tie_word_embeddings`, else `lm_head.weight`. `embed` names the embedding.
fn unembed(keys: &mut Keys, tensors: &mut Tensors, tied: bool, embed: (&str, &Tensor)) -> Result<Linear> {
    const HEAD: &str = "lm_head.weight";
    let (d_vocab, d_model) = embed.1.dims2()?;
    if !keys.flag_or("tie_word_embeddings", tied)? {
        return Ok(Linear { w: tensors.take_turned(HEAD, d_vocab, d_model)?, b: None });
    }
    if tensors.has(HEAD) {
        tensors.copy_of(HEAD, embed.0)?;
    }
    Ok(Linear { w: embed.1.t()?.contiguous()?, b: None })
}
