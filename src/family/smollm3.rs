//! SmolLM3 (Hugging Face 2025): Llama without rotation in every fourth layer.

use serde_json::Value;

use super::rope::{Defaults, USUAL, rotary};
use super::{Family, llama, sliding};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Config, Layer, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "smollm3",
    about: "Llama without rotation in some layers",
    model_types: &["smollm3"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = llama::sizes(keys, llama::RMS)?;
    let rotary = rotary(keys, c.d_head, c.n_ctx, Defaults { base: 2e6, ..USUAL })?;
    let every = keys.size_opt("no_rope_layer_interval")?.unwrap_or(4);
    let usual =
        || (1..=c.n_layers).map(|layer| Value::from(u8::from(!layer.is_multiple_of(every)))).collect();
    // 1 where there is rotation
    let rotated: Vec<Value> = keys.list_opt("no_rope_layers")?.unwrap_or_else(usual);
    if rotated.len() != c.n_layers || rotated.iter().any(|flag| !matches!(flag.as_u64(), Some(0 | 1))) {
        let hint = format!("{} times 0 or 1", c.n_layers);
        return Err(keys.unsupported("no_rope_layers", &Value::Array(rotated), &hint));
    }
    let window = keys.size_opt("sliding_window")?;
    let used = keys.flag_or("use_sliding_window", false)?;
    keys.ignore(&["max_window_layers"]); // read by nobody
    let slides = sliding(keys, c.n_layers, window, |layer| {
        used && window.is_some() && rotated[layer].as_u64() == Some(0)
    })?;
    let layer = |(rotated, slides): (&Value, bool)| Layer {
        rotary: Some(rotary.clone()).filter(|_| rotated.as_u64() == Some(1)),
        window: window.filter(|_| slides),
        ..Layer::plain(c.d_head)
    };
    Ok(Config { layers: rotated.iter().zip(slides).map(layer).collect(), ..c })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let attention = keys.flag_or("attention_bias", false)?;
    let mlp = keys.flag_or("mlp_bias", false)?;
    llama::tied(config, keys, tensors, [attention, attention, mlp])
}
