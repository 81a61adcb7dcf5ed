//! How much of what a head (or an MLP) can write the next head can read: ‖W₁·W₂‖ / (‖W₁‖·‖W₂‖), against random matrices of
//! the same shapes (Elhage et al. 2021).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::circuit::{Circuits, is_centred, neurons};
use crate::component::Component;
use crate::error::Result;
use crate::factored::{Factored, Matrix};
use crate::lab::Lab;
use crate::row;

row! {
    /// What one component can pass to one reader of a later head.
    pub struct Composition {
        /// Who writes.
        pub from: String,
        /// The head that reads.
        pub to: String,
        /// What it reads with: `q` (queries), `k` (keys) or `v` (values).
        pub kind: String,
        /// ‖W₁·W₂‖ / (‖W₁‖·‖W₂‖), Frobenius norms: W₁ what the writer adds to the stream, W₂ the reader's W_QK, its transpose
        /// or W_OV. None if either is zero.
        pub score: Option<f64>,
        /// Mean score of Gaussian matrices of the same shapes.
        pub baseline: f64,
        /// Their standard deviation.
        pub baseline_sd: f64,
        /// Score minus baseline.
        pub excess: Option<f64>,
        /// Excess in standard deviations of the baseline.
        pub z: Option<f64>,
    }
}

/// One of the three ways into a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Q,
    K,
    V,
}

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::Q, Kind::K, Kind::V];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Q => "q",
            Kind::K => "k",
            Kind::V => "v",
        }
    }

    /// The map that reads what is written: the queries' side of W_QK, its keys' side, or W_OV. None of a head whose queries or
    /// keys are normed.
    pub(super) fn reader(self, of: &Circuits, head: usize) -> Option<Factored> {
        match self {
            Kind::Q => of.qk.as_ref()?.get(head).cloned(),
            Kind::K => of.qk.as_ref()?.get(head).map(Factored::transposed),
            Kind::V => of.ov.get(head).cloned(),
        }
    }
}

/// A map that has lost the turn at its far end, and its norm.
struct Short {
    map: Factored,
    norm: f64,
}

impl Short {
    fn of(map: Factored) -> Short {
        let norm = map.norm();
        Short { map, norm }
    }
}

/// Every writer of an earlier layer against every reader of a later head.
pub(super) fn composition(lab: &Lab, mlps: bool, draws: usize) -> Result<Vec<Composition>> {
    let model = &lab.model;
    let c = &model.config;
    let baselines = [
        baseline(lab, |rng, seen| gaussian_map(rng, seen, c.d_head, seen), draws)?,
        if mlps { baseline(lab, |rng, seen| gaussian_neurons(rng, c.d_mlp, seen), draws)? } else { [0.0; 2] },
    ];
    let mut rows = Vec::new();
    lab.progress.begin("composition", (c.n_layers * c.n_layers.saturating_sub(1) / 2) as u64);
    for to in 1..c.n_layers {
        let circuits = Circuits::of(model, to)?;
        let into = |head| {
            let each = Kind::ALL.into_iter().filter_map(|kind| Some((kind, kind.reader(&circuits, head)?)));
            each.map(|(kind, map)| (head, kind, Short::of(map.unturned_right()))).collect::<Vec<_>>()
        };
        let readers: Vec<_> = (0..c.n_heads).into_par_iter().flat_map_iter(into).collect();
        for from in 0..to {
            lab.check()?;
            for (writer, short, [mean, sd]) in writers(lab, from, mlps, baselines)? {
                let row = |(head, kind, reader): &(usize, Kind, Short)| -> Result<Composition> {
                    let both = short.map.then(&reader.map)?;
                    let norms = short.norm * reader.norm;
                    let score = (norms > 0.0).then(|| (both.a() * both.b()).norm_l2() / norms);
                    Ok(Composition {
                        from: writer.to_string(),
                        to: Component::Head(to, *head).to_string(),
                        kind: kind.name().to_owned(),
                        score,
                        baseline: mean,
                        baseline_sd: sd,
                        excess: score.map(|score| score - mean),
                        z: score.filter(|_| sd > 0.0).map(|score| (score - mean) / sd),
                    })
                };
                rows.extend(readers.par_iter().map(row).collect::<Result<Vec<_>>>()?);
            }
            lab.progress.advance(1);
        }
    }
    lab.progress.end();
    Ok(rows)
}

/// What writes in a layer, each with the baseline of its shape.
fn writers(
    lab: &Lab,
    layer: usize,
    mlps: bool,
    baselines: [[f64; 2]; 2],
) -> Result<Vec<(Component, Short, [f64; 2])>> {
    let ov = Circuits::of(&lab.model, layer)?.ov;
    let mut all: Vec<_> = ov
        .into_par_iter()
        .enumerate()
        .map(|(head, map)| (Component::Head(layer, head), Short::of(map.unturned_left()), baselines[0]))
        .collect();
    let dense = lab.model.block(layer)?.mlp.dense().filter(|_| mlps);
    if let Some(dense) = dense {
        let map = neurons(&lab.model, layer, dense)?.unturned_left();
        all.push((Component::Mlp(layer), Short::of(map), baselines[1]));
    }
    Ok(all)
}

/// Mean and standard deviation of the score of random writers and readers.
fn baseline(
    lab: &Lab,
    writer: impl Fn(&mut ChaCha8Rng, usize) -> Result<Factored> + Sync,
    draws: usize,
) -> Result<[f64; 2]> {
    let c = &lab.model.config;
    // where the mean is taken out, one dimension less is there to meet in
    let seen = (c.d_model - usize::from(is_centred(&lab.model)).min(c.d_model)).max(1);
    let one = |draw: usize| -> Result<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(lab.seed ^ 0xC0_4905_1710 ^ ((draw as u64) << 40));
        let writer = writer(&mut rng, seen)?;
        let reader = gaussian_map(&mut rng, seen, c.d_head, seen)?;
        Ok(writer.then(&reader)?.norm() / (writer.norm() * reader.norm()))
    };
    lab.check()?;
    let scores = (0..draws).into_par_iter().map(one).collect::<Result<Vec<_>>>()?;
    let mean = scores.iter().sum::<f64>() / draws as f64;
    let spread = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>();
    Ok([mean, (spread / (draws - 1).max(1) as f64).sqrt()])
}

fn gaussian_map(rng: &mut ChaCha8Rng, rows: usize, inner: usize, columns: usize) -> Result<Factored> {
    Factored::new(gaussian(rng, rows, inner), gaussian(rng, inner, columns))
}

fn gaussian_neurons(rng: &mut ChaCha8Rng, neurons: usize, columns: usize) -> Result<Factored> {
    Factored::new(gaussian(rng, neurons, columns), Matrix::identity(columns, columns))
}

/// Normal numbers (Box–Muller).
fn gaussian(rng: &mut ChaCha8Rng, rows: usize, columns: usize) -> Matrix {
    Matrix::from_fn(rows, columns, |_, _| {
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    })
}
