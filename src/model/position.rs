//! How a model knows where a token stands.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::ops;

/// What is added for the position of a token, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionKind {
    /// Nothing: position enters in attention only, if at all.
    None,
    /// A learned vector, added to the token embedding.
    Learned,
    /// A learned vector, added to what queries and keys read, so that it never enters the stream (shortformer; Press et
    /// al. 2021).
    Shortformer,
}

/// Rotary angles (Su et al. 2021).
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// θ: the base of the geometric series of wavelengths.
    pub base: f64,
    /// How many entries of each head are rotated.
    pub dims: usize,
    /// Which entries turn together.
    pub pairs: ops::Pairs,
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
    /// The base grows with the text's length once that exceeds the original context ("dynamic NTK").
    Dynamic {
        /// How fast it grows.
        factor: f64,
        /// Context length of the original training.
        original: f64,
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
    /// YaRN (Peng et al. 2023): as Llama 3, with a ramp over the index of the frequency, and longer vectors.
    Yarn {
        /// The divisor of long wavelengths.
        factor: f64,
        /// Index of the frequency up to which none is divided.
        low: f64,
        /// Index from which on all are.
        high: f64,
        /// Context length of the original training.
        original: f64,
        /// Rotated vectors are multiplied by this.
        magnitude: f64,
    },
    /// LongRoPE (Ding et al. 2024): a divisor for each frequency, of two sets by the text's length.
    Long {
        /// Divisors up to the original context.
        short: Arc<[f64]>,
        /// Divisors beyond it.
        long: Arc<[f64]>,
        /// Context length of the original training.
        original: f64,
        /// Rotated vectors are multiplied by this.
        magnitude: f64,
    },
}

impl Rotary {
    /// One frequency (radians per position) for each rotated pair, in a text of this many tokens.
    pub fn frequencies(&self, length: usize) -> Vec<f64> {
        let base = self.scaling.base(self.base, self.dims, length);
        let plain = (0..self.dims / 2).map(|i| base.powf(-2.0 * i as f64 / self.dims as f64));
        plain.enumerate().map(|(i, freq)| self.scaling.apply(i, freq, length)).collect()
    }

    /// cos and sin `[…, dims/2]` of positions `[pos]` or `[batch, pos]`; `lengths` holds the number of tokens of each row's
    /// text, or one for all rows. Angles are computed in f64.
    pub(super) fn tables(
        &self,
        positions: &Tensor,
        lengths: &[usize],
        dtype: DType,
    ) -> Result<(Tensor, Tensor)> {
        let at: Vec<u32> = positions.flatten_all()?.to_vec1()?;
        let per_row = at.len().div_ceil(lengths.len().max(1)).max(1);
        let magnitude = self.scaling.magnitude();
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for (row, length) in at.chunks(per_row).zip(lengths) {
            let freqs = self.frequencies(*length);
            for angle in row.iter().flat_map(|&pos| freqs.iter().map(move |freq| f64::from(pos) * freq)) {
                cos.push(magnitude * angle.cos());
                sin.push(magnitude * angle.sin());
            }
        }
        let shape = [positions.dims(), &[self.dims / 2]].concat();
        let table = |v: Vec<f64>| -> Result<Tensor> {
            let table = Tensor::from_vec(v, shape.as_slice(), &Device::Cpu)?;
            Ok(table.to_dtype(dtype)?.to_device(positions.device())?)
        };
        Ok((table(cos)?, table(sin)?))
    }
}

impl RotaryScaling {
    /// Whether frequencies depend on how long the text is.
    pub fn by_length(&self) -> bool {
        matches!(self, RotaryScaling::Dynamic { .. } | RotaryScaling::Long { .. })
    }

    fn base(&self, base: f64, dims: usize, length: usize) -> f64 {
        match *self {
            RotaryScaling::Dynamic { factor, original } if length as f64 > original && dims > 2 => {
                let stretch = factor * length as f64 / original - (factor - 1.0);
                base * stretch.powf(dims as f64 / (dims as f64 - 2.0))
            }
            _ => base,
        }
    }

    fn magnitude(&self) -> f64 {
        match *self {
            RotaryScaling::Yarn { magnitude, .. } | RotaryScaling::Long { magnitude, .. } => magnitude,
            _ => 1.0,
        }
    }

    /// The `i`-th frequency.
    fn apply(&self, i: usize, freq: f64, length: usize) -> f64 {
        match self {
            RotaryScaling::None | RotaryScaling::Dynamic { .. } => freq,
            RotaryScaling::Linear { factor } => freq / factor,
            RotaryScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
                let wavelength = std::f64::consts::TAU / freq;
                if wavelength > original / low_freq_factor {
                    freq / factor
                } else if wavelength < original / high_freq_factor {
                    freq
                } else {
                    let smooth =
                        (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * freq / factor + smooth * freq
                }
            }
            RotaryScaling::Yarn { factor, low, high, .. } => {
                let divided = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                divided * freq / factor + (1.0 - divided) * freq
            }
            RotaryScaling::Long { short, long, original, .. } => {
                let set = if length as f64 > *original { long } else { short };
                freq / set.get(i).copied().unwrap_or(1.0)
            }
        }
    }
}

/// Linear biases of attention (ALiBi; Press et al. 2022).
#[derive(Debug, Clone, PartialEq)]
pub struct Slopes {
    /// What a score of each head loses per position of distance.
    pub per_head: Vec<f64>,
    /// Whether slopes, positions and their products are rounded to bfloat16, as some models compute them.
    pub rounded: bool,
    /// What the products are multiplied by then.
    pub factor: f64,
}

impl Slopes {
    /// The published slopes: a geometric series for a power of two of heads; for another number, those of the power
    /// below it and every other one of twice that power.
    pub fn new(n_heads: usize) -> Slopes {
        let series = |heads: usize, step: usize| {
            let root = (-8.0 / heads as f64).exp2();
            (1..).step_by(step).map(move |power| root.powi(power))
        };
        let whole = if n_heads == 0 { 1 } else { 1usize << n_heads.ilog2() };
        let per_head = series(whole, 1).take(whole).chain(series(2 * whole, 2)).take(n_heads).collect();
        Slopes { per_head, rounded: false, factor: 1.0 }
    }

    /// What is added to scores, for keys at up to this many positions.
    pub(super) fn table(&self, positions: usize) -> ops::Alibi {
        let round = |x: f64| if self.rounded { half::bf16::from_f64(x).to_f64() } else { x };
        let row = |&slope: &f64| {
            (0..positions).map(|pos| self.factor * round(round(slope) * round(pos as f64))).collect()
        };
        ops::Alibi { table: self.per_head.iter().map(row).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_the_published_ones() {
        assert_eq!(Slopes::new(8).per_head[..3], [0.5, 0.25, 0.125]);
        let twelve = Slopes::new(12).per_head;
        assert_eq!(twelve[..8], Slopes::new(8).per_head[..]);
        for (slope, power) in twelve[8..].iter().zip([0.5, 1.5, 2.5, 3.5]) {
            assert!((slope - f64::powf(2.0, -power)).abs() < 1e-12);
        }
    }
}
