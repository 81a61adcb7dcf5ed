//! AdamW with its state in the open, so that an interrupted run goes on exactly where it stopped.

use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use rayon::prelude::*;

use super::recipe::Training;
use crate::error::{Error, Result};

/// A weight that is trained.
pub struct Parameter {
    /// Its name in a checkpoint.
    pub name: String,
    /// Its value.
    pub var: Var,
    /// First moment.
    m: Vec<f32>,
    /// Second moment.
    v: Vec<f32>,
}

impl Parameter {
    /// A weight with moments of zero.
    pub fn new(name: impl Into<String>, value: &Tensor) -> Result<Parameter> {
        let n = value.elem_count();
        Ok(Parameter { name: name.into(), var: Var::from_tensor(value)?, m: vec![0.0; n], v: vec![0.0; n] })
    }
}

/// The learning rate of a step: linear warm-up, then a cosine down to `floor`.
pub fn learning_rate(t: &Training, step: usize) -> f64 {
    if step < t.warmup {
        return t.learning_rate * step as f64 / t.warmup as f64;
    }
    let done = (step - t.warmup) as f64 / (t.steps - t.warmup).max(1) as f64;
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos());
    t.learning_rate * (t.floor + (1.0 - t.floor) * cosine)
}

/// One update (Loshchilov & Hutter 2019) of every parameter, with the gradients shortened to the recipe's norm.
/// Returns their norm before that.
pub fn update(parameters: &mut [Parameter], grads: &GradStore, t: &Training, step: usize) -> Result<f64> {
    let mut found: Vec<Vec<f32>> = Vec::with_capacity(parameters.len());
    for parameter in parameters.iter() {
        found.push(match grads.get(parameter.var.as_tensor()) {
            Some(grad) => grad.flatten_all()?.to_vec1::<f32>()?,
            None => vec![0.0; parameter.m.len()],
        });
    }
    let norm = found.iter().flatten().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
    if !norm.is_finite() {
        return Err(Error::input(
            format!("the gradients of step {step} are not finite"),
            "lower learning_rate or clip in the recipe",
        ));
    }
    let shrink = (t.clip / (norm + 1e-6)).min(1.0) as f32;
    let (b1, b2) = (t.beta1 as f32, t.beta2 as f32);
    let correct = |beta: f64| (1.0 - beta.powi(step as i32 + 1)) as f32;
    let (c1, c2, rate) = (correct(t.beta1), correct(t.beta2), learning_rate(t, step) as f32);
    for (parameter, grad) in parameters.iter_mut().zip(found) {
        let value = parameter.var.as_tensor();
        let decay = if value.rank() > 1 { t.weight_decay as f32 } else { 0.0 };
        let shape = value.shape().clone();
        let mut w = value.flatten_all()?.to_vec1::<f32>()?;
        let cells = w.par_iter_mut().zip(&mut parameter.m).zip(&mut parameter.v).zip(&grad);
        cells.with_min_len(4096).for_each(|(((w, m), v), g)| {
            let g = g * shrink;
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            let step = (*m / c1) / ((*v / c2).sqrt() + 1e-8) + decay * *w;
            *w -= rate * step;
        });
        parameter.var.set(&Tensor::from_vec(w, shape, parameter.var.device())?)?;
    }
    Ok(norm)
}

/// Weights and moments under the names `name`, `name.m`, `name.v`.
pub fn state(parameters: &[Parameter]) -> Result<Vec<(String, Tensor)>> {
    let mut all = Vec::with_capacity(3 * parameters.len());
    for p in parameters {
        let like = |v: &[f32]| Tensor::from_slice(v, p.var.shape(), p.var.device());
        all.push((p.name.clone(), p.var.as_tensor().copy()?));
        all.push((format!("{}.m", p.name), like(&p.m)?));
        all.push((format!("{}.v", p.name), like(&p.v)?));
    }
    Ok(all)
}

/// Puts back what [`state`] gave.
pub fn restore(parameters: &mut [Parameter], state: &HashMap<String, Tensor>) -> Result<()> {
    for p in parameters {
        let get = |name: &str| match state.get(name) {
            Some(tensor) if tensor.shape() == p.var.shape() => Ok(tensor),
            _ => Err(Error::input(
                format!(
                    "the saved training state does not fit the recipe: `{name}` is missing or of another shape"
                ),
                "train with the recipe that the run began with, or without --resume",
            )),
        };
        let (value, m, v) = (get(&p.name)?, get(&format!("{}.m", p.name))?, get(&format!("{}.v", p.name))?);
        p.m = m.flatten_all()?.to_vec1()?;
        p.v = v.flatten_all()?.to_vec1()?;
        p.var.set(value)?;
    }
    Ok(())
}
