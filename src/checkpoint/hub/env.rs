//! The environment as a value, so that nothing below reads it behind a test's back.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Environment variables. No `Debug`: one of them is a token.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<OsString, OsString>);

impl Env {
    /// Those of this process.
    pub fn of_process() -> Env {
        Env(std::env::vars_os().collect())
    }

    /// Those given.
    pub fn of<K: Into<OsString>, V: Into<OsString>>(variables: impl IntoIterator<Item = (K, V)>) -> Env {
        Env(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// A variable as text; one that is empty counts as absent.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| value.to_string_lossy().trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// A variable as a path, `~/` being the home folder.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.get(name)?);
        match path.strip_prefix("~") {
            Ok(rest) => Some(self.home()?.join(rest)),
            Err(_) => Some(path),
        }
    }

    /// Whether a switch is on, in any of the ecosystem's spellings.
    pub(super) fn on(&self, name: &str) -> bool {
        let word = self.text(name).unwrap_or_default().to_uppercase();
        matches!(word.as_str(), "1" | "ON" | "YES" | "TRUE")
    }

    /// The user's home folder.
    pub(super) fn home(&self) -> Option<PathBuf> {
        self.get("HOME").or_else(|| self.get("USERPROFILE")).map(PathBuf::from)
    }

    fn get(&self, name: &str) -> Option<&OsString> {
        self.0.get(&OsString::from(name)).filter(|value| !value.is_empty())
    }
}
