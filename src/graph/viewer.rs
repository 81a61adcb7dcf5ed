//! A circuit as an attribution graph, for the viewers of Neuronpedia and circuit-tracer.
//!
//! The format is that of Neuronpedia's `graph-schema.json` and of circuit-tracer's `graph_models.py` (schema version 1): `metadata`,
//! `qParams`, `nodes`, `links`. Those viewers show features of transcoders at each position of one prompt; a circuit's nodes are
//! whole components, and its edges stand for all positions and all prompts. So it is mapped:
//!
//! - A head is a node of the type `lorsa`, which is drawn as attention (▴), with the head as its index; an MLP one of the type
//!   `cross layer transcoder` (●), with the number of heads as its index, so that no two nodes of a layer have one. `feature` pairs layer and
//!   index as Cantor did, which schema version 1 means. Their label (`clerp`) says what they are, with their role where one is known:
//!   `a2.h0: name mover`.
//! - The input is one node on the row `E`, with the index -1 and a type of its own, `input`: viewers label nodes of the type `embedding`
//!   with the token at their position, which would be wrong of all embeddings together.
//! - The logits are one node of the type `logit`: the target token with its probability.
//! - Every node stands at the last position, because a circuit's edges do not tell positions apart.
//! - A link is all edges from one node to another. Its weight is the sum of their scores, or their number where there are none, and
//!   `channels` (which viewers do not read) has each by itself. An edge into a key or value that several heads share is divided among
//!   those of them that are in the circuit.
//!
//! There is no `influence` and no `node_threshold`: the circuit has been chosen already, and viewers show all of it. Neuronpedia's viewer opens
//! no graph whose nodes are all of layer 0, that is, of a model with one layer.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Circuit, Graph, Reader, Writer};
use crate::error::{Error, Result};

/// What the graph is of.
pub struct Scene<'a> {
    /// What it is called; letters and digits are kept.
    pub name: &'a str,
    /// The model.
    pub model: &'a str,
    /// The prompt.
    pub prompt: &'a str,
    /// Its tokens as texts.
    pub tokens: &'a [String],
    /// The token whose logit is the top of the graph: id, text, probability at the last position.
    pub target: (u32, &'a str, f64),
    /// What a link's weight is, in a sentence.
    pub about: &'a str,
    /// The role of a component; empty where none is known.
    pub role: &'a dyn Fn(Writer) -> String,
}

/// The text of the attribution graph of a circuit; `scores` has one for each edge of the graph. A score that is not a finite number is an error,
/// as JSON has none.
pub fn attribution_graph(
    graph: &Graph,
    circuit: &Circuit,
    scores: Option<&[f64]>,
    scene: &Scene,
) -> Result<String> {
    let heads = graph.writers().iter().filter(|writer| matches!(writer, Writer::Head(0, _))).count();
    let layers = graph.writers().iter().filter_map(|writer| writer.layer()).max().map_or(0, |last| last + 1);
    let place = scene.tokens.len().saturating_sub(1);
    let named = |node: Node| node.id(heads, layers, place, scene.target.0);
    let writing = circuit.writers(graph);

    let mut links: BTreeMap<(Node, Node), Map<String, Value>> = BTreeMap::new();
    let mut nodes = BTreeSet::from([Node::Logits]);
    for edge in circuit.edges() {
        let (from, reader) = (graph.edge(edge).from, graph.edge(edge).to);
        let score =
            scores.map_or(Some(1.0), |scores| scores.get(edge).copied().filter(|score| score.is_finite()));
        let score = score.ok_or_else(|| {
            Error::input(
                format!("{} has no finite score, and a picture of the circuit needs one", graph.edge(edge)),
                "leave the scores out, or see why the metric has no value there",
            )
        })?;
        for (to, share) in heads_of(graph, reader, &writing) {
            nodes.extend([Node::Writer(from), to]);
            let channel = if let Reader::Head { channel, .. } = reader { channel.letter() } else { "all" };
            links
                .entry((Node::Writer(from), to))
                .or_default()
                .insert(channel.to_owned(), json!(score * share));
        }
    }
    let links = links.into_iter().map(|((from, to), channels)| {
        let weight: f64 = channels.values().filter_map(Value::as_f64).sum();
        let mut link = json!({ "source": named(from), "target": named(to), "weight": weight });
        if !channels.contains_key("all") {
            link["channels"] = Value::Object(channels);
        }
        link
    });
    let links: Vec<Value> = links.collect();
    let pinned: Vec<String> = nodes.iter().map(|&node| named(node)).collect();
    let nodes: Vec<Value> =
        nodes.into_iter().map(|node| node.describe(heads, layers, place, scene)).collect();
    let description = format!(
        "A circuit of {}: nodes are whole components, shown at the last position; edges are over all positions. {}",
        scene.model, scene.about
    );
    let generator = json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") });
    let file = json!({
        "metadata": {
            "slug": slug(scene.name),
            "scan": scene.model,
            "transcoder_list": [],
            "prompt_tokens": scene.tokens,
            "prompt": scene.prompt,
            "schema_version": 1,
            "info": { "description": description, "generator": generator },
        },
        "qParams": { "pinnedIds": pinned, "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": "" },
        "nodes": nodes,
        "links": links,
    });
    Ok(format!("{file:#}\n"))
}

