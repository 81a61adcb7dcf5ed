//! A model that speaks: one token after the other, with edits that stand while it does.
//!
//! The window of each pass is the new token; keys and values to its left come from the cache. An edit at an absolute
//! position is made when that position is computed, once, so that the result is that of computing the whole sequence anew
//! with all edits (a test compares the two). Saying what comes next and choosing it are two steps: the model gives logits, a
//! [`Rule`] chooses.

mod lasting;
pub mod request;
mod rows;

use candle_core::{DType, Device};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use rows::{Said, TextRow, TokenRow, tables};

use crate::decide::{Rule, softmax};
use crate::edit::{Edit, Edits};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::model::{Cache, Stream};
use lasting::Lasting;

/// How a text is continued.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What chooses the next token.
    pub rule: Rule,
    /// How many new tokens at most.
    pub max_tokens: usize,
    /// Tokens after which the text ends; they are its last.
    pub stop: Vec<u32>,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It has as many new tokens as were asked for.
    Enough,
    /// A token was chosen after which it ends.
    Token,
    /// The model's context is full.
    Context,
}

impl Stopped {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Stopped::Enough => "max-tokens",
            Stopped::Token => "stop",
            Stopped::Context => "context",
        }
    }
}

/// One chosen token, and the distribution it was chosen from.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The token.
    pub id: u32,
    /// Where it stands in the text.
    pub pos: usize,
    /// Its probability under the model, edits included.
    pub prob: f64,
    /// ln of that.
    pub log_prob: f64,
    /// Entropy of the model's distribution (nats).
    pub entropy: f64,
    /// The probability that the rule picks it.
    pub picked: f64,
    /// p·gain − (1 − p)·cost, where the rule weighs gains.
    pub expected_gain: Option<f64>,
}

/// A continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Spoken {
    /// The new tokens.
    pub chosen: Vec<Chosen>,
    /// Why there are no more.
    pub stopped: Stopped,
    /// Positions of edits that the text never came to.
    pub unreached: Vec<usize>,
}

/// A text in the making: its tokens, and the logits of what comes next.
pub struct Growing<'a> {
    lab: &'a Lab,
    lasting: Lasting,
    cache: Cache,
    tokens: Vec<u32>,
    logits: Vec<f64>,
}

impl<'a> Growing<'a> {
    /// Runs the prompt under these edits. Positions are absolute, and stand also for tokens yet to come; values that
    /// differ from position to position need named positions.
    pub fn new(lab: &'a Lab, prompt: &[u32], edits: &[Edit]) -> Result<Growing<'a>> {
        let lasting = Lasting::new(&lab.model, edits)?;
        let cache = Cache::new(&lab.model);
        let mut growing = Growing { lab, lasting, cache, tokens: Vec::new(), logits: Vec::new() };
        growing.extend(prompt)?;
        Ok(growing)
    }

    /// Another text with the same beginning.
    pub fn fork(&self) -> Result<Growing<'a>> {
        let (lasting, cache) = (self.lasting.clone(), self.cache.fork()?);
        Ok(Growing {
            lab: self.lab,
            lasting,
            cache,
            tokens: self.tokens.clone(),
            logits: self.logits.clone(),
        })
    }

    /// All tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Logits `[d_vocab]` of the next token.
    pub fn logits(&self) -> &[f64] {
        &self.logits
    }

    /// Adds a token. Where the longer text is rotated in another way than what the cache holds, all of it is computed anew:
    /// what is said next is always what the model says of the text as it stands.
    pub fn push(&mut self, token: u32) -> Result<()> {
        let length = self.tokens.len();
        if self.lab.model.rotates_alike(length, length + 1) {
            return self.extend(&[token]);
        }
        let all = [&self.tokens[..], &[token]].concat();
        (self.cache, self.tokens) = (Cache::new(&self.lab.model), Vec::new());
        self.extend(&all)
    }

