//! Batches of documents, and where in them supervised heads are to look.

use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::recipe::{Mixture, Recipe};
use crate::error::{Error, Result};
use crate::task::language::Language;
use crate::task::language::sentence::{self, Sentence};

/// Documents of equal length, row after row, with a target (a position of the same row) wherever a head has a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Documents.
    pub rows: usize,
    /// Tokens in each.
    pub length: usize,
    /// What the model is fed. `[rows · length]`
    pub tokens: Vec<u32>,
    /// What the sentences really say: the targets. The second mention of a name may be fed as another word.
    pub said: Vec<u32>,
    /// The latest earlier occurrence of the same token, else 0 (`<bos>`). `[rows · length]`
    pub earlier: Vec<Option<usize>>,
    /// At the end of a two-people sentence: the second mention of the one who acts.
    pub repeated: Vec<Option<usize>>,
    /// At the end of a sentence about people: the one who is given something.
    pub receiver: Vec<Option<usize>>,
    /// At the end of a fact: the last word of its subject.
    pub subject: Vec<Option<usize>>,
    /// From the second word of a relation on: the last word of the subject, which layers 0 and 1 must not read.
    pub unread: Vec<Option<usize>>,
}

/// The batch of one step: a function of recipe and step alone, so that a resumed run sees the same data.
pub fn batch(language: &Language, recipe: &Recipe, step: usize) -> Result<Batch> {
    let (rows, length) = (recipe.training.rows, recipe.training.length);
    let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed);
    rng.set_stream(step as u64 + 1);
    let none = || vec![None; rows * length];
    let mut batch = Batch {
        rows,
        length,
        tokens: Vec::with_capacity(rows * length),
        said: Vec::new(),
        earlier: vec![None; rows * length],
        repeated: none(),
        receiver: none(),
        subject: none(),
        unread: none(),
    };
    let kinds = kinds(&recipe.data)?;
    for row in 0..rows {
        if rng.random_bool(recipe.data.periodic) {
            batch.periodic(language, &recipe.data, &mut rng);
        } else {
            batch.sentences(language, recipe, &kinds, row, &mut rng);
        }
    }
    batch.said = batch.tokens.clone();
    batch.exchange(language, recipe.attention.exchange, &mut rng);
    (0..rows).for_each(|row| batch.note_earlier(row));
    Ok(batch)
}

fn kinds(data: &Mixture) -> Result<WeightedIndex<f64>> {
    let weights = [
        data.two_people,
        data.one_person,
        data.facts,
        data.greater_than,
        data.capital,
        data.agreement,
        data.gender,
        data.succession,
    ];
    WeightedIndex::new(weights).map_err(|error| {
        Error::usage(format!("the weights in [data] are unusable: {error}"), "write numbers ≥ 0")
    })
}

impl Batch {
    /// `<bos>` and a random sequence over and over.
    fn periodic(&mut self, language: &Language, data: &Mixture, rng: &mut ChaCha8Rng) {
        let period = rng.random_range(data.periods[0]..=data.periods[1]);
        let base: Vec<u32> =
            (0..period).map(|_| rng.random_range(1..language.vocabulary.len() as u32)).collect();
        self.tokens.push(0);
        self.tokens.extend((0..self.length - 1).map(|i| base[i % period]));
    }

    /// `<bos>` and sentences, the last one cut off where the document ends.
    fn sentences(
        &mut self,
        language: &Language,
        recipe: &Recipe,
        kinds: &WeightedIndex<f64>,
        row: usize,
        rng: &mut ChaCha8Rng,
    ) {
        let start = row * self.length;
        self.tokens.push(0);
        while self.tokens.len() < start + self.length {
            let sentence = match kinds.sample(rng) {
                0 => sentence::two_people(language, recipe.data.stand_ins, rng),
                1 => sentence::one_person(language, rng),
                2 => sentence::some_fact(language, rng),
                3 => sentence::greater_than(rng),
                4 => sentence::capital(rng),
                5 => sentence::agreement(rng),
                6 => sentence::gender(rng),
                _ => sentence::succession(rng),
            };
            let at = self.tokens.len() - start;
            let ids = sentence.words.iter().filter_map(|word| language.id(word));
            self.tokens.extend(ids);
            self.mark(&sentence, row, at);
        }
        self.tokens.truncate(start + self.length);
    }

    /// Notes the targets of a sentence that begins at position `at` of a row.
    fn mark(&mut self, sentence: &Sentence, row: usize, at: usize) {
        let Some(end) = sentence.place("end").map(|end| at + end) else { return };
        let length = self.length;
        let cell = |pos: usize| row * length + pos;
        let subject = sentence.place("subject").map(|pos| at + pos);
        if let (Some(subject), Some(relation)) = (subject, sentence.place("relation")) {
            for pos in (at + relation..=end).filter(|&pos| pos < self.length) {
                self.unread[cell(pos)] = Some(subject);
            }
        }
        if end >= self.length {
            return;
        }
        self.subject[cell(end)] = subject;
        self.receiver[cell(end)] = sentence.place("IO").map(|pos| at + pos);
        self.repeated[cell(end)] = sentence.place("S2").map(|pos| at + pos);
    }

    /// Feeds, at a share of the second mentions of a name, another word: the receiver's name or any name.
    fn exchange(&mut self, language: &Language, share: f64, rng: &mut ChaCha8Rng) {
        for end in 0..self.tokens.len() {
            let (Some(repeated), Some(receiver)) = (self.repeated[end], self.receiver[end]) else { continue };
            if rng.random_bool(share) {
                let start = end - end % self.length;
                let any = &language.names[rng.random_range(0..language.names.len())];
                let other = if rng.random_bool(0.5) { None } else { language.id(any) };
                self.tokens[start + repeated] = other.unwrap_or(self.said[start + receiver]);
            }
        }
    }

    fn note_earlier(&mut self, row: usize) {
        let start = row * self.length;
        let mut last = std::collections::HashMap::new();
        for pos in 0..self.length {
            self.earlier[start + pos] = last.insert(self.tokens[start + pos], pos);
        }
    }
}
