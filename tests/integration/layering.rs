//! Who may use whom, and what stands in which folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module with the modules it may name; the list is in reading order. A module may always use itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("progress", &[]),
    ("site", &["error"]),
    ("ops", &[]),
    ("hook", &["error", "site"]),
    ("edit", &["error", "site", "ops", "hook"]),
    ("record", &["error", "site", "hook"]),
    ("gradient", &["error", "site", "ops", "hook", "record"]),
    ("model", &["error", "site", "ops", "hook", "record"]),
    ("component", &["error", "site", "model"]),
    ("vocabulary", &["error"]),
    ("checkpoint", &["error", "progress", "vocabulary"]),
    ("family", &["error", "model", "checkpoint"]),
    ("lab", &["error", "progress", "model", "vocabulary", "checkpoint", "family"]),
    ("metric", &["error", "ops", "record"]),
    ("decide", &["error", "metric"]),
    ("distribution", &["error", "ops"]),
    ("task", &["error", "ops", "model", "vocabulary", "lab", "metric", "decide"]),
    ("recording", &["error", "site", "ops", "record", "gradient", "model", "lab", "metric", "task"]),
    ("lesion", &["error", "site", "edit", "record", "model", "component", "lab"]),
    ("sweep", &["error", "site", "ops", "hook", "edit", "record", "model", "lab", "metric"]),
    ("graph", &["error", "site", "ops", "hook", "edit", "record", "model", "component", "lab", "sweep"]),
    ("stats", &[]),
    ("groups", &["error", "site", "model", "vocabulary", "lab", "lesion", "stats", "task"]),
    ("learn", &["error"]),
    ("factored", &["error"]),
    ("steering", &["error", "site", "record", "model", "lab"]),
    ("row", &["error"]),
    (
        "generate",
        &[
            "error",
            "site",
            "edit",
            "record",
            "model",
            "vocabulary",
            "checkpoint",
            "lab",
            "decide",
            "task",
            "lesion",
            "steering",
            "row",
        ],
    ),
    ("patterns", &["error", "site", "record", "lab", "task", "row"]),
    ("show", &["row"]),
    (
        "analysis",
        &[
            "error",
            "site",
            "ops",
            "hook",
            "edit",
            "record",
            "gradient",
            "model",
            "component",
            "vocabulary",
            "lab",
            "metric",
            "decide",
            "distribution",
            "task",
            "lesion",
            "recording",
            "sweep",
            "graph",
            "stats",
            "groups",
            "learn",
            "factored",
            "row",
            "patterns",
            "steering",
        ],
    ),
    (
        "verify",
        &[
            "error", "site", "ops", "hook", "edit", "record", "gradient", "model", "lab", "task", "sweep",
            "graph", "row", "analysis",
        ],
    ),
    ("table", &["error", "row", "show"]),
    ("output", &["error", "lab", "row", "table"]),
    ("figure", &["error", "row"]),
    (
        "study",
        &[
            "error",
            "model",
            "vocabulary",
            "checkpoint",
            "lab",
            "metric",
            "task",
            "sweep",
            "row",
            "analysis",
            "figure",
        ],
    ),
    ("compare", &["error", "stats", "row", "output"]),
    (
        "report",
        &[
            "error",
            "checkpoint",
            "lab",
            "metric",
            "stats",
            "task",
            "row",
            "patterns",
            "show",
            "analysis",
            "table",
            "output",
            "figure",
            "study",
            "compare",
        ],
    ),
    (
        "train",
        &[
            "error",
            "site",
            "ops",
            "hook",
            "edit",
            "record",
            "model",
            "vocabulary",
            "checkpoint",
            "family",
            "lab",
            "metric",
            "task",
            "row",
            "output",
            "figure",
            "report",
        ],
    ),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The module a file belongs to: the first part of its path.
fn module(path: &Path) -> String {
    let first = path.strip_prefix(src()).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// Names after `crate::`, in code rather than in comments.
fn used(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut names = BTreeSet::new();
    for line in code {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            names.insert(name);
        }
    }
    names
}

