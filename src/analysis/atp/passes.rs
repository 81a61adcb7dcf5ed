//! The passes of a batch: a run with what it recorded, and the gradient of the metric, whole or with one layer dropped.
//!
//! Left of the first token in which the prompts differ both runs are the same, and no swap there changes anything: passes begin at
//! it, and read keys and values to its left from one whole run.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;

use super::Atp;
use super::nodes::{Node, NodeSite};
use super::softmax::{self, Asked, Moved, moved};
use super::values::Values;
use crate::analysis::attribution::numbers;
use crate::error::Result;
use crate::gradient::Gradients;
use crate::hook::Hook;
use crate::lab::Lab;
use crate::model::{Base, Stream, Transformer};
use crate::ops;
use crate::record::{Activations, Recorder};
use crate::site::{At, Axis, Site};
use crate::task::Task;

/// The stream that holds the whole input.
const INPUT: Site = Site::Block(0, At::ResidPre);

/// Effects by activation and layer.
pub(super) type Found = BTreeMap<(NodeSite, usize), Values>;

/// How passes are run.
pub(super) struct Passes<'a> {
    lab: &'a Lab,
    task: &'a Task,
    atp: &'a Atp,
    sites: BTreeSet<NodeSite>,
    /// Whether there are queries or keys behind which the softmax is computed anew.
    pub(super) fix: bool,
}

/// One run of one side of a batch.
pub(super) struct Run {
    /// `[batch, d_vocab]` where the answers are due.
    pub(super) logits: Tensor,
    /// The metric, by row.
    pub(super) scores: Vec<f64>,
    /// From the first position on that was computed.
    kept: Activations,
    /// Of the metric, at every wanted site; absent where nobody asked.
    pub(super) gradients: Option<Activations>,
}

/// What lies left of a pass: nothing, or the positions at which both runs are the same, recorded in one of them.
#[derive(Clone, Copy, Default)]
pub(super) struct Left<'a> {
    /// The first position that the pass computes.
    pub(super) first: usize,
    pub(super) base: Option<&'a Base>,
}

impl Left<'_> {
    /// The positions of an activation that are not to its left, `axis` being that of positions.
    fn right(self, x: &Tensor, axis: usize) -> Result<Tensor> {
        Ok(x.narrow(axis, self.first, x.dim(axis)?.saturating_sub(self.first))?)
    }
}

/// What lets a pass run: where its logits are read, what the clean run says there, and what of it is wanted.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) batch: &'a [usize],
    pub(super) read: &'a [usize],
    /// Log-probabilities of the clean run; none in the clean run itself.
    pub(super) clean: Option<&'a Tensor>,
    pub(super) graded: bool,
    /// The layer through whose writing no gradient passes.
    pub(super) drop: Option<usize>,
    pub(super) left: Left<'a>,
}

impl Passes<'_> {
    pub(super) fn new<'a>(atp: &'a Atp, lab: &'a Lab, task: &'a Task, nodes: &[Node]) -> Passes<'a> {
        let sites: BTreeSet<NodeSite> = nodes.iter().map(|node| node.site).collect();
        let fix = atp.qk_fix && sites.iter().any(|site| site.is_asked());
        Passes { lab, task, atp, sites, fix }
    }

    /// How many examples share a batch. A backward pass holds every activation of the forward pass, and about as much again
    /// in gradients; the other run's values and the scores of replaced queries and keys stand beside.
    pub(super) fn most(&self) -> usize {
        let model = &self.lab.model;
        let longest = self.task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
        let computed = |site: Site| {
            let costly = matches!(
                site,
                Site::Block(_, At::Result | At::ExpertPre | At::ExpertLinear | At::ExpertPost)
            );
            !costly && site != Site::Logits
        };
        let pass = 4 * model.recorded_bytes(longest, computed);
        let squares = model.recorded_bytes(longest, |site| matches!(site, Site::Block(_, At::Pattern)));
        let whole = |block: &crate::model::Block| {
            let norms = [&block.attention.q_norm, &block.attention.k_norm];
            norms.into_iter().flatten().any(|norm| norm.whole)
        };
        let replaced = if model.blocks.iter().any(whole) { model.config.n_heads as u64 } else { 1 };
        let each = pass + if self.fix { 6 * replaced * squares } else { 0 };
        (self.lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize
    }

    fn model(&self) -> &Transformer {
        &self.lab.model
    }

    fn is_kept(&self, site: Site) -> bool {
        site == INPUT || self.is_node(site) || self.fix && softmax::needs(site)
    }

    fn is_graded(&self, site: Site) -> bool {
        site == INPUT || self.is_node(site) || self.fix && matches!(site, Site::Block(_, At::Pattern))
    }

    fn is_node(&self, site: Site) -> bool {
        matches!(site, Site::Block(_, at) if self.sites.iter().any(|site| site.at().0 == at))
    }

    fn score(&self, logits: &Tensor, wanted: Wanted) -> Result<Tensor> {
        let clean = match wanted.clean {
            Some(clean) => clean.clone(),
            None => ops::log_softmax(&logits.detach())?,
        };
        self.atp.metric.score(logits, &self.task.targets(wanted.batch, Some(clean)))
    }

    /// Runs tokens `[batch, pos]` whole, for what is to the left of other passes.
    pub(super) fn base(&self, tokens: &Tensor) -> Result<Base> {
        Base::record(self.model(), tokens, |site| self.is_kept(site))
    }

    /// What a pass without a gradient over the prompts of a base would be, which needs no further pass.
    pub(super) fn of_base(&self, base: &Base, wanted: Wanted) -> Result<Run> {
        let logits = base.logits(self.model(), wanted.read)?;
        let mut kept = Activations::default();
        for (&site, x) in base.kept.0.iter().filter(|(site, _)| self.is_kept(**site)) {
            let axis = site.axes().iter().position(|axis| matches!(axis, Axis::Pos | Axis::Query));
            kept.0.insert(site, wanted.left.right(x, axis.unwrap_or(1))?);
        }
        Ok(Run { scores: numbers(&self.score(&logits, wanted)?)?, logits, kept, gradients: None })
    }

    /// Runs tokens `[batch, pos]`, but for what is to the left. Without a gradient to take, no graph is kept.
    pub(super) fn run(&self, tokens: &Tensor, wanted: Wanted) -> Result<Run> {
        let (model, left) = (self.model(), wanted.left);
        let stream = model.embed(tokens, &mut ())?;
        let learned = stream.learned.as_ref().map(|learned| left.right(learned, 1)).transpose()?;
        let resid = left.right(&stream.resid, 1)?;
        let stream = Stream { first_pos: left.first, resid, learned, ..stream };
        let kept = |site| wanted.drop.is_none() && self.is_kept(site);
        let graded = |site| wanted.graded && self.is_graded(site);
        let mut hook = ((Gradients::new(graded), Recorder::new(kept)), Dropped(wanted.drop));
        if let Some(learned) = stream.learned.as_ref().filter(|_| kept(Site::PosEmbed)) {
            hook.0.1.kept.0.insert(Site::PosEmbed, learned.clone());
        }
        let stream = model.run(stream, left.base, model.config.n_layers, &mut hook)?;
        let logits = model.unembed(&stream.at(wanted.read)?, &mut hook)?.squeeze(1)?;
        let score = self.score(&logits, wanted)?;
        let ((gradients, recorder), _) = hook;
        let kept = recorder.kept.0.into_iter().map(|(site, x)| (site, x.detach())).collect();
        Ok(Run {
            scores: numbers(&score.detach())?,
            logits: logits.detach(),
            kept: Activations(kept),
            gradients: wanted.graded.then(|| gradients.of(&score)).transpose()?,
        })
    }
}

