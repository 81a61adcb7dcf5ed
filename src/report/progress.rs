//! The steps of a run as they finish, so that an interrupted run goes on where it stopped.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use candle_core::Device;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::analysis::Findings;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::output::{Folder, TENSORS};
use crate::study::{self, Outcome, Study};
use crate::table::{self, Format};
use crate::task::Task;

/// Where finished steps are listed until the run is whole.
const PROGRESS: &str = ".glassbox-progress.json";

/// What was asked, and which of its steps are done.
#[derive(Serialize, Deserialize)]
struct Done {
    study: String,
    model: String,
    steps: Vec<Step>,
}

#[derive(Serialize, Deserialize)]
struct Step {
    name: String,
    notes: Vec<String>,
    skipped: Option<String>,
    tables: Vec<String>,
    tensors: Vec<String>,
    files: Vec<String>,
}

/// Runs every step of the study, writing its tables and files into the folder as it finishes. Steps that an interrupted run of the
/// same study and model finished are read back instead, and so are the batches that the lab's journal holds of the step it was
/// at. Interrupted or killed itself, it leaves what is finished for `--resume`.
pub fn run(study: &Study, lab: &Lab, task: &Task, folder: &mut Folder) -> Result<Vec<Outcome>> {
    let (text, model) = (study.text()?, lab.about.hash.clone());
    let own = digest(&text, lab, task);
    let mut done = match folder.read(PROGRESS)? {
        Some(bytes) if folder.resumed() => read(&bytes, &text, &model)?,
        _ => Done { study: text, model, steps: Vec::new() },
    };
    let mut outcomes = Vec::new();
    for (i, step) in study.steps.iter().enumerate() {
        if let Some(step) = done.steps.get(i) {
            outcomes.push(step.load(folder)?);
            continue;
        }
        folder.journal().begin_step(&own, i as u64)?;
        let finished = advance(study, step, lab, task, &mut outcomes, &mut done, folder);
        finished.map_err(|error| kept(error, folder, i, study.steps.len()))?;
        folder.journal().end_step()?;
    }
    Ok(outcomes)
}

/// Runs one step and writes what it found, and last that it is done.
fn advance(
    study: &Study,
    step: &study::Step,
    lab: &Lab,
    task: &Task,
    outcomes: &mut Vec<Outcome>,
    done: &mut Done,
    folder: &mut Folder,
) -> Result<()> {
    let outcome = study.step(step, lab, task)?;
    outcome.findings.tables.iter().try_for_each(|rows| folder.table(rows))?;
    outcome.findings.files.iter().try_for_each(|(name, text)| folder.write(name, text.as_bytes()))?;
    done.steps.push(Step::of(&outcome));
    outcomes.push(outcome);
    let tensors = outcomes.iter().flat_map(|outcome| outcome.findings.tensors.clone()).collect();
    folder.tensors(&tensors, &BTreeMap::from([("model".to_owned(), lab.about.hash.clone())]))?;
    let list =
        serde_json::to_vec(done).map_err(|e| Error::Tensor(format!("progress cannot be written: {e}")))?;
    folder.write(PROGRESS, &list)
}

/// What the numbers of this run depend on, besides the machine: the same digest, the same numbers.
fn digest(study: &str, lab: &Lab, task: &Task) -> [u8; 32] {
    struct Hashing(Sha256);
    impl Write for Hashing {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.update(text);
            Ok(())
        }
    }
    let mut all = Hashing(Sha256::new());
    let (version, hash, memory) = (env!("CARGO_PKG_VERSION"), &lab.about.hash, lab.memory);
    // a hash takes any text
    write!(all, "{version:?} {hash:?} {memory} {study:?} {task:?}").unwrap_or_default();
    all.0.finalize().into()
}

fn read(bytes: &[u8], study: &str, model: &str) -> Result<Done> {
    let done: Done = serde_json::from_slice(bytes).map_err(|e| {
        Error::input(
            format!("the unfinished work cannot be continued: {e}"),
            "--force drops it and starts again",
        )
    })?;
    if done.study != study || done.model != model {
        return Err(Error::usage(
            "the unfinished work is of another study or model",
            "--resume continues with the same settings; --force drops it and starts again",
        ));
    }
    Ok(done)
}

/// The error, once what is finished is kept if there is any and it can be of use: after Ctrl-C, and where it is not the question
/// that is at fault but disk or memory.
pub(super) fn kept(error: Error, folder: &mut Folder, steps: usize, of: usize) -> Error {
    let batches = folder.journal().noted();
    if steps + batches == 0 {
        return error;
    }
    let on = "--resume goes on from there";
    let error = match error {
        Error::Interrupted { .. } => {
            let next =
                if batches > 0 { format!(", and {batches} batch(es) of the next,") } else { String::new() };
            Error::Interrupted { kept: format!("; {steps} of {of} steps{next} are done and kept: {on}") }
        }
        Error::File { action: "write", path, cause, hint } => {
            Error::File { action: "write", path, cause, hint: format!("{hint}; what is done is kept: {on}") }
        }
        Error::Tensor(cause) => Error::Tensor(format!("{cause}\n  hint: what is done is kept: {on}")),
        other => return other,
    };
    folder.keep_partial();
    error
}

impl Step {
    fn of(outcome: &Outcome) -> Step {
        Step {
            name: outcome.name.clone(),
            notes: outcome.findings.notes.clone(),
            skipped: outcome.skipped.clone(),
            tables: outcome.findings.tables.iter().map(|rows| rows.name.clone()).collect(),
            tensors: outcome.findings.tensors.keys().cloned().collect(),
            files: outcome.findings.files.keys().cloned().collect(),
        }
    }

    fn load(&self, folder: &Folder) -> Result<Outcome> {
        let lacking = |what: &str| {
            let message = format!("the unfinished work lacks {what}");
            Error::input(message, "--force drops it and starts again")
        };
        let mut tables = Vec::new();
        for name in &self.tables {
            let path = format!("tables/{name}.parquet");
            let bytes = folder.read(&path)?.ok_or_else(|| lacking(&path))?;
            tables.push(table::read(name, &bytes, Format::Parquet)?);
        }
        let mut tensors = BTreeMap::new();
        if !self.tensors.is_empty() {
            let bytes = folder.read(TENSORS)?.ok_or_else(|| lacking(TENSORS))?;
            let mut all = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
            for name in &self.tensors {
                let tensor = all.remove(name).ok_or_else(|| lacking(&format!("the tensor {name}")))?;
                tensors.insert(name.clone(), tensor);
            }
        }
        let mut files = BTreeMap::new();
        for name in &self.files {
            let text = folder.read(name)?.and_then(|bytes| String::from_utf8(bytes).ok());
            files.insert(name.clone(), text.ok_or_else(|| lacking(name))?);
        }
        let findings = Findings { tables, tensors, files, notes: self.notes.clone() };
        Ok(Outcome { name: self.name.clone(), findings, skipped: self.skipped.clone() })
    }
}
