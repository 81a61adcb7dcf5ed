//! Cutting edges: a reader gets another value of a writer, and every other reader the writer's own.
//!
//! The input of a reader becomes its current stream + Σ over its cut edges (other − current), where `current` is what the
//! writer writes in this very pass. So cuts upstream are felt downstream, also through edges that are not cut; with all edges
//! cut the pass is the other run, with none its own. Writers behind a norm (models with a norm behind attention) are exchanged
//! before it: the reader gets what attention would have added had those heads written their other values.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Device, Tensor};

use super::written::{behind, by_head, sum};
use super::{Graph, Reader, Writer, Written};
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::lab::Lab;
use crate::model::{Base, Stream, Transformer};
use crate::ops;
use crate::site::{At, Site};
use crate::sweep::{Reading, planned, scored, sweep, unchanged};

/// A run and the values that cut edges carry instead of its own.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// The model.
    pub model: &'a Transformer,
    /// Its graph.
    pub graph: &'a Graph,
    /// The run that edges are cut in.
    pub base: &'a Base,
    /// What was written in it.
    pub own: &'a Written,
    /// What cut edges carry: of the same shapes.
    pub other: &'a Written,
    /// The first position at which the two can differ. What lies to its left is not computed; 0 is always right.
    pub first_pos: usize,
}

