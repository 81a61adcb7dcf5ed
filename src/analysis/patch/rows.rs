//! The tables of patching.

use rayon::prelude::*;

use super::cells::Swap;
use super::plan::By;
use super::{Measured, Patch, Setting, Way, notes};
use crate::analysis::{Analysis, Findings, gaps};
use crate::groups::Together;
use crate::lab::Lab;
use crate::lesion::Part;
use crate::row::{Row, Rows};
use crate::stats::{Bootstrap, Estimate, false_discovery, sign_flip};
use crate::task::Task;

crate::row! {
    /// One head at all positions.
    pub struct HeadKey {
        /// The activation: z, result, q, k, v (k and v have key-value heads) or pattern.
        pub site: String,
        /// `denoise`: corrupt run, value restored from the clean one; `noise`: clean run, value from the corrupt one;
        /// `insert`: clean run, without a corrupt one.
        pub direction: String,
        /// The layer.
        pub layer: usize,
        /// The head.
        pub head: usize,
    }
}

crate::row! {
    /// A part of the stream, what is added to it, or a layer's neurons, at one position.
    pub struct PositionKey {
        /// The activation: resid_pre, resid_mid, resid_post, attn_out, mlp_out, mlp_pre or mlp_post.
        pub site: String,
        /// `denoise`: corrupt run, value restored from the clean one; `noise`: clean run, value from the corrupt one;
        /// `insert`: clean run, without a corrupt one.
        pub direction: String,
        /// The layer, of several the first.
        pub layer: usize,
        /// Named position, or its number.
        pub pos: String,
        /// The clean token there if all examples share it, else the position; `clean→corrupt` where all exchange the same.
        pub token: String,
    }
}

crate::row! {
    /// One head at one position (of a pattern: one query).
    pub struct HeadPositionKey {
        /// The activation: z, result, q, k, v (k and v have key-value heads) or pattern.
        pub site: String,
        /// `denoise`: corrupt run, value restored from the clean one; `noise`: clean run, value from the corrupt one;
        /// `insert`: clean run, without a corrupt one.
        pub direction: String,
        /// The layer.
        pub layer: usize,
        /// The head.
        pub head: usize,
        /// Named position, or its number.
        pub pos: String,
        /// The clean token there if all examples share it, else the position; `clean→corrupt` where all exchange the same.
        pub token: String,
    }
}

crate::row! {
    /// A whole activation.
    pub struct LayerKey {
        /// The activation, all of its heads and positions.
        pub site: String,
        /// `denoise`: corrupt run, value restored from the clean one; `noise`: clean run, value from the corrupt one;
        /// `insert`: clean run, without a corrupt one.
        pub direction: String,
        /// The layer, of several the first.
        pub layer: usize,
    }
}

crate::row! {
    /// One cell of a head's attention.
    pub struct PatternKey {
        /// `pattern`.
        pub site: String,
        /// `denoise`: corrupt run, value restored from the clean one; `noise`: clean run, value from the corrupt one;
        /// `insert`: clean run, without a corrupt one.
        pub direction: String,
        /// The layer.
        pub layer: usize,
        /// The head.
        pub head: usize,
        /// The position that attends (destination).
        pub query: String,
        /// The position attended to (source).
        pub key: String,
        /// The token at the query, as in `resid_by_pos`.
        pub query_token: String,
        /// The token at the key.
        pub key_token: String,
    }
}

crate::row! {
    /// One neuron at all positions.
    pub struct NeuronKey {
        /// mlp_pre or mlp_post.
        pub site: String,
        /// `denoise`: corrupt run, value restored from the clean one; `noise`: clean run, value from the corrupt one;
        /// `insert`: clean run, without a corrupt one.
        pub direction: String,
        /// The layer.
        pub layer: usize,
        /// The neuron.
        pub neuron: usize,
        /// The effect as the gradient of the clean run expects it, in the same unit (mlp_post; neurons were chosen by its size): none
        /// for `denoise`, which is another run.
        pub estimate: Option<f64>,
    }
}

