//! Others' data sets, told by their columns: each format by hand, in every kind of file it comes in.

use std::path::Path;

use candle_core::{DType, Device};
use glassbox::error::Result;
use glassbox::lab::Lab;
use glassbox::task::{Example, FORMATS, Task, complete, read_jsonl};
use glassbox::vocabulary::Bos;

/// A tiny model with GPT-2's kind of tokenizer.
fn tiny() -> Lab {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny/gpt2-bpe");
    Lab::open(path.to_str().unwrap(), DType::F32, &Device::Cpu).unwrap()
}

/// The bundled model, whose words are tokens; years are cut into two and two digits.
fn words() -> Lab {
    Lab::open("textbook", DType::F32, &Device::Cpu).unwrap()
}

fn read(lab: &Lab, content: &str) -> Result<Task> {
    read_jsonl("file", content, &lab.vocabulary, Bos::No)
}

/// The texts of the first example: clean, corrupt, answers, wrong.
fn first(lab: &Lab, task: &Task) -> [String; 4] {
    shown(lab, &task.examples[0])
}

fn shown(lab: &Lab, example: &Example) -> [String; 4] {
    let words = |ids: &[u32]| lab.vocabulary.text(ids).trim().to_owned();
    let corrupt = example.corrupt.as_deref().unwrap_or_default();
    [words(&example.clean), words(corrupt), words(&example.answers), words(&example.wrong)]
}

fn id(lab: &Lab, word: &str) -> u32 {
    lab.vocabulary.encode(word).unwrap()[0]
}

const CLEAN: &str = "When Mary and John went to the store , John gave a drink to";
const CORRUPT: &str = "When Mary and John went to the store , Mary gave a drink to";

fn says(task: &Task, what: &str) {
    assert!(task.notes.iter().any(|note| note.contains(what)), "{what:?} is not in {:?}", task.notes);
}

#[test]
fn eap_ig_files_hold_token_ids() {
    let lab = words();
    let (mary, john, anna) = (id(&lab, "Mary"), id(&lab, "John"), id(&lab, "Anna"));
    let csv = format!(
        ",clean,corrupted,corrupted_hard,correct_idx,incorrect_idx\n0,\"{CLEAN}\",\"{CORRUPT}\",\"{CLEAN}\",{mary},{john}\n"
    );
    let jsonl = format!(
        r#"{{"clean": "{CLEAN}", "corrupted": "{CORRUPT}", "correct_idx": {mary}, "incorrect_idx": {john}.0}}"#
    );
    for (content, kind) in [(csv, "CSV"), (jsonl, "JSON lines")] {
        let task = read(&lab, &content).unwrap();
        assert_eq!(first(&lab, &task), [CLEAN, CORRUPT, "Mary", "John"], "{kind}");
        says(
            &task,
            &format!("the format of EAP-IG ({kind}): clean, corrupted, correct_idx, incorrect_idx are read"),
        );
        says(&task, "the first prompt's answer is \"Mary\" and the wrong one \"John\"");
        assert_eq!(
            kind == "CSV",
            task.notes.iter().any(|note| note == "Nothing is taken from corrupted_hard.")
        );
    }
    for (right, wrong) in [
        ("clean_answer_idx", "corrupted_answer_idx"),
        ("country_idx", "corrupted_country_idx"),
        ("answers_idx", "corrupted_answers_idx"),
    ] {
        let csv = format!(
            "clean,{right},corrupted,{wrong},profession\n\"{CLEAN}\",{mary},\"{CORRUPT}\",\"[{john}, {anna}]\",nurse\n"
        );
        let task = read(&lab, &csv).unwrap();
        assert_eq!(
            (&task.examples[0].answers[..], &task.examples[0].wrong[..]),
            (&[mary][..], &[john, anna][..])
        );
    }
    let verbs = "clean,corrupted,plural\nthe dog,the dogs,0\n";
    assert!(read(&tiny(), verbs).unwrap_err().to_string().contains("two lists of verbs"));
    let odd = "clean,corrupted,correct_idx,incorrect_idx\nthe cat,the hat,Mary,1.5\n";
    assert!(read(&tiny(), odd).unwrap_err().to_string().contains("row 1: `correct_idx` holds \"Mary\""));
}