/// Cuts every list of edges (by number), each list by itself, and reads it: for each list the score of every row.
///
/// Single edges are cells of a sweep. Longer lists, whose cuts hear each other, are batched by the layer of their first reader, as many
/// at once as the memory allowed holds.
pub fn scores(
    lab: &Lab,
    exchange: &Exchange,
    cuts: &[Vec<usize>],
    reading: &Reading,
) -> Result<Vec<Vec<f64>>> {
    let mut scores = vec![Vec::new(); cuts.len()];
    let (single, several): (Vec<usize>, Vec<usize>) = (0..cuts.len()).partition(|&i| cuts[i].len() == 1);
    let together = (lab.memory / 8 / exchange.cell_bytes()?.max(1)).clamp(1, 1 << 20) as usize;
    for members in single.chunks(together) {
        lab.check()?;
        let edges: Vec<usize> = members.iter().flat_map(|&i| &cuts[i]).copied().collect();
        let cells = exchange.cells(&edges, lab.memory / 8)?;
        for (&index, found) in members.iter().zip(sweep(lab, exchange.base, &cells, reading)?) {
            scores[index] = found;
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for index in several {
        groups.entry(exchange.start(&cuts[index])).or_default().push(index);
    }
    let mut key = lab.key(&(cuts, exchange.first_pos, reading.at()));
    for (layer, members) in groups {
        for members in members.chunks(exchange.width(lab)) {
            lab.check()?;
            let lists: Vec<&[usize]> = members.iter().map(|&i| cuts[i].as_slice()).collect();
            if let Some(plans) = &lab.planned {
                plans.add(planned(exchange.model, exchange.base, layer, exchange.first_pos, members.len())?);
                let same = unchanged(lab, exchange.base, reading)?;
                members.iter().for_each(|&index| scores[index].clone_from(&same));
                continue;
            }
            let work = || scored(lab, reading, exchange.ends(layer, &lists, reading.at())?);
            let each = lab.noted(key.as_ref(), work)?;
            key.iter_mut().for_each(|key| key.batch += 1);
            for (&index, each) in members.iter().zip(each.chunks_exact((each.len() / members.len()).max(1))) {
                scores[index] = each.to_vec();
            }
            lab.progress.advance(members.len() as u64);
        }
    }
    Ok(scores)
}

impl Exchange<'_> {
    /// The layer of the first reader that has a cut edge. Edges are numbered by reader.
    fn start(&self, cut: &[usize]) -> usize {
        let last = self.model.config.n_layers.saturating_sub(1);
        let first = cut.iter().min().map(|&edge| self.graph.readers()[self.graph.ends(edge).1]);
        match first {
            Some(Reader::Head { layer, .. } | Reader::Mlp(layer)) => layer,
            Some(Reader::Logits) | None => last,
        }
    }

    /// How many lists fit the memory allowed.
    fn width(&self, lab: &Lab) -> usize {
        let c = &self.model.config;
        let (rows, keys, _) = self.base.dims().unwrap_or((1, c.n_ctx, 0));
        let neurons = c.d_mlp.max(c.experts.map_or(0, |routing| routing.experts * routing.d_expert));
        let readers = 12 * c.n_heads * c.d_model; // a copy of the stream per head, with the steps of its norm
        let written = 2 * self.graph.writers().len() * c.d_model;
        let per_position = 8 * c.d_model + 4 * neurons + 3 * c.n_heads * keys + readers + written;
        let window = keys.saturating_sub(self.first_pos).max(1);
        let per_row = window * per_position + 4 * keys * c.n_kv_heads * c.d_head + 3 * c.d_vocab_out;
        let bytes = (rows * per_row * self.model.dtype().size_in_bytes()) as u64;
        ((lab.memory / 2) / bytes.max(1)).clamp(1, 1 << 12) as usize
    }

    /// The logits `[copies · rows, d_vocab]` at `read` of one pass for every list of cut edges, from `layer` on, before which
    /// none of them may have a reader.
    pub fn run(&self, layer: usize, cuts: &[&[usize]], read: &[usize]) -> Result<Tensor> {
        self.model.logits(&self.ends(layer, cuts, read)?, None)
    }

    /// The same before the unembedding: what it reads `[copies · rows, d_model]`.
    fn ends(&self, layer: usize, cuts: &[&[usize]], read: &[usize]) -> Result<Tensor> {
        let copies = cuts.len();
        let from = self.base.stream(layer, self.first_pos)?;
        let from = Stream { resid: from.resid.repeat((copies, 1, 1))?, ..from };
        let mut hook = Cuts::new(*self, layer, cuts)?;
        let stream = self.model.run(from, Some(self.base), self.model.config.n_layers, &mut hook)?;
        let read: Vec<usize> = read.iter().copied().cycle().take(read.len() * copies).collect();
        Ok(self.model.final_norm(&stream.at(&read)?, &mut ())?.squeeze(1)?)
    }
}

/// A cut edge of one copy of the rows, as the hook at its reader's place sees it.
#[derive(Debug, Clone, Copy)]
struct Cut {
    copy: usize,
    /// Which of the readers at that place: the head, else 0.
    reader: usize,
    writer: usize,
}

/// The hook that cuts edges. Its pass begins at a layer, from a base run whose rows it has several copies of.
struct Cuts<'a> {
    exchange: Exchange<'a>,
    layer: usize,
    copies: usize,
    /// The cut edges at the place of their readers.
    at: BTreeMap<Site, Vec<Cut>>,
    /// Writers that have a cut edge in any copy.
    used: BTreeSet<usize>,
    /// Other − current `[copies · rows, pos, d_model]` of writers that this pass has run.
    differences: BTreeMap<usize, Tensor>,
    /// What attention wrote before the norm behind it, of layers that this pass has run.
    sums: BTreeMap<usize, Tensor>,
}

