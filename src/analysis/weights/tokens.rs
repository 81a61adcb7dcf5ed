//! The two ends where tokens stand: embeddings on the side that reads, unembeddings on the side that is written to. Both are
//! gone through in pieces, and nothing as large as the vocabulary squared is ever made.

use candle_core::{DType, Device, Tensor};

use super::circuit::{behind, dense, numbers};
use crate::error::Result;
use crate::factored::Matrix;
use crate::lab::Lab;
use crate::ops;

/// Products over the vocabulary, which stand between a head's end and its own beginning.
pub(super) struct Between {
    /// W_U·W_E `[d_model, d_model]`, the final norm's gain in W_U and the mean over tokens out of it (not under a bound on
    /// logits). None if the tokens that can be said are others than those that can be read.
    pub(super) said: Option<Matrix>,
    /// W_Eᵀ·W_E `[d_model, d_model]`, if asked for.
    pub(super) alike: Option<Matrix>,
}

impl Between {
    pub(super) fn of(lab: &Lab, alike: bool) -> Result<Between> {
        let (model, config) = (&lab.model, &lab.model.config);
        let d_model = config.d_model;
        let said = config.d_vocab == config.d_vocab_out;
        let none = || Tensor::zeros((d_model, d_model), DType::F64, &Device::Cpu);
        let (mut words, mut products) = (none()?, none()?);
        let mut sums = [
            Tensor::zeros(d_model, DType::F64, &Device::Cpu)?,
            Tensor::zeros(d_model, DType::F64, &Device::Cpu)?,
        ];
        for (first, count) in pieces(lab, config.d_vocab, 0) {
            lab.check()?;
            let read = wide(&model.embed.narrow(0, first, count)?)?; // [token, d_model]
            if alike {
                products = (products + ops::matmul(&read.t()?, &read)?)?;
            }
            if said {
                let written = wide(&model.unembed.w.narrow(1, first, count)?)?; // [d_model, token]
                words = (words + ops::matmul(&written, &read)?)?;
                sums = [(&sums[0] + written.sum(1)?)?, (&sums[1] + read.sum(0)?)?];
            }
        }
        if config.logit_cap.is_none() {
            // Σ (u − mean u) e = Σ u e − Σ u · Σ e / tokens
            let [written, read] = sums;
            let shared = written.unsqueeze(1)?.broadcast_mul(&read.unsqueeze(0)?)?;
            words = (words - shared.affine(1.0 / config.d_vocab.max(1) as f64, 0.0)?)?;
        }
        let said = said.then(|| behind(&model.ln_final, dense(&words)?)).transpose()?;
        Ok(Between { said, alike: alike.then(|| dense(&products)).transpose()? })
    }
}

/// Which tokens a direction is looked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Embeddings: W_E·direction.
    Read,
    /// Unembeddings behind the final norm's gain: direction·W_U.
    Said,
}

/// The tokens at the two ends of a direction, the furthest first, each with its product.
#[derive(Debug, Clone, Default)]
pub(super) struct Poles {
    pub(super) high: Vec<(u32, f64)>,
    pub(super) low: Vec<(u32, f64)>,
}

/// The `top` tokens at either end of each direction.
pub(super) fn poles(lab: &Lab, side: Side, directions: &[Vec<f64>], top: usize) -> Result<Vec<Poles>> {
    let (model, config) = (&lab.model, &lab.model.config);
    let (d_model, many) = (config.d_model, directions.len());
    let mut found = vec![Poles::default(); many];
    if many == 0 {
        return Ok(found);
    }
    let mut directions = Tensor::from_vec(directions.concat(), (many, d_model), &Device::Cpu)?;
    if side == Side::Said && model.ln_final.is_some() {
        // v·(γ ⊙ W) = (v ⊙ γ)·W, and the mean goes out on v's side as well
        directions = model.ln_final.centered(&directions)?.broadcast_mul(&wide(&model.ln_final.gain)?)?;
    }
    let size = if side == Side::Read { config.d_vocab } else { config.d_vocab_out };
    for (first, count) in pieces(lab, size, many) {
        lab.check()?;
        let words = match side {
            Side::Read => wide(&model.embed.narrow(0, first, count)?)?.t()?,
            Side::Said => wide(&model.unembed.w.narrow(1, first, count)?)?,
        };
        let products = numbers(&ops::matmul(&directions, &words)?)?; // [direction, token]
        for (own, poles) in products.chunks_exact(count).zip(&mut found) {
            for (token, &product) in own.iter().enumerate() {
                let token = (first + token) as u32;
                keep(&mut poles.high, token, product, top, 1.0);
                keep(&mut poles.low, token, product, top, -1.0);
            }
        }
    }
    Ok(found)
}

/// Puts a token in its place among the furthest so far; of two that are as far the earlier token stays.
fn keep(best: &mut Vec<(u32, f64)>, token: u32, product: f64, top: usize, sign: f64) {
    let place = best.iter().position(|(_, other)| sign * product > sign * other).unwrap_or(best.len());
    if place < top {
        best.insert(place, (token, product));
        best.truncate(top);
    }
}

/// Pieces (first, count) of the vocabulary that fit the memory allowed beside `extra` products of each token.
fn pieces(lab: &Lab, size: usize, extra: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
    let each = 8 * (2 * lab.model.config.d_model + extra).max(1) as u64;
    let most = (lab.memory / 4 / each).clamp(1, 1 << 14) as usize;
    (0..size).step_by(most).map(move |first| (first, most.min(size - first)))
}

fn wide(x: &Tensor) -> Result<Tensor> {
    Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.contiguous()?)
}
