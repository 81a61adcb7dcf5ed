//! A model's files, read strictly: a directory in Hugging Face layout → config keys, tensors, tokenizer. A directory is
//! named by its path, by a bundled name or by a hub id; `hub` finds the last in the local cache, and fetches it.
//!
//! With `output`, the only door to the disk, and the only one to the network. Nothing that is read is trusted: a key or a tensor that nobody handles,
//! a file that is cut short, a number that is not finite are errors that name the file and what to do. No model family is
//! named here; which keys and tensors exist is the business of `family`.

mod archive;
mod arrays;
mod bundled;
mod convert;
mod hash;
mod hub;
mod keys;
mod locate;
mod pickle;
mod room;
mod shards;
mod tensors;
mod tokenizer;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device};
use serde_json::{Map, Value};

pub use arrays::Arrays;
pub use bundled::{Bundled, bundled};
pub use hub::{Env, Hub};
pub use keys::{Keys, POSITIVE};
pub use locate::{absolute, locate};
pub use room::{Need, available};
pub use tensors::Tensors;

use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// A directory in Hugging Face layout.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
    /// Weights that stand in for the directory's own: a checkpoint of its training.
    weights: Option<PathBuf>,
    name: String,
    /// The commit whose files these are, and what is to be said about how it was found: of a hub's model.
    revision: Option<String>,
    remark: Option<String>,
}

impl Directory {
    /// The directory at a path; it must hold a `config.json`.
    pub fn open(path: impl Into<PathBuf>) -> Result<Directory> {
        let path = path.into();
        let absolute = path.canonicalize().map_err(|e| Error::file("open", &path, e, LAYOUT))?;
        let name = absolute.file_name().map_or("model".into(), |name| name.to_string_lossy().into_owned());
        if !path.join(CONFIG).is_file() {
            let message = format!("{} is not a model: it holds no config.json", path.display());
            return Err(Error::input(message, LAYOUT));
        }
        Ok(Directory { path, weights: None, name, revision: None, remark: None })
    }

    /// The folder's name, or the name it was asked for by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The commit whose files these are, as 40 hex digits, if the model came from a hub.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The keys of `config.json`.
    pub fn keys(&self) -> Result<Keys> {
        Ok(Keys::new(CONFIG, self.config()?))
    }

    /// The tensors, to be read as `dtype` (f32 or f64) onto a device.
    pub fn tensors(&self, dtype: DType, device: &Device) -> Result<Tensors> {
        Tensors::open(&self.weight_files()?, dtype, device)
    }

    /// The tokenizer, if the directory has one, and its beginning-of-sequence token.
    pub fn vocabulary(&self) -> Result<Vocabulary> {
        tokenizer::vocabulary(&self.path, &self.config()?)
    }

    /// sha256 over the weight files, one after the other, as hex.
    pub fn weights_hash(&self) -> Result<String> {
        hash::sha256(&self.weight_files()?)
    }

    /// As [`Directory::weights_hash`]; given up, with no meaning, once `unwanted` is set.
    pub fn weights_hash_unless(&self, unwanted: &AtomicBool) -> Result<String> {
        hash::sha256_unless(&self.weight_files()?, unwanted)
    }

    /// sha256 over the tokenizer's file or files, as hex.
    pub fn tokenizer_hash(&self) -> Result<Option<String>> {
        let files = tokenizer::files(&self.path);
        if files.is_empty() { Ok(None) } else { hash::sha256(&files).map(Some) }
    }

    /// What `circuit.json` says about designed roles, if there is one.
    pub fn circuit(&self) -> Result<Option<Value>> {
        let path = self.path.join("circuit.json");
        if path.exists() { json(&path).map(Some) } else { Ok(None) }
    }

    /// The lines of `caveats.txt`, and what was guessed to find it: sentences that a report on this model must carry.
    pub fn caveats(&self) -> Result<Vec<String>> {
        let path = self.path.join("caveats.txt");
        let text = if path.exists() { read_text(&path)? } else { String::new() };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
        Ok(lines.chain(self.remark.clone()).collect())
    }

    fn config(&self) -> Result<Map<String, Value>> {
        object(&self.path.join(CONFIG))
    }

    fn weight_files(&self) -> Result<Vec<PathBuf>> {
        match &self.weights {
            Some(file) => Ok(vec![file.clone()]),
            None => shards::files(&self.path),
        }
    }
}

const CONFIG: &str = "config.json";
const LAYOUT: &str =
    "a model is a directory in Hugging Face layout: config.json, model.safetensors, tokenizer.json";
const AGAIN: &str = "the file is cut short or damaged: copy or download it again";

/// A file's JSON value.
fn json(path: &Path) -> Result<Value> {
    serde_json::from_str(&read_text(path)?).map_err(|e| Error::file("parse", path, e, AGAIN))
}

/// A file's JSON object.
fn object(path: &Path) -> Result<Map<String, Value>> {
    match json(path)? {
        Value::Object(map) => Ok(map),
        _ => Err(Error::file("parse", path, "it is not a JSON object", AGAIN)),
    }
}

/// The last part of a path, as people speak of it.
fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// A text file's content: prompts, gains, a study.
pub fn read_text(path: &Path) -> Result<String> {
    let hint = "check the path; it must be a UTF-8 text file";
    std::fs::read_to_string(path).map_err(|e| Error::file("read", path, e, hint))
}
