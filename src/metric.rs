//! Numbers that say how much the model prefers an answer: as tensors, so that gradients work.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{D, DType, Device, Shape, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ops;
use crate::record::of_rows;

/// A number per prompt, from the logits at the position where the answer is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Mean logit of the answers − mean logit of the wrong answers.
    #[default]
    LogitDiff,
    /// Log-probability that the next token is one of the answers (nats).
    LogProb,
    /// Probability that the next token is one of the answers.
    Prob,
    /// Probability of the answers − probability of the wrong answers.
    ProbDiff,
    /// 1 + the number of tokens with a higher logit than the best answer. Not differentiable: for reports.
    Rank,
    /// KL divergence of the distribution from the clean run's: Σ p_clean · (log p_clean − log p), in nats.
    Kl,
    /// EU(answer) − EU(wrong), with EU(a) = p(a)·gain(a) − (1 − p(a))·cost(a), averaged over a set.
    ExpectedGain,
}

impl Metric {
    /// Every metric, in the order of `glassbox list metrics`.
    pub const ALL: [Metric; 7] = [
        Metric::LogitDiff,
        Metric::LogProb,
        Metric::Prob,
        Metric::ProbDiff,
        Metric::Rank,
        Metric::Kl,
        Metric::ExpectedGain,
    ];

    /// The name used on the command line and in studies.
    pub fn name(self) -> &'static str {
        match self {
            Metric::LogitDiff => "logit-diff",
            Metric::LogProb => "log-prob",
            Metric::Prob => "prob",
            Metric::ProbDiff => "prob-diff",
            Metric::Rank => "rank",
            Metric::Kl => "kl",
            Metric::ExpectedGain => "expected-gain",
        }
    }

    /// What it measures, in one line.
    pub fn about(self) -> &'static str {
        match self {
            Metric::LogitDiff => "mean logit of the answers minus mean logit of the wrong answers",
            Metric::LogProb => "log-probability of the answers (nats)",
            Metric::Prob => "probability of the answers",
            Metric::ProbDiff => "probability of the answers minus probability of the wrong answers",
            Metric::Rank => "rank of the best answer, 1 is first (no gradient)",
            Metric::Kl => "KL divergence from the clean run's distribution (nats)",
            Metric::ExpectedGain => {
                "expected utility of the answer minus that of the wrong one (needs gains)"
            }
        }
    }

    /// logits `[batch, d_vocab]` → `[batch]`. The targets are those of the same rows.
    pub fn score(self, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let (batch, _) = logits.dims2()?;
        if targets.answers.len() != batch {
            let (what, got) = ("the targets".to_owned(), vec![targets.answers.len()]);
            return Err(Error::Shape { what, got, expected: format!("[{batch}]") });
        }
        match self {
            Metric::LogitDiff => {
                Ok((set(logits, &targets.answers, mean)? - set(logits, &targets.wrong, mean)?)?)
            }
            Metric::LogProb => {
                // log Σ p over the set; for a single answer its own log-probability, without a detour
                let log_probs = ops::log_softmax(logits)?;
                if targets.answers.iter().all(|ids| ids.len() == 1) {
                    return set(&log_probs, &targets.answers, one);
                }
                // relative to the likeliest of the set, so that nothing underflows
                let (each, weights) = pick(&log_probs, &targets.answers, one)?;
                let top = each.max_keepdim(1)?.detach();
                let sum = (each.broadcast_sub(&top)?.exp()? * weights)?.sum(1)?;
                Ok((sum.log()? + top.squeeze(1)?)?)
            }
            Metric::Prob => set(&ops::softmax(logits)?, &targets.answers, one),
            Metric::ProbDiff => {
                let p = ops::softmax(logits)?;
                Ok((set(&p, &targets.answers, one)? - set(&p, &targets.wrong, one)?)?)
            }
            Metric::Rank => rank(logits, &targets.answers),
            Metric::Kl => {
                let Some(clean) = &targets.clean_log_probs else {
                    return Err(Error::usage(
                        "kl compares with the clean run, and there is none here",
                        "use it in `patch`, or choose another metric",
                    ));
                };
                let log_probs = ops::log_softmax(logits)?;
                Ok((clean.exp()? * (clean - log_probs)?)?.sum(D::Minus1)?)
            }
            Metric::ExpectedGain => {
                let Some(gains) = &targets.gains else {
                    return Err(Error::usage(
                        "expected-gain needs to know what each choice gains or costs",
                        "give `--gains FILE.json`",
                    ));
                };
                let p = ops::softmax(logits)?;
                Ok((gains.utility(&p, &targets.answers)? - gains.utility(&p, &targets.wrong)?)?)
            }
        }
    }

    /// Several metrics in columns: `[batch, metrics]` in f64, in main memory.
    pub fn columns(metrics: &[Metric], logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let column = |metric: &Metric| -> Result<Tensor> {
            Ok(metric.score(logits, targets)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?)
        };
        Ok(Tensor::stack(&metrics.iter().map(column).collect::<Result<Vec<_>>>()?, 1)?)
    }

    /// Whether the metric compares with wrong answers.
    pub fn needs_wrong(self) -> bool {
        matches!(self, Metric::LogitDiff | Metric::ProbDiff | Metric::ExpectedGain)
    }

    /// The tokens whose logits it looks at, in order; none if it looks at all.
    pub fn tokens(self, targets: &Targets) -> Option<BTreeSet<u32>> {
        let named = || targets.answers.iter().chain(&targets.wrong).flatten().copied().collect();
        (self == Metric::LogitDiff).then(named).filter(|tokens: &BTreeSet<u32>| !tokens.is_empty())
    }

    /// Whether gradients pass through it.
    pub fn has_gradient(self) -> bool {
        self != Metric::Rank
    }
}

