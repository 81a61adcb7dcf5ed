//! Where a pass stands: which layer, which sequences from which position on, and whom to call at each place.

use candle_core::Tensor;

use super::window::Entry;
use super::{Base, Padding, Rotary};
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::ops::Stretch;
use crate::record::of_rows;
use crate::site::{At, Site};

/// Sequences that share their first position and their hook.
pub(crate) struct Part<'a> {
    pub(super) hook: &'a mut dyn Hook,
    /// Which columns hold a sequence's own tokens.
    pub(super) padding: &'a Padding,
    pub(super) batch: usize,
    pub(super) first_pos: usize,
    pub(super) pos: usize,
    /// The only position that anything is read from, once the last keys and values are made.
    pub(super) read: Option<usize>,
    /// The row of the base run that each sequence is a copy of; all of them, over and over, if not said.
    pub(super) rows: Option<&'a [usize]>,
    /// Where the part begins, if it does not come from the layer before.
    pub(super) begins: Option<Entry>,
}

/// Calls hooks at places. Tensors of a pass with one part are `[batch, pos, …]`; of several they are `[1, Σ batch · pos, …]`, part after
/// part, so that all share one product with the weights.
pub(crate) struct Tap<'a> {
    pub(super) layer: usize,
    pub(super) parts: Vec<Part<'a>>,
    /// Whether tensors hold several parts.
    flat: bool,
    /// How many of the parts have begun.
    begun: usize,
    /// Whether only the positions that are read are left.
    narrow: bool,
}

