//! gpt-oss (OpenAI 2025): experts with bounded gates, attention sinks, windows in every other layer.

use candle_core::{DType, Tensor};

use super::parts::{LLAMA, Part, QKVO, decoder};
use super::rope::{Defaults, USUAL, rotary};
use super::{Family, check_routing, llama, sliding};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Activation, Block, Config, Dense, Experts, Layer, Linear, Mlp, Routing, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "gpt_oss",
    about: "Experts with bounded gates, attention sinks, alternating windows, YaRN (weights expanded from MXFP4 first)",
    model_types: &["gpt_oss"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    keys.size("head_dim")?; // no quotient of the others
    keys.only("hidden_act", "silu")?; // what is computed has a name of its own
    keys.only("swiglu_alpha", 1.702)?;
    let c = Config { activation: Activation::QuickGelu, ..llama::sizes(keys, Some(("rms_norm_eps", 1e-5)))? };
    if !keys.given("rope_scaling") && !keys.given("rope_parameters") {
        // its library then takes those of one published size
        return Err(keys.absent("rope_parameters"));
    }
    let rotary = rotary(keys, c.d_head, c.n_ctx, Defaults { base: 150_000.0, ..USUAL })?;
    keys.ignore(&["initial_context_length"]); // said again in the rope parameters
    let window = keys.size_or_null("sliding_window", 128)?;
    let slides = sliding(keys, c.n_layers, window, |layer| layer % 2 == 0)?;
    let layer = |slides: bool| Layer {
        rotary: Some(rotary.clone()),
        window: window.filter(|_| slides),
        ..Layer::plain(c.d_head)
    };
    let per_token = keys.few("num_experts_per_tok")?;
    keys.only("experts_per_token", per_token)?;
    let (experts, d_expert) = (keys.few("num_local_experts")?, c.d_mlp);
    let routing = check_routing(keys, Routing { experts, per_token, renormalised: true, d_expert })?;
    Ok(Config {
        layers: slides.into_iter().map(layer).collect(),
        sinks: true,
        mlp_limit: Some(keys.positive_or("swiglu_limit", 7.0)?),
        experts: Some(routing),
        ..c
    })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let bias = keys.flag_or("attention_bias", true)?;
    decoder(config, keys, tensors, &LLAMA, None, |part, layer| {
        let mut attention = part.attention(layer, QKVO, bias, bias)?;
        let sinks = part.take("self_attn.sinks", &[part.c.n_heads])?;
        attention.sinks = Some(sinks.to_dtype(DType::F64)?.to_vec1::<f64>()?.into());
        let (ln1, ln2) = (part.norm("input_layernorm")?, part.norm("post_attention_layernorm")?);
        Block::new(part.c.wiring, ln1, attention, ln2, Mlp::Experts(experts(part, layer)?))
    })
}

/// All experts lie in one tensor for each map; columns of gate and linear branch take turns.
fn experts(part: &mut Part, layer: usize) -> Result<Experts> {
    let c = part.c;
    let Routing { experts: count, per_token, renormalised, d_expert } = part.routing(layer)?;
    let router = part.linear("mlp.router", c.d_model, count, true)?;
    let fused = part.take("mlp.experts.gate_up_proj", &[count, c.d_model, 2 * d_expert])?;
    let fused_b = part.take("mlp.experts.gate_up_proj_bias", &[count, 2 * d_expert])?;
    let out = part.take("mlp.experts.down_proj", &[count, d_expert, c.d_model])?;
    let out_b = part.take("mlp.experts.down_proj_bias", &[count, c.d_model])?;
    let turn = |x: &Tensor, which: usize| -> Result<Tensor> {
        let rows = x.elem_count() / (2 * d_expert);
        Ok(x.reshape((rows, d_expert, 2))?.narrow(2, which, 1)?.squeeze(2)?.contiguous()?)
    };
    let expert = |e: usize| -> Result<Dense> {
        let (w, b) = (fused.get(e)?, fused_b.get(e)?);
        let branch = |which| {
            Ok::<_, crate::Error>(Linear { w: turn(&w, which)?, b: Some(turn(&b, which)?.squeeze(0)?) })
        };
        Ok(Dense {
            pre: branch(0)?,
            linear: Some(branch(1)?),
            out: Linear { w: out.get(e)?.contiguous()?, b: Some(out_b.get(e)?) },
            activation: c.activation,
            shift: None,
            limit: c.mlp_limit,
            norm: None,
        })
    };
    Ok(Experts { router, experts: (0..count).map(expert).collect::<Result<_>>()?, per_token, renormalised })
}
