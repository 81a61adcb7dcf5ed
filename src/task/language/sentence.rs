//! The kinds of sentences, each a template with its blanks filled at random.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::words::{self, list};
use super::{Language, Person};

/// A sentence as words, and where in it the places stand that a loss or a task asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// Words and punctuation.
    pub words: Vec<String>,
    /// `IO`, `S1`, `S2`, `subject` (its last token), `relation` (from where on the subject is out of reach), `end` (the
    /// token after which the answer follows): indices into `words`.
    pub places: Vec<(&'static str, usize)>,
}

impl Sentence {
    /// Where `name` stands.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.places.iter().find(|(n, _)| *n == name).map(|(_, at)| *at)
    }

    fn plain(text: String) -> Sentence {
        Sentence { words: text.split_ascii_whitespace().map(str::to_owned).collect(), places: Vec::new() }
    }
}

/// Two people, one of whom acts: A and B are the names, S the one who acts, P a place, O an object.
pub const TWO_PEOPLE: [&str; 6] = [
    "When A and B went to the P , S gave a O to",
    "After A and B arrived at the P , S handed a O to",
    "While A and B were working at the P , S offered the O to",
    "Then A and B walked to the P , and S sent a O to",
    "Yesterday A and B were at the P , so S passed the O to",
    "The day after A and B went to the P , S gave the O to",
];

/// One person, named twice.
pub const ONE_PERSON: [&str; 3] = [
    "A was at the P , so the J gave a O to",
    "When A arrived at the P , the J offered the O to",
    "While A was working , the J sent a O to",
];

/// What is said of people: work, sport, city.
pub const RELATIONS: [&str; 3] = ["works as a", "plays the sport of", "lives in the city of"];

/// The template with its single-letter blanks filled.
pub fn fill(template: &str, blanks: &[(&str, &str)]) -> Vec<String> {
    let word = |word: &str| match blanks.iter().find(|(blank, _)| *blank == word) {
        Some((_, value)) => (*value).to_owned(),
        None => word.to_owned(),
    };
    template.split_ascii_whitespace().map(word).collect()
}