/// Ids of another tokenizer are noticed where they lie outside of this one.
#[test]
fn token_ids_are_held_to_the_vocabulary() {
    let lab = tiny();
    let csv = "clean,corrupted,correct_idx,incorrect_idx\nthe cat,the hat,5335,1757\n";
    let mut task = read(&lab, csv).unwrap();
    let error = complete(&lab, &mut task).unwrap_err().to_string();
    assert!(error.contains("the answer 5335 is outside the vocabulary of 320"), "{error}");
}

/// In greater-than data `correct_idx` is no token: it is the two digits after which the answers lie. The bundled vocabulary
/// writes years as two words.
#[test]
fn a_year_is_no_token_id() {
    let lab = words();
    let clean = "The war lasted from the year 17 32 to the year 17";
    let corrupt = "The war lasted from the year 17 01 to the year 17";
    for content in [
        format!("clean,corrupted,correct_idx\n{clean},{corrupt},32\n"),
        format!(r#"{{"clean": "{clean}", "corrupted": "{corrupt}", "year": "1732"}}"#),
    ] {
        check_years(&lab, &read(&lab, &content).unwrap());
    }
    // a token id where the prompt names no such year
    let other = format!(r#"{{"clean": "{clean}", "corrupted": "{corrupt}", "correct_idx": 45}}"#);
    assert_eq!(read(&lab, &other).unwrap().examples[0].answers, [45]);
    let one_word = "clean,corrupted,correct_idx\nfrom 1732 to 17,from 1701 to 17,32\n";
    let error = read(&tiny(), one_word).unwrap_err().to_string();
    assert!(error.contains("no single tokens of two digits"), "{error}");
}

fn check_years(lab: &Lab, task: &Task) {
    let example = &task.examples[0];
    let year = |y: usize| id(lab, &format!("{y:02}"));
    let found: Vec<u32> = (33..100).map(year).collect();
    assert_eq!(example.answers, found, "33 to 99");
    assert_eq!(example.wrong, (0..33).map(year).collect::<Vec<u32>>(), "00 to 32");
    says(task, "the format of EAP-IG");
}

#[test]
fn mib_records_hold_choices_and_counterfactuals() {
    let lab = words();
    let ioi = format!(
        r#"{{"prompt": "{CLEAN}", "template": "…", "choices": ["John", "Mary"], "answerKey": 1,
            "metadata": {{"subject": "John", "indirect_object": "Mary", "random_c": "Anna"}},
            "abc_counterfactual": {{"prompt": "never"}},
            "s2_io_flip_counterfactual": {{"prompt": "{CORRUPT}", "choices": ["John", "Mary"], "answerKey": 0}}}}"#
    )
    .replace('\n', " ");
    let listed = format!(
        r#"[{{"prompt": "{CLEAN}", "choices": ["John", "Mary"], "correct_index": 1,
            "counterfactuals": [{{"prompt": "{CORRUPT}", "choices": ["John", "Mary"], "correct_index": 0}}]}}]"#
    );
    for content in [ioi, listed] {
        let task = read(&lab, &content).unwrap();
        assert_eq!(first(&lab, &task), [CLEAN, CORRUPT, "Mary", "John"]);
        says(&task, "the format of MIB");
    }
    let tiny = tiny();
    let letters = r#"{"prompt": "the cat", "choices": {"label": ["a", "b"], "text": ["x", "y"]}, "answerKey": 1,
        "symbol_counterfactual": {"prompt": "the hat", "choices": {"label": ["c", "d"]}, "answerKey": "c"}}"#;
    assert_eq!(first(&tiny, &read(&tiny, letters).unwrap()), ["the cat", "the hat", "b", "c"]);
    let sums = r#"{"prompt": "the cat", "label": 7, "operator": "+", "random_counterfactual": {"prompt": "the hat", "label": "8"}}"#;
    assert_eq!(first(&tiny, &read(&tiny, sums).unwrap()), ["the cat", "the hat", "7", "8"]);
}

