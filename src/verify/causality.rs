//! A query sees every key at and before its own position and none after.

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
        let masked = |query: usize, key: usize| causal && key > query;
        let wrong = entries(scores, |query, key, x| masked(query, key) != (x == f64::NEG_INFINITY))?;
        ledger.holds(wrong == 0, format_args!("{wrong} scores in layer {layer} are masked wrongly"));
        let wrong = entries(pattern, |query, key, x| masked(query, key) && x != 0.0)?;
        ledger.holds(wrong == 0, format_args!("{wrong} masked keys in layer {layer} get attention"));
        let gradient = gradients.block(layer, At::Scores)?;
        let wrong = entries(gradient, |query, key, x| masked(query, key) && x != 0.0)?;
        ledger.holds(wrong == 0, format_args!("{wrong} masked scores in layer {layer} have a gradient"));
        let sums = pattern.sum(candle_core::D::Minus1)?;
        ledger.equal(format_args!("the sum of attention in layer {layer}"), &sums, &sums.ones_like()?)?;
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

/// How many entries of `[batch, head, query, key]` are as `is` says.
fn entries(x: &Tensor, is: impl Fn(usize, usize, f64) -> bool) -> Result<usize> {
    let (_, _, queries, keys) = x.dims4()?;
    let all = numbers(x)?;
    Ok(all.iter().enumerate().filter(|&(i, &x)| is(i / keys % queries, i % keys, x)).count())
}
