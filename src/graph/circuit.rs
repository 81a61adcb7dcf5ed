//! A circuit: some of the edges of a graph.

use std::collections::BTreeSet;

use super::{Graph, Reader, Writer};
use crate::error::{Error, Result};

/// The edges that are kept, by their number in a [`Graph`]; all others are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circuit {
    keep: Vec<bool>,
}

impl Circuit {
    /// Every edge.
    pub fn whole(graph: &Graph) -> Circuit {
        Circuit { keep: vec![true; graph.len()] }
    }

    /// No edge.
    pub fn empty(graph: &Graph) -> Circuit {
        Circuit { keep: vec![false; graph.len()] }
    }

    /// These edges, by number; one that the graph does not have is an error.
    pub fn of(graph: &Graph, edges: impl IntoIterator<Item = usize>) -> Result<Circuit> {
        let mut circuit = Circuit::empty(graph);
        for edge in edges {
            circuit.put(edge, true)?;
        }
        Ok(circuit)
    }

    /// Keeps or cuts an edge.
    pub fn put(&mut self, edge: usize, keep: bool) -> Result<()> {
        let size = self.keep.len();
        let beyond = Error::OutOfRange { what: "edge", index: edge, size, site: "the graph".into() };
        *self.keep.get_mut(edge).ok_or(beyond)? = keep;
        Ok(())
    }

    /// Keeps an edge of the graph that is known to be there.
    pub(super) fn keep(&mut self, edge: usize) {
        if let Some(keep) = self.keep.get_mut(edge) {
            *keep = true;
        }
    }

    /// Whether an edge is kept.
    pub fn has(&self, edge: usize) -> bool {
        self.keep.get(edge).copied().unwrap_or(false)
    }

    /// How many edges are kept.
    pub fn len(&self) -> usize {
        self.keep.iter().filter(|&&keep| keep).count()
    }

    /// Whether no edge is kept.
    pub fn is_empty(&self) -> bool {
        !self.keep.contains(&true)
    }

    /// The numbers of the kept edges, in order.
    pub fn edges(&self) -> impl Iterator<Item = usize> + '_ {
        self.keep.iter().enumerate().filter(|(_, keep)| **keep).map(|(edge, _)| edge)
    }

    /// The numbers of the edges that are cut, in order.
    pub fn cut(&self) -> Vec<usize> {
        self.keep.iter().enumerate().filter(|(_, keep)| !**keep).map(|(edge, _)| edge).collect()
    }

    /// The circuit without all edges that touch one of these nodes.
    pub fn without(&self, graph: &Graph, nodes: &BTreeSet<Writer>) -> Circuit {
        let touches = |edge: usize| {
            let (writer, reader) = graph.ends(edge);
            nodes.contains(&graph.writers()[writer])
                || graph.owners(graph.readers()[reader]).iter().all(|owner| nodes.contains(owner))
                    && graph.readers()[reader] != Reader::Logits
        };
        let keep = self.keep.iter().enumerate().map(|(edge, &keep)| keep && !touches(edge)).collect();
        Circuit { keep }
    }

    /// The writers in it: those with a kept edge out of them.
    pub fn writers(&self, graph: &Graph) -> BTreeSet<Writer> {
        self.edges().map(|edge| graph.writers()[graph.ends(edge).0]).collect()
    }

    /// The circuit without the edges that lead nowhere: out of a node that reads nothing of the circuit, or into one that nothing
    /// of the circuit reads, again and again until none is left.
    pub fn pruned(&self, graph: &Graph) -> Circuit {
        let mut keep = self.keep.clone();
        loop {
            let mut fed = BTreeSet::from([Writer::Input]);
            let mut read = BTreeSet::new();
            for edge in keep.iter().enumerate().filter(|(_, keep)| **keep).map(|(edge, _)| edge) {
                let (writer, reader) = graph.ends(edge);
                fed.extend(graph.owners(graph.readers()[reader]));
                read.insert(graph.writers()[writer]);
            }
            let leads = |edge: usize| {
                let (writer, reader) = graph.ends(edge);
                let reader = graph.readers()[reader];
                let wanted =
                    reader == Reader::Logits || graph.owners(reader).iter().any(|owner| read.contains(owner));
                fed.contains(&graph.writers()[writer]) && wanted
            };
            let next: Vec<bool> = keep.iter().enumerate().map(|(e, &kept)| kept && leads(e)).collect();
            if next == keep {
                return Circuit { keep };
            }
            keep = next;
        }
    }

    /// Edges in both, over edges in either (Jaccard); 1 for two empty circuits.
    pub fn overlap(&self, other: &Circuit) -> f64 {
        let both = self.keep.iter().zip(&other.keep);
        let (shared, either) = both.fold((0, 0), |(shared, either), (&a, &b)| {
            (shared + usize::from(a && b), either + usize::from(a || b))
        });
        if either == 0 { 1.0 } else { shared as f64 / either as f64 }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::model::{Config, Transformer};

    fn circuit(graph: &Graph, names: &[&str]) -> Circuit {
        Circuit::of(graph, names.iter().map(|name| graph.find(name.parse().unwrap()).unwrap())).unwrap()
    }

    #[test]
    fn pruning_leaves_what_leads_from_the_input_to_the_logits() {
        let graph = Graph::of(&Transformer::random(Config::tiny(), 0, DType::F32).unwrap());
        let path = ["input->a0.h0<v>", "a0.h0->a1.h1<q>", "a1.h1->logits"];
        let dead = ["input->m0", "a0.h2->a1.h1<k>", "a0.h3->m0"];
        let all: Vec<&str> = path.iter().chain(&dead).copied().collect();
        assert_eq!(circuit(&graph, &all).pruned(&graph), circuit(&graph, &path));
        assert!(circuit(&graph, &dead).pruned(&graph).is_empty());
        let whole = Circuit::whole(&graph);
        assert_eq!(whole.pruned(&graph), whole);
    }

    #[test]
    fn without_a_node_none_of_its_edges_is_left() {
        let graph = Graph::of(&Transformer::random(Config::tiny(), 0, DType::F32).unwrap());
        let left = Circuit::whole(&graph).without(&graph, &BTreeSet::from([Writer::Head(0, 1)]));
        assert!(left.edges().all(|edge| !graph.edge(edge).to_string().contains("a0.h1")));
        // three inputs to it, and from it 12 + 1 + 1 in layer 1, m0, logits
        assert_eq!(graph.len() - left.len(), 3 + 1 + 12 + 1 + 1);
    }

    #[test]
    fn overlap_is_of_edges_in_either() {
        let graph = Graph::of(&Transformer::random(Config::tiny(), 0, DType::F32).unwrap());
        let of = |edges: &[usize]| Circuit::of(&graph, edges.iter().copied()).unwrap();
        assert_eq!(of(&[1, 2, 3]).overlap(&of(&[2, 3, 4])), 0.5);
        assert_eq!(of(&[]).overlap(&of(&[])), 1.0);
        assert!(Circuit::of(&graph, [graph.len()]).is_err());
    }
}
