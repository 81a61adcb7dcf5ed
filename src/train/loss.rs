//! The two losses: of the next token, and of where supervised heads look.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor, bail};
use rayon::prelude::*;

use super::data::Batch;
use crate::error::Result;
use crate::hook::Hook;
use crate::site::{At, Site};

/// −mean log p(next token). logits `[batch, pos, d_vocab]`, tokens `[batch · pos]` → a single number. The last position
/// of a document has no next token.
pub fn next_token(logits: &Tensor, batch: &Batch) -> Result<Tensor> {
    let next = |cell: usize| (cell % batch.length + 1 < batch.length).then(|| batch.tokens[cell + 1]);
    let targets = Arc::new((0..batch.tokens.len()).map(next).collect::<Vec<_>>());
    Ok(logits.contiguous()?.apply_op1(NextToken(targets))?)
}

/// Fused softmax and cross-entropy; the target of each row, or none.
struct NextToken(Arc<Vec<Option<u32>>>);

impl NextToken {
    fn count(&self) -> f32 {
        self.0.iter().flatten().count().max(1) as f32
    }
}

impl CustomOp1 for NextToken {
    fn name(&self) -> &'static str {
        "next-token loss"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = numbers(storage, layout)?;
        let width = x.len() / self.0.len().max(1);
        let row = |(row, x): (usize, &[f32])| match self.0[row] {
            Some(target) => log_total(x) - x[target as usize],
            None => 0.0,
        };
        let rows: Vec<f32> = x.par_chunks(width).enumerate().map(row).collect();
        // summed in f64 and in one order, whatever the number of threads
        let mean = rows.iter().map(|&x| f64::from(x)).sum::<f64>() / f64::from(self.count());
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    /// (softmax − one-hot) / count.
    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let scale = grad.to_dtype(DType::F32)?.to_scalar::<f32>()? / self.count();
        let mut out = x.flatten_all()?.to_vec1::<f32>()?;
        let width = out.len() / self.0.len().max(1);
        out.par_chunks_mut(width).enumerate().for_each(|(row, x)| match self.0[row] {
            Some(target) => {
                let total = log_total(x);
                x.iter_mut().for_each(|x| *x = scale * (*x - total).exp());
                x[target as usize] -= scale;
            }
            None => x.fill(0.0),
        });
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

fn log_total(x: &[f32]) -> f32 {
    let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    top + x.iter().map(|x| (x - top).exp()).sum::<f32>().ln()
}

fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("a loss was given a strided view"),
    }
}

/// One term of the attention loss; indices are places in a pattern `[batch, head, query, key]`.
#[derive(Debug, Clone, Copy)]
enum Term {
    /// −w·ln a: look there.
    Toward(usize, f32),
    /// −w·ln(1 − a): do not look there.
    Away(usize, f32),
}

const EPSILON: f32 = 1e-6;
const MOST: f32 = 0.999;

impl Term {
    fn value(self, a: &[f32]) -> f32 {
        match self {
            Term::Toward(at, w) => -w * (a[at] + EPSILON).ln(),
            Term::Away(at, w) => -w * (1.0 - a[at].min(MOST)).ln(),
        }
    }

    fn slope(self, a: &[f32]) -> (usize, f32) {
        match self {
            Term::Toward(at, w) => (at, -w / (a[at] + EPSILON)),
            Term::Away(at, w) if a[at] < MOST => (at, w / (1.0 - a[at])),
            Term::Away(at, _) => (at, 0.0),
        }
    }
}

