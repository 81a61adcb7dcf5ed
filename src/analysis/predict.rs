//! What comes next: the distribution, and what each decision rule would choose from it.

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use super::{Analysis, Findings};
use crate::decide::{Rule, Sampling, ranked, softmax};
use crate::distribution::{Summary, summaries};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::metric::Gains;
use crate::row;
use crate::row::Rows;
use crate::stats::Bootstrap;
use crate::task::{Example, Side, Task};

/// The distribution over the next token where the answer is due, what each decision rule would choose from it, and how
/// well the model does the task.
///
/// A language model gives a distribution; choosing a word is a second step. Greedy choice and sampling look at
/// probability alone; with gains, the rule `expected-gain` weighs what each choice gains or costs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Predict {
    /// How many of the most probable tokens are listed.
    pub top: usize,
    /// Temperature of the rule `temperature`. The other rules draw at temperature 1.
    pub temperature: f64,
    /// Tokens that `top-k` keeps.
    pub top_k: usize,
    /// Probability that `top-p` keeps at least.
    pub top_p: f64,
    /// Share of the first token's probability that `min-p` asks for.
    pub min_p: f64,
}

impl Default for Predict {
    fn default() -> Self {
        Predict { top: 10, temperature: 0.8, top_k: 40, top_p: 0.9, min_p: 0.05 }
    }
}

row! {
    /// A likely next token.
    pub struct Likely {
        /// The example.
        pub example: String,
        /// 1 for the most probable token.
        pub rank: usize,
        /// The token.
        pub token: String,
        /// Its id.
        pub id: u32,
        /// Its probability.
        pub prob: f64,
        /// −ln of the probability (nats).
        pub surprisal: f64,
        /// Its logit.
        pub logit: f64,
    }
}

row! {
    /// What a decision rule chooses.
    pub struct Decision {
        /// The example.
        pub example: String,
        /// The rule with its setting.
        pub rule: String,
        /// The token chosen, drawn with the run's seed where chance decides.
        pub token: String,
        /// Its id.
        pub id: u32,
        /// Its probability under the model.
        pub prob: f64,
        /// The probability that this rule picks this token.
        pub picked: f64,
        /// Expected utility p·gain − (1 − p)·cost of the choice, if gains were given.
        pub expected_gain: Option<f64>,
    }
}

row! {
    /// How the model does on one prompt.
    pub struct Prediction {
        /// The example.
        pub example: String,
        /// The clean prompt.
        pub prompt: String,
        /// The right next tokens.
        pub answer: String,
        /// The wrong ones it is compared with.
        pub wrong: String,
        /// The model's first choice.
        pub top: String,
        /// Probability of the answers.
        pub prob: Option<f64>,
        /// Rank of the best answer; 1 is first.
        pub rank: Option<f64>,
        /// Mean logit of the answers minus mean logit of the wrong ones.
        pub logit_diff: Option<f64>,
        /// The same on the corrupt prompt.
        pub logit_diff_corrupt: Option<f64>,
        /// Expected utility of the answer minus that of the wrong one, if gains were given.
        pub expected_gain: Option<f64>,
        /// Entropy of the distribution (nats).
        pub entropy: f64,
        /// Whether the first choice is an answer.
        pub correct: Option<bool>,
    }
}

row! {
    /// How the model does over all prompts.
    pub struct Behaviour {
        /// What was measured.
        pub metric: String,
        /// Its mean over the examples.
        pub value: f64,
        /// Lower end of the 95 % bootstrap interval.
        pub ci_lo: Option<f64>,
        /// Upper end.
        pub ci_hi: Option<f64>,
        /// How many examples.
        pub n: usize,
    }
}

impl Analysis for Predict {
    const NAME: &'static str = "predict";
    const ABOUT: &'static str = "next-token distribution and what each decision rule would choose";

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        task.fits(&lab.model)?;
        if self.top == 0 {
            return Err(Error::usage("`top` is 0: nothing would be listed", "write `top = 10`"));
        }
        let mut rules = vec![
            Rule::Greedy,
            Rule::Sample(Sampling { temperature: self.temperature, ..Sampling::default() }),
            Rule::Sample(Sampling { top_k: Some(self.top_k), ..Sampling::default() }),
            Rule::Sample(Sampling { top_p: Some(self.top_p), ..Sampling::default() }),
            Rule::Sample(Sampling { min_p: Some(self.min_p), ..Sampling::default() }),
        ];
        rules.extend(task.gains.clone().map(Rule::ExpectedGain));
        rules.iter().try_for_each(Rule::check)?;

        let mut found: Vec<Option<Found>> = (0..task.examples.len()).map(|_| None).collect();
        let batches = task.batches(task.fitting(lab, 0));
        lab.progress.begin("predict", task.examples.len() as u64);
        for batch in batches {
            let logits = task.logits(lab, &batch, Side::Clean)?;
            let paired = task.is_paired();
            let corrupt = paired.then(|| task.logits(lab, &batch, Side::Corrupt)).transpose()?;
            let said = summaries_of(task, &batch, &logits)?;
            let said_corrupt = corrupt.map(|corrupt| summaries_of(task, &batch, &corrupt)).transpose()?;
            let rows: Vec<Vec<f64>> = logits.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2()?;
            for (row, (&index, logits)) in batch.iter().zip(&rows).enumerate() {
                let mut one = self.one(lab, task, index, &rules, logits, &said[row])?;
                one.prediction.logit_diff_corrupt = said_corrupt.as_ref().and_then(|s| s[row].logit_diff);
                found[index] = Some(one);
            }
            lab.progress.advance(batch.len() as u64);
        }
        lab.progress.end();

