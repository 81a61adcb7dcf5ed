//! LayerNorm and RMSNorm, with their scale and normalised value as places.

use candle_core::Tensor;

use super::Tap;
use crate::error::Result;
use crate::ops;
use crate::site::Site;

/// Which statistics a norm divides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Subtract the mean, divide by the standard deviation (Ba et al. 2016).
    Layer,
    /// Divide by the root mean square (Zhang & Sennrich 2019).
    Rms,
}

/// normalised = (x − mean) / scale, y = normalised · gain + bias.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Whether the mean is subtracted.
    pub kind: NormKind,
    /// Added to the mean square under the root.
    pub eps: f64,
    /// `[d_model]`.
    pub gain: Tensor,
    /// `[d_model]`.
    pub bias: Option<Tensor>,
}

impl Norm {
    /// x `[…, d_model]` → same shape. `scale` and `normalized` are the sites that fire.
    pub(super) fn forward(&self, x: &Tensor, tap: &mut Tap, scale: Site, normalized: Site) -> Result<Tensor> {
        let x = self.centered(x)?;
        let s = tap.site(scale, ops::rms(&x, self.eps)?)?; // […, 1]
        let n = tap.site(normalized, ops::divide(&x, &s)?)?;
        self.gained(&n)
    }

    /// The norm with no site firing.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.centered(x)?;
        self.gained(&ops::divide(&x, &ops::rms(&x, self.eps)?)?)
    }

    /// x − mean(x) for LayerNorm, x itself for RMSNorm.
    pub fn centered(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self.kind {
            NormKind::Layer => ops::center(x)?,
            NormKind::Rms => x.clone(),
        })
    }

    fn gained(&self, n: &Tensor) -> Result<Tensor> {
        let y = ops::scale_rows(n, &self.gain)?;
        Ok(match &self.bias {
            Some(bias) => ops::shift_rows(&y, bias)?,
            None => y,
        })
    }
}