impl<'a> Cuts<'a> {
    fn new(exchange: Exchange<'a>, layer: usize, cuts: &[&[usize]]) -> Result<Cuts<'a>> {
        let graph = exchange.graph;
        let (mut at, mut used): (BTreeMap<Site, Vec<Cut>>, _) = (BTreeMap::new(), BTreeSet::new());
        for (copy, cut) in cuts.iter().enumerate() {
            for &edge in *cut {
                if edge >= graph.len() {
                    let (index, size, site) = (edge, graph.len(), "the graph".to_owned());
                    return Err(Error::OutOfRange { what: "edge", index, size, site });
                }
                let (writer, reader) = graph.ends(edge);
                let (site, reader) = place(exchange.model, graph.readers()[reader]);
                at.entry(site).or_default().push(Cut { copy, reader, writer });
                used.insert(writer);
            }
        }
        let (differences, sums) = (BTreeMap::new(), BTreeMap::new());
        Ok(Cuts { exchange, layer, copies: cuts.len(), at, used, differences, sums })
    }

    /// Notes what a writer writes in this pass `[copies · rows, pos, d_model]`.
    fn note(&mut self, writer: usize, current: &Tensor) -> Result<()> {
        let other = self.exchange.window(&self.exchange.other.each[writer])?.repeat((self.copies, 1, 1))?;
        self.differences.insert(writer, (other - current)?);
        Ok(())
    }

    /// The sum over the cut edges of each reader at a place, weighted 0 or 1: differences of `writers` → `[copies, readers, rows ·
    /// pos · d_model]`; nothing if there are none.
    fn summed(&self, cuts: &[Cut], readers: usize, writers: &[usize]) -> Result<Option<Tensor>> {
        let place: BTreeMap<usize, usize> = writers.iter().enumerate().map(|(i, &w)| (w, i)).collect();
        let mut weights = vec![0.0; self.copies * readers * writers.len()];
        for cut in cuts {
            if let Some(w) = place.get(&cut.writer) {
                weights[(cut.copy * readers + cut.reader) * writers.len() + w] = 1.0;
            }
        }
        let (Some(&first), count) = (writers.first(), writers.len()) else { return Ok(None) };
        let model = self.exchange.model;
        let weights = Tensor::from_vec(weights, (self.copies, readers, count), &Device::Cpu)?;
        let weights = weights.to_dtype(model.dtype())?.to_device(model.device())?;
        // of layers before the pass the differences are those of the base run, the same in every copy
        let live = self.differences.contains_key(&first);
        let copies = if live { self.copies } else { 1 };
        let each: Vec<Tensor> = writers
            .iter()
            .map(|writer| match self.differences.get(writer) {
                Some(difference) => Ok(difference.reshape((copies, 1, ()))?),
                None => {
                    let Exchange { own, other, .. } = &self.exchange;
                    Ok((self.exchange.window(&other.each[*writer])?
                        - self.exchange.window(&own.each[*writer])?)?
                    .reshape((1, 1, ()))?)
                }
            })
            .collect::<Result<_>>()?;
        let each = Tensor::cat(&each, 1)?; // [copies or 1, writers, rows · pos · d_model]
        let sum = if live {
            ops::matmul(&weights, &each)?
        } else {
            let flat = weights.reshape((self.copies * readers, count))?;
            ops::linear(&flat, &each.squeeze(0)?, None)?.reshape((self.copies, readers, ()))?
        };
        Ok(Some(sum))
    }

    /// What the cut edges at a place add to the stream `x` `[copies · rows, pos, (reader,) d_model]` there.
    fn inflow(&self, cuts: &[Cut], x: &Tensor) -> Result<Tensor> {
        let model = self.exchange.model;
        let by_reader = x.rank() == 4;
        let readers = if by_reader { x.dim(2)? } else { 1 };
        let (rows, pos, d_model) = (x.dim(0)? / self.copies, x.dim(1)?, model.config.d_model);
        let used: BTreeSet<usize> = cuts.iter().map(|cut| cut.writer).collect();
        // writers are exchanged together where one norm stands behind them, and else all at once, live ones apart
        let mut groups: BTreeMap<(Option<usize>, bool), Vec<usize>> = BTreeMap::new();
        for writer in used {
            let normed = match self.exchange.graph.writers()[writer] {
                Writer::Head(layer, _) => behind(model, layer)?.map(|_| layer),
                _ => None,
            };
            groups.entry((normed, self.differences.contains_key(&writer))).or_default().push(writer);
        }
        let mut total: Option<Tensor> = None;
        for ((normed, live), writers) in groups {
            let Some(sum) = self.summed(cuts, readers, &writers)? else { continue };
            let added = match normed.map(|layer| (layer, behind(model, layer))) {
                None => sum,
                Some((layer, norm)) => {
                    let wrote = match (live, self.sums.get(&layer), self.exchange.own.sum(layer)) {
                        (true, Some(sum), _) => sum.reshape((self.copies, 1, ()))?,
                        (_, _, Some(sum)) => self.exchange.window(sum)?.reshape((1, 1, ()))?,
                        _ => {
                            let site = Site::Block(layer, At::Z).to_string();
                            return Err(Error::NotRecorded { site, kept: "none of its attention".into() });
                        }
                    };
                    let shape = (self.copies, readers, rows, pos, d_model);
                    let wrote = wrote.broadcast_as(sum.shape())?.contiguous()?;
                    let (before, after) = (wrote.reshape(shape)?, (wrote + sum)?.reshape(shape)?);
                    match norm? {
                        Some(norm) => (norm.apply(&after)? - norm.apply(&before)?)?,
                        None => (after - before)?,
                    }
                    .reshape((self.copies, readers, ()))?
                }
            };
            total = Some(match total {
                None => added,
                Some(total) => (total + added)?,
            });
        }
        let Some(total) = total else { return Ok(x.zeros_like()?) };
        let total = total.reshape((self.copies, readers, rows, pos, d_model))?;
        Ok(total.permute((0, 2, 3, 1, 4))?.contiguous()?.reshape(x.shape())?)
    }

    /// Whether a pass must be asked what this writer writes.
    fn follows(&self, writer: Writer) -> bool {
        let after = writer.layer().is_some_and(|layer| layer >= self.layer);
        after && self.exchange.graph.writer(writer).is_ok_and(|writer| self.used.contains(&writer))
    }

    fn heads(&self, layer: usize) -> impl Iterator<Item = Writer> + use<'_> {
        let heads = (0..self.exchange.model.config.n_heads).map(move |head| Writer::Head(layer, head));
        heads.filter(|&head| self.follows(head))
    }
}

