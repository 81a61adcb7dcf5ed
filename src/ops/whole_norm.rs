//! A norm in one step, for passes in which nobody reads or writes its scale or its normalised value.
//!
//! Row by row the steps are those of `center`, `rms`, `divide`, `scale_rows` and `shift_rows` in the same order, so that
//! the results have the same bits.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::kernel::{Fill, Real, Zip, each_row, has_kernels, numbers, row_of, sum_by, zip};
use super::norm::{center, divide, rms, scale_rows, shift_rows};

/// x `[…, d]` → (x − mean) / √(mean((x − mean)²) + eps) · gain + bias, same shape; gain and bias `[d]` (Ba et al. 2016).
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    WholeNorm { centered: true, eps }.apply(x, gain, bias)
}

/// x `[…, d]` → x / √(mean(x²) + eps) · gain + bias, same shape; gain and bias `[d]` (Zhang & Sennrich 2019).
pub fn rms_norm(x: &Tensor, gain: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    WholeNorm { centered: false, eps }.apply(x, gain, bias)
}

#[derive(Clone, Copy)]
struct WholeNorm {
    centered: bool,
    eps: f64,
}

impl WholeNorm {
    fn apply(self, x: &Tensor, gain: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let fits = |v: &Tensor| v.dims().len() == 1 && v.dims().last() == x.dims().last();
        if !fits(gain) || !bias.is_none_or(fits) {
            let bias = bias.map(Tensor::dims);
            bail!("norm: rows of {:?}, a gain {:?} and a bias {bias:?} do not fit", x.dims(), gain.dims());
        }
        match bias {
            _ if !has_kernels(x) => {
                let y = scale_rows(&self.normalized(x)?, gain)?;
                bias.map_or(Ok(y.clone()), |bias| shift_rows(&y, bias))
            }
            None => x.contiguous()?.apply_op2(&gain.contiguous()?, self),
            Some(bias) => x.contiguous()?.apply_op3(&gain.contiguous()?, &bias.contiguous()?, self),
        }
    }

    /// Before gain and bias.
    fn normalized(self, x: &Tensor) -> Result<Tensor> {
        let x = if self.centered { center(x)? } else { x.clone() };
        divide(&x, &rms(&x, self.eps)?)
    }

    /// What is subtracted from a row.
    #[inline(always)]
    fn mean<T: Real>(self, x: &[T]) -> T {
        if self.centered { sum_by(x.len(), |i| x[i]) / T::of(x.len() as f64) } else { T::ZERO }
    }

