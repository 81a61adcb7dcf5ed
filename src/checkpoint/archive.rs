//! A file that `torch.save` wrote: a zip archive of a pickle and the numbers it speaks of, each storage in a file of its own.
//!
//! Nothing in it is compressed, so that every tensor lies in the archive as it would in a safetensors file, and is read from
//! there one at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::AGAIN;
use super::pickle::{Node, Pickle, Read as Outcome, Refusal, Strided};
use super::shards::Entry;
use crate::error::{Error, Result};

/// Where training scripts put the weights among other things.
const NESTED: [&str; 3] = ["state_dict", "model", "model_state_dict"];
/// A hundred times what the largest models need.
const LONGEST_PICKLE: u64 = 16 << 20;
const SAVE: &str = "if you trust where it comes from, save its weights alone in Python: \
                    `torch.save({name: x.contiguous() for name, x in model.state_dict().items()}, FILE)`";

/// The tensors of a file that was opened; `shard` is its number among its model's.
pub(super) fn entries(path: &Path, file: &File, shard: usize) -> Result<Vec<(String, Entry)>> {
    let fail = |cause: String, hint: String| Error::file("read", path, cause, hint);
    let name = path.display();
    let mut start = Vec::new();
    file.take(8).read_to_end(&mut start).map_err(|e| fail(e.to_string(), AGAIN.into()))?;
    if start.first() == Some(&0x80) {
        return Err(fail(
            "it is in the format that torch.save wrote before version 1.6".into(),
            format!(
                "write it anew in Python: `torch.save(torch.load({name:?}, weights_only=True), {name:?})`"
            ),
        ));
    }
    if !start.starts_with(b"PK") {
        let hint = "weights are safetensors, or what `torch.save(model.state_dict(), FILE)` writes";
        return Err(fail("it is no file that torch.save wrote".into(), hint.into()));
    }
    let refused = |refusal| match refusal {
        Refusal::Damaged(cause) => fail(cause, AGAIN.into()),
        Refusal::Foreign(cause) => fail(cause, SAVE.into()),
    };
    let archive = Archive::open(file).map_err(refused)?;
    if archive.is_program() {
        return Err(fail(
            "it is a TorchScript archive, a program with its weights".into(),
            format!(
                "save the weights alone in Python: `torch.save(torch.jit.load({name:?}).state_dict(), FILE)`"
            ),
        ));
    }
    let content = archive.pickle(file).map_err(refused)?;
    let pickle = Pickle::read(&content).map_err(refused)?;
    let tensors = state_dict(&pickle).map_err(|cause| refused(Refusal::Foreign(cause)))?;
    let entries = tensors.into_iter().map(|(name, tensor)| {
        let entry = archive.entry(name, tensor, shard).map_err(refused)?;
        Ok((name.to_owned(), entry))
    });
    entries.collect()
}

/// The files of an archive: where each begins and how long it is, or why it cannot be read in place.
struct Archive {
    /// What the names of all files begin with.
    folder: String,
    files: BTreeMap<String, Place>,
}

/// A file that lies in the archive as it is.
#[derive(Clone, Copy)]
struct Place {
    start: u64,
    size: u64,
    compressed: bool,
}

impl Archive {
    fn open(file: &File) -> Outcome<Archive> {
        let length = file.metadata().map_err(damaged)?.len();
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
        let mut files = BTreeMap::new();
        for index in 0..zip.len() {
            let inner = zip.by_index_raw(index).map_err(damaged)?;
            let name = inner.name().map_err(damaged)?.into_owned();
            let (start, size) = (inner.data_start().unwrap_or(u64::MAX), inner.compressed_size());
            if start.checked_add(size).is_none_or(|end| end > length) {
                return Err(damaged(format!("{name} in it goes on beyond its end")));
            }
            let compressed =
                inner.compression() != CompressionMethod::Stored || inner.encrypted() || inner.size() != size;
            files.insert(name, Place { start, size, compressed });
        }
        let mut folders = files.keys().filter_map(|name| {
            let folder = name.strip_suffix("data.pkl")?;
            (folder.is_empty() || folder.ends_with('/')).then(|| folder.to_owned())
        });
        match (folders.next(), folders.next()) {
            (Some(folder), None) => Ok(Archive { folder, files }),
            (None, _) => Err(Refusal::Foreign("it is a zip archive without a data.pkl".into())),
            _ => Err(Refusal::Foreign("it holds more than one data.pkl".into())),
        }
    }

    /// Whether it was made by TorchScript.
    fn is_program(&self) -> bool {
        let (constants, code) = (format!("{}constants.pkl", self.folder), format!("{}code/", self.folder));
        self.files.keys().any(|name| *name == constants || name.starts_with(&code))
    }

    /// Where a file lies, if it is there.
    fn find(&self, name: &str) -> Outcome<Option<Place>> {
        let name = format!("{}{name}", self.folder);
        match self.files.get(&name) {
            Some(Place { compressed: true, .. }) => {
                Err(Refusal::Foreign(format!("{name} is compressed in it, which torch.save never does")))
            }
            found => Ok(found.copied()),
        }
    }

    fn place(&self, name: &str) -> Outcome<Place> {
        self.find(name)?.ok_or_else(|| damaged(format!("{}{name} is missing from it", self.folder)))
    }

