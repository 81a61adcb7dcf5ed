//! The runs that edges are cut in: what was written in them, and what cut edges carry instead.

use std::borrow::Cow;
use std::sync::OnceLock;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::analysis::patch::{Direction, doubted};
use crate::analysis::{PAIR, put, refuse_small_gap};
use crate::error::{Error, Result};
use crate::graph::{self, Exchange, Graph, Written};
use crate::lab::Lab;
use crate::lesion::{Sample, Sums};
use crate::metric::{Metric, Targets};
use crate::model::Base;
use crate::ops;
use crate::record::Activations;
use crate::site::{At, Site};
use crate::stats::mean;
use crate::sweep::{Reading, unchanged};
use crate::task::{Side, Task};

/// What cut edges carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carry {
    /// What their writer wrote on the other prompt of the pair.
    #[default]
    Corrupt,
    /// Zeros.
    Zero,
    /// What their writer wrote on average over the reference prompts (by default the task's own clean prompts), at each
    /// position where all prompts are of one length, else over all positions.
    Mean,
}

/// What a measurement of edges rests on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// The number that is measured.
    pub(crate) metric: Metric,
    /// Which run edges are cut in.
    pub(crate) direction: Direction,
    /// What cut edges carry.
    pub(crate) carry: Carry,
    /// Prompts to take means over.
    pub(crate) reference: Option<&'a [Sample]>,
    /// Whether gradients will be asked for, which take more memory.
    pub(crate) gradients: bool,
}

/// The runs of a task, batch by batch.
pub(crate) struct Runs<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) task: &'a Task,
    pub(crate) graph: Graph,
    pub(crate) terms: Terms<'a>,
    /// The metric of each example in the run that edges are cut in, and with every edge cut.
    pub(crate) own: Vec<f64>,
    pub(crate) other: Vec<f64>,
    means: Option<Activations>,
    lists: Vec<Vec<usize>>,
    /// Every batch, if they fit the memory allowed together; else they are run anew each time.
    kept: Vec<Batch>,
}

/// The runs of some examples of one length.
pub(crate) struct Batch {
    pub(crate) examples: Vec<usize>,
    pub(crate) base: Base,
    /// What was written in it, and what cut edges carry: only cuts need them by head.
    written: OnceLock<(Written, Written)>,
    /// The other run's values at the places of [`Written::needs`], of the rows of the batch.
    pub(crate) carried: Activations,
    pub(crate) first_pos: usize,
    pub(crate) read: Vec<usize>,
    pub(crate) targets: Targets,
    /// The metric of each row in the unchanged run.
    scores: Vec<f64>,
    /// The same in the other run, if that is a run of its own: what every edge cut leaves.
    others: Option<Vec<f64>>,
}

impl Batch {
    /// What edges of this batch are cut with.
    pub(crate) fn exchange<'a>(&'a self, runs: &'a Runs) -> Result<Exchange<'a>> {
        let (model, graph, base) = (&runs.lab.model, &runs.graph, &self.base);
        if self.written.get().is_none() {
            let of = |kept| Written::of(model, graph, kept);
            self.written.set((of(&base.kept)?, of(&self.carried)?)).ok();
        }
        match self.written.get() {
            Some((own, other)) => Ok(Exchange { model, graph, base, own, other, first_pos: self.first_pos }),
            None => Err(Error::Tensor("what was written in a run was not kept".into())),
        }
    }

    /// The positions from the first on at which the two runs can differ, of an activation `[rows, pos, …]`.
    pub(crate) fn window(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.narrow(1, self.first_pos, x.dim(1)?.saturating_sub(self.first_pos))?)
    }
}

