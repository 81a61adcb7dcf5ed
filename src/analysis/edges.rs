//! How much each edge of the model's graph carries: exactly, by cutting it alone, or from a few gradients.
//!
//! An edge goes from a writer of the stream (`input`, a head, an MLP) to a reader after it (the query, key or value of a head, an MLP,
//! the logits). Cut, it carries another value of its writer to that reader alone ([`crate::graph`]). Its effect is the share of
//! the gap between the two runs that this loses; positive: the edge helps. Exact scores cut every edge by itself, other
//! inputs staying as they are in that run. EAP (Syed et al. 2023) is the first-order estimate at the run itself; EAP-IG (Hanna et
//! al. 2024) averages gradients between the two runs. What approximations rank highest is then cut exactly.

mod between;
mod rows;
pub(crate) mod runs;
mod slopes;
mod truth;

use serde::{Deserialize, Serialize};

use crate::analysis::agreement::{Agreement, Check, Claim, Ranking};
use crate::analysis::patch::Direction;
use crate::analysis::{Analysis, Findings};
use crate::error::{Error, Result};
use crate::groups::Sets;
use crate::lab::Lab;
use crate::lesion::Sample;
use crate::metric::Metric;
use crate::stats::Bootstrap;
use crate::task::Task;
pub use runs::Carry;
pub(crate) use runs::{Runs, Terms};
use slopes::{Path, slopes};

/// Graphs of at most so many edges are cut whole where approximations are checked.
const WHOLE: usize = 512;
/// Edges drawn at random from the others of a larger graph.
const SAMPLE: usize = 16;

/// The score of every edge: who tells whom.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Edges {
    /// How edges are scored: `exact`, `eap`, `eap-ig-inputs`, `eap-ig-activations`, `clean-corrupt`; each has its rows.
    pub methods: Vec<Scoring>,
    /// Steps between the two runs, for the methods that take them.
    pub steps: usize,
    /// What cut edges carry: `corrupt` (the other prompt's values), `zero`, `mean`.
    pub carry: Carry,
    /// `noise`: edges of the clean run are cut; `denoise`: edges of the corrupt run, which then carry clean values.
    pub direction: Direction,
    /// How many of the highest edges of each approximation are cut exactly (all, where the graph is small).
    pub verify: usize,
    /// The number effects are measured in.
    pub metric: Metric,
    /// Prompts to take means over.
    pub reference: Option<Vec<Sample>>,
    /// Groups of nodes, between which all edges are cut together. By default the roles that the model's own description gives.
    pub groups: Sets,
}

impl Default for Edges {
    fn default() -> Self {
        Edges {
            methods: vec![Scoring::EapIgInputs],
            steps: 5,
            carry: Carry::Corrupt,
            direction: Direction::Noise,
            verify: 10,
            metric: Metric::LogitDiff,
            reference: None,
            groups: Sets::default(),
        }
    }
}

/// How edges are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scoring {
    /// Each edge is cut by itself, in a pass of its own.
    Exact,
    /// Edge attribution patching: one gradient, at the run itself.
    Eap,
    /// EAP with gradients averaged while the input goes from the other run's to its own.
    EapIgInputs,
    /// EAP where each writer's output goes from the other run's to its own (heads of a layer together), and its edges take the gradients
    /// averaged on the way. The edges out of one such place then sum to the effect of exchanging it.
    EapIgActivations,
    /// EAP with the mean of the gradients at the run itself and at the other one.
    CleanCorrupt,
}

