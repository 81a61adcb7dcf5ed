//! Flags that hold several words: which are which, and a sentence where they are not.

use crate::error::{Error, Result};
use crate::figure::view::{Reference, Series};

/// A number.
pub(super) fn number(words: &str) -> std::result::Result<f64, String> {
    words.trim().parse().map_err(|_| "write a number, such as 240 or 0.05".to_owned())
}

/// A whole number from 0 on.
pub(super) fn whole(words: &str) -> std::result::Result<usize, String> {
    words.trim().parse().map_err(|_| "write a whole number from 0 on".to_owned())
}

/// `LO,HI`.
pub(super) fn limits(words: &str) -> std::result::Result<[f64; 2], String> {
    let ends: Option<Vec<f64>> = words.split(',').map(|end| end.trim().parse().ok()).collect();
    ends.and_then(|ends| ends.try_into().ok())
        .ok_or_else(|| "write two numbers: `--limits -0.5,0.5`".to_owned())
}

/// `COLUMN,COLUMN`.
pub(super) fn two_columns(words: &str) -> std::result::Result<[String; 2], String> {
    let columns: Vec<String> = words.split(',').map(str::to_owned).collect();
    let two = columns.try_into().ok().filter(|two: &[String; 2]| two.iter().all(|name| !name.is_empty()));
    two.ok_or_else(|| "write two columns: `--onset onset_after,onset_by`".to_owned())
}

/// `COLUMN[,LO,HI[,NAME]]`, as the flag of this name has it. Without both ends there is no interval.
pub(super) fn series(flag: &str, words: &str) -> Result<Series> {
    let mut parts = words.splitn(4, ',');
    let [value, lo, hi, name] = std::array::from_fn(|_| parts.next().unwrap_or_default().to_owned());
    let wrong = |what: &str| {
        let hint =
            format!("write `--{flag} total`, `--{flag} total,total_lo,total_hi` or `--{flag} total,,,NAME`");
        Err(Error::usage(format!("`--{flag} {words}` {what}"), hint))
    };
    match (value.is_empty(), lo.is_empty(), hi.is_empty()) {
        (true, ..) => wrong("names no column"),
        (_, true, false) | (_, false, true) => wrong("names one end of an interval"),
        (_, true, true) => Ok(Series { value, name, lo: None, hi: None }),
        (_, false, false) => Ok(Series { value, name, lo: Some(lo), hi: Some(hi) }),
    }
}

/// `AT[=NAME]`.
pub(super) fn reference(words: &str) -> Result<Reference> {
    let (at, name) = words.split_once('=').unwrap_or((words, ""));
    let at = at.trim().parse().map_err(|_| {
        Error::usage(format!("`--reference {words}` names no value"), "write `--reference 0.5=chance`")
    })?;
    Ok(Reference { at, name: name.to_owned(), ..Reference::default() })
}

/// Each `COLUMN=TEXT`: a row has one text in a column, so that two texts keep nothing.
pub(super) fn only(all: &[String]) -> Result<Vec<(&str, &str)>> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for words in all {
        let (column, text) = words.split_once('=').ok_or_else(|| {
            Error::usage(format!("`--only {words}` names no column and text"), "write `--only site=z`")
        })?;
        if let Some((_, other)) = pairs.iter().find(|(known, other)| *known == column && *other != text) {
            return Err(Error::usage(
                format!("`--only` asks for `{column}` twice: `{other}` and `{text}`"),
                "leave one out; where the kind of figure takes --group or --facet, these draw both",
            ));
        }
        pairs.push((column, text));
    }
    Ok(pairs)
}
