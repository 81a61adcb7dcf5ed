//! Llama (Touvron et al. 2023; Grattafiori et al. 2024): RMSNorm, rotary positions, grouped queries, a gated MLP.

use serde_json::Value;

use super::{Family, activation, linear, shared_width, unembed};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{
    Activation, Attention, Block, Config, Mlp, Norm, NormKind, PositionKind, Rotary, RotaryScaling,
    Transformer,
};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "llama",
    about: "RMSNorm, rotary positions (plain, linear or llama3 scaling), grouped queries, gated MLP",
    model_types: &["llama"],
    config,
    build,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let (d_model, n_heads) = (keys.size("hidden_size")?, keys.size("num_attention_heads")?);
    let n_kv_heads = keys.size_opt("num_key_value_heads")?.unwrap_or(n_heads);
    if !n_heads.is_multiple_of(n_kv_heads) {
        let divisors = format!("divisors of the {n_heads} query heads");
        return Err(keys.unsupported("num_key_value_heads", &Value::from(n_kv_heads), &divisors));
    }
    let d_head = match keys.size_opt("head_dim")? {
        Some(width) => width,
        None => shared_width(keys, d_model, n_heads, "num_attention_heads")?,
    };
    if !d_head.is_multiple_of(2) {
        return Err(keys.unsupported(
            "head_dim",
            &Value::from(d_head),
            "even widths, which pairs are rotated in",
        ));
    }
    Ok(Config {
        d_model,
        n_layers: keys.size("num_hidden_layers")?,
        n_heads,
        n_kv_heads,
        d_head,
        d_mlp: keys.size("intermediate_size")?,
        d_vocab: keys.size("vocab_size")?,
        n_ctx: keys.size("max_position_embeddings")?,
        norm: NormKind::Rms,
        norm_eps: keys.positive_or("rms_norm_eps", 1e-6)?,
        positions: PositionKind::Rotary(rotary(keys, d_head)?),
        activation: activation(keys, "hidden_act", Activation::Silu)?,
        gated_mlp: true,
        causal: true,
    })
}

/// Older configs write `rope_theta` and `rope_scaling`, newer ones both in `rope_parameters`.
fn rotary(keys: &mut Keys, dims: usize) -> Result<Rotary> {
    let mut base = keys.positive_opt("rope_theta")?;
    let mut scaling = None;
    for name in ["rope_scaling", "rope_parameters"] {
        let Some(mut rope) = keys.object_opt(name)? else { continue };
        if let Some(known) = base {
            rope.only("rope_theta", known)?;
        }
        base = base.or(rope.positive_opt("rope_theta")?);
        rope.only("partial_rotary_factor", 1.0)?;
        let found = self::scaling(&mut rope)?;
        rope.finish()?;
        if scaling.get_or_insert_with(|| found.clone()) != &found {
            return Err(keys.unsupported(name, &Value::from("another scaling"), "what `rope_scaling` says"));
        }
    }
    keys.only("partial_rotary_factor", 1.0)?;
    Ok(Rotary { base: base.unwrap_or(10_000.0), dims, scaling: scaling.unwrap_or(RotaryScaling::None) })
}

fn scaling(rope: &mut Keys) -> Result<RotaryScaling> {
    let old = rope.word_opt("type")?;
    let kind = rope.word_opt("rope_type")?.or(old).unwrap_or_else(|| "default".into());
    Ok(match kind.as_str() {
        "default" => RotaryScaling::None,
        "linear" => RotaryScaling::Linear { factor: rope.positive("factor")? },
        "llama3" => RotaryScaling::Llama3 {
            factor: rope.positive("factor")?,
            low_freq_factor: rope.positive("low_freq_factor")?,
            high_freq_factor: rope.positive("high_freq_factor")?,
            original: rope.positive("original_max_position_embeddings")?,
        },
        _ => return Err(rope.unsupported("rope_type", &Value::String(kind), "default, linear, llama3")),
    })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let c = &config;
    let attention_bias = keys.flag_or("attention_bias", false)?;
    let mlp_bias = keys.flag_or("mlp_bias", false)?;
    let (width, kv_width) = (c.n_heads * c.d_head, c.n_kv_heads * c.d_head);
    let rotary = match &c.positions {
        PositionKind::Rotary(rotary) => Some(rotary.clone()),
        PositionKind::Learned => None,
    };
    let prefix = tensors.prefix(&["model."]);
    let embed_name = format!("{prefix}embed_tokens.weight");
    tensors.skip(&format!("{prefix}rotary_emb.inv_freq")); // follows from the config
    let embed = tensors.take(&embed_name, &[c.d_vocab, c.d_model])?;
    let mut blocks = Vec::new();
    for layer in 0..c.n_layers {
        let name = |part: &str| format!("{prefix}layers.{layer}.{part}");
        tensors.skip(&name("self_attn.rotary_emb.inv_freq"));
        blocks.push(Block {
            ln1: norm(tensors, &name("input_layernorm"), c)?,
            attention: Attention {
                q: linear(tensors, &name("self_attn.q_proj"), c.d_model, width, attention_bias)?,
                k: linear(tensors, &name("self_attn.k_proj"), c.d_model, kv_width, attention_bias)?,
                v: linear(tensors, &name("self_attn.v_proj"), c.d_model, kv_width, attention_bias)?,
                o: linear(tensors, &name("self_attn.o_proj"), width, c.d_model, attention_bias)?,
                n_heads: c.n_heads,
                n_kv_heads: c.n_kv_heads,
                d_head: c.d_head,
                scale: 1.0 / (c.d_head as f64).sqrt(),
                causal: true,
                rotary: rotary.clone(),
            },
            ln2: norm(tensors, &name("post_attention_layernorm"), c)?,
            mlp: Mlp {
                pre: linear(tensors, &name("mlp.gate_proj"), c.d_model, c.d_mlp, mlp_bias)?,
                linear: Some(linear(tensors, &name("mlp.up_proj"), c.d_model, c.d_mlp, mlp_bias)?),
                out: linear(tensors, &name("mlp.down_proj"), c.d_mlp, c.d_model, mlp_bias)?,
                activation: c.activation,
            },
        });
    }
    let ln_final = norm(tensors, &format!("{prefix}norm"), c)?;
    let unembed = unembed(keys, tensors, false, (&embed_name, &embed))?;
    Ok(Transformer { config, embed, pos_embed: None, blocks, ln_final, unembed })
}

fn norm(tensors: &mut Tensors, name: &str, c: &Config) -> Result<Norm> {
    let gain = tensors.take(&format!("{name}.weight"), &[c.d_model])?;
    Ok(Norm { kind: NormKind::Rms, eps: c.norm_eps, gain, bias: None })
}
