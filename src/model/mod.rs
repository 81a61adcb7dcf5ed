//! The transformer: architecture as data, every value a place.
//!
//! A pass is `embed → run → unembed` over a [`Stream`]: the residual stream entering a layer, from some position on.
//! What lies left of that position is read from a [`Base`], so that one mechanism serves whole passes, resuming at any
//! layer, sweeps that compute only what a change can reach, and generation. No model family is named in this folder.

mod attention;
mod block;
mod cache;
mod config;
mod experts;
mod fold;
mod linear;
mod mlp;
mod norm;
mod padding;
mod position;
mod random;
mod tap;
mod weights;
mod window;
mod windows;

use candle_core::{DType, Device, Tensor};

pub use crate::ops::Pairs;
pub use attention::Attention;
pub use block::{Block, Wiring};
pub use cache::Cache;
pub use config::{Config, Layer, MlpKind, NormPlaces, QkNorm, Routing};
pub use experts::Experts;
pub use fold::{Fold, Folding};
pub use linear::Linear;
pub use mlp::{Activation, Dense, Mlp};
pub use norm::{HeadNorm, Norm, NormKind};
pub use padding::{Pad, Padding};
pub use position::{PositionKind, Rotary, RotaryScaling, Slopes};
pub(crate) use tap::Tap;
pub(crate) use window::Left;
pub use window::{Base, Entry, Stream};
pub(crate) use windows::TILE;
pub use windows::{Start, Window};

use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::ops;
use crate::record::{Activations, Recorder};
use crate::site::{At, Axis, Site};

/// A decoder-only transformer; its fields are its weights.
#[derive(Debug, Clone)]
pub struct Transformer {
    /// Shape and kind.
    pub config: Config,
    /// W_E `[d_vocab, d_model]`.
    pub embed: Tensor,
    /// W_pos `[n_ctx, d_model]`, if positions are learned vectors.
    pub pos_embed: Option<Tensor>,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
    /// Before the unembedding.
    pub ln_final: Norm,
    /// W_U `[d_model, d_vocab_out]` and b_U.
    pub unembed: Linear,
}

impl Transformer {
    /// tokens `[batch, pos]` (u32) → logits `[batch, pos, d_vocab]`.
    ///
    /// Rows may be padded ([`Transformer::padded`]): the values of their own columns are those of the row alone.
    pub fn forward(&self, tokens: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        let stream = self.embed(tokens, hook)?;
        let stream = self.run(stream, None, self.config.n_layers, hook)?;
        self.unembed(&stream, hook)
    }

    /// tokens `[batch, pos]` → the stream that enters layer 0.
    pub fn embed(&self, tokens: &Tensor, hook: &mut dyn Hook) -> Result<Stream> {
        self.embed_from(tokens, 0, Padding::of(tokens)?, hook)
    }

    /// As [`Transformer::embed`], for tokens in columns `first_pos ..` of a batch with this padding.
    fn embed_from(
        &self,
        tokens: &Tensor,
        first_pos: usize,
        padding: Padding,
        hook: &mut dyn Hook,
    ) -> Result<Stream> {
        let (batch, pos) = tokens.dims2()?;
        let tokens = if first_pos == 0 { padding.filled(tokens)? } else { tokens.clone() };
        self.check_tokens(&tokens, padding.longest(first_pos + pos))?;
        let mut tap = Tap::one(hook, 0, &padding, [batch, first_pos, pos]);
        let d_model = self.config.d_model;
        let tokens = self.embed.index_select(&tokens.flatten_all()?, 0)?.reshape((batch, pos, d_model))?;
        let tokens = tap.site(Site::Embed, tokens)?; // [batch, pos, d_model]
        let learned = match &self.pos_embed {
            None => None,
            Some(table) => {
                let positions = padding.positions(batch, first_pos, pos, self.device())?; // [pos] or [batch, pos]
                let learned =
                    table.index_select(&positions.flatten_all()?, 0)?.reshape(((), pos, d_model))?;
                let learned = learned.broadcast_as(tokens.shape())?.contiguous()?;
                Some(tap.site(Site::PosEmbed, learned)?)
            }
        };
        let (resid, learned) = match (self.config.positions, learned) {
            (PositionKind::Shortformer, learned) => (tokens, learned),
            (_, Some(learned)) => ((tokens + learned)?, None),
            (_, None) => (tokens, None),
        };
        Ok(Stream { layer: 0, first_pos, padding, resid, learned })
    }

