//! Models with random weights: the baseline that a trained model is compared with, and the subject of tests.
//!
//! Every tensor is random, gains and biases included, so that nothing is hidden by a one or a zero.

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Activation, Attention, Block, Config, Linear, Mlp, Norm, NormKind, PositionKind, Rotary, RotaryScaling,
    Transformer,
};
use crate::error::Result;

impl Config {
    /// The smallest decoder worth looking at: learned positions, LayerNorm, a plain MLP; 2 layers of 4 heads.
    pub fn tiny() -> Config {
        Config {
            d_model: 16,
            n_layers: 2,
            n_heads: 4,
            n_kv_heads: 4,
            d_head: 4,
            d_mlp: 32,
            d_vocab: 24,
            n_ctx: 32,
            norm: NormKind::Layer,
            norm_eps: 1e-5,
            positions: PositionKind::Learned,
            activation: Activation::GeluTanh,
            gated_mlp: false,
            causal: true,
        }
    }

    /// Its rotary cousin: RMSNorm, grouped queries (4 heads on 2 key-value heads), a gated MLP.
    pub fn tiny_rotary() -> Config {
        let rotary = Rotary { base: 10_000.0, dims: 4, scaling: RotaryScaling::None };
        Config {
            n_kv_heads: 2,
            norm: NormKind::Rms,
            positions: PositionKind::Rotary(rotary),
            activation: Activation::Silu,
            gated_mlp: true,
            ..Config::tiny()
        }
    }
}

impl Transformer {
    /// A model of this shape on the CPU with every weight drawn at random; the same seed gives the same weights.
    ///
    /// Attention is far from uniform and logits have a spread of about one.
    pub fn random(config: Config, seed: u64, dtype: DType) -> Result<Transformer> {
        let mut draw = Draw { rng: ChaCha8Rng::seed_from_u64(seed), dtype };
        let c = &config;
        let rotary = match &c.positions {
            PositionKind::Learned => None,
            PositionKind::Rotary(rotary) => Some(rotary.clone()),
        };
        let biased = c.norm == NormKind::Layer;
        let (embed, learned) = (draw.tensor(&[c.d_vocab, c.d_model], 0.0, 1.0)?, rotary.is_none());
        let pos_embed = learned.then(|| draw.tensor(&[c.n_ctx, c.d_model], 0.0, 0.5)).transpose()?;
        let mut blocks = Vec::with_capacity(c.n_layers);
        for _ in 0..c.n_layers {
            let width = c.n_heads * c.d_head;
            let kv_width = c.n_kv_heads * c.d_head;
            blocks.push(Block {
                ln1: draw.norm(c)?,
                attention: Attention {
                    q: draw.linear(c.d_model, width, 2.0, biased)?,
                    k: draw.linear(c.d_model, kv_width, 2.0, biased)?,
                    v: draw.linear(c.d_model, kv_width, 1.0, biased)?,
                    o: draw.linear(width, c.d_model, 1.0, biased)?,
                    n_heads: c.n_heads,
                    n_kv_heads: c.n_kv_heads,
                    d_head: c.d_head,
                    scale: 1.0 / (c.d_head as f64).sqrt(),
                    causal: c.causal,
                    rotary: rotary.clone(),
                },
                ln2: draw.norm(c)?,
                mlp: Mlp {
                    pre: draw.linear(c.d_model, c.d_mlp, 1.0, biased)?,
                    linear: c.gated_mlp.then(|| draw.linear(c.d_model, c.d_mlp, 1.0, biased)).transpose()?,
                    out: draw.linear(c.d_mlp, c.d_model, 1.0, biased)?,
                    activation: c.activation,
                },
            });
        }
        let (ln_final, unembed) = (draw.norm(c)?, draw.linear(c.d_model, c.d_vocab, 1.0, biased)?);
        Ok(Transformer { config, embed, pos_embed, blocks, ln_final, unembed })
    }
}

struct Draw {
    rng: ChaCha8Rng,
    dtype: DType,
}

impl Draw {
    /// Uniform with this mean and standard deviation. Drawn in f64, so that types share their weights.
    fn tensor(&mut self, shape: &[usize], mean: f64, sd: f64) -> Result<Tensor> {
        let half_width = sd * 3f64.sqrt();
        let count = shape.iter().product();
        let values: Vec<f64> =
            (0..count).map(|_| mean + half_width * self.rng.random_range(-1.0..1.0)).collect();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.dtype)?)
    }

    /// Weights that keep the size of their input, times `gain`.
    fn linear(&mut self, d_in: usize, d_out: usize, gain: f64, bias: bool) -> Result<Linear> {
        let w = self.tensor(&[d_in, d_out], 0.0, gain / (d_in as f64).sqrt())?;
        let b = bias.then(|| self.tensor(&[d_out], 0.0, 0.3)).transpose()?;
        Ok(Linear { w, b })
    }

    fn norm(&mut self, config: &Config) -> Result<Norm> {
        let gain = self.tensor(&[config.d_model], 1.0, 0.2)?;
        let layer = config.norm == NormKind::Layer;
        let bias = layer.then(|| self.tensor(&[config.d_model], 0.0, 0.2)).transpose()?;
        Ok(Norm { kind: config.norm, eps: config.norm_eps, gain, bias })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_a_model() {
        for config in [Config::tiny(), Config::tiny_rotary()] {
            let logits = |seed| {
                let model = Transformer::random(config.clone(), seed, DType::F64).unwrap();
                let tokens = model.tokens(&[&[1, 2, 3]]).unwrap();
                model.forward(&tokens, &mut ()).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
            };
            assert_eq!(logits(7), logits(7));
            assert_ne!(logits(7), logits(8));
            let spread = logits(7).iter().map(|x| x * x).sum::<f64>() / 72.0;
            assert!((0.3..3.0).contains(&spread), "{spread}");
        }
    }
}
