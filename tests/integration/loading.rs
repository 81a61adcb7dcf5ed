//! Models open from their files and compute what they should, however the files are laid out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use glassbox::family::gpt2;
use glassbox::lab::{self, Lab};
use glassbox::model::{Config, Transformer};
use glassbox::vocabulary::Bos;
use serde_json::{Value, json};

pub use crate::tiny::checkpoint as tiny;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub fn open(path: &Path) -> glassbox::Result<Lab> {
    Lab::open(path.to_str().unwrap(), DType::F32, &Device::Cpu)
}

/// A tiny checkpoint in a folder of its own, to be changed.
pub struct Copy(tempfile::TempDir);

impl Copy {
    pub fn of(name: &str) -> Copy {
        let copy = Copy(tempfile::tempdir().unwrap());
        for file in std::fs::read_dir(tiny(name)).unwrap().map(|file| file.unwrap()) {
            std::fs::copy(file.path(), copy.path(&file.file_name().to_string_lossy())).unwrap();
        }
        copy
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn json(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let path = self.path(name);
        let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(path, value.to_string()).unwrap();
    }

    pub fn tensors(&self, name: &str, change: impl FnOnce(&mut HashMap<String, Tensor>)) {
        let path = self.path(name);
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        change(&mut tensors);
        candle_core::safetensors::save(&tensors, path).unwrap();
    }

    /// Logits for a short prompt.
    fn logits(&self) -> Vec<f64> {
        logits(&open(self.folder()).unwrap_or_else(|e| panic!("{e}")).model)
    }
}

fn logits(model: &Transformer) -> Vec<f64> {
    numbers(&model.forward(&model.tokens(&[&[5, 1, 4, 1, 17]]).unwrap(), &mut ()).unwrap())
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";

#[test]
fn every_tiny_model_opens_with_its_facts() {
    for (name, family, parameters) in [
        ("gpt2", "gpt2", 24_912),
        ("gpt2-bpe", "gpt2", 9_456),
        ("llama", "llama", 20_960),
        ("llama-tied", "llama", 20_672),
    ] {
        let lab = open(&tiny(name)).unwrap();
        assert_eq!((lab.about.name.as_str(), lab.about.family.as_str()), (name, family));
        assert_eq!(lab.vocabulary.has_tokenizer(), name == "gpt2-bpe");
        assert_eq!(lab.about.tokenizer_hash.is_some(), name == "gpt2-bpe");
        assert_eq!(lab.about.hash.len(), 64);
        assert_eq!(lab.about.parameters, parameters, "{name}");
        assert!(lab.about.caveats.is_empty() && lab.about.circuit.is_none());
        let values = candle_core::safetensors::load(fixture(&format!("{name}.safetensors")), &Device::Cpu);
        let values = values.unwrap();
        let Some(expected) = values.get("logits").map(numbers) else { continue };
        let tokens = values["tokens"].to_dtype(DType::U32).unwrap();
        let ours = numbers(&lab.model.forward(&tokens, &mut ()).unwrap());
        let size = expected.iter().fold(1f64, |m, x| m.max(x.abs()));
        let off = ours.iter().zip(&expected).fold(0f64, |m, (a, b)| m.max((a - b).abs()));
        assert!(off < 1e-4 * size, "{name}: {off}");
    }
}

#[test]
fn one_file_or_many_and_every_float_type_hold_the_same_model() {
    let sharded = Copy::of("llama-tied");
    let single = Copy::of("llama-tied");
    let mut all = HashMap::new();
    for shard in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
        all.extend(candle_core::safetensors::load(single.path(shard), &Device::Cpu).unwrap());
        std::fs::remove_file(single.path(shard)).unwrap();
    }
    std::fs::remove_file(single.path("model.safetensors.index.json")).unwrap();
    for dtype in [DType::BF16, DType::F32, DType::F64] {
        let converted: HashMap<String, Tensor> =
            all.iter().map(|(name, x)| (name.clone(), x.to_dtype(dtype).unwrap())).collect();
        candle_core::safetensors::save(&converted, single.path(WEIGHTS)).unwrap();
        assert_eq!(single.logits(), sharded.logits(), "{dtype:?}");
    }
    let [half, single] = [DType::F16, DType::F32].map(|dtype| {
        let copy = Copy::of("gpt2");
        copy.tensors(WEIGHTS, |tensors| {
            tensors.values_mut().for_each(|x| *x = x.to_dtype(DType::F16).unwrap().to_dtype(dtype).unwrap());
        });
        copy.logits()
    });
    assert_eq!(half, single);
}

#[test]
fn names_may_carry_a_prefix_or_not() {
    let bare = Copy::of("gpt2");
    bare.tensors(WEIGHTS, |tensors| {
        *tensors = tensors.drain().map(|(name, x)| (name.replace("transformer.", ""), x)).collect();
    });
    assert_eq!(bare.logits(), Copy::of("gpt2").logits());
}

#[test]
fn the_unembedding_may_be_tied_repeated_or_its_own() {
    let tied = Copy::of("gpt2");
    let embedding = "transformer.wte.weight";
    let head = |tensors: &mut HashMap<String, Tensor>| {
        tensors.insert("lm_head.weight".into(), tensors[embedding].copy().unwrap());
    };
    let repeated = Copy::of("gpt2");
    repeated.tensors(WEIGHTS, head);
    assert_eq!(repeated.logits(), tied.logits());
    assert_eq!(open(repeated.folder()).unwrap().about.parameters, 24_912);
    let own = Copy::of("gpt2");
    own.tensors(WEIGHTS, head);
    own.json(CONFIG, |config| config["tie_word_embeddings"] = false.into());
    assert_eq!(own.logits(), tied.logits());
    own.tensors(WEIGHTS, |tensors| {
        tensors.insert("lm_head.weight".into(), (&tensors["lm_head.weight"] * 2.0).unwrap());
    });
    assert_ne!(own.logits(), tied.logits());
}

#[test]
fn rotary_scaling_reads_the_same_in_old_and_new_words() {
    let old = Copy::of("llama");
    let new = Copy::of("llama");
    new.json(CONFIG, |config| {
        let config = config.as_object_mut().unwrap();
        let mut rope = config.remove("rope_scaling").unwrap();
        rope["rope_theta"] = config.remove("rope_theta").unwrap();
        config.insert("rope_parameters".into(), rope);
    });
    assert_eq!(new.logits(), old.logits());
    let plain = Copy::of("llama-tied").logits();
    for key in ["type", "rope_type"] {
        let linear = |factor: f64| {
            let copy = Copy::of("llama-tied");
            copy.json(CONFIG, |c| {
                c["rope_parameters"] = json!({"rope_theta": 500.0, key: "linear", "factor": factor});
            });
            copy.logits()
        };
        assert_eq!(linear(1.0), plain);
        assert_ne!(linear(2.0), plain);
    }
}

#[test]
fn biases_of_attention_and_mlp_are_read_when_the_config_has_them() {
    let plain = Copy::of("llama").logits();
    for size in [0.0, 0.5] {
        let copy = Copy::of("llama");
        copy.json(CONFIG, |config| {
            config["attention_bias"] = true.into();
            config["mlp_bias"] = true.into();
        });
        copy.tensors(WEIGHTS, |tensors| {
            let named = |name: &&String| name.contains("_proj.weight");
            let names: Vec<String> = tensors.keys().filter(named).cloned().collect();
            for name in names {
                let width = tensors[&name].dim(0).unwrap();
                let bias = (Tensor::ones(width, DType::F32, &Device::Cpu).unwrap() * size).unwrap();
                tensors.insert(name.replace(".weight", ".bias"), bias);
            }
        });
        assert_eq!(copy.logits() == plain, size == 0.0);
    }
}

#[test]
fn an_exported_model_reads_back_bit_for_bit() {
    let mut random = Transformer::random(Config::tiny(), 3, DType::F32).unwrap();
    random.unembed.b = None;
    for model in [random, open(&tiny("gpt2")).unwrap().model] {
        let folder = tempfile::tempdir().unwrap();
        let tensors: HashMap<String, Tensor> = gpt2::export(&model).unwrap().into_iter().collect();
        candle_core::safetensors::save(&tensors, folder.path().join(WEIGHTS)).unwrap();
        let config = gpt2::config_json(&model.config).unwrap();
        std::fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
        let back = open(folder.path()).unwrap().model;
        assert_eq!(back.config, model.config);
        assert_eq!(logits(&back), logits(&model));
        for (name, tensor) in gpt2::export(&back).unwrap() {
            assert_eq!(numbers(&tensor), numbers(&tensors[&name]), "{name}");
        }
    }
    let rotary = Transformer::random(Config::tiny_rotary(), 3, DType::F32).unwrap();
    assert!(gpt2::export(&rotary).is_err() && gpt2::config_json(&rotary.config).is_err());
}

#[test]
fn a_checkpoint_of_training_opens_under_the_config_of_its_model() {
    let copy = Copy::of("gpt2");
    std::fs::create_dir(copy.path("checkpoints")).unwrap();
    std::fs::copy(copy.path(WEIGHTS), copy.path("checkpoints/step-600.safetensors")).unwrap();
    copy.tensors("checkpoints/step-600.safetensors", |tensors| {
        tensors.values_mut().for_each(|x| *x = (&*x * 0.5).unwrap().to_dtype(DType::F16).unwrap());
    });
    let path = copy.folder().to_str().unwrap();
    let lab = Lab::open(&format!("{path}@step600"), DType::F32, &Device::Cpu).unwrap();
    assert!(lab.about.name.ends_with("@step600"));
    assert_ne!(logits(&lab.model), copy.logits());
    assert_ne!(lab.about.hash, open(copy.folder()).unwrap().about.hash);
    let error = Lab::open(&format!("{path}@step601"), DType::F32, &Device::Cpu).err().unwrap();
    assert!(error.to_string().contains("@step600"), "{error}");
}

#[test]
fn two_tokenizer_files_read_as_the_original_does() {
    let lab = open(&tiny("gpt2-bpe")).unwrap();
    let expected: Value = serde_json::from_slice(&std::fs::read(fixture("gpt2-bpe.json")).unwrap()).unwrap();
    for case in expected.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u64> = case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        let ours: Vec<u64> = lab.vocabulary.encode(text).unwrap().into_iter().map(u64::from).collect();
        assert_eq!(ours, ids, "{text:?}");
    }
    assert_eq!(lab.vocabulary.bos(Bos::Auto).unwrap(), None);
    assert_eq!(lab.vocabulary.bos(Bos::Yes).unwrap(), Some(319));
    assert_eq!(lab.vocabulary.token(319), "<|endoftext|>");
}

#[test]
fn what_stands_beside_a_model_is_passed_on() {
    let copy = Copy::of("gpt2");
    std::fs::write(copy.path("caveats.txt"), "Designed.\n\nNot discovered.\n").unwrap();
    std::fs::write(copy.path("circuit.json"), r#"{"ioi": {"roles": {"mover": ["a2.h0"]}}}"#).unwrap();
    let about = open(copy.folder()).unwrap().about;
    assert_eq!(about.caveats, ["Designed.", "Not discovered."]);
    assert_eq!(about.circuit.unwrap()["ioi"]["roles"]["mover"][0], "a2.h0");
}

#[test]
fn types_and_devices_are_words() {
    assert_eq!(lab::dtype("f32").unwrap(), DType::F32);
    assert_eq!(lab::dtype("float64").unwrap(), DType::F64);
    assert!(lab::device("auto", DType::F32).unwrap().is_cpu());
    for error in [
        lab::dtype("bf16").err(),
        lab::dtype("f8").err(),
        lab::device("cuda:0", DType::F32).err(),
        lab::device("gpu", DType::F32).err(),
    ] {
        assert_eq!(error.unwrap().exit_code(), 2);
    }
}
