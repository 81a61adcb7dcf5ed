//! The two losses: of the next token, and of where supervised heads look.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor, bail};
use rayon::prelude::*;

use super::data::Batch;
use crate::error::Result;
use crate::hook::Hook;
use crate::model::Transformer;
use crate::record::Recorder;
use crate::site::{At, Site};

/// −Σ w·log p(next token) / number of tokens: w is `answer_weight` where a sentence about people has its answer, else 1.
/// logits `[batch, pos, d_vocab]` → a single number. The last position of a document has no next token.
pub fn next_token(logits: &Tensor, batch: &Batch, answer_weight: f64) -> Result<Tensor> {
    let next = |cell: usize| {
        let due = batch.receiver[cell].is_some() || batch.subject[cell].is_some();
        let weight = if due { answer_weight as f32 } else { 1.0 };
        (cell % batch.length + 1 < batch.length).then(|| (batch.said[cell + 1], weight))
    };
    let targets = Arc::new((0..batch.tokens.len()).map(next).collect::<Vec<_>>());
    Ok(logits.contiguous()?.apply_op1(NextToken(targets))?)
}

/// Fused softmax and cross-entropy; the target and weight of each row, or none.
struct NextToken(Arc<Vec<Option<(u32, f32)>>>);

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
            Some((target, weight)) => weight * (log_total(x) - x[target as usize]),
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
            Some((target, weight)) => {
                let (total, scale) = (log_total(x), scale * weight);
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

/// The hook that supervises attention: it adds up the loss of every pattern it is shown. Where a word was exchanged, it
/// gives the duplicate-token head what that head writes about the word that was said (an interchange, Geiger et al.
/// 2022), so that later layers can learn who is repeated from this head alone.
pub struct Supervisor<'a> {
    heads: usize,
    weight: f32,
    batch: &'a Batch,
    /// z of layer 0 on what was said `[batch, pos, head, d_head]`, if it differs from what is fed.
    said: Option<Tensor>,
    loss: Option<Tensor>,
}

/// The head of layer 0 that looks for the same word.
const DUPLICATE: usize = 1;

impl<'a> Supervisor<'a> {
    /// Supervises heads of layers 0 to 2 with weight λ.
    pub fn new(batch: &'a Batch, model: &Transformer, weight: f64) -> Result<Supervisor<'a>> {
        let exchanged = batch.tokens != batch.said;
        let said = exchanged.then(|| said(model, batch)).transpose()?;
        Ok(Supervisor { heads: model.config.n_heads, weight: weight as f32, batch, said, loss: None })
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
            0 => vec![(0, all(&|cell| pos(cell) - 1)), (1, all(&|cell| b.earlier[cell].unwrap_or(0)))],
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
        // heads without a job in sentences about two people rest on `<bos>` where the answer is due
        let idle = [self.heads, 2, 2][layer];
        let ends = || b.repeated.iter().enumerate().filter(|(_, about_two)| about_two.is_some());
        let w = self.weight / ends().count().max(1) as f32;
        for (cell, _) in ends() {
            terms.extend((idle..self.heads).map(|head| Term::Toward(self.index(cell, head, 0), w)));
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

    /// z `[batch, pos, head, d_head]` of layer 0 with the duplicate-token head's part exchanged.
    fn exchanged(&self, z: Tensor) -> Result<Tensor> {
        let Some(said) = &self.said else { return Ok(z) };
        let cells = self.batch.tokens.iter().zip(&self.batch.said);
        let mask: Vec<f32> = cells
            .flat_map(|(fed, said)| {
                (0..self.heads).map(move |head| f32::from(u8::from(head == DUPLICATE && fed != said)))
            })
            .collect();
        let (rows, length, heads, _) = z.dims4()?;
        let mask = Tensor::from_vec(mask, (rows, length, heads, 1), z.device())?;
        let change = (said - &z)?.broadcast_mul(&mask)?;
        Ok((z + change)?)
    }
}

/// z of layer 0 on what the sentences say.
fn said(model: &Transformer, batch: &Batch) -> Result<Tensor> {
    let rows: Vec<&[u32]> = batch.said.chunks(batch.length).collect();
    let mut recorder = Recorder::new(|site| site == Site::Block(0, At::Z));
    let stream = model.embed(&model.tokens(&rows)?, &mut ())?;
    model.run(stream, None, 1, &mut recorder)?;
    Ok(recorder.kept.block(0, At::Z)?.clone())
}

impl Hook for Supervisor<'_> {
    fn wants(&self, site: Site) -> bool {
        match site {
            Site::Block(layer, At::Pattern) => self.weight > 0.0 && layer < 3,
            Site::Block(0, At::Z) => self.said.is_some(),
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
            _ => self.exchanged(x),
        }
    }
}
