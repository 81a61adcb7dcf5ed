//! Circuits: the few edges that a behaviour needs, and how well they carry it alone.
//!
//! Edges are chosen by their scores ([`super::edges`]) or one by one (ACDC), and the choice is judged by cutting every edge
//! outside of it, exactly: cut edges carry corrupt values, and what that changes is felt downstream. Faithfulness f = (M(C) − M(∅)) /
//! (M(whole) − M(∅)), as a ratio of means over examples. f alone says little: a circuit can carry the behaviour and miss half of what the model
//! does for it (completeness), or hold nodes that nothing needs (minimality); Wang et al. 2022, Conmy et al. 2023, Hanna et al. 2024,
//! Mueller et al. 2025.

mod acdc;
mod choice;
mod judge;
mod rows;
mod summary;
mod tables;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::analysis::edges::{Carry, Runs, Scoring, Terms};
use crate::analysis::patch::Direction;
use crate::analysis::{Analysis, Findings};
use crate::error::{Error, Result};
use crate::graph::compare::{Roc, roc, roc_of_circuits};
use crate::graph::{Circuit, Graph, Listed, Selection, Writer, json};
use crate::lab::Lab;
use crate::lesion::Sample;
use crate::metric::Metric;
use crate::task::Task;

/// Which edges are the circuit, and what it does alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Circuits {
    /// How edges are chosen: by the scores of `exact`, `eap`, `eap-ig-inputs`, `eap-ig-activations` or `clean-corrupt`, or by `acdc`.
    pub method: Method,
    /// Steps between the two runs, for the methods that take them.
    pub steps: usize,
    /// From scores to a circuit: `greedy` (backwards from the logits) or `top-n`.
    pub select: Selection,
    /// How many edges are chosen, before those that lead nowhere are pruned. By default the smallest of the sizes tried that is as
    /// faithful as `faithful` says.
    pub edges: Option<usize>,
    /// How faithful the circuit is to be if no number of edges is given: f between this and 2 − this.
    pub faithful: f64,
    /// ACDC's thresholds: an edge goes if that costs less than this. The circuit is that of the largest which is faithful.
    pub thresholds: Vec<f64>,
    /// What ACDC holds small: `kl` from the whole model's distribution, or the loss of another metric.
    pub loss: Metric,
    /// What cut edges carry: `corrupt` (the other prompt's values), `zero`, `mean`.
    pub carry: Carry,
    /// The number the circuit is judged by.
    pub metric: Metric,
    /// Prompts to take means over.
    pub reference: Option<Vec<Sample>>,
    /// Resamples of the prompts for the stability of the choice.
    pub resamples: usize,
    /// Random sets of nodes that completeness and minimality are tried on.
    pub subsets: usize,
    /// Random circuits of each size, for comparison.
    pub randoms: usize,
    /// A circuit to judge instead of finding one: the text of a file of EAP-IG, MIB or glassbox.
    pub given: Option<String>,
}

impl Default for Circuits {
    fn default() -> Self {
        Circuits {
            method: Method::EapIgInputs,
            steps: 5,
            select: Selection::Greedy,
            edges: None,
            faithful: 0.9,
            thresholds: vec![1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0],
            loss: Metric::Kl,
            carry: Carry::Corrupt,
            metric: Metric::LogitDiff,
            reference: None,
            resamples: 100,
            subsets: 8,
            randoms: 4,
            given: None,
        }
    }
}

/// How edges are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is the scoring of its name; `Scoring` explains them")]
pub enum Method {
    Exact,
    Eap,
    EapIgInputs,
    EapIgActivations,
    CleanCorrupt,
    /// From the logits backwards, every edge is cut for good unless that costs too much (Conmy et al. 2023).
    Acdc,
}

impl Method {
    fn scoring(self) -> Option<Scoring> {
        match self {
            Method::Exact => Some(Scoring::Exact),
            Method::Eap => Some(Scoring::Eap),
            Method::EapIgInputs => Some(Scoring::EapIgInputs),
            Method::EapIgActivations => Some(Scoring::EapIgActivations),
            Method::CleanCorrupt => Some(Scoring::CleanCorrupt),
            Method::Acdc => None,
        }
    }

    /// Its name as it is written in studies.
    pub fn name(self) -> &'static str {
        self.scoring().map_or("acdc", Scoring::name)
    }
}

/// A circuit and how it was come by.
struct Chosen {
    /// As in the tables.
    method: &'static str,
    circuit: Circuit,
    /// What the metric loses by each edge in each example `[edge][example]`, where edges were scored.
    lost: Option<Vec<Vec<f64>>>,
    /// One number for each edge by which it was chosen, where there is one.
    scores: Option<Vec<f64>>,
    /// How many edges were asked for, where a number was.
    asked: Option<usize>,
    /// Every circuit that was tried on the way.
    tried: Vec<judge::Tried>,
    notes: Vec<String>,
}

