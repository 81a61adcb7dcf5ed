//! The edits of many jobs as one hook, and what is kept where rows are read.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::plan::{Job, positions};
use super::{Cell, Reach, Reading};
use crate::edit::{Edit, Values};
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::model::{Base, Transformer};
use crate::ops::{Region, splice};
use crate::record::{Activations, at_positions};
use crate::site::{Axis, Site};

/// The edits of jobs that share a window; the n-th sequence is the n-th job's.
pub(super) struct Changes<'a> {
    by_site: BTreeMap<Site, Vec<Change<'a>>>,
    reach: Option<&'a Reach>,
    visited: BTreeMap<Site, bool>,
}

/// An edit of a cell, on the jobs that make it.
struct Change<'a> {
    edit: &'a Edit,
    /// Of the base's activation there.
    shape: Vec<usize>,
    /// Sequence of the window, and row of the base.
    jobs: Vec<(usize, usize)>,
}

impl<'a> Changes<'a> {
    pub(super) fn new(
        model: &Transformer,
        base: &Base,
        cells: &'a [Cell],
        reading: &Reading<'a>,
        jobs: &[Job],
    ) -> Result<Changes<'a>> {
        let (rows, columns, _) = base.dims()?;
        let mut by_site: BTreeMap<Site, Vec<Change>> = BTreeMap::new();
        let mut last = None;
        let mut own: Vec<(usize, &[(usize, usize)])> = Vec::new();
        let places: Vec<(usize, usize)> = jobs.iter().enumerate().map(|(n, job)| (n, job.row)).collect();
        for (n, job) in jobs.iter().enumerate() {
            if last.replace(job.cell) != Some(job.cell) {
                let count = jobs[n..].iter().take_while(|other| other.cell == job.cell).count();
                own.push((job.cell, &places[n..n + count]));
            }
        }
        for (cell, jobs) in own {
            for edit in &cells[cell].edits {
                // an edit that reaches nothing may lie before the place where the job begins
                let mut reaching = Vec::new();
                for &(n, row) in jobs {
                    if !positions(model, [rows, columns], &edit.at, reading, row)?.is_empty() {
                        reaching.push((n, row));
                    }
                }
                let jobs = reaching;
                if !jobs.is_empty() {
                    let shape = model.shape(edit.at.site, rows, columns);
                    by_site.entry(edit.at.site).or_default().push(Change { edit, shape, jobs });
                }
            }
        }
        let visited = by_site.keys().map(|&site| (site, false)).collect();
        Ok(Changes { by_site, reach: reading.reach(), visited })
    }

    /// Checks that every edit had its turn: a site that this pass never reached is an error.
    pub(super) fn finish(&self) -> Result<()> {
        match self.visited.iter().find(|(_, visited)| !**visited) {
            None => Ok(()),
            Some((site, _)) => Err(Error::NoSuchSite {
                site: site.to_string(),
                why: "an edit there was never applied, because the pass did not reach it".to_owned(),
            }),
        }
    }
}

impl Hook for Changes<'_> {
    fn wants(&self, site: Site) -> bool {
        self.by_site.contains_key(&site)
    }

    fn visit(&mut self, site: Site, first_pos: usize, x: Tensor) -> Result<Tensor> {
        let Some(changes) = self.by_site.get(&site) else { return Ok(x) };
        let mut regions = Vec::new();
        for change in changes {
            change.regions(self.reach, first_pos, x.dims(), &mut regions)?;
        }
        self.visited.insert(site, true);
        Ok(if regions.is_empty() { x } else { splice(&x, regions)? })
    }
}

impl Change<'_> {
    /// The parts of a window's activation that change: what of the edit lies in it and can differ.
    fn regions(
        &self,
        reach: Option<&Reach>,
        first_pos: usize,
        dims: &[usize],
        regions: &mut Vec<Region>,
    ) -> Result<()> {
        let (at, axes) = (&self.edit.at, self.edit.at.site.axes());
        let first_row = at.rows.as_ref().map_or(0, |rows| rows.start);
        let rows = at.rows.as_ref().map_or(self.shape[0], |rows| rows.len());
        let mut values = None;
        for &(sequence, row) in &self.jobs {
            let mut part = at.resolve_row(&self.shape, 0, row)?;
            let sizes: Vec<usize> = part.iter().map(Vec::len).collect();
            let each: usize = sizes.iter().skip(1).product();
            if values.is_none() {
                values = Some(Values::of(self.edit, each, rows, part.last().map_or(0, Vec::len))?);
            }
            let Some(values) = &values else { continue };
            // what is kept of each axis, as places in its list
            let mut kept: Vec<Vec<usize>> = Vec::with_capacity(part.len());
            for ((&axis, indices), &size) in axes.iter().zip(&mut part).zip(dims) {
                let first = if matches!(axis, Axis::Pos | Axis::Query) { first_pos } else { 0 };
                let same = |pos: usize| reach.is_some_and(|reach| reach.same(at.site, row, pos));
                let inside = |&index: &usize| match axis {
                    Axis::Batch => true,
                    Axis::Pos | Axis::Query => (first..first + size).contains(&index) && !same(index),
                    Axis::Key => index < size,
                    _ => true,
                };
                let places = indices.iter().enumerate().filter(|(_, index)| inside(index));
                let (places, own): (Vec<usize>, Vec<usize>) =
                    places.map(|(i, &index)| (i, index - first)).unzip();
                *indices = if axis == Axis::Batch { vec![sequence] } else { own };
                kept.push(places);
            }
            if part.iter().any(Vec::is_empty) {
                continue;
            }
            let whole = kept.iter().zip(&sizes).all(|(kept, &size)| kept.len() == size);
            let from = (row - first_row) * each;
            let change = if whole {
                values.change(row - first_row, each)
            } else {
                let mut places = vec![0];
                for (kept, &size) in kept.iter().zip(&sizes).skip(1) {
                    places = places.iter().flat_map(|&p| kept.iter().map(move |&i| p * size + i)).collect();
                }
                values.change_at(places.into_iter().map(|place| from + place))
            };
            regions.push(Region { part, change });
        }
        Ok(())
    }
}

/// Keeps what stands at the watched sites where a window is read.
pub(super) struct Watcher<'a> {
    reading: &'a Reading<'a>,
    read: usize,
    pub(super) seen: Activations,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(reading: &'a Reading, read: usize) -> Watcher<'a> {
        Watcher { reading, read, seen: Activations::default() }
    }
}

impl Hook for Watcher<'_> {
    fn wants(&self, site: Site) -> bool {
        self.reading.watches(site) && site.axes().get(1) == Some(&Axis::Pos)
    }

    fn visit(&mut self, site: Site, first_pos: usize, x: Tensor) -> Result<Tensor> {
        let here = vec![self.read.saturating_sub(first_pos); x.dim(0)?];
        self.seen.0.insert(site, at_positions(&x, &here)?.unsqueeze(1)?);
        Ok(x)
    }
}
