//! What every analysis is given: a model, its vocabulary, and how to work.

mod device;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use device::{device, device_name};

use crate::checkpoint;
pub use crate::checkpoint::Arrays;
use crate::error::{Error, Result};
use crate::family;
use crate::model::{Fold, Folding, Transformer};
pub use crate::progress::{Progress, Silent};
use crate::vocabulary::Vocabulary;

/// Which model is open, for reports and manifests.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct About {
    /// As asked for: `textbook`, `gpt2`, a folder's name.
    pub name: String,
    /// The commit of its repository, if it came from a hub.
    pub revision: Option<String>,
    /// The family that read it.
    pub family: String,
    /// sha256 over the weight files, as hex.
    pub hash: String,
    /// sha256 of the tokenizer file, if there is one.
    pub tokenizer_hash: Option<String>,
    /// Numbers of all weights.
    pub parameters: usize,
    /// How the weights were folded after they were read; empty if they are the files' own.
    pub folded: Vec<Fold>,
    /// Sentences a report must carry about this model: how it was made, what it is not.
    pub caveats: Vec<String>,
    /// The model's `circuit.json`, if it ships one: designed roles by task.
    pub circuit: Option<serde_json::Value>,
}

/// Arrays that outlive a run: recorded activations, found again by what they are of. Kept on disk by `output`.
pub trait Store: Send + Sync {
    /// What is kept for exactly this description; empty if nothing is.
    fn open(&self, about: &Map<String, Value>) -> Result<Box<dyn Shelf>>;
    /// Sentences on what was found, what was not and why, so far.
    fn remarks(&self) -> Vec<String>;
}

/// The arrays of one description, each `[rows, width]` in f32.
pub trait Shelf: Send + Sync {
    /// An array, if it is there and whole; one that is damaged counts as missing.
    fn read(&self, name: &str, shape: [usize; 2]) -> Result<Option<Vec<f32>>>;
    /// Begins an array anew, to be filled by [`Shelf::append`] row after row.
    fn begin(&mut self, name: &str, shape: [usize; 2]) -> Result<()>;
    /// The next rows of an array that was begun.
    fn append(&mut self, name: &str, rows: &[f32]) -> Result<()>;
    /// Puts every array that was begun in its place; one that is not full is an error.
    fn finish(&mut self) -> Result<()>;
}

/// The place of one batch of one sweep in a [`Journal`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Digest of what the sweep was to do: all on which its numbers depend, but what is read off the logits.
    pub plan: [u8; 32],
    /// Which of the sweeps with this plan, as [`Journal::begin`] gave it.
    pub turn: u64,
    /// Which of its batches.
    pub batch: u64,
}

/// Finished batches of long work, which outlive the process. Kept on disk by `output`, between the steps of a run.
pub trait Journal: Send + Sync {
    /// Begins a sweep, and says how many of the same plan came before it in this step. A run that is continued begins its sweeps
    /// in the order of the one that was cut off.
    fn begin(&self, plan: &[u8; 32]) -> u64;
    /// The numbers of a batch, bit for bit, if it was noted.
    fn read(&self, key: &Key) -> Result<Option<Vec<f64>>>;
    /// Notes the numbers of a batch that is finished; once this returns, no kill can undo it.
    fn note(&self, key: &Key, numbers: &[f64]) -> Result<()>;
}

/// What sweeps would take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planned {
    /// Runs: interventions on one prompt.
    pub runs: u64,
    /// Those that can change nothing, and are not made.
    pub free: u64,
    /// Passes through the model that the runs share.
    pub passes: u64,
    /// Floating-point operations of their products.
    pub flops: u64,
    /// Those of what changes alone: the light cones of the interventions.
    pub floor: u64,
    /// Bytes of the streams that a pass holds.
    pub bytes: u64,
}

/// Plans of sweeps that are not run.
#[derive(Debug, Default)]
pub struct Plans(Mutex<Planned>);

