//! Prompts and answers as people write them, into tokens.

use crate::error::{Error, Result};
use crate::vocabulary::chat::DAY;
use crate::vocabulary::{Bos, Vocabulary};

/// The tokens of a prompt, with BOS before them under the rule.
pub fn read_prompt(text: &str, vocabulary: &Vocabulary, rule: Bos) -> Result<Vec<u32>> {
    Reader::new(vocabulary, rule)?.prompt(text)
}

/// The same, and what was done about BOS and other special tokens, in sentences.
pub fn read_prompt_aloud(text: &str, vocabulary: &Vocabulary, rule: Bos) -> Result<(Vec<u32>, Vec<String>)> {
    let mut reader = Reader::new(vocabulary, rule)?;
    let ids = reader.prompt(text)?;
    Ok((ids, reader.notes(true)))
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

    /// The tokens of a text, in the chat template if there is a chat, with BOS before them under the rule; a text that spells
    /// BOS out gets no second one.
    pub(super) fn prompt(&mut self, text: &str) -> Result<Vec<u32>> {
        let ids = self.vocabulary.encode(&self.vocabulary.dressed(text)?)?;
        // what a template puts first is under the rule too
        let known = self.bos.or_else(|| self.vocabulary.names_bos().filter(|_| self.chats()));
        let words = match (ids.split_first(), known) {
            (Some((&first, words)), Some(bos)) if first == bos => words,
            _ => &ids,
        };
        if words.is_empty() || text.is_empty() {
            return Err(Error::usage("the prompt is empty", "give at least one word"));
        }
        if let (Some(bos), false) = (self.bos, words.len() == ids.len() || self.chats()) {
            let bos = self.vocabulary.token(bos);
            self.note(format!("A prompt spells out {bos:?} itself: no second one was put before it."));
        }
        Ok(self.bos.into_iter().chain(words.iter().copied()).collect())
    }

    /// Whether prompts are messages in a chat.
    pub(super) fn chats(&self) -> bool {
        self.vocabulary.chat().is_some()
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
        let decides = self.vocabulary.decides_bos().filter(|_| self.rule == Bos::Auto);
        let by = decides.map_or_else(String::new, |who| format!(": {who} says so"));
        let first = match self.bos.filter(|_| texts) {
            _ if !texts => "BOS: none added, because prompts were given as token ids.".to_owned(),
            Some(id) => {
                let bos = self.vocabulary.token(id);
                format!("BOS: every prompt begins with {bos:?} ({id}) at position 0 ({rule}{by}).")
            }
            None if self.rule == Bos::Auto => {
                let who = decides.unwrap_or("the tokenizer");
                format!("BOS: none ({rule}: {who} adds none); position 0 is the first word.")
            }
            None => format!("BOS: none ({rule}); position 0 is the first word."),
        };
        let special = if texts { self.special() } else { Vec::new() };
        std::iter::once(first).chain(special).chain(self.notes).collect()
    }

    /// What was done about other special tokens.
    fn special(&self) -> Vec<String> {
        let Some((template, system)) = self.vocabulary.chat() else {
            let behind = self.vocabulary.dressing().map(|(_, behind)| behind).unwrap_or_default();
            let note = format!(
                "The tokenizer would put {} behind a text; that was left out, for the model is to go on with it.",
                self.shown(&behind)
            );
            return if behind.is_empty() { Vec::new() } else { vec![note] };
        };
        let system =
            system.map_or_else(String::new, |system| format!(" after the system's message {system:?}"));
        let origin = template.origin();
        let mut notes =
            vec![format!("Chat: every prompt is a user's message{system}, in the template of {origin}.")];
        if template.asks_for_the_date() {
            notes.push(format!("A chat template that asks for today's date is told {DAY}."));
        }
        notes
    }
}
