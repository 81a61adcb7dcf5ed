//! SHA-1 as git names its blobs by: what the hub says of files that are not in its large storage. It guards against damage
//! on the way, not against forgery.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// A file's name as a git blob: SHA-1 over `blob LENGTH\0` and its bytes, as hex.
pub(super) fn git_blob(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = format!("blob {length}\0").into_bytes();
    file.read_to_end(&mut bytes)?;
    Ok(sha1(bytes))
}

/// FIPS 180-4, section 6.1.
fn sha1(mut bytes: Vec<u8>) -> String {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let bits = bytes.len() as u64 * 8;
    bytes.push(0x80);
    bytes.resize(bytes.len().next_multiple_of(64) + if bytes.len() % 64 > 56 { 64 } else { 0 }, 0);
    let end = bytes.len() - 8;
    bytes[end..].copy_from_slice(&bits.to_be_bytes());
    for block in bytes.chunks_exact(64) {
        let mut words = [0; 80];
        for (word, quad) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = quad.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte));
        }
        for t in 16..80 {
            words[t] = (words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (t, word) in words.into_iter().enumerate() {
            let (f, k) = match t / 20 {
                0 => ((b & c) | (!b & d), 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    state.iter().map(|word| format!("{word:08x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_messages() {
        for (text, hash) in [
            // FIPS 180-2, appendix A
            ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
            ),
            ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        ] {
            assert_eq!(sha1(text.into()), hash);
        }
        assert_eq!(sha1(vec![b'a'; 1_000_000]), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
        // lengths around the padding's edge all end in a whole block
        (50..130).for_each(|length| assert_eq!(sha1(vec![0; length]).len(), 40));
    }

    #[test]
    fn a_file_is_called_as_git_calls_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "what is up, doc?").unwrap(); // the example of git's own book
        assert_eq!(git_blob(file.path()).unwrap(), "bd9dbf5aae1a3862dd1526723246b20206e5fc37");
    }
}
