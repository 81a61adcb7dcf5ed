//! The models that come with glassbox, and the steps of training that a directory kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Directory, read_text};
use crate::error::{Error, Result};

/// A model that comes with glassbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundled {
    /// What to call it by.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// The steps of its training that were kept: `name@step600`.
    pub steps: Vec<u64>,
}

/// Every bundled model, by name: those under `assets/models` of the current folder, then those of the source tree.
pub fn bundled() -> Vec<Bundled> {
    let roots = [PathBuf::from("."), PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
    let mut found = BTreeMap::new();
    for root in roots {
        for entry in fs::read_dir(root.join("assets/models")).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.join("config.json").is_file() {
                let steps = steps(&path);
                found.entry(name.clone()).or_insert(Bundled { name, path, steps });
            }
        }
    }
    found.into_values().collect()
}

impl Directory {
    /// The steps of training of which a checkpoint was kept, in order. A checkpoint itself has none.
    pub fn steps(&self) -> Vec<u64> {
        if self.weights.is_some() { Vec::new() } else { steps(&self.path) }
    }

    /// The step of training at which the directory's own weights are, if its recipe says so.
    pub fn last_step(&self) -> Result<Option<u64>> {
        let path = self.path.join("recipe.toml");
        if !path.exists() {
            return Ok(None);
        }
        let recipe: toml::Table = toml::from_str(&read_text(&path)?).map_err(|e| {
            Error::file(
                "parse",
                &path,
                e.message(),
                "it is the recipe that `glassbox train` wrote beside the weights",
            )
        })?;
        let steps = recipe.get("training").and_then(|training| training.get("steps")?.as_integer());
        Ok(steps.and_then(|steps| u64::try_from(steps).ok()))
    }
}

/// The steps of training of which a checkpoint was kept, in order.
pub(super) fn steps(path: &Path) -> Vec<u64> {
    let names = fs::read_dir(path.join("checkpoints")).into_iter().flatten().flatten();
    let step = |name: String| name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok();
    let mut steps: Vec<u64> =
        names.filter_map(|entry| step(entry.file_name().to_string_lossy().into_owned())).collect();
    steps.sort_unstable();
    steps
}
