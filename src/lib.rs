//! glassbox opens up a language model: it runs a transformer with every intermediate value exposed, changes any of them,
//! and reports which components drive a prediction.
//!
//! ```
//! use glassbox::edit::{Edit, Edits, Op};
//! use glassbox::lab::Lab;
//! use glassbox::site::{At, Site, Slice};
//!
//! # fn main() -> glassbox::Result<()> {
//! let lab = Lab::open("textbook", candle_core::DType::F32, &candle_core::Device::Cpu)?;
//! let prompt = lab.vocabulary.encode("When Mary and John went to the store , John gave a drink to")?;
//! let tokens = lab.model.tokens(&[&prompt])?; // [batch, pos]
//!
//! // Record: where do heads of layer 2 look?
//! let (logits, kept) = lab.model.record(&tokens, |site| site == Site::Block(2, At::Pattern))?;
//! assert_eq!(kept.block(2, At::Pattern)?.dims(), [1, 4, prompt.len(), prompt.len()]);
//!
//! // Lesion: the same pass without head 2.0.
//! let mut lesion = Edits::new([Edit { at: Slice::whole(Site::Block(2, At::Z)).head(0), op: Op::Scale(0.0) }]);
//! let without = lab.model.forward(&tokens, &mut lesion)?;
//! lesion.finish()?; // an edit that never fired is an error
//! assert_eq!(without.dims(), logits.dims());
//! # Ok(())
//! # }
//! ```
//!
//! The modules, in the order in which they build on each other; none uses one below it (`tests/integration/layering.rs`
//! holds them to that).

// What stands on nothing, and the table of places.
pub mod error;
pub mod progress;
pub mod site;

// Tensor functions with checked gradients.
pub mod ops;

// What may watch or change a pass.
pub mod hook;

pub mod edit;
pub mod record;

pub mod gradient;

// The pass.
pub mod model;

pub mod component;

// From a directory to a model that takes text.
pub mod vocabulary;

pub mod checkpoint;

pub mod family;

pub mod lab;

// What is asked, and how an answer is measured.
pub mod metric;

pub mod decide;
pub mod distribution;

pub mod task;

pub mod recording;

// Many interventions, and what to make of them.
pub mod lesion;

pub mod sweep;

pub mod graph;

pub mod stats;

pub mod groups;

pub mod learn;

pub mod factored;

pub mod steering;

pub mod row;

pub mod generate;

pub mod patterns;

pub mod show;

pub mod analysis;

// The engine held to its promises on one model's weights.
pub mod verify;

// Onto paper.
pub mod table;

pub mod output;

pub mod figure;

pub mod study;

pub mod compare;

pub mod report;
pub mod train;

// The program.
pub mod command;

pub use error::{Error, Result};
