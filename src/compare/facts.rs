//! What was asked of each run: where they differ, and which of that makes a difference of their numbers mean nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::join::Joined;
use super::side::Side;
use crate::error::Result;

crate::row! {
    /// One fact of both runs.
    pub struct Fact {
        /// What it is.
        pub fact: String,
        /// As it is in A.
        pub a: Option<String>,
        /// As it is in B.
        pub b: Option<String>,
        /// Whether they differ.
        pub differs: bool,
    }
}

/// What the manifest knows, by its path.
const OF_MANIFEST: [(&str, &[&str]); 11] = [
    ("model", &["model", "name"]),
    ("revision", &["model", "revision"]),
    ("family", &["model", "family"]),
    ("weights (sha256)", &["model", "sha256"]),
    ("tokenizer (sha256)", &["tokenizer_sha256"]),
    ("weights folded", &["folded"]),
    ("prompts used", &["sizes", "prompts"]),
    ("begins with BOS", &["bos"]),
    ("numbers", &["dtype"]),
    ("device", &["device"]),
    ("glassbox", &["tool", "version"]),
];

/// Settings that say how a page is called or what is told above already.
const TOLD: [&str; 3] = ["title", "dtype", "device"];

/// Every fact, those that differ first.
pub(super) fn facts(sides: &[Side; 2]) -> Vec<Fact> {
    let [a, b] = sides;
    let fact = |name: &str, a: Option<String>, b: Option<String>| {
        let differs = a != b;
        Fact { fact: name.to_owned(), a, b, differs }
    };
    let mut all: Vec<Fact> =
        OF_MANIFEST.iter().map(|(name, path)| fact(name, a.fact(path), b.fact(path))).collect();
    let names: BTreeSet<&String> = a.settings.keys().chain(b.settings.keys()).collect();
    let settings = names.into_iter().filter(|name| !TOLD.contains(&name.as_str()));
    all.extend(settings.map(|name| {
        let said = if name == "model" { "model as asked for" } else { name.as_str() };
        fact(said, a.settings.get(name).cloned(), b.settings.get(name).cloned())
    }));
    all.retain(|fact| fact.a.is_some() || fact.b.is_some());
    all.sort_by_key(|fact| !fact.differs);
    all
}

/// Whether both runs saw the same examples: told by the prompts and answers that they kept, else by what made them.
pub(super) fn same_examples(sides: &[Side; 2]) -> bool {
    let read = |side: &Side| -> Option<BTreeMap<String, [String; 3]>> {
        let rows = side.tables.get("prediction")?;
        let read = || -> Result<_> {
            let (ids, prompts) = (rows.texts("example")?, rows.texts("prompt")?);
            let (answers, wrong) = (rows.texts("answer")?, rows.texts("wrong")?);
            let rest = prompts.into_iter().zip(answers.into_iter().zip(wrong));
            Ok(ids.into_iter().zip(rest.map(|(prompt, (answer, wrong))| [prompt, answer, wrong])).collect())
        };
        read().ok()
    };
    let [a, b] = sides;
    if let (Some(a), Some(b)) = (read(a), read(b)) {
        return a == b;
    }
    let made = |side: &Side| -> Vec<Option<String>> {
        let task = side.settings.iter().filter(|(name, _)| name.starts_with("task."));
        let task: Vec<String> = task.map(|(name, value)| format!("{name}={value}")).collect();
        let file =
            side.run.manifest.get("outputs").and_then(|outputs| outputs.as_array()).and_then(|outputs| {
                let is_it = |output: &&serde_json::Value| {
                    output.get("path").is_some_and(|path| path == "prompts.jsonl")
                };
                Some(outputs.iter().find(is_it)?.get("sha256")?.to_string())
            });
        vec![
            side.run.study.is_some().then(|| task.join(" ")),
            file,
            side.fact(&["seed"]),
            side.fact(&["tokenizer_sha256"]),
        ]
    };
    let (a, b) = (made(a), made(b));
    a == b && a.first().is_some_and(Option::is_some)
}

/// Why differences may mean nothing, each as a sentence.
pub(super) fn warnings(
    names: &[String; 3],
    sides: &[Side; 2],
    facts: &[Fact],
    tables: &BTreeMap<String, Joined>,
) -> Vec<String> {
    let [a, b] = sides;
    let [of_a, of_b, _] = names;
    let mut all = Vec::new();
    if a.metric() != b.metric() {
        all.push(format!(
            "The metric differs: {} in {of_a}, {} in {of_b}. Effects in it are in different units, so that their \
             difference is not meaningful.",
            a.metric(),
            b.metric()
        ));
    }
    for column in ["unit", "direction", "reference", "kind"] {
        let mut said: Vec<String> = Vec::new();
        for (name, joined) in tables {
            // in tables of weights and steering these words mean something else
            if !["patch", "resid", "atp", "path", "ablate", "repair"]
                .iter()
                .any(|start| name.starts_with(start))
            {
                continue;
            }
            let words = |k: usize| -> BTreeSet<String> {
                let rows = joined.sides.get(k).and_then(|rows| rows.texts(column).ok());
                rows.into_iter().flatten().collect()
            };
            let (one, two) = (words(0), words(1));
            if one != two {
                let list = |words: &BTreeSet<String>| words.iter().cloned().collect::<Vec<_>>().join(", ");
                said.push(format!("`{name}` ({} in {of_a}, {} in {of_b})", list(&one), list(&two)));
            }
        }
        let what = match column {
            "unit" => "The unit of effects",
            "direction" => "The direction of the swap",
            "reference" => "What takes a part's place in ablations",
            _ => "The kind of ablation",
        };
        if !said.is_empty() {
            all.push(format!(
                "{what} differs in {}: only rows that agree in it are subtracted, and what differs in it is not \
                 comparable.",
                said.join(", ")
            ));
        }
    }
    let told = [
        ("reference", "what stands in for a part without corrupt prompts"),
        ("gains", "what answers gain and cost"),
        ("begins with BOS", "whether prompts begin with BOS"),
        ("weights folded", "how weights were folded"),
        ("numbers", "the type of the numbers"),
    ];
    for (fact, what) in told {
        if let Some(fact) = facts.iter().find(|known| known.fact == fact && known.differs) {
            let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "none".to_owned());
            let (one, two) = (word(&fact.a), word(&fact.b));
            all.push(format!("The runs differ in {what}: {one} in {of_a}, {two} in {of_b}."));
        }
    }
    // written out or by default
    let corruption = |side: &Side| {
        let usual = (side.setting("task.generate") == Some("ioi")).then_some("flip");
        side.setting("task.corruption").or(usual).map(str::to_owned)
    };
    if let (Some(one), Some(two)) = (corruption(a), corruption(b))
        && one != two
    {
        all.push(format!("The runs differ in how prompts are corrupted: {one} in {of_a}, {two} in {of_b}."));
    }
    let paired = |side: &Side| {
        let rows = side.tables.get("prediction")?;
        Some(rows.numbers("logit_diff_corrupt").ok()?.iter().any(Option::is_some))
    };
    if let (Some(one), Some(two)) = (paired(a), paired(b))
        && one != two
    {
        let (with, without) = if one { (of_a, of_b) } else { (of_b, of_a) };
        all.push(format!(
            "{with} swaps in corrupt prompts, {without} has none and takes means: total effects are of different swaps, \
             and their difference is not meaningful."
        ));
    }
    if a.run.sha256 == b.run.sha256 {
        all.push("Both folders hold the same run: every difference is 0.".to_owned());
    }
    all
}
