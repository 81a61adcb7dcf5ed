//! The tables of path patching.

use rayon::prelude::*;

use super::plan::Plan;
use super::{Freeze, Measured, Path, Way};
use crate::analysis::Findings;
use crate::analysis::patch::Direction;
use crate::graph::{Reader, Writer};
use crate::lab::Lab;
use crate::metric::Metric;
use crate::row::Rows;
use crate::stats::{Bootstrap, Estimate, false_discovery, sign_flip};
use crate::task::Task;

crate::row! {
    /// What one sender tells one set of receivers.
    pub struct PathRow {
        /// Who receives: `logits`, `m1`, `a2.h0<q>`; several with `+`, or under their name.
        pub receivers: String,
        /// Who sends: `a1.h1`, `m0`, `input`; several with `+`, or under their name.
        pub sender: String,
        /// What the sender was designed to do on this task, where the model ships that.
        pub role: Option<String>,
        /// The sender's layer, if it is one head or MLP.
        pub layer: Option<usize>,
        /// The sender's head, if it is one.
        pub head: Option<usize>,
        /// `noise`: clean run, sender's value from the corrupt one; `denoise`: corrupt run, value from the clean one.
        pub direction: String,
        /// What keeps its own value between sender and receivers: all other `heads`, or `all` other heads and MLPs.
        pub freeze: String,
        /// Share of the gap between clean and corrupt run that the path opens (noise) or closes (denoise).
        pub effect: f64,
        /// Lower end of the effect's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the effect's 95 % interval.
        pub ci_hi: Option<f64>,
        /// (patched − clean) / clean of the metric's means, in per cent, as the literature prints it: negative where the path helps.
        /// Only of noise, and where the clean metric is not about 0.
        pub variation: Option<f64>,
        /// The metric of the patched run, mean over examples.
        pub raw: f64,
        /// Examples.
        pub n: usize,
        /// Sign-flip p-value of the mean change being 0; none below 13 prompts.
        pub p: Option<f64>,
        /// Smallest false-discovery rate, over this table, at which the path counts as found.
        pub q: Option<f64>,
        /// Whether the effect is large enough to be worth a remark, and its interval excludes 0.
        pub notable: bool,
    }
}

crate::row! {
    /// One path of one example.
    pub struct ExampleRow {
        /// The example.
        pub example: String,
        /// Who receives.
        pub receivers: String,
        /// Who sends.
        pub sender: String,
        /// `noise` or `denoise`.
        pub direction: String,
        /// `heads` or `all`.
        pub freeze: String,
        /// Change of the metric divided by the mean gap, so that the mean over examples is the table's effect.
        pub effect: f64,
        /// The metric of the patched run.
        pub raw: f64,
    }
}

/// A clean metric nearer to 0 than this is nothing to take a percentage of.
const NEAR_ZERO: f64 = 0.01;

/// One cell of the table: which way, which sender, which receivers.
struct Cell<'a> {
    way: Way,
    sender: usize,
    set: usize,
    patched: &'a [f64],
}

/// One cell with its statistics.
struct Found<'a> {
    cell: &'a Cell<'a>,
    effect: Estimate,
    p: Option<f64>,
    change: Vec<f64>,
}

/// Tables and notes from what was measured.
pub(super) fn findings(parameters: &Path, lab: &Lab, task: &Task, plan: &Plan, measured: &Measured) -> Findings {
    let n = task.examples.len();
    let units = task.units();
    let bootstrap = Bootstrap::grouped(&units, lab.seed);
    let gap: Vec<f64> = measured.clean.iter().zip(&measured.corrupt).map(|(a, b)| a - b).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n.max(1) as f64;
    let (mean_gap, clean) = (mean(&gap), mean(&measured.clean));

    let mut cells = Vec::new();
    for (way, patched) in parameters.ways().into_iter().zip(&measured.patched) {
        for set in 0..plan.receivers.len() {
            for (sender, patched) in patched.iter().enumerate() {
                if let Some(Some(patched)) = patched.get(set) {
                    cells.push(Cell { way, sender, set, patched });
                }
            }
        }
    }
    let found: Vec<Found> = cells
        .par_iter()
        .map(|cell| {
            let change: Vec<f64> = match cell.way.direction {
                Direction::Denoise => cell.patched.iter().zip(&measured.corrupt).map(|(p, from)| p - from).collect(),
                _ => measured.clean.iter().zip(cell.patched).map(|(from, p)| from - p).collect(),
            };
            let effect = bootstrap.ratio(&change, Some(&gap));
            Found { cell, effect, p: sign_flip(&change, &units, lab.seed), change }
        })
        .collect();
    let q = false_discovery(&found.iter().map(|found| found.p).collect::<Vec<_>>());

    let (mut rows, mut examples) = (Vec::new(), Vec::new());
    for (found, q) in found.iter().zip(q) {
        let Cell { way, sender, set, patched } = *found.cell;
        let (Some(sender), Some(set)) = (plan.senders.get(sender), plan.receivers.get(set)) else { continue };
        let writer = sender.alone().and_then(|place| plan.graph.writers().get(place)).copied();
        let ((direction, freeze), raw) = (way.names(), mean(patched));
        let Estimate { value: effect, lo: ci_lo, hi: ci_hi, n } = found.effect;
        let excludes = ci_lo.zip(ci_hi).is_some_and(|(lo, hi)| lo > 0.0 || hi < 0.0);
        let of_clean = way.direction != Direction::Denoise && clean.abs() >= NEAR_ZERO;
        rows.push(PathRow {
            receivers: set.name.clone(),
            sender: sender.name.clone(),
            role: writer
                .map(|writer| writer.component().role(lab.about.circuit.as_ref(), &task.name))
                .filter(|role| !role.is_empty()),
            layer: writer.and_then(Writer::layer),
            head: match writer {
                Some(Writer::Head(_, head)) => Some(head),
                _ => None,
            },
            direction: direction.to_owned(),
            freeze: freeze.to_owned(),
            effect,
            ci_lo,
            ci_hi,
            variation: of_clean.then(|| 100.0 * (raw - clean) / clean),
            raw,
            n,
            p: found.p,
            q,
            notable: excludes && effect.abs() >= parameters.notable,
        });
        let each = task.examples.iter().zip(found.change.iter().zip(patched));
        examples.extend(each.map(|(example, (change, &raw))| ExampleRow {
            example: example.id.clone(),
            receivers: set.name.clone(),
            sender: sender.name.clone(),
            direction: direction.to_owned(),
            freeze: freeze.to_owned(),
            effect: change / mean_gap,
            raw,
        }));
    }
    Findings {
        tables: vec![Rows::of("path", &rows), Rows::of("examples_path", &examples)],
        notes: notes(parameters, plan, measured, (clean, mean(&measured.corrupt))),
        ..Findings::default()
    }
}

