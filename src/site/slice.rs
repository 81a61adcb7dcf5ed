//! Parts of activations, narrowed by the names of their axes.

use candle_core::Tensor;

use super::{Axis, Site};
use crate::error::{Error, Result};

/// Which positions a [`Slice`] covers, counted from the first token of the prompt (BOS included).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Positions {
    /// Every position.
    #[default]
    All,
    /// These positions, in every row.
    At(Vec<usize>),
    /// One position per row of the batch: a named position, such as the second subject.
    PerRow(Vec<usize>),
    /// This position and all after it, also those that a growing sequence has yet to get.
    From(usize),
}

/// Part of one activation, narrowed by the names of its axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// The activation.
    pub site: Site,
    /// Rows of the batch: all, or this half-open range.
    pub rows: Option<std::ops::Range<usize>>,
    /// Positions on the `pos` or `query` axis.
    pub pos: Positions,
    /// Positions on the `key` axis.
    pub key: Positions,
    /// One head, key-value head or expert.
    pub head: Option<usize>,
    /// Entries of the last axis: neurons, components.
    pub index: Option<Vec<usize>>,
}

impl Slice {
    /// The whole activation.
    pub fn whole(site: Site) -> Slice {
        Slice { site, rows: None, pos: Positions::All, key: Positions::All, head: None, index: None }
    }

    /// Only these rows of the batch.
    pub fn rows(mut self, rows: std::ops::Range<usize>) -> Slice {
        self.rows = Some(rows);
        self
    }

    /// Only these positions.
    pub fn pos(mut self, pos: Positions) -> Slice {
        self.pos = pos;
        self
    }

    /// Only this head.
    pub fn head(mut self, head: usize) -> Slice {
        self.head = Some(head);
        self
    }

    /// The values of this part of a whole activation `x`, as `[n, width]`: the order in which an edit sets them.
    pub fn take(&self, x: &Tensor) -> Result<Tensor> {
        let dims = x.dims();
        if self.key != Positions::All {
            return self.take_keys(x);
        }
        let width = dims.last().copied().unwrap_or(1);
        let mut rows: Vec<u32> = Vec::new();
        for part in self.resolve(dims, 0)? {
            let mut starts = vec![0];
            for (indices, &size) in part[..part.len() - 1].iter().zip(dims) {
                starts =
                    starts.iter().flat_map(|&start| indices.iter().map(move |&i| start * size + i)).collect();
            }
            rows.extend(starts.into_iter().map(|row| row as u32));
        }
        let count = rows.len();
        let taken = x.reshape(((), width))?.index_select(&Tensor::from_vec(rows, count, x.device())?, 0)?;
        let Some(index) = &self.index else { return Ok(taken) };
        let index: Vec<u32> = index.iter().map(|&i| i as u32).collect();
        Ok(taken.index_select(&Tensor::new(index, x.device())?, 1)?)
    }

    /// The same where keys are chosen, which may be others in each row.
    fn take_keys(&self, x: &Tensor) -> Result<Tensor> {
        let (mut places, mut width) = (Vec::<u32>::new(), 1);
        for part in self.resolve(x.dims(), 0)? {
            let mut starts = vec![0];
            for (indices, &size) in part.iter().zip(x.dims()) {
                starts =
                    starts.iter().flat_map(|&start| indices.iter().map(move |&i| start * size + i)).collect();
            }
            width = part.last().map_or(1, Vec::len);
            places.extend(starts.into_iter().map(|place| place as u32));
        }
        let places = Tensor::new(places, x.device())?;
        Ok(x.flatten_all()?.index_select(&places, 0)?.reshape(((), width))?)
    }

    /// Which indices of each axis the slice covers in an activation of this shape whose positions begin at
    /// `first_pos`: one list per row of the batch. Out-of-range parts are errors.
    pub(crate) fn resolve(&self, shape: &[usize], first_pos: usize) -> Result<Vec<RowPart>> {
        self.check(shape)?;
        let rows = self.rows.clone().unwrap_or(0..shape[0]);
        rows.map(|row| self.resolve_row(shape, first_pos, row)).collect()
    }

    /// The same of one row; which must be among the slice's.
    pub(crate) fn resolve_row(&self, shape: &[usize], first_pos: usize, row: usize) -> Result<RowPart> {
        let axes = self.site.axes();
        let first_row = self.rows.as_ref().map_or(0, |rows| rows.start);
        let mut part = Vec::with_capacity(axes.len());
        for (&axis, &size) in axes.iter().zip(shape) {
            part.push(match axis {
                Axis::Batch => vec![row],
                Axis::Pos | Axis::Query => self.positions(&self.pos, row - first_row, first_pos, size)?,
                Axis::Key => self.positions(&self.key, row - first_row, 0, size)?,
                Axis::Head | Axis::KvHead | Axis::Expert if axes.last() != Some(&axis) => match self.head {
                    Some(head) if head >= size => return Err(self.outside("head", head, size)),
                    Some(head) => vec![head],
                    None => (0..size).collect(),
                },
                _ => match &self.index {
                    None => (0..size).collect(),
                    Some(index) => match index.iter().find(|&&i| i >= size) {
                        Some(&i) => return Err(self.outside("entry", i, size)),
                        None => index.clone(),
                    },
                },
            });
        }
        Ok(part)
    }

