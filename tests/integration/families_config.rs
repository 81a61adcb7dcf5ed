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

/// Keys that bound something and change no number within the bound: where a neighbour is not noticed, the bound 1 must be.
const BOUNDS: &[&str] = &["max_position_embeddings", "n_ctx", "sliding_window", "window_size"];

/// What else may change unnoticed: a family or the name of a checkpoint, a key, and why.
const UNNOTICED: &[(&str, &str, &str)] = &[
];

/// Every value of a config, changed one at a time: the keys that lead to it, and the whole config with something else there.
/// Places in a list share the list's name.
fn changes(value: &Value, bound: bool) -> Vec<(String, Value)> {
    /// One of each kind of word that means something in some config.
    const WORDS: &[&str] = &[
        "gelu", "relu", "silu", "full_attention", "sliding_attention", "global", "local", "default", "linear",
        "dynamic", "yarn", "llama3", "longrope", "LN", "LNPre", "RMS", "RMSPre", "standard", "shortformer", "rotary",
        "causal", "bidirectional", "another",
    ];
    let here = |values: Vec<Value>| -> Vec<(String, Value)> {
        values.into_iter().filter(|new| new != value).map(|new| (String::new(), new)).collect()
    };
    match value {
        Value::Null => here(vec![json!(1), json!(0.5), json!(true), json!("relu"), json!([0])]),
        Value::Bool(flag) => here(vec![json!(!flag)]),
        Value::String(_) => here(WORDS.iter().map(|&word| json!(word)).collect()),
        Value::Number(number) => match number.as_i64() {
            Some(_) if bound => here(vec![json!(1)]),
            Some(whole) => here(vec![json!(whole + 1), json!(2 * whole)]),
            None => here(vec![json!(1.125 * number.as_f64().unwrap())]),
        },
        Value::Array(list) => {
            let one = list.iter().enumerate().flat_map(|(i, item)| {
                let whole = move |new| Value::Array([&list[..i], &[new], &list[i + 1..]].concat());
                changes(item, false).into_iter().map(move |(path, new)| (path, whole(new)))
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
                let path = move |deeper: String| if deeper.is_empty() { key.clone() } else { format!("{key}.{deeper}") };
                let bound = BOUNDS.contains(&key.as_str());
                changes(item, bound).into_iter().map(move |(deeper, new)| (path(deeper), whole(new)))
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
    Ok(off.fold(0., f64::max))
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
        for (path, changed) in changes(&config, false) {
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
                    let listed = UNNOTICED.iter().position(|(whose, key, _)| {
                        (*whose == family || *whose == name) && *key == path
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
    for (which, (whose, key, reason)) in UNNOTICED.iter().enumerate() {
        assert!(used.contains(&which), "{whose}: {key} is noticed: {reason} is no longer so");
    }
}
