//! The engine against independent implementations, on the tiny checkpoints (see `tests/fixtures/README.md`).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use glassbox::edit::{Edit, Edits, Op};
use glassbox::gradient::Gradients;
use glassbox::model::{Pad, Transformer};
use glassbox::record::Activations;
use glassbox::site::{At, Positions, Site, Slice};

use crate::tiny::{checkpoint, open};

/// Largest difference allowed at a site, relative to max(1, largest reference value there).
const TOLERANCE: f64 = 1e-4;
/// The same for gradients in float64, relative to the largest gradient at the site.
const GRADIENT_TOLERANCE: f64 = 1e-6;

const MODELS: [&str; 3] = ["gpt2", "llama", "llama-tied"];

pub fn values(file: &str) -> HashMap<String, Tensor> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    candle_core::safetensors::load(folder.join(format!("{file}.safetensors")), &Device::Cpu).unwrap()
}

/// The named token ids as a batch `[row, pos]`.
pub fn tokens(values: &HashMap<String, Tensor>, name: &str) -> Tensor {
    let ids = values[name].to_dtype(DType::U32).unwrap();
    if ids.rank() == 1 { ids.unsqueeze(0).unwrap() } else { ids }
}

pub fn numbers(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// Largest difference and largest reference value. −∞ must meet −∞; NaN and another shape are infinitely far.
pub fn difference(ours: &Tensor, reference: &Tensor) -> (f64, f64) {
    if ours.dims() != reference.dims() {
        return (f64::INFINITY, 1.);
    }
    let (ours, reference) = (numbers(ours), numbers(reference));
    let far = |(a, b): (&f64, &f64)| match (a - b).abs() {
        _ if a == b => 0.,
        d if d.is_nan() => f64::INFINITY,
        d => d,
    };
    let size = reference.iter().filter(|b| b.is_finite()).fold(0., |m: f64, b| m.max(b.abs()));
    (ours.iter().zip(&reference).map(far).fold(0., f64::max), size)
}

/// The worst difference from the reference over these sites, in units of what is allowed, and where it is.
fn disagreement(model: &Transformer, reference: &HashMap<String, Tensor>, sites: &[Site]) -> (f64, String) {
    let (_, kept) = model.record(&tokens(reference, "tokens"), |site| sites.contains(&site)).unwrap();
    off(&kept, reference, sites)
}

/// The same of recorded activations.
pub fn off(kept: &Activations, reference: &HashMap<String, Tensor>, sites: &[Site]) -> (f64, String) {
    let worst = sites.iter().map(|&site| {
        let (off, size) = difference(kept.get(site).unwrap(), &reference[&site.to_string()]);
        (off / (TOLERANCE * size.max(1.)), site.to_string())
    });
    worst.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

#[test]
fn every_site_agrees_with_transformer_lens_and_the_logits_with_transformers() {
    for name in MODELS {
        let (model, reference) = (open(&checkpoint(name), DType::F32).unwrap(), values(name));
        let mut ours: Vec<String> = model.sites().iter().map(Site::to_string).collect();
        let mut theirs: Vec<String> = reference.keys().filter(|key| *key != "tokens").cloned().collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{name}: the sites are the classic ones");
        let (off, site) = disagreement(&model, &reference, &model.sites());
        println!("{name}: {off:.1e} tolerances off, at {site}");
        assert!(off < 1., "{name} differs at {site}: {off} tolerances");
    }
}

/// The fixtures hold each prompt's logits alone; transformers' own padded batches differ from them by less than 1e-6.
#[test]
fn prompts_alone_and_padded_agree_with_transformers() {
    for name in MODELS {
        let (model, reference) =
            (open(&checkpoint(name), DType::F32).unwrap(), values(&format!("{name}-pad")));
        let rows: Vec<Vec<u32>> = (0..2)
            .map(|i| tokens(&reference, &format!("tokens.{i}")).squeeze(0).unwrap().to_vec1().unwrap())
            .collect();
        let longest = rows.iter().map(Vec::len).max().unwrap();
        let check = |logits: Tensor, i: usize| {
            let (off, size) = difference(&logits, &reference[&format!("logits.{i}")]);
            assert!(off < TOLERANCE * size.max(1.), "{name}, prompt {i}: {off}");
        };
        for (i, row) in rows.iter().enumerate() {
            check(model.forward(&model.tokens(&[row]).unwrap(), &mut ()).unwrap().squeeze(0).unwrap(), i);
        }
        for side in [Pad::Left, Pad::Right] {
            let batch = model.padded(&[&rows[0], &rows[1]], side).unwrap();
            let logits = model.forward(&batch, &mut ()).unwrap();
            for (i, row) in rows.iter().enumerate() {
                let first = if side == Pad::Left { longest - row.len() } else { 0 };
                check(logits.get(i).unwrap().narrow(0, first, row.len()).unwrap(), i);
            }
        }
    }
}

/// Holds the gradients of the stored metric at these sites to the stored ones.
fn check_gradients(name: &str, model: &Transformer, reference: &HashMap<String, Tensor>, sites: &[Site]) {
    let mut hook = Gradients::new(|site| sites.contains(&site));
    let logits = model.forward(&tokens(reference, "tokens"), &mut hook).unwrap();
    let id = |name: &str| numbers(&reference[name])[0] as usize;
    let last = logits.narrow(1, logits.dim(1).unwrap() - 1, 1).unwrap();
    let logit = |id: usize| last.narrow(2, id, 1).unwrap();
    let gradients = hook.of(&(logit(id("answer")) - logit(id("wrong"))).unwrap()).unwrap();
    let mut worst = (0., String::new());
    for site in sites {
        let (off, size) = difference(gradients.get(*site).unwrap(), &reference[&site.to_string()]);
        assert!(off <= GRADIENT_TOLERANCE * size, "{name}, gradient at {site}: {off} of {size}");
        if off / size > worst.0 {
            worst = (off / size, site.to_string());
        }
    }
    println!("{name}: gradients {:.1e} off, relative, at {}", worst.0, worst.1);
}

#[test]
fn gradients_at_every_site_agree_with_torch() {
    for name in MODELS {
        let model = open(&checkpoint(name), DType::F64).unwrap();
        check_gradients(name, &model, &values(&format!("{name}-grad")), &model.sites());
    }
}

#[test]
fn gradients_at_each_readers_own_input_agree_with_torch() {
    for name in MODELS {
        let (model, reference) =
            (open(&checkpoint(name), DType::F64).unwrap(), values(&format!("{name}-split")));
        let sites: Vec<Site> = reference.keys().filter_map(|key| key.parse().ok()).collect();
        assert_eq!(sites.len(), 4 * model.config.n_layers);
        check_gradients(name, &model, &reference, &sites);
    }
}

#[test]
fn activation_patching_agrees_with_hooks_on_transformer_lens() {
    const PLACES: [(&str, At); 9] = [
        ("resid_pre", At::ResidPre),
        ("resid_mid", At::ResidMid),
        ("attn_out", At::AttnOut),
        ("mlp_out", At::MlpOut),
        ("z", At::Z),
        ("q", At::Q),
        ("k", At::K),
        ("v", At::V),
        ("pattern", At::Pattern),
    ];
    for name in MODELS {
        let (model, reference) =
            (open(&checkpoint(name), DType::F32).unwrap(), values(&format!("{name}-patch")));
        let (_, clean) = model.record(&tokens(&reference, "clean"), |_| true).unwrap();
        let corrupt = tokens(&reference, "corrupt");
        let mut worst = 0f64;
        for (what, at) in PLACES {
            let (layers, cells, _) = reference[what].dims3().unwrap();
            for (layer, cell) in (0..layers).flat_map(|layer| (0..cells).map(move |cell| (layer, cell))) {
                let site = Site::Block(layer, at);
                let (slice, axis) = match at {
                    At::Pattern => (Slice::whole(site).head(cell), 1),
                    At::Q | At::K | At::V | At::Z => (Slice::whole(site).head(cell), 2),
                    _ => (Slice::whole(site).pos(Positions::At(vec![cell])), 1),
                };
                let value = clean.get(site).unwrap().narrow(axis, cell, 1).unwrap();
                let mut hook = Edits::new([Edit { at: slice, op: Op::Set(value) }]);
                let logits = model.forward(&corrupt, &mut hook).unwrap();
                hook.finish().unwrap();
                let last = logits.get(0).unwrap().get(logits.dim(1).unwrap() - 1).unwrap();
                let expected = reference[what].get(layer).unwrap().get(cell).unwrap();
                let (off, size) = difference(&last, &expected);
                assert!(off < TOLERANCE * size.max(1.), "{name}, {site}, cell {cell}: {off}");
                worst = worst.max(off / size.max(1.));
            }
        }
        println!("{name}: patched logits {worst:.1e} off");
    }
}

/// A checkpoint's files, for changing.
pub struct Copy {
    pub folder: tempfile::TempDir,
}

impl Copy {
    pub fn of(name: &str) -> Copy {
        let folder = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(checkpoint(name)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        Copy { folder }
    }

    /// Changes one value of `config.json`; the keys lead to it.
    pub fn set(&self, keys: &[&str], value: &serde_json::Value) {
        let path = self.folder.path().join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let slot = keys.iter().fold(&mut config, |at, &key| at.get_mut(key).unwrap());
        assert_ne!(slot, value);
        *slot = value.clone();
        std::fs::write(path, config.to_string()).unwrap();
    }

    pub fn weight_files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect()
    }
}

#[test]
fn a_change_in_any_tensor_breaks_the_agreement() {
    for name in MODELS {
        let (copy, reference) = (Copy::of(name), values(name));
        let mut smallest = (f64::INFINITY, String::new());
        for file in copy.weight_files() {
            let tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
            for (tensor, value) in &tensors.iter().collect::<BTreeMap<_, _>>() {
                let mut changed = tensors.clone();
                changed.insert((*tensor).clone(), (*value * 1.1).unwrap());
                candle_core::safetensors::save(&changed, &file).unwrap();
                let model = open(copy.folder.path(), DType::F32).unwrap();
                let (off, _) = disagreement(&model, &reference, &[Site::Logits]);
                if off < smallest.0 {
                    smallest = (off, tensor.to_string());
                }
            }
            candle_core::safetensors::save(&tensors, &file).unwrap();
        }
        println!("{name}: smallest change {:.0} tolerances, by {}", smallest.0, smallest.1);
        assert!(smallest.0 > 10., "{name}: {} hardly matters: {}", smallest.1, smallest.0);
    }
}

/// A changed number either moves the values at some site or is refused.
#[test]
fn a_change_in_any_config_number_breaks_the_agreement() {
    let changes: &[(&str, &[&str], serde_json::Value)] = &[
        ("gpt2", &["layer_norm_epsilon"], 0.011.into()),
        ("gpt2", &["n_head"], 2.into()),
        ("gpt2", &["n_layer"], 2.into()),
        ("gpt2", &["n_embd"], 12.into()),
        ("gpt2", &["n_inner"], 48.into()),
        ("gpt2", &["n_positions"], 16.into()),
        ("gpt2", &["vocab_size"], 100.into()),
        ("gpt2", &["activation_function"], "gelu".into()),
        ("gpt2", &["scale_attn_weights"], false.into()),
        ("gpt2", &["scale_attn_by_inverse_layer_idx"], true.into()),
        ("gpt2", &["tie_word_embeddings"], false.into()),
        ("llama", &["rms_norm_eps"], 0.011.into()),
        ("llama", &["hidden_size"], 16.into()),
        ("llama", &["intermediate_size"], 22.into()),
        ("llama", &["num_hidden_layers"], 1.into()),
        ("llama", &["num_attention_heads"], 2.into()),
        ("llama", &["num_key_value_heads"], 4.into()),
        ("llama", &["vocab_size"], 96.into()),
        ("llama", &["hidden_act"], "gelu".into()),
        ("llama", &["attention_bias"], true.into()),
        ("llama", &["mlp_bias"], true.into()),
        ("llama", &["tie_word_embeddings"], true.into()),
        ("llama", &["rope_theta"], 112.5.into()),
        ("llama", &["rope_scaling", "rope_type"], "linear".into()),
        ("llama", &["rope_scaling", "factor"], 4.5.into()),
        ("llama", &["rope_scaling", "low_freq_factor"], 1.125.into()),
        ("llama", &["rope_scaling", "high_freq_factor"], 4.5.into()),
        ("llama", &["rope_scaling", "original_max_position_embeddings"], 36.into()),
        ("llama-tied", &["head_dim"], 8.into()),
        ("llama-tied", &["rope_parameters", "rope_theta"], 560.0.into()),
        ("llama-tied", &["rope_parameters", "rope_type"], "llama3".into()),
    ];
    for (name, keys, value) in changes {
        let copy = Copy::of(name);
        copy.set(keys, value);
        match open(copy.folder.path(), DType::F32) {
            Err(error) => println!("{name}, {keys:?} = {value}: {error}"),
            Ok(model) => {
                let (off, site) = disagreement(&model, &values(name), &model.sites());
                println!("{name}, {keys:?} = {value}: {off:.1} tolerances off at {site}");
                assert!(off > 1., "{name}: {keys:?} = {value} changes nothing");
            }
        }
    }
}
