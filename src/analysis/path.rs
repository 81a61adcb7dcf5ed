//! Path patching: what reaches some receivers from a sender over direct paths alone (Wang et al. 2022, §3.1 and appendix B;
//! Goldowsky-Dill et al. 2023).
//!
//! Three passes. A run on the other prompt gives the sender's new value. The prompt's own run is repeated with the sender at that
//! value and what is frozen at its own, and the receivers' inputs are recorded: they differ by what came from the sender through
//! nothing frozen. The run is then made a third time with the receivers' inputs set to what was recorded, and everything behind
//! them computed anew. With every head frozen (the paper's rule) a path may lead through MLPs; with every MLP frozen too it is one
//! edge of [`graph`](crate::graph).

mod frozen;
mod plan;
mod rows;

use serde::{Deserialize, Serialize};

pub use plan::{Names, Receivers};

use crate::analysis::patch::{Direction, Pair};
use crate::analysis::{Analysis, Findings, NOTABLE, PAIR, put, refuse_small_gap};
use crate::error::{Error, Result};
use crate::graph::Written;
use crate::groups::Sets;
use crate::lab::Lab;
use crate::metric::Metric;
use crate::model::Base;
use crate::ops;
use crate::site::{At, Positions, Site};
use crate::sweep::{Reading, unchanged};
use crate::task::Task;
use frozen::Paths;
use plan::Plan;

/// What senders tell receivers directly: the sender's value from the other run, on paths through nothing that is frozen.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Path {
    /// Who sends, each alone: heads (`a9.h6`, all of a layer `a9.h*`), MLPs (`m9`), layers (`L9`), `input`, or a role that the
    /// model's own description gives for the task (`name mover`). By default every head and MLP.
    pub senders: Option<Vec<String>>,
    /// Lists of parts that send together, by name (`{movers = ["a2.h0", "a2.h1"], last = ["L3"]}`) or as lists. By default, if no
    /// senders are named either, the roles of several parts that the model's own description gives for the task, and all of its
    /// roles together.
    #[serde(alias = "groups")]
    pub sets: Sets,
    /// Who receives: `logits`, an MLP's input (`m9`), a head's query, key or value (`a9.h6<q>`, `a9.h*<q>`, `name mover<q>`), each in
    /// a run of its own; a list in the list (or by name `{queries = ["a2.h0<q>", "a2.h1<q>"]}`) receives together.
    pub receivers: Receivers,
    /// What keeps its own value on the way: all other `heads` (MLPs are computed anew), `all` other heads and MLPs (one edge), or
    /// `both` rules in turn.
    pub freeze: Freeze,
    /// `noise` (the clean run, with what the corrupt run would have sent), `denoise` (the reverse) or `both`.
    pub direction: Direction,
    /// From what share of the gap on a cell is notable, if its interval excludes 0.
    pub notable: f64,
    /// The number the effect is measured in.
    pub metric: Metric,
}

impl Default for Path {
    fn default() -> Self {
        Path {
            senders: None,
            sets: Sets::default(),
            receivers: Receivers::Listed(vec!["logits".into()]),
            freeze: Freeze::Heads,
            direction: Direction::Noise,
            notable: NOTABLE,
            metric: Metric::LogitDiff,
        }
    }
}

/// What keeps its own value between sender and receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Freeze {
    /// Every other head; MLPs and norms are computed anew, as in the paper.
    Heads,
    /// Every other head and MLP: the edge from sender to receiver.
    All,
    /// Each in turn.
    Both,
}

/// One way of patching: which run is changed, and what is frozen in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    direction: Direction,
    freeze: Freeze,
}

impl Way {
    /// The names of direction and rule in tables.
    fn names(self) -> (&'static str, &'static str) {
        let direction = if self.direction == Direction::Denoise { "denoise" } else { "noise" };
        (direction, if self.freeze == Freeze::All { "all" } else { "heads" })
    }
}

/// Everything measured, by example.
struct Measured {
    clean: Vec<f64>,
    corrupt: Vec<f64>,
    /// The metric of the patched run: `[way][sender][receivers][example]`; none where there is no path.
    patched: Vec<Vec<Vec<Option<Vec<f64>>>>>,
    /// How many runs were not needed because they could change nothing.
    exact: usize,
    /// On how many clean prompts the answer is preferred to the wrong one, where both are known.
    right: Option<usize>,
}

impl Analysis for Path {
    const NAME: &'static str = "path";
    const ABOUT: &'static str =
        "path patching: what each head and MLP tells given receivers directly, other heads frozen";
    const NEEDS_PAIRS: bool = true;
    const TAKES_METRIC: bool = true;

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        if let Some(example) = task.examples.iter().find(|example| example.corrupt.is_none()) {
            return Err(Error::usage(
                format!(
                    "path patching needs a corrupt prompt for every clean one, and `{}` has none",
                    example.id
                ),
                "give `--corrupt`, or the field `corrupt` of each line",
            ));
        }
        task.fits(&lab.model)?;
        let plan = Plan::new(self, lab, task)?;
        let measured = self.measure(lab, task, &plan)?;
        Ok(rows::findings(self, lab, task, &plan, &measured))
    }
}

