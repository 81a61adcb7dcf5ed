//! Places for a graph whose nodes stand in given ranks, after Sugiyama, Tagawa and Toda (1981).
//!
//! An edge over several ranks takes a lane in each rank between, so that it passes beside the nodes there. Order within
//! a rank comes from barycentres and swaps of neighbours, and is kept where it has the fewest crossings; places are the
//! weighted least squares of edge lengths that the order and the room allow, edges over many ranks being kept straight
//! first (weights of Gansner et al. 1993). Nothing is random.

use crate::figure::apart::least_squares;

/// Sweeps up and down that look for an order.
const SWEEPS: usize = 24;
/// Sweeps that look for places.
const SETTLES: usize = 40;

/// What is to be laid out.
pub struct Graph {
    /// The rank of each node, from 0.
    pub ranks: Vec<usize>,
    /// The width of each node.
    pub widths: Vec<f64>,
    /// From a node to a node of a higher rank.
    pub edges: Vec<[usize; 2]>,
    /// Width of the whole.
    pub room: f64,
    /// Least space between two nodes.
    pub gap: f64,
    /// Least space beside a lane.
    pub lane: f64,
}

/// Where everything is.
pub struct Places {
    /// The middle of each node.
    pub nodes: Vec<f64>,
    /// Where each edge passes the ranks between its ends.
    pub lanes: Vec<Vec<f64>>,
}

/// Nodes first, then lanes.
struct Layers {
    widths: Vec<f64>,
    nodes: usize,
    /// The slots of each rank, from the left.
    order: Vec<Vec<usize>>,
    /// The slots below and above each slot.
    near: [Vec<Vec<usize>>; 2],
}

impl Graph {
    /// Finds the places. Edges that do not rise are left without lanes; the caller refuses them.
    pub fn place(&self) -> Places {
        let (mut layers, lanes) = self.layers();
        layers.sort();
        let x = layers.settle(self);
        Places {
            nodes: x.iter().take(self.ranks.len()).copied().collect(),
            lanes: lanes.iter().map(|slots| slots.iter().map(|slot| x[*slot]).collect()).collect(),
        }
    }

    /// The slots in the order in which they came, and those that are the lanes of each edge.
    fn layers(&self) -> (Layers, Vec<Vec<usize>>) {
        let nodes = self.ranks.len();
        let ranks = self.ranks.iter().max().map_or(0, |r| r + 1);
        let mut layers = Layers {
            widths: self.widths.clone(),
            nodes,
            order: vec![Vec::new(); ranks],
            near: [vec![Vec::new(); nodes], vec![Vec::new(); nodes]],
        };
        for (node, rank) in self.ranks.iter().enumerate() {
            layers.order[*rank].push(node);
        }
        let lanes = self.edges.iter().map(|edge| layers.route(*edge, &self.ranks)).collect();
        (layers, lanes)
    }
}

impl Layers {
    /// Adds the lanes of an edge.
    fn route(&mut self, [from, to]: [usize; 2], ranks: &[usize]) -> Vec<usize> {
        let mut slots = Vec::new();
        let mut last = from;
        for rank in ranks[from] + 1..ranks[to] {
            let slot = self.widths.len();
            self.widths.push(0.0);
            self.near.iter_mut().for_each(|near| near.push(Vec::new()));
            self.order[rank].push(slot);
            self.link(last, slot);
            slots.push(slot);
            last = slot;
        }
        if ranks[from] < ranks[to] {
            self.link(last, to);
        }
        slots
    }

    fn link(&mut self, low: usize, high: usize) {
        self.near[1][low].push(high);
        self.near[0][high].push(low);
    }