impl std::str::FromStr for Metric {
    type Err = Error;

    fn from_str(name: &str) -> Result<Metric> {
        let found = Metric::ALL.into_iter().find(|metric| metric.name() == name);
        found.ok_or_else(|| Error::unknown("metric", name, Metric::ALL.iter().map(|m| m.name())))
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What the rows of a batch are measured against.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// Right answers of each row.
    pub answers: Vec<Vec<u32>>,
    /// Wrong answers of each row.
    pub wrong: Vec<Vec<u32>>,
    /// Log-probabilities of the clean run `[batch, d_vocab]`, for KL.
    pub clean_log_probs: Option<Tensor>,
    /// What choices gain and cost, for the expected gain.
    pub gains: Option<Gains>,
}

impl Targets {
    /// The targets of these rows, in this order and as often as they are named.
    pub fn rows(&self, rows: &[usize]) -> Result<Targets> {
        let again = |sets: &[Vec<u32>]| rows.iter().filter_map(|&row| sets.get(row)).cloned().collect();
        let clean_log_probs = match &self.clean_log_probs {
            None => None,
            Some(all) => Some(of_rows(all, rows)?),
        };
        let (answers, wrong) = (again(&self.answers), again(&self.wrong));
        Ok(Targets { answers, wrong, clean_log_probs, gains: self.gains.clone() })
    }

    /// The same answers where logits are those of `tokens` alone, in that order: for a metric that looks at no others.
    pub fn among(&self, tokens: &[u32]) -> Targets {
        let place =
            |id: &u32| tokens.iter().position(|token| token == id).map_or(u32::MAX, |place| place as u32);
        let placed = |sets: &[Vec<u32>]| sets.iter().map(|ids| ids.iter().map(place).collect()).collect();
        Targets { answers: placed(&self.answers), wrong: placed(&self.wrong), ..Targets::default() }
    }
}

/// What saying a token gains when it is right and costs when it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gain {
    /// Utility when right.
    pub gain: f64,
    /// Loss when wrong (positive numbers are losses).
    pub cost: f64,
}

