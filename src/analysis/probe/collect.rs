//! The activations that probes read: recorded once for all sites, kept in memory or, where the lab has a store, on disk.

use std::fmt::Write;

use candle_core::DType;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::question::{Question, Spot};
use crate::error::{Error, Result};
use crate::lab::{Lab, Shelf};
use crate::learn::Matrix;
use crate::model::Transformer;
use crate::record::{Recorder, at_positions};
use crate::task::Side;

/// One array for each spot of a question, of one model.
pub(super) struct Arrays {
    at: Keeping,
    /// For each kept example, its row in an array: rows are in the order in which they were recorded, by length.
    rows: Vec<usize>,
    /// Rows of an array: all examples of the task.
    count: usize,
}

enum Keeping {
    Memory(Vec<Vec<f32>>),
    Disk(Box<dyn Shelf>),
}

impl Arrays {
    /// The kept examples' activations at one spot, `[example, width]`.
    pub(super) fn get(&self, question: &Question, index: usize) -> Result<Matrix> {
        let spot = &question.spots[index];
        let shape = [self.count, spot.width];
        let from_disk;
        let numbers: &[f32] = match &self.at {
            Keeping::Memory(all) => &all[index],
            Keeping::Disk(shelf) => {
                let name = name(question, spot);
                let gone = || Error::NotRecorded {
                    site: name.clone(),
                    kept: "it is gone from the folder of activations".into(),
                };
                from_disk = shelf.read(&name, shape)?.ok_or_else(gone)?;
                &from_disk
            }
        };
        let row =
            |&row: &usize| numbers[row * spot.width..(row + 1) * spot.width].iter().map(|&x| f64::from(x));
        let data = self.rows.iter().flat_map(row).collect();
        Ok(Matrix { rows: self.rows.len(), cols: spot.width, data })
    }
}

/// What an array is called: site and position.
fn name(question: &Question, spot: &Spot) -> String {
    format!("{}@{}", spot.site, question.columns[spot.place].place.label)
}

/// Records whatever is not kept yet; `weights` says which weights `model` has.
pub(super) fn collect(lab: &Lab, model: &Transformer, weights: &str, question: &Question) -> Result<Arrays> {
    let task = question.task;
    let order = task.batches(usize::MAX).concat();
    let mut place = vec![0; order.len()];
    order.iter().enumerate().for_each(|(row, &i)| place[i] = row);
    let rows = question.kept.iter().map(|&i| place[i]).collect();
    let count = order.len();
    let spots: Vec<&Spot> = question.spots.iter().collect();
    let Some(store) = &lab.store else {
        let bytes: u64 = spots.iter().map(|spot| (count * spot.width * 4) as u64).sum();
        if bytes > lab.memory / 4 {
            return Err(Error::usage(
                format!(
                    "the activations of {count} prompts at {} places take {} MB, more than the {} MB a run may hold",
                    spots.len(),
                    bytes.div_ceil(1 << 20),
                    (lab.memory / 4) >> 20
                ),
                "name a folder to keep them in with `--activations DIR`, or ask at fewer sites and positions",
            ));
        }
        let mut all: Vec<Vec<f32>> = spots.iter().map(|_| Vec::new()).collect();
        record(lab, model, question, &spots, &mut |k, rows| {
            all[k].extend_from_slice(rows);
            Ok(())
        })?;
        return Ok(Arrays { at: Keeping::Memory(all), rows, count });
    };
    let mut shelf = store.open(&about(lab, model, weights, question))?;
    let mut missing = Vec::new();
    for spot in spots {
        if shelf.read(&name(question, spot), [count, spot.width])?.is_none() {
            missing.push(spot);
        }
    }
    if !missing.is_empty() {
        for spot in &missing {
            shelf.begin(&name(question, spot), [count, spot.width])?;
        }
        record(lab, model, question, &missing, &mut |k, rows| {
            shelf.append(&name(question, missing[k]), rows)
        })?;
        shelf.finish()?;
    }
    Ok(Arrays { at: Keeping::Disk(shelf), rows, count })
}

/// What kept activations are of. Anything that could change a number is in it.
fn about(lab: &Lab, model: &Transformer, weights: &str, question: &Question) -> Map<String, Value> {
    let task = question.task;
    let mut prompts = Sha256::new();
    for example in &task.examples {
        prompts.update(format!("{:?} {:?}\n", example.clean, example.pos));
    }
    let hash = prompts.finalize().iter().fold(String::new(), |mut hash, byte| {
        let _ = write!(hash, "{byte:02x}"); // writing to a String cannot fail
        hash
    });
    let said = json!({
        "model": lab.about.name,
        "model_sha256": lab.about.hash,
        "weights": weights,
        "folded": lab.folding(),
        "task": task.name,
        "prompts": task.examples.len(),
        "prompts_sha256": hash,
        "side": Side::Clean.name(),
        "dtype": format!("{:?}", model.dtype()),
        "glassbox": env!("CARGO_PKG_VERSION"),
    });
    match said {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Runs the model once over all prompts and hands out the rows of each spot, batch by batch in order of length.
fn record(
    lab: &Lab,
    model: &Transformer,
    question: &Question,
    spots: &[&Spot],
    keep: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
) -> Result<()> {
    let task = question.task;
    let last = spots.iter().map(|spot| spot.layer).max().unwrap_or(0);
    let wanted = |site| spots.iter().any(|spot| spot.site == site);
    let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(1);
    let extra =
        model.recorded_bytes(longest, wanted) as usize / (longest * model.dtype().size_in_bytes()).max(1);
    lab.progress.begin("record", task.examples.len() as u64);
    for batch in task.batches(task.fitting(lab, extra)) {
        lab.check()?;
        let mut recorder = Recorder::new(wanted);
        let stream = model.embed(&task.tokens(model, &batch, Side::Clean)?, &mut ())?;
        model.run(stream, None, last + 1, &mut recorder)?;
        for (k, spot) in spots.iter().enumerate() {
            let positions: Vec<usize> = batch.iter().map(|&i| question.positions(spot)[i]).collect();
            let x = at_positions(recorder.kept.get(spot.site)?, &positions)?;
            let rows: Vec<f32> = x.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
            keep(k, &rows)?;
        }
        lab.progress.advance(batch.len() as u64);
    }
    lab.progress.end();
    Ok(())
}
