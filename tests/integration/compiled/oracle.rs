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
    /// The query, key or value of a head.
    Head(usize, usize, char),
    Mlp(usize),
    Logits,
}

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
            Reader::Head(layer, head, letter) => write!(f, "a{layer}.h{head}<{letter}>"),
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
        for (head, letter) in (0..heads).flat_map(|head| ['q', 'k', 'v'].map(|letter| (head, letter))) {
            edges.extend(writers.iter().map(|&writer| (writer, Reader::Head(layer, head, letter))));
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
            _ => matches!(at, At::QInput | At::KInput | At::VInput | At::MlpIn | At::Result | At::MlpOut),
        }
    }

    fn visit(&mut self, site: Site, _: usize, x: Tensor) -> Result<Tensor> {
        let Site::Block(layer, at) = site else { return Ok(x) };
        let heads = |x: &Tensor| -> Result<Vec<Tensor>> {
            Ok((0..x.dim(2)?)
                .map(|head| x.narrow(2, head, 1)?.squeeze(2))
                .collect::<candle_core::Result<_>>()?)
        };
        let letter = match at {
            At::QInput => 'q',
            At::KInput => 'k',
            At::VInput => 'v',
            At::ResidPre => {
                self.now.insert(Writer::Input, x.clone());
                return Ok(x);
            }
            At::Result => {
                let each = heads(&x)?.into_iter().enumerate();
                self.now.extend(each.map(|(head, x)| (Writer::Head(layer, head), x)));
                return Ok(x);
            }
            At::MlpOut => {
                self.now.insert(Writer::Mlp(layer), x.clone());
                return Ok(x);
            }
            At::MlpIn => return self.change(Reader::Mlp(layer), x),
            _ => return self.change(Reader::Logits, x),
        };
        let each = heads(&x)?.into_iter().enumerate();
        let each = each.map(|(head, x)| self.change(Reader::Head(layer, head, letter), x));
        Ok(Tensor::stack(&each.collect::<Result<Vec<_>>>()?, 2)?)
    }
}
