//! How a word on the command line becomes a directory: a bundled name, else a path, else a hub id.

use std::fs;
use std::path::Path;

use super::Directory;
use super::bundled::{bundled, steps};
use super::hub::{self, Env, Hub, Id};
use crate::error::{Error, Result};

/// What a word names.
pub(super) enum Named {
    /// A directory of this machine.
    Directory(Directory),
    /// A model of the hub, cached or not.
    Hub(Id),
}

/// The directory a word means, from this machine alone: a bundled model, else a directory, else a hub id whose files are in
/// the local cache. The first two may have `@step600` for a checkpoint of their training, `checkpoints/step-600.safetensors`,
/// or for the last step, the directory's own weights; a hub id may have `@` and a branch, tag or commit.
pub fn locate(model: &str) -> Result<Directory> {
    Hub::new(Env::of_process()).locate(model)
}

/// A model's word as it is understood from any folder: a directory's absolute path, any other name as it is.
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

/// What a word names; an error if it can be none of all that.
pub(super) fn understand(model: &str) -> Result<Named> {
    if let Some(directory) = whole(model)? {
        return Ok(Named::Directory(directory));
    }
    if let Some((base, step)) = model.rsplit_once("@step")
        && let Some(directory) = whole(base)?
    {
        return at_step(directory, base, step).map(Named::Directory);
    }
    Id::parse(model).map(Named::Hub).ok_or_else(|| no_model(model))
}

/// What to say of a word that names nothing.
pub(super) fn no_model(model: &str) -> Error {
    const NEAR: f64 = 0.9;
    let bundled: Vec<String> = bundled().into_iter().map(|bundled| bundled.name).collect();
    let known = bundled.iter().map(String::as_str).chain(hub::aliases());
    let near = known.map(|name| (strsim::jaro_winkler(model, name), name)).filter(|(like, _)| *like > NEAR);
    let near = near.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| format!("did you mean {name}? "));
    let bundled = if bundled.is_empty() { "none".to_owned() } else { bundled.join(", ") };
    Error::usage(
        format!("there is no model {model:?}: no bundled model is called so, and it is not a directory"),
        format!(
            "{}bundled: {bundled}; or give a hub id (OWNER/NAME, OWNER/NAME@REVISION, gpt2), or the path of a directory \
             in Hugging Face layout (config.json, model.safetensors, tokenizer.json)",
            near.unwrap_or_default()
        ),
    )
}

fn whole(model: &str) -> Result<Option<Directory>> {
    if let Some(bundled) = bundled().into_iter().find(|bundled| bundled.name == model) {
        return Directory::open(bundled.path).map(Some);
    }
    if !model.is_empty() && Path::new(model).is_dir() { Directory::open(model).map(Some) } else { Ok(None) }
}

/// A directory's checkpoint of this step of its training.
fn at_step(directory: Directory, base: &str, step: &str) -> Result<Directory> {
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
    Ok(Directory { weights, name, ..directory })
}
