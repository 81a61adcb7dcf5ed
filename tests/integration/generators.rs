//! Task generators over a word-level vocabulary and over GPT-2-like byte pairs.

use glassbox::task::language::Language;
use glassbox::task::{Corruption, GENERATORS, Request, Task, generate};
use glassbox::vocabulary::{Bos, Vocabulary};
use tokenizers::Tokenizer;

fn textbook() -> Vocabulary {
    let json = serde_json::to_vec(&Language::new().tokenizer_json()).unwrap();
    Vocabulary::new(Some(Tokenizer::from_bytes(json).unwrap()), None)
}

fn made(name: &str, request: &Request) -> Task {
    generate(name, request, &textbook()).unwrap()
}

fn words(vocabulary: &Vocabulary, ids: &[u32]) -> String {
    vocabulary.tokens(ids).join(" ")
}

#[test]
fn every_generator_makes_balanced_aligned_pairs() {
    for generator in GENERATORS {
        let task = made(generator.name, &Request { n: 24, ..Request::default() });
        assert_eq!(task.name, generator.name);
        assert_eq!(task.examples.len(), 24);
        assert!(task.bos, "{}", generator.name);
        assert!(task.is_paired());
        for example in &task.examples {
            let corrupt = example.corrupt.as_ref().unwrap();
            assert_eq!(example.clean.len(), corrupt.len());
            assert_ne!(&example.clean, corrupt);
            assert_eq!(example.clean[0], 0);
            assert_eq!(example.end(), example.clean.len() - 1);
            assert!(!example.answers.is_empty() && !example.wrong.is_empty());
            assert!(example.answers.iter().all(|answer| !example.wrong.contains(answer)));
        }
        assert_eq!(task, made(generator.name, &Request { n: 24, ..Request::default() }), "seeded");
        assert_ne!(task, made(generator.name, &Request { n: 24, seed: 1, ..Request::default() }));
    }
}

#[test]
fn ioi_names_its_positions_in_both_orders() {
    let vocabulary = textbook();
    let task = made("ioi", &Request { n: 24, ..Request::default() });
    for example in &task.examples {
        let at = |name: &str| example.clean[example.pos[name]];
        assert_eq!(at("IO"), example.answers[0], "{}", words(&vocabulary, &example.clean));
        assert_eq!(at("S1"), example.wrong[0]);
        assert_eq!(at("S2"), example.wrong[0]);
        assert_eq!(vocabulary.token(at("end")), "to");
        assert_eq!(example.group.starts_with("ABBA"), example.pos["IO"] < example.pos["S1"]);
        let corrupt = example.corrupt.as_ref().unwrap();
        let changed: Vec<usize> = (0..corrupt.len()).filter(|&i| corrupt[i] != example.clean[i]).collect();
        assert_eq!(changed, [example.pos["S2"]]);
        assert_eq!(corrupt[changed[0]], example.answers[0]);
    }
    let abba = task.examples.iter().filter(|e| e.group.starts_with("ABBA")).count();
    assert_eq!(abba, 12);
}

#[test]
fn ioi_corruptions_change_what_they_say() {
    for (corruption, changes) in [(Corruption::Flip, 1), (Corruption::Random, 1), (Corruption::Abc, 3)] {
        let task = made("ioi", &Request { n: 12, corruption, ..Request::default() });
        for example in &task.examples {
            let corrupt = example.corrupt.as_ref().unwrap();
            assert_eq!(corrupt.iter().zip(&example.clean).filter(|(a, b)| a != b).count(), changes);
            let s2 = corrupt[example.pos["S2"]];
            assert_eq!(example.clean.contains(&s2), corruption == Corruption::Flip);
        }
    }
}

#[test]
fn induction_replaces_the_earlier_occurrence() {
    let task = made("induction", &Request::default());
    for example in &task.examples {
        let corrupt = example.corrupt.as_ref().unwrap();
        let (earlier, end) = (example.pos["earlier"], example.end());
        assert_eq!(example.clean[earlier], example.clean[end]);
        assert_eq!(example.clean[earlier + 1], example.answers[0]);
        assert_ne!(corrupt[earlier], corrupt[end]);
        let place = corrupt[..end].iter().position(|id| *id == corrupt[end]).unwrap();
        assert_eq!(corrupt[place + 1], example.wrong[0]);
    }
    assert_eq!(task.places().len(), task.examples[0].clean.len(), "one length: every position is a column");
}

#[test]
fn greater_than_divides_the_century() {
    let vocabulary = textbook();
    for example in &made("greater-than", &Request::default()).examples {
        let year = example.clean[example.pos["year"]];
        assert_eq!(example.answers.len() + example.wrong.len(), 99);
        assert!(example.wrong.contains(&year));
        let number = |id: u32| vocabulary.token(id).parse::<u32>().unwrap();
        assert!(example.answers.iter().all(|&id| number(id) > number(year)));
        assert!(example.wrong.iter().all(|&id| number(id) <= number(year)));
    }
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let refused = |name: &str, request: &Request, vocabulary: &Vocabulary| {
        generate(name, request, vocabulary).unwrap_err().to_string()
    };
    let plain = Request::default();
    assert!(refused("iou", &plain, &textbook()).contains("did you mean `ioi`"));
    assert!(refused("ioi", &Request { n: 0, ..plain.clone() }, &textbook()).contains("0 prompts"));
    let random = Request { corruption: Corruption::Random, ..plain.clone() };
    assert!(refused("facts", &random, &textbook()).contains("`facts` knows one way"));
    assert!(refused("ioi", &plain, &Vocabulary::default()).contains("no tokenizer"));
    assert!(refused("ioi", &Request { bos: Bos::Yes, ..plain }, &textbook()).contains("--bos no"));
}
