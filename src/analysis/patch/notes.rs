//! What stands beside the tables of patching: what was done, and what makes its numbers doubtful.

use super::plan::By;
use super::source::Source;
use super::{Measured, Patch, Setting, Way};
use crate::metric::Metric;
use crate::stats::mean;
use crate::task::Task;

/// Below this share of prompts on which the answer is preferred, the behaviour is hardly there.
const FAILS: f64 = 0.75;
/// A probability this near to its bound cannot move further.
const BOUND: f64 = 0.999;

pub(super) fn notes(patch: &Patch, setting: &Setting, task: &Task, measured: &Measured) -> Vec<String> {
    let mut notes = vec![unpatched(patch, measured)];
    notes.extend(doubts(patch, setting, task, measured));
    let has = |way: Way| setting.ways.contains(&way);
    let other = match &setting.source {
        Source::Pair => None,
        Source::File { file, .. } => Some(format!("the file {}", file.name)),
        Source::Mean { reference, by_position, .. } => Some(format!(
            "the mean {} {} reference prompts",
            if *by_position { "at each position over" } else { "over all positions of" },
            reference.len()
        )),
    };
    let of = |run: &str| other.clone().unwrap_or_else(|| format!("the {run} run"));
    if has(Way::Denoise) {
        notes.push(format!(
            "denoise: the corrupt prompt runs with a value of {}; effect = (patched − corrupt) / (clean − corrupt): what is \
             enough",
            of("clean")
        ));
    }
    if has(Way::Noise) {
        notes.push(format!(
            "noise: the clean prompt runs with a value of {}; effect = (clean − patched) / (clean − corrupt): what is needed",
            of("corrupt")
        ));
    }
    if has(Way::Insert) {
        notes.push(format!(
            "insert: the clean prompt runs with a value of {}; without corrupt prompts there is no gap to take a share of, and \
             the effect is the change of {}, patched − clean; notable is {} of the table's largest",
            of("other"),
            patch.metric,
            patch.notable
        ));
    }
    if patch.window > 1 && patch.by.iter().any(|by| matches!(by, By::All | By::Position)) {
        notes.push(format!(
            "{} layers in a row are patched together, from `layer` on: such a result is not any one layer's, and neighbours \
             share layers",
            patch.window
        ));
    }
    if setting.plan.by.contains(&Some(By::Set)) {
        notes.push(
            "sets: all parts patched in one run; the interaction is the set's effect minus the sum of its parts' (each patched \
             alone), with its own interval"
                .to_owned(),
        );
    }
    if setting.plan.estimates.iter().any(Option::is_some) {
        notes.push(
            "neurons are those whose swap should change the metric of the clean run most to first order (gradient × difference \
             of activations, summed over positions); their effects are measured"
                .to_owned(),
        );
    }
    if measured.exact > 0 {
        notes.push(format!(
            "{} patches change nothing by construction (before the first differing token, or unread after the last attention) \
             and are exactly 0 without a run; they are not tested",
            measured.exact
        ));
    }
    notes
}

fn unpatched(patch: &Patch, measured: &Measured) -> String {
    let n = measured.clean.len();
    let clean = mean(&measured.clean);
    if measured.corrupt.is_empty() {
        return format!("{}: {clean:.4} on the clean prompts (mean over {n})", patch.metric);
    }
    let corrupt = mean(&measured.corrupt);
    format!(
        "{}: clean {clean:.4}, corrupt {corrupt:.4}, gap {:.4} (means over {n} pairs); an effect of 1 is the whole gap",
        patch.metric,
        clean - corrupt
    )
}

/// The doubt that belongs beside every effect where the model prefers the answer on `right` of `n` clean prompts only.
pub(crate) fn hardly(right: usize, n: usize, task: &Task) -> Option<String> {
    ((right as f64) < FAILS * n as f64).then(|| {
        format!(
            "the model hardly does the task: on {right} of {n} clean prompts of {} it prefers the answer to the wrong one; what \
             carries a behaviour that is not there says little",
            task.name
        )
    })
}

/// The same from the metric of each clean prompt, where that says which is preferred.
pub(crate) fn doubted(metric: Metric, clean: &[f64], task: &Task) -> Option<String> {
    let says = matches!(metric, Metric::LogitDiff | Metric::ProbDiff);
    let right = clean.iter().filter(|&&value| value > 0.0).count();
    if says { hardly(right, clean.len(), task) } else { None }
}

/// What the numbers should not be trusted with.
fn doubts(patch: &Patch, setting: &Setting, task: &Task, measured: &Measured) -> Vec<String> {
    let mut doubts = Vec::new();
    let n = measured.clean.len();
    if patch.metric == Metric::Rank {
        doubts.push(
            "rank jumps from one whole number to the next: shares of a rank gap are for reading only"
                .to_owned(),
        );
    }
    doubts.extend(measured.right.and_then(|right| hardly(right, n, task)));
    let at_bound = |value: f64| match patch.metric {
        Metric::Prob => value >= BOUND || value <= 1.0 - BOUND,
        Metric::ProbDiff => value.abs() >= BOUND,
        Metric::Rank => value <= 1.0,
        _ => false,
    };
    let same_side = |a: f64, b: f64| (a - b).abs() < 0.5;
    let stuck = measured.clean.iter().zip(&measured.corrupt);
    let stuck = stuck.filter(|(a, b)| at_bound(**a) && at_bound(**b) && same_side(**a, **b)).count();
    if stuck > 0 {
        doubts.push(format!(
            "{} is at its bound on both prompts of {stuck} of {n} pairs: what a patch does there cannot show; logit-diff and \
             log-prob have no bound",
            patch.metric
        ));
    }
    let gaps: Vec<f64> = measured.clean.iter().zip(&measured.corrupt).map(|(a, b)| a - b).collect();
    let usual = mean(&gaps);
    let small = gaps.iter().filter(|&&gap| gap / usual < 0.1).count();
    if small > 0 && setting.ways.iter().any(|way| *way != Way::Insert) {
        doubts.push(format!(
            "{small} of {n} pairs have less than a tenth of the mean gap, or one of the other sign: effects are ratios of \
             means, in which they weigh little, and no pair is divided by its own gap"
        ));
    }
    doubts
}