    /// Whether the slice fits an activation of this shape: its axes, and its rows.
    pub(crate) fn check(&self, shape: &[usize]) -> Result<()> {
        let axes = self.site.axes();
        if axes.len() != shape.len() {
            let expected = self.site.shape_words();
            return Err(Error::Shape { what: self.site.to_string(), got: shape.to_vec(), expected });
        }
        self.check_axes(axes)?;
        let rows = self.rows.clone().unwrap_or(0..shape[0]);
        if rows.end > shape[0] || rows.start >= rows.end {
            return Err(self.outside("batch row", rows.end.saturating_sub(1), shape[0]));
        }
        Ok(())
    }

    fn positions(&self, wanted: &Positions, row: usize, first: usize, size: usize) -> Result<Vec<usize>> {
        let absolute = match wanted {
            Positions::All => return Ok((0..size).collect()),
            Positions::From(pos) if *pos >= first + size => {
                return Err(self.outside("position", *pos, first + size));
            }
            Positions::From(pos) => return Ok((pos.saturating_sub(first)..size).collect()),
            Positions::At(list) => list.clone(),
            Positions::PerRow(list) => match list.get(row) {
                Some(&pos) => vec![pos],
                None => return Err(self.outside("row of named positions", row, list.len())),
            },
        };
        let inside = |pos: usize| pos.checked_sub(first).filter(|&p| p < size);
        absolute
            .iter()
            .map(|&pos| inside(pos).ok_or_else(|| self.outside("position", pos, first + size)))
            .collect()
    }

    fn check_axes(&self, axes: &[Axis]) -> Result<()> {
        let has = |wanted: &[Axis]| axes.iter().any(|axis| wanted.contains(axis));
        let misplaced = if self.head.is_some() && !has(&[Axis::Head, Axis::KvHead, Axis::DExpert]) {
            Some("head")
        } else if self.pos != Positions::All && !has(&[Axis::Pos, Axis::Query]) {
            Some("position")
        } else if self.key != Positions::All && !has(&[Axis::Key]) {
            Some("key position")
        } else {
            None
        };
        match misplaced {
            None => Ok(()),
            Some(word) => Err(Error::usage(
                format!("{} has no {word} axis: its axes are {}", self.site, self.site.shape_words()),
                format!("leave the {word} out, or choose a site that has one"),
            )),
        }
    }

    fn outside(&self, what: &'static str, index: usize, size: usize) -> Error {
        Error::OutOfRange { what, index, size, site: self.site.to_string() }
    }
}

/// The indices of every axis that one row's part of a slice covers.
pub(crate) type RowPart = Vec<Vec<usize>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::At;

    #[test]
    fn what_is_taken_is_what_an_edit_of_the_same_part_sets() {
        let x = Tensor::arange(0u32, 2 * 2 * 3 * 3, &candle_core::Device::Cpu).unwrap();
        let x = x.reshape((2, 2, 3, 3)).unwrap(); // [row, head, query, key]
        let taken = |slice: Slice| -> Vec<Vec<u32>> { slice.take(&x).unwrap().to_vec2().unwrap() };
        let head = Slice::whole(Site::Block(0, At::Pattern)).head(1);
        let query = head.clone().pos(Positions::PerRow(vec![2, 0]));
        assert_eq!(taken(query.clone()), [[15, 16, 17], [27, 28, 29]]);
        let key = |key| Slice { key, ..query.clone() };
        assert_eq!(taken(key(Positions::PerRow(vec![1, 2]))), [[16], [29]]);
        assert_eq!(taken(key(Positions::At(vec![0, 2]))), [[15, 17], [27, 29]]);
        assert!(key(Positions::At(vec![3])).take(&x).is_err());
    }

    #[test]
    fn slices_resolve_absolute_positions_inside_a_window() {
        let slice = Slice::whole(Site::Block(0, At::Z)).head(1).pos(Positions::At(vec![5]));
        let parts = slice.resolve(&[1, 3, 2, 2], 4).unwrap();
        assert_eq!(parts, [vec![vec![0], vec![1], vec![1], vec![0, 1]]]);
        assert!(slice.resolve(&[1, 3, 2, 2], 6).is_err(), "left of the window");
        assert!(slice.resolve(&[1, 3, 1, 2], 4).is_err(), "head out of range");
        let from = |pos| Slice::whole(Site::Embed).pos(Positions::From(pos)).resolve(&[1, 3, 1], 4);
        assert_eq!(from(2).unwrap()[0][1], [0, 1, 2]);
        assert_eq!(from(5).unwrap()[0][1], [1, 2]);
        assert!(from(7).is_err(), "nothing is there");
        assert!(Slice::whole(Site::Embed).head(0).resolve(&[1, 3, 2], 0).is_err());
    }
}
