//! The window of a pass and the base run it reads from.

use std::collections::BTreeSet;

use candle_core::Tensor;

use super::cache::KeysValues;
use super::{Attention, Block, Cache, Padding, PositionKind, Tap, Transformer};
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::record::{Activations, Recorder, at_positions, of_rows};
use crate::site::{At, Axis, Site};

/// The residual stream entering a layer, from a position on: the state of a pass.
#[derive(Debug, Clone)]
pub struct Stream {
    /// The block that reads it next; `n_layers` after the last.
    pub layer: usize,
    /// Column of the batch, which is the prompt position unless rows are padded, of its first position.
    pub first_pos: usize,
    /// Which columns of the batch hold a row's own tokens.
    pub padding: Padding,
    /// `[batch, pos - first_pos, d_model]`.
    pub resid: Tensor,
    /// Position vectors that queries and keys read in every layer, of the same shape (shortformer positions only).
    pub learned: Option<Tensor>,
}

impl Stream {
    /// What queries and keys read besides, for every row; a batch of several copies of the rows has it copied too.
    pub(super) fn learned_for_all(&self) -> Result<Option<Tensor>> {
        let (batch, Some(learned)) = (self.resid.dim(0)?, &self.learned) else { return Ok(None) };
        let rows = learned.dim(0)?;
        Ok(Some(if rows == batch { learned.clone() } else { learned.repeat((batch / rows.max(1), 1, 1))? }))
    }

    /// The stream at one position per row, for a metric that reads only there: `[batch, 1, d_model]`.
    ///
    /// Only [`Transformer::unembed`] may follow: positions of the rows differ.
    pub fn at(&self, positions: &[usize]) -> Result<Stream> {
        let (_, pos, _) = self.resid.dims3()?;
        let inside = |&p: &usize| {
            p.checked_sub(self.first_pos).filter(|&p| p < pos).ok_or_else(|| Error::OutOfRange {
                what: "position",
                index: p,
                size: self.first_pos + pos,
                site: "the stream".into(),
            })
        };
        let inside: Vec<usize> = positions.iter().map(inside).collect::<Result<_>>()?;
        let own = |row| self.padding.own(row, self.first_pos + pos);
        if let Some((row, p)) = positions.iter().enumerate().find(|&(row, p)| !own(row).contains(p)) {
            let message = format!("column {p} of row {row} is padding: there is nothing to read");
            return Err(Error::input(message, format!("its own tokens are in columns {:?}", own(row))));
        }
        Ok(Stream { resid: at_positions(&self.resid, &inside)?.unsqueeze(1)?, ..self.clone() })
    }
}

/// Where in a block a window may begin: what comes before is as the base run had it, and need not be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// At [`At::ResidPre`]: the whole block.
    ResidPre,
    /// At [`At::Z`]: no attention.
    Z,
    /// At [`At::AttnOut`].
    AttnOut,
    /// At [`At::ResidMid`], or where it would stand: the MLP alone.
    Mid,
    /// At [`At::MlpOut`].
    MlpOut,
    /// At [`At::ResidPost`]: nothing of the block.
    ResidPost,
}

impl Entry {
    /// Every entry, in execution order.
    pub const ALL: [Entry; 6] =
        [Entry::ResidPre, Entry::Z, Entry::AttnOut, Entry::Mid, Entry::MlpOut, Entry::ResidPost];

    /// The latest entry from which a change at this place is seen.
    pub fn before(at: At) -> Entry {
        match at {
            _ if at < At::Z => Entry::ResidPre,
            _ if at < At::AttnOut => Entry::Z,
            At::AttnOut => Entry::AttnOut,
            _ if at < At::MlpOut => Entry::Mid,
            At::MlpOut => Entry::MlpOut,
            _ => Entry::ResidPost,
        }
    }

    /// What a base must hold of a block for windows to begin here.
    pub fn needs(self, block: &Block) -> &'static [At] {
        match (self, block.has_mid()) {
            (Entry::ResidPre, _) => &[At::ResidPre],
            (Entry::Z, _) => &[At::ResidPre, At::Z],
            (Entry::AttnOut, _) => &[At::ResidPre, At::AttnOut],
            (Entry::Mid, true) => &[At::ResidPre, At::ResidMid],
            (Entry::Mid, false) => &[At::ResidPre, At::AttnOut],
            (Entry::MlpOut, true) => &[At::ResidPre, At::ResidMid, At::MlpOut],
            (Entry::MlpOut, false) => &[At::ResidPre, At::AttnOut, At::MlpOut],
            (Entry::ResidPost, _) => &[At::ResidPost],
        }
    }
}

/// A recorded run that windowed passes read from: residual streams, keys (as attended to) and values of every layer.
#[derive(Debug, Clone)]
pub struct Base {
    /// The recorded activations; holds at least the sites of [`Base::needs`].
    pub kept: Activations,
    /// The stream behind the last block `[batch, pos, d_model]`.
    pub last: Tensor,
    /// Which columns of the run hold a row's own tokens.
    pub padding: Padding,
    /// Whether position vectors are read in every layer.
    pub shortformer: bool,
}

