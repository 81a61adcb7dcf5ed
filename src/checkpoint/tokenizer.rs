//! The tokenizer of a directory: `tokenizer.json`, or a byte-level BPE in two files, `vocab.json` and `merges.txt`; and what
//! the files beside it say about special tokens and chats.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

use super::{AGAIN, object, read_text};
use crate::error::{Error, Result};
use crate::vocabulary::chat::Template;
use crate::vocabulary::{Unread, Vocabulary, dressing, guard};

const WHOLE: &str = "tokenizer.json";
const PAIR: [&str; 2] = ["vocab.json", "merges.txt"];
/// Marks the end of a text in two-file vocabularies; it is one token wherever it is written.
const END_OF_TEXT: &str = "<|endoftext|>";
/// Tokenizers in other forms, by the ends of their files' names.
const OTHERS: [(&str, &str); 6] = [
    ("tokenizer.model", "SentencePiece"),
    ("spiece.model", "SentencePiece"),
    ("sentencepiece.bpe.model", "SentencePiece"),
    ("tekken.json", "Mistral's Tekken"),
    (".tiktoken", "tiktoken"),
    ("vocab.txt", "WordPiece"),
];
const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
/// Special tokens that a chat template may name.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

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
/// else the one that `tokenizer_config.json`, `special_tokens_map.json` or `config.json` names. `add_bos_token` in
/// `tokenizer_config.json` decides whether it is put first, as it does in transformers.
pub(super) fn vocabulary(folder: &Path, config: &Map<String, Value>) -> Result<Vocabulary> {
    let tokenizer = match &files(folder)[..] {
        [] => return Ok(Vocabulary::unread(unread(folder))),
        [whole] => read(whole, read_text(whole)?.as_bytes())?,
        [vocab, merges, ..] => two_files(vocab, merges)?,
    };
    let settings = optional(&folder.join(CONFIG))?;
    let special = optional(&folder.join(SPECIAL))?;
    let words = special_words(&[&settings, &special]);
    let first = dressing(&tokenizer).ok().and_then(|(first, _)| first);
    let named = || words.get("bos_token").and_then(|word| tokenizer.token_to_id(word));
    let numbered = || {
        let id = u32::try_from(config.get("bos_token_id")?.as_u64()?).ok()?;
        tokenizer.id_to_token(id).map(|_| id)
    };
    let bos = first.or_else(named).or_else(numbered);
    let puts_bos = settings.get("add_bos_token").and_then(Value::as_bool);
    let template = template(folder, &settings, words)?;
    Ok(Vocabulary::new(Some(tokenizer), bos).with(puts_bos, template))
}

/// A tokenizer in a form that is not read, and how to make one that is.
fn unread(folder: &Path) -> Option<Unread> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let kind = |name: &String| OTHERS.iter().find(|(end, _)| name.ends_with(end)).map(|(_, kind)| *kind);
    let (name, kind) = names.iter().find_map(|name| Some((name, kind(name)?)))?;
    let dir = folder.display().to_string();
    Some(Unread {
        what: format!("its directory holds {name} ({kind}) and no {WHOLE}"),
        remedy: format!(
            "make one in Python: `from transformers import AutoTokenizer; \
             AutoTokenizer.from_pretrained({dir:?}).save_pretrained({dir:?})`"
        ),
    })
}

/// The object in a file, or an empty one without the file.
fn optional(path: &Path) -> Result<Map<String, Value>> {
    if path.exists() { object(path) } else { Ok(Map::new()) }
}

/// Special tokens as they are written: a word, or an object with the word as its content. The first file that names one
/// counts.
fn special_words(files: &[&Map<String, Value>]) -> BTreeMap<String, String> {
    let word = |name: &str| {
        let mut tokens = files.iter().filter_map(|file| file.get(name));
        tokens.find_map(|token| token.as_str().or_else(|| token.get("content")?.as_str()))
    };
    NAMES.iter().filter_map(|&name| Some((name.to_owned(), word(name)?.to_owned()))).collect()
}

/// The chat template: a file of its own, or an entry of `tokenizer_config.json`. Of several by name it is the one called
/// `default`, or the only one.
fn template(
    folder: &Path,
    settings: &Map<String, Value>,
    words: BTreeMap<String, String>,
) -> Result<Option<Template>> {
    const FILE: &str = "chat_template.jinja";
    let file = folder.join(FILE);
    if file.exists() {
        return Ok(Some(Template::new(read_text(&file)?, FILE, words)));
    }
    let source = match settings.get("chat_template") {
        Some(Value::Array(list)) => {
            let named = |name: &str| list.iter().find(|entry| entry.get("name").is_some_and(|n| n == name));
            let only = || list.first().filter(|_| list.len() == 1);
            named("default").or_else(only).and_then(|entry| entry.get("template")?.as_str())
        }
        Some(source) => source.as_str(),
        None => None,
    };
    Ok(source.map(|source| Template::new(source, CONFIG, words)))
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
