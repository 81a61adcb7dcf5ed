//! Prompts from a file: our own fields, the names that others use for the same things, and others' data sets.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::foreign::Foreign;
use super::formats::{FORMATS, Format};
use super::reader::Reader;
use super::records::{Record, records};
use super::{Example, Label, Task};
use crate::error::{Error, Result};
use crate::vocabulary::{Bos, Vocabulary};

/// A field and the names it goes by; the first is ours.
struct Field {
    names: &'static [&'static str],
    what: &'static str,
}

const CLEAN: Field = Field { names: &["clean", "clean_prefix", "prompt", "text"], what: "the clean prompt" };
const CORRUPT: Field =
    Field { names: &["corrupt", "corrupted", "patch_prefix", "counterfactual"], what: "the corrupt prompt" };
const ANSWERS: Field = Field {
    names: &["answers", "answer", "correct", "correct_idx", "clean_answer", "target"],
    what: "the answers",
};
const WRONG: Field = Field {
    names: &["wrong", "wrong_answers", "incorrect", "incorrect_idx", "foil", "patch_answer"],
    what: "the wrong answers",
};
/// Fields with one name. Those after `label` are allowed and not used: they describe the example to other tools.
const PLAIN: [&str; 8] = ["id", "pos", "group", "subject", "label", "split", "case", "meta"];

/// How many bad lines one error names.
const SHOWN: usize = 5;

