//! The tables of ablation.

use rayon::prelude::*;

use super::plan::{By, Lesion};
use super::reference::Over;
use super::{Ablate, Kind, Measured, Setting};
use crate::analysis::Findings;
use crate::groups::Together;
use crate::lab::Lab;
use crate::lesion::Part;
use crate::row::Rows;
use crate::site::At;
use crate::stats::{Bootstrap, Estimate, false_discovery, sign_flip};
use crate::task::Task;

/// A p-value and its q, where there is one.
type Tested = (Option<f64>, Option<f64>);

crate::row! {
    /// What one lesion changes in the leading metric, by kind of ablation.
    pub struct AblationRow {
        /// The part, or the set's name: `a9.h6` a head, `a9` a layer's attention, `m9` its MLP, `m9.n12` a neuron.
        pub part: String,
        /// `set`, `layer`, `head` or `neuron`.
        pub grain: String,
        /// What it was designed to do on this task, where the model ships that; of a set, its parts.
        pub role: Option<String>,
        /// The metric.
        pub metric: String,
        /// Where replacements other than zeros come from: `task`, `corrupt`, `random` or `given`.
        pub reference: Option<String>,
        /// Change of the metric, lesioned minus whole, when the part writes zeros.
        pub zero: Option<f64>,
        /// The same when it writes its mean over all positions of the reference.
        pub mean: Option<f64>,
        /// The same when it writes its mean at each position.
        pub mean_by_position: Option<f64>,
        /// The same when it writes what it writes on another prompt.
        pub resample: Option<f64>,
        /// Of neurons, what gradient × activation expects of zero ablation; they were chosen by its size.
        pub zero_estimate: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// What one lesion changes in one metric.
    pub struct EffectRow {
        /// The part, or the set's name.
        pub part: String,
        /// `set`, `layer`, `head`, `neuron` or `position`.
        pub grain: String,
        /// Its layer.
        pub layer: Option<usize>,
        /// Its head.
        pub head: Option<usize>,
        /// Of a layer: `attention` or `mlp`.
        pub site: Option<String>,
        /// The only position at which it is taken out: its name, or its number.
        pub pos: Option<String>,
        /// The token there if all examples share it, else the position.
        pub token: Option<String>,
        /// `zero`, `mean`, `mean-by-position` or `resample`.
        pub kind: String,
        /// Where replacements come from: `task`, `corrupt`, `random` or `given`.
        pub reference: Option<String>,
        /// The metric.
        pub metric: String,
        /// The metric of the lesioned run, mean over examples.
        pub value: f64,
        /// Change of the metric, lesioned minus whole, mean over examples.
        pub change: f64,
        /// Lower end of the change's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the change's 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
        /// Sign-flip p-value of the change being 0 (none below 13 prompts, nor of KL, which cannot fall).
        pub p: Option<f64>,
        /// Its q-value among all parts of this kind and metric (false-discovery rate, Benjamini–Hochberg).
        pub q: Option<f64>,
        /// Whether the change is a twentieth of the largest of its kind and metric or more, and its interval excludes 0.
        pub notable: bool,
    }
}

crate::row! {
    /// A set as a whole beside the sum of its parts.
    pub struct SetRow {
        /// The set.
        pub set: String,
        /// Its parts.
        pub parts: String,
        /// `zero`, `mean`, `mean-by-position` or `resample`.
        pub kind: String,
        /// The metric.
        pub metric: String,
        /// Change of the metric when all of them are taken out together.
        pub change: f64,
        /// Sum of the changes when each is taken out alone.
        pub sum_of_parts: f64,
        /// The whole minus the sum.
        pub interaction: f64,
        /// Lower end of the interaction's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the interaction's 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
        /// Sign-flip p-value of the interaction being 0 (none below 13 prompts).
        pub p: Option<f64>,
    }
}

crate::row! {
    /// What one lesion changes in one example, in every metric that was measured: lesioned minus whole.
    pub struct ExampleRow {
        /// The example.
        pub example: String,
        /// The part, or the set's name.
        pub part: String,
        /// The only position at which it is taken out.
        pub pos: Option<String>,
        /// `zero`, `mean`, `mean-by-position` or `resample`.
        pub kind: String,
        /// Change of the logit difference.
        pub logit_diff: Option<f64>,
        /// Change of the answers' log-probability (nats).
        pub log_prob: Option<f64>,
        /// Change of the answers' probability.
        pub prob: Option<f64>,
        /// Change of the probability of answers minus wrong answers.
        pub prob_diff: Option<f64>,
        /// Change of the best answer's rank.
        pub rank: Option<f64>,
        /// KL divergence from the whole run (nats).
        pub kl: Option<f64>,
        /// Change of the expected gain.
        pub expected_gain: Option<f64>,
        /// Change of whether the answer is preferred to the wrong one.
        pub accuracy: Option<f64>,
        /// Change of whether the first choice is an answer.
        pub top_accuracy: Option<f64>,
    }
}

/// A finished run, to be written down.
pub(super) struct Results<'a> {
    pub(super) ablate: &'a Ablate,
    pub(super) lab: &'a Lab,
    pub(super) task: &'a Task,
    pub(super) setting: &'a Setting<'a>,
    pub(super) measured: &'a Measured,
}

