//! LayerNorm and RMSNorm, with their scale and normalised value as places.

use candle_core::Tensor;

use super::Tap;
use crate::error::Result;
use crate::ops;
use crate::site::{At, Site};

/// Which statistics a norm divides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Subtract the mean, divide by the standard deviation (Ba et al. 2016).
    Layer,
    /// Divide by the root mean square (Zhang & Sennrich 2019).
    Rms,
    /// No norm: what stands there is passed on as it is, and no site fires.
    None,
}

/// normalised = (x − mean) / scale, y = normalised · gain + bias.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Whether the mean is subtracted.
    pub kind: NormKind,
    /// Added to the mean square under the root.
    pub eps: f64,
    /// `[d_model]`; ones where the model has no gain.
    pub gain: Tensor,
    /// `[d_model]`.
    pub bias: Option<Tensor>,
}

impl Norm {
    /// No norm, where one could stand. `like` is any weight of the model.
    pub fn none(like: &Tensor) -> Result<Norm> {
        let gain = Tensor::ones(1, like.dtype(), like.device())?;
        Ok(Norm { kind: NormKind::None, eps: 0.0, gain, bias: None })
    }

    /// Whether there is a norm.
    pub fn is_some(&self) -> bool {
        self.kind != NormKind::None
    }

    /// x `[…, d_model]` → same shape. `scale` and `normalized` are the sites that fire.
    pub(super) fn forward(&self, x: &Tensor, tap: &mut Tap, scale: Site, normalized: Site) -> Result<Tensor> {
        if !tap.wants(scale) && !tap.wants(normalized) {
            return self.apply(x);
        }
        if !self.is_some() {
            return Ok(x.clone());
        }
        let x = self.centered(x)?;
        let s = tap.site(scale, ops::rms(&x, self.eps)?)?; // […, 1]
        let n = tap.site(normalized, ops::divide(&x, &s)?)?;
        self.gained(&n)
    }

    /// The norm with no site firing, in one step: the same bits.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref();
        Ok(match self.kind {
            NormKind::Layer => ops::layer_norm(x, &self.gain, bias, self.eps)?,
            NormKind::Rms => ops::rms_norm(x, &self.gain, bias, self.eps)?,
            NormKind::None => x.clone(),
        })
    }

    /// What a small change `dx` of x does to the norm's output, to first order: J(x)·dx, same shape. With c = centred x, n = c /
    /// scale and dc = centred dx: gain ⊙ (dc − n · mean(n ⊙ dc)) / scale.
    pub fn differential(&self, x: &Tensor, dx: &Tensor) -> Result<Tensor> {
        if !self.is_some() {
            return Ok(dx.clone());
        }
        let (c, dc) = (self.centered(x)?, self.centered(dx)?);
        let scale = ops::rms(&c, self.eps)?;
        let n = ops::divide(&c, &scale)?;
        ops::scale_rows(&ops::divide(&ops::without(&dc, &n)?, &scale)?, &self.gain).map_err(Into::into)
    }

    /// What a gradient `g` at the norm's output is at its input x: J(x)ᵀ·g, same shape: [`Norm::differential`] backwards, gain
    /// first.
    pub fn pullback(&self, x: &Tensor, g: &Tensor) -> Result<Tensor> {
        if !self.is_some() {
            return Ok(g.clone());
        }
        let c = self.centered(x)?;
        let scale = ops::rms(&c, self.eps)?;
        let n = ops::divide(&c, &scale)?;
        let gained = ops::scale_rows(g, &self.gain)?;
        self.centered(&ops::divide(&ops::without(&gained, &n)?, &scale)?)
    }

    /// x − mean(x) for LayerNorm, x itself otherwise.
    pub fn centered(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self.kind {
            NormKind::Layer => ops::center(x)?,
            NormKind::Rms | NormKind::None => x.clone(),
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

/// A norm of queries or keys, before any rotation.
#[derive(Debug, Clone)]
pub struct HeadNorm {
    /// Its gain is `[d_head]`, shared by the heads, or `[n_heads · d_head]`.
    pub norm: Norm,
    /// Whether the statistics are those of all heads together instead of each head's own.
    pub whole: bool,
}

impl HeadNorm {
    /// x `[batch, pos, head, d_head]` → same shape. The normalised value, before gain and bias, is the place.
    pub(super) fn forward(&self, x: &Tensor, tap: &mut Tap, at: At) -> Result<Tensor> {
        let (batch, pos, heads, d_head) = x.dims4()?;
        let x = if self.whole { x.reshape((batch, pos, heads * d_head))? } else { x.clone() };
        let x = self.norm.centered(&x)?;
        let n = ops::divide(&x, &ops::rms(&x, self.norm.eps)?)?;
        self.gained(&tap.at(at, n.reshape((batch, pos, heads, d_head))?)?)
    }

    /// Gain and bias, on normalised values `[batch, pos, head, d_head]`.
    pub(super) fn gained(&self, n: &Tensor) -> Result<Tensor> {
        let rows = n.reshape(((), self.norm.gain.elem_count()))?;
        Ok(self.norm.gained(&rows)?.reshape(n.shape())?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;

    #[test]
    fn what_is_pulled_back_is_the_gradient_and_the_differential_turned_round() {
        let draw = |shape: &[usize], mean| Tensor::randn(mean, 1f64, shape, &Device::Cpu).unwrap();
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for kind in [NormKind::Layer, NormKind::Rms, NormKind::None] {
            let like = Tensor::zeros(1, DType::F64, &Device::Cpu).unwrap();
            let norm = Norm { kind, eps: 0.1, gain: draw(&[7], 1.0), bias: Some(draw(&[7], 0.0)) };
            let norm = if kind == NormKind::None { Norm::none(&like).unwrap() } else { norm };
            let (x, g, dx) = (draw(&[3, 7], 0.5), draw(&[3, 7], 0.0), draw(&[3, 7], 0.0));
            let pulled = norm.pullback(&x, &g).unwrap();
            let var = Var::from_tensor(&x).unwrap();
            let grads = (norm.apply(&var).unwrap() * &g).unwrap().sum_all().unwrap().backward().unwrap();
            let off = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off(&flat(&pulled), &flat(grads.get(&var).unwrap())) < 1e-12, "{kind:?}");
            // g·(J dx) = (Jᵀ g)·dx
            let dot = |a: &Tensor, b: &Tensor| flat(a).iter().zip(flat(b)).map(|(a, b)| a * b).sum::<f64>();
            let there = dot(&g, &norm.differential(&x, &dx).unwrap());
            assert!((there - dot(&pulled, &dx)).abs() < 1e-12, "{kind:?}");
        }
    }
}
