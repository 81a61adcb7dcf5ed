//! A run as a folder: tables, tensors, figures, the page, and what reruns it.

use std::collections::BTreeMap;

use super::story::{Run, Story};
use super::{derive, explore, facts, figures, findings, html, markdown, progress, sections};
use crate::checkpoint;
use crate::error::Result;
use crate::lab::{self, Lab};
use crate::output::{Folder, Manifest, ModelFacts};
use crate::row;
use crate::row::Rows;
use crate::study::{Stage, Study};
use crate::task::Task;

/// Writes everything but the manifest, and what [`run`](super::run) wrote, into the folder.
pub fn write(run: &Run, folder: &mut Folder) -> Result<()> {
    let done = run.outcomes.len();
    all(run, folder).map_err(|error| progress::kept(error, folder, done, done))
}

fn all(run: &Run, folder: &mut Folder) -> Result<()> {
    // the page tells of the study's own model, finished; what the other stages found is told beside it
    let own = run.outcomes.iter().map(|outcome| run.study.own(outcome)).collect::<Result<Vec<_>>>()?;
    let joined = run.outcomes.iter().filter(|_| run.study.is_series());
    let joined: Vec<Rows> = joined.flat_map(|outcome| &outcome.findings.tables).cloned().collect();
    let run = &Run { outcomes: &own, ..*run };
    if !run.task.examples.is_empty() {
        folder.table(&units(run.task))?;
    }
    let mut tables = BTreeMap::new();
    for outcome in run.outcomes {
        for rows in &outcome.findings.tables {
            tables.insert(rows.name.clone(), rows.clone());
        }
    }
    for rows in derive::training(&joined)? {
        folder.table(&rows)?;
        tables.insert(rows.name.clone(), rows);
    }
    let made = derive::tables(run, &tables)?;
    for (rows, is_result) in made {
        if is_result {
            folder.table(&rows)?;
        }
        tables.insert(rows.name.clone(), rows);
    }

    let mut story = Story { run: *run, tables, pictures: BTreeMap::new() };
    for drawn in figures::draw(&story)? {
        folder.figure(&drawn.name, &drawn.files)?;
        story.pictures.insert(drawn.name, drawn.picture);
    }
    folder.write("figures/macros.tex", findings::write(&story)?.as_bytes())?;
    let mut page = sections::page(&story);
    page.data = explore::data(&story, &page)?;
    folder.write("index.html", html(&page)?.as_bytes())?;
    folder.write("report.md", markdown(&page).as_bytes())?;
    rerun(run, folder)
}

row! {
    /// Which examples are one piece of evidence.
    pub struct Unit {
        /// The example.
        pub example: String,
        /// The first example with the same prompt: copies are no further evidence, and are resampled together.
        pub unit: String,
    }
}

/// Table `examples_units`: what is drawn together when examples are resampled.
fn units(task: &Task) -> Rows {
    let id = |i: usize| task.examples.get(i).map_or_else(String::new, |example| example.id.clone());
    let rows: Vec<Unit> = task
        .units()
        .into_iter()
        .enumerate()
        .map(|(i, unit)| Unit { example: id(i), unit: id(unit) })
        .collect();
    Rows::of("examples_units", &rows)
}

/// `study.toml` and the files it names, so that the folder alone reruns the study.
fn rerun(run: &Run, folder: &mut Folder) -> Result<()> {
    let mut own = run.study.clone();
    own.model = run.model();
    own.values = run.lab.values.as_ref().map(|values| values.path().to_owned());
    own.activations = None; // of use to this machine only; without, they are recorded anew
    own.compare.iter_mut().for_each(|model| *model = checkpoint::absolute(model));
    own.task.name = own.task.file.is_some().then(|| run.task.name.clone());
    let files = [
        (&mut own.task.file, "prompts.jsonl"),
        (&mut own.reference, "reference.jsonl"),
        (&mut own.gains, "gains.json"),
        (&mut own.circuit, "given.json"),
    ];
    for (path, name) in files {
        if let Some(path) = path {
            folder.write(name, checkpoint::read_text(path)?.as_bytes())?;
            *path = name.into();
        }
    }
    folder.write("study.toml", own.text()?.as_bytes())
}

/// The other models a study was put to, with the hashes of their weights.
fn stages(study: &Study) -> Result<Vec<serde_json::Value>> {
    if !study.is_series() {
        return Ok(Vec::new());
    }
    let fact = |stage: &Stage| {
        let directory = checkpoint::locate(&stage.word)?;
        let hash = directory.weights_hash()?;
        let mut fact = serde_json::json!({ "name": stage.word, "step": stage.step, "sha256": hash });
        if let Some(revision) = directory.revision() {
            fact["revision"] = revision.into();
        }
        Ok(fact)
    };
    study.stages()?.iter().map(fact).collect()
}

/// What the manifest says about a run.
pub fn manifest(study: &Study, lab: &Lab, task: &Task, threads: usize) -> Manifest {
    let sizes = BTreeMap::from([
        ("parameters".to_owned(), lab.about.parameters as u64),
        ("prompts".to_owned(), task.examples.len() as u64),
    ]);
    let more = serde_json::Map::from_iter([
        ("bos".to_owned(), task.bos.into()),
        ("notes".to_owned(), task.notes.clone().into()),
        ("caveats".to_owned(), lab.about.caveats.clone().into()),
        ("stages".to_owned(), stages(study).unwrap_or_default().into()),
        ("folded".to_owned(), lab.about.folded.iter().map(|step| step.name()).collect()),
        ("facts".to_owned(), serde_json::to_value(facts::of(study, lab, task)).unwrap_or_default()),
    ]);
    Manifest {
        argv: std::env::args().collect(),
        model: ModelFacts {
            name: lab.about.name.clone(),
            revision: lab.about.revision.clone(),
            family: lab.about.family.clone(),
            sha256: lab.about.hash.clone(),
        },
        tokenizer_sha256: lab.about.tokenizer_hash.clone(),
        seed: study.seed,
        dtype: study.dtype.clone(),
        device: lab::device_name(lab.model.device()),
        threads,
        sizes,
        more,
    }
}
