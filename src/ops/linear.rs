//! Products. Weights are `[d_in, d_out]`; the left side is folded to two axes and made contiguous.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, CustomOp3, Layout, MetalStorage, Result, Shape, Tensor, bail,
};

use super::kernel::{Fill, Real, each_row, has_kernels, numbers};
use super::memory::keep_freed;

/// x `[…, d_in]`, w `[d_in, d_out]`, b `[d_out]` → `[…, d_out]` = x·w + b.
///
/// The backward pass computes no gradient for a weight that is not a variable: candle's own would compute and keep one
/// for every weight of the model. A single row is computed as two equal ones, because the product of one row takes
/// another kernel that rounds differently: with that, results do not depend on how many rows are batched together.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    keep_freed();
    let (d_in, d_out) = w.dims2()?;
    let mut dims = x.dims().to_vec();
    match dims.last_mut() {
        Some(last) if *last == d_in => *last = d_out,
        _ => bail!("linear: input {:?} does not end in {d_in}", x.dims()),
    }
    let rows = x.elem_count() / d_in.max(1);
    let flat = x.reshape((rows, d_in))?.contiguous()?;
    let flat = if rows == 1 { Tensor::cat(&[&flat, &flat], 0)? } else { flat };
    let w = if is_by_rows(w) { w.clone() } else { w.contiguous()? };
    let y = match b {
        None => flat.apply_op2(&w, Linear)?,
        Some(b) if has_kernels(&flat) => flat.apply_op3(&w, b, Linear)?,
        Some(b) => flat.apply_op2(&w, Linear)?.broadcast_add(b)?,
    };
    let y = if rows == 1 { y.narrow(0, 0, 1)? } else { y };
    y.reshape(dims)
}

/// Whether each row of a weight lies together, if not right behind the row before.
fn is_by_rows(w: &Tensor) -> bool {
    matches!((w.stride(), w.dims()), (&[row, 1], &[_, d_out]) if row >= d_out)
}

/// A weight `[d_in, d_out]` laid out for products: rows that are whole pages long get some space between them, because
/// numbers at the same place of such rows fall on the same few lines of the cache. Products of few rows take up to half the
/// time with that. All else is returned as it is, and so are the numbers.
pub fn spaced(w: &Tensor) -> Result<Tensor> {
    const PAGE: usize = 4096;
    const LINE: usize = 64;
    let (d_in, d_out) = w.dims2()?;
    let size = w.dtype().size_in_bytes();
    if !has_kernels(w) || d_out == 0 || !(d_out * size).is_multiple_of(PAGE) {
        return Ok(w.clone());
    }
    let space = Tensor::zeros((d_in, LINE / size), w.dtype(), w.device())?;
    Tensor::cat(&[w, &space], 1)?.narrow(1, 0, d_out)
}

/// a `[…, m, k]`, b `[…, k, n]` with equal leading axes → `[…, m, n]`.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.contiguous()?.apply_op2(&b.contiguous()?, MatMul)
}

/// g `[head, rows, d_head]`, w `[d_in, head · d_head]` → `[head, rows, d_in]`: what comes back to the input of each head's own product
/// with its columns of w.
pub fn back_by_head(g: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (heads, _, d_head) = g.dims3()?;
    let by_head = w.contiguous()?.reshape((w.dim(0)?, heads, d_head))?.permute((1, 2, 0))?;
    product(&g.contiguous()?, &by_head)
}

/// a `[batch, m, k]`, b `[batch, n, k]` → a·bᵀ `[batch, m, n]`, for values through which no gradient passes: neither side is
/// copied, though they be parts of larger tensors.
pub fn inner(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let whole = |x: &Tensor| if x.stride().contains(&0) { x.contiguous() } else { Ok(x.clone()) };
    product(&whole(a)?.detach(), &whole(b)?.detach().t()?)
}

/// The one door to candle's product. Neither side may be a broadcast (stride-0) view.
#[expect(clippy::disallowed_methods, reason = "the only caller; both sides are checked or contiguous")]
fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.matmul(b)
}

#[derive(Clone, Copy)]
struct Linear;

impl Linear {
    /// The device's own product: the same on every one.
    fn forward<S: BackendStorage>(s1: &S, l1: &Layout, s2: &S, l2: &Layout) -> Result<(S, Shape)> {
        let ((m, k), (_, n)) = (l1.shape().dims2()?, l2.shape().dims2()?);
        Ok((s1.matmul(s2, (1, m, n, k), l1, l2)?, (m, n).into()))
    }

    fn gradients(x: &Tensor, w: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let to_x = if x.track_op() { Some(product(&grad, &w.t()?)?) } else { None };
        let to_w = if w.track_op() { Some(product(&x.t()?, &grad)?) } else { None };
        Ok((to_x, to_w))
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Self::forward(s1, l1, s2, l2)
    }

    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Self::forward(s1, l1, s2, l2)
    }

    fn metal_fwd(
        &self,
        s1: &MetalStorage,
        l1: &Layout,
        s2: &MetalStorage,
        l2: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        Self::forward(s1, l1, s2, l2)
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Self::gradients(x, w, grad)
    }
}

/// A bias, added to every row.
struct Bias<'a, T>(&'a [T]);

impl<T: Real> Fill<T> for Bias<'_, T> {
    #[inline(always)]
    fn fill(&self, _: usize, out: &mut [T]) {
        out.iter_mut().zip(self.0).for_each(|(y, &b)| *y += b);
    }
}

