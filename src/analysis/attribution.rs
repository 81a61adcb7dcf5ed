//! Direct logit attribution: what each part of the model adds to the logit difference on the straight path from its
//! output to the unembedding, with the final norm's divisor frozen at the run's own value.
//!
//! The parts sum to the logit difference; the residue is measured and reported. Only the logit difference is linear in
//! the stream: log-probabilities and probabilities have no such sum, so that attribution takes no metric.

mod parts;
mod readout;
mod rows;

use candle_core::Tensor;
use serde::Deserialize;

pub(crate) use readout::{Readout, bent, direct_needs, direct_writes, numbers, unbent};

use crate::analysis::{Analysis, Findings, put};
use crate::component::Component;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::metric::Metric;
use crate::model::Transformer;
use crate::record::at_positions;
use crate::site::{At, Site};
use crate::task::{Example, Side, Task};
use parts::Columns;

/// What each component, head, source token and neuron adds to the logit difference directly.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attribution {
    /// Where the logits are read: `end` (where the answer is due), the name of a position, or its number.
    pub position: ReadAt,
    /// How many neurons to list.
    pub neurons: usize,
}

impl Default for Attribution {
    fn default() -> Self {
        Attribution { position: ReadAt::Name("end".to_owned()), neurons: 20 }
    }
}

/// A position of every prompt.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum ReadAt {
    /// Counted from the first token, BOS included.
    Index(usize),
    /// `end`, or a name that every example gives a position.
    Name(String),
}

impl ReadAt {
    /// The position in one example.
    pub fn of(&self, example: &Example) -> Result<usize> {
        let (index, size) = match self {
            ReadAt::Name(name) => return example.position(name),
            ReadAt::Index(index) => (*index, example.clean.len()),
        };
        if index < size {
            return Ok(index);
        }
        Err(Error::OutOfRange { what: "position", index, size, site: format!("the prompt `{}`", example.id) })
    }
}

/// Everything measured, by example.
#[derive(Default)]
struct Measured {
    /// The logit difference itself.
    logit_diff: Vec<f64>,
    /// `[component][example]`; the two constants last.
    direct: Vec<Vec<f64>>,
    /// `[component][example]`: clean minus corrupt, when all examples are pairs.
    swap: Vec<Vec<f64>>,
    /// `[half-layer][example]`.
    accumulated: Vec<Vec<f64>>,
    /// `[layer][head][column][example]`.
    sources: Vec<Vec<Vec<Vec<f64>>>>,
    /// `[layer][batch]`, each `[batch, d_mlp]`.
    neurons: Vec<Vec<Tensor>>,
    /// Examples in the order of the batches.
    order: Vec<usize>,
}

impl Analysis for Attribution {
    const NAME: &'static str = "attribution";
    const ABOUT: &'static str = "direct logit attribution by component, head, source token and neuron; it sums to the logit difference";

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        let components = Component::all(&lab.model);
        let halves = half_layers(&lab.model);
        let positions: Vec<usize> =
            task.examples.iter().map(|example| self.position.of(example)).collect::<Result<_>>()?;
        let lengths: Vec<usize> = task.examples.iter().map(|example| example.clean.len()).collect();
        let columns = Columns::new(task.places(), &lengths);
        let measured = measure(lab, task, (&components, &halves, &columns), &positions)?;
        rows::findings(self, lab, task, (&components, &halves, &columns), measured)
    }
}

/// What there is to list: components, half-layers, source tokens.
type Listed<'a> = (&'a [Component], &'a [Half], &'a Columns);

