//! Activations, or gradients at the same places, as plain arrays for other tools.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::gradient::Gradients;
use crate::lab::{About, Lab};
use crate::metric::Metric;
use crate::model::Transformer;
use crate::ops;
use crate::record::Activations;
use crate::site::{At, Axis, Site};
use crate::task::{Side, Task};

/// The sites of a model that globs over full classic names mean, in execution order: `blocks.*.hook_resid_pre`,
/// `logits`, or `all`. The per-reader copies of the stream (`hook_q_input`, …) are meant only by a glob that ends in
/// their own name. A glob that matches nothing is an error.
pub fn sites(model: &Transformer, globs: &[String]) -> Result<Vec<Site>> {
    let mut found = BTreeSet::new();
    for glob in globs {
        let before = found.len();
        if glob == "all" {
            found.extend(model.sites());
            continue;
        }
        if !glob.contains(['*', '?', '[']) {
            let site: Site = glob.parse()?;
            model.check_site(site)?;
            found.insert(site);
            continue;
        }
        let pattern = glob::Pattern::new(glob).map_err(|cause| {
            Error::usage(format!("`{glob}` is not a pattern: {cause}"), "write `blocks.*.hook_resid_pre`")
        })?;
        let split = model.every_site().filter(
            |site| matches!(site, Site::Block(_, at) if at.is_split_input() && glob.ends_with(at.name())),
        );
        let all: Vec<Site> = model.sites().into_iter().chain(split).collect();
        let matching: Vec<Site> = all.iter().copied().filter(|s| pattern.matches(&s.to_string())).collect();
        found.extend(&matching);
        if found.len() == before && matching.is_empty() {
            return Err(nothing(model, glob, &all));
        }
    }
    if found.is_empty() {
        return Err(Error::usage("no sites were asked for", "write `--sites 'blocks.*.hook_resid_pre'`"));
    }
    Ok(found.into_iter().collect())
}

/// Why a pattern matched no site: its layer does not exist, or no name is like it.
fn nothing(model: &Transformer, glob: &str, all: &[Site]) -> Error {
    let layer = glob.strip_prefix("blocks.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    if let Some(index) = layer.filter(|&layer| layer >= model.config.n_layers) {
        let size = model.config.n_layers;
        return Error::OutOfRange { what: "layer", index, size, site: format!("`{glob}`") };
    }
    if let Some(at) = At::ALL.iter().find(|at| glob.ends_with(at.name())) {
        let why = "its architecture has no such place".to_owned();
        return Error::NoSuchSite { site: Site::Block(layer.unwrap_or(0), *at).to_string(), why };
    }
    let names = all.iter().filter(|site| site.layer().is_none_or(|layer| layer == 0));
    let names: Vec<String> = names.map(Site::to_string).collect();
    Error::unknown("site", glob, names.iter().map(String::as_str))
}

/// Bytes that a recording holds: the f32 arrays, and beside them those of the model's own type when that is another.
pub fn memory(model: &Transformer, sites: &[Site], batch: usize, pos: usize) -> u64 {
    let own = if model.dtype() == DType::F32 { 0 } else { model.dtype().size_in_bytes() };
    let numbers: usize =
        sites.iter().map(|&site| model.shape(site, batch, pos).iter().product::<usize>()).sum();
    (numbers * (4 + own)) as u64
}

/// The activations of one side of every prompt at these sites, by classic name: f32, batch first. Shorter prompts are
/// filled up with zeros at the end; the metadata holds every prompt's tokens, hence its length.
pub fn record(lab: &Lab, task: &Task, side: Side, sites: &[Site]) -> Result<BTreeMap<String, Tensor>> {
    in_batches(lab, task, sites, &|batch| {
        let tokens = task.tokens(&lab.model, batch, side)?;
        Ok(lab.model.record(&tokens, |site| sites.contains(&site))?.1)
    })
}

