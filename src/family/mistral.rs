//! Mistral (Jiang et al. 2023): Llama with a sliding window.

use super::rope::{USUAL, rotary};
use super::{Family, llama};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Config, Layer, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "mistral",
    about: "RMSNorm, rotary positions, grouped queries, sliding window, gated MLP",
    model_types: &["mistral"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = llama::sizes(keys, llama::RMS)?;
    let rotary = Some(rotary(keys, c.d_head, c.n_ctx, USUAL)?);
    let window = keys.size_or_null("sliding_window", 4096)?;
    Ok(Config { layers: vec![Layer { rotary, window, ..Layer::plain(c.d_head) }], ..c })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    llama::plain(config, keys, tensors, [false, false, false])
}
