//! What a part writes on average over reference prompts, position by position or over all positions.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::record::Activations;
use crate::site::Site;

/// Sums of activations over prompts, in f64.
#[derive(Debug, Clone)]
pub struct Sums {
    /// `[pos, …]`, or `[1, …]` over all positions.
    by_site: BTreeMap<Site, Tensor>,
    /// How many activations each sum holds.
    count: usize,
    /// How many positions are kept apart; none when all are summed.
    positions: Option<usize>,
    dtype: DType,
}

impl Sums {
    /// Runs these prompts and sums what the sites hold. With `positions`, each position has its own sum, and of every
    /// prompt only so many tokens are run, from the first; without, whole prompts are, and all positions are summed.
    pub fn over<P: AsRef<[u32]>>(
        lab: &Lab,
        prompts: &[P],
        positions: Option<usize>,
        wanted: impl Fn(Site) -> bool,
    ) -> Result<Sums> {
        let model = &lab.model;
        let mut by_length: BTreeMap<usize, Vec<&[u32]>> = BTreeMap::new();
        for (i, prompt) in prompts.iter().enumerate() {
            let prompt = prompt.as_ref();
            let length = positions.unwrap_or(prompt.len()).max(1);
            let Some(tokens) = prompt.get(..length) else {
                return Err(Error::input(
                    format!(
                        "reference prompt {} has {} tokens, and {length} are needed",
                        i + 1,
                        prompt.len()
                    ),
                    "give reference prompts at least as long as the prompts",
                ));
            };
            by_length.entry(length).or_default().push(tokens);
        }
        if by_length.is_empty() {
            return Err(Error::input(
                "the reference has no prompts",
                "give at least one, or no reference at all for random sequences",
            ));
        }
        let mut by_site: BTreeMap<Site, Tensor> = BTreeMap::new();
        let mut count = 0;
        for (length, group) in by_length {
            let most = lab.memory / 4 / model.recorded_bytes(length, &wanted).max(1);
            for batch in group.chunks(most.clamp(1, 1 << 16) as usize) {
                lab.check()?;
                let last = vec![length - 1; batch.len()];
                let (_, kept) = model.read(&model.tokens(batch)?, &last, &wanted)?;
                for (site, x) in kept.0 {
                    let sum = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.sum(0)?;
                    let sum = if positions.is_some() { sum } else { sum.sum_keepdim(0)? };
                    let sum = match by_site.remove(&site) {
                        Some(before) => (before + sum)?,
                        None => sum,
                    };
                    by_site.insert(site, sum);
                }
                count += batch.len() * if positions.is_some() { 1 } else { length };
            }
        }
        Ok(Sums { by_site, count, positions, dtype: model.dtype() })
    }

    /// The mean over all prompts: `[1, pos, …]`, or `[1, 1, …]` over all positions.
    pub fn mean(&self) -> Result<Activations> {
        let mut means = BTreeMap::new();
        for (&site, sum) in &self.by_site {
            let mean = sum.affine(1.0 / self.count as f64, 0.0)?.to_dtype(self.dtype)?;
            means.insert(site, mean.unsqueeze(0)?);
        }
        Ok(Activations(means))
    }

    /// For each row of a run whose prompts are among those summed, each as often as `copies` says, the mean over the others, in
    /// the run's own shape `[batch, pos, …]`. There must be another prompt.
    pub fn without(&self, own: &Activations, copies: &[usize]) -> Result<Activations> {
        let mut means = BTreeMap::new();
        for (&site, sum) in &self.by_site {
            let x = own.get(site)?;
            let mine = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
            let (mine, taken) = match self.positions {
                Some(_) => (mine, 1),
                None => (mine.sum_keepdim(1)?, x.dim(1)?),
            };
            let left = |&copies: &usize| self.count.checked_sub(copies * taken).filter(|&left| left > 0);
            let Some(left) = copies.iter().map(left).collect::<Option<Vec<usize>>>() else {
                return Err(Error::input(
                    "there is no other prompt to take a mean over",
                    "give more prompts, or `--reference FILE`",
                ));
            };
            let mut by_row = vec![1; x.rank()];
            by_row[0] = copies.len();
            let per_row = |numbers: Vec<f64>| -> Result<Tensor> {
                Ok(Tensor::new(numbers, &Device::Cpu)?.reshape(by_row.as_slice())?)
            };
            let mine = mine.broadcast_mul(&per_row(copies.iter().map(|&n| n as f64).collect())?)?;
            let share = per_row(left.iter().map(|&n| 1.0 / n as f64).collect())?;
            let mean = sum.broadcast_sub(&mine)?.broadcast_mul(&share)?.to_dtype(self.dtype)?;
            means.insert(site, mean.broadcast_as(x.shape())?.contiguous()?);
        }
        Ok(Activations(means))
    }
}
