//! Reading another's data set: what fits the model is read, what does not is counted.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Example;
use super::formats::Format;
use super::jsonl::one;
use super::reader::Reader;
use crate::error::Result;
use crate::vocabulary::Vocabulary;

/// What came up while records of another's format were read.
#[derive(Default)]
pub(super) struct Foreign {
    /// Pairs of unequal length, and answers of several tokens.
    unequal: usize,
    long: usize,
    /// The columns of the first record that were read, and of all those that nothing was taken from.
    read: Vec<String>,
    left: BTreeSet<String>,
}

impl Foreign {
    /// One record; nothing if the model cannot be asked it.
    pub(super) fn one(
        &mut self,
        format: &Format,
        fields: &Map<String, Value>,
        number: usize,
        vocabulary: &Vocabulary,
        reader: &mut Reader,
    ) -> Result<Option<(Example, bool)>> {
        let ours = format.ours(fields, vocabulary)?;
        if self.read.is_empty() {
            self.read = format.read(fields);
        }
        self.left.extend(format.left(fields));
        let length = |field: &str| match ours.get(field) {
            Some(Value::String(text)) => length_of(text, vocabulary),
            Some(Value::Array(ids)) => Some(ids.len()),
            _ => None,
        };
        if ours.contains_key("corrupt") && length("clean") != length("corrupt") {
            self.unequal += 1;
            return Ok(None);
        }
        let several = |value: &Value| {
            let text = value.as_str().filter(|text| !text.is_empty() && vocabulary.has_tokenizer());
            text.is_some_and(|text| vocabulary.single(text).is_err())
        };
        let answers = ["answers", "wrong"].iter().filter_map(|field| ours.get(*field));
        if answers
            .flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice))
            .any(several)
        {
            self.long += 1;
            return Ok(None);
        }
        one(&ours, number, reader).map(Some)
    }

    pub(super) fn left_out(&self, count: usize) -> String {
        format!(
            "of {count} prompts {} differ in length from their partner and {} have an answer that is no single token of this \
             model",
            self.unequal, self.long
        )
    }

    pub(super) fn notes(
        &self,
        format: &Format,
        container: &str,
        count: usize,
        vocabulary: &Vocabulary,
        examples: &[Example],
    ) -> Vec<String> {
        let mut notes = vec![format!(
            "Prompts are in the format of {} ({container}): {} are read.",
            format.name,
            self.read.join(", ")
        )];
        if !self.left.is_empty() {
            let left: Vec<&str> = self.left.iter().map(String::as_str).collect();
            notes.push(format!("Nothing is taken from {}.", left.join(", ")));
        }
        if self.read.iter().any(|name| name.ends_with("_idx"))
            && let Some(example) = examples.first()
        {
            let words = |ids: &[u32]| {
                ids.first().map_or_else(String::new, |&id| format!("{:?}", vocabulary.token(id)))
            };
            notes.push(format!(
                "Token ids are those of the tokenizer the file was made for: by this model's, the first prompt's answer is {} and \
                 the wrong one {}.",
                words(&example.answers),
                words(&example.wrong)
            ));
        }
        if self.unequal + self.long > 0 {
            notes.push(format!("Left out, {}.", self.left_out(count)));
        }
        notes
    }
}

/// How many tokens a text has; none if it cannot be tokenized.
fn length_of(text: &str, vocabulary: &Vocabulary) -> Option<usize> {
    vocabulary.encode(text).ok().map(|ids| ids.len())
}