/// What a base must hold for windows to begin where a site is.
fn beginning(model: &Transformer, site: Site) -> Vec<Site> {
    let Site::Block(layer, at) = site else { return Vec::new() };
    let needs = model.blocks.get(layer).map_or(&[][..], |block| Entry::before(at).needs(block));
    needs.iter().map(|&at| Site::Block(layer, at)).collect()
}

/// The sites behind the last block.
const FINAL: [Site; 3] = [Site::FinalScale, Site::FinalNorm, Site::Logits];

impl Base {
    /// Whether a base must hold this site.
    pub fn needs(model: &Transformer, site: Site) -> bool {
        match site {
            Site::Block(layer, at) => {
                let key = model.blocks.get(layer).map(|block| block.attention.key_site());
                at == At::ResidPre || Some(at) == key || at == At::V
            }
            Site::PosEmbed => model.config.positions == PositionKind::Shortformer,
            _ => false,
        }
    }

    /// Runs tokens `[batch, pos]` and keeps what windows need, the sites `also` says yes to, and what windows need that begin at
    /// these: a change of such a site is computed from there on, and no sooner.
    pub fn record(model: &Transformer, tokens: &Tensor, also: impl Fn(Site) -> bool) -> Result<Base> {
        Base::changed(model, tokens, &mut (), also)
    }

    /// The same of a run that a hook changes before or inside the blocks: what lies outside a window is then that of the changed
    /// run.
    pub fn changed(
        model: &Transformer,
        tokens: &Tensor,
        hook: &mut dyn Hook,
        also: impl Fn(Site) -> bool,
    ) -> Result<Base> {
        let wanted: BTreeSet<Site> = model.every_site().filter(|&site| also(site)).collect();
        let beginnings = wanted.iter().flat_map(|site| beginning(model, *site));
        let kept: BTreeSet<Site> = wanted.iter().copied().chain(beginnings).collect();
        let mut hook = (hook, Recorder::new(|site| Base::needs(model, site) || kept.contains(&site)));
        let stream = model.embed(tokens, &mut hook)?;
        let stream = model.run(stream, None, model.config.n_layers, &mut hook)?;
        // logits cost more than a block, and are read at few positions
        if FINAL.into_iter().any(&also) {
            model.unembed(&stream, &mut hook)?;
        }
        let shortformer = model.config.positions == PositionKind::Shortformer;
        Ok(Base { kept: hook.1.kept, last: stream.resid, padding: stream.padding, shortformer })
    }

    /// The run of other tokens `[batch, pos]` that are this run's to the left of `first_pos`, in every row: only the rest is
    /// computed. It keeps the same sites.
    pub fn beside(&self, model: &Transformer, tokens: &Tensor, first_pos: usize) -> Result<Base> {
        let (_, pos, _) = self.dims()?;
        let first_pos = first_pos.min(pos.saturating_sub(1));
        if first_pos == 0 || !model.config.causal || self.padding.ranges().is_some() {
            return Base::record(model, tokens, |site| self.kept.0.contains_key(&site));
        }
        let mut recorder = Recorder::new(|site| self.kept.0.contains_key(&site));
        let own = tokens.narrow(1, first_pos, pos - first_pos)?.contiguous()?;
        let stream = model.embed_from(&own, first_pos, Padding::of(tokens)?, &mut recorder)?;
        let stream = model.run(stream, Some(self), model.config.n_layers, &mut recorder)?;
        if FINAL.iter().any(|site| self.kept.0.contains_key(site)) {
            model.unembed(&stream, &mut recorder)?;
        }
        let mut kept = Activations::default();
        for (site, right) in recorder.kept.0 {
            let axis =
                site.axes().iter().position(|axis| matches!(axis, Axis::Pos | Axis::Query)).unwrap_or(1);
            let left = self.kept.get(site)?.narrow(axis, 0, first_pos)?;
            kept.0.insert(site, Tensor::cat(&[left, right], axis)?);
        }
        let last = Tensor::cat(&[self.last.narrow(1, 0, first_pos)?, stream.resid], 1)?;
        Ok(Base { kept, last, padding: stream.padding, shortformer: self.shortformer })
    }

    /// Batch, positions and d_model.
    pub fn dims(&self) -> Result<(usize, usize, usize)> {
        Ok(self.last.dims3()?)
    }

    /// The run's logits `[batch, d_vocab]` at one position of each row.
    pub fn logits(&self, model: &Transformer, read: &[usize]) -> Result<Tensor> {
        Ok(model.unembed(&self.end(model).at(read)?, &mut ())?.squeeze(1)?)
    }

    /// The stream behind the last block.
    pub fn end(&self, model: &Transformer) -> Stream {
        let (layer, padding, resid) = (model.config.n_layers, self.padding.clone(), self.last.clone());
        Stream { layer, first_pos: 0, padding, resid, learned: None }
    }