/// What an edge feeds, and the part of it that each gets.
fn heads_of(graph: &Graph, reader: Reader, writing: &BTreeSet<Writer>) -> Vec<(Node, f64)> {
    let all = graph.owners(reader);
    let inside: Vec<Writer> = all.iter().copied().filter(|owner| writing.contains(owner)).collect();
    let fed = if inside.is_empty() { all } else { inside };
    match fed.len() {
        0 => vec![(Node::Logits, 1.0)],
        n => fed.into_iter().map(|owner| (Node::Writer(owner), 1.0 / n as f64)).collect(),
    }
}

/// A node of the picture: the input first, the logits last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Writer(Writer),
    Logits,
}

impl Node {
    /// Its layer, and its index there.
    fn index(self, heads: usize) -> Option<(usize, usize)> {
        match self {
            Node::Writer(Writer::Head(layer, head)) => Some((layer, head)),
            Node::Writer(Writer::Mlp(layer)) => Some((layer, heads)),
            Node::Writer(Writer::Input) | Node::Logits => None,
        }
    }

    /// `<layer>_<index>_<position>`.
    fn id(self, heads: usize, layers: usize, place: usize, target: u32) -> String {
        match (self, self.index(heads)) {
            (_, Some((layer, index))) => format!("{layer}_{index}_{place}"),
            (Node::Logits, None) => format!("{}_{target}_{place}", layers + 1),
            _ => format!("E_-1_{place}"),
        }
    }

    fn describe(self, heads: usize, layers: usize, place: usize, scene: &Scene) -> Value {
        let (id, text, probability) = scene.target;
        let mut label = match self {
            Node::Writer(Writer::Input) => "input: the embeddings of all tokens".to_owned(),
            Node::Writer(writer) => writer.to_string(),
            // viewers read the probability out of this label
            Node::Logits => format!("Output \"{}\" (p={probability:.3})", text.replace("(p=", "(p =")),
        };
        let role = if let Node::Writer(writer) = self { (scene.role)(writer) } else { String::new() };
        if !role.is_empty() {
            label = format!("{label}: {role}");
        }
        let (layer, feature, kind, js) = match (self, self.index(heads)) {
            (Node::Writer(writer), Some((layer, index))) => {
                let kind = if matches!(writer, Writer::Mlp(_)) { "cross layer transcoder" } else { "lorsa" };
                (layer.to_string(), json!(cantor(layer, index)), kind, format!("{layer}_{index}-0"))
            }
            (Node::Logits, _) => ((layers + 1).to_string(), json!(id), "logit", format!("L_{id}-{place}")),
            _ => ("E".to_owned(), json!(-1), "input", format!("E_-1-{place}")),
        };
        let is_target = self == Node::Logits;
        json!({
            "node_id": self.id(heads, layers, place, id),
            "feature": feature,
            "layer": layer,
            "ctx_idx": place,
            "feature_type": kind,
            "token_prob": if is_target { probability } else { 0.0 },
            "is_target_logit": is_target,
            "run_idx": 0,
            "reverse_ctx_idx": 0,
            "jsNodeId": js,
            "clerp": label,
            "influence": null,
            "activation": null,
        })
    }
}

/// One number for two, as Cantor counted pairs.
fn cantor(x: usize, y: usize) -> usize {
    (x + y) * (x + y + 1) / 2 + y
}

