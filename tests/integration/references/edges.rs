//! Edges and circuits under EAP-IG's definitions.

use std::collections::BTreeMap;

use candle_core::Tensor;
use glassbox::analysis::circuit::{Circuits, Method};
use glassbox::analysis::edges::Scoring::{CleanCorrupt, Eap, EapIgActivations, EapIgInputs, Exact};
use glassbox::analysis::{Analysis, edges as analysis};
use glassbox::graph::{Circuit, Edge, Exchange, Graph, Selection, Written, scores};
use glassbox::metric::Metric;
use glassbox::model::Base;
use glassbox::sweep::Reading;
use serde::Deserialize;

use super::{Pair, Reference, hold, pairs_of, read, references};
use crate::causal::{numbers, table};

/// The graph, and where its edges stand in the reference's lists.
struct Edges {
    graph: Graph,
    /// Of each edge of the reference, its number here.
    number: Vec<usize>,
}

impl Edges {
    fn of(reference: &Reference) -> Edges {
        let graph = Graph::of(&reference.model);
        let names: Vec<String> = read(&reference.values["edges"]);
        let find = |name: &String| graph.find(name.parse::<Edge>().unwrap()).unwrap();
        let number: Vec<usize> = names.iter().map(find).collect();
        assert_eq!(number.len(), graph.len(), "as many edges");
        Edges { graph, number }
    }

    /// A list of the reference's, ordered as the graph's edges.
    fn ordered(&self, theirs: &[f64]) -> Vec<f64> {
        let mut ours = vec![f64::NAN; theirs.len()];
        self.number.iter().zip(theirs).for_each(|(&edge, &x)| ours[edge] = x);
        ours
    }

    fn circuit(&self, kept: &[usize]) -> Circuit {
        Circuit::of(&self.graph, kept.iter().map(|&edge| self.number[edge])).unwrap()
    }
}

/// LD of a pair's clean run with each list of edges cut.
fn cut(reference: &Reference, pair: &Pair, graph: &Graph, cuts: &[Vec<usize>], zero: bool) -> Vec<f64> {
    let model = &reference.model;
    let base = Base::record(model, &reference.ids(&pair.clean), Written::needs).unwrap();
    let own = Written::of(model, graph, &base.kept).unwrap();
    let mut other = Written::of(model, graph, &reference.recorded(&pair.corrupt)).unwrap();
    if zero {
        other.each.iter_mut().for_each(|x| *x = x.zeros_like().unwrap());
    }
    let exchange = Exchange { model, graph, base: &base, own: &own, other: &other, first_pos: 0 };
    let logit = |x: &Tensor, id: usize| x.narrow(1, id, 1)?.squeeze(1);
    let read = [pair.clean.len() - 1];
    let reading = Reading::new(&read, |x, _| Ok((logit(x, pair.answer)? - logit(x, pair.wrong)?)?));
    scores(&reference.lab(), &exchange, cuts, &reading).unwrap().concat()
}

/// EAP-IG's code lets every edge take the passes of every place where outputs are interpolated; here an edge takes those of its own
/// writer's, which makes the edges out of a place sum to its effect. Both are in the file, and differ.
#[test]
fn scores_of_edges_agree() {
    for reference in references() {
        let edges = Edges::of(&reference);
        let all = ["exact", "eap", "eap-ig-inputs", "eap-ig-activations", "clean-corrupt"];
        let scorings = [Exact, Eap, EapIgInputs, EapIgActivations, CleanCorrupt];
        let analysis = analysis::Edges { methods: scorings.to_vec(), ..Default::default() };
        let findings = analysis.run(&reference.lab(), &pairs_of(&reference.pairs)).unwrap();
        let stored = |name: &str| edges.ordered(&read::<Vec<f64>>(&reference.values[name]));
        let of = |method: &str| {
            let rows = table(&findings, "edges").only("method", method).unwrap();
            let mut ours = vec![f64::NAN; edges.graph.len()];
            for (name, lost) in rows.texts("edge").unwrap().iter().zip(numbers(&rows, "lost")) {
                ours[edges.graph.find(name.parse().unwrap()).unwrap()] = lost;
            }
            ours
        };
        let names = ["exact", "eap", "eap_ig_inputs", "eap_ig_activations", "clean_corrupted"];
        for (method, name) in all.into_iter().zip(names) {
            hold(&format!("{}, {method}", reference.name), &of(method), &stored(name));
        }
        let (ours, theirs) = (of("eap-ig-activations"), stored("eap_ig_activations_all"));
        assert!(ours.iter().zip(&theirs).any(|(a, b)| (a - b).abs() > 0.1), "the definitions differ");
        if let Some(apart) = reference.values["ungrouped"].as_object() {
            // EAP-IG takes a reader for each query head: those that share a key have one here, and the sum of their scores
            let mut summed = vec![0.0; edges.graph.len()];
            let (names, scores): (Vec<String>, Vec<f64>) = (read(&apart["edges"]), read(&apart["eap"]));
            assert!(names.len() > edges.graph.len());
            for (name, score) in names.iter().zip(scores) {
                summed[edges.graph.find(name.parse().unwrap()).unwrap()] += score;
            }
            hold(&format!("{}, eap by query head", reference.name), &of("eap"), &summed);
        }
    }
}

