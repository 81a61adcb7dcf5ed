//! From the text of a file to its records: JSON lines, a JSON list, a JSON object that holds them, or CSV.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// One prompt as a file has it.
pub(super) struct Record {
    /// Where it stands, for errors: `line 3`, `row 3`, `prompt 3`.
    pub(super) place: String,
    /// Its number, from 1: its name if it has none.
    pub(super) number: usize,
    /// Its fields, or what keeps them from being read.
    pub(super) fields: Result<Map<String, Value>>,
}

/// The columns that hold one prompt each, in files and in objects of lists.
const PROMPTS: [&str; 6] = ["clean", "clean_prefix", "clean_prompt", "clean_prompts", "prompt", "text"];

/// The records of a file, in order, and what kind of file it is.
pub(super) fn records(content: &str) -> Result<(Vec<Record>, &'static str)> {
    let text = content.trim_start_matches('\u{feff}');
    match text.trim_start().chars().next() {
        Some('[') => {
            let list: Vec<Value> = serde_json::from_str(text).map_err(|cause| {
                Error::input(
                    format!("it begins like a JSON list and is none: {cause}"),
                    "write a list of objects, `[{…}, {…}]`, or one object per line",
                )
            })?;
            Ok((listed(list), "a JSON list"))
        }
        Some('{') => match serde_json::from_str::<Map<String, Value>>(text) {
            Ok(whole) => object(whole),
            Err(_) => Ok((lines(text), "JSON lines")),
        },
        _ if is_csv(text, ',') => Ok((csv(text)?, "CSV")),
        Some(_) if !text.lines().any(|line| line.trim_start().starts_with('{')) => Err(neither(text)),
        _ => Ok((lines(text), "JSON lines")),
    }
}

fn lines(text: &str) -> Vec<Record> {
    let filled = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let record = |(i, line): (usize, &str)| Record {
        place: format!("line {}", i + 1),
        number: i + 1,
        fields: serde_json::from_str::<Value>(line).map_err(|cause| broken(&cause, line)).and_then(fields),
    };
    filled.map(record).collect()
}

fn listed(list: Vec<Value>) -> Vec<Record> {
    let record =
        |(i, value)| Record { place: format!("prompt {}", i + 1), number: i + 1, fields: fields(value) };
    list.into_iter().enumerate().map(record).collect()
}

fn fields(value: Value) -> Result<Map<String, Value>> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => Err(Error::input(
            format!("it is not a JSON object but {}", kind(&other)),
            "write each prompt as an object, `{\"clean\": \"…\"}`",
        )),
    }
}

/// A line that is no JSON. The reader's words end in line and column, of which the line is always the first.
fn broken(cause: &serde_json::Error, line: &str) -> Error {
    let words = cause.to_string();
    let words = words.split(" at line ").next().unwrap_or_default();
    let why = match line.trim_start().starts_with('{') {
        true => format!("{words} at column {}", cause.column()),
        false => "it does not begin with `{`".to_owned(),
    };
    Error::input(format!("it is not a JSON object: {why}"), "write one JSON object per line")
}

/// A text that is in none of the formats.
fn neither(text: &str) -> Error {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    for (separator, word) in [(';', "semicolons"), ('\t', "tabs")] {
        if is_csv(text, separator) {
            let why = format!("its cells are separated by {word}");
            return Error::input(why, "save it as CSV, with commas between cells");
        }
    }
    let shown: String = first.chars().take(60).collect();
    let rest = if shown.len() < first.len() { "…" } else { "" };
    Error::input(
        format!(
            "it is neither JSON nor CSV with a column of prompts ({}); its first line is {shown:?}{rest}",
            PROMPTS.join(", ")
        ),
        "write JSON lines (`{\"clean\": \"…\"}`), a JSON list of such objects, or CSV whose first line names such columns; \
         `glassbox list formats` names data sets that are read as they are",
    )
}

