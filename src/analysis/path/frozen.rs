//! The second and the third pass: many senders at once, each in a copy of the rows.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::Freeze;
use super::plan::{End, Plan};
use crate::edit::{Edit, Op};
use crate::error::Result;
use crate::graph::{Reader, Writer};
use crate::hook::Hook;
use crate::lab::Lab;
use crate::model::{Base, Stream, Transformer};
use crate::site::{At, Axis, Positions, Site, Slice};
use crate::sweep::{Cell, Reading, planned, scored, sweep, unchanged};

/// A run, the run that senders' values are taken from, and what is frozen.
#[derive(Clone, Copy)]
pub(super) struct Paths<'a> {
    pub(super) model: &'a Transformer,
    pub(super) plan: &'a Plan,
    /// The run that is changed.
    pub(super) own: &'a Base,
    /// The run that senders take their values from, of the same shape.
    pub(super) other: &'a Base,
    pub(super) freeze: Freeze,
    /// The first position at which the two can differ, or that is read, if that is before it.
    pub(super) first_pos: usize,
    /// Where the logits of each row are read.
    pub(super) read: &'a [usize],
}

/// What a second pass found, of every copy of the rows.
struct Recorded {
    /// By reader: `[copies · rows, pos, 1, d_head]`, or `[copies · rows, pos, d_model]` of an MLP.
    inputs: BTreeMap<usize, Tensor>,
    /// What the unembedding reads `[copies · rows, d_model]`, if the logits receive.
    ends: Option<Tensor>,
}