impl Analysis for Circuits {
    const NAME: &'static str = "circuit";
    const ABOUT: &'static str = "the edges a behaviour needs (EAP-IG, ACDC, exact), judged alone: faithfulness, completeness, minimality";
    const TAKES_METRIC: bool = true;
    const TAKES_REFERENCE: bool = true;
    const TAKES_CIRCUIT: bool = true;

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        self.check()?;
        let scoring = self.method.scoring().filter(|_| self.given.is_none());
        let terms = Terms {
            metric: self.metric,
            direction: Direction::Noise,
            carry: self.carry,
            reference: self.reference.as_deref(),
            gradients: scoring.is_some_and(|scoring| scoring != Scoring::Exact),
        };
        if let Some(scoring) = scoring {
            scoring.check(self.steps, &terms)?;
        }
        let runs = Runs::new(lab, task, terms)?;
        let chosen = match (&self.given, scoring) {
            (Some(text), _) => self.given(&runs, text)?,
            (None, Some(scoring)) => self.by_scores(&runs, scoring)?,
            (None, None) => self.by_acdc(&runs)?,
        };
        let judged = judge::judge(self, &runs, &chosen)?;
        tables::findings(self, &runs, &chosen, &judged)
    }
}

impl Circuits {
    fn check(&self) -> Result<()> {
        let wrong = |message: &str, hint: &str| Err(Error::usage(message.to_owned(), hint.to_owned()));
        if !(self.faithful > 0.0 && self.faithful <= 1.0) {
            return wrong(
                "`faithful` is a share of the behaviour",
                "write a number above 0 and at most 1, such as 0.9",
            );
        }
        if self.edges == Some(0) {
            return wrong("`edges` is 0: that circuit is empty", "write how many edges to choose");
        }
        if self.method == Method::Acdc && self.given.is_none() {
            if self.thresholds.is_empty() || self.thresholds.iter().any(|t| !(*t > 0.0 && t.is_finite())) {
                return wrong("`thresholds` must be positive numbers", "write `thresholds=[0.01, 0.1]`");
            }
            if self.edges.is_some() {
                return wrong(
                    "ACDC does not choose a number of edges",
                    "write `thresholds=[…]` instead of `edges`, or another method",
                );
            }
        }
        Ok(())
    }

    /// A circuit from a file, to be judged.
    fn given(&self, runs: &Runs, text: &str) -> Result<Chosen> {
        let (graph, shape) = (&runs.graph, json::Shape::of(&runs.lab.model.config));
        let listed = Listed::parse("the given circuit", text, Some(&runs.task.name))?;
        let json::Read { circuit, scores, notes } = json::read(graph, &shape, &listed)?;
        if circuit.is_empty() {
            return Err(Error::input(
                "the given circuit keeps no edge",
                "edges with `in_graph: true` are kept; choose some by their scores first",
            ));
        }
        Ok(Chosen { method: "given", circuit, lost: None, scores, asked: None, tried: Vec::new(), notes })
    }
}

/// What the model's own description says of the edges of a task.
pub(crate) struct Known {
    /// The edges it gives.
    pub(crate) circuit: Circuit,
    /// The edges that it speaks of: where it gives none out of the input, it is silent on those, and they count neither for nor against.
    pub(crate) described: Vec<usize>,
}

impl Known {
    /// The description of a task, if the model ships one with edges.
    pub(crate) fn of(lab: &Lab, task: &Task, graph: &Graph) -> Result<Option<Known>> {
        let Some(edges) = lab.about.circuit.as_ref().and_then(|all| all.get(&task.name)?.get("edges")) else {
            return Ok(None);
        };
        let listed = Listed::parse("the model's circuit.json", &edges.to_string(), None)?;
        let circuit = json::read(graph, &json::Shape::of(&lab.model.config), &listed)?.circuit;
        let silent = !circuit.writers(graph).contains(&Writer::Input);
        let spoken = |edge: &usize| !(silent && graph.edge(*edge).from == Writer::Input);
        let described = (0..graph.len()).filter(spoken).collect();
        Ok(Some(Known { circuit, described }).filter(|known| !known.circuit.is_empty()))
    }

    /// How edges with these scores (one for each of the graph) find the known ones, the largest first whatever their sign.
    pub(crate) fn roc(&self, scores: &[f64]) -> Option<Roc> {
        let size = |&edge: &usize| scores.get(edge).copied().unwrap_or(0.0).abs();
        let sizes: Vec<f64> = self.described.iter().map(size).collect();
        let positive: Vec<bool> = self.described.iter().map(|&edge| self.circuit.has(edge)).collect();
        roc(&sizes, &positive)
    }

    /// The same for circuits of several sizes.
    pub(crate) fn roc_of_circuits(&self, circuits: &[Circuit]) -> Option<Roc> {
        roc_of_circuits(circuits, &self.circuit, &self.described)
    }

    /// Whether it gives an edge; none where it is silent.
    pub(crate) fn says(&self, edge: usize) -> Option<bool> {
        self.described.binary_search(&edge).is_ok().then(|| self.circuit.has(edge))
    }

    /// The edges of a circuit that the description speaks of.
    pub(crate) fn described(&self, circuit: &Circuit) -> BTreeSet<usize> {
        self.described.iter().copied().filter(|&edge| circuit.has(edge)).collect()
    }

    /// In words, what is left aside.
    pub(crate) fn aside(&self, graph: &Graph) -> &'static str {
        if self.described.len() == graph.len() {
            ""
        } else {
            "; of the input's edges, on which it is silent, none count"
        }
    }
}
