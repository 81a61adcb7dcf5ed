//! Circuits as other programs write and read them: EAP-IG's and MIB's JSON both ways, and `glassbox circuit compare`.

use candle_core::DType;
use glassbox::graph::json::{Read, Shape, read, write};
use glassbox::graph::{Circuit, Edge, Graph, Listed};
use glassbox::model::{Config, Transformer, Wiring};
use proptest::prelude::*;
use serde_json::Value;

use crate::command::Bench;
use crate::styles;

fn graph(config: &Config) -> (Graph, Shape) {
    let model = Transformer::random(config.clone(), 0, DType::F32).unwrap();
    (Graph::of(&model), Shape::of(&model.config))
}

fn back(graph: &Graph, shape: &Shape, text: &str) -> Read {
    read(graph, shape, &Listed::parse("the file", text, None).unwrap()).unwrap()
}

fn refused(graph: &Graph, shape: &Shape, text: &str) -> String {
    read(graph, shape, &Listed::parse("the file", text, None).unwrap()).unwrap_err().to_string()
}

fn named(graph: &Graph, name: &str) -> usize {
    graph.find(name.parse().unwrap()).unwrap()
}

/// A model of one layer with two heads, as EAP-IG's `to_json` writes it: one line, Python's spacing, numbers and `NaN`, all edges in the
/// order in which EAP-IG makes them; here with node scores, of which some are not known.
const FIXTURE: &str = concat!(
    r#"{"cfg": {"n_layers": 1, "n_heads": 2, "parallel_attn_mlp": false, "d_model": 16}, "#,
    r#""nodes": {"input": {"in_graph": true, "score": NaN}, "a0.h0": {"in_graph": true, "score": 0.5}, "#,
    r#""a0.h1": {"in_graph": false, "score": NaN}, "m0": {"in_graph": true, "score": NaN}, "logits": {"in_graph": true}}, "#,
    r#""edges": {"input->a0.h0<q>": {"score": 0.0, "in_graph": false}, "input->a0.h0<k>": {"score": -1.5e-07, "in_graph": false}, "#,
    r#""input->a0.h0<v>": {"score": -2.25, "in_graph": true}, "input->a0.h1<q>": {"score": 0.125, "in_graph": false}, "#,
    r#""input->a0.h1<k>": {"score": 0.0, "in_graph": false}, "input->a0.h1<v>": {"score": 0.0, "in_graph": false}, "#,
    r#""input->m0": {"score": 1.0, "in_graph": true}, "a0.h0->m0": {"score": 3.5, "in_graph": true}, "#,
    r#""a0.h1->m0": {"score": 0.0625, "in_graph": false}, "input->logits": {"score": -0.5, "in_graph": false}, "#,
    r#""a0.h0->logits": {"score": 0.25, "in_graph": false}, "a0.h1->logits": {"score": 0.0, "in_graph": false}, "#,
    r#""m0->logits": {"score": 7.0, "in_graph": true}}}"#,
);

fn small() -> Config {
    Config { n_layers: 1, n_heads: 2, n_kv_heads: 2, d_head: 8, ..Config::tiny() }
}

/// JSON with `NaN`, as Python reads it, in the order of its keys.
fn python(text: &str) -> Value {
    serde_json::from_str(&text.replace("NaN", "null")).unwrap()
}

#[test]
fn a_file_of_eap_ig_is_read_and_written_as_it_is() {
    let (graph, shape) = graph(&small());
    assert_eq!(graph.len(), 13);
    let Read { circuit, scores, notes } = back(&graph, &shape, FIXTURE);
    let kept: Vec<String> = circuit.edges().map(|edge| graph.edge(edge).to_string()).collect();
    assert_eq!(kept, ["input->a0.h0<v>", "input->m0", "a0.h0->m0", "m0->logits"]);
    let scores = scores.unwrap();
    for (name, score) in [("input->a0.h0<k>", -1.5e-7), ("a0.h0->m0", 3.5), ("input->logits", -0.5)] {
        assert_eq!(scores[named(&graph, name)], score, "{name}");
    }
    assert!(notes.is_empty());

    let (ours, theirs) = (python(&write(&graph, &shape, &circuit, Some(&scores)).unwrap()), python(FIXTURE));
    let keys = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&ours), ["cfg", "nodes", "edges"]);
    assert_eq!(ours["cfg"], theirs["cfg"]);
    assert_eq!(ours["edges"], theirs["edges"]);
    assert_eq!(
        (keys(&ours["edges"]), keys(&ours["nodes"])),
        (keys(&theirs["edges"]), keys(&theirs["nodes"])),
        "order"
    );
    for (name, node) in theirs["nodes"].as_object().unwrap() {
        assert_eq!(ours["nodes"][name]["in_graph"], node["in_graph"], "{name}");
    }
}