impl Paths<'_> {
    /// The score of every row, `[sender][receivers]`; none where there is no path.
    pub(super) fn sweep(&self, lab: &Lab, reading: &Reading) -> Result<Vec<Vec<Option<Vec<f64>>>>> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, sender) in self.plan.senders.iter().enumerate() {
            groups.entry(self.plan.start(sender)).or_default().push(index);
        }
        let mut scores = self.plan.each(|_| None);
        for (layer, members) in groups {
            for members in members.chunks(self.width(lab)) {
                lab.check()?;
                let heard = |set: &usize| members.iter().any(|&sender| self.plan.is_path(sender, *set));
                let sets: Vec<usize> = (0..self.plan.receivers.len()).filter(heard).collect();
                let copies: Vec<&End> = members.iter().filter_map(|&i| self.plan.senders.get(i)).collect();
                if sets.is_empty() {
                    continue;
                }
                if let Some(plans) = &lab.planned {
                    plans.add(planned(self.model, self.own, layer, self.first_pos, copies.len())?);
                    let same = unchanged(lab, self.own, reading)?;
                    for set in sets {
                        let places = self.plan.receivers.get(set).into_iter().flat_map(|set| &set.places);
                        let first = places.filter_map(|&place| self.place(place)?.0.layer()).min();
                        if let Some(first) = first {
                            plans.add(planned(self.model, self.own, first, self.first_pos, copies.len())?);
                        }
                        for &sender in members.iter().filter(|&&sender| self.plan.is_path(sender, set)) {
                            if let Some(place) = scores.get_mut(sender).and_then(|sets| sets.get_mut(set)) {
                                *place = Some(same.clone());
                            }
                        }
                    }
                    continue;
                }
                let recorded = self.record(layer, &copies, &sets)?;
                for set in sets {
                    let paths: Vec<usize> =
                        (0..members.len()).filter(|&i| self.plan.is_path(members[i], set)).collect();
                    let found = match &recorded.ends {
                        Some(ends) if self.is_logits(set) => {
                            let each = scored(lab, reading, ends.clone())?;
                            let each: Vec<&[f64]> = each.chunks_exact(self.read.len().max(1)).collect();
                            lab.progress.advance(paths.len() as u64);
                            paths.iter().map(|&i| each[i].to_vec()).collect()
                        }
                        _ => sweep(lab, self.own, &self.receive(&recorded, set, &paths)?, reading)?,
                    };
                    for (&i, found) in paths.iter().zip(found) {
                        if let Some(place) = scores.get_mut(members[i]).and_then(|sets| sets.get_mut(set)) {
                            *place = Some(found);
                        }
                    }
                }
            }
        }
        Ok(scores)
    }

    fn is_logits(&self, set: usize) -> bool {
        let logits = |&place: &usize| self.plan.reader(place) == Reader::Logits;
        self.plan.receivers.get(set).is_some_and(|set| set.places.iter().any(logits))
    }

    /// The second pass, of senders that write in `layer` or later, up to the last of the receivers: their inputs.
    fn record(&self, layer: usize, copies: &[&End], sets: &[usize]) -> Result<Recorded> {
        let layers = self.model.config.n_layers;
        let mut wanted: BTreeMap<Site, Vec<usize>> = BTreeMap::new();
        let readers = sets.iter().filter_map(|&set| self.plan.receivers.get(set)).flat_map(|set| &set.places);
        for &reader in readers {
            match self.place(reader) {
                Some((site, _)) if site.layer().is_some_and(|own| own >= layer) => {
                    wanted.entry(site).or_default().push(reader);
                }
                _ => {}
            }
        }
        let to_logits = sets.iter().any(|&set| self.is_logits(set));
        let last = wanted.keys().filter_map(|site| site.layer()).max().map_or(0, |last| last + 1);
        // with every head frozen positions do not mix: logits alone need no position but those that are read
        let first_pos = match self.read.iter().min() {
            Some(&least) if wanted.is_empty() && self.model.config.causal => least,
            _ => self.first_pos,
        };
        let from = self.own.stream(layer, first_pos)?;
        let input = |copy: &&End| match self.sends(copy, Writer::Input) {
            true => Ok(self.other.stream(layer, first_pos)?.resid),
            false => Ok(from.resid.clone()),
        };
        let resid = Tensor::cat(&copies.iter().map(input).collect::<Result<Vec<_>>>()?, 0)?;
        let from = Stream { resid, ..from };
        let mut hook = Frozen { paths: *self, copies, wanted, inputs: BTreeMap::new() };
        let until = if to_logits { layers } else { last };
        let stream = self.model.run(from, Some(self.own), until, &mut hook)?;
        let ends = to_logits.then(|| self.ends(&stream, copies.len())).transpose()?;
        Ok(Recorded { inputs: hook.inputs, ends })
    }

    /// The third pass, of some of the copies: the inputs of a set of receivers, as recorded.
    fn receive(&self, recorded: &Recorded, set: usize, copies: &[usize]) -> Result<Vec<Cell>> {
        let rows = self.read.len();
        let cell = |&copy: &usize| -> Result<Cell> {
            let mut edits = Vec::new();
            for &reader in self.plan.receivers.get(set).iter().flat_map(|set| &set.places) {
                // those before the senders hear nothing, and were not recorded
                let (Some((site, head)), Some(input)) = (self.place(reader), recorded.inputs.get(&reader))
                else {
                    continue;
                };
                let slice = Slice::whole(site).pos(Positions::From(self.first_pos));
                let at = if site.axis(Axis::DHead).is_some() { slice.head(head) } else { slice };
                edits.push(Edit { at, op: Op::Set(input.narrow(0, copy * rows, rows)?) });
            }
            Ok(Cell { edits })
        };
        copies.iter().map(cell).collect()
    }

    fn ends(&self, stream: &Stream, copies: usize) -> Result<Tensor> {
        let read: Vec<usize> = self.read.iter().copied().cycle().take(self.read.len() * copies).collect();
        Ok(self.model.final_norm(&stream.at(&read)?, &mut ())?.squeeze(1)?)
    }

    /// Where a reader's input stands, and which head it is there; the logits' is the final stream.
    fn place(&self, reader: usize) -> Option<(Site, usize)> {
        match self.plan.reader(reader) {
            Reader::Head { layer, channel, head, .. } => Some((Site::Block(layer, channel.output()), head)),
            Reader::Mlp(layer) => Some((Site::Block(layer, At::MlpIn), 0)),
            Reader::Logits => None,
        }
    }

    fn sends(&self, sender: &End, writer: Writer) -> bool {
        let is = |&place: &usize| self.plan.graph.writers().get(place) == Some(&writer);
        sender.places.iter().any(is)
    }

    /// How many senders fit the memory allowed.
    fn width(&self, lab: &Lab) -> usize {
        let c = &self.model.config;
        let (rows, keys, _) = self.own.dims().unwrap_or((1, c.n_ctx, 0));
        let neurons = c.d_mlp.max(c.experts.map_or(0, |routing| routing.experts * routing.d_expert));
        let readers = self.plan.receivers.iter().flat_map(|set| &set.places);
        let recorded: usize =
            readers
                .map(|&reader| {
                    if matches!(self.plan.reader(reader), Reader::Head { .. }) { c.d_head } else { c.d_model }
                })
                .sum();
        let per_position = 8 * c.d_model + 4 * neurons + 3 * c.n_heads * (keys + c.d_head) + 2 * recorded;
        let window = keys.saturating_sub(self.first_pos).max(1);
        let per_row = window * per_position + 4 * keys * c.n_kv_heads * c.d_head + 3 * c.d_vocab_out;
        let bytes = (rows * per_row * self.model.dtype().size_in_bytes()) as u64;
        ((lab.memory / 2) / bytes.max(1)).clamp(1, 1 << 12) as usize
    }
}

