//! A model's name on the hub, as people write it: `gpt2`, `gpt2-small`, `EleutherAI/pythia-70m@step3000`.

use super::alias;

/// A model of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::checkpoint) struct Id {
    /// As it was asked for.
    pub(in crate::checkpoint) word: String,
    /// What its repository is called. A few have two names, one of them from before models had owners.
    pub(super) names: Vec<String>,
    /// A branch, a tag or a commit; none for what the repository shows first.
    pub(super) revision: Option<String>,
    /// Whether the name has an owner or is in the table of aliases. The hub gives out names without an owner no more, so any
    /// other is a typing error or something only this cache holds, and the hub is not asked.
    pub(super) known: bool,
}

/// The branch that a repository shows first.
pub(super) const MAIN: &str = "main";

impl Id {
    /// Reads `NAME`, `OWNER/NAME` or an alias, each with `@REVISION` or without; none if it can be no such thing.
    pub(in crate::checkpoint) fn parse(word: &str) -> Option<Id> {
        let (name, revision) = match word.split_once('@') {
            Some((name, revision)) => (name, Some(revision).filter(|revision| *revision != MAIN)),
            None => (word, None),
        };
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 || !parts.iter().copied().all(is_name) || !revision.is_none_or(is_revision) {
            return None;
        }
        let names = alias::names(name);
        let known = parts.len() == 2 || names.is_some();
        let names = names.unwrap_or_else(|| vec![name.to_owned()]);
        Some(Id { word: word.to_owned(), names, revision: revision.map(str::to_owned), known })
    }

    /// The name to fetch it by.
    pub(super) fn name(&self) -> &str {
        self.names.first().map_or(self.word.as_str(), String::as_str)
    }

    /// How the ecosystem's own tool fetches it.
    pub(super) fn by_hand(&self) -> String {
        let revision = self.revision.iter().map(|revision| format!(" --revision {revision}"));
        std::iter::once(format!("hf download {}", self.name())).chain(revision).collect()
    }
}

/// The hub's own rule, which also keeps a name inside of the cache's folder.
fn is_name(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    part.len() <= 96
        && part.chars().all(|c| plain(c) || c == '-' || c == '.')
        && part.starts_with(plain)
        && part.ends_with(plain)
        && !part.contains("--")
        && !part.contains("..")
}

/// A git reference, `refs/pr/1` included, that stays inside of the folder of references.
fn is_revision(revision: &str) -> bool {
    let part = |part: &str| {
        part.chars().all(|c| c.is_ascii_alphanumeric() || "._-+=#".contains(c))
            && !part.is_empty()
            && !part.starts_with('.')
    };
    revision.len() <= 200 && revision.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_the_hub_writes_them() {
        let read = |word: &str| {
            Id::parse(word).map(|id| (id.names.first().cloned().unwrap(), id.revision.unwrap_or_default()))
        };
        let found = |name: &str, revision: &str| Some((name.to_owned(), revision.to_owned()));
        assert_eq!(read("EleutherAI/pythia-70m@step3000"), found("EleutherAI/pythia-70m", "step3000"));
        assert_eq!(read("gpt2@refs/pr/1"), found("gpt2", "refs/pr/1"));
        assert_eq!(read("gpt2@main"), found("gpt2", ""));
        assert_eq!(read("GPT2-small"), found("gpt2", ""));
        let by_hand = Id::parse("pythia-70m@step3").unwrap().by_hand();
        assert_eq!(by_hand, "hf download EleutherAI/pythia-70m --revision step3");
        for word in [
            "",
            "@",
            "a@",
            "a/b/c",
            "../a",
            "a/..",
            ".a",
            "a/",
            "/a",
            "a b",
            "ä",
            "a--b",
            "a@..",
            "a@x/../y",
            "a@b@c",
            "a@/b",
            "./a",
            "a@.hidden",
        ] {
            assert_eq!(read(word), None, "{word:?}");
        }
        assert!(Id::parse("somebody/something").unwrap().known);
        assert!(!Id::parse("something").unwrap().known);
    }
}
