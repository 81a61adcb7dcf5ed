//! The measurements behind the gates: exact swaps of single components, attention scores, accuracies.

use std::collections::BTreeMap;

use candle_core::{D, DType, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::edit::{Edit, Edits, Op};
use crate::error::Result;
use crate::hook::Hook;
use crate::metric::Metric;
use crate::model::Transformer;
use crate::ops;
use crate::record::Activations;
use crate::site::{At, Site, Slice};
use crate::task::language::sentence::fact;
use crate::task::language::words::{self, list};
use crate::task::language::{BOS, Language};
use crate::task::{Side, Task};
use crate::vocabulary::Vocabulary;

/// A model and its vocabulary.
pub struct Probe<'a> {
    /// The model.
    pub model: &'a Transformer,
    /// Its vocabulary.
    pub vocabulary: &'a Vocabulary,
}

/// Logit differences of every prompt: clean, corrupt, and with one component's output swapped between them.
#[derive(Debug, Clone, Default)]
pub struct Effects {
    /// Layers.
    pub layers: usize,
    /// Heads per layer.
    pub heads: usize,
    /// Per prompt.
    pub clean: Vec<f64>,
    /// Per prompt.
    pub corrupt: Vec<f64>,
    /// Per component (heads by layer, then MLPs) and prompt: the corrupt run with the clean output.
    denoised: Vec<Vec<f64>>,
    /// The clean run with the corrupt output.
    noised: Vec<Vec<f64>>,
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len().max(1) as f64
}

impl Effects {
    /// Mean logit difference on clean prompts.
    pub fn clean_mean(&self) -> f64 {
        mean(&self.clean)
    }

    /// (denoised − corrupt) / (clean − corrupt) of a head, as a ratio of means.
    pub fn denoising(&self, layer: usize, head: usize) -> f64 {
        let (clean, corrupt) = (mean(&self.clean), mean(&self.corrupt));
        (mean(&self.denoised[layer * self.heads + head]) - corrupt) / (clean - corrupt)
    }

    /// Clean − noised logit difference of a head.
    pub fn total(&self, layer: usize, head: usize) -> f64 {
        mean(&self.clean) - mean(&self.noised[layer * self.heads + head])
    }

    /// Clean − noised logit difference of a layer's MLP.
    pub fn total_mlp(&self, layer: usize) -> f64 {
        mean(&self.clean) - mean(&self.noised[self.layers * self.heads + layer])
    }
}

/// Attention and copying on repeated random tokens.
#[derive(Debug, Clone, Copy)]
pub struct Scores {
    /// Head 0.0 to the previous token.
    pub previous: f64,
    /// Head 1.0 to the token after the earlier occurrence.
    pub induction: f64,
    /// Share of positions of the second copy where the first choice is right.
    pub copied: f64,
}

