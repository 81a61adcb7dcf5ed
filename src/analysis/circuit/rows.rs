//! The tables of circuits.

use std::collections::BTreeSet;

use super::judge::{Judged, Tried, faithfulness};
use super::{Chosen, Circuits, known};
use crate::analysis::Findings;
use crate::analysis::edges::Runs;
use crate::analysis::edges::runs::mean;
use crate::error::Result;
use crate::graph::compare::{Agreement, FRACTIONS, Roc, areas, roc, roc_of_circuits};
use crate::graph::{Circuit, Reader, Writer, json, viewer};
use crate::ops;
use crate::row::Rows;
use crate::stats::{Bootstrap, Estimate};
use crate::task::Side;

crate::row! {
    /// One number about the circuit.
    pub struct SummaryRow {
        /// What.
        pub measure: String,
        /// How much.
        pub value: f64,
        /// Lower end of its 95 % interval over examples (or, of overlaps, over resamples).
        pub ci_lo: Option<f64>,
        /// Upper end.
        pub ci_hi: Option<f64>,
        /// Over how many examples, edges, nodes or resamples.
        pub n: usize,
        /// What the number says.
        pub meaning: String,
    }
}

crate::row! {
    /// An edge of the circuit.
    pub struct EdgeRow {
        /// Its name: `a5.h5->a9.h9<q>`.
        pub edge: String,
        /// Who writes.
        pub from: String,
        /// Who reads.
        pub to: String,
        /// `q`, `k` or `v` of a head; empty for MLPs and logits.
        pub channel: String,
        /// Its score, if it was chosen by one: the share of the gap that is lost without it.
        pub effect: Option<f64>,
        /// Lower end of the score's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the score's 95 % interval.
        pub ci_hi: Option<f64>,
        /// The share of resamples of the prompts whose circuit has it.
        pub stability: Option<f64>,
        /// Whether the model's own description has it for this task, where there is one.
        pub known: Option<bool>,
    }
}

crate::row! {
    /// A node of the circuit.
    pub struct NodeRow {
        /// `input`, `a9.h9`, `m3`.
        pub node: String,
        /// What it was designed to do on this task, where the model ships that.
        pub role: String,
        /// Edges of the circuit into it.
        pub edges_in: usize,
        /// Edges of the circuit out of it.
        pub edges_out: usize,
        /// Share of the gap that it adds to the circuit, where it adds most (minimality).
        pub adds: Option<f64>,
        /// Lower end of its 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub ci_hi: Option<f64>,
        /// Without which other nodes it adds that; `nothing`: in the whole circuit.
        pub beside: Option<String>,
    }
}

