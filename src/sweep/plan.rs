//! Which jobs run together, from where on.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cell, Reading};
use crate::edit::{Edit, refuse_norm_beside};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::model::{Base, Entry, PositionKind, Start, Transformer};
use crate::site::{At, Axis, Site};

/// Rows × positions that a wave holds at most: what is lost when a run is killed.
const WAVE: usize = 1 << 16;

/// A cell on a row of the base run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) cell: usize,
    pub(super) row: usize,
}

/// Jobs that begin at one place.
pub(super) struct Bundle {
    pub(super) start: Start,
    pub(super) jobs: Vec<Job>,
}

/// All jobs of a sweep.
pub(super) struct Plan {
    /// Those that can change nothing.
    pub(super) free: Vec<Job>,
    /// Those that run together, one wave after the other.
    pub(super) waves: Vec<Vec<Bundle>>,
}

impl Plan {
    pub(super) fn new(lab: &Lab, base: &Base, cells: &[Cell], reading: &Reading) -> Result<Plan> {
        let (rows, columns, d_model) = base.dims()?;
        if rows != reading.rows() {
            let (what, got) = ("the positions that are read".to_owned(), vec![reading.rows()]);
            return Err(Error::Shape { what, got, expected: format!("[{rows}]") });
        }
        let tile = lab.model.tile();
        // the stream of a position before and behind a block, its changes, and its share of what is read
        let each = (4 * d_model * lab.model.dtype().size_in_bytes()) as u64;
        let most = (lab.memory / 4 / each.max(1)).clamp(1, WAVE as u64) as usize;
        let mut plan = Plan { free: Vec::new(), waves: Vec::new() };
        let (mut wave, mut held) = (BTreeMap::<Start, Vec<Job>>::new(), 0);
        for (cell, edits) in cells.iter().enumerate() {
            check(&lab.model, &edits.edits, rows, columns)?;
            let starts: Vec<Option<Start>> = (0..rows)
                .map(|row| start(&lab.model, base, &edits.edits, reading, row))
                .collect::<Result<_>>()?;
            let size: usize = starts.iter().flatten().map(|start| start.columns).sum();
            if held > 0 && held + size > most {
                plan.waves.push(bundles(std::mem::take(&mut wave), tile));
                held = 0;
            }
            held += size;
            for (row, start) in starts.into_iter().enumerate() {
                match start {
                    Some(start) => wave.entry(start).or_default().push(Job { cell, row }),
                    None => plan.free.push(Job { cell, row }),
                }
            }
        }
        if !wave.is_empty() {
            plan.waves.push(bundles(wave, tile));
        }
        Ok(plan)
    }
}

/// Bundles of no more rows than a tile is meant to have.
fn bundles(wave: BTreeMap<Start, Vec<Job>>, tile: usize) -> Vec<Bundle> {
    let mut all = Vec::new();
    for (start, jobs) in wave {
        for jobs in jobs.chunks((tile / start.columns.max(1)).max(1)) {
            all.push(Bundle { start: start.clone(), jobs: jobs.to_vec() });
        }
    }
    all
}

/// Refuses edits that a sweep has no place for.
fn check(model: &Transformer, edits: &[Edit], rows: usize, columns: usize) -> Result<()> {
    let learned = model.config.positions == PositionKind::Shortformer;
    for Edit { at, .. } in edits {
        model.check_site(at.site)?;
        if !(matches!(at.site, Site::Block(..)) || at.site == Site::PosEmbed && learned) {
            let why = "a sweep edits places inside blocks".into();
            return Err(Error::NoSuchSite { site: at.site.to_string(), why });
        }
        at.check(&model.shape(at.site, rows, columns))?;
        refuse_norm_beside(at.site, |site| edits.iter().any(|edit| edit.at.site == site))?;
    }
    Ok(())
}

/// Where the job of a row begins; none if it can change nothing.
fn start(
    model: &Transformer,
    base: &Base,
    edits: &[Edit],
    reading: &Reading,
    row: usize,
) -> Result<Option<Start>> {
    let (rows, columns, _) = base.dims()?;
    let (read, causal) = (reading.at()[row], model.config.causal);
    let mut found: Option<Start> = None;
    for Edit { at, .. } in
        edits.iter().filter(|edit| edit.at.rows.as_ref().is_none_or(|own| own.contains(&row)))
    {
        let shape = model.shape(at.site, rows, columns);
        let part = at.resolve_row(&shape, 0, row)?;
        let axis = at.site.axes().iter().position(|axis| matches!(axis, Axis::Pos | Axis::Query));
        let positions = axis.and_then(|axis| part.get(axis)).into_iter().flatten().copied();
        let stays = stays_in_place(model, at.site);
        let matters = |pos: &usize| {
            let seen = if stays { *pos == read } else { *pos <= read || !causal };
            seen && !reading.reach().is_some_and(|reach| reach.same(at.site, row, *pos))
        };
        let Some(first_pos) = positions.filter(matters).min() else { continue };
        let (layer, entry) = match at.site {
            Site::Block(layer, at) => (layer, entry(model, base, layer, at)?),
            _ => (0, Entry::ResidPre),
        };
        let apart: BTreeSet<Site> = is_apart(at.site).then_some(at.site).into_iter().collect();
        found = Some(match found {
            None => Start { layer, entry, first_pos, read, columns: 0, apart },
            Some(other) => {
                let (layer, entry) = (layer, entry).min((other.layer, other.entry));
                let apart = &apart | &other.apart;
                Start { layer, entry, first_pos: first_pos.min(other.first_pos), apart, ..other }
            }
        });
    }
    let Some(start) = found else { return Ok(None) };
    let first_pos = if causal { start.first_pos } else { 0 };
    let end = if causal { read + 1 } else { columns };
    Ok(Some(Start { first_pos, columns: end - first_pos, ..start }))
}

/// Whether what is written there reaches the logits of its own position only.
fn stays_in_place(model: &Transformer, site: Site) -> bool {
    match site {
        Site::Block(layer, at) if layer + 1 == model.config.n_layers => {
            let to_keys = [At::KInput, At::VInput, At::K, At::V, At::KNormed, At::RotK];
            !(to_keys.contains(&at) || matches!(at, At::ResidPre | At::Ln1Scale | At::Ln1))
        }
        _ => false,
    }
}

/// Whether a place is computed in another way than usual where somebody wants it: the others in its tile would be too.
fn is_apart(site: Site) -> bool {
    matches!(site, Site::Block(_, at) if at.is_split_input() || at == At::Result || at.axes().contains(&Axis::Expert))
}

/// The latest entry from which a change is seen, of those whose beginnings the base holds.
fn entry(model: &Transformer, base: &Base, layer: usize, at: At) -> Result<Entry> {
    let block = model.block(layer)?;
    let held = |entry: &Entry| {
        entry.needs(block).iter().all(|&at| base.kept.0.contains_key(&Site::Block(layer, at)))
    };
    Ok(Entry::ALL
        .into_iter()
        .rev()
        .skip_while(|entry| *entry > Entry::before(at))
        .find(held)
        .unwrap_or(Entry::ResidPre))
}