impl Probe<'_> {
    /// The logits where the answers of these examples are due, `[batch, d_vocab]`.
    fn logits(&self, task: &Task, batch: &[usize], side: Side, hook: &mut dyn Hook) -> Result<Tensor> {
        let logits = self.model.forward(&task.tokens(self.model, batch, side)?, hook)?;
        let ends = task.ends(batch);
        let rows: Vec<Tensor> = ends
            .iter()
            .enumerate()
            .map(|(row, &end)| logits.get(row)?.get(end))
            .collect::<candle_core::Result<_>>()?;
        Ok(Tensor::stack(&rows, 0)?)
    }

    fn score(&self, task: &Task, batch: &[usize], logits: &Tensor) -> Result<Vec<f64>> {
        let scores = Metric::LogitDiff.score(logits, &task.targets(batch, None))?;
        Ok(scores.to_dtype(DType::F64)?.to_vec1()?)
    }

    fn recorded(&self, task: &Task, batch: &[usize], side: Side) -> Result<(Tensor, Activations)> {
        let wanted = |site| matches!(site, Site::Block(_, At::Z | At::MlpOut) | Site::FinalScale);
        let mut recorder = crate::record::Recorder::new(wanted);
        let logits = self.logits(task, batch, side, &mut recorder)?;
        Ok((logits, recorder.kept))
    }

    /// Swaps every head's z and every MLP's output, one at a time, at all positions.
    pub fn effects(&self, task: &Task) -> Result<Effects> {
        let (layers, heads) = (self.model.config.n_layers, self.model.config.n_heads);
        let n = task.examples.len();
        let (mut clean, mut corrupt) = (vec![0.0; n], vec![0.0; n]);
        let mut denoised = vec![vec![0.0; n]; layers * (heads + 1)];
        let mut noised = denoised.clone();
        for batch in task.batches(64) {
            let (clean_logits, clean_run) = self.recorded(task, &batch, Side::Clean)?;
            let (corrupt_logits, corrupt_run) = self.recorded(task, &batch, Side::Corrupt)?;
            let note = |into: &mut [f64], logits: &Tensor| -> Result<()> {
                for (&i, score) in batch.iter().zip(self.score(task, &batch, logits)?) {
                    into[i] = score;
                }
                Ok(())
            };
            note(&mut clean, &clean_logits)?;
            note(&mut corrupt, &corrupt_logits)?;
            for component in 0..denoised.len() {
                let at = match component.checked_sub(layers * heads) {
                    None => Slice::whole(Site::Block(component / heads, At::Z)).head(component % heads),
                    Some(layer) => Slice::whole(Site::Block(layer, At::MlpOut)),
                };
                let swapped = |side: Side, from: &Activations| -> Result<Tensor> {
                    let values = from.get(at.site)?;
                    let values = match at.head {
                        Some(head) => values.narrow(2, head, 1)?,
                        None => values.clone(),
                    };
                    let mut edits = Edits::new([Edit { at: at.clone(), op: Op::Set(values) }]);
                    let logits = self.logits(task, &batch, side, &mut edits)?;
                    edits.finish()?;
                    Ok(logits)
                };
                note(&mut denoised[component], &swapped(Side::Corrupt, &clean_run)?)?;
                note(&mut noised[component], &swapped(Side::Clean, &corrupt_run)?)?;
            }
        }
        Ok(Effects { layers, heads, clean, corrupt, denoised, noised })
    }

    /// The share of the logit difference that heads 2.0 and 2.1 write themselves: Σ z·W_O · direction / σ over Σ LD.
    pub fn name_mover_share(&self, task: &Task) -> Result<f64> {
        let (mut direct, mut whole) = (0.0, 0.0);
        for batch in task.batches(64) {
            let (logits, run) = self.recorded(task, &batch, Side::Clean)?;
            whole += self.score(task, &batch, &logits)?.iter().sum::<f64>();
            let results = self.model.blocks[2].attention.results(run.block(2, At::Z)?)?; // [batch, pos, head, d_model]
            let scales = run.get(Site::FinalScale)?;
            for (row, &i) in batch.iter().enumerate() {
                let (example, end) = (&task.examples[i], task.examples[i].end());
                let column = |id: u32| self.model.unembed.w.narrow(1, id as usize, 1)?.squeeze(1);
                let direction = (column(example.answers[0])? - column(example.wrong[0])?)?;
                let direction = ops::center(&(direction * &self.model.ln_final.gain)?.unsqueeze(0)?)?;
                let written = results.get(row)?.get(end)?.narrow(0, 0, 2)?.sum(0)?; // heads 0 and 1: [d_model]
                let dot = (written * direction.squeeze(0)?)?.sum_all()?.to_scalar::<f32>()?;
                let scale = scales.get(row)?.get(end)?.squeeze(0)?.to_scalar::<f32>()?;
                direct += f64::from(dot / scale);
            }
        }
        Ok(direct / whole)
    }

    /// Share of prompts whose answer is preferred.
    pub fn effects_free_accuracy(&self, task: &Task) -> Result<f64> {
        let mut right = 0;
        for batch in task.batches(64) {
            let logits = self.logits(task, &batch, Side::Clean, &mut ())?;
            right += self.score(task, &batch, &logits)?.iter().filter(|score| **score > 0.0).count();
        }
        Ok(right as f64 / task.examples.len().max(1) as f64)
    }

    /// Mean difference of the probabilities of right and wrong years.
    pub fn later_years(&self, task: &Task) -> Result<f64> {
        let mut sum = 0.0;
        for batch in task.batches(64) {
            let logits = self.logits(task, &batch, Side::Clean, &mut ())?;
            let scores = Metric::ProbDiff.score(&logits, &task.targets(&batch, None))?;
            sum += scores.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
        }
        Ok(sum / task.examples.len().max(1) as f64)
    }

    /// Share of all facts of all people that are the first choice.
    pub fn all_facts(&self) -> Result<f64> {
        let language = Language::new();
        let people = language.people.iter();
        let all = people.flat_map(|person| (0..3).map(move |relation| fact(person, relation)));
        self.first_choices(all.map(|(sentence, answer)| (sentence.words.join(" "), answer)).collect())
    }

    /// Share of all countries whose capital is the first choice.
    pub fn all_capitals(&self) -> Result<f64> {
        let pairs = list(words::COUNTRIES).into_iter().zip(list(words::CAPITALS));
        self.first_choices(
            pairs.map(|(country, capital)| (format!("The capital of {country} is"), capital)).collect(),
        )
    }

    fn first_choices(&self, prompts: Vec<(String, &str)>) -> Result<f64> {
        let bos = self.vocabulary.encode(BOS)?;
        let mut by_length: BTreeMap<usize, Vec<(Vec<u32>, u32)>> = BTreeMap::new();
        for (text, answer) in &prompts {
            let ids = [bos.clone(), self.vocabulary.encode(text)?].concat();
            by_length.entry(ids.len()).or_default().push((ids, self.vocabulary.single(answer)?.0));
        }
        let mut right = 0;
        for (length, rows) in by_length {
            let tokens =
                self.model.tokens(&rows.iter().map(|(ids, _)| ids.as_slice()).collect::<Vec<_>>())?;
            let logits = self.model.forward(&tokens, &mut ())?.narrow(1, length - 1, 1)?.squeeze(1)?;
            let first: Vec<u32> = logits.argmax(D::Minus1)?.to_vec1()?;
            right += first.iter().zip(&rows).filter(|(first, (_, answer))| *first == answer).count();
        }
        Ok(right as f64 / prompts.len().max(1) as f64)
    }

    /// Sequences of random words, twice.
    pub fn attention_scores(&self, n: usize) -> Result<Scores> {
        let c = &self.model.config;
        let half = ((c.n_ctx - 1) / 2).min(23);
        let mut rng = ChaCha8Rng::seed_from_u64(106);
        let mut rows = Vec::with_capacity(n);
        for _ in 0..n {
            let mut word = |_| rng.random_range(1..c.d_vocab as u32);
            let once: Vec<u32> = (0..half).map(&mut word).collect();
            rows.push([&[0], once.as_slice(), &once].concat());
        }
        let tokens = self.model.tokens(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let (logits, run) = self.model.record(&tokens, |site| matches!(site, Site::Block(_, At::Pattern)))?;
        let first: Vec<Vec<u32>> = logits.argmax(D::Minus1)?.to_vec2()?;
        let pattern = |layer: usize| -> Result<Vec<Vec<Vec<f32>>>> {
            Ok(run.block(layer, At::Pattern)?.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?.to_vec3()?)
        };
        let (zero, one) = (pattern(0)?, pattern(1)?);
        let (mut previous, mut induction, mut copied) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..n {
            for pos in 1..2 * half + 1 {
                previous.push(f64::from(zero[row][pos][pos - 1]));
                if pos > half {
                    induction.push(f64::from(one[row][pos][pos - half + 1]));
                }
                if pos > half && pos < 2 * half {
                    copied.push(f64::from(u8::from(first[row][pos] == rows[row][pos + 1])));
                }
            }
        }
        Ok(Scores { previous: mean(&previous), induction: mean(&induction), copied: mean(&copied) })
    }
}
