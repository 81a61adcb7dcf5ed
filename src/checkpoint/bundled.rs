//! The models that come with glassbox, and how a word on the command line becomes a directory.

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

/// The directory a word means: a bundled model, else a directory, either of them with `@step600` for a checkpoint of its
/// training, `checkpoints/step-600.safetensors`, or for the last step, the directory's own weights.
pub fn locate(model: &str) -> Result<Directory> {
    if let Some(directory) = whole(model)? {
        return Ok(directory);
    }
    if let Some((base, step)) = model.rsplit_once("@step")
        && let Some(directory) = whole(base)?
    {
        let wanted = step.parse::<u64>().ok();
        if wanted.is_some() && wanted == directory.last_step()? {
            return Ok(directory); // the step at which training ended
        }
        let known = steps(&directory.path);
        let Some(step) = wanted.filter(|step| known.contains(step)) else {
            let known: Vec<String> = known.iter().map(|step| format!("{base}@step{step}")).collect();
            let hint =
                if known.is_empty() { "it has none".into() } else { format!("it has {}", known.join(", ")) };
            return Err(Error::usage(format!("{base} has no checkpoint of step {step:?}"), hint));
        };
        let weights = Some(directory.path.join("checkpoints").join(format!("step-{step}.safetensors")));
        let name = format!("{}@step{step}", directory.name);
        return Ok(Directory { weights, name, ..directory });
    }
    let names: Vec<String> = bundled().into_iter().map(|bundled| bundled.name).collect();
    let bundled = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(Error::usage(
        format!("there is no model {model:?}: no bundled model is called so, and it is not a directory"),
        format!(
            "bundled: {bundled}; or give the path of a directory in Hugging Face layout \
             (config.json, model.safetensors, tokenizer.json); nothing is downloaded"
        ),
    ))
}

/// A model's word as it is understood from any folder: a directory's absolute path, a bundled name as it is.
pub fn absolute(model: &str) -> String {
    let is_bundled = |name: &str| bundled().iter().any(|bundled| bundled.name == name);
    let (base, step) = match model.rsplit_once("@step") {
        Some((base, step)) if !Path::new(model).is_dir() => (base, Some(step)),
        _ => (model, None),
    };
    match fs::canonicalize(base) {
        Ok(path) if !is_bundled(base) => {
            let step = step.map(|step| format!("@step{step}")).unwrap_or_default();
            format!("{}{step}", path.display())
        }
        _ => model.to_owned(),
    }
}

fn whole(model: &str) -> Result<Option<Directory>> {
    if let Some(bundled) = bundled().into_iter().find(|bundled| bundled.name == model) {
        return Directory::open(bundled.path).map(Some);
    }
    if !model.is_empty() && Path::new(model).is_dir() { Directory::open(model).map(Some) } else { Ok(None) }
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
fn steps(path: &Path) -> Vec<u64> {
    let names = fs::read_dir(path.join("checkpoints")).into_iter().flatten().flatten();
    let step = |name: String| name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok();
    let mut steps: Vec<u64> =
        names.filter_map(|entry| step(entry.file_name().to_string_lossy().into_owned())).collect();
    steps.sort_unstable();
    steps
}
