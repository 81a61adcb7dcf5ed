//! Text that a spreadsheet would take for a formula, made inert, by a rule that can be undone.
//!
//! A token may be `=HYPERLINK(…)`, and a spreadsheet that opens the CSV would run it. So a text cell that begins with one of
//! [`STARTS`] gets an apostrophe in front, and one that begins with an apostrophe gets another, so that nothing is lost: to
//! undo it, take one leading apostrophe off each text cell that has one (`cell.removeprefix("'")` in Python). Numbers are
//! written as they are, `-1.5` included, and so are Parquet and JSON, which nobody runs.

use std::borrow::Cow;

use crate::row::{Column, Rows};

/// What a formula may begin with: the signs, the controls that a spreadsheet skips before them, and the signs at full width.
pub const STARTS: [char; 11] =
    ['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// The cell that stands for a text.
pub fn inert(text: &str) -> Cow<'_, str> {
    match text.chars().next() {
        Some(first) if first == '\'' || STARTS.contains(&first) => Cow::Owned(format!("'{text}")),
        _ => Cow::Borrowed(text),
    }
}

/// The text that a cell stands for.
pub fn exact(cell: &str) -> &str {
    cell.strip_prefix('\'').unwrap_or(cell)
}

/// A table whose texts are all inert.
pub(super) fn guarded(rows: &Rows) -> Rows {
    let guard = |column: &Column| match column {
        Column::Text(cells) => {
            let cells = cells.iter().map(|cell| cell.as_ref().map(|text| inert(text).into_owned()));
            Column::Text(cells.collect())
        }
        other => other.clone(),
    };
    let columns =
        rows.columns.iter().map(|(name, about, column)| (name.clone(), about.clone(), guard(column)));
    Rows { name: rows.name.clone(), columns: columns.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_runs_and_nothing_is_lost() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("-2", "'-2"),
            ("'s", "''s"),
            ("'=1", "''=1"),
            ("''", "'''"),
            ("\t=1", "'\t=1"),
            ("", ""),
            (" =1", " =1"),
            ("a=1", "a=1"),
        ] {
            assert_eq!((inert(text).as_ref(), exact(cell)), (cell, text));
        }
    }
}
