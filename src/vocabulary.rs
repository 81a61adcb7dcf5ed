//! Text in, tokens out. Tokens are shown as they are: spaces kept, lone bytes named.

pub mod chat;
pub(crate) mod guard;

use std::borrow::Cow;

use tokenizers::Tokenizer;

use crate::error::{Error, Result};
use chat::Template;

/// Whether prompts begin with the tokenizer's beginning-of-sequence token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bos {
    /// As the tokenizer does by itself.
    #[default]
    Auto,
    /// Always.
    Yes,
    /// Never.
    No,
}

impl std::str::FromStr for Bos {
    type Err = Error;

    fn from_str(word: &str) -> Result<Bos> {
        match word {
            "auto" => Ok(Bos::Auto),
            "yes" => Ok(Bos::Yes),
            "no" => Ok(Bos::No),
            _ => Err(Error::unknown("BOS rule", word, ["auto", "yes", "no"])),
        }
    }
}

/// A tokenizer, or none: a model without one takes and shows token ids.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    tokenizer: Option<Tokenizer>,
    bos: Option<u32>,
    /// What the model's files say about putting BOS first, if they say anything: it goes before what the tokenizer does.
    puts_bos: Option<bool>,
    /// The files that a tokenizer might be made from, if there is none that is read.
    unread: Option<Unread>,
    template: Option<Template>,
    conversation: Option<Conversation>,
}

/// A tokenizer in files that are not read.
#[derive(Debug, Clone, PartialEq)]
pub struct Unread {
    /// The file and its kind, as it may stand in a sentence.
    pub what: String,
    /// How to make one that is.
    pub remedy: String,
}

/// Prompts are messages in a chat.
#[derive(Debug, Clone, Default)]
struct Conversation {
    system: Option<String>,
}

impl Vocabulary {
    /// A vocabulary over a tokenizer; `bos` is the beginning-of-sequence token the model's files name, if any.
    pub fn new(tokenizer: Option<Tokenizer>, bos: Option<u32>) -> Vocabulary {
        Vocabulary { tokenizer, bos, ..Vocabulary::default() }
    }

    /// No tokenizer, because these files are not read. Only a text that must be tokenized is an error.
    pub fn unread(files: Option<Unread>) -> Vocabulary {
        Vocabulary { unread: files, ..Vocabulary::default() }
    }

    /// The same vocabulary with what the model's files say about BOS (`None`: nothing) and about chats.
    #[must_use]
    pub fn with(self, puts_bos: Option<bool>, template: Option<Template>) -> Vocabulary {
        Vocabulary { puts_bos, template, ..self }
    }

    /// The same vocabulary for a chat: every prompt is a user's message in the model's chat template, after this one of the
    /// system if there is any. A model without a template is an error.
    pub fn chatting(self, system: Option<String>) -> Result<Vocabulary> {
        self.tokenizer()?;
        let Some(template) = &self.template else {
            return Err(Error::input(
                "this model has no chat template: no chat_template.jinja, and no `chat_template`, or none called \
                 `default`, in tokenizer_config.json",
                "leave `--chat` out: the model goes on with a text as it stands",
            ));
        };
        template.render(system.as_deref(), "a")?;
        Ok(Vocabulary { conversation: Some(Conversation { system }), ..self })
    }

    /// The template and the system's message, if prompts are messages in a chat.
    pub fn chat(&self) -> Option<(&Template, Option<&str>)> {
        let conversation = self.conversation.as_ref()?;
        Some((self.template.as_ref()?, conversation.system.as_deref()))
    }

