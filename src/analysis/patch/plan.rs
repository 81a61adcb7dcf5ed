//! Every cell of every table.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::cells::Swap;
use super::source::Source;
use super::{Patch, PatchSite};
use crate::analysis::ablate::neurons;
use crate::error::{Error, Result};
use crate::groups::Group;
use crate::lab::Lab;
use crate::lesion::Part;
use crate::metric::Metric;
use crate::model::Transformer;
use crate::record::Activations;
use crate::site::{At, Site};
use crate::task::{Place, Side, Task};

/// The grain of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Layer, all positions and heads at once: every site. Table `patch_layer`.
    All,
    /// Layer × position: sites without heads. Table `resid_by_pos`.
    Position,
    /// Layer × head, all positions at once: sites with heads. Table `patch_head`.
    Head,
    /// Layer × head × position: sites with heads. Table `patch_head_pos`.
    HeadPosition,
    /// Layer × head × query × key: patterns. Table `patch_pattern`.
    QueryKey,
    /// Single neurons, all positions at once. Table `patch_neuron`.
    Neuron,
    /// Sets of parts, all positions at once. Table `patch_set`.
    Set,
}

impl By {
    /// Every grain.
    pub const ALL: [By; 7] =
        [By::Head, By::Position, By::HeadPosition, By::All, By::QueryKey, By::Neuron, By::Set];
}

/// Which neurons are patched one by one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Neurons {
    /// So many with the largest attribution.
    Top(usize),
    /// These: `m1.n12`.
    Listed(Vec<String>),
}

/// The cells of a run.
pub(super) struct Plan {
    pub(super) swaps: Vec<Swap>,
    /// The table of each; none of a part that is measured only because a set has it.
    pub(super) by: Vec<Option<By>>,
    /// What attribution expects the metric to change by on the clean run, of neurons chosen by it.
    pub(super) estimates: Vec<Option<f64>>,
    /// The sets, in the order of their swaps.
    pub(super) sets: Vec<Group>,
    /// The activations whose values are needed.
    pub(super) sites: BTreeSet<Site>,
}

impl Plan {
    pub(super) fn new(
        patch: &Patch,
        lab: &Lab,
        task: &Task,
        places: &[Place],
        source: &Source,
    ) -> Result<Plan> {
        let mut plan = Plan {
            swaps: Vec::new(),
            by: Vec::new(),
            estimates: Vec::new(),
            sets: Vec::new(),
            sites: BTreeSet::new(),
        };
        let sites = sites(patch, &lab.model, source)?;
        let asked = |by: By| patch.by.contains(&by);
        for by in [By::Position, By::Head, By::HeadPosition, By::All, By::QueryKey] {
            for &site in sites.iter().filter(|_| asked(by)) {
                plan.add_site(by, site, (patch.window, places), &lab.model, source)?;
            }
        }
        if asked(By::Neuron) {
            plan.add_neurons(patch, lab, task, source)?;
        }
        // sets that someone names are patched, whatever else is asked for
        if asked(By::Set) || !patch.sets.is_empty() {
            plan.add_sets(patch, lab, task, source)?;
        }
        if plan.swaps.is_empty() {
            return Err(Error::usage(
                "these sites and grains leave nothing to patch",
                "`all` is for every site, `position` for resid_pre, resid_mid, resid_post, attn_out, mlp_out, mlp_pre and \
                 mlp_post, `head` and `head-position` for z, result, q, k, v and pattern, `query-key` for pattern, `neuron` \
                 for mlp_pre and mlp_post; `set` needs `sets={name=[\"9.6\", \"m10\"]}`",
            ));
        }
        for swap in &plan.swaps {
            plan.sites.extend(swap.sites()?);
        }
        Ok(plan)
    }

    fn push(&mut self, by: Option<By>, swap: Swap, estimate: Option<f64>) {
        self.swaps.push(swap);
        self.by.push(by);
        self.estimates.push(estimate);
    }

