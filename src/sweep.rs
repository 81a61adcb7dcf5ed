//! Many interventions, each alone: only what a change can reach is computed, many cells in one batch.
//!
//! A cell starts at its own layer, from the base run's residual stream, and at its first changed position; keys and
//! values to the left come from the base run. Cells that start at the same place run as one batch, those that give a
//! reader an input of its own apart from the others: there the reader no longer reads the shared norm.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

use crate::edit::{Edit, Edits};
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::lab::{Key, Lab};
use crate::model::{Base, PositionKind, Stream, Transformer};
use crate::record::{Activations, at_positions};
use crate::site::{Axis, Positions, Site};

/// Edits that are applied together, apart from all other cells. Their rows are those of the base run.
#[derive(Debug, Clone)]
pub struct Cell {
    /// What is changed.
    pub edits: Vec<Edit>,
}

/// Where a cell must start, and which readers have an input of their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Start {
    layer: usize,
    first_pos: usize,
    split: BTreeSet<Site>,
}

/// Runs every cell over the base run's rows and reads logits at `read` (one position per row).
///
/// `score` turns logits `[rows, d_vocab]`, copy-major over the base's rows, into one number per row, or into as many for each
/// row `[rows, numbers]`. The result is, for each cell, the score of every row of the base, row by row.
pub fn sweep(
    lab: &Lab,
    base: &Base,
    cells: &[Cell],
    read: &[usize],
    score: &dyn Fn(&Tensor) -> Result<Tensor>,
) -> Result<Vec<Vec<f64>>> {
    sweep_watching(lab, base, cells, read, &|_| false, &|logits, _| score(logits))
}

/// As [`sweep`]. `score` is also handed what stands at the watched sites where each row is read, `[rows, 1, …]` in the order of
/// the logits. What a cell does not reach is the base's, which must hold those sites; each has an axis of positions.
pub fn sweep_watching(
    lab: &Lab,
    base: &Base,
    cells: &[Cell],
    read: &[usize],
    watch: &dyn Fn(Site) -> bool,
    score: &dyn Fn(&Tensor, &Activations) -> Result<Tensor>,
) -> Result<Vec<Vec<f64>>> {
    let model = &lab.model;
    let watched = (model.recorded_bytes(1, watch) as usize) / model.dtype().size_in_bytes();
    let (rows, pos, _) = base.logits.dims3()?;
    let mut groups: BTreeMap<Start, Vec<usize>> = BTreeMap::new();
    for (index, cell) in cells.iter().enumerate() {
        groups.entry(start_of(model, cell, read)?).or_default().push(index);
    }
    let mut scores = vec![Vec::new(); cells.len()];
    let mut key = lab.journal.as_ref().map(|journal| {
        let plan = Sha256::digest(format!("{} {cells:?} {read:?}", lab.about.hash)).into();
        Key { plan, turn: journal.begin(&plan), batch: 0 }
    });
    for (start, members) in groups {
        let together = width(lab, rows, pos - start.first_pos, pos, watched);
        for members in members.chunks(together) {
            lab.check()?;
            let each = lab.noted(key.as_ref(), || {
                let chosen = members.iter().map(|&i| &cells[i]);
                let (logits, seen) = run(model, base, &start, chosen, read, watch)?;
                let scored = score(&logits, &seen)?;
                Ok(scored.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
            })?;
            key.iter_mut().for_each(|key| key.batch += 1);
            for (&index, each) in members.iter().zip(each.chunks_exact((each.len() / members.len()).max(1))) {
                scores[index] = each.to_vec();
            }
            lab.progress.advance(members.len() as u64);
        }
    }
    Ok(scores)
}

/// How many cells fit the memory allowed: the widest activations of one block, a few of them alive at once, and the
/// base's keys and values repeated for every cell; `watched` numbers are kept of each row besides.
fn width(lab: &Lab, rows: usize, window: usize, keys: usize, watched: usize) -> usize {
    let c = &lab.model.config;
    // where a place of experts is edited, all of them are computed
    let neurons = c.d_mlp.max(c.experts.map_or(0, |routing| routing.experts * routing.d_expert));
    let learned = if c.positions == PositionKind::Shortformer { 2 * c.d_model } else { 0 };
    let per_position = 8 * c.d_model + learned + 4 * neurons + 3 * c.n_heads * keys;
    let per_row =
        window * per_position + 4 * keys * c.n_kv_heads * c.d_head + 3 * c.d_vocab_out + 2 * watched;
    let bytes = (rows * per_row * lab.model.dtype().size_in_bytes()) as u64;
    ((lab.memory / 2) / bytes.max(1)).clamp(1, 1 << 16) as usize
}

fn run<'a>(
    model: &Transformer,
    base: &Base,
    start: &Start,
    cells: impl ExactSizeIterator<Item = &'a Cell>,
    read: &[usize],
    watch: &dyn Fn(Site) -> bool,
) -> Result<(Tensor, Activations)> {
    let rows = read.len();
    let copies = cells.len();
    let from = base.stream(start.layer, start.first_pos)?;
    let shifted = cells.enumerate().flat_map(|(copy, cell)| {
        cell.edits.iter().map(move |edit| {
            let mut edit = edit.clone();
            let own = edit.at.rows.clone().unwrap_or(0..rows);
            edit.at.rows = Some(copy * rows + own.start..copy * rows + own.end);
            edit
        })
    });
    let mut edits = Edits::new(shifted);
    // positions that queries and keys read in every layer are no part of the stream: they are changed here
    let learned = match from.learned {
        Some(learned) if edits.wants(Site::PosEmbed) => {
            Some(edits.visit(Site::PosEmbed, start.first_pos, learned.repeat((copies, 1, 1))?)?)
        }
        learned => learned,
    };
    let from = Stream { resid: from.resid.repeat((copies, 1, 1))?, learned, ..from };
    let reads: Vec<usize> = read.iter().copied().cycle().take(rows * copies).collect();
    let mut watcher = Watcher { watch, reads: &reads, seen: Activations::default() };
    let stream = model.run(from, Some(base), model.config.n_layers, &mut (&mut edits, &mut watcher))?;
    let logits = model.unembed(&stream.at(&reads)?, &mut (NoFinal(&mut edits), &mut watcher))?;
    let mut seen = watcher.seen;
    edits.finish()?;
    for (&site, x) in base.kept.0.iter().filter(|(site, _)| watch(**site)) {
        if let Entry::Vacant(place) = seen.0.entry(site) {
            let own = at_positions(x, read)?.unsqueeze(1)?;
            place.insert(Tensor::cat(&vec![own; copies], 0)?);
        }
    }
    Ok((logits.squeeze(1)?, seen))
}

