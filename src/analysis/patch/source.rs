//! Where the values come from that are put into a run: the other prompt of the pair, a file, or a mean.

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::Patch;
use crate::error::{Error, Result};
use crate::lab::{Arrays, Lab};
use crate::lesion::{Sample, Sums};
use crate::record::Activations;
use crate::site::{Axis, Site};
use crate::task::Task;

/// Where values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The file if there is one; else the pair if there is one; else the mean.
    #[default]
    Auto,
    /// The other prompt of the pair.
    Pair,
    /// A file of recorded activations (`--values`).
    File,
    /// The mean over the reference prompts (`--reference`), position by position where all of them are long enough.
    Mean,
}

/// The values of a run.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Pair,
    File { file: Arc<Arrays>, kept: Activations },
    Mean { reference: Vec<Sample>, by_position: bool, kept: Activations },
}

impl Source {
    /// The source asked for, or the first that there is.
    pub(super) fn choose(patch: &Patch, lab: &Lab, task: &Task) -> Result<Source> {
        let kept = Activations::default;
        let file = || lab.values.clone().map(|file| Source::File { file, kept: kept() });
        let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
        let mean = || {
            let reference = patch.reference.clone()?;
            let by_position = reference.iter().all(|sample| sample.tokens.len() >= longest);
            Some(Source::Mean { reference, by_position, kept: kept() })
        };
        let unpaired = task.examples.iter().find(|example| example.corrupt.is_none());
        match (patch.from, unpaired) {
            (Origin::File, _) => file().ok_or_else(|| {
                Error::usage(
                    "`from = \"file\"` needs a file of activations",
                    "give `--values FILE`, or `values` in the study",
                )
            }),
            (Origin::Mean, _) => mean().ok_or_else(|| {
                let message = "`from = \"mean\"` needs prompts to take the mean over";
                Error::usage(message, "give `--reference FILE`")
            }),
            (Origin::Auto, _) if lab.values.is_some() => file().ok_or_else(no_values),
            (Origin::Auto | Origin::Pair, None) => Ok(Source::Pair),
            (Origin::Auto, Some(_)) if patch.reference.is_some() => mean().ok_or_else(no_values),
            (Origin::Auto | Origin::Pair, Some(example)) => Err(Error::usage(
                format!("patching needs a corrupt prompt for every clean one, and `{}` has none", example.id),
                "give `--corrupt`, or the field `corrupt` of each line; without pairs, `--reference` or `--values` say \
                 what is put in",
            )),
        }
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self, Source::File { .. })
    }

    /// Whether there are values of this activation.
    pub(super) fn holds(&self, site: Site) -> bool {
        match self {
            Source::Pair => true,
            Source::File { file, .. } => file.shape(&site.to_string()).is_some(),
            // a mean over all positions of attention between positions means nothing
            Source::Mean { by_position, .. } => *by_position || site.axis(Axis::Key).is_none(),
        }
    }

    /// An error that says what the source has not.
    pub(super) fn lacks(&self, what: &str) -> Error {
        match self {
            Source::File { file, .. } => {
                let names: Vec<&str> = file.names().take(4).collect();
                Error::input(
                    format!("{} holds no {what}: it begins with {}", file.name, names.join(", ")),
                    format!("record it with `glassbox record --sites '{what}' --out FILE`"),
                )
            }
            _ => Error::usage(
                format!(
                    "there is no mean of {what}: the reference prompts are not all as long as the prompts"
                ),
                "give longer ones, so that each position has its own mean, or leave this site out",
            ),
        }
    }

    /// Reads or computes the values of these activations.
    pub(super) fn load(&mut self, lab: &Lab, task: &Task, sites: &BTreeSet<Site>) -> Result<()> {
        if let Some(site) = sites.iter().find(|site| !self.holds(**site)) {
            return Err(self.lacks(&site.to_string()));
        }
        match self {
            Source::Pair => {}
            Source::File { file, kept } => {
                check(file, lab, task)?;
                for &site in sites {
                    kept.0.insert(site, read(file, lab, task, site)?);
                }
            }
            Source::Mean { reference, by_position, kept } => {
                let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
                let positions = by_position.then_some(longest);
                *kept = Sums::over(lab, reference, positions, |site| sites.contains(&site))?.mean()?;
            }
        }
        Ok(())
    }

    /// The values for a batch of prompts of one length, in the shape of its own activations; none where they are those of the
    /// pair's other prompt.
    pub(super) fn of(&self, batch: &[usize], length: usize) -> Result<Option<Activations>> {
        let kept = match self {
            Source::Pair => return Ok(None),
            Source::File { kept, .. } | Source::Mean { kept, .. } => kept,
        };
        let rows: Vec<u32> = batch.iter().map(|&i| i as u32).collect();
        let mut own = Activations::default();
        for (&site, x) in &kept.0 {
            let mut x = x.clone();
            for (d, axis) in site.axes().iter().enumerate().skip(1) {
                if matches!(axis, Axis::Pos | Axis::Query | Axis::Key) {
                    x = spread(&x, d, length)?;
                }
            }
            let x = match x.dim(0)? {
                1 => spread(&x, 0, batch.len())?,
                _ => x.contiguous()?.index_select(&Tensor::new(rows.as_slice(), x.device())?, 0)?,
            };
            own.0.insert(site, x.contiguous()?);
        }
        Ok(Some(own))
    }
}

