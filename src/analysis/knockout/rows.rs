//! The tables of attention knockout.

use rayon::prelude::*;

use super::{Cut, Knockout, Measured, Setting, around};
use crate::analysis::Findings;
use crate::lab::Lab;
use crate::row::Rows;
use crate::stats::{Bootstrap, Estimate, false_discovery, sign_flip};
use crate::task::{Place, Task};

/// A mean probability below this is nothing to take shares of.
const LEAST: f64 = 0.01;

crate::row! {
    /// One source cut off in the window around one layer.
    pub struct KnockoutRow {
        /// What could not be attended to.
        pub source: String,
        /// The token there if all examples share it, else the source.
        pub token: String,
        /// The layer in the middle of the window.
        pub layer: usize,
        /// The window's first layer.
        pub first: usize,
        /// Its last layer.
        pub last: usize,
        /// Change of the answers' probability as a share of it: (p cut − p) / p, a ratio of means over examples; missing where the
        /// mean p is below 0.01.
        pub relative: Option<f64>,
        /// Lower end of its 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub ci_hi: Option<f64>,
        /// The answers' probability with the source cut off, mean over examples.
        pub prob: f64,
        /// p-value of the probability's change being 0 (sign flips over prompts).
        pub p: Option<f64>,
        /// The same with the false discoveries among all rows controlled.
        pub q: Option<f64>,
        /// The metric.
        pub metric: String,
        /// Change of the metric, cut minus whole, mean over examples.
        pub change: f64,
        /// Lower end of the change's 95 % interval.
        pub change_ci_lo: Option<f64>,
        /// Upper end of the change's 95 % interval.
        pub change_ci_hi: Option<f64>,
        /// p-value of the metric's change being 0.
        pub change_p: Option<f64>,
        /// The same with the false discoveries among all rows controlled.
        pub change_q: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// One source cut off in one example.
    pub struct ExampleRow {
        /// The example.
        pub example: String,
        /// What could not be attended to.
        pub source: String,
        /// The layer in the middle of the window.
        pub layer: usize,
        /// Change of the answers' probability divided by the mean probability, so that the mean over examples is the table's.
        pub relative: Option<f64>,
        /// The answers' probability with the source cut off.
        pub prob: f64,
        /// Change of the metric, cut minus whole.
        pub change: f64,
    }
}

/// One cut with its statistics.
struct Found {
    /// Changes of the probability and of the metric, by example.
    changes: [Vec<f64>; 2],
    relative: Estimate,
    change: Estimate,
    p: [Option<f64>; 2],
}

/// Tables and notes from what was measured.
pub(super) fn findings(
    parameters: &Knockout,
    lab: &Lab,
    task: &Task,
    setting: &Setting,
    measured: &Measured,
) -> Findings {
    let (n, units) = (task.examples.len(), task.units());
    let bootstrap = Bootstrap::grouped(&units, lab.seed);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n as f64;
    let whole = [mean(&measured.whole[0]), mean(&measured.whole[1])];
    let divisible = whole[0] >= LEAST;
    // each cut's interval is its own computation on shared draws: parallel and still the same numbers
    let found: Vec<Found> = measured
        .cut
        .par_iter()
        .map(|cut| {
            let change = |m: usize| -> Vec<f64> {
                cut[m].iter().zip(&measured.whole[m]).map(|(cut, whole)| cut - whole).collect()
            };
            let changes = [change(0), change(1)];
            let relative = bootstrap.ratio(&changes[0], Some(&measured.whole[0]));
            let change = bootstrap.mean(&changes[1]);
            let p = [&changes[0], &changes[1]].map(|changes| sign_flip(changes, &units, lab.seed));
            Found { changes, relative, change, p }
        })
        .collect();
    let q = [0, 1].map(|m| false_discovery(&found.iter().map(|found| found.p[m]).collect::<Vec<_>>()));

    let (mut rows, mut examples) = (Vec::new(), Vec::new());
    for (i, (&Cut { source, layer }, found)) in setting.cuts.iter().zip(&found).enumerate() {
        let source = &setting.sources[source];
        let window = around(layer, setting.width, lab.model.config.n_layers);
        let shown = |x: f64| divisible.then_some(x);
        rows.push(KnockoutRow {
            source: source.label.clone(),
            token: token(lab, task, source),
            layer,
            first: window.start,
            last: window.end.saturating_sub(1),
            relative: shown(found.relative.value),
            ci_lo: found.relative.lo.and_then(shown),
            ci_hi: found.relative.hi.and_then(shown),
            prob: mean(&measured.cut[i][0]),
            p: found.p[0],
            q: q[0][i],
            metric: parameters.metric.name().to_owned(),
            change: found.change.value,
            change_ci_lo: found.change.lo,
            change_ci_hi: found.change.hi,
            change_p: found.p[1],
            change_q: q[1][i],
            n,
        });
        for (e, example) in task.examples.iter().enumerate() {
            examples.push(ExampleRow {
                example: example.id.clone(),
                source: source.label.clone(),
                layer,
                relative: shown(found.changes[0][e] / whole[0]),
                prob: measured.cut[i][0][e],
                change: found.changes[1][e],
            });
        }
    }
    let tables = vec![Rows::of("knockout", &rows), Rows::of("examples_knockout", &examples)];
    Findings { tables, notes: notes(parameters, lab, task, setting, measured, whole), ..Findings::default() }
}

/// What stands at a source of one position.
fn token(lab: &Lab, task: &Task, source: &super::Source) -> String {
    let only = |positions: &Vec<usize>| match positions[..] {
        [pos] => Some(pos),
        _ => None,
    };
    match source.positions.iter().map(only).collect::<Option<Vec<usize>>>() {
        Some(positions) => Place { label: source.label.clone(), positions }.token(task, &lab.vocabulary),
        None => source.label.clone(),
    }
}

fn notes(
    parameters: &Knockout,
    lab: &Lab,
    task: &Task,
    setting: &Setting,
    measured: &Measured,
    whole: [f64; 2],
) -> Vec<String> {
    let right = measured.right.iter().filter(|right| **right).count();
    let metric = parameters.metric;
    let mut notes = vec![format!(
        "with all attention in place: p(answer) {:.4}, {metric} {:.4}; the first choice is an answer in {right} of {} prompts",
        whole[0],
        whole[1],
        task.examples.len()
    )];
    if whole[0] < LEAST {
        notes.push(format!(
            "the model hardly gives the answer (mean probability {:.1e}): shares of that are left out, read `change`",
            whole[0]
        ));
    }
    let heads = match &parameters.heads[..] {
        [] => "all heads".to_owned(),
        heads => format!("heads {}", heads.join(", ")),
    };
    notes.push(match setting.width {
        1 => format!("one layer at a time, {heads}"),
        width => format!(
            "windows of {width} layers around each, {heads}: what a window does is not the sum of what its layers do alone, \
             and neighbouring windows share layers"
        ),
    });
    notes.push(
        "scores to a source are set to −∞ before the softmax: the row's other keys share out its attention, so that what \
         they bring grows too, above all where the source was a resting place such as the first token"
            .to_owned(),
    );
    let seen =
        |i: usize| if lab.model.config.causal { setting.from[i] + 1 } else { task.examples[i].clean.len() };
    let emptied = |source: &&super::Source| {
        source.positions.iter().enumerate().any(|(i, positions)| positions.len() == seen(i))
    };
    let emptied: Vec<&str> = setting.sources.iter().filter(emptied).map(|s| s.label.as_str()).collect();
    if !emptied.is_empty() {
        notes.push(format!(
            "cutting off {} leaves some row nothing to attend to: its heads write nothing there",
            emptied.join(", ")
        ));
    }
    notes
}