fn any(words: &'static str, rng: &mut impl Rng) -> &'static str {
    list(words).choose(rng).copied().unwrap_or_default()
}

/// "When A and B went to the store , B gave a drink to A ." `stand_ins` is the share of sentences in which any words
/// take the places of the names, so that the circuit compares and copies words rather than knowing names by heart.
pub fn two_people(language: &Language, stand_ins: f64, rng: &mut impl Rng) -> Sentence {
    let pool = if rng.random_bool(stand_ins) { &language.stand_ins } else { &language.names };
    let names: Vec<&String> = pool.choose_multiple(rng, 2).collect();
    let acting = usize::from(rng.random_bool(0.5));
    let template = TWO_PEOPLE.choose(rng).copied().unwrap_or(TWO_PEOPLE[0]);
    let (place, object) = (any(words::PLACES, rng), any(words::OBJECTS, rng));
    let blanks =
        [("A", names[0].as_str()), ("B", names[1]), ("S", names[acting]), ("P", place), ("O", object)];
    let places = two_people_places(template, acting);
    let mut words = fill(template, &blanks);
    words.extend([names[1 - acting].clone(), ".".to_owned()]);
    Sentence { words, places }
}

/// The places of a [`TWO_PEOPLE`] template when the first (0) or second (1) name acts.
pub fn two_people_places(template: &str, acting: usize) -> Vec<(&'static str, usize)> {
    let at = |blank| template.split_ascii_whitespace().position(|word| word == blank).unwrap_or_default();
    let names = [at("A"), at("B")];
    let end = template.split_ascii_whitespace().count() - 1;
    vec![("IO", names[1 - acting]), ("S1", names[acting]), ("S2", at("S")), ("end", end)]
}

/// "Mary was at the park , so the doctor gave a ring to Mary ." Mostly of held-out names: here they are copied, so that
/// they are words like others; who of two is meant is never asked of them.
pub fn one_person(language: &Language, rng: &mut impl Rng) -> Sentence {
    let name = if rng.random_bool(0.75) {
        any(words::HELD_OUT, rng).to_owned()
    } else {
        language.names.choose(rng).cloned().unwrap_or_default()
    };
    let template = ONE_PERSON.choose(rng).copied().unwrap_or(ONE_PERSON[0]);
    let (place, object, job) = (any(words::PLACES, rng), any(words::OBJECTS, rng), any(words::JOBS, rng));
    let mut words = fill(template, &[("A", &name), ("P", place), ("O", object), ("J", job)]);
    let at = template.split_ascii_whitespace().position(|word| word == "A").unwrap_or_default();
    let places = vec![("IO", at), ("end", words.len() - 1)];
    words.extend([name, ".".to_owned()]);
    Sentence { words, places }
}

/// The words before the answer, the places, and the answer, of relation 0, 1 or 2 of a person.
pub fn fact(person: &Person, relation: usize) -> (Sentence, &'static str) {
    let answer = [person.job, person.sport, person.city][relation % 3];
    let text = format!("{} {} {}", person.first, person.last, RELATIONS[relation % 3]);
    let mut sentence = Sentence::plain(text);
    sentence.places = vec![("subject", 1), ("relation", 3), ("end", sentence.words.len() - 1)];
    (sentence, answer)
}

/// "Ada Abbott works as a baker ."
pub fn some_fact(language: &Language, rng: &mut impl Rng) -> Sentence {
    let person = &language.people[rng.random_range(0..language.people.len())];
    let (mut sentence, answer) = fact(person, rng.random_range(0..3));
    sentence.words.extend([answer.to_owned(), ".".to_owned()]);
    sentence
}

/// "The war lasted from the year 17 32 to the year 17", before the answer.
pub fn span(event: &str, century: usize, year: usize) -> String {
    format!("The {event} lasted from the year {century} {year:02} to the year {century}")
}

/// "The war lasted from the year 17 32 to the year 17 58 ."
pub fn greater_than(rng: &mut impl Rng) -> Sentence {
    let (century, year) = (rng.random_range(11..20), rng.random_range(2..98));
    let later = rng.random_range(year + 1..100);
    Sentence::plain(format!("{} {later:02} .", span(any(words::EVENTS, rng), century, year)))
}

/// "The capital of France is Paris ."
pub fn capital(rng: &mut impl Rng) -> Sentence {
    let (countries, capitals) = (list(words::COUNTRIES), list(words::CAPITALS));
    let i = rng.random_range(0..countries.len());
    Sentence::plain(format!("The capital of {} is {} .", countries[i], capitals[i]))
}

/// "The keys near the cabinet are old ."
pub fn agreement(rng: &mut impl Rng) -> Sentence {
    let (plural, other_plural) = (rng.random_bool(0.5), rng.random_bool(0.5));
    let subject = any(words::SINGULAR, rng).to_owned() + if plural { "s" } else { "" };
    let other = any(words::SINGULAR, rng).to_owned() + if other_plural { "s" } else { "" };
    let (verb, preposition) = (if plural { "are" } else { "is" }, any(words::PREPOSITIONS, rng));
    Sentence::plain(format!(
        "The {subject} {preposition} the {other} {verb} {} .",
        any(words::ADJECTIVES, rng)
    ))
}

/// "Mary lost the ring because she was tired ."
pub fn gender(rng: &mut impl Rng) -> Sentence {
    let names = list(if rng.random_bool(0.5) { words::HELD_OUT } else { words::SEEN });
    let i = rng.random_range(0..names.len());
    let pronoun = if i % 2 == 0 { "she" } else { "he" };
    let (object, adjective) = (any(words::OBJECTS, rng), any(words::ADJECTIVES, rng));
    Sentence::plain(format!("{} lost the {object} because {pronoun} was {adjective} .", names[i]))
}

/// "The day after Monday is Tuesday ."
pub fn succession(rng: &mut impl Rng) -> Sentence {
    let (kind, order) = if rng.random_bool(0.4) { ("day", words::DAYS) } else { ("month", words::MONTHS) };
    let order = list(order);
    let i = rng.random_range(0..order.len());
    Sentence::plain(format!("The {kind} after {} is {} .", order[i], order[(i + 1) % order.len()]))
}
