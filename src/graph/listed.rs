//! A circuit as a file lists it: edges by name, before it is known whether a model has them.
//!
//! Read are
//! - the JSON of EAP-IG and MIB, `{"cfg": {…}, "nodes": {…}, "edges": {"input->m0": {"score": 0.5, "in_graph": true}, …}}`, with the
//!   bare `NaN` that Python writes and serde refuses, and with nodes and edges that are plain booleans, as older files have them;
//! - a list of names, `["a0.h1->m0", …]` or `{"edges": ["a0.h1->m0", …]}`;
//! - a model's own description, where each task has such a list: `{"ioi": {"edges": […]}, …}`;
//!
//! with names as EAP-IG writes them or as auto-circuit does (`Resid Start`, `A2.4`, `A3.1.Q`, `MLP 2`, `Resid End`). Only whole outputs
//! travel along an edge here: a file that keeps some neurons of a node and not others is refused.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Channel, Edge, Reader, Writer};
use crate::error::{Error, Result};

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listed {
    /// Numbers of the model it was made on, as EAP-IG calls them; empty if the file has none.
    pub cfg: Map<String, Value>,
    /// Every edge that it names, in its order.
    pub edges: Vec<Named>,
    /// Whether it is a graph, which tells kept edges from edges that are cut, or a mere list of what is kept.
    pub whole: bool,
    /// What in it was not taken as it stands.
    pub notes: Vec<String>,
}

/// An edge of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Named {
    /// Which one.
    pub edge: Edge,
    /// Whether it belongs to the circuit.
    pub keep: bool,
    /// Its score, where the file has one; NaN is a score that is not known.
    pub score: Option<f64>,
}

impl Listed {
    /// Reads a file's text; `name` stands for it in errors, and `task` says which task is meant where it describes several.
    pub fn parse(name: &str, text: &str, task: Option<&str>) -> Result<Listed> {
        let value = serde_json::from_str(&quoted(text)).map_err(|e| {
            Error::input(
                format!("{name} cannot be read: {e}"),
                "it is cut short, damaged, or no JSON: a circuit is the JSON of EAP-IG or MIB, or a list of edges",
            )
        })?;
        let file = match value {
            Value::Array(names) => return of_names(name, &names),
            Value::Object(file) => file,
            _ => return Err(nothing(name)),
        };
        match file.get("edges") {
            Some(Value::Object(edges)) => of_graph(name, &file, edges),
            Some(Value::Array(names)) => of_names(name, names),
            Some(_) => Err(nothing(name)),
            None => of_names(name, of_task(name, &file, task)?),
        }
    }

    /// The edges that it keeps.
    pub fn kept(&self) -> BTreeSet<Edge> {
        self.edges.iter().filter(|named| named.keep).map(|named| named.edge).collect()
    }

    /// Whether any edge has a score that is known.
    pub fn is_scored(&self) -> bool {
        self.edges.iter().any(|named| named.score.is_some_and(|score| !score.is_nan()))
    }

    /// Whether edges go into keys or values that several heads share, as names like `a0.kv1<k>` say.
    pub fn is_by_kv_head(&self) -> bool {
        self.edges.iter().any(|named| matches!(named.edge.to, Reader::Head { shared, .. } if shared > 1))
    }
}

fn nothing(name: &str) -> Error {
    Error::input(
        format!("{name} lists no edges"),
        "a circuit is the JSON of EAP-IG or MIB, or {\"edges\": [\"a0.h1->m0\", …]}",
    )
}

/// The list of one task of a model's own description.
fn of_task<'a>(name: &str, file: &'a Map<String, Value>, task: Option<&str>) -> Result<&'a [Value]> {
    let lists = |of: &'a Value| of.get("edges")?.as_array().map(Vec::as_slice);
    let all: Vec<(&String, &[Value])> =
        file.iter().filter_map(|(task, of)| Some((task, lists(of)?))).collect();
    let asked = all.iter().find(|(known, _)| Some(known.as_str()) == task);
    match (asked, all.as_slice()) {
        (Some((_, edges)), _) | (None, [(_, edges)]) => Ok(edges),
        (None, []) => Err(nothing(name)),
        (None, _) => {
            let known: Vec<&str> = all.iter().map(|(task, _)| task.as_str()).collect();
            let which =
                task.map_or("none is asked for".to_owned(), |task| format!("`{task}` is not among them"));
            Err(Error::input(
                format!("{name} describes the tasks {}, and {which}", known.join(", ")),
                "name one with --task",
            ))
        }
    }
}