crate::row! {
    /// A set of parts at all positions.
    pub struct SetKey {
        /// The set.
        pub set: String,
        /// Its parts.
        pub parts: String,
        /// `denoise`: corrupt run, values restored from the clean one; `noise`: clean run, values from the corrupt one;
        /// `insert`: clean run, without a corrupt one.
        pub direction: String,
    }
}

crate::row! {
    /// What a cell does.
    pub struct Effect {
        /// Share of the gap between clean and corrupt run that the patch closes (denoise) or opens (noise); for insert the
        /// change of the metric.
        pub effect: f64,
        /// The metric of the patched run, mean over examples.
        pub raw: f64,
        /// Lower end of the effect's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the effect's 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
        /// Sign-flip p-value of the effect being 0: none below 13 prompts, and none where it is 0 by construction.
        pub p: Option<f64>,
        /// Its q-value among all cells of this table (false-discovery rate, Benjamini–Hochberg).
        pub q: Option<f64>,
        /// Whether the effect is large enough (a twentieth of the gap unless asked otherwise) and its interval excludes 0.
        pub notable: bool,
        /// What the effect is in: `gap`, or the metric where there is no gap.
        pub unit: String,
    }
}

crate::row! {
    /// How many layers are patched at once.
    pub struct Window {
        /// How many layers, from `layer` on, are patched together: not the effect of any one of them.
        pub window: usize,
    }
}

crate::row! {
    /// A set beside its parts.
    pub struct Sum {
        /// Sum of the effects when each part is patched alone.
        pub sum_of_parts: f64,
        /// The whole minus the sum.
        pub interaction: f64,
        /// Lower end of the interaction's 95 % interval.
        pub interaction_ci_lo: Option<f64>,
        /// Upper end of the interaction's 95 % interval.
        pub interaction_ci_hi: Option<f64>,
        /// Sign-flip p-value of the interaction being 0.
        pub interaction_p: Option<f64>,
    }
}

crate::row! {
    /// Whose.
    pub struct Whose {
        /// The example.
        pub example: String,
    }
}

crate::row! {
    /// What a patch did to one example.
    pub struct Own {
        /// Change of the metric divided by the mean gap, so that the mean over examples is the table's effect; for insert the
        /// change itself.
        pub effect: f64,
        /// The metric of the patched run.
        pub raw: f64,
    }
}

/// One cell in one direction, with its statistics.
struct Found<'a> {
    index: usize,
    swap: &'a Swap,
    way: Way,
    effect: Estimate,
    p: Option<f64>,
    /// Change of the metric of each example, and the metric itself.
    change: Vec<f64>,
    patched: &'a [f64],
}

/// A finished run, to be written down.
struct Results<'a> {
    patch: &'a Patch,
    task: &'a Task,
    setting: &'a Setting,
    tokens: Vec<String>,
    /// The mean gap, or 1 where effects are changes.
    over: f64,
    found: Vec<Found<'a>>,
}

