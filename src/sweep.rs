//! Many interventions, each alone: only what a change can reach is computed, many cells in one pass.
//!
//! A cell on a row of the base run is a *job*. It begins where its first change is, also in the middle of a block, and at its first
//! changed position; keys and values to the left come from the base run, and of the last block only the row that is read is computed.
//! Jobs that begin at one place form a window, and windows share the products with the weights
//! ([`Transformer::run_windows`]). A job that can change nothing costs nothing. What is planned depends on the cells, the
//! model and the memory allowed alone.

mod changes;
mod cone;
mod plan;
mod reach;
mod reading;

use candle_core::{DType, Device, Tensor};

pub use cone::{Costs, Enters, cone, product_rate};
pub(crate) use reach::Reach;
pub use reading::Reading;

use crate::edit::Edit;
use crate::error::Result;
use crate::lab::{Lab, Planned};
use crate::model::{Base, Entry, Transformer, Window};
use crate::record::{Activations, at_positions, of_rows};
use crate::site::Site;
use changes::{Changes, Watcher};
use plan::{Bundle, Job, Plan};

/// Edits that are applied together, apart from all other cells. Their rows are those of the base run.
#[derive(Debug, Clone)]
pub struct Cell {
    /// What is changed.
    pub edits: Vec<Edit>,
}

/// Runs every cell over the base run's rows and reads it: for each cell the score of every row, row by row.
pub fn sweep(lab: &Lab, base: &Base, cells: &[Cell], reading: &Reading) -> Result<Vec<Vec<f64>>> {
    let plan = Plan::new(lab, base, cells, reading)?;
    if let Some(planned) = &lab.planned {
        planned.add(plan.cost(&lab.model));
        return Ok(vec![unchanged(lab, base, reading)?; cells.len()]);
    }
    let mut scores = vec![vec![Vec::new(); reading.rows()]; cells.len()];
    let mut put = |jobs: &[Job], numbers: Vec<f64>| {
        let width = (numbers.len() / jobs.len().max(1)).max(1);
        for (job, numbers) in jobs.iter().zip(numbers.chunks_exact(width)) {
            scores[job.cell][job.row] = numbers.to_vec();
        }
        lab.progress.advance((jobs.len() / reading.rows().max(1)) as u64);
    };
    let unchanged = Ends::unchanged(&lab.model, base, reading)?;
    put(&plan.free, unchanged.of(&plan.free)?.scores(lab, reading)?);
    let mut key = lab.key(&(cells, reading.at()));
    for wave in &plan.waves {
        lab.check()?;
        let jobs: Vec<Job> = wave.iter().flat_map(|bundle| bundle.jobs.iter().copied()).collect();
        let work = || run(lab, base, cells, reading, wave, &unchanged)?.scores(lab, reading);
        put(&jobs, lab.noted(key.as_ref(), work)?);
        key.iter_mut().for_each(|key| key.batch += 1);
    }
    Ok(scores.into_iter().map(|rows| rows.concat()).collect())
}

/// The score of every row of the base run itself.
pub fn unchanged(lab: &Lab, base: &Base, reading: &Reading) -> Result<Vec<f64>> {
    Ends::unchanged(&lab.model, base, reading)?.scores(lab, reading)
}

/// The scores of copies of the base's rows, copy-major, from what the unembedding reads `[copies · rows, d_model]`.
pub(crate) fn scored(lab: &Lab, reading: &Reading, normed: Tensor) -> Result<Vec<f64>> {
    let rows = (0..reading.rows()).cycle().take(normed.dim(0)?).collect();
    Ends { normed, seen: Activations::default(), rows }.scores(lab, reading)
}

/// What copies of all rows would take that run from a layer and a position on.
pub(crate) fn planned(
    model: &Transformer,
    base: &Base,
    layer: usize,
    first_pos: usize,
    copies: usize,
) -> Result<Planned> {
    let (rows, columns, _) = base.dims()?;
    let runs = (rows * copies) as u64;
    let columns = columns.saturating_sub(first_pos);
    let read = first_pos + columns.saturating_sub(1);
    let flops = runs * cone::work(&model.config, Entry::ResidPre, layer, first_pos, columns, read);
    let bytes = runs * (4 * columns * model.config.d_model * model.dtype().size_in_bytes()) as u64;
    Ok(Planned { runs, free: 0, passes: 1, flops, floor: flops, bytes })
}

