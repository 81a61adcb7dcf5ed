//! Training the bundled models by back-propagation through the same `Transformer` that everything else looks into.
//!
//! A step is a function of recipe, weights, moments and step number alone: an interrupted run goes on from its saved
//! state as if nothing had happened, bit for bit.

mod adamw;
pub mod circuit;
pub mod data;
pub mod files;
pub mod gates;
mod loss;
mod measure;
mod network;
mod page;
mod recipe;
mod state;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::DType;
use sha2::{Digest, Sha256};

pub use recipe::{Architecture, Mixture, Recipe, Supervision, Training};

use crate::error::{Error, Result};
use crate::family::gpt2;
use crate::lab::Progress;
use crate::output::{Folder, Manifest, ModelFacts};
use crate::task::language::Language;
use crate::vocabulary::Vocabulary;
use gates::{Care, Gate};
use loss::Supervisor;
use network::Network;

crate::row! {
    /// How training went, every few steps.
    pub struct Logged {
        /// Updates done.
        pub step: usize,
        /// Mean −log p of the next token, answers weighted (nats).
        pub loss: f64,
        /// The attention loss, weighted.
        pub attention_loss: f64,
        /// Norm of the gradient before it was shortened.
        pub gradient_norm: f64,
        /// Learning rate.
        pub learning_rate: f64,
    }
}

crate::row! {
    /// A gate, each time it was measured.
    pub struct GateRow {
        /// Updates done.
        pub step: usize,
        /// What is measured.
        pub gate: String,
        /// The number.
        pub value: f64,
        /// What it must reach (or, where `at_most`, stay below).
        pub bound: f64,
        /// Whether the bound is the most it may be.
        pub at_most: bool,
        /// Whether it does.
        pub holds: bool,
    }
}

/// A run: the model, how far it is, and what was logged.
pub struct Trainer {
    recipe: Recipe,
    language: Language,
    vocabulary: Vocabulary,
    network: Network,
    step: usize,
    logged: Vec<Logged>,
    gates: Vec<GateRow>,
}

/// The saved state's name in the run folder.
pub const STATE: &str = ".glassbox-state.safetensors";
const LOG_EVERY: usize = 10;
const SAVE_EVERY: usize = 100;

impl Trainer {
    /// A run at its beginning.
    pub fn new(recipe: Recipe) -> Result<Trainer> {
        let language = Language::new();
        let network = Network::new(&recipe, language.vocabulary.len())?;
        let vocabulary = files::vocabulary(&language)?;
        Ok(Trainer { recipe, language, vocabulary, network, step: 0, logged: Vec::new(), gates: Vec::new() })
    }

    /// A run as [`Trainer::state`] left it.
    pub fn resume(recipe: Recipe, state: &[u8]) -> Result<Trainer> {
        let mut trainer = Trainer::new(recipe)?;
        state::restore(&mut trainer, state)?;
        Ok(trainer)
    }

    /// The run of a folder: from its beginning, or from the state that an interrupted run left there.
    pub fn open(recipe: Recipe, folder: &Folder) -> Result<Trainer> {
        match folder.read(STATE)? {
            Some(state) if folder.resumed() => Trainer::resume(recipe, &state),
            _ => Trainer::new(recipe),
        }
    }

    /// What the manifest says about the run.
    pub fn manifest(&self, threads: usize) -> Result<Manifest> {
        let parameters = self.network.parameters.iter().map(|p| p.var.elem_count() as u64).sum();
        let hash = Sha256::digest(self.weights(DType::F32)?);
        Ok(Manifest {
            argv: std::env::args().collect(),
            model: ModelFacts {
                name: self.recipe.name.clone(),
                revision: None,
                family: "gpt2".into(),
                sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            },
            seed: self.recipe.seed,
            dtype: "f32".into(),
            device: "cpu".into(),
            threads,
            sizes: BTreeMap::from([("parameters".into(), parameters), ("steps".into(), self.step as u64)]),
            ..Manifest::default()
        })
    }

    /// Updates done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Weights, moments, step and log, as one safetensors file.
    pub fn state(&self) -> Result<Vec<u8>> {
        state::save(self)
    }