    /// A prompt as the model reads it: as it stands, or in the chat template.
    pub fn dressed<'a>(&self, prompt: &'a str) -> Result<Cow<'a, str>> {
        match self.chat() {
            Some((template, system)) => template.render(system, prompt).map(Cow::Owned),
            None => Ok(Cow::Borrowed(prompt)),
        }
    }

    /// The tokenizer, or an error that says how to do without.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| {
            const IDS: &str = "give token ids: `--tokens 1,2,3 --answer-id 4 --wrong-id 5`";
            match &self.unread {
                None => Error::input("this model has no tokenizer", IDS),
                Some(Unread { what, remedy }) => Error::input(
                    format!("this model has no tokenizer that can be read: {what}"),
                    format!("{remedy}; or {IDS}"),
                ),
            }
        })
    }

    /// Whether there is a tokenizer.
    pub fn has_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

    /// The token to put before a prompt under this rule: `None` for none. `Yes` without a known token is an error.
    pub fn bos(&self, rule: Bos) -> Result<Option<u32>> {
        match rule {
            Bos::No => Ok(None),
            Bos::Yes => self.bos.map(Some).ok_or_else(|| {
                Error::usage("the tokenizer names no beginning-of-sequence token", "use `--bos no`")
            }),
            Bos::Auto if self.conversation.is_some() => {
                let first = self.encode(&self.dressed("a")?)?.first().copied();
                Ok(first.filter(|_| first == self.bos))
            }
            Bos::Auto => match (self.puts_bos, self.bos) {
                (Some(true), Some(bos)) => Ok(Some(bos)),
                (Some(false), _) => Ok(None),
                _ => Ok(self.dressing()?.0),
            },
        }
    }

    /// Who decides about BOS when nobody was asked.
    pub(crate) fn decides_bos(&self) -> Option<&'static str> {
        match (&self.conversation, self.puts_bos) {
            (Some(_), _) => Some("the chat template"),
            (None, Some(_)) => Some("`add_bos_token` in tokenizer_config.json"),
            (None, None) => None,
        }
    }

    /// The token that the model's files name as BOS, whether it is put first or not.
    pub fn names_bos(&self) -> Option<u32> {
        self.bos
    }

    /// The tokens that the tokenizer itself puts before a text, if it is one, and behind it.
    pub(crate) fn dressing(&self) -> Result<(Option<u32>, Vec<u32>)> {
        self.tokenizer.as_ref().map_or(Ok((None, Vec::new())), dressing)
    }

    /// text → token ids, without any special token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer()?;
        guard::encode(tokenizer, text, false).map_err(|e| unknown_word(tokenizer, text, &e))
    }

    /// How a token reads: its text with its spaces, a lone byte as `<0xE2>`, an id as `#17` without a tokenizer.
    pub fn token(&self, id: u32) -> String {
        let Some(tokenizer) = &self.tokenizer else { return format!("#{id}") };
        let Some(raw) = tokenizer.id_to_token(id) else { return format!("#{id}") };
        if tokenizer.get_decoder().is_none() {
            return raw;
        }
        // Decoders may strip the first space of a text: decode after an anchor, and take the anchor off again.
        let anchor = guard::decode(tokenizer, &[id, id]).unwrap_or_default();
        let alone = guard::decode(tokenizer, &[id]).unwrap_or_default();
        let text = anchor.strip_prefix(alone.as_str()).unwrap_or(&alone);
        match text {
            "" => raw,
            text if text.contains('\u{FFFD}') => byte_level(&raw).unwrap_or(raw),
            text => text.to_owned(),
        }
    }

    /// A prompt as it reads: its text, or its token ids without a tokenizer.
    pub fn text(&self, ids: &[u32]) -> String {
        let joined = |between| self.tokens(ids).join(between);
        match &self.tokenizer {
            Some(tokenizer) if tokenizer.get_decoder().is_some() => joined(""),
            _ => joined(" "),
        }
    }

    /// What these tokens add to a text when they follow the prompt: bytes of one character that several tokens share are
    /// put together.
    pub fn continuation(&self, prompt: &[u32], ids: &[u32]) -> String {
        let all = [prompt, ids].concat();
        if let Some(tokenizer) = self.tokenizer.as_ref().filter(|tokenizer| tokenizer.get_decoder().is_some())
            && let (Ok(before), Ok(text)) = (tokenizer.decode(prompt, false), tokenizer.decode(&all, false))
            && let Some(more) = text.strip_prefix(before.as_str())
        {
            return more.to_owned();
        }
        let (before, text) = (self.text(prompt), self.text(&all));
        text.strip_prefix(before.as_str()).unwrap_or(&text).to_owned()
    }

    /// Every token of a prompt as it reads.
    pub fn tokens(&self, ids: &[u32]) -> Vec<String> {
        ids.iter().map(|&id| self.token(id)).collect()
    }

    /// The ids below `d_vocab` that stand for text: no special tokens, none the tokenizer does not know.
    pub fn ordinary(&self, d_vocab: usize) -> Vec<u32> {
        let all = 0..d_vocab as u32;
        let Some(tokenizer) = &self.tokenizer else { return all.collect() };
        let added = tokenizer.get_added_tokens_decoder();
        let special = |id: u32| Some(id) == self.bos || added.get(&id).is_some_and(|token| token.special);
        all.filter(|&id| !special(id) && tokenizer.id_to_token(id).is_some()).collect()
    }

    /// The one token that a text is. A text of several tokens is an error that shows their ids; a text whose variant
    /// with a leading space is also one token, and is the one that would follow a word, is returned with a warning.
    pub fn single(&self, text: &str) -> Result<(u32, Option<String>)> {
        let ids = self.encode(text)?;
        let [id] = ids[..] else {
            let shown: Vec<String> = ids.iter().map(|&id| format!("{:?} ({id})", self.token(id))).collect();
            let hint = match self.spaced(text) {
                Some(spaced) => format!(
                    "did you mean {:?} with a leading space, which is one token ({spaced})?",
                    format!(" {text}")
                ),
                None => "an answer must be one token of this model".to_owned(),
            };
            let found = if shown.is_empty() { "no token".into() } else { shown.join(" + ") };
            return Err(Error::input(format!("the answer {text:?} is {} tokens: {found}", ids.len()), hint));
        };
        let warning = self.spaced(text).filter(|&spaced| spaced != id).map(|spaced| {
            format!("{text:?} is token {id}; with a leading space, as it would follow a word, it would be token {spaced}")
        });
        Ok((id, warning))
    }

    /// The single token of the text with a space before it, if it has none yet and there is one.
    fn spaced(&self, text: &str) -> Option<u32> {
        if text.starts_with(char::is_whitespace) {
            return None;
        }
        match self.encode(&format!(" {text}")).ok()?[..] {
            [id] => Some(id),
            _ => None,
        }
    }
}

