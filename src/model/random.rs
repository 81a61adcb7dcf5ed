//! Models with random weights: the baseline that a trained model is compared with, and the subject of tests.
//!
//! Every tensor is random, gains and biases included, so that nothing is hidden by a one or a zero.

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Activation, Attention, Block, Config, Dense, Experts, HeadNorm, Layer, Linear, Mlp, MlpKind, Norm,
    NormKind, PositionKind, QkNorm, Rotary, RotaryScaling, Routing, Transformer,
};
use crate::error::Result;
use crate::ops::Pairs;

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
            d_vocab_out: 24,
            n_ctx: 32,
            layers: vec![Layer::plain(4)],
            ..Config::default()
        }
    }

    /// Its rotary cousin: RMSNorm, grouped queries (4 heads on 2 key-value heads), a gated MLP.
    pub fn tiny_rotary() -> Config {
        let (pairs, scaling) = (Pairs::Halves, RotaryScaling::None);
        let rotary = Some(Rotary { base: 10_000.0, dims: 4, pairs, scaling });
        Config {
            n_kv_heads: 2,
            norm: NormKind::Rms,
            norm_bias: false,
            positions: PositionKind::None,
            layers: vec![Layer { rotary, ..Layer::plain(4) }],
            activation: Activation::Silu,
            mlp: MlpKind::Gated,
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
        let embed = draw.tensor(&[c.d_vocab, c.d_model], 0.0, 1.0)?;
        let learned = c.positions != PositionKind::None;
        let pos_embed = learned.then(|| draw.tensor(&[c.n_ctx, c.d_model], 0.0, 0.5)).transpose()?;
        let blocks = (0..c.n_layers).map(|layer| draw.block(c, layer)).collect::<Result<_>>()?;
        let ln_final = draw.norm(c, c.d_model, c.final_norm)?;
        let unembed = draw.linear(c.d_model, c.d_vocab_out, 1.0, c.norm_bias)?;
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

    fn norm(&mut self, c: &Config, width: usize, there: bool) -> Result<Norm> {
        if !there || c.norm == NormKind::None {
            return Norm::none(&Tensor::zeros(1, self.dtype, &Device::Cpu)?);
        }
        let gain = match c.norm_gain {
            true => self.tensor(&[width], 1.0, 0.2)?,
            false => Tensor::ones(width, self.dtype, &Device::Cpu)?,
        };
        let bias = c.norm_bias.then(|| self.tensor(&[width], 0.0, 0.2)).transpose()?;
        Ok(Norm { kind: c.norm, eps: c.norm_eps, gain, bias })
    }

    fn block(&mut self, c: &Config, layer: usize) -> Result<Block> {
        let ln1 = self.norm(c, c.d_model, c.norm_before())?;
        let attention = self.attention(c, layer)?;
        let ln1_post = self.norm(c, c.d_model, c.norm_after())?;
        let ln2 = self.norm(c, c.d_model, c.norm_before())?;
        let mlp = match (c.mlp, c.routing(layer)) {
            (MlpKind::Absent, _) => Mlp::Absent,
            (_, None) => Mlp::Dense(self.dense(c, c.d_mlp)?),
            (_, Some(Routing { experts, per_token, renormalised, d_expert })) => Mlp::Experts(Experts {
                router: self.linear(c.d_model, experts, 1.0, c.norm_bias)?,
                experts: (0..experts).map(|_| self.dense(c, d_expert)).collect::<Result<_>>()?,
                per_token,
                renormalised,
            }),
        };
        let ln2_post = self.norm(c, c.d_model, c.norm_after())?;
        Ok(Block { wiring: c.wiring, ln1, attention, ln1_post, ln2, mlp, ln2_post })
    }

    fn attention(&mut self, c: &Config, layer: usize) -> Result<Attention> {
        let (width, kv_width) = (c.n_heads * c.d_head, c.n_kv_heads * c.d_head);
        let q = self.linear(c.d_model, width, 2.0, c.norm_bias)?;
        let k = self.linear(c.d_model, kv_width, 2.0, c.norm_bias)?;
        let v = self.linear(c.d_model, kv_width, 1.0, c.norm_bias)?;
        let o = self.linear(width, c.d_model, 1.0, c.norm_bias)?;
        let mut head_norm = |width: usize| -> Result<Option<HeadNorm>> {
            let (gains, whole) = match c.qk_norm {
                QkNorm::None => return Ok(None),
                QkNorm::Head => (c.d_head, false),
                QkNorm::EachHead => (width, false),
                QkNorm::Whole => (width, true),
            };
            Ok(Some(HeadNorm { norm: self.norm(c, gains, true)?, whole }))
        };
        let (q_norm, k_norm) = (head_norm(width)?, head_norm(kv_width)?);
        let sinks = c.sinks.then(|| (0..c.n_heads).map(|_| self.rng.random_range(-1.0..1.0)).collect());
        Ok(Attention { q_norm, k_norm, sinks, ..Attention::new(c, layer, [q, k, v, o]) })
    }

    fn dense(&mut self, c: &Config, width: usize) -> Result<Dense> {
        let gated = c.mlp == MlpKind::Gated;
        Ok(Dense {
            pre: self.linear(c.d_model, width, 1.0, c.norm_bias)?,
            linear: gated.then(|| self.linear(c.d_model, width, 1.0, c.norm_bias)).transpose()?,
            out: self.linear(width, c.d_model, 1.0, c.norm_bias)?,
            activation: c.activation,
            shift: None,
            limit: c.mlp_limit,
            norm: if c.mlp_norm { Some(self.norm(c, width, true)?) } else { None },
        })
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
