//! A sequence that grows over cached keys and values is the sequence computed anew, under edits that stand.

use candle_core::Tensor;

use super::{Ledger, Promise, Subject, Within};
use crate::edit::{Edit, Edits, Op};
use crate::error::Result;
use crate::model::{Cache, Pad};
use crate::site::{At, Positions, Site, Slice};

pub(super) const PROMISE: Promise = Promise {
    name: "generation",
    about: "growing over a cache, edits included = computing the whole anew",
    within: Within::ROUNDING,
    run,
};

fn run(subject: &Subject, ledger: &mut Ledger) -> Result<()> {
    if !subject.model().config.causal {
        ledger.elsewhere("it looks both ways: what a new token adds changes all that is kept");
        return Ok(());
    }
    let positions = subject.positions();
    // two rows that end together, the second one shorter
    let gap = positions / 4;
    let shorter = Pad::Left.fill(&subject.rows[1][gap..], positions);
    let tokens = subject.model().tokens(&[&subject.rows[0], &shorter])?;
    let begun = (positions / 2).max(gap + 1);
    let edits = standing(subject, &tokens, &[gap, begun.min(positions - 1), positions - 1])?;
    for edits in [&[][..], &edits] {
        let mut cache = Cache::new(subject.model()).ending_at(positions);
        let whole = subject.edited(&tokens, edits.to_vec())?;
        let windows = std::iter::once((0, begun)).chain((begun..positions).map(|pos| (pos, 1)));
        for (first, count) in windows {
            let end = first + count;
            let new = tokens.narrow(1, first, count)?.contiguous()?;
            let mut own = Edits::new(among(edits, first..end));
            let stream = subject.model().grow(&new, &mut cache, &mut own)?;
            let grown = subject.model().unembed(&stream, &mut own)?.narrow(1, count - 1, 1)?;
            own.finish()?;
            let anew = whole.narrow(1, end - 1, 1)?;
            let what = format_args!("what follows {end} tokens under {} edits", edits.len()).to_string();
            ledger.equal(what, &grown, &anew)?;
        }
    }
    Ok(())
}

/// Noise added to keys, values, heads and the stream, in turn, at these positions.
fn standing(subject: &Subject, tokens: &Tensor, at: &[usize]) -> Result<Vec<Edit>> {
    let layers = subject.model().config.n_layers;
    let (_, kept) = subject.record(tokens, |_| true)?;
    let places = [At::ResidPre, At::K, At::V, At::Z, At::MlpPost, At::ResidPost];
    let cells = at.iter().flat_map(|&pos| places.iter().map(move |&place| (pos, place)));
    let there = |&(i, (_, place)): &(usize, (usize, At))| subject.model().blocks[i % layers].has(place);
    let edit = |(i, (pos, place)): (usize, (usize, At))| {
        let site = Site::Block(i % layers, place);
        let slice = Slice::whole(site).pos(Positions::At(vec![pos]));
        let op = Op::Add(subject.noise(&slice.take(kept.get(site)?)?, i as u64)?);
        Ok(Edit { at: slice, op })
    };
    cells.enumerate().filter(there).map(edit).collect()
}

/// The edits whose positions lie in a window.
fn among(edits: &[Edit], window: std::ops::Range<usize>) -> Vec<Edit> {
    let inside = |edit: &&Edit| matches!(&edit.at.pos, Positions::At(list) if list.iter().all(|pos| window.contains(pos)));
    edits.iter().filter(inside).cloned().collect()
}
