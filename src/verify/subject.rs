//! The model under examination: its prompts, how to run it, and how much of it to look at.

use candle_core::{DType, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::ledger::numbers;
use crate::edit::{Edit, Edits};
use crate::error::Result;
use crate::gradient::Gradients;
use crate::hook::Hook;
use crate::lab::Lab;
use crate::model::{Base, MlpKind, PositionKind, Stream, Transformer};
use crate::record::{Activations, Recorder};
use crate::site::Site;

/// What runs a pass: the transformer itself, or whatever claims to compute the same.
pub trait Engine {
    /// As [`Transformer::embed`].
    fn embed(&self, tokens: &Tensor, hook: &mut dyn Hook) -> Result<Stream>;
    /// As [`Transformer::run`].
    fn run(&self, from: Stream, base: Option<&Base>, until: usize, hook: &mut dyn Hook) -> Result<Stream>;
    /// As [`Transformer::unembed`].
    fn unembed(&self, stream: &Stream, hook: &mut dyn Hook) -> Result<Tensor>;
}

impl Engine for Transformer {
    fn embed(&self, tokens: &Tensor, hook: &mut dyn Hook) -> Result<Stream> {
        self.embed(tokens, hook)
    }

    fn run(&self, from: Stream, base: Option<&Base>, until: usize, hook: &mut dyn Hook) -> Result<Stream> {
        self.run(from, base, until, hook)
    }

    fn unembed(&self, stream: &Stream, hook: &mut dyn Hook) -> Result<Tensor> {
        self.unembed(stream, hook)
    }
}

/// Multiplications that one promise may cost: half a minute of two cores. A model too large to be looked at everywhere
/// within it is looked at in some of its layers, at every kind of place.
const BUDGET: f64 = 3e11;

/// Positions of the prompts, unless the context is shorter.
const POSITIONS: usize = 7;

/// A model with two prompts, and two others to take values from.
pub struct Subject<'a> {
    /// The model with its working conditions.
    pub lab: &'a Lab,
    engine: &'a dyn Engine,
    /// Two prompts of one length: random tokens, neighbours unlike each other.
    pub rows: [Vec<u32>; 2],
    /// Two more of that length.
    pub others: [Vec<u32>; 2],
}