/// Gains and costs by token.
#[derive(Debug, Clone, PartialEq)]
pub struct Gains {
    /// For tokens not named.
    pub default: Gain,
    /// By token id.
    pub by_token: BTreeMap<u32, Gain>,
}

impl Gains {
    /// The gain and cost of a token.
    pub fn of(&self, token: u32) -> Gain {
        self.by_token.get(&token).copied().unwrap_or(self.default)
    }

    /// EU(a) = p·gain − (1 − p)·cost of one token.
    pub fn expected(&self, token: u32, p: f64) -> f64 {
        let Gain { gain, cost } = self.of(token);
        p * gain - (1.0 - p) * cost
    }

    /// probabilities `[batch, d_vocab]` → mean expected utility of each row's set `[batch]`.
    fn utility(&self, p: &Tensor, sets: &[Vec<u32>]) -> Result<Tensor> {
        // p·gain − (1 − p)·cost = p·(gain + cost) − cost
        let slope = set(p, sets, |id, n| (self.of(id).gain + self.of(id).cost) / n as f64)?;
        let costs: Vec<f64> = sets
            .iter()
            .map(|ids| ids.iter().map(|&id| self.of(id).cost).sum::<f64>() / ids.len().max(1) as f64)
            .collect();
        Ok((slope - like(costs, sets.len(), p)?)?)
    }
}

fn mean(_: u32, n: usize) -> f64 {
    1.0 / n as f64
}

fn one(_: u32, _: usize) -> f64 {
    1.0
}

/// Σ weight(id, size of the set) · values[row, id] over each row's set → `[batch]`.
fn set(values: &Tensor, sets: &[Vec<u32>], weight: impl Fn(u32, usize) -> f64) -> Result<Tensor> {
    let (each, weights) = pick(values, sets, weight)?;
    Ok((each * weights)?.sum(1)?)
}

/// The values of each row's set and their weights, both `[batch, size of the widest set]`; narrower sets are filled up
/// with weight 0.
fn pick(values: &Tensor, sets: &[Vec<u32>], weight: impl Fn(u32, usize) -> f64) -> Result<(Tensor, Tensor)> {
    let d_vocab = values.dim(1)?;
    let widest = sets.iter().map(Vec::len).max().unwrap_or(0);
    let (mut ids, mut weights) = (Vec::new(), Vec::new());
    for set in sets {
        if set.is_empty() {
            return Err(Error::usage(
                "this metric needs an answer and a wrong answer for every prompt",
                "give `--answer` and `--wrong`, or the fields `answers` and `wrong`",
            ));
        }
        if let Some(id) = set.iter().find(|&&id| id as usize >= d_vocab) {
            return Err(Error::input(
                format!("answer id {id} is outside the vocabulary of {d_vocab}"),
                "check that tokenizer and model belong together",
            ));
        }
        for place in 0..widest {
            ids.push(*set.get(place).unwrap_or(&set[0]));
            weights.push(set.get(place).map_or(0.0, |&id| weight(id, set.len())));
        }
    }
    let shape = (sets.len(), widest);
    let ids = Tensor::from_vec(ids, shape, values.device())?;
    let weights = like(weights, shape, values)?;
    Ok((values.contiguous()?.gather(&ids, 1)?, weights))
}

fn rank(logits: &Tensor, sets: &[Vec<u32>]) -> Result<Tensor> {
    let rows: Vec<Vec<f64>> = logits.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2()?;
    let mut ranks = Vec::with_capacity(rows.len());
    for (row, ids) in rows.iter().zip(sets) {
        let best =
            ids.iter().filter_map(|&id| row.get(id as usize)).copied().fold(f64::NEG_INFINITY, f64::max);
        ranks.push(1.0 + row.iter().filter(|&&logit| logit > best).count() as f64);
    }
    like(ranks, rows.len(), logits)
}

