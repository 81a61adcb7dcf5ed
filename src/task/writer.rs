//! Words into tokens, with the places of words and the tokens of answers found through the tokenizer itself.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::generate::Request;
use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// Writes the prompts of one task.
pub(super) struct Writer<'a> {
    task: &'static str,
    vocabulary: &'a Vocabulary,
    bos: Option<u32>,
    /// The task's source of chance.
    pub rng: ChaCha8Rng,
}

impl<'a> Writer<'a> {
    pub fn new(task: &'static str, request: &Request, vocabulary: &'a Vocabulary) -> Result<Writer<'a>> {
        vocabulary.tokenizer()?;
        let (bos, rng) = (vocabulary.bos(request.bos)?, ChaCha8Rng::seed_from_u64(request.seed));
        Ok(Writer { task, vocabulary, bos, rng })
    }

    /// The words as text: spaces between them, none before punctuation.
    pub fn text(words: &[String]) -> String {
        let mut text = String::new();
        for word in words {
            if !text.is_empty() && !matches!(word.as_str(), "." | "," | ":") {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }

    /// The prompt, with BOS where one is used.
    pub fn prompt(&self, words: &[String]) -> Result<Vec<u32>> {
        self.whole(&Self::text(words))
    }

    /// A text as a prompt, with BOS where one is used.
    pub fn whole(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.vocabulary.encode(text).map_err(|cause| {
            Error::input(
                format!("the task `{}` needs {text:?}, which this model's tokenizer cannot read", self.task),
                format!(
                    "ask in the model's own words with `--prompt` or `--prompts` ({})",
                    first_line(&cause)
                ),
            )
        })?;
        Ok(self.bos.into_iter().chain(ids).collect())
    }

    /// The position, BOS counted, of the last token of word `index`.
    pub fn place(&self, words: &[String], index: usize) -> Result<usize> {
        Ok(self.prompt(&words[..=index])?.len().saturating_sub(1))
    }

    /// Whether BOS is written.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token of a word inside a sentence; an error when it is not exactly one.
    pub fn token(&self, word: &str) -> Result<u32> {
        match self.inside(word) {
            Some(id) => Ok(id),
            None => Err(Error::input(
                format!(
                    "the task `{}` needs {word:?} as one token, which it is not in this model",
                    self.task
                ),
                "ask in the model's own words with `--prompt` or `--prompts`",
            )),
        }
    }

    /// The words of a list that are one token inside a sentence: at least `least`, or an error that counts them.
    pub fn known(&self, words: Vec<&'static str>, what: &str, least: usize) -> Result<Vec<&'static str>> {
        let known: Vec<&str> = words.into_iter().filter(|word| self.inside(word).is_some()).collect();
        if known.len() < least {
            return Err(Error::input(
                format!(
                    "the task `{}` needs at least {least} {what} that are one token each; this model knows {}",
                    self.task,
                    known.len()
                ),
                "ask in the model's own words with `--prompt` or `--prompts`",
            ));
        }
        Ok(known)
    }

    /// What stands after a word and a space, if it is one token.
    fn inside(&self, word: &str) -> Option<u32> {
        self.after("the", &format!(" {word}"))
    }

    /// The one token that `more` adds to `text`.
    pub fn after(&self, text: &str, more: &str) -> Option<u32> {
        let before = self.vocabulary.encode(text).ok()?;
        let both = self.vocabulary.encode(&format!("{text}{more}")).ok()?;
        match both.strip_prefix(before.as_slice())? {
            [id] => Some(*id),
            _ => None,
        }
    }
}

fn first_line(error: &Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
