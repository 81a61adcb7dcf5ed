//! The tables of attribution patching.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::measure::{Estimates, Measured};
use super::nodes::Node;
use super::{Atp, Grain, word};
use crate::analysis::agreement::Agreement;
use crate::analysis::patch::Direction;
use crate::analysis::patch::doubted;
use crate::analysis::{Analysis, Findings, gaps};
use crate::lab::Lab;
use crate::row::Rows;
use crate::stats::{Bootstrap, Estimate, false_discovery, sign_flip};
use crate::task::{Place, Task};

crate::row! {
    /// What patching one node would do, to first order. Columns that a grain does not have are left out.
    pub struct NodeRow {
        /// The activation: resid_pre, …, z, q, k, v (k and v have key-value heads), pattern, mlp_pre or mlp_post.
        pub site: String,
        /// `denoise`: corrupt run, value restored from the clean one; `noise`: clean run, value from the corrupt one.
        pub direction: String,
        /// The layer.
        pub layer: usize,
        /// The head.
        pub head: Option<usize>,
        /// The neuron.
        pub neuron: Option<usize>,
        /// Named position, or its number; of a pattern the query.
        pub pos: Option<String>,
        /// The clean token there if all examples share it, else the position; `clean→corrupt` where all exchange the same.
        pub token: Option<String>,
        /// Named position of the key, or its number.
        pub key: Option<String>,
        /// The token of the key, as `token`.
        pub key_token: Option<String>,
        /// Estimated share of the gap between clean and corrupt run that the patch closes (denoise) or opens (noise).
        pub effect: f64,
        /// Of queries and keys, the same with the softmax behind them linearised (plain AtP). None elsewhere: it is `effect`.
        pub linear: Option<f64>,
        /// Size of the effect with one layer at a time cut out of the backward pass, mean over the others: AtP*'s. No sign.
        pub grad_drop: Option<f64>,
        /// Lower end of the 95 % interval of `effect` over examples; how wrong the estimate is it does not say.
        pub ci_lo: Option<f64>,
        /// Upper end of that interval.
        pub ci_hi: Option<f64>,
        /// Sign-flip p-value of the estimated effect being 0; none below 13 different prompts.
        pub p: Option<f64>,
        /// Benjamini–Hochberg q over the table's rows of this direction; none for neurons, which were chosen for their size.
        pub q: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// The estimate for one node in one example.
    pub struct ExampleRow {
        /// The example.
        pub example: String,
        /// The activation.
        pub site: String,
        /// `denoise` or `noise`.
        pub direction: String,
        /// The layer.
        pub layer: usize,
        /// The head.
        pub head: Option<usize>,
        /// The neuron.
        pub neuron: Option<usize>,
        /// Named position, or its number; of a pattern the query.
        pub pos: Option<String>,
        /// Named position of the key, or its number.
        pub key: Option<String>,
        /// Estimated change of the metric divided by the mean gap, so that the mean over examples is the table's effect.
        pub effect: f64,
        /// The same without sign, layers dropped.
        pub grad_drop: Option<f64>,
    }
}

/// The table of a grain.
fn table(grain: Grain) -> &'static str {
    match grain {
        Grain::Position => "atp_position",
        Grain::Head => "atp_head",
        Grain::HeadPosition => "atp_head_pos",
        Grain::QueryKey => "atp_pattern",
        Grain::Neuron => "atp_neuron",
    }
}

/// What is asked and what was measured.
pub(super) struct Told<'a> {
    pub(super) atp: &'a Atp,
    pub(super) lab: &'a Lab,
    pub(super) task: &'a Task,
    pub(super) places: &'a [Place],
    pub(super) nodes: &'a [Node],
    pub(super) measured: &'a Measured,
}

/// Tables and notes: heads first, since they are what is read first.
pub(super) fn findings(told: &Told, agreement: &Agreement, mut notes: Vec<String>) -> Findings {
    let (mut tables, mut examples) = (Vec::new(), Vec::new());
    for grain in [Grain::Head, Grain::Position, Grain::HeadPosition, Grain::QueryKey, Grain::Neuron] {
        let (rows, each) = told.rows(grain);
        if !rows.is_empty() {
            tables.push(trimmed(Rows::of(table(grain), &rows)));
            examples.push(trimmed(Rows::of(format!("examples_{}", table(grain)), &each)));
        }
    }
    tables.extend(agreement.tables("atp"));
    tables.extend(examples);
    tables.push(gaps(Atp::NAME, told.task, &told.gaps()));
    notes.splice(0..0, told.notes());
    notes.extend(agreement.notes("atp"));
    Findings { tables, notes, ..Findings::default() }
}

/// Without the columns that name nothing in any row.
fn trimmed(mut rows: Rows) -> Rows {
    const NAMES: [&str; 8] = ["head", "neuron", "pos", "token", "key", "key_token", "linear", "grad_drop"];
    let empty: Vec<&str> = NAMES
        .into_iter()
        .filter(|name| rows.texts(name).is_ok_and(|cells| cells.iter().all(String::is_empty)))
        .collect();
    rows.columns.retain(|(name, _, _)| !empty.contains(&name.as_str()));
    rows
}

