//! Models named by a hub id: fetched from a stand-in on this machine, found in the cache, and every way in which that fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};

use glassbox::checkpoint::{Env, Hub};
use glassbox::lab::{Progress, Silent};
use glassbox::{Error, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::stand_in::{COMMIT, Reply, StandIn, sha256};
use crate::tiny::checkpoint;

const MODEL: &str = "some/model";
const WEIGHTS: &str = "model.safetensors";
const SECRET: &str = "hf_secretsecretsecret";

/// The files of a tiny checkpoint, and one that a loader has no use for.
fn files(name: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(checkpoint(name)).unwrap().map(|entry| entry.unwrap());
    let file =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    let mut files: BTreeMap<_, _> = entries.map(file).collect();
    files.insert("README.md".into(), b"not fetched".to_vec());
    files.insert("tokenizer_config.json".into(), b"{}".to_vec());
    files
}

fn weights() -> Vec<u8> {
    files("gpt2-bpe").remove(WEIGHTS).unwrap()
}

/// A cache of its own, and who fetches into it.
struct Bench {
    folder: TempDir,
    endpoint: String,
}

impl Bench {
    fn at(endpoint: &str) -> Bench {
        Bench { folder: tempfile::tempdir().unwrap(), endpoint: endpoint.to_owned() }
    }

    fn env(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = [("HF_HOME", self.folder.path().to_str().unwrap()), ("HF_ENDPOINT", &self.endpoint)];
        own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn hub(&self, more: &[(&str, &str)]) -> Hub {
        Hub::new(Env::of(self.env(more)))
    }

    fn fetch(&self) -> Result<Vec<String>> {
        self.hub(&[]).fetch(MODEL, &Silent)
    }

    /// What a fetch that must fail says; it leaves no snapshot and no reference.
    fn refused(&self, hub: &Hub, model: &str) -> String {
        let error = hub.fetch(model, &Silent).unwrap_err();
        assert_eq!(error.exit_code(), 1, "{error}");
        let text = error.to_string();
        assert!(text.contains("\n  hint: ") && !text.contains(SECRET), "{text}");
        assert!(!self.repository().join("snapshots").exists() && !self.repository().join("refs").exists());
        assert!(hub.locate(model).is_err());
        text
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("hub/models--some--model")
    }

    fn snapshot(&self, name: &str) -> PathBuf {
        self.repository().join("snapshots").join(COMMIT).join(name)
    }

    fn partial(&self) -> PathBuf {
        self.repository().join("blobs").join(format!("{}.incomplete", sha256(&weights())))
    }

    /// The program itself.
    fn glassbox(&self, arguments: &[&str], more: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glassbox"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().envs(self.env(more));
        command.output().unwrap()
    }
}

/// Counts the bytes it is told of.
#[derive(Default)]
struct Count {
    promised: AtomicU64,
    told: AtomicU64,
}

impl Progress for Count {
    fn begin(&self, _: &str, steps: u64) {
        self.promised.store(steps, Ordering::Relaxed);
    }
    fn advance(&self, steps: u64) {
        self.told.fetch_add(steps, Ordering::Relaxed);
    }
    fn note(&self, _: &str) {}
    fn end(&self) {}
}

#[test]
fn a_model_is_fetched_once_into_the_layout_that_other_tools_read() {
    let stand_in = StandIn::of(files("gpt2-bpe"));
    let bench = Bench::at(&stand_in.endpoint);
    let count = Count::default();
    assert_eq!(bench.hub(&[]).fetch(MODEL, &count).unwrap(), Vec::<String>::new());
    let asked = stand_in.seen().len();
    let mut bytes = 0;
    for (name, content) in files("gpt2-bpe") {
        let path = bench.snapshot(&name);
        assert_eq!(path.exists(), name != "README.md", "{name}");
        if path.exists() {
            bytes += content.len() as u64;
            assert_eq!(fs::read(&path).unwrap(), content);
            let target = fs::read_link(&path).unwrap();
            assert!(target.starts_with("../../blobs"), "{}", target.display());
        }
    }
    assert_eq!(count.promised.into_inner(), bytes);
    assert_eq!(count.told.into_inner(), bytes);
    assert!(fs::read_link(bench.snapshot(WEIGHTS)).unwrap().ends_with(sha256(&weights())));
    assert_eq!(fs::read_to_string(bench.repository().join("refs/main")).unwrap(), COMMIT);
    let left: Vec<_> = fs::read_dir(bench.repository().join("blobs")).unwrap().collect();
    assert_eq!(left.len(), 5, "{left:?}");

    let directory = bench.hub(&[]).locate(MODEL).unwrap();
    assert_eq!((directory.name(), directory.revision()), (MODEL, Some(COMMIT)));
    assert_eq!(directory.weights_hash().unwrap(), sha256(&weights()));
    bench.fetch().unwrap();
    bench.hub(&[]).fetch(&format!("{MODEL}@{COMMIT}"), &Silent).unwrap();
    assert_eq!(stand_in.seen().len(), asked, "what is in the cache is not asked for again");
}

#[test]
fn shards_are_those_that_the_index_names() {
    let mut all = files("llama-tied");
    all.insert("model-00003-of-00003.safetensors".into(), b"of another model".to_vec());
    let stand_in = StandIn::of(all.clone());
    let bench = Bench::at(&stand_in.endpoint);
    bench.fetch().unwrap();
    for number in [1, 2] {
        let name = format!("model-0000{number}-of-00002.safetensors");
        assert_eq!(fs::read(bench.snapshot(&name)).unwrap(), all[&name]);
    }
    assert!(!bench.snapshot("model-00003-of-00003.safetensors").exists());
    assert!(bench.hub(&[]).locate(MODEL).unwrap().weights_hash().is_ok());
    let second = "model-00002-of-00002.safetensors";
    all.remove(second);
    let stand_in = StandIn::of(all);
    let bench = Bench::at(&stand_in.endpoint);
    assert!(bench.refused(&bench.hub(&[]), MODEL).contains(second));
}

#[test]
fn a_connection_that_drops_is_taken_up_where_it_broke_off() {
    let stand_in = StandIn::with(files("gpt2-bpe"), |seen, before, usual| match before {
        0 | 1 if seen.path.starts_with("/storage/") => Reply { cut: Some(usual.body.len() / 2), ..usual },
        _ => usual,
    });
    let bench = Bench::at(&stand_in.endpoint);
    let count = Count::default();
    bench.hub(&[]).fetch(MODEL, &count).unwrap();
    assert_eq!(fs::read(bench.snapshot(WEIGHTS)).unwrap(), weights());
    assert_eq!(count.told.into_inner(), count.promised.into_inner());
    let (half, quarter) = (weights().len() / 2, (weights().len() - weights().len() / 2) / 2);
    let ranges: Vec<Option<String>> = stand_in.storage().into_iter().map(|seen| seen.range).collect();
    let from = |byte: usize| Some(format!("bytes={byte}-"));
    assert_eq!(ranges, [None, from(half), from(half + quarter)]);
}

#[test]
fn one_that_drops_for_good_leaves_what_the_next_run_goes_on_from() {
    let dropping =
        StandIn::with(files("gpt2-bpe"), |seen, before, usual| match seen.path.starts_with("/storage/") {
            true => Reply { cut: Some(if before == 0 { 1000 } else { 0 }), ..usual },
            false => usual,
        });
    let mut bench = Bench::at(&dropping.endpoint);
    let said = bench.refused(&bench.hub(&[]), MODEL);
    assert!(
        said.contains(&format!("1000 of {} bytes", weights().len())) && said.contains("run again"),
        "{said}"
    );
    assert_eq!(dropping.storage().len(), 4, "three in a row that bring nothing are enough");
    assert_eq!(fs::read(bench.partial()).unwrap(), weights()[..1000]);
    let stand_in = StandIn::of(files("gpt2-bpe"));
    bench.endpoint.clone_from(&stand_in.endpoint);
    bench.fetch().unwrap();
    assert_eq!(stand_in.storage()[0].range.as_deref(), Some("bytes=1000-"));
    assert_eq!(fs::read(bench.snapshot(WEIGHTS)).unwrap(), weights());
    assert!(!bench.partial().exists());
}

#[test]
fn a_part_that_is_of_no_use_is_fetched_anew() {
    let whole = weights();
    let deaf = |_: &_, _, usual: Reply| match usual.status {
        206 => Reply { status: 200, body: weights(), headers: Vec::new(), cut: None },
        _ => usual,
    };
    for (part, hears, requests) in [
        (vec![7; 1000], true, 2),            // of another file: its hash is wrong
        (vec![7; whole.len()], true, 1),     // as long as the file itself
        (vec![7; whole.len() + 1], true, 1), // longer
        (whole[..1000].to_vec(), false, 1),  // right, but the server knows no ranges
    ] {
        let stand_in =
            if hears { StandIn::of(files("gpt2-bpe")) } else { StandIn::with(files("gpt2-bpe"), deaf) };
        let bench = Bench::at(&stand_in.endpoint);
        fs::create_dir_all(bench.repository().join("blobs")).unwrap();
        fs::write(bench.partial(), &part).unwrap();
        bench.fetch().unwrap();
        assert_eq!(fs::read(bench.snapshot(WEIGHTS)).unwrap(), whole);
        assert_eq!(stand_in.storage().len(), requests, "{} bytes were there", part.len());
    }
}

#[test]
fn damaged_files_are_refused_and_removed() {
    for (name, kind) in [(WEIGHTS, "sha256"), ("tokenizer_config.json", "git hash")] {
        let stand_in = StandIn::with(files("gpt2-bpe"), move |seen, _, mut usual| {
            if seen.method == "GET" && seen.path.ends_with(name) && usual.status == 200 {
                usual.body[1] ^= 1;
            }
            usual
        });
        let bench = Bench::at(&stand_in.endpoint);
        let said = bench.refused(&bench.hub(&[]), MODEL);
        assert!(said.contains(name) && said.contains(kind) && said.contains("damaged"), "{said}");
        assert!(!bench.partial().exists());
    }
    let deaf = StandIn::with(files("gpt2-bpe"), |seen, _, usual| match seen.path.starts_with("/storage/") {
        true => Reply { status: 200, headers: Vec::new(), body: weights(), cut: Some(1000) },
        false => usual,
    });
    let bench = Bench::at(&deaf.endpoint);
    assert!(bench.refused(&bench.hub(&[]), MODEL).contains("broke off"));
    assert_eq!(deaf.storage().len(), 4, "beginning anew for ever gets nowhere");
    let long = StandIn::with(files("gpt2-bpe"), |seen, _, mut usual| {
        if seen.path.starts_with("/storage/") {
            usual.body.push(0);
        }
        usual
    });
    let bench = Bench::at(&long.endpoint);
    assert!(bench.refused(&bench.hub(&[]), MODEL).contains("more than it promised"));
}

#[test]
fn refusals_of_the_hub_say_what_to_do() {
    type Case = (&'static str, &'static str, u16, &'static str, &'static [&'static str]);
    let cases: [Case; 11] = [
        ("no/model", "/api/", 0, "", &["no model no/model", "(404)", "OWNER/NAME"]),
        ("some/model", "/api/", 401, "RepoNotFound", &["does not show it (401)", "--token-file"]),
        ("some/model@step3", "/api/", 404, "RevisionNotFound", &["no revision step3 of some/model", "a tag"]),
        ("some/model@step3", "/api/", 404, "", &["no revision step3 of some/model"]),
        ("some/model", "/config.json", 404, "EntryNotFound", &["no config.json of some/model"]),
        ("some/model", "safetensors", 401, "GatedRepo", &["gated", "accept", "HF_TOKEN"]),
        ("some/model", "safetensors", 403, "", &["gated", "(403)", "--token-file"]),
        ("some/model", "/storage/", 403, "", &["(403)"]),
        ("some/model", "/api/", 401, "", &["does not show it (401)"]),
        ("some/model", "/api/", 418, "", &["answers 418"]),
        ("some/model", "/api/", 200, "", &["cannot be read", "HF_ENDPOINT"]),
    ];
    for (model, at, status, code, words) in cases {
        let stand_in = StandIn::with(files("gpt2-bpe"), move |seen, _, usual| match seen.path.contains(at) {
            true if status > 0 => Reply::status(status, &[("X-Error-Code", code)]),
            _ => usual,
        });
        let bench = Bench::at(&stand_in.endpoint);
        let said = bench.refused(&bench.hub(&[]), model);
        assert!(words.iter().all(|word| said.contains(word)), "{status} {code}: {said}");
    }
    // with a token, its own failings
    for (status, code, word) in [(401, "", "does not accept the token"), (403, "GatedRepo", "has no access")]
    {
        let stand_in =
            StandIn::with(files("gpt2-bpe"), move |_, _, _| Reply::status(status, &[("X-Error-Code", code)]));
        let bench = Bench::at(&stand_in.endpoint);
        let said = bench.refused(&bench.hub(&[("HF_TOKEN", SECRET)]), MODEL);
        assert!(said.contains(word), "{said}");
    }
    let mut bare = files("gpt2-bpe");
    bare.remove(WEIGHTS);
    bare.insert("model.gguf".into(), Vec::new());
    let stand_in = StandIn::of(bare);
    let bench = Bench::at(&stand_in.endpoint);
    let said = bench.refused(&bench.hub(&[]), MODEL);
    assert!(said.contains("no model.safetensors") && said.contains("model.gguf"), "{said}");
}

#[test]
fn a_busy_hub_is_asked_again_but_not_for_ever() {
    let busy = |times: usize, after: &'static str| {
        StandIn::with(files("gpt2-bpe"), move |seen, before, usual| {
            match before < times && seen.path.starts_with("/api/") {
                true => Reply::status(429, &[("Retry-After", after)]),
                false => usual,
            }
        })
    };
    let stand_in = busy(2, "0");
    Bench::at(&stand_in.endpoint).fetch().unwrap();
    for (after, requests) in [("0", 4), ("3600", 1)] {
        let stand_in = busy(usize::MAX, after);
        let bench = Bench::at(&stand_in.endpoint);
        let said = bench.refused(&bench.hub(&[]), MODEL);
        assert!(said.contains("429") && said.contains(&format!("for {after} s")), "{said}");
        assert_eq!(stand_in.seen().len(), requests);
    }
}

#[test]
fn redirects_are_followed_and_the_token_stays_with_the_hub() {
    let stand_in = StandIn::with(files("gpt2-bpe"), |seen, _, usual| match seen.path.as_str() {
        path if path.contains("old/name") => {
            Reply::status(307, &[("Location", &path.replace("old/name", "some/model"))])
        }
        path if path.ends_with("/vocab.json") => Reply::status(307, &[("Location", "vocab.json?once=more")]),
        path if path.ends_with("?once=more") => Reply {
            body: files("gpt2-bpe").remove("vocab.json").unwrap(),
            ..Reply::status(200, &[("ETag", "\"vocab\"")])
        },
        _ => usual,
    });
    let bench = Bench::at(&stand_in.endpoint);
    let hub = bench.hub(&[("HF_TOKEN", SECRET)]);
    hub.fetch("old/name", &Silent).unwrap();
    assert_eq!(hub.locate("old/name").unwrap().weights_hash().unwrap(), sha256(&weights()));
    let own = format!("Bearer {SECRET}");
    for seen in stand_in.seen() {
        let expected = (!seen.path.starts_with("/storage/")).then_some(own.as_str());
        assert_eq!(seen.token.as_deref(), expected, "{}", seen.path);
    }
    assert_eq!(stand_in.storage().len(), 1);
    let round =
        StandIn::with(files("gpt2-bpe"), |seen, _, _| Reply::status(302, &[("Location", &seen.path)]));
    let bench = Bench::at(&round.endpoint);
    assert!(bench.refused(&bench.hub(&[]), MODEL).contains("redirects"));
}

#[test]
fn the_token_comes_from_the_nearest_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let flag = file("flag", "from-flag\n");
    let path = file("path", " from-path ");
    let path = path.to_str().unwrap();
    let sent = |flag: Option<&Path>, home: bool, more: &[(&str, &str)]| {
        let stand_in = StandIn::of(files("gpt2-bpe"));
        let bench = Bench::at(&stand_in.endpoint);
        if home {
            fs::write(bench.folder.path().join("token"), "from-home\n").unwrap();
        }
        bench.hub(more).with_token_file(flag.map(Path::to_owned)).fetch(MODEL, &Silent).unwrap();
        stand_in.seen()[0].token.clone().map(|token| token.replace("Bearer from-", ""))
    };
    let both = [("HF_TOKEN", "from-variable"), ("HF_TOKEN_PATH", path)];
    let all = [both[0], both[1], ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
    assert_eq!(sent(Some(&flag), true, &both).as_deref(), Some("flag"));
    assert_eq!(sent(None, true, &both).as_deref(), Some("variable"));
    assert_eq!(sent(None, true, &both[1..]).as_deref(), Some("path"));
    assert_eq!(sent(None, true, &[]).as_deref(), Some("home"));
    assert_eq!(sent(None, false, &[]), None);
    assert_eq!(sent(None, true, &all), None);
    assert_eq!(sent(Some(&flag), true, &all).as_deref(), Some("flag"));
    let bench = Bench::at("http://127.0.0.1:9");
    for (text, word) in [("two words", "no token"), ("\n", "empty")] {
        let hub = bench.hub(&[]).with_token_file(Some(file("bad", text)));
        let said = hub.fetch(MODEL, &Silent).unwrap_err().to_string();
        assert!(said.contains(word) && !said.contains("two words"), "{said}");
    }
}

#[test]
fn offline_opens_no_connection() {
    let stand_in = StandIn::of(files("gpt2-bpe"));
    let bench = Bench::at(&stand_in.endpoint);
    let said = |hub: Hub| bench.refused(&hub, MODEL);
    for (hub, switch) in [
        (bench.hub(&[("HF_HUB_OFFLINE", "1")]), "HF_HUB_OFFLINE"),
        (bench.hub(&[("TRANSFORMERS_OFFLINE", "yes")]), "TRANSFORMERS_OFFLINE"),
        (bench.hub(&[]).offline(true), "--offline"),
    ] {
        let said = said(hub);
        let folder = bench.repository().display().to_string();
        assert!([switch, &folder, "hf download some/model"].iter().all(|word| said.contains(word)), "{said}");
    }
    // a name without an owner that no table knows is a typing error, which nobody else needs to hear of
    assert!(matches!(bench.hub(&[]).fetch("textbok", &Silent).unwrap_err(), Error::Usage { .. }));
    bench.hub(&[]).fetch("textbook", &Silent).unwrap();
    bench.hub(&[]).fetch(checkpoint("gpt2").to_str().unwrap(), &Silent).unwrap();
    assert!(stand_in.seen().is_empty());
    assert_eq!(fs::read_dir(bench.folder.path()).unwrap().count(), 0, "nothing is written either");
}

#[test]
fn a_cache_without_references_serves_when_the_hub_does_not() {
    let stand_in = StandIn::of(files("gpt2-bpe"));
    let mut bench = Bench::at(&stand_in.endpoint);
    bench.fetch().unwrap();
    fs::remove_file(bench.repository().join("refs/main")).unwrap();
    bench.endpoint = "http://127.0.0.1:9".to_owned();
    for hub in [bench.hub(&[]), bench.hub(&[]).offline(true)] {
        let said = hub.fetch(MODEL, &Silent).unwrap();
        assert!(said[0].contains(COMMIT) && said[0].contains("refs/main"), "{said:?}");
        assert_eq!(hub.locate(MODEL).unwrap().caveats().unwrap(), said);
        assert!(hub.fetch("some/model@step3", &Silent).is_err(), "another revision is never guessed");
    }
    bench.endpoint.clone_from(&stand_in.endpoint);
    let contents = stand_in.storage().len();
    assert!(bench.fetch().unwrap().is_empty(), "the hub knows");
    assert_eq!(stand_in.storage().len(), contents, "and the content was there");
    assert!(bench.hub(&[]).locate(MODEL).unwrap().caveats().unwrap().is_empty());
}

#[test]
fn the_cache_lies_where_other_tools_look() {
    let stand_in = StandIn::of(files("gpt2-bpe"));
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let below = |name: &str| format!("{root}/{name}");
    let [cache, home, xdg, user] = ["cache", "home", "xdg", "user"].map(below);
    let variables = [("HF_HUB_CACHE", &cache), ("HF_HOME", &home), ("XDG_CACHE_HOME", &xdg), ("HOME", &user)];
    let places = ["cache", "home/hub", "xdg/huggingface/hub", "user/.cache/huggingface/hub"].map(below);
    for (first, place) in places.iter().enumerate() {
        let own = variables[first..].iter().map(|(name, value)| (*name, value.as_str()));
        let hub = Hub::new(Env::of(own.chain([("HF_ENDPOINT", stand_in.endpoint.as_str())])));
        hub.fetch(MODEL, &Silent).unwrap();
        let path = hub.locate(MODEL).unwrap().path().to_owned();
        assert!(path.starts_with(place), "{} is not in {place}", path.display());
    }
    let nowhere = Hub::new(Env::of([("HF_ENDPOINT", stand_in.endpoint.as_str())]));
    assert!(nowhere.fetch(MODEL, &Silent).unwrap_err().to_string().contains("HF_HUB_CACHE"));
    let tilde = Hub::new(Env::of([("HF_HOME", "~/mine"), ("HOME", user.as_str())])).offline(true);
    assert!(tilde.locate(MODEL).unwrap_err().to_string().contains("user/mine/hub/models--some--model"));
    fs::write(below("file"), "").unwrap();
    let file = Hub::new(Env::of([("HF_HUB_CACHE", &below("file")), ("HF_ENDPOINT", &stand_in.endpoint)]));
    let said = file.fetch(MODEL, &Silent).unwrap_err().to_string();
    assert!(said.contains("cannot write") && said.contains("set HF_HUB_CACHE"), "{said}");
}

#[test]
fn two_that_fetch_at_once_fetch_once() {
    let stand_in = StandIn::of(files("gpt2-bpe"));
    let bench = Bench::at(&stand_in.endpoint);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| bench.fetch().unwrap());
        }
    });
    assert_eq!(stand_in.storage().len(), 1);
    assert_eq!(fs::read(bench.snapshot(WEIGHTS)).unwrap(), weights());
}

