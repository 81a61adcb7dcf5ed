//! A finished run folder read back: its manifest, its study, its tables.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::atomic::{failed, hex};
use super::{MARKER, SCHEMA_VERSION, read_table, sibling};
use crate::error::{Error, Result};
use crate::row::Rows;

/// A run as it lies on disk.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its folder, as it was named.
    pub folder: PathBuf,
    /// `manifest.json`: a JSON object.
    pub manifest: Value,
    /// SHA-256 of `manifest.json`, which lists the hashes of everything else.
    pub sha256: String,
    /// `study.toml`, where there is one.
    pub study: Option<String>,
    /// Its tables by name, those of every example among them.
    pub tables: BTreeMap<String, Rows>,
}

impl Finished {
    /// Reads a run folder. Each way in which it is none, or not whole, is a sentence.
    pub fn open(folder: &Path) -> Result<Finished> {
        let refuse = |cause: &str, hint: &str| Err(Error::file("read", folder, cause, hint));
        let partial = sibling(folder, ".partial");
        let waits = "wait for it to end, or continue it with the same command and --resume";
        if !folder.exists() {
            return match partial.is_dir() {
                true => refuse("the run is not finished: there is only its .partial folder", waits),
                false => refuse(
                    "there is no such folder",
                    "give the folder of a finished run, as its command printed it",
                ),
            };
        }
        if !folder.is_dir() {
            return refuse(
                "it is a file",
                "give the folder of a finished run: the one with manifest.json in it",
            );
        }
        let path = folder.join("manifest.json");
        if folder.join(MARKER).exists() || folder.to_string_lossy().ends_with(".partial") {
            return refuse("the run is not finished", waits);
        }
        if !path.is_file() {
            return refuse(
                "it holds no manifest.json, so it is no run of glassbox",
                "give the folder that `glassbox report --out DIR` or another command wrote",
            );
        }
        let bytes = fs::read(&path).map_err(|e| failed("read", &path, &e))?;
        let again = "make the run again with the command in its report";
        let manifest: Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::file("read", &path, e, again))?;
        match manifest.get("schema_version").and_then(Value::as_u64) {
            Some(version) if version == u64::from(SCHEMA_VERSION) => {}
            version => {
                let said = version.map_or("none".to_owned(), |version| version.to_string());
                let cause = format!("its schema_version is {said}, and this glassbox reads {SCHEMA_VERSION}");
                return Err(Error::file(
                    "read",
                    &path,
                    cause,
                    "make the run again with this version of glassbox",
                ));
            }
        }
        let study = folder.join("study.toml");
        let study =
            study.is_file().then(|| fs::read_to_string(&study).map_err(|e| failed("read", &study, &e)));
        let mut tables = BTreeMap::new();
        for output in manifest.get("outputs").and_then(Value::as_array).into_iter().flatten() {
            let name = output.get("path").and_then(Value::as_str).unwrap_or_default();
            // a name that would lead out of the folder is none that glassbox wrote
            let stem = name.strip_prefix("tables/").and_then(|name| name.strip_suffix(".parquet"));
            let Some(stem) = stem.filter(|stem| !stem.contains(['/', '\\'])) else { continue };
            let path = folder.join("tables").join(format!("{stem}.parquet"));
            let rows = read_table(&path).map_err(|error| {
                let cause = error.to_string();
                let cause = cause.lines().next().unwrap_or_default().to_owned();
                Error::file("read", &path, cause, again)
            })?;
            tables.insert(stem.to_owned(), rows);
        }
        let sha256 = hex(&Sha256::digest(&bytes));
        Ok(Finished { folder: folder.to_owned(), manifest, sha256, study: study.transpose()?, tables })
    }
}
