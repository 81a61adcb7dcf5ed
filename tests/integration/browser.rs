//! The page in a browser: a report of the bundled model, and one of a copy whose tokens are hostile.
//!
//! Needs node, chromium and playwright-core. What is missing is said, and the test passes without it, unless
//! `GLASSBOX_REQUIRE` (names with commas) has `browser` in it. `GLASSBOX_CHROMIUM` and `GLASSBOX_PLAYWRIGHT` say where browser and
//! library are; by default the browser is looked for in PATH, and the library in `target/browser`, where `.ci/run` puts it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use glassbox::output::read_table;
use glassbox::table::{self, Format};
use serde_json::{Value, json};

use crate::command::Bench;

/// Words of the bundled model's vocabulary, and what they become.
const HOSTILE: [(&str, &str); 8] = [
    ("When", "<script>alert(1)</script>"),
    ("Mary", "</script><script>alert(2)</script>"),
    ("John", "\"><img src=x onerror=alert(3)>"),
    ("and", "' onmouseover='alert(4)"),
    ("went", "\u{202e}drawkcab\u{2066}"),
    ("store", "a\nb\tc\r\u{0}\u{1b}[31m"),
    ("gave", "=HYPERLINK(\"x\")"),
    ("drink", "long"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn works(program: &str, argument: &str) -> bool {
    let run = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

/// Says what is missing; an error where it is required.
fn skipped(what: &str, why: &str) {
    let required = std::env::var("GLASSBOX_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|word| word.trim() == "browser"), "{what} is required, but {why}");
    eprintln!("skipped: {what}, because {why}");
}

/// Browser and library, or what is missing.
fn tools() -> Result<(String, PathBuf), String> {
    if !works("node", "--version") {
        return Err("there is no `node` in PATH".into());
    }
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    let browser = set("GLASSBOX_CHROMIUM")
        .or_else(|| browsers.into_iter().find_map(on_path))
        .ok_or("there is no `chromium` in PATH, and GLASSBOX_CHROMIUM names none")?;
    let library = set("GLASSBOX_PLAYWRIGHT").map_or_else(|| root().join("target/browser"), PathBuf::from);
    if !library.join("node_modules/playwright-core").is_dir() {
        return Err(format!("there is no playwright-core in {}", library.join("node_modules").display()));
    }
    Ok((browser, library))
}

fn on_path(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let found =
        std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())?;
    Some(found.to_str()?.to_owned())
}

/// A copy of the bundled model that spells some of its words otherwise; the ids of a prompt and its twin.
fn hostile_model(bench: &Bench) -> (String, String, String) {
    let folder = bench.path("model");
    std::fs::create_dir(&folder).unwrap();
    let bundled = root().join("assets/models/textbook");
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(bundled.join(name), folder.join(name)).unwrap();
    }
    let text = std::fs::read_to_string(bundled.join("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&text).unwrap();
    let words = tokenizer["model"]["vocab"].as_object().unwrap().clone();
    let id = |word: &str| words[word].to_string();
    let ids = |first: &str| {
        let said = format!("<bos> When Mary and John went to the store , {first} gave a drink to");
        said.split(' ').map(id).collect::<Vec<_>>().join(",")
    };
    let (clean, corrupt) = (ids("John"), ids("Mary"));
    let long = "x".repeat(3000);
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    for (word, other) in HOSTILE {
        let id = vocabulary.remove(word).unwrap();
        vocabulary.insert(if other == "long" { long.clone() } else { other.to_owned() }, id);
    }
    std::fs::write(folder.join("tokenizer.json"), json!(tokenizer).to_string()).unwrap();
    (folder.display().to_string(), clean, corrupt)
}

#[test]
fn modules_hold_what_they_promise() {
    if !works("node", "--version") {
        return skipped("the tests of the page's modules", "there is no `node` in PATH");
    }
    let run = Command::new("node").args(["--test", "tests/browser/"]).current_dir(root()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
}

#[test]
fn the_page_is_alive_and_hostile_tokens_are_not() {
    let (browser, library) = match tools() {
        Ok(tools) => tools,
        Err(why) => return skipped("the page in a browser", &why),
    };
    let bench = Bench::new();
    bench.ok(&["report", "--quiet", "--task", "ioi", "--n", "24", "--out", "report"]);
    // what the page must agree with to the last digit; the run has it as Parquet only
    std::fs::create_dir(bench.path("scratch")).unwrap();
    for name in ["attention", "lens", "components", "patch_head"] {
        let rows = read_table(&bench.path(&format!("report/tables/examples_{name}.parquet"))).unwrap();
        let text = table::write(&rows, Format::Csv).unwrap();
        std::fs::write(bench.path(&format!("scratch/examples_{name}.csv")), text).unwrap();
    }
    let (model, clean, corrupt) = hostile_model(&bench);
    let arguments = [
        "report",
        "--quiet",
        "--model",
        &model,
        "--tokens",
        &clean,
        "--corrupt-tokens",
        &corrupt,
        "--out",
        "hostile",
    ];
    bench.ok(&arguments);
    let run = Command::new("node")
        .arg(root().join("tests/browser/page.mjs"))
        .args(["report", "hostile", "scratch"].map(|name| bench.path(name)))
        .env("GLASSBOX_CHROMIUM", browser)
        .env("GLASSBOX_PLAYWRIGHT", library)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    println!("{said}");
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
}