/// The gradients of the metric (of each prompt, with respect to that prompt's own activations) at these sites: as
/// [`record`], but instead of the activations.
pub fn gradients(
    lab: &Lab,
    task: &Task,
    side: Side,
    metric: Metric,
    sites: &[Site],
) -> Result<BTreeMap<String, Tensor>> {
    if !metric.has_gradient() {
        return Err(Error::usage(format!("`{metric}` has no gradient"), "choose `logit-diff` or `log-prob`"));
    }
    in_batches(lab, task, sites, &|batch| {
        let model = &lab.model;
        let clean = match metric {
            Metric::Kl => Some(ops::log_softmax(&task.logits(lab, batch, Side::Clean)?)?),
            _ => None,
        };
        let mut hook = Gradients::new(|site| sites.contains(&site));
        let logits = model.forward(&task.tokens(model, batch, side)?, &mut hook)?;
        let pos = logits.dim(1)?;
        let ends = task.ends(batch).into_iter().enumerate().map(|(row, end)| (row * pos + end) as u32);
        let ends = Tensor::new(ends.collect::<Vec<u32>>(), model.device())?;
        let logits = logits.flatten_to(1)?.index_select(&ends, 0)?; // [batch, d_vocab]
        hook.of(&metric.score(&logits, &task.targets(batch, clean))?)
    })
}

fn in_batches(
    lab: &Lab,
    task: &Task,
    sites: &[Site],
    run: &dyn Fn(&[usize]) -> Result<Activations>,
) -> Result<BTreeMap<String, Tensor>> {
    task.check()?;
    task.fits(&lab.model)?;
    sites.iter().try_for_each(|&site| lab.model.check_site(site))?;
    let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
    // a backward pass holds about three times what a forward pass does
    let most = (task.fitting(lab, lab.model.config.d_vocab_out) / 3).max(1);
    let all: Vec<usize> = (0..task.examples.len()).collect();
    let mut parts: BTreeMap<Site, Vec<Tensor>> = BTreeMap::new();
    lab.progress.begin("record", task.examples.len() as u64);
    for batch in all.chunks(most) {
        lab.check()?;
        let lengths: Vec<usize> = batch.iter().map(|&i| task.examples[i].clean.len()).collect();
        for (site, x) in run(batch)?.0 {
            let x = x.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.detach();
            parts.entry(site).or_default().push(filled_up(site, &x, &lengths, longest)?);
        }
        lab.progress.advance(batch.len() as u64);
    }
    lab.progress.end();
    let join = |(site, parts): (Site, Vec<Tensor>)| match &parts[..] {
        [one] => Ok((site.to_string(), one.contiguous()?)),
        _ => Ok((site.to_string(), Tensor::cat(&parts, 0)?)),
    };
    parts.into_iter().map(join).collect()
}

/// An activation with zeros behind the last position of each row, on every axis that counts positions.
fn filled_up(site: Site, x: &Tensor, lengths: &[usize], longest: usize) -> Result<Tensor> {
    if lengths.iter().all(|&length| length == longest) {
        return Ok(x.clone());
    }
    let row = |(row, &length): (usize, &usize)| {
        let mut x = x.narrow(0, row, 1)?;
        for (d, axis) in site.axes().iter().enumerate() {
            if matches!(axis, Axis::Pos | Axis::Query | Axis::Key) {
                x = x.narrow(d, 0, length)?.pad_with_zeros(d, 0, longest - length)?;
            }
        }
        Ok(x)
    };
    let rows: Vec<Tensor> = lengths.iter().enumerate().map(row).collect::<Result<_>>()?;
    Ok(Tensor::cat(&rows, 0)?)
}

/// The weights that globs over their classic names mean, f32. A glob that matches nothing is an error.
pub fn weights(model: &Transformer, globs: &[String]) -> Result<BTreeMap<String, Tensor>> {
    let mut found = BTreeMap::new();
    if globs.is_empty() {
        return Ok(found);
    }
    let all = model.weights()?;
    for glob in globs {
        let pattern = glob::Pattern::new(glob).map_err(|cause| {
            Error::usage(format!("`{glob}` is not a pattern: {cause}"), "write `blocks.*.attn.W_Q`")
        })?;
        let matching: Vec<_> = all.iter().filter(|(name, _)| pattern.matches(name)).collect();
        if matching.is_empty() {
            return Err(Error::unknown("weight", glob, all.keys().map(String::as_str)));
        }
        for (name, weight) in matching {
            found.insert(name.clone(), weight.to_device(&Device::Cpu)?.to_dtype(DType::F32)?);
        }
    }
    Ok(found)
}