#[test]
fn a_module_uses_only_what_stands_above_it() {
    for path in sources(&src()) {
        let own = module(&path);
        if matches!(own.as_str(), "lib" | "main" | "command") {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == own) else {
            panic!("{own} is not in the table of who may use whom");
        };
        for name in used(&fs::read_to_string(&path).unwrap()) {
            let known = MAY_USE.iter().any(|(module, _)| *module == name);
            let fine = name == own
                || allowed.contains(&name.as_str())
                || matches!(name.as_str(), "Error" | "Result");
            // `crate::row!` and other macros are exported at the root
            assert!(fine || !known, "{} uses crate::{name}, which {own} may not", path.display());
        }
    }
}

#[test]
fn the_table_has_no_module_that_is_gone() {
    let modules: BTreeSet<String> = sources(&src()).iter().map(|path| module(path)).collect();
    for (name, allowed) in MAY_USE {
        assert!(modules.contains(*name), "{name} is in the table but not in src");
        for used in *allowed {
            let place = |m: &str| MAY_USE.iter().position(|(name, _)| *name == m);
            assert!(place(used) < place(name), "{name} may use {used}, which stands below it");
        }
    }
}

/// What only some folders may do: a word in the code, and the folders it may stand in.
#[test]
fn doors_stay_where_they_are() {
    let doors: &[(&str, &[&str])] = &[
        ("polars", &["table"]),
        ("plotters", &["figure"]),
        ("resvg", &["figure"]),
        ("png::", &["figure"]),
        ("krilla", &["figure"]),
        ("krilla_svg", &["figure"]),
        ("faer", &["factored", "learn"]),
        ("std::fs", &["checkpoint", "output"]),
        ("println!", &["command", "main"]),
        ("eprintln!", &["command", "main"]),
        (".matmul(", &["ops"]),
    ];
    for path in sources(&src()) {
        let own = module(&path);
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for (word, allowed) in doors {
                let fine = allowed.contains(&own.as_str()) || !line.contains(word) || in_tests(&text, line);
                assert!(fine, "{}: `{word}` may stand only in {allowed:?}: {line}", path.display());
            }
        }
    }
}

/// Whether a line stands in the file's unit tests.
fn in_tests(text: &str, line: &str) -> bool {
    text.split_once("#[cfg(test)]").is_some_and(|(code, _)| !code.contains(line))
}

#[test]
fn no_family_is_named_outside_its_folder() {
    let families = ["gpt2", "llama", "mistral", "pythia"];
    for path in sources(&src()) {
        let own = module(&path);
        if !matches!(
            own.as_str(),
            "model" | "ops" | "sweep" | "hook" | "edit" | "record" | "gradient" | "analysis" | "verify"
        ) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap().to_lowercase();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for family in families {
                // "llama3" names a published formula for rotary frequencies, not a family
                let line = line.replace("llama3", "");
                assert!(!line.contains(family), "{} names {family}: {line}", path.display());
            }
        }
    }
}

/// Every file of a folder with a registry is in it.
#[test]
fn no_file_is_forgotten() {
    for (folder, except) in [
        ("analysis", &["mod", "agreement"][..]),
        ("family", &["mod", "parts", "rope"]),
        ("command", &["mod", "flags", "progress"]),
        ("report/sections", &["mod", "summary"]),
        ("verify", &["mod", "dead", "ledger", "subject"]),
    ] {
        let folder = src().join(folder);
        let registry = fs::read_to_string(folder.join("mod.rs")).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if except.contains(&name.as_str())
                || (path.is_dir() && folder.join(format!("{name}.rs")).exists())
            {
                continue;
            }
            let named = registry.contains(&format!("mod {name};")) && registry.matches(&name).count() >= 2;
            assert!(named, "{} is not registered in its folder's mod.rs", path.display());
        }
    }
}

/// No source file grows past a hard look.
#[test]
fn files_stay_small() {
    for path in sources(&src()) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 500, "{} has {lines} lines: a file is one idea", path.display());
    }
}

/// Every integration file is a module of the one binary.
#[test]
fn no_test_file_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration");
    let main = fs::read_to_string(folder.join("main.rs")).unwrap();
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(name == "main" || main.contains(&format!("mod {name};")), "{name}.rs is not in main.rs");
    }
}

/// The family that ARCHITECTURE.md shows is the family as it is.
#[test]
fn the_family_shown_in_the_architecture_is_the_real_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let family = read("src/family/olmo.rs");
    let shown = family[family.find("pub const FAMILY").unwrap()..].trim_end();
    assert!(read("ARCHITECTURE.md").contains(shown), "copy src/family/olmo.rs into ARCHITECTURE.md again");
}
