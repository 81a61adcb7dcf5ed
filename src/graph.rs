//! The model as a graph: who writes to the residual stream, who reads it, and an edge for each pair.
//!
//! A writer's output is part of the input of every reader after it, because the stream is the sum of what was written
//! ([`Component`](crate::component::Component)). An edge is cut by giving its reader, and no other, another value of its writer: see [`Cuts`].

mod circuit;
pub mod compare;
mod cuts;
pub mod json;
mod listed;
mod name;
mod select;
mod single;
pub mod viewer;
mod written;

pub use circuit::Circuit;
pub use cuts::{Exchange, scores};
pub use listed::{Listed, Named};
pub use name::{Channel, Edge, Reader, Writer};
pub use select::Selection;
pub use written::Written;

use crate::error::{Error, Result};
use crate::model::{Transformer, Wiring};
use crate::site::At;

/// Writers and readers of a model, both in order of execution. A reader reads the writers before it, which are the first
/// so many of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    /// How many writers each reader reads.
    reach: Vec<usize>,
    /// The number of each reader's first edge; one more at the end.
    first: Vec<usize>,
    /// Query heads and key-value heads of a layer.
    heads: (usize, usize),
}

impl Graph {
    /// The graph of a model. A model of attention only has no MLPs in it; biases are no writers, being the same in every run.
    pub fn of(model: &Transformer) -> Graph {
        let (mut writers, mut readers, mut reach) = (vec![Writer::Input], Vec::new(), Vec::new());
        let heads = (model.config.n_heads, model.config.n_kv_heads);
        for (layer, block) in model.blocks.iter().enumerate() {
            let before = writers.len();
            for channel in Channel::ALL {
                let (count, shared) =
                    if channel == Channel::Q { (heads.0, 1) } else { (heads.1, heads.0 / heads.1.max(1)) };
                readers.extend((0..count).map(|head| Reader::Head { layer, channel, head, shared }));
            }
            reach.resize(readers.len(), before);
            writers.extend((0..heads.0).map(|head| Writer::Head(layer, head)));
            if block.has(At::MlpOut) {
                readers.push(Reader::Mlp(layer));
                reach.push(if block.wiring == Wiring::Parallel { before } else { writers.len() });
                writers.push(Writer::Mlp(layer));
            }
        }
        readers.push(Reader::Logits);
        reach.push(writers.len());
        let mut first = vec![0];
        for reach in &reach {
            first.push(first.last().unwrap_or(&0) + reach);
        }
        Graph { writers, readers, reach, first, heads }
    }

    /// Who writes, in order of execution.
    pub fn writers(&self) -> &[Writer] {
        &self.writers
    }

    /// Who reads, in order of execution: of a layer first all queries, then keys, then values, then the MLP.
    pub fn readers(&self) -> &[Reader] {
        &self.readers
    }

    /// How many writers, counted from the first, a reader reads.
    pub fn reach(&self, reader: usize) -> usize {
        self.reach.get(reader).copied().unwrap_or(0)
    }

    /// How many edges there are.
    pub fn len(&self) -> usize {
        self.first.last().copied().unwrap_or(0)
    }

    /// Never: the input is read by the logits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of the edge between these; the writer must be before the reader ([`Graph::reach`]).
    pub fn number(&self, writer: usize, reader: usize) -> usize {
        self.first.get(reader).map_or(0, |first| first + writer)
    }

    /// Writer and reader of an edge, by its number.
    pub fn ends(&self, edge: usize) -> (usize, usize) {
        let reader = self.first.partition_point(|&first| first <= edge).saturating_sub(1);
        (edge - self.first[reader], reader)
    }

    /// An edge by its number.
    pub fn edge(&self, number: usize) -> Edge {
        let (writer, reader) = self.ends(number);
        Edge { from: self.writers[writer], to: self.readers[reader] }
    }

