//! Weights, read strictly and one at a time: what is asked for must be there and finite, what is there must be asked for.
//!
//! Files are read, not mapped: memory peaks at the converted model and one tensor, and a file that shrinks meanwhile is an
//! error rather than a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};

use super::convert;
use super::room::Need;
use super::shards::{self, Entry, Shard};
use crate::error::{Error, Result};

/// The tensors of a checkpoint, and which of them were taken.
#[derive(Debug)]
pub struct Tensors {
    shards: Vec<Shard>,
    entries: BTreeMap<String, Entry>,
    used: BTreeSet<String>,
    parameters: usize,
    dtype: DType,
    device: Device,
}

impl Tensors {
    /// Opens weight files; `dtype` (f32 or f64) is what tensors are converted to.
    pub fn open(files: &[PathBuf], dtype: DType, device: &Device) -> Result<Tensors> {
        if !matches!(dtype, DType::F32 | DType::F64) {
            let message = format!("a model cannot be computed in {}", dtype.as_str());
            return Err(Error::usage(message, "use f32 or f64"));
        }
        let (shards, entries) = shards::open(files)?;
        let (used, device) = (BTreeSet::new(), device.clone());
        Ok(Tensors { shards, entries, used, parameters: 0, dtype, device })
    }

    /// The first of these prefixes that some tensor's name has, or nothing.
    pub fn prefix(&self, candidates: &[&'static str]) -> &'static str {
        let fits = |prefix: &&&str| self.entries.keys().any(|name| name.starts_with(**prefix));
        candidates.iter().find(fits).copied().unwrap_or_default()
    }

    /// Whether there is such a tensor, of exactly this name.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The shape of the tensor of exactly this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// What reading all of them takes. `embed` is the shape of the embedding: where only one tensor has it, the unembedding is
    /// tied, a turned copy of it.
    pub fn need(&self, embed: [usize; 2]) -> Need {
        let count = |shape: &[usize]| shape.iter().fold(1u64, |n, &size| n.saturating_mul(size as u64));
        let floats = || self.entries.values().filter(|entry| convert::readable(entry.dtype));
        let weights = floats().map(|entry| count(&entry.shape)).fold(0, u64::saturating_add);
        let tied = floats().filter(|entry| entry.shape == embed).count() == 1;
        let width = self.dtype.size_in_bytes() as u64;
        let model = weights.saturating_add(if tied { count(&embed) } else { 0 }).saturating_mul(width);
        let raw = |entry: &Entry| count(&entry.shape).saturating_mul(entry.dtype.bitsize() as u64 / 8);
        let raw = floats().map(raw).max().unwrap_or(0);
        let converted = floats().map(|entry| count(&entry.shape).saturating_mul(width)).max().unwrap_or(0);
        // on its way to a card, one tensor at a time is in main memory: as read and as converted
        let main = raw.saturating_add(if self.device.is_cuda() { converted } else { model });
        Need { weights, dtype: self.dtype, model, main }
    }

    /// A tensor of this shape.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.load(name, shape, None)
    }

    /// A matrix that the file holds as `[rows, columns]`, as `[columns, rows]`.
    pub fn take_turned(&mut self, name: &str, rows: usize, columns: usize) -> Result<Tensor> {
        self.load(name, &[rows, columns], Some((rows, columns)))
    }

    /// Accepts a second copy of a tensor: it must hold the same bytes.
    pub fn copy_of(&mut self, name: &str, original: &str) -> Result<()> {
        let (copy, first) = (self.entry(name)?, self.entry(original)?);
        let same = copy.dtype == first.dtype && copy.shape == first.shape;
        if !same || self.shards[copy.shard].read(&copy)? != self.shards[first.shard].read(&first)? {
            let message = format!("config.json says that {name} is tied to {original}, but the two differ");
            return Err(Error::input(
                message,
                "set `tie_word_embeddings` to false if they are meant to differ",
            ));
        }
        self.used.insert(name.to_owned());
        Ok(())
    }

    /// Ones, where a model has no such tensor.
    pub fn ones(&self, width: usize) -> Result<Tensor> {
        Ok(Tensor::ones(width, self.dtype, &self.device)?)
    }

    /// Leaves a tensor aside, if it is there: a buffer that follows from the config.
    pub fn skip(&mut self, name: &str) {
        self.used.insert(name.to_owned());
    }

    /// How many numbers were taken so far.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// An error that lists the tensors nobody took.
    pub fn finish(&self) -> Result<()> {
        const SHOWN: usize = 8;
        let left: Vec<&str> =
            self.entries.keys().filter(|name| !self.used.contains(*name)).map(String::as_str).collect();
        if left.is_empty() {
            return Ok(());
        }
        let more = left.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown = left[..left.len().min(SHOWN)].join(", ");
        let s = if left.len() == 1 { "" } else { "s" };
        let message = format!("{} tensor{s} left over in {}: {shown}{more}", left.len(), self.files());
        let hint = "the model has parts that config.json does not speak of, so its numbers would not be ours; \
                    check that config and weights belong together";
        Err(Error::input(message, hint))
    }

    fn load(&mut self, name: &str, shape: &[usize], turned: Option<(usize, usize)>) -> Result<Tensor> {
        let entry = self.entry(name)?;
        let file = &self.shards[entry.shard].name;
        if entry.shape != shape {
            let message =
                format!("{name} in {file} has shape {:?}, but config.json needs {shape:?}", entry.shape);
            return Err(Error::input(message, "check that config.json and weights belong together"));
        }
        if !convert::readable(entry.dtype) {
            let message = format!("{name} in {file} is of type {:?}, which is not supported", entry.dtype);
            return Err(Error::input(
                message,
                "supported: F16, BF16, F32, F64; a quantised model must be expanded first",
            ));
        }
        let shape = turned.map_or_else(|| shape.to_vec(), |(rows, columns)| vec![columns, rows]);
        let tensor = match self.dtype {
            DType::F64 => self.tensor::<f64>(name, &entry, turned, shape)?,
            _ => self.tensor::<f32>(name, &entry, turned, shape)?,
        };
        if self.used.insert(name.to_owned()) {
            self.parameters += tensor.elem_count();
        }
        Ok(tensor)
    }

    fn tensor<T: candle_core::WithDType>(
        &mut self,
        name: &str,
        entry: &Entry,
        turned: Option<(usize, usize)>,
        shape: Vec<usize>,
    ) -> Result<Tensor> {
        let count = shape.iter().product();
        let (values, bad): (Vec<T>, usize) = self.shards[entry.shard]
            .numbers(entry, |from| convert::values(from, entry.dtype, count, turned))?;
        if bad > 0 {
            let (file, count) = (&self.shards[entry.shard].name, values.len());
            let message = format!(
                "{name} in {file} holds {bad} values of {count} that are NaN or infinite as {}",
                self.dtype.as_str()
            );
            return Err(Error::input(
                message,
                "the checkpoint is damaged, or its training diverged: use another one",
            ));
        }
        Ok(Tensor::from_vec(values, shape, &self.device)?)
    }

    /// Where a tensor lies, or an error with the names nearest to it.
    fn entry(&self, name: &str) -> Result<Entry> {
        if let Some(entry) = self.entries.get(name) {
            return Ok(entry.clone());
        }
        let mut near: Vec<(f64, &String)> =
            self.entries.keys().map(|known| (strsim::normalized_levenshtein(name, known), known)).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let near: Vec<&str> = near.iter().take(3).map(|(_, known)| known.as_str()).collect();
        let hint = match near[..] {
            [] => "there is no tensor at all".to_owned(),
            _ => {
                format!("nearest are {}; check that config.json and weights belong together", near.join(", "))
            }
        };
        Err(Error::input(format!("the tensor {name} is missing from {}", self.files()), hint))
    }

    fn files(&self) -> String {
        match &self.shards[..] {
            [one] => one.name.clone(),
            many => format!("{} shards", many.len()),
        }
    }
}
