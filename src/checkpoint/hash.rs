//! sha256 of files, streamed.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// sha256 over files read one after the other, as hex: what `cat FILES | sha256sum` prints.
pub(super) fn sha256(files: &[PathBuf]) -> Result<String> {
    sha256_unless(files, &AtomicBool::new(false))
}

/// As [`sha256`]; it ends early, with no hash of anything, once nobody wants it any more.
pub(super) fn sha256_unless(files: &[PathBuf], unwanted: &AtomicBool) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    for path in files {
        let failed = |e| Error::file("read", path, e, "check the path and its permissions");
        let mut file = File::open(path).map_err(failed)?;
        loop {
            let read = file.read(&mut buffer).map_err(failed)?;
            if read == 0 || unwanted.load(Ordering::Relaxed) {
                break;
            }
            hasher.update(&buffer[..read]);
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_hashed_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        // FIPS 180-2, appendix B.1: "abc".
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&[file("abc", "abc")]).unwrap(), known);
        assert_eq!(sha256(&[file("ab", "ab"), file("c", "c")]).unwrap(), known);
    }
}
