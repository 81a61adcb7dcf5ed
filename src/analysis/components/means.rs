//! What a component writes on average over reference prompts: position by position where every reference is as long as
//! the prompt, so that what a position alone says is kept; else over all positions.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::analysis::attribution::direct_needs;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::record::Activations;
use crate::site::Site;
use crate::task::Task;

/// The reference prompts: those given, or `count` random sequences as long as the longest prompt, behind the prompt's
/// BOS if it has one.
pub(super) fn sequences(
    lab: &Lab,
    task: &Task,
    given: Option<&[Vec<u32>]>,
    count: usize,
) -> Result<Vec<Vec<u32>>> {
    if let Some(given) = given {
        if given.is_empty() || given.iter().any(Vec::is_empty) {
            return Err(Error::input(
                "the reference has no prompts, or an empty one",
                "give prompts with at least one token, or no reference at all for random sequences",
            ));
        }
        return Ok(given.to_vec());
    }
    if count == 0 {
        return Err(Error::usage("a mean over 0 random sequences", "set `sequences` to 1 or more"));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(lab.seed ^ 0x5E9E_4CE5);
    let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
    let bos = task.examples.first().filter(|_| task.bos).and_then(|example| example.clean.first());
    let ordinary = lab.vocabulary.ordinary(lab.model.config.d_vocab);
    if ordinary.is_empty() {
        return Err(Error::input("the vocabulary has only special tokens", "give `--reference FILE`"));
    }
    let mut one = || -> Vec<u32> {
        let mut tokens: Vec<u32> =
            (0..longest).map(|_| ordinary[rng.random_range(0..ordinary.len())]).collect();
        if let (Some(first), Some(&bos)) = (tokens.first_mut(), bos) {
            *first = bos;
        }
        tokens
    };
    Ok((0..count).map(|_| one()).collect())
}

/// Whether means can be taken position by position for prompts up to this length.
pub(super) fn by_position(sequences: &[Vec<u32>], longest: usize) -> bool {
    sequences.iter().all(|sequence| sequence.len() >= longest)
}

/// The mean of every component's activation over these prompts, by site: `[1, longest, …]` position by position, or
/// `[1, 1, …]` over all positions where a prompt is shorter than `longest`.
pub(super) fn over(lab: &Lab, sequences: &[Vec<u32>], longest: usize) -> Result<Activations> {
    let model = &lab.model;
    let positions = by_position(sequences, longest).then_some(longest);
    let wanted = |site| direct_needs(site) && site != Site::FinalScale;
    let mut by_length: BTreeMap<usize, Vec<&[u32]>> = BTreeMap::new();
    for sequence in sequences {
        by_length.entry(sequence.len()).or_default().push(sequence);
    }
    let mut sums: BTreeMap<Site, Tensor> = BTreeMap::new();
    let mut count = 0;
    for (length, group) in by_length {
        let most = lab.memory / 4 / model.recorded_bytes(length, wanted).max(1);
        for batch in group.chunks(most.clamp(1, 1 << 16) as usize) {
            lab.check()?;
            let last = vec![length - 1; batch.len()];
            let (_, kept) = model.read(&model.tokens(batch)?, &last, wanted)?;
            for (site, x) in kept.0 {
                let x = x.to_dtype(DType::F64)?;
                let sum = match positions {
                    Some(positions) => x.narrow(1, 0, positions)?.sum(0)?,
                    None => x.flatten(0, 1)?.sum(0)?.unsqueeze(0)?,
                };
                let sum = match sums.remove(&site) {
                    Some(before) => (before + sum)?,
                    None => sum,
                };
                sums.insert(site, sum);
            }
            count += batch.len() * if positions.is_some() { 1 } else { length };
        }
    }
    let mut means = BTreeMap::new();
    for (site, sum) in sums {
        let mean = sum.affine(1.0 / count as f64, 0.0)?.to_dtype(model.dtype())?;
        means.insert(site, mean.unsqueeze(0)?);
    }
    Ok(Activations(means))
}

/// The same means for every row of a batch of prompts of this length: `[batch, pos, …]` or `[batch, 1, …]`.
pub(super) fn repeat(means: &Activations, batch: usize, pos: usize) -> Result<Activations> {
    let mut repeated = BTreeMap::new();
    for (&site, mean) in &means.0 {
        let mean = if mean.dim(1)? > pos { mean.narrow(1, 0, pos)? } else { mean.clone() };
        let mut shape = mean.dims().to_vec();
        shape[0] = batch;
        repeated.insert(site, mean.broadcast_as(shape)?.contiguous()?);
    }
    Ok(Activations(repeated))
}
