//! What was checked, how far off it was, and where.

use std::fmt::Display;

use candle_core::{DType, Tensor};

use super::Promise;
use crate::error::Result;

crate::row! {
    /// One promise on one model.
    pub struct PromiseRow {
        /// Its name.
        pub promise: String,
        /// Whether it holds; empty when it does not apply to this model.
        pub holds: Option<bool>,
        /// The largest distance met, relative to max(1, largest |value|) of what was compared.
        pub measured: Option<f64>,
        /// The largest distance allowed.
        pub tolerance: Option<f64>,
        /// How many comparisons were made.
        pub checks: usize,
        /// What is broken and where; why it does not apply; what was sampled.
        pub note: Option<String>,
        /// What is promised.
        pub about: String,
    }
}

crate::row! {
    /// One place of one model.
    pub struct SiteRow {
        /// Its classic name.
        pub site: String,
        /// Sizes of its axes, for the prompts used.
        pub shape: String,
        /// How often it fired in one pass.
        pub fired: usize,
        /// Largest change of a logit when the activation there is changed by about its own size.
        pub moved: Option<f64>,
        /// Slope of a random sum of logits along a random direction there, by back-propagation.
        pub gradient: Option<f64>,
        /// The same slope by finite differences.
        pub differences: Option<f64>,
        /// Their relative distance.
        pub error: Option<f64>,
        /// Why it is dead in these weights, if it is; what is wrong with it, if anything.
        pub note: Option<String>,
    }
}

/// Keeps the worst of what a promise measured.
#[derive(Debug, Default)]
pub struct Ledger {
    tolerance: f64,
    checks: usize,
    worst: Option<(f64, String)>,
    broken: Vec<String>,
    elsewhere: Option<String>,
    remarks: Vec<String>,
    /// The conformance record of places, filled by the promise about them.
    pub sites: Vec<SiteRow>,
}

impl Ledger {
    /// An empty ledger under this tolerance.
    pub fn new(tolerance: f64) -> Ledger {
        Ledger { tolerance, ..Ledger::default() }
    }

    /// The largest distance allowed.
    pub fn tolerance(&self) -> f64 {
        self.tolerance
    }

    /// Compares two tensors; infinities must be the same ones, NaN and another shape are infinitely far.
    pub fn equal(&mut self, what: impl Display, got: &Tensor, want: &Tensor) -> Result<()> {
        self.within(what, distance(got, want)?);
        Ok(())
    }

    /// Enters a relative distance.
    pub fn within(&mut self, what: impl Display, distance: f64) {
        self.checks += 1;
        let distance = if distance.is_nan() { f64::INFINITY } else { distance };
        if distance > self.tolerance {
            self.broken.push(format!("{what} is {distance:.1e} off, more than {:.0e}", self.tolerance));
        }
        if self.worst.as_ref().is_none_or(|(worst, _)| distance > *worst) {
            self.worst = Some((distance, what.to_string()));
        }
    }

    /// Enters something that is so or not; `what` says what is wrong when it is not.
    pub fn holds(&mut self, so: bool, what: impl Display) {
        self.checks += 1;
        if !so {
            self.broken.push(what.to_string());
        }
    }

    /// Enters a failure.
    pub fn broken(&mut self, what: impl Display) {
        self.holds(false, what);
    }

    /// The promise does not apply to this model.
    pub fn elsewhere(&mut self, why: impl Display) {
        self.elsewhere = Some(why.to_string());
    }

    /// Something a reader must know.
    pub fn remark(&mut self, remark: impl Display) {
        self.remarks.push(remark.to_string());
    }

    /// What came out.
    pub(super) fn row(&self, promise: &Promise) -> PromiseRow {
        let applies = self.elsewhere.is_none();
        let mut notes: Vec<String> = match (&self.elsewhere, self.broken.as_slice()) {
            (Some(why), _) => vec![format!("does not apply: {why}")],
            (None, []) if self.checks == 0 => vec!["nothing was checked".into()],
            (None, [first, rest @ ..]) if !rest.is_empty() => {
                vec![format!("{first}, and {} more", rest.len())]
            }
            (None, broken) => broken.to_vec(),
        };
        notes.extend(self.remarks.iter().cloned());
        PromiseRow {
            promise: promise.name.to_owned(),
            holds: applies.then_some(self.broken.is_empty() && self.checks > 0),
            measured: self.worst.as_ref().map(|(worst, _)| *worst),
            tolerance: applies.then_some(self.tolerance),
            checks: self.checks,
            note: (!notes.is_empty()).then(|| notes.join("; ")),
            about: promise.about.to_owned(),
        }
    }
}

/// Largest distance, relative to max(1, largest finite |want|).
pub(super) fn distance(got: &Tensor, want: &Tensor) -> Result<f64> {
    if got.dims() != want.dims() {
        return Ok(f64::INFINITY);
    }
    let (got, want) = (numbers(got)?, numbers(want)?);
    let far = |(a, b): (&f64, &f64)| match (a - b).abs() {
        _ if a == b => 0.0,
        d if d.is_nan() => f64::INFINITY,
        d => d,
    };
    let size = want.iter().filter(|x| x.is_finite()).fold(1.0, |size: f64, x| size.max(x.abs()));
    Ok(got.iter().zip(&want).map(far).fold(0.0, f64::max) / size)
}

pub(super) fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}
