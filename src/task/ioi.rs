//! Indirect object identification (Wang et al. 2022): "When Mary and John went to the store, John gave a drink to".

use rand::Rng;
use rand::seq::IndexedRandom;

use super::generate::{Corruption, Generator, LabelKind, Request, labels};
use super::language::sentence::{TWO_PEOPLE, fill, two_people_places};
use super::language::words::{self, list};
use super::writer::Writer;
use super::{Example, Task};
use crate::error::Result;
use crate::vocabulary::Vocabulary;

/// `--task ioi`.
pub const GENERATOR: Generator = Generator {
    name: "ioi",
    about: "who is given something: the name that was mentioned once (ABBA and BABA; --corruption flip|random|abc)",
    labels: &[LabelKind {
        name: "order",
        about: "whether the one who acts is named second (ABBA) or first (BABA)",
        at: "S2",
    }],
    make,
};

fn make(request: &Request, vocabulary: &Vocabulary) -> Result<Task> {
    let mut writer = Writer::new("ioi", request, vocabulary)?;
    let names = writer.known(list(words::HELD_OUT), "names", 6)?;
    let places = writer.known(list(words::PLACES), "places", 1)?;
    let objects = writer.known(list(words::OBJECTS), "objects", 1)?;
    let mut examples = Vec::with_capacity(request.n);
    for i in 0..request.n {
        // both orders and all templates in turn, so that every part of a task is balanced
        let (acting, template) = (1 - i % 2, i / 2 % TWO_PEOPLE.len());
        let drawn: Vec<&str> = names.choose_multiple(&mut writer.rng, 6).copied().collect();
        let place = places[writer.rng.random_range(0..places.len())];
        let object = objects[writer.rng.random_range(0..objects.len())];
        let say = |a: &str, b: &str, s: &str| {
            fill(TWO_PEOPLE[template], &[("A", a), ("B", b), ("S", s), ("P", place), ("O", object)])
        };
        let (first, second) = (drawn[0], drawn[1]);
        let (io, subject) = if acting == 1 { (first, second) } else { (second, first) };
        let clean = say(first, second, subject);
        let corrupt = match request.corruption {
            Corruption::Flip => say(first, second, io),
            Corruption::Random => say(first, second, drawn[2]),
            Corruption::Abc => say(drawn[3], drawn[4], drawn[5]),
        };
        let order = if acting == 1 { "ABBA" } else { "BABA" };
        let mut pos = std::collections::BTreeMap::new();
        for (name, index) in two_people_places(TWO_PEOPLE[template], acting) {
            pos.insert(name.to_owned(), writer.place(&clean, index)?);
            if name == "S1" {
                pos.insert("S1+1".to_owned(), writer.place(&clean, index)? + 1);
            }
        }
        examples.push(Example {
            id: format!("ioi-{i}"),
            clean: writer.prompt(&clean)?,
            corrupt: Some(writer.prompt(&corrupt)?),
            answers: vec![writer.token(io)?],
            wrong: vec![writer.token(subject)?],
            pos,
            group: format!("{order}-{template}"),
            labels: labels([("order", order)]),
            subject: Some(subject.to_owned()),
        });
    }
    Ok(Task { name: "ioi".into(), examples, bos: writer.bos().is_some(), ..Task::default() })
}
