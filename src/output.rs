//! Run folders and single files, written whole or not at all: with `checkpoint`, the only door to the disk.
//!
//! A run writes into `<out>.partial`. [`Folder::finish`] adds the manifest and renames it to `<out>`; a folder dropped
//! before that (an error, Ctrl-C) is removed, unless [`Folder::keep_partial`] said that it can be continued. A process that is
//! killed, at whatever moment, leaves a partial folder behind, whose lock the system lets go: the next run continues it if
//! it holds a scratch file ([`SCRATCH`]) to continue from, and else clears it away.

mod atomic;
mod begin;
mod finished;
mod journal;
mod manifest;
mod shelf;
mod tensors;

pub use atomic::{Written, check_file, write_file_atomically};
pub use begin::Place;
pub use finished::Finished;
pub use journal::Journal;
pub use manifest::{Manifest, ModelFacts, SCHEMA_VERSION};
pub use shelf::Activations;
pub use tensors::write_tensors;

use crate::error::{Error, Result};
use crate::row::Rows;
use crate::table::{self, Format};
use atomic::{Filled, failed, parent, stream_file_atomically};
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// The file that marks a partial folder as ours; its lock says that a process is at work.
const MARKER: &str = ".glassbox";
/// Where a run's tensors lie.
pub const TENSORS: &str = "tensors.safetensors";
/// How names of files begin that are written for `--resume` alone: unfinished work that has one can be continued, and the
/// finished run has none.
pub const SCRATCH: &str = ".glassbox-";

/// Reads a table from a file that ends in `.csv` or `.parquet`; its name is the file's, without the ending.
pub fn read_table(path: &Path) -> Result<Rows> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let Some(format) =
        [Format::Csv, Format::Parquet].into_iter().find(|format| ending.eq_ignore_ascii_case(format.name()))
    else {
        let hint = "tables are read from files that end in .csv or .parquet";
        return Err(Error::file("read", path, "it is neither CSV nor Parquet", hint));
    };
    let bytes = fs::read(path).map_err(|e| {
        let hint = match e.kind() {
            ErrorKind::NotFound => "check the path of the table",
            ErrorKind::PermissionDenied => "it is not yours to read: check its permissions",
            _ => "give the path of a file that ends in .csv or .parquet",
        };
        Error::file("read", path, e, hint)
    })?;
    table::read(&path.file_stem().unwrap_or_default().to_string_lossy(), &bytes, format)
}

/// A run folder being written.
#[derive(Debug)]
pub struct Folder {
    out: PathBuf,
    partial: PathBuf,
    force: bool,
    resumed: bool,
    keep: bool,
    finished: bool,
    /// Held, not read: the lock on the marker.
    _lock: File,
    /// Folders above `out` that were made for it, outermost first.
    made: Vec<PathBuf>,
    outputs: BTreeMap<String, Written>,
    journal: Arc<Journal>,
    started: SystemTime,
    clock: Instant,
}

impl Folder {
    /// Opens the folder to write in, before any work is done.
    ///
    /// A folder that exists and holds something is an error without `force`, and with `force` stays in place until the new one is
    /// complete. Work left unfinished is continued with `resume`; without it, it is an error if it could be continued, and
    /// cleared away if not.
    pub fn create(place: &Place) -> Result<Folder> {
        begin::begin(place, Path::new("runs"))
    }

    /// Where the finished run will lie.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// True when this continues unfinished work, whose files [`Folder::read`] gives.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// From now on, what is written so far survives an error or Ctrl-C, for `--resume`, as it survives a kill.
    pub fn keep_partial(&mut self) {
        self.keep = true;
        self.journal.sync().unwrap_or_default(); // the error or Ctrl-C that led here is what there is to tell
    }