/// Keeps what stands at the watched sites where each row is read.
struct Watcher<'a> {
    watch: &'a dyn Fn(Site) -> bool,
    reads: &'a [usize],
    seen: Activations,
}

impl Hook for Watcher<'_> {
    fn wants(&self, site: Site) -> bool {
        (self.watch)(site) && site.axes().get(1) == Some(&Axis::Pos)
    }

    fn visit(&mut self, site: Site, first_pos: usize, x: Tensor) -> Result<Tensor> {
        let own = match site {
            Site::Block(..) => {
                let inside: Vec<usize> = self.reads.iter().map(|pos| pos - first_pos).collect();
                at_positions(&x, &inside)?.unsqueeze(1)?
            }
            // behind the last block only those rows are computed
            _ => x.clone(),
        };
        self.seen.0.insert(site, own);
        Ok(x)
    }
}

/// Sites after the last block see only the rows that are read; edits there cannot be placed and are refused.
struct NoFinal<'a>(&'a mut Edits);

impl Hook for NoFinal<'_> {
    fn wants(&self, site: Site) -> bool {
        self.0.wants(site)
    }

    fn visit(&mut self, site: Site, _: usize, _: Tensor) -> Result<Tensor> {
        Err(Error::NoSuchSite {
            site: site.to_string(),
            why: "a sweep reads one position per prompt, so that edits after the last block have no place"
                .into(),
        })
    }
}

fn start_of(model: &Transformer, cell: &Cell, read: &[usize]) -> Result<Start> {
    let mut layer = model.config.n_layers;
    let mut first_pos = read.iter().copied().min().unwrap_or(0);
    let mut split = BTreeSet::new();
    for edit in &cell.edits {
        model.check_site(edit.at.site)?;
        let shortformer = model.config.positions == PositionKind::Shortformer;
        layer = match edit.at.site {
            Site::Block(own, _) => layer.min(own),
            Site::PosEmbed if shortformer => 0,
            site => {
                let why = "a sweep edits places inside blocks".into();
                return Err(Error::NoSuchSite { site: site.to_string(), why });
            }
        };
        if matches!(edit.at.site, Site::Block(_, at) if at.is_split_input()) {
            split.insert(edit.at.site);
        }
        let first = match &edit.at.pos {
            Positions::All => Some(0),
            Positions::From(pos) => Some(*pos),
            Positions::At(list) | Positions::PerRow(list) => list.iter().copied().min(),
        };
        first_pos = first_pos.min(first.unwrap_or(0));
    }
    if !model.config.causal {
        first_pos = 0;
    }
    Ok(Start { layer: layer.min(model.config.n_layers.saturating_sub(1)), first_pos, split })
}
