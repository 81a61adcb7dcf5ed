//! The maps that heads are, as factors in f64: from what enters a head's norm to what joins the stream, and from what asks to
//! what is asked for.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::factored::{Factored, Matrix, matrix};
use crate::model::{Dense, Fold, Norm, NormKind, Transformer};

/// One layer's heads.
pub(super) struct Circuits {
    /// W_V·W_O of each head `[d_model, d_model]`.
    pub(super) ov: Vec<Factored>,
    /// scale · W_Q·W_Kᵀ of each head `[d_model, d_model]`: queries from the left, keys from the right. None where queries or
    /// keys are normed.
    pub(super) qk: Option<Vec<Factored>>,
}

impl Circuits {
    /// Gains of the norms before and behind attention are in them, biases are not; heads of one group share keys and values.
    pub(super) fn of(model: &Transformer, layer: usize) -> Result<Circuits> {
        let block = model.block(layer)?;
        let a = &block.attention;
        let (d_head, group) = (a.d_head, (a.n_heads / a.n_kv_heads.max(1)).max(1));
        let own = |w: &Matrix, head: usize| w.subcols(head * d_head, d_head).to_owned(); // [d_model, d_head]
        let (v, o) = (read(&block.ln1, &a.v.w)?, written(model, &block.ln1_post, &a.o.w)?);
        let ov = (0..a.n_heads)
            .map(|head| Factored::new(own(&v, head / group), o.subrows(head * d_head, d_head).to_owned()));
        let ov = ov.collect::<Result<_>>()?;
        if a.q_norm.is_some() || a.k_norm.is_some() {
            return Ok(Circuits { ov, qk: None });
        }
        let (q, k) = (read(&block.ln1, &a.q.w)? * a.scale, read(&block.ln1, &a.k.w)?);
        let qk = (0..a.n_heads)
            .map(|head| Factored::new(own(&q, head), own(&k, head / group).transpose().to_owned()));
        Ok(Circuits { ov, qk: Some(qk.collect::<Result<_>>()?) })
    }
}

/// What an MLP writes, from its neurons: W_out `[d_mlp, d_model]`.
pub(super) fn neurons(model: &Transformer, layer: usize, dense: &Dense) -> Result<Factored> {
    let out = written(model, &model.block(layer)?.ln2_post, &dense.out.w)?;
    let out = match &dense.norm {
        Some(norm) => behind(norm, out)?,
        None => out,
    };
    let d_model = out.ncols();
    Factored::new(out, Matrix::identity(d_model, d_model))
}

/// Whether the mean over d_model is taken out of all that is written: every reader is a LayerNorm, which does so itself.
pub(super) fn is_centred(model: &Transformer) -> bool {
    model.refuses(Fold::Writers).is_none()
}

/// A map `[d_model, d_out]` behind a norm: γ ⊙ W, and for LayerNorm without what reads the mean.
fn read(norm: &Norm, w: &Tensor) -> Result<Matrix> {
    behind(norm, dense(w)?)
}

/// The same of a matrix.
pub(super) fn behind(norm: &Norm, mut w: Matrix) -> Result<Matrix> {
    if !norm.is_some() {
        return Ok(w);
    }
    let gain = numbers(&norm.gain)?;
    for column in 0..w.ncols() {
        gain.iter().enumerate().for_each(|(row, gain)| w[(row, column)] *= gain);
    }
    if norm.kind == NormKind::Layer {
        center(&mut w);
    }
    Ok(w)
}

/// A map `[d_in, d_model]` that writes to the stream, through the norm that may stand behind it.
fn written(model: &Transformer, norm: &Norm, w: &Tensor) -> Result<Matrix> {
    let mut w = dense(w)?.transpose().to_owned(); // [d_model, d_in]
    if norm.kind == NormKind::Layer {
        center(&mut w);
    }
    if norm.is_some() {
        let gained = Norm { kind: NormKind::Rms, ..norm.clone() };
        w = behind(&gained, w)?;
    }
    if is_centred(model) {
        center(&mut w);
    }
    Ok(w.transpose().to_owned())
}

/// Takes from each column its mean.
fn center(w: &mut Matrix) {
    let rows = w.nrows();
    for column in 0..w.ncols() {
        let mean = (0..rows).map(|row| w[(row, column)]).sum::<f64>() / rows as f64;
        (0..rows).for_each(|row| w[(row, column)] -= mean);
    }
}

/// Two axes → a matrix.
pub(super) fn dense(x: &Tensor) -> Result<Matrix> {
    let (rows, columns) = x.dims2()?;
    matrix(&numbers(x)?, rows, columns)
}

pub(super) fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}
