//! The program as a user runs it: what it prints, what it writes, how it refuses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The program in a folder of its own, so that a default `runs/` lands there.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench { folder: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_glassbox"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("RUST_BACKTRACE")
            .env("HF_HUB_OFFLINE", "1")
            .output()
            .unwrap()
    }

    /// The files of a run folder with their hashes, the manifest aside.
    pub(crate) fn files(&self, name: &str) -> Vec<(PathBuf, String)> {
        let folder = self.path(name);
        let files =
            listing(&folder).into_iter().filter(|path| path.is_file() && !path.ends_with("manifest.json"));
        files.map(|path| (path.strip_prefix(&folder).unwrap().to_owned(), hash(&path))).collect()
    }

    /// What a run that must succeed prints on stdout.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a run that must fail with this exit code says on stderr; it prints no data and leaves nothing behind.
    pub(crate) fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let before = listing(self.folder.path());
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?} printed data although it failed");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        assert_eq!(listing(self.folder.path()), before, "{arguments:?} left something behind");
        said
    }
}

fn listing(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(listing(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

fn hash(path: &Path) -> String {
    Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().next().unwrap().split(',').map(|name| name.trim_matches('"').to_owned()).collect()
}

pub(crate) const PROMPT: &str = "When Mary and John went to the store , John gave a drink to";

#[test]
fn report_writes_a_whole_folder_and_says_where() {
    let bench = Bench::new();
    let said = bench.ok(&["report", "--quiet"]);
    let out = PathBuf::from(said.lines().last().unwrap());
    assert_eq!(out, Path::new("runs/report-textbook-1"));
    let out = bench.folder.path().join(out);

    let columns = |name: &str| header(&out.join(format!("tables/{name}.csv")));
    let starts = |name: &str, wanted: &str| {
        let wanted: Vec<&str> = wanted.split(' ').collect();
        assert_eq!(columns(name)[..wanted.len()], wanted, "{name}");
        assert!(out.join(format!("tables/{name}.parquet")).is_file());
    };
    starts(
        "components",
        "component role direct direct_ci_lo direct_ci_hi total total_ci_lo total_ci_hi n rank",
    );
    starts("patch_head", "site direction layer head effect raw ci_lo ci_hi n");
    starts("resid_by_pos", "site direction layer pos token effect raw ci_lo ci_hi n");
    starts("attribution_head", "layer head direct ci_lo ci_hi n");
    starts("lens", "site layer pos token top prob rank logit_diff entropy kl");
    starts("head_scores", "layer head previous duplicate induction bos entropy");
    for name in ["components", "patch_head", "resid_by_pos", "attribution", "lens", "head_scores"] {
        assert!(out.join(format!("tables/examples_{name}.parquet")).is_file(), "examples_{name}");
        assert!(!out.join(format!("tables/examples_{name}.csv")).exists(), "examples_{name}");
    }

    let page = fs::read_to_string(out.join("index.html")).unwrap();
    assert!(
        !page.contains("http://")
            || page.matches("http://").count() == page.matches("http://www.w3.org/").count()
    );
    assert!(!page.contains("https://") && !page.contains("src=\"/"), "the page reaches for the network");
    for word in ["name mover", "duplicate token", "S-inhibition", "designed, not discovered"] {
        assert!(page.to_lowercase().contains(&word.to_lowercase()), "the page does not say {word:?}");
    }
    assert!(page.len() < 5_000_000, "{} bytes", page.len());

    let manifest: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["model"]["name"], "textbook");
    let outputs = manifest["outputs"].as_array().unwrap();
    for output in outputs {
        let path = out.join(output["path"].as_str().unwrap());
        assert_eq!(output["sha256"], hash(&path).as_str(), "{}", output["path"]);
    }
    let written = listing(&out).into_iter().filter(|path| path.is_file()).count();
    assert_eq!(written, outputs.len() + 1, "every file but the manifest is in it");
    let figures = listing(&out.join("figures"));
    // six files for each, and the numbers for the text
    assert!(figures.len() >= 61 && figures.len() % 6 == 1, "{figures:?}");
    assert!(out.join("tensors.safetensors").is_file());
}

/// The heads of the designed circuit lead the ranking, with their roles.
#[test]
fn the_ranking_of_heads_is_the_designed_circuit() {
    let bench = Bench::new();
    bench.ok(&["report", "--quiet", "--out", "r"]);
    let table = glassbox::output::read_table(&bench.path("r/tables/components.csv")).unwrap();
    let (names, roles) = (table.texts("component").unwrap(), table.texts("role").unwrap());
    let ranks = table.numbers("rank").unwrap();
    let mut heads: Vec<(f64, &str, &str)> = (0..table.len())
        .filter(|&i| names[i].contains(".h"))
        .map(|i| (ranks[i].unwrap(), names[i].as_str(), roles[i].as_str()))
        .collect();
    heads.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut first: Vec<&str> = heads[..4].iter().map(|head| head.1).collect();
    first.sort_unstable();
    assert_eq!(first, ["a0.h1", "a1.h1", "a2.h0", "a2.h1"], "{heads:?}");
    assert!(heads[..4].iter().all(|head| !head.2.is_empty()), "{heads:?}");
}

#[test]
fn the_same_input_gives_the_same_bytes_and_a_folder_reruns_itself() {
    let bench = Bench::new();
    bench.ok(&["report", "--quiet", "--task", "ioi", "--n", "6", "--out", "one"]);
    bench.ok(&["report", "--quiet", "--task", "ioi", "--n", "6", "--out", "two", "--threads", "1"]);
    bench.ok(&["run", "one/study.toml", "--quiet", "--out", "three"]);
    for other in ["two", "three"] {
        assert_eq!(bench.files("one"), bench.files(other), "{other}");
    }
}

#[test]
fn a_finished_folder_is_replaced_only_by_force() {
    let bench = Bench::new();
    let arguments = ["lens", "--quiet", "--task", "capital", "--n", "2", "--out", "out"];
    bench.ok(&arguments);
    assert!(bench.refused(1, &arguments).contains("--force"));
    bench.ok(&[&arguments[..], &["--force"]].concat());
    assert!(!bench.path("out.partial").exists());
}

#[test]
fn one_prompt_without_a_corrupt_twin_makes_a_report() {
    let bench = Bench::new();
    bench.ok(&["report", "--quiet", "--prompt", PROMPT, "--out", "one"]);
    let page = fs::read_to_string(bench.path("one/index.html")).unwrap();
    assert!(page.contains("--corrupt"), "the page says how to get the patching sections");
    assert!(page.contains("the runner-up"), "the page says what the answer is compared with");
    assert!(bench.path("one/tables/components.csv").is_file());
    assert!(!bench.path("one/tables/patch_head.csv").exists());
    let lines = |tokens: &str| {
        let given = [("clean", tokens.to_owned())];
        given.map(|(key, text)| format!("{{\"{key}\": \"{text}\"}}\n")).concat()
    };
    let reference = bench.file("reference.jsonl", &lines("the capital of France is").repeat(3));
    bench.ok(&["report", "--quiet", "--prompt", PROMPT, "--reference", &reference, "--out", "two"]);
    let total = |name: &str| {
        glassbox::output::read_table(&bench.path(name).join("tables/components.csv"))
            .unwrap()
            .numbers("total")
            .unwrap()
    };
    assert_ne!(total("one"), total("two"), "the reference set decides what the mean is");
}

#[test]
fn every_format_carries_the_same_numbers() {
    let bench = Bench::new();
    let run = |format: &str| bench.ok(&["heads", "--quiet", "--format", format]);
    let json: serde_json::Value = serde_json::from_str(&run("json")).unwrap();
    let lines: Vec<serde_json::Value> =
        run("jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json.as_array().unwrap(), &lines);
    assert_eq!(lines.len(), 12);
    let csv = run("csv");
    assert_eq!(csv.lines().count(), 13);
    assert!(run("table").contains("induction"));
    bench.refused(2, &["heads", "--quiet", "--format", "parquet"]);
    assert_eq!(bench.ok(&["heads", "--quiet", "--format", "parquet", "--out", "out"]), "");
    assert!(bench.path("out/tables/head_scores.parquet").is_file());
}

#[test]
fn record_writes_exactly_the_tensors_asked_for() {
    let bench = Bench::new();
    let sites = ["--sites", "blocks.*.hook_resid_pre", "logits"];
    let task = ["--task", "facts", "--n", "1", "--quiet"];
    bench.ok(&[&["record", "-o", "acts.safetensors"][..], &sites, &task].concat());
    let bytes = fs::read(bench.path("acts.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = tensors.names();
    names.sort_unstable();
    let layers = ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre", "logits"];
    assert_eq!(names, layers);
    assert_eq!(tensors.tensor("logits").unwrap().dtype(), safetensors::Dtype::F32);
    assert_eq!(tensors.tensor("logits").unwrap().shape()[0], 1);
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert!(metadata.metadata().as_ref().unwrap().contains_key("tokens"));
    let grad = ["--grad", "logit-diff", "--side", "corrupt"];
    bench.ok(&[&["record", "-o", "grads.safetensors"][..], &sites, &task, &grad].concat());
    assert_ne!(bytes, fs::read(bench.path("grads.safetensors")).unwrap());
    assert!(
        bench
            .refused(1, &[&["record", "-o", "acts.safetensors"][..], &sites, &task].concat())
            .contains("--force")
    );
}

#[test]
fn lists_name_what_there_is() {
    let bench = Bench::new();
    for (what, word) in [
        ("families", "llama"),
        ("sites", "blocks.{l}.attn.hook_pattern"),
        ("analyses", "components"),
        ("tasks", "greater-than"),
        ("metrics", "expected-gain"),
        ("models", "textbook-wild"),
    ] {
        assert!(bench.ok(&["list", what]).contains(word), "{what}");
    }
}

#[test]
fn every_help_has_examples() {
    let bench = Bench::new();
    assert!(bench.ok(&["--help"]).contains("Examples:"));
    for verb in [
        "report",
        "run",
        "predict",
        "lens",
        "attribution",
        "patch",
        "ablate",
        "steer",
        "heads",
        "probe",
        "generate",
        "record",
        "train",
        "verify",
        "list",
    ] {
        assert!(bench.ok(&[verb, "--help"]).contains("Examples:"), "{verb}");
    }
}

/// The examples of every `--help` run as they stand, but for those that name files of the reader's own.
#[cfg(unix)]
#[test]
fn examples_in_help_run() {
    let mut ran = 0;
    for verb in [
        "predict",
        "lens",
        "attribution",
        "patch",
        "ablate",
        "steer",
        "heads",
        "probe",
        "generate",
        "record",
        "verify",
        "list",
    ] {
        let help = Bench::new().ok(&[verb, "--help"]);
        // a long example is wrapped: what does not begin with the program's name belongs to the line before
        let examples =
            help.split_once("Examples:").unwrap().1.replace('\n', " ").replace("  glassbox", "\nglassbox");
        for line in examples.lines().filter(|line| line.starts_with("glassbox") && !line.contains("path/to"))
        {
            let bench = Bench::new();
            bench.file("gains.json", r#"{"default": {"gain": 1, "cost": 0}}"#);
            let line = line.replacen("glassbox", env!("CARGO_BIN_EXE_glassbox"), 1);
            let output =
                Command::new("sh").args(["-c", &line]).current_dir(bench.folder.path()).output().unwrap();
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            ran += 1;
        }
    }
    assert!(ran >= 15, "{ran}");
}

#[test]
fn prompts_of_several_lengths_are_recorded_in_one_file() {
    let bench = Bench::new();
    let lines = "{\"id\": \"long\", \"clean\": \"the capital of France is\"}\n{\"id\": \"short\", \"clean\": \"the capital\"}\n";
    let file = bench.file("two.jsonl", lines);
    let both = ["record", "--quiet", "--sites", "hook_embed", "blocks.0.attn.hook_pattern", "-o"];
    bench.ok(&[&both[..], &["both.safetensors", "--prompts", &file]].concat());
    bench.ok(&[&both[..], &["one.safetensors", "--prompt", "the capital"]].concat());
    let read =
        |name: &str| candle_core::safetensors::load(bench.path(name), &candle_core::Device::Cpu).unwrap();
    let (both, one) = (read("both.safetensors"), read("one.safetensors"));
    let x = both["blocks.0.attn.hook_pattern"].narrow(0, 1, 1).unwrap(); // the second line, in its own order
    let (kept, filled) = (x.narrow(2, 0, 3).unwrap().narrow(3, 0, 3).unwrap(), x.narrow(2, 3, 3).unwrap());
    let numbers = |x: &candle_core::Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (kept, alone) in numbers(&kept).iter().zip(numbers(&one["blocks.0.attn.hook_pattern"])) {
        assert!((kept - alone).abs() <= 1e-5, "{kept} beside a longer prompt, {alone} alone");
    }
    assert!(numbers(&filled).iter().all(|&x| x == 0.0));
}

/// The folder knows where its model lies and what its prompts were called.
#[test]
fn a_report_reruns_from_another_folder() {
    let bench = Bench::new();
    let file = bench.file(
        "named.jsonl",
        "{\"clean\": [1, 2, 3], \"corrupt\": [1, 4, 3], \"answers\": [5], \"wrong\": [6]}\n",
    );
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny");
    let mut report = Command::new(env!("CARGO_BIN_EXE_glassbox"));
    report.args(["report", "--quiet", "--model", "gpt2", "--prompts", &file, "--out"]).arg(bench.path("one"));
    let output = report.current_dir(tiny).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    bench.ok(&["run", "one/study.toml", "--quiet", "--out", "two"]);
    assert_eq!(bench.files("one"), bench.files("two"));
}

#[test]
fn flags_that_would_be_ignored_are_refused() {
    let bench = Bench::new();
    for arguments in [
        vec!["predict", "--task", "ioi", "--answer", "John"],
        vec!["predict", "--prompt", PROMPT, "--corruption", "abc"],
        vec!["predict", "--prompt", PROMPT, "--heads", "1.1"],
        vec!["predict", "--prompt", PROMPT, "--reference", "missing.jsonl"],
        vec!["predict", "--task", "ioi", "--activations", "acts"],
        vec!["predict", "--tokens", "0,8", "--bos", "yes"],
        vec!["predict", "--task", "ioi", "--n", "100000000"],
        vec!["predict", "--threads", "100000"],
    ] {
        bench.refused(2, &arguments);
    }
    let said = bench.refused(1, &["predict", "--prompt", "When Zorblax went"]);
    assert!(said.contains("\"Zorblax\""), "{said}");
}

#[test]
fn gains_change_what_is_chosen_and_what_is_measured() {
    let bench = Bench::new();
    let gains =
        bench.file("gains.json", r#"{"default": {"gain": 1, "cost": 1}, "John": {"gain": 1e30, "cost": 0}}"#);
    let prompt = ["--prompt", PROMPT, "--answer", "Mary", "--wrong", "John", "--gains", &gains, "--quiet"];
    let csv = bench.ok(&[&["predict", "--table", "decisions", "--format", "csv"][..], &prompt].concat());
    let line = |rule: &str| csv.lines().find(|line| line.contains(rule)).unwrap().to_owned();
    assert!(line("greedy").contains("Mary") && line("expected-gain").contains("John"), "{csv}");
    let corrupt = ["--corrupt", "When Mary and John went to the store , Mary gave a drink to"];
    bench.ok(&[&["patch", "--metric", "expected-gain"][..], &prompt, &corrupt].concat());
    let bare = &prompt[..6];
    let patch = [&["patch", "--quiet", "--metric", "expected-gain"][..], bare, &corrupt].concat();
    assert!(bench.refused(2, &patch).contains("--gains"));
}

#[test]
fn bad_requests_are_refused_with_a_way_out() {
    let bench = Bench::new();
    let empty = bench.file("empty.jsonl", "");
    let unequal = bench.file(
        "unequal.jsonl",
        "{\"clean\": \"Mary gave\", \"corrupt\": \"John\", \"answers\": [\"Mary\"]}\n",
    );
    let broken = bench.file("broken.jsonl", "{\"clean\": \n");
    let study = bench.file("study.toml", "modle = \"textbook\"\n");
    let deep = "blocks.9.hook_resid_pre";
    let long = "the ".repeat(100);
    for (code, word, arguments) in [
        (2, "unexpected argument", vec!["report", "--nonsense"]),
        (2, "bundled", vec!["predict", "--model", "no-such-model"]),
        (2, "did you mean", vec!["predict", "--task", "capitol"]),
        (2, "unexpected", vec!["lens", "positoins=end", "--no"]),
        (2, "unknown field", vec!["lens", "positoins=end"]),
        (2, "no setting", vec!["lens", "end"]),
        (2, "metric", vec!["patch", "--metric", "loss"]),
        (2, "f64", vec!["predict", "--dtype", "f8"]),
        (2, "cuda", vec!["predict", "--device", "cuda:0"]),
        (2, "--threads", vec!["predict", "--threads", "0"]),
        (2, "component", vec!["heads", "--heads", "9,6"]),
        (1, "layer", vec!["heads", "--heads", "9.6"]),
        (1, "head", vec!["heads", "--heads", "1.6"]),
        (2, "--corrupt", vec!["patch", "--prompt", PROMPT]),
        (
            1,
            "0.01",
            vec!["patch", "--prompt", PROMPT, "--corrupt", PROMPT, "--answer", "Mary", "--wrong", "John"],
        ),
        (1, "tokens", vec!["predict", "--prompt", PROMPT, "--answer", "Mary John"]),
        (
            1,
            "tokens",
            vec![
                "patch",
                "--prompt",
                PROMPT,
                "--corrupt",
                "When Mary",
                "--answer",
                "Mary",
                "--wrong",
                "John",
            ],
        ),
        (2, "empty", vec!["predict", "--prompt", ""]),
        (1, "context", vec!["predict", "--prompt", &long]),
        (1, "vocabulary", vec!["predict", "--tokens", "1,2,99999"]),
        (1, "vocabulary", vec!["predict", "--tokens", "1,2", "--answer-id", "99999"]),
        (1, "read", vec!["predict", "--prompts", "missing.jsonl"]),
        (1, "no prompts", vec!["predict", "--prompts", &empty]),
        (1, "line 1", vec!["predict", "--prompts", &unequal]),
        (1, "line 1", vec!["predict", "--prompts", &broken]),
        (1, "read", vec!["run", "missing.toml"]),
        (2, "modle", vec!["run", &study]),
        (1, "layer", vec!["record", "--sites", deep, "-o", "x.safetensors"]),
        (2, "hook_resid_pre", vec!["record", "--sites", "blocks.*.hook_resid_per", "-o", "x.safetensors"]),
        (1, "create", vec!["lens", "--task", "capital", "--n", "2", "--out", "study.toml/inside"]),
    ] {
        let said = bench.refused(code, &arguments);
        assert!(said.contains(word), "{arguments:?} does not say {word:?}: {said}");
        assert!(said.contains("hint:") || said.contains("--help"), "{arguments:?} gives no way out: {said}");
    }
}

/// A full disk while printing is an error; a reader that has seen enough is not.
#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_cannot_be_written() {
    use std::process::Stdio;
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let program = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glassbox"));
        command.args(["list", "sites"]).stderr(Stdio::piped());
        command
    };
    let output = program().stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output"));
    let mut child = program().stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

/// Ctrl-C ends with 130, leaves nothing but the unfinished folder, and `--resume` ends with what an uninterrupted run
/// writes.
#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_where_it_stopped() {
    let bench = Bench::new();
    let arguments = ["report", "--quiet", "--task", "ioi", "--n", "120", "--out"];
    let child = Command::new(env!("CARGO_BIN_EXE_glassbox"))
        .args([&arguments[..], &["stopped"]].concat())
        .current_dir(bench.folder.path())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // the first step is done: interrupt the next ones
    let progress = bench.path("stopped.partial/.glassbox-progress.json");
    for _ in 0..6000 {
        if progress.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("--resume"), "{said}");
    assert!(!bench.path("stopped").exists());
    assert!(bench.refused(1, &[&arguments[..], &["stopped"]].concat()).contains("--resume"));
    let other = ["report", "--quiet", "--task", "ioi", "--n", "121", "--out", "stopped", "--resume"];
    assert_eq!(bench.run(&other).status.code(), Some(2), "another study does not continue this one");
    bench.ok(&[&arguments[..], &["stopped", "--resume"]].concat());
    assert!(!bench.path("stopped.partial").exists());
    bench.ok(&[&arguments[..], &["whole"]].concat());
    assert_eq!(bench.files("stopped"), bench.files("whole"));
}

/// `--threads N` is N threads that compute: rayon's, and as many in candle's own pool, of which the caller is one.
#[cfg(target_os = "linux")]
#[test]
fn threads_are_as_many_as_asked_for() {
    let bench = Bench::new();
    for (threads, helpers) in [("1", 0), ("3", 2)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_glassbox"))
            .args(["atp", "--task", "ioi", "--n", "8", "--quiet", "--threads", threads])
            .current_dir(bench.folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let tasks = Path::new("/proc").join(child.id().to_string()).join("task");
        let mut most = 0;
        while child.try_wait().unwrap().is_none() {
            let names = fs::read_dir(&tasks).into_iter().flatten().flatten();
            let names = names.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
            most = most.max(names.filter(|name| name.starts_with("candle-bp")).count());
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(child.wait().unwrap().success());
        assert_eq!(most, helpers, "--threads {threads}");
    }
}
