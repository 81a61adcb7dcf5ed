//! Short names for models, as TransformerLens has them, so that published notebooks' names work here.

/// Models that were on the hub before names had owners: both names are in use, and each has a folder of its own in a cache.
const TWINS: &[(&str, &str)] = &[
    ("gpt2", "openai-community/gpt2"),
    ("gpt2-medium", "openai-community/gpt2-medium"),
    ("gpt2-large", "openai-community/gpt2-large"),
    ("gpt2-xl", "openai-community/gpt2-xl"),
    ("distilgpt2", "distilbert/distilgpt2"),
];

/// Names of their own: nickname, name.
const NICKNAMES: &[(&str, &str)] = &[
    ("gpt2-small", "gpt2"),
    ("distillgpt2", "distilgpt2"),
    ("distil-gpt2", "distilgpt2"),
    ("gpt2-xs", "distilgpt2"),
    ("gpt-neo-small", "EleutherAI/gpt-neo-125M"),
    ("gpt-neo-medium", "EleutherAI/gpt-neo-1.3B"),
    ("gpt-neo-large", "EleutherAI/gpt-neo-2.7B"),
    ("neo-small", "EleutherAI/gpt-neo-125M"),
    ("neo-medium", "EleutherAI/gpt-neo-1.3B"),
    ("neo-large", "EleutherAI/gpt-neo-2.7B"),
    ("gpt-j", "EleutherAI/gpt-j-6B"),
    ("gpt-neox", "EleutherAI/gpt-neox-20b"),
    ("pythia", "EleutherAI/pythia-70m"),
    ("opt-small", "facebook/opt-125m"),
    ("opt-medium", "facebook/opt-1.3b"),
    ("opt-large", "facebook/opt-2.7b"),
    ("llama-2-7b", "meta-llama/Llama-2-7b-hf"),
    ("llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf"),
    ("llama-2-13b", "meta-llama/Llama-2-13b-hf"),
    ("llama-2-13b-chat", "meta-llama/Llama-2-13b-chat-hf"),
    ("mistral-7b", "mistralai/Mistral-7B-v0.1"),
    ("mistral-7b-instruct", "mistralai/Mistral-7B-Instruct-v0.1"),
    ("tiny-stories-1m", "roneneldan/TinyStories-1M"),
    ("tiny-stories-3m", "roneneldan/TinyStories-3M"),
    ("tiny-stories-8m", "roneneldan/TinyStories-8M"),
    ("tiny-stories-28m", "roneneldan/TinyStories-28M"),
    ("tiny-stories-33m", "roneneldan/TinyStories-33M"),
    ("tiny-stories-instruct-1m", "roneneldan/TinyStories-Instruct-1M"),
    ("tiny-stories-instruct-33m", "roneneldan/TinyStories-Instruct-33M"),
    ("tiny-stories-1l-21m", "roneneldan/TinyStories-1Layer-21M"),
    ("tiny-stories-2l-33m", "roneneldan/TinyStories-2Layers-33M"),
    ("stanford-gpt2-small-a", "stanford-crfm/alias-gpt2-small-x21"),
    ("stanford-gpt2-small-b", "stanford-crfm/battlestar-gpt2-small-x49"),
    ("stanford-gpt2-small-c", "stanford-crfm/caprica-gpt2-small-x81"),
    ("stanford-gpt2-small-d", "stanford-crfm/darkmatter-gpt2-small-x343"),
    ("stanford-gpt2-small-e", "stanford-crfm/expanse-gpt2-small-x777"),
    ("stanford-gpt2-medium-a", "stanford-crfm/arwen-gpt2-medium-x21"),
    ("stanford-gpt2-medium-b", "stanford-crfm/beren-gpt2-medium-x49"),
    ("stanford-gpt2-medium-c", "stanford-crfm/celebrimbor-gpt2-medium-x81"),
    ("stanford-gpt2-medium-d", "stanford-crfm/durin-gpt2-medium-x343"),
    ("stanford-gpt2-medium-e", "stanford-crfm/eowyn-gpt2-medium-x777"),
];