/// Tables and notes from what was measured.
pub(super) fn findings(
    patch: &Patch,
    lab: &Lab,
    task: &Task,
    setting: &Setting,
    measured: &Measured,
) -> Findings {
    let (units, seed) = (task.units(), lab.seed);
    let bootstrap = Bootstrap::grouped(&units, seed);
    let gap: Vec<f64> = measured.clean.iter().zip(&measured.corrupt).map(|(a, b)| a - b).collect();
    let gap = (!gap.is_empty()).then_some(gap.as_slice());
    let plan = &setting.plan;
    let cells: Vec<(usize, usize)> =
        (0..plan.swaps.len()).flat_map(|swap| (0..setting.ways.len()).map(move |way| (swap, way))).collect();
    // each cell's interval is its own computation on shared draws: parallel and still the same numbers
    let statistics = |&(index, w): &(usize, usize)| {
        let (way, patched) = (setting.ways[w], &measured.patched[w][index]);
        let change = way.change(measured, patched);
        let effect = bootstrap.ratio(&change, gap);
        let tested = measured.run[w][index] && plan.by[index].is_some();
        let p = if tested { sign_flip(&change, &units, seed) } else { None };
        Found { index, swap: &plan.swaps[index], way, effect, p, change, patched }
    };
    let found: Vec<Found> = cells.par_iter().map(statistics).collect();
    let over = gap.map_or(1.0, |gap| gap.iter().sum::<f64>() / gap.len().max(1) as f64);
    let tokens = setting.places.iter().map(|place| place.exchange(task, &lab.vocabulary)).collect();
    let results = Results { patch, task, setting, tokens, over, found };
    let (mut tables, mut examples) = (Vec::new(), Vec::new());
    for by in By::ALL {
        let found: Vec<&Found> =
            results.found.iter().filter(|found| plan.by[found.index] == Some(by)).collect();
        if !found.is_empty() {
            let sums = if by == By::Set {
                results.sums(&found, gap, &bootstrap, (&units, seed))
            } else {
                Vec::new()
            };
            tables.push(results.table(by, &found, sums));
            examples.push(results.examples(by, &found));
        }
    }
    tables.extend(examples);
    tables.extend(gap.map(|gap| gaps(Patch::NAME, task, gap)));
    Findings { tables, notes: notes::notes(patch, setting, task, measured), ..Findings::default() }
}

