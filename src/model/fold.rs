//! Weights folded: the same log-probabilities from simpler weights, in the four steps that published work takes by default.
//!
//! | step | what becomes of the weights | why nothing changes |
//! |---|---|---|
//! | `fold_ln` | W ← γ ⊙ W, b ← b + β·W for every reader of a norm; γ ← 1, β ← 0 | (n ⊙ γ + β)·W + b = n·(γ ⊙ W) + β·W + b |
//! | `center_writing_weights` | each writer's output loses its mean over d_model | LayerNorm subtracts that mean anyway |
//! | `center_unembed` | W_U and b_U lose their mean over the vocabulary | softmax does not see what all logits share |
//! | `fold_value_biases` | b_O ← b_O + b_V·W_O; b_V ← 0 | a head's attention sums to 1, so b_V passes through it whole |
//!
//! A norm behind attention or the MLP keeps its gain: nothing linear follows it. They are done in this order, each sum in f64. Behind a LayerNorm, `fold_ln` also takes the mean over d_model from what
//! reads it (the norm's output has none), so that products of weights hold nothing that no activation can reach.

use candle_core::{DType, Device, Tensor};

use super::{Block, Dense, Linear, Mlp, Norm, NormKind, PositionKind, Transformer};
use crate::error::{Error, Result};
use crate::ops;

/// One step of folding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fold {
    /// Gains and biases of norms go into what reads them.
    Norms,
    /// What is written to the stream has mean 0 over d_model. Only where every reader is a LayerNorm.
    Writers,
    /// Logits have mean 0 over the vocabulary.
    Unembed,
    /// Value biases go into the output bias.
    ValueBiases,
}

impl Fold {
    /// All steps, in the order in which they are done.
    pub const ALL: [Fold; 4] = [Fold::Norms, Fold::Writers, Fold::Unembed, Fold::ValueBiases];

    /// As TransformerLens calls it.
    pub fn name(self) -> &'static str {
        match self {
            Fold::Norms => "fold_ln",
            Fold::Writers => "center_writing_weights",
            Fold::Unembed => "center_unembed",
            Fold::ValueBiases => "fold_value_biases",
        }
    }
}

/// Which steps are asked for: `all` that leave the model's log-probabilities as they are, or these.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Folding {
    /// Every step that is valid for the model.
    All,
    /// These; one that is not valid is an error.
    Steps(Vec<Fold>),
}

impl std::str::FromStr for Folding {
    type Err = Error;

    /// `all`, or names with commas.
    fn from_str(words: &str) -> Result<Folding> {
        if words == "all" {
            return Ok(Folding::All);
        }
        let step = |word: &str| {
            let found = Fold::ALL.into_iter().find(|step| step.name() == word.trim());
            let known = || std::iter::once("all").chain(Fold::ALL.map(Fold::name));
            found.ok_or_else(|| Error::unknown("step of folding", word.trim(), known()))
        };
        Ok(Folding::Steps(words.split(',').map(step).collect::<Result<_>>()?))
    }
}

impl TryFrom<String> for Folding {
    type Error = Error;

    fn try_from(words: String) -> Result<Folding> {
        words.parse()
    }
}

impl From<Folding> for String {
    fn from(folding: Folding) -> String {
        match folding {
            Folding::All => "all".to_owned(),
            Folding::Steps(steps) => steps.into_iter().map(Fold::name).collect::<Vec<_>>().join(","),
        }
    }
}

impl Transformer {
    /// The model with its weights folded, and the steps that were taken.
    pub fn folded(mut self, folding: &Folding) -> Result<(Transformer, Vec<Fold>)> {
        let asked = |step: &Fold| match folding {
            Folding::All => self.refuses(*step).is_none(),
            Folding::Steps(steps) => steps.contains(step),
        };
        let steps: Vec<Fold> = Fold::ALL.into_iter().filter(asked).collect();
        let refused = steps.iter().find_map(|&step| Some((step, self.refuses(step)?)));
        if let Some((step, why)) = refused {
            return Err(Error::usage(
                format!("{} would change what this model says: {why}", step.name()),
                "leave it out; plain `--fold` takes every step that is valid for the model",
            ));
        }
        for step in &steps {
            match step {
                Fold::Norms => self.fold_norms()?,
                Fold::Writers => self.center_writers()?,
                Fold::Unembed => center(&mut self.unembed)?,
                Fold::ValueBiases => self.fold_value_biases()?,
            }
        }
        Ok((self, steps))
    }