/// Names whose owner may be left out.
const OWNED: &[(&str, &[&str])] = &[
    (
        "EleutherAI",
        &[
            "gpt-neo-125M",
            "gpt-neo-1.3B",
            "gpt-neo-2.7B",
            "gpt-j-6B",
            "gpt-neox-20b",
            "pythia-14m",
            "pythia-31m",
            "pythia-70m",
            "pythia-160m",
            "pythia-410m",
            "pythia-1b",
            "pythia-1.4b",
            "pythia-2.8b",
            "pythia-6.9b",
            "pythia-12b",
        ],
    ),
    ("facebook", &["opt-125m", "opt-1.3b", "opt-2.7b", "opt-6.7b", "opt-13b", "opt-30b", "opt-66b"]),
    ("bigscience", &["bloom-560m", "bloom-1b1", "bloom-1b7", "bloom-3b", "bloom-7b1"]),
    ("google", &["gemma-2b", "gemma-7b", "gemma-2-2b", "gemma-2-9b", "gemma-2-27b"]),
    ("microsoft", &["phi-1", "phi-1_5", "phi-2"]),
    ("meta-llama", &["Llama-3.2-1B", "Llama-3.2-3B"]),
    (
        "Qwen",
        &["Qwen2-0.5B", "Qwen2-1.5B", "Qwen2-7B", "Qwen2.5-0.5B", "Qwen2.5-1.5B", "Qwen2.5-3B", "Qwen2.5-7B"],
    ),
];

/// What may follow a name of the Pythia suite: its trainings on other data, on other seeds and of the first version.
const VARIANTS: &[&str] = &["", "-deduped", "-v0", "-deduped-v0", "-seed1", "-seed2", "-seed3"];

/// What a repository is called that goes by this name, upper and lower case alike; none if no table knows it.
pub(super) fn names(name: &str) -> Option<Vec<String>> {
    let name =
        NICKNAMES.iter().find(|(nick, _)| nick.eq_ignore_ascii_case(name)).map_or(name, |(_, name)| name);
    let twin = |(old, new): &&(&str, &str)| old.eq_ignore_ascii_case(name) || new.eq_ignore_ascii_case(name);
    if let Some((old, new)) = TWINS.iter().find(twin) {
        let (first, second) = if name.contains('/') { (new, old) } else { (old, new) };
        return Some(vec![(*first).to_owned(), (*second).to_owned()]);
    }
    if name.contains('/') {
        return Some(vec![name.to_owned()]);
    }
    OWNED.iter().find_map(|(owner, names)| {
        let known = names.iter().find_map(|known| {
            let rest = name.get(known.len()..)?;
            let same = name.get(..known.len())?.eq_ignore_ascii_case(known);
            let rest = VARIANTS.iter().find(|variant| variant.eq_ignore_ascii_case(rest))?;
            let whole = rest.is_empty() || known.starts_with("pythia-");
            (same && whole).then(|| format!("{known}{rest}"))
        });
        Some(vec![format!("{owner}/{}", known?)])
    })
}

/// Every short name, for those who mistype one.
pub(in crate::checkpoint) fn aliases<'a>() -> impl Iterator<Item = &'a str> {
    let pairs = TWINS.iter().chain(NICKNAMES).map(|(name, _)| *name);
    pairs.chain(OWNED.iter().flat_map(|(_, names)| names.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_those_of_transformer_lens() {
        for (short, long) in [
            ("gpt2-small", "gpt2"),
            ("gpt2-medium", "gpt2-medium"),
            ("pythia-70m", "EleutherAI/pythia-70m"),
            ("pythia-160m-deduped", "EleutherAI/pythia-160m-deduped"),
            ("pythia-1.4b-deduped-v0", "EleutherAI/pythia-1.4b-deduped-v0"),
            ("pythia-160m-seed3", "EleutherAI/pythia-160m-seed3"),
            ("gpt-neo-125m", "EleutherAI/gpt-neo-125M"),
            ("opt-125m", "facebook/opt-125m"),
            ("somebody/something", "somebody/something"),
        ] {
            assert_eq!(names(short).unwrap()[0], long);
        }
        assert_eq!(names("gpt2").unwrap(), ["gpt2", "openai-community/gpt2"]);
        assert_eq!(names("openai-community/gpt2").unwrap(), ["openai-community/gpt2", "gpt2"]);
        for unknown in ["gpt2-tiny", "opt-125m-deduped", "pythia-70m-x", "", "texbook"] {
            assert_eq!(names(unknown), None, "{unknown}");
        }
        assert!(aliases().all(|alias| names(alias).is_some()));
    }
}