    /// Where long work notes what it has finished.
    pub fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.journal)
    }

    /// The bytes written under this path so far, by this run or the one it continues.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let path = self.inside(path)?;
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("read", &path, &e)),
        }
    }

    /// Writes one file; the path is relative, `/` between its parts. Writing it again replaces it.
    pub fn write(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.stream(path, |out| Ok(out.write_all(bytes)?))
    }

    /// `tables/<name>.csv` and `tables/<name>.parquet`. Tables of every example (`examples_…`) are for programs and go out as
    /// Parquet alone: as text they would be most of the folder.
    pub fn table(&mut self, rows: &Rows) -> Result<()> {
        let formats: &[Format] = if rows.name.starts_with("examples_") {
            &[Format::Parquet]
        } else {
            &[Format::Csv, Format::Parquet]
        };
        for &format in formats {
            self.write(&format!("tables/{}.{format}", rows.name), &table::write(rows, format)?)?;
        }
        Ok(())
    }

    /// `figures/<name>.<ending>` of each file: the drawing in several formats, its numbers, its LaTeX.
    pub fn figure(&mut self, name: &str, files: &[(&str, Vec<u8>)]) -> Result<()> {
        files.iter().try_for_each(|(ending, bytes)| self.write(&format!("figures/{name}.{ending}"), bytes))
    }

    /// [`TENSORS`]: the tensors as f32, by name.
    pub fn tensors(
        &mut self,
        tensors: &BTreeMap<String, Tensor>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<()> {
        self.stream(TENSORS, |out| tensors::safetensors(out, tensors, metadata))
    }

    /// Writes `manifest.json` last, moves the folder into place and gives its path.
    pub fn finish(mut self, manifest: &Manifest) -> Result<PathBuf> {
        self.account(&self.partial.clone())?;
        let text = manifest.text(&self.outputs, self.started, self.clock.elapsed(), self.resumed);
        self.write("manifest.json", text.as_bytes())?;
        // From here on no file is missing: the marker goes first, so that no folder is ever thought to be resumable from
        // scratch files that are gone.
        let scratch = begin::scratch(&self.partial).map_err(|e| failed("read", &self.partial, &e))?;
        for path in std::iter::once(self.partial.join(MARKER)).chain(scratch) {
            fs::remove_file(&path).map_err(|e| failed("finish", &path, &e))?;
        }
        self.finished = true;
        self.move_into_place().map_err(|e| {
            let hint = format!("the finished run lies in {}: move it by hand", self.partial.display());
            Error::file("create", &self.out, e, hint)
        })?;
        Ok(self.out.clone())
    }

    /// Renames the partial folder; a folder that it replaces is moved aside first and removed last.
    fn move_into_place(&self) -> std::io::Result<()> {
        if !self.force || fs::symlink_metadata(&self.out).is_err() {
            // Onto an empty folder this succeeds, onto any other it fails.
            return fs::rename(&self.partial, &self.out);
        }
        let aside = sibling(&self.out, &format!(".old-{}", std::process::id()));
        fs::rename(&self.out, &aside)?;
        if let Err(e) = fs::rename(&self.partial, &self.out) {
            fs::rename(&aside, &self.out)?;
            return Err(e);
        }
        fs::remove_dir_all(&aside).unwrap_or_default(); // the new run is in place: a rest of the old is no failure
        Ok(())
    }

    /// Lists files that an earlier process of this run wrote, and removes the temporary ones it left.
    fn account(&mut self, folder: &Path) -> Result<()> {
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        for entry in entries.map_err(|e| failed("read", folder, &e))? {
            let path = entry.path();
            let relative = path.strip_prefix(&self.partial).unwrap_or(&path);
            let parts: Vec<_> =
                relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
            let name = parts.join("/");
            if path.is_dir() {
                self.account(&path)?;
            } else if name.ends_with(".tmp") && entry.file_name().to_string_lossy().starts_with('.') {
                fs::remove_file(&path).map_err(|e| failed("remove", &path, &e))?;
            } else if !name.starts_with(MARKER)
                && name != "manifest.json"
                && !self.outputs.contains_key(&name)
            {
                self.outputs.insert(name, atomic::measure(&path)?);
            }
        }
        Ok(())
    }

    fn stream(&mut self, path: &str, fill: impl FnOnce(&mut dyn Write) -> Filled) -> Result<()> {
        let full = self.inside(path)?;
        fs::create_dir_all(parent(&full)).map_err(|e| failed("write", &full, &e))?;
        let written = stream_file_atomically(&full, true, fill)?;
        if !path.starts_with(SCRATCH) {
            self.outputs.insert(path.to_owned(), written);
        }
        Ok(())
    }

    /// The path inside the partial folder; a path that would lead out of it is refused.
    fn inside(&self, path: &str) -> Result<PathBuf> {
        let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || path.is_empty() {
            let hint = "names of outputs are relative paths of plain names";
            return Err(Error::file("write", Path::new(path), "it lies outside the run folder", hint));
        }
        Ok(self.partial.join(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.finished || self.keep {
            return;
        }
        begin::clear(&self.partial).unwrap_or_default();
        for folder in self.made.iter().rev() {
            fs::remove_dir(folder).unwrap_or_default(); // only if it is empty
        }
    }
}

/// `<path><ending>`, beside the path.
fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}