impl<'a> Subject<'a> {
    /// Prompts are drawn from the lab's seed.
    pub fn new(lab: &'a Lab, engine: &'a dyn Engine) -> Result<Subject<'a>> {
        let config = &lab.model.config;
        let mut rng = ChaCha8Rng::seed_from_u64(lab.seed ^ 0x7E57_1F1E);
        let mut row = || -> Vec<u32> {
            let mut row: Vec<u32> = Vec::new();
            while row.len() < POSITIONS.min(config.n_ctx) {
                let token = rng.random_range(0..config.d_vocab as u32);
                if config.d_vocab < 2 || row.last() != Some(&token) {
                    row.push(token);
                }
            }
            row
        };
        Ok(Subject { lab, engine, rows: [row(), row()], others: [row(), row()] })
    }

    /// The model, for its shape and weights. Passes go through the subject's own methods.
    pub fn model(&self) -> &Transformer {
        &self.lab.model
    }

    /// Positions of the prompts.
    pub fn positions(&self) -> usize {
        self.rows[0].len()
    }

    /// The prompts as a batch.
    pub fn tokens(&self) -> Result<Tensor> {
        self.model().tokens(&[&self.rows[0], &self.rows[1]])
    }

    /// The other prompts as a batch.
    pub fn other_tokens(&self) -> Result<Tensor> {
        self.model().tokens(&[&self.others[0], &self.others[1]])
    }

    /// A whole pass.
    pub fn forward(&self, tokens: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        self.lab.check()?;
        let stream = self.engine.embed(tokens, hook)?;
        self.finish(stream, None, hook)
    }

    /// From a stream to the logits of its positions.
    pub fn finish(&self, from: Stream, base: Option<&Base>, hook: &mut dyn Hook) -> Result<Tensor> {
        let stream = self.engine.run(from, base, self.model().config.n_layers, hook)?;
        self.engine.unembed(&stream, hook)
    }

    /// A whole pass under edits, all of which must fire.
    pub fn edited(&self, tokens: &Tensor, edits: impl IntoIterator<Item = Edit>) -> Result<Tensor> {
        let mut edits = Edits::new(edits);
        let logits = self.forward(tokens, &mut edits)?;
        edits.finish()?;
        Ok(logits)
    }

    /// Logits and the activations that are wanted.
    pub fn record(&self, tokens: &Tensor, wanted: impl Fn(Site) -> bool) -> Result<(Tensor, Activations)> {
        let mut recorder = Recorder::new(wanted);
        let logits = self.forward(tokens, &mut recorder)?;
        Ok((logits, recorder.kept))
    }

    /// A run for windows to read from.
    pub fn base(&self, tokens: &Tensor) -> Result<Base> {
        let mut recorder = Recorder::new(|site| Base::needs(self.model(), site));
        let stream = self.engine.embed(tokens, &mut recorder)?;
        let padding = stream.padding.clone();
        let last = self.engine.run(stream, None, self.model().config.n_layers, &mut recorder)?.resid;
        let shortformer = self.model().config.positions == PositionKind::Shortformer;
        Ok(Base { kept: recorder.kept, last, padding, shortformer })
    }

    /// Gradients of Σ weights · logits at the wanted sites.
    pub fn gradients(
        &self,
        tokens: &Tensor,
        weights: &Tensor,
        wanted: impl Fn(Site) -> bool,
    ) -> Result<Activations> {
        let mut hook = Gradients::new(wanted);
        let logits = self.forward(tokens, &mut hook)?;
        hook.of(&(logits * weights)?)
    }

    /// Random weights `[batch, pos, d_vocab]` for a sum of logits: 64 of each position's logits count, so that rounding
    /// of a large vocabulary's others does not hide a small slope.
    pub fn weights(&self, batch: usize, positions: usize) -> Result<Tensor> {
        let d_vocab = self.model().config.d_vocab_out;
        let mut rng = ChaCha8Rng::seed_from_u64(self.lab.seed ^ 0x005C_A1E5);
        let mut weights = vec![0.0; batch * positions * d_vocab];
        for row in weights.chunks_exact_mut(d_vocab) {
            for _ in 0..64 {
                row[rng.random_range(0..d_vocab)] = rng.random_range(-1.0..1.0);
            }
        }
        let (shape, device) = ((batch, positions, d_vocab), self.model().device());
        Ok(Tensor::from_vec(weights, shape, device)?.to_dtype(self.model().dtype())?)
    }

    /// Random numbers about as large as each vector (last axis) of an activation.
    pub fn noise(&self, like: &Tensor, salt: u64) -> Result<Tensor> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.lab.seed ^ 0x0153_E000 ^ salt);
        let mut values = numbers(like)?;
        let width = like.dims().last().copied().unwrap_or(1).max(1);
        for vector in values.chunks_mut(width) {
            let finite: Vec<f64> = vector.iter().copied().filter(|x| x.is_finite()).collect();
            let size = (finite.iter().map(|x| x * x).sum::<f64>() / finite.len().max(1) as f64).sqrt();
            let size = if size > 0.0 { size } else { 1.0 };
            vector.iter_mut().for_each(|x| *x = size * rng.random_range(-1.0..1.0));
        }
        Ok(Tensor::from_vec(values, like.dims(), like.device())?.to_dtype(like.dtype())?)
    }

    /// The layers that `passes` whole passes for each of them can be afforded in, spread evenly from the `turn`-th on.
    pub fn layers(&self, passes: usize, turn: usize) -> Vec<usize> {
        let layers = self.model().config.n_layers;
        let each = self.cost() * passes as f64;
        let afforded = ((BUDGET / each) as usize).clamp(1, layers.max(1));
        let mut chosen: Vec<usize> = (0..afforded).map(|i| (i * layers / afforded + turn) % layers).collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    /// Multiplications of one pass over the prompts.
    fn cost(&self) -> f64 {
        let c = &self.model().config;
        let attention = c.d_model * c.d_head * 2 * (c.n_heads + c.n_kv_heads);
        let branches = match c.mlp {
            MlpKind::Absent => 0,
            MlpKind::Plain => 2,
            MlpKind::Gated => 3,
        };
        // where experts' places are looked at, all experts are computed
        let neurons = c.experts.map_or(c.d_mlp, |routing| routing.experts * routing.d_expert);
        let mlp = c.d_model * neurons * branches;
        let weights = c.n_layers * (attention + mlp) + c.d_model * c.d_vocab_out;
        (weights * 2 * self.positions()) as f64
    }

    /// Whether derivatives can be measured.
    pub fn is_double(&self) -> bool {
        self.model().dtype() == DType::F64
    }
}
