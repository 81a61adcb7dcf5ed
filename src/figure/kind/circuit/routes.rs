//! The ways of a circuit's edges past its nodes.

use std::collections::BTreeMap;

use super::layout::LANE;
use super::name::{Channel, Part};
use super::read::Circuit;
use crate::figure::scene::Frame;

/// The most of a head's width that the ends of one channel take.
const WIDEST: f64 = 0.36;

/// The points of every edge. Edges leave from the top of a node and arrive at the bottom: a head's query at the left, its key in
/// the middle, its value at the right; several at one place stand beside each other in the order in which they come.
pub fn routes(
    circuit: &Circuit,
    nodes: &[Frame],
    lanes: &[Vec<f64>],
    rank_of: &[usize],
    middles: &[f64],
    unit: f64,
) -> Vec<Vec<[f64; 2]>> {
    let middle = |node: usize| nodes[node].x + nodes[node].w / 2.0;
    // where the edge comes from or goes to next, as seen from each of its ends
    let next = |edge: usize, end: usize| {
        let lanes = &lanes[edge];
        let near = if end == 0 { lanes.first() } else { lanes.last() };
        near.copied().unwrap_or_else(|| middle(circuit.edges[edge].ends[1 - end]))
    };
    let mut ports: BTreeMap<(usize, usize, Option<Channel>), Vec<usize>> = BTreeMap::new();
    for (i, edge) in circuit.edges.iter().enumerate() {
        ports.entry((edge.ends[0], 0, None)).or_default().push(i);
        ports.entry((edge.ends[1], 1, edge.channel)).or_default().push(i);
    }
    let mut ends = vec![[[0.0; 2]; 2]; circuit.edges.len()];
    for ((node, end, channel), mut edges) in ports {
        edges.sort_by(|&a, &b| next(a, end).total_cmp(&next(b, end)).then(a.cmp(&b)));
        let (frame, is_head) = (nodes[node], matches!(circuit.nodes[node].part, Part::Head { .. }));
        let (shift, span) = match (is_head, channel) {
            (true, Some(Channel::Query)) => (-0.28, 0.2),
            (true, Some(Channel::Value)) => (0.28, 0.2),
            (true, Some(Channel::Key)) => (0.0, 0.2),
            (true, None) => (0.0, 0.36),
            (false, _) => (0.0, 0.8),
        };
        // thick ends stand side by side as far as the node is wide enough
        let thick: f64 =
            edges.iter().map(|edge| 2.0 * circuit.look(&circuit.edges[*edge], unit).half()).sum();
        let span = (thick / frame.w).clamp(span, span.max(WIDEST));
        for (k, edge) in edges.iter().enumerate() {
            let part = (k as f64 + 0.5) / edges.len() as f64 - 0.5;
            let across = shift + part * span;
            // how far the outline of an ellipse lies above its lowest point there
            let rise = if is_head { 0.5 - (0.25 - across * across).max(0.0).sqrt() } else { 0.0 };
            let y = if end == 0 { frame.y + rise * frame.h } else { frame.bottom() - rise * frame.h };
            ends[*edge][end] = [middle(node) + across * frame.w, y];
        }
    }
    let points = |i: usize| {
        let [from, _] = circuit.edges[i].ends;
        let between = lanes[i].iter().enumerate().map(|(k, x)| [*x, middles[rank_of[from] + 1 + k]]);
        let [start, end] = ends[i];
        let points: Vec<[f64; 2]> = std::iter::once(start).chain(between).chain([end]).collect();
        let others = nodes.iter().enumerate().filter(|(node, _)| !circuit.edges[i].ends.contains(node));
        let others: Vec<Frame> = others.map(|(_, frame)| grown(frame, LANE * unit)).collect();
        pulled(&points, &others)
    };
    (0..circuit.edges.len()).map(points).collect()
}

/// Points without those that only make bends: what is left keeps clear of the frames.
fn pulled(points: &[[f64; 2]], frames: &[Frame]) -> Vec<[f64; 2]> {
    let mut kept: Vec<[f64; 2]> = points.first().copied().into_iter().collect();
    let mut at = 0;
    while at + 1 < points.len() {
        let clear = |to: &usize| !frames.iter().any(|frame| touches(points[at], points[*to], frame));
        at = (at + 2..points.len()).rev().find(clear).unwrap_or(at + 1);
        kept.push(points[at]);
    }
    kept
}

fn grown(frame: &Frame, by: f64) -> Frame {
    Frame::new(frame.x - by, frame.y - by, frame.w + 2.0 * by, frame.h + 2.0 * by)
}

/// Whether a line shares a point with a frame (Liang and Barsky 1984).
fn touches(a: [f64; 2], b: [f64; 2], frame: &Frame) -> bool {
    let (mut first, mut last) = (0.0f64, 1.0f64);
    for (start, step, low, high) in
        [(a[0], b[0] - a[0], frame.x, frame.right()), (a[1], b[1] - a[1], frame.y, frame.bottom())]
    {
        if step.abs() < 1e-12 {
            if start < low || start > high {
                return false;
            }
            continue;
        }
        let (s, t) = ((low - start) / step, (high - start) / step);
        (first, last) = (first.max(s.min(t)), last.min(s.max(t)));
    }
    first <= last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bends_that_avoid_nothing_are_pulled_straight() {
        let points = [[0.0, 30.0], [5.0, 20.0], [-5.0, 10.0], [0.0, 0.0]];
        assert_eq!(pulled(&points, &[]), [[0.0, 30.0], [0.0, 0.0]]);
        let block = Frame::new(-3.0, 19.0, 5.0, 2.0);
        assert_eq!(pulled(&points, &[block]), [[0.0, 30.0], [5.0, 20.0], [0.0, 0.0]]);
    }

    #[test]
    fn lines_meet_frames() {
        let frame = Frame::new(0.0, 0.0, 10.0, 10.0);
        assert!(touches([-5.0, 5.0], [15.0, 5.0], &frame) && touches([5.0, 5.0], [6.0, 6.0], &frame));
        assert!(!touches([-5.0, 0.0], [0.0, 16.0], &frame) && !touches([20.0, 0.0], [20.0, 9.0], &frame));
    }
}