/// The tokens that a tokenizer puts before a text, if it is one, and behind it.
pub(crate) fn dressing(tokenizer: &Tokenizer) -> Result<(Option<u32>, Vec<u32>)> {
    let ids = |special| guard::encode(tokenizer, "a", special).map_err(|e| unreadable("a", &e));
    let (plain, dressed) = (ids(false)?, ids(true)?);
    for before in [0, 1] {
        if let Some(behind) = dressed.get(before..).and_then(|rest| rest.strip_prefix(&plain[..]))
            && !plain.is_empty()
        {
            return Ok((dressed.first().copied().filter(|_| before == 1), behind.to_vec()));
        }
    }
    Ok((None, Vec::new()))
}

/// A closed vocabulary meets a word it does not have: which, and what is near.
fn unknown_word(tokenizer: &Tokenizer, text: &str, cause: &str) -> Error {
    let Some(word) = text.split_whitespace().find(|word| guard::encode(tokenizer, word, false).is_err())
    else {
        return unreadable(text, cause);
    };
    let words = tokenizer.get_vocab(false);
    let mut near: Vec<(f64, &String)> = words
        .keys()
        .map(|known| (strsim::jaro_winkler(word, known), known))
        .filter(|(s, _)| *s > 0.8)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let near: Vec<String> = near.iter().take(4).map(|(_, known)| format!("{known:?}")).collect();
    let hint = match near.as_slice() {
        [] => {
            "words and punctuation are separated by spaces; the vocabulary is in the model's tokenizer.json"
                .to_owned()
        }
        near => format!("did you mean {}? words and punctuation are separated by spaces", near.join(", ")),
    };
    Error::input(
        format!("the model does not know the word {word:?}: its vocabulary has {} words", words.len()),
        hint,
    )
}

fn unreadable(text: &str, cause: &str) -> Error {
    Error::input(
        format!("the tokenizer cannot read {text:?}: {cause}"),
        "check the tokenizer file and the text",
    )
}

/// GPT-2's printable stand-ins for bytes, back to bytes: `<0xE2>` each.
fn byte_level(raw: &str) -> Option<String> {
    let stands_for = |c: char| -> Option<u8> {
        let printable = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
        let code = c as u32;
        if code < 256 {
            return printable(code).then_some(code as u8);
        }
        (0..256u32).filter(|&b| !printable(b)).nth((code - 256) as usize).map(|b| b as u8)
    };
    raw.chars().map(|c| stands_for(c).map(|byte| format!("<0x{byte:02X}>"))).collect()
}