impl Results<'_> {
    /// Tables and notes.
    pub(super) fn findings(&self) -> Findings {
        let bootstrap = Bootstrap::grouped(&self.task.units(), self.lab.seed);
        let changes = self.changes(&bootstrap);
        let mut tables = vec![
            Rows::of("ablate", &self.summary(&changes)),
            Rows::of("ablate_effect", &self.effects(&changes)),
        ];
        let sets = self.sets(&bootstrap);
        if !sets.is_empty() {
            tables.push(Rows::of("ablate_set", &sets));
        }
        tables.push(Rows::of("examples_ablate", &self.examples()));
        Findings { tables, notes: self.notes(), ..Findings::default() }
    }

    /// Change of a measure in every example.
    fn change(&self, kind: usize, lesion: usize, measure: usize) -> Vec<f64> {
        let whole = &self.measured.whole[measure];
        self.measured.lesioned[kind][lesion][measure].iter().zip(whole).map(|(a, b)| a - b).collect()
    }

    /// Mean changes `[kind][lesion][measure]`. Each is its own computation on shared draws: parallel and still the same
    /// numbers.
    fn changes(&self, bootstrap: &Bootstrap) -> Vec<Vec<Vec<Estimate>>> {
        let measures = self.setting.measures.len();
        let one = |kind, lesion| -> Vec<Estimate> {
            (0..measures).map(|measure| bootstrap.mean(&self.change(kind, lesion, measure))).collect()
        };
        let lesions = self.setting.plan.lesions.len();
        (0..self.setting.kinds.len())
            .map(|kind| (0..lesions).into_par_iter().map(|lesion| one(kind, lesion)).collect())
            .collect()
    }

    /// Every lesion of whole parts, largest change first.
    fn summary(&self, changes: &[Vec<Vec<Estimate>>]) -> Vec<AblationRow> {
        let first = self.setting.measures.first;
        let of = |lesion: usize, kind: Kind| {
            let kind = self.setting.kinds.iter().position(|&k| k == kind)?;
            Some(changes[kind][lesion][first].value)
        };
        let size = |lesion: usize| changes.iter().map(|c| c[lesion][first].value.abs()).fold(0.0, f64::max);
        let shown = |lesion: &Lesion| lesion.grain.is_some_and(|grain| grain != By::Position);
        let mut order: Vec<usize> =
            (0..self.setting.plan.lesions.len()).filter(|&i| shown(&self.setting.plan.lesions[i])).collect();
        order.sort_by(|&a, &b| size(b).total_cmp(&size(a)).then(a.cmp(&b)));
        let row = |i: usize| {
            let lesion = &self.setting.plan.lesions[i];
            AblationRow {
                part: lesion.name.clone(),
                grain: lesion.grain.map_or("", By::name).to_owned(),
                role: Some(self.role(lesion)).filter(|role| !role.is_empty()),
                metric: self.setting.measures.names()[first].to_owned(),
                reference: Some(self.setting.reference.name().to_owned()),
                zero: of(i, Kind::Zero),
                mean: of(i, Kind::Mean),
                mean_by_position: of(i, Kind::MeanByPosition),
                resample: of(i, Kind::Resample),
                zero_estimate: lesion.estimate,
                n: self.task.examples.len(),
            }
        };
        order.into_iter().map(row).collect()
    }

    fn role(&self, lesion: &Lesion) -> String {
        match (lesion.grain, lesion.parts.as_slice()) {
            (Some(By::Set), parts) => parts.iter().map(Part::to_string).collect::<Vec<_>>().join(" "),
            (_, [Part::Writer(component)]) => {
                component.role(self.lab.about.circuit.as_ref(), &self.task.name)
            }
            _ => String::new(),
        }
    }

    fn effects(&self, changes: &[Vec<Vec<Estimate>>]) -> Vec<EffectRow> {
        let tokens: Vec<String> =
            self.setting.places.iter().map(|place| place.token(self.task, &self.lab.vocabulary)).collect();
        let names = self.setting.measures.names();
        let n = self.task.examples.len();
        let mut rows = Vec::new();
        let tests = self.tests();
        let largest = |k: usize, m: usize| changes[k].iter().map(|c| c[m].value.abs()).fold(0.0, f64::max);
        let least: Vec<Vec<f64>> = (0..changes.len())
            .map(|k| (0..names.len()).map(|m| self.ablate.notable * largest(k, m)).collect())
            .collect();
        for (i, lesion) in self.setting.plan.lesions.iter().enumerate() {
            let Some(grain) = lesion.grain else { continue };
            let alone = if let [part] = lesion.parts[..] { Some(part) } else { None };
            let alone = alone.filter(|_| grain != By::Set);
            let (layer, head, site) = match alone {
                Some(Part::Writer(component)) => {
                    (component.layer(), component.head(), component.head().is_none().then_some("mlp"))
                }
                Some(Part::Attention(layer)) => (Some(layer), None, Some("attention")),
                Some(Part::Neuron(layer, _)) => (Some(layer), None, None),
                None => (None, None, None),
            };
            for (k, kind) in self.setting.kinds.iter().enumerate() {
                for (m, metric) in names.iter().enumerate() {
                    let Estimate { value: change, lo: ci_lo, hi: ci_hi, .. } = changes[k][i][m];
                    let (p, q) = tests[k][m][i];
                    rows.push(EffectRow {
                        part: lesion.name.clone(),
                        grain: grain.name().to_owned(),
                        layer,
                        head,
                        site: site.map(str::to_owned),
                        pos: lesion.place.map(|place| self.setting.places[place].label.clone()),
                        token: lesion.place.map(|place| tokens[place].clone()),
                        kind: kind.name().to_owned(),
                        reference: (*kind != Kind::Zero).then(|| self.setting.reference.name().to_owned()),
                        metric: (*metric).to_owned(),
                        value: self.measured.lesioned[k][i][m].iter().sum::<f64>() / n as f64,
                        change,
                        ci_lo,
                        ci_hi,
                        n,
                        p,
                        q,
                        notable: changes[k][i][m].is_notable(least[k][m]),
                    });
                }
            }
        }
        rows
    }

    /// p and q of every lesion that a table lists: `[kind][measure][lesion]`.
    fn tests(&self) -> Vec<Vec<Vec<Tested>>> {
        let (units, seed) = (self.task.units(), self.lab.seed);
        let lesions = &self.setting.plan.lesions;
        let one = |k: usize, m: usize, name: &str| -> Vec<Tested> {
            let test = |i: usize| {
                let tested = lesions[i].grain.is_some() && name != "kl";
                if tested { sign_flip(&self.change(k, i, m), &units, seed) } else { None }
            };
            let p: Vec<Option<f64>> = (0..lesions.len()).into_par_iter().map(test).collect();
            let q = false_discovery(&p);
            p.into_iter().zip(q).collect()
        };
        let names = self.setting.measures.names();
        (0..self.setting.kinds.len())
            .map(|k| names.iter().enumerate().map(|(m, name)| one(k, m, name)).collect())
            .collect()
    }

    fn sets(&self, bootstrap: &Bootstrap) -> Vec<SetRow> {
        let (mut rows, units) = (Vec::new(), self.task.units());
        for (i, set) in self.setting.plan.lesions.iter().enumerate().filter(|(_, l)| l.grain == Some(By::Set))
        {
            let parts: Vec<usize> =
                set.parts.iter().filter_map(|&part| self.setting.plan.alone(part)).collect();
            for (k, kind) in self.setting.kinds.iter().enumerate() {
                for (m, metric) in self.setting.measures.names().into_iter().enumerate() {
                    let whole = self.change(k, i, m);
                    let alone: Vec<Vec<f64>> = parts.iter().map(|&part| self.change(k, part, m)).collect();
                    let alone: Vec<&[f64]> = alone.iter().map(Vec::as_slice).collect();
                    let together = Together::of(&whole, &alone, None, bootstrap, (&units, self.lab.seed));
                    let Estimate { value: interaction, lo: ci_lo, hi: ci_hi, n } = together.interaction;
                    rows.push(SetRow {
                        set: set.name.clone(),
                        parts: self.role(set),
                        kind: kind.name().to_owned(),
                        metric: metric.to_owned(),
                        change: together.whole.value,
                        sum_of_parts: together.sum,
                        interaction,
                        ci_lo,
                        ci_hi,
                        n,
                        p: together.p,
                    });
                }
            }
        }
        rows
    }

    fn examples(&self) -> Vec<ExampleRow> {
        let names = self.setting.measures.names();
        let mut rows = Vec::new();
        for (e, example) in self.task.examples.iter().enumerate() {
            for (i, lesion) in self.setting.plan.lesions.iter().enumerate().filter(|(_, l)| l.grain.is_some())
            {
                for (k, kind) in self.setting.kinds.iter().enumerate() {
                    let of = |name: &str| {
                        let m = names.iter().position(|known| *known == name)?;
                        Some(self.measured.lesioned[k][i][m][e] - self.measured.whole[m][e])
                    };
                    rows.push(ExampleRow {
                        example: example.id.clone(),
                        part: lesion.name.clone(),
                        pos: lesion.place.map(|place| self.setting.places[place].label.clone()),
                        kind: kind.name().to_owned(),
                        logit_diff: of("logit-diff"),
                        log_prob: of("log-prob"),
                        prob: of("prob"),
                        prob_diff: of("prob-diff"),
                        rank: of("rank"),
                        kl: of("kl"),
                        expected_gain: of("expected-gain"),
                        accuracy: of("accuracy"),
                        top_accuracy: of("top-1 accuracy"),
                    });
                }
            }
        }
        rows
    }

    fn notes(&self) -> Vec<String> {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let whole = self.setting.measures.names().into_iter().zip(&self.measured.whole);
        let whole: Vec<String> = whole.map(|(name, values)| format!("{name} {:.4}", mean(values))).collect();
        let mut notes = vec![format!(
            "the whole model: {}; a change is lesioned minus whole, heads are taken out at z (the shared bias stays), \
             everything after is recomputed",
            whole.join(", ")
        )];
        let reference = self.setting.reference.name();
        if self.ablate.over == Over::Auto && ["corrupt", "random"].contains(&reference) {
            notes.push(format!(
                "not every prompt has another of its template and length beside it, so that {reference} prompts are the \
                 reference, not the task's others: with more prompts (--n) the same parts can come out differently"
            ));
        }
        notes.extend(self.setting.reference.notes(
            self.task,
            self.setting.kinds,
            self.setting.reference.draws(self.ablate.draws),
        ));
        if self.setting.plan.lesions.iter().any(|lesion| lesion.estimate.is_some()) {
            notes.push(format!(
                "neurons are the {} with the largest gradient × activation (slope of {}, summed over positions, mean over \
                 prompts); their effects are measured by taking them out",
                self.ablate.neurons,
                self.setting.measures.sloped(self.ablate.metric)
            ));
        }
        if self.ablate.by.contains(&By::Neuron) {
            let blocks = || self.lab.model.blocks.iter();
            if blocks().any(|block| block.mlp.experts().is_some()) {
                notes.push("neurons of experts are not taken out one by one: an expert's neurons speak only where it is chosen".to_owned());
            } else if blocks().all(|block| !block.has(At::MlpPost)) {
                notes.push("this model has no MLPs, and so no neurons to take out".to_owned());
            }
        }
        notes
    }
}