impl Told<'_> {
    /// What clean and corrupt run differ by in each example.
    fn gaps(&self) -> Vec<f64> {
        self.measured.clean.iter().zip(&self.measured.corrupt).map(|(a, b)| a - b).collect()
    }

    fn rows(&self, grain: Grain) -> (Vec<NodeRow>, Vec<ExampleRow>) {
        let units = self.task.units();
        let bootstrap = Bootstrap::grouped(&units, self.lab.seed);
        let gap = self.gaps();
        let mean_gap = gap.iter().sum::<f64>() / gap.len().max(1) as f64;
        let tokens: Vec<String> =
            self.places.iter().map(|place| place.exchange(self.task, &self.lab.vocabulary)).collect();
        let (mut rows, mut examples) = (Vec::new(), Vec::new());
        for estimates in &self.measured.directions {
            let listed = self.listed(grain, estimates);
            let sizes = |index: usize| estimates.dropped.get(index).filter(|sizes| !sizes.is_empty());
            // each cell's interval is its own computation on shared draws: parallel and still the same numbers
            let over = bootstrap.over(Some(&gap));
            let found: Vec<(Estimate, Option<f64>)> = listed
                .par_iter()
                .map(|&index| {
                    let change = &estimates.change[index];
                    (over.ratio(change), sign_flip(change, &units, self.lab.seed))
                })
                .collect();
            let p: Vec<Option<f64>> = found.iter().map(|(_, p)| *p).collect();
            let q = if grain == Grain::Neuron { vec![None; p.len()] } else { false_discovery(&p) };
            for (((&index, (estimate, _)), p), q) in listed.iter().zip(&found).zip(p).zip(q) {
                let node = &self.nodes[index];
                let mean = |values: &Vec<f64>| values.iter().sum::<f64>() / gap.len() as f64;
                let place = |place: Option<usize>, of: &dyn Fn(usize) -> String| place.map(of);
                let label = |place: usize| self.places[place].label.clone();
                let token = |place: usize| tokens[place].clone();
                let is_neuron = grain == Grain::Neuron;
                let head = (!is_neuron && grain != Grain::Position).then_some(node.unit);
                let neuron = is_neuron.then_some(node.unit);
                let linear = estimates.linear.get(index).filter(|values| !values.is_empty());
                rows.push(NodeRow {
                    site: node.site.at().1.to_owned(),
                    direction: word(estimates.direction).to_owned(),
                    layer: node.layer,
                    head,
                    neuron,
                    pos: place(node.place, &label),
                    token: place(node.place, &token),
                    key: place(node.key, &label),
                    key_token: place(node.key, &token),
                    effect: estimate.value,
                    linear: linear.map(|values| mean(values) / mean_gap),
                    grad_drop: sizes(index).map(|sizes| mean(sizes) / mean_gap.abs()),
                    ci_lo: estimate.lo,
                    ci_hi: estimate.hi,
                    p,
                    q,
                    n: estimate.n,
                });
                let each = self.task.examples.iter().zip(&estimates.change[index]).enumerate();
                examples.extend(each.map(|(i, (example, change))| ExampleRow {
                    example: example.id.clone(),
                    site: node.site.at().1.to_owned(),
                    direction: word(estimates.direction).to_owned(),
                    layer: node.layer,
                    head,
                    neuron,
                    pos: place(node.place, &label),
                    key: place(node.key, &label),
                    effect: change / mean_gap,
                    grad_drop: sizes(index).map(|sizes| sizes[i] / mean_gap.abs()),
                }));
            }
        }
        (rows, examples)
    }

    /// The nodes of a grain in the order of the table; of neurons the largest, by each site.
    fn listed(&self, grain: Grain, estimates: &Estimates) -> Vec<usize> {
        let own = (0..self.nodes.len()).filter(|&i| self.nodes[i].grain == grain);
        if grain != Grain::Neuron {
            return own.collect();
        }
        let mut by_site: BTreeMap<_, Vec<(f64, usize)>> = BTreeMap::new();
        for i in own {
            let size = estimates.change[i].iter().sum::<f64>().abs();
            by_site.entry(self.nodes[i].site).or_default().push((size, i));
        }
        let largest = by_site.into_values().flat_map(|mut sizes| {
            // the earlier neuron first among equals
            sizes.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            sizes.into_iter().take(self.atp.neurons).map(|(_, i)| i)
        });
        largest.collect()
    }

    fn notes(&self) -> Vec<String> {
        let Measured { clean, corrupt, directions } = self.measured;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let (atp, gap) = (self.atp, mean(clean) - mean(corrupt));
        let mut notes = vec![format!(
            "{}: clean {:.4}, corrupt {:.4}, gap {gap:.4} (means over {} pairs); an effect of 1 is the whole gap",
            atp.metric,
            mean(clean),
            mean(corrupt),
            clean.len()
        )];
        notes.extend(doubted(atp.metric, clean, self.task));
        let on = |it: bool| if it { "on" } else { "off" };
        notes.push(format!(
            "effects are first-order estimates from gradients, not measurements; AtP*'s softmax of q and k computed anew \
             (qk_fix): {}; its dropped layers (grad_drop): {}",
            on(atp.qk_fix),
            on(atp.grad_drop)
        ));
        if atp.grad_drop && self.lab.model.config.n_layers == 1 {
            notes.push(
                "with one layer there is no other to drop: nodes inside it have no grad_drop".to_owned(),
            );
        }
        for estimates in directions {
            let (what, at) = match estimates.direction {
                Direction::Noise => ("what is needed: gradient at the clean run", "noise"),
                _ => ("what is enough: gradient at the corrupt run", "denoise"),
            };
            notes.push(format!(
                "{at}, {what}; to first order, swapping the whole input has an effect of {:.3}, where it is 1 by \
                 definition: how far from straight the way there is",
                mean(&estimates.input) / gap
            ));
        }
        notes
    }
}
