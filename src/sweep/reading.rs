//! What is read at the end of a run, and what is made of it.

use candle_core::Tensor;

use super::Reach;
use crate::error::Result;
use crate::metric::{Metric, Targets};
use crate::record::Activations;
use crate::site::Site;

type Score<'a> = dyn Fn(&Tensor, &Activations, &[usize]) -> Result<Tensor> + 'a;

/// What a sweep reads of each row, and the score that it gets.
pub struct Reading<'a> {
    at: &'a [usize],
    tokens: Option<Vec<u32>>,
    watch: Option<&'a dyn Fn(Site) -> bool>,
    reach: Option<&'a Reach>,
    score: Box<Score<'a>>,
}

impl<'a> Reading<'a> {
    /// Reads logits at one position of each row. `score` turns some rows' logits `[n, d_vocab]` into one number each `[n]`, or into as many
    /// for each row `[n, numbers]`; it is told which rows of the base they are.
    pub fn new(at: &'a [usize], score: impl Fn(&Tensor, &[usize]) -> Result<Tensor> + 'a) -> Reading<'a> {
        let score = Box::new(move |logits: &Tensor, _: &Activations, rows: &[usize]| score(logits, rows));
        Reading { at, tokens: None, watch: None, reach: None, score }
    }

    /// Reads one metric. Only logits that it looks at are computed.
    pub fn metric(at: &'a [usize], metric: Metric, targets: &Targets) -> Reading<'a> {
        let tokens: Option<Vec<u32>> = metric.tokens(targets).map(|tokens| tokens.into_iter().collect());
        let targets = tokens.as_ref().map_or_else(|| targets.clone(), |tokens| targets.among(tokens));
        let score = move |logits: &Tensor, rows: &[usize]| metric.score(logits, &targets.rows(rows)?);
        Reading { tokens, ..Reading::new(at, score) }
    }

    /// Reads several metrics, in columns.
    pub fn metrics(at: &'a [usize], metrics: &[Metric], targets: &Targets) -> Reading<'a> {
        let (metrics, targets) = (metrics.to_vec(), targets.clone());
        Reading::new(at, move |logits, rows| Metric::columns(&metrics, logits, &targets.rows(rows)?))
    }

    /// Reads what stands at the sites that `watch` says yes to besides: `score` is handed `[n, 1, …]` of each. What a cell does
    /// not reach is the base's, which must hold those sites; each has an axis of positions.
    pub fn watching(
        at: &'a [usize],
        watch: &'a dyn Fn(Site) -> bool,
        score: impl Fn(&Tensor, &Activations, &[usize]) -> Result<Tensor> + 'a,
    ) -> Reading<'a> {
        Reading { at, tokens: None, watch: Some(watch), reach: None, score: Box::new(score) }
    }

    /// Says that every cell puts values of another run in the place of the base's, and where the two can differ: elsewhere a cell costs
    /// nothing.
    #[must_use]
    pub(crate) fn swapping(self, reach: &'a Reach) -> Reading<'a> {
        Reading { reach: Some(reach), ..self }
    }

    /// Where each row is read.
    pub(crate) fn at(&self) -> &'a [usize] {
        self.at
    }

    pub(super) fn rows(&self) -> usize {
        self.at.len()
    }

    pub(super) fn tokens(&self) -> Option<&[u32]> {
        self.tokens.as_deref()
    }

    pub(super) fn watches(&self, site: Site) -> bool {
        self.watch.is_some_and(|watch| watch(site))
    }

    pub(super) fn reach(&self) -> Option<&'a Reach> {
        self.reach
    }

    pub(super) fn score(&self, logits: &Tensor, seen: &Activations, rows: &[usize]) -> Result<Tensor> {
        (self.score)(logits, seen, rows)
    }
}
