//! A circuit from the rows of a table: edges, the parts they join, and what those parts are for.

use std::collections::{BTreeMap, BTreeSet};

use super::ink::{Look, Scale};
use super::name::{Channel, Part};
use crate::error::{Error, Result};
use crate::figure::font;
use crate::figure::ticks;
use crate::figure::view::{View, optional_numbers, optional_texts};
use crate::row::Rows;

/// Edges kept when the view does not say.
const KEPT: usize = 150;
/// More edges than this no page shows; their layout would take long.
const MOST: usize = 600;

/// A part of the model that some edge joins.
pub struct Node {
    /// Which.
    pub part: Part,
    /// What it is for, visible text; empty where nobody says.
    pub role: String,
}

/// Who tells whom.
pub struct Edge {
    /// The writer and the reader, among the nodes.
    pub ends: [usize; 2],
    /// With what a head reads.
    pub channel: Option<Channel>,
    /// How much it matters; none where that is missing or not finite.
    pub score: Option<f64>,
    /// Shown on hover.
    pub tip: String,
}

/// What is drawn.
pub struct Circuit {
    /// In order of execution.
    pub nodes: Vec<Node>,
    /// As in the table.
    pub edges: Vec<Edge>,
    /// How many edges the table has.
    pub all: usize,
}

/// A row.
struct Row {
    from: Part,
    to: Part,
    channel: Option<Channel>,
    score: Option<f64>,
    interval: Option<(f64, f64)>,
}

impl Circuit {
    /// Reads the rows; the largest edges are kept.
    pub fn read(rows: &Rows, view: &View) -> Result<Circuit> {
        let from = rows.texts(view.need("x", &view.x)?)?;
        let to = rows.texts(view.need("y", &view.y)?)?;
        let channels = optional_texts(rows, &view.group)?;
        let scores = optional_numbers(rows, &view.value)?;
        let (lo, hi) = (optional_numbers(rows, &view.lo)?, optional_numbers(rows, &view.hi)?);
        let roles_of = [optional_texts(rows, &view.x_text)?, optional_texts(rows, &view.y_text)?];
        let mut read = Vec::new();
        let mut known = BTreeSet::new();
        let mut roles: BTreeMap<Part, String> = BTreeMap::new();
        for i in 0..rows.len() {
            let (writer, _) = Part::parse(&from[i])?;
            let (reader, named) = Part::parse(&to[i])?;
            let told = channels.as_ref().map_or(Ok(None), |letters| Channel::parse(&letters[i]))?;
            let channel = told.or(named);
            refuse(writer, reader)?;
            if !known.insert((writer, reader, channel)) {
                return Err(Error::input(
                    format!("two rows hold the edge from `{}` to `{}`", from[i].trim(), to[i].trim()),
                    "keep one of them with `only`, such as the rows of one method",
                ));
            }
            for (part, roles_of) in [writer, reader].into_iter().zip(&roles_of) {
                if let Some(role) = roles_of.as_ref().map(|all| all[i].trim()).filter(|role| !role.is_empty())
                {
                    roles.entry(part).or_insert_with(|| font::visible(role));
                }
            }
            let score = scores[i].filter(|score| score.is_finite());
            read.push(Row { from: writer, to: reader, channel, score, interval: lo[i].zip(hi[i]) });
        }
        let all = read.len();
        let read = largest(read, view.top.unwrap_or(KEPT).min(MOST));
        let parts: BTreeSet<Part> = read.iter().flat_map(|row| [row.from, row.to]).collect();
        let place: BTreeMap<Part, usize> = parts.iter().enumerate().map(|(i, part)| (*part, i)).collect();
        let at = |part: &Part| place.get(part).copied().unwrap_or(0);
        let edges = read
            .iter()
            .map(|row| Edge {
                ends: [at(&row.from), at(&row.to)],
                channel: row.channel,
                score: row.score,
                tip: tip(row),
            })
            .collect();
        let nodes =
            parts.iter().map(|part| Node { part: *part, role: roles.remove(part).unwrap_or_default() });
        Ok(Circuit { nodes: nodes.collect(), edges, all })
    }

    /// The roles there are, in order of execution.
    pub fn roles(&self) -> Vec<&str> {
        let mut roles: Vec<&str> = Vec::new();
        for node in self.nodes.iter().filter(|node| !node.role.is_empty()) {
            if !roles.contains(&node.role.as_str()) {
                roles.push(&node.role);
            }
        }
        roles
    }

    /// What widths mean.
    pub fn scale(&self, unit: f64) -> Scale {
        let largest = self.edges.iter().filter_map(|edge| edge.score).map(f64::abs).fold(0.0, f64::max);
        Scale::new(largest, self.edges.len(), unit)
    }

    /// How an edge is drawn.
    pub fn look(&self, edge: &Edge, unit: f64) -> Look {
        Look::of(edge.score, edge.channel, &self.scale(unit))
    }
}

/// Refuses what has no ranks: a circuit runs forward, so that a cycle always has an edge that does not.
fn refuse(from: Part, to: Part) -> Result<()> {
    let (writer, reader) = (from.name(), to.name());
    if from == to {
        return Err(Error::input(
            format!("the edge from `{writer}` to `{reader}` joins a part to itself"),
            "an edge goes to a part that runs later; leave this row out",
        ));
    }
    if from.rank() >= to.rank() {
        return Err(Error::input(
            format!(
                "the edge from `{writer}` to `{reader}` does not run forward, and a circuit has no cycles"
            ),
            "check that `x` names who writes and `y` who reads; attention runs before the MLP of its layer",
        ));
    }
    Ok(())
}

/// The rows with the largest scores, in the order of the table; rows without a score last.
fn largest(rows: Vec<Row>, top: usize) -> Vec<Row> {
    let size = |row: &Row| row.score.map_or(-1.0, f64::abs);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| size(&rows[b]).total_cmp(&size(&rows[a])).then(a.cmp(&b)));
    let kept: BTreeSet<usize> = order.into_iter().take(top).collect();
    rows.into_iter().enumerate().filter(|(i, _)| kept.contains(i)).map(|(_, row)| row).collect()
}

fn tip(row: &Row) -> String {
    let channel = row.channel.map_or_else(String::new, |channel| format!(" ({})", channel.letter()));
    let score = row.score.map_or_else(|| "no score".to_owned(), ticks::exact);
    let interval = row
        .interval
        .map_or_else(String::new, |(lo, hi)| format!(" [{}, {}]", ticks::exact(lo), ticks::exact(hi)));
    format!("{} → {}{channel}: {score}{interval}", row.from.name(), row.to.name())
}
