//! The bundled model's language: its words, its facts and its kinds of sentences.
//!
//! It is small enough to be known completely: every sentence comes from a template, every fact from a table, and a task
//! about any of them is a generator over the same words. The training data (`train::data`) and the tasks share it.

pub mod sentence;
mod tokenizer;
pub mod words;

use std::collections::HashMap;

use words::list;

/// The word that opens every document.
pub const BOS: &str = "<bos>";

/// Someone about whom three facts are known. First and last names are shared by four people each, so that neither
/// alone tells who is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// First name.
    pub first: &'static str,
    /// Last name.
    pub last: &'static str,
    /// "works as a …".
    pub job: &'static str,
    /// "plays the sport of …".
    pub sport: &'static str,
    /// "lives in the city of …".
    pub city: &'static str,
}

/// The vocabulary and the lists that sentences draw from.
#[derive(Debug, Clone)]
pub struct Language {
    /// Every word; the place is the token id, and [`BOS`] is 0.
    pub vocabulary: Vec<String>,
    /// Names that sentences about two people may use in training: never one of [`words::HELD_OUT`].
    pub names: Vec<String>,
    /// Words that may stand in for a name there: any that the templates themselves do not use.
    pub stand_ins: Vec<String>,
    /// The people with facts.
    pub people: Vec<Person>,
    ids: HashMap<String, u32>,
}

impl Default for Language {
    fn default() -> Self {
        Self::new()
    }
}

impl Language {
    /// Builds the lists; always the same.
    pub fn new() -> Language {
        let halves = list(words::MADE_FIRST).into_iter();
        let invented: Vec<String> =
            halves.flat_map(|a| list(words::MADE_LAST).into_iter().map(move |b| format!("{a}{b}"))).collect();
        let names: Vec<String> = list(words::SEEN).into_iter().map(str::to_owned).chain(invented).collect();
        let plural = list(words::SINGULAR).into_iter().map(|noun| format!("{noun}s"));
        let years = (0..100).map(|year| format!("{year:02}"));
        let owned = |words: &'static str| list(words).into_iter().map(str::to_owned);
        let mut language = Language {
            vocabulary: Vec::new(),
            names: names.clone(),
            stand_ins: Vec::new(),
            people: people(),
            ids: HashMap::new(),
        };
        let all = std::iter::once(BOS.to_owned())
            .chain(owned(words::FUNCTION))
            .chain(owned(words::HELD_OUT))
            .chain(names)
            .chain(owned(words::FIRST_NAMES))
            .chain(owned(words::LAST_NAMES))
            .chain(owned(words::SPORTS))
            .chain(owned(words::JOBS))
            .chain(owned(words::CITIES))
            .chain(owned(words::COUNTRIES))
            .chain(owned(words::CAPITALS))
            .chain(owned(words::SINGULAR))
            .chain(plural)
            .chain(owned(words::PLACES))
            .chain(owned(words::OBJECTS))
            .chain(owned(words::ADJECTIVES))
            .chain(owned(words::EVENTS))
            .chain(owned(words::DAYS))
            .chain(owned(words::MONTHS))
            .chain(years)
            .chain(owned(words::FILLER));
        for word in all {
            if !language.ids.contains_key(&word) {
                language.ids.insert(word.clone(), language.vocabulary.len() as u32);
                language.vocabulary.push(word);
            }
        }
        let reserved: Vec<&str> = [words::FUNCTION, words::HELD_OUT, words::PLACES, words::OBJECTS]
            .into_iter()
            .flat_map(list)
            .chain([BOS])
            .collect();
        let free = language.vocabulary.iter().filter(|word| !reserved.contains(&word.as_str()));
        language.stand_ins = free.cloned().collect();
        language
    }

    /// The token id of a word of the language.
    pub fn id(&self, word: &str) -> Option<u32> {
        self.ids.get(word).copied()
    }
}

/// The 96 people: each first name with four last names; jobs, sports and cities spread evenly and shuffled.
fn people() -> Vec<Person> {
    const OFFSETS: [usize; 4] = [0, 5, 11, 18];
    let (first, last) = (list(words::FIRST_NAMES), list(words::LAST_NAMES));
    let mut shuffler = SplitMix(7);
    let mut spread = |values: &'static str| {
        let values = list(values);
        let mut order: Vec<usize> = (0..4 * first.len()).map(|i| i % values.len()).collect();
        for i in (1..order.len()).rev() {
            let other = (shuffler.next() % (i as u64 + 1)) as usize;
            order.swap(i, other);
        }
        order.into_iter().map(|i| values[i]).collect::<Vec<_>>()
    };
    let (jobs, sports, cities) = (spread(words::JOBS), spread(words::SPORTS), spread(words::CITIES));
    let person = |i: usize| Person {
        first: first[i % first.len()],
        last: last[(i % first.len() + OFFSETS[i / first.len()]) % last.len()],
        job: jobs[i],
        sport: sports[i],
        city: cities[i],
    };
    (0..4 * first.len()).map(person).collect()
}

/// Steele et al. 2014: the language's facts must not depend on a crate's version.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_people_are_distinct() {
        let language = Language::new();
        assert!((650..=800).contains(&language.vocabulary.len()), "{}", language.vocabulary.len());
        assert_eq!(language.id(BOS), Some(0));
        let mut full: Vec<_> = language.people.iter().map(|p| (p.first, p.last)).collect();
        full.sort_unstable();
        full.dedup();
        assert_eq!(full.len(), 96);
        for person in &language.people {
            for word in [person.first, person.last, person.job, person.sport, person.city] {
                assert!(language.id(word).is_some(), "{word}");
            }
        }
    }

    #[test]
    fn held_out_names_are_no_training_names() {
        let language = Language::new();
        for name in list(words::HELD_OUT) {
            assert!(!language.names.iter().any(|n| n == name), "{name}");
            assert!(!language.stand_ins.iter().any(|n| n == name), "{name}");
        }
    }
}