#[test]
fn auto_circuit_files_are_one_object() {
    let lab = tiny();
    let content = r#"{"seq_labels": ["x", "y"], "prompts": [
        {"clean": "the cat", "corrupt": "the hat", "answers": [" a"], "wrong_answers": [" the"]},
        {"clean": [1, 2], "corrupt": [1, 3], "answers": [4], "wrong_answers": [5, 6]}]}"#;
    let task = read(&lab, content).unwrap();
    assert_eq!(first(&lab, &task), ["the cat", "the hat", "a", "the"]);
    assert_eq!(task.examples[1].wrong, [5, 6]);
    let more = r#"{"clean": "the cat", "corrupt": "the hat", "answers": " a", "wrong_answers": " the", "pos": {"S": 0}, "id": "x"}"#;
    let task = read(&lab, more).unwrap();
    assert_eq!((task.examples[0].id.as_str(), task.examples[0].pos["S"]), ("x", 0), "our own fields stay");
    let task = read(&lab, content).unwrap();
    says(&task, "the format of auto-circuit (a JSON object with `prompts`)");
}

#[test]
fn feature_circuits_leave_out_what_does_not_align_and_so_does_this() {
    let lab = tiny();
    let line = |clean: &str, patch: &str, answer: &str| {
        format!(
            r#"{{"clean_prefix": "{clean}", "patch_prefix": "{patch}", "clean_answer": "{answer}", "patch_answer": " the", "case": "plural_singular"}}"#
        )
    };
    let lines =
        [line("the cat", "the hat", " a"), line("the cat", "the", " a"), line("the cat", "the hat", "zebra")];
    let task = read(&lab, &lines.join("\n")).unwrap();
    assert_eq!(
        (task.examples.len(), first(&lab, &task)),
        (1, ["the cat", "the hat", "a", "the"].map(str::to_owned))
    );
    says(
        &task,
        "of 3 prompts 1 differ in length from their partner and 1 have an answer that is no single token",
    );
    let error = read(&lab, &lines[1..].join("\n")).unwrap_err().to_string();
    assert!(error.contains("no prompt that can be read: of 2 prompts 1 differ"), "{error}");
}

