//! Where the parts of a circuit and its edges are drawn: layers as ranks from the bottom up, attention below its layer's MLP.

use std::collections::BTreeMap;

use super::name::Part;
use super::read::Circuit;
use super::routes::routes;
use crate::figure::font;
use crate::figure::layered::{Graph, Places};
use crate::figure::scene::Frame;
use crate::figure::style::Style;

/// Up to so many parts have their role written out beside their name where it fits.
const FEW: usize = 16;
/// From so many ranks on, they stand closer.
const MANY_RANKS: usize = 12;

/// How close ranks stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Density {
    /// With room for roles in the nodes.
    Airy,
    /// As close as arrows allow, names alone in the nodes: colours say the roles.
    Close,
}

/// What is written in a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// Its role or the initials of it; may be empty.
    pub role: String,
    /// Size of the name.
    pub size: f64,
}

/// The finished places; y counts from the top of the picture of the graph.
pub struct Layout {
    /// The box of each node.
    pub nodes: Vec<Frame>,
    /// What is written in each.
    pub labels: Vec<Label>,
    /// Points of each edge from its writer to its reader, upwards.
    pub routes: Vec<Vec<[f64; 2]>>,
    /// Top and bottom of every layer that has a part, with its number.
    pub layers: Vec<(usize, [f64; 2])>,
    /// Initials that stand for a role, where roles are not written out.
    pub initials: Vec<(String, String)>,
    /// Height of it all.
    pub height: f64,
}

/// Lays out a circuit in `room` points across; `height` is a wish.
pub fn layout(circuit: &Circuit, style: &Style, room: f64, height: Option<f64>, density: Density) -> Layout {
    let unit = style.space(1.0);
    let close = density == Density::Close;
    let written = labels(circuit, style, true);
    let few = circuit.nodes.len() <= FEW && !close;
    let fits = |labels: &[Label]| {
        let sizes = sizes(circuit, labels, unit, room, density);
        rows(circuit, &sizes, unit, room).values().all(|row| row.rows == 1)
    };
    let full = few && fits(&written);
    let mut labels = if full { written } else { labels(circuit, style, false) };
    labels.iter_mut().filter(|_| close).for_each(|label| label.role.clear());
    let sizes = sizes(circuit, &labels, unit, room, density);
    let mut ranks = rows(circuit, &sizes, unit, room);

    // one rank of the graph for each row of parts
    let mut first = 0;
    for row in ranks.values_mut() {
        row.first = first;
        first += row.rows;
    }
    let mut seen: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let rank_of: Vec<usize> = circuit
        .nodes
        .iter()
        .map(|node| {
            let key = node.part.rank();
            let nth = seen.entry(key).or_insert(0);
            *nth += 1;
            ranks.get(&key).map_or(0, |row| row.first + (*nth - 1) % row.rows)
        })
        .collect();
    let graph = Graph {
        ranks: rank_of.clone(),
        widths: sizes.iter().map(|size| size[0]).collect(),
        edges: circuit.edges.iter().map(|edge| edge.ends).collect(),
        room,
        gap: GAP * unit,
        lane: LANE * unit,
    };
    let places = spread(graph.place(), &graph);

    let mut high = vec![0.0f64; first];
    for (rank, size) in rank_of.iter().zip(&sizes) {
        high[*rank] = high[*rank].max(size[1]);
    }
    let head = circuit.edges.iter().map(|edge| circuit.look(edge, unit).head()).fold(0.0, f64::max);
    let between = between(&high, unit, head, height, density);
    let total = high.iter().sum::<f64>() + between * first as f64;
    let mut middles = Vec::new();
    let mut y = total;
    for high in &high {
        middles.push(y - between / 2.0 - high / 2.0);
        y -= between + high;
    }
    let frame = |(i, size): (usize, &[f64; 2])| {
        Frame::new(places.nodes[i] - size[0] / 2.0, middles[rank_of[i]] - size[1] / 2.0, size[0], size[1])
    };
    let nodes: Vec<Frame> = sizes.iter().enumerate().map(frame).collect();
    let mut layers: Vec<(usize, [f64; 2])> = Vec::new();
    for ((node, rank), _) in circuit.nodes.iter().zip(&rank_of).zip(&nodes) {
        let Some(layer) = node.part.layer() else { continue };
        let half = (high[*rank] + between) / 2.0;
        let own = [middles[*rank] - half, middles[*rank] + half];
        match layers.iter_mut().find(|(known, _)| *known == layer) {
            Some((_, ends)) => *ends = [ends[0].min(own[0]), ends[1].max(own[1])],
            None => layers.push((layer, own)),
        }
    }
    let routes = routes(circuit, &nodes, &places.lanes, &rank_of, &middles, unit);
    let mut initials = if full { Vec::new() } else { initials(circuit) };
    initials.iter_mut().filter(|_| close).for_each(|(short, _)| short.clear());
    Layout { nodes, labels, routes, layers, initials, height: total }
}

/// The places in the middle of the room, drawn apart as far as that leaves them in it.
fn spread(mut places: Places, graph: &Graph) -> Places {
    let ends = |stretch: f64| {
        let nodes = places.nodes.iter().zip(&graph.widths).map(|(x, w)| (*x, *w));
        let all = nodes.chain(places.lanes.iter().flatten().map(|x| (*x, 0.0)));
        all.fold([f64::INFINITY, f64::NEG_INFINITY], |[lo, hi], (x, w)| {
            [lo.min(x * stretch - w / 2.0), hi.max(x * stretch + w / 2.0)]
        })
    };
    let fits = |stretch: &f64| {
        let [lo, hi] = ends(*stretch);
        hi - lo <= graph.room
    };
    let steps = (0..=MOST_STRETCH).rev().map(|percent| 1.0 + f64::from(percent) / 100.0);
    let stretch = steps.into_iter().find(fits).unwrap_or(1.0);
    let [lo, hi] = ends(stretch);
    let moved = |x: &mut f64| *x = *x * stretch + (graph.room - lo - hi) / 2.0;
    places.nodes.iter_mut().for_each(moved);
    places.lanes.iter_mut().flatten().for_each(moved);
    places
}

