//! Every family that candle-transformers has, against its implementation, on the tiny checkpoints.
//!
//! A second witness next to the values from Hugging Face (`families.rs`): another language, other authors, run here and
//! now. Where candle lacks what a checkpoint has, it is put into the weights that candle gets ([`Case::weights`]), taken
//! out of the config of both ([`Case::both`]), or the checkpoint is listed in [`NOT_COMPARED`] with the reason.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{
    bigcode, falcon, gemma, gemma2, gemma3, granite, llama, mistral, mixtral, olmo, olmo2, phi, phi3, qwen2,
    qwen3, qwen3_moe, smol::smollm3, stable_lm, starcoder2,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::parity::{Copy, difference, tokens, values};
use crate::tiny::{checkpoint, open};

/// Largest difference allowed, relative to max(1, largest logit).
const TOLERANCE: f64 = 1e-4;

/// Checkpoints, and families that candle has not at all. Where candle runs them, its numbers are not those of Hugging Face
/// either, to which `families.rs` holds ours.
const NOT_COMPARED: &[(&str, &str)] = &[
    ("bloom", "candle has no BLOOM"),
    ("gpt2", "candle has no GPT-2"),
    ("gpt_neo", "candle has no GPT-Neo"),
    ("gpt_neox", "candle has no GPT-NeoX"),
    ("gpt_oss", "candle has no gpt-oss"),
    ("gptj", "candle has no GPT-J"),
    ("hooked_transformer", "TransformerLens' own format"),
    ("opt", "candle has no OPT"),
    ("falcon-alibi", "no linear biases: `alibi is not supported`"),
    ("falcon-grouped", "`new_decoder_architecture is not supported`"),
    ("falcon-one-norm", "`new_decoder_architecture is not supported`"),
    (
        "gpt_bigcode-heads",
        "a key-value head for each query head fails: \"Shape mismatch, got buffer of size 60\" where heads are split",
    ),
    ("granite-bias", "no biases: 18 off, where the largest logit is 15"),
    ("llama-bias", "no biases, no head_dim, silu only"),
    ("llama-dynamic", "no dynamic rotary scaling"),
    ("llama-mscale", "no yarn"),
    ("llama-tied", "no head_dim: heads are of hidden_size / num_attention_heads"),
    ("llama-yarn", "no yarn"),
    (
        "phi-norms",
        "norms of queries and keys come before the heads are split and fail: \"shape mismatch in layer-norm\"",
    ),
    ("phi3-longrope", "as phi3-type, and no windows: 16 off, where the largest logit is 17"),
    (
        "phi3-type",
        "longrope multiplies frequencies by its factors instead of dividing: 3.7 off, where the largest logit is 3.9",
    ),
    ("stablelm-parallel", "no norms of queries and keys, no parallel residual"),
    ("starcoder2-bare", "the head is always the embedding: 18 off, where the largest logit is 4"),
];

type Weights = HashMap<String, Tensor>;
/// Token ids `[1, pos]` → logits of the last position, in any shape.
type Theirs = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

/// A checkpoint and what makes candle compute the same.
struct Case {
    name: &'static str,
    /// Keys of the config that are changed for both.
    both: Value,
    /// Keys that are changed for candle.
    theirs: Value,
    /// What is done to the weights that candle gets.
    weights: fn(&mut Weights),
}

/// A checkpoint that candle takes as it is.
fn case(name: &'static str) -> Case {
    Case { name, both: json!({}), theirs: json!({}), weights: |_| () }
}

