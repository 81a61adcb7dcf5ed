//! Edits of a sequence that grows: which of them concern a window, and which can stand at all.

use std::ops::Range;

use crate::edit::{Edit, Op};
use crate::error::{Error, Result};
use crate::model::Transformer;
use crate::site::{At, Axis, Positions, Site, Slice};

/// Edits that stand while a sequence grows. Each means the same at every position it covers, so that any window can be
/// given its share.
#[derive(Debug, Clone)]
pub(super) struct Lasting(Vec<Edit>);

impl Lasting {
    /// Checks that the edits can stand; one with a value for each of several positions becomes one edit per position.
    pub(super) fn new(model: &Transformer, edits: &[Edit]) -> Result<Lasting> {
        let mut all = Vec::new();
        for edit in edits {
            model.check_site(edit.at.site)?;
            // rows of named positions are rows of a batch, and a text is one row
            let mut edit = edit.clone();
            if let Positions::PerRow(list) = &edit.at.pos {
                edit.at.pos = Positions::At(list.iter().take(1).copied().collect());
            }
            all.extend(same_everywhere(model, edit)?);
        }
        if let Some(pos) = all.iter().filter_map(|edit| first(&edit.at.pos)).max()
            && pos >= model.config.n_ctx
        {
            let (size, site) = (model.config.n_ctx, "the model's context".to_owned());
            return Err(Error::OutOfRange { what: "position", index: pos, size, site });
        }
        Ok(Lasting(all))
    }

    /// The edits of a window, of the logits' sites only at its last position, which alone is unembedded.
    pub(super) fn within(&self, window: Range<usize>) -> Result<Vec<Edit>> {
        let last = window.end.saturating_sub(1)..window.end;
        let share = |edit: &Edit| {
            let is_final = matches!(edit.at.site, Site::FinalScale | Site::FinalNorm | Site::Logits);
            let window = if is_final { &last } else { &window };
            let pos = cut(&edit.at.pos, window)?;
            let key = cut(&edit.at.key, &(0..window.end))?;
            Some(Edit { at: Slice { pos, key, ..edit.at.clone() }, op: edit.op.clone() })
        };
        Ok(self.0.iter().filter_map(share).collect())
    }

    /// Positions of edits that begin behind `end`, where the sequence ended.
    pub(super) fn beyond(&self, end: usize) -> Vec<usize> {
        let mut beyond: Vec<usize> =
            self.0.iter().filter_map(|edit| first(&edit.at.pos)).filter(|&pos| pos >= end).collect();
        beyond.sort_unstable();
        beyond.dedup();
        beyond
    }
}

/// The part of some positions that lies in a window; `None` where nothing does.
fn cut(positions: &Positions, window: &Range<usize>) -> Option<Positions> {
    match positions {
        Positions::All => Some(Positions::All),
        Positions::From(pos) => (*pos < window.end).then(|| positions.clone()),
        Positions::At(list) | Positions::PerRow(list) => {
            let inside: Vec<usize> = list.iter().copied().filter(|pos| window.contains(pos)).collect();
            (!inside.is_empty()).then_some(Positions::At(inside))
        }
    }
}

fn first(positions: &Positions) -> Option<usize> {
    match positions {
        Positions::All => None,
        Positions::From(pos) => Some(*pos),
        Positions::At(list) | Positions::PerRow(list) => list.iter().copied().min(),
    }
}

/// The edit as edits that mean the same at every position they cover.
fn same_everywhere(model: &Transformer, edit: Edit) -> Result<Vec<Edit>> {
    let grows = edit.at.site.axes().contains(&Axis::Key);
    if grows {
        keeps_the_future_out(&edit)?;
    }
    let (Op::Set(values) | Op::Add(values)) = &edit.op else { return Ok(vec![edit]) };
    let (site, count) = (edit.at.site, values.elem_count());
    // a row of scores grows with the text, so that only one number serves all of it
    let each = if grows { 1 } else { numbers_per_position(model, &edit.at) };
    if count > 0 && each.is_multiple_of(count) {
        return Ok(vec![edit]);
    }
    let alone = |pos: &usize, values| {
        let op = match &edit.op {
            Op::Add(_) => Op::Add(values),
            _ => Op::Set(values),
        };
        Edit { at: edit.at.clone().pos(Positions::At(vec![*pos])), op }
    };
    match &edit.at.pos {
        Positions::At(list) if !grows && count == list.len() * each => {
            let values = values.reshape((list.len(), each))?;
            list.iter().enumerate().map(|(i, pos)| Ok(alone(pos, values.get(i)?))).collect()
        }
        _ => Err(Error::Shape {
            what: format!("the value of an edit that stands while the text grows, at {site}"),
            got: values.dims().to_vec(),
            expected: format!("{each} numbers for each position it names"),
        }),
    }
}

/// Refuses an edit that would let a query attend to what comes after it, which does not exist when the query is computed.
fn keeps_the_future_out(edit: &Edit) -> Result<()> {
    let Slice { site, pos, key, .. } = &edit.at;
    let future = match (&edit.op, site) {
        // what is masked stays masked
        (Op::Scale(_), _) | (Op::Add(_), Site::Block(_, At::Scores)) => false,
        (Op::Project(_) | Op::Damp(..), _) => true,
        _ => match key {
            Positions::At(keys) => keys.iter().any(|&key| key > first(pos).unwrap_or(0)),
            _ => true,
        },
    };
    if !future {
        return Ok(());
    }
    Err(Error::usage(
        format!("an edit of {site} that is not a scaling reaches keys that come after the query"),
        "name keys that are not behind the query, or scale the row",
    ))
}

/// How many numbers an activation has at one position of one prompt, in the part that the slice names.
fn numbers_per_position(model: &Transformer, at: &Slice) -> usize {
    let shape = model.shape(at.site, 1, 1);
    let last = shape.len().saturating_sub(1);
    let sizes = at.site.axes().iter().zip(&shape).enumerate().map(|(i, (axis, &size))| match axis {
        Axis::Head | Axis::KvHead | Axis::Expert if at.head.is_some() && i != last => 1,
        _ if i == last => at.index.as_ref().map_or(size, Vec::len),
        _ => size,
    });
    sizes.product()
}
