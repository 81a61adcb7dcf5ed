//! A query sees every key at and before its own position, as far back as its window goes, and none after.

use candle_core::Tensor;

use super::ledger::numbers;
use super::{Ledger, Promise, Subject, Within};
use crate::edit::{Edit, Op};
use crate::error::Result;
use crate::site::{At, Site, Slice};

pub(super) const PROMISE: Promise = Promise {
    name: "causality",
    about: "masked scores contribute 0; a later token changes nothing before it",
    within: Within::ROUNDING,
    run,
};

fn run(subject: &Subject, ledger: &mut Ledger) -> Result<()> {
    let causal = subject.model().config.causal;
    let tokens = subject.tokens()?;
    let places = |site| matches!(site, Site::Block(_, At::Scores | At::Pattern));
    let (logits, kept) = subject.record(&tokens, places)?;
    let weights = subject.weights(2, subject.positions())?;
    let gradients = subject.gradients(&tokens, &weights, |s| matches!(s, Site::Block(_, At::Scores)))?;
    for layer in 0..subject.model().config.n_layers {
        let (scores, pattern) = (kept.block(layer, At::Scores)?, kept.block(layer, At::Pattern)?);
        let attention = &subject.model().block(layer)?.attention;
        let window = attention.window.unwrap_or(usize::MAX);
        let masked = |query: usize, key: usize| causal && (key > query || query - key >= window);
        let wrong = entries(scores, |query, key, x| masked(query, key) != (x == f64::NEG_INFINITY))?;
        ledger.holds(wrong == 0, format_args!("{wrong} scores in layer {layer} are masked wrongly"));
        let wrong = entries(pattern, |query, key, x| masked(query, key) && x != 0.0)?;
        ledger.holds(wrong == 0, format_args!("{wrong} masked keys in layer {layer} get attention"));
        let gradient = gradients.block(layer, At::Scores)?;
        let wrong = entries(gradient, |query, key, x| masked(query, key) && x != 0.0)?;
        ledger.holds(wrong == 0, format_args!("{wrong} masked scores in layer {layer} have a gradient"));
        let sums = pattern.sum(candle_core::D::Minus1)?;
        let whole = match &attention.sinks {
            None => sums.ones_like()?,
            Some(sinks) => left(scores, sinks)?,
        };
        ledger.equal(format_args!("the sum of attention in layer {layer}"), &sums, &whole)?;
    }
    if !causal {
        return Ok(());
    }
    for layer in subject.layers(1, 0) {
        let site = Site::Block(layer, At::Scores);
        let mask = kept.get(site)?.eq(f64::NEG_INFINITY)?.to_dtype(logits.dtype())?;
        let edit = Edit { at: Slice::whole(site), op: Op::Add((mask * 7.0)?) };
        let after = subject.edited(&tokens, [edit])?;
        ledger.equal(
            format_args!("the logits after a change of masked scores in layer {layer}"),
            &after,
            &logits,
        )?;
    }
    for first in 1..subject.positions() {
        let later = |row: &Vec<u32>, other: &Vec<u32>| [&row[..first], &other[first..]].concat();
        let rows: Vec<Vec<u32>> =
            subject.rows.iter().zip(&subject.others).map(|(row, other)| later(row, other)).collect();
        let changed = subject.forward(&subject.model().tokens(&[&rows[0], &rows[1]])?, &mut ())?;
        let before = |x: &Tensor| x.narrow(1, 0, first);
        let what =
            format_args!("what stands before position {first}, when tokens from there on change").to_string();
        ledger.equal(what, &before(&changed)?, &before(&logits)?)?;
    }
    Ok(())
}

/// What a sink of each head leaves to the keys: Σ exp(score) / (Σ exp(score) + exp(sink)) of scores `[batch, head, query, key]`.
fn left(scores: &Tensor, sinks: &[f64]) -> Result<Tensor> {
    let (batch, heads, queries, keys) = scores.dims4()?;
    let rows = numbers(scores)?;
    let rows = rows.chunks_exact(keys.max(1)).enumerate().map(|(row, scores)| {
        let sink = sinks.get(row / queries.max(1) % heads.max(1)).copied().unwrap_or(f64::NEG_INFINITY);
        let top = scores.iter().copied().fold(sink, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - top).exp()).sum();
        sum / (sum + (sink - top).exp())
    });
    let left = Tensor::from_vec(rows.collect(), (batch, heads, queries), scores.device())?;
    Ok(left.to_dtype(scores.dtype())?)
}

/// How many entries of `[batch, head, query, key]` are as `is` says.
fn entries(x: &Tensor, is: impl Fn(usize, usize, f64) -> bool) -> Result<usize> {
    let (_, _, queries, keys) = x.dims4()?;
    let all = numbers(x)?;
    Ok(all.iter().enumerate().filter(|&(i, &x)| is(i / keys % queries, i % keys, x)).count())
}
