//! Fetching a model: which files of a repository, in which order.

use std::collections::BTreeSet;

use serde_json::Value;

use super::http::{Client, Request};
use super::id::Id;
use super::store::{Remote, Store};
use super::{Hub, cache};
use crate::checkpoint::{CONFIG, object, shards as weights};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// The hub that is asked unless HF_ENDPOINT names another.
const ENDPOINT: &str = "https://huggingface.co";

/// What a model's texts are read by: those of them that there are.
const TEXT: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
];

/// Weights, the best first: one file, or an index of shards.
const WEIGHTS: &[(&str, &str)] = &[
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
];

/// Fetches what the cache lacks of a model. Contents come first, each checked; the snapshot and the reference that make
/// them a model come last.
pub(super) fn fetch(hub: &Hub, id: &Id, progress: &dyn Progress) -> Result<()> {
    let endpoint = hub.env.text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
    let client = Client::new(endpoint, hub.token()?)?;
    let (commit, names) = listing(&client, id)?;
    let mut wanted: Vec<String> = TEXT.iter().map(|&name| name.to_owned()).collect();
    wanted.retain(|name| names.contains(name));
    let store = Store::new(hub.cache()?, id);
    let remote = |name: &str| remote(&client, id, &commit, name);
    let has = |name: &str| names.contains(name);
    if !has(CONFIG) {
        return Err(unusable(id, CONFIG, &names));
    }
    let found = WEIGHTS.iter().find(|(single, index)| has(single) || has(index));
    let Some((single, index)) = found.copied().or_else(|| Some((weights::lone(names.iter())?, ""))) else {
        return Err(unusable(id, WEIGHTS[0].0, &names));
    };
    if has(single) {
        wanted.push(single.to_owned());
    } else {
        let index = remote(index)?;
        store.fetch(&client, id, &commit, &index, &crate::progress::Silent)?;
        for shard in shards(&store, &index)? {
            if !has(&shard) || shard.contains(['/', '\\']) {
                return Err(unusable(id, &format!("{shard}, which {} names", index.name), &names));
            }
            wanted.push(shard);
        }
        wanted.push(index.name);
    }
    wanted.push(CONFIG.to_owned());
    let files: Vec<Remote> = wanted.iter().map(|name| remote(name)).collect::<Result<_>>()?;
    progress.begin_bytes("fetching", files.iter().map(|file| file.size).sum());
    let fetched = files.iter().try_for_each(|file| {
        progress.note(&file.name);
        store.fetch(&client, id, &commit, file, progress)
    });
    progress.end();
    fetched?;
    store.link(&commit, &files)?;
    store.refer(id, &commit)
}

/// The commit that the revision is at, and the names of its files.
fn listing(client: &Client, id: &Id) -> Result<(String, BTreeSet<String>)> {
    let mut answer = client.send(&Request { id, file: None, from: Some(0) })?;
    let strange = |cause: &str| {
        let message = format!("the hub's answer about {} cannot be read: {cause}", id.word);
        Error::input(message, "is HF_ENDPOINT the address of a hub, and the network free of a login page?")
    };
    let text = answer.body.read_to_string().map_err(|e| strange(&e.to_string()))?;
    let about: Value = serde_json::from_str(&text).map_err(|e| strange(&e.to_string()))?;
    let commit = about.get("sha").and_then(Value::as_str).filter(|sha| cache::is_commit(sha));
    let files = about.get("siblings").and_then(Value::as_array);
    let (Some(commit), Some(files)) = (commit, files) else {
        return Err(strange("it has no `sha` of 40 hex digits or no list of `siblings`"));
    };
    let names = files.iter().filter_map(|file| file.get("rfilename")?.as_str().map(str::to_owned));
    Ok((commit.to_owned(), names.collect()))
}

/// What the hub says of a file before it is fetched.
fn remote(client: &Client, id: &Id, commit: &str, name: &str) -> Result<Remote> {
    let answer = client.send(&Request { id, file: Some((commit, name)), from: None })?;
    match (answer.etag(), answer.size()) {
        (Some(etag), Some(size)) => Ok(Remote { name: name.to_owned(), etag: etag.to_owned(), size }),
        _ => Err(Error::input(
            format!(
                "the hub gives no ETag or no length for {name} of {}, so it could not be checked",
                id.word
            ),
            "is HF_ENDPOINT the address of a hub or a full mirror of one?",
        )),
    }
}

/// The shards that an index names.
fn shards(store: &Store, index: &Remote) -> Result<BTreeSet<String>> {
    let path = store.blob(index);
    let object = object(&path)?;
    let shards = object.get("weight_map").and_then(Value::as_object);
    let names = shards.and_then(|map| map.values().map(|name| name.as_str().map(str::to_owned)).collect());
    names.ok_or_else(|| {
        let hint = "the repository is damaged: take another revision";
        Error::file("use", &path, "`weight_map` is not an object of tensor and file names", hint)
    })
}

fn unusable(id: &Id, lacks: &str, names: &BTreeSet<String>) -> Error {
    const SHOWN: usize = 12;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let more = if names.len() > SHOWN { ", …" } else { "" };
    Error::input(
        format!("{} has no {lacks}: it has {}{more}", id.word, shown.join(", ")),
        "a model has config.json and model.safetensors (or its index and shards, or pytorch_model.bin, or one .pt or .pth): take another repository or revision",
    )
}