    /// Why a step would change log-probabilities, if it would.
    pub fn refuses(&self, step: Fold) -> Option<&'static str> {
        let is_layer = |norm: &Norm| norm.kind == NormKind::Layer;
        let after_is_layer = |norm: &Norm| !norm.is_some() || is_layer(norm);
        let any = |has: fn(&Block) -> bool| self.blocks.iter().any(has);
        let centred = |block: &Block| {
            let feeds = matches!(block.mlp, Mlp::Absent) || is_layer(&block.ln2);
            is_layer(&block.ln1)
                && feeds
                && after_is_layer(&block.ln1_post)
                && after_is_layer(&block.ln2_post)
        };
        match step {
            Fold::Norms if self.config.positions == PositionKind::Shortformer => {
                Some("position vectors are added behind the norm, and would be scaled by its gain")
            }
            Fold::Writers if !is_layer(&self.ln_final) || !self.blocks.iter().all(centred) => {
                Some("its norms do not subtract the mean")
            }
            Fold::Unembed if self.config.logit_cap.is_some() => {
                Some("its logits are bent to a bound, which a shift moves them against")
            }
            Fold::ValueBiases if any(|block| block.attention.sinks.is_some()) => {
                Some("its attention sinks keep rows of attention from summing to 1")
            }
            Fold::ValueBiases if any(|block| block.attention.clip.is_some()) => {
                Some("its values are cut off at a bound after their bias is added")
            }
            _ => None,
        }
    }

    fn fold_norms(&mut self) -> Result<()> {
        for block in &mut self.blocks {
            let (attention, mlp) = (&mut block.attention, &mut block.mlp);
            fold(&mut block.ln1, [&mut attention.q, &mut attention.k, &mut attention.v])?;
            fold(&mut block.ln2, mlp.readers())?;
            if let Some(Dense { norm: Some(norm), out, .. }) = mlp.dense_mut() {
                fold(norm, [out])?;
            }
        }
        fold(&mut self.ln_final, [&mut self.unembed])
    }

    fn center_writers(&mut self) -> Result<()> {
        // shortformer positions never enter the stream
        let learned = self.pos_embed.as_mut().filter(|_| self.config.positions == PositionKind::Learned);
        for table in std::iter::once(&mut self.embed).chain(learned) {
            *table = narrowed(ops::center(&wide(table)?)?, table)?;
        }
        for block in &mut self.blocks {
            center(&mut block.attention.o)?;
            block.mlp.writers().into_iter().try_for_each(center)?;
        }
        Ok(())
    }

    fn fold_value_biases(&mut self) -> Result<()> {
        for block in &mut self.blocks {
            let attention = &mut block.attention;
            let Some(b_v) = attention.v.b.take() else { continue };
            // every query head of a group passes on its key-value head's bias
            let group = attention.n_heads / attention.n_kv_heads;
            let b_v = wide(&b_v)?.reshape((attention.n_kv_heads, 1, attention.d_head))?;
            let b_v = b_v.repeat((1, group, 1))?.reshape((1, attention.n_heads * attention.d_head))?;
            let passed = ops::linear(&b_v, &wide(&attention.o.w)?, None)?.squeeze(0)?;
            attention.o.b = Some(plus(passed, attention.o.b.as_ref(), &attention.o.w)?);
        }
        Ok(())
    }
}

/// Moves a norm's gain and bias into the maps that read it.
fn fold<'a>(norm: &mut Norm, readers: impl IntoIterator<Item = &'a mut Linear>) -> Result<()> {
    if !norm.is_some() {
        return Ok(());
    }
    let gain = wide(&norm.gain)?;
    for reader in readers {
        let w = wide(&reader.w)?.t()?.contiguous()?; // [d_out, d_model]
        if let Some(bias) = &norm.bias {
            let shift = ops::linear(&wide(bias)?.unsqueeze(0)?, &w.t()?, None)?.squeeze(0)?;
            reader.b = Some(plus(shift, reader.b.as_ref(), &reader.w)?);
        }
        let w = norm.centered(&ops::scale_rows(&w, &gain)?)?.t()?.contiguous()?;
        reader.w = narrowed(w, &reader.w)?;
    }
    norm.gain = norm.gain.ones_like()?;
    norm.bias = None;
    Ok(())
}

/// Takes the mean over outputs from a map.
fn center(linear: &mut Linear) -> Result<()> {
    linear.w = narrowed(ops::center(&wide(&linear.w)?)?, &linear.w)?;
    if let Some(b) = &mut linear.b {
        *b = narrowed(ops::center(&wide(b)?)?, b)?;
    }
    Ok(())
}

/// A bias with something added, in the type of `like`.
fn plus(shift: Tensor, bias: Option<&Tensor>, like: &Tensor) -> Result<Tensor> {
    let sum = match bias {
        Some(bias) => ops::add(&wide(bias)?, &shift)?,
        None => shift,
    };
    narrowed(sum, like)
}

fn wide(x: &Tensor) -> Result<Tensor> {
    Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.contiguous()?)
}

fn narrowed(x: Tensor, like: &Tensor) -> Result<Tensor> {
    Ok(x.to_dtype(like.dtype())?.to_device(like.device())?)
}