impl Path {
    fn ways(&self) -> Vec<Way> {
        let directions: &[Direction] = match self.direction {
            Direction::Noise => &[Direction::Noise],
            Direction::Denoise => &[Direction::Denoise],
            Direction::Both => &[Direction::Noise, Direction::Denoise],
        };
        let rules: &[Freeze] = match self.freeze {
            Freeze::Heads => &[Freeze::Heads],
            Freeze::All => &[Freeze::All],
            Freeze::Both => &[Freeze::Heads, Freeze::All],
        };
        let each = |&freeze: &Freeze| directions.iter().map(move |&direction| Way { direction, freeze });
        rules.iter().flat_map(each).collect()
    }

    fn measure(&self, lab: &Lab, task: &Task, plan: &Plan) -> Result<Measured> {
        let (model, n, ways) = (&lab.model, task.examples.len(), self.ways());
        let mut all = Measured {
            clean: vec![0.0; n],
            corrupt: vec![0.0; n],
            patched: Vec::new(),
            exact: 0,
            right: task.examples.iter().all(|e| !e.answers.is_empty() && !e.wrong.is_empty()).then_some(0),
        };
        let batches = task.batches(most(lab, task));
        for batch in &batches {
            lab.check()?;
            let pair = Pair::of(model, task, batch)?;
            let clean = Base::record(model, &pair.clean, |_| false)?;
            let corrupt = clean.beside(model, &pair.corrupt, pair.reach.first())?;
            let targets = task.targets(batch, Some(ops::log_softmax(&clean.logits(model, &pair.read)?)?));
            let measure = |run, metric| unchanged(lab, run, &Reading::metric(&pair.read, metric, &targets));
            put(&mut all.clean, batch, &measure(&clean, self.metric)?);
            put(&mut all.corrupt, batch, &measure(&corrupt, self.metric)?);
            if let Some(right) = &mut all.right {
                let preferred = measure(&clean, Metric::LogitDiff)?;
                *right += preferred.iter().filter(|&&difference| difference > 0.0).count();
            }
        }
        refuse_small_gap(self.metric, PAIR, &all.clean, &all.corrupt)?;
        let unpatched = |way: &Way| match way.direction {
            Direction::Denoise => &all.corrupt,
            _ => &all.clean,
        };
        let empty = |way| plan.each(|is_path| is_path.then(|| Vec::clone(unpatched(way))));
        all.patched = ways.iter().map(empty).collect();

        lab.progress.begin("paths", (batches.len() * ways.len() * plan.paths()) as u64);
        for batch in &batches {
            let pair = Pair::of(model, task, batch)?;
            let clean = Base::record(model, &pair.clean, Written::needs)?;
            let corrupt = clean.beside(model, &pair.corrupt, pair.reach.first())?;
            let at_end = clean.logits(model, &pair.read)?;
            let targets = task.targets(batch, Some(ops::log_softmax(&at_end)?));
            // to the left of what differs nothing changes, and where nothing is reached there is nothing to run
            let read = pair.read.iter().copied().min().unwrap_or(0);
            let first_pos = match pair.reach.all(0, At::ResidPre) {
                Some(Positions::At(positions)) => positions.first().map_or(0, |&first| first.min(read)),
                Some(_) => 0,
                None => {
                    all.exact += ways.len() * plan.paths();
                    lab.progress.advance((ways.len() * plan.paths()) as u64);
                    continue;
                }
            };
            for (way, patched) in ways.iter().zip(&mut all.patched) {
                let (own, other) = match way.direction {
                    Direction::Denoise => (&corrupt, &clean),
                    _ => (&clean, &corrupt),
                };
                let (read, freeze) = (&pair.read, way.freeze);
                let paths = Paths { model, plan, own, other, freeze, first_pos, read };
                let reading = Reading::metric(read, self.metric, &targets);
                for (patched, found) in patched.iter_mut().zip(paths.sweep(lab, &reading)?) {
                    for (patched, found) in patched.iter_mut().zip(found) {
                        if let (Some(patched), Some(found)) = (patched, found) {
                            put(patched, batch, &found);
                        }
                    }
                }
            }
        }
        lab.progress.end();
        Ok(all)
    }
}

/// How many examples share a batch: both runs' activations are held at once, beside those of the passes.
fn most(lab: &Lab, task: &Task) -> usize {
    let model = &lab.model;
    let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
    let kept = |site| Written::needs(site) || Base::needs(model, site) || site == Site::Logits;
    let each = 4 * model.recorded_bytes(longest, kept);
    (lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize
}
