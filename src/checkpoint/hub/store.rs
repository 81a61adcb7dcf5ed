//! Writing into the cache so that other tools find what was fetched: whole, under its hash, and at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::http::{Answer, Client, Request};
use super::id::{Id, MAIN};
use super::{cache, sha1};
use crate::checkpoint::hash;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// How often in a row a connection may break off without having brought anything.
const STRIKES: u32 = 3;

/// A repository's folder in a cache.
pub(super) struct Store {
    cache: PathBuf,
    folder: PathBuf,
}

/// A file of the hub.
pub(super) struct Remote {
    pub(super) name: String,
    /// What it is called in the cache. For files in large storage its sha256, for others its name as a git blob.
    pub(super) etag: String,
    /// Bytes.
    pub(super) size: u64,
}

impl Store {
    pub(super) fn new(cache: PathBuf, id: &Id) -> Store {
        Store { folder: cache::folder(&cache, id.name()), cache }
    }

    /// Where a file's content lies.
    pub(super) fn blob(&self, file: &Remote) -> PathBuf {
        self.folder.join("blobs").join(&file.etag)
    }

    /// Fetches a file's content unless it is there, going on where an earlier attempt broke off. It gets its place only
    /// once its length and hash are right.
    pub(super) fn fetch(
        &self,
        client: &Client,
        id: &Id,
        commit: &str,
        file: &Remote,
        progress: &dyn Progress,
    ) -> Result<()> {
        let blob = self.blob(file);
        let locks = self.cache.join(".locks").join(self.folder.file_name().unwrap_or_default());
        folders(&self.folder.join("blobs"))?;
        folders(&locks)?;
        let lock = locks.join(format!("{}.lock", file.etag));
        let lock = File::create(&lock).map_err(|e| unwritable(&lock, &e))?;
        let _ = lock.lock(); // waits for another process; a file system without locks must do without
        if fs::metadata(&blob).is_ok_and(|about| about.len() == file.size) {
            progress.advance(file.size);
            return Ok(());
        }
        let partial = blob.with_file_name(format!("{}.incomplete", file.etag));
        let kept = fs::metadata(&partial).map_or(0, |about| about.len());
        let request = |from| Request { id, file: Some((commit, &file.name)), from: Some(from) };
        let mut told = 0;
        complete(&partial, file, |from| client.send(&request(from)), &mut told, progress)?;
        let mut wrong = damage(&partial, file)?;
        if wrong.is_some() && kept > 0 {
            // what an earlier attempt left may have been of another file: once more from the beginning
            remove(&partial)?;
            complete(&partial, file, |from| client.send(&request(from)), &mut told, progress)?;
            wrong = damage(&partial, file)?;
        }
        if let Some(wrong) = wrong {
            remove(&partial)?;
            let message = format!("{} of {} was fetched and is damaged: {wrong}", file.name, id.word);
            return Err(Error::input(
                message,
                "it was removed: run again; a proxy or mirror may alter files",
            ));
        }
        fs::rename(&partial, &blob).map_err(|e| unwritable(&blob, &e))
    }

    /// Puts files into the snapshot of a commit: links to their contents, `config.json` last, for a snapshot without one is
    /// not taken for a model.
    pub(super) fn link(&self, commit: &str, files: &[Remote]) -> Result<()> {
        let snapshot = self.folder.join("snapshots").join(commit);
        folders(&snapshot)?;
        for file in files {
            let path = snapshot.join(&file.name);
            if fs::metadata(&path).is_ok_and(|about| about.len() == file.size) {
                continue;
            }
            let own = own(&path);
            if fs::symlink_metadata(&own).is_ok() {
                remove(&own)?; // of a process that was killed
            }
            // never through `path` itself: another process may have put its link there, and writing would go through it
            point(&Path::new("../../blobs").join(&file.etag), &self.blob(file), &own)
                .and_then(|()| fs::rename(&own, &path))
                .map_err(|e| unwritable(&path, &e))?;
        }
        Ok(())
    }

    /// Notes which commit the revision is at.
    pub(super) fn refer(&self, id: &Id, commit: &str) -> Result<()> {
        let revision = id.revision.as_deref().unwrap_or(MAIN);
        if cache::is_commit(revision) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        path.parent().map_or(Ok(()), folders)?;
        let partial = own(&path);
        let written = fs::write(&partial, commit).and_then(|()| fs::rename(&partial, &path));
        written.map_err(|e| unwritable(&path, &e))
    }
}

/// A name beside `path` that is of this process and thread alone: others may be writing the same.
fn own(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{:?}.incomplete", std::process::id(), std::thread::current().id()));
    path.with_file_name(name)
}