impl Plans {
    /// One more.
    pub fn add(&self, plan: Planned) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *all = Planned {
            runs: all.runs + plan.runs,
            free: all.free + plan.free,
            passes: all.passes + plan.passes,
            flops: all.flops + plan.flops,
            floor: all.floor + plan.floor,
            bytes: all.bytes.max(plan.bytes),
        };
    }

    /// All since the last call.
    pub fn take(&self) -> Planned {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Model, vocabulary and working conditions.
pub struct Lab {
    /// The model.
    pub model: Transformer,
    /// Text in, tokens out.
    pub vocabulary: Vocabulary,
    /// Which model it is.
    pub about: About,
    /// Every random draw derives from this.
    pub seed: u64,
    /// Bytes that batches of work may take.
    pub memory: u64,
    /// Where progress is shown.
    pub progress: Arc<dyn Progress>,
    /// Set when the user wants to stop.
    pub stop: Arc<AtomicBool>,
    /// Where activations are kept between runs, if anywhere.
    pub store: Option<Arc<dyn Store>>,
    /// Where sweeps note what they have finished, if anywhere.
    pub journal: Option<Arc<dyn Journal>>,
    /// Where sweeps say what they would take instead of doing it: their cells then seem to change nothing.
    pub planned: Option<Arc<Plans>>,
    /// Recorded activations that an analysis may put in place of the model's own.
    pub values: Option<Arc<Arrays>>,
}

impl Lab {
    /// Opens a model for computing in `dtype` (f32 or f64). `model` is a bundled name (`textbook`, also at a step of its training:
    /// `textbook@step600`), the path of a directory in Hugging Face layout, or a hub id that the local cache holds
    /// (`EleutherAI/pythia-70m@step3000`). Nothing is fetched: that is [`checkpoint::Hub::fetch`].
    pub fn open(model: &str, dtype: DType, device: &Device) -> Result<Lab> {
        device::check(device, dtype)?;
        let directory = checkpoint::locate(model)?;
        // the hash takes about as long as the weights: beside each other, each file comes from the disk once
        let unwanted = AtomicBool::new(false);
        let (loaded, (hash, vocabulary)) = rayon::join(
            || {
                let loaded = family::load(&directory, dtype, device);
                unwanted.store(loaded.is_err(), Ordering::Relaxed);
                loaded
            },
            || (directory.weights_hash_unless(&unwanted), directory.vocabulary()),
        );
        let (model, family, parameters) = loaded?;
        let about = About {
            name: directory.name().to_owned(),
            revision: directory.revision().map(str::to_owned),
            family: family.name.to_owned(),
            hash: hash?,
            tokenizer_hash: directory.tokenizer_hash()?,
            parameters,
            folded: Vec::new(),
            caveats: directory.caveats()?,
            circuit: directory.circuit()?,
        };
        Ok(Lab::new(model, vocabulary?, about))
    }

    /// What opening a model will take of the memory there is, in a sentence; nothing for a small one. Opening refuses a model
    /// that cannot fit.
    pub fn need(model: &str, dtype: DType, device: &Device) -> Result<Option<String>> {
        let directory = checkpoint::locate(model)?;
        let need = family::need(&directory, dtype, device)?;
        Ok(need.note(directory.name(), checkpoint::available()))
    }

    /// A lab with the usual conditions: seed 0, 2 GiB, no progress shown.
    pub fn new(model: Transformer, vocabulary: Vocabulary, about: About) -> Lab {
        Lab {
            model,
            vocabulary,
            about,
            seed: 0,
            memory: 2 << 30,
            progress: Arc::new(Silent),
            stop: Arc::new(AtomicBool::new(false)),
            store: None,
            journal: None,
            planned: None,
            values: None,
        }
    }

    /// The same lab under another's working conditions.
    #[must_use]
    pub fn beside(self, other: &Lab) -> Lab {
        let Lab { seed, memory, progress, stop, store, journal, planned, values, .. } = other;
        let (progress, stop) = (Arc::clone(progress), Arc::clone(stop));
        let (store, journal, planned, values) =
            (store.clone(), journal.clone(), planned.clone(), values.clone());
        Lab { seed: *seed, memory: *memory, progress, stop, store, journal, planned, values, ..self }
    }

    /// The same lab with the model's weights folded.
    pub fn folded(mut self, folding: &Folding) -> Result<Lab> {
        let (model, steps) = self.model.folded(folding)?;
        self.about.folded = steps;
        Ok(Lab { model, ..self })
    }

    /// How the weights were folded, in the words of `--fold`; none if they are the files' own.
    pub fn folding(&self) -> Option<String> {
        let steps = &self.about.folded;
        (!steps.is_empty()).then(|| Folding::Steps(steps.clone()).into())
    }

    /// The steps of folding that would change what this model says, each with why.
    pub fn not_folded(&self) -> Vec<(&'static str, &'static str)> {
        Fold::ALL.into_iter().filter_map(|step| Some((step.name(), self.model.refuses(step)?))).collect()
    }

    /// The place in the journal of a sweep, told apart by what it is; none without a journal.
    pub fn key(&self, what: &dyn std::fmt::Debug) -> Option<Key> {
        let journal = self.journal.as_ref()?;
        let plan = Sha256::digest(format!("{} {what:?}", self.about.hash)).into();
        Some(Key { plan, turn: journal.begin(&plan), batch: 0 })
    }

    /// What a batch of work comes to: as it was noted, or worked out now and noted.
    /// Without a journal there is no key, and all is worked out.
    pub fn noted(&self, key: Option<&Key>, work: impl FnOnce() -> Result<Vec<f64>>) -> Result<Vec<f64>> {
        let (Some(journal), Some(key)) = (&self.journal, key) else { return work() };
        if let Some(numbers) = journal.read(key)? {
            return Ok(numbers);
        }
        let numbers = work()?;
        journal.note(key, &numbers)?;
        Ok(numbers)
    }

    /// An error once the user has asked to stop; called between batches.
    pub fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted { kept: String::new() });
        }
        Ok(())
    }
}

/// The type to compute in that a word means: `f32` or `f64`.
pub fn dtype(word: &str) -> Result<DType> {
    match word {
        "f32" | "float32" | "fp32" => Ok(DType::F32),
        "f64" | "float64" | "fp64" => Ok(DType::F64),
        "f16" | "float16" | "fp16" | "bf16" | "bfloat16" => {
            let message = format!("models are not computed in {word}");
            Err(Error::usage(message, "use f32: files in half precision are converted as they are read"))
        }
        _ => Err(Error::unknown("type", word, ["f32", "f64"])),
    }
}
