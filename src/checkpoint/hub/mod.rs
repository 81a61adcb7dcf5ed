//! Models that are named by a hub id: found in the local cache, which other tools share, or fetched into it.
//!
//! Finding opens no socket. Fetching is asked for by [`Hub::fetch`] alone, and is compiled with the feature `hub`.

mod alias;
mod cache;
mod env;
#[cfg(feature = "hub")]
mod fetch;
#[cfg(feature = "hub")]
mod http;
mod id;
#[cfg(feature = "hub")]
mod sha1;
#[cfg(feature = "hub")]
mod store;
mod token;

use std::path::PathBuf;

pub(super) use alias::aliases;
pub use env::Env;
pub(super) use id::Id;

use super::Directory;
use super::locate::{Named, no_model, understand};
use crate::error::{Error, Result};
use crate::progress::Progress;
use cache::Snapshot;
use token::Token;

/// Where models that are named by a hub id come from: the environment, and what the command line says over it.
///
/// | variable | what it decides |
/// |---|---|
/// | `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HOME` | the cache: the first as it is, or `hub`, `huggingface/hub`, `.cache/huggingface/hub` in the others |
/// | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` | `1`: nothing is fetched |
/// | `HF_ENDPOINT` | the hub's address: a mirror |
/// | `HF_TOKEN`, `HF_TOKEN_PATH` | the token, or its file; else `token` in `HF_HOME` |
/// | `HF_HUB_DISABLE_IMPLICIT_TOKEN` | `1`: only the token of [`Hub::with_token_file`] is sent |
#[derive(Clone, Default)]
pub struct Hub {
    env: Env,
    offline: bool,
    token_file: Option<PathBuf>,
}

impl Hub {
    /// As an environment has it.
    pub fn new(env: Env) -> Hub {
        Hub { env, offline: false, token_file: None }
    }

    /// Opens no socket if `offline`, else as the environment says.
    #[must_use]
    pub fn offline(self, offline: bool) -> Hub {
        Hub { offline, ..self }
    }

    /// Takes the token from a file, if one is named.
    #[must_use]
    pub fn with_token_file(self, token_file: Option<PathBuf>) -> Hub {
        Hub { token_file, ..self }
    }

    /// The directory a word means, as [`super::locate()`] has it, by this environment.
    pub fn locate(&self, model: &str) -> Result<Directory> {
        let id = match understand(model)? {
            Named::Directory(directory) => return Ok(directory),
            Named::Hub(id) => id,
        };
        let Some(snapshot) = self.cached(&id) else { return Err(self.not_cached(&id)) };
        let remark = snapshot.guessed.then(|| guess(&id, &snapshot));
        let directory = Directory::open(&snapshot.path)?;
        Ok(Directory { name: id.word, revision: Some(snapshot.commit), remark, ..directory })
    }

    /// Sees to it that [`Hub::locate`] finds a model: fetches what the cache lacks of it, and nothing of a bundled name or a
    /// directory. A model that is in the cache is used as it is, without asking whether there is a newer commit. Gives
    /// sentences on what was taken for want of better.
    ///
    /// Errors if it is neither in the cache nor to be had; then the cache has no more snapshots than before.
    pub fn fetch(&self, model: &str, progress: &dyn Progress) -> Result<Vec<String>> {
        let Named::Hub(id) = understand(model)? else { return Ok(Vec::new()) };
        let found = self.cached(&id);
        if found.as_ref().is_some_and(|snapshot| snapshot.is_whole() && !snapshot.guessed) {
            return Ok(Vec::new());
        }
        let denied = match self.download(&id, progress) {
            Ok(()) => return Ok(Vec::new()),
            Err(denied) => denied,
        };
        match found.filter(Snapshot::can_open) {
            Some(snapshot) if snapshot.guessed => Ok(vec![guess(&id, &snapshot)]),
            Some(_) => Ok(Vec::new()), // without a tokenizer, which it may never have had
            None => Err(denied),
        }
    }

    #[cfg(feature = "hub")]
    fn download(&self, id: &Id, progress: &dyn Progress) -> Result<()> {
        match (id.known, self.why_offline()) {
            (true, None) => fetch::fetch(self, id, progress),
            _ => Err(self.not_cached(id)),
        }
    }

    #[cfg(not(feature = "hub"))]
    fn download(&self, id: &Id, _: &dyn Progress) -> Result<()> {
        Err(self.not_cached(id))
    }

    fn cached(&self, id: &Id) -> Option<Snapshot> {
        cache::find(&self.cache().ok()?, id)
    }

    /// The cache's folder.
    fn cache(&self) -> Result<PathBuf> {
        let explicit = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"].iter().find_map(|name| self.env.path(name));
        explicit.or_else(|| Some(self.home()?.join("hub"))).ok_or_else(|| {
            let message = "there is no folder for fetched models: neither HF_HUB_CACHE nor HOME is set";
            Error::input(message, "set HF_HUB_CACHE to a folder")
        })
    }

    /// The folder of the ecosystem's own files.
    fn home(&self) -> Option<PathBuf> {
        let caches = || self.env.path("XDG_CACHE_HOME").or_else(|| Some(self.env.home()?.join(".cache")));
        self.env.path("HF_HOME").or_else(|| Some(caches()?.join("huggingface")))
    }

    /// What switched fetching off, if anything did.
    fn why_offline(&self) -> Option<&'static str> {
        let switch = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| self.env.on(name));
        if self.offline { Some("--offline") } else { switch }
    }

    /// The token to send, if there is one: `--token-file`, `HF_TOKEN`, `HF_TOKEN_PATH`, `token` in `HF_HOME`.
    #[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "sent only when fetching"))]
    fn token(&self) -> Result<Option<Token>> {
        if let Some(path) = &self.token_file {
            return Token::of_file(path).map(Some);
        }
        if self.env.on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return Ok(None);
        }
        if let Some(text) = self.env.text("HF_TOKEN") {
            return Token::of(&text, "HF_TOKEN");
        }
        let named = self.env.path("HF_TOKEN_PATH");
        Token::of_file_if_any(&named.or_else(|| Some(self.home()?.join("token"))))
    }

    /// What to say of a model that the cache does not hold, when the hub is not asked.
    fn not_cached(&self, id: &Id) -> Error {
        if !id.known {
            return no_model(&id.word);
        }
        let cache = match self.cache() {
            Ok(cache) => cache,
            Err(error) => return error,
        };
        let folders: Vec<String> =
            id.names.iter().map(|name| cache::folder(&cache, name).display().to_string()).collect();
        let what = if self.cached(id).is_some() { "only in part" } else { "not" };
        let message = format!("{} is {what} in the cache: looked in {}", id.word, folders.join(" and "));
        let by_hand = id.by_hand();
        let other = format!("or fetch it on a machine that may: `{by_hand}`, and copy its folder");
        let hint = match self.why_offline() {
            Some(switch) => format!("{switch} keeps glassbox from fetching it: run once without, {other}"),
            None if cfg!(feature = "hub") => {
                format!("`glassbox predict --model {}` fetches it; so does `{by_hand}`", id.word)
            }
            None => format!(
                "this glassbox was built without fetching: build it with `--features hub` (or without \
                 `--no-default-features`), {other}"
            ),
        };
        Error::input(message, hint)
    }
}

fn guess(id: &Id, snapshot: &Snapshot) -> String {
    format!(
        "{}: the cache does not say which commit is current (refs/{}); taken is its newest snapshot, {}.",
        id.word,
        id::MAIN,
        snapshot.commit
    )
}