/// Appends to a file until it has its length; `told` is how many of its bytes the bar counts.
fn complete(
    partial: &Path,
    file: &Remote,
    ask: impl Fn(u64) -> Result<Answer>,
    told: &mut u64,
    progress: &dyn Progress,
) -> Result<()> {
    let failed = |e: io::Error| unwritable(partial, &e);
    let mut out = OpenOptions::new().create(true).append(true).open(partial).map_err(failed)?;
    let (mut furthest, mut strikes) = (0, 0);
    loop {
        let mut have = out.metadata().map_err(failed)?.len();
        if have > file.size {
            out.set_len(0).map_err(failed)?;
            have = 0;
        }
        furthest = have.max(furthest);
        tell(told, have, progress);
        if have == file.size {
            return out.sync_all().map_err(failed);
        }
        let answer = ask(have)?;
        let begin = answer.begins_at();
        if begin != Some(have) {
            out.set_len(0).map_err(failed)?;
            have = 0;
        }
        let mut cause = "it sends another part of the file".to_owned();
        if begin == Some(have) {
            // one byte more than promised is enough to know that it is not this file
            let mut body = answer.body.into_reader().take(file.size - have + 1);
            cause = match copy(&mut body, &mut out, have, told, progress) {
                Ok(()) => "it ended early".to_owned(),
                Err(Broken::Write(e)) => return Err(failed(e)),
                Err(Broken::Read(e)) => e.to_string(),
            };
        }
        let have = out.metadata().map_err(failed)?.len();
        if have > file.size {
            cause = "it sends more than it promised".to_owned();
        }
        // a server that begins anew each time and breaks off at the same place brings nothing either
        strikes = if have > furthest && have <= file.size { 0 } else { strikes + 1 };
        if strikes == STRIKES {
            let message = format!("{} broke off at {have} of {} bytes: {cause}", file.name, file.size);
            return Err(Error::input(message, "what was fetched is kept: run again to go on from there"));
        }
    }
}

/// Which side of a copy failed.
enum Broken {
    Read(io::Error),
    Write(io::Error),
}

fn copy(
    from: &mut impl Read,
    to: &mut File,
    mut have: u64,
    told: &mut u64,
    progress: &dyn Progress,
) -> std::result::Result<(), Broken> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut buffer).map_err(Broken::Read)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).map_err(Broken::Write)?;
        have += count as u64;
        tell(told, have, progress);
    }
}

/// Advances the bar to `have` bytes of this file; it never goes back.
fn tell(told: &mut u64, have: u64, progress: &dyn Progress) {
    progress.advance(have.saturating_sub(*told));
    *told = have.max(*told);
}

/// What is wrong with a fetched file, if anything.
fn damage(path: &Path, file: &Remote) -> Result<Option<String>> {
    let hex = file.etag.chars().all(|c| c.is_ascii_hexdigit());
    let (kind, hash) = match file.etag.len() {
        64 if hex => ("sha256", hash::sha256(&[path.to_owned()])?),
        40 if hex => {
            let hash = sha1::git_blob(path);
            ("git hash", hash.map_err(|e| Error::file("read", path, e, "check its permissions"))?)
        }
        _ => return Ok(None), // a mirror's own mark: the length is all there is to go by
    };
    let wrong = !hash.eq_ignore_ascii_case(&file.etag);
    Ok(wrong.then(|| format!("its {kind} is {hash}, but should be {}", file.etag)))
}

/// A link to a content in the cache; where there are none, the content itself a second time.
fn point(relative: &Path, blob: &Path, path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(relative, path);
    #[cfg(windows)]
    let linked = std::os::windows::fs::symlink_file(relative, path);
    linked.or_else(|_| fs::hard_link(blob, path)).or_else(|_| fs::copy(blob, path).map(drop))
}

fn folders(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| unwritable(path, &e))
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|e| unwritable(path, &e))
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full: make room and run again, which goes on from what was fetched; or set HF_HUB_CACHE to a \
             folder on another disk"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "set HF_HUB_CACHE to a folder that you may write to"
        }
        _ => "set HF_HUB_CACHE to a folder that can be written to",
    };
    Error::file("write", path, error, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_that_link_at_once_leave_the_content_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store { cache: folder.path().to_owned(), folder: folder.path().join("model") };
        let file = Remote { name: "weights".into(), etag: "e".into(), size: 7 };
        folders(&store.folder.join("blobs")).unwrap();
        fs::write(store.blob(&file), b"content").unwrap();
        let path = store.folder.join("snapshots/c/weights");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _ = fs::remove_file(&path); // another may have removed it
                        store.link("c", std::slice::from_ref(&file)).unwrap();
                    }
                });
            }
        });
        store.link("c", std::slice::from_ref(&file)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"content");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
