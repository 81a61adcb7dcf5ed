//! Queries and keys with the softmax behind them computed anew instead of linearised (the QK fix of AtP*, Kramár et al. 2024,
//! arXiv 2403.00745): the effect of a query or key is Δpattern · ∂M/∂pattern.
//!
//! New scores come from the block itself, run on the base's own stream (from the first position on at which the runs differ, what
//! is left of it read from the other) with queries or keys of the other run in place, so that
//! masks, rotations, biases of distance, caps, norms of queries and keys, and groups are the engine's. One pass with
//! all keys replaced serves every position: the score of a query and a key depends on no other key. With key p alone
//! changed, from score s to s′, and W what the others of its row weigh (a sink among them), G the gradient of the row:
//!
//! ΔM = (e^{s′} − e^s) · (G_p · W − Σ_{k≠p} G_k e^{s_k}) / ((e^{s′} + W) (e^s + W))
//!
//! which is Σ_k ΔP_k G_k with P′_p = P_p ρ / (1 + P_p (ρ − 1)), ρ = e^{s′−s}, and all else shrunk by the same divisor; written so
//! that neither a saturated row nor a score far from the old one loses its digits.

use candle_core::{D, Tensor};
use rayon::prelude::*;

use super::passes::Left;
use super::values::{Values, double, flat};
use crate::edit::{Edit, Edits, Op};
use crate::error::Result;
use crate::model::{Padding, Stream, Transformer};
use crate::record::{Activations, Recorder};
use crate::site::{At, Site, Slice};

/// What scores and pattern of a layer become when queries or keys are another run's.
pub(super) struct Moved {
    /// The only head that was replaced; none where all were, each of which is read by its own scores alone.
    head: Option<usize>,
    /// `[row, head, query, key]`.
    scores: Tensor,
    /// The change of the pattern, same shape.
    change: Tensor,
}

/// The places that [`moved`] and [`Asked`] read from the base run, beside queries and keys of both.
pub(super) fn needs(site: Site) -> bool {
    matches!(site, Site::PosEmbed | Site::Block(_, At::ResidPre | At::Scores | At::Pattern))
}

/// Runs one block of the base with the other run's queries or keys (`at`) in place. A norm over all heads together lets a
/// head's query or key change the others': there each is replaced by itself.
pub(super) fn moved(
    model: &Transformer,
    (base, source): (&Activations, &Activations),
    left: Left,
    layer: usize,
    at: At,
) -> Result<Vec<Moved>> {
    let attention = &model.block(layer)?.attention;
    let (norm, heads) = match at {
        At::Q => (&attention.q_norm, attention.n_heads),
        _ => (&attention.k_norm, attention.n_kv_heads),
    };
    let replaced: Vec<Option<usize>> = match norm {
        Some(norm) if norm.whole => (0..heads).map(Some).collect(),
        _ => vec![None],
    };
    let values = source.block(layer, at)?;
    let learned = match model.config.positions {
        crate::model::PositionKind::Shortformer => Some(base.get(Site::PosEmbed)?.clone()),
        _ => None,
    };
    let mut all = Vec::with_capacity(replaced.len());
    for head in replaced {
        let slice = Slice { head, ..Slice::whole(Site::Block(layer, at)) };
        let edit = Edit { op: Op::Set(slice.take(values)?), at: slice };
        let seen = |site: Site| matches!(site, Site::Block(_, At::Scores | At::Pattern));
        let mut hook = (Edits::new([edit]), Recorder::new(seen));
        let resid = base.block(layer, At::ResidPre)?.clone();
        let (first_pos, padding) = (left.first, Padding::default());
        let from = Stream { layer, first_pos, padding, resid, learned: learned.clone() };
        model.run(from, left.base, layer + 1, &mut hook)?;
        let (edits, recorder) = hook;
        edits.finish()?;
        let pattern = recorder.kept.block(layer, At::Pattern)?;
        let change = (pattern - base.block(layer, At::Pattern)?)?;
        all.push(Moved { head, scores: recorder.kept.block(layer, At::Scores)?.clone(), change });
    }
    Ok(all)
}

/// Effects of queries or keys of one layer.
pub(super) struct Asked<'a> {
    pub(super) model: &'a Transformer,
    pub(super) layer: usize,
    /// [`At::Q`] or [`At::K`].
    pub(super) at: At,
    /// The first query.
    pub(super) first: usize,
    /// Of the base run `[row, head, query, key]`.
    pub(super) scores: &'a Tensor,
    pub(super) moved: &'a [Moved],
}