#[test]
fn transformer_lens_has_lists_side_by_side_and_pairs_of_answers() {
    let lab = tiny();
    for (clean, corrupt) in [("clean_prompts", "corrupted_prompts"), ("prompts", "corrupted")] {
        let content = format!(
            r#"{{"{clean}": ["the cat", "the hat"], "{corrupt}": ["the hat", "the cat"], "answers": [[" a", " the"], [" the", " a"]]}}"#
        );
        let task = read(&lab, &content).unwrap();
        assert_eq!(first(&lab, &task), ["the cat", "the hat", "a", "the"]);
        assert_eq!(shown(&lab, &task.examples[1]), ["the hat", "the cat", "the", "a"]);
        says(&task, "the format of TransformerLens (JSON lists side by side)");
    }
    let uneven = r#"{"clean_prompts": ["the cat"], "answers": [[" a", " the"], [" a", " the"]]}"#;
    assert!(read(&lab, uneven).unwrap_err().to_string().contains("`answers` has 2 entries for 1 prompts"));
    let three = r#"{"prompts": ["the cat"], "answers": [[" a", " the", " b"]]}"#;
    assert!(read(&lab, three).unwrap_err().to_string().contains("holds 3 answers"));

    let lab = words();
    let sentence = format!(r#"[{{"text": "{CLEAN} Mary", "IO": "Mary", "S": "John", "TEMPLATE_IDX": 4}}]"#);
    let task = read(&lab, &sentence).unwrap();
    assert_eq!(first(&lab, &task), [CLEAN, "", "Mary", "John"]);
    assert_eq!(task.examples[0].group, "4");
    says(&task, "the format of IOIDataset (a JSON list)");
    let other = sentence.replace("to Mary", "to Anna");
    assert!(read(&lab, &other).unwrap_err().to_string().contains("does not end in `IO`"));
}

#[test]
fn our_own_fields_come_in_lists_and_csv_too() {
    let lab = tiny();
    let list =
        r#"[{"clean": "the cat", "corrupt": "the hat", "answers": [" a"], "wrong": " the", "group": "g"}]"#;
    let csv = "clean,corrupt,answers,wrong,group\nthe cat,the hat, a, the,g\n";
    let pretty = "{\n  \"clean\": \"the cat\",\n  \"corrupt\": \"the hat\",\n  \"answers\": \" a\",\n  \"wrong\": \" the\", \"group\": \"g\"\n}";
    for content in [list, csv, pretty] {
        let task = read(&lab, content).unwrap();
        assert_eq!(
            (first(&lab, &task), task.examples[0].group.as_str()),
            (["the cat", "the hat", "a", "the"].map(str::to_owned), "g")
        );
        assert!(!task.notes.iter().any(|note| note.contains("in the format of")), "{:?}", task.notes);
    }
    let ids = read(&lab, r#"{"clean": [1, 2], "answers": [3]}"#).unwrap();
    assert_eq!(ids.examples[0].clean, [1, 2], "a list of numbers is one prompt, not several");
    // quotes, commas, line breaks, an empty cell, a missing last line break
    let csv = "clean,answers,label\r\n\"the, \"\"cat\"\"\nand\", a,\n\nthe, the,x";
    let task = read(&lab, csv).unwrap();
    let text = |i: usize| lab.vocabulary.text(&task.examples[i].clean);
    assert_eq!(
        (task.examples.len(), text(0), text(1)),
        (2, "the, \"cat\"\nand".to_owned(), "the".to_owned())
    );
    assert!(task.examples[0].labels.is_empty() && task.examples[1].labels["label"] == "x");
}

#[test]
fn what_fits_no_format_or_two_is_refused_in_a_sentence() {
    let lab = tiny();
    let eap = r#"{"clean": "the cat", "corrupted": "the hat", "correct_idx": 5, "incorrect_idx": 6}"#;
    let feature = r#"{"clean_prefix": "the cat", "patch_prefix": "the hat", "clean_answer": " a", "patch_answer": " the"}"#;
    for (content, part) in [
        (format!("{eap}\n{feature}"), "line 2: it has the columns clean_prefix, patch_prefix"),
        (format!("{eap}\n{feature}"), "unlike the first prompt, which is of EAP-IG"),
        ("[{\"clean\": \"the\"}, 3]".to_owned(), "prompt 2: it is not a JSON object but a number"),
        ("[{\"clean\": \"the\"".to_owned(), "begins like a JSON list and is none"),
        ("clean,answers\nthe cat\n".to_owned(), "row 1: it has 1 fields where the header has 2"),
        ("clean,clean\nthe,the\n".to_owned(), "the column `clean` is there twice"),
        ("clean,sentiment\nthe,good\n".to_owned(), "field `sentiment` is unknown"),
        ("clean,sentiment\nthe,good\n".to_owned(), "EAP-IG, MIB, IOIDataset"),
        ("clean,answers\n".to_owned(), "holds no prompts"),
        ("{\"clean\": [\"the\"], \"answers\": 3}".to_owned(), "stand side by side"),
    ] {
        let said = read(&lab, &content).unwrap_err().to_string();
        assert!(said.contains(part) && said.contains("hint: "), "{content}: {said}");
    }
    assert_eq!(FORMATS.len(), 6);
}
