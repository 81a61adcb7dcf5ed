//! Every sentence a user can be told.
//!
//! Values hold names as text, so that this file stands on nothing. A sentence says what happened with its facts; a
//! line `hint:` says the way out.

/// The result of everything in this library.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, with the facts and, where there is one, a way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A bad request: flag, study file, prompt. Exit code 2.
    #[error("{message}\n  hint: {hint}")]
    Usage {
        /// What is wrong with it.
        message: String,
        /// What to write instead.
        hint: String,
    },
    /// Input (a model, a data set, a prompt) that cannot be used as it is. Exit code 1.
    #[error("{message}\n  hint: {hint}")]
    Input {
        /// What is wrong with it.
        message: String,
        /// How to mend it.
        hint: String,
    },
    /// A name that does not exist, with the names nearest to it.
    #[error("there is no {kind} named `{name}`\n  hint: {near}")]
    Unknown {
        /// What was looked for: "site", "analysis", "task", ….
        kind: &'static str,
        /// As it was written.
        name: String,
        /// "did you mean …", or the full list when nothing is near.
        near: String,
    },
    /// A place that this model does not have or that did not fire.
    #[error(
        "{site} does not exist in this model: {why}\n  hint: `glassbox list sites` shows every site of a model"
    )]
    NoSuchSite {
        /// The site's full name.
        site: String,
        /// The reason, with numbers.
        why: String,
    },
    /// An activation was asked for that the run did not keep.
    #[error("{site} was not recorded\n  hint: this run kept {kept}")]
    NotRecorded {
        /// The site's full name.
        site: String,
        /// What was kept.
        kept: String,
    },
    /// A part of an activation that lies outside of it.
    #[error(
        "{what} {index} is out of range at {site}: it has {size}\n  hint: counting starts at 0, so that the last is {last}",
        last = size.saturating_sub(1)
    )]
    OutOfRange {
        /// The axis: "position", "head", "layer", ….
        what: &'static str,
        /// The index asked for.
        index: usize,
        /// How many there are.
        size: usize,
        /// Where.
        site: String,
    },
    /// A tensor of another shape than the place takes.
    #[error("{what} has shape {got:?}, but {expected} is needed")]
    Shape {
        /// Which tensor.
        what: String,
        /// The shape it has.
        got: Vec<usize>,
        /// The shape in words or numbers.
        expected: String,
    },
    /// A file that could not be read or written.
    #[error("cannot {action} {path}: {cause}\n  hint: {hint}")]
    File {
        /// "read", "write", "create", ….
        action: &'static str,
        /// The path as given.
        path: String,
        /// The operating system's or parser's own words.
        cause: String,
        /// The way out.
        hint: String,
    },
    /// The user pressed Ctrl-C. Exit code 130.
    #[error("interrupted: nothing half-written was kept{kept}")]
    Interrupted {
        /// Empty, or what `--resume` can continue from.
        kept: String,
    },
    /// An operation on tensors failed: a bug of ours or memory that ran out.
    #[error("a tensor operation failed: {0}")]
    Tensor(String),
}

impl Error {
    /// A bad request (exit code 2).
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Usage { message: message.into(), hint: hint.into() }
    }

    /// Unusable input (exit code 1).
    pub fn input(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Input { message: message.into(), hint: hint.into() }
    }

    /// An unknown name, with the nearest of the names that exist.
    pub fn unknown<'a>(kind: &'static str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let mut near: Vec<(f64, &str)> =
            known.iter().map(|k| (strsim::jaro_winkler(name, k), *k)).filter(|(s, _)| *s > 0.75).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let near = if near.is_empty() {
            format!("there are {}", known.join(", "))
        } else {
            let names: Vec<String> = near.iter().take(4).map(|(_, k)| format!("`{k}`")).collect();
            format!("did you mean {}?", names.join(", "))
        };
        Error::Unknown { kind, name: name.to_owned(), near }
    }

    /// A file that could not be read or written. Of the system's words the number is left out: `(os error 2)`.
    pub fn file(
        action: &'static str,
        path: &std::path::Path,
        cause: impl std::fmt::Display,
        hint: impl Into<String>,
    ) -> Self {
        let cause = numberless(&cause.to_string());
        Error::File { action, path: path.display().to_string(), cause, hint: hint.into() }
    }

    /// The exit code a command ends with: 1 failure, 2 usage, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage { .. } | Error::Unknown { .. } => 2,
            Error::Interrupted { .. } => 130,
            _ => 1,
        }
    }
}

/// The words without each ` (os error N)` in them.
fn numberless(words: &str) -> String {
    let mut pieces = words.split(" (os error ");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |told, piece| told + piece.split_once(')').map_or("", |(_, after)| after))
}

impl From<candle_core::Error> for Error {
    /// Keeps the sentence and drops the backtrace that candle prints into its message.
    fn from(error: candle_core::Error) -> Self {
        let text = error.to_string();
        let sentence: Vec<&str> =
            text.lines().take_while(|line| !line.trim_start().starts_with("0: ")).collect();
        Error::Tensor(sentence.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_systems_number_is_left_out_and_its_words_are_kept() {
        assert_eq!(numberless("No such file or directory (os error 2)"), "No such file or directory");
        assert_eq!(numberless("a (os error 13): b (os error 2), (c)"), "a: b, (c)");
        assert_eq!(numberless("it is a folder (or was)"), "it is a folder (or was)");
    }
}