impl<'a> Runs<'a> {
    /// Runs the prompts; refused where the two runs hardly differ in the metric, of whose difference effects are shares.
    pub(crate) fn new(lab: &'a Lab, task: &'a Task, terms: Terms<'a>) -> Result<Runs<'a>> {
        task.check()?;
        task.fits(&lab.model)?;
        if terms.carry == Carry::Corrupt
            && let Some(example) = task.examples.iter().find(|example| example.corrupt.is_none())
        {
            return Err(Error::usage(
                format!("cut edges carry the values of the corrupt prompt, and `{}` has none", example.id),
                "give pairs of prompts, or write `carry=\"mean\"` or `carry=\"zero\"`",
            ));
        }
        if terms.direction == Direction::Both
            || terms.carry != Carry::Corrupt && terms.direction != Direction::Noise
        {
            return Err(Error::usage(
                "edges are cut in one run",
                "write `direction=\"noise\"` (edges of the clean run), or `\"denoise\"` with pairs of prompts",
            ));
        }
        let graph = Graph::of(&lab.model);
        let means = match terms.carry {
            Carry::Mean => Some(means(lab, task, terms.reference)?),
            _ => None,
        };
        let each = bytes(lab, task, &graph, terms.gradients);
        let lists = task.batches((lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize);
        let n = task.examples.len();
        let (own, other) = (vec![0.0; n], vec![0.0; n]);
        let mut runs = Runs { lab, task, graph, terms, own, other, means, lists, kept: Vec::new() };
        if runs.lists.len() == 1 || each.saturating_mul(n as u64) <= lab.memory / 2 {
            runs.kept = runs.lists.iter().map(|list| runs.batch(list)).collect::<Result<_>>()?;
        }
        let (mut own, mut other) = (vec![0.0; n], vec![0.0; n]);
        let all: Vec<usize> = (0..runs.graph.len()).collect();
        runs.each(&mut |batch| {
            put(&mut own, &batch.examples, &batch.scores);
            let others = match &batch.others {
                Some(others) => others.clone(),
                None => runs.measured(batch, terms.metric, std::slice::from_ref(&all))?.concat(),
            };
            put(&mut other, &batch.examples, &others);
            Ok(())
        })?;
        (runs.own, runs.other) = (own, other);
        let said = if terms.carry == Carry::Corrupt {
            PAIR
        } else {
            "the runs with no edge and with every edge cut"
        };
        refuse_small_gap(terms.metric, said, &runs.own, &runs.other)?;
        Ok(runs)
    }

    /// Does something with every batch, in order.
    pub(crate) fn each(&self, work: &mut dyn FnMut(&Batch) -> Result<()>) -> Result<()> {
        for (place, list) in self.lists.iter().enumerate() {
            self.lab.check()?;
            let batch = match self.kept.get(place) {
                Some(batch) => Cow::Borrowed(batch),
                None => Cow::Owned(self.batch(list)?),
            };
            work(&batch)?;
        }
        Ok(())
    }

    /// How many batches there are.
    pub(crate) fn batches(&self) -> usize {
        self.lists.len()
    }

    /// The metric of every example with these edges cut, `[list][example]`; each list by itself.
    pub(crate) fn cut(&self, lists: &[Vec<usize>]) -> Result<Vec<Vec<f64>>> {
        self.cut_by(self.terms.metric, lists)
    }

    /// The same for another metric.
    pub(crate) fn cut_by(&self, metric: Metric, lists: &[Vec<usize>]) -> Result<Vec<Vec<f64>>> {
        let mut all = vec![vec![0.0; self.own.len()]; lists.len()];
        self.each(&mut |batch| {
            for (all, scores) in all.iter_mut().zip(self.measured(batch, metric, lists)?) {
                put(all, &batch.examples, &scores);
            }
            Ok(())
        })?;
        Ok(all)
    }

    fn measured(&self, batch: &Batch, metric: Metric, lists: &[Vec<usize>]) -> Result<Vec<Vec<f64>>> {
        let reading = Reading::metric(&batch.read, metric, &batch.targets);
        graph::scores(self.lab, &batch.exchange(self)?, lists, &reading)
    }

    /// Mean difference between the two runs: an effect of 1.
    pub(crate) fn gap(&self) -> f64 {
        mean(&self.own) - mean(&self.other)
    }

    /// What the reader must be told where the model does not do the task.
    pub(crate) fn doubt(&self) -> Option<String> {
        let denoise = self.terms.direction == Direction::Denoise;
        doubted(self.terms.metric, if denoise { &self.other } else { &self.own }, self.task)
    }

    /// What the metric loses in each example, from its value with something cut.
    pub(crate) fn lost(&self, measured: &[f64]) -> Vec<f64> {
        self.own.iter().zip(measured).map(|(own, measured)| own - measured).collect()
    }

    /// What the two runs differ by in each example.
    pub(crate) fn gaps(&self) -> Vec<f64> {
        self.lost(&self.other)
    }

    fn batch(&self, list: &[usize]) -> Result<Batch> {
        let (model, task) = (&self.lab.model, self.task);
        let denoise = self.terms.direction == Direction::Denoise;
        let (own_side, other_side) =
            if denoise { (Side::Corrupt, Side::Clean) } else { (Side::Clean, Side::Corrupt) };
        let read = task.ends(list);
        let tokens = task.tokens(model, list, own_side)?;
        let base = Base::record(model, &tokens, Written::needs)?;
        let mut theirs = None;
        let (carried, first_pos) = match (self.terms.carry, &self.means) {
            (Carry::Corrupt, _) => {
                let first = if model.config.causal { first_difference(task, list, &read) } else { 0 };
                let run = base.beside(model, &task.tokens(model, list, other_side)?, first)?;
                let kept = run.kept.0.iter().filter(|(site, _)| Written::needs(**site));
                let carried = Activations(kept.map(|(&site, x)| (site, x.clone())).collect());
                theirs = Some(run);
                (carried, first)
            }
            (_, Some(means)) => {
                let mean = |site, x: &Tensor| -> Result<Tensor> {
                    Ok(means.get(site)?.broadcast_as(x.shape())?.contiguous()?)
                };
                (like(&base.kept, mean)?, 0)
            }
            _ => (like(&base.kept, |_, x| Ok(x.zeros_like()?))?, 0),
        };
        let clean = theirs.as_ref().filter(|_| denoise).unwrap_or(&base).logits(model, &read)?;
        let targets = task.targets(list, Some(ops::log_softmax(&clean)?));
        let reading = Reading::metric(&read, self.terms.metric, &targets);
        let score = |base: &Base| unchanged(self.lab, base, &reading);
        let (scores, others) = (score(&base)?, theirs.as_ref().map(score).transpose()?);
        drop(reading);
        let (examples, written) = (list.to_vec(), OnceLock::new());
        Ok(Batch { examples, base, written, carried, first_pos, read, targets, scores, others })
    }
}

impl Clone for Batch {
    /// Tensors are shared, not copied.
    fn clone(&self) -> Batch {
        Batch {
            examples: self.examples.clone(),
            base: self.base.clone(),
            written: self.written.clone(),
            carried: self.carried.clone(),
            first_pos: self.first_pos,
            read: self.read.clone(),
            targets: self.targets.clone(),
            scores: self.scores.clone(),
            others: self.others.clone(),
        }
    }
}

/// What the places of [`Written::needs`] hold instead.
fn like(kept: &Activations, instead: impl Fn(Site, &Tensor) -> Result<Tensor>) -> Result<Activations> {
    let sites = kept.0.iter().filter(|(site, _)| Written::needs(**site));
    Ok(Activations(sites.map(|(&site, x)| Ok((site, instead(site, x)?))).collect::<Result<_>>()?))
}

/// The first position at which the prompts of any of these pairs differ, and at most the first that is read.
fn first_difference(task: &Task, list: &[usize], read: &[usize]) -> usize {
    let pairs = list.iter().filter_map(|&i| task.examples.get(i));
    let first = pairs.filter_map(|example| {
        let other = example.corrupt.as_deref().unwrap_or_default();
        example.clean.iter().zip(other).position(|(a, b)| a != b)
    });
    first.chain(read.iter().copied()).min().unwrap_or(0)
}

fn means(lab: &Lab, task: &Task, reference: Option<&[Sample]>) -> Result<Activations> {
    let prompts: Vec<Vec<u32>> = match reference {
        Some(given) => given.iter().map(|sample| sample.tokens.clone()).collect(),
        None => task.examples.iter().map(|example| example.clean.clone()).collect(),
    };
    let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
    let aligned = prompts.iter().all(|prompt| prompt.len() == longest)
        && task.examples.iter().all(|example| example.clean.len() == longest);
    Sums::over(lab, &prompts, aligned.then_some(longest), Written::needs)?.mean()
}

/// Bytes that the runs of one example take.
fn bytes(lab: &Lab, task: &Task, graph: &Graph, gradients: bool) -> u64 {
    let (model, c) = (&lab.model, &lab.model.config);
    let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
    let kept = |site| Written::needs(site) || Base::needs(model, site) || site == Site::Logits;
    let written = graph.writers().len() * c.d_model;
    let neurons = c.d_mlp.max(c.experts.map_or(0, |routing| routing.experts * routing.d_expert));
    // the steps of a pass that its gradient goes back over: the stream and its norms, neurons, scores; beside them the inputs
    // of the heads of one layer, with the steps of their norm
    let layer = 24 * c.d_model + 6 * neurons + 6 * c.n_heads * longest;
    let readers = 8 * c.n_heads * c.d_model;
    let steps = if gradients { c.n_layers * layer + readers + 2 * written } else { 0 };
    let per_position = (2 * written + steps) * model.dtype().size_in_bytes();
    2 * model.recorded_bytes(longest, kept) + (longest * per_position) as u64
}

/// The stream that enters the first block: what the input writes.
pub(crate) const INPUT: Site = Site::Block(0, At::ResidPre);