    /// The stream that entered `layer`, from `first_pos` on.
    pub fn stream(&self, layer: usize, first_pos: usize) -> Result<Stream> {
        let resid = self.kept.block(layer, At::ResidPre)?;
        let pos = resid.dim(1)?;
        if first_pos >= pos {
            let (index, size, site) = (first_pos, pos, Site::Block(layer, At::ResidPre).to_string());
            return Err(Error::OutOfRange { what: "position", index, size, site });
        }
        let resid = resid.narrow(1, first_pos, pos - first_pos)?;
        let learned = match self.kept.0.get(&Site::PosEmbed).filter(|_| self.shortformer) {
            Some(learned) => Some(learned.narrow(1, first_pos, pos - first_pos)?),
            None => None,
        };
        Ok(Stream { layer, first_pos, padding: self.padding.clone(), resid, learned })
    }
}

impl Transformer {
    /// Logits `[batch, d_vocab]` at one position per row, and the activations at the sites `wanted` says yes to. The
    /// final sites (scale, norm, logits) hold only the rows that are read.
    pub fn read(
        &self,
        tokens: &Tensor,
        positions: &[usize],
        wanted: impl Fn(Site) -> bool,
    ) -> Result<(Tensor, Activations)> {
        let mut recorder = Recorder::new(wanted);
        let stream = self.embed(tokens, &mut recorder)?;
        let stream = self.run(stream, None, self.config.n_layers, &mut recorder)?;
        let logits = self.unembed(&stream.at(positions)?, &mut recorder)?.squeeze(1)?;
        Ok((logits, recorder.kept))
    }

    /// Bytes that recording these sites takes for one prompt of `pos` tokens.
    pub fn recorded_bytes(&self, pos: usize, wanted: impl Fn(Site) -> bool) -> u64 {
        let numbers = |site: Site| self.shape(site, 1, pos).iter().map(|&n| n as u64).product::<u64>();
        let total: u64 = self.sites().into_iter().filter(|&site| wanted(site)).map(numbers).sum();
        total * self.dtype().size_in_bytes() as u64
    }
}

/// Where keys and values left of a window come from.
pub(crate) enum Left<'a> {
    /// A recorded run.
    Base(Option<&'a Base>),
    /// A sequence that grows, and that takes up the window's own.
    Cache(&'a mut Cache),
}

/// Keys and values to the left of a window in one layer.
pub(crate) enum Prefix<'a> {
    /// The window begins at position 0.
    Nothing,
    /// Recorded ones.
    Recorded(Tensor, Tensor),
    /// Those of a growing sequence, of this many positions.
    Growing(&'a mut KeysValues, usize),
}

impl<'a> Left<'a> {
    /// The recorded run, if it is one.
    pub(super) fn base(&self) -> Option<&'a Base> {
        match self {
            Left::Base(base) => *base,
            Left::Cache(_) => None,
        }
    }

    /// What lies left of a part in the layer that a pass is in. A base's rows are repeated when the batch holds several copies
    /// of them (copy-major: row = copy · base rows + base row).
    pub(super) fn of(&mut self, attention: &Attention, tap: &Tap, part: usize) -> Result<Prefix<'_>> {
        let (layer, part) = (tap.layer, &tap.parts[part]);
        let (first_pos, batch) = (part.first_pos, part.batch);
        let base = match self {
            Left::Cache(cache) => return Ok(Prefix::Growing(cache.layer(layer)?, first_pos)),
            Left::Base(_) if first_pos == 0 => return Ok(Prefix::Nothing),
            Left::Base(base) => base.ok_or_else(|| Error::NotRecorded {
                site: format!("the keys and values left of position {first_pos}"),
                kept: "no base".into(),
            })?,
        };
        let k = attention.keys(base.kept.block(layer, attention.key_site())?)?;
        let v = base.kept.block(layer, At::V)?;
        let left = |x: &Tensor| -> Result<Tensor> {
            let (rows, ..) = x.dims4()?;
            let x = x.narrow(1, 0, first_pos)?;
            if let Some(rows) = part.rows {
                return of_rows(&x, rows);
            }
            if rows == batch {
                return Ok(x);
            }
            if rows == 0 || !batch.is_multiple_of(rows) {
                let (what, got) = ("the base run's batch".to_owned(), vec![rows]);
                return Err(Error::Shape { what, got, expected: format!("a divisor of {batch}") });
            }
            Ok(x.repeat((batch / rows, 1, 1, 1))?)
        };
        Ok(Prefix::Recorded(left(&k)?, left(v)?))
    }
}

impl Prefix<'_> {
    /// All keys and values: those to the left, then the window's own.
    pub(super) fn extend(self, k: Tensor, v: Tensor) -> Result<(Tensor, Tensor)> {
        Ok(match self {
            Prefix::Nothing => (k, v),
            Prefix::Recorded(left_k, left_v) => {
                (Tensor::cat(&[left_k, k], 1)?, Tensor::cat(&[left_v, v], 1)?)
            }
            Prefix::Growing(layer, pos) => layer.extend(pos, &k, &v)?,
        })
    }
}
