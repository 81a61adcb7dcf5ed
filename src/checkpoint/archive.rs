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
use super::pickle::{Node, Pickle, Refusal, Strided};
use super::shards::Entry;
use crate::error::{Error, Result};

/// Where training scripts put the weights among other things.
const NESTED: [&str; 3] = ["state_dict", "model", "model_state_dict"];
/// A hundred times what the largest models need.
const LONGEST_PICKLE: u64 = 16 << 20;

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
    let damaged = |cause: String| fail(cause, AGAIN.into());
    let archive = Archive::open(file).map_err(damaged)?;
    if archive.is_program() {
        return Err(fail(
            "it is a TorchScript archive, a program with its weights".into(),
            format!(
                "save the weights alone in Python: `torch.save(torch.jit.load({name:?}).state_dict(), FILE)`"
            ),
        ));
    }
    let content = archive.pickle(file).map_err(damaged)?;
    let refused = |refusal| match refusal {
        Refusal::Damaged(cause) => damaged(cause),
        Refusal::Foreign(cause) => fail(
            cause,
            "if you trust where it comes from, save its weights alone in Python: \
             `torch.save(model.state_dict(), FILE)`"
                .into(),
        ),
    };
    let pickle = Pickle::read(&content).map_err(refused)?;
    let tensors = state_dict(&pickle).map_err(|cause| {
        fail(cause, "save the weights alone in Python: `torch.save(model.state_dict(), FILE)`".into())
    })?;
    let entries = tensors.into_iter().map(|(name, tensor)| {
        let entry = archive.entry(tensor, shard).map_err(|cause| damaged(format!("{name} in it {cause}")))?;
        Ok((name.to_owned(), entry))
    });
    entries.collect()
}

/// The files of an archive: where each begins and how long it is, or why it cannot be read in place.
struct Archive {
    /// What the names of all files begin with.
    folder: String,
    files: BTreeMap<String, std::result::Result<(u64, u64), String>>,
}

impl Archive {
    fn open(file: &File) -> std::result::Result<Archive, String> {
        let length = file.metadata().map_err(|e| e.to_string())?.len();
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|e| e.to_string())?;
        let mut files = BTreeMap::new();
        for index in 0..zip.len() {
            let inner = zip.by_index_raw(index).map_err(|e| e.to_string())?;
            let name = inner.name().map_err(|e| e.to_string())?.into_owned();
            let plain = inner.compression() == CompressionMethod::Stored
                && !inner.encrypted()
                && inner.size() == inner.compressed_size();
            let place = inner.data_start().map(|start| (start, inner.size()));
            let inside =
                place.filter(|(start, size)| start.checked_add(*size).is_some_and(|end| end <= length));
            let place = match inside {
                _ if !plain => Err(format!("{name} is compressed in it, which torch.save never does")),
                None => Err(format!("{name} goes on beyond its end")),
                Some(place) => Ok(place),
            };
            files.insert(name, place);
        }
        let mut folders = files.keys().filter_map(|name| {
            let folder = name.strip_suffix("data.pkl")?;
            (folder.is_empty() || folder.ends_with('/')).then(|| folder.to_owned())
        });
        match (folders.next(), folders.next()) {
            (Some(folder), None) => Ok(Archive { folder, files }),
            (None, _) => Err("it is a zip archive without a data.pkl".into()),
            _ => Err("it holds more than one data.pkl".into()),
        }
    }

    /// Whether it was made by TorchScript.
    fn is_program(&self) -> bool {
        let (constants, code) = (format!("{}constants.pkl", self.folder), format!("{}code/", self.folder));
        self.files.keys().any(|name| *name == constants || name.starts_with(&code))
    }

    fn place(&self, name: &str) -> std::result::Result<(u64, u64), String> {
        let name = format!("{}{name}", self.folder);
        match self.files.get(&name) {
            Some(place) => place.clone(),
            None => Err(format!("{name} is missing from it")),
        }
    }

    /// The pickle's bytes, once the numbers beside it are known to be little-endian.
    fn pickle(&self, file: &File) -> std::result::Result<Vec<u8>, String> {
        if let Ok(place) = self.place("byteorder") {
            let order = read(file, (place.0, place.1.min(16)))?;
            if order != b"little" {
                let order = String::from_utf8_lossy(&order).into_owned();
                return Err(format!("its numbers are {order}-endian; only little-endian ones are read"));
            }
        }
        let place = self.place("data.pkl")?;
        if place.1 > LONGEST_PICKLE {
            return Err(format!("its pickle is {} bytes long; that of a state dict is short", place.1));
        }
        read(file, place)
    }

    /// Where a tensor lies; an error completes "the tensor …".
    fn entry(&self, tensor: &Strided, shard: usize) -> std::result::Result<Entry, String> {
        let Strided { storage, offset, shape, strides } = tensor;
        let dtype = storage.dtype;
        let (start, size) = self
            .place(&format!("data/{}", storage.key))
            .map_err(|cause| format!("cannot be found: {cause}"))?;
        let width = dtype.bitsize() / 8;
        let beyond =
            || format!("lies beyond its storage of {size} bytes: shape {shape:?}, strides {strides:?}");
        let bytes =
            storage.count.checked_mul(width).filter(|&bytes| bytes as u64 <= size).ok_or_else(beyond)?;
        let count = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size)).ok_or_else(beyond)?;
        if count > storage.count {
            return Err(format!("repeats its numbers: shape {shape:?} over {} of them", storage.count));
        }
        // one beyond the last number, counted from the first
        let steps =
            shape.iter().zip(strides).map(|(&size, &stride)| size.saturating_sub(1).checked_mul(stride));
        let last = steps.into_iter().try_fold(0usize, |sum, step| sum.checked_add(step?));
        let span = if count == 0 { Some(0) } else { last.and_then(|last| last.checked_add(1)) };
        let span = span
            .filter(|span| offset.checked_add(*span).is_some_and(|end| end <= storage.count))
            .ok_or_else(beyond)?;
        let skip = offset.checked_mul(width).filter(|&skip| skip <= bytes).ok_or_else(beyond)?;
        let strides = if is_row_major(shape, strides) { Vec::new() } else { strides.clone() };
        Ok(Entry {
            shard,
            dtype,
            shape: shape.clone(),
            start: start + skip as u64,
            length: span * width,
            strides,
        })
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

fn read(mut file: &File, (start, size): (u64, u64)) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start)).map_err(|e| e.to_string())?;
    file.take(size).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err("it is cut short".into()) }
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
