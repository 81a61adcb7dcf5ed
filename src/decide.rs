//! From a distribution to a word: what each decision rule would choose, and how often.
//!
//! Predicting and choosing are two steps. Sampling is candle-transformers' [`LogitsProcessor`]; the probability with
//! which a rule picks each token is worked out here from the same definitions.

use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling};

use crate::error::{Error, Result};
use crate::metric::Gains;

/// A way to choose the next token.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// The most probable token.
    Greedy,
    /// A draw after dividing the logits by this.
    Temperature(f64),
    /// A draw among the k most probable tokens (Fan et al. 2018).
    TopK(usize),
    /// A draw among the fewest tokens whose probabilities reach p (nucleus; Holtzman et al. 2020).
    TopP(f64),
    /// A draw among tokens at least this times as probable as the first (Nguyen et al. 2024).
    MinP(f64),
    /// The token of highest expected utility EU(a) = p(a)·gain(a) − (1 − p(a))·cost(a).
    ExpectedGain(Gains),
}

impl Rule {
    /// The rule with its setting: `top-p 0.9`.
    pub fn label(&self) -> String {
        match self {
            Rule::Greedy => "greedy".into(),
            Rule::Temperature(t) => format!("temperature {t}"),
            Rule::TopK(k) => format!("top-k {k}"),
            Rule::TopP(p) => format!("top-p {p}"),
            Rule::MinP(p) => format!("min-p {p}"),
            Rule::ExpectedGain(_) => "expected-gain".into(),
        }
    }

    /// Refuses settings that mean nothing.
    pub fn check(&self) -> Result<()> {
        let (wrong, hint) = match self {
            Rule::Temperature(t) if !(*t > 0.0 && t.is_finite()) => {
                (true, "a temperature is a positive number; greedy is the limit of 0")
            }
            Rule::TopK(0) => (true, "keep at least one token"),
            Rule::TopP(p) | Rule::MinP(p) if !(*p > 0.0 && *p <= 1.0) => {
                (true, "it is a share: above 0, at most 1")
            }
            _ => (false, ""),
        };
        if wrong {
            return Err(Error::usage(format!("the rule `{}` has no meaning", self.label()), hint));
        }
        Ok(())
    }

    /// The probability that the rule picks each token, from the logits of the whole vocabulary.
    pub fn probabilities(&self, logits: &[f64]) -> Vec<f64> {
        let p = softmax(logits, 1.0);
        let kept = match self {
            Rule::Greedy => vec![first(&p)],
            Rule::ExpectedGain(gains) => vec![best(&p, gains)],
            Rule::Temperature(t) => return softmax(logits, *t),
            Rule::TopK(k) => ranked(&p).into_iter().take(*k).collect(),
            Rule::TopP(share) => {
                let mut before = 0.0;
                let reaches = |&id: &usize| {
                    let needed = before < *share || *share >= 1.0;
                    before += p[id];
                    needed
                };
                ranked(&p).into_iter().take_while(reaches).collect()
            }
            Rule::MinP(share) => {
                let least = share * p[first(&p)];
                (0..p.len()).filter(|&id| p[id] >= least).collect()
            }
        };
        let total: f64 = kept.iter().map(|&id| p[id]).sum();
        let mut picked = vec![0.0; p.len()];
        for &id in &kept {
            picked[id] = if kept.len() == 1 { 1.0 } else { p[id] / total };
        }
        picked
    }

    /// The token the rule chooses, drawn with this seed where chance decides.
    pub fn choose(&self, logits: &[f64], seed: u64) -> Result<u32> {
        self.check()?;
        if logits.is_empty() || logits.iter().any(|x| x.is_nan()) {
            return Err(Error::input("the logits are not numbers", "check the model's weights"));
        }
        let sampling = match self {
            Rule::Greedy => return Ok(first(logits) as u32),
            Rule::ExpectedGain(gains) => return Ok(best(&softmax(logits, 1.0), gains) as u32),
            Rule::Temperature(temperature) => Sampling::All { temperature: *temperature },
            Rule::TopK(k) => Sampling::TopK { k: *k, temperature: 1.0 },
            Rule::TopP(p) => Sampling::TopP { p: *p, temperature: 1.0 },
            Rule::MinP(_) => Sampling::All { temperature: 1.0 },
        };
        let mut kept = logits.to_vec();
        if let Rule::MinP(_) = self {
            // the sampler does not know this rule: what is ruled out gets no probability
            for (logit, picked) in kept.iter_mut().zip(self.probabilities(logits)) {
                if picked == 0.0 {
                    *logit = f64::NEG_INFINITY;
                }
            }
        }
        let logits = Tensor::new(kept, &Device::Cpu)?;
        Ok(LogitsProcessor::from_sampling(seed, sampling).sample(&logits)?)
    }
}

