//! Files that are not as they should be: each is refused in a sentence with its facts and a way out, and never by a panic.

use std::fs;

use candle_core::{DType, Device, Tensor};
use glassbox::Error;
use glassbox::lab::Lab;
use serde_json::{Value, json};

use crate::loading::{Copy, open, tiny};

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const INDEX: &str = "model.safetensors.index.json";
const SHARD: &str = "model-00002-of-00002.safetensors";

/// Changes a copy of a tiny checkpoint and holds the error to these words, one of them in its hint.
fn refused(name: &str, change: impl FnOnce(&Copy), words: &[&str], hint: &str) {
    let copy = Copy::of(name);
    change(&copy);
    let error = open(copy.folder()).err().unwrap_or_else(|| panic!("{words:?} was accepted"));
    let text = error.to_string();
    println!("{text}\n");
    let (message, way_out) = text.split_once("\n  hint: ").unwrap_or_else(|| panic!("no hint: {text}"));
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    assert!(way_out.contains(hint), "{hint:?} is not in the hint: {way_out}");
    assert_eq!(error.exit_code(), 1, "{text}");
}

fn config(key: &'static str, value: Value) -> impl FnOnce(&Copy) {
    move |copy| copy.json(CONFIG, |config| config[key] = value)
}

fn weights(name: &'static str, tensor: Option<Tensor>) -> impl FnOnce(&Copy) {
    move |copy| {
        copy.tensors(WEIGHTS, |tensors| match tensor {
            Some(tensor) => drop(tensors.insert(name.into(), tensor)),
            None => drop(tensors.remove(name)),
        });
    }
}

