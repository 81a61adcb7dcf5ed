//! Which weight files a directory has, and what their headers promise.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use super::{AGAIN, LAYOUT, archive, file_name, object};
use crate::error::{Error, Result};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The same as `torch.save` writes them.
const TORCH_SINGLE: &str = "pytorch_model.bin";
const TORCH_INDEX: &str = "pytorch_model.bin.index.json";
/// What else such files are called.
const TORCH: [&str; 2] = ["pt", "pth"];

/// A weight file that was opened and whose description of its tensors has been checked against its length.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) name: String,
    path: PathBuf,
    file: File,
}

/// Where a tensor lies.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) shard: usize,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// First byte in the file, and how many.
    pub(super) start: u64,
    pub(super) length: usize,
    /// How many numbers apart neighbours along each axis lie; empty where they follow each other row after row.
    pub(super) strides: Vec<usize>,
}

/// The weight files of a directory: `model.safetensors`, or the shards that its index names, in order of their names; else
/// the same as torch writes them; else the only file of torch's.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    for (single, index) in [(SINGLE, INDEX), (TORCH_SINGLE, TORCH_INDEX)] {
        let (single, index) = (folder.join(single), folder.join(index));
        if single.exists() {
            return Ok(vec![single]);
        }
        if index.exists() {
            return shards_of(folder, &index);
        }
    }
    only(folder)
}

/// The shards that an index names.
fn shards_of(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let names: BTreeSet<String> = weight_map(index)?.into_values().collect();
    let mut files = Vec::new();
    for name in names {
        let path = folder.join(&name);
        if Path::new(&name).components().any(|part| !matches!(part, Component::Normal(_))) {
            let cause = format!("it names the shard {name:?}, which is outside of the directory");
            return Err(Error::file("use", index, cause, "shards lie beside their index"));
        }
        if !path.is_file() {
            let hint =
                format!("{} names this shard: copy or download it beside the others", file_name(index));
            return Err(Error::file("read", &path, "there is no such file", hint));
        }
        files.push(path);
    }
    Ok(files)
}

/// The only file of torch's in a folder that has no weights by their usual names.
fn only(folder: &Path) -> Result<Vec<PathBuf>> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let message = format!("{} holds no {SINGLE}", folder.display());
    if let Some(name) = names.iter().find(|name| name.ends_with(".safetensors")) {
        return Err(Error::input(
            message,
            format!("there is {name}: rename it to {SINGLE}, or add the {INDEX}"),
        ));
    }
    match (lone(names.iter()), &torch(names.iter())[..]) {
        (Some(one), _) => Ok(vec![folder.join(one)]),
        (None, []) => Err(Error::input(message, LAYOUT)),
        (None, found) => Err(Error::input(
            format!("{message}, and more than one other weight file: {}", found.join(", ")),
            format!("leave one of them there, or rename the right one to {TORCH_SINGLE}"),
        )),
    }
}

/// The weights among these names where nothing bears the usual ones: the only file that torch wrote, or the only one at the
/// end of a training, `…final.pth`.
pub(super) fn lone<'a>(names: impl Iterator<Item = &'a String>) -> Option<&'a str> {
    let found = torch(names);
    let last: Vec<&str> = found.iter().copied().filter(|name| name.ends_with("final.pth")).collect();
    match (&found[..], &last[..]) {
        ([one], _) | (_, [one]) => Some(one),
        _ => None,
    }
}

/// Those of these names that torch would give.
fn torch<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let is_torch =
        |name: &&str| Path::new(name).extension().is_some_and(|ext| TORCH.iter().any(|known| ext == *known));
    names.map(String::as_str).filter(is_torch).collect()
}

/// Opens files and reads their headers. A tensor that two files hold is an error, as is one that the index of these files
/// says is in another.
pub(super) fn open(paths: &[PathBuf]) -> Result<(Vec<Shard>, BTreeMap<String, Entry>)> {
    let (mut shards, mut entries) = (Vec::new(), BTreeMap::<String, Entry>::new());
    for (number, path) in paths.iter().enumerate() {
        let (shard, found) = Shard::open(path, number)?;
        shards.push(shard);
        for (name, entry) in found {
            if let Some(twin) = entries.insert(name.clone(), entry) {
                let message = format!(
                    "the tensor {name} is both in {} and in {}",
                    shards[twin.shard].name, shards[number].name
                );
                return Err(Error::input(
                    message,
                    "shards of two models are mixed: copy or download them again",
                ));
            }
        }
    }
    check_index(paths, &shards, &entries)?;
    Ok((shards, entries))
}

impl Shard {
    fn open(path: &Path, number: usize) -> Result<(Shard, Vec<(String, Entry)>)> {
        let unreadable = |e| Error::file("read", path, e, "check the path and its permissions");
        let kind = fs::metadata(path).map_err(unreadable)?;
        if !kind.is_file() {
            return Err(Error::file("read", path, "it is not a file", LAYOUT));
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let entries = if path.extension().is_some_and(|ext| ext == "safetensors") {
            safetensors(path, &mut file, kind.len(), number)
        } else {
            archive::entries(path, &file, number)
        };
        let entries = entries.map_err(|error| match is_pointer(&mut file) {
            true => {
                let hint = "run `git lfs pull`";
                Error::file("read", path, "it is a Git LFS pointer, not the weights", hint)
            }
            false => error,
        })?;
        Ok((Shard { name: file_name(path), path: path.to_owned(), file }, entries))
    }

    /// The bytes of a tensor, row after row.
    pub(super) fn read(&mut self, entry: &Entry) -> Result<Vec<u8>> {
        let mut bytes = vec![0; entry.length];
        let read =
            self.file.seek(SeekFrom::Start(entry.start)).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|e| Error::file("read", &self.path, e, AGAIN))?;
        Ok(if entry.strides.is_empty() { bytes } else { gathered(&bytes, entry) })
    }

