//! One file written whole or not at all: into a temporary neighbour, then renamed.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// What was written: how long it is and what it hashes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal digits.
    pub sha256: String,
}

/// Writes one file of a command's `-o`; nothing is left behind when it fails.
///
/// A file that exists is an error without `force`. Devices and pipes (`/dev/stdout`) are written to, never replaced.
pub fn write_file_atomically(path: &Path, bytes: &[u8], force: bool) -> Result<Written> {
    stream_file_atomically(path, force, |out| Ok(out.write_all(bytes)?))
}

/// The error that writing to `path` would meet, before any work is done: it exists, or its folder does not.
pub fn check_file(path: &Path, force: bool) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(Error::file("write", path, "it is a folder", "give the name of a file in it"))
        }
        Ok(found) if found.is_file() && !force => {
            Err(Error::file("write", path, "it exists", "give another name, or --force to replace it"))
        }
        Ok(_) => Ok(()),
        Err(_) => match fs::metadata(parent(path)) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(failed("write", path, &io::Error::from(ErrorKind::NotADirectory))),
            Err(cause) => Err(failed("write", path, &cause)),
        },
    }
}

/// A step of writing that failed: the operating system's fault, or one of ours.
pub(super) enum Fault {
    Io(io::Error),
    Ours(Error),
}

/// What filling a file comes to.
pub(super) type Filled = std::result::Result<(), Fault>;

impl From<io::Error> for Fault {
    fn from(cause: io::Error) -> Self {
        Fault::Io(cause)
    }
}

impl From<Error> for Fault {
    fn from(cause: Error) -> Self {
        Fault::Ours(cause)
    }
}

/// As [`write_file_atomically`], for content that is made piece by piece.
pub(super) fn stream_file_atomically(
    path: &Path,
    force: bool,
    fill: impl FnOnce(&mut dyn Write) -> Filled,
) -> Result<Written> {
    check_file(path, force)?;
    let special = fs::metadata(path).is_ok_and(|found| !found.is_file());
    if special {
        return fill_file(path, path, fill);
    }
    // A link is followed, so that the file it points to is replaced and the link stays.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = parent(&target).join(name);
    let written = fill_file(&temporary, path, fill).and_then(|written| {
        fs::rename(&temporary, &target).map(|()| written).map_err(|e| failed("write", path, &e))
    });
    if written.is_err() {
        fs::remove_file(&temporary).unwrap_or_default();
    }
    written
}

fn fill_file(at: &Path, path: &Path, fill: impl FnOnce(&mut dyn Write) -> Filled) -> Result<Written> {
    let explain = |fault| match fault {
        Fault::Io(cause) => failed("write", path, &cause),
        Fault::Ours(error) => error,
    };
    let file = File::create(at).map_err(|e| failed("write", path, &e))?;
    let mut out = Hashing { out: BufWriter::new(file), hash: Sha256::new(), bytes: 0 };
    fill(&mut out).and_then(|()| Ok(out.flush()?)).map_err(explain)?;
    Ok(Written { bytes: out.bytes, sha256: hex(&out.hash.finalize()) })
}

/// Counts and hashes what passes through.
struct Hashing<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Length and hash of a file that lies on disk already.
pub(super) fn measure(path: &Path) -> Result<Written> {
    let mut hashing = Hashing { out: io::sink(), hash: Sha256::new(), bytes: 0 };
    File::open(path)
        .and_then(|mut file| io::copy(&mut file, &mut hashing))
        .map_err(|e| failed("read", path, &e))?;
    Ok(Written { bytes: hashing.bytes, sha256: hex(&hashing.hash.finalize()) })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The folder a path lies in; `.` for a bare name.
pub(super) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The operating system's refusal, with the way out that fits it.
pub(super) fn failed(action: &'static str, path: &Path, cause: &io::Error) -> Error {
    if cause.kind() == ErrorKind::NotFound && action != "read" && parent(path).is_dir() {
        let hint = "choose another place with -o (--out)";
        return Error::file(action, path, "its folder takes no new files", hint);
    }
    let hint = match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk is full: free some space, or write to another disk with -o (--out)"
        }
        ErrorKind::FileTooLarge => {
            "files may not grow larger here: raise the limit (`ulimit -f`), or write to another disk with -o (--out)"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "choose a place you may write to with -o (--out)"
        }
        ErrorKind::NotFound => "the folder it should lie in does not exist: create it, or correct the path",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "a part of this path is a file, not a folder: choose another place with -o (--out)"
        }
        ErrorKind::InvalidFilename | ErrorKind::InvalidInput => {
            "choose a shorter or plainer name with -o (--out)"
        }
        _ => "choose another place with -o (--out)",
    };
    Error::file(action, path, cause, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_fits() {
        let here = tempfile::tempdir().unwrap();
        let told = |path: &str, kind: ErrorKind| {
            failed("write", &here.path().join(path), &io::Error::from(kind)).to_string()
        };
        let denied = told("a.pdf", ErrorKind::PermissionDenied);
        assert!(denied.ends_with("hint: choose a place you may write to with -o (--out)"), "{denied}");
        // a folder of the system that holds only what it puts there itself
        assert!(told("a.pdf", ErrorKind::NotFound).contains("a.pdf: its folder takes no new files\n"));
        assert!(told("no/a.pdf", ErrorKind::NotFound).contains("folder it should lie in does not exist"));
    }
}