    /// The pickle's bytes, once the numbers beside it are known to be little-endian.
    fn pickle(&self, file: &File) -> Outcome<Vec<u8>> {
        if let Some(place) = self.find("byteorder")? {
            let order = read(file, Place { size: place.size.min(16), ..place })?;
            if order != b"little" {
                let order = String::from_utf8_lossy(&order).into_owned();
                let cause = format!("its numbers are {order}-endian; only little-endian ones are read");
                return Err(Refusal::Foreign(cause));
            }
        }
        let place = self.place("data.pkl")?;
        if place.size > LONGEST_PICKLE {
            let cause = format!("its pickle is {} bytes long; that of a state dict is short", place.size);
            return Err(Refusal::Foreign(cause));
        }
        read(file, place)
    }

    /// Where a tensor lies.
    fn entry(&self, name: &str, tensor: &Strided, shard: usize) -> Outcome<Entry> {
        let Strided { storage, offset, shape, strides } = tensor;
        let (dtype, width) = (storage.dtype, storage.dtype.bitsize() / 8);
        let place = self.place(&format!("data/{}", storage.key))?;
        let beyond = || {
            let size = place.size;
            damaged(format!(
                "{name} in it lies beyond its storage of {size} bytes: shape {shape:?}, strides {strides:?}"
            ))
        };
        let whole = storage.count.checked_mul(width).ok_or_else(beyond)?;
        let count = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size)).ok_or_else(beyond)?;
        if count > storage.count {
            let cause = format!("{name} in it repeats its numbers: shape {shape:?} over {}", storage.count);
            return Err(Refusal::Foreign(cause));
        }
        // from the first number to behind the last
        let steps =
            shape.iter().zip(strides).map(|(&size, &stride)| size.saturating_sub(1).checked_mul(stride));
        let last = steps.into_iter().try_fold(0usize, |sum, step| sum.checked_add(step?));
        let span = if count == 0 { Some(0) } else { last.and_then(|last| last.checked_add(1)) };
        let span = span.filter(|span| offset.checked_add(*span).is_some_and(|end| end <= storage.count));
        let (Some(span), true) = (span, whole as u64 <= place.size) else { return Err(beyond()) };
        let (start, length) = (place.start + (offset * width) as u64, span * width);
        let strides = if is_row_major(shape, strides) { Vec::new() } else { strides.clone() };
        Ok(Entry { shard, dtype, shape: shape.clone(), start, length, strides })
    }
}

/// Whether numbers follow each other without a gap; an axis of one step has no stride.
fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut next = 1;
    shape.iter().zip(strides).rev().all(|(&size, &stride)| {
        let fits = size == 1 || stride == next;
        next *= size;
        fits
    })
}

fn read(mut file: &File, Place { start, size, .. }: Place) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start)).map_err(damaged)?;
    file.take(size).read_to_end(&mut bytes).map_err(damaged)?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(damaged("it is cut short")) }
}

fn damaged(cause: impl ToString) -> Refusal {
    Refusal::Damaged(cause.to_string())
}

/// The dict of tensors: the whole, or the one that a training script put under a usual name beside its counters. Values
/// that are no tensors are plain data, and left aside.
fn state_dict<'a, 'p>(
    pickle: &'p Pickle<'a>,
) -> std::result::Result<Vec<(&'a str, &'p Strided<'a>)>, String> {
    let Node::Dict(root) = pickle.root() else { return Err("it holds no dict of tensors".into()) };
    let whole = tensors(pickle, root)?;
    let mut nested = BTreeMap::new();
    for (key, value) in root {
        let (&Node::Text(name), Node::Dict(dict)) = (pickle.node(*key), pickle.node(*value)) else {
            continue;
        };
        let inside = if NESTED.contains(&name) { tensors(pickle, dict)? } else { BTreeMap::new() };
        if !inside.is_empty() {
            nested.insert(name, inside);
        }
    }
    // a training script's loss may be a tensor too, of no axis
    let counters = whole.values().all(|tensor| tensor.shape.is_empty());
    let names: Vec<&str> = nested.keys().copied().collect();
    match (nested.pop_first(), nested.is_empty()) {
        (Some((_, only)), true) if counters => Ok(only.into_iter().collect()),
        (Some(_), _) => {
            let beside = if counters { "" } else { " and beside them" };
            Err(format!("it holds tensors under {}{beside}: which are the weights?", names.join(", ")))
        }
        (None, _) if !whole.is_empty() => Ok(whole.into_iter().collect()),
        (None, _) => {
            let text = |id: &usize| match pickle.node(*id) {
                Node::Text(text) => Some(text.chars().take(40).collect()),
                _ => None,
            };
            let keys: Vec<String> = root.iter().filter_map(|(key, _)| text(key)).take(8).collect();
            let keys = if keys.is_empty() { "none".into() } else { keys.join(", ") };
            Err(format!(
                "it holds no tensors by name, nor a dict of them under {} (keys: {keys})",
                NESTED.join(", ")
            ))
        }
    }
}

/// The tensors of one dict.
fn tensors<'a, 'p>(
    pickle: &'p Pickle<'a>,
    dict: &[(usize, usize)],
) -> std::result::Result<BTreeMap<&'a str, &'p Strided<'a>>, String> {
    let mut found = BTreeMap::new();
    for (key, value) in dict {
        match (pickle.node(*key), pickle.node(*value)) {
            (&Node::Text(name), Node::Tensor(tensor)) => drop(found.insert(name, &**tensor)),
            (_, Node::Tensor(_)) => return Err("it holds a tensor whose name is no text".into()),
            (Node::Text(name), _) => drop(found.remove(name)),
            _ => {}
        }
    }
    Ok(found)
}