        let (mut likely, mut decisions, mut predictions) = (Vec::new(), Vec::new(), Vec::new());
        for found in found.into_iter().flatten() {
            likely.extend(found.likely);
            decisions.extend(found.decisions);
            predictions.push(found.prediction);
        }
        let behaviour = behaviour(&predictions, &task.units(), lab.seed);
        let tables = vec![
            Rows::of("predict", &likely),
            Rows::of("decisions", &decisions),
            Rows::of("prediction", &predictions),
            Rows::of("behaviour", &behaviour),
        ];
        Ok(Findings { tables, ..Findings::default() })
    }
}

/// What one example gives.
struct Found {
    likely: Vec<Likely>,
    decisions: Vec<Decision>,
    prediction: Prediction,
}

impl Predict {
    fn one(
        &self,
        lab: &Lab,
        task: &Task,
        index: usize,
        rules: &[Rule],
        logits: &[f64],
        said: &Summary,
    ) -> Result<Found> {
        let example = &task.examples[index];
        let (p, order) = (softmax(logits, 1.0), ranked(logits));
        let likely = order.iter().take(self.top).enumerate().map(|(place, &id)| Likely {
            example: example.id.clone(),
            rank: place + 1,
            token: lab.vocabulary.token(id as u32),
            id: id as u32,
            prob: p[id],
            surprisal: -p[id].ln(),
            logit: logits[id],
        });
        // every example has its own draw; the rules of one example share it, so that they can be compared
        let seed = lab.seed.wrapping_add((index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let decisions = rules.iter().map(|rule| {
            let id = rule.choose(logits, seed)?;
            let prob = p[id as usize];
            Ok(Decision {
                example: example.id.clone(),
                rule: rule.label(),
                token: lab.vocabulary.token(id),
                id,
                prob,
                picked: rule.probabilities(logits)[id as usize],
                expected_gain: task.gains.as_ref().map(|gains| gains.expected(id, prob)),
            })
        });
        let top = order.first().map_or(0, |&id| id as u32);
        let utility = |gains: &Gains, ids: &[u32]| {
            ids.iter().map(|&id| gains.expected(id, p[id as usize])).sum::<f64>() / ids.len() as f64
        };
        let opposed = task.gains.as_ref().filter(|_| said.logit_diff.is_some());
        let prediction = Prediction {
            example: example.id.clone(),
            prompt: lab.vocabulary.text(&example.clean),
            answer: words(lab, &example.answers),
            wrong: words(lab, &example.wrong),
            top: lab.vocabulary.token(top),
            prob: said.prob,
            rank: said.rank,
            logit_diff: said.logit_diff,
            logit_diff_corrupt: None,
            expected_gain: opposed.map(|g| utility(g, &example.answers) - utility(g, &example.wrong)),
            entropy: said.entropy,
            correct: correct(example, top),
        };
        Ok(Found { likely: likely.collect(), decisions: decisions.collect::<Result<_>>()?, prediction })
    }
}

fn summaries_of(task: &Task, batch: &[usize], logits: &Tensor) -> Result<Vec<Summary>> {
    let of = |&i: &usize| (task.examples[i].answers.as_slice(), task.examples[i].wrong.as_slice());
    summaries(logits, logits, &batch.iter().map(of).collect::<Vec<_>>())
}

fn words(lab: &Lab, ids: &[u32]) -> String {
    ids.iter().map(|&id| lab.vocabulary.token(id)).collect::<Vec<_>>().join(" | ")
}

fn correct(example: &Example, top: u32) -> Option<bool> {
    (!example.answers.is_empty()).then(|| example.answers.contains(&top))
}

/// Means over the examples for which a number exists.
fn behaviour(predictions: &[Prediction], units: &[usize], seed: u64) -> Vec<Behaviour> {
    type Reading = fn(&Prediction) -> Option<f64>;
    let measures: [(&str, Reading); 8] = [
        ("accuracy", |p| p.logit_diff.map(|ld| f64::from(u8::from(ld > 0.0)))),
        ("top-1 accuracy", |p| p.correct.map(|yes| f64::from(u8::from(yes)))),
        ("prob", |p| p.prob),
        ("rank", |p| p.rank),
        ("logit-diff", |p| p.logit_diff),
        ("logit-diff corrupt", |p| p.logit_diff_corrupt),
        ("expected-gain", |p| p.expected_gain),
        ("entropy", |p| Some(p.entropy)),
    ];
    let mut rows = Vec::new();
    for (metric, reading) in measures {
        let there = predictions.iter().zip(units).filter_map(|(p, &unit)| Some((reading(p)?, unit)));
        let (values, units): (Vec<f64>, Vec<usize>) = there.unzip();
        if values.is_empty() {
            continue;
        }
        let estimate = Bootstrap::grouped(&units, seed).mean(&values);
        let (value, ci_lo, ci_hi, n) = (estimate.value, estimate.lo, estimate.hi, estimate.n);
        rows.push(Behaviour { metric: metric.into(), value, ci_lo, ci_hi, n });
    }
    rows
}