/// The terms of one layer, summed.
struct Attention(Arc<Vec<Term>>);

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention loss"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let a = numbers(storage, layout)?;
        let sum: f64 = self.0.iter().map(|term| f64::from(term.value(a))).sum();
        Ok((CpuStorage::F32(vec![sum as f32]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let scale = grad.to_dtype(DType::F32)?.to_scalar::<f32>()?;
        let a = x.flatten_all()?.to_vec1::<f32>()?;
        let mut out = vec![0.0; a.len()];
        for term in self.0.iter() {
            let (at, slope) = term.slope(&a);
            out[at] += scale * slope;
        }
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

/// The hook that supervises attention: it adds up the loss of every pattern it is shown, and exchanges words in the
/// stream after the first attention layer.
pub struct Supervisor<'a> {
    heads: usize,
    weight: f32,
    batch: &'a Batch,
    /// Token embeddings `[d_vocab, d_model]`.
    embed: &'a Tensor,
    loss: Option<Tensor>,
}

impl<'a> Supervisor<'a> {
    /// Supervises heads of layers 0 to 2 with weight λ.
    pub fn new(batch: &'a Batch, heads: usize, weight: f64, embed: &'a Tensor) -> Supervisor<'a> {
        Supervisor { heads, weight: weight as f32, batch, embed, loss: None }
    }

    /// The attention loss, if any attention was supervised.
    pub fn loss(self) -> Option<Tensor> {
        self.loss
    }

    /// The terms of one layer: the jobs of its heads, and which places its heads must leave alone.
    fn terms(&self, layer: usize) -> Vec<Term> {
        let b = self.batch;
        let pos = |cell: usize| cell % b.length;
        let all = |f: &dyn Fn(usize) -> usize| -> Vec<Option<usize>> {
            (0..b.tokens.len()).map(|cell| (pos(cell) > 0).then(|| f(cell))).collect()
        };
        let jobs: Vec<(usize, Vec<Option<usize>>)> = match layer {
            0 => vec![
                (0, all(&|cell| pos(cell) - 1)),
                (1, all(&|cell| b.earlier[cell].unwrap_or(0))),
            ],
            1 => vec![
                (0, all(&|cell| b.earlier[cell].map_or(0, |earlier| (earlier + 1).min(pos(cell))))),
                (1, b.repeated.clone()),
            ],
            2 => vec![(0, b.receiver.clone()), (1, b.receiver.clone()), (2, b.subject.clone())],
            _ => Vec::new(),
        };
        let mut terms = Vec::new();
        for (head, targets) in &jobs {
            let w = self.weight / targets.iter().flatten().count().max(1) as f32;
            let each = targets.iter().enumerate().filter_map(|(cell, key)| key.map(|key| (cell, key)));
            terms.extend(each.map(|(cell, key)| Term::Toward(self.index(cell, *head, key), w)));
        }
        if layer > 2 {
            return terms;
        }
        let w = self.weight / (b.unread.iter().flatten().count().max(1) * self.heads) as f32;
        for (cell, last) in b.unread.iter().enumerate().filter_map(|(cell, last)| last.map(|l| (cell, l))) {
            for head in 0..self.heads {
                terms.push(Term::Away(self.index(cell, head, last - 1), w));
                if layer < 2 || head != 2 {
                    terms.push(Term::Away(self.index(cell, head, last), w));
                }
            }
        }
        terms
    }

    fn index(&self, cell: usize, head: usize, key: usize) -> usize {
        let length = self.batch.length;
        ((cell / length * self.heads + head) * length + cell % length) * length + key
    }

    /// x `[batch, pos, d_model]` with one word's embedding exchanged for another's where the batch says so.
    fn exchanged(&self, x: &Tensor) -> Result<Tensor> {
        let cells = self.batch.tokens.iter().zip(&self.batch.exchange);
        let others: Vec<u32> = cells.map(|(&token, other)| other.unwrap_or(token)).collect();
        let vectors = |ids: &[u32]| -> Result<Tensor> {
            let ids = Tensor::from_slice(ids, ids.len(), x.device())?;
            Ok(self.embed.detach().index_select(&ids, 0)?)
        };
        let change = (vectors(&others)? - vectors(&self.batch.tokens)?)?;
        Ok((x + change.reshape(x.shape())?)?)
    }
}

impl Hook for Supervisor<'_> {
    fn wants(&self, site: Site) -> bool {
        match site {
            Site::Block(layer, At::Pattern) => self.weight > 0.0 && layer < 3,
            Site::Block(0, At::ResidMid) => self.batch.exchange.iter().any(Option::is_some),
            _ => false,
        }
    }

    fn visit(&mut self, site: Site, _: usize, x: Tensor) -> Result<Tensor> {
        match site {
            Site::Block(layer, At::Pattern) => {
                let loss = x.contiguous()?.apply_op1(Attention(Arc::new(self.terms(layer))))?;
                self.loss = Some(match self.loss.take() {
                    Some(sum) => (sum + loss)?,
                    None => loss,
                });
                Ok(x)
            }
            _ => self.exchanged(&x),
        }
    }
}
