//! What captions say of a run.

use std::collections::BTreeSet;

use crate::figure::Facts;
use crate::lab::Lab;
use crate::metric::Metric;
use crate::study::Study;
use crate::task::Task;

/// Digits of a hash or commit that a caption shows.
const SHORT: usize = 7;

/// The facts of a run.
pub fn of(study: &Study, lab: &Lab, task: &Task) -> Facts {
    let short = |hash: &str| hash.chars().take(SHORT).collect::<String>();
    let mut weights = match &lab.about.revision {
        Some(commit) => format!("revision {}", short(commit)),
        None => format!("weights {}", short(&lab.about.hash)),
    };
    if !lab.about.folded.is_empty() {
        weights += ", folded";
    }
    let n = task.examples.len();
    let over = match n {
        0 | 1 => "",
        _ if task.is_paired() => "pairs",
        _ => "prompts",
    };
    Facts {
        model: lab.about.name.clone(),
        weights,
        data: data(task),
        n: (n > 0).then_some(n as u64),
        over: over.to_owned(),
        metric: metric(study.metric).to_owned(),
        seed: Some(study.seed),
        dtype: if study.dtype == "f32" { String::new() } else { study.dtype.clone() },
    }
}

/// `64 prompt pairs of ioi, 60 of them distinct`.
fn data(task: &Task) -> String {
    let kind = if task.is_paired() { "prompt pair" } else { "prompt" };
    let distinct: BTreeSet<_> =
        task.examples.iter().map(|example| (&example.clean, &example.corrupt)).collect();
    match (task.examples.len(), distinct.len()) {
        (0, _) => String::new(),
        (1, _) => format!("one {kind}"),
        (n, all) if n == all => format!("{n} {kind}s of {}", task.name),
        (n, all) => format!("{n} {kind}s of {}, {all} of them distinct", task.name),
    }
}

/// A metric in words.
pub(super) fn metric(metric: Metric) -> &'static str {
    match metric {
        Metric::LogitDiff => "logit difference",
        Metric::LogProb => "log-probability",
        Metric::Prob => "probability",
        Metric::ProbDiff => "probability difference",
        Metric::Rank => "rank of the answer",
        Metric::Kl => "KL divergence",
        Metric::ExpectedGain => "expected gain",
    }
}
