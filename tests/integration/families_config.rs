//! A change of anything in `config.json` is noticed: the model is refused with a sentence, or it computes other numbers than
//! its library did. Whatever may change unnoticed is listed here, with the reason.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use candle_core::{DType, Tensor};
use glassbox::Result;
use glassbox::checkpoint::Keys;
use glassbox::site::Site;
use serde_json::{Map, Value, json};

use crate::families::{TOLERANCE, reference, sites, variants};
use crate::hostile::is_a_sentence;
use crate::parity::{Copy, difference, tokens};
use crate::tiny::open;

/// Where a neighbouring number need not be noticed: what the number is multiplied by instead (0 makes it 1).
const INSTEAD: &[(&str, f64)] = &[
    // bounds, within which nothing changes
    ("max_position_embeddings", 0.0),
    ("n_ctx", 0.0),
    ("n_positions", 0.0),
    ("sliding_window", 0.0),
    ("window_size", 0.0),
    // cut to whole entries of a head, or to whole numbers of frequencies
    ("partial_rotary_factor", 0.5),
    ("rotary_pct", 0.5),
    ("original_max_position_embeddings", 8.0),
    // thousands
    ("rotary_base", 2.0),
    ("rotary_emb_base", 2.0),
];

/// What may change unnoticed: checkpoints, keys, and why.
const UNNOTICED: &[(&[&str], &[&str], &str)] = &[
    (
        &["bloom"],
        &["bias_dropout_fusion", "masked_softmax_fusion", "skip_bias_add", "skip_bias_add_qkv"],
        "ways of computing the same sum",
    ),
    (&["bloom"], &["offset_alibi"], "of the program that trained it; its library reads it no more"),
    (
        &["gpt_bigcode", "gpt_bigcode-heads"],
        &[
            "inference_runner",
            "max_batch_size",
            "max_sequence_length",
            "pad_key_length",
            "pre_allocate_kv_cache",
            "scale_attention_softmax_in_fp32",
            "validate_runner_input",
        ],
        "settings of a server, and of half precision",
    ),
    (&["falcon-one-norm"], &["ff_factor"], "`ffn_hidden_size` says the same"),
    (&["falcon-grouped", "falcon-one-norm"], &["multi_query"], "the new architecture has `num_kv_heads`"),
    (&["gemma3-capped"], &["_sliding_window_pattern"], "`layer_types` was made from it"),
    (
        &["gpt_oss", "gpt_oss-five", "llama-mscale", "llama-yarn"],
        &["max_position_embeddings"],
        "the prompt may be as long as what YaRN reaches",
    ),
    (&["gpt_oss"], &["initial_context_length"], "said again in the rotation's own parameters"),
    (
        &["hooked", "hooked-attn-only", "hooked-bare", "hooked-solu"],
        &["rotary_adjacent_pairs", "rotary_base", "rotary_dim"],
        "positions are learned",
    ),
    (
        &["hooked", "hooked-attn-only", "hooked-bare", "hooked-pairs", "hooked-rotary", "hooked-solu"],
        &["attn_types", "window_size"],
        "`use_local_attn` is false",
    ),
    (&["hooked-attn-only"], &["act_fn", "d_mlp", "gated_mlp", "parallel_attn_mlp"], "there is no MLP"),
    (&["hooked-bare"], &["eps"], "there is no norm"),
    (
        &["hooked-bare", "hooked-pairs", "hooked-rotary"],
        &["final_rms"],
        "there is none, or it is that kind anyway",
    ),
    (&["hooked-bare"], &["scale_attn_by_inverse_layer_idx"], "there is one layer"),
    (&["phi3"], &["original_max_position_embeddings"], "the rotation is not stretched"),
    (&["qwen2-window", "qwen3-window"], &["max_window_layers"], "`layer_types` is there"),
    (
        &["qwen2", "qwen3", "qwen3_moe", "qwen3_moe-sparse", "smollm3"],
        &["max_window_layers", "sliding_window", "use_sliding_window"],
        "one of the three says that there are no windows",
    ),
    (
        &["qwen3_moe-sparse"],
        &["decoder_sparse_step"],
        "every fourth of four layers is the one that is left of every second",
    ),
    (&["qwen3_moe-sparse"], &["mlp_only_layers"], "a layer named twice is named"),
    (&["qwen3_moe"], &["intermediate_size"], "all layers have experts"),
    (&["smollm3", "smollm3-window"], &["no_rope_layer_interval"], "`no_rope_layers` is there"),
    (&["smollm3-window"], &["use_sliding_window"], "`layer_types` is there"),
];