/// The hook of the second pass: in every layer the run's own z, and where they are frozen its own MLPs, with each copy's sender
/// exchanged. What receivers read is kept.
struct Frozen<'a> {
    paths: Paths<'a>,
    copies: &'a [&'a End],
    wanted: BTreeMap<Site, Vec<usize>>,
    inputs: BTreeMap<usize, Tensor>,
}

impl Frozen<'_> {
    /// z `[copies · rows, pos, head, d_head]` from `first_pos` on.
    fn heads(&self, layer: usize, first_pos: usize) -> Result<Tensor> {
        let site = Site::Block(layer, At::Z);
        let (own, other) =
            (window(self.paths.own, site, first_pos)?, window(self.paths.other, site, first_pos)?);
        let copy = |sender: &&End| {
            let sent = (0..own.dim(2)?).filter(|&head| self.paths.sends(sender, Writer::Head(layer, head)));
            with_heads(&own, &sent.map(|head| Ok((head, other.narrow(2, head, 1)?))).collect::<Result<_>>()?)
        };
        Ok(Tensor::cat(&self.copies.iter().map(copy).collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// What the MLP adds in each copy, `current` being what it computes there `[copies · rows, pos, d_model]`.
    fn mlps(&self, layer: usize, first_pos: usize, current: &Tensor) -> Result<Tensor> {
        let site = Site::Block(layer, At::MlpOut);
        let (own, other) =
            (window(self.paths.own, site, first_pos)?, window(self.paths.other, site, first_pos)?);
        let rows = own.dim(0)?;
        let copy = |(copy, sender): (usize, &&End)| match self.paths.sends(sender, Writer::Mlp(layer)) {
            true => Ok(other.clone()),
            false if self.paths.freeze == Freeze::All => Ok(own.clone()),
            false => Ok(current.narrow(0, copy * rows, rows)?),
        };
        Ok(Tensor::cat(&self.copies.iter().enumerate().map(copy).collect::<Result<Vec<_>>>()?, 0)?)
    }
}

impl Hook for Frozen<'_> {
    fn wants(&self, site: Site) -> bool {
        let sends = |layer| self.copies.iter().any(|sender| self.paths.sends(sender, Writer::Mlp(layer)));
        match site {
            Site::Block(_, At::Z) => true,
            Site::Block(layer, At::MlpOut) => self.paths.freeze == Freeze::All || sends(layer),
            _ => self.wanted.contains_key(&site),
        }
    }

    fn visit(&mut self, site: Site, first_pos: usize, x: Tensor) -> Result<Tensor> {
        match site {
            Site::Block(layer, At::Z) => return self.heads(layer, first_pos),
            Site::Block(layer, At::MlpOut) => return self.mlps(layer, first_pos, &x),
            _ => {}
        }
        for &reader in self.wanted.get(&site).into_iter().flatten() {
            let input = match self.paths.place(reader) {
                Some((Site::Block(_, At::Q | At::K | At::V), head)) => x.narrow(2, head, 1)?,
                _ => x.clone(),
            };
            self.inputs.insert(reader, input);
        }
        Ok(x)
    }
}

/// x `[rows, pos, head, d_head]` with some of the heads `[rows, pos, 1, d_head]` exchanged.
fn with_heads(x: &Tensor, given: &BTreeMap<usize, Tensor>) -> Result<Tensor> {
    if given.is_empty() {
        return Ok(x.clone());
    }
    let head = |head| match given.get(&head) {
        Some(given) => Ok(given.clone()),
        None => Ok(x.narrow(2, head, 1)?),
    };
    Ok(Tensor::cat(&(0..x.dim(2)?).map(head).collect::<Result<Vec<_>>>()?, 2)?)
}

/// What a run had at a site from a position on.
fn window(base: &Base, site: Site, first_pos: usize) -> Result<Tensor> {
    let x = base.kept.get(site)?;
    Ok(x.narrow(1, first_pos, x.dim(1)?.saturating_sub(first_pos))?)
}