fn ones(shape: &[usize]) -> Tensor {
    Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn configs_that_would_mean_other_numbers() {
    let gpt2 = |key, value, words: &[&str], hint| refused("gpt2", config(key, value), words, hint);
    gpt2("model_type", "rnn".into(), &["\"rnn\""], "llama, mistral");
    gpt2("model_type", Value::Null, &["`model_type` is missing"], "gpt2");
    gpt2("n_layer", Value::Null, &["`n_layer` is missing"], "saved with the weights");
    gpt2("n_layer", "three".into(), &["`n_layer` is \"three\""], "saved with the weights");
    gpt2("n_layer", (-3).into(), &["`n_layer` is -3"], "");
    gpt2("n_layer", 0.into(), &["`n_layer` is 0"], "");
    gpt2(
        "n_layer",
        2_000_000_000.into(),
        &["`n_layer` is 2000000000, but a whole number from 1 to 65536 is needed"],
        "saved with the weights",
    );
    gpt2(
        "n_layer",
        4.into(),
        &["transformer.h.3.attn.c_attn.weight is missing"],
        "nearest are transformer.h.",
    );
    gpt2("n_head", 5.into(), &["`n_head` is 5"], "divisors of the width 24");
    gpt2("vocab_size", u64::MAX.into(), &["`vocab_size`"], "");
    gpt2("layer_norm_epsilon", 0.into(), &["`layer_norm_epsilon` is 0"], "");
    gpt2("activation_function", "mish".into(), &["mish"], "gelu_new");
    gpt2("add_cross_attention", true.into(), &["`add_cross_attention` is true"], "supported: false");
    gpt2("pruned_heads", json!({"1": [0]}), &["`pruned_heads`"], "supported: {}");
    gpt2("n_ctx", 16.into(), &["`n_ctx` is 16"], "supported: 32");
    gpt2("n_layers", 3.into(), &["unknown key `n_layers`"], "remove it");
    gpt2("soft_cap", 30.0.into(), &["unknown key `soft_cap`"], "remove it");
    gpt2("quantization_config", json!({"bits": 4}), &["the weights are quantised"], "expand them");
    let llama = |key, value, words: &[&str], hint| refused("llama", config(key, value), words, hint);
    llama("num_key_value_heads", 3.into(), &["`num_key_value_heads` is 3"], "divisors");
    llama("head_dim", 7.into(), &["`head_dim` is 7"], "even");
    llama(
        "rope_scaling",
        json!({"rope_type": "spiral", "factor": 2.0}),
        &["`rope_type` is \"spiral\""],
        "llama3",
    );
    llama("rope_scaling", json!({"rope_type": "llama3"}), &["rope_scaling: the key `factor` is missing"], "");
    llama("rope_parameters", json!({"rope_theta": 7.0}), &["rope_parameters: `rope_theta` is 7.0"], "100");
    llama("rope_parameters", json!({}), &["`rope_parameters` is \"another rotation\""], "`rope_scaling`");
    llama("partial_rotary_factor", 0.5.into(), &["`partial_rotary_factor` is 0.5"], "");
    llama("sliding_window", 4096.into(), &["`sliding_window`"], "");
}

#[test]
fn weights_that_do_not_belong_to_the_config() {
    const EMBEDDING: &str = "transformer.wte.weight";
    let gpt2 = |name, tensor, words: &[&str], hint| refused("gpt2", weights(name, tensor), words, hint);
    gpt2(
        "transformer.ln_f.bias",
        None,
        &["transformer.ln_f.bias is missing from model.safetensors"],
        "nearest are transformer.h.0.ln_1.bias",
    );
    gpt2(
        "transformer.h.0.extra",
        Some(ones(&[2])),
        &["1 tensor left over", "transformer.h.0.extra"],
        "config",
    );
    gpt2("score.weight", Some(ones(&[2, 24])), &["score.weight"], "config");
    gpt2(EMBEDDING, Some(ones(&[24, 101])), &[EMBEDDING, "[24, 101]", "[101, 24]"], "belong together");
    gpt2(EMBEDDING, Some(ones(&[101])), &[EMBEDDING, "[101]"], "belong together");
    let whole = ones(&[101, 24]).to_dtype(DType::I64).unwrap();
    gpt2(EMBEDDING, Some(whole), &[EMBEDDING, "I64"], "BF16");
    for bad in [f32::NAN, f32::INFINITY] {
        let mut values = vec![0f32; 101 * 24];
        (values[0], values[77]) = (bad, bad);
        let tensor = Tensor::from_vec(values, (101, 24), &Device::Cpu).unwrap();
        gpt2(EMBEDDING, Some(tensor), &[EMBEDDING, "2 values of 2424", "NaN or infinite"], "damaged");
    }
    let large = Tensor::full(1e300f64, (101, 24), &Device::Cpu).unwrap();
    gpt2(EMBEDDING, Some(large), &["2424 values", "as f32"], "");
    gpt2(
        "lm_head.weight",
        Some(ones(&[101, 24])),
        &["lm_head.weight is tied", "differ"],
        "tie_word_embeddings",
    );
}

#[test]
fn files_that_are_missing_or_damaged() {
    let gone = |name: &'static str| move |copy: &Copy| fs::remove_file(copy.path(name)).unwrap();
    let text =
        |name: &'static str, text: &'static str| move |copy: &Copy| fs::write(copy.path(name), text).unwrap();
    refused("gpt2", gone(CONFIG), &["holds no config.json"], "Hugging Face layout");
    refused("gpt2", gone(WEIGHTS), &["holds no model.safetensors"], "Hugging Face layout");
    refused("gpt2", text(CONFIG, "{\"n_layer\": 3"), &["cannot parse", "config.json", "line 1"], "again");
    refused("gpt2", text(CONFIG, "[1, 2]"), &["not a JSON object"], "again");
    refused("gpt2", text(CONFIG, ""), &["cannot parse", "config.json"], "again");
    refused("gpt2", text(WEIGHTS, ""), &["has only 0 bytes"], "again");
    refused("gpt2", text(WEIGHTS, "a picture, and by no means a model"), &["its header"], "again");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";
    refused("gpt2", text(WEIGHTS, pointer), &["model.safetensors"], "git lfs pull");
    refused("gpt2", text("circuit.json", "{"), &["circuit.json"], "again");
    let moved = |to: &'static str| move |copy: &Copy| fs::rename(copy.path(WEIGHTS), copy.path(to)).unwrap();
    refused("gpt2", moved("pytorch_model.bin"), &["no file that torch.save wrote"], "model.state_dict()");
    refused("gpt2", moved("weights.safetensors"), &["no model.safetensors"], "rename it");
    let folder = |copy: &Copy| {
        gone(WEIGHTS)(copy);
        fs::create_dir(copy.path(WEIGHTS)).unwrap();
    };
    refused("gpt2", folder, &["is not a file"], "");
    refused("gpt2-bpe", gone("merges.txt"), &["cannot read", "merges.txt"], "");
    refused("gpt2-bpe", text("merges.txt", "#version: 0.2\na b c\n"), &["line 2", "a b c"], "");
    refused("gpt2-bpe", text("merges.txt", "zz zz\n"), &["cannot parse", "vocab.json"], "");
    refused("gpt2-bpe", text("vocab.json", "{\"a\": \"b\"}"), &["vocab.json"], "");
    refused("gpt2-bpe", text("tokenizer.json", "{}"), &["cannot parse", "tokenizer.json"], "");
}

#[test]
fn shards_that_do_not_make_a_whole() {
    let shards = |change: &dyn Fn(&Copy), words: &[&str], hint| refused("llama-tied", change, words, hint);
    shards(&|copy| fs::remove_file(copy.path(SHARD)).unwrap(), &["cannot read", SHARD], INDEX);
    shards(&|copy| fs::remove_file(copy.path(INDEX)).unwrap(), &["no model.safetensors"], INDEX);
    shards(&|copy| fs::write(copy.path(INDEX), "{}").unwrap(), &[INDEX, "weight_map"], "again");
    let index = |tensor: &'static str, file: Value| {
        move |copy: &Copy| copy.json(INDEX, |index| index["weight_map"][tensor] = file.clone())
    };
    let norm = "model.norm.weight";
    shards(&index(norm, "../other.safetensors".into()), &["outside"], "beside");
    shards(&index(norm, 3.into()), &["weight_map"], "again");
    shards(&index("model.absent", SHARD.into()), &["model.absent", "none of the shards"], "together");
    let other = "model-00001-of-00002.safetensors";
    shards(&index(norm, other.into()), &[norm, "it is in model-00002"], "together");
    let twice = |copy: &Copy| {
        copy.tensors(SHARD, |tensors| {
            drop(tensors.insert("model.embed_tokens.weight".into(), ones(&[89, 32])));
        });
    };
    shards(&twice, &["model.embed_tokens.weight", "both in"], "mixed");
}