    /// The cells of one site at one grain.
    fn add_site(
        &mut self,
        by: By,
        site: PatchSite,
        (window, places): (usize, &[Place]),
        model: &Transformer,
        source: &Source,
    ) -> Result<()> {
        let all_heads = |heads: usize| (0..heads).map(Some).collect();
        let heads: Vec<Option<usize>> = match (by, site.heads(model)) {
            (By::All, _) | (By::Position, None) => vec![None],
            (By::Head | By::HeadPosition, Some(heads)) => all_heads(heads),
            (By::QueryKey, Some(heads)) if site == PatchSite::Pattern => all_heads(heads),
            _ => return Ok(()),
        };
        let window = if matches!(by, By::All | By::Position) { window } else { 1 };
        // what a causal query cannot see is 0 in every run
        let sees = |query: usize, key: usize| match (places.get(query), places.get(key)) {
            (Some(query), Some(key)) => {
                !model.config.causal || query.positions.iter().zip(&key.positions).any(|(q, k)| k <= q)
            }
            _ => false,
        };
        let count = places.len();
        let cells: Vec<(Option<usize>, Option<usize>)> = match by {
            By::All | By::Head => vec![(None, None)],
            By::QueryKey => (0..count)
                .flat_map(|query| (0..count).map(move |key| (query, key)))
                .filter(|&(query, key)| sees(query, key))
                .map(|(query, key)| (Some(query), Some(key)))
                .collect(),
            _ => (0..count).map(|place| (Some(place), None)).collect(),
        };
        let n_layers = model.config.n_layers;
        if window == 0 || window > n_layers {
            return Err(Error::usage(
                format!("a window of {window} layers does not fit a model of {n_layers}"),
                format!("write `window = 1` to `window = {n_layers}`"),
            ));
        }
        for first in 0..=n_layers - window {
            let layers: Vec<usize> = (first..first + window).collect();
            if !layers.iter().all(|&layer| there(site, layer, model, source)) {
                continue;
            }
            for &head in &heads {
                for &(place, key) in &cells {
                    let (site, layers) = (Some(site), layers.clone());
                    self.push(Some(by), Swap { site, layers, head, place, key, ..Swap::default() }, None);
                }
            }
        }
        Ok(())
    }

    /// Neurons, before and behind the activation function as the sites say; behind it by default.
    fn add_neurons(&mut self, patch: &Patch, lab: &Lab, task: &Task, source: &Source) -> Result<()> {
        let named = patch.sites.iter().flatten().copied();
        let asked: Vec<PatchSite> =
            named.filter(|site| matches!(site, PatchSite::MlpPre | PatchSite::MlpPost)).collect();
        let sites = if asked.is_empty() { vec![PatchSite::MlpPost] } else { asked };
        let chosen: Vec<(usize, usize, Option<f64>)> = match &patch.neurons {
            Neurons::Listed(names) => {
                let one = |name: &String| match name.parse()? {
                    part @ Part::Neuron(layer, neuron) => {
                        part.check(&lab.model)?;
                        Ok((layer, neuron, None))
                    }
                    part => Err(Error::usage(format!("{part} is no neuron"), "neurons are written `m9.n12`")),
                };
                names.iter().map(one).collect::<Result<_>>()?
            }
            Neurons::Top(count) => {
                let source = source.of_neurons(lab, task)?;
                let others = |batch: &[usize]| source.neurons(lab, task, batch);
                let found = neurons::top(lab, task, sloped(patch.metric, task), *count, Some(&others))?;
                found.into_iter().map(|found| (found.layer, found.neuron, Some(found.estimate))).collect()
            }
        };
        for site in sites {
            for &(layer, neuron, estimate) in &chosen {
                if there(site, layer, &lab.model, source) {
                    let (site, layers, neuron) = (Some(site), vec![layer], Some(neuron));
                    self.push(
                        Some(By::Neuron),
                        Swap { site, layers, neuron, ..Swap::default() },
                        estimate.filter(|_| site == Some(PatchSite::MlpPost)),
                    );
                }
            }
        }
        Ok(())
    }

