//! Rotary position embedding (Su et al. 2021).

use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};

use super::kernel::{Fill, Real, each_row, has_kernels, numbers, row_of};

/// Which entries of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// (i, i + d/2).
    Halves,
    /// (2i, 2i + 1).
    Adjacent,
}

/// Rotates pairs of the first `d` entries of each head by the angle of its position.
///
/// x `[batch, pos, head, d_head]`; cos, sin `[pos, d/2]`, or `[batch, pos, d/2]`, of the positions of `x` → same shape as
/// `x`.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor, pairs: Pairs) -> Result<Tensor> {
    let ((.., heads, d_head), half) = (x.dims4()?, cos.dim(D::Minus1)?);
    let (rows, angles) = (x.elem_count() / (heads * d_head).max(1), cos.elem_count() / half.max(1));
    if cos.dims() != sin.dims() || 2 * half > d_head || angles == 0 || rows % angles != 0 {
        bail!("rotate: {:?} by angles {:?} and {:?}", x.dims(), cos.dims(), sin.dims());
    }
    if has_kernels(x) {
        x.contiguous()?.apply_op3(&cos.contiguous()?, &sin.contiguous()?, Rotate { pairs })
    } else {
        composite(x, cos, sin, pairs)
    }
}

/// The same in candle's own operations.
fn composite(x: &Tensor, cos: &Tensor, sin: &Tensor, pairs: Pairs) -> Result<Tensor> {
    let half = cos.dim(D::Minus1)?;
    let over_heads = |x: &Tensor| x.unsqueeze(x.rank() - 1); // [pos, 1, d/2] or [batch, pos, 1, d/2]
    let (cos, sin) = (over_heads(cos)?, over_heads(sin)?);
    let turned = x.narrow(D::Minus1, 0, 2 * half)?;
    let (a, b) = match pairs {
        Pairs::Halves => (turned.narrow(D::Minus1, 0, half)?, turned.narrow(D::Minus1, half, half)?),
        Pairs::Adjacent => {
            let (batch, pos, heads, _) = turned.dims4()?;
            let pairs = turned.reshape((batch, pos, heads, half, 2))?;
            (pairs.narrow(4, 0, 1)?.squeeze(4)?, pairs.narrow(4, 1, 1)?.squeeze(4)?)
        }
    };
    let turned_a = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let turned_b = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    let turned = match pairs {
        Pairs::Halves => Tensor::cat(&[turned_a, turned_b], D::Minus1)?,
        Pairs::Adjacent => Tensor::stack(&[turned_a, turned_b], 4)?.reshape(turned.shape())?,
    };
    let rest = x.dim(D::Minus1)? - 2 * half;
    if rest == 0 {
        Ok(turned)
    } else {
        Tensor::cat(&[turned, x.narrow(D::Minus1, 2 * half, rest)?], D::Minus1)
    }
}

#[derive(Clone, Copy)]
struct Rotate {
    pairs: Pairs,
}

/// Heads `[row, d_head]`, and the angles `[angle, d/2]` that they are turned by.
struct Heads<'a, T> {
    pairs: Pairs,
    x: &'a [T],
    cos: &'a [T],
    sin: &'a [T],
    heads: usize,
    half: usize,
}

impl<T: Real> Fill<T> for Heads<'_, T> {
    #[inline(always)]
    fn fill(&self, row: usize, out: &mut [T]) {
        let x = row_of(self.x, row, out.len());
        let angle = row / self.heads % (self.cos.len() / self.half);
        let (cos, sin) = (row_of(self.cos, angle, self.half), row_of(self.sin, angle, self.half));
        let (turned, rest) = out.split_at_mut(2 * self.half);
        let (x, kept) = x.split_at(2 * self.half);
        rest.copy_from_slice(kept);
        match self.pairs {
            Pairs::Halves => {
                let ((a, b), (turned_a, turned_b)) = (x.split_at(self.half), turned.split_at_mut(self.half));
                for (((y, &a), &b), (&cos, &sin)) in
                    turned_a.iter_mut().zip(a).zip(b).zip(cos.iter().zip(sin))
                {
                    *y = a * cos - b * sin;
                }
                for (((y, &a), &b), (&cos, &sin)) in
                    turned_b.iter_mut().zip(a).zip(b).zip(cos.iter().zip(sin))
                {
                    *y = b * cos + a * sin;
                }
            }
            Pairs::Adjacent => {
                let pairs = turned.as_chunks_mut().0.iter_mut().zip(x.as_chunks().0);
                for ((y, &[a, b]), (&cos, &sin)) in pairs.zip(cos.iter().zip(sin)) {
                    *y = [a * cos - b * sin, b * cos + a * sin];
                }
            }
        }
    }
}

impl Rotate {
    fn run<T: Real>(self, [x, cos, sin]: [(&CpuStorage, &Layout); 3]) -> Result<Vec<T>> {
        let ((.., heads, d_head), half) = (x.1.shape().dims4()?, cos.1.dims().last().copied().unwrap_or(0));
        let x: &[T] = numbers(x.0, x.1)?;
        let (cos, sin) = (numbers(cos.0, cos.1)?, numbers(sin.0, sin.1)?);
        let mut out = vec![T::ZERO; x.len()];
        each_row(&mut out, d_head, &Heads { pairs: self.pairs, x, cos, sin, heads, half });
        Ok(out)
    }
}

impl CustomOp3 for Rotate {
    fn name(&self) -> &'static str {
        "rotate"
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
        let inputs = [(s1, l1), (s2, l2), (s3, l3)];
        let out = match s1 {
            CpuStorage::F32(_) => CpuStorage::F32(self.run(inputs)?),
            CpuStorage::F64(_) => CpuStorage::F64(self.run(inputs)?),
            _ => bail!("rotate takes f32 or f64"),
        };
        Ok((out, l1.shape().clone()))
    }

    /// Turned back; angles are constants.
    fn bwd(
        &self,
        _: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((Some(rotate(grad, cos, &sin.neg()?, self.pairs)?), None, None))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::check::{alike, noise};
    use super::*;
    use candle_core::DType;

    #[test]
    fn composites_equal_kernels() {
        for pairs in [Pairs::Halves, Pairs::Adjacent] {
            for angles in [vec![3, 4], vec![2, 3, 4]] {
                let turned = |x: &[Tensor]| {
                    let angle = |salt| noise(&angles, salt).to_dtype(x[0].dtype());
                    rotate(&x[0], &angle(0.4)?, &angle(0.8)?, pairs)
                };
                alike("rotate", &[noise(&[2, 3, 2, 8], 0.1)], turned);
                alike("rotate a part", &[noise(&[2, 3, 2, 11], 0.1)], turned);
            }
        }
        let (x, angle) = (noise(&[2, 3, 2, 8], 0.1), noise(&[4, 4], 0.2));
        assert!(rotate(&x, &angle, &angle, Pairs::Halves).is_err());
        assert!(rotate(&x, &angle.to_dtype(DType::F32).unwrap(), &angle, Pairs::Halves).is_err());
    }
}