/// EAP-IG makes its edges node by node; in parallel blocks those into the MLP stand among those into the heads.
#[test]
fn edges_stand_in_eap_igs_order() {
    for wiring in [Wiring::Sequential, Wiring::Parallel] {
        for n_kv_heads in [1, 2, 4] {
            let config = Config { wiring, n_kv_heads, ..Config::tiny() };
            let (graph, shape) = graph(&config);
            let mut expected = Vec::new();
            let mut stream = vec!["input".to_owned()];
            for layer in 0..2 {
                let heads: Vec<String> = (0..4).map(|head| format!("a{layer}.h{head}")).collect();
                for node in &stream {
                    for head in &heads {
                        expected.extend(["q", "k", "v"].map(|channel| format!("{node}->{head}<{channel}>")));
                    }
                    if wiring == Wiring::Parallel {
                        expected.push(format!("{node}->m{layer}"));
                    }
                }
                if wiring == Wiring::Sequential {
                    expected.extend(stream.iter().chain(&heads).map(|node| format!("{node}->m{layer}")));
                }
                stream.extend(heads);
                stream.push(format!("m{layer}"));
            }
            expected.extend(stream.iter().map(|node| format!("{node}->logits")));
            let file = python(&write(&graph, &shape, &Circuit::empty(&graph), None).unwrap());
            let names: Vec<&String> = file["edges"].as_object().unwrap().keys().collect();
            assert_eq!(names, expected.iter().collect::<Vec<_>>(), "{wiring:?} {n_kv_heads}");
            assert_eq!(file["cfg"]["parallel_attn_mlp"], wiring == Wiring::Parallel);
            assert_eq!(file["nodes"].as_object().unwrap().len(), 2 + 2 * 5);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_circuit_comes_back(style in 0usize..100, seed in any::<u64>(), share in 0.0f64..1.0, scored in any::<bool>()) {
        let all = styles::all();
        let (name, config) = &all[style % all.len()];
        let (graph, shape) = graph(config);
        let mut state = seed | 1;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let circuit = Circuit::of(&graph, (0..graph.len()).filter(|_| draw() < share).collect::<Vec<_>>()).unwrap();
        let scores: Option<Vec<f64>> = scored.then(|| (0..graph.len()).map(|_| (draw() - 0.5) * 10f64.powf(20.0 * draw() - 10.0)).collect());
        let text = write(&graph, &shape, &circuit, scores.as_deref()).unwrap();
        let read = back(&graph, &shape, &text);
        prop_assert_eq!(&read.circuit, &circuit, "{}", name);
        prop_assert_eq!(read.notes.len(), 0);
        prop_assert_eq!(read.scores.is_some(), scores.is_some());
        for (a, b) in scores.iter().flatten().zip(read.scores.iter().flatten()) {
            prop_assert!((a - b).abs() <= 1e-12 * a.abs(), "{} {}", a, b);
        }
        // the list of its names means the same circuit
        let names: Vec<String> = circuit.edges().map(|edge| graph.edge(edge).to_string()).collect();
        let list = serde_json::json!({ "edges": names }).to_string();
        prop_assert_eq!(&back(&graph, &shape, &list).circuit, &circuit);
        // and the file compared with itself shares everything, each copy of an edge counting
        let listed = Listed::parse("the file", &text, None).unwrap();
        let same = glassbox::graph::compare::files(&listed, &listed).unwrap();
        prop_assert_eq!(same.edges.iou(), 1.0);
        prop_assert_eq!(same.edges.found, python(&text)["edges"].as_object().unwrap().values().filter(|edge| edge["in_graph"] == true).count());
    }

    #[test]
    fn no_text_makes_a_reader_panic(cut in 0usize..FIXTURE.len(), at in 0usize..FIXTURE.len(), with in any::<char>()) {
        let (graph, shape) = graph(&small());
        let mut text = FIXTURE.to_owned();
        text.replace_range(at..=at, &with.to_string());
        for text in [&FIXTURE[..cut], text.as_str()] {
            if let Ok(listed) = Listed::parse("the file", text, None) {
                let _ = read(&graph, &shape, &listed);
            }
        }
    }
}

#[test]
fn a_shared_key_is_written_once_per_head_and_read_back_as_one() {
    let (graph, shape) = graph(&Config::tiny_rotary());
    let key = named(&graph, "input->a1.kv0<k>");
    let mut scores = vec![0.0; graph.len()];
    scores[key] = 0.75;
    let text = write(&graph, &shape, &Circuit::of(&graph, [key]).unwrap(), Some(&scores)).unwrap();
    let file = python(&text);
    for (head, score, kept) in [(0, 0.375, true), (1, 0.375, true), (2, 0.0, false), (3, 0.0, false)] {
        let edge = &file["edges"][format!("input->a1.h{head}<k>")];
        assert_eq!((&edge["score"], &edge["in_graph"]), (&score.into(), &kept.into()), "{head}");
    }
    assert!(file["nodes"]["a1.h1"]["in_graph"] == true && file["nodes"]["a1.h2"]["in_graph"] == false);
    let copy = "\"input->a1.h1<k>\": {\"score\": 0.375, \"in_graph\": true}";
    assert!(text.contains(copy));
    let half = text.replace(copy, &copy.replace("true", "false"));
    let said = refused(&graph, &shape, &half);
    assert!(
        said.contains("input->a1.kv0<k>") && said.contains("2 heads share it") && said.contains("1 of its"),
        "{said}"
    );
    let gone = text.replace(&format!("{copy},\n"), "");
    assert_ne!(gone, text);
    assert!(refused(&graph, &shape, &gone).contains("1 of its"), "an edge that is missing is not kept");
    // in a list one name is enough, whichever head's it is
    for name in ["input->a1.h0<k>", "input->a1.h1<k>", "input->a1.kv0<k>"] {
        let list = format!("[{name:?}]");
        assert_eq!(back(&graph, &shape, &list).circuit.edges().collect::<Vec<_>>(), [key], "{name}");
    }
}

#[test]
fn files_of_other_models_are_refused_with_numbers() {
    let (graph, shape) = graph(&small());
    let said = refused(
        &graph,
        &shape,
        &FIXTURE.replace("\"n_layers\": 1", "\"n_layers\": 12").replace("16}", "768}"),
    );
    assert!(said.contains("n_layers 12 (here 1)") && said.contains("d_model 768 (here 16)"), "{said}");
    let said = refused(
        &graph,
        &shape,
        &FIXTURE.replace("\"parallel_attn_mlp\": false", "\"parallel_attn_mlp\": true"),
    );
    assert!(said.contains("parallel_attn_mlp true (here false)"), "{said}");
    let said = refused(&graph, &shape, r#"["m0->logits", "m1->logits", "a0.h2->m0", "m0->m0"]"#);
    assert!(said.contains("m1->logits, a0.h2->m0, m0->m0: 3 in all"), "{said}");
    let said = refused(&graph, &shape, r#"["m0->m0"]"#);
    assert!(said.contains("m0 is not computed before m0 reads"), "{said}");
    assert!(write(&graph, &shape, &Circuit::empty(&graph), Some(&[0.0])).is_err());
}

#[test]
fn a_file_need_not_name_every_edge_nor_have_numbers() {
    let (graph, shape) = graph(&small());
    let text =
        r#"{"edges": {"input->m0": {"score": 2.0, "in_graph": true}, "m0->logits": {"in_graph": true}}}"#;
    let Read { circuit, scores, .. } = back(&graph, &shape, text);
    assert_eq!(circuit.len(), 2);
    let scores = scores.unwrap();
    assert_eq!((scores[named(&graph, "input->m0")], scores.iter().sum::<f64>()), (2.0, 2.0));
    let auto = r#"["Resid Start->A0.1", "A0.1->MLP 0", "MLP 0->Resid End"]"#;
    assert_eq!(back(&graph, &shape, auto).circuit.len(), 5);
    assert!(back(&graph, &shape, auto).scores.is_none());
    // the bundled model's own description
    let textbook = include_str!("../../assets/models/textbook/circuit.json");
    let listed = Listed::parse("circuit.json", textbook, Some("facts")).unwrap();
    assert!(listed.kept().contains(&"m0->a2.h2<v>".parse::<Edge>().unwrap()));
}

#[test]
fn two_files_are_compared_without_a_model() {
    let bench = Bench::new();
    let a = bench.file("a.json", FIXTURE);
    let b = bench.file(
        "b.json",
        r#"{"ioi": {"edges": ["a0.h0->m0", "a0.h1->m0"]}, "facts": {"edges": ["m0->logits"]}}"#,
    );
    let csv = csv(&bench, &["circuit", "compare", &a, &b, "--task", "ioi"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "of,a,b,shared,only_a,only_b,iou,precision,recall,f1,auroc,auroc_signed");
    assert!(lines[1].starts_with("edges,4,2,1,3,1,0.2,0.25,0.5,0.333"), "{csv}");
    // |score| 3.5 of 13 has one above it, 0.0625 six (7, 2.25, 1, 0.5, 0.25, 0.125): (10 + 5)/22 of the pairs are in order
    let area: f64 = lines[1].split(',').nth(10).unwrap().parse().unwrap();
    assert!((area - 15.0 / 22.0).abs() < 1e-9, "{csv}");
    assert!(lines[2].starts_with("nodes,3,2,1,2,1,0.25,"), "{csv}");
    let edges =
        bench.ok(&["circuit", "compare", &a, &b, "--task", "ioi", "--table", "edges", "--format", "json"]);
    let edges: Value = serde_json::from_str(&edges).unwrap();
    assert_eq!(edges.as_array().unwrap().len(), 5, "{edges}");

    let cut = bench.file("cut.json", &FIXTURE[..400]);
    let empty = bench.file("empty.json", "");
    let other = bench.file("other.json", &FIXTURE.replace("\"d_model\": 16", "\"d_model\": 64"));
    let unknown = bench.file("unknown.json", r#"["m7->logits"]"#);
    let neurons =
        bench.file("neurons.json", &FIXTURE.replace("\"score\": 0.5}", "\"neurons\": [true, false]}"));
    for (code, word, arguments) in [
        (1, "cut short", vec!["circuit", "compare", &cut, &a]),
        (1, "empty.json", vec!["circuit", "compare", &a, &empty]),
        (1, "d_model is 16", vec!["circuit", "compare", &a, &other]),
        (1, "m7->logits", vec!["circuit", "compare", &a, &unknown]),
        (1, "some neurons of a0.h0", vec!["circuit", "compare", &neurons, &a]),
        (1, "ioi, facts", vec!["circuit", "compare", &a, &b]),
        (1, "missing.json", vec!["circuit", "compare", "missing.json", &a]),
        (2, "compare, edges", vec!["circuit", "compare", &a, &a, "--table", "heads"]),
        (2, "parquet", vec!["circuit", "compare", &a, &a, "--format", "parquet"]),
    ] {
        let said = bench.refused(code, &arguments);
        assert!(said.contains(word) && said.contains("hint:"), "{arguments:?} does not say {word:?}: {said}");
    }
}

/// A quick search on the bundled model.
const QUICK: [&str; 9] =
    ["--quiet", "--task", "ioi", "--n", "4", "edges=12", "method=eap", "resamples=2", "subsets=1"];

fn with<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [first, &QUICK, more].concat()
}

/// A table as CSV, without the quotes around words.
fn csv(bench: &Bench, arguments: &[&str]) -> String {
    bench.ok(&[arguments, &["--format", "csv"]].concat()).replace('"', "")
}

fn json(path: &std::path::Path) -> Value {
    python(&std::fs::read_to_string(path).unwrap())
}

#[test]
fn a_circuit_is_found_written_evaluated_and_compared() {
    let bench = Bench::new();
    let found = csv(&bench, &with(&["circuit"], &["--out", "c.json"]));
    assert!(found.starts_with("measure,") && found.contains("faithfulness"), "{found}");
    let file = json(&bench.path("c.json"));
    let kept = file["edges"].as_object().unwrap().values().filter(|edge| edge["in_graph"] == true).count();
    assert!((1..=12).contains(&kept) && file["cfg"]["n_heads"] == 4, "{kept}");
    assert!(file["edges"].as_object().unwrap().values().all(|edge| edge["score"].is_f64()));
    let before = std::fs::read(bench.path("c.json")).unwrap();
    assert!(bench.refused(1, &with(&["circuit"], &["--out", "c.json"])).contains("it exists"));
    assert_eq!(std::fs::read(bench.path("c.json")).unwrap(), before);

    // judged by itself it is as faithful as when it was found
    let faithfulness =
        |csv: &str| csv.lines().find(|line| line.starts_with("faithfulness")).unwrap().to_owned();
    let judged = csv(&bench, &with(&["circuit", "eval", "c.json"], &["--out", "run"]));
    assert_eq!(faithfulness(&judged), faithfulness(&found));
    let run = bench.path("run");
    let again = json(&run.join("circuit.json"));
    assert_eq!(again["nodes"], file["nodes"]);
    for (name, edge) in file["edges"].as_object().unwrap() {
        let [was, is] = [edge, &again["edges"][name]].map(|edge| edge["score"].as_f64().unwrap());
        assert_eq!(edge["in_graph"], again["edges"][name]["in_graph"], "{name}");
        // numbers are read to the last place but one
        assert!((was - is).abs() <= 1e-14 * was.abs(), "{name}: {was} and {is}");
    }
    assert!(
        json(&run.join("attribution_graph.json"))["links"].as_array().is_some_and(|links| !links.is_empty())
    );
    assert_eq!(std::fs::read(run.join("given.json")).unwrap(), before);
    let study = std::fs::read_to_string(run.join("study.toml")).unwrap();
    assert!(study.contains("circuit = \"given.json\""), "{study}");
    let manifest = std::fs::read_to_string(run.join("manifest.json")).unwrap();
    for name in ["circuit.json", "attribution_graph.json", "given.json"] {
        assert!(manifest.contains(&format!("\"path\": \"{name}\"")), "{name}");
    }
    // the folder reruns by itself, wherever it lies
    std::fs::remove_file(bench.path("c.json")).unwrap();
    bench.ok(&["run", "run/study.toml", "--quiet", "--out", "again"]);
    assert_eq!(bench.files("run"), bench.files("again"));

    let csv = csv(&bench, &["circuit", "compare", "run/circuit.json", "again/circuit.json"]);
    assert!(csv.lines().nth(1).unwrap().starts_with(&format!("edges,{kept},{kept},{kept},0,0,1")), "{csv}");
}

#[test]
fn a_circuit_that_cannot_be_evaluated_is_refused_and_nothing_written() {
    let bench = Bench::new();
    let other = bench.file("other.json", FIXTURE);
    let cut = bench.file("cut.json", &FIXTURE[..300]);
    let words = bench.file("words.json", "these are no edges");
    let unknown = bench.file("unknown.json", r#"["m0->logits", "m9->logits"]"#);
    let backwards = bench.file("backwards.json", r#"{"edges": ["m2->a0.h1<q>"]}"#);
    let empty = bench.file("empty.json", r#"{"edges": []}"#);
    let good = bench.file("good.json", r#"{"edges": ["m0->logits"]}"#);
    for (code, word, first) in [
        (1, "n_layers 1 (here 3)", vec!["circuit", "eval", other.as_str()]),
        (1, "cut short", vec!["circuit", "eval", &cut]),
        (1, "cannot be read", vec!["circuit", "eval", &words]),
        (1, "m9->logits", vec!["circuit", "eval", &unknown]),
        (1, "not computed before", vec!["circuit", "eval", &backwards]),
        (1, "no edge", vec!["circuit", "eval", &empty]),
        (1, "missing.json", vec!["circuit", "eval", "missing.json"]),
        (2, "twice", vec!["circuit", "eval", &good, "--circuit", &good]),
    ] {
        for out in [&[][..], &["--out", "new.json"], &["--out", "folder"]] {
            let said = bench.refused(code, &with(&first, out));
            assert!(said.contains(word) && said.contains("hint:"), "{first:?} does not say {word:?}: {said}");
        }
    }
    for (code, word, arguments) in [
        (1, "does not exist", with(&["circuit"], &["--out", "nowhere/c.json"])),
        (2, "--resume", with(&["circuit"], &["--out", "c.json", "--resume"])),
        (2, "parquet", with(&["circuit"], &["--out", "c.json", "--format", "parquet"])),
        (2, "reads `circuit`", vec!["predict", "--task", "ioi", "--circuit", &good]),
        (2, "no setting", vec!["circuit", "--quiet", "eval", &good]),
    ] {
        let said = bench.refused(code, &arguments);
        assert!(said.contains(word), "{arguments:?} does not say {word:?}: {said}");
    }
}

/// Files of a step that an interrupted run finished are there when it goes on.
#[cfg(unix)]
#[test]
fn a_killed_run_keeps_the_files_of_its_finished_steps() {
    let bench = Bench::new();
    let study = "task = { generate = \"ioi\", n = 4 }
[[analysis]]
name = \"circuit\"
edges = 12
method = \"eap\"
resamples = 2
subsets = 1
[[analysis]]
name = \"edges\"
methods = [\"exact\"]
";
    bench.file("study.toml", study);
    let arguments = ["run", "study.toml", "--quiet", "--resume", "--out"];
    bench.ok(&[&arguments[..], &["whole"]].concat());
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_glassbox"))
        .args(arguments)
        .arg("killed")
        .current_dir(bench.folder.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let progress = bench.path("killed.partial/.glassbox-progress.json");
    while !progress.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    if !bench.path("killed").exists() {
        assert!(bench.path("killed.partial/circuit.json").exists());
        bench.ok(&[&arguments[..], &["killed"]].concat());
    }
    assert_eq!(bench.files("whole"), bench.files("killed"));
    assert!(bench.files("killed").iter().any(|(path, _)| path.ends_with("attribution_graph.json")));
}
