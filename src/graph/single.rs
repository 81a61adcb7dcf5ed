//! Cutting one edge: what its reader reads then is known before anything runs, so that a sweep puts it there.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::written::behind;
use super::{Exchange, Reader, Writer};
use crate::edit::{Edit, Op};
use crate::error::{Error, Result};
use crate::ops;
use crate::site::{At, Positions, Site, Slice};
use crate::sweep::Cell;

/// Cut edges of one writer that are read at one place: their numbers among the cells, and the reader's head.
type Cuts = Vec<(usize, usize)>;

impl Exchange<'_> {
    /// Bytes of the values of a cell, at most.
    pub(super) fn cell_bytes(&self) -> Result<u64> {
        let (rows, pos, d_model) = self.base.dims()?;
        let window = pos.saturating_sub(self.first_pos).max(1);
        Ok((rows * window * d_model * self.model.dtype().size_in_bytes()) as u64)
    }

    /// A cell for each of these edges, cut by itself. Readers are taken layer by layer, and so should the edges be; so many bytes may
    /// be taken for the inputs of readers at once.
    pub(super) fn cells(&self, edges: &[usize], bytes: u64) -> Result<Vec<Cell>> {
        let mut cells: Vec<Option<Cell>> = vec![None; edges.len()];
        // what is read at one place is the same for all its readers but for the heads' own weights
        let mut places: BTreeMap<(Site, At), BTreeMap<usize, Cuts>> = BTreeMap::new();
        for (index, &edge) in edges.iter().enumerate() {
            let (writer, reader) = self.graph.ends(edge);
            let (stream, at, head) = self.reads(self.graph.readers()[reader]);
            places.entry((stream, at)).or_default().entry(writer).or_default().push((index, head));
        }
        // the sum, its norm and what is read of it
        let together = (bytes / (8 * self.cell_bytes()?)).clamp(1, 1 << 16) as usize;
        for ((stream, at), by_writer) in places {
            let x = self.window(self.stream(stream)?)?;
            let by_writer: Vec<(usize, Cuts)> = by_writer.into_iter().collect();
            for some in by_writer.chunks(together) {
                let changed = some.iter().map(|(writer, _)| self.with(&x, *writer));
                let changed = Tensor::cat(&changed.collect::<Result<Vec<_>>>()?, 0)?; // [writer · row, pos, d_model]
                let values = self.read_from(&changed, stream, at)?;
                let rows = x.dim(0)?;
                for (i, (_, readers)) in some.iter().enumerate() {
                    let own = values.narrow(0, i * rows, rows)?;
                    for &(index, head) in readers {
                        cells[index] = Some(self.cell(stream, at, head, &own)?);
                    }
                }
            }
        }
        cells
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::Tensor("an edge without a cell".into()))
    }

    /// The stream that a reader reads, the place where its input is put, and which head it is there.
    fn reads(&self, reader: Reader) -> (Site, At, usize) {
        match reader {
            Reader::Head { layer, channel, head, .. } => {
                (Site::Block(layer, At::ResidPre), channel.output(), head)
            }
            Reader::Mlp(layer) => {
                let mid = self.model.blocks.get(layer).is_some_and(|block| block.mlp_reads_mid());
                (Site::Block(layer, if mid { At::ResidMid } else { At::ResidPre }), At::MlpIn, 0)
            }
            Reader::Logits => {
                let last = self.model.config.n_layers.saturating_sub(1);
                (Site::Block(last, At::ResidPost), At::ResidPost, 0)
            }
        }
    }

    /// A stream of the base run, from its first position on.
    fn stream(&self, site: Site) -> Result<&Tensor> {
        match site {
            Site::Block(_, At::ResidPost) => Ok(&self.base.last),
            site => self.base.kept.get(site),
        }
    }

    /// Positions first_pos.. of a value `[rows, pos, d_model]` of the base run.
    pub(super) fn window(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.narrow(1, self.first_pos, x.dim(1)?.saturating_sub(self.first_pos))?)
    }

    /// x with the other value of a writer in the place of its own.
    fn with(&self, x: &Tensor, writer: usize) -> Result<Tensor> {
        let change = (self.window(&self.other.each[writer])? - self.window(&self.own.each[writer])?)?;
        let normed = match self.graph.writers()[writer] {
            Writer::Head(layer, _) => behind(self.model, layer)?.zip(self.own.sum(layer)),
            _ => None,
        };
        Ok(match normed {
            None => (x + change)?,
            Some((norm, sum)) => {
                let sum = self.window(sum)?;
                (x + (norm.apply(&(&sum + change)?)? - norm.apply(&sum)?)?)?
            }
        })
    }

    /// What stands at a reader's place when the stream is x `[n · row, pos, d_model]`.
    fn read_from(&self, x: &Tensor, stream: Site, at: At) -> Result<Tensor> {
        let Site::Block(layer, _) = stream else { return Ok(x.clone()) };
        let block = self.model.block(layer)?;
        if !matches!(at, At::Q | At::K | At::V) {
            return Ok(x.clone());
        }
        let n = block.ln1.apply(x)?;
        let learned = self.base.stream(layer, self.first_pos)?.learned.filter(|_| at != At::V);
        let read = match learned {
            None => n,
            Some(learned) => {
                let copies = x.dim(0)? / learned.dim(0)?.max(1);
                ops::add(&n, &learned.repeat((copies, 1, 1))?)?
            }
        };
        block.attention.project(at, &read)
    }

    /// What stands there `[row, pos, …]` put in its place, of a head alone where there are heads.
    fn cell(&self, stream: Site, at: At, head: usize, values: &Tensor) -> Result<Cell> {
        let Site::Block(layer, _) = stream else { return Ok(Cell { edits: Vec::new() }) };
        let mut slice = Slice::whole(Site::Block(layer, at)).pos(Positions::From(self.first_pos));
        let mut values = values.clone();
        if values.rank() == 4 {
            (slice, values) = (slice.head(head), values.narrow(2, head, 1)?);
        }
        // a copy: the other heads' values need not be kept for it
        Ok(Cell { edits: vec![Edit { at: slice, op: Op::Set(values.force_contiguous()?) }] })
    }
}