impl Scoring {
    /// The name in studies and tables.
    pub fn name(self) -> &'static str {
        match self {
            Scoring::Exact => "exact",
            Scoring::Eap => "eap",
            Scoring::EapIgInputs => "eap-ig-inputs",
            Scoring::EapIgActivations => "eap-ig-activations",
            Scoring::CleanCorrupt => "clean-corrupt",
        }
    }

    /// Where gradients are taken; exact scores take none.
    fn path(self, steps: usize) -> Option<Path> {
        match self {
            Scoring::Exact => None,
            Scoring::Eap => Some(Path::Own),
            Scoring::EapIgInputs => Some(Path::Inputs(steps)),
            Scoring::EapIgActivations => Some(Path::Activations(steps)),
            Scoring::CleanCorrupt => Some(Path::Both),
        }
    }

    /// Refuses what would give numbers that mean nothing.
    pub(crate) fn check(self, steps: usize, terms: &Terms) -> Result<()> {
        let Some(path) = self.path(steps) else { return Ok(()) };
        if !terms.metric.has_gradient() {
            return Err(Error::usage(
                format!("{} has no gradient, which {} needs", terms.metric, self.name()),
                "write `methods=[\"exact\"]`, or choose another metric",
            ));
        }
        if terms.metric == Metric::Kl && path == Path::Own && terms.direction == Direction::Noise {
            return Err(Error::usage(
                "KL is at its minimum in the clean run: its gradient there is zero, and so would be every score",
                "write `methods=[\"eap-ig-inputs\"]` or `[\"exact\"]`, or choose another metric",
            ));
        }
        if steps == 0 {
            return Err(Error::usage("`steps` is 0: no gradient would be taken", "write `steps=5`"));
        }
        Ok(())
    }

    /// What the metric loses by each edge in each example, `[edge][example]`.
    pub(crate) fn scores(self, runs: &Runs, steps: usize) -> Result<Vec<Vec<f64>>> {
        let edges = runs.graph.len();
        let progress = &runs.lab.progress;
        let Some(path) = self.path(steps) else {
            progress.begin("cutting edges", (runs.batches() * edges) as u64);
            let lists: Vec<Vec<usize>> = (0..edges).map(|edge| vec![edge]).collect();
            let lost = runs.cut(&lists)?.iter().map(|measured| runs.lost(measured)).collect();
            progress.end();
            return Ok(lost);
        };
        let mut all = vec![vec![0.0; runs.own.len()]; edges];
        progress.begin(self.name(), (runs.batches() * path.count(runs)) as u64);
        runs.each(&mut |batch| {
            for (&example, scores) in batch.examples.iter().zip(slopes(runs, batch, path)?) {
                all.iter_mut().zip(scores).for_each(|(all, score)| all[example] = score);
            }
            Ok(())
        })?;
        progress.end();
        Ok(all)
    }
}

/// The scores of one method, `[edge][example]`: what the metric loses.
pub(crate) struct Scored {
    pub(crate) scoring: Scoring,
    pub(crate) lost: Vec<Vec<f64>>,
}

impl Analysis for Edges {
    const NAME: &'static str = "edges";
    const ABOUT: &'static str = "what every edge between components carries: exact, EAP, EAP-IG; approximations checked by exact cuts";
    const TAKES_METRIC: bool = true;
    const TAKES_REFERENCE: bool = true;

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        let mut methods = self.methods.clone();
        methods.sort_unstable();
        methods.dedup();
        if methods.is_empty() {
            return Err(Error::usage(
                "`methods` is empty: edges would have no score",
                "write `methods=[\"eap\"]`",
            ));
        }
        let terms = Terms {
            metric: self.metric,
            direction: self.direction,
            carry: self.carry,
            reference: self.reference.as_deref(),
            gradients: methods.iter().any(|&method| method != Scoring::Exact),
        };
        methods.iter().try_for_each(|method| method.check(self.steps, &terms))?;
        let runs = Runs::new(lab, task, terms)?;
        let score = |&scoring: &Scoring| Ok(Scored { scoring, lost: scoring.scores(&runs, self.steps)? });
        let scored: Vec<Scored> = methods.iter().map(score).collect::<Result<_>>()?;
        let agreement = self.verified(&runs, &scored)?;
        let mut findings = rows::findings(self, &runs, &scored, &agreement)?;
        findings.tables.extend(self.between(&runs, &scored)?);
        Ok(findings)
    }
}

impl Edges {
    /// What the approximations rank highest, cut exactly; a small graph from end to end.
    fn verified(&self, runs: &Runs, scored: &[Scored]) -> Result<Agreement> {
        let mut agreement = Agreement::default();
        let exact = scored.iter().find(|scored| scored.scoring == Scoring::Exact);
        let claims: Vec<Claim> = scored
            .iter()
            .filter(|scored| scored.scoring != Scoring::Exact)
            .map(|scored| Claim { method: scored.scoring.name(), signed: true, change: scored.lost.clone() })
            .collect();
        if claims.is_empty() {
            return Ok(agreement);
        }
        let bootstrap = Bootstrap::grouped(&runs.task.units(), runs.lab.seed);
        let gap = runs.gaps();
        let how = Check {
            top: self.verify,
            full: if exact.is_some() { usize::MAX } else { WHOLE },
            sample: SAMPLE,
            seed: runs.lab.seed,
            gap: &gap,
            bootstrap: &bootstrap,
        };
        let ranking = Ranking {
            grain: "edge",
            site: "edge",
            direction: if self.direction == Direction::Denoise { "denoise" } else { "noise" },
            labels: runs.graph.edges().map(|edge| edge.to_string()).collect(),
            claims,
        };
        agreement.check(&ranking, &how, |edges| match exact {
            Some(exact) => Ok(edges.iter().map(|&edge| exact.lost[edge].clone()).collect()),
            None => {
                runs.lab.progress.begin("checking edges", (runs.batches() * edges.len()) as u64);
                let lists: Vec<Vec<usize>> = edges.iter().map(|&edge| vec![edge]).collect();
                let lost = runs.cut(&lists)?.iter().map(|measured| runs.lost(measured)).collect();
                runs.lab.progress.end();
                Ok(lost)
            }
        })?;
        Ok(agreement)
    }
}
