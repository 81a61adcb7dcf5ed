//! Which jobs run together, from where on.

use std::collections::{BTreeMap, BTreeSet};

use super::cone::{Enters, cone, work};
use super::reach::stays_in_place;
use super::{Cell, Reading};
use crate::edit::{Edit, refuse_norm_beside};
use crate::error::{Error, Result};
use crate::lab::{Lab, Planned};
use crate::model::{Base, Config, Entry, PositionKind, Start, TILE, Transformer};
use crate::site::{At, Axis, Site, Slice};

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
    /// Operations that the jobs need at least.
    floor: u64,
}

impl Plan {
    pub(super) fn new(lab: &Lab, base: &Base, cells: &[Cell], reading: &Reading) -> Result<Plan> {
        let (rows, columns, d_model) = base.dims()?;
        if rows != reading.rows() {
            let (what, got) = ("the positions that are read".to_owned(), vec![reading.rows()]);
            return Err(Error::Shape { what, got, expected: format!("[{rows}]") });
        }
        // the stream of a position before and behind a block, its changes, and its share of what is read
        let each = (4 * d_model * lab.model.dtype().size_in_bytes()) as u64;
        let most = (lab.memory / 4 / each.max(1)).clamp(1, WAVE as u64) as usize;
        let mut plan = Plan { free: Vec::new(), waves: Vec::new(), floor: 0 };
        let (mut wave, mut held) = (BTreeMap::<Start, Vec<Job>>::new(), 0);
        for (cell, edits) in cells.iter().enumerate() {
            check(&lab.model, &edits.edits, rows, columns)?;
            let starts = (0..rows).map(|row| {
                let found = start(&lab.model, base, &edits.edits, reading, row)?;
                plan.floor += found.as_ref().map_or(0, |(_, floor)| *floor);
                Ok(found.map(|(start, _)| start))
            });
            let starts: Vec<Option<Start>> = starts.collect::<Result<_>>()?;
            let size: usize = starts.iter().flatten().map(|start| start.columns).sum();
            if held > 0 && held + size > most {
                plan.waves.push(bundles(std::mem::take(&mut wave)));
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
            plan.waves.push(bundles(wave));
        }
        Ok(plan)
    }

    /// What the plan takes.
    pub(super) fn cost(&self, model: &Transformer) -> Planned {
        let c = &model.config;
        let bundles = || self.waves.iter().flatten();
        let held =
            |wave: &Vec<Bundle>| wave.iter().map(|b| (b.jobs.len() * b.start.columns) as u64).sum::<u64>();
        let numbers = 4 * c.d_model as u64 * self.waves.iter().map(held).max().unwrap_or(0);
        Planned {
            runs: bundles().map(|bundle| bundle.jobs.len() as u64).sum(),
            free: self.free.len() as u64,
            passes: self.waves.len() as u64,
            flops: bundles().map(|bundle| bundle.jobs.len() as u64 * bundle.start.work(c)).sum(),
            floor: self.floor,
            bytes: numbers * model.dtype().size_in_bytes() as u64,
        }
    }
}

impl Start {
    /// Operations of one sequence.
    fn work(&self, c: &Config) -> u64 {
        work(c, self.entry, self.layer, self.first_pos, self.columns, self.read)
    }
}

/// Bundles of no more rows than a tile is meant to have.
fn bundles(wave: BTreeMap<Start, Vec<Job>>) -> Vec<Bundle> {
    let mut all = Vec::new();
    for (start, jobs) in wave {
        for jobs in jobs.chunks((TILE / start.columns.max(1)).max(1)) {
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

/// The positions of a row at which a change can reach what is read.
pub(super) fn positions(
    model: &Transformer,
    [rows, columns]: [usize; 2],
    at: &Slice,
    reading: &Reading,
    row: usize,
) -> Result<Vec<usize>> {
    if at.rows.as_ref().is_some_and(|own| !own.contains(&row)) {
        return Ok(Vec::new());
    }
    let part = at.resolve_row(&model.shape(at.site, rows, columns), 0, row)?;
    let axis = at.site.axes().iter().position(|axis| matches!(axis, Axis::Pos | Axis::Query));
    let all = axis.and_then(|axis| part.get(axis)).into_iter().flatten().copied();
    let (read, stays) = (reading.at()[row], stays_in_place(model.config.n_layers, at.site));
    let matters = |pos: &usize| {
        let seen = if stays { *pos == read } else { *pos <= read || !model.config.causal };
        seen && !reading.reach().is_some_and(|reach| reach.same(at.site, row, *pos))
    };
    Ok(all.filter(matters).collect())
}

/// Where the job of a row begins, and how many operations it needs at least; none if it can change nothing.
fn start(
    model: &Transformer,
    base: &Base,
    edits: &[Edit],
    reading: &Reading,
    row: usize,
) -> Result<Option<(Start, u64)>> {
    let (rows, columns, _) = base.dims()?;
    let (read, causal) = (reading.at()[row], model.config.causal);
    let (mut found, mut floor): (Option<Start>, _) = (None, 0);
    for Edit { at, .. } in edits {
        let positions = positions(model, [rows, columns], at, reading, row)?;
        let (Some(&first_pos), Some(&last)) = (positions.iter().min(), positions.iter().max()) else {
            continue;
        };
        let (layer, place) = match at.site {
            Site::Block(layer, at) => (layer, at),
            _ => (0, At::ResidPre),
        };
        let entry = entry(model, base, layer, place)?;
        floor = floor.max(cone(&model.config, enters(place, at.head), layer, [first_pos, last], read));
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
    let start = Start { first_pos, columns: end - first_pos, ..start };
    // where all positions see each other there is no cone
    let floor = if causal { floor } else { start.work(&model.config) };
    Ok(Some((start, floor)))
}

fn enters(at: At, head: Option<usize>) -> Enters {
    match (Entry::before(at), head) {
        (Entry::ResidPre, _) => Enters::Stream,
        (Entry::Z, Some(_)) => Enters::Head,
        (Entry::Z, None) => Enters::Heads,
        (Entry::AttnOut | Entry::Mid, _) => Enters::Mid,
        (Entry::MlpOut | Entry::ResidPost, _) => Enters::Out,
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
