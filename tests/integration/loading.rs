//! Models open from their files and compute what they should; files that are not as they should be are refused.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use glassbox::lab::Lab;
use glassbox::model::Transformer;

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny").join(name)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn open(path: &Path) -> glassbox::Result<Lab> {
    Lab::open(path.to_str().unwrap(), DType::F32, &Device::Cpu)
}

fn logits(model: &Transformer, tokens: &Tensor) -> Vec<f64> {
    let logits = model.forward(&tokens.to_dtype(DType::U32).unwrap(), &mut ()).unwrap();
    logits.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

#[test]
fn every_tiny_model_opens_and_computes_the_reference_logits() {
    for (name, family, parameters) in [
        ("gpt2", "gpt2", 24_912),
        ("gpt2-bpe", "gpt2", 9_456),
        ("llama", "llama", 20_960),
        ("llama-tied", "llama", 20_672),
    ] {
        let lab = open(&tiny(name)).unwrap();
        assert_eq!((lab.about.name.as_str(), lab.about.family.as_str()), (name, family));
        assert_eq!(lab.vocabulary.has_tokenizer(), name == "gpt2-bpe");
        assert_eq!(lab.about.hash.len(), 64);
        assert_eq!(lab.about.parameters, parameters, "{name}");
        let values =
            candle_core::safetensors::load(fixture(&format!("{name}.safetensors")), &Device::Cpu).unwrap();
        let values: HashMap<String, Tensor> = values;
        let Some(expected) = values.get("logits") else { continue };
        let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
        let ours = logits(&lab.model, &values["tokens"]);
        let size = expected.iter().fold(1f64, |m, x| m.max(f64::from(x.abs())));
        let off = ours.iter().zip(&expected).fold(0f64, |m, (a, b)| m.max((a - f64::from(*b)).abs()));
        assert!(off < 1e-4 * size, "{name}: {off}");
    }
}
