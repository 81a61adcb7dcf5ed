//! Which weight files a directory has, and what their headers promise.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use super::{AGAIN, LAYOUT, file_name, object};
use crate::error::{Error, Result};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A safetensors file that was opened and whose header has been checked against its length.
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
    start: u64,
    length: usize,
}

/// The weight files of a directory: `model.safetensors`, or the shards that the index names, in order of their names.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let single = folder.join(SINGLE);
    if single.exists() {
        return Ok(vec![single]);
    }
    let index = folder.join(INDEX);
    if !index.exists() {
        return Err(no_weights(folder));
    }
    let names: BTreeSet<String> = weight_map(&index)?.into_values().collect();
    let mut files = Vec::new();
    for name in names {
        let path = folder.join(&name);
        if Path::new(&name).components().any(|part| !matches!(part, Component::Normal(_))) {
            let cause = format!("it names the shard {name:?}, which is outside of the directory");
            return Err(Error::file("use", &index, cause, "shards lie beside their index"));
        }
        if !path.is_file() {
            let hint = format!("{INDEX} names this shard: copy or download it beside the others");
            return Err(Error::file("read", &path, "there is no such file", hint));
        }
        files.push(path);
    }
    Ok(files)
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
        let (header, data) = header(&mut file, kind.len()).map_err(|cause| {
            let hint = if is_pointer(&mut file) {
                "it is a Git LFS pointer, not the weights: run `git lfs pull`"
            } else {
                AGAIN
            };
            Error::file("read", path, cause, hint)
        })?;
        let entries = header.tensors().into_iter().map(|(name, info)| {
            let (from, to) = info.data_offsets;
            let (start, length) = (data + from as u64, to - from);
            (name, Entry { shard: number, dtype: info.dtype, shape: info.shape.clone(), start, length })
        });
        let entries = entries.collect();
        Ok((Shard { name: file_name(path), path: path.to_owned(), file }, entries))
    }

    /// The bytes of a tensor.
    pub(super) fn read(&mut self, entry: &Entry) -> Result<Vec<u8>> {
        let mut bytes = vec![0; entry.length];
        let read =
            self.file.seek(SeekFrom::Start(entry.start)).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|e| Error::file("read", &self.path, e, AGAIN))?;
        Ok(bytes)
    }
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
    let Some(index) = paths.first().map(|path| path.with_file_name(INDEX)) else { return Ok(()) };
    if paths.iter().any(|path| path.ends_with(SINGLE)) || !index.exists() {
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

fn no_weights(folder: &Path) -> Error {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let message = format!("{} holds no {SINGLE}", folder.display());
    let pickle = |name: &&String| {
        let path = Path::new(name.as_str());
        path.extension().is_some_and(|ext| ["bin", "pt", "pth", "ckpt"].iter().any(|known| ext == *known))
    };
    if let Some(name) = names.iter().find(pickle) {
        let hint = format!(
            "{name} is a pickle, which can run code when opened, and is not read; convert it once in Python: \
             `AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True)`"
        );
        return Error::input(message, hint);
    }
    match names.iter().find(|name| name.ends_with(".safetensors")) {
        Some(name) => {
            Error::input(message, format!("there is {name}: rename it to {SINGLE}, or add the {INDEX}"))
        }
        None => Error::input(message, LAYOUT),
    }
}
