//! Memory: what loading a model takes is said, kept to, and refused where it cannot be had.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::command::Bench;

const LAYERS: usize = 8;
const WIDTH: usize = 512;
const NEURONS: usize = 1408;

/// A rotary model with tied embeddings in a folder of its own, its weights zeros in bf16 that take no room on the disk.
fn zeros(bench: &Bench, vocabulary: usize) -> String {
    let folder = bench.path("zeros");
    fs::create_dir(&folder).unwrap();
    let config = json!({
        "model_type": "llama", "vocab_size": vocabulary, "hidden_size": WIDTH, "intermediate_size": NEURONS,
        "num_hidden_layers": LAYERS, "num_attention_heads": 8, "num_key_value_heads": 8, "hidden_act": "silu",
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut shapes = vec![("model.embed_tokens".to_owned(), vec![vocabulary, WIDTH])];
    for layer in 0..LAYERS {
        let mut put = |name: &str, shape: &[usize]| {
            shapes.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        };
        for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            put(&format!("self_attn.{name}"), &[WIDTH, WIDTH]);
        }
        put("mlp.gate_proj", &[NEURONS, WIDTH]);
        put("mlp.up_proj", &[NEURONS, WIDTH]);
        put("mlp.down_proj", &[WIDTH, NEURONS]);
        put("input_layernorm", &[WIDTH]);
        put("post_attention_layernorm", &[WIDTH]);
    }
    shapes.push(("model.norm".to_owned(), vec![WIDTH]));
    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape) in shapes {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        let about = json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]});
        header.insert(format!("{name}.weight"), about);
    }
    let header = Value::Object(header).to_string();
    let mut file = fs::File::create(folder.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
    folder.display().to_string()
}

/// The most main memory, in bytes, that the program held while it predicted with this model.
fn peak(bench: &Bench, model: &str) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_glassbox"))
        .args(["predict", "--model", model, "--tokens", "1,2,3", "--threads", "2", "--quiet"])
        .current_dir(bench.folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let status = Path::new("/proc").join(child.id().to_string()).join("status");
    let mut most = 0;
    // the mark only rises, so that what was read last before the end counts
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        most = mark.and_then(|mark| mark.trim().parse().ok()).unwrap_or(0).max(most);
        if let Some(end) = child.try_wait().unwrap() {
            assert!(end.success());
            return most * 1024;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn loading_peaks_at_the_converted_model_and_one_tensor() {
    let (bench, vocabulary) = (Bench::new(), 20_000);
    let program = peak(&bench, &crate::tiny::checkpoint("llama-tied").display().to_string());
    let took = peak(&bench, &zeros(&bench, vocabulary)) - program;
    let block = 4 * WIDTH * WIDTH + 3 * NEURONS * WIDTH;
    let converted = 4 * (2 * vocabulary * WIDTH + LAYERS * block) as u64; // the unembedding is a turned copy
    let largest = 2 * (vocabulary * WIDTH) as u64;
    assert!(converted > 180_000_000);
    assert!(took as f64 <= 1.15 * (converted + largest) as f64, "{took} for {converted} and {largest}");
    assert!(
        took as f64 >= 0.9 * converted as f64,
        "{took} is less than the model's {converted}: not measured"
    );
}

#[test]
fn a_model_beyond_the_memory_is_refused_before_it_is_read() {
    let bench = Bench::new();
    let model = zeros(&bench, 1_000_000_000);
    let run = bench.run(&["predict", "--model", &model, "--tokens", "1,2,3"]);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("zeros: 512.0 B weights, 4096.1 GB in f32; "), "{said}");
    assert!(said.contains("error: zeros needs 5120.1 GB of memory in f32, and "), "{said}");
    assert!(said.contains("hint: "), "{said}");
}

#[test]
fn a_small_model_is_opened_without_a_word_on_memory() {
    let run = Bench::new().run(&["predict", "--tokens", "1,2,3"]);
    assert!(run.status.success());
    assert!(!String::from_utf8_lossy(&run.stderr).contains("available"));
}
