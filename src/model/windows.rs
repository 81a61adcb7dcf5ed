//! Many windows in one pass: each begins where its own change is, and all share the products with the weights.
//!
//! Layer by layer, the windows that have begun are computed in *tiles* of as many rows as keep the processor's product units busy.
//! In the last block only what is read goes on behind the keys and values.

use std::collections::BTreeSet;

use candle_core::Tensor;

use super::tap::Part;
use super::window::{Entry, Left};
use super::{Base, Padding, Stream, Tap, Transformer};
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::record::of_rows;
use crate::site::Site;

/// Rows of a product that make good use of the processor's caches and units; a window should have no more.
pub(crate) const TILE: usize = 512;

/// Where sequences begin, and where they are read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Start {
    /// Sites that are wanted here and would make the others in a tile be computed in another way: a tile holds only what agrees in
    /// them.
    pub apart: BTreeSet<Site>,
    /// The layer.
    pub layer: usize,
    /// Where in that layer.
    pub entry: Entry,
    /// The first position that is computed.
    pub first_pos: usize,
    /// How many are.
    pub columns: usize,
    /// The position that is read, the last that is computed in a causal model.
    pub read: usize,
}

impl Start {
    /// The entry, of those that begin inside of this layer's block.
    fn inside(&self, layer: usize) -> Option<Entry> {
        (self.layer == layer && self.entry > Entry::ResidPre).then_some(self.entry)
    }
}

/// Sequences that begin at the same place and are read at the same position, each a copy of a row of a base run.
pub struct Window<'h> {
    start: Start,
    /// For each sequence its row of the base.
    rows: Vec<usize>,
    /// What watches and changes them.
    hook: Box<dyn Hook + 'h>,
    padding: Padding,
    learned: Option<Tensor>,
    /// The stream `[sequence, pos, d_model]` that enters the next layer, once they have begun.
    resid: Option<Tensor>,
}

impl<'h> Window<'h> {
    /// Copies of these rows of the base run, that begin and are read as `start` says.
    pub fn new(
        base: &Base,
        start: &Start,
        rows: Vec<usize>,
        mut hook: Box<dyn Hook + 'h>,
    ) -> Result<Window<'h>> {
        let Start { first_pos, columns, read, .. } = *start;
        let (_, length, _) = base.dims()?;
        if read >= length || first_pos + columns > length || !(first_pos..first_pos + columns).contains(&read)
        {
            let (index, size, site) = (read, length, "a window of the prompt".to_owned());
            return Err(Error::OutOfRange { what: "position", index, size, site });
        }
        let own = |row: usize| base.padding.own(row, length);
        if let Some(&row) = rows.iter().find(|row| !own(**row).contains(&read)) {
            let message = format!("column {read} of row {row} is padding: there is nothing to read");
            return Err(Error::input(message, format!("its own tokens are in columns {:?}", own(row))));
        }
        let learned = match base.stream(0, first_pos)?.learned {
            Some(learned) => {
                let learned = of_rows(&learned.narrow(1, 0, columns)?, &rows)?;
                let wanted = hook.wants(Site::PosEmbed);
                Some(if wanted { hook.visit(Site::PosEmbed, first_pos, learned)? } else { learned })
            }
            None => None,
        };
        // a text is as long as it was: only what cannot matter to its right is left out
        let padding = base.padding.of_rows(&rows).ending_at(length);
        Ok(Window { start: start.clone(), rows, hook, padding, learned, resid: None })
    }

    /// Rows of a product that the window takes part with.
    pub fn size(&self) -> usize {
        self.rows.len() * self.start.columns
    }

    fn part(&mut self, layer: usize, last: bool) -> Part<'_> {
        Part {
            hook: &mut *self.hook,
            padding: &self.padding,
            batch: self.rows.len(),
            first_pos: self.start.first_pos,
            pos: self.start.columns,
            read: last.then_some(self.start.read),
            rows: Some(&self.rows),
            begins: self.start.inside(layer),
        }
    }

    /// The stream that enters a layer, of those that begin at its beginning or before.
    fn entering(&mut self, layer: usize, base: &Base) -> Result<Option<Tensor>> {
        if self.start.inside(layer).is_some() {
            return Ok(None);
        }
        if let Some(resid) = self.resid.take() {
            return Ok(Some(resid));
        }
        let Start { first_pos, columns, .. } = self.start;
        let resid = base.stream(layer, first_pos)?.resid.narrow(1, 0, columns)?;
        of_rows(&resid, &self.rows).map(Some)
    }
}