/// The first `length` entries of an axis, or its only one as often.
fn spread(x: &Tensor, axis: usize, length: usize) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    if shape.get(axis) != Some(&1) {
        return Ok(x.narrow(axis, 0, length)?);
    }
    if let Some(size) = shape.get_mut(axis) {
        *size = length;
    }
    Ok(x.broadcast_as(shape)?)
}

fn no_values() -> Error {
    Error::usage("there are no values to put in", "give `--values FILE` or `--reference FILE`")
}

/// Refuses a file that is of another model or of something other than activations, or whose prompts do not fit.
fn check(file: &Arrays, lab: &Lab, task: &Task) -> Result<()> {
    let (name, said) = (&file.name, |key: &str| file.about.get(key).map(String::as_str));
    if let Some(kind) = said("kind").filter(|kind| *kind != "activations") {
        return Err(Error::input(
            format!("{name} holds {kind}, not activations"),
            "record without `--grad` and `--weights`",
        ));
    }
    if let Some(hash) = said("model_hash").filter(|hash| *hash != lab.about.hash) {
        let of = said("model").unwrap_or("another model");
        return Err(Error::input(
            format!(
                "{name} was recorded with {of} of weights {}…, and this is {} of {}…",
                cut(hash),
                lab.about.name,
                cut(&lab.about.hash)
            ),
            "record the activations with this model; to put another model's in on purpose, leave `model_hash` out of the file",
        ));
    }
    let folded = lab.folding();
    if said("model_hash").is_some() && said("folded") != folded.as_deref() {
        return Err(Error::input(
            format!(
                "{name} was recorded with weights folded otherwise: {}",
                said("folded").unwrap_or("not at all")
            ),
            "give the same `--fold` to `record` and to `patch`",
        ));
    }
    let Some(tokens) = said("tokens") else { return Ok(()) };
    let prompts: Vec<Vec<u32>> = serde_json::from_str(tokens).map_err(|_| {
        Error::input(
            format!("the tokens that {name} names are no lists of ids"),
            "write the file with `glassbox record`",
        )
    })?;
    let n = task.examples.len();
    if prompts.len() != 1 && prompts.len() != n {
        return Err(Error::input(
            format!("{name} is of {} prompts, and there are {n}", prompts.len()),
            "record one prompt for all, or one for each, in the same order",
        ));
    }
    let theirs = prompts.iter().cycle().zip(&task.examples);
    match theirs.into_iter().find(|(prompt, example)| prompt.len() != example.clean.len()) {
        None => Ok(()),
        Some((prompt, example)) => Err(Error::input(
            format!(
                "{name} is of a prompt of {} tokens where `{}` has {}: positions would not correspond",
                prompt.len(),
                example.id,
                example.clean.len()
            ),
            "record prompts of the same lengths, in the same order",
        )),
    }
}

/// One activation of a file, of one row or one for each prompt, of one position or every one.
fn read(file: &Arrays, lab: &Lab, task: &Task, site: Site) -> Result<Tensor> {
    let name = site.to_string();
    let lengths: BTreeSet<usize> = task.examples.iter().map(|example| example.clean.len()).collect();
    let (n, longest) = (task.examples.len(), lengths.last().copied().unwrap_or(0));
    let got = file.shape(&name).unwrap_or_default();
    let wanted = lab.model.shape(site, n, longest);
    let counts_positions = |axis: &Axis| matches!(axis, Axis::Pos | Axis::Query | Axis::Key);
    let fits = |d: usize, size: usize, wanted: usize| match site.axes().get(d) {
        Some(Axis::Batch) => size == wanted || size == 1,
        Some(Axis::Pos) => size == wanted || size == 1,
        _ => size == wanted,
    };
    let all = got.iter().zip(&wanted).enumerate().all(|(d, (&size, &wanted))| fits(d, size, wanted));
    if got.len() != wanted.len() || !all {
        return Err(Error::Shape {
            what: format!("{name} in {}", file.name),
            got: got.to_vec(),
            expected: format!("{wanted:?}: a row for each of {n} prompts, or one for all"),
        });
    }
    // without the tokens nobody knows which positions of a row are its own
    let every = site.axes().iter().zip(got).any(|(axis, &size)| counts_positions(axis) && size > 1);
    if lengths.len() > 1 && every && !file.about.contains_key("tokens") {
        return Err(Error::input(
            format!(
                "{} does not say how long its prompts are, and these are of {} lengths",
                file.name,
                lengths.len()
            ),
            "write the file with `glassbox record`, or take prompts of one length",
        ));
    }
    file.read(&name, lab.model.dtype())
}

/// The beginning of a hash.
fn cut(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}
