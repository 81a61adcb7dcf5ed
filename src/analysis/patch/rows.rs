//! The tables of patching.

use rayon::prelude::*;

use super::{Direction, Measured, Patch, Swap};
use crate::analysis::Findings;
use crate::lab::Lab;
use crate::metric::Metric;
use crate::row::Rows;
use crate::stats::{Bootstrap, Estimate};
use crate::task::{Place, Task};

crate::row! {
    /// The effect of patching one head at all positions.
    pub struct HeadRow {
        /// The activation: z, q, k, v (k and v have key-value heads) or pattern.
        pub site: String,
        /// `denoise`: corrupt run, value restored from the clean one; `noise`: clean run, value from the corrupt one.
        pub direction: String,
        /// The layer.
        pub layer: usize,
        /// The head.
        pub head: usize,
        /// Share of the gap between clean and corrupt run that the patch closes (denoise) or opens (noise).
        pub effect: f64,
        /// The metric of the patched run, mean over examples.
        pub raw: f64,
        /// Lower end of the effect's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the effect's 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// The effect of patching a part of the stream, or what is added to it, at one position.
    pub struct PositionRow {
        /// The activation: resid_pre, resid_mid, resid_post, attn_out or mlp_out.
        pub site: String,
        /// `denoise`: corrupt run, value restored from the clean one; `noise`: clean run, value from the corrupt one.
        pub direction: String,
        /// The layer.
        pub layer: usize,
        /// Named position, or its number.
        pub pos: String,
        /// The clean token there if all examples share it, else the position; `clean→corrupt` where all exchange the same.
        pub token: String,
        /// Share of the gap between clean and corrupt run that the patch closes (denoise) or opens (noise).
        pub effect: f64,
        /// The metric of the patched run, mean over examples.
        pub raw: f64,
        /// Lower end of the effect's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the effect's 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// The effect of patching one head at one position (of a pattern: one query).
    pub struct HeadPositionRow {
        /// The activation: z, q, k, v (k and v have key-value heads) or pattern.
        pub site: String,
        /// `denoise`: corrupt run, value restored from the clean one; `noise`: clean run, value from the corrupt one.
        pub direction: String,
        /// The layer.
        pub layer: usize,
        /// The head.
        pub head: usize,
        /// Named position, or its number.
        pub pos: String,
        /// The clean token there if all examples share it, else the position; `clean→corrupt` where all exchange the same.
        pub token: String,
        /// Share of the gap between clean and corrupt run that the patch closes (denoise) or opens (noise).
        pub effect: f64,
        /// The metric of the patched run, mean over examples.
        pub raw: f64,
        /// Lower end of the effect's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the effect's 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// One patch of one example.
    pub struct ExampleHeadRow {
        /// The example.
        pub example: String,
        /// The activation.
        pub site: String,
        /// `denoise` or `noise`.
        pub direction: String,
        /// The layer.
        pub layer: usize,
        /// The head.
        pub head: usize,
        /// Change of the metric divided by the mean gap, so that the mean over examples is the table's effect.
        pub effect: f64,
        /// The metric of the patched run.
        pub raw: f64,
    }
}

crate::row! {
    /// One patch of one example at one position.
    pub struct ExamplePositionRow {
        /// The example.
        pub example: String,
        /// The activation.
        pub site: String,
        /// `denoise` or `noise`.
        pub direction: String,
        /// The layer.
        pub layer: usize,
        /// The head, of sites that have heads.
        pub head: Option<usize>,
        /// Named position, or its number.
        pub pos: String,
        /// Change of the metric divided by the mean gap, so that the mean over examples is the table's effect.
        pub effect: f64,
        /// The metric of the patched run.
        pub raw: f64,
    }
}

/// One cell in one direction, with its statistics.
struct Found<'a> {
    swap: Swap,
    direction: &'static str,
    effect: Estimate,
    raw: f64,
    /// Change of the metric of each example, and the metric itself.
    change: Vec<f64>,
    patched: &'a [f64],
}

/// Tables and notes from what was measured.
pub(super) fn findings(
    parameters: &Patch,
    lab: &Lab,
    task: &Task,
    places: &[Place],
    swaps: &[Swap],
    measured: &Measured,
) -> Findings {
    let n = task.examples.len();
    let bootstrap = Bootstrap::grouped(&task.units(), lab.seed);
    let gap: Vec<f64> = measured.clean.iter().zip(&measured.corrupt).map(|(a, b)| a - b).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n as f64;
    let estimate = |(swap, patched, direction): &(Swap, &'_ Vec<f64>, Direction)| {
        let change: Vec<f64> = match direction {
            Direction::Noise => measured.clean.iter().zip(*patched).map(|(clean, p)| clean - p).collect(),
            _ => patched.iter().zip(&measured.corrupt).map(|(p, corrupt)| p - corrupt).collect(),
        };
        let word = if *direction == Direction::Noise { "noise" } else { "denoise" };
        let effect = bootstrap.ratio(&change, Some(&gap));
        (*swap, word, effect, mean(patched), change)
    };
    let cells: Vec<(Swap, &Vec<f64>, Direction)> = swaps
        .iter()
        .enumerate()
        .flat_map(|(i, &swap)| {
            let each = parameters.direction.each().iter().zip(&measured.patched);
            each.map(move |(&direction, patched)| (swap, &patched[i], direction))
        })
        .collect();
    // each cell's interval is its own computation on shared draws: parallel and still the same numbers
    let found: Vec<Found> = cells
        .par_iter()
        .map(|cell| {
            let (swap, direction, effect, raw, change) = estimate(cell);
            Found { swap, direction, effect, raw, change, patched: cell.1 }
        })
        .collect();

    let tokens: Vec<String> = places.iter().map(|place| place.exchange(task, &lab.vocabulary)).collect();
    let mean_gap = mean(&gap);
    let mut tables = Vec::new();
    let (mut heads, mut positions, mut both) = (Vec::new(), Vec::new(), Vec::new());
    let (mut of_heads, mut of_positions, mut of_both) = (Vec::new(), Vec::new(), Vec::new());
    for cell in &found {
        let Swap { layer, head, place, .. } = cell.swap;
        let site = || cell.swap.site.at().1.to_owned();
        let direction = || cell.direction.to_owned();
        let Estimate { value: effect, lo: ci_lo, hi: ci_hi, n } = cell.effect;
        let raw = cell.raw;
        let each = task.examples.iter().zip(cell.change.iter().zip(cell.patched));
        let each = each.map(|(example, (change, &raw))| (example.id.clone(), change / mean_gap, raw));
        match (place, head) {
            (None, head) => {
                let head = head.unwrap_or(0);
                let (site_, direction_) = (site(), direction());
                heads.push(HeadRow {
                    site: site_,
                    direction: direction_,
                    layer,
                    head,
                    effect,
                    raw,
                    ci_lo,
                    ci_hi,
                    n,
                });
                of_heads.extend(each.map(|(example, effect, raw)| {
                    let (site, direction) = (site(), direction());
                    ExampleHeadRow { example, site, direction, layer, head, effect, raw }
                }));
            }
            (Some(place), head) => {
                let (pos, token) = (places[place].label.clone(), tokens[place].clone());
                let example = |(example, effect, raw)| {
                    let (site, direction, pos) = (site(), direction(), places[place].label.clone());
                    ExamplePositionRow { example, site, direction, layer, head, pos, effect, raw }
                };
                let (site, direction) = (site(), direction());
                match head {
                    None => {
                        of_positions.extend(each.map(example));
                        positions.push(PositionRow {
                            site,
                            direction,
                            layer,
                            pos,
                            token,
                            effect,
                            raw,
                            ci_lo,
                            ci_hi,
                            n,
                        });
                    }
                    Some(head) => {
                        of_both.extend(each.map(example));
                        both.push(HeadPositionRow {
                            site,
                            direction,
                            layer,
                            head,
                            pos,
                            token,
                            effect,
                            raw,
                            ci_lo,
                            ci_hi,
                            n,
                        });
                    }
                }
            }
        }
    }
    if !heads.is_empty() {
        tables.push(Rows::of("patch_head", &heads));
    }
    if !positions.is_empty() {
        tables.push(Rows::of("resid_by_pos", &positions));
    }
    if !both.is_empty() {
        tables.push(Rows::of("patch_head_pos", &both));
    }
    if !of_heads.is_empty() {
        tables.push(Rows::of("examples_patch_head", &of_heads));
    }
    if !of_positions.is_empty() {
        tables.push(Rows::of("examples_resid_by_pos", &of_positions));
    }
    if !of_both.is_empty() {
        tables.push(Rows::of("examples_patch_head_pos", &of_both));
    }
    Findings {
        tables,
        notes: notes(parameters, measured, mean(&measured.clean), mean(&measured.corrupt)),
        ..Findings::default()
    }
}

fn notes(parameters: &Patch, measured: &Measured, clean: f64, corrupt: f64) -> Vec<String> {
    let mut notes = vec![format!(
        "{}: clean {clean:.4}, corrupt {corrupt:.4}, gap {:.4} (means over {} pairs); an effect of 1 is the whole gap",
        parameters.metric,
        clean - corrupt,
        measured.clean.len()
    )];
    if parameters.metric == Metric::Rank {
        notes.push(
            "rank jumps from one whole number to the next: shares of a rank gap are for reading only"
                .to_owned(),
        );
    }
    let each = parameters.direction.each();
    if each.contains(&Direction::Denoise) {
        notes.push(
            "denoise: the corrupt prompt runs with a value of the clean run; effect = (patched − corrupt) / (clean − \
             corrupt): what is enough"
                .to_owned(),
        );
    }
    if each.contains(&Direction::Noise) {
        notes.push(
            "noise: the clean prompt runs with a value of the corrupt run; effect = (clean − patched) / (clean − \
             corrupt): what is needed"
                .to_owned(),
        );
    }
    if measured.exact > 0 {
        notes.push(format!(
            "{} patches change nothing by construction (before the first differing token, or unread after the last \
             attention) and are exactly 0 without a run",
            measured.exact
        ));
    }
    notes
}
