//! Directions that stand for a difference between prompts, and random ones to compare them with.
//!
//! v = mean x[positive] − mean x[negative] at one position of each prompt, which for pairs is the mean of the differences
//! (Turner et al. 2023; Rimsky et al. 2024). What adding v does is worth a claim only beside what adding a random direction
//! of the same norm does.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use rand::Rng;

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::model::Transformer;
use crate::record::{Activations, at_positions};
use crate::site::{At, Axis, Site};

/// A prompt, and the position that is read.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Its tokens.
    pub tokens: &'a [u32],
    /// The position.
    pub at: usize,
}

/// Whether a direction can be read and added at a site: one vector at each position.
pub fn check_site(site: Site) -> Result<()> {
    if matches!(site.axes(), [Axis::Batch, Axis::Pos, width] if *width != Axis::One) {
        return Ok(());
    }
    Err(Error::usage(
        format!("{site} has no single vector at each position: its axes are {}", site.shape_words()),
        "steer at hook_resid_pre, hook_resid_mid, hook_resid_post, hook_attn_out or hook_mlp_out",
    ))
}

/// Every place where the stream itself stands: a direction that is projected out at all of them is out of everything
/// that reads the stream.
pub fn stream(model: &Transformer) -> Vec<Site> {
    let blocks = model.blocks.iter().enumerate().flat_map(|(layer, block)| {
        let mid = block.has_mid().then_some(At::ResidMid);
        std::iter::once(At::ResidPre).chain(mid).map(move |at| Site::Block(layer, at))
    });
    blocks.chain([Site::Block(model.config.n_layers.saturating_sub(1), At::ResidPost)]).collect()
}

/// The mean over these readings of the vector at each site `[width]`, in f64.
pub fn mean(lab: &Lab, readings: &[Reading], sites: &[Site]) -> Result<Activations> {
    if readings.is_empty() {
        return Err(Error::usage("a mean over no prompts", "give at least one prompt on each side"));
    }
    let model = &lab.model;
    for &site in sites {
        model.check_site(site)?;
        check_site(site)?;
    }
    let mut by_length: BTreeMap<usize, Vec<Reading>> = BTreeMap::new();
    readings.iter().for_each(|r| by_length.entry(r.tokens.len()).or_default().push(*r));
    let mut sums: BTreeMap<Site, Tensor> = BTreeMap::new();
    for (length, group) in by_length {
        let each = 4 * model.recorded_bytes(length, |site| sites.contains(&site) || site == Site::Embed);
        for batch in group.chunks((lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize) {
            lab.check()?;
            let tokens: Vec<&[u32]> = batch.iter().map(|reading| reading.tokens).collect();
            let at: Vec<usize> = batch.iter().map(|reading| reading.at).collect();
            let (_, kept) = model.read(&model.tokens(&tokens)?, &at, |site| sites.contains(&site))?;
            for (site, x) in kept.0 {
                let sum = at_positions(&x, &at)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.sum(0)?;
                let sum = match sums.remove(&site) {
                    Some(before) => (before + sum)?,
                    None => sum,
                };
                sums.insert(site, sum);
            }
        }
    }
    let share = 1.0 / readings.len() as f64;
    let means = sums.into_iter().map(|(site, sum)| Ok((site, sum.affine(share, 0.0)?)));
    Ok(Activations(means.collect::<Result<_>>()?))
}

/// What the positive readings have more of than the negative ones: a direction `[width]` for each site, in f64.
pub fn contrast(
    lab: &Lab,
    positive: &[Reading],
    negative: &[Reading],
    sites: &[Site],
) -> Result<Activations> {
    let (positive, negative) = (mean(lab, positive, sites)?, mean(lab, negative, sites)?);
    let difference = |(&site, x): (&Site, &Tensor)| Ok((site, (x - negative.get(site)?)?));
    Ok(Activations(positive.0.iter().map(difference).collect::<Result<_>>()?))
}

/// The Euclidean norm of a vector.
pub fn norm(vector: &Tensor) -> Result<f64> {
    Ok(vector.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.sqr()?.sum_all()?.sqrt()?.to_scalar()?)
}

/// A normal number of variance 1 (Box & Muller 1958).
pub fn normal(rng: &mut impl Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// A direction drawn evenly from all directions, of the same norm.
pub fn random_like(vector: &Tensor, rng: &mut impl Rng) -> Result<Tensor> {
    // normal numbers have no preferred direction
    let numbers: Vec<f64> = (0..vector.elem_count()).map(|_| normal(rng)).collect();
    let drawn = Tensor::from_vec(numbers, vector.dims(), &Device::Cpu)?;
    let scale = norm(vector)? / norm(&drawn)?;
    Ok(drawn.affine(scale, 0.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_random_direction_has_the_norm_and_nothing_else_in_common() {
        let vector = Tensor::arange(1.0, 401.0, &Device::Cpu).unwrap();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let size = norm(&vector).unwrap();
        for _ in 0..20 {
            let drawn = random_like(&vector, &mut rng).unwrap();
            assert!((norm(&drawn).unwrap() / size - 1.0).abs() < 1e-12);
            let dot: f64 = (drawn * &vector).unwrap().sum_all().unwrap().to_scalar().unwrap();
            assert!(
                (dot / size / size).abs() < 0.25,
                "five standard deviations of a cosine in 400 dimensions"
            );
        }
    }

    #[test]
    fn only_places_with_one_vector_a_position_can_be_steered() {
        check_site(Site::Block(0, At::ResidPre)).unwrap();
        check_site(Site::Block(0, At::MlpOut)).unwrap();
        for at in [At::Z, At::Pattern, At::Ln1Scale] {
            assert!(check_site(Site::Block(0, at)).is_err(), "{at:?}");
        }
    }
}