impl Results<'_> {
    /// The columns that say what was patched.
    fn keys(&self, by: By, found: &[&Found]) -> Columns {
        let site = |found: &Found| found.swap.site.map_or("", |site| site.at().1).to_owned();
        let direction = |found: &Found| found.way.name().to_owned();
        let layer = |found: &Found| found.swap.layers.first().copied().unwrap_or(0);
        let head = |found: &Found| found.swap.head.unwrap_or(0);
        let label = |place: Option<usize>| {
            place
                .and_then(|place| self.setting.places.get(place))
                .map_or_else(String::new, |p| p.label.clone())
        };
        let token = |place: Option<usize>| {
            place.and_then(|place| self.tokens.get(place)).cloned().unwrap_or_default()
        };
        match by {
            By::Head => columns(found, |f| HeadKey {
                site: site(f),
                direction: direction(f),
                layer: layer(f),
                head: head(f),
            }),
            By::Position => columns(found, |f| PositionKey {
                site: site(f),
                direction: direction(f),
                layer: layer(f),
                pos: label(f.swap.place),
                token: token(f.swap.place),
            }),
            By::HeadPosition => columns(found, |f| HeadPositionKey {
                site: site(f),
                direction: direction(f),
                layer: layer(f),
                head: head(f),
                pos: label(f.swap.place),
                token: token(f.swap.place),
            }),
            By::All => {
                columns(found, |f| LayerKey { site: site(f), direction: direction(f), layer: layer(f) })
            }
            By::QueryKey => columns(found, |f| PatternKey {
                site: site(f),
                direction: direction(f),
                layer: layer(f),
                head: head(f),
                query: label(f.swap.place),
                key: label(f.swap.key),
                query_token: token(f.swap.place),
                key_token: token(f.swap.key),
            }),
            By::Neuron => columns(found, |f| NeuronKey {
                site: site(f),
                direction: direction(f),
                layer: layer(f),
                neuron: f.swap.neuron.unwrap_or(0),
                estimate: self.setting.plan.estimates[f.index].and_then(|estimate| match f.way.name() {
                    "denoise" => None,
                    "noise" => Some(-estimate / self.over),
                    _ => Some(estimate / self.over),
                }),
            }),
            By::Set => columns(found, |f| SetKey {
                set: self.set_name(f.index),
                parts: f.swap.parts.iter().map(Part::to_string).collect::<Vec<_>>().join(" "),
                direction: direction(f),
            }),
        }
    }

    fn set_name(&self, index: usize) -> String {
        let plan = &self.setting.plan;
        let before = plan.by.iter().take(index).filter(|by| **by == Some(By::Set)).count();
        plan.sets.get(before).map_or_else(String::new, |set| set.name.clone())
    }

    /// A table: what was patched, and what that did.
    fn table(&self, by: By, found: &[&Found], sums: Vec<Sum>) -> Rows {
        let largest = found.iter().map(|f| f.effect.value.abs()).fold(0.0, f64::max);
        let least = |way: Way| self.patch.notable * if way == Way::Insert { largest } else { 1.0 };
        let p: Vec<Option<f64>> = found.iter().map(|f| f.p).collect();
        let effects: Vec<Effect> = found
            .iter()
            .zip(false_discovery(&p))
            .map(|(f, q)| Effect {
                effect: f.effect.value,
                raw: f.patched.iter().sum::<f64>() / f.patched.len().max(1) as f64,
                ci_lo: f.effect.lo,
                ci_hi: f.effect.hi,
                n: f.effect.n,
                p: f.p,
                q,
                notable: f.effect.is_notable(least(f.way)),
                unit: if f.way == Way::Insert { self.patch.metric.name() } else { "gap" }.to_owned(),
            })
            .collect();
        let mut columns = self.keys(by, found);
        columns.extend(Effect::columns(&effects));
        if self.patch.window > 1 && matches!(by, By::All | By::Position) {
            columns.extend(self::columns(found, |_| Window { window: self.patch.window }));
        }
        if by == By::Set {
            columns.extend(Sum::columns(&sums));
        }
        Rows { name: name(by).to_owned(), columns }
    }

    /// Each set beside its parts, as in the table.
    fn sums(
        &self,
        found: &[&Found],
        gap: Option<&[f64]>,
        bootstrap: &Bootstrap,
        draws: (&[usize], u64),
    ) -> Vec<Sum> {
        let one = |set: &&Found| {
            let alone = set.swap.parts.iter().filter_map(|&part| self.setting.plan.alone(part));
            let parts: Vec<&[f64]> = alone
                .filter_map(|index| {
                    let is_it = |found: &&Found| found.index == index && found.way == set.way;
                    self.found.iter().find(is_it).map(|found| found.change.as_slice())
                })
                .collect();
            let together = Together::of(&set.change, &parts, gap, bootstrap, draws);
            Sum {
                sum_of_parts: together.sum,
                interaction: together.interaction.value,
                interaction_ci_lo: together.interaction.lo,
                interaction_ci_hi: together.interaction.hi,
                interaction_p: together.p,
            }
        };
        found.iter().map(one).collect()
    }

    /// The same for each example.
    fn examples(&self, by: By, found: &[&Found]) -> Rows {
        let n = self.task.examples.len();
        let (mut each, mut whose, mut own) = (Vec::new(), Vec::new(), Vec::new());
        for (row, found) in found.iter().enumerate() {
            let numbers = found.change.iter().zip(found.patched);
            for (example, (change, &raw)) in self.task.examples.iter().zip(numbers) {
                each.push(row);
                whose.push(Whose { example: example.id.clone() });
                own.push(Own { effect: change / self.over, raw });
            }
        }
        let keys = Rows { name: format!("examples_{}", name(by)), columns: self.keys(by, found) };
        let mut rows = keys.take(&each);
        // a token is what the table of means says, and an estimate is of all examples
        let said = ["token", "query_token", "key_token", "parts", "estimate"];
        rows.columns.retain(|(name, _, _)| !said.contains(&name.as_str()));
        rows.columns.splice(0..0, Whose::columns(&whose));
        rows.columns.extend(Own::columns(&own));
        debug_assert_eq!(each.len(), n * found.len());
        rows
    }
}

/// The name of a grain's table.
fn name(by: By) -> &'static str {
    match by {
        By::Head => "patch_head",
        By::Position => "resid_by_pos",
        By::HeadPosition => "patch_head_pos",
        By::All => "patch_layer",
        By::QueryKey => "patch_pattern",
        By::Neuron => "patch_neuron",
        By::Set => "patch_set",
    }
}

type Columns = Vec<(String, String, crate::row::Column)>;

fn columns<R: Row>(found: &[&Found], row: impl Fn(&Found) -> R) -> Columns {
    R::columns(&found.iter().map(|found| row(found)).collect::<Vec<R>>())
}