    /// Runs blocks `from.layer .. until`. A stream that does not begin at position 0 needs the base run that holds the
    /// keys and values to its left.
    pub fn run(
        &self,
        from: Stream,
        base: Option<&Base>,
        until: usize,
        hook: &mut dyn Hook,
    ) -> Result<Stream> {
        self.run_blocks(from, &mut Left::Base(base), until, hook)
    }

    fn run_blocks(&self, from: Stream, left: &mut Left, until: usize, hook: &mut dyn Hook) -> Result<Stream> {
        let learned = from.learned_for_all()?;
        let Stream { layer, first_pos, padding, mut resid, .. } = from;
        if until > self.config.n_layers {
            let (index, size) = (until, self.config.n_layers);
            return Err(Error::OutOfRange { what: "layer", index, size, site: "the pass".into() });
        }
        if first_pos > 0 && !self.config.causal {
            return Err(Error::Tensor(
                "a window needs a causal model: every position reaches every other".into(),
            ));
        }
        for layer in layer..until {
            let (batch, pos, _) = resid.dims3()?;
            let mut tap = Tap::one(&mut *hook, layer, &padding, [batch, first_pos, pos]);
            resid = self.blocks[layer].forward(resid, learned.as_ref(), left, &mut tap)?;
        }
        Ok(Stream { layer: until.max(layer), first_pos, padding, resid, learned })
    }

    /// The stream after the last block → logits `[batch, pos, d_vocab]` of the stream's positions.
    pub fn unembed(&self, stream: &Stream, hook: &mut dyn Hook) -> Result<Tensor> {
        let n = self.final_norm(stream, hook)?;
        let logits = self.logits(&n, None)?;
        self.final_tap(stream, hook)?.site(Site::Logits, logits)
    }

    /// The stream after the last block → what the unembedding reads, of the same shape.
    pub(crate) fn final_norm(&self, stream: &Stream, hook: &mut dyn Hook) -> Result<Tensor> {
        let mut tap = self.final_tap(stream, hook)?;
        self.ln_final.forward(&stream.resid, &mut tap, Site::FinalScale, Site::FinalNorm)
    }

    /// What the unembedding reads `[…, d_model]` → logits of every token, or of those that are named, in that order.
    pub(crate) fn logits(&self, normed: &Tensor, tokens: Option<&[u32]>) -> Result<Tensor> {
        let logits = match tokens {
            None => self.unembed.forward(normed)?,
            Some(tokens) => {
                let tokens = Tensor::new(tokens, self.device())?;
                let b = self.unembed.b.as_ref().map(|b| b.index_select(&tokens, 0)).transpose()?;
                ops::linear(normed, &self.unembed.w.index_select(&tokens, 1)?, b.as_ref())?
            }
        };
        Ok(match self.config.logit_cap {
            Some(cap) => ops::softcap(&logits, cap)?,
            None => logits,
        })
    }

    fn final_tap<'a>(&self, stream: &'a Stream, hook: &'a mut dyn Hook) -> Result<Tap<'a>> {
        let Stream { first_pos, padding, resid, .. } = stream;
        let (batch, pos, _) = resid.dims3()?;
        Ok(Tap::one(hook, self.config.n_layers, padding, [batch, *first_pos, pos]))
    }

    /// A block, or an error that says which there are.
    pub fn block(&self, layer: usize) -> Result<&Block> {
        let (index, size) = (layer, self.config.n_layers);
        let beyond = || Error::OutOfRange { what: "layer", index, size, site: "the model".into() };
        self.blocks.get(layer).ok_or_else(beyond)
    }

    /// Logits `[batch, pos, d_vocab]` and the activations at the sites `wanted` says yes to.
    pub fn record(&self, tokens: &Tensor, wanted: impl Fn(Site) -> bool) -> Result<(Tensor, Activations)> {
        let mut recorder = Recorder::new(wanted);
        let logits = self.forward(tokens, &mut recorder)?;
        Ok((logits, recorder.kept))
    }

