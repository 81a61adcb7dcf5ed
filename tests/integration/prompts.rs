//! Prompts from JSON lines and from flags: what is read, and what is refused with which words.

use std::path::Path;

use candle_core::{DType, Device};
use glassbox::error::Result;
use glassbox::lab::Lab;
use glassbox::task::{Prompt, Task, complete, read_jsonl};
use glassbox::vocabulary::Bos;

/// A tiny model with GPT-2's kind of tokenizer: 320 tokens, `<|endoftext|>` (319) as BOS, not added by itself.
fn lab() -> Lab {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny/gpt2-bpe");
    Lab::open(path.to_str().unwrap(), DType::F32, &Device::Cpu).unwrap()
}

fn read(content: &str, bos: Bos) -> Result<Task> {
    read_jsonl("file", content, &lab().vocabulary, bos)
}

fn refused(content: &str) -> String {
    read(content, Bos::Auto).unwrap_err().to_string()
}

#[test]
fn native_fields_are_read_and_positions_move_with_bos() {
    let line = r#"{"id": "x", "clean": "the cat and", "corrupt": "the hat and", "answers": [" a"], "wrong": " the",
        "pos": {"first": 0, "end": -1, "before": -2}, "group": "G", "subject": "s", "label": 1, "split": "test",
        "meta": {"any": ["thing"]}}"#
        .replace('\n', " ");
    let vocabulary = lab().vocabulary;
    for (bos, shift) in [(Bos::Auto, 0), (Bos::No, 0), (Bos::Yes, 1)] {
        let task = read(&line, bos).unwrap();
        let example = &task.examples[0];
        let words = vocabulary.encode("the cat and").unwrap();
        assert_eq!(example.clean[shift..], words);
        assert_eq!(example.clean.len(), words.len() + shift);
        assert_eq!(example.pos["first"], shift);
        assert_eq!(example.pos["end"], example.clean.len() - 1);
        assert_eq!(example.pos["before"], example.clean.len() - 2);
        assert_eq!(example.answers, vocabulary.encode(" a").unwrap());
        assert_eq!(example.wrong, vocabulary.encode(" the").unwrap());
        assert_eq!((example.id.as_str(), example.group.as_str(), task.bos), ("x", "G", shift == 1));
        assert!(task.notes[0].starts_with("BOS:"), "{:?}", task.notes);
    }
}

#[test]
fn the_names_of_other_data_sets_are_understood() {
    let lines = [
        r#"{"clean": "the cat", "corrupted": "the hat", "correct_idx": 5, "incorrect_idx": 6}"#,
        r#"{"clean_prefix": "the cat", "patch_prefix": "the hat", "clean_answer": " a", "patch_answer": " the", "case": "x"}"#,
        r#"{"prompt": "the cat", "counterfactual": "the hat", "answer": 5, "foil": 6}"#,
        r#"{"text": [1, 2, 3], "corrupt": [1, 4, 3], "correct": [5, 6], "wrong_answers": [7]}"#,
        r#"{"clean": "the cat", "target": " a", "incorrect": [" the"]}"#,
    ];
    for line in lines {
        let task = read(line, Bos::Auto).unwrap();
        let example = &task.examples[0];
        assert!(!example.answers.is_empty() && !example.wrong.is_empty(), "{line}");
        assert_eq!(example.corrupt.is_some(), !line.contains("target"), "{line}");
    }
    assert!(read(lines[4], Bos::Auto).unwrap().notes[1].contains("`target` is read as the answer"));
    assert_eq!(read(lines[3], Bos::Yes).unwrap().examples[0].clean, [1, 2, 3], "no BOS before token ids");
}

#[test]
fn examples_are_grouped_by_length_unless_they_say_otherwise() {
    let groups = |content: &str| -> Vec<String> {
        read(content, Bos::Auto).unwrap().examples.into_iter().map(|e| e.group).collect()
    };
    assert_eq!(groups("{\"clean\": [1, 2]}\n\n{\"clean\": [3, 4]}\n"), ["all", "all"]);
    assert_eq!(groups("{\"clean\": [1, 2]}\n{\"clean\": [3]}"), ["2 tokens", "1 tokens"]);
    assert_eq!(groups("{\"clean\": [1, 2], \"group\": \"A\"}\n{\"clean\": [3]}"), ["A", "1 tokens"]);
}

