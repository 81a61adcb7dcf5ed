//! `glassbox generate` as a user runs it.

use serde_json::Value;

use crate::command::Bench;

const PROMPT: &str = "When Mary and John went to the store , John gave a drink to";

fn rows(bench: &Bench, arguments: &[&str]) -> Vec<Value> {
    let said = bench.ok(&[&["generate", "--quiet", "--format", "json"], arguments].concat());
    serde_json::from_str(&said).unwrap()
}

/// The text of every continuation.
fn texts(bench: &Bench, arguments: &[&str]) -> Vec<String> {
    let texts = rows(bench, &[arguments, &["--table", "texts"]].concat());
    texts.iter().map(|row| row["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_prompt_is_continued_and_every_token_accounted_for() {
    let bench = Bench::new();
    let said = bench.ok(&["generate", "--prompt", PROMPT, "--max-tokens", "3", "--quiet"]);
    assert_eq!(said, format!("<bos> {PROMPT} ▸ Mary . The\n"));
    let tokens = rows(&bench, &["--prompt", PROMPT, "--max-tokens", "3"]);
    let words: Vec<&str> = tokens.iter().map(|row| row["token"].as_str().unwrap()).collect();
    assert_eq!(words, ["Mary", ".", "The"]);
    let predicted = bench.ok(&["predict", "--prompt", PROMPT, "--format", "json", "--quiet"]);
    let predicted: Vec<Value> = serde_json::from_str(&predicted).unwrap();
    let number = |row: &Value, name: &str| row[name].as_f64().unwrap();
    assert!((number(&tokens[0], "prob") - number(&predicted[0], "prob")).abs() < 1e-6);
    for row in &tokens {
        assert!((number(row, "log_prob").exp() - number(row, "prob")).abs() < 1e-9);
        assert!(number(row, "entropy") >= 0.0 && row["picked"] == 1.0);
    }
    assert_eq!(tokens[0]["pos"], 15);
    let stopped = rows(&bench, &["--prompt", PROMPT, "--stop", ".", "--stop", "#700", "--table", "texts"]);
    assert_eq!((&stopped[0]["text"], &stopped[0]["stopped"]), (&" Mary .".into(), &"stop".into()));
    let full = rows(&bench, &["--prompt", PROMPT, "--max-tokens", "500", "--table", "texts"]);
    assert_eq!((&full[0]["tokens"], &full[0]["stopped"]), (&(48 - 15).into(), &"context".into()));
}

#[test]
fn draws_follow_the_seed() {
    let bench = Bench::new();
    let draw = |seed: &str| {
        texts(&bench, &["--prompt", "Yesterday", "--top-p", "0.95", "--samples", "2", "--seed", seed])
    };
    let (first, other) = (draw("1"), draw("2"));
    assert_eq!(first, draw("1"));
    assert!(first != other && first[0] != first[1]);
}

#[test]
fn gains_decide() {
    let bench = Bench::new();
    // naming Mary wrongly is dear, so that the runner-up is worth more
    let gains = bench.file("gains.json", r#"{"Mary": {"gain": 1, "cost": 1e9}}"#);
    let one = ["--prompt", PROMPT, "--max-tokens", "1"];
    assert_eq!(texts(&bench, &one), [" Mary"]);
    let wary = rows(&bench, &[&one[..], &["--gains", &gains]].concat());
    assert_ne!(wary[0]["token"], "Mary");
    let expected = |row: &Value| row["expected_gain"].as_f64().unwrap() - row["prob"].as_f64().unwrap();
    assert!(expected(&wary[0]).abs() < 1e-12);
}

#[test]
fn edits_change_what_is_said() {
    let bench = Bench::new();
    // both name movers out: the answer is lost; one comparison, unedited first
    let said = texts(&bench, &["--prompt", PROMPT, "--ablate", "a2.h0,a2.h1", "--max-tokens", "1"]);
    assert!(said[0] == " Mary" && said[1] != " Mary", "{said:?}");
    let alone = ["--prompt", PROMPT, "--ablate", "a2.h0,a2.h1", "--max-tokens", "1", "--no-compare"];
    assert_eq!(texts(&bench, &alone), said[1..]);
    let mean = texts(&bench, &[&alone[..], &["--with", "mean"]].concat());
    assert_ne!(mean[0], " Mary");

    // S-inhibition of the mirrored sentence gives the mirrored answer
    let other = PROMPT.replace("John gave", "Mary gave");
    let patch = ["--prompt", PROMPT, "--patch", "a1.h1@end", "--from", &other, "--max-tokens", "1"];
    assert_eq!(texts(&bench, &patch), [" Mary", " John"]);
    // the whole stream of another prompt is that prompt's answer
    let capital = |from: &str, patch: &str| {
        let all =
            ["--prompt", "The capital of France is", "--patch", patch, "--from", from, "--max-tokens", "1"];
        texts(&bench, &all)
    };
    assert_eq!(capital("The capital of Italy is", "blocks.1.hook_resid_pre"), [" Paris", " Rome"]);
    assert_eq!(capital("The capital of Italy is", "embed@4"), [" Paris", " Rome"]);
    assert_eq!(capital("Yesterday The capital of Italy is", "embed@4:5"), [" Paris", " Rome"]);
}

#[test]
fn a_direction_is_found_added_written_and_used_again() {
    let bench = Bench::new();
    let steer = |more: &[&str]| {
        let all = ["--prompt", "The key beside the table", "--position", "2", "--max-tokens", "1"];
        texts(&bench, &[&all[..], more].concat())
    };
    let contrast = ["--steer", "The lamp => The lamps"];
    assert_eq!(steer(&contrast), [" is", " are"]);
    assert_eq!(steer(&[&contrast[..], &["--strength", "0"]].concat()), [" is", " is"]);
    assert_eq!(steer(&[&contrast[..], &["--strength", "-1"]].concat()), [" is", " is"]);
    // taken out everywhere, it is missed
    let without = |prompt: &str| {
        let all = ["--prompt", prompt, "--remove", "--no-compare", "--max-tokens", "1"];
        rows(&bench, &[&all[..], &contrast].concat())[0]["prob"].as_f64().unwrap()
    };
    assert!(without("The keys beside the table") < 0.9);

    bench.ok(&["steer", "--n", "32", "randoms=2", "strengths=[0,1]", "--quiet", "--out", "run"]);
    let file = bench.path("run/tensors.safetensors").display().to_string();
    // it points to the singular
    let written = ["--steer-file", &file, "--layer", "1"];
    assert_eq!(steer(&written), [" is", " is"]);
    assert_eq!(steer(&[&written[..], &["--strength", "-1"]].concat()), [" is", " are"]);
}

#[test]
fn what_makes_no_sense_is_refused_with_a_way_out() {
    let bench = Bench::new();
    let one = ["generate", "--quiet", "--prompt", PROMPT];
    let refused = |code, more: &[&str], word: &str| {
        let said = bench.refused(code, &[&one[..], more].concat());
        assert!(said.contains(word), "{more:?}: {said}");
        assert!(said.contains("hint:") || said.contains("--help"), "{more:?} gives no way out: {said}");
    };
    refused(1, &["--ablate", "a9"], "layers 0 to 2");
    refused(2, &["--ablate", "nonsense"], "nonsense");
    refused(2, &["--ablate", "a1.h0@then"], "then");
    refused(2, &["--patch", "m0@4"], "--from");
    refused(2, &["--patch", "m0", "--from", "Mary"], "do not correspond");
    refused(2, &["--patch", "blocks.1.attn.hook_pattern@4", "--from", "Mary"], "hook_z");
    refused(2, &["--steer", "Mary John"], "=>");
    refused(1, &["--steer", "The key => The keys", "--layer", "7"], "layers 0 to 2");
    refused(2, &["--steer", "The key => the key", "--layer", "0"], "no direction");
    refused(2, &["--strength", "2"], "belong to a direction");
    refused(2, &["--remove"], "belong to a direction");
    refused(2, &["--steer", "The key => The keys", "--remove", "--strength", "2"], "--remove");
    refused(2, &["--temperature", "0", "--top-k", "3"], "temperature 0");
    refused(2, &["--samples", "3"], "all samples are the same");
    refused(2, &["--rule", "expected-gain"], "belong together");
    refused(2, &["--no-compare"], "no edit");
    refused(2, &["--top-p", "1.5", "--top-k", "2"], "share");
    refused(1, &["--steer-file", "missing.safetensors"], "missing.safetensors");
    let said = bench.refused(2, &["generate", "--quiet"]);
    assert!(said.contains("there is no prompt"), "{said}");
}