    fn extend(&mut self, tokens: &[u32]) -> Result<()> {
        self.lab.check()?;
        let model = &self.lab.model;
        let (first, end) = (self.cache.pos(), self.cache.pos() + tokens.len());
        self.cache.end_at(end);
        let mut edits = Edits::new(self.lasting.within(first..end)?);
        let stream = model.grow(&model.tokens(&[tokens])?, &mut self.cache, &mut edits)?;
        // what comes next is read at the last position; no other needs to be unembedded
        let last =
            Stream { first_pos: end - 1, resid: stream.resid.narrow(1, tokens.len() - 1, 1)?, ..stream };
        let logits = model.unembed(&last, &mut edits)?;
        edits.finish()?;
        self.logits = logits.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?;
        self.tokens.extend(tokens);
        Ok(())
    }

    /// Refuses to go on with models that cannot read what they say.
    fn can_speak(&self, settings: &Settings) -> Result<()> {
        let c = &self.lab.model.config;
        if settings.max_tokens > 1 && !c.causal {
            return Err(Error::usage(
                "this model looks both ways, and does not say one token after the other",
                "ask for one token: `--max-tokens 1`; `predict` lists what it expects",
            ));
        }
        if settings.max_tokens > 1 && c.d_vocab != c.d_vocab_out {
            return Err(Error::usage(
                format!(
                    "this model reads {} tokens and predicts {}: it cannot read what it says",
                    c.d_vocab, c.d_vocab_out
                ),
                "ask for one token: `--max-tokens 1`; `predict` lists what it expects",
            ));
        }
        Ok(())
    }

    /// Chooses tokens until the text ends. `heard` is told each as it is chosen. `stream` tells apart the draws of texts
    /// that share the lab's seed.
    pub fn speak(
        mut self,
        settings: &Settings,
        stream: u64,
        heard: &mut dyn FnMut(&Chosen) -> Result<()>,
    ) -> Result<Spoken> {
        settings.rule.check()?;
        let d_vocab = self.lab.model.config.d_vocab_out;
        self.can_speak(settings)?;
        if let Some(id) = settings.stop.iter().find(|&&id| id as usize >= d_vocab) {
            return Err(Error::usage(
                format!("the stop token {id} is outside the vocabulary of {d_vocab}"),
                "name a token of this model",
            ));
        }
        let mut draws = ChaCha8Rng::seed_from_u64(self.lab.seed);
        draws.set_stream(stream);
        let mut chosen: Vec<Chosen> = Vec::new();
        let stopped = loop {
            if chosen.len() >= settings.max_tokens {
                break Stopped::Enough;
            }
            if self.tokens.len() >= self.lab.model.config.n_ctx {
                break Stopped::Context;
            }
            // drawn for every token, so that draws do not depend on what the rule does with them
            let next = choose(&settings.rule, &self.logits, draws.random(), self.tokens.len())?;
            heard(&next)?;
            let id = next.id;
            chosen.push(next);
            if settings.stop.contains(&id) {
                break Stopped::Token;
            }
            if chosen.len() < settings.max_tokens {
                self.push(id)?;
            }
        };
        Ok(Spoken { chosen, stopped, unreached: self.lasting.beyond(self.cache.pos()) })
    }
}

fn choose(rule: &Rule, logits: &[f64], seed: u64, pos: usize) -> Result<Chosen> {
    let id = rule.choose(logits, seed)?;
    let p = softmax(logits, 1.0);
    let at = id as usize;
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ln_z = logits.iter().map(|x| (x - top).exp()).sum::<f64>().ln() + top;
    let each = p.iter().zip(logits).filter(|(p, _)| **p > 0.0).map(|(p, x)| p * (ln_z - x));
    Ok(Chosen {
        id,
        pos,
        prob: p[at],
        log_prob: logits[at] - ln_z,
        entropy: each.sum::<f64>().max(0.0),
        picked: rule.probabilities(logits)[at],
        expected_gain: match rule {
            Rule::ExpectedGain(gains) => Some(gains.expected(id, p[at])),
            _ => None,
        },
    })
}