/// Numbers as a tensor in the type and on the device of another. (Not every device has f64.)
fn like(numbers: Vec<f64>, shape: impl Into<Shape>, other: &Tensor) -> Result<Tensor> {
    let numbers = Tensor::from_vec(numbers, shape.into(), &Device::Cpu)?;
    Ok(numbers.to_dtype(other.dtype())?.to_device(other.device())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    fn targets() -> Targets {
        Targets { answers: vec![vec![0], vec![1, 2]], wrong: vec![vec![3], vec![3]], ..Targets::default() }
    }

    fn logits() -> Tensor {
        Tensor::new(&[[1f64, 2., 0.5, -1.], [0.3, 0.1, 2., 1.]], &Device::Cpu).unwrap()
    }

    fn scores(metric: Metric, targets: &Targets) -> Vec<f64> {
        metric.score(&logits(), targets).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn each_metric_equals_its_definition() {
        let x = [[1f64, 2., 0.5, -1.], [0.3, 0.1, 2., 1.]];
        let p = x.map(|row| {
            let total: f64 = row.iter().map(|x| x.exp()).sum();
            row.map(|x| x.exp() / total)
        });
        let close = |got: Vec<f64>, want: [f64; 2]| {
            for (got, want) in got.iter().zip(want) {
                assert!((got - want).abs() < 1e-12, "{got} {want}");
            }
        };
        let mut t = targets();
        close(scores(Metric::LogitDiff, &t), [2.0, 1.05 - 1.0]);
        close(scores(Metric::Prob, &t), [p[0][0], p[1][1] + p[1][2]]);
        close(scores(Metric::LogProb, &t), [p[0][0].ln(), (p[1][1] + p[1][2]).ln()]);
        close(scores(Metric::ProbDiff, &t), [p[0][0] - p[0][3], p[1][1] + p[1][2] - p[1][3]]);
        close(scores(Metric::Rank, &t), [2.0, 1.0]);
        t.clean_log_probs =
            Some(Tensor::new(&[[0.25f64; 4], [0.25; 4]], &Device::Cpu).unwrap().log().unwrap());
        let kl = |row: [f64; 4]| row.iter().map(|p| 0.25 * (0.25f64.ln() - p.ln())).sum::<f64>();
        close(scores(Metric::Kl, &t), [kl(p[0]), kl(p[1])]);
        t.gains = Some(Gains {
            default: Gain { gain: 1.0, cost: 0.0 },
            by_token: BTreeMap::from([(0, Gain { gain: 2.0, cost: 3.0 })]),
        });
        let eu = 2.0 * p[0][0] - 3.0 * (1.0 - p[0][0]) - p[0][3];
        close(scores(Metric::ExpectedGain, &t), [eu, (p[1][1] + p[1][2]) / 2.0 - p[1][3]]);
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let mut t = targets();
        t.clean_log_probs =
            Some(Tensor::new(&[[0.25f64; 4], [0.25; 4]], &Device::Cpu).unwrap().log().unwrap());
        t.gains = Some(Gains { default: Gain { gain: 1.0, cost: 2.0 }, by_token: BTreeMap::new() });
        for metric in Metric::ALL.into_iter().filter(|m| m.has_gradient()) {
            let var = Var::from_tensor(&logits()).unwrap();
            let score = metric.score(var.as_tensor(), &t).unwrap();
            let grads = score.sum_all().unwrap().backward().unwrap();
            let grad: Vec<Vec<f64>> = grads.get(&var).unwrap().to_vec2().unwrap();
            for i in 0..8 {
                let at = |h: f64| -> f64 {
                    let mut x: Vec<f64> = logits().flatten_all().unwrap().to_vec1().unwrap();
                    x[i] += h;
                    let x = Tensor::from_vec(x, (2, 4), &Device::Cpu).unwrap();
                    metric.score(&x, &t).unwrap().sum_all().unwrap().to_scalar().unwrap()
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((slope - grad[i / 4][i % 4]).abs() < 1e-8, "{metric} {i}: {slope} {grad:?}");
            }
        }
    }
}