    fn forward(
        self,
        (x, layout): (&CpuStorage, &Layout),
        gain: (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let out = match x {
            CpuStorage::F32(_) => CpuStorage::F32(self.rows((x, layout), gain, bias)?),
            CpuStorage::F64(_) => CpuStorage::F64(self.rows((x, layout), gain, bias)?),
            _ => bail!("norm takes f32 or f64"),
        };
        Ok((out, layout.shape().clone()))
    }

    fn rows<T: Real>(
        self,
        x: (&CpuStorage, &Layout),
        gain: (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<Vec<T>> {
        let (x, gain): (&[T], &[T]) = (numbers(x.0, x.1)?, numbers(gain.0, gain.1)?);
        let bias: Option<&[T]> = bias.map(|bias| numbers(bias.0, bias.1)).transpose()?;
        let (mut out, width) = (vec![T::ZERO; x.len()], gain.len());
        each_row(&mut out, width, &Rows { norm: self, x, gain, bias });
        Ok(out)
    }

    /// To x, and to gain and bias where they are variables.
    fn gradients(self, x: &Tensor, gain: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let to_x = if x.track_op() { Some(zip(x, &scale_rows(grad, gain)?, self)?) } else { None };
        let to_gain =
            if gain.track_op() { Some(over_rows(&(grad * self.normalized(x)?)?, gain)?) } else { None };
        Ok((to_x, to_gain))
    }
}

struct Rows<'a, T> {
    norm: WholeNorm,
    x: &'a [T],
    gain: &'a [T],
    bias: Option<&'a [T]>,
}

impl<T: Real> Fill<T> for Rows<'_, T> {
    #[inline(always)]
    fn fill(&self, row: usize, out: &mut [T]) {
        let (norm, x) = (self.norm, row_of(self.x, row, self.gain.len()));
        let mean = norm.mean(x);
        let centered = |x: T| if norm.centered { x - mean } else { x };
        let square = sum_by(x.len(), |i| centered(x[i]) * centered(x[i])) / T::of(x.len() as f64);
        let scale = (square + T::of(norm.eps)).sqrt_();
        let scaled = out.iter_mut().zip(x).zip(self.gain);
        match self.bias {
            None => scaled.for_each(|((y, &x), &gain)| *y = centered(x) / scale * gain),
            Some(bias) => {
                scaled.zip(bias).for_each(|(((y, &x), &gain), &bias)| *y = centered(x) / scale * gain + bias);
            }
        }
    }
}

fn over_rows(x: &Tensor, like: &Tensor) -> Result<Tensor> {
    x.reshape(((), like.elem_count()))?.sum(0)
}

/// The gradient, with c = x − mean (or x), s the scale and g what comes to the normalised value: (g − mean(g) − c · mean(g ⊙
/// c) / s²) / s, without mean(g) where none was subtracted.
impl Zip for WholeNorm {
    const NAME: &'static str = "norm backward";

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], grad: &[T], out: &mut [T], _: usize) {
        let (mean, d) = (self.mean(x), T::of(x.len() as f64));
        let square = sum_by(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / d + T::of(self.eps);
        let along = sum_by(x.len(), |i| (x[i] - mean) * grad[i]) / d / square;
        let (mean_grad, scale) = (self.mean(grad), square.sqrt_());
        for ((y, &x), &g) in out.iter_mut().zip(x).zip(grad) {
            *y = (g - mean_grad - (x - mean) * along) / scale;
        }
    }
}

impl CustomOp2 for WholeNorm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((s1, l1), (s2, l2), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, gain, grad)
    }
}

impl CustomOp3 for WholeNorm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((s1, l1), (s2, l2), Some((s3, l3)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (to_x, to_gain) = self.gradients(x, gain, grad)?;
        let to_bias = if bias.track_op() { Some(over_rows(grad, bias)?) } else { None };
        Ok((to_x, to_gain, to_bias))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::check::{alike, noise};
    use super::*;
    use candle_core::DType;

    #[test]
    fn composites_equal_kernels() {
        let x = [noise(&[3, 7, 11], 0.0), noise(&[11], 3.0), noise(&[11], 5.0)];
        alike("layer norm", &x, |x| layer_norm(&x[0], &x[1], Some(&x[2]), 1e-3));
        alike("layer norm without bias", &x[..2], |x| layer_norm(&x[0], &x[1], None, 1e-3));
        alike("rms norm", &x, |x| rms_norm(&x[0], &x[1], Some(&x[2]), 1e-3));
        alike("rms norm without bias", &x[..2], |x| rms_norm(&x[0], &x[1], None, 1e-3));
    }

    #[test]
    fn one_step_and_five_have_the_same_bits() {
        for dtype in [DType::F32, DType::F64] {
            for width in [1, 5, 8, 64, 771] {
                let of = |shape: &[usize], salt| noise(shape, salt).to_dtype(dtype).unwrap();
                let (x, gain, bias) = (of(&[40, width], 0.2), of(&[width], 0.4), of(&[width], 0.6));
                for norm in
                    [WholeNorm { centered: true, eps: 1e-5 }, WholeNorm { centered: false, eps: 1e-6 }]
                {
                    let scaled = scale_rows(&norm.normalized(&x).unwrap(), &gain).unwrap();
                    let bits = |x: Tensor| -> Vec<f64> {
                        x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
                    };
                    assert_eq!(bits(norm.apply(&x, &gain, None).unwrap()), bits(scaled.clone()));
                    let shifted = shift_rows(&scaled, &bias).unwrap();
                    assert_eq!(bits(norm.apply(&x, &gain, Some(&bias)).unwrap()), bits(shifted));
                }
            }
        }
    }
}