fn add_bias<T: Real>(y: &mut [T], b: &[T]) {
    each_row(y, b.len(), &Bias(b));
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        let (mut y, shape) = Self::forward(s1, l1, s2, l2)?;
        match (&mut y, s3) {
            (CpuStorage::F32(y), CpuStorage::F32(_)) => add_bias(y, numbers(s3, l3)?),
            (CpuStorage::F64(y), CpuStorage::F64(_)) => add_bias(y, numbers(s3, l3)?),
            _ => bail!("linear: weight and bias differ in dtype"),
        }
        Ok((y, shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (to_x, to_w) = Self::gradients(x, w, grad)?;
        let to_b = if b.track_op() { Some(grad.sum(0)?) } else { None };
        Ok((to_x, to_w, to_b))
    }
}

/// A product of two activations; gradients are made contiguous first (see the trap in `product`).
struct MatMul;

impl MatMul {
    fn forward<S: BackendStorage>(s1: &S, l1: &Layout, s2: &S, l2: &Layout) -> Result<(S, Shape)> {
        let (a, b) = (l1.dims(), l2.dims());
        let fits = a.len() == b.len() && a.len() >= 2 && a[..a.len() - 2] == b[..b.len() - 2];
        if !fits || a[a.len() - 1] != b[b.len() - 2] {
            bail!("matmul: shapes {a:?} and {b:?} do not fit");
        }
        let (batch, m, k) = (a[..a.len() - 2].iter().product(), a[a.len() - 2], a[a.len() - 1]);
        let n = b[b.len() - 1];
        let mut dims = a.to_vec();
        dims[a.len() - 1] = n;
        Ok((s1.matmul(s2, (batch, m, n, k), l1, l2)?, dims.into()))
    }
}

impl CustomOp2 for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Self::forward(s1, l1, s2, l2)
    }

    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Self::forward(s1, l1, s2, l2)
    }

    fn metal_fwd(
        &self,
        s1: &MetalStorage,
        l1: &Layout,
        s2: &MetalStorage,
        l2: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        Self::forward(s1, l1, s2, l2)
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let to_a = if a.track_op() { Some(product(&grad, &b.t()?)?) } else { None };
        let to_b = if b.track_op() { Some(product(&a.t()?, &grad)?) } else { None };
        Ok((to_a, to_b))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::check::{alike, noise};
    use super::*;
    use candle_core::{DType, Var};

    #[test]
    fn what_comes_back_by_head_is_the_gradient_of_its_product() {
        let (heads, rows, d_in, d_head) = (3, 4, 5, 2);
        let (w, g) = (noise(&[d_in, heads * d_head], 1.0), noise(&[heads, rows, d_head], 2.0));
        let found = back_by_head(&g, &w).unwrap().to_vec3::<f64>().unwrap();
        let (w, g) = (w.to_vec2::<f64>().unwrap(), g.to_vec3::<f64>().unwrap());
        for (head, row, i) in (0..heads * rows * d_in).map(|k| (k / d_in / rows, k / d_in % rows, k % d_in)) {
            let naive: f64 = (0..d_head).map(|j| g[head][row][j] * w[i][head * d_head + j]).sum();
            assert!((found[head][row][i] - naive).abs() < 1e-12);
        }
    }

    #[test]
    fn an_inner_product_takes_parts_of_tensors_as_they_lie() {
        let (a, b) = (noise(&[2, 7, 5], 1.0).narrow(1, 2, 4).unwrap(), noise(&[2, 3, 5], 2.0));
        let wide = Tensor::ones((2, 1, 5), candle_core::DType::F64, &candle_core::Device::Cpu).unwrap();
        for b in [b, wide.broadcast_as((2, 3, 5)).unwrap()] {
            let found = inner(&a, &b).unwrap().to_vec3::<f64>().unwrap();
            let (a, b) = (a.to_vec3::<f64>().unwrap(), b.to_vec3::<f64>().unwrap());
            for (row, i, j) in (0..24).map(|k| (k / 12, k / 3 % 4, k % 3)) {
                let naive: f64 = a[row][i].iter().zip(&b[row][j]).map(|(a, b)| a * b).sum();
                assert!((found[row][i][j] - naive).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn composites_equal_kernels() {
        for rows in [1, 6] {
            let (x, w, b) = (noise(&[rows, 5], 0.0), noise(&[5, 4], 1.0), noise(&[4], 2.0));
            alike("linear", &[x.clone(), w.clone(), b], |x| linear(&x[0], &x[1], Some(&x[2])));
            alike("linear without bias", &[x, w], |x| linear(&x[0], &x[1], None));
        }
    }

    #[test]
    fn space_between_the_rows_of_a_weight_changes_no_bit() {
        let of = |shape: &[usize], salt| noise(shape, salt).to_dtype(DType::F32).unwrap();
        let (w, b) = (of(&[70, 1024], 0.4), of(&[1024], 0.5));
        let apart = spaced(&w).unwrap();
        assert_eq!((apart.dims(), apart.stride()), (w.dims(), &[1040, 1][..]));
        for rows in [1, 2, 9, 40, 130] {
            let x = Var::from_tensor(&of(&[rows, 70], 0.1)).unwrap();
            let run = |w: &Tensor| -> Vec<Vec<Vec<f32>>> {
                let y = linear(&x, w, Some(&b)).unwrap();
                let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                [&y, grads.get(&x).unwrap()].map(|x| x.to_vec2().unwrap()).to_vec()
            };
            assert_eq!(run(&w), run(&apart), "{rows} rows");
        }
        let narrow = of(&[70, 1000], 0.4);
        assert!(spaced(&narrow).unwrap().is_contiguous());
    }
}
