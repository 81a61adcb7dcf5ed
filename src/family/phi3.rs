//! Phi-3 and Phi-4 (Abdin et al. 2024): Llama with fused maps, a sliding window, and long contexts by LongRoPE.

use super::parts::{LLAMA, Split, decoder};
use super::rope::{Defaults, USUAL, rotary};
use super::{Family, llama};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Block, Config, Dense, Layer, Linear, Mlp, RotaryScaling, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "phi3",
    about: "Llama with fused maps, sliding window, rotation by length (LongRoPE)",
    model_types: &["phi3"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let c = llama::sizes(keys, Some(("rms_norm_eps", 1e-5)))?;
    let rotary = rotary(keys, c.d_head, c.n_ctx, Defaults { partly: true, ..USUAL })?;
    if matches!(rotary.scaling, RotaryScaling::Long { .. }) {
        keys.size("original_max_position_embeddings")?; // the rotation's own is not asked
    }
    let rotary = Some(rotary);
    let window = keys.size_opt("sliding_window")?;
    Ok(Config { layers: vec![Layer { rotary, window, ..Layer::plain(c.d_head) }], ..c })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    for name in ["attention_bias", "lm_head_bias", "mlp_bias"] {
        keys.only(name, false)?;
    }
    keys.only("full_attn_mod", 1)?;
    keys.only("interpolate_factor", 1)?;
    decoder(config, keys, tensors, &LLAMA, None, |part, layer| {
        let c = part.c;
        let names = ["self_attn.qkv_proj", "self_attn.o_proj"];
        let attention = part.fused_attention(layer, names, [false, false], Split::Thirds)?;
        let (ln1, ln2) = (part.norm("input_layernorm")?, part.norm("post_attention_layernorm")?);
        let fused = part.linear("mlp.gate_up_proj", c.d_model, 2 * c.d_mlp, false)?;
        let half = |from: usize| -> Result<Linear> {
            Ok(Linear { w: fused.w.narrow(1, from, c.d_mlp)?.contiguous()?, b: None })
        };
        let out = part.linear("mlp.down_proj", c.d_mlp, c.d_model, false)?;
        let gated = Dense { linear: Some(half(c.d_mlp)?), ..Dense::plain(half(0)?, out, c.activation) };
        Block::new(c.wiring, ln1, attention, ln2, Mlp::Dense(gated))
    })
}