/// A file that is one object: `{"prompts": [{…}, …]}`, lists side by side, or a single prompt.
fn object(mut whole: Map<String, Value>) -> Result<(Vec<Record>, &'static str)> {
    if let Some(Value::Array(list)) = whole.get_mut("prompts")
        && list.iter().all(Value::is_object)
    {
        return Ok((listed(std::mem::take(list)), "a JSON object with `prompts`"));
    }
    let named = whole.keys().any(|key| key == "prompts" || PROMPTS.contains(&key.as_str()));
    // a list of numbers is one prompt's token ids
    let is_column = |value: &Value| match value {
        Value::Array(list) => !list.iter().all(Value::is_number),
        _ => false,
    };
    let prompts = whole
        .iter()
        .find(|(key, value)| (*key == "prompts" || PROMPTS.contains(&key.as_str())) && is_column(value));
    match prompts {
        Some((_, Value::Array(prompts))) if named => side_by_side(prompts.len(), &whole),
        _ => Ok((vec![Record { place: "line 1".to_owned(), number: 1, fields: Ok(whole) }], "JSON lines")),
    }
}

/// `{"clean_prompts": […], "answers": […]}`: the lists' first entries are the first prompt.
fn side_by_side(count: usize, whole: &Map<String, Value>) -> Result<(Vec<Record>, &'static str)> {
    let mut rows = vec![Map::new(); count];
    for (name, column) in whole {
        let Value::Array(entries) = column else {
            return Err(Error::input(
                format!("`{name}` is {} among lists that stand side by side", kind(column)),
                "give every field a list with one entry for each prompt",
            ));
        };
        if entries.len() != count {
            return Err(Error::input(
                format!("`{name}` has {} entries for {count} prompts", entries.len()),
                "give every field a list with one entry for each prompt",
            ));
        }
        rows.iter_mut().zip(entries).for_each(|(row, entry)| {
            row.insert(name.clone(), entry.clone());
        });
    }
    Ok((listed(rows.into_iter().map(Value::Object).collect()), "JSON lists side by side"))
}

/// Whether the first line names columns, one of which holds prompts.
fn is_csv(text: &str, separator: char) -> bool {
    let header = text.lines().next().unwrap_or_default();
    let names = || header.split(separator).map(|name| name.trim().trim_matches('"'));
    names().any(|name| PROMPTS.contains(&name))
}

fn csv(text: &str) -> Result<Vec<Record>> {
    let mut rows = cells(text).into_iter();
    let names: Vec<String> =
        rows.next().unwrap_or_default().iter().map(|name| name.trim().to_owned()).collect();
    let twice = names.iter().enumerate().find(|(i, name)| !name.is_empty() && names[..*i].contains(name));
    if let Some((_, twice)) = twice {
        return Err(Error::input(format!("the column `{twice}` is there twice"), "keep one of them"));
    }
    let record = |(i, row): (usize, Vec<String>)| {
        let fields = if row.len() == names.len() {
            // pandas writes its row numbers under no name
            let cells = names.iter().zip(row).filter(|(name, cell)| !name.is_empty() && !cell.is_empty());
            Ok(cells.map(|(name, cell)| (name.clone(), value(name, &cell))).collect())
        } else {
            Err(Error::input(
                format!("it has {} fields where the header has {}", row.len(), names.len()),
                "texts with commas or line breaks go in double quotes",
            ))
        };
        Record { place: format!("row {}", i + 1), number: i + 1, fields }
    };
    Ok(rows.enumerate().map(record).collect())
}

/// The cells of every row; empty lines are none.
fn cells(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv_core::Reader::new();
    // no row is longer than the text, nor has it more cells than that, so that one call reads it whole
    let (mut output, mut ends) = (vec![0; text.len()], vec![0; text.len() + 1]);
    let (mut input, mut rows) = (text.as_bytes(), Vec::new());
    let (mut written, mut ended) = (0, 0);
    loop {
        let (state, read, out, cells) = reader.read_record(input, &mut output[written..], &mut ends[ended..]);
        (input, written, ended) = (&input[read..], written + out, ended + cells);
        match state {
            // the last row may end without a line break: asked again, with nothing left, the reader gives it
            csv_core::ReadRecordResult::InputEmpty => {}
            csv_core::ReadRecordResult::Record => {
                let starts = std::iter::once(0).chain(ends[..ended].iter().copied());
                let cells = starts
                    .zip(&ends[..ended])
                    .map(|(start, &end)| String::from_utf8_lossy(&output[start..end]).into_owned());
                rows.push(cells.collect());
                (written, ended) = (0, 0);
            }
            _ => return rows,
        }
    }
}

/// A cell: lists and token ids as such, all else as text.
fn value(name: &str, cell: &str) -> Value {
    let read = cell.starts_with('[') || name.ends_with("_idx") || name.ends_with("_id");
    match read.then(|| serde_json::from_str(cell)) {
        Some(Ok(value)) => value,
        _ => Value::String(cell.to_owned()),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
