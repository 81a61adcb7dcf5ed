//! Where a run is written: which folder, whether it is free, and what to do with unfinished work.

use super::atomic::{failed, parent};
use super::{Folder, Journal, MARKER, SCRATCH, sibling};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Where a run is to be written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place<'a> {
    /// `--out`; by default `runs/<verb>-<model>-<n>` with n the next free number.
    pub out: Option<&'a Path>,
    /// The subcommand.
    pub verb: &'a str,
    /// The model's name or path, of which the last part is taken.
    pub model: &'a str,
    /// `--force`: replace a finished run, drop an unfinished one.
    pub force: bool,
    /// `--resume`: continue unfinished work, if there is any.
    pub resume: bool,
}

/// What lies where a partial folder should.
enum Found {
    Nothing,
    /// Another process writes it.
    InUse,
    /// It can be continued.
    Resumable(File),
    /// Left by a process that was killed before it had done anything to continue from.
    Stale,
    /// Left by a process that was killed in the instant before it could make its marker, or by somebody.
    Empty,
    /// Left by a process that was killed in the instant before the finished run could be moved into place.
    Whole,
    /// A folder or file that is not ours.
    Foreign,
}

pub(super) fn begin(place: &Place, runs: &Path) -> Result<Folder> {
    let Some(out) = place.out else { return numbered(place, runs) };
    let Some(name) = out.file_name() else {
        let message = format!("--out {} does not name a folder", out.display());
        return Err(Error::usage(message, "give the name of a folder that glassbox may create"));
    };
    let out = out.with_file_name(name); // without a slash at the end
    check_free(&out, place.force)?;
    let partial = sibling(&out, ".partial");
    let say = |cause: &str, hint: &str| Err(Error::file("create", &out, cause, hint));
    match inspect(&partial, place.resume || place.force) {
        Found::InUse => say(
            &format!("another run is writing {}", partial.display()),
            "wait for it to end, or give another --out",
        ),
        Found::Foreign => say(
            &format!("{} is in the way, and glassbox did not write it", partial.display()),
            "move it away, or give another --out",
        ),
        Found::Resumable(lock) if place.resume => Ok(folder(place, out, partial, lock, true, Vec::new())),
        Found::Resumable(_) | Found::Whole if !place.force => say(
            &format!("{} holds unfinished work", partial.display()),
            "--resume continues it, --force drops it and starts again",
        ),
        Found::Resumable(_) | Found::Whole | Found::Stale | Found::Empty => {
            clear(&partial).map_err(|e| failed("remove", &partial, &e))?;
            fresh(place, out, partial)
        }
        Found::Nothing => fresh(place, out, partial),
    }
}

/// `runs/<verb>-<model>-<n>`: continues the latest unfinished one when asked to, else takes the number after the last.
fn numbered(place: &Place, runs: &Path) -> Result<Folder> {
    let model = Path::new(place.model).file_name().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let model: String = model.chars().map(plain).collect();
    let stem = format!("{}-{}", place.verb, if model.is_empty() { "model" } else { &model });
    // Number → whether it is only a partial folder.
    let mut taken: BTreeMap<u64, bool> = BTreeMap::new();
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let rest = name.strip_prefix(&stem).and_then(|rest| rest.strip_prefix('-'));
        let number =
            rest.map(|rest| rest.strip_suffix(".partial").unwrap_or(rest)).and_then(|n| n.parse().ok());
        if let Some(number) = number {
            *taken.entry(number).or_insert(true) &= name.ends_with(".partial");
        }
    }
    let at = |n: u64| runs.join(format!("{stem}-{n}"));
    for (&n, _) in taken.iter().rev().filter(|(_, partial)| **partial) {
        let partial = sibling(&at(n), ".partial");
        match inspect(&partial, place.resume) {
            Found::Resumable(lock) if place.resume => {
                return Ok(folder(place, at(n), partial, lock, true, Vec::new()));
            }
            Found::Stale if place.resume => {
                clear(&partial).map_err(|e| failed("remove", &partial, &e))?;
                return fresh(place, at(n), partial);
            }
            Found::Stale => clear(&partial).unwrap_or_default(),
            _ => {}
        }
    }
    let mut next = taken.keys().next_back().map_or(1, |last| last + 1);
    loop {
        // Two runs that start together take the same number: the second finds the folder made and takes the next.
        match fresh(place, at(next), sibling(&at(next), ".partial")) {
            Err(Error::File { .. }) if sibling(&at(next), ".partial").exists() => next += 1,
            other => return other,
        }
    }
}

/// An error when something would be overwritten that may not be.
///
/// An empty folder is free. `--force` replaces runs only: a folder without a manifest is somebody's home, not ours.
fn check_free(out: &Path, force: bool) -> Result<()> {
    let say = |cause: &str, hint: &str| Err(Error::file("create", out, cause, hint));
    let Ok(found) = fs::symlink_metadata(out) else { return Ok(()) };
    if !found.is_dir() && !fs::metadata(out).is_ok_and(|found| found.is_dir()) {
        return say("it is a file", "give the name of a folder with --out");
    }
    let mut entries = fs::read_dir(out).map_err(|e| failed("read", out, &e))?;
    if entries.next().is_none() {
        Ok(())
    } else if !force {
        say("it exists", "give another --out, or --force to replace it")
    } else if !out.join("manifest.json").is_file() {
        say(
            "it holds files but no manifest.json, so glassbox did not write it",
            "--force replaces only runs; give another --out, or remove it by hand",
        )
    } else {
        Ok(())
    }
}

