//! What is swapped in one cell of a table, as edits.

use super::PatchSite;
use super::Reach;
use crate::edit::{Edit, Op};
use crate::error::Result;
use crate::lesion::{Instead, Part};
use crate::model::{Base, Transformer};
use crate::record::Activations;
use crate::site::{At, Positions, Site, Slice};
use crate::task::Place;

/// One cell: what is swapped in one run.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Swap {
    /// The activation; none of a set.
    pub(super) site: Option<PatchSite>,
    /// The layers in which it is swapped at once.
    pub(super) layers: Vec<usize>,
    /// Only this head.
    pub(super) head: Option<usize>,
    /// Only this neuron.
    pub(super) neuron: Option<usize>,
    /// Index into the task's places, of patterns the query; none means every position.
    pub(super) place: Option<usize>,
    /// The same for the key of a pattern.
    pub(super) key: Option<usize>,
    /// The parts of a set.
    pub(super) parts: Vec<Part>,
}

impl Swap {
    /// The activations that it needs.
    pub(super) fn sites(&self) -> Result<Vec<Site>> {
        let own = self.site.into_iter().flat_map(|site| {
            let (at, _) = site.at();
            self.layers.iter().map(move |&layer| Ok(Site::Block(layer, at)))
        });
        own.chain(self.parts.iter().map(|part| Ok(part.slice()?.site))).collect()
    }

    /// The edits that make this swap with `values` in the run `base`, none where it can change nothing.
    pub(super) fn edits(
        &self,
        model: &Transformer,
        base: &Base,
        values: &Activations,
        reach: &Reach,
        (places, batch): (&[Place], &[usize]),
    ) -> Result<Vec<Edit>> {
        let at_place = |place: Option<usize>| -> Option<Vec<usize>> {
            let place = places.get(place?)?;
            Some(batch.iter().filter_map(|&i| place.positions.get(i).copied()).collect())
        };
        let (place, key) = (at_place(self.place), at_place(self.key));
        let positions = |layer, at| match &place {
            None => reach.all(layer, at),
            Some(place) => reach.place(layer, at, place),
        };
        let mut edits = Vec::new();
        for site in self.sites()?.into_iter().take(self.layers.len()) {
            let Site::Block(layer, at) = site else { continue };
            let mut from = Slice { head: self.head, ..Slice::whole(site) };
            from.index = self.neuron.map(|neuron| vec![neuron]);
            if let Some(key) = &key {
                from.key = Positions::PerRow(key.clone());
            }
            // what leaves a block is what the next one receives: starting there saves the block
            let (layer, at) = match (layer, at) {
                (layer, At::ResidPost) if layer + 1 < model.config.n_layers => (layer + 1, At::ResidPre),
                here => here,
            };
            let Some(positions) = positions(layer, at) else { continue };
            let from = from.pos(positions);
            let op = Op::Set(from.take(values.get(site)?)?);
            edits.push(Edit { at: Slice { site: Site::Block(layer, at), ..from }, op });
        }
        for part in &self.parts {
            let (layer, at) = match part.slice()?.site {
                Site::Block(layer, at) => (layer, at),
                _ => (0, At::ResidPre),
            };
            if let Some(positions) = positions(layer, at) {
                edits.push(part.edit_inside(base, Instead::Values(values), positions)?);
            }
        }
        Ok(edits)
    }
}