    /// Orders every rank; returns the crossings left.
    fn sort(&mut self) -> usize {
        let mut best = (self.crossings(), self.order.clone());
        for sweep in 0..SWEEPS {
            let side = sweep % 2;
            let ranks: Vec<usize> =
                if side == 0 { (0..self.order.len()).collect() } else { (0..self.order.len()).rev().collect() };
            for rank in ranks {
                let at = self.positions();
                let mut keyed: Vec<(f64, usize)> = self.order[rank]
                    .iter()
                    .map(|slot| {
                        let near = &self.near[side][*slot];
                        let sum: f64 = near.iter().map(|n| at[*n]).sum();
                        (if near.is_empty() { at[*slot] } else { sum / near.len() as f64 }, *slot)
                    })
                    .collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0)); // stable: equals keep their order
                self.order[rank] = keyed.into_iter().map(|(_, slot)| slot).collect();
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.order.clone());
            }
        }
        self.order = best.1;
        self.swap();
        self.crossings()
    }

    /// Swaps neighbours as long as that saves crossings.
    fn swap(&mut self) {
        for _ in 0..SWEEPS {
            let mut saved = false;
            for rank in 0..self.order.len() {
                let mut at = self.positions();
                for i in 1..self.order[rank].len() {
                    let (a, b) = (self.order[rank][i - 1], self.order[rank][i]);
                    // pairs that cross between the two, the ranks beside them staying as they are
                    let cost = |left: usize, right: usize| -> usize {
                        let pairs = self.near.iter().map(|near| {
                            let over = |l: &usize| near[right].iter().filter(|r| at[**r] < at[*l]).count();
                            near[left].iter().map(over).sum::<usize>()
                        });
                        pairs.sum()
                    };
                    if cost(b, a) < cost(a, b) {
                        self.order[rank].swap(i - 1, i);
                        at.swap(a, b);
                        saved = true;
                    }
                }
            }
            if !saved {
                return;
            }
        }
    }

    /// Each slot's place within its rank, from 0 to 1, so that ranks of any length compare.
    fn positions(&self) -> Vec<f64> {
        let mut at = vec![0.0; self.widths.len()];
        for slots in &self.order {
            for (i, slot) in slots.iter().enumerate() {
                at[*slot] = (i as f64 + 0.5) / slots.len() as f64;
            }
        }
        at
    }

    /// Pairs of edges that cross between neighbouring ranks.
    fn crossings(&self) -> usize {
        let at = self.positions();
        let between = |slots: &Vec<usize>| {
            let mut ends: Vec<(f64, f64)> =
                slots.iter().flat_map(|low| self.near[1][*low].iter().map(|high| (at[*low], at[*high]))).collect();
            ends.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
            let later = |i: usize| ends.iter().skip(i + 1).filter(|e| e.0 > ends[i].0 && e.1 < ends[i].1).count();
            (0..ends.len()).map(later).sum::<usize>()
        };
        self.order.iter().map(between).sum()
    }

    /// Where each slot stands.
    fn settle(&self, graph: &Graph) -> Vec<f64> {
        let mut x = vec![graph.room / 2.0; self.widths.len()];
        for sweep in 0..SETTLES {
            // each side by turns, then both at once
            let sides: &[usize] = match sweep {
                s if s + 8 >= SETTLES => &[0, 1],
                s if s % 2 == 0 => &[0],
                _ => &[1],
            };
            let up = sweep % 2 == 0;
            let count = self.order.len();
            for step in 0..count {
                let rank = if up { step } else { count - 1 - step };
                let slots = &self.order[rank];
                let wanted: Vec<(f64, f64)> = slots.iter().map(|slot| self.wanted(*slot, sides, &x)).collect();
                let apart: Vec<f64> = slots.windows(2).map(|pair| self.apart([pair[0], pair[1]], graph)).collect();
                let half = |slot: Option<&usize>| slot.map_or(0.0, |slot| self.widths[*slot] / 2.0);
                let ends = [half(slots.first()), graph.room - half(slots.last())];
                for (slot, at) in slots.iter().zip(least_squares(&wanted, &apart, ends)) {
                    x[*slot] = at;
                }
            }
        }
        x
    }

    /// Where a slot is drawn to by its neighbours, and how strongly.
    fn wanted(&self, slot: usize, sides: &[usize], x: &[f64]) -> (f64, f64) {
        let is_lane = |slot: usize| slot >= self.nodes;
        let weight = |a: usize, b: usize| match (is_lane(a), is_lane(b)) {
            (true, true) => 8.0,
            (false, false) => 1.0,
            _ => 2.0,
        };
        let (mut sum, mut total) = (0.0, 0.0);
        for side in sides {
            for near in &self.near[*side][slot] {
                sum += weight(slot, *near) * x[*near];
                total += weight(slot, *near);
            }
        }
        if total > 0.0 { (sum / total, total) } else { (x[slot], 0.1) }
    }

    /// Least distance of the middles of two neighbours.
    fn apart(&self, pair: [usize; 2], graph: &Graph) -> f64 {
        let halves = pair.iter().map(|slot| self.widths[*slot] / 2.0).sum::<f64>();
        halves + if pair.iter().all(|slot| *slot < self.nodes) { graph.gap } else { graph.lane }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(ranks: &[usize], edges: &[[usize; 2]]) -> Graph {
        let widths = vec![20.0; ranks.len()];
        Graph { ranks: ranks.to_vec(), widths, edges: edges.to_vec(), room: 200.0, gap: 8.0, lane: 4.0 }
    }

    #[test]
    fn crossings_that_need_not_be_are_undone() {
        let crossings = |graph: Graph| graph.layers().0.sort();
        assert_eq!(crossings(graph(&[0, 0, 0, 1, 1, 1], &[[0, 5], [1, 4], [2, 3]])), 0);
        // two nodes joined to the same two cross once in every order
        assert_eq!(crossings(graph(&[0, 0, 1, 1], &[[0, 2], [0, 3], [1, 2], [1, 3]])), 1);
        // a cube drawn in four ranks: crossings fall, whatever the first order was
        let cube = [[0, 1], [0, 2], [0, 3], [1, 4], [1, 5], [2, 4], [2, 6], [3, 5], [3, 6], [4, 7], [5, 7], [6, 7]];
        assert!(crossings(graph(&[0, 1, 1, 1, 2, 2, 2, 3], &cube)) <= 2);
    }

    #[test]
    fn nodes_keep_apart_and_inside() {
        let edges: Vec<[usize; 2]> = (1..7).flat_map(|n| [[0, n], [n, 7]]).collect();
        let places = graph(&[0, 1, 1, 1, 1, 1, 1, 2], &edges).place();
        let mut middle = places.nodes[1..7].to_vec();
        middle.sort_by(f64::total_cmp);
        assert!(middle.windows(2).all(|w| w[1] - w[0] >= 28.0 - 1e-9), "{middle:?}");
        assert!(middle[0] >= 10.0 && middle[5] <= 190.0);
        assert!((places.nodes[0] - places.nodes[7]).abs() < 1.0, "the ends face each other");
    }

    #[test]
    fn long_edges_are_straight_and_pass_beside_nodes() {
        // a chain of nodes, and an edge that skips it
        let places = graph(&[0, 1, 2, 3], &[[0, 1], [1, 2], [2, 3], [0, 3]]).place();
        let lanes = &places.lanes[3];
        assert_eq!(lanes.len(), 2);
        assert!((lanes[0] - lanes[1]).abs() < 0.5, "{lanes:?}");
        assert!((lanes[0] - places.nodes[1]).abs() >= 14.0 - 1e-9);
    }
}
