//! What a row of logits says, in a few numbers.

use candle_core::{DType, Tensor, WithDType};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::ops;

/// A next-token distribution, summed up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// The most probable token.
    pub top: u32,
    /// Probability that the next token is one of the answers.
    pub prob: Option<f64>,
    /// 1 + the number of tokens with a higher logit than the best answer.
    pub rank: Option<f64>,
    /// Mean logit of the answers − mean logit of the wrong answers.
    pub logit_diff: Option<f64>,
    /// −Σ p·ln p (nats).
    pub entropy: f64,
    /// KL(reference ‖ this) (nats).
    pub kl: f64,
}

/// Answers and wrong answers of a row; a number that needs an empty set is absent.
pub type Sets<'a> = (&'a [u32], &'a [u32]);

/// logits and reference logits `[row, d_vocab]` → what each row says. One pass over each row, rows in parallel.
pub fn summaries(logits: &Tensor, reference: &Tensor, sets: &[Sets]) -> Result<Vec<Summary>> {
    let (rows, d_vocab) = logits.dims2()?;
    if reference.dims() != logits.dims() || sets.len() != rows {
        let (what, got) = ("the reference distribution".to_owned(), reference.dims().to_vec());
        return Err(Error::Shape { what, got, expected: format!("[{}, {d_vocab}]", sets.len()) });
    }
    let ids = sets.iter().flat_map(|(answers, wrong)| answers.iter().chain(*wrong));
    if let Some(id) = ids.copied().find(|&id| id as usize >= d_vocab) {
        return Err(Error::input(
            format!("token id {id} is outside the vocabulary of {d_vocab}"),
            "check that tokenizer and model belong together",
        ));
    }
    match logits.dtype() {
        DType::F64 => by_row::<f64>(logits, reference, sets),
        _ => by_row::<f32>(&logits.to_dtype(DType::F32)?, &reference.to_dtype(DType::F32)?, sets),
    }
}

fn by_row<T: WithDType + Into<f64>>(x: &Tensor, reference: &Tensor, sets: &[Sets]) -> Result<Vec<Summary>> {
    let d_vocab = x.dim(1)?;
    let flat = |x: &Tensor| -> Result<Vec<T>> { Ok(x.flatten_all()?.to_vec1::<T>()?) };
    let (p, x) = (flat(&ops::softmax(x)?)?, flat(x)?);
    let (q, y) = (flat(&ops::softmax(reference)?)?, flat(reference)?);
    let here = x.par_chunks(d_vocab).zip(p.par_chunks(d_vocab));
    let there = y.par_chunks(d_vocab).zip(q.par_chunks(d_vocab));
    let rows = here.zip(there).zip(sets);
    Ok(rows.map(|((here, there), sets)| one(Row::of(here), Row::of(there), *sets)).collect())
}

/// A row's logits counted from their maximum, and its probabilities.
struct Row<'a, T> {
    x: &'a [T],
    p: &'a [T],
    top: usize,
    shift: f64,
}

impl<'a, T: WithDType + Into<f64>> Row<'a, T> {
    fn of((x, p): (&'a [T], &'a [T])) -> Row<'a, T> {
        let at = |id: usize| -> f64 { x[id].into() };
        let top = (0..x.len()).fold(0, |best, id| if at(id) > at(best) { id } else { best });
        Row { x, p, top, shift: at(top) }
    }

    fn x(&self, id: usize) -> f64 {
        self.x[id].into() - self.shift
    }

    fn p(&self, id: usize) -> f64 {
        self.p[id].into()
    }

    /// The logarithm of Σ eˣ: x is 0 at the top.
    fn ln_z(&self) -> f64 {
        -self.p(self.top).ln()
    }
}

/// H = ln Z − Σ p·x and KL(q ‖ p) = Σ q·(y − x) + ln Z − ln Z_q: no logarithm or exponential per token.
fn one<T: WithDType + Into<f64>>(here: Row<T>, there: Row<T>, (answers, wrong): Sets) -> Summary {
    let (mut mean, mut cross) = (0.0, 0.0);
    for id in 0..here.x.len() {
        let x = here.x(id);
        mean += here.p(id) * x;
        cross += there.p(id) * (there.x(id) - x);
    }
    let average = |ids: &[u32]| ids.iter().map(|&id| here.x(id as usize)).sum::<f64>() / ids.len() as f64;
    let rank = || {
        let best = answers.iter().map(|&id| here.x(id as usize)).fold(f64::NEG_INFINITY, f64::max);
        1.0 + (0..here.x.len()).filter(|&id| here.x(id) > best).count() as f64
    };
    let (answered, opposed) = (!answers.is_empty(), !wrong.is_empty());
    Summary {
        top: here.top as u32,
        prob: answered.then(|| answers.iter().map(|&id| here.p(id as usize)).sum()),
        rank: answered.then(rank),
        logit_diff: (answered && opposed).then(|| average(answers) - average(wrong)),
        // both are never negative; rounding alone can make them so
        entropy: (here.ln_z() - mean).max(0.0),
        kl: (cross + here.ln_z() - there.ln_z()).max(0.0),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn every_number_equals_its_definition() {
        let p = [0.5f64, 0.3, 0.15, 0.05];
        let q = [0.1f64, 0.2, 0.3, 0.4];
        // logits are log-probabilities up to a constant, which must not matter
        let logits =
            |p: [f64; 4], c: f64| Tensor::new(vec![p.map(|p| p.ln() + c).to_vec()], &Device::Cpu).unwrap();
        let said = summaries(&logits(p, 3.0), &logits(q, -7.0), &[(&[1, 2], &[0])]).unwrap().remove(0);
        let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
        let kl: f64 = q.iter().zip(p).map(|(q, p)| q * (q / p).ln()).sum();
        let ld = (0.3f64.ln() + 0.15f64.ln()) / 2.0 - 0.5f64.ln();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        assert_eq!((said.top, said.rank), (0, Some(2.0)));
        close(said.prob.unwrap(), 0.45);
        close(said.logit_diff.unwrap(), ld);
        close(said.entropy, entropy);
        close(said.kl, kl);
        let same = summaries(&logits(p, 3.0), &logits(p, 3.0), &[(&[], &[])]).unwrap().remove(0);
        assert_eq!((same.prob, same.rank, same.logit_diff, same.kl), (None, None, None, 0.0));
    }

    #[test]
    fn a_token_outside_the_vocabulary_is_refused() {
        let x = Tensor::new(&[[0f32, 1.0]], &Device::Cpu).unwrap();
        assert!(summaries(&x, &x, &[(&[2], &[])]).unwrap_err().to_string().contains("vocabulary of 2"));
    }
}