/// softmax(logits / temperature).
pub fn softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let raised: Vec<f64> = logits.iter().map(|x| ((x - top) / temperature).exp()).collect();
    let total: f64 = raised.iter().sum();
    raised.into_iter().map(|x| x / total).collect()
}

/// Tokens from the highest value to the lowest, equal ones by id.
pub fn ranked(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

/// The first token of the highest value.
fn first(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, id| if values[id] > values[best] { id } else { best })
}

/// The token of highest expected utility; of equals, the more probable one.
fn best(p: &[f64], gains: &Gains) -> usize {
    let utility = |id: usize| gains.expected(id as u32, p[id]);
    (0..p.len()).fold(0, |best, id| {
        let order = utility(id).total_cmp(&utility(best)).then(p[id].total_cmp(&p[best]));
        if order.is_gt() { id } else { best }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::metric::Gain;

    /// Probabilities .5, .3, .15, .05.
    fn logits() -> Vec<f64> {
        [0.5f64, 0.3, 0.15, 0.05].map(f64::ln).to_vec()
    }

    fn rules() -> Vec<(Rule, [f64; 4])> {
        let gains = Gains {
            default: Gain { gain: 1.0, cost: 0.0 },
            by_token: BTreeMap::from([
                (0, Gain { gain: 1.0, cost: 2.0 }), // .5 − 1 = −.5
                (2, Gain { gain: 3.0, cost: 0.1 }), // .45 − .085 = .365, above .3
            ]),
        };
        let hot = [0.5f64, 0.3, 0.15, 0.05].map(f64::sqrt);
        let total: f64 = hot.iter().sum();
        vec![
            (Rule::Greedy, [1.0, 0.0, 0.0, 0.0]),
            (Rule::Temperature(2.0), hot.map(|x| x / total)),
            (Rule::TopK(2), [0.625, 0.375, 0.0, 0.0]),
            (Rule::TopP(0.9), [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]),
            (Rule::TopP(0.5), [1.0, 0.0, 0.0, 0.0]),
            (Rule::MinP(0.3), [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]),
            (Rule::ExpectedGain(gains), [0.0, 0.0, 1.0, 0.0]),
        ]
    }

    #[test]
    fn every_rule_picks_with_the_probability_of_its_definition() {
        for (rule, want) in rules() {
            for (got, want) in rule.probabilities(&logits()).iter().zip(want) {
                assert!((got - want).abs() < 1e-12, "{}: {got} {want}", rule.label());
            }
        }
    }

    #[test]
    fn draws_follow_those_probabilities_and_the_seed() {
        for (rule, want) in rules() {
            let mut counts = [0.0; 4];
            for seed in 0..4000 {
                counts[rule.choose(&logits(), seed).unwrap() as usize] += 1.0 / 4000.0;
            }
            for (got, want) in counts.iter().zip(want) {
                assert!((got - want).abs() < 0.03, "{}: {counts:?}", rule.label());
            }
            assert_eq!(rule.choose(&logits(), 5).unwrap(), rule.choose(&logits(), 5).unwrap());
        }
    }

    #[test]
    fn settings_without_meaning_are_refused() {
        let wrong = [Rule::Temperature(0.0), Rule::TopK(0), Rule::TopP(1.5), Rule::MinP(0.0)];
        for rule in wrong {
            assert_eq!(rule.choose(&logits(), 0).unwrap_err().exit_code(), 2, "{}", rule.label());
        }
        assert!(Rule::Greedy.choose(&[f64::NAN], 0).is_err());
    }
}
