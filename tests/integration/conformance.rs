//! `glassbox verify` as a user runs it.

use std::process::{Command, Output};

use candle_core::Tensor;
use serde_json::Value;

use crate::loading::Copy;

fn verify(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glassbox"));
    command.arg("verify").args(arguments).env_remove("RUST_BACKTRACE").output().unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = verify(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_bundled_model_keeps_every_promise_and_its_dead_places_are_named() {
    let record: Value = serde_json::from_str(&stdout(&["--format", "json"])).unwrap();
    assert_eq!(record["model"], "textbook");
    let promises = record["promises"].as_array().unwrap();
    assert!(promises.len() >= 11, "{}", promises.len());
    for promise in promises {
        let apart = promise["promise"] == "grouped-queries"; // every head has keys and values of its own
        assert_eq!(promise["holds"], if apart { Value::Null } else { true.into() }, "{promise}");
        assert!(apart || promise["measured"].as_f64().unwrap() <= promise["tolerance"].as_f64().unwrap());
    }
    // blocks, each with every place that a plain MLP and learned positions have; and five places outside
    let sites = record["sites"].as_array().unwrap();
    assert_eq!(sites.len(), 3 * 22 + 5);
    for site in sites {
        let name = site["site"].as_str().unwrap();
        let mlp = ["hook_mlp_in", "ln2.hook_scale", "ln2.hook_normalized", "mlp.hook_pre", "mlp.hook_post"];
        let dead = mlp.iter().any(|place| name == format!("blocks.2.{place}"));
        assert_eq!(site["fired"], 1, "{site}");
        assert_eq!(site["moved"].as_f64().unwrap() == 0.0, dead, "{site}");
        assert_eq!(site["note"], if dead { "dead: W_out is zero".into() } else { Value::Null });
        assert!(site["error"].as_f64().unwrap() < 1e-6, "{site}");
    }
}

#[test]
fn tables_are_the_same_bytes_twice_and_change_with_the_seed() {
    let table = |seed| stdout(&["--table", "sites", "--format", "csv", "--quiet", "--seed", seed]);
    assert_eq!(table("1"), table("1"));
    assert_ne!(table("1"), table("2"));
}

/// With W_in and b_in such that no neuron of a layer ever answers, places are dead and no weight is zero.
#[test]
fn a_broken_promise_is_a_failure_with_a_sentence() {
    let copy = Copy::of("gpt2");
    copy.tensors("model.safetensors", |tensors| {
        let bias = tensors.get_mut("transformer.h.1.mlp.c_fc.bias").unwrap();
        *bias = Tensor::full(-1e4f32, bias.dims(), bias.device()).unwrap();
    });
    let output = verify(&["--model", copy.folder().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("breaks 1 of") && said.contains("sites (blocks.1."), "{said}");
    assert!(said.contains("does not move the logits, and no weight explains why"), "{said}");
    let printed = String::from_utf8_lossy(&output.stdout);
    let row = printed.lines().find(|line| line.trim_start().starts_with("sites ")).unwrap();
    assert!(row.split_whitespace().nth(1) == Some("no"), "the record is printed all the same: {row}");
}

#[test]
fn what_cannot_be_printed_is_refused() {
    for (arguments, word) in [
        (&["--format", "csv"][..], "--table"),
        (&["--format", "parquet"], "parquet"),
        (&["--table", "site"], "sites"),
        (&["--model", "textbok"], "textbook"),
    ] {
        let output = verify(arguments);
        assert_ne!(output.status.code(), Some(0));
        assert!(output.stdout.is_empty());
        assert!(String::from_utf8_lossy(&output.stderr).contains(word), "{arguments:?}");
    }
}
