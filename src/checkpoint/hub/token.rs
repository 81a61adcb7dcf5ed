//! The secret that a private or gated model is asked for with. It goes into a request's header and nowhere else.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A token, which shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// The token of a file that was named: it must be there.
    pub(super) fn of_file(path: &Path) -> Result<Token> {
        let text = fs::read_to_string(path)
            .map_err(|e| Error::file("read", path, e, "it should hold a token and nothing else"))?;
        match Token::of(&text, &format!("{}", path.display()))? {
            Some(token) => Ok(token),
            None => Err(Error::file("use", path, "it is empty", "it should hold a token and nothing else")),
        }
    }

    /// The token of a file that may be there.
    pub(super) fn of_file_if_any(path: &Option<PathBuf>) -> Result<Option<Token>> {
        match path {
            Some(path) if path.is_file() => Token::of_file(path).map(Some),
            _ => Ok(None),
        }
    }

    /// A token from where it was written; none if nothing is there.
    pub(super) fn of(text: &str, place: &str) -> Result<Option<Token>> {
        let text = text.trim();
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            let message =
                format!("what {place} holds is no token: it has spaces or signs that a token cannot have");
            return Err(Error::usage(message, "put the token there and nothing else"));
        }
        Ok((!text.is_empty()).then(|| Token(text.to_owned())))
    }

    /// The value of the header `Authorization`.
    #[cfg(feature = "hub")]
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}
