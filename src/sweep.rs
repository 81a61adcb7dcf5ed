//! Many interventions, each alone: only what a change can reach is computed, many cells in one batch.
//!
//! A cell starts at its own layer, from the base run's residual stream, and at its first changed position; keys and
//! values to the left come from the base run. Cells that start at the same place run as one batch, those that give a
//! reader an input of its own apart from the others: there the reader no longer reads the shared norm.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Tensor};

use crate::edit::{Edit, Edits};
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::lab::Lab;
use crate::model::{Base, PositionKind, Stream, Transformer};
use crate::site::{Positions, Site};

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
    let model = &lab.model;
    let (rows, pos, _) = base.logits.dims3()?;
    let mut groups: BTreeMap<Start, Vec<usize>> = BTreeMap::new();
    for (index, cell) in cells.iter().enumerate() {
        groups.entry(start_of(model, cell, read)?).or_default().push(index);
    }
    let mut scores = vec![Vec::new(); cells.len()];
    for (start, members) in groups {
        let together = width(lab, rows, pos - start.first_pos, pos);
        for members in members.chunks(together) {
            lab.check()?;
            let logits = run(model, base, &start, members.iter().map(|&i| &cells[i]), read)?;
            let each: Vec<f64> =
                score(&logits)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
            for (&index, each) in members.iter().zip(each.chunks_exact((each.len() / members.len()).max(1))) {
                scores[index] = each.to_vec();
            }
            lab.progress.advance(members.len() as u64);
        }
    }
    Ok(scores)
}

/// How many cells fit the memory allowed: the widest activations of one block, a few of them alive at once, and the
/// base's keys and values repeated for every cell.
fn width(lab: &Lab, rows: usize, window: usize, keys: usize) -> usize {
    let c = &lab.model.config;
    // where a place of experts is edited, all of them are computed
    let neurons = c.d_mlp.max(c.experts.map_or(0, |routing| routing.experts * routing.d_expert));
    let learned = if c.positions == PositionKind::Shortformer { 2 * c.d_model } else { 0 };
    let per_position = 8 * c.d_model + learned + 4 * neurons + 3 * c.n_heads * keys;
    let per_row = window * per_position + 4 * keys * c.n_kv_heads * c.d_head + 3 * c.d_vocab_out;
    let bytes = (rows * per_row * lab.model.dtype().size_in_bytes()) as u64;
    ((lab.memory / 2) / bytes.max(1)).clamp(1, 1 << 16) as usize
}

fn run<'a>(
    model: &Transformer,
    base: &Base,
    start: &Start,
    cells: impl ExactSizeIterator<Item = &'a Cell>,
    read: &[usize],
) -> Result<Tensor> {
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
    let stream = model.run(from, Some(base), model.config.n_layers, &mut edits)?;
    let read: Vec<usize> = read.iter().copied().cycle().take(rows * copies).collect();
    let logits = model.unembed(&stream.at(&read)?, &mut NoFinal(&mut edits))?;
    edits.finish()?;
    Ok(logits.squeeze(1)?)
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