crate::row! {
    /// A circuit that was tried.
    pub struct SizeRow {
        /// By what edges were ordered: `absolute` (size of their score), `signed`, `random` (mean over several), `acdc`.
        pub order: String,
        /// The standard fraction of all edges that it stands for.
        pub fraction: Option<f64>,
        /// How many edges were asked for.
        pub asked: Option<usize>,
        /// ACDC's threshold.
        pub threshold: Option<f64>,
        /// Edges left after pruning.
        pub edges: f64,
        /// Share of all edges.
        pub share: f64,
        /// Nodes with an edge out of them.
        pub nodes: f64,
        /// The metric with everything else cut, mean over examples.
        pub raw: f64,
        /// (circuit − nothing) / (whole − nothing): 1 is the whole model.
        pub faithfulness: f64,
        /// Lower end of its 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// The whole model and the circuit without the same nodes.
    pub struct CompleteRow {
        /// The nodes taken out of both.
        pub without: String,
        /// What is left of the whole model's behaviour, as a share of the gap.
        pub whole: f64,
        /// What is left of the circuit's.
        pub circuit: f64,
        /// |whole − circuit|, of means: 0 for a complete circuit.
        pub incompleteness: f64,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// A point of the curve of finding the known edges.
    pub struct RocRow {
        /// The method.
        pub method: String,
        /// Edges found that are not known, of all that are not known.
        pub false_positives: f64,
        /// Known edges found, of all known.
        pub true_positives: f64,
    }
}

crate::row! {
    /// One example.
    pub struct ExampleRow {
        /// The example.
        pub example: String,
        /// The metric of the whole model.
        pub whole: f64,
        /// With every edge cut.
        pub nothing: f64,
        /// With every edge outside the circuit cut.
        pub circuit: f64,
        /// What the circuit keeps, divided by the mean gap: the mean over examples is its faithfulness.
        pub faithfulness: f64,
    }
}

pub(super) fn findings(
    parameters: &Circuits,
    runs: &Runs,
    chosen: &Chosen,
    judged: &Judged,
) -> Result<Findings> {
    let (lab, task, graph, circuit) = (runs.lab, runs.task, &runs.graph, &chosen.circuit);
    let bootstrap = Bootstrap::grouped(&task.units(), lab.seed);
    let reference = known(lab, task, graph)?;
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
                known: reference.as_ref().map(|reference| reference.has(edge)),
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
    let curve = reference.as_ref().and_then(|reference| curve(chosen, runs, reference));
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
fn curve(chosen: &Chosen, runs: &Runs, reference: &Circuit) -> Option<Roc> {
    match &chosen.scores {
        Some(scores) => {
            let sizes: Vec<f64> = scores.iter().map(|score| score.abs()).collect();
            let positive: Vec<bool> = (0..runs.graph.len()).map(|edge| reference.has(edge)).collect();
            roc(&sizes, &positive)
        }
        None => {
            let circuits: Vec<Circuit> = chosen.tried.iter().map(|tried| tried.circuit.clone()).collect();
            if circuits.is_empty() { None } else { roc_of_circuits(&runs.graph, &circuits, reference) }
        }
    }
}

struct Table<'a> {
    runs: &'a Runs<'a>,
    bootstrap: &'a Bootstrap,
}

impl Table<'_> {
    /// What is kept of the behaviour, from the metric of each example.
    fn faithfulness(&self, measured: &[f64]) -> Estimate {
        let kept: Vec<f64> = measured.iter().zip(&self.runs.other).map(|(m, other)| m - other).collect();
        self.bootstrap.ratio(&kept, Some(&self.runs.gaps()))
    }

    /// The change from one metric to another, as a share of the gap.
    fn change(&self, before: &[f64], after: &[f64]) -> Estimate {
        let lost: Vec<f64> = before.iter().zip(after).map(|(before, after)| before - after).collect();
        self.bootstrap.ratio(&lost, Some(&self.runs.gaps()))
    }

    fn summary(
        &self,
        chosen: &Chosen,
        judged: &Judged,
        reference: Option<&Circuit>,
        stability: &Option<(Vec<f64>, Vec<f64>)>,
        curve: &Option<Roc>,
    ) -> Vec<SummaryRow> {
        let (runs, graph, circuit) = (self.runs, &self.runs.graph, &chosen.circuit);
        let mut rows = Vec::new();
        let mut put = |measure: &str, estimate: Estimate, meaning: &str| {
            let Estimate { value, lo: ci_lo, hi: ci_hi, n } = estimate;
            rows.push(SummaryRow {
                measure: measure.to_owned(),
                value,
                ci_lo,
                ci_hi,
                n,
                meaning: meaning.to_owned(),
            });
        };
        let plain = |value: f64, n: usize| Estimate { value, lo: None, hi: None, n };
        let nodes = circuit.writers(graph).len();
        put("edges", plain(circuit.len() as f64, graph.len()), "kept, after pruning; n: of how many");
        put("nodes", plain(nodes as f64, graph.writers().len()), "with an edge out of them; n: of how many");
        put(
            "faithfulness",
            self.faithfulness(&judged.measured),
            "what the circuit alone keeps; 1 is the whole model",
        );
        let metric = runs.terms.metric;
        put("whole", self.bootstrap.mean(&runs.own), &format!("{metric} of the whole model"));
        put("circuit", self.bootstrap.mean(&judged.measured), &format!("{metric} with all other edges cut"));
        put("nothing", self.bootstrap.mean(&runs.other), &format!("{metric} with every edge cut"));
        if !judged.complete.is_empty() {
            let each: Vec<f64> =
                judged.complete.iter().map(|c| self.change(&c.whole, &c.circuit).value.abs()).collect();
            let worst = each.iter().copied().fold(0.0, f64::max);
            put(
                "incompleteness",
                plain(mean(&each), each.len()),
                "mean |whole − circuit| without the same random nodes; 0 is complete",
            );
            put("worst incompleteness", plain(worst, each.len()), "the largest of them; n: sets of nodes");
        }
        if let Some(least) = judged
            .minimal
            .iter()
            .map(|m| self.change(&m.before, &m.after))
            .min_by(|a, b| a.value.abs().total_cmp(&b.value.abs()))
        {
            put(
                "least a node adds",
                least,
                "of every node, where it adds most: near 0, the circuit is not minimal",
            );
        }
        let at = |order: &str| -> Option<Vec<f64>> {
            let values: Vec<f64> = FRACTIONS
                .iter()
                .filter_map(|fraction| {
                    let tried: Vec<&Tried> = chosen
                        .tried
                        .iter()
                        .filter(|t| t.order == order && t.fraction == Some(*fraction))
                        .collect();
                    let each: Vec<f64> = tried.iter().map(|t| faithfulness(runs, &t.measured)).collect();
                    (!each.is_empty()).then(|| mean(&each))
                })
                .collect();
            (values.len() == FRACTIONS.len()).then_some(values)
        };
        let area = |order: &str| at(order).and_then(|values| areas(&FRACTIONS, &values));
        let n = FRACTIONS.len();
        if let Some(area) = area("signed") {
            put(
                "CPR",
                plain(area.cpr, n),
                "area under faithfulness over the standard fractions, edges by signed score; higher is better",
            );
        }
        if let Some(area) = area("absolute") {
            put("CMD", plain(area.cmd, n), "area of |1 − faithfulness|, edges by size of score; 0 is best");
        }
        if let Some(area) = area("random") {
            put("CMD of random circuits", plain(area.cmd, n), "the same for random orders of the edges");
        }
        if let Some((overlaps, _)) = stability {
            let mut sorted = overlaps.clone();
            sorted.sort_by(f64::total_cmp);
            let quantile =
                |q: f64| sorted.get((q * (sorted.len().max(1) - 1) as f64).round() as usize).copied();
            let estimate = Estimate {
                value: mean(overlaps),
                lo: quantile(0.025),
                hi: quantile(0.975),
                n: overlaps.len(),
            };
            put("stability", estimate, "overlap (IoU) of the circuit with those of resampled prompts");
        }
        if let Some(reference) = reference {
            let edges = Agreement::of_edges(circuit, reference);
            let of_nodes = Agreement::of_nodes(graph, circuit, reference);
            let all = "against the model's circuit.json";
            if let Some(curve) = curve {
                put(
                    "AUROC",
                    plain(curve.area, graph.len()),
                    &format!("of finding the {} known edges, ties half; {all}", reference.len()),
                );
            }
            for (name, value, n) in [
                ("edge precision", edges.precision(), edges.found),
                ("edge recall", edges.recall(), edges.reference),
                ("node precision", of_nodes.precision(), of_nodes.found),
                ("node recall", of_nodes.recall(), of_nodes.reference),
            ] {
                if let Some(value) = value {
                    put(name, plain(value, n), all);
                }
            }
        }
        rows
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
        let row = |complete: &super::judge::Complete| {
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
    let log_probs: Vec<f64> = crate::analysis::attribution::numbers(&log_probs)?;
    let likeliest = log_probs.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(id, _)| id);
    let target = example.answers.first().copied().unwrap_or(likeliest as u32);
    let p = log_probs.get(target as usize).map_or(0.0, |log_prob| log_prob.exp());
    let tokens = lab.vocabulary.tokens(&example.clean);
    let role = |writer: Writer| writer.component().role(lab.about.circuit.as_ref(), &task.name);
    let scene = viewer::Scene {
        name: &format!("{}-{}-{}", lab.about.name, task.name, chosen.method),
        model: &lab.about.name,
        prompt: &tokens.join(" "),
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
            crate::analysis::edges::Carry::Corrupt => "what its writer wrote on the corrupt prompt",
            crate::analysis::edges::Carry::Zero => "zeros",
            crate::analysis::edges::Carry::Mean => "its writer's mean over the reference prompts",
        }
    )];
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