fn measure(
    lab: &Lab,
    task: &Task,
    (components, halves, columns): Listed,
    positions: &[usize],
) -> Result<Measured> {
    let model = &*unbent(&lab.model);
    let (n, layers, heads) = (task.examples.len(), model.config.n_layers, model.config.n_heads);
    let wide = columns.places.len() + usize::from(columns.has_other);
    let paired = task.is_paired();
    let mut all = Measured {
        logit_diff: vec![0.0; n],
        direct: vec![vec![0.0; n]; components.len() + 2],
        swap: if paired { vec![vec![0.0; n]; components.len()] } else { Vec::new() },
        accumulated: vec![vec![0.0; n]; halves.len()],
        sources: vec![vec![vec![vec![0.0; n]; wide]; heads]; layers],
        neurons: vec![Vec::new(); layers],
        order: Vec::new(),
    };
    let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
    let each = 2 * model.recorded_bytes(longest, |site| needs(model, site));
    let batches = task.batches((lab.memory / each.max(1)).clamp(1, 1 << 16) as usize);
    lab.progress.begin("attribution", n as u64);
    for batch in batches {
        lab.check()?;
        let at: Vec<usize> = batch.iter().map(|&i| positions[i]).collect();
        let targets = task.targets(&batch, None);
        let clean = task.tokens(model, &batch, Side::Clean)?;
        let (logits, kept) = model.read(&clean, &at, |site| needs(model, site))?;
        put(&mut all.logit_diff, &batch, &numbers(&Metric::LogitDiff.score(&logits, &targets)?)?);
        let readout = Readout::new(model, &targets, &kept, &at)?;

        let mut direct = readout.direct(model, components, &kept, &at)?;
        if paired {
            let corrupt = task.tokens(model, &batch, Side::Corrupt)?;
            let (_, other) = model.read(&corrupt, &at, direct_writes)?;
            let other = readout.direct(model, components, &other, &at)?;
            for ((swap, clean), other) in all.swap.iter_mut().zip(&direct).zip(other) {
                let change: Vec<f64> = clean.iter().zip(other).map(|(clean, other)| clean - other).collect();
                put(swap, &batch, &change);
            }
        }
        direct.extend([readout.norm_bias.clone(), readout.unembed_bias.clone()]);
        all.direct.iter_mut().zip(&direct).for_each(|(all, values)| put(all, &batch, values));

        for (half, all) in halves.iter().zip(&mut all.accumulated) {
            let mut read = readout.worth(&at_positions(kept.get(half.site)?, &at)?)?;
            let constants = readout.norm_bias.iter().zip(&readout.unembed_bias);
            read.iter_mut().zip(constants).for_each(|(read, (norm, unembed))| *read += norm + unembed);
            put(all, &batch, &read);
        }
        for layer in 0..layers {
            all.neurons[layer].push(parts::neurons(model, &readout, &kept, layer, &at)?);
            let sources = parts::sources(model, &readout, &kept, layer, &at)?;
            for (all, of_head) in all.sources[layer].iter_mut().zip(sources) {
                for (&example, values) in batch.iter().zip(of_head) {
                    let dealt = columns.deal(example, &values);
                    all.iter_mut().zip(dealt).for_each(|(column, value)| column[example] = value);
                }
            }
        }
        all.order.extend(&batch);
        lab.progress.advance(batch.len() as u64);
    }
    lab.progress.end();
    Ok(all)
}

/// A place where the stream is read.
struct Half {
    /// `0_pre`, `0_mid`, …, `final_post`.
    label: String,
    layer: usize,
    site: Site,
}

/// The stream before attention and, where it stands between the two, before the MLP of each layer; then as it leaves the
/// last.
fn half_layers(model: &Transformer) -> Vec<Half> {
    let half = |label, layer, at| Half { label, layer, site: Site::Block(layer, at) };
    let mut halves = Vec::new();
    for (layer, block) in model.blocks.iter().enumerate() {
        halves.push(half(format!("{layer}_pre"), layer, At::ResidPre));
        if block.has_mid() {
            halves.push(half(format!("{layer}_mid"), layer, At::ResidMid));
        }
    }
    let last = model.config.n_layers.saturating_sub(1);
    halves.push(half("final_post".to_owned(), last, At::ResidPost));
    halves
}

fn needs(model: &Transformer, site: Site) -> bool {
    let last = model.config.n_layers.saturating_sub(1);
    direct_needs(site)
        || site == Site::Block(last, At::ResidPost)
        || matches!(site, Site::Block(_, At::V | At::Pattern | At::MlpPost | At::ResidPre | At::ResidMid))
}