fn cases() -> Vec<Case> {
    vec![
        // its GELU is the tanh approximation, which is not Falcon's
        Case { both: json!({"activation": "gelu_pytorch_tanh"}), ..case("falcon") },
        // the key that counts where there are two
        Case { theirs: json!({"hidden_act": null}), ..case("gemma") },
        case("gemma-bias"),
        // windows are in every layer or in none; scores are divided by √head_dim
        Case {
            both: json!({"sliding_window": 40}),
            weights: |w| scale(w, "q_proj.weight", (14f64 / 9.).sqrt()),
            ..case("gemma2")
        },
        Case {
            both: json!({"sliding_window": 29}),
            weights: |w| {
                scale(w, "q_proj.weight", (12f64 / 20.).sqrt());
                scale(w, "q_proj.bias", (12f64 / 20.).sqrt());
            },
            ..case("gemma2-uncapped")
        },
        // layers without windows fail with more than one key-value head: "slice-set only supports contiguous tensors"
        Case {
            both: json!({"sliding_window_pattern": 9}),
            weights: |w| scale_gain(w, "q_norm.weight", (14f64 / 9.).sqrt()),
            ..case("gemma3")
        },
        // every n-th layer has no window, counted from the end of the first n
        Case {
            both: json!({"layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]}),
            theirs: json!({"sliding_window_pattern": 4, "rope_theta": 300.0, "rope_local_base_freq": 50.0}),
            weights: |w| scale_gain(w, "q_norm.weight", (12f64 / 20.).sqrt()),
            ..case("gemma3-capped")
        },
        case("gpt_bigcode"),
        // no multipliers
        Case {
            weights: |w| {
                scale(w, "embed_tokens.weight", 3.0);
                scale(w, "q_proj.weight", 0.3 * 6f64.sqrt());
                scale(w, "o_proj.weight", 0.6);
                scale(w, "down_proj.weight", 0.6);
                scale(w, "lm_head.weight", 1. / 2.5);
            },
            ..case("granite")
        },
        case("llama"),
        // every wavelength is long: the llama-3 scaling divides all frequencies
        Case {
            theirs: json!({"rope_scaling": {
                "rope_type": "llama3", "factor": 3.0, "low_freq_factor": 1e6, "high_freq_factor": 2e6,
                "original_max_position_embeddings": 1,
            }}),
            ..case("llama-linear")
        },
        case("mistral"),
        case("mistral-tied"),
        // windows cannot be left out
        Case { theirs: json!({"sliding_window": 40}), ..case("mixtral") },
        case("mixtral-window"),
        case("olmo"),
        case("olmo-clipped"),
        case("olmo2"),
        case("olmo2-grouped"),
        case("phi"),
        // no windows; this one is longer than the prompts
        case("phi3"),
        case("qwen2"),
        // windows are in every layer
        Case {
            both: json!({"layer_types": ["sliding_attention", "sliding_attention", "sliding_attention"]}),
            ..case("qwen2-window")
        },
        case("qwen3"),
        // no windows
        Case { both: json!({"use_sliding_window": false, "layer_types": null}), ..case("qwen3-window") },
        Case { theirs: json!({"num_experts": 4}), ..case("qwen3_moe") },
        // no `mlp_only_layers`; the one layer with experts that they leave is the fourth
        Case {
            theirs: json!({"num_experts": 5, "decoder_sparse_step": 4, "max_window_layers": 0}),
            ..case("qwen3_moe-sparse")
        },
        case("smollm3"),
        // no windows
        Case {
            both: json!({"use_sliding_window": false, "sliding_window": null, "layer_types": null}),
            ..case("smollm3-window")
        },
        case("stablelm"),
        case("starcoder2"),
    ]
}

fn changed(weights: &mut Weights, ending: &str, change: impl Fn(&Tensor) -> Result<Tensor>) {
    let found = weights.iter_mut().filter(|(name, _)| name.ends_with(ending));
    let count = found.map(|(_, tensor)| *tensor = change(tensor).unwrap()).count();
    assert!(count > 0, "no tensor is called {ending}");
}

fn scale(weights: &mut Weights, ending: &str, by: f64) {
    changed(weights, ending, |w| w * by);
}

/// The same of a gain of 1 + w.
fn scale_gain(weights: &mut Weights, ending: &str, by: f64) {
    changed(weights, ending, |w| w.affine(by, by - 1.));
}

/// A model of candle's, cloned for each prompt so that its cache begins empty.
fn cloned<C: DeserializeOwned, M: Clone + 'static>(
    config: Value,
    load: impl Fn(&C) -> Result<M>,
    run: impl Fn(&mut M, &Tensor) -> Result<Tensor> + 'static,
) -> Theirs {
    let model = load(&serde_json::from_value(config).unwrap()).unwrap();
    Box::new(move |tokens| run(&mut model.clone(), tokens))
}

/// Candle's model of a family, if it has the family.
fn theirs(family: &str, config: Value, w: VarBuilder) -> Option<Theirs> {
    Some(match family {
        "falcon" => cloned(
            config,
            |c: &falcon::Config| falcon::Falcon::load(w.clone(), c.clone()),
            |m, x| m.forward(x),
        ),
        "gemma" => cloned(config, |c| gemma::Model::new(false, c, w.clone()), |m, x| m.forward(x, 0)),
        "gemma2" => cloned(config, |c| gemma2::Model::new(false, c, w.clone()), |m, x| m.forward(x, 0)),
        "gemma3_text" => cloned(config, |c| gemma3::Model::new(false, c, w.clone()), |m, x| m.forward(x, 0)),
        "gpt_bigcode" => {
            let size = |key: &str| config[key].as_u64().unwrap() as usize;
            let config = bigcode::Config {
                vocab_size: size("vocab_size"),
                max_position_embeddings: size("n_positions"),
                num_hidden_layers: size("n_layer"),
                hidden_size: size("n_embd"),
                layer_norm_epsilon: config["layer_norm_epsilon"].as_f64().unwrap(),
                n_inner: config["n_inner"].as_u64().map(|n| n as usize),
                num_attention_heads: size("n_head"),
                multi_query: config["multi_query"].as_bool().unwrap(),
                use_cache: false,
            };
            let model = RefCell::new(bigcode::GPTBigCode::load(w, config).unwrap());
            Box::new(move |tokens| model.borrow_mut().forward(tokens, 0))
        }
        "granite" => {
            let config = serde_json::from_value::<granite::GraniteConfig>(config).unwrap().into_config(false);
            let model = granite::Granite::load(w, &config).unwrap();
            Box::new(move |tokens| {
                let mut cache = granite::Cache::new(false, DType::F32, &config, &Device::Cpu)?;
                model.forward(tokens, 0, &mut cache)
            })
        }
        "llama" => {
            let config = serde_json::from_value::<llama::LlamaConfig>(config).unwrap().into_config(false);
            let model = llama::Llama::load(w, &config).unwrap();
            Box::new(move |tokens| {
                let mut cache = llama::Cache::new(false, DType::F32, &config, &Device::Cpu)?;
                model.forward(tokens, 0, &mut cache)
            })
        }
        "mistral" => cloned(config, |c| mistral::Model::new(c, w.clone()), |m, x| m.forward(x, 0)),
        "mixtral" => cloned(config, |c| mixtral::Model::new(c, w.clone()), |m, x| m.forward(x, 0)),
        "olmo" => cloned(config, |c| olmo::Model::new(c, w.clone()), |m, x| m.forward(x, 0)),
        "olmo2" => cloned(config, |c| olmo2::Model::new(c, w.clone()), |m, x| m.forward(x, 0)),
        "phi" => cloned(config, |c| phi::Model::new(c, w.clone()), |m, x| m.forward(x)),
        "phi3" => cloned(config, |c| phi3::Model::new(c, w.clone()), |m, x| m.forward(x, 0)),
        "qwen2" => cloned(config, |c| qwen2::ModelForCausalLM::new(c, w.clone()), |m, x| m.forward(x, 0)),
        "qwen3" => cloned(config, |c| qwen3::ModelForCausalLM::new(c, w.clone()), |m, x| m.forward(x, 0)),
        "qwen3_moe" => {
            cloned(config, |c| qwen3_moe::ModelForCausalLM::new(c, w.clone()), |m, x| m.forward(x, 0))
        }
        "smollm3" => cloned(config, |c| smollm3::ModelForCausalLM::new(c, w.clone()), |m, x| m.forward(x, 0)),
        "stablelm" => {
            let config: stable_lm::Config = serde_json::from_value(config).unwrap();
            let model = RefCell::new(stable_lm::Model::new(&config, w).unwrap());
            Box::new(move |tokens| model.borrow_mut().forward(tokens, 0))
        }
        "starcoder2" => cloned(config, |c| starcoder2::Model::new(c, w.clone()), |m, x| m.forward(x, 0)),
        _ => return None,
    })
}

/// The weights in a folder, in float32. Heads that are the embedding are there as both.
fn weights(copy: &Copy) -> Weights {
    let files = copy.weight_files();
    let all = files.iter().flat_map(|file| candle_core::safetensors::load(file, &Device::Cpu).unwrap());
    let mut all: Weights = all.map(|(name, tensor)| (name, tensor.to_dtype(DType::F32).unwrap())).collect();
    let embed = ["model.embed_tokens.weight", "transformer.word_embeddings.weight"];
    if let Some(embed) = embed.iter().find_map(|name| all.get(*name)).cloned() {
        all.entry("lm_head.weight".to_owned()).or_insert(embed);
    }
    all
}

/// A config with the keys that candle looks for, and in its sense.
fn adapted(mut config: Value) -> Value {
    let rope = config["rope_parameters"].clone();
    for key in ["rope_theta", "partial_rotary_factor"] {
        if config.get(key).is_none() && !rope[key].is_null() {
            config[key] = rope[key].clone();
        }
    }
    // a window of candle's is how far a query looks back, and its own position comes on top; of the others, it is how many
    // positions it sees (without this, mistral is 4.4 off, where the largest logit is 4.5)
    if let Some(window) = config["sliding_window"].as_u64() {
        config["sliding_window"] = (window - 1).into();
    }
    for (key, value) in [("use_flash_attn", false), ("use_cache", false), ("tie_word_embeddings", true)] {
        if config.get(key).is_none() || key == "use_cache" {
            config[key] = value.into();
        }
    }
    config
}

fn set(config: &mut Value, changes: &Value) {
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
}

fn config_of(copy: &Copy) -> Value {
    serde_json::from_slice(&std::fs::read(copy.folder.path().join("config.json")).unwrap()).unwrap()
}

/// The prompts that the reference values of a checkpoint are of, one row each.
fn prompts(name: &str) -> Tensor {
    let file = if name == "llama" { name.to_owned() } else { format!("families/{name}") };
    tokens(&values(&file), "tokens")
}

/// Largest difference from candle over all prompts and their positions, and the largest logit.
fn disagreement(case: &Case) -> (f64, f64) {
    let copy = Copy::of(case.name);
    let mut config = config_of(&copy);
    set(&mut config, &case.both);
    std::fs::write(copy.folder.path().join("config.json"), config.to_string()).unwrap();
    let family = config["model_type"].as_str().unwrap().to_owned();
    let mut config = adapted(config);
    set(&mut config, &case.theirs);
    let mut weights = weights(&copy);
    (case.weights)(&mut weights);
    let theirs =
        theirs(&family, config, VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu)).unwrap();

    let prompts = prompts(case.name);
    let ours = open(copy.folder.path(), DType::F32).unwrap().forward(&prompts, &mut ()).unwrap();
    let (rows, columns) = prompts.dims2().unwrap();
    let mut worst = (0f64, 0f64);
    for (row, pos) in (0..rows).flat_map(|row| (0..columns).map(move |pos| (row, pos))) {
        let start = prompts.narrow(0, row, 1).unwrap().narrow(1, 0, pos + 1).unwrap().contiguous().unwrap();
        let theirs = theirs(&start).unwrap().flatten_all().unwrap();
        let (off, size) = difference(&ours.get(row).unwrap().get(pos).unwrap(), &theirs);
        worst = (worst.0.max(off), worst.1.max(size));
    }
    worst
}