fn of_names(name: &str, names: &[Value]) -> Result<Listed> {
    let (mut listed, mut wrong) = (Listed::default(), Vec::new());
    for value in names {
        match value.as_str().map(edges) {
            Some(Ok(edges)) => {
                listed.edges.extend(edges.into_iter().map(|edge| Named { edge, keep: true, score: None }));
            }
            _ => wrong.push(value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
        }
    }
    refuse(name, &wrong)?;
    Ok(listed)
}

fn of_graph(name: &str, file: &Map<String, Value>, edges_of: &Map<String, Value>) -> Result<Listed> {
    let absent = absent(name, file.get("nodes"))?;
    let cfg = file.get("cfg").and_then(Value::as_object).cloned().unwrap_or_default();
    let (mut listed, mut wrong) = (Listed { cfg, whole: true, ..Listed::default() }, Vec::new());
    let mut loose = 0;
    for (text, entry) in edges_of {
        let (Ok(edges), Some((mut keep, score))) = (edges(text), entry_of(entry)) else {
            wrong.push(text.clone());
            continue;
        };
        let ends = text.split_once("->").map(|(from, to)| [from, to.split('<').next().unwrap_or(to)]);
        if keep && ends.into_iter().flatten().any(|node| absent.contains(node.trim())) {
            (keep, loose) = (false, loose + 1);
        }
        listed.edges.extend(edges.into_iter().map(|edge| Named { edge, keep, score }));
    }
    refuse(name, &wrong)?;
    if loose > 0 {
        listed
            .notes
            .push(format!("{loose} edge(s) of {name} end at nodes that are not in its graph, and are cut"));
    }
    Ok(listed)
}

/// The nodes that a file leaves out of its graph.
fn absent<'a>(name: &str, nodes: Option<&'a Value>) -> Result<BTreeSet<&'a str>> {
    let mut absent = BTreeSet::new();
    for (node, entry) in nodes.and_then(Value::as_object).into_iter().flatten() {
        let neurons = entry.get("neurons").and_then(Value::as_array);
        if neurons.is_some_and(|neurons| neurons.contains(&Value::Bool(false))) {
            return Err(Error::input(
                format!("{name} keeps only some neurons of {node}"),
                "edges carry whole outputs here: export the circuit at the level of edges",
            ));
        }
        // the logits are always in the graph
        if node != "logits" && entry.get("in_graph").unwrap_or(entry) == &Value::Bool(false) {
            absent.insert(node.as_str());
        }
    }
    Ok(absent)
}

/// Whether an edge is kept, and its score.
fn entry_of(entry: &Value) -> Option<(bool, Option<f64>)> {
    let entry = match entry {
        Value::Bool(keep) => return Some((*keep, None)),
        entry => entry.as_object()?,
    };
    let keep = entry.get("in_graph").map_or(Some(false), Value::as_bool)?;
    let score = match entry.get("score") {
        None => None,
        Some(Value::Null) => Some(f64::NAN),
        Some(Value::String(word)) => Some(word.parse().ok()?),
        Some(number) => Some(number.as_f64()?),
    };
    Some((keep, score))
}

fn refuse(name: &str, wrong: &[String]) -> Result<()> {
    let Some(first) = wrong.first() else { return Ok(()) };
    let more = if wrong.len() > 1 { format!(" and {} more", wrong.len() - 1) } else { String::new() };
    Err(Error::input(
        format!("{name} has entries that are no edges: `{first}`{more}"),
        "edges are written `input->a0.h1<q>`, `a0.h1->m0`, `m0->logits`, and in a graph each has `score` and `in_graph`",
    ))
}

/// The edges that a name stands for: one, or, into a head whose query, key and value are not told apart, three.
fn edges(name: &str) -> Result<Vec<Edge>> {
    let Some((from, to)) = name.split_once("->") else { return Ok(vec![name.parse()?]) };
    let (from, to) = (from.trim(), to.trim());
    let mlp = |name: &str| name.strip_prefix("MLP ")?.trim().parse::<usize>().ok();
    let head = |name: &str| match name.strip_prefix('A')?.parse() {
        Ok(Writer::Head(layer, head)) => Some((layer, head)),
        _ => None,
    };
    let writer = match (from, mlp(from), head(from)) {
        ("Resid Start", _, _) => Writer::Input,
        (_, Some(layer), _) => Writer::Mlp(layer),
        (_, _, Some((layer, head))) => Writer::Head(layer, head),
        _ => from.parse()?,
    };
    let read =
        |(layer, head): (usize, usize), channel: Channel| Reader::Head { layer, channel, head, shared: 1 };
    let one = |letter: &str| Channel::ALL.into_iter().find(|c| c.letter() == letter.to_lowercase());
    let channelled = to.rsplit_once('.').and_then(|(place, letter)| Some(read(head(place)?, one(letter)?)));
    let readers = match (to, mlp(to), head(to), channelled) {
        ("Resid End", ..) => vec![Reader::Logits],
        (_, Some(layer), ..) => vec![Reader::Mlp(layer)],
        (_, _, Some(place), _) => Channel::ALL.map(|channel| read(place, channel)).to_vec(),
        (_, _, _, Some(reader)) => vec![reader],
        _ => vec![to.parse()?],
    };
    Ok(readers.into_iter().map(|to| Edge { from: writer, to }).collect())
}

