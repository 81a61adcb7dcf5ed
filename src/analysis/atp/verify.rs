//! Estimated nodes patched exactly.

use super::measure::{Estimates, Measured};
use super::nodes::{Node, NodeSite, Units};
use super::passes::Passes;
use super::{Atp, Grain, word};
use crate::analysis::agreement::{Agreement, Check, Claim, Ranking};
use crate::analysis::patch::{Direction, Pair, Reach};
use crate::edit::{Edit, Op};
use crate::error::Result;
use crate::lab::Lab;
use crate::model::{Base, Transformer};
use crate::ops;
use crate::site::{At, Positions, Site, Slice};
use crate::stats::Bootstrap;
use crate::sweep::{Cell, Reading, sweep, unchanged};
use crate::task::{Place, Task};

/// Every ranking (a site at a grain, in a direction) against exact patching.
pub(super) fn verify(
    atp: &Atp,
    lab: &Lab,
    task: &Task,
    places: &[Place],
    nodes: &[Node],
    measured: &Measured,
) -> Result<Agreement> {
    let mut agreement = Agreement::default();
    let bootstrap = Bootstrap::grouped(&task.units(), lab.seed);
    let gap: Vec<f64> = measured.clean.iter().zip(&measured.corrupt).map(|(a, b)| a - b).collect();
    let how = Check {
        top: atp.top,
        full: atp.full,
        sample: atp.sample,
        seed: lab.seed,
        gap: &gap,
        bootstrap: &bootstrap,
    };
    for estimates in &measured.directions {
        let direction = estimates.direction;
        for grain in Grain::ALL {
            for site in NodeSite::ALL {
                let own: Vec<usize> =
                    (0..nodes.len()).filter(|&i| nodes[i].grain == grain && nodes[i].site == site).collect();
                let ranking = Ranking {
                    grain: grain.name(),
                    site: site.at().1,
                    direction: word(direction),
                    labels: own.iter().map(|&i| nodes[i].label(places)).collect(),
                    claims: claims(estimates, &own),
                };
                let exact = Exact { atp, lab, task, places, direction };
                agreement.check(&ranking, &how, |indices| {
                    exact.changes(&indices.iter().map(|&i| nodes[own[i]]).collect::<Vec<_>>())
                })?;
            }
        }
    }
    Ok(agreement)
}

/// Plain AtP, AtP with the softmax computed anew where that is something else, and sizes by dropped layers.
fn claims(estimates: &Estimates, own: &[usize]) -> Vec<Claim> {
    let take = |from: &[Vec<f64>]| -> Option<Vec<Vec<f64>>> {
        let taken: Vec<Vec<f64>> = own.iter().filter_map(|&i| from.get(i)).cloned().collect();
        taken.iter().all(|values| !values.is_empty()).then_some(taken)
    };
    let linear = take(&estimates.linear);
    let name = if linear.is_some() { "atp+qk" } else { "atp" };
    let linear = linear.map(|change| Claim { method: "atp", signed: true, change });
    let plain = take(&estimates.change).map(|change| Claim { method: name, signed: true, change });
    let dropped = take(&estimates.dropped).map(|change| Claim { method: "atp*", signed: false, change });
    [linear, plain, dropped].into_iter().flatten().collect()
}

/// Exact patching of nodes in one direction, as `patch` does it.
struct Exact<'a> {
    atp: &'a Atp,
    lab: &'a Lab,
    task: &'a Task,
    places: &'a [Place],
    direction: Direction,
}

impl Exact<'_> {
    /// Changes of the metric `[node][example]`, signed as the estimates are.
    fn changes(&self, nodes: &[Node]) -> Result<Vec<Vec<f64>>> {
        let (lab, model, metric) = (self.lab, &self.lab.model, self.atp.metric);
        let mut all = vec![vec![0.0; self.task.examples.len()]; nodes.len()];
        let wanted =
            |site: Site| matches!(site, Site::Block(_, at) if nodes.iter().any(|n| n.site.at().0 == at));
        let batches = self.task.batches(Passes::new(self.atp, lab, self.task, nodes).most());
        lab.progress.begin("patching exactly", (batches.len() * nodes.len()) as u64);
        for batch in &batches {
            lab.check()?;
            let pair = Pair::of(model, self.task, batch)?;
            let clean = Base::record(model, &pair.clean, wanted)?;
            let corrupt = clean.beside(model, &pair.corrupt, pair.reach.first())?;
            let log_probs = ops::log_softmax(&clean.logits(model, &pair.read)?)?;
            let targets = self.task.targets(batch, Some(log_probs));
            let (base, source, sign) = match self.direction {
                Direction::Noise => (&clean, &corrupt, -1.0),
                _ => (&corrupt, &clean, 1.0),
            };
            let before = unchanged(lab, base, &Reading::metric(&pair.read, metric, &targets))?;
            let (mut indices, mut cells) = (Vec::new(), Vec::new());
            for (index, node) in nodes.iter().enumerate() {
                if let Some(edit) = node.edit(model, source, &pair.reach, self.places, batch)? {
                    indices.push(index);
                    cells.push(Cell { edits: vec![edit] });
                }
            }
            lab.progress.advance((nodes.len() - cells.len()) as u64);
            let reading = Reading::metric(&pair.read, metric, &targets).swapping(&pair.reach);
            for (&index, after) in indices.iter().zip(sweep(lab, base, &cells, &reading)?) {
                for ((&example, after), before) in batch.iter().zip(after).zip(&before) {
                    all[index][example] = sign * (after - before);
                }
            }
        }
        lab.progress.end();
        Ok(all)
    }
}

impl Node {
    /// The edit that swaps this node for its value in `source`, or none where that can change nothing.
    fn edit(
        &self,
        model: &Transformer,
        source: &Base,
        reach: &Reach,
        places: &[Place],
        batch: &[usize],
    ) -> Result<Option<Edit>> {
        // what leaves a block is what the next one receives: starting there saves the block
        let (layer, at) = match (self.layer, self.site.at().0) {
            (layer, At::ResidPost) if layer + 1 < model.config.n_layers => (layer + 1, At::ResidPre),
            place => place,
        };
        let rows =
            |place: usize| -> Vec<usize> { batch.iter().map(|&i| places[place].positions[i]).collect() };
        let positions = match self.place {
            None => reach.all(layer, at),
            Some(place) => reach.place(layer, at, &rows(place)),
        };
        let Some(positions) = positions else { return Ok(None) };
        let mut slice = Slice::whole(Site::Block(layer, at)).pos(positions);
        match self.site.units(model) {
            Units::Stream => {}
            Units::Heads(_) => slice.head = Some(self.unit),
            Units::Neurons(_) => slice.index = Some(vec![self.unit]),
        }
        if let Some(key) = self.key {
            slice.key = Positions::PerRow(rows(key));
        }
        let values = slice.take(source.kept.block(layer, at)?)?;
        Ok(Some(Edit { at: slice, op: Op::Set(values) }))
    }
}