    /// The weights as a GPT-2 checkpoint.
    pub fn weights(&self, dtype: DType) -> Result<Vec<u8>> {
        let tensors = gpt2::export(&self.network.full()?)?.into_iter();
        let converted = tensors.map(|(name, tensor)| Ok((name, tensor.detach().to_dtype(dtype)?)));
        files::safetensors(converted.collect::<Result<_>>()?, None)
    }

    /// One update of every weight.
    pub fn advance(&mut self) -> Result<()> {
        let batch = data::batch(&self.language, &self.recipe, self.step)?;
        let model = &self.network.model;
        let rows: Vec<&[u32]> = batch.tokens.chunks(batch.length).collect();
        let mut supervisor = Supervisor::new(&batch, model, self.recipe.attention.weight)?;
        let logits = model.forward(&model.tokens(&rows)?, &mut supervisor)?;
        let loss = loss::next_token(&logits, &batch, self.recipe.training.answer_weight)?;
        let attention = supervisor.loss();
        let sum = match &attention {
            Some(attention) => (&loss + attention)?,
            None => loss.clone(),
        };
        let grads = sum.backward()?;
        let t = &self.recipe.training;
        let norm = adamw::update(&mut self.network.parameters, &grads, t, self.step)?;
        if self.step.is_multiple_of(LOG_EVERY) || self.step + 1 == t.steps {
            self.logged.push(Logged {
                step: self.step,
                loss: f64::from(loss.to_scalar::<f32>()?),
                attention_loss: attention.map_or(Ok(0.0), |a| a.to_scalar::<f32>())?.into(),
                gradient_norm: norm,
                learning_rate: adamw::learning_rate(t, self.step),
            });
        }
        self.step += 1;
        Ok(())
    }

    /// Measures the gates and logs them.
    pub fn measure(&mut self, care: Care) -> Result<Vec<Gate>> {
        let designed = self.recipe.attention.weight > 0.0;
        let gates = gates::measure(&self.network.model, &self.vocabulary, designed, care)?;
        self.gates.extend(gates.iter().map(|gate| GateRow {
            step: self.step,
            gate: gate.name.clone(),
            value: gate.value,
            bound: gate.bound,
            at_most: gate.at_most,
            holds: gate.holds(),
        }));
        Ok(gates)
    }

    /// Trains to the end: writes checkpoints and state on the way, and the model's files, tables and page last. When the
    /// user stops it, the state is saved and the error says so. Returns the gates as measured last.
    pub fn run(
        &mut self,
        folder: &mut Folder,
        progress: &dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Vec<Gate>> {
        let t = self.recipe.training.clone();
        progress.begin(&format!("train {}", self.recipe.name), t.steps as u64);
        progress.advance(self.step as u64);
        let mut word = String::new();
        while self.step < t.steps {
            if stop.load(Ordering::Relaxed) {
                self.save(folder)?;
                progress.end();
                return Err(Error::Interrupted {
                    kept: format!(" but the state after step {}: `--resume` goes on from there", self.step),
                });
            }
            self.advance()?;
            if t.checkpoints.contains(&self.step) {
                folder.write(&files::checkpoint(self.step), &self.weights(DType::F16)?)?;
            }
            if self.step.is_multiple_of(t.gates_every) && self.step < t.steps {
                let gates = self.measure(Care::Quick)?;
                let held = gates.iter().filter(|gate| gate.holds()).count();
                word = format!(" · gates {held}/{}", gates.len());
            }
            if self.step.is_multiple_of(SAVE_EVERY) {
                self.save(folder)?;
            }
            if let Some(last) = self.logged.last() {
                progress.note(&format!("loss {:.3} + {:.3}{word}", last.loss, last.attention_loss));
            }
            progress.advance(1);
        }
        progress.end();
        let gates = self.measure(Care::Full)?;
        files::write(self, &gates, folder)?;
        Ok(gates)
    }

    /// Saves the state, from which `--resume` goes on.
    fn save(&self, folder: &mut Folder) -> Result<()> {
        folder.write(STATE, &self.state()?)?;
        folder.keep_partial();
        Ok(())
    }
}
