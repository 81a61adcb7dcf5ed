//! Properties over every family: whatever a config or the header of a weight file says, a model is read and computes finite
//! numbers, or is refused with a sentence; and what is allocated is bounded by the files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use glassbox::lab::Lab;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::families::variants;
use crate::hostile::{any_json, changed, changes, hold, is_a_sentence, read_json};
use crate::loading::{Copy, open};
use crate::tiny::checkpoint;

/// One checkpoint of each family.
fn one_each() -> Vec<String> {
    let mut families = BTreeMap::new();
    for (name, (family, _)) in variants() {
        families.entry(family).or_insert(name);
    }
    families.into_values().collect()
}

/// Opens a model and, if it opens, has it compute finite logits or say why not.
fn finite_or_refused(folder: &Path, what: &str) {
    let logits = open(folder).and_then(|lab: Lab| {
        let tokens = lab.model.tokens(&[&[1, 2, 3, 4, 5, 6]])?;
        lab.model.forward(&tokens, &mut ())
    });
    match logits {
        Err(error) => is_a_sentence(&error),
        Ok(logits) => {
            let numbers: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
            assert!(numbers.iter().all(|x| x.is_finite()), "{what}: logits that are no numbers");
        }
    }
}

/// How many numbers, words and flags a config holds, at any depth.
fn leaves(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Object(map) => map.values_mut().flat_map(leaves).collect(),
        Value::Array(list) => list.iter_mut().flat_map(leaves).collect(),
        leaf => vec![leaf],
    }
}

/// What stands at the ends of what a number can be, and what is none.
fn edges() -> impl Strategy<Value = Value> {
    let whole = [0, 1, 2, 3, 1 << 16, (1 << 16) + 1, 1 << 31, (1 << 31) + 1, 1 << 53, i64::MAX, -1, i64::MIN];
    let fractions =
        [0.5, -0.0, 1e-300, 1e-16, 1e-15, 1e-8, 1e-3, 0.999, 1.0, 1e3, 1e8, 1e15, 1e16, 1e300, -1e-3];
    prop_oneof![
        3 => select(whole.to_vec()).prop_map(Value::from),
        4 => select(fractions.to_vec()).prop_map(Value::from),
        1 => Just(Value::from(u64::MAX)),
        2 => any_json(),
    ]
}

#[test]
fn any_value_in_a_config_of_any_family_is_computed_with_or_refused() {
    for name in variants().into_keys() {
        let copy = Copy::of(&name);
        let config = read_json(&copy.path("config.json"));
        hold(80, vec((any::<Index>(), edges()), 1..3), |places| {
            let mut config = config.clone();
            for (place, value) in places {
                let mut leaves = leaves(&mut config);
                let count = leaves.len();
                if let Some(leaf) = leaves.get_mut(place.index(count)) {
                    **leaf = value;
                }
            }
            fs::write(copy.path("config.json"), config.to_string()).unwrap();
            finite_or_refused(copy.folder(), &format!("{name} with {config}"));
        });
    }
}

#[test]
fn any_config_of_any_family_is_read_or_refused() {
    for name in one_each() {
        let copy = Copy::of(&name);
        let config = read_json(&copy.path("config.json"));
        hold(40, changes(), |changes| {
            let config = changed(config.clone(), &changes);
            fs::write(copy.path("config.json"), config.to_string()).unwrap();
            finite_or_refused(copy.folder(), &format!("{name} with {config}"));
        });
        // beyond what the reader of JSON goes down into, and one list as long as a file can be
        for nested in ["[".repeat(300_000), "{\"a\":".repeat(300_000), format!("[{}0]", "0,".repeat(300_000))]
        {
            let mut config = config.clone();
            config.as_object_mut().unwrap().remove("layer_types");
            let text = config.to_string().replacen('{', &format!("{{\"layer_types\":{nested},"), 1);
            fs::write(copy.path("config.json"), text).unwrap();
            is_a_sentence(&open(copy.folder()).err().unwrap());
        }
    }
}

/// Headers that lie, and headers that are true but of tensors of other shapes.
#[test]
fn any_weight_header_of_any_family_is_read_or_refused() {
    for name in one_each() {
        let copy = Copy::of(&name);
        let path = fs::read_dir(copy.folder()).unwrap().map(|file| file.unwrap().path());
        let path = path.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).min().unwrap();
        let whole = fs::read(&path).unwrap();
        let end = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&whole[8..end]).unwrap();
        let turn = |shape: &[u64], how: u8| match how {
            0 => shape.iter().rev().copied().collect(),
            1 => vec![shape.iter().product()],
            2 => [&[1], shape].concat(),
            3 => vec![1; shape.len()],
            4 => Vec::new(),
            _ => shape.iter().map(|size| size / 2).collect(),
        };
        let lie = prop_oneof![
            changes().prop_map(|changes| (changes, None)),
            (any::<Index>(), 0u8..6).prop_map(|turned| (Vec::new(), Some(turned))),
        ];
        hold(40, lie, |(changes, turned)| {
            let mut header = changed(header.clone(), &changes);
            if let (Some((which, how)), Value::Object(map)) = (turned, &mut header) {
                let name = map.keys().nth(which.index(map.len())).unwrap().clone();
                let shape: Option<Vec<u64>> = serde_json::from_value(map[&name]["shape"].clone()).ok();
                if let Some(shape) = shape {
                    map[&name]["shape"] = json!(turn(&shape, how));
                }
            }
            let header = header.to_string().into_bytes();
            let length = (header.len() as u64).to_le_bytes();
            fs::write(&path, [&length[..], &header, &whole[end..]].concat()).unwrap();
            finite_or_refused(copy.folder(), &name);
        });
    }
}

/// A number in a config asks for no memory that the files do not fill: with 4 GB of addresses, the program still ends with a
/// sentence.
#[cfg(target_os = "linux")]
#[test]
fn no_number_in_a_config_asks_for_more_than_the_files_hold() {
    for name in one_each() {
        let config = read_json(&checkpoint(&name).join("config.json"));
        let counts =
            config.as_object().unwrap().iter().filter(|(_, value)| value.as_u64().is_some_and(|n| n > 1));
        for (key, _) in counts.clone() {
            let copy = Copy::of(&name);
            copy.json("config.json", |config| config[key] = json!(1u64 << 31));
            let out = Command::new("sh")
                .args([
                    "-c",
                    "ulimit -v 4000000; exec \"$@\"",
                    "sh",
                    env!("CARGO_BIN_EXE_glassbox"),
                    "predict",
                ])
                .args([
                    "--model",
                    &copy.folder().display().to_string(),
                    "--tokens",
                    "1,2,3",
                    "--threads",
                    "2",
                    "--quiet",
                ])
                .current_dir(copy.folder())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&out.stderr);
            assert!(matches!(out.status.code(), Some(0 | 1)), "{name}: {key}: {:?}: {said}", out.status);
        }
        assert!(counts.count() > 2, "{name}");
    }
}