    /// The sets, and each of their parts alone, so that the whole can be compared with the sum.
    fn add_sets(&mut self, patch: &Patch, lab: &Lab, task: &Task, source: &Source) -> Result<()> {
        let mut sets = patch.sets.groups(lab, task)?;
        if patch.sets.is_empty() {
            // nobody asked for these: what the file does not hold is left out
            sets.retain(|set| {
                set.parts.iter().all(|part| part.slice().is_ok_and(|at| source.holds(at.site)))
            });
        }
        for set in &sets {
            self.push(Some(By::Set), Swap { parts: set.parts.clone(), ..Swap::default() }, None);
        }
        let members: BTreeSet<Part> = sets.iter().flat_map(|set| set.parts.iter().copied()).collect();
        for part in members {
            self.push(None, Swap { parts: vec![part], ..Swap::default() }, None);
        }
        self.sets = sets;
        Ok(())
    }

    /// The swap of a part alone, which some set has.
    pub(super) fn alone(&self, part: Part) -> Option<usize> {
        let is_alone = |(by, swap): (&Option<By>, &Swap)| by.is_none() && swap.parts == [part];
        self.by.iter().zip(&self.swaps).position(is_alone)
    }
}

/// Whether a layer has the site, and there are values to put there.
fn there(site: PatchSite, layer: usize, model: &Transformer, source: &Source) -> bool {
    let at = site.at().0;
    model.blocks.get(layer).is_some_and(|block| block.has(at)) && source.holds(Site::Block(layer, at))
}

/// The activations to patch; one that is named must be in some layer, and there must be values for it.
fn sites(patch: &Patch, model: &Transformer, source: &Source) -> Result<Vec<PatchSite>> {
    let has = |site: &PatchSite| model.blocks.iter().any(|block| block.has(site.at().0));
    let held = |site: &PatchSite| (0..model.config.n_layers).any(|layer| there(*site, layer, model, source));
    let Some(asked) = &patch.sites else {
        // a file says by what it holds what it is for
        let wanted = |site: &PatchSite| held(site) && (site.is_usual() || source.is_file());
        return Ok(PatchSite::ALL.into_iter().filter(wanted).collect());
    };
    if let Some(site) = asked.iter().find(|site| has(site) && !held(site)) {
        return Err(source.lacks(&format!("blocks.*.{}", site.at().0.name())));
    }
    match asked.iter().find(|site| !has(site)) {
        None => Ok(asked.clone()),
        Some(PatchSite::ResidMid) => Err(Error::usage(
            "there is no resid_mid to patch: in this model no MLP reads a stream that attention has written to",
            "leave `resid_mid` out; `attn_out` is what attention writes",
        )),
        Some(PatchSite::MlpPre | PatchSite::MlpPost)
            if model.blocks.iter().any(|block| block.has(At::MlpOut)) =>
        {
            Err(Error::usage(
                "there are no neurons to patch: this model has experts, which have neurons of their own",
                "patch all that they write, with `mlp_out`",
            ))
        }
        Some(site) => Err(Error::usage(
            format!("there is no {} to patch: this model has no MLPs", site.at().1),
            "leave it out; `attn_out` and `z` are what its layers write",
        )),
    }
}

/// The metric to follow by its gradient at the clean run.
fn sloped(metric: Metric, task: &Task) -> Metric {
    let opposed = task.examples.iter().all(|example| !example.wrong.is_empty());
    match metric {
        // KL is at its minimum there
        Metric::Kl | Metric::Rank if opposed => Metric::LogitDiff,
        Metric::Kl | Metric::Rank => Metric::LogProb,
        metric => metric,
    }
}

impl Source {
    /// The same source, of every neuron there is.
    fn of_neurons(&self, lab: &Lab, task: &Task) -> Result<Source> {
        let mut own = self.clone();
        own.load(lab, task, &lab.model.sites().into_iter().filter(is_neurons).collect())?;
        Ok(own)
    }

    /// What would stand in the neurons' place on the clean prompts of a batch.
    fn neurons(&self, lab: &Lab, task: &Task, batch: &[usize]) -> Result<Activations> {
        let length = batch.first().and_then(|&i| task.examples.get(i)).map_or(0, |e| e.clean.len());
        match self.of(batch, length)? {
            Some(values) => Ok(values),
            None => {
                let tokens = task.tokens(&lab.model, batch, Side::Corrupt)?;
                Ok(lab.model.record(&tokens, |site| is_neurons(&site))?.1)
            }
        }
    }
}

fn is_neurons(site: &Site) -> bool {
    matches!(site, Site::Block(_, At::MlpPost))
}