/// What lies there. A run that was killed between the removal of its marker and its renaming gets its marker back if `adopt`
/// is set.
fn inspect(partial: &Path, adopt: bool) -> Found {
    if fs::symlink_metadata(partial).is_err() {
        return Found::Nothing;
    }
    let marker = partial.join(MARKER);
    let whole = !marker.exists() && partial.join("manifest.json").is_file();
    if whole && !adopt {
        return Found::Whole;
    }
    let Ok(lock) = File::options().read(true).write(true).create(whole).open(&marker) else {
        let empty = fs::read_dir(partial).is_ok_and(|mut entries| entries.next().is_none());
        return if empty { Found::Empty } else { Found::Foreign };
    };
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => Found::InUse,
        // A file system without locks cannot tell; then the folder counts as left behind.
        _ if scratch(partial).is_ok_and(|files| !files.is_empty()) => Found::Resumable(lock),
        _ => Found::Stale,
    }
}

/// The files of a partial folder that are there for `--resume` alone.
pub(super) fn scratch(partial: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(partial)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes a partial folder so that at no moment it could be taken for work to continue, or for somebody else's: the scratch
/// files go first, and the marker goes last.
pub(super) fn clear(partial: &Path) -> io::Result<()> {
    for path in scratch(partial)? {
        fs::remove_file(path)?;
    }
    for entry in fs::read_dir(partial)? {
        let entry = entry?;
        let path = entry.path();
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(path)?,
            false if entry.file_name() == MARKER => {}
            false => fs::remove_file(path)?,
        }
    }
    fs::remove_dir_all(partial)
}

/// Makes the partial folder, and first the folders above it.
fn fresh(place: &Place, out: PathBuf, partial: PathBuf) -> Result<Folder> {
    let above = parent(&out);
    let missing = above.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    let mut made: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    made.reverse();
    let undo = |e: std::io::Error| {
        for folder in made.iter().rev() {
            fs::remove_dir(folder).unwrap_or_default();
        }
        failed("create", &out, &e)
    };
    fs::create_dir_all(&above).map_err(undo)?;
    fs::create_dir(&partial).map_err(undo)?;
    let lock = File::create_new(partial.join(MARKER)).and_then(|marker| match marker.try_lock() {
        Err(TryLockError::WouldBlock) => Err(ErrorKind::AlreadyExists.into()),
        Err(TryLockError::Error(_)) | Ok(()) => Ok(marker),
    });
    match lock {
        Ok(lock) => Ok(folder(place, out, partial, lock, false, made)),
        Err(e) => {
            clear(&partial).unwrap_or_default();
            Err(undo(e))
        }
    }
}

fn folder(
    place: &Place,
    out: PathBuf,
    partial: PathBuf,
    lock: File,
    resumed: bool,
    made: Vec<PathBuf>,
) -> Folder {
    let journal = Arc::new(Journal::at(partial.join(format!("{SCRATCH}journal"))));
    Folder {
        out,
        partial,
        force: place.force,
        resumed,
        keep: resumed,
        finished: false,
        _lock: lock,
        made,
        outputs: BTreeMap::new(),
        journal,
        started: SystemTime::now(),
        clock: Instant::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Manifest;

    #[test]
    fn default_folders_are_numbered_and_leave_nothing() {
        let base = tempfile::tempdir().unwrap();
        let runs = base.path().join("deep/runs");
        let place = Place { verb: "report", model: "org/some model", ..Place::default() };
        drop(begin(&place, &runs).unwrap());
        assert!(!base.path().join("deep").exists(), "folders made for nothing are removed");

        let first = begin(&place, &runs).unwrap();
        let second = begin(&place, &runs).unwrap(); // beside the first, which is not finished
        assert_eq!(second.finish(&Manifest::default()).unwrap(), runs.join("report-some-model-2"));
        assert_eq!(first.finish(&Manifest::default()).unwrap(), runs.join("report-some-model-1"));

        // Killed: the folder stays, the lock does not.
        let stale = runs.join("report-some-model-3.partial");
        fs::create_dir(&stale).unwrap();
        fs::write(stale.join(MARKER), "").unwrap();
        let kept = runs.join("report-some-model-4.partial");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join(MARKER), "").unwrap();
        fs::write(kept.join(".glassbox-done"), "").unwrap();
        assert_eq!(begin(&place, &runs).unwrap().out(), runs.join("report-some-model-5"));
        assert!(!stale.exists() && kept.exists());
        let resumed = begin(&Place { resume: true, ..place }, &runs).unwrap();
        assert_eq!((resumed.out(), resumed.resumed()), (runs.join("report-some-model-4").as_path(), true));
    }
}