    /// What `take` makes of the bytes of a tensor, row after row: straight from the file where they lie so.
    pub(super) fn numbers<T>(
        &mut self,
        entry: &Entry,
        take: impl FnOnce(&mut dyn Read) -> io::Result<T>,
    ) -> Result<T> {
        let taken = if entry.strides.is_empty() {
            self.file.seek(SeekFrom::Start(entry.start)).and_then(|_| take(&mut self.file))
        } else {
            take(&mut &self.read(entry)?[..])
        };
        taken.map_err(|e| Error::file("read", &self.path, e, AGAIN))
    }
}

/// The numbers of a tensor that lie apart, brought together. Strides were checked against the bytes when the file was opened.
fn gathered(bytes: &[u8], entry: &Entry) -> Vec<u8> {
    let width = entry.dtype.bitsize() / 8;
    let count: usize = entry.shape.iter().product();
    let mut together = Vec::with_capacity(count * width);
    let (mut index, mut at) = (vec![0; entry.shape.len()], 0);
    for _ in 0..count {
        together.extend_from_slice(bytes.get(at * width..(at + 1) * width).unwrap_or_default());
        // the last axis steps on; one that is through goes back to its start, and the axis before it steps on
        for ((index, &size), &stride) in index.iter_mut().zip(&entry.shape).zip(&entry.strides).rev() {
            *index += 1;
            at += stride;
            if *index < size {
                break;
            }
            *index = 0;
            at -= size * stride;
        }
    }
    together
}

/// The tensors of a safetensors file.
fn safetensors(path: &Path, file: &mut File, length: u64, shard: usize) -> Result<Vec<(String, Entry)>> {
    let (header, data) = header(file, length).map_err(|cause| Error::file("read", path, cause, AGAIN))?;
    let entries = header.tensors().into_iter().map(|(name, info)| {
        let (from, to) = info.data_offsets;
        let (start, length, strides) = (data + from as u64, to - from, Vec::new());
        (name, Entry { shard, dtype: info.dtype, shape: info.shape.clone(), start, length, strides })
    });
    Ok(entries.collect())
}

/// The header of a file of this length, and where its data begins. The header must account for every byte.
fn header(file: &mut File, length: u64) -> std::result::Result<(Metadata, u64), String> {
    /// The format's own limit.
    const LONGEST: u64 = 100_000_000;
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|_| format!("it has only {length} bytes"))?;
    let size = u64::from_le_bytes(size);
    if size > LONGEST || size > length - 8 {
        return Err(format!("its header should be {size} bytes long, but the file has {length}"));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header).map_err(|e| e.to_string())?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|e| format!("its header is not that of a safetensors file: {e}"))?;
    let promised = (header.data_len() as u64).checked_add(8 + size);
    if promised != Some(length) {
        let promised = promised.map_or("more".into(), |n| n.to_string());
        return Err(format!("its header promises {promised} bytes, but the file has {length}"));
    }
    Ok((header, 8 + size))
}

/// What a safetensors file says about itself, from its first byte; nothing for any other file.
pub(super) fn about(file: &mut File) -> BTreeMap<String, String> {
    let length = file.metadata().map_or(0, |kind| kind.len());
    let header = if length < 8 { None } else { header(file, length).ok() };
    let about = header.and_then(|(header, _)| header.metadata().clone());
    about.into_iter().flatten().collect()
}

fn is_pointer(file: &mut File) -> bool {
    let mut start = [0; 18];
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_exact(&mut start));
    read.is_ok() && &start == b"version https://gi"
}

/// tensor → shard, as the index has it.
fn weight_map(index: &Path) -> Result<BTreeMap<String, String>> {
    let malformed =
        || Error::file("parse", index, "`weight_map` is not an object of tensor and file names", AGAIN);
    let mut object = object(index)?;
    let Some(Value::Object(map)) = object.remove("weight_map") else { return Err(malformed()) };
    let pair = |(tensor, file): (String, Value)| Some((tensor, file.as_str()?.to_owned()));
    map.into_iter().map(|entry| pair(entry).ok_or_else(malformed)).collect()
}

fn check_index(paths: &[PathBuf], shards: &[Shard], entries: &BTreeMap<String, Entry>) -> Result<()> {
    let Some(first) = paths.first() else { return Ok(()) };
    let index = first.with_file_name(if first.extension().is_some_and(|ext| ext == "safetensors") {
        INDEX
    } else {
        TORCH_INDEX
    });
    let single = |path: &PathBuf| path.ends_with(SINGLE) || path.ends_with(TORCH_SINGLE);
    if paths.iter().any(single) || !index.exists() {
        return Ok(());
    }
    for (tensor, file) in weight_map(&index)? {
        let actual = entries.get(&tensor).map(|entry| shards[entry.shard].name.as_str());
        if actual.is_none() || file_name(Path::new(&file)) != actual.unwrap_or_default() {
            let place = actual.map_or("in none of the shards".to_owned(), |actual| format!("in {actual}"));
            let cause = format!("it says that {tensor} is in {file}, but it is {place}");
            return Err(Error::file(
                "use",
                &index,
                cause,
                "copy or download index and shards again, together",
            ));
        }
    }
    Ok(())
}
