//! Graphs as EAP-IG and MIB write and read them (Hanna et al. 2024, Mueller et al. 2025).
//!
//! ```text
//! {"cfg": {"n_layers": 3, "n_heads": 4, "parallel_attn_mlp": false, "d_model": 64},
//!  "nodes": {"input": {"in_graph": true}, "a0.h0": {"in_graph": false}, …, "logits": {"in_graph": true}},
//!  "edges": {"input->a0.h0<q>": {"score": 0.25, "in_graph": false}, …}}
//! ```
//!
//! All edges stand there, kept or not, in EAP-IG's order. A node is in the graph if an edge that touches it is kept. An edge without a score
//! has `NaN`, bare as Python writes it.
//!
//! **Heads that share keys and values.** There, every query head has a key and a value of its own, whatever the model does; here those
//! of a group have one. An edge into a shared key is written once for each head that shares it, each with an equal part of its
//! score, so that sums are kept. Read back, scores of the copies are added up, which is what a score by gradients is of the shared edge;
//! a file that keeps some of the copies and cuts others is refused, because a shared key cannot be cut for one of its heads.

use super::{Channel, Circuit, Edge, Graph, Listed, Reader, Writer};
use crate::error::{Error, Result};
use crate::model::{Config, Wiring};

/// The numbers of a model that stand in its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Blocks.
    pub n_layers: usize,
    /// Query heads per block.
    pub n_heads: usize,
    /// Whether MLPs read what attention reads.
    pub parallel: bool,
    /// Width of the stream.
    pub d_model: usize,
}

impl Shape {
    /// Of a model of this configuration.
    pub fn of(config: &Config) -> Shape {
        Shape {
            n_layers: config.n_layers,
            n_heads: config.n_heads,
            parallel: config.wiring == Wiring::Parallel,
            d_model: config.d_model,
        }
    }
}

/// What a file says about a model's graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// The edges it keeps.
    pub circuit: Circuit,
    /// The score of every edge of the graph, if the file has scores; 0 for those that it does not name.
    pub scores: Option<Vec<f64>>,
    /// What in it was not taken as it stands.
    pub notes: Vec<String>,
}

/// The text of a graph with all its edges; `scores` has one for each.
pub fn write(graph: &Graph, shape: &Shape, circuit: &Circuit, scores: Option<&[f64]>) -> Result<String> {
    if let Some(scores) = scores.filter(|scores| scores.len() != graph.len()) {
        let (got, expected) = (vec![scores.len()], format!("one for each of {} edges", graph.len()));
        return Err(Error::Shape { what: "a graph's scores".to_owned(), got, expected });
    }
    let Shape { n_layers, n_heads, parallel, d_model } = shape;
    let cfg = format!(
        "{{\"n_layers\": {n_layers}, \"n_heads\": {n_heads}, \"parallel_attn_mlp\": {parallel}, \"d_model\": {d_model}}}"
    );
    let edges = ordered(graph)?;
    let mut touched = std::collections::BTreeSet::new();
    for (edge, _) in edges.iter().filter(|(_, number)| circuit.has(*number)) {
        touched.insert(edge.from.to_string());
        touched.insert(node(edge.to));
    }
    let names = graph.writers().iter().map(Writer::to_string).chain(["logits".to_owned()]);
    let nodes = names.map(|name| {
        let inside = name == "logits" || touched.contains(&name);
        format!("\"{name}\": {{\"in_graph\": {inside}}}")
    });
    let edges = edges.into_iter().map(|(edge, number)| {
        let score = scores.and_then(|scores| scores.get(number)).copied().unwrap_or(f64::NAN);
        let (score, kept) = (number_text(score / copies(graph, number) as f64), circuit.has(number));
        format!("\"{edge}\": {{\"score\": {score}, \"in_graph\": {kept}}}")
    });
    let lines = |entries: Vec<String>| entries.join(",\n");
    let (nodes, edges) = (lines(nodes.collect()), lines(edges.collect()));
    Ok(format!("{{\"cfg\": {cfg},\n\"nodes\": {{\n{nodes}}},\n\"edges\": {{\n{edges}}}}}\n"))
}