    /// Every edge in the order of their numbers.
    pub fn edges(&self) -> impl Iterator<Item = Edge> + '_ {
        (0..self.len()).map(|number| self.edge(number))
    }

    /// The number of an edge, or an error that says why there is none. Where several heads share keys and values, the edge into
    /// one head's key is that into the key they share.
    pub fn find(&self, edge: Edge) -> Result<usize> {
        let reader = self.reader(edge.to)?;
        let missing = |what: String| {
            Err(Error::input(
                format!("the model has no edge {edge}: {what}"),
                "an edge goes from a writer to a reader after it; check that the edges are of this model",
            ))
        };
        match self.writers.iter().position(|&writer| writer == edge.from) {
            None => missing(format!("it has no {}", edge.from)),
            Some(writer) if writer >= self.reach(reader) => {
                missing(format!("{} is not computed before {} reads", edge.from, edge.to))
            }
            Some(writer) => Ok(self.number(writer, reader)),
        }
    }

    /// The place of a reader in the list.
    pub fn reader(&self, reader: Reader) -> Result<usize> {
        let (heads, kv_heads) = self.heads;
        let group = heads / kv_heads.max(1);
        let meant = match reader {
            Reader::Head { layer, channel, head, shared } if channel != Channel::Q && group > 1 => {
                let head = if shared > 1 { head } else { head / group };
                Reader::Head { layer, channel, head, shared: group }
            }
            Reader::Head { layer, channel, head, .. } => Reader::Head { layer, channel, head, shared: 1 },
            other => other,
        };
        self.readers.iter().position(|&known| known == meant).ok_or_else(|| {
            Error::input(
                format!("the model has no {reader}"),
                format!(
                    "it has {heads} heads and {kv_heads} key-value heads in a layer; check that the edges are of this model"
                ),
            )
        })
    }

    /// The nodes that a reader feeds: the head, all heads that share a key or value, the MLP; the logits feed none.
    pub fn owners(&self, reader: Reader) -> Vec<Writer> {
        match reader {
            Reader::Head { layer, channel: Channel::Q, head, .. } => vec![Writer::Head(layer, head)],
            Reader::Head { layer, head, .. } => {
                let group = self.group();
                (head * group..(head + 1) * group).map(|head| Writer::Head(layer, head)).collect()
            }
            Reader::Mlp(layer) => vec![Writer::Mlp(layer)],
            Reader::Logits => Vec::new(),
        }
    }

    /// The place of a writer in the list.
    pub fn writer(&self, writer: Writer) -> Result<usize> {
        self.writers.iter().position(|&known| known == writer).ok_or_else(|| {
            Error::input(format!("the model has no {writer}"), "check that the names are of this model")
        })
    }

    /// How many readers of this kind each layer has: heads, or key-value heads.
    pub fn readers_of(&self, channel: Channel) -> usize {
        if channel == Channel::Q { self.heads.0 } else { self.heads.1 }
    }

    /// How many query heads share a key-value head.
    pub fn group(&self) -> usize {
        self.heads.0 / self.heads.1.max(1)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::model::Config;

    #[test]
    fn gpt2_small_has_the_published_number_of_edges() {
        // Σ_l 37·(1 + 13·l) + 12 into its attention and MLP, 157 into the logits (Hanna et al. 2024)
        let small = Config { n_layers: 12, n_heads: 12, n_kv_heads: 12, d_head: 2, ..Config::tiny() };
        let graph = Graph::of(&Transformer::random(small, 0, DType::F32).unwrap());
        assert_eq!((graph.len(), graph.writers().len()), (32_491, 157));
        for (number, edge) in graph.edges().enumerate() {
            assert_eq!(graph.find(edge).unwrap(), number);
        }
        assert!(graph.find("m0->a0.h1<q>".parse().unwrap()).is_err(), "not before");
        assert!(graph.find("a0.h11->m0".parse().unwrap()).is_ok());
        assert!(graph.find("a12.h0->logits".parse().unwrap()).is_err(), "no such layer");
    }

    #[test]
    fn heads_that_share_keys_share_the_edge_into_them() {
        let graph = Graph::of(&Transformer::random(Config::tiny_rotary(), 0, DType::F32).unwrap());
        let find = |name: &str| graph.find(name.parse().unwrap()).unwrap();
        assert!(graph.group() > 1);
        assert_eq!(find("input->a1.h1<k>"), find("input->a1.kv0<k>"));
        assert_ne!(find("input->a1.h1<q>"), find("input->a1.h0<q>"));
        assert!(graph.edge(find("input->a1.h1<v>")).to_string().ends_with("a1.kv0<v>"));
    }
}