#[derive(Deserialize)]
struct Kept {
    kept: Vec<usize>,
    ld: Vec<f64>,
}

#[test]
fn circuits_agree() {
    for reference in references() {
        let edges = Edges::of(&reference);
        for (which, zero) in [("circuits", false), ("zero", true)] {
            let circuits: Vec<Kept> = read(&reference.values[which]);
            let cuts: Vec<Vec<usize>> = circuits.iter().map(|c| edges.circuit(&c.kept).cut()).collect();
            for (i, pair) in reference.pairs.iter().enumerate() {
                let theirs: Vec<f64> = circuits.iter().map(|circuit| circuit.ld[i]).collect();
                let ours = cut(&reference, pair, &edges.graph, &cuts, zero);
                hold(&format!("{}, {which}", reference.name), &ours, &theirs);
            }
        }
    }
}

#[test]
fn selected_and_pruned_circuits_agree() {
    #[derive(Deserialize)]
    struct Selected {
        n: usize,
        top: Vec<usize>,
        greedy: Vec<usize>,
    }
    for reference in references().filter(|reference| !reference.values["select"].is_null()) {
        let edges = Edges::of(&reference);
        let scores = edges.ordered(&read::<Vec<f64>>(&reference.values["eap"]));
        let selected: Vec<Selected> = read(&reference.values["select"]);
        assert!(selected.iter().any(|s| s.top.len() < s.n), "pruning is at work");
        for Selected { n, top, greedy } in selected {
            for (how, theirs) in [(Selection::TopN, top), (Selection::Greedy, greedy)] {
                let ours = how.choose(&edges.graph, &scores, n, true).pruned(&edges.graph);
                assert_eq!(ours, edges.circuit(&theirs), "{}, {how:?} of {n}", reference.name);
            }
        }
    }
}

#[test]
fn areas_of_circuits_by_size_agree() {
    #[derive(Deserialize)]
    struct Areas {
        fractions: Vec<f64>,
        faithfulness: BTreeMap<String, Vec<f64>>,
        cpr: f64,
        cmd: f64,
    }
    for reference in references().filter(|reference| !reference.values["areas"].is_null()) {
        let theirs: Areas = read(&reference.values["areas"]);
        let circuits = Circuits {
            method: Method::Eap,
            select: Selection::TopN,
            edges: Some(25),
            subsets: 0,
            randoms: 0,
            ..Circuits::default()
        };
        let findings = circuits.run(&reference.lab(), &pairs_of(&reference.pairs)).unwrap();
        let sizes = table(&findings, "circuit_sizes");
        for (order, theirs_faithful) in &theirs.faithfulness {
            let rows = sizes.only("order", order).unwrap();
            let at = |fraction: &f64| {
                let row = numbers(&rows, "fraction").iter().position(|x| x == fraction).unwrap();
                numbers(&rows, "faithfulness")[row]
            };
            let ours: Vec<f64> = theirs.fractions.iter().map(at).collect();
            hold(&format!("{}, faithfulness of {order}", reference.name), &ours, theirs_faithful);
        }
        let summary = table(&findings, "circuit_summary");
        let area = |name| numbers(&summary.only("measure", name).unwrap(), "value")[0];
        hold("areas", &[area("CPR"), area("CMD")], &[theirs.cpr, theirs.cmd]);
    }
}

#[test]
fn acdc_keeps_the_same_edges() {
    #[derive(Deserialize)]
    struct Found {
        metric: String,
        threshold: f64,
        kept: Vec<usize>,
    }
    for reference in references() {
        let edges = Edges::of(&reference);
        let found: Vec<Found> = read(&reference.values["acdc"]);
        for Found { metric, threshold, kept } in found {
            let circuits = Circuits {
                method: Method::Acdc,
                thresholds: vec![threshold],
                loss: if metric == "kl" { Metric::Kl } else { Metric::LogitDiff },
                subsets: 0,
                ..Circuits::default()
            };
            let findings = circuits.run(&reference.lab(), &pairs_of(&reference.pairs[..1])).unwrap();
            let names = table(&findings, "circuit").texts("edge").unwrap();
            let numbers = names.iter().map(|name| edges.graph.find(name.parse().unwrap()).unwrap());
            let ours = Circuit::of(&edges.graph, numbers).unwrap();
            let theirs = edges.circuit(&kept).pruned(&edges.graph);
            println!(
                "{}, {metric} {threshold}: {} edges of {}",
                reference.name,
                ours.len(),
                edges.graph.len()
            );
            assert_eq!(ours, theirs, "{}, {metric} {threshold}", reference.name);
        }
    }
}