impl Asked<'_> {
    /// From the gradient at the base's pattern `[row, head, query, key]`.
    pub(super) fn values(&self, gradient: &Tensor) -> Result<Values> {
        let (rows, heads, pos, keys) = gradient.dims4()?;
        let attention = &self.model.block(self.layer)?.attention;
        let units = if self.at == At::Q { attention.n_heads } else { attention.n_kv_heads };
        let group = heads / units.max(1);
        let mut all = Values {
            first: self.first,
            pos,
            units,
            by_pos: vec![0.0; rows * pos * units],
            whole: vec![0.0; rows * units],
            by_key: Vec::new(),
        };
        // each query, or each key from the first query on: those before it are the same in both runs
        let (seen, skipped) = if self.at == At::Q { (pos, 0) } else { (keys, self.first) };
        for moved in self.moved {
            let product = (double(&moved.change)? * double(gradient)?)?.sum(D::Minus1)?; // [row, head, query]
            let whole = flat(&product.sum(D::Minus1)?)?;
            let each = match self.at {
                At::Q => flat(&product)?,
                _ => self.keys(moved, gradient)?,
            };
            for (row, head) in (0..rows).flat_map(|row| (0..heads).map(move |head| (row, head))) {
                let unit = moved.head.unwrap_or(head / group);
                let read = row * heads + head;
                all.whole[row * units + unit] += whole[read];
                for p in 0..pos {
                    all.by_pos[(row * pos + p) * units + unit] += each[read * seen + skipped + p];
                }
            }
        }
        Ok(all)
    }

    /// The effect of each key by itself `[row, head, key]`.
    fn keys(&self, moved: &Moved, gradient: &Tensor) -> Result<Vec<f64>> {
        let (_, heads, queries, keys) = gradient.dims4()?;
        let sinks = self.model.block(self.layer)?.attention.sinks.clone();
        let (old, new) = (flat(&double(self.scores)?)?, flat(&double(&moved.scores)?)?);
        let gradient = flat(&double(gradient)?)?;
        let square = (queries * keys).max(1);
        let rows = old.par_chunks(square).zip(new.par_chunks(square)).zip(gradient.par_chunks(square));
        let each = rows.enumerate().map(|(i, ((old, new), gradient))| {
            let sink = sinks.as_ref().and_then(|sinks| sinks.get(i % heads)).copied();
            let mut effects = vec![0.0; keys];
            let queries = old.chunks(keys).zip(new.chunks(keys)).zip(gradient.chunks(keys));
            queries.for_each(|((old, new), gradient)| add_keys(&mut effects, old, new, gradient, sink));
            effects
        });
        Ok(each.collect::<Vec<_>>().concat())
    }
}

/// Adds what each key by itself does to one query's row.
fn add_keys(effects: &mut [f64], old: &[f64], new: &[f64], gradient: &[f64], sink: Option<f64>) {
    let top = old.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY {
        return; // a query that sees nothing
    }
    let weights: Vec<f64> = old.iter().map(|score| (score - top).exp()).collect();
    let sunk = sink.map_or(0.0, |sink| (sink - top).exp());
    let total: f64 = sunk + weights.iter().sum::<f64>();
    let worth: f64 = weights.iter().zip(gradient).map(|(w, g)| w * g).sum();
    for (p, effect) in effects.iter_mut().enumerate() {
        let (weight, g) = (weights[p], gradient[p]);
        let others =
            || weights.iter().zip(gradient).enumerate().filter(|(k, _)| *k != p).map(|(_, pair)| pair);
        // what outweighs the rest is left out of the sum rather than taken off it
        let (rest, rest_worth) = if weight <= 0.5 * total {
            (total - weight, worth - g * weight)
        } else {
            (sunk + others().map(|(w, _)| w).sum::<f64>(), others().map(|(w, g)| w * g).sum())
        };
        if rest == 0.0 || new[p] == old[p] {
            continue; // nothing to take attention from, or nothing that changes (masked cells among them)
        }
        let above = top.max(new[p]);
        let (then, now, scaled) =
            ((old[p] - above).exp(), (new[p] - above).exp(), rest * (top - above).exp());
        *effect += (now - then) / (now + scaled) * (g * rest - rest_worth) / (weight + rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Softmax over a row and a sink, one key changed, times the gradient.
    fn naive(old: &[f64], new: f64, p: usize, gradient: &[f64], sink: Option<f64>) -> f64 {
        let soft = |row: &[f64]| -> Vec<f64> {
            let top = row.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().copied().chain(sink).map(|s| (s - top).exp()).sum();
            row.iter().map(|s| (s - top).exp() / sum).collect()
        };
        let mut row = old.to_vec();
        row[p] = new;
        soft(&row).iter().zip(soft(old)).zip(gradient).map(|((a, b), g)| (a - b) * g).sum()
    }

    #[test]
    fn one_key_alone_is_its_rows_softmax_computed_anew() {
        let hidden = f64::NEG_INFINITY;
        let gradient = [0.3, -1.2, 2.0, 0.7];
        for old in
            [[0.1, -0.4, 1.3, 0.2], [30.0, -2.0, 0.0, 1.0], [0.5, 0.5, hidden, hidden], [1.0, 1.0, 1.0, 1.0]]
        {
            for shift in [1e-6, 1.0, -1.0, 40.0, -40.0, 2000.0, -2000.0] {
                for sink in [None, Some(0.7), Some(50.0)] {
                    let new = old.map(|s| s + shift);
                    let mut effects = [0.0; 4];
                    add_keys(&mut effects, &old, &new, &gradient, sink);
                    for p in 0..4 {
                        let want = naive(&old, new[p], p, &gradient, sink);
                        let off = (effects[p] - want).abs();
                        assert!(
                            off <= 1e-13,
                            "{old:?} {shift} {sink:?} key {p}: {} is not {want}",
                            effects[p]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_saturated_row_keeps_its_digits() {
        // the key that has all attention falls by 60: everything moves, though 1 − P is 0 in any arithmetic
        let (old, new, gradient) = ([50.0, 0.0], [-10.0, 0.0], [1.0, 0.0]);
        let mut effects = [0.0; 2];
        add_keys(&mut effects, &old, &new, &gradient, None);
        assert!((effects[0] + 1.0).abs() < 1e-4, "{effects:?}");
        // a query that sees itself alone
        let mut alone = [0.0];
        add_keys(&mut alone, &[3.0], &[-900.0], &[5.0], None);
        assert_eq!(alone, [0.0]);
    }
}