/// Python's JSON with its bare words for numbers that are not finite put in quotes, as JSON has none.
fn quoted(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    let (mut inside, mut escaped) = (false, false);
    while let Some(c) = rest.chars().next() {
        let bare =
            ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| !inside && rest.starts_with(word));
        if let Some(word) = bare {
            out.extend(["\"", word, "\""]);
            rest = rest.get(word.len()..).unwrap_or_default();
            continue;
        }
        if c == '"' && !escaped {
            inside = !inside;
        }
        escaped = inside && c == '\\' && !escaped;
        out.push(c);
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str, task: Option<&str>) -> Vec<String> {
        let listed = Listed::parse("the file", text, task).unwrap();
        listed.kept().iter().map(Edge::to_string).collect()
    }

    fn refused(text: &str, task: Option<&str>) -> String {
        Listed::parse("the file", text, task).unwrap_err().to_string()
    }

    #[test]
    fn bare_words_of_python_are_numbers_and_texts_stay_texts() {
        let text = r#"{"a": NaN, "b \" NaN": [-Infinity,Infinity], "Infinity\\": "NaN"}"#;
        let expected = r#"{"a": "NaN", "b \" NaN": ["-Infinity","Infinity"], "Infinity\\": "NaN"}"#;
        assert_eq!(quoted(text), expected);
        let text = r#"{"edges": {"input->m0": {"score": NaN, "in_graph": true}, "m0->logits": {"score": -Infinity}}}"#;
        let listed = Listed::parse("the file", text, None).unwrap();
        assert!(listed.edges[0].score.unwrap().is_nan() && listed.edges[0].keep);
        assert_eq!((listed.edges[1].score, listed.edges[1].keep), (Some(f64::NEG_INFINITY), false));
    }

    #[test]
    fn lists_are_read_plain_by_task_and_as_auto_circuit_writes_them() {
        assert_eq!(kept(r#"["a0.h1->m0", "m0 -> logits"]"#, None), ["a0.h1->m0", "m0->logits"]);
        assert_eq!(kept(r#"{"edges": ["input->a1.h2<v>"]}"#, None), ["input->a1.h2<v>"]);
        let tasks = r#"{"ioi": {"roles": {}, "edges": ["m0->m1"]}, "facts": {"edges": ["m0->logits"]}}"#;
        assert_eq!(kept(tasks, Some("facts")), ["m0->logits"]);
        assert!(
            refused(tasks, None).contains("ioi, facts")
                && refused(tasks, Some("capital")).contains("`capital`")
        );
        assert_eq!(
            kept(r#"{"ioi": {"edges": ["m0->m1"]}}"#, Some("mine")),
            ["m0->m1"],
            "the only one there is"
        );
        let auto = r#"["Resid Start->A1.2.K", "A1.2->MLP 1", "MLP 1->Resid End", "A0.3->A1.2"]"#;
        let names = [
            "input->a1.h2<k>",
            "a0.h3->a1.h2<q>",
            "a0.h3->a1.h2<k>",
            "a0.h3->a1.h2<v>",
            "a1.h2->m1",
            "m1->logits",
        ];
        assert_eq!(kept(auto, None), names);
    }

    #[test]
    fn older_files_and_inconsistent_ones_are_read_and_neurons_refused() {
        let older = r#"{"nodes": {"input": true, "m0": true, "a0.h0": false, "logits": false},
            "edges": {"input->m0": true, "m0->logits": true, "input->a0.h0<q>": true, "a0.h0->logits": false}}"#;
        assert_eq!(kept(older, None), ["input->m0", "m0->logits"]);
        let listed = Listed::parse("c.json", older, None).unwrap();
        assert!(listed.whole && listed.notes[0].starts_with("1 edge(s) of c.json"), "{:?}", listed.notes);
        let neurons = r#"{"nodes": {"m0": {"in_graph": true, "neurons": [true, false]}}, "edges": {"m0->logits": true}}"#;
        assert!(refused(neurons, None).contains("some neurons of m0"));
        kept(&neurons.replace("false", "true"), None);
    }

    #[test]
    fn what_is_no_circuit_is_refused_with_a_sentence() {
        for text in [
            "",
            "{",
            "[\"m0->logits\"",
            "null",
            "3",
            "{}",
            "{\"edges\": 3}",
            "{\"ioi\": 1}",
            "{\"edges\": {\"m0\": true}}",
        ] {
            assert!(refused(text, None).contains("the file"), "{text}");
        }
        let said = refused(r#"["m0->logits", "m0", "m1->m0<q>", 7]"#, None);
        assert!(said.contains("`m0` and 2 more"), "{said}");
        assert!(refused(r#"{"edges": {"m0->logits": {"in_graph": "yes"}}}"#, None).contains("`m0->logits`"));
        assert!(refused(r#"{"edges": {"m0->logits": {"score": "big"}}}"#, None).contains("`m0->logits`"));
        assert!(refused(&"[".repeat(1000), None).contains("recursion"));
    }
}
