//! Two circuits compared as files list them, by the names of their edges: no model is needed.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Edge, Listed, Reader, Writer};
use super::{Agreement, auroc};
use crate::error::{Error, Result};

/// What two files have in common; the second is the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Of the edges that are kept.
    pub edges: Agreement,
    /// Of the nodes that a kept edge leaves, the input among them.
    pub nodes: Agreement,
    /// How well the size of the first file's scores tells the second's edges from the others; none if the first is no graph
    /// with scores, or where [`auroc`] has no value.
    pub auroc: Option<f64>,
    /// The same of the scores as they stand, negative ones below all others.
    pub auroc_signed: Option<f64>,
    /// Every edge that either keeps, and its score in each.
    pub each: Vec<Each>,
}

/// An edge of two files.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Each {
    /// Which one.
    pub edge: Edge,
    /// Whether the first and the second keep it.
    pub kept: [bool; 2],
    /// Its score in each, where it is known.
    pub scores: [Option<f64>; 2],
}

/// Compares a file with a reference. Files of different models are an error where it shows: other numbers of the model, an edge that a
/// graph does not have, or heads of which one file names those that share keys and the other does not.
pub fn files(found: &Listed, reference: &Listed) -> Result<Compared> {
    let differ = |why: String| Error::input(why, "compare circuits of one model");
    if let Some((key, own)) =
        found.cfg.iter().find(|(key, own)| reference.cfg.get(*key).is_some_and(|other| other != *own))
    {
        let other = reference.cfg.get(key).unwrap_or(own);
        return Err(differ(format!(
            "the circuits are of different models: {key} is {own} in one and {other} in the other"
        )));
    }
    let by_head = |listed: &Listed| listed.edges.iter().any(|named| is_head_key(named.edge.to));
    for (one, other) in [(found, reference), (reference, found)] {
        if one.is_by_kv_head() && by_head(other) {
            return Err(Error::input(
                "one circuit names keys by key-value head (`a0.kv1<k>`), the other by head (`a0.h2<k>`)",
                "write both as graphs: `glassbox circuit eval FILE --model MODEL --out NEW.json`",
            ));
        }
        let known: BTreeSet<Edge> = one.edges.iter().map(|named| named.edge).collect();
        let unknown: Vec<String> = other.kept().difference(&known).map(Edge::to_string).collect();
        if let (true, Some(first)) = (one.whole, unknown.first()) {
            let n = unknown.len();
            return Err(differ(format!(
                "{n} edge(s) of one circuit do not exist in the other's graph: {first} …"
            )));
        }
    }
    let (kept, expected) = (found.kept(), reference.kept());
    let leave = |edges: &BTreeSet<Edge>| edges.iter().map(|edge| edge.from).collect::<BTreeSet<Writer>>();
    let area = |of: &dyn Fn(f64) -> f64| {
        let scores: Vec<f64> = found.edges.iter().map(|named| of(named.score.unwrap_or(0.0))).collect();
        let positive: Vec<bool> = found.edges.iter().map(|named| expected.contains(&named.edge)).collect();
        if found.whole && found.is_scored() { auroc(&scores, &positive) } else { None }
    };
    let known = |listed: &Listed| -> BTreeMap<Edge, f64> {
        let scored = listed.edges.iter().filter_map(|named| Some((named.edge, named.score?)));
        scored.filter(|(_, score)| !score.is_nan()).collect()
    };
    let scores = [known(found), known(reference)];
    let each = kept.union(&expected).map(|edge| Each {
        edge: *edge,
        kept: [kept.contains(edge), expected.contains(edge)],
        scores: [scores[0].get(edge).copied(), scores[1].get(edge).copied()],
    });
    Ok(Compared {
        edges: Agreement::of(&kept, &expected),
        nodes: Agreement::of(&leave(&kept), &leave(&expected)),
        auroc: area(&f64::abs),
        auroc_signed: area(&|score| score),
        each: each.collect(),
    })
}

/// Whether a reader is the key or value of a query head.
fn is_head_key(reader: Reader) -> bool {
    matches!(reader, Reader::Head { channel, shared: 1, .. } if channel.letter() != "q")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Listed {
        Listed::parse("the file", text, None).unwrap()
    }

    const GRAPH: &str = r#"{"cfg": {"n_layers": 1, "d_model": 8}, "nodes": {}, "edges": {
        "input->m0": {"score": -4.0, "in_graph": true}, "m0->logits": {"score": 1.0, "in_graph": true},
        "input->logits": {"score": 2.0, "in_graph": false}}}"#;

    #[test]
    fn a_graph_and_a_list_by_hand() {
        let both = files(&listed(GRAPH), &listed(r#"["input->m0"]"#)).unwrap();
        assert_eq!(both.edges, Agreement { found: 2, reference: 1, shared: 1 });
        assert_eq!(both.nodes, Agreement { found: 2, reference: 1, shared: 1 });
        assert_eq!((both.auroc, both.auroc_signed), (Some(1.0), Some(0.0)));
        assert_eq!(both.each.len(), 2);
        assert_eq!(both.each[0].scores, [Some(-4.0), None]);
        let turned = files(&listed(r#"["input->m0"]"#), &listed(GRAPH)).unwrap();
        assert_eq!((turned.edges.found, turned.auroc), (1, None));
        let unknown = GRAPH.replace("-4.0", "NaN");
        assert_eq!(files(&listed(&unknown), &listed(r#"["input->m0"]"#)).unwrap().auroc, None);
    }

    #[test]
    fn files_of_different_models_are_refused() {
        let said = |a: &str, b: &str| files(&listed(a), &listed(b)).unwrap_err().to_string();
        assert!(said(GRAPH, &GRAPH.replace("\"d_model\": 8", "\"d_model\": 9")).contains("d_model is 8"));
        assert!(said(GRAPH, r#"["m1->logits"]"#).contains("m1->logits"));
        assert!(said(r#"["m1->logits"]"#, GRAPH).contains("m1->logits"));
        assert!(said(r#"["m0->a1.kv0<k>"]"#, r#"["m0->a1.h0<k>"]"#).contains("key-value head"));
        assert!(files(&listed(r#"["m0->a1.kv0<k>"]"#), &listed(r#"["m0->a1.h0<q>"]"#)).is_ok());
    }
}
