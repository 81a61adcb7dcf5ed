//! The steps of a run as they finish, so that an interrupted run goes on where it stopped.

use std::collections::BTreeMap;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::analysis::Findings;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::output::{Folder, TENSORS};
use crate::study::{Outcome, Study};
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
/// same study and model finished are read back instead. Interrupted or killed itself, it leaves what is finished for
/// `--resume`.
pub fn run(study: &Study, lab: &Lab, task: &Task, folder: &mut Folder) -> Result<Vec<Outcome>> {
    let (text, model) = (study.text()?, lab.about.hash.clone());
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
        let outcome = match study.step(step, lab, task) {
            Err(Error::Interrupted { .. }) if i > 0 => {
                return Err(interrupted(folder, i, study.steps.len())?);
            }
            other => other?,
        };
        outcome.findings.tables.iter().try_for_each(|rows| folder.table(rows))?;
        outcome.findings.files.iter().try_for_each(|(name, text)| folder.write(name, text.as_bytes()))?;
        done.steps.push(Step::of(&outcome));
        outcomes.push(outcome);
        let tensors = outcomes.iter().flat_map(|outcome| outcome.findings.tensors.clone()).collect();
        folder.tensors(&tensors, &BTreeMap::from([("model".to_owned(), lab.about.hash.clone())]))?;
        let list = serde_json::to_vec(&done)
            .map_err(|e| Error::Tensor(format!("progress cannot be written: {e}")))?;
        folder.write(PROGRESS, &list)?;
    }
    Ok(outcomes)
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

/// Keeps what is finished, and says so.
pub(super) fn interrupted(folder: &mut Folder, steps: usize, of: usize) -> Result<Error> {
    folder.keep_partial();
    let kept = format!("; {steps} of {of} steps are done and kept: --resume goes on from there");
    Ok(Error::Interrupted { kept })
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
