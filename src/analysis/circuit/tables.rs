//! The tables of circuits.

use std::collections::BTreeSet;

use super::judge::{Complete, Judged, Tried};
use super::rows::{CompleteRow, EdgeRow, ExampleRow, NodeRow, RocRow, SizeRow};
use super::{Chosen, Circuits, Known};
use crate::analysis::Findings;
use crate::analysis::attribution::numbers;
use crate::analysis::edges::{Carry, Runs};
use crate::error::Result;
use crate::graph::compare::Roc;
use crate::graph::{Circuit, Reader, Writer, json, viewer};
use crate::ops;
use crate::row::Rows;
use crate::stats::mean;
use crate::stats::{Bootstrap, Estimate};
use crate::task::Side;

pub(super) fn findings(
    parameters: &Circuits,
    runs: &Runs,
    chosen: &Chosen,
    judged: &Judged,
) -> Result<Findings> {
    let (lab, task, graph, circuit) = (runs.lab, runs.task, &runs.graph, &chosen.circuit);
    let bootstrap = Bootstrap::grouped(&task.units(), lab.seed);
    let reference = Known::of(lab, task, graph)?;
    let stability = parameters.stability(runs, chosen);
    let table = Table { runs, bootstrap: &bootstrap };

    let mut order: Vec<usize> = circuit.edges().collect();
    if let Some(scores) = &chosen.scores {
        order.sort_by(|&a, &b| scores[b].abs().total_cmp(&scores[a].abs()).then(a.cmp(&b)));
    }
    let gaps = runs.gaps();
    let edges: Vec<EdgeRow> = order
        .iter()
        .map(|&edge| {
            let name = graph.edge(edge);
            let score = chosen.lost.as_ref().map(|lost| bootstrap.ratio(&lost[edge], Some(&gaps)));
            EdgeRow {
                edge: name.to_string(),
                from: name.from.to_string(),
                to: name.to.to_string(),
                channel: match name.to {
                    Reader::Head { channel, .. } => channel.letter().to_owned(),
                    _ => String::new(),
                },
                effect: chosen.scores.as_ref().map(|scores| scores[edge]),
                ci_lo: score.and_then(|score| score.lo),
                ci_hi: score.and_then(|score| score.hi),
                stability: stability.as_ref().map(|(_, kept)| kept[edge]),
                known: reference.as_ref().and_then(|known| known.says(edge)),
            }
        })
        .collect();
    let examples: Vec<ExampleRow> = task
        .examples
        .iter()
        .enumerate()
        .map(|(i, example)| ExampleRow {
            example: example.id.clone(),
            whole: runs.own[i],
            nothing: runs.other[i],
            circuit: judged.measured[i],
            faithfulness: (judged.measured[i] - runs.other[i]) / runs.gap(),
        })
        .collect();
    let curve = reference.as_ref().and_then(|known| curve(chosen, known));
    let mut tables = vec![
        Rows::of("circuit_summary", &table.summary(chosen, judged, reference.as_ref(), &stability, &curve)),
        Rows::of("circuit", &edges),
        Rows::of("circuit_nodes", &table.nodes(chosen, judged)),
    ];
    if !chosen.tried.is_empty() {
        tables.push(Rows::of("circuit_sizes", &table.sizes(&chosen.tried)));
    }
    if !judged.complete.is_empty() {
        tables.push(Rows::of("circuit_completeness", &table.complete(judged)));
    }
    if let Some(curve) = &curve {
        let point = |&(false_positives, true_positives): &(f64, f64)| RocRow {
            method: chosen.method.to_owned(),
            false_positives,
            true_positives,
        };
        tables.push(Rows::of("circuit_roc", &curve.points.iter().map(point).collect::<Vec<_>>()));
    }
    tables.push(Rows::of("examples_circuit", &examples));
    let shape = json::Shape::of(&lab.model.config);
    let mut findings = Findings { tables, notes: notes(parameters, runs, chosen), ..Findings::default() };
    let scores = chosen.scores.as_deref();
    findings.files.insert("circuit.json".to_owned(), json::write(graph, &shape, circuit, scores)?);
    findings.files.insert("attribution_graph.json".to_owned(), viewed(runs, chosen)?);
    Ok(findings)
}

/// How known edges are found: by a threshold on the size of scores, or by the circuits that ACDC finds.
fn curve(chosen: &Chosen, known: &Known) -> Option<Roc> {
    if let Some(scores) = &chosen.scores {
        return known.roc(scores);
    }
    let circuits: Vec<Circuit> = chosen.tried.iter().map(|tried| tried.circuit.clone()).collect();
    if circuits.is_empty() { None } else { known.roc_of_circuits(&circuits) }
}

pub(super) struct Table<'a> {
    pub(super) runs: &'a Runs<'a>,
    pub(super) bootstrap: &'a Bootstrap,
}

