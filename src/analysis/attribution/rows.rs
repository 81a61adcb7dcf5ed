//! The tables of the attribution.

use super::parts::{Columns, top_neurons};
use super::{Attribution, Half, Listed, Measured, ReadAt, bent};
use crate::analysis::Findings;
use crate::error::Result;
use crate::lab::Lab;
use crate::model::{Block, PositionKind, Transformer};
use crate::row::Rows;
use crate::stats::{Bootstrap, Estimate, false_discovery, sign_flips};
use crate::task::Task;

crate::row! {
    /// What one component adds to the logit difference.
    pub struct ComponentRow {
        /// `embed`, `a9.h6`, `a9.b_O`, `m10`; the constants `ln_final.b` (β·ΔW_U) and `unembed.b` (Δb_U).
        pub component: String,
        /// Its layer.
        pub layer: Option<usize>,
        /// Its head.
        pub head: Option<usize>,
        /// Direct effect on the logit difference (logits), mean over examples.
        pub direct: f64,
        /// Lower end of its 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
        /// Sign-flip p-value of its being 0 (from 13 prompts on).
        pub p: Option<f64>,
        /// The p-value corrected for all components (Benjamini-Hochberg).
        pub q: Option<f64>,
    }
}

crate::row! {
    /// What one head adds to the logit difference.
    pub struct HeadRow {
        /// Its layer.
        pub layer: usize,
        /// Its head.
        pub head: usize,
        /// Direct effect on the logit difference (logits), mean over examples.
        pub direct: f64,
        /// Lower end of its 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
        /// Sign-flip p-value of its being 0 (from 13 prompts on).
        pub p: Option<f64>,
        /// The p-value corrected for all heads (Benjamini-Hochberg).
        pub q: Option<f64>,
    }
}

