//! A model held to the promises of the engine, on that model's own weights: one file per promise.
//!
//! Whatever the weights, a place that is written moves the logits, gradients are the slopes that differences measure, a
//! resumed pass is the whole pass, a padded row is the row alone. What one model by itself cannot show (a bias left out
//! of its file, heads in another order) is the business of reference values, in the tests.

mod attribution;
mod causality;
mod dead;
mod determinism;
mod edges;
mod folding;
mod generation;
mod grouped;
mod heads;
mod ledger;
mod padding;
mod patching;
mod sites;
mod stream;
mod subject;
mod windows;

pub use dead::dead;
pub use ledger::{Ledger, PromiseRow, SiteRow};
pub use subject::{Engine, Subject};

use std::sync::Arc;

use candle_core::DType;

use crate::error::{Error, Result};
use crate::lab::{Lab, Silent};
use crate::row::Rows;

/// Something that holds for every model, with the way to check it on one.
pub struct Promise {
    /// One word.
    pub name: &'static str,
    /// What is promised, in one line.
    pub about: &'static str,
    /// The largest distance allowed.
    pub within: Within,
    /// Checks it.
    pub run: fn(&Subject, &mut Ledger) -> Result<()>,
}

/// A tolerance for each type a model computes in, relative to max(1, largest |value|) of what is compared.
#[derive(Debug, Clone, Copy)]
pub struct Within {
    double: f64,
    single: f64,
}

impl Within {
    /// Two ways of computing one thing.
    const ROUNDING: Within = Within { double: 1e-9, single: 1e-5 };
    /// Bit for bit.
    const EXACT: Within = Within { double: 0.0, single: 0.0 };

    fn of(self, dtype: DType) -> f64 {
        if dtype == DType::F64 { self.double } else { self.single }
    }
}

/// Every promise, in the order of the report. A test fails when a file of this folder is missing here.
pub const PROMISES: &[Promise] = &[
    sites::PROMISE,
    causality::PROMISE,
    stream::PROMISE,
    heads::PROMISE,
    grouped::PROMISE,
    patching::PROMISE,
    edges::PROMISE,
    attribution::PROMISE,
    folding::PROMISE,
    windows::PROMISE,
    generation::PROMISE,
    padding::PROMISE,
    determinism::PROMISE,
];

/// What came out, on one model.
#[derive(Debug, Clone)]
pub struct Record {
    /// One row for each place of the model.
    pub sites: Vec<SiteRow>,
    /// One row for each promise.
    pub promises: Vec<PromiseRow>,
}

impl Record {
    /// The tables `sites` and `promises`.
    pub fn tables(&self) -> [Rows; 2] {
        [Rows::of("sites", &self.sites), Rows::of("promises", &self.promises)]
    }

    /// An error that names every promise that does not hold, and where.
    pub fn check(&self, model: &str) -> Result<()> {
        let broken: Vec<String> = self
            .promises
            .iter()
            .filter(|row| row.holds == Some(false))
            .map(|row| format!("{} ({})", row.promise, row.note.as_deref().unwrap_or_default()))
            .collect();
        if broken.is_empty() {
            return Ok(());
        }
        Err(Error::input(
            format!(
                "{model} breaks {} of {} promises: {}",
                broken.len(),
                self.promises.len(),
                broken.join("; ")
            ),
            "numbers read off this model are not to be trusted: please report it with this output",
        ))
    }
}

/// Runs every promise on a lab's model.
pub fn verify(lab: &Lab) -> Result<Record> {
    verify_engine(lab, &lab.model)
}

/// Runs every promise on what claims to compute the lab's model.
pub fn verify_engine(lab: &Lab, engine: &dyn Engine) -> Result<Record> {
    // the bar counts promises; what they run does not move it
    let quiet = Lab {
        progress: Arc::new(Silent),
        stop: Arc::clone(&lab.stop),
        seed: lab.seed,
        memory: lab.memory,
        ..Lab::new(lab.model.clone(), lab.vocabulary.clone(), lab.about.clone())
    };
    let subject = Subject::new(&quiet, engine)?;
    let mut record = Record { sites: Vec::new(), promises: Vec::new() };
    lab.progress.begin("verify", PROMISES.len() as u64);
    for promise in PROMISES {
        lab.check()?;
        lab.progress.note(promise.name);
        let mut ledger = Ledger::new(promise.within.of(lab.model.dtype()));
        if let Err(error) = (promise.run)(&subject, &mut ledger) {
            match error {
                Error::Interrupted { .. } => return Err(error),
                error => ledger.broken(format_args!("it cannot be checked: {error}")),
            }
        }
        record.promises.push(ledger.row(promise));
        record.sites.append(&mut ledger.sites);
        lab.progress.advance(1);
    }
    lab.progress.end();
    Ok(record)
}