/// Reads any kind of file that [`Listed`] knows as a circuit of this graph. Edges that it does not name are not kept; a name that the graph
/// does not have, or numbers of another model, are errors.
pub fn read(graph: &Graph, shape: &Shape, listed: &Listed) -> Result<Read> {
    fits(shape, listed)?;
    let (mut kept, mut scores, mut unknown) = (vec![0; graph.len()], vec![0.0; graph.len()], Vec::new());
    for named in &listed.edges {
        let number = match graph.find(named.edge) {
            Ok(number) => number,
            Err(why) => {
                unknown.push((named.edge, why));
                continue;
            }
        };
        // the name of a key-value head stands for all copies
        let shared = matches!(named.edge.to, Reader::Head { shared, .. } if shared > 1);
        if named.keep {
            kept[number] += if shared || !listed.whole { copies(graph, number) } else { 1 };
        }
        scores[number] += named.score.unwrap_or(0.0);
    }
    if unknown.len() > 1 {
        let names: Vec<String> = unknown.iter().take(5).map(|(edge, _)| edge.to_string()).collect();
        let more = if unknown.len() > 5 { ", …" } else { "" };
        let message = format!("the model has no edges {}{more}: {} in all", names.join(", "), unknown.len());
        return Err(Error::input(message, "check that the circuit is of this model"));
    }
    if let Some((_, why)) = unknown.pop() {
        return Err(why);
    }
    let mut circuit = Circuit::empty(graph);
    for (number, &kept) in kept.iter().enumerate() {
        let copies = copies(graph, number);
        if kept > 0 && kept < copies {
            return Err(Error::input(
                format!(
                    "{} is one edge, because {copies} heads share it, and the circuit keeps {kept} of its copies",
                    graph.edge(number)
                ),
                "keep the copies of all heads that share it, or of none",
            ));
        }
        if kept > 0 {
            circuit.put(number, true)?;
        }
    }
    Ok(Read { circuit, scores: listed.is_scored().then_some(scores), notes: listed.notes.clone() })
}

/// Refuses a file whose numbers are of another model.
fn fits(shape: &Shape, listed: &Listed) -> Result<()> {
    let Shape { n_layers, n_heads, parallel, d_model } = *shape;
    let own = [
        ("n_layers", n_layers.into()),
        ("n_heads", n_heads.into()),
        ("d_model", d_model.into()),
        ("parallel_attn_mlp", serde_json::Value::Bool(parallel)),
    ];
    let differ = own.iter().filter_map(|(key, own)| {
        let theirs = listed.cfg.get(*key).filter(|theirs| *theirs != own)?;
        Some(format!("{key} {theirs} (here {own})"))
    });
    let differ: Vec<String> = differ.collect();
    if differ.is_empty() {
        return Ok(());
    }
    Err(Error::input(
        format!("the circuit is of another model: it says {}", differ.join(", ")),
        "name with --model the model that it was found in",
    ))
}

/// The name of the node that a reader belongs to.
fn node(reader: Reader) -> String {
    match reader {
        Reader::Head { layer, head, .. } => Writer::Head(layer, head).to_string(),
        other => other.to_string(),
    }
}

/// How many edges of EAP-IG an edge is.
fn copies(graph: &Graph, edge: usize) -> usize {
    match graph.edge(edge).to {
        Reader::Head { channel: Channel::K | Channel::V, shared, .. } => shared.max(1),
        _ => 1,
    }
}

/// Every edge as EAP-IG names it, in EAP-IG's order, with its number in the graph: of each layer first those into heads, from each writer
/// before it in turn, head by head, each q, k, v; then those into the MLP, which in parallel blocks stand beside the heads'.
fn ordered(graph: &Graph) -> Result<Vec<(Edge, usize)>> {
    let mut all = Vec::with_capacity(graph.len());
    let layer_of = |reader: &Reader| match *reader {
        Reader::Head { layer, .. } | Reader::Mlp(layer) => layer,
        Reader::Logits => usize::MAX,
    };
    for group in graph.readers().chunk_by(|a, b| layer_of(a) == layer_of(b)) {
        let mut heads = Vec::new();
        for head in 0.. {
            let readers = Channel::ALL.map(|channel| Reader::Head {
                layer: layer_of(&group[0]),
                channel,
                head,
                shared: 1,
            });
            let queried = group.contains(&readers[0]);
            if !queried {
                break;
            }
            for reader in readers {
                heads.push((reader, graph.reader(reader)?));
            }
        }
        let rest = group.iter().filter(|reader| !matches!(reader, Reader::Head { .. }));
        let rest = rest.map(|&reader| Ok((reader, graph.reader(reader)?))).collect::<Result<Vec<_>>>()?;
        let before = heads.first().map_or(0, |&(_, place)| graph.reach(place));
        let beside = rest.iter().all(|&(_, place)| graph.reach(place) == before);
        let rounds = if beside { vec![[heads, rest].concat()] } else { vec![heads, rest] };
        for readers in rounds.into_iter().filter(|readers| !readers.is_empty()) {
            for writer in 0..graph.reach(readers[0].1) {
                let from = graph.writers()[writer];
                all.extend(
                    readers.iter().map(|&(to, place)| (Edge { from, to }, graph.number(writer, place))),
                );
            }
        }
    }
    Ok(all)
}

/// A number as Python's JSON has it.
fn number_text(x: f64) -> String {
    match x {
        x if x.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        x => format!("{x:?}"),
    }
}