#[test]
fn models_that_do_not_exist() {
    for name in ["no-such-model", "", "no/such/folder", "textbook@stepmany", "textbok"] {
        let error = Lab::open(name, DType::F32, &Device::Cpu).err().unwrap();
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(matches!(error, Error::Usage { .. }), "{error}");
    }
    let error = Lab::open("no-such-model", DType::F32, &Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("bundled: ") && error.contains("Hugging Face layout"), "{error}");
    assert!(Lab::open(tiny("gpt2").to_str().unwrap(), DType::F16, &Device::Cpu).is_err());
}

#[test]
fn prompts_that_the_model_cannot_read() {
    let model = open(&tiny("gpt2")).unwrap().model;
    let run =
        |tokens: &[u32]| model.forward(&model.tokens(&[tokens]).unwrap(), &mut ()).unwrap_err().to_string();
    assert!(run(&[1, 101]).contains("101 is outside the vocabulary of 101"));
    assert!(run(&[]).contains("empty"));
    assert!(run(&[1; 33]).contains("33 tokens, but the model's context is 32"));
}

#[test]
fn a_file_cut_short_anywhere_is_an_error() {
    for (name, file) in [
        ("gpt2-bpe", WEIGHTS),
        ("gpt2-bpe", CONFIG),
        ("gpt2-bpe", "vocab.json"),
        ("llama-tied", INDEX),
        ("llama-tied", SHARD),
    ] {
        let copy = Copy::of(name);
        let whole = fs::read(copy.path(file)).unwrap();
        let end = whole.iter().rposition(|byte| !byte.is_ascii_whitespace()).unwrap();
        let fine = if whole.len() < 5000 { 7 } else { 211 };
        let cuts = (0..16).chain((16..end).step_by(fine)).chain([end]);
        for length in cuts {
            fs::write(copy.path(file), &whole[..length]).unwrap();
            assert!(open(copy.folder()).is_err(), "{name}/{file} cut to {length} bytes");
        }
        fs::write(copy.path(file), [&whole[..], b"\0"].concat()).unwrap();
        assert!(open(copy.folder()).is_err(), "{name}/{file} with a byte too many");
    }
}

#[test]
fn a_flipped_bit_in_the_header_is_an_error() {
    let copy = Copy::of("gpt2-bpe");
    let whole = fs::read(copy.path(WEIGHTS)).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8_lossy(&whole[..header]);
    let json = text.trim_end().len(); // the padding after it is free
    let metadata = text.find('}').unwrap(); // as is what they say: {"__metadata__":{"format":"pt"}
    let free = text.find("format").unwrap()..metadata;
    for at in (0..json).filter(|at| !free.contains(at)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(copy.path(WEIGHTS), bytes).unwrap();
        assert!(open(copy.folder()).is_err(), "bit {} of byte {at}, {:?}", at % 8, whole[at] as char);
    }
}
