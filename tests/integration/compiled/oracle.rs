//! Edges cut one by one, the slow way: by a hook of its own at every reader's input, knowing nothing of graphs.

use std::collections::BTreeMap;
use std::fmt;

use candle_core::Tensor;
use glassbox::Result;
use glassbox::hook::Hook;
use glassbox::model::Transformer;
use glassbox::site::{At, Site};

/// What writes to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Writer {
    /// Both embeddings.
    Input,
    Head(usize, usize),
    Mlp(usize),
}

/// What reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reader {
    /// The query, key or value of a head, by the place of what it reads.
    Head(usize, usize, At),
    Mlp(usize),
    Logits,
}

const INPUTS: [At; 3] = [At::QInput, At::KInput, At::VInput];

/// From whom to whom.
pub type Edge = (Writer, Reader);

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Writer::Input => f.write_str("input"),
            Writer::Head(layer, head) => write!(f, "a{layer}.h{head}"),
            Writer::Mlp(layer) => write!(f, "m{layer}"),
        }
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reader::Head(layer, head, at) => {
                let letter = match at {
                    At::QInput => 'q',
                    At::KInput => 'k',
                    _ => 'v',
                };
                write!(f, "a{layer}.h{head}<{letter}>")
            }
            Reader::Mlp(layer) => write!(f, "m{layer}"),
            Reader::Logits => f.write_str("logits"),
        }
    }
}

/// `a0.h1->m0`.
pub fn name((writer, reader): Edge) -> String {
    format!("{writer}->{reader}")
}

/// Every edge of a model whose MLPs read what the attention beside them wrote.
pub fn edges(model: &Transformer) -> Vec<Edge> {
    let (layers, heads) = (model.config.n_layers, model.config.n_heads);
    let mut writers = vec![Writer::Input];
    let mut edges = Vec::new();
    for layer in 0..layers {
        for (head, at) in (0..heads).flat_map(|head| INPUTS.map(|at| (head, at))) {
            edges.extend(writers.iter().map(|&writer| (writer, Reader::Head(layer, head, at))));
        }
        writers.extend((0..heads).map(|head| Writer::Head(layer, head)));
        edges.extend(writers.iter().map(|&writer| (writer, Reader::Mlp(layer))));
        writers.push(Writer::Mlp(layer));
    }
    edges.extend(writers.iter().map(|&writer| (writer, Reader::Logits)));
    edges
}

/// What each writer wrote, `[batch, pos, d_model]`.
pub type Written = BTreeMap<Writer, Tensor>;

/// Logits `[batch, pos, d_vocab]` with edges cut, and what was written: along a cut edge goes what `instead` says, by way of
/// the difference to what the writer writes in this very pass.
pub fn cut(model: &Transformer, tokens: &Tensor, cut: &[Edge], instead: &Written) -> (Tensor, Written) {
    let mut hook = Cut { cut, instead, now: Written::new(), last: model.config.n_layers - 1 };
    let logits = model.forward(tokens, &mut hook).unwrap();
    (logits, hook.now)
}

struct Cut<'a> {
    cut: &'a [Edge],
    instead: &'a Written,
    now: Written,
    last: usize,
}

impl Cut<'_> {
    fn change(&self, reader: Reader, mut x: Tensor) -> Result<Tensor> {
        for (writer, _) in self.cut.iter().filter(|(_, at)| *at == reader) {
            x = (x + (&self.instead[writer] - &self.now[writer])?)?;
        }
        Ok(x)
    }
}

impl Hook for Cut<'_> {
    fn wants(&self, site: Site) -> bool {
        let Site::Block(layer, at) = site else { return false };
        match at {
            At::ResidPre => layer == 0,
            At::ResidPost => layer == self.last,
            At::Result | At::MlpOut => true,
            _ => self.cut.iter().any(|(_, reader)| match reader {
                Reader::Head(of, _, input) => (*of, *input) == (layer, at),
                Reader::Mlp(of) => (*of, At::MlpIn) == (layer, at),
                Reader::Logits => false,
            }),
        }
    }

    fn visit(&mut self, site: Site, _: usize, x: Tensor) -> Result<Tensor> {
        let Site::Block(layer, at) = site else { return Ok(x) };
        let heads = |x: &Tensor| -> Result<Vec<Tensor>> {
            Ok((0..x.dim(2)?)
                .map(|head| x.narrow(2, head, 1)?.squeeze(2))
                .collect::<candle_core::Result<_>>()?)
        };
        match at {
            At::QInput | At::KInput | At::VInput => {
                let each = heads(&x)?.into_iter().enumerate();
                let each = each.map(|(head, x)| self.change(Reader::Head(layer, head, at), x));
                Ok(Tensor::stack(&each.collect::<Result<Vec<_>>>()?, 2)?)
            }
            At::MlpIn => self.change(Reader::Mlp(layer), x),
            At::ResidPost => self.change(Reader::Logits, x),
            At::Result => {
                let each = heads(&x)?.into_iter().enumerate();
                self.now.extend(each.map(|(head, x)| (Writer::Head(layer, head), x)));
                Ok(x)
            }
            _ => {
                let writer = if at == At::MlpOut { Writer::Mlp(layer) } else { Writer::Input };
                self.now.insert(writer, x.clone());
                Ok(x)
            }
        }
    }
}
