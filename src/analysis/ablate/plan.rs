//! What is taken out: every lesion of a run, each once.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Ablate;
use super::neurons::Neuron;
use crate::component::Component;
use crate::error::{Error, Result};
use crate::groups::Group;
use crate::lab::Lab;
use crate::lesion::Part;
use crate::site::{At, Site};
use crate::task::Task;

/// How finely the model is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Sets of parts, each as a whole.
    Set,
    /// Each layer's attention and MLP, at all positions.
    Layer,
    /// Each head, at all positions.
    Head,
    /// The neurons with the largest attribution, at all positions.
    Neuron,
    /// Each layer's attention and MLP, at one position.
    Position,
}

impl By {
    /// Every grain.
    pub const ALL: [By; 5] = [By::Set, By::Layer, By::Head, By::Neuron, By::Position];

    pub(super) fn name(self) -> &'static str {
        match self {
            By::Set => "set",
            By::Layer => "layer",
            By::Head => "head",
            By::Neuron => "neuron",
            By::Position => "position",
        }
    }
}

/// Parts that are taken out together.
pub(super) struct Lesion {
    /// None for a part that is measured only because a set has it.
    pub(super) grain: Option<By>,
    /// The set's name, or the part's.
    pub(super) name: String,
    pub(super) parts: Vec<Part>,
    /// Index into the task's places; none means every position.
    pub(super) place: Option<usize>,
    /// First-order estimate of what zero ablation changes, for neurons.
    pub(super) estimate: Option<f64>,
}

/// Every lesion of a run.
pub(super) struct Plan {
    pub(super) lesions: Vec<Lesion>,
    /// The sites whose values are needed.
    pub(super) sites: BTreeSet<Site>,
}

impl Plan {
    pub(super) fn new(
        ablate: &Ablate,
        lab: &Lab,
        task: &Task,
        places: usize,
        neurons: Vec<Neuron>,
    ) -> Result<Plan> {
        let model = &lab.model;
        let single = |grain, part: Part, place, estimate| Lesion {
            grain: Some(grain),
            name: part.to_string(),
            parts: vec![part],
            place,
            estimate,
        };
        let layers = || {
            model.blocks.iter().enumerate().flat_map(|(layer, block)| {
                let mlp = block.has(At::MlpOut).then_some(Part::Writer(Component::Mlp(layer)));
                std::iter::once(Part::Attention(layer)).chain(mlp)
            })
        };
        let mut lesions = Vec::new();
        let asked = |by: By| ablate.by.contains(&by);
        if asked(By::Set) {
            for Group { name, parts } in ablate.sets.groups(lab, task)? {
                lesions.push(Lesion { grain: Some(By::Set), name, parts, place: None, estimate: None });
            }
        }
        if asked(By::Layer) {
            lesions.extend(layers().map(|part| single(By::Layer, part, None, None)));
        }
        if asked(By::Head) {
            let heads = Component::all(model).into_iter().filter(|component| component.head().is_some());
            lesions.extend(heads.map(|head| single(By::Head, head.into(), None, None)));
        }
        lesions.extend(neurons.into_iter().map(|Neuron { layer, neuron, estimate }| {
            single(By::Neuron, Part::Neuron(layer, neuron), None, Some(estimate))
        }));
        let mut plan = Plan { lesions, sites: BTreeSet::new() };
        plan.add_members();
        if asked(By::Position) {
            let each = |part| (0..places).map(move |place| (part, place));
            plan.lesions.extend(
                layers().flat_map(each).map(|(part, place)| single(By::Position, part, Some(place), None)),
            );
        }
        if plan.lesions.is_empty() {
            return Err(Error::usage(
                "there is nothing to take out",
                "choose some of `by=[\"set\", \"layer\", \"head\", \"neuron\", \"position\"]`; `set` needs \
                 `sets={name=[\"9.6\", \"m10\"]}`",
            ));
        }
        for part in plan.lesions.iter().flat_map(|lesion| &lesion.parts) {
            part.check(model)?;
            plan.sites.insert(part.slice()?.site);
        }
        Ok(plan)
    }

    /// Each part of a set is also measured alone, so that the whole can be compared with the sum.
    fn add_members(&mut self) {
        let sets = self.lesions.iter().filter(|lesion| lesion.grain == Some(By::Set));
        let members: BTreeSet<Part> = sets.flat_map(|lesion| lesion.parts.iter().copied()).collect();
        for part in members {
            if self.alone(part).is_none() {
                let (name, parts) = (part.to_string(), vec![part]);
                self.lesions.push(Lesion { grain: None, name, parts, place: None, estimate: None });
            }
        }
    }

    /// The lesion that takes out this part alone, everywhere.
    pub(super) fn alone(&self, part: Part) -> Option<usize> {
        self.lesions.iter().position(|lesion| {
            lesion.grain != Some(By::Set) && lesion.place.is_none() && lesion.parts == [part]
        })
    }
}
