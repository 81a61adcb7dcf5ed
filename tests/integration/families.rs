//! Every family against the library its checkpoints come from, on tiny checkpoints whose every tensor is random.
//!
//! The reference values hold logits, the stream, attention patterns, what each part adds, and gradients of all of these;
//! `tests/fixtures/README.md` says how they were made.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use candle_core::{DType, Tensor};
use glassbox::family::FAMILIES;
use glassbox::gradient::Gradients;
use glassbox::model::{Pad, Transformer};
use glassbox::site::Site;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::command::Bench;
use crate::parity::{Copy, difference, numbers, tokens, values};
use crate::tiny::{checkpoint, open};

/// Largest difference allowed, relative to max(1, largest reference value at the site).
pub const TOLERANCE: f64 = 1e-4;
/// The same for gradients in float64, relative to the largest gradient at the site.
const GRADIENT_TOLERANCE: f64 = 1e-6;

/// Checkpoints whose every site is held to TransformerLens (`parity.rs`), and their families.
const CLASSIC: [(&str, &str); 3] = [("gpt2", "gpt2"), ("llama", "llama"), ("llama-tied", "llama")];

/// The checkpoints: name → (family, what it covers).
pub fn variants() -> BTreeMap<String, (String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families/index.json");
    let index: BTreeMap<String, Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let word = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    index.iter().map(|(name, entry)| (name.clone(), (word(entry, "family"), word(entry, "about")))).collect()
}

pub fn reference(name: &str) -> HashMap<String, Tensor> {
    values(&format!("families/{name}"))
}

/// The sites of which there are reference values, under this prefix.
pub fn sites(reference: &HashMap<String, Tensor>, prefix: &str) -> Vec<Site> {
    let sites = reference.keys().filter_map(|key| key.strip_prefix(prefix)?.parse().ok());
    sites.collect::<BTreeSet<Site>>().into_iter().collect()
}

