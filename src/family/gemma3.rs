//! Gemma 3's language model (Gemma Team 2025): Gemma 2 with norms of queries and keys in place of caps, and a rotation of
//! its own in layers with windows.

use serde_json::{Map, Value};

use super::parts::{LLAMA, Names, decoder};
use super::rope::{Defaults, Outer, USUAL, read};
use super::{Family, gemma, gemma2, sliding};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Config, Layer, QkNorm, Rotary, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "gemma3_text",
    about: "Gemma 2 with norms of queries and keys, local and global rotations",
    model_types: &["gemma3_text"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = gemma2::sizes(keys)?;
    let [local, global] = rotations(keys, &c)?;
    let window = keys.size_or_null("sliding_window", 4096)?;
    let scale = 1.0 / keys.positive_or("query_pre_attn_scalar", 256.0)?.sqrt();
    keys.ignore(&["_sliding_window_pattern"]); // what `layer_types` was made from
    let pattern = keys.size_opt("sliding_window_pattern")?.unwrap_or(6);
    let slides = sliding(keys, c.n_layers, window, |layer| !(layer + 1).is_multiple_of(pattern))?;
    let layer = |slides: bool| Layer {
        scale,
        rotary: Some(if slides { local.clone() } else { global.clone() }),
        window: window.filter(|_| slides),
        ..Layer::plain(c.d_head)
    };
    keys.only("attn_logit_softcapping", Value::Null)?;
    let logit_cap = keys.positive_opt("final_logit_softcapping")?;
    Ok(Config { layers: slides.into_iter().map(layer).collect(), qk_norm: QkNorm::Head, logit_cap, ..c })
}

/// The rotations of layers with and without windows: under `rope_parameters` by kind of layer, or in older configs
/// `rope_local_base_freq`, and `rope_theta` with `rope_scaling`.
fn rotations(keys: &mut Keys, c: &Config) -> Result<[Rotary; 2]> {
    let bases = [keys.positive_opt("rope_local_base_freq")?, keys.positive_opt("rope_theta")?];
    let older = keys.object_opt("rope_scaling")?;
    let mut newer = keys.object_opt("rope_parameters")?;
    let mut kind = |name: &str| match &mut newer {
        Some(newer) => newer.object_opt(name),
        None => Ok(None),
    };
    let objects = [kind("sliding_attention")?, kind("full_attention")?];
    if let Some(newer) = &newer {
        newer.finish()?;
    }
    let [local, global] = objects;
    let global = match (global, older) {
        (Some(_), Some(_)) => {
            let value = Value::from("a second rotation of full_attention");
            return Err(keys.unsupported("rope_scaling", &value, "one, in `rope_parameters` or here"));
        }
        (global, older) => global.or(older),
    };
    let rotary = |base: Option<f64>, usual: f64, object: Option<Keys>| {
        let outer = Outer { base, part: None, original: None, n_ctx: c.n_ctx as f64 };
        let mut object = object.unwrap_or_else(|| Keys::new("rope_parameters", Map::new()));
        read(&mut object, c.d_head, &outer, Defaults { base: usual, ..USUAL })
    };
    Ok([rotary(bases[0], 1e4, local)?, rotary(bases[1], 1e6, global)?])
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    const NAMES: Names = Names { tied: true, ..LLAMA };
    let bias = keys.flag_or("attention_bias", false)?;
    gemma::finish(decoder(config, keys, tensors, &NAMES, None, |part, layer| {
        gemma2::block(part, layer, bias)
    })?)
}
