//! The tables of edges.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::{Carry, Edges, Runs, Scored, Scoring, truth};
use crate::analysis::agreement::Agreement;
use crate::analysis::patch::Direction;
use crate::analysis::{Analysis, Findings, gaps};
use crate::error::Result;
use crate::graph::Reader;
use crate::row::Rows;
use crate::stats::{Bootstrap, Estimate, false_discovery, mean, sign_flip};

/// Tables of single examples list every edge up to so many rows; beyond that the highest edges. All are in the tensors.
const LISTED: usize = 100_000;

crate::row! {
    /// One edge by one method.
    pub struct EdgeRow {
        /// `exact`, `eap`, `eap-ig-inputs`, `eap-ig-activations` or `clean-corrupt`.
        pub method: String,
        /// Its name: `a5.h5->a9.h9<q>`.
        pub edge: String,
        /// Who writes.
        pub from: String,
        /// Who reads.
        pub to: String,
        /// `q`, `k` or `v` of a head; empty for MLPs and logits.
        pub channel: String,
        /// Share of the gap between the two runs that is lost with the edge cut; positive: the edge helps.
        pub effect: f64,
        /// Lower end of the effect's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the effect's 95 % interval.
        pub ci_hi: Option<f64>,
        /// The same in units of the metric: what it loses, mean over examples.
        pub lost: f64,
        /// Examples.
        pub n: usize,
        /// Sign-flip p-value of the effect being 0; none below 13 distinct prompts.
        pub p: Option<f64>,
        /// The same after control of the false discovery rate over all edges of the method (Benjamini–Hochberg).
        pub q: Option<f64>,
        /// 1 is the largest |effect| of the method; equals in order of execution.
        pub rank: usize,
    }
}

crate::row! {
    /// One edge in one example.
    pub struct ExampleRow {
        /// The example.
        pub example: String,
        /// The method.
        pub method: String,
        /// The edge.
        pub edge: String,
        /// What the metric loses divided by the mean gap, so that the mean over examples is the table's effect.
        pub effect: f64,
    }
}

/// Edges in the order of the size of their effect, equals in order of execution.
pub(crate) fn ranked(effects: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..effects.len()).collect();
    order.sort_by(|&a, &b| effects[b].abs().total_cmp(&effects[a].abs()).then(a.cmp(&b)));
    order
}

/// Effects of every edge: Σ lost / Σ gap.
pub(crate) fn effects(runs: &Runs, bootstrap: &Bootstrap, lost: &[Vec<f64>]) -> Vec<Estimate> {
    let over = bootstrap.over(Some(&runs.gaps()));
    lost.par_iter().map(|lost| over.ratio(lost)).collect()
}

pub(super) fn findings(
    parameters: &Edges,
    runs: &Runs,
    scored: &[Scored],
    agreement: &Agreement,
) -> Result<Findings> {
    let (lab, task, graph) = (runs.lab, runs.task, &runs.graph);
    let units = task.units();
    let bootstrap = Bootstrap::grouped(&units, lab.seed);
    let mut findings = Findings::default();
    let (mut table, mut examples) = (Vec::new(), Vec::new());
    let listed = (LISTED / task.examples.len().max(1) / scored.len().max(1)).max(1);
    for Scored { scoring, lost } in scored {
        let effects = effects(runs, &bootstrap, lost);
        let p: Vec<Option<f64>> = lost.par_iter().map(|lost| sign_flip(lost, &units, lab.seed)).collect();
        let q = false_discovery(&p);
        let order = ranked(&effects.iter().map(|effect| effect.value).collect::<Vec<_>>());
        for (rank, &edge) in order.iter().enumerate() {
            let name = graph.edge(edge);
            let Estimate { value: effect, lo: ci_lo, hi: ci_hi, n } = effects[edge];
            table.push(EdgeRow {
                method: scoring.name().to_owned(),
                edge: name.to_string(),
                from: name.from.to_string(),
                to: name.to.to_string(),
                channel: match name.to {
                    Reader::Head { channel, .. } => channel.letter().to_owned(),
                    _ => String::new(),
                },
                effect,
                ci_lo,
                ci_hi,
                lost: lost[edge].iter().sum::<f64>() / n.max(1) as f64,
                n,
                p: p[edge],
                q: q[edge],
                rank: rank + 1,
            });
        }
        let gap = runs.gap();
        for &edge in order.iter().take(listed) {
            examples.extend(task.examples.iter().zip(&lost[edge]).map(|(example, lost)| ExampleRow {
                example: example.id.clone(),
                method: scoring.name().to_owned(),
                edge: graph.edge(edge).to_string(),
                effect: lost / gap,
            }));
        }
        let flat: Vec<f32> = (0..task.examples.len())
            .flat_map(|example| lost.iter().map(move |lost| (lost[example] / gap) as f32))
            .collect();
        let tensor = Tensor::from_vec(flat, (task.examples.len(), graph.len()), &Device::Cpu)?;
        findings.tensors.insert(format!("edges.{}", scoring.name()), tensor);
    }
    findings.tables.push(Rows::of("edges", &table));
    findings.tables.extend(truth::tables(runs, scored, &bootstrap)?);
    findings.tables.extend(agreement.tables("edges"));
    findings.tables.push(Rows::of("examples_edges", &examples));
    findings.tables.push(gaps(Edges::NAME, task, &runs.gaps()));
    findings.notes = notes(parameters, runs, scored);
    if scored.iter().any(|scored| scored.scoring != Scoring::Exact) {
        findings.notes.extend(agreement.notes("edges"));
    }
    Ok(findings)
}

fn notes(parameters: &Edges, runs: &Runs, scored: &[Scored]) -> Vec<String> {
    let (own, other) = (mean(&runs.own), mean(&runs.other));
    let carried = match (parameters.carry, parameters.direction) {
        (Carry::Corrupt, Direction::Denoise) => {
            "corrupt runs, cut edges carry what their writer wrote on the clean prompt"
        }
        (Carry::Corrupt, _) => "clean runs, cut edges carry what their writer wrote on the corrupt prompt",
        (Carry::Zero, _) => "clean runs, cut edges carry zeros",
        (Carry::Mean, _) => "clean runs, cut edges carry their writer's mean over the reference prompts",
    };
    let mut notes = vec![format!(
        "{}: {own:.4} with no edge cut, {other:.4} with all of them (means over {} prompts); an effect of 1 is that gap; {carried}; \
         norms are recomputed",
        parameters.metric,
        runs.own.len()
    )];
    notes.extend(runs.doubt());
    let mut told: BTreeMap<&str, String> = BTreeMap::new();
    for Scored { scoring, .. } in scored {
        let steps = parameters.steps;
        let how = match scoring {
            Scoring::Exact => "each edge cut alone, in a pass of its own".to_owned(),
            Scoring::Eap => {
                "(own − other) · gradient at the run itself: exact for a model that were linear".to_owned()
            }
            Scoring::EapIgInputs => {
                format!(
                    "gradients averaged over {steps} steps of the input on its way from the other run's to its own"
                )
            }
            Scoring::EapIgActivations => format!(
                "gradients averaged over {steps} steps of each place's output (heads of a layer together) on its way from the other \
                 run's to its own; edges take those of their own writer"
            ),
            Scoring::CleanCorrupt => "gradients at the run itself and at the other one, averaged".to_owned(),
        };
        told.insert(scoring.name(), how);
    }
    notes.extend(told.into_iter().map(|(name, how)| format!("{name}: {how}")));
    notes
}
