//! Prompts and answers as people write them, into tokens.

use crate::error::{Error, Result};
use crate::vocabulary::{Bos, Vocabulary};

/// The tokens of a prompt, with BOS before them under the rule.
pub fn read_prompt(text: &str, vocabulary: &Vocabulary, rule: Bos) -> Result<Vec<u32>> {
    Reader::new(vocabulary, rule)?.prompt(text)
}

/// Reads texts under one BOS rule and gathers what a reader must know.
pub(super) struct Reader<'a> {
    vocabulary: &'a Vocabulary,
    rule: Bos,
    bos: Option<u32>,
    notes: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(vocabulary: &'a Vocabulary, rule: Bos) -> Result<Reader<'a>> {
        Ok(Reader { vocabulary, rule, bos: vocabulary.bos(rule)?, notes: Vec::new() })
    }

    /// The tokens of a text, with BOS before them under the rule; a text that spells BOS out gets no second one.
    pub(super) fn prompt(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.vocabulary.encode(text)?;
        let words = ids.strip_prefix(&self.bos.into_iter().collect::<Vec<_>>()[..]).unwrap_or(&ids);
        if words.is_empty() {
            return Err(Error::usage("the prompt is empty", "give at least one word"));
        }
        Ok(self.bos.into_iter().chain(words.iter().copied()).collect())
    }

    /// How far BOS moves the positions of a text.
    pub(super) fn shift(&self) -> usize {
        usize::from(self.bos.is_some())
    }

    /// The one token that an answer is; a doubt about a leading space becomes a note.
    pub(super) fn answer(&mut self, text: &str) -> Result<u32> {
        if text.is_empty() {
            return Err(Error::usage("an answer is empty", "give one token, as in `--answer ' Mary'`"));
        }
        let (id, warning) = self.vocabulary.single(text)?;
        if let Some(warning) = warning {
            self.note(warning);
        }
        Ok(id)
    }

    /// A note, once.
    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Checks what a pair and its answers must fulfil.
    pub(super) fn check(
        &self,
        clean: &[u32],
        corrupt: Option<&[u32]>,
        answers: &[u32],
        wrong: &[u32],
    ) -> Result<()> {
        if let Some(corrupt) = corrupt.filter(|corrupt| corrupt.len() != clean.len()) {
            return Err(Error::input(
                format!(
                    "the clean prompt has {} tokens and the corrupt one {}:\n    clean   {}\n    corrupt {}",
                    clean.len(),
                    corrupt.len(),
                    self.shown(clean),
                    self.shown(corrupt)
                ),
                "patching copies activations position by position: make both the same number of tokens",
            ));
        }
        if let Some(&both) = answers.iter().find(|id| wrong.contains(id)) {
            return Err(Error::usage(
                format!("{:?} ({both}) is both an answer and a wrong answer", self.vocabulary.token(both)),
                "compare the answer with another token",
            ));
        }
        Ok(())
    }

    /// Tokens with their ids: `"When" (12) · " Mary" (7)`.
    fn shown(&self, ids: &[u32]) -> String {
        let one = |&id: &u32| format!("{:?} ({id})", self.vocabulary.token(id));
        ids.iter().map(one).collect::<Vec<_>>().join(" · ")
    }

    /// The notes, the first saying which BOS rule was applied and to what effect. `texts`: whether any prompt was text.
    pub(super) fn notes(self, texts: bool) -> Vec<String> {
        let rule = match self.rule {
            Bos::Auto => "--bos auto",
            Bos::Yes => "--bos yes",
            Bos::No => "--bos no",
        };
        let first = match self.bos.filter(|_| texts) {
            _ if !texts => "BOS: none added, because prompts were given as token ids.".to_owned(),
            Some(id) => {
                format!(
                    "BOS: every prompt begins with {:?} ({id}) at position 0 ({rule}).",
                    self.vocabulary.token(id)
                )
            }
            None if self.rule == Bos::Auto => {
                format!("BOS: none ({rule}: the tokenizer adds none); position 0 is the first word.")
            }
            None => format!("BOS: none ({rule}); position 0 is the first word."),
        };
        std::iter::once(first).chain(self.notes).collect()
    }
}