    /// Every site this model has, in execution order, without the copies that exist only when asked for by name.
    pub fn sites(&self) -> Vec<Site> {
        self.every_site().filter(|site| !matches!(site, Site::Block(_, at) if at.is_split_input())).collect()
    }

    /// Checks that a site exists in this model: its layer, and whether the architecture has such a place.
    pub fn check_site(&self, site: Site) -> Result<()> {
        if self.every_site().any(|existing| existing == site) {
            return Ok(());
        }
        let layers = self.config.n_layers;
        let why = match site.layer() {
            Some(layer) if layer >= layers => format!("it has layers 0 to {}", layers - 1),
            _ => "its architecture has no such place".to_owned(),
        };
        Err(Error::NoSuchSite { site: site.to_string(), why })
    }

    /// The size of each axis of a site's activation for a batch of this shape.
    pub fn shape(&self, site: Site, batch: usize, pos: usize) -> Vec<usize> {
        let c = &self.config;
        let size = |axis: &Axis| match axis {
            Axis::Batch => batch,
            Axis::Pos | Axis::Query | Axis::Key => pos,
            Axis::Head => c.n_heads,
            Axis::KvHead => c.n_kv_heads,
            Axis::DHead => c.d_head,
            Axis::DModel => c.d_model,
            Axis::DMlp => c.d_mlp,
            Axis::Expert => c.experts.map_or(0, |routing| routing.experts),
            Axis::DExpert => c.experts.map_or(0, |routing| routing.d_expert),
            Axis::DVocab => c.d_vocab_out,
            Axis::One => 1,
        };
        site.axes().iter().map(size).collect()
    }

    /// The type the model computes in.
    pub fn dtype(&self) -> DType {
        self.embed.dtype()
    }

    /// Where the model's weights are.
    pub fn device(&self) -> &Device {
        self.embed.device()
    }

    /// Token ids of equal length → `[batch, pos]` on the model's device.
    pub fn tokens(&self, rows: &[&[u32]]) -> Result<Tensor> {
        let pos = rows.first().map_or(0, |row| row.len());
        if let Some(row) = rows.iter().find(|row| row.len() != pos) {
            return Err(Error::input(
                format!("prompts of {pos} and {} tokens cannot share a batch", row.len()),
                "group prompts by length, or pad them",
            ));
        }
        self.padded(rows, Pad::Right)
    }

    /// Token ids of any length → `[batch, pos]` on the model's device, shorter rows filled up on one side.
    pub fn padded(&self, rows: &[&[u32]], side: Pad) -> Result<Tensor> {
        side.batch(rows, self.device())
    }

    /// Every site this model has, in execution order, with the copies that exist only when asked for by name.
    pub fn every_site(&self) -> impl Iterator<Item = Site> + '_ {
        let blocks = self.blocks.iter().enumerate().flat_map(|(layer, block)| {
            At::ALL.iter().filter(|&&at| block.has(at)).map(move |&at| Site::Block(layer, at))
        });
        let normed = self.ln_final.is_some();
        let learned = self.pos_embed.is_some().then_some(Site::PosEmbed);
        let norm = [Site::FinalScale, Site::FinalNorm].into_iter().filter(move |_| normed);
        std::iter::once(Site::Embed).chain(learned).chain(blocks).chain(norm).chain([Site::Logits])
    }

    fn check_tokens(&self, tokens: &Tensor, length: usize) -> Result<()> {
        if tokens.elem_count() == 0 {
            return Err(Error::input("the prompt is empty", "give at least one token"));
        }
        if length > self.config.n_ctx {
            return Err(Error::input(
                format!("the prompt has {length} tokens, but the model's context is {}", self.config.n_ctx),
                "shorten the prompt",
            ));
        }
        let ids: Vec<u32> = tokens.flatten_all()?.to_dtype(DType::U32)?.to_vec1()?;
        match ids.iter().find(|&&id| id as usize >= self.config.d_vocab) {
            None => Ok(()),
            Some(id) => Err(Error::input(
                format!("token id {id} is outside the vocabulary of {}", self.config.d_vocab),
                "check that tokenizer and model belong together",
            )),
        }
    }
}
