//! Edges and circuits under EAP-IG's definitions.

use candle_core::Tensor;
use glassbox::gradient::Gradients;
use glassbox::graph::{Channel, Circuit, Edge, Exchange, Graph, Reader, Selection, Written, scores};
use glassbox::lab::{About, Lab};
use glassbox::model::Base;
use glassbox::site::{At, Site};
use glassbox::vocabulary::Vocabulary;
use serde::Deserialize;

use super::{Pair, Reference, hold, read, references};

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

fn lab(reference: &Reference) -> Lab {
    Lab::new(reference.model.clone(), Vocabulary::default(), About::default())
}

fn mean(rows: &[Vec<f64>]) -> Vec<f64> {
    let sum = |i: usize| rows.iter().map(|row| row[i]).sum::<f64>() / rows.len() as f64;
    (0..rows[0].len()).map(sum).collect()
}

/// LD of a pair's clean run with each list of edges cut.
fn cut(reference: &Reference, pair: &Pair, graph: &Graph, cuts: &[Vec<usize>], zero: bool) -> Vec<f64> {
    let model = &reference.model;
    let base = Base::record(model, &reference.ids(&pair.clean), Written::needs).unwrap();
    let own = Written::of(model, graph, &base.kept).unwrap();
    let other = Written::of(model, graph, &reference.recorded(&pair.corrupt)).unwrap();
    let other = if zero { other.map(|x| Ok(x.zeros_like()?)).unwrap() } else { other };
    let exchange = Exchange { model, graph, base: &base, own: &own, other: &other, first_pos: 0 };
    let logit = |x: &Tensor, id: usize| x.narrow(1, id, 1)?.squeeze(1);
    let score = |x: &Tensor| Ok((logit(x, pair.answer)? - logit(x, pair.wrong)?)?);
    let read = [pair.clean.len() - 1];
    scores(&lab(reference), &exchange, cuts, &read, &score).unwrap().concat()
}

#[test]
fn every_edge_cut_by_itself_agrees() {
    for reference in references() {
        let edges = Edges::of(&reference);
        let alone: Vec<Vec<usize>> = (0..edges.graph.len()).map(|edge| vec![edge]).collect();
        let effects = |pair: &Pair| -> Vec<f64> {
            let whole = reference.edited(pair, &pair.clean, vec![]);
            cut(&reference, pair, &edges.graph, &alone, false).iter().map(|ld| whole - ld).collect()
        };
        let ours: Vec<Vec<f64>> = reference.pairs.iter().map(effects).collect();
        let theirs: Vec<f64> = read(&reference.values["exact"]);
        hold(&format!("{}, exact edges", reference.name), &mean(&ours), &edges.ordered(&theirs));
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

/// Σ (clean − corrupt)·∂LD at readers' own inputs, by the engine's parts.
fn eap(reference: &Reference, pair: &Pair, graph: &Graph, at: &[u32]) -> Vec<f64> {
    let model = &reference.model;
    let written = |tokens: &[u32]| Written::of(model, graph, &reference.recorded(tokens)).unwrap().each;
    let (clean, corrupt) = (written(&pair.clean), written(&pair.corrupt));
    let wanted = |site| {
        matches!(site, Site::Block(_, At::QInput | At::KInput | At::VInput | At::MlpIn | At::ResidPost))
    };
    let mut hook = Gradients::new(wanted);
    let logits = model.forward(&reference.ids(at), &mut hook).unwrap();
    let gradients = hook.of(&pair.difference(&logits)).unwrap();
    let gradient = |reader: Reader| match reader {
        Reader::Head { layer, channel, head, .. } => {
            let at = [At::QInput, At::KInput, At::VInput]
                [Channel::ALL.iter().position(|c| *c == channel).unwrap()];
            gradients.block(layer, at).unwrap().narrow(2, head, 1).unwrap().squeeze(2).unwrap()
        }
        Reader::Mlp(layer) => gradients.block(layer, At::MlpIn).unwrap().clone(),
        Reader::Logits => gradients.block(model.config.n_layers - 1, At::ResidPost).unwrap().clone(),
    };
    let score = |edge: usize| {
        let (writer, reader) = graph.ends(edge);
        let change = (&clean[writer] - &corrupt[writer]).unwrap();
        let product = (change * gradient(graph.readers()[reader])).unwrap();
        product.sum_all().unwrap().to_scalar::<f64>().unwrap()
    };
    (0..graph.len()).map(score).collect()
}

#[test]
fn edge_attribution_from_gradients_agrees() {
    for reference in references() {
        let edges = Edges::of(&reference);
        let of = |at: fn(&Pair) -> &[u32]| -> Vec<Vec<f64>> {
            reference.pairs.iter().map(|pair| eap(&reference, pair, &edges.graph, at(pair))).collect()
        };
        let (clean, corrupt) = (of(|pair| &pair.clean), of(|pair| &pair.corrupt));
        let both: Vec<Vec<f64>> = clean.iter().chain(&corrupt).cloned().collect();
        for (what, ours) in [("eap", mean(&clean)), ("clean_corrupted", mean(&both))] {
            let theirs: Vec<f64> = read(&reference.values[what]);
            hold(&format!("{}, {what}", reference.name), &ours, &edges.ordered(&theirs));
        }
    }
}
