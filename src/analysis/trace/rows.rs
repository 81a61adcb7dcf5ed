//! The tables of causal tracing.

use rayon::prelude::*;

use super::{Corruption, Measured, Setting, Trace};
use crate::analysis::Findings;
use crate::lab::Lab;
use crate::row::Rows;
use crate::stats::{Bootstrap, Estimate, false_discovery, sign_flip};
use crate::task::Task;

/// A mean total effect below this is nothing to take shares of.
const LEAST: f64 = 0.01;

crate::row! {
    /// The effect of restoring one state.
    pub struct TraceRow {
        /// What was restored: `resid_pre`, `resid_post`, `mlp` or `attention`, and what was severed.
        pub state: String,
        /// The metric.
        pub metric: String,
        /// The layer, or the middle of the window.
        pub layer: usize,
        /// The first layer restored.
        pub first: usize,
        /// The last layer restored.
        pub last: usize,
        /// Named position, or its number.
        pub pos: String,
        /// The token there if all examples share it, else the position; `clean→corrupt` where tokens were replaced alike.
        pub token: String,
        /// Average indirect effect: the metric with the state restored minus that of the corrupt run, mean over examples.
        pub effect: f64,
        /// Lower end of its 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub ci_hi: Option<f64>,
        /// The effect as a share of the average total effect; missing where that is below 0.01.
        pub share: Option<f64>,
        /// The metric of the restored run, mean over examples.
        pub raw: f64,
        /// p-value of the effect being 0 (sign flips over prompts).
        pub p: Option<f64>,
        /// The same with the false discoveries among all rows of the metric controlled.
        pub q: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// What the corruption takes away in all.
    pub struct TotalRow {
        /// The metric.
        pub metric: String,
        /// Of the clean run, mean over examples.
        pub clean: f64,
        /// Of the corrupt run, mean over examples and samples of noise.
        pub corrupt: f64,
        /// Average total effect: clean minus corrupt.
        pub effect: f64,
        /// Lower end of its 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// One state restored in one example.
    pub struct ExampleRow {
        /// The example.
        pub example: String,
        /// What was restored.
        pub state: String,
        /// The metric.
        pub metric: String,
        /// The layer, or the middle of the window.
        pub layer: usize,
        /// Named position, or its number.
        pub pos: String,
        /// Indirect effect, mean over samples of noise.
        pub effect: f64,
    }
}

crate::row! {
    /// The corruption of one example.
    pub struct ExampleTotalRow {
        /// The example.
        pub example: String,
        /// The metric.
        pub metric: String,
        /// Of the clean run.
        pub clean: f64,
        /// Of the corrupt run, mean over samples of noise.
        pub corrupt: f64,
        /// Total effect: clean minus corrupt.
        pub effect: f64,
    }
}

/// Tables and notes from what was measured.
pub(super) fn findings(
    trace: &Trace,
    lab: &Lab,
    task: &Task,
    setting: &Setting,
    measured: &Measured,
) -> Findings {
    let (n, units) = (task.examples.len(), task.units());
    let bootstrap = Bootstrap::grouped(&units, lab.seed);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n as f64;
    let less = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
    let tokens: Vec<String> = setting
        .places
        .iter()
        .map(|place| match trace.corruption {
            Corruption::Noise => place.token(task, &lab.vocabulary),
            Corruption::Tokens => place.exchange(task, &lab.vocabulary),
        })
        .collect();
    let (mut rows, mut totals) = (Vec::new(), Vec::new());
    let (mut examples, mut of_totals) = (Vec::new(), Vec::new());
    let mut notes = notes(trace, setting, measured);
    for (m, metric) in setting.metrics.iter().enumerate() {
        let (clean, corrupt) = (&measured.clean[m], &measured.corrupt[m]);
        let total = less(clean, corrupt);
        let Estimate { value: effect, lo: ci_lo, hi: ci_hi, n } = bootstrap.mean(&total);
        let name = metric.name();
        totals.push(TotalRow {
            metric: name.to_owned(),
            clean: mean(clean),
            corrupt: mean(corrupt),
            effect,
            ci_lo,
            ci_hi,
            n,
        });
        for (e, example) in task.examples.iter().enumerate() {
            of_totals.push(ExampleTotalRow {
                example: example.id.clone(),
                metric: name.to_owned(),
                clean: clean[e],
                corrupt: corrupt[e],
                effect: total[e],
            });
        }
        let divisible = effect.abs() >= LEAST;
        if !divisible {
            notes.push(format!(
                "the corruption hardly changes {name}: from {:.4} to {:.4}, too little to take shares of; take more noise, or \
                 another metric",
                mean(clean),
                mean(corrupt)
            ));
        }
        // each cell's interval is its own computation on shared draws: parallel and still the same numbers
        let found: Vec<(Vec<f64>, Estimate, Option<f64>)> = measured
            .restored
            .par_iter()
            .map(|restored| {
                let effects = less(&restored[m], corrupt);
                let (estimate, p) = (bootstrap.mean(&effects), sign_flip(&effects, &units, lab.seed));
                (effects, estimate, p)
            })
            .collect();
        let q = false_discovery(&found.iter().map(|(_, _, p)| *p).collect::<Vec<_>>());
        for (i, (cell, (effects, estimate, p))) in setting.cells.iter().zip(&found).enumerate() {
            let layers = cell.kind.layers(cell.layer, setting.width, lab.model.config.n_layers);
            let pos = &setting.places[cell.place].label;
            let state = cell.kind.name();
            rows.push(TraceRow {
                state: state.to_owned(),
                metric: name.to_owned(),
                layer: cell.layer,
                first: layers.start,
                last: layers.end.saturating_sub(1),
                pos: pos.clone(),
                token: tokens[cell.place].clone(),
                effect: estimate.value,
                ci_lo: estimate.lo,
                ci_hi: estimate.hi,
                share: divisible.then_some(estimate.value / effect),
                raw: mean(&measured.restored[i][m]),
                p: *p,
                q: q[i],
                n,
            });
            for (example, &effect) in task.examples.iter().zip(effects) {
                examples.push(ExampleRow {
                    example: example.id.clone(),
                    state: state.to_owned(),
                    metric: name.to_owned(),
                    layer: cell.layer,
                    pos: pos.clone(),
                    effect,
                });
            }
        }
    }
    let tables = vec![
        Rows::of("trace", &rows),
        Rows::of("trace_total", &totals),
        Rows::of("examples_trace", &examples),
        Rows::of("examples_trace_total", &of_totals),
    ];
    Findings { tables, notes, ..Findings::default() }
}

fn notes(trace: &Trace, setting: &Setting, measured: &Measured) -> Vec<String> {
    let mut notes = vec![match setting.noise {
        Some(noise) => format!(
            "corrupt: noise on the embeddings of {}, ν = {:.4}, {} standard deviations of all subject tokens' embeddings; means \
             over {} samples. Noise puts the model where it has never been: `corruption=tokens` does not",
            noise.chosen, noise.size, trace.noise, noise.samples
        ),
        None => "corrupt: the other prompt of each pair".to_owned(),
    }];
    notes.push(
        "effects are differences of the metric, restored minus corrupt; norms are recomputed".to_owned(),
    );
    if setting.width > 1 && setting.kinds.iter().any(|kind| !kind.state.is_stream()) {
        notes.push(format!(
            "MLPs and attention are restored in windows of {} layers: that makes peaks higher and wider than single layers' \
             would be, and a window's effect is not the sum of theirs",
            setting.width
        ));
    }
    if measured.exact > 0 {
        notes.push(format!(
            "{} restorations change nothing by construction (before the first changed token, or unread after the last \
             attention) and are exactly 0 without a run",
            measured.exact
        ));
    }
    notes
}
