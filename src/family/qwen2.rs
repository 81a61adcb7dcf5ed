//! Qwen2 (Yang et al. 2024): Llama with biases of queries, keys and values, and sliding windows in upper layers.

use super::rope::{USUAL, rotary};
use super::{Family, llama, sliding};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Config, Layer, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "qwen2",
    about: "Llama with biases of queries, keys and values; sliding windows in some layers",
    model_types: &["qwen2"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    keys.only("use_mrope", false)?;
    let c = llama::sizes(keys, llama::RMS)?;
    let layers = layers(keys, &c)?;
    Ok(Config { layers, ..c })
}

/// Windows from `max_window_layers` on, or where `layer_types` says so, if `use_sliding_window`.
pub(super) fn layers(keys: &mut Keys, c: &Config) -> Result<Vec<Layer>> {
    let rotary = rotary(keys, c.d_head, c.n_ctx, USUAL)?;
    let window = keys.size_or_null("sliding_window", 4096)?;
    let window = window.filter(|_| keys.flag_or("use_sliding_window", false).is_ok_and(|used| used));
    keys.flag_or("use_sliding_window", false)?;
    let first = keys.count_or("max_window_layers", 28)?;
    let slides = sliding(keys, c.n_layers, window, |layer| window.is_some() && layer >= first)?;
    let layer = |slides: bool| Layer {
        rotary: Some(rotary.clone()),
        window: window.filter(|_| slides),
        ..Layer::plain(c.d_head)
    };
    Ok(slides.into_iter().map(layer).collect())
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    llama::plain(config, keys, tensors, [true, false, false])
}
