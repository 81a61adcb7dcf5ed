//! Prompts of unequal length in one batch: which columns hold a row's own tokens.
//!
//! A padded column is computed as the nearest own token of its row at that token's position, so that every value there
//! is one the model can take; it attends to nothing and nothing attends to it. Positions count from a row's first own
//! token. A batch without padding carries none of this.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};

/// The side on which shorter rows are filled up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pad {
    /// Prompts end together: for generation.
    Left,
    /// Prompts begin together: a position is the same column in every row.
    Right,
}

impl Pad {
    /// The token id that stands in a padded column; no vocabulary has it.
    pub const ID: u32 = u32::MAX;

    /// A row filled up to `columns`.
    pub fn fill(self, row: &[u32], columns: usize) -> Vec<u32> {
        let padding = vec![Pad::ID; columns.saturating_sub(row.len())];
        match self {
            Pad::Left => [&padding, row].concat(),
            Pad::Right => [row, &padding].concat(),
        }
    }

    /// Rows of token ids → `[batch, pos]`.
    pub(super) fn batch(self, rows: &[&[u32]], device: &Device) -> Result<Tensor> {
        let columns = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let filled: Vec<u32> = rows.iter().flat_map(|row| self.fill(row, columns)).collect();
        Ok(Tensor::from_vec(filled, (rows.len(), columns), device)?)
    }
}

/// The columns of each row that hold its own tokens; none recorded where all do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Padding {
    own: Option<Arc<[Range<usize>]>>,
    /// How many columns the batch will have in the end, if it grows and that was declared.
    end: Option<usize>,
}

impl Padding {
    /// The padding of tokens `[batch, pos]`, marked by [`Pad::ID`] at either end of a row.
    ///
    /// A row that is not filled up on the right stays open there: columns that come later are its own too.
    pub(super) fn of(tokens: &Tensor) -> Result<Padding> {
        let (_, columns) = tokens.dims2()?;
        let rows: Vec<Vec<u32>> = tokens.to_vec2()?;
        if rows.iter().flatten().all(|&id| id != Pad::ID) {
            return Ok(Padding::default());
        }
        let own = |(row, ids): (usize, &Vec<u32>)| {
            let is_own = |id: &u32| *id != Pad::ID;
            let (Some(start), Some(last)) = (ids.iter().position(is_own), ids.iter().rposition(is_own))
            else {
                return Err(Error::input(
                    format!("row {row} of the batch is nothing but padding"),
                    "leave it out",
                ));
            };
            if let Some(gap) = (start..last).find(|&column| ids[column] == Pad::ID) {
                return Err(Error::input(
                    format!("row {row} of the batch has padding between its tokens, in column {gap}"),
                    "pad rows on the left or on the right",
                ));
            }
            Ok(start..if last + 1 == columns { usize::MAX } else { last + 1 })
        };
        let own: Vec<Range<usize>> = rows.iter().enumerate().map(own).collect::<Result<_>>()?;
        Ok(Padding { own: Some(own.into()), end: None })
    }

    /// The columns, out of `columns`, that hold a row's own tokens. Rows beyond those recorded are copies of them, in
    /// the same order.
    pub fn own(&self, row: usize, columns: usize) -> Range<usize> {
        match &self.own {
            None => 0..columns,
            Some(own) => {
                let Range { start, end } = own[row % own.len()].clone();
                start.min(columns)..end.min(columns)
            }
        }
    }

    /// Whether every row goes on with the columns that come later: none is filled up on the right.
    pub(super) fn is_open(&self) -> bool {
        self.own.iter().flat_map(|own| own.iter()).all(|own| own.end == usize::MAX)
    }

    /// The columns that are a row's own, also of those yet to come.
    pub(super) fn open(&self, row: usize) -> Range<usize> {
        self.own.as_ref().map_or(0..usize::MAX, |own| own[row % own.len()].clone())
    }

    /// The ranges, for the attention mask; `None` where every column is a row's own.
    pub(super) fn ranges(&self) -> Option<Arc<[Range<usize>]>> {
        self.own.clone()
    }

    /// Length of the longest row, of `columns`.
    pub(super) fn longest(&self, columns: usize) -> usize {
        (0..self.rows()).map(|row| self.own(row, columns).len()).max().unwrap_or(columns)
    }

    /// The same, for a batch that will have this many columns in the end.
    pub(super) fn ending_at(self, columns: usize) -> Padding {
        Padding { end: Some(columns), ..self }
    }