impl<'a> Tap<'a> {
    /// A pass of one part, whole.
    pub(super) fn one(
        hook: &'a mut dyn Hook,
        layer: usize,
        padding: &'a Padding,
        [batch, first_pos, pos]: [usize; 3],
    ) -> Tap<'a> {
        let part = Part { hook, padding, batch, first_pos, pos, read: None, rows: None, begins: None };
        Tap { layer, parts: vec![part], flat: false, begun: 1, narrow: false }
    }

    /// Several parts side by side, in the order in which they begin.
    pub(super) fn several(layer: usize, parts: Vec<Part<'a>>) -> Tap<'a> {
        let begun = parts.iter().filter(|part| part.begins.is_none()).count();
        Tap { layer, parts, flat: true, begun, narrow: false }
    }

    /// The site of a place in the block being run.
    pub(super) fn block(&self, at: At) -> Site {
        Site::Block(self.layer, at)
    }

    /// Whether anybody wants to be called at this site.
    pub(super) fn wants(&self, site: Site) -> bool {
        self.begun().any(|part| part.hook.wants(site))
    }

    /// Whether the hook of one part wants a place of the current block.
    pub(super) fn part_wants(&self, i: usize, at: At) -> bool {
        self.parts[i].hook.wants(self.block(at))
    }

    /// The activation at a place of the current block, after the hook.
    pub(super) fn at(&mut self, at: At, x: Tensor) -> Result<Tensor> {
        self.site(self.block(at), x)
    }

    /// The activation at a site, after the hooks; a hook that changes the shape is an error.
    pub(super) fn site(&mut self, site: Site, x: Tensor) -> Result<Tensor> {
        if !self.wants(site) {
            return Ok(x);
        }
        if !self.flat {
            return self.part_at(0, site, x);
        }
        let mut each = self.split(&x)?;
        for (i, x) in each.iter_mut().enumerate() {
            *x = self.part_at(i, site, x.clone())?;
        }
        self.joined(&each)
    }

    /// The same of one part alone, `[batch, pos, …]`.
    pub(super) fn part_at(&mut self, i: usize, site: Site, x: Tensor) -> Result<Tensor> {
        let (_, first_pos, _) = self.extent(i);
        let hook = &mut *self.parts[i].hook;
        if !hook.wants(site) {
            return Ok(x);
        }
        let shape = x.dims().to_vec();
        let y = hook.visit(site, first_pos, x)?;
        if y.dims() != shape {
            let (what, got) = (format!("what the hook returned at {site}"), y.dims().to_vec());
            return Err(Error::Shape { what, got, expected: format!("{shape:?}") });
        }
        Ok(y)
    }

    /// The parts that have begun.
    pub(super) fn begun(&self) -> impl Iterator<Item = &Part<'a>> {
        self.parts.iter().take(self.begun)
    }

    /// Sequences, first position and positions of a part, as far as they are still computed.
    pub(super) fn extent(&self, i: usize) -> (usize, usize, usize) {
        let Part { batch, first_pos, pos, read, .. } = &self.parts[i];
        match read {
            Some(read) if self.narrow => (*batch, *read, 1),
            _ => (*batch, *first_pos, *pos),
        }
    }

    /// A tensor of all parts → each part's `[batch, pos, …]`.
    pub(super) fn split(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        if !self.flat {
            return Ok(vec![x.clone()]);
        }
        let mut start = 0;
        let each = (0..self.begun).map(|i| {
            let (batch, _, pos) = self.extent(i);
            let own = x.narrow(1, start, batch * pos)?.contiguous()?;
            start += batch * pos;
            Ok(own.reshape([&[batch, pos], &x.dims()[2..]].concat())?)
        });
        each.collect()
    }

    /// Each part's tensor `[batch, pos, …]` → one of all parts.
    pub(super) fn joined(&self, each: &[Tensor]) -> Result<Tensor> {
        if !self.flat {
            return each.first().cloned().ok_or_else(|| Error::Tensor("a pass of no sequences".into()));
        }
        let each = each.iter().map(flat).collect::<Result<Vec<_>>>()?;
        Ok(if let [one] = each.as_slice() { one.clone() } else { Tensor::cat(&each, 1)? })
    }

    /// What `work` computes; where no part has begun, nothing is computed, and any tensor stands for what nobody will look at.
    pub(super) fn unless_idle(
        &mut self,
        nothing: &Tensor,
        work: impl FnOnce(&mut Self) -> Result<Tensor>,
    ) -> Result<Tensor> {
        if self.begun == 0 { Ok(nothing.clone()) } else { work(self) }
    }

    /// Only the positions that are read go on from here, or all again.
    pub(super) fn only_read(&mut self, narrow: bool) {
        self.narrow = narrow;
    }

    /// `work` on the positions that are read alone.
    pub(super) fn narrowed<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = std::mem::replace(&mut self.narrow, true);
        let done = work(self);
        self.narrow = before;
        done
    }

    /// x of all positions → of those that are still computed.
    pub(super) fn kept(&self, x: &Tensor) -> Result<Tensor> {
        if !self.narrow || self.begun().all(|part| part.read.is_none()) {
            return Ok(x.clone());
        }
        let mut rows = Vec::new();
        let mut start = 0;
        for part in self.begun() {
            let of = |b: usize| start + b * part.pos;
            match part.read {
                Some(read) => rows.extend((0..part.batch).map(|b| (of(b) + read - part.first_pos) as u32)),
                None => rows.extend((of(0)..of(part.batch)).map(|row| row as u32)),
            }
            start += part.batch * part.pos;
        }
        let count = rows.len();
        Ok(x.index_select(&Tensor::from_vec(rows, count, x.device())?, 1)?)
    }

    /// Lets the parts that begin at `entry` in: their tensors, as the base run had them, are put behind those of the others.
    pub(super) fn enter<const N: usize>(
        &mut self,
        entry: Entry,
        base: Option<&Base>,
        so_far: [Tensor; N],
        own: impl Fn(&Base) -> Result<[Tensor; N]>,
    ) -> Result<[Tensor; N]> {
        let begins = |part: &Part| part.begins == Some(entry);
        let count = self.parts[self.begun..].iter().take_while(|part| begins(part)).count();
        let (true, Some(base)) = (count > 0, base) else { return Ok(so_far) };
        let sources = own(base)?;
        let members = self.begun..self.begun + count;
        let mut all = Vec::with_capacity(N);
        for (so_far, source) in so_far.into_iter().zip(&sources) {
            let mut each = if self.begun == 0 { Vec::new() } else { vec![so_far] };
            for i in members.clone() {
                let (_, first_pos, pos) = self.extent(i);
                let rows = self.parts[i].rows.unwrap_or_default();
                each.push(flat(&of_rows(&source.narrow(1, first_pos, pos)?, rows)?)?);
            }
            all.push(if let [one] = each.as_slice() { one.clone() } else { Tensor::cat(&each, 1)? });
        }
        self.begun += count;
        all.try_into().map_err(|_| Error::Tensor("parts began with too few tensors".into()))
    }

    /// How many positions lie left of the parts that begin last, and must come from a base; none of a pass of one part that has the
    /// keys of all: `keys` for each sequence.
    pub(super) fn left_out(&self, keys: usize) -> usize {
        let whole = |part: &&Part| !self.flat && keys != part.pos;
        self.begun().filter(|part| !whole(part)).map(|part| part.first_pos).max().unwrap_or(0)
    }

    /// Whether copies of so many rows of a base are what each part is, or says that it is.
    pub(super) fn copies(&self, base_rows: usize) -> bool {
        self.begun().all(|part| part.rows.is_some() || base_rows > 0 && part.batch.is_multiple_of(base_rows))
    }

    /// The position behind the last that is computed.
    pub(super) fn end(&self) -> usize {
        self.begun().map(|part| part.first_pos + part.pos).max().unwrap_or(0)
    }

    /// Every sequence's queries, where they are read, and its keys. Those to the left are in a base of so many rows, unless a pass
    /// of one part has them all: `keys` for each sequence.
    pub(super) fn stretches(&self, base_rows: usize, keys: usize) -> Vec<Stretch> {
        let (mut all, mut query, mut key) = (Vec::new(), 0, 0);
        for part in self.begun() {
            let (first_query, count) = part.read.map_or((part.first_pos, part.pos), |read| (read, 1));
            let (first_key, keys) =
                if self.flat || keys == part.pos { (part.first_pos, part.pos) } else { (0, keys) };
            for b in 0..part.batch {
                all.push(Stretch {
                    queries: query..query + count,
                    first_query,
                    keys: key..key + keys,
                    first_key,
                    left: part.rows.map_or(b % base_rows.max(1), |rows| rows[b]),
                    own: part.padding.open(b),
                });
                (query, key) = (query + count, key + keys);
            }
        }
        all
    }

    /// cos and sin of the rotation at every position that is still computed, of the shape of the pass with `[dims/2]` behind.
    pub(super) fn rotations(&self, rotary: &Rotary, like: &Tensor) -> Result<(Tensor, Tensor)> {
        let of = |i: usize| -> Result<(Tensor, Tensor)> {
            let ((batch, first, count), padding) = (self.extent(i), self.parts[i].padding);
            let positions = padding.positions(batch, first, count, like.device())?;
            rotary.tables(&positions, &padding.lengths(batch, first + count), like.dtype())
        };
        if !self.flat {
            return of(0);
        }
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for i in 0..self.begun {
            let (batch, _, count) = self.extent(i);
            let (own_cos, own_sin) = of(i)?;
            let wide = |x: Tensor| flat(&x.broadcast_as((batch, count, x.dim(x.rank() - 1)?))?.contiguous()?);
            cos.push(wide(own_cos)?);
            sin.push(wide(own_sin)?);
        }
        Ok((Tensor::cat(&cos, 1)?, Tensor::cat(&sin, 1)?))
    }
}

/// `[batch, pos, …]` → `[1, batch · pos, …]`.
fn flat(x: &Tensor) -> Result<Tensor> {
    Ok(x.reshape([&[1, x.dim(0)? * x.dim(1)?], &x.dims()[2..]].concat())?)
}