crate::row! {
    /// What one head adds to the logit difference by what it takes from one source token: A·v·W_O·direction.
    pub struct SourceRow {
        /// The head's layer.
        pub layer: usize,
        /// The head.
        pub head: usize,
        /// Named position or number of the token attended to; `other` sums the positions without a name.
        pub pos: String,
        /// The token there.
        pub token: String,
        /// Direct effect through that token (logits), mean over examples; a head's tokens sum to its direct effect.
        pub direct: f64,
        /// Lower end of its 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// What one neuron adds to the logit difference.
    pub struct NeuronRow {
        /// The MLP's layer.
        pub layer: usize,
        /// The neuron.
        pub neuron: usize,
        /// Direct effect on the logit difference (logits), mean over examples.
        pub direct: f64,
        /// Lower end of its 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// The logit difference of the stream at a half-layer, read with the final divisor frozen.
    pub struct AccumulatedRow {
        /// `0_pre`, `0_mid` (where the MLP reads what attention wrote), …, `final_post`.
        pub label: String,
        /// The layer; the last one for `final_post`.
        pub layer: usize,
        /// Logit difference read from the stream there (logits), mean over examples.
        pub logit_diff: f64,
        /// Lower end of its 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// What one component adds to the logit difference of one example.
    pub struct ExampleRow {
        /// The example.
        pub example: String,
        /// The component.
        pub component: String,
        /// Its layer.
        pub layer: Option<usize>,
        /// Its head.
        pub head: Option<usize>,
        /// Direct effect on the logit difference (logits).
        pub direct: f64,
    }
}

/// Tables and notes from what was measured.
pub(super) fn findings(
    parameters: &Attribution,
    lab: &Lab,
    task: &Task,
    (components, halves, columns): Listed,
    measured: Measured,
) -> Result<Findings> {
    let units = task.units();
    let bootstrap = Bootstrap::grouped(&units, lab.seed);
    let named: Vec<(String, Option<usize>, Option<usize>)> = components
        .iter()
        .map(|c| (c.to_string(), c.layer(), c.head()))
        .chain(["ln_final.b", "unembed.b"].map(|constant| (constant.to_owned(), None, None)))
        .collect();
    let table = |values: &[Vec<f64>]| -> Vec<ComponentRow> {
        let parts: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
        let [p, q] = sign_flips(&parts, &units, lab.seed);
        let row = |(((component, layer, head), values), (p, q)): ((&(String, _, _), &Vec<f64>), _)| {
            let Estimate { value: direct, lo: ci_lo, hi: ci_hi, n } = bootstrap.mean(values);
            let (component, layer, head) = (component.clone(), *layer, *head);
            ComponentRow { component, layer, head, direct, ci_lo, ci_hi, n, p, q }
        };
        named.iter().zip(values).zip(p.into_iter().zip(q)).map(row).collect()
    };
    let direct = table(&measured.direct);
    let of_head = |row: &ComponentRow| {
        let (layer, head) = (row.layer?, row.head?);
        let ComponentRow { direct, ci_lo, ci_hi, n, p, .. } = *row;
        Some(HeadRow { layer, head, direct, ci_lo, ci_hi, n, p, q: None })
    };
    let mut heads: Vec<HeadRow> = direct.iter().filter_map(of_head).collect();
    let p: Vec<Option<f64>> = heads.iter().map(|row| row.p).collect();
    heads.iter_mut().zip(false_discovery(&p)).for_each(|(row, q)| row.q = q);
    let mut examples = Vec::new();
    for (i, example) in task.examples.iter().enumerate() {
        for ((component, layer, head), values) in named.iter().zip(&measured.direct) {
            let (example, component) = (example.id.clone(), component.clone());
            examples.push(ExampleRow { example, component, layer: *layer, head: *head, direct: values[i] });
        }
    }
    let mut tables = vec![
        Rows::of("attribution", &direct),
        Rows::of("attribution_head", &heads),
        Rows::of("attribution_source", &sources(lab, task, columns, &measured, &bootstrap)),
        Rows::of("attribution_neuron", &neurons(parameters.neurons, &measured, &bootstrap)?),
        Rows::of("accumulated", &accumulated(halves, &measured, &bootstrap)),
    ];
    if !measured.swap.is_empty() {
        tables.push(Rows::of("attribution_swap", &table(&measured.swap)));
    }
    tables.push(Rows::of("examples_attribution", &examples));
    Ok(Findings { tables, notes: notes(parameters, &lab.model, &measured), ..Findings::default() })
}

fn sources(
    lab: &Lab,
    task: &Task,
    columns: &Columns,
    measured: &Measured,
    bootstrap: &Bootstrap,
) -> Vec<SourceRow> {
    let mut labels: Vec<(String, String)> = columns
        .places
        .iter()
        .map(|place| (place.label.clone(), place.token(task, &lab.vocabulary)))
        .collect();
    if columns.has_other {
        labels.push(("other".to_owned(), String::new()));
    }
    let mut rows = Vec::new();
    for (layer, heads) in measured.sources.iter().enumerate() {
        for (head, values) in heads.iter().enumerate() {
            for ((pos, token), values) in labels.iter().zip(values) {
                let Estimate { value: direct, lo: ci_lo, hi: ci_hi, n } = bootstrap.mean(values);
                let (pos, token) = (pos.clone(), token.clone());
                rows.push(SourceRow { layer, head, pos, token, direct, ci_lo, ci_hi, n });
            }
        }
    }
    rows
}

fn neurons(k: usize, measured: &Measured, bootstrap: &Bootstrap) -> Result<Vec<NeuronRow>> {
    let top = top_neurons(&measured.neurons, &measured.order, k)?;
    let row = |(layer, neuron, values): (usize, usize, Vec<f64>)| {
        let Estimate { value: direct, lo: ci_lo, hi: ci_hi, n } = bootstrap.mean(&values);
        NeuronRow { layer, neuron, direct, ci_lo, ci_hi, n }
    };
    Ok(top.into_iter().map(row).collect())
}

fn accumulated(halves: &[Half], measured: &Measured, bootstrap: &Bootstrap) -> Vec<AccumulatedRow> {
    let row = |(half, values): (&Half, &Vec<f64>)| {
        let (label, layer) = (half.label.clone(), half.layer);
        let Estimate { value: logit_diff, lo: ci_lo, hi: ci_hi, n } = bootstrap.mean(values);
        AccumulatedRow { label, layer, logit_diff, ci_lo, ci_hi, n }
    };
    halves.iter().zip(&measured.accumulated).map(row).collect()
}

/// What is different about this model's components.
fn peculiar(model: &Transformer) -> Vec<String> {
    let any = |is: fn(&Block) -> bool| model.blocks.iter().any(is);
    let mut notes = Vec::new();
    if any(|block| block.ln1_post.is_some() || block.ln2_post.is_some()) {
        notes.push(
            "what attention and MLPs write passes a norm before it joins the stream: its divisor is held fixed too, and its \
             bias counts with b_O and with the MLP"
                .to_owned(),
        );
    }
    if any(|block| block.mlp.experts().is_some()) {
        notes.push("MLPs of experts count as wholes: their neurons are not listed".to_owned());
    }
    if model.config.positions == PositionKind::Shortformer {
        notes.push(
            "position embeddings are read by queries and keys alone and never enter the stream: they have no direct effect"
                .to_owned(),
        );
    }
    notes
}

fn notes(parameters: &Attribution, model: &Transformer, measured: &Measured) -> Vec<String> {
    let mut worst = (0.0f64, 0.0f64); // residue, and the logit difference it stands beside
    for (i, &logit_diff) in measured.logit_diff.iter().enumerate() {
        let sum: f64 = measured.direct.iter().map(|values| values[i]).sum();
        let residue = (sum - logit_diff).abs();
        if residue > worst.0 || residue.is_nan() {
            worst = (residue, logit_diff);
        }
    }
    let mut notes = vec![format!(
        "the direct effects sum to the logit difference: largest residue over {} examples {:.1e}",
        measured.logit_diff.len(),
        worst.0
    )];
    let small = worst.0 <= 1e-3 * worst.1.abs().max(1.0); // a NaN is not
    if !small {
        notes.push(format!(
            "error: the direct effects miss a logit difference of {:.4} by {:.1e}; do not use this table",
            worst.1, worst.0
        ));
    }
    if parameters.position != ReadAt::Name("end".to_owned()) {
        let at = match &parameters.position {
            ReadAt::Index(index) => format!("position {index}"),
            ReadAt::Name(name) => format!("`{name}`"),
        };
        notes.push(format!("logits are read at {at}, not where the answer is due"));
    }
    notes.push(
        "direct effects hold the final norm's divisor fixed and are always of the logit difference: other metrics \
         are not linear in the stream; what a component does through later ones is not in them"
            .to_owned(),
    );
    notes.extend(bent(model));
    notes.extend(peculiar(model));
    notes
}
