//! Which neurons are worth taking out: those whose removal should change the metric most, to first order.
//!
//! Gradient × activation at every position, summed over positions: what the metric would lose if the neuron wrote nothing
//! and the model were linear (attribution patching towards zero, Nanda 2023). It sees what a neuron does through later
//! layers, which direct attribution does not; it is only how neurons are chosen, their effects are measured exactly. Experts'
//! neurons are not among them.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::gradient::Gradients;
use crate::lab::Lab;
use crate::metric::Metric;
use crate::record::{Activations, Recorder, at_positions};
use crate::site::{At, Site};
use crate::task::{Side, Task};

/// A neuron and the change of the metric that taking it out should make, to first order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neuron {
    pub(crate) layer: usize,
    pub(crate) neuron: usize,
    pub(crate) estimate: f64,
}

/// What stands in the neurons' place on the clean prompts of a batch of examples.
pub(crate) type Others<'a> = &'a dyn Fn(&[usize]) -> Result<Activations>;

/// The `k` neurons with the largest estimated change, largest first: the change when they write zeros, or what `others` says.
pub(crate) fn top(
    lab: &Lab,
    task: &Task,
    metric: Metric,
    k: usize,
    others: Option<Others>,
) -> Result<Vec<Neuron>> {
    let (model, n) = (&lab.model, task.examples.len());
    let wanted = |site: Site| matches!(site, Site::Block(_, At::MlpPost));
    if !model.sites().into_iter().any(wanted) {
        return Ok(Vec::new());
    }
    let mut sums: Vec<Option<Tensor>> = vec![None; model.config.n_layers];
    // a backward pass holds about three times what a forward pass does
    let batches = task.batches((task.fitting(lab, model.config.d_vocab_out) / 3).max(1));
    lab.progress.begin("neurons", n as u64);
    for batch in batches {
        lab.check()?;
        let mut hook = (Gradients::new(wanted), Recorder::new(wanted));
        let logits = model.forward(&task.tokens(model, &batch, Side::Clean)?, &mut hook)?;
        let logits = at_positions(&logits, &task.ends(&batch))?;
        let (gradients, recorder) = hook;
        let gradients = gradients.of(&metric.score(&logits, &task.targets(&batch, None))?)?;
        let others = others.map(|others| others(&batch)).transpose()?;
        for (layer, sum) in sums.iter_mut().enumerate() {
            let site = Site::Block(layer, At::MlpPost);
            if !model.block(layer)?.has(At::MlpPost) {
                continue;
            }
            let own = recorder.kept.get(site)?.detach();
            let change = match &others {
                None => own.neg()?,
                Some(others) => (others.get(site)?.to_device(own.device())? - own)?,
            };
            let part = (gradients.get(site)? * change)?;
            let part = part.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten(0, 1)?.sum(0)?;
            *sum = Some(match sum.take() {
                Some(before) => (before + part)?,
                None => part,
            });
        }
        lab.progress.advance(batch.len() as u64);
    }
    lab.progress.end();
    let mut all = Vec::new();
    for (layer, sum) in sums.into_iter().enumerate() {
        let values: Vec<f64> = sum.map_or_else(|| Ok(Vec::new()), |sum| sum.to_vec1())?;
        let each = values.into_iter().enumerate();
        all.extend(each.map(|(neuron, value)| Neuron { layer, neuron, estimate: value / n as f64 }));
    }
    // largest first; the earlier neuron first among equals
    all.sort_by(|a, b| {
        b.estimate.abs().total_cmp(&a.estimate.abs()).then((a.layer, a.neuron).cmp(&(b.layer, b.neuron)))
    });
    all.truncate(k);
    Ok(all)
}
