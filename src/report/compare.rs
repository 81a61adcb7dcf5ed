//! Two runs beside each other as a folder: joined tables, figures on one scale, the page.

mod captions;
mod kinds;
mod page;
mod pictures;
mod tables;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{findings, html, markdown};
use crate::compare::{Compared, Side};
use crate::error::Result;
use crate::output::{Folder, Manifest, ModelFacts};
use crate::row::Rows;

/// Writes tables, figures and both pages into the folder; `command` is what makes it again.
pub fn write(compared: &Compared, command: &str, folder: &mut Folder) -> Result<()> {
    for joined in compared.tables.values() {
        folder.table(&joined.long(&compared.names)?)?;
    }
    let made = tables::Made::of(compared)?;
    for rows in made.all() {
        folder.table(rows)?;
    }
    let (drawn, undrawn) = pictures::all(compared, &made)?;
    for picture in &drawn {
        folder.figure(&picture.name, &picture.files)?;
    }
    folder.write("figures/macros.tex", findings::beside(compared)?.as_bytes())?;
    // a page lies elsewhere than where it was asked for
    let is_relative = compared.sides.iter().any(|side| side.run.folder.is_relative());
    let command = if is_relative {
        format!("{command}  # in the folder where it was called")
    } else {
        command.to_owned()
    };
    let page = page::page(compared, &made, drawn, &undrawn, &command)?;
    folder.write("index.html", html(&page)?.as_bytes())?;
    folder.write("report.md", markdown(&page).as_bytes())
}

/// What the manifest says: both runs by the hashes of their own manifests.
pub fn manifest(compared: &Compared, threads: usize) -> Manifest {
    let [a, b] = &compared.sides;
    let both = |path: &[&str]| {
        let (one, two) = (a.fact(path).unwrap_or_default(), b.fact(path).unwrap_or_default());
        if one == two { one } else { format!("{one} | {two}") }
    };
    let run = |(side, name): (&Side, &String)| {
        json!({
            "name": name,
            "folder": side.run.folder.display().to_string(),
            "manifest_sha256": side.run.sha256,
            "model": side.run.manifest.get("model").cloned().unwrap_or(Value::Null),
            "argv": side.run.manifest.get("argv").cloned().unwrap_or(Value::Null),
        })
    };
    let runs: Vec<Value> = compared.sides.iter().zip(&compared.names).map(run).collect();
    let sizes = BTreeMap::from([("tables".to_owned(), compared.tables.len() as u64)]);
    let more = serde_json::Map::from_iter([
        ("runs".to_owned(), Value::from(runs)),
        ("same_examples".to_owned(), compared.same_examples.into()),
        ("warnings".to_owned(), compared.warnings.clone().into()),
    ]);
    Manifest {
        argv: std::env::args().collect(),
        model: ModelFacts {
            name: both(&["model", "name"]),
            revision: None,
            family: both(&["model", "family"]),
            sha256: both(&["model", "sha256"]),
        },
        tokenizer_sha256: Some(both(&["tokenizer_sha256"])).filter(|hash| !hash.is_empty()),
        seed: a.seed().min(b.seed()),
        dtype: both(&["dtype"]),
        device: both(&["device"]),
        threads,
        sizes,
        more,
    }
}

/// A picture with its words and numbers.
struct Drawn {
    name: String,
    caption: String,
    svg: String,
    /// Its files, by their endings.
    files: Vec<(&'static str, Vec<u8>)>,
    /// What it draws.
    data: Rows,
}