#[test]
fn the_program_fetches_and_writes_down_the_commit() {
    let stand_in = StandIn::of(files("gpt2-bpe"));
    let bench = Bench::at(&stand_in.endpoint);
    let ask = ["predict", "--model", MODEL, "--tokens", "1,2,3", "--quiet", "--format", "csv"];
    let none = bench.glassbox(&[&ask[..], &["--offline"]].concat(), &[]);
    assert_eq!((none.status.code(), stand_in.seen().len()), (Some(1), 0));
    let out = ["--revision", "step3000", "--out", "run"];
    let output = bench.glassbox(&[&ask[..], &out].concat(), &[("HF_TOKEN", SECRET)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(bench.folder.path().join("run/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(manifest["model"]["name"], "some/model@step3000");
    assert_eq!(manifest["model"]["revision"], COMMIT);
    assert_eq!(manifest["model"]["sha256"], sha256(&weights()));
    assert!(!text.contains(SECRET));
    let study = fs::read_to_string(bench.folder.path().join("run/study.toml")).unwrap();
    assert!(study.contains(&format!("some/model@{COMMIT}")), "a branch moves on: {study}");
    assert_eq!(fs::read_to_string(bench.repository().join("refs/step3000")).unwrap(), COMMIT);

    let asked = stand_in.seen().len();
    let again = bench.glassbox(&["run", "run/study.toml", "--offline", "--out", "again", "--quiet"], &[]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let twice = ["predict", "--model", "some/model@a", "--revision", "b", "--tokens", "1"];
    assert_eq!(bench.glassbox(&twice, &[]).status.code(), Some(2));
    assert_eq!(stand_in.seen().len(), asked);
}

#[test]
fn a_hub_that_is_not_reached_leaves_nothing() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bench = Bench::at(&format!("http://{closed}"));
    let output = bench.glassbox(&["predict", "--model", MODEL, "--tokens", "1,2,3"], &[("HF_TOKEN", SECRET)]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not reached") && said.contains("hf download some/model"), "{said}");
    assert!(!said.contains(SECRET) && output.stdout.is_empty());
    assert_eq!(fs::read_dir(bench.folder.path()).unwrap().count(), 0);
    let secret = Bench::at(&format!("http://user:{SECRET}@{closed}"));
    let said = secret.fetch().unwrap_err().to_string();
    assert!(said.contains("HF_ENDPOINT") && !said.contains(SECRET), "{said}");
}
