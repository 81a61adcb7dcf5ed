//! GPT-J (Wang & Komatsuzaki 2021): attention and MLP in parallel behind one norm, neighbouring entries rotated together.

use serde_json::Value;

use super::parts::{Names, decoder};
use super::{Family, even, gpt2};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::Pairs;
use crate::model::{Block, Config, Layer, PositionKind, Rotary, RotaryScaling, Transformer, Wiring};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "gptj",
    about: "LayerNorm, rotary positions of adjacent pairs, attention and MLP in parallel behind one norm",
    model_types: &["gptj"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = gpt2::sizes(keys)?;
    keys.only("rotary", true)?;
    keys.only("scale_attn_weights", true)?;
    if keys.has("rotary_dim") && !keys.given("rotary_dim") {
        // angles are then counted over the stream, which is another rotation
        return Err(keys.unsupported("rotary_dim", &Value::Null, "a number of entries of each head"));
    }
    let dims = even(keys, "rotary_dim", 64, c.d_head)?;
    let rotary = Rotary { base: 10_000.0, dims, pairs: Pairs::Adjacent, scaling: RotaryScaling::None };
    let layer = Layer { rotary: Some(rotary), ..Layer::plain(c.d_head) };
    Ok(Config { wiring: Wiring::Parallel, positions: PositionKind::None, layers: vec![layer], ..c })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    const NAMES: Names = Names { tied: false, ..gpt2::NAMES };
    let mut model = decoder(config, keys, tensors, &NAMES, None, |part, layer| {
        part.skip(&["attn.bias", "attn.masked_bias", "bias", "masked_bias"]); // the mask, and what it is filled with
        let names = ["attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.out_proj"];
        let attention = part.attention(layer, names, false, false)?;
        let norm = part.norm("ln_1")?;
        Block::new(
            part.c.wiring,
            norm.clone(),
            attention,
            norm,
            part.plain_mlp(["mlp.fc_in", "mlp.fc_out"], true)?,
        )
    })?;
    model.unembed.b = Some(tensors.take("lm_head.bias", &[model.config.d_vocab])?);
    Ok(model)
}
