//! Opens the tiny checkpoints as they are, until the crate's own strict readers do.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use glassbox::Result;
use glassbox::model::*;

/// The model in a folder.
pub fn open(dir: &Path, dtype: DType) -> Result<Transformer> {
    let config = std::fs::read(dir.join("config.json")).unwrap();
    let c: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let mut w: HashMap<String, Tensor> = HashMap::new();
    for file in std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|e| e == "safetensors") {
            for (name, x) in candle_core::safetensors::load(&file, &Device::Cpu).unwrap() {
                let x = x.to_dtype(DType::F32).unwrap().to_dtype(dtype).unwrap();
                w.insert(name.trim_start_matches("transformer.").to_owned(), x);
            }
        }
    }
    Ok(if c["model_type"] == "gpt2" { gpt2(&c, &w) } else { llama(&c, &w) })
}

fn gpt2(c: &serde_json::Value, w: &HashMap<String, Tensor>) -> Transformer {
    let g = |k: &str| w[k].clone();
    let n = |k: &str| c[k].as_u64().unwrap() as usize;
    let t = |k: &str| g(k).t().unwrap().contiguous().unwrap();
    let (d, h, l) = (n("n_embd"), n("n_head"), n("n_layer"));
    let eps = c["layer_norm_epsilon"].as_f64().unwrap();
    let norm = |p: &str| Norm {
        kind: NormKind::Layer,
        eps,
        gain: g(&format!("{p}.weight")),
        bias: Some(g(&format!("{p}.bias"))),
    };
    let lin = |p: &str| Linear { w: g(&format!("{p}.weight")), b: Some(g(&format!("{p}.bias"))) };
    let cut = |x: &Linear, i: usize| Linear {
        w: x.w.narrow(1, i * d, d).unwrap().contiguous().unwrap(),
        b: Some(x.b.as_ref().unwrap().narrow(0, i * d, d).unwrap().contiguous().unwrap()),
    };
    let blocks = (0..l)
        .map(|i| {
            let qkv = lin(&format!("h.{i}.attn.c_attn"));
            Block {
                ln1: norm(&format!("h.{i}.ln_1")),
                ln2: norm(&format!("h.{i}.ln_2")),
                attention: Attention {
                    q: cut(&qkv, 0),
                    k: cut(&qkv, 1),
                    v: cut(&qkv, 2),
                    o: lin(&format!("h.{i}.attn.c_proj")),
                    n_heads: h,
                    n_kv_heads: h,
                    d_head: d / h,
                    scale: 1. / ((d / h) as f64).sqrt(),
                    causal: true,
                    rotary: None,
                },
                mlp: Mlp {
                    pre: lin(&format!("h.{i}.mlp.c_fc")),
                    linear: None,
                    out: lin(&format!("h.{i}.mlp.c_proj")),
                    activation: Activation::GeluTanh,
                },
            }
        })
        .collect();
    Transformer {
        config: Config {
            d_model: d,
            n_layers: l,
            n_heads: h,
            n_kv_heads: h,
            d_head: d / h,
            d_mlp: 4 * d,
            d_vocab: n("vocab_size"),
            n_ctx: n("n_positions"),
            norm: NormKind::Layer,
            norm_eps: eps,
            positions: PositionKind::Learned,
            activation: Activation::GeluTanh,
            gated_mlp: false,
            causal: true,
        },
        embed: g("wte.weight"),
        pos_embed: Some(g("wpe.weight")),
        blocks,
        ln_final: norm("ln_f"),
        unembed: Linear { w: t("wte.weight"), b: None },
    }
}

fn llama(c: &serde_json::Value, w: &HashMap<String, Tensor>) -> Transformer {
    let g = |k: &str| w[k].clone();
    let n = |k: &str| c[k].as_u64().unwrap() as usize;
    let t = |k: &str| g(k).t().unwrap().contiguous().unwrap();
    let (d, h, kv, l) =
        (n("hidden_size"), n("num_attention_heads"), n("num_key_value_heads"), n("num_hidden_layers"));
    let e = c["head_dim"].as_u64().map_or(d / h, |x| x as usize);
    let eps = c["rms_norm_eps"].as_f64().unwrap();
    let s = &c["rope_scaling"];
    let f = |k: &str| s[k].as_f64().unwrap();
    let rotary = Rotary {
        dims: e,
        base: c["rope_theta"].as_f64().or(c["rope_parameters"]["rope_theta"].as_f64()).unwrap(),
        scaling: if s.is_object() {
            RotaryScaling::Llama3 {
                factor: f("factor"),
                low_freq_factor: f("low_freq_factor"),
                high_freq_factor: f("high_freq_factor"),
                original: f("original_max_position_embeddings"),
            }
        } else {
            RotaryScaling::None
        },
    };
    let norm = |p: &str| Norm { kind: NormKind::Rms, eps, gain: g(&format!("{p}.weight")), bias: None };
    let lin = |p: &str| Linear { w: t(&format!("{p}.weight")), b: None };
    let blocks = (0..l)
        .map(|i| {
            let p = format!("model.layers.{i}");
            let a = |x: &str| lin(&format!("{p}.self_attn.{x}_proj"));
            let m = |x: &str| lin(&format!("{p}.mlp.{x}_proj"));
            Block {
                ln1: norm(&format!("{p}.input_layernorm")),
                ln2: norm(&format!("{p}.post_attention_layernorm")),
                attention: Attention {
                    q: a("q"),
                    k: a("k"),
                    v: a("v"),
                    o: a("o"),
                    n_heads: h,
                    n_kv_heads: kv,
                    d_head: e,
                    scale: 1. / (e as f64).sqrt(),
                    causal: true,
                    rotary: Some(rotary.clone()),
                },
                mlp: Mlp {
                    pre: m("gate"),
                    linear: Some(m("up")),
                    out: m("down"),
                    activation: Activation::Silu,
                },
            }
        })
        .collect();
    Transformer {
        config: Config {
            d_model: d,
            n_layers: l,
            n_heads: h,
            n_kv_heads: kv,
            d_head: e,
            d_mlp: n("intermediate_size"),
            d_vocab: n("vocab_size"),
            n_ctx: n("max_position_embeddings"),
            norm: NormKind::Rms,
            norm_eps: eps,
            positions: PositionKind::Rotary(rotary),
            activation: Activation::Silu,
            gated_mlp: true,
            causal: true,
        },
        embed: g("model.embed_tokens.weight"),
        pos_embed: None,
        blocks,
        ln_final: norm("model.norm"),
        unembed: if w.contains_key("lm_head.weight") {
            lin("lm_head")
        } else {
            Linear { w: t("model.embed_tokens.weight"), b: None }
        },
    }
}
