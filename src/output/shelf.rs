//! Activations between runs: one safetensors file per array, and an index that says what they are of.
//!
//! ```text
//! DIR/3f2a…/index.json                             what they are of: model, prompts, type; each array's shape and sha256
//! DIR/3f2a…/blocks.1.hook_resid_post@subject.safetensors   one tensor `x`, f32, [prompt, width]
//! ```
//!
//! The folder's name is the hash of the description, so that one directory serves many models and data sets. The index is written
//! last: an array that it does not name, or whose file differs from what it says, is not there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::atomic::{failed, hex, measure, write_file_atomically};
use crate::error::{Error, Result};
use crate::lab;

const INDEX: &str = "index.json";

/// A directory of activations.
#[derive(Debug)]
pub struct Activations {
    path: PathBuf,
    counts: std::sync::Arc<Mutex<Counts>>,
}

/// What happened so far.
#[derive(Debug, Default)]
struct Counts {
    read: usize,
    written: usize,
    remarks: Vec<String>,
}

impl Activations {
    /// Keeps activations in this directory, which is made if need be.
    pub fn at(path: &Path) -> Result<Activations> {
        fs::create_dir_all(path).map_err(|e| failed("create", path, &e))?;
        Ok(Activations { path: path.to_owned(), counts: std::sync::Arc::default() })
    }
}

impl lab::Store for Activations {
    fn open(&self, about: &Map<String, Value>) -> Result<Box<dyn lab::Shelf>> {
        let text = Value::Object(about.clone()).to_string();
        let name: String = hex(&Sha256::digest(text.as_bytes())).chars().take(16).collect();
        let folder = self.path.join(name);
        let mut shelf = Shelf {
            about: about.clone(),
            counts: self.counts.clone(),
            arrays: BTreeMap::new(),
            open: BTreeMap::new(),
            folder,
        };
        shelf.look()?;
        Ok(Box::new(shelf))
    }

    fn remarks(&self) -> Vec<String> {
        let Ok(counts) = self.counts.lock() else { return Vec::new() };
        let place = self.path.display();
        let mut said = counts.remarks.clone();
        said.push(format!(
            "activations: {} array(s) read from {place}, {} recorded and kept there",
            counts.read, counts.written
        ));
        said
    }
}

/// What the index says of an array.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    shape: [usize; 2],
    sha256: String,
}

struct Shelf {
    folder: PathBuf,
    about: Map<String, Value>,
    arrays: BTreeMap<String, Entry>,
    open: BTreeMap<String, Filling>,
    counts: std::sync::Arc<Mutex<Counts>>,
}

/// A file being written, beside the place where it will lie.
struct Filling {
    shape: [usize; 2],
    rows: usize,
    temporary: PathBuf,
    out: BufWriter<File>,
}

impl Shelf {
    /// Reads the index; one that is damaged or describes something else is as good as none.
    fn look(&mut self) -> Result<()> {
        let path = self.folder.join(INDEX);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(failed("read", &path, &e)),
        };
        let index: Value = serde_json::from_str(&text).unwrap_or_default();
        if index["of"] != Value::Object(self.about.clone()) {
            self.remark(format!("{} is damaged: its activations are recorded anew", path.display()));
            return Ok(());
        }
        for (name, entry) in index["arrays"].as_object().into_iter().flatten() {
            let size = |i: usize| entry["shape"][i].as_u64().and_then(|n| usize::try_from(n).ok());
            if let (Some(rows), Some(width), Some(sha256)) = (size(0), size(1), entry["sha256"].as_str()) {
                let entry = Entry { shape: [rows, width], sha256: sha256.to_owned() };
                self.arrays.insert(name.clone(), entry);
            }
        }
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.safetensors"))
    }

    fn remark(&self, remark: String) {
        if let Ok(mut counts) = self.counts.lock() {
            counts.remarks.push(remark);
        }
    }
}

