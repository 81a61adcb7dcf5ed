//! The numbers about a circuit that are quoted.

use std::collections::BTreeSet;

use super::judge::{Judged, Tried, faithfulness};
use super::rows::SummaryRow;
use super::tables::Table;
use super::{Chosen, Known};
use crate::graph::Writer;
use crate::graph::compare::{Agreement, FRACTIONS, Roc, areas};
use crate::stats::Estimate;
use crate::stats::mean;

impl Table<'_> {
    /// Every number there is, the plainest first.
    pub(super) fn summary(
        &self,
        chosen: &Chosen,
        judged: &Judged,
        known: Option<&Known>,
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
            let meaning = "mean overlap (IoU) of the circuit with those of resampled prompts";
            put("stability", plain(mean(overlaps), overlaps.len()), meaning);
        }
        if let Some(known) = known {
            let found = known.described(circuit);
            let edges = Agreement::of(&found, &known.circuit.edges().collect());
            let nodes_of = |edges: &BTreeSet<usize>| -> BTreeSet<Writer> {
                edges.iter().map(|&edge| graph.edge(edge).from).collect()
            };
            let of_nodes = Agreement::of(&nodes_of(&found), &nodes_of(&known.circuit.edges().collect()));
            let all = &format!("against the model's circuit.json{}", known.aside(graph));
            if let Some(curve) = curve {
                let meaning = format!("of finding the {} known edges, ties half; {all}", known.circuit.len());
                put("AUROC", plain(curve.area, known.described.len()), &meaning);
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
}