fn notes(parameters: &Path, plan: &Plan, measured: &Measured, (clean, corrupt): (f64, f64)) -> Vec<String> {
    let n = measured.clean.len();
    let mut notes = vec![format!(
        "{}: clean {clean:.4}, corrupt {corrupt:.4}, gap {:.4} (means over {n} pairs); an effect of 1 is the whole gap",
        parameters.metric,
        clean - corrupt,
    )];
    let mut note = |holds: bool, text: String| notes.extend(holds.then_some(text));
    note(
        measured.right.is_some_and(|right| 2 * right <= n),
        format!(
            "the model does not do this: on {} of {n} clean prompts it prefers the answer to the wrong one",
            measured.right.unwrap_or(0)
        ),
    );
    note(
        parameters.metric == Metric::Rank,
        "rank jumps from one whole number to the next: shares of a rank gap are for reading only".to_owned(),
    );
    let ways = parameters.ways();
    for (rule, text) in [
        (
            Freeze::Heads,
            "freeze = heads: every other head keeps its own z, MLPs and norms are computed anew, so that a path may \
             lead through MLPs (Wang et al. 2022)",
        ),
        (
            Freeze::All,
            "freeze = all: every other head and MLP keeps its own value, only norms are computed anew: the edge from \
             sender to receiver",
        ),
    ] {
        note(ways.iter().any(|way| way.freeze == rule), text.to_owned());
    }
    for (direction, text) in [
        (
            Direction::Noise,
            "noise: the clean prompt runs, and receivers hear what the sender would have told them on the corrupt \
             prompt; effect = (clean − patched) / (clean − corrupt)",
        ),
        (
            Direction::Denoise,
            "denoise: the corrupt prompt runs, and receivers hear what the sender would have told them on the clean \
             prompt; effect = (patched − corrupt) / (clean − corrupt)",
        ),
    ] {
        note(ways.iter().any(|way| way.direction == direction), text.to_owned());
    }
    let without = plan.senders.len() * plan.receivers.len() - plan.paths();
    note(
        without > 0,
        format!("{without} pairs of sender and receivers have no path and are not listed: the sender comes after them"),
    );
    let layer = |&place: &usize| match plan.reader(place) {
        Reader::Head { layer, .. } => Some((layer, 0)),
        Reader::Mlp(layer) => Some((layer, 1)),
        Reader::Logits => None,
    };
    let chained = |places: &[usize]| places.first().map(layer) != places.last().map(layer);
    note(
        plan.receivers.iter().any(|set| chained(&set.places)),
        "receivers of one set get what they would hear directly, and do not hear each other".to_owned(),
    );
    let shared = |&place: &usize| matches!(plan.reader(place), Reader::Head { shared, .. } if shared > 1);
    note(
        plan.receivers.iter().flat_map(|set| &set.places).any(shared),
        format!(
            "`kv` stands for a key-value head, whose keys and values {} heads share: they receive together",
            plan.graph.group()
        ),
    );
    note(
        ways.iter().any(|way| way.direction != Direction::Denoise) && clean.abs() < NEAR_ZERO,
        format!("the clean {} is about 0: there is no variation in per cent of it", parameters.metric),
    );
    note(
        measured.exact > 0,
        format!(
            "{} paths change nothing by construction (the prompts differ only where nothing reaches the answer) and are \
             exactly 0 without a run",
            measured.exact
        ),
    );
    notes
}