impl Hook for Cuts<'_> {
    fn wants(&self, site: Site) -> bool {
        self.at.contains_key(&site)
            || match site {
                Site::Block(layer, At::Z) => self.heads(layer).next().is_some(),
                Site::Block(layer, At::MlpOut) => self.follows(Writer::Mlp(layer)),
                _ => false,
            }
    }

    fn visit(&mut self, site: Site, _: usize, x: Tensor) -> Result<Tensor> {
        match site {
            Site::Block(layer, At::Z) => {
                let wrote = by_head(self.exchange.model, layer, &x)?;
                let followed: Vec<Writer> = self.heads(layer).collect();
                for writer in followed {
                    let Writer::Head(_, head) = writer else { continue };
                    self.note(self.exchange.graph.writer(writer)?, &wrote[head])?;
                }
                if behind(self.exchange.model, layer)?.is_some() {
                    self.sums.insert(layer, sum(self.exchange.model, layer, &x)?);
                }
            }
            Site::Block(layer, At::MlpOut) => {
                self.note(self.exchange.graph.writer(Writer::Mlp(layer))?, &x)?;
            }
            _ => {}
        }
        match self.at.get(&site) {
            Some(cuts) => Ok((&x + self.inflow(cuts, &x)?)?),
            None => Ok(x),
        }
    }
}

/// Where a reader's input is changed, and which of the readers there it is.
fn place(model: &Transformer, reader: Reader) -> (Site, usize) {
    match reader {
        Reader::Head { layer, channel, head, .. } => (Site::Block(layer, channel.input()), head),
        Reader::Mlp(layer) => (Site::Block(layer, At::MlpIn), 0),
        Reader::Logits => (Site::Block(model.config.n_layers.saturating_sub(1), At::ResidPost), 0),
    }
}