/// Reads a task from JSON lines, one example per line: `{"clean": "…", "corrupt": "…", "answers": [" Mary"],
/// "wrong": [" John"], "pos": {"S1": 4, "end": -1}, "group": "ABBA"}`; a JSON list of such objects and CSV with such columns are
/// read as well, and so are the data sets of [`FORMATS`], told by their columns.
///
/// Prompts are texts or lists of token ids (to which no BOS is added); answers are texts of one token or ids. Positions
/// count the tokens of the text without BOS, negative ones from the end; they are moved where BOS is added. For probes,
/// `label` is a text, a number, or several by name (`{"city": "Rome"}`), and `subject` what the example is about. Every
/// bad line is reported, not the first alone. Of others' data sets, pairs of unequal length and answers of several tokens are left
/// out, as their own loaders do, and counted in a note.
pub fn read(name: &str, content: &str, vocabulary: &Vocabulary, bos: Bos) -> Result<Task> {
    let mut reader = Reader::new(vocabulary, bos)?;
    let (mut examples, mut bad, mut texts) = (Vec::new(), Vec::new(), false);
    let (records, container) = records(content).map_err(|error| named(name, &error))?;
    let format = records.iter().find_map(|record| record.fields.as_ref().ok()).and_then(Format::of);
    let (count, mut foreign) = (records.len(), Foreign::default());
    for Record { place, number, fields } in records {
        let read = fields.and_then(|fields| match format {
            None => one(&fields, number, &mut reader).map(Some),
            Some(format) => foreign.one(format, &fields, number, vocabulary, &mut reader),
        });
        match read {
            Ok(Some((example, text))) => {
                examples.push(example);
                texts |= text;
            }
            Ok(None) => {}
            Err(error) => bad.push((place, error)),
        }
    }
    if !bad.is_empty() {
        return Err(report(name, &bad));
    }
    if examples.is_empty() && count > 0 {
        return Err(Error::input(
            format!("{name} holds no prompt that can be read: {}", foreign.left_out(count)),
            "use a data set made for this tokenizer",
        ));
    }
    if examples.is_empty() {
        return Err(Error::input(format!("{name} holds no prompts"), "write one JSON object per line"));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = examples.iter().find(|example| !seen.insert(example.id.as_str())) {
        return Err(Error::input(
            format!("{name}: the id `{}` is given twice", twice.id),
            "give each example an id of its own, or none",
        ));
    }
    let lengths: BTreeSet<usize> = examples.iter().map(|example| example.clean.len()).collect();
    for example in examples.iter_mut().filter(|example| example.group.is_empty()) {
        example.group = match lengths.len() {
            1 => "all".to_owned(),
            _ => format!("{} tokens", example.clean.len()),
        };
    }
    let mut notes = reader.notes(texts);
    notes.extend(
        format.iter().flat_map(|format| foreign.notes(format, container, count, vocabulary, &examples)),
    );
    if let (Some(shortest), Some(longest)) = (lengths.first(), lengths.last())
        && lengths.len() > 1
    {
        notes.push(format!(
            "prompts have {shortest} to {longest} tokens: passes take those of one length together, and only positions that \
             have a name (`end` always has) are compared or averaged between prompts"
        ));
    }
    let first = vocabulary.bos(bos)?;
    let with_bos = first.is_some() && examples.iter().all(|example| example.clean.first() == first.as_ref());
    let labels = labels_of(&examples);
    let task = Task { name: name.to_owned(), labels, examples, bos: with_bos, notes, ..Task::default() };
    task.check()?;
    Ok(task)
}

/// All bad lines in one sentence each, and the hint of the first.
fn report(name: &str, bad: &[(String, Error)]) -> Error {
    let (mut lines, mut hint) = (Vec::new(), String::new());
    for (place, error) in bad.iter().take(SHOWN) {
        let text = error.to_string();
        let (message, way_out) = text.split_once("\n  hint: ").unwrap_or((&text, ""));
        lines.push(format!("{place}: {message}"));
        if hint.is_empty() {
            hint = way_out.to_owned();
        }
    }
    if bad.len() > SHOWN {
        lines.push(format!("and {} more lines", bad.len() - SHOWN));
    }
    Error::input(format!("{name} cannot be read:\n  {}", lines.join("\n  ")), hint)
}

/// What keeps the whole file from being read.
fn named(name: &str, error: &Error) -> Error {
    let text = error.to_string();
    let (message, hint) = text.split_once("\n  hint: ").unwrap_or((&text, ""));
    Error::input(format!("{name} cannot be read: {message}"), hint)
}

/// One record in our fields, and whether its prompt was text.
pub(super) fn one(
    object: &Map<String, Value>,
    number: usize,
    reader: &mut Reader,
) -> Result<(Example, bool)> {
    let fields = [CLEAN, CORRUPT, ANSWERS, WRONG];
    let known = || fields.iter().flat_map(|field| field.names).chain(&PLAIN).copied();
    if let Some(name) = object.keys().find(|name| !known().any(|known| known == name.as_str())) {
        return Err(Error::input(
            format!("field `{name}` is unknown"),
            format!(
                "the fields are {}; anything else goes under `meta`. The data sets of {} are known by their columns: see \
                 `glassbox list formats`",
                known().collect::<Vec<_>>().join(", "),
                FORMATS.iter().map(|format| format.name).collect::<Vec<_>>().join(", ")
            ),
        ));
    }
    let missing = || Error::input("field `clean` is missing", "it holds the prompt");
    let (name, clean) = pick(object, &CLEAN)?.ok_or_else(missing)?;
    let text = clean.is_string();
    if reader.chats() && (!text || object.get("pos").is_some_and(|pos| !pos.is_null())) {
        let field = if text { "pos" } else { name };
        return Err(Error::input(
            format!("field `{field}` counts tokens of a text without a chat template"),
            "with `--chat`, give prompts as texts and leave `pos` out: the position `end` is known",
        ));
    }
    let clean = prompt(name, clean, reader)?;
    let corrupt = match pick(object, &CORRUPT)? {
        None => None,
        Some((name, value)) if value.is_string() != text => {
            return Err(Error::input(
                format!("one prompt is a text and the other (`{name}`) a list of token ids"),
                "write both the same way",
            ));
        }
        Some((name, value)) => Some(prompt(name, value, reader)?),
    };
    let mut set = |field: &Field| -> Result<Vec<u32>> {
        match pick(object, field)? {
            None => Ok(Vec::new()),
            Some((name, value)) => {
                if name == "target" {
                    reader.note("Field `target` is read as the answer.".into());
                }
                tokens(name, value, reader)
            }
        }
    };
    let (answers, wrong) = (set(&ANSWERS)?, set(&WRONG)?);
    reader.check(&clean, corrupt.as_deref(), &answers, &wrong)?;
    let pos = positions(object.get("pos"), clean.len(), if text { reader.shift() } else { 0 })?;
    let id = word(object, "id")?.unwrap_or_else(|| number.to_string());
    let group = word(object, "group")?.unwrap_or_default();
    let (labels, subject) = (labels(object.get("label"))?, word(object, "subject")?);
    Ok((Example { id, clean, corrupt, answers, wrong, pos, group, labels, subject }, text))
}

/// One label, which is then called `label`, or several by name.
fn labels(value: Option<&Value>) -> Result<BTreeMap<String, String>> {
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    let wrong = |value: &Value| {
        Error::input(format!("field `label` holds {value}"), "write \"a\", 1, or {\"city\": \"Rome\"}")
    };
    match value {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(named)) => {
            let each = named
                .iter()
                .map(|(name, value)| Ok((name.clone(), plain(value).ok_or_else(|| wrong(value))?)));
            each.collect()
        }
        Some(value) => Ok([("label".to_owned(), plain(value).ok_or_else(|| wrong(value))?)].into()),
    }
}

