//! The tokenizer of a directory: `tokenizer.json`, or a byte-level BPE in two files, `vocab.json` and `merges.txt`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

use super::{AGAIN, object, read_text};
use crate::error::{Error, Result};
use crate::vocabulary::{Vocabulary, guard};

const WHOLE: &str = "tokenizer.json";
const PAIR: [&str; 2] = ["vocab.json", "merges.txt"];
/// Marks the end of a text in two-file vocabularies; it is one token wherever it is written.
const END_OF_TEXT: &str = "<|endoftext|>";

/// The files the tokenizer of a directory is read from; none if it has no tokenizer.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let whole = folder.join(WHOLE);
    if whole.exists() {
        return vec![whole];
    }
    let pair = PAIR.map(|name| folder.join(name));
    if pair.iter().any(|path| path.exists()) { pair.to_vec() } else { Vec::new() }
}

/// The vocabulary of a directory. Its beginning-of-sequence token is the one that the tokenizer puts before a text by itself,
/// else the one that `tokenizer_config.json` or `config.json` names.
pub(super) fn vocabulary(folder: &Path, config: &Map<String, Value>) -> Result<Vocabulary> {
    let tokenizer = match &files(folder)[..] {
        [] => return Ok(Vocabulary::new(None, None)),
        [whole] => read(whole, read_text(whole)?.as_bytes())?,
        [vocab, merges, ..] => two_files(vocab, merges)?,
    };
    let named = |word: &str| tokenizer.token_to_id(word);
    let first = guard::encode(&tokenizer, "", true).ok().and_then(|ids| ids.first().copied());
    let bos = match first {
        Some(id) => Some(id),
        None => bos_word(folder)?.and_then(|word| named(&word)).or_else(|| {
            let id = config.get("bos_token_id")?.as_u64()?;
            u32::try_from(id).ok().filter(|&id| tokenizer.id_to_token(id).is_some())
        }),
    };
    Ok(Vocabulary::new(Some(tokenizer), bos))
}

fn read(path: &Path, bytes: &[u8]) -> Result<Tokenizer> {
    let mut tokenizer = guard::parse(bytes).map_err(|e| Error::file("parse", path, e, AGAIN))?;
    // A saved file may say to cut or fill up texts, which would change prompts without a word.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|e| Error::file("use", path, e, AGAIN))?;
    Ok(tokenizer)
}

/// Radford et al. 2019: byte-level BPE, no space put before a text.
fn two_files(vocab: &Path, merges: &Path) -> Result<Tokenizer> {
    let words = object(vocab)?;
    let mut rules = Vec::new();
    for (number, line) in read_text(merges)?.lines().enumerate() {
        if line.is_empty() || (number == 0 && line.starts_with("#version")) {
            continue;
        }
        let Some((left, right)) = line.split_once(' ').filter(|(_, right)| !right.contains(' ')) else {
            let cause = format!("line {} is not two pieces with a space between: {line:?}", number + 1);
            return Err(Error::file("parse", merges, cause, AGAIN));
        };
        rules.push(json!([left, right]));
    }
    let end = words.get(END_OF_TEXT).map(|id| {
        json!({"id": id, "content": END_OF_TEXT, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    });
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let whole = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": end.into_iter().collect::<Vec<_>>(), "pre_tokenizer": bytes, "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                  "vocab": words, "merges": rules},
    });
    read(vocab, whole.to_string().as_bytes())
}

/// The token that `tokenizer_config.json` names: a word, or an object with the word as its content.
fn bos_word(folder: &Path) -> Result<Option<String>> {
    let path = folder.join("tokenizer_config.json");
    if !path.exists() {
        return Ok(None);
    }
    let object = object(&path)?;
    let token = object.get("bos_token");
    let word = token.and_then(|token| token.as_str().or_else(|| token.get("content")?.as_str()));
    Ok(word.map(str::to_owned))
}