    /// How many tokens the text of each row has in the end, where the batch has `columns` now; one number where all rows
    /// have as many.
    pub(super) fn lengths(&self, batch: usize, columns: usize) -> Vec<usize> {
        let columns = self.end.map_or(columns, |end| end.max(columns));
        let rows = if self.own.is_none() { 1 } else { batch };
        (0..rows).map(|row| self.own(row, columns).len()).collect()
    }

    /// The padding of a batch of these rows.
    pub(super) fn of_rows(&self, rows: &[usize]) -> Padding {
        let of = |own: &Arc<[Range<usize>]>| rows.iter().map(|row| own[row % own.len()].clone()).collect();
        Padding { own: self.own.as_ref().map(of), end: self.end }
    }

    /// How many rows may differ.
    fn rows(&self) -> usize {
        self.own.as_ref().map_or(1, |own| own.len())
    }

    /// Tokens `[batch, pos]` with every padded column given its nearest own token.
    pub(super) fn filled(&self, tokens: &Tensor) -> Result<Tensor> {
        if self.own.is_none() {
            return Ok(tokens.clone());
        }
        let mut rows: Vec<Vec<u32>> = tokens.to_vec2()?;
        for (row, ids) in rows.iter_mut().enumerate() {
            let columns = ids.len();
            *ids = (0..columns).map(|column| ids[self.nearest(row, column, columns)]).collect();
        }
        Ok(Tensor::new(rows, tokens.device())?)
    }

    /// Prompt positions of `count` columns from `first` on: `[pos]` when all rows share them, else `[batch, pos]`.
    pub(super) fn positions(
        &self,
        batch: usize,
        first: usize,
        count: usize,
        device: &Device,
    ) -> Result<Tensor> {
        let columns = first + count;
        if self.own.is_none() {
            return Ok(Tensor::arange(first as u32, columns as u32, device)?);
        }
        let position =
            |row, column| (self.nearest(row, column, columns) - self.own(row, columns).start) as u32;
        let all = (0..batch).flat_map(|row| (first..columns).map(move |column| position(row, column)));
        Ok(Tensor::from_vec(all.collect(), (batch, count), device)?)
    }

    /// The own column of a row that is nearest to this one.
    fn nearest(&self, row: usize, column: usize, columns: usize) -> usize {
        let own = self.own(row, columns);
        column.clamp(own.start, own.end.max(own.start + 1) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(rows: &[&[u32]], pad: Pad) -> Tensor {
        pad.batch(rows, &Device::Cpu).unwrap()
    }

    #[test]
    fn positions_count_from_the_first_own_token() {
        let rows: [&[u32]; 2] = [&[7, 8, 9], &[5]];
        for (pad, own, filled, positions) in [
            (Pad::Left, [0..3, 2..3], [[7, 8, 9], [5, 5, 5]], [[0, 1, 2], [0, 0, 0]]),
            (Pad::Right, [0..3, 0..1], [[7, 8, 9], [5, 5, 5]], [[0, 1, 2], [0, 0, 0]]),
        ] {
            let tokens = batch(&rows, pad);
            let padding = Padding::of(&tokens).unwrap();
            assert_eq!([padding.own(0, 3), padding.own(1, 3)], own);
            assert_eq!(padding.own(3, 3), own[1], "copies of the rows");
            assert_eq!(padding.filled(&tokens).unwrap().to_vec2::<u32>().unwrap(), filled);
            let found = padding.positions(2, 0, 3, &Device::Cpu).unwrap();
            assert_eq!(found.to_vec2::<u32>().unwrap(), positions);
        }
        let left = Padding::of(&batch(&rows, Pad::Left)).unwrap();
        let later = left.positions(2, 3, 2, &Device::Cpu).unwrap().to_vec2::<u32>().unwrap();
        assert_eq!(later, [[3, 4], [1, 2]], "rows that end together go on together");
    }

    #[test]
    fn without_padding_there_is_nothing_to_carry() {
        assert_eq!(Padding::of(&batch(&[&[1, 2], &[3, 4]], Pad::Left)).unwrap(), Padding::default());
    }

    #[test]
    fn padding_stands_at_the_ends() {
        let refused = |rows: &[&[u32]]| Padding::of(&batch(rows, Pad::Right)).unwrap_err().to_string();
        assert!(refused(&[&[1, Pad::ID, 2]]).contains("between its tokens, in column 1"));
        assert!(refused(&[&[1], &[Pad::ID]]).contains("row 1 of the batch is nothing but padding"));
    }
}