/// What a file of arrays says about the model they are of.
pub fn model_metadata(lab: &Lab) -> BTreeMap<String, String> {
    let About { name, hash, revision, .. } = &lab.about;
    let said = [
        Some(("model", name.clone())),
        Some(("model_hash", hash.clone())),
        revision.clone().map(|revision| ("model_revision", revision)),
        lab.folding().map(|steps| ("folded", steps)),
    ];
    said.into_iter().flatten().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What a file of such arrays says about itself, as the text values that safetensors allows: JSON where a list is
/// needed. `metric` is given for gradients.
pub fn metadata(
    lab: &Lab,
    task: &Task,
    side: Side,
    metric: Option<Metric>,
) -> Result<BTreeMap<String, String>> {
    let prompts: Vec<&[u32]> =
        task.examples.iter().map(|example| example.prompt(side)).collect::<Result<_>>()?;
    let texts: Vec<Vec<String>> = prompts.iter().map(|ids| lab.vocabulary.tokens(ids)).collect();
    let ids: Vec<&str> = task.examples.iter().map(|example| example.id.as_str()).collect();
    let mut said = BTreeMap::from([
        ("kind", if metric.is_some() { "gradients" } else { "activations" }.to_owned()),
        ("task", task.name.clone()),
        ("side", side.name().to_owned()),
        ("bos", task.bos.to_string()),
        ("examples", serde_json::json!(ids).to_string()),
        ("tokens", serde_json::json!(prompts).to_string()),
        ("token_texts", serde_json::json!(texts).to_string()),
    ]);
    if let Some(metric) = metric {
        said.insert("metric", metric.name().to_owned());
    }
    let mut all = model_metadata(lab);
    all.extend(said.into_iter().map(|(key, value)| (key.to_owned(), value)));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Targets;
    use crate::model::{Config, Pad};
    use crate::record::{Recorder, at_positions};

    #[test]
    fn a_pass_and_its_gradients_are_the_same_on_a_device_without_kernels() {
        for config in [Config::tiny(), Config::tiny_rotary()] {
            let model = Transformer::random(config, 5, DType::F64).unwrap();
            let tokens = model.padded(&[&[3, 1, 4, 1, 5], &[9, 2, 6]], Pad::Left).unwrap();
            let sites = model.sites();
            let targets = Targets {
                answers: vec![vec![1], vec![2]],
                wrong: vec![vec![3], vec![4]],
                ..Targets::default()
            };
            for metric in Metric::ALL.into_iter().filter(|metric| {
                metric.has_gradient() && !matches!(metric, Metric::Kl | Metric::ExpectedGain)
            }) {
                let run = || -> Result<[Activations; 2]> {
                    let mut hook = (
                        Gradients::new(|site| sites.contains(&site)),
                        Recorder::new(|site| sites.contains(&site)),
                    );
                    let logits = at_positions(&model.forward(&tokens, &mut hook)?, &[4, 4])?;
                    let (gradients, recorder) = hook;
                    Ok([gradients.of(&metric.score(&logits, &targets)?)?, recorder.kept])
                };
                let (with, without) = (run().unwrap(), ops::without_kernels(run).unwrap());
                for (with, without) in with.iter().zip(&without) {
                    assert_eq!(with.0.len(), sites.len());
                    for ((site, with), without) in with.0.iter().zip(without.0.values()) {
                        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                        for (a, b) in flat(with).into_iter().zip(flat(without)) {
                            assert!(
                                a == b || (a - b).abs() <= 1e-10 * a.abs().max(1.0),
                                "{site}: {a} and {b}"
                            );
                        }
                    }
                }
            }
        }
    }
}