#[test]
fn every_bad_line_is_named_with_its_fault() {
    let said = refused("{\"clean\": \"the\"}\n{\"corrupt\": \"the\"}\n\n{\"clean\": \"\"}\nnothing");
    for part in
        ["line 2: field `clean` is missing", "line 4: the prompt is empty", "line 5: it is not a JSON object"]
    {
        assert!(said.contains(part), "{said}");
    }
    for (line, part) in [
        (r#"{"clean": "the", "answr": " a"}"#, "field `answr` is unknown"),
        (r#"{"clean": "the", "answr": " a"}"#, "answers, answer, correct"),
        (r#"{"clean": "the", "prompt": "the"}"#, "`clean` and `prompt` both mean"),
        (r#"{"clean": "the cat", "corrupt": "the"}"#, "the corrupt one 2"),
        (r#"{"clean": "the cat", "corrupt": "the"}"#, "corrupt \"t\" ("),
        (r#"{"clean": "the", "corrupt": [1]}"#, "one prompt is a text"),
        (r#"{"clean": "the", "answers": [" a"], "wrong": [" a"]}"#, "both an answer and a wrong answer"),
        (r#"{"clean": "the", "answers": ["zebra"]}"#, "tokens: \"z\" ("),
        (r#"{"clean": "the", "answers": [1.5]}"#, "neither a text nor a token id"),
        (r#"{"clean": "the", "answers": [""]}"#, "an answer is empty"),
        (r#"{"clean": [1, 2], "pos": {"S": 2}}"#, "position `S` is 2, but the prompt has 2 tokens"),
        (r#"{"clean": [1, 2], "pos": {"S": -3}}"#, "position `S` is -3"),
        (r#"{"clean": [1, 2], "pos": {"S": "x"}}"#, "position `S` is \"x\""),
        (r#"{"clean": [-1]}"#, "list of token ids"),
        (r#"{"clean": []}"#, "`clean` is empty"),
        ("", "holds no prompts"),
        ("{\"clean\": [1], \"id\": \"a\"}\n{\"clean\": [2], \"id\": \"a\"}", "`a` is given twice"),
    ] {
        let said = refused(line);
        assert!(said.contains(part), "{line}: {said}");
    }
}

#[test]
fn a_missing_leading_space_is_a_note() {
    let task = read("{\"clean\": \"the cat\", \"answers\": [\"a\"]}", Bos::Auto).unwrap();
    assert!(task.notes.iter().any(|note| note.contains("with a leading space")), "{:?}", task.notes);
}

#[test]
fn a_single_prompt_is_completed_by_the_model() {
    let lab = lab();
    let prompt = Prompt { text: Some("the cat and".into()), ..Prompt::default() };
    let task = prompt.task(&lab).unwrap();
    let example = &task.examples[0];
    let logits: Vec<Vec<f32>> =
        task.logits(&lab, &[0], glassbox::task::Side::Clean).unwrap().to_vec2().unwrap();
    let above = |id: u32| logits[0].iter().filter(|x| **x > logits[0][id as usize]).count();
    assert_eq!((above(example.answers[0]), above(example.wrong[0])), (0, 1));
    let notes = task.notes.join("\n");
    assert!(
        notes.contains("answer = the model's first choice") && notes.contains("wrong = the runner-up"),
        "{notes}"
    );

    let asked = Prompt { answers: vec![" a".into()], ..prompt.clone() };
    let task = asked.task(&lab).unwrap();
    assert_eq!(task.examples[0].answers, lab.vocabulary.encode(" a").unwrap());
    assert_ne!(task.examples[0].wrong, task.examples[0].answers);

    let mut many = read("{\"clean\": [1, 2]}\n{\"clean\": [3], \"answers\": 4}", Bos::Auto).unwrap();
    complete(&lab, &mut many).unwrap();
    assert!(many.examples.iter().all(|e| e.answers.len() == 1 && e.wrong.len() == 1));
    assert_eq!(many.examples[1].answers, [4]);
    assert!(many.notes.iter().any(|note| note.contains("for 2 prompts")), "{:?}", many.notes);
}

#[test]
fn prompts_that_make_no_sense_are_refused() {
    let lab = lab();
    let text = |text: &str| Some(text.to_owned());
    let the = Prompt { text: text("the cat"), ..Prompt::default() };
    let ids = Prompt { tokens: Some(vec![1, 2]), ..Prompt::default() };
    for (prompt, part) in [
        (Prompt::default(), "there is no prompt"),
        (Prompt { text: text(""), ..Prompt::default() }, "the prompt is empty"),
        (Prompt { tokens: Some(vec![]), ..Prompt::default() }, "the prompt is empty"),
        (Prompt { tokens: Some(vec![1]), ..the.clone() }, "given twice"),
        (Prompt { corrupt_tokens: Some(vec![1]), ..the.clone() }, "one prompt is a text"),
        (Prompt { corrupt: text("the"), ..the.clone() }, "the corrupt one 2"),
        (Prompt { answers: vec![String::new()], ..the.clone() }, "an answer is empty"),
        (
            Prompt { answers: vec![" a".into()], wrong: vec![" a".into()], ..the.clone() },
            "both an answer and a wrong",
        ),
        (Prompt { tokens: Some(vec![999]), ..Prompt::default() }, "outside the vocabulary of 320"),
        (Prompt { answer_ids: vec![999], ..ids.clone() }, "outside the vocabulary of 320"),
        (Prompt { tokens: Some(vec![1; 65]), ..Prompt::default() }, "the model's context is 64"),
    ] {
        let said = prompt.task(&lab).map(|_| ()).unwrap_err().to_string();
        assert!(said.contains(part), "{prompt:?}: {said}");
    }
    assert_eq!(ids.task(&lab).unwrap().examples[0].clean, [1, 2]);
    let with_bos = Prompt { bos: Bos::Yes, ..the }.task(&lab).unwrap();
    assert_eq!((with_bos.examples[0].clean[0], with_bos.bos), (319, true));
}

#[test]
fn an_answer_spelt_twice_counts_once() {
    let lab = Lab::open("textbook", candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let line =
        r#"{"clean": "the capital of France is", "answers": ["Paris", " Paris"], "wrong": ["Rome", "Rome"]}"#;
    let task = read_jsonl("pairs", line, &lab.vocabulary, Bos::Auto).unwrap();
    assert_eq!((task.examples[0].answers.len(), task.examples[0].wrong.len()), (1, 1));
    let mut twice = task.clone();
    twice.examples[0].answers.push(task.examples[0].answers[0]);
    assert!(twice.check().unwrap_err().to_string().contains("twice"));
}