/// A name that can stand in an address.
fn slug(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let words: String = name.chars().map(kept).collect();
    let words: Vec<&str> = words.split('-').filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "circuit".to_owned() } else { words.join("-") }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::model::{Config, Transformer};

    fn graph(config: Config) -> Graph {
        Graph::of(&Transformer::random(config, 0, DType::F32).unwrap())
    }

    fn circuit(graph: &Graph, names: &[&str]) -> Circuit {
        Circuit::of(graph, names.iter().map(|name| graph.find(name.parse().unwrap()).unwrap())).unwrap()
    }

    fn file(graph: &Graph, circuit: &Circuit, scores: Option<&[f64]>) -> Result<Value> {
        let role = |writer| if writer == Writer::Head(1, 2) { "mover".to_owned() } else { String::new() };
        let scene = Scene {
            name: "ioi on Textbook/2!",
            model: "textbook",
            prompt: "a \"b\"",
            tokens: &["a".to_owned(), " \"b\"".to_owned()],
            target: (7, " (p=x", 0.25),
            about: "Weights are scores.",
            role: &role,
        };
        Ok(serde_json::from_str(&attribution_graph(graph, circuit, scores, &scene)?).unwrap())
    }

    /// What the published schema asks of a file, key by key.
    fn conforms(file: &Value) {
        let is_text = |of: &Value, keys: &[&str]| {
            keys.iter().for_each(|key| assert!(of[key].is_string(), "{key}: {of}"));
        };
        is_text(&file["metadata"], &["slug", "scan", "prompt"]);
        assert!(file["metadata"]["prompt_tokens"].as_array().unwrap().iter().all(Value::is_string));
        assert!(file["metadata"].get("node_threshold").is_none_or(Value::is_number));
        is_text(&file["qParams"], &["linkType", "clickedId", "sg_pos"]);
        assert!(file["qParams"]["pinnedIds"].is_array() && file["qParams"]["supernodes"].is_array());
        let mut ids = BTreeSet::new();
        let mut features = BTreeSet::new();
        for node in file["nodes"].as_array().unwrap() {
            is_text(node, &["node_id", "layer", "feature_type", "jsNodeId", "clerp"]);
            assert!(node["feature"].is_i64() && node["ctx_idx"].is_u64(), "{node}");
            assert!(ids.insert(node["node_id"].as_str().unwrap()), "{node}");
            // viewers tell nodes apart by these three, too
            assert!(
                features.insert(format!("{}_{}_{}", node["layer"], node["feature"], node["ctx_idx"])),
                "{node}"
            );
            if node["feature_type"] == "logit" {
                let label = node["clerp"].as_str().unwrap();
                let number = label.split("(p=").nth(1).unwrap().split(')').next().unwrap();
                assert_eq!(number.parse::<f64>().unwrap(), 0.25);
            }
        }
        for link in file["links"].as_array().unwrap() {
            assert!(link["weight"].is_f64(), "{link}");
            for end in ["source", "target"] {
                assert!(ids.contains(link[end].as_str().unwrap()), "{link}");
            }
        }
    }

    #[test]
    fn a_circuit_becomes_nodes_at_the_last_position_and_links_by_node() {
        let graph = graph(Config::tiny());
        let names = ["input->m0", "m0->a1.h2<q>", "m0->a1.h2<k>", "a1.h2->logits"];
        let circuit = circuit(&graph, &names);
        let mut scores = vec![0.0; graph.len()];
        for (name, score) in names.iter().zip([1.0, 0.5, -2.0, 3.0]) {
            scores[graph.find(name.parse().unwrap()).unwrap()] = score;
        }
        let file = file(&graph, &circuit, Some(&scores)).unwrap();
        conforms(&file);
        let nodes = file["nodes"].as_array().unwrap();
        let of = |key: &str| nodes.iter().map(|node| node[key].as_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(of("feature_type"), ["input", "lorsa", "cross layer transcoder", "logit"]);
        assert_eq!(of("node_id"), ["E_-1_1", "1_2_1", "0_4_1", "3_7_1"]);
        assert_eq!(of("clerp")[1], "a1.h2: mover");
        assert_eq!(file["metadata"]["slug"], "ioi-on-textbook-2");
        let link = file["links"].as_array().unwrap().iter().find(|link| link["target"] == "1_2_1").unwrap();
        assert_eq!((&link["weight"], &link["channels"]), (&json!(-1.5), &json!({"q": 0.5, "k": -2.0})));
        assert_eq!(file["qParams"]["pinnedIds"].as_array().unwrap().len(), 4);
        scores[graph.find("input->m0".parse().unwrap()).unwrap()] = f64::NAN;
        assert!(super::tests::file(&graph, &circuit, Some(&scores)).is_err());
    }

    #[test]
    fn whatever_the_circuit_the_file_conforms_and_weights_add_up() {
        for config in [Config::tiny(), Config::tiny_rotary()] {
            let graph = graph(config);
            let scores: Vec<f64> = (0..graph.len()).map(|edge| (edge as f64).sin()).collect();
            for step in [1, 3, 7, graph.len() + 1] {
                let circuit = Circuit::of(&graph, (1..graph.len()).step_by(step)).unwrap();
                for scores in [None, Some(scores.as_slice())] {
                    let file = file(&graph, &circuit, scores).unwrap();
                    conforms(&file);
                    let links = file["links"].as_array().unwrap().iter();
                    let sum: f64 = links.map(|link| link["weight"].as_f64().unwrap()).sum();
                    let expected: f64 =
                        circuit.edges().map(|edge| scores.map_or(1.0, |scores| scores[edge])).sum();
                    assert!((sum - expected).abs() < 1e-9, "{sum} {expected}");
                }
            }
            conforms(&file(&graph, &Circuit::empty(&graph), None).unwrap());
        }
    }
}