/// Runs the jobs of a wave: how each ends, in the order of its bundles.
fn run(
    lab: &Lab,
    base: &Base,
    cells: &[Cell],
    reading: &Reading,
    wave: &[Bundle],
    unchanged: &Ends,
) -> Result<Ends> {
    let model = &lab.model;
    let hooks = wave.iter().map(|bundle| {
        let changes = Changes::new(model, base, cells, reading, &bundle.jobs)?;
        Ok((changes, Watcher::new(reading, bundle.start.read)))
    });
    let mut hooks: Vec<(Changes, Watcher)> = hooks.collect::<Result<_>>()?;
    let windows = wave.iter().zip(&mut hooks).map(|(bundle, (changes, watcher))| {
        let rows = bundle.jobs.iter().map(|job| job.row).collect();
        Window::new(base, &bundle.start, rows, Box::new((changes, watcher)))
    });
    let mut windows: Vec<Window> = windows.collect::<Result<_>>()?;
    let normed = model.run_windows(&mut windows, base, &|| lab.check())?;
    drop(windows);
    hooks.iter().try_for_each(|(changes, _)| changes.finish())?;

    let mut ends = Ends { normed, seen: Activations::default(), rows: Vec::new() };
    ends.rows.extend(wave.iter().flat_map(|bundle| &bundle.jobs).map(|job| job.row));
    for &site in unchanged.seen.0.keys() {
        let each =
            hooks.iter_mut().zip(wave).map(|((_, watcher), bundle)| match watcher.seen.0.remove(&site) {
                Some(seen) => Ok(seen),
                None => unchanged.at(site, &bundle.jobs), // before the change
            });
        ends.seen.0.insert(site, Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 0)?);
    }
    Ok(ends)
}

/// Where rows are read: what the unembedding reads `[n, d_model]`, what stands at the watched sites `[n, 1, …]`, and which rows of the
/// base they are.
struct Ends {
    normed: Tensor,
    seen: Activations,
    rows: Vec<usize>,
}

impl Ends {
    /// Those of the base run itself.
    fn unchanged(model: &Transformer, base: &Base, reading: &Reading) -> Result<Ends> {
        let normed = model.final_norm(&base.end(model).at(reading.at())?, &mut ())?.squeeze(1)?;
        let mut seen = Activations::default();
        for (&site, x) in base.kept.0.iter().filter(|(site, _)| reading.watches(**site)) {
            seen.0.insert(site, at_positions(x, reading.at())?.unsqueeze(1)?);
        }
        Ok(Ends { normed, seen, rows: (0..reading.rows()).collect() })
    }

    /// Those of the base run, for jobs that change nothing.
    fn of(&self, jobs: &[Job]) -> Result<Ends> {
        let mut seen = Activations::default();
        for &site in self.seen.0.keys() {
            seen.0.insert(site, self.at(site, jobs)?);
        }
        let rows: Vec<usize> = jobs.iter().map(|job| job.row).collect();
        Ok(Ends { normed: of_rows(&self.normed, &rows)?, seen, rows })
    }

    fn at(&self, site: Site, jobs: &[Job]) -> Result<Tensor> {
        let rows: Vec<usize> = jobs.iter().map(|job| job.row).collect();
        of_rows(self.seen.get(site)?, &rows)
    }

    /// The scores of all, a few of whose logits are in memory at once.
    fn scores(&self, lab: &Lab, reading: &Reading) -> Result<Vec<f64>> {
        let model = &lab.model;
        let width = reading.tokens().map_or(model.config.d_vocab_out, <[u32]>::len).max(1);
        let together = lab.memory / 16 / (width * model.dtype().size_in_bytes()) as u64;
        let together = together.clamp(1, 1 << 16) as usize;
        let mut all = Vec::new();
        for (i, rows) in self.rows.chunks(together).enumerate() {
            lab.check()?;
            let some = |x: &Tensor| x.narrow(0, i * together, rows.len());
            let mut seen = Activations::default();
            for (&site, x) in &self.seen.0 {
                seen.0.insert(site, some(x)?);
            }
            let logits = model.logits(&some(&self.normed)?, reading.tokens())?;
            let scored = reading.score(&logits, &seen, rows)?.to_device(&Device::Cpu)?;
            all.extend(scored.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?);
        }
        Ok(all)
    }
}
