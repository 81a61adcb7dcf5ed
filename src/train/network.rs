//! The model being trained: variables in the order they are drawn, seen as a `Transformer`, and whole for GPT-2's files.

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::adamw::Parameter;
use super::recipe::Recipe;
use crate::error::Result;
use crate::model::{Attention, Block, Config, Dense, Linear, Mlp, Norm, NormKind, Transformer};

/// Standard deviation of the first weights (Radford et al. 2019); what writes to the stream is divided by √(2·layers).
const SPREAD: f64 = 0.02;
const EPSILON: f64 = 1e-5;

/// The variables and the model that computes with them: an update of a variable is an update of the model.
pub struct Network {
    /// In the order in which they were drawn.
    pub parameters: Vec<Parameter>,
    /// The same weights. Its last block has an MLP of one neuron that writes nothing.
    pub model: Transformer,
}

/// Makes parameters and hands out the tensors that share their memory.
struct Maker {
    rng: ChaCha8Rng,
    parameters: Vec<Parameter>,
}

impl Maker {
    fn add(&mut self, name: &str, value: Tensor) -> Result<Tensor> {
        let parameter = Parameter::new(name, &value)?;
        let tensor = parameter.var.as_tensor().clone();
        self.parameters.push(parameter);
        Ok(tensor)
    }

    /// Normal, by Box and Muller.
    fn normal(&mut self, name: &str, rows: usize, columns: usize, sd: f64) -> Result<Tensor> {
        let mut draw = || {
            let (u, angle): (f64, f64) = (1.0 - self.rng.random::<f64>(), self.rng.random());
            (sd * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
        };
        let values: Vec<f32> = (0..rows * columns).map(|_| draw()).collect();
        self.add(name, Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
    }

    fn linear(&mut self, name: &str, d_in: usize, d_out: usize, sd: f64) -> Result<Linear> {
        let w = self.normal(&format!("{name}.weight"), d_in, d_out, sd)?;
        let b = self.add(&format!("{name}.bias"), Tensor::zeros(d_out, DType::F32, &Device::Cpu)?)?;
        Ok(Linear { w, b: Some(b) })
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<Norm> {
        let gain = self.add(&format!("{name}.weight"), Tensor::ones(width, DType::F32, &Device::Cpu)?)?;
        let bias = self.add(&format!("{name}.bias"), Tensor::zeros(width, DType::F32, &Device::Cpu)?)?;
        Ok(Norm { kind: NormKind::Layer, eps: EPSILON, gain, bias: Some(bias) })
    }
}

impl Network {
    /// The first weights of a recipe, drawn from its seed.
    pub fn new(recipe: &Recipe, d_vocab: usize) -> Result<Network> {
        let m = &recipe.model;
        let (d, cpu) = (m.d_model, &Device::Cpu);
        let config = Config {
            d_model: d,
            n_layers: m.layers,
            n_heads: m.heads,
            n_kv_heads: m.heads,
            d_head: d / m.heads,
            d_mlp: m.d_mlp,
            d_vocab,
            d_vocab_out: d_vocab,
            n_ctx: m.context,
            norm_eps: EPSILON,
            ..Config::default()
        };
        let mut maker = Maker { rng: ChaCha8Rng::seed_from_u64(recipe.seed), parameters: Vec::new() };
        let small = SPREAD / (2.0 * m.layers as f64).sqrt();
        let embed = maker.normal("wte", d_vocab, d, SPREAD)?;
        let pos_embed = maker.normal("wpe", m.context, d, SPREAD)?;
        let mut blocks = Vec::with_capacity(m.layers);
        for layer in 0..m.layers {
            let at = |part: &str| format!("h.{layer}.{part}");
            let ln1 = maker.norm(&at("ln_1"), d)?;
            let weights = [
                maker.linear(&at("q"), d, d, SPREAD)?,
                maker.linear(&at("k"), d, d, SPREAD)?,
                maker.linear(&at("v"), d, d, SPREAD)?,
                maker.linear(&at("o"), d, d, small)?,
            ];
            let attention = Attention::new(&config, layer, weights);
            let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, cpu);
            let nothing = |d_in: usize, d_out: usize| -> Result<Linear> {
                Ok(Linear { w: zeros(&[d_in, d_out])?, b: Some(zeros(&[d_out])?) })
            };
            let (ln2, pre, out) = if layer + 1 < m.layers {
                (
                    maker.norm(&at("ln_2"), d)?,
                    maker.linear(&at("fc"), d, m.d_mlp, SPREAD)?,
                    maker.linear(&at("proj"), m.d_mlp, d, small)?,
                )
            } else {
                let ones = Tensor::ones(d, DType::F32, cpu)?;
                let norm = Norm { kind: NormKind::Layer, eps: EPSILON, gain: ones, bias: Some(zeros(&[d])?) };
                (norm, nothing(d, 1)?, nothing(1, d)?)
            };
            let mlp = Mlp::Dense(Dense::plain(pre, out, config.activation));
            blocks.push(Block::new(config.wiring, ln1, attention, ln2, mlp)?);
        }
        let ln_final = maker.norm("ln_f", d)?;
        let unembed = Linear { w: maker.normal("lm_head", d, d_vocab, SPREAD)?, b: None };
        let model = Transformer { config, embed, pos_embed: Some(pos_embed), blocks, ln_final, unembed };
        Ok(Network { parameters: maker.parameters, model })
    }

    /// The whole model: its last block with an MLP of full width that writes nothing, as GPT-2's layout wants it.
    pub fn full(&self) -> Result<Transformer> {
        let mut model = self.model.clone();
        let c = &model.config;
        if let Some(block) = model.blocks.last_mut() {
            let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
            let nothing = |d_in: usize, d_out: usize| -> Result<Linear> {
                Ok(Linear { w: zeros(&[d_in, d_out])?, b: Some(zeros(&[d_out])?) })
            };
            let (pre, out) = (nothing(c.d_model, c.d_mlp)?, nothing(c.d_mlp, c.d_model)?);
            block.mlp = Mlp::Dense(Dense::plain(pre, out, c.activation));
        }
        Ok(model)
    }
}
