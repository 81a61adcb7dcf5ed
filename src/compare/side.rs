//! One of two runs: its settings as plain words, and the tables that speak of its own model.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::output::Finished;
use crate::row::Rows;

/// Tables that tell of all stages of a study along training, and are compared as they are.
const OF_STAGES: [&str; 5] = ["training", "training_onset", "training_heads", "training_edges", "compared"];

/// One run.
#[derive(Debug, Clone)]
pub struct Side {
    /// As it lies on disk; its tables have moved to `tables`.
    pub run: Finished,
    /// Every setting of its study under its dotted name: `task.n`, `patch.direction`.
    pub settings: BTreeMap<String, String>,
    /// Its tables; of a study over several stages, the rows of its own model, finished.
    pub tables: BTreeMap<String, Rows>,
    /// Whether there were rows of other stages.
    pub is_series: bool,
}

impl Side {
    pub(super) fn of(mut run: Finished) -> Result<Side> {
        if run.manifest.get("runs").is_some() {
            let cause = "it is a comparison itself";
            return Err(Error::file("compare", &run.folder, cause, "compare the runs that it was made from"));
        }
        let mut settings = BTreeMap::new();
        let mut is_series = false;
        if let Some(text) = &run.study {
            let table: toml::Table = toml::from_str(text).map_err(|e| {
                let cause = e.to_string().lines().next().unwrap_or_default().to_owned();
                Error::file("read", &run.folder.join("study.toml"), cause, "make the run again")
            })?;
            is_series = ["checkpoints", "compare"].iter().any(|key| table.contains_key(*key));
            flatten("", &toml::Value::Table(table), &mut settings);
        }
        let mut tables = std::mem::take(&mut run.tables);
        if is_series {
            let model = word(&run.manifest, &["model", "name"]).unwrap_or_default();
            for (name, rows) in &mut tables {
                if !OF_STAGES.contains(&name.as_str()) {
                    *rows = own(std::mem::take(rows), &model)?;
                }
            }
        }
        tables.retain(|_, rows| !rows.is_empty());
        Ok(Side { run, settings, tables, is_series })
    }

    /// A word or number of the manifest.
    pub fn fact(&self, path: &[&str]) -> Option<String> {
        word(&self.run.manifest, path)
    }

    /// A setting of the study.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// The seed of its random draws.
    pub fn seed(&self) -> u64 {
        self.run.manifest.get("seed").and_then(Value::as_u64).unwrap_or_default()
    }

    /// What was measured, by its word.
    pub fn metric(&self) -> &str {
        self.setting("metric").unwrap_or("logit-diff")
    }

    /// What its prompts are called.
    pub fn task(&self) -> String {
        let one = self.settings.contains_key("task.prompt") || self.settings.contains_key("task.tokens");
        let name = self.setting("task.name").or(self.setting("task.generate"));
        name.map_or_else(|| if one { "one prompt" } else { "its prompts" }.to_owned(), str::to_owned)
    }

    /// How many prompts it had.
    pub fn prompts(&self) -> Option<u64> {
        self.run.manifest.get("sizes")?.get("prompts")?.as_u64()
    }
}

/// The rows of a study's own model at its last step, without the columns that say so.
fn own(mut rows: Rows, model: &str) -> Result<Rows> {
    if rows.column("model").is_ok() {
        let models = rows.texts("model")?;
        let first = models.first().cloned().unwrap_or_default();
        let model = if models.iter().any(|name| name == model) { model } else { &first };
        rows = rows.only("model", model)?;
    }
    if let Ok(steps) = rows.numbers("step") {
        let last = steps.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
        rows = rows.filter(|i| steps.get(i).copied().flatten() == Some(last));
    }
    rows.columns.retain(|(name, _, _)| name != "model" && name != "step");
    Ok(rows)
}

/// A value of a JSON object by its path, as a word.
fn word(manifest: &Value, path: &[&str]) -> Option<String> {
    let found = path.iter().try_fold(manifest, |value, key| value.get(key))?;
    match found {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => {
            let words: Vec<String> = list
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                .collect();
            Some(if words.is_empty() { "none".to_owned() } else { words.join(", ") })
        }
        other => Some(other.to_string()),
    }
}

/// Every value of a study under its dotted name; a list of tables with names (`[[analysis]]`) under those.
fn flatten(prefix: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
    let under = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(key, value)| flatten(&under(key), value, into)),
        toml::Value::Array(list) if list.iter().all(toml::Value::is_table) && !list.is_empty() => {
            if prefix == "figure" {
                return; // how something is drawn is no part of what was asked
            }
            let mut names: Vec<&str> = Vec::new();
            for item in list {
                let name = item.get("name").and_then(toml::Value::as_str).unwrap_or_default();
                names.push(name);
                let Some(table) = item.as_table() else { continue };
                for (key, value) in table.iter().filter(|(key, _)| *key != "name") {
                    flatten(&format!("{name}.{key}"), value, into);
                }
            }
            into.insert("analyses".to_owned(), names.join(", "));
        }
        toml::Value::String(text) => _ = into.insert(prefix.to_owned(), text.clone()),
        other => _ = into.insert(prefix.to_owned(), other.to_string()),
    }
}
