//! One file per model family: which config keys and tensors it has, and what they mean.
//!
//! A family turns keys into a [`Config`] and tensors into a [`Transformer`]. Both readers are strict, so a family that
//! overlooks something fails to load rather than compute something else. The names of families appear nowhere else.

mod bloom;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
pub mod gpt2;
mod gpt_bigcode;
mod gpt_neo;
mod gpt_neox;
mod gpt_oss;
mod gptj;
mod granite;
mod hooked_transformer;
mod llama;
mod mistral;
mod mixtral;
mod olmo;
mod olmo2;
mod opt;
mod parts;
mod phi;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_moe;
mod rope;
mod smollm3;
mod stablelm;
mod starcoder2;

use serde_json::Value;

use crate::checkpoint::{Directory, Keys, Need, Tensors, available};
use crate::error::{Error, Result};
use crate::model::{Activation, Config, Dense, Routing, Transformer};
use candle_core::{DType, Device};

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
pub const FAMILIES: &[Family] = &[
    bloom::FAMILY,
    falcon::FAMILY,
    gemma::FAMILY,
    gemma2::FAMILY,
    gemma3::FAMILY,
    gpt2::FAMILY,
    gpt_bigcode::FAMILY,
    gpt_neo::FAMILY,
    gpt_neox::FAMILY,
    gpt_oss::FAMILY,
    gptj::FAMILY,
    granite::FAMILY,
    hooked_transformer::FAMILY,
    llama::FAMILY,
    mistral::FAMILY,
    mixtral::FAMILY,
    olmo::FAMILY,
    olmo2::FAMILY,
    opt::FAMILY,
    phi::FAMILY,
    phi3::FAMILY,
    qwen2::FAMILY,
    qwen3::FAMILY,
    qwen3_moe::FAMILY,
    smollm3::FAMILY,
    stablelm::FAMILY,
    starcoder2::FAMILY,
];

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
    let mut model = (family.build)(config, &mut keys, &mut tensors)?;
    model.blocks.iter_mut().filter_map(|block| block.mlp.dense_mut()).try_for_each(Dense::lay_out)?;
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
    // the classic library's own files name no type, but their fields do
    let classic = ["d_model", "n_layers", "n_ctx", "d_vocab"].iter().all(|name| keys.has(name));
    let classic = classic.then(|| hooked_transformer::FAMILY.name.to_owned());
    let model_type = keys.word_opt("model_type")?.or(classic).ok_or_else(|| {
        let known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        Error::input(
            "config.json: the key `model_type` is missing",
            format!("it is one of {}", known.join(", ")),
        )
    })?;
    let family = find(&model_type)?;
    if let Some(mut quantisation) = keys.object_opt("quantization_config")? {
        return Err(quantised(quantisation.word_opt("quant_method")?));
    }
    // Nothing but a plain decoder.
    keys.only("is_encoder_decoder", false)?;
    keys.only("add_cross_attention", false)?;
    keys.only("tie_encoder_decoder", false)?;
    keys.only("pruned_heads", Value::Object(serde_json::Map::new()))?;
    let mut config = (family.config)(&mut keys)?;
    config.n_ctx = rope::longest(&config);
    Ok((keys, family, config, directory.tensors(dtype, device)?))
}

/// Weights in fewer bits than a float has are another format altogether.
fn quantised(method: Option<String>) -> Error {
    let method = method.unwrap_or_else(|| "by an unnamed method".into());
    Error::input(
        format!("config.json: the weights are quantised ({method}), which is not supported"),
        "expand them once in Python, with enough memory: \
         `m = AutoModelForCausalLM.from_pretrained(DIR, device_map='cpu'); m.dequantize().save_pretrained(OUT)`",
    )
}

/// The neurons' response that a key names, in the words of Hugging Face's `ACT2FN`.
fn activation(keys: &mut Keys, name: &str, default: Activation) -> Result<Activation> {
    let Some(word) = keys.word_opt(name)? else { return Ok(default) };
    Ok(match word.as_str() {
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_python_tanh" => Activation::GeluTanh,
        "gelu" | "gelu_python" => Activation::Gelu,
        "quick_gelu" => Activation::QuickGelu,
        "relu2" | "relu_squared" => Activation::ReluSquared,
        "silu" | "swish" => Activation::Silu,
        "relu" => Activation::Relu,
        _ => {
            let supported = "gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, quick_gelu, silu, relu, relu2";
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

/// Which layers have a window: those that `layer_types` calls so, else those of the family's usual pattern. There must be a
/// window then.
fn sliding(
    keys: &mut Keys,
    n_layers: usize,
    window: Option<usize>,
    usual: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    let slides = named_or(keys, n_layers, usual)?;
    match window {
        None if slides.contains(&true) => {
            let hint =
                "a number, as there are layers with a window; or \"full_attention\" in all of `layer_types`";
            Err(keys.unsupported("sliding_window", &Value::Null, hint))
        }
        _ => Ok(slides),
    }
}

fn named_or(keys: &mut Keys, n_layers: usize, usual: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
    let Some(kinds) = keys.list_opt("layer_types")? else { return Ok((0..n_layers).map(usual).collect()) };
    let slides = |kind: &Value| match kind.as_str()? {
        "sliding_attention" => Some(true),
        "full_attention" => Some(false),
        _ => None,
    };
    let all: Option<Vec<bool>> = kinds.iter().map(slides).collect();
    all.filter(|all| all.len() == n_layers).ok_or_else(|| {
        let supported = format!("{n_layers} times \"full_attention\" or \"sliding_attention\"");
        keys.unsupported("layer_types", &Value::Array(kinds), &supported)
    })
}

/// An even number of entries of a head, or the default.
fn even(keys: &mut Keys, name: &str, default: usize, d_head: usize) -> Result<usize> {
    let dims = keys.size_opt(name)?.unwrap_or(default);
    if dims.is_multiple_of(2) && dims <= d_head {
        return Ok(dims);
    }
    Err(keys.unsupported(
        name,
        &Value::from(dims),
        &format!("even numbers up to the width of heads, {d_head}"),
    ))
}

/// Refuses to choose more experts than there are.
fn check_routing(keys: &Keys, routing: Routing) -> Result<Routing> {
    let Routing { experts, per_token, .. } = routing;
    if per_token <= experts {
        return Ok(routing);
    }
    let most = format!("up to the number of experts, {experts}");
    Err(keys.unsupported("num_experts_per_tok", &Value::from(per_token), &most))
}
