//! A pass that starts in the middle is the pass that started at the beginning.

use candle_core::Tensor;

use super::ledger::distance;
use super::{Ledger, Promise, Subject, Within};
use crate::edit::{Edit, Edits, Op};
use crate::error::Result;
use crate::model::Base;
use crate::record::Activations;
use crate::site::{At, Axis, Positions, Site, Slice};
use crate::sweep::{Cell, Reading, sweep};

pub(super) const PROMISE: Promise = Promise {
    name: "windows",
    about: "resumed passes, edits in windows and sweeps = whole passes",
    within: Within::ROUNDING,
    run,
};

fn run(subject: &Subject, ledger: &mut Ledger) -> Result<()> {
    let positions = subject.positions();
    let tokens = subject.tokens()?;
    let base = subject.base(&tokens)?;
    let unedited = subject.forward(&tokens, &mut ())?;
    let (_, kept) = subject.record(&tokens, |_| true)?;
    let causal = subject.model().config.causal;
    let firsts = if causal { positions } else { 1 };
    for layer in subject.layers(firsts, 0) {
        for first in 0..firsts {
            let logits = subject.finish(base.stream(layer, first)?, Some(&base), &mut ())?;
            let part = unedited.narrow(1, first, positions - first)?;
            let what = format_args!("a pass from layer {layer} and position {first} on").to_string();
            if first == 0 {
                ledger
                    .holds(distance(&logits, &part)? == 0.0, format_args!("{what} differs in its last bits"));
            }
            ledger.equal(what, &logits, &part)?;
        }
    }
    if !causal {
        ledger.remark("it looks both ways, so that a window is the whole prompt");
    }
    // one position of each row, the second row's a step further
    let first = if causal { (positions / 2).min(positions.saturating_sub(2)) } else { 0 };
    let at = Positions::PerRow(vec![first, (first + 1).min(positions - 1)]);
    let edits = noise(subject, &kept, &at)?;
    let whole = edits.iter().map(|(_, edit)| subject.edited(&tokens, [edit.clone()]));
    let whole: Vec<Tensor> = whole.collect::<Result<_>>()?;
    for ((layer, edit), whole) in edits.iter().zip(&whole) {
        let mut hook = Edits::new([edit.clone()]);
        let got = subject.finish(base.stream(*layer, first)?, Some(&base), &mut hook)?;
        hook.finish()?;
        let want = whole.narrow(1, first, positions - first)?;
        ledger.equal(format_args!("an edit of {} in a window", edit.at.site), &got, &want)?;
    }
    // the same edits as cells of one sweep, read at the last position
    let score = |logits: &Tensor| -> Result<Tensor> { Ok(logits.narrow(1, 0, 1)?.squeeze(1)?) };
    let cells: Vec<Cell> = edits.iter().map(|(_, edit)| Cell { edits: vec![edit.clone()] }).collect();
    let read = [positions - 1; 2];
    let swept = sweep(subject.lab, &base, &cells, &Reading::new(&read, |logits, _| score(logits)))?;
    for (((_, edit), whole), swept) in edits.iter().zip(&whole).zip(swept) {
        let want = score(&whole.narrow(1, positions - 1, 1)?.squeeze(1)?)?;
        let got = Tensor::new(swept, want.device())?;
        ledger.equal(format_args!("the sweep of an edit of {}", edit.at.site), &got, &want)?;
    }
    // a run of prompts that are others from the middle on, beside the first
    let model = subject.model();
    let mixed =
        |row: usize| [&subject.rows[row][..positions / 2], &subject.others[row][positions / 2..]].concat();
    let others = model.tokens(&[&mixed(0), &mixed(1)])?;
    let sites: Vec<Site> = model.sites().into_iter().filter(|site| !is_hidden(*site)).collect();
    let record = |tokens| Base::record(model, tokens, |site| sites.contains(&site));
    let (beside, whole) = (record(&tokens)?.beside(model, &others, positions / 2)?, record(&others)?);
    for site in sites {
        let what = format_args!("a run beside another, at {site}").to_string();
        ledger.equal(what, beside.kept.get(site)?, whole.kept.get(site)?)?;
    }
    ledger.equal("the end of a run beside another", &beside.last, &whole.last)
}

/// Whether some of the values there are −∞, which have no distance.
fn is_hidden(site: Site) -> bool {
    matches!(site, Site::Block(_, At::Scores))
}

/// Additions of noise at these positions, at every place that has positions, with the layer they are in.
fn noise(subject: &Subject, kept: &Activations, at: &Positions) -> Result<Vec<(usize, Edit)>> {
    let mut found = Vec::new();
    for site in subject.model().every_site() {
        let Site::Block(layer, place) = site else { continue };
        let sampled = subject.layers(2 * At::ALL.len(), place as usize);
        if !sampled.contains(&layer) || site.axis(Axis::Pos).is_none() {
            continue;
        }
        let slice = Slice::whole(site).pos(at.clone());
        let values = subject.noise(&slice.take(kept.get(site)?)?, 3)?;
        found.push((layer, Edit { at: slice, op: Op::Add(values) }));
    }
    Ok(found)
}