/// A hook behind which no gradient passes through what one layer writes to the stream.
struct Dropped(Option<usize>);

impl Hook for Dropped {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::Block(layer, At::AttnOut | At::MlpOut) if Some(layer) == self.0)
    }

    fn visit(&mut self, _: Site, _: usize, x: Tensor) -> Result<Tensor> {
        Ok(x.detach())
    }
}

/// A run and the one its values are swapped with.
pub(super) struct Swap<'a> {
    passes: &'a Passes<'a>,
    base: &'a Run,
    source: &'a Run,
    first: usize,
    /// By layer, queries and keys.
    moved: BTreeMap<(usize, At), Vec<Moved>>,
}

impl<'a> Swap<'a> {
    /// The swap of everything in `base` for what it is in `source`.
    pub(super) fn new(passes: &'a Passes, base: &'a Run, source: &'a Run, left: Left) -> Result<Swap<'a>> {
        let mut all = BTreeMap::new();
        let asked = passes.sites.iter().filter(|site| passes.fix && site.is_asked());
        for (at, layer) in
            asked.flat_map(|site| (0..passes.model().config.n_layers).map(|l| (site.at().0, l)))
        {
            passes.lab.check()?;
            let kept = (&base.kept, &source.kept);
            all.insert((layer, at), moved(passes.model(), kept, left, layer, at)?);
        }
        Ok(Swap { passes, base, source, first: left.first, moved: all })
    }

    /// The effect of every node from these gradients, with the softmax computed anew where that is to be.
    pub(super) fn effects(&self, gradients: &Activations) -> Result<Found> {
        let mut found = self.linearised(gradients, |site| !(self.passes.fix && site.is_asked()))?;
        for (&(layer, at), moved) in &self.moved {
            let node = if at == At::Q { NodeSite::Q } else { NodeSite::K };
            let (model, scores) = (self.passes.model(), self.base.kept.block(layer, At::Scores)?);
            let asked = Asked { model, layer, at, first: self.first, scores, moved };
            found.insert((node, layer), asked.values(gradients.block(layer, At::Pattern)?)?);
        }
        Ok(found)
    }

    /// The same for queries and keys with the softmax linearised; nothing where [`Swap::effects`] does so itself.
    pub(super) fn linear(&self, gradients: &Activations) -> Result<Found> {
        self.linearised(gradients, |site| self.passes.fix && site.is_asked())
    }

    /// The effect of the whole input, by row.
    pub(super) fn input(&self, gradients: &Activations) -> Result<Vec<f64>> {
        Ok(Values::linear(NodeSite::ResidPre, &self.change(INPUT)?, gradients.get(INPUT)?, self.first)?.whole)
    }

    fn change(&self, site: Site) -> Result<Tensor> {
        Ok((self.source.kept.get(site)? - self.base.kept.get(site)?)?)
    }

    fn linearised(&self, gradients: &Activations, of: impl Fn(&NodeSite) -> bool) -> Result<Found> {
        let mut found = Found::new();
        for &node in self.passes.sites.iter().filter(|node| of(node)) {
            let at = node.at().0;
            let blocks = self.passes.model().blocks.iter().enumerate();
            for (layer, _) in blocks.filter(|(_, block)| block.has(at)) {
                let site = Site::Block(layer, at);
                let (change, gradient) = (self.change(site)?, gradients.get(site)?);
                found.insert((node, layer), Values::linear(node, &change, gradient, self.first)?);
            }
        }
        Ok(found)
    }
}