/// Every value of a config, changed one at a time: the keys that lead to it, and the whole config with something else there.
/// Places in a list share the list's name.
fn changes(value: &Value, instead: Option<f64>) -> Vec<(String, Value)> {
    /// One of each kind of word that means something in some config.
    const WORDS: &[&str] = &[
        "gelu",
        "relu",
        "silu",
        "full_attention",
        "sliding_attention",
        "global",
        "local",
        "default",
        "linear",
        "dynamic",
        "yarn",
        "llama3",
        "longrope",
        "LN",
        "LNPre",
        "RMS",
        "RMSPre",
        "standard",
        "shortformer",
        "rotary",
        "causal",
        "bidirectional",
        "another",
    ];
    let here = |values: Vec<Value>| -> Vec<(String, Value)> {
        values.into_iter().filter(|new| new != value).map(|new| (String::new(), new)).collect()
    };
    match value {
        Value::Null => here(vec![json!(1), json!(0.5), json!(true), json!("relu"), json!([0])]),
        Value::Bool(flag) => here(vec![json!(!flag)]),
        Value::String(_) => here(WORDS.iter().map(|&word| json!(word)).collect()),
        Value::Number(number) => here(match (number.as_i64(), number.as_f64().unwrap(), instead) {
            (Some(_), number, Some(factor)) => vec![json!((number * factor).max(1.0) as i64)],
            (None, number, Some(factor)) => vec![json!(number * factor)],
            (Some(whole), _, None) => vec![json!(whole + 1), json!(2 * whole)],
            (None, number, None) => vec![json!(1.125 * number)],
        }),
        Value::Array(list) => {
            let one = list.iter().enumerate().flat_map(|(i, item)| {
                let whole = move |new| Value::Array([&list[..i], &[new], &list[i + 1..]].concat());
                changes(item, None).into_iter().map(move |(path, new)| (path, whole(new)))
            });
            let longer = [&list[..], &[list.last().cloned().unwrap_or(json!(0))]].concat();
            let shorter = list[..list.len().saturating_sub(1)].to_vec();
            one.chain(here(vec![json!(longer), json!(shorter)])).collect()
        }
        Value::Object(map) => {
            let one = map.iter().flat_map(|(key, item)| {
                let whole = move |new| {
                    let mut map = map.clone();
                    map.insert(key.clone(), new);
                    Value::Object(map)
                };
                let path = move |deeper: String| {
                    if deeper.is_empty() { key.clone() } else { format!("{key}.{deeper}") }
                };
                let instead = INSTEAD.iter().find(|(name, _)| name == key).map(|(_, factor)| *factor);
                changes(item, instead).into_iter().map(move |(deeper, new)| (path(deeper), whole(new)))
            });
            one.collect()
        }
    }
}

/// Whether no family reads a key, as it cannot change a number anywhere.
fn harmless(key: &str) -> bool {
    Keys::new("config.json", Map::from_iter([(key.to_owned(), json!(1))])).finish().is_ok()
}

/// How far a config's numbers are from the reference, in tolerances.
fn moved(copy: &Copy, config: &Value, reference: &HashMap<String, Tensor>, wanted: &[Site]) -> Result<f64> {
    std::fs::write(copy.folder.path().join("config.json"), config.to_string()).unwrap();
    let model = open(copy.folder.path(), DType::F32)?;
    let (_, kept) = model.record(&tokens(reference, "tokens"), |site| wanted.contains(&site))?;
    let off = wanted.iter().map(|&site| match kept.get(site) {
        Ok(ours) => {
            let (off, size) = difference(ours, &reference[&site.to_string()]);
            off / (TOLERANCE * size.max(1.))
        }
        Err(_) => f64::INFINITY,
    });
    // the other side of thresholds in length
    let short = model.forward(&tokens(reference, "pad.tokens.1"), &mut ())?;
    let expected = reference["pad.logits.1"].reshape(short.shape()).unwrap();
    let (short, size) = difference(&short, &expected);
    Ok(off.fold(short / (TOLERANCE * size.max(1.)), f64::max))
}

#[test]
fn a_change_of_anything_in_a_config_is_noticed() {
    let (mut unnoticed, mut used) = (BTreeSet::new(), BTreeSet::new());
    for (name, (family, _)) in variants() {
        let (copy, reference) = (Copy::of(&name), reference(&name));
        let wanted = sites(&reference, "");
        let config = std::fs::read(copy.folder.path().join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        let mut counts = BTreeMap::new();
        for (path, changed) in changes(&config, None) {
            if harmless(path.split('.').next().unwrap()) {
                continue;
            }
            let how = match moved(&copy, &changed, &reference, &wanted) {
                Err(error) => {
                    is_a_sentence(&error);
                    "refused"
                }
                Ok(off) if off > 1. => "moved",
                Ok(_) => {
                    let listed = UNNOTICED.iter().find_map(|(whose, keys, _)| {
                        let whose = whose.iter().find(|whose| **whose == name)?;
                        keys.iter().find(|key| **key == path).map(|key| (*whose, *key))
                    });
                    match listed {
                        Some(which) => drop(used.insert(which)),
                        None => drop(unnoticed.insert(format!("{name}: {path} (a {family})"))),
                    }
                    "unnoticed"
                }
            };
            *counts.entry(how).or_insert(0) += 1;
        }
        println!("{name}: {counts:?}");
    }
    assert!(unnoticed.is_empty(), "may change unnoticed:\n{}", Vec::from_iter(unnoticed).join("\n"));
    for (whose, keys, reason) in UNNOTICED {
        let used_by = |whose: &&str| keys.iter().any(|&key| used.contains(&(*whose, key)));
        assert!(whose.iter().all(used_by), "{whose:?}, {keys:?}: noticed, so that no longer {reason}");
        let used_up = |key: &&str| whose.iter().any(|&whose| used.contains(&(whose, *key)));
        assert!(keys.iter().all(used_up), "{whose:?}, {keys:?}: noticed, so that no longer {reason}");
    }
}