impl Transformer {
    /// Runs windows to the end → what the unembedding reads of each sequence `[Σ sequences, d_model]`. `between` is called after each
    /// tile.
    pub fn run_windows(
        &self,
        windows: &mut [Window],
        base: &Base,
        between: &dyn Fn() -> Result<()>,
    ) -> Result<Tensor> {
        let layers = self.config.n_layers;
        let first = windows.iter().map(|window| window.start.layer).min().unwrap_or(layers);
        for layer in first..layers {
            // those that begin later in the block come later in a tile
            let mut begun: Vec<&mut Window> = windows.iter_mut().filter(|w| w.start.layer <= layer).collect();
            begun.sort_by(|a, b| {
                let key = |w: &Window| w.start.inside(layer).unwrap_or(Entry::ResidPre);
                a.start.apart.cmp(&b.start.apart).then(key(a).cmp(&key(b)))
            });
            let mut rest = begun.as_mut_slice();
            while let Some(first) = rest.first() {
                let alike = rest.iter().take_while(|window| window.start.apart == first.start.apart);
                let count = filled(alike.map(|window| window.size()), TILE);
                let (now, later) = rest.split_at_mut(count);
                self.run_tile(layer, now, base)?;
                between()?;
                rest = later;
            }
        }
        let normed = windows.iter_mut().map(|window| {
            let site = || "the end of a window's pass".to_owned();
            let none = || Error::NotRecorded { site: site(), kept: "nothing".into() };
            let resid = window.resid.take().ok_or_else(none)?;
            let (padding, first_pos) = (window.padding.clone(), window.start.read);
            let stream = Stream { layer: layers, first_pos, padding, resid, learned: None };
            Ok(self.final_norm(&stream, &mut *window.hook)?.squeeze(1)?)
        });
        Ok(Tensor::cat(&normed.collect::<Result<Vec<_>>>()?, 0)?)
    }

    fn run_tile(&self, layer: usize, windows: &mut [&mut Window], base: &Base) -> Result<()> {
        let last = layer + 1 == self.config.n_layers;
        let entering: Vec<Option<Tensor>> =
            windows.iter_mut().map(|window| window.entering(layer, base)).collect::<Result<_>>()?;
        let learned: Vec<Option<Tensor>> = windows.iter().map(|window| window.learned.clone()).collect();
        let parts = windows.iter_mut().map(|window| window.part(layer, last)).collect();
        let mut tap = Tap::several(layer, parts);
        let entering: Vec<Tensor> = entering.into_iter().flatten().collect();
        // where no window has begun, nothing is computed before the first does
        let x = match entering.is_empty() {
            true => Tensor::zeros((1, 1, self.config.d_model), self.dtype(), self.device())?,
            false => tap.joined(&entering)?,
        };
        let learned: Vec<Tensor> = learned.into_iter().take(entering.len()).flatten().collect();
        let learned = if learned.is_empty() { None } else { Some(tap.joined(&learned)?) };
        drop(entering);
        let x = self.block(layer)?.forward(x, learned.as_ref(), &mut Left::Base(Some(base)), &mut tap)?;
        let each = tap.split(&x)?;
        for (window, resid) in windows.iter_mut().zip(each) {
            window.resid = Some(resid);
        }
        Ok(())
    }
}

/// How many of these fit a tile; at least one.
fn filled(sizes: impl Iterator<Item = usize>, tile: usize) -> usize {
    let mut total = 0;
    let fits = |size: &usize| {
        total += size;
        total == *size || total <= tile
    };
    sizes.take_while(fits).count()
}