/// How far a graph narrower than its room is drawn apart, in per cent.
const MOST_STRETCH: u32 = 35;
/// Space between nodes, and beside a lane, for type of 7 points.
const GAP: f64 = 7.0;
pub const LANE: f64 = 3.0;

/// Parts that run side by side.
struct Row {
    /// Rows that they are put in.
    rows: usize,
    /// The rank of the first.
    first: usize,
}

/// In how many rows the parts of each rank must stand, the lanes that pass them included.
fn rows(circuit: &Circuit, sizes: &[[f64; 2]], unit: f64, room: f64) -> BTreeMap<(usize, usize), Row> {
    let mut wide: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for (node, size) in circuit.nodes.iter().zip(sizes) {
        *wide.entry(node.part.rank()).or_insert(-GAP * unit) += size[0] + GAP * unit;
    }
    let rank = |node: usize| circuit.nodes[node].part.rank();
    wide.into_iter()
        .map(|(key, wide)| {
            let passing = circuit
                .edges
                .iter()
                .filter(|edge| rank(edge.ends[0]) < key && key < rank(edge.ends[1]))
                .count();
            let left = (room - passing as f64 * LANE * unit).max(room / 3.0);
            (key, Row { rows: (wide / left).ceil().max(1.0) as usize, first: 0 })
        })
        .collect()
}

/// Space between the ranks: airy for few, and never so little that arrows cannot be seen; the longest is `head` long.
fn between(high: &[f64], unit: f64, head: f64, height: Option<f64>, density: Density) -> f64 {
    let count = high.len().max(1) as f64;
    let usual =
        if high.len() < MANY_RANKS { (6.0 * unit + 2.2 * head).max(17.0 * unit) } else { 10.5 * unit };
    let (least, most) =
        if density == Density::Close { (7.0 * unit, usual) } else { (9.0 * unit, 80.0 * unit) };
    let wished = height.map(|height| (height - high.iter().sum::<f64>()) / count);
    wished.map_or(usual, |wished| wished.clamp(least, most))
}

fn labels(circuit: &Circuit, style: &Style, full: bool) -> Vec<Label> {
    let size = if circuit.nodes.len() <= FEW { style.tick } else { style.small };
    let short: BTreeMap<String, String> =
        initials(circuit).into_iter().map(|(initials, role)| (role, initials)).collect();
    let role = |role: &str| {
        if full {
            font::fit(role, style.small, false, 9.0 * style.tick)
        } else {
            short.get(role).cloned().unwrap_or_default()
        }
    };
    circuit.nodes.iter().map(|node| Label { name: node.part.name(), role: role(&node.role), size }).collect()
}

/// Width and height of each node: an ellipse or a box about its label; the ends are as wide as their edges need.
fn sizes(circuit: &Circuit, labels: &[Label], unit: f64, room: f64, density: Density) -> Vec<[f64; 2]> {
    // above and below a name
    let air = if density == Density::Close { 3.0 * unit } else { 5.0 * unit };
    let two = labels.iter().any(|label| !label.role.is_empty());
    let size = |(i, (node, label)): (usize, (&super::read::Node, &Label))| {
        let role = font::width(&label.role, label.role_size(), false);
        let wide = font::width(&label.name, label.size, false).max(role);
        let high = label.size * if two && matches!(node.part, Part::Head { .. }) { 2.0 } else { 1.0 };
        let high = if label.role.is_empty() { high } else { label.size * 2.0 };
        let edges = circuit.edges.iter().filter(|edge| edge.ends.contains(&i)).count();
        match node.part {
            Part::Head { .. } => [wide * 1.22 + 5.0 * unit, high * 1.25 + air],
            Part::Mlp(_) => {
                [wide + 8.0 * unit, (high + air + unit).max((wide + 8.0 * unit).min(11.0 * unit + air))]
            }
            Part::Input | Part::Logits => {
                let wished = 9.0 * unit * edges as f64;
                [(wide + 14.0 * unit).max(wished.min(0.8 * room)), high + air + 2.0 * unit]
            }
        }
    };
    circuit.nodes.iter().zip(labels).enumerate().map(size).collect()
}

impl Label {
    /// The size of the second line.
    pub fn role_size(&self) -> f64 {
        (self.size - 1.0).max(5.0)
    }
}

/// Initials for each role: `name mover` is NM. Roles that would share theirs are told apart by a number.
fn initials(circuit: &Circuit) -> Vec<(String, String)> {
    let mut taken: Vec<(String, String)> = Vec::new();
    for role in circuit.roles() {
        let words: Vec<&str> = role.split([' ', '-', '_']).filter(|word| !word.is_empty()).collect();
        let firsts = words.iter().filter_map(|word| word.chars().find(|c| c.is_alphanumeric()));
        let mut short: String = firsts.take(4).flat_map(char::to_uppercase).collect();
        if words.len() == 1 {
            short.extend(words.iter().flat_map(|word| word.chars().skip(1).take(2)));
        }
        let stem = if short.is_empty() { "R".to_owned() } else { short };
        let clash = |tried: &str| taken.iter().any(|(known, _)| known == tried);
        let numbered = (2..).map(|n| format!("{stem}{n}"));
        let free = std::iter::once(stem.clone()).chain(numbered).find(|tried| !clash(tried));
        taken.push((free.unwrap_or_default(), role.to_owned()));
    }
    taken
}
