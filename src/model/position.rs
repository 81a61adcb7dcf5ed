//! How a model knows where a token stands.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;

/// The positional scheme.
#[derive(Debug, Clone, PartialEq)]
pub enum PositionKind {
    /// A learned vector per position, added to the token embedding.
    Learned,
    /// Queries and keys are rotated by an angle that grows with the position.
    Rotary(Rotary),
}

/// Rotary angles (Su et al. 2021).
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// θ: the base of the geometric series of wavelengths.
    pub base: f64,
    /// How many entries of each head are rotated.
    pub dims: usize,
    /// How frequencies are stretched for long contexts.
    pub scaling: RotaryScaling,
}

/// Ways to stretch rotary frequencies.
#[derive(Debug, Clone, PartialEq)]
pub enum RotaryScaling {
    /// As trained.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, smooth in between.
    Llama3 {
        /// The divisor of long wavelengths.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length of the original training.
        original: f64,
    },
}

impl Rotary {
    /// One frequency (radians per position) for each rotated pair.
    pub fn frequencies(&self) -> Vec<f64> {
        let pairs = self.dims / 2;
        let plain = (0..pairs).map(|i| self.base.powf(-2.0 * i as f64 / self.dims as f64));
        plain.map(|freq| self.scaling.apply(freq)).collect()
    }

    /// cos and sin `[…, dims/2]` of positions `[…]`. Angles are computed in f64.
    pub(super) fn tables(&self, positions: &Tensor, dtype: DType) -> Result<(Tensor, Tensor)> {
        let freqs = self.frequencies();
        let at: Vec<u32> = positions.flatten_all()?.to_vec1()?;
        let angles = at.iter().flat_map(|&pos| freqs.iter().map(move |freq| f64::from(pos) * freq));
        let (cos, sin): (Vec<f64>, Vec<f64>) = angles.map(|a| (a.cos(), a.sin())).unzip();
        let shape = [positions.dims(), &[freqs.len()]].concat();
        let table = |v: Vec<f64>| -> Result<Tensor> {
            let table = Tensor::from_vec(v, shape.as_slice(), &Device::Cpu)?;
            Ok(table.to_dtype(dtype)?.to_device(positions.device())?)
        };
        Ok((table(cos)?, table(sin)?))
    }
}

impl RotaryScaling {
    fn apply(&self, freq: f64) -> f64 {
        match *self {
            RotaryScaling::None => freq,
            RotaryScaling::Linear { factor } => freq / factor,
            RotaryScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
                let wavelength = std::f64::consts::TAU / freq;
                if wavelength < original / high_freq_factor {
                    freq
                } else if wavelength > original / low_freq_factor {
                    freq / factor
                } else {
                    let smooth =
                        (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * freq / factor + smooth * freq
                }
            }
        }
    }
}