impl Table<'_> {
    /// What is kept of the behaviour, from the metric of each example.
    pub(super) fn faithfulness(&self, measured: &[f64]) -> Estimate {
        let kept: Vec<f64> = measured.iter().zip(&self.runs.other).map(|(m, other)| m - other).collect();
        self.bootstrap.ratio(&kept, Some(&self.runs.gaps()))
    }

    /// The change from one metric to another, as a share of the gap.
    pub(super) fn change(&self, before: &[f64], after: &[f64]) -> Estimate {
        let lost: Vec<f64> = before.iter().zip(after).map(|(before, after)| before - after).collect();
        self.bootstrap.ratio(&lost, Some(&self.runs.gaps()))
    }

    fn nodes(&self, chosen: &Chosen, judged: &Judged) -> Vec<NodeRow> {
        let (graph, circuit) = (&self.runs.graph, &chosen.circuit);
        let row = |node: Writer| {
            let into = |edge: &usize| {
                let reader = graph.readers()[graph.ends(*edge).1];
                graph.owners(reader).contains(&node)
            };
            let minimal = judged.minimal.iter().find(|minimal| minimal.node == node);
            let adds = minimal.map(|m| self.change(&m.before, &m.after));
            NodeRow {
                node: node.to_string(),
                role: node.component().role(self.runs.lab.about.circuit.as_ref(), &self.runs.task.name),
                edges_in: circuit.edges().filter(into).count(),
                edges_out: circuit.edges().filter(|&edge| graph.edge(edge).from == node).count(),
                adds: adds.map(|adds| adds.value),
                ci_lo: adds.and_then(|adds| adds.lo),
                ci_hi: adds.and_then(|adds| adds.hi),
                beside: minimal.map(|minimal| listed(&minimal.without)),
            }
        };
        circuit.writers(graph).into_iter().map(row).collect()
    }

    /// Random circuits of one size are one row, their mean.
    fn sizes(&self, tried: &[Tried]) -> Vec<SizeRow> {
        let (graph, n) = (&self.runs.graph, self.runs.own.len());
        let mut rows = Vec::new();
        let mut seen: BTreeSet<(&str, Option<usize>, Option<u64>)> = BTreeSet::new();
        for first in tried {
            let same = |other: &&Tried| {
                (other.order, other.asked, other.fraction, other.threshold)
                    == (first.order, first.asked, first.fraction, first.threshold)
            };
            let key = first.fraction.or(first.threshold).map(f64::to_bits);
            if !seen.insert((first.order, first.asked, key)) {
                continue;
            }
            let all: Vec<&Tried> = tried.iter().filter(same).collect();
            let over = |number: &dyn Fn(&Tried) -> f64| {
                all.iter().map(|tried| number(tried)).sum::<f64>() / all.len().max(1) as f64
            };
            let measured: Vec<f64> = (0..n).map(|i| over(&|tried| tried.measured[i])).collect();
            let Estimate { value: faithfulness, lo: ci_lo, hi: ci_hi, n } = self.faithfulness(&measured);
            let edges = over(&|tried| tried.circuit.len() as f64);
            rows.push(SizeRow {
                order: first.order.to_owned(),
                fraction: first.fraction,
                asked: first.asked,
                threshold: first.threshold,
                edges,
                share: edges / graph.len() as f64,
                nodes: over(&|tried| tried.circuit.writers(graph).len() as f64),
                raw: mean(&measured),
                faithfulness,
                ci_lo,
                ci_hi,
                n,
            });
        }
        rows
    }

    fn complete(&self, judged: &Judged) -> Vec<CompleteRow> {
        let row = |complete: &Complete| {
            let whole = self.faithfulness(&complete.whole).value;
            let circuit = self.faithfulness(&complete.circuit).value;
            let (without, incompleteness) = (listed(&complete.without), (whole - circuit).abs());
            CompleteRow { without, whole, circuit, incompleteness, n: complete.whole.len() }
        };
        judged.complete.iter().map(row).collect()
    }
}

fn listed(nodes: &BTreeSet<Writer>) -> String {
    if nodes.is_empty() {
        return "nothing".to_owned();
    }
    nodes.iter().map(Writer::to_string).collect::<Vec<_>>().join(" ")
}

/// The circuit as an attribution graph of the first prompt.
fn viewed(runs: &Runs, chosen: &Chosen) -> Result<String> {
    let (lab, task) = (runs.lab, runs.task);
    let Some(example) = task.examples.first() else { return Ok(String::new()) };
    let log_probs = ops::log_softmax(&task.logits(lab, &[0], Side::Clean)?)?;
    let log_probs: Vec<f64> = numbers(&log_probs.flatten_all()?)?;
    let likeliest = log_probs.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(id, _)| id);
    let target = example.answers.first().copied().unwrap_or(likeliest as u32);
    let p = log_probs.get(target as usize).map_or(0.0, |log_prob| log_prob.exp());
    let tokens = lab.vocabulary.tokens(&example.clean);
    let role = |writer: Writer| writer.component().role(lab.about.circuit.as_ref(), &task.name);
    let scene = viewer::Scene {
        name: &format!("{}-{}-{}", lab.about.name, task.name, chosen.method),
        model: &lab.about.name,
        prompt: &lab.vocabulary.text(&example.clean),
        tokens: &tokens,
        target: (target, &lab.vocabulary.token(target), p),
        about: &format!("Weights: {} scores, shares of the gap in {}.", chosen.method, runs.terms.metric),
        role: &role,
    };
    viewer::attribution_graph(&runs.graph, &chosen.circuit, chosen.scores.as_deref(), &scene)
}

fn notes(parameters: &Circuits, runs: &Runs, chosen: &Chosen) -> Vec<String> {
    let graph = &runs.graph;
    let mut notes = vec![format!(
        "{}: {} of {} edges; every other edge is cut at once and carries {}; norms are recomputed, and cuts are felt downstream",
        chosen.method,
        chosen.circuit.len(),
        graph.len(),
        match parameters.carry {
            Carry::Corrupt => "what its writer wrote on the corrupt prompt",
            Carry::Zero => "zeros",
            Carry::Mean => "its writer's mean over the reference prompts",
        }
    )];
    notes.extend(runs.doubt());
    notes.extend(chosen.notes.iter().cloned());
    if graph.group() > 1 {
        notes.push(format!(
            "{} heads share each key and value: their edges are one, where EAP-IG and MIB, which copy keys and values to every head, have \
             several; scores are the sums of theirs, circuits cannot be told apart more finely",
            graph.group()
        ));
    }
    notes
}