impl lab::Shelf for Shelf {
    fn read(&self, name: &str, shape: [usize; 2]) -> Result<Option<Vec<f32>>> {
        let (path, Some(entry)) = (self.file(name), self.arrays.get(name)) else { return Ok(None) };
        let whole = entry.shape == shape && measure(&path).is_ok_and(|found| found.sha256 == entry.sha256);
        if !whole {
            self.remark(format!("{} is not as it was written: it is recorded anew", path.display()));
            return Ok(None);
        }
        let mut file = File::open(&path).map_err(|e| failed("read", &path, &e))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| failed("read", &path, &e))?;
        let numbers = bytes.get(header(shape).len()..).unwrap_or_default();
        if let Ok(mut counts) = self.counts.lock() {
            counts.read += 1;
        }
        Ok(Some(numbers.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()))
    }

    fn begin(&mut self, name: &str, shape: [usize; 2]) -> Result<()> {
        fs::create_dir_all(&self.folder).map_err(|e| failed("create", &self.folder, &e))?;
        let temporary = self.folder.join(format!(".{name}.{}.tmp", std::process::id()));
        let refused = |e| failed("write", &temporary, &e);
        let mut out = BufWriter::new(File::create(&temporary).map_err(refused)?);
        out.write_all(&header(shape)).map_err(refused)?;
        self.open.insert(name.to_owned(), Filling { shape, rows: 0, temporary, out });
        Ok(())
    }

    fn append(&mut self, name: &str, rows: &[f32]) -> Result<()> {
        let Some(filling) = self.open.get_mut(name) else {
            return Err(Error::Tensor(format!("the array `{name}` was not begun")));
        };
        filling.rows += rows.len() / filling.shape[1].max(1);
        for few in rows.chunks(4096) {
            let bytes: Vec<u8> = few.iter().flat_map(|x| x.to_le_bytes()).collect();
            filling.out.write_all(&bytes).map_err(|e| failed("write", &filling.temporary, &e))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if let Some((name, filling)) = self.open.iter().find(|(_, filling)| filling.rows != filling.shape[0])
        {
            let (got, expected) = (vec![filling.rows], format!("{} rows", filling.shape[0]));
            return Err(Error::Shape { what: format!("the array `{name}`"), got, expected });
        }
        for (name, mut filling) in std::mem::take(&mut self.open) {
            let path = self.file(&name);
            let written = filling.out.flush().and_then(|()| fs::rename(&filling.temporary, &path));
            written.map_err(|e| failed("write", &path, &e))?;
            let entry = Entry { shape: filling.shape, sha256: measure(&path)?.sha256 };
            self.arrays.insert(name, entry);
            if let Ok(mut counts) = self.counts.lock() {
                counts.written += 1;
            }
        }
        let each = |(name, entry): (&String, &Entry)| {
            (name.clone(), json!({ "shape": entry.shape, "sha256": entry.sha256 }))
        };
        let arrays: Map<String, Value> = self.arrays.iter().map(each).collect();
        let index = json!({ "of": self.about, "arrays": arrays });
        let text = serde_json::to_string_pretty(&index)
            .map_err(|e| Error::Tensor(format!("the index of activations cannot be written: {e}")))?;
        write_file_atomically(&self.folder.join(INDEX), text.as_bytes(), true)?;
        Ok(())
    }
}

impl Drop for Shelf {
    /// An array that was not finished (an error, Ctrl-C) leaves nothing behind.
    fn drop(&mut self) {
        for filling in self.open.values() {
            fs::remove_file(&filling.temporary).unwrap_or_default();
        }
    }
}

/// The bytes of a safetensors file before its one f32 tensor `x`.
fn header([rows, width]: [usize; 2]) -> Vec<u8> {
    let x = json!({ "x": { "dtype": "F32", "shape": [rows, width], "data_offsets": [0, rows * width * 4] } });
    let mut text = x.to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Store;

    #[test]
    fn what_is_kept_is_found_again_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let about = |model: &str| Map::from_iter([("model".to_owned(), json!(model))]);
        let rows: Vec<f32> = (0..6).map(|i| i as f32 - 2.5).collect();
        let name = "blocks.0.hook_resid_pre@end";
        {
            let store = Activations::at(folder.path()).unwrap();
            let mut shelf = store.open(&about("a")).unwrap();
            assert!(shelf.read(name, [3, 2]).unwrap().is_none());
            shelf.begin(name, [3, 2]).unwrap();
            shelf.append(name, &rows[..2]).unwrap();
            assert!(shelf.append("other", &rows).is_err());
            shelf.append(name, &rows[2..]).unwrap();
            shelf.finish().unwrap();
            shelf.begin("half", [3, 2]).unwrap();
            shelf.append("half", &rows[..2]).unwrap();
            assert!(shelf.finish().is_err());
        }
        let store = Activations::at(folder.path()).unwrap();
        let shelf = store.open(&about("a")).unwrap();
        assert_eq!(shelf.read(name, [3, 2]).unwrap().unwrap(), rows);
        assert!(shelf.read("half", [3, 2]).unwrap().is_none());
        assert!(store.open(&about("b")).unwrap().read(name, [3, 2]).unwrap().is_none());
        assert!(shelf.read(name, [2, 3]).unwrap().is_none(), "another shape");
        assert_eq!(store.remarks().len(), 2, "{:?}", store.remarks());

        let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let file = file.join(format!("{name}.safetensors"));
        let tensors = candle_core::safetensors::load(&file, &candle_core::Device::Cpu).unwrap();
        assert_eq!(tensors["x"].dims(), [3, 2]);
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, bytes).unwrap();
        assert!(shelf.read(name, [3, 2]).unwrap().is_none(), "damaged");
    }
}
