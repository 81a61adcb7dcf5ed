//! From scores of edges to a circuit of a given size.

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};

use serde::{Deserialize, Serialize};

use super::{Circuit, Graph, Reader, Writer};

/// How edges are chosen by their scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// The edges with the largest scores, wherever they are (Syed et al. 2023).
    TopN,
    /// From the logits backwards: again and again the largest edge into a node that is in the circuit already, so that every node leads
    /// to the logits (Hanna et al. 2024).
    Greedy,
}

/// An edge that could be added. The largest goes first, of equals the one that is computed first.
#[derive(PartialEq)]
struct Candidate {
    score: f64,
    edge: usize,
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.edge.cmp(&self.edge))
    }
}

impl Selection {
    /// The `n` best edges by their scores (one for each edge of the graph), not yet pruned. `absolute`: a large negative score counts as a large
    /// one. Greedy selection may find fewer.
    pub fn choose(self, graph: &Graph, scores: &[f64], n: usize, absolute: bool) -> Circuit {
        let candidate = |edge: usize| {
            let score = scores.get(edge).copied().unwrap_or(0.0);
            Candidate { score: if absolute { score.abs() } else { score }, edge }
        };
        let mut chosen = Circuit::empty(graph);
        match self {
            Selection::TopN => {
                let mut all: Vec<Candidate> = (0..graph.len()).map(candidate).collect();
                all.sort_by(|a, b| b.cmp(a));
                all.iter().take(n).for_each(|best| chosen.keep(best.edge));
            }
            Selection::Greedy => {
                let mut reached: BTreeSet<Writer> = BTreeSet::new();
                let mut heap: BinaryHeap<Candidate> = BinaryHeap::new();
                let into = |heap: &mut BinaryHeap<Candidate>, wanted: &dyn Fn(Reader) -> bool| {
                    for (reader, &name) in graph.readers().iter().enumerate() {
                        if wanted(name) {
                            heap.extend((0..graph.reach(reader)).map(|w| candidate(graph.number(w, reader))));
                        }
                    }
                };
                into(&mut heap, &|reader| reader == Reader::Logits);
                let mut opened: BTreeSet<Reader> = BTreeSet::new();
                while chosen.len() < n {
                    let Some(best) = heap.pop() else { break };
                    chosen.keep(best.edge);
                    let writer = graph.writers()[graph.ends(best.edge).0];
                    if reached.insert(writer) {
                        let fresh: BTreeSet<Reader> = graph
                            .readers()
                            .iter()
                            .copied()
                            .filter(|&r| graph.owners(r).contains(&writer) && !opened.contains(&r))
                            .collect();
                        into(&mut heap, &|reader| fresh.contains(&reader));
                        opened.extend(fresh);
                    }
                }
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::model::{Config, Transformer};

    #[test]
    fn greedy_takes_only_what_leads_to_the_logits() {
        let graph = Graph::of(&Transformer::random(Config::tiny(), 0, DType::F32).unwrap());
        let mut scores = vec![0.0; graph.len()];
        let number = |name: &str| graph.find(name.parse().unwrap()).unwrap();
        scores[number("input->a0.h0<q>")] = 9.0; // nothing chosen reads a0.h0
        scores[number("a1.h2->logits")] = -3.0;
        scores[number("input->a1.h2<v>")] = 2.0;
        scores[number("m0->logits")] = 1.0;
        let names = |circuit: Circuit| -> Vec<String> {
            circuit.edges().map(|edge| graph.edge(edge).to_string()).collect()
        };
        let greedy = |n, absolute| names(Selection::Greedy.choose(&graph, &scores, n, absolute));
        assert_eq!(greedy(3, true), ["input->a1.h2<v>", "m0->logits", "a1.h2->logits"]);
        assert_eq!(greedy(1, false), ["m0->logits"]);
        let top = |n, absolute| names(Selection::TopN.choose(&graph, &scores, n, absolute));
        assert_eq!(top(2, true), ["input->a0.h0<q>", "a1.h2->logits"]);
        assert_eq!(top(2, false), ["input->a0.h0<q>", "input->a1.h2<v>"]);
        assert_eq!(Selection::Greedy.choose(&graph, &scores, usize::MAX, true).len(), graph.len());
    }
}
