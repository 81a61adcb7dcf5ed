//! From a distribution to a word: what each decision rule would choose, and how often.
//!
//! Predicting and choosing are two steps. Sampling is candle-transformers' [`candle::LogitsProcessor`]; the probability with
//! which a rule picks each token is worked out here from the same definitions.

use candle_core::{Device, Tensor};
use candle_transformers::generation as candle;

use crate::error::{Error, Result};
use crate::metric::Gains;

/// A way to choose the next token.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// The most probable token.
    Greedy,
    /// A draw.
    Sample(Sampling),
    /// The token of highest expected utility EU(a) = p(a)·gain(a) − (1 − p(a))·cost(a).
    ExpectedGain(Gains),
}

/// What a draw is made from: the distribution at a temperature, of which the filters keep a part, one after the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this.
    pub temperature: f64,
    /// Only the k most probable tokens (Fan et al. 2018).
    pub top_k: Option<usize>,
    /// Of those, only the fewest whose probabilities reach p (nucleus; Holtzman et al. 2020).
    pub top_p: Option<f64>,
    /// Of those, only tokens at least this times as probable as the first (Nguyen et al. 2024).
    pub min_p: Option<f64>,
}

impl Default for Sampling {
    /// From the model's own distribution.
    fn default() -> Sampling {
        Sampling { temperature: 1.0, top_k: None, top_p: None, min_p: None }
    }
}

impl Sampling {
    /// The tokens that may be drawn, and their probabilities.
    fn kept(&self, logits: &[f64]) -> Vec<(usize, f64)> {
        let p = softmax(logits, self.temperature);
        let mut kept: Vec<(usize, f64)> = ranked(&p).into_iter().map(|id| (id, p[id])).collect();
        kept.truncate(self.top_k.unwrap_or(usize::MAX));
        if let Some(share) = self.top_p {
            let enough = share * kept.iter().map(|(_, p)| p).sum::<f64>();
            let mut before = 0.0;
            let needed = kept.iter().take_while(|(_, p)| {
                let needed = before < enough || share >= 1.0;
                before += p;
                needed
            });
            kept.truncate(needed.count());
        }
        let least = self.min_p.unwrap_or(0.0) * kept.first().map_or(0.0, |(_, p)| *p);
        kept.retain(|(_, p)| *p >= least);
        let total: f64 = kept.iter().map(|(_, p)| p).sum();
        let alone = kept.len() == 1;
        kept.into_iter().map(|(id, p)| (id, if alone { 1.0 } else { p / total })).collect()
    }

    fn label(&self) -> String {
        let plain = *self == Sampling::default();
        let parts = [
            (plain || self.temperature != 1.0).then(|| format!("temperature {}", self.temperature)),
            self.top_k.map(|k| format!("top-k {k}")),
            self.top_p.map(|p| format!("top-p {p}")),
            self.min_p.map(|p| format!("min-p {p}")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl Rule {
    /// The rule with its settings: `top-p 0.9`.
    pub fn label(&self) -> String {
        match self {
            Rule::Greedy => "greedy".into(),
            Rule::Sample(sampling) => sampling.label(),
            Rule::ExpectedGain(_) => "expected-gain".into(),
        }
    }

    /// Refuses settings that mean nothing.
    pub fn check(&self) -> Result<()> {
        let Rule::Sample(Sampling { temperature, top_k, top_p, min_p }) = self else { return Ok(()) };
        let is_share = |p: &Option<f64>| p.is_none_or(|p| p > 0.0 && p <= 1.0);
        let hint = if !(*temperature > 0.0 && temperature.is_finite()) {
            "a temperature is a positive number; greedy is the limit of 0"
        } else if *top_k == Some(0) {
            "keep at least one token"
        } else if !is_share(top_p) || !is_share(min_p) {
            "it is a share: above 0, at most 1"
        } else {
            return Ok(());
        };
        Err(Error::usage(format!("the rule `{}` has no meaning", self.label()), hint))
    }

    /// The probability that the rule picks each token, from the logits of the whole vocabulary.
    pub fn probabilities(&self, logits: &[f64]) -> Vec<f64> {
        let kept = match self {
            Rule::Greedy => vec![(first(logits), 1.0)],
            Rule::ExpectedGain(gains) => vec![(best(&softmax(logits, 1.0), gains), 1.0)],
            Rule::Sample(sampling) => sampling.kept(logits),
        };
        let mut picked = vec![0.0; logits.len()];
        kept.into_iter().for_each(|(id, p)| picked[id] = p);
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
            Rule::Sample(sampling) => sampling,
        };
        // what the filters rule out gets no probability; the sampler's own filters do not know all of ours
        let mut allowed = vec![f64::NEG_INFINITY; logits.len()];
        sampling.kept(logits).into_iter().for_each(|(id, _)| allowed[id] = logits[id]);
        let draw = candle::Sampling::All { temperature: sampling.temperature };
        let logits = Tensor::new(allowed, &Device::Cpu)?;
        Ok(candle::LogitsProcessor::from_sampling(seed, draw).sample(&logits)?)
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

    fn drawn(set: impl Fn(&mut Sampling)) -> Rule {
        let mut sampling = Sampling::default();
        set(&mut sampling);
        Rule::Sample(sampling)
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
            (drawn(|_| {}), [0.5, 0.3, 0.15, 0.05]),
            (drawn(|s| s.temperature = 2.0), hot.map(|x| x / total)),
            (drawn(|s| s.top_k = Some(2)), [0.625, 0.375, 0.0, 0.0]),
            (drawn(|s| s.top_p = Some(0.9)), [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]),
            (drawn(|s| s.top_p = Some(0.5)), [1.0, 0.0, 0.0, 0.0]),
            (drawn(|s| s.min_p = Some(0.3)), [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]),
            // of the first two, .625 alone reaches .6
            (drawn(|s| (s.top_k, s.top_p) = (Some(2), Some(0.6))), [1.0, 0.0, 0.0, 0.0]),
            (drawn(|s| (s.temperature, s.top_k) = (2.0, Some(1))), [1.0, 0.0, 0.0, 0.0]),
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
        let wrong = [
            drawn(|s| s.temperature = 0.0),
            drawn(|s| s.top_k = Some(0)),
            drawn(|s| s.top_p = Some(1.5)),
            drawn(|s| s.min_p = Some(0.0)),
        ];
        for rule in wrong {
            assert_eq!(rule.choose(&logits(), 0).unwrap_err().exit_code(), 2, "{}", rule.label());
        }
        assert!(Rule::Greedy.choose(&[f64::NAN], 0).is_err());
    }
}
