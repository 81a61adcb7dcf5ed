//! What went wrong with a table's columns, with what the table has.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::figure::{View, takes};
use crate::row::{Column, Rows};

/// The error with what the table holds, where that is the way out.
pub(super) fn explained(error: Error, rows: &Rows, view: &View) -> Error {
    let names: Vec<&str> = rows.columns.iter().map(|(name, ..)| name.as_str()).collect();
    let unnamed = names.iter().all(|name| name.trim().parse::<f64>().is_ok());
    let columns = format!(
        "the table has {}{}",
        names.join(", "),
        if unnamed { "; its first line must name the columns" } else { "" }
    );
    match error {
        Error::Unknown { kind: "column", name, near } => {
            let near = if near.starts_with("there are") { columns } else { format!("{near} {columns}") };
            Error::Unknown { kind: "column", name, near }
        }
        Error::Usage { message, .. } if message.contains("picture needs `") => {
            let part = message.split('`').nth(3).and_then(|part| part.split(' ').next()).unwrap_or_default();
            let hint = format!("add `--{} COLUMN`; {columns}", part.replace('_', "-"));
            Error::Usage { message, hint }
        }
        Error::Input { message, hint } if message.starts_with("two rows of") => {
            let hint = apart(rows, view).unwrap_or(hint);
            Error::Input { message, hint }
        }
        other => other,
    }
}

/// How to split the first two rows that fall into one place: the columns in which they differ, other than those that are drawn.
fn apart(rows: &Rows, view: &View) -> Option<String> {
    let rows = view.rows(rows).ok()?;
    let places = [&view.x, &view.y, &view.facet, &view.group];
    let places: Vec<Vec<String>> = places.iter().filter_map(|c| rows.texts(c.as_deref()?).ok()).collect();
    let mut seen: BTreeMap<Vec<&String>, usize> = BTreeMap::new();
    let (first, second) = (0..rows.len()).find_map(|i| {
        let key = places.iter().filter_map(|texts| texts.get(i)).collect();
        seen.insert(key, i).map(|before| (before, i))
    })?;
    let used = used(view);
    let mut ways: Vec<(usize, &str, String)> = Vec::new();
    for (name, _, column) in &rows.columns {
        let texts = rows.texts(name).ok()?;
        let (a, b) = (texts.get(first)?, texts.get(second)?);
        if a != b && !used.contains(name.as_str()) && !matches!(column, Column::Num(_)) {
            let distinct = texts.iter().collect::<BTreeSet<_>>().len();
            ways.push((distinct, name, format!("`{name}` ({a}, {b})")));
        }
    }
    // what takes few values is a kind of row
    ways.sort();
    let Some((_, kind, _)) = ways.first() else {
        return Some(
            "no other column tells two such rows apart: average their numbers, or keep one of them".into(),
        );
    };
    let flag = |part: &str, given: &Option<String>, does: &str| {
        (given.is_none() && takes(&view.kind, part)).then(|| format!("`--{part} {kind}` {does}"))
    };
    let each = if view.kind == "tokens" { "draws a strip of each" } else { "draws a line of each" };
    let only = format!("`--only {kind}=…` keeps one kind of row");
    let split =
        [flag("group", &view.group, each), Some(only), flag("facet", &view.facet, "makes a panel of each")];
    let split: Vec<String> = split.into_iter().flatten().collect();
    let all: Vec<&str> = ways.iter().take(4).map(|(_, _, way)| way.as_str()).collect();
    Some(format!("two such rows differ in {}: {}", all.join(", "), split.join(", ")))
}

/// The columns that a view names.
fn used(view: &View) -> BTreeSet<&str> {
    let drawn = [&view.x, &view.y, &view.value, &view.lo, &view.hi, &view.q, &view.facet, &view.group];
    let written = [&view.label, &view.role, &view.text, &view.x_text, &view.y_text, &view.target];
    let others = [&view.mark, &view.fraction];
    let series = view.series.iter().chain(&view.strip);
    let series = series.flat_map(|s| [Some(s.value.as_str()), s.lo.as_deref(), s.hi.as_deref()]).flatten();
    let parts = drawn.into_iter().chain(written).chain(others).filter_map(|column| column.as_deref());
    parts.chain(series).chain(view.onset.iter().flatten().map(String::as_str)).collect()
}