#[test]
fn families_agree_with_candle_transformers_at_every_position() {
    let mut failures = Vec::new();
    for case in cases() {
        let (off, size) = disagreement(&case);
        println!("{}: {off:.1e} off, largest logit {size:.1}", case.name);
        if off >= TOLERANCE * size.max(1.) {
            failures.push(format!("{}: {off}", case.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_tiny_checkpoint_is_compared_or_listed_with_the_reason() {
    let compared: BTreeSet<&str> = cases().iter().map(|case| case.name).collect();
    let listed: BTreeMap<&str, &str> = NOT_COMPARED.iter().copied().collect();
    let mut of_use = BTreeSet::new();
    for folder in std::fs::read_dir(checkpoint("")).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        let family =
            config_of(&Copy::of(&name))["model_type"].as_str().unwrap_or("hooked_transformer").to_owned();
        let reasons = [name.as_str(), family.as_str()].map(|key| listed.get_key_value(key));
        let compared = compared.contains(name.as_str());
        assert_ne!(compared, reasons.iter().any(Option::is_some), "{name}, {family}: compared or listed");
        of_use.extend(reasons.into_iter().flatten().map(|(key, _)| *key));
    }
    assert_eq!(of_use, listed.keys().copied().collect(), "a reason for each that there is");
}