/// The worst difference at the sites of the reference, in units of what is allowed, and where.
fn disagreement(model: &Transformer, reference: &HashMap<String, Tensor>) -> (f64, String) {
    let wanted = sites(reference, "");
    let (_, kept) = model.record(&tokens(reference, "tokens"), |site| wanted.contains(&site)).unwrap();
    let worst = wanted.iter().map(|&site| {
        let Ok(ours) = kept.get(site) else { return (f64::INFINITY, format!("{site}, which does not fire")) };
        let (off, size) = difference(ours, &reference[&site.to_string()]);
        (off / (TOLERANCE * size.max(1.)), site.to_string())
    });
    worst.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

/// As the page of families has it: the next power of ten, from 1e-5 on.
fn bound(deviation: f64) -> String {
    format!("{:.0e}", 10f64.powf(deviation.max(1e-5).log10().ceil()))
}

#[test]
fn every_family_agrees_with_its_own_library_at_every_stored_site() {
    let mut failures = Vec::new();
    let mut worst: BTreeMap<String, f64> = BTreeMap::new();
    let classic = CLASSIC.map(|(name, family)| (name.to_owned(), family.to_owned(), values(name)));
    let others = variants().into_iter().map(|(name, (family, _))| (name.clone(), family, reference(&name)));
    for (name, family, reference) in classic.into_iter().chain(others) {
        match open(&checkpoint(&name), DType::F32) {
            Err(error) => failures.push(format!("{name}: {error}")),
            Ok(model) => {
                let (off, site) = disagreement(&model, &reference);
                println!("{name}: {:.1e} at {site}", off * TOLERANCE);
                let largest = worst.entry(family).or_default();
                *largest = largest.max(off * TOLERANCE);
                if off >= 1. {
                    failures.push(format!("{name} differs at {site}: {off:.1} tolerances"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    page(&worst);
}

/// The page of families is made from the code and from what was measured; `UPDATE_GOLDEN=1` writes it anew.
fn page(worst: &BTreeMap<String, f64>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/families.md");
    let mut variants_of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, (family, about)) in variants() {
        variants_of.entry(family).or_default().push(format!("`{name}`: {about}"));
    }
    for (name, family) in CLASSIC {
        let about =
            "every site, gradient and patch against TransformerLens, transformers and torch".to_owned();
        variants_of.entry(family.to_owned()).or_default().push(format!("`{name}`: {about}"));
    }
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    let listed = |family: &str| {
        let line = old.lines().find(|line| line.starts_with(&format!("| `{family}` |")))?;
        line.rsplit('|').nth(1)?.trim().parse::<f64>().ok()
    };
    let mut text = "# Families\n\nMade by `UPDATE_GOLDEN=1 cargo test --release families`. The deviation is the largest at \
                    any stored site of any variant, relative to max(1, largest value there), in float32, as the next power of ten from 1e-5 on; \
                    allowed is 1e-4.\n\n\
                    | family | what distinguishes it | tested variants | largest deviation |\n|---|---|---|---|\n"
        .to_owned();
    for family in FAMILIES {
        let measured = worst.get(family.name).copied();
        let deviation = match (measured, listed(family.name)) {
            (Some(measured), Some(listed)) if measured <= listed => bound(listed),
            (Some(measured), _) => bound(measured),
            (None, _) => panic!("{} was not measured", family.name),
        };
        let variants = variants_of.get(family.name).map(|all| all.join("<br>")).unwrap_or_default();
        assert!(!variants.is_empty(), "{} is tested on nothing", family.name);
        text += &format!("| `{}` | {} | {variants} | {deviation} |\n", family.name, family.about);
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap_or_default(),
        text,
        "reports/families.md: UPDATE_GOLDEN=1 renews it"
    );
}

#[test]
fn the_list_of_families_says_what_was_measured() {
    let listed = Bench::new().ok(&["list", "families", "--format", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let text = listed.to_string();
    for family in FAMILIES {
        assert!(text.contains(&format!("\"name\":\"{}\"", family.name)), "{}: {text}", family.name);
    }
    assert_eq!(text.matches("\"deviation\":\"1e-").count(), FAMILIES.len(), "{text}");
    assert!(!text.contains("\"tested\":\"\""), "{text}");
}

#[test]
fn gradients_of_every_family_agree_with_torch() {
    let mut with_gradients = BTreeSet::new();
    for (name, (family, _)) in variants() {
        let reference = reference(&name);
        let wanted = sites(&reference, "grad.");
        if wanted.is_empty() {
            continue;
        }
        with_gradients.insert(family);
        let model = open(&checkpoint(&name), DType::F64).unwrap();
        let mut hook = Gradients::new(|site| wanted.contains(&site));
        let logits = model.forward(&tokens(&reference, "tokens"), &mut hook).unwrap();
        let last = logits.narrow(1, logits.dim(1).unwrap() - 1, 1).unwrap();
        let logit = |which: &str| last.narrow(2, numbers(&reference[which])[0] as usize, 1).unwrap();
        let gradients = hook.of(&(logit("answer") - logit("wrong")).unwrap()).unwrap();
        let mut worst = (0., String::new());
        for site in wanted {
            let (off, size) = difference(gradients.get(site).unwrap(), &reference[&format!("grad.{site}")]);
            assert!(off <= GRADIENT_TOLERANCE * size, "{name}, gradient at {site}: {off} of {size}");
            if off / size > worst.0 {
                worst = (off / size, site.to_string());
            }
        }
        println!("{name}: gradients {:.1e} off, relative, at {}", worst.0, worst.1);
    }
    assert_eq!(with_gradients.len(), FAMILIES.len() - 1, "of every family but GPT-2, which has its own");
}

#[test]
fn prompts_of_unequal_length_agree_alone_and_padded() {
    for (name, _) in variants() {
        let (model, reference) = (open(&checkpoint(&name), DType::F32).unwrap(), reference(&name));
        let row =
            |i: usize| tokens(&reference, &format!("pad.tokens.{i}")).squeeze(0).unwrap().to_vec1().unwrap();
        let rows: [Vec<u32>; 2] = [row(0), row(1)];
        let longest = rows.iter().map(Vec::len).max().unwrap();
        assert_ne!(rows[0].len(), rows[1].len());
        let check = |logits: Tensor, i: usize, how: &str| {
            let expected = &reference[&format!("pad.logits.{i}")];
            let expected = if expected.rank() == 3 { expected.squeeze(0).unwrap() } else { expected.clone() };
            let (off, size) = difference(&logits, &expected);
            assert!(off < TOLERANCE * size.max(1.), "{name}, prompt {i} {how}: {off}");
        };
        for (i, row) in rows.iter().enumerate() {
            let alone = model.forward(&model.tokens(&[row]).unwrap(), &mut ()).unwrap();
            check(alone.squeeze(0).unwrap(), i, "alone");
        }
        for side in [Pad::Left, Pad::Right] {
            let logits = model.forward(&model.padded(&[&rows[0], &rows[1]], side).unwrap(), &mut ()).unwrap();
            for (i, row) in rows.iter().enumerate() {
                let first = if side == Pad::Left { longest - row.len() } else { 0 };
                let own = logits.get(i).unwrap().narrow(0, first, row.len()).unwrap();
                check(own, i, &format!("padded on the {side:?}"));
            }
        }
    }
}

#[test]
fn a_change_in_any_tensor_of_any_family_breaks_the_agreement() {
    for (name, _) in variants() {
        let (copy, reference) = (Copy::of(&name), reference(&name));
        let mut smallest = (f64::INFINITY, String::new());
        for file in copy.weight_files() {
            let whole = std::fs::read(&file).unwrap();
            let names = SafeTensors::deserialize(&whole).unwrap();
            let model = open(&checkpoint(&name), DType::F32).unwrap();
            // without rotation a key's bias adds the same to every score of a query
            let idle = |tensor: &str| {
                let layer = tensor.split('.').find_map(|part| part.parse::<usize>().ok()).unwrap_or(0);
                let rotated = model.blocks[layer].attention.rotary.is_some();
                !rotated && (tensor.ends_with("k_proj.bias") || tensor.ends_with("attn.b_K"))
            };
            for tensor in names.names().into_iter().filter(|name| !is_buffer(name) && !idle(name)) {
                let Some(changed) = disturbed(&whole, tensor) else { continue };
                std::fs::write(&file, changed).unwrap();
                let off = match open(copy.folder.path(), DType::F32) {
                    Ok(model) => disagreement(&model, &reference).0,
                    Err(_) => f64::INFINITY, // a second copy that is no longer one
                };
                if off < smallest.0 {
                    smallest = (off, tensor.to_owned());
                }
            }
            std::fs::write(&file, &whole).unwrap();
        }
        println!("{name}: smallest change {:.0} tolerances, by {}", smallest.0, smallest.1);
        assert!(smallest.0 > 10., "{name}: {} hardly matters: {}", smallest.1, smallest.0);
        assert!(smallest.0.is_finite() || copy.weight_files().is_empty(), "{name}: nothing was changed");
    }
}

/// A file in which one tensor of floats has a tenth of its own spread added, up and down in turn: nothing that a norm
/// behind it would take off again.
fn disturbed(file: &[u8], name: &str) -> Option<Vec<u8>> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    let (width, decode): (usize, fn(&[u8]) -> f64) = match tensor.dtype() {
        Dtype::F32 => (4, |raw| f64::from(f32::from_le_bytes(raw.try_into().unwrap()))),
        Dtype::F16 => (2, |raw| f16::from_le_bytes(raw.try_into().unwrap()).to_f64()),
        Dtype::BF16 => (2, |raw| bf16::from_le_bytes(raw.try_into().unwrap()).to_f64()),
        _ => return None,
    };
    let values: Vec<f64> = tensor.data().chunks(width).map(decode).collect();
    let size = (values.iter().map(|x| x * x).sum::<f64>() / values.len().max(1) as f64).sqrt();
    let start = tensor.data().as_ptr() as usize - file.as_ptr() as usize;
    let mut changed = file.to_vec();
    for (i, x) in values.iter().enumerate() {
        let x = x + 0.14 * size * (1.7 * i as f64).sin();
        let raw = &mut changed[start + i * width..start + (i + 1) * width];
        match tensor.dtype() {
            Dtype::F32 => raw.copy_from_slice(&(x as f32).to_le_bytes()),
            Dtype::F16 => raw.copy_from_slice(&f16::from_f64(x).to_le_bytes()),
            _ => raw.copy_from_slice(&bf16::from_f64(x).to_le_bytes()),
        }
    }
    Some(changed)
}

/// Tensors that follow from the config, and that nobody reads.
fn is_buffer(name: &str) -> bool {
    ["masked_bias", "inv_freq", "IGNORE", "rotary_cos", "rotary_sin"].iter().any(|part| name.ends_with(part))
}