/// The labels that any example carries, read where the answer is due unless told otherwise.
fn labels_of(examples: &[Example]) -> Vec<Label> {
    let names: BTreeSet<&String> = examples.iter().flat_map(|example| example.labels.keys()).collect();
    names.into_iter().map(|name| Label { name: name.clone(), at: "end".to_owned() }).collect()
}

/// The value of a field under whichever of its names stands there; two of them at once are an error. `null` is absent.
fn pick<'a>(object: &'a Map<String, Value>, field: &Field) -> Result<Option<(&'static str, &'a Value)>> {
    let mut found = field.names.iter().filter_map(|&name| Some((name, object.get(name)?)));
    let first = found.by_ref().find(|(_, value)| !value.is_null());
    if let (Some((a, _)), Some((b, _))) = (first, found.find(|(_, value)| !value.is_null())) {
        return Err(Error::input(
            format!("fields `{a}` and `{b}` both mean {}", field.what),
            "keep one of them",
        ));
    }
    Ok(first)
}

fn prompt(name: &str, value: &Value, reader: &mut Reader) -> Result<Vec<u32>> {
    let wrong =
        || Error::input(format!("field `{name}` is neither a text nor a list of token ids"), "write \"…\"");
    match value {
        Value::String(text) => reader.prompt(text),
        Value::Array(ids) if ids.is_empty() => {
            Err(Error::input(format!("field `{name}` is empty"), "give at least one token"))
        }
        Value::Array(ids) => ids.iter().map(|id| token_id(id).ok_or_else(wrong)).collect(),
        _ => Err(wrong()),
    }
}

/// One answer or a list of them; texts of one token, or token ids.
fn tokens(name: &str, value: &Value, reader: &mut Reader) -> Result<Vec<u32>> {
    let each = match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let ids = each.iter().map(|value| match value {
        Value::String(text) => reader.answer(text),
        other => token_id(other).ok_or_else(|| {
            Error::input(
                format!("field `{name}` holds {other}: neither a text nor a token id"),
                "write \" Mary\" or 17",
            )
        }),
    });
    // two spellings of one token are one answer
    let mut distinct = Vec::new();
    for id in ids {
        let id = id?;
        if !distinct.contains(&id) {
            distinct.push(id);
        }
    }
    Ok(distinct)
}

fn token_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn word(object: &Map<String, Value>, name: &str) -> Result<Option<String>> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(Error::input(format!("field `{name}` holds {other}"), "write a text")),
    }
}

/// Named positions, moved by BOS; negative ones count from the end. `end` is the last token unless it is named.
fn positions(value: Option<&Value>, length: usize, shift: usize) -> Result<BTreeMap<String, usize>> {
    let mut pos = BTreeMap::from([("end".to_owned(), length - 1)]);
    let named = match value {
        None | Some(Value::Null) => return Ok(pos),
        Some(Value::Object(named)) => named,
        Some(other) => {
            return Err(Error::input(format!("field `pos` holds {other}"), "write {\"S1\": 4, \"end\": -1}"));
        }
    };
    for (name, place) in named {
        let inside = place.as_i64().map(|p| if p < 0 { length as i64 + p } else { p + shift as i64 });
        let inside = inside.and_then(|p| usize::try_from(p).ok()).filter(|&p| p >= shift && p < length);
        let Some(place) = inside else {
            let words = length - shift;
            return Err(Error::input(
                format!("position `{name}` is {place}, but the prompt has {words} tokens"),
                format!(
                    "positions count from 0 to {}, BOS apart, or from -1 backwards",
                    words.saturating_sub(1)
                ),
            ));
        };
        pos.insert(name.clone(), place);
    }
    Ok(pos)
}
