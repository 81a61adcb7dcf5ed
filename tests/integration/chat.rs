//! Prompts in chat templates: the text and the tokens that Hugging Face's `apply_chat_template` makes of them.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use glassbox::lab::Lab;
use glassbox::task::{read_jsonl, read_prompt, read_prompt_aloud};
use glassbox::vocabulary::chat::Template;
use glassbox::vocabulary::{Bos, Vocabulary};
use proptest::collection::vec;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::command::Bench;
use crate::hostile::{hold, is_a_sentence};
use crate::loading::Copy;
use crate::pickles::{harm, harmed};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chats").join(name)
}

/// A tiny model with the tokenizer of the chats and one of their templates.
fn model(name: &str) -> Copy {
    let copy = Copy::of("gpt2-bpe");
    for file in ["vocab.json", "merges.txt"] {
        fs::remove_file(copy.path(file)).unwrap();
    }
    fs::copy(fixture("tokenizer.json"), copy.path("tokenizer.json")).unwrap();
    fs::copy(fixture(&format!("{name}.json")), copy.path("tokenizer_config.json")).unwrap();
    copy
}

fn vocabulary(copy: &Copy) -> Vocabulary {
    Lab::open(copy.folder().to_str().unwrap(), DType::F32, &Device::Cpu).unwrap().vocabulary
}

fn chatting(name: &str, system: Option<&str>) -> glassbox::Result<Vocabulary> {
    vocabulary(&model(name)).chatting(system.map(str::to_owned))
}

#[test]
fn prompts_are_what_hugging_face_makes_of_them() {
    let cases: Vec<Value> = serde_json::from_slice(&fs::read(fixture("expected.json")).unwrap()).unwrap();
    assert_eq!(cases.len(), 50);
    for case in &cases {
        let (name, prompt) = (case["name"].as_str().unwrap(), case["prompt"].as_str().unwrap());
        let vocabulary = match (chatting(name, case["system"].as_str()), case["refusal"].as_str()) {
            (Ok(vocabulary), None) => vocabulary,
            (Err(error), Some(refusal)) => {
                assert!(error.to_string().contains(refusal), "{name}: {error}");
                continue;
            }
            (Ok(_), Some(_)) => panic!("{name} took {prompt:?}"),
            (Err(error), None) => panic!("{name}: {error}"),
        };
        assert_eq!(vocabulary.dressed(prompt).unwrap(), case["text"].as_str().unwrap(), "{name} {prompt:?}");
        let ids: Vec<u64> = case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        let ours = read_prompt(prompt, &vocabulary, Bos::Auto).unwrap();
        assert_eq!(ours.iter().map(|&id| u64::from(id)).collect::<Vec<_>>(), ids, "{name} {prompt:?}");
    }
}

/// The template is no different in a file of its own, or in a list of several.
#[test]
fn a_template_stands_in_one_of_three_places() {
    let copy = model("mistral");
    let expected = vocabulary(&copy).chatting(None).unwrap().dressed("Hello").unwrap().into_owned();
    let mut source = String::new();
    copy.json("tokenizer_config.json", |config| {
        source = config["chat_template"].as_str().unwrap().to_owned();
    });
    copy.json("tokenizer_config.json", |config| {
        config["chat_template"] =
            json!([{"name": "tool_use", "template": "tools"}, {"name": "default", "template": source}]);
    });
    assert_eq!(vocabulary(&copy).chatting(None).unwrap().dressed("Hello").unwrap(), expected);
    copy.json("tokenizer_config.json", |config| config["chat_template"] = "{{ 1 }}".into());
    fs::write(copy.path("chat_template.jinja"), &source).unwrap();
    let from_file = vocabulary(&copy).chatting(None).unwrap();
    assert_eq!(from_file.dressed("Hello").unwrap(), expected);
    assert_eq!(from_file.chat().unwrap().0.origin(), "chat_template.jinja");
}

#[test]
fn a_model_without_a_template_says_so() {
    let copy = model("mistral");
    copy.json("tokenizer_config.json", |config| {
        drop(config.as_object_mut().unwrap().remove("chat_template"));
    });
    let error = vocabulary(&copy).chatting(None).unwrap_err().to_string();
    assert!(error.contains("no chat template") && error.contains("leave `--chat` out"), "{error}");
}

/// BOS comes once, whoever puts it: the template, the rule, the text itself.
#[test]
fn bos_comes_once() {
    let count = |vocabulary: &Vocabulary, text: &str, rule| {
        let ids = read_prompt(text, vocabulary, rule).unwrap();
        (ids.iter().filter(|&&id| id == 303).count(), ids.first() == Some(&303))
    };
    let mistral = chatting("mistral", None).unwrap();
    assert_eq!(count(&mistral, "Hello", Bos::Auto), (1, true));
    assert_eq!(count(&mistral, "Hello", Bos::Yes), (1, true));
    assert_eq!(count(&mistral, "Hello", Bos::No), (0, false));
    let plain = vocabulary(&model("mistral"));
    assert_eq!(count(&plain, "Hello", Bos::Auto), (0, false));
    assert_eq!(count(&plain, "<s>Hello", Bos::Yes), (1, true));
    let (_, notes) = read_prompt_aloud("<s>Hello", &plain, Bos::Yes).unwrap();
    assert!(notes.iter().any(|note| note.contains("spells out \"<s>\" itself")), "{notes:?}");
    let (_, notes) = read_prompt_aloud("Hello", &mistral, Bos::Auto).unwrap();
    assert!(
        notes[0].contains("begins with \"<s>\" (303)") && notes[0].contains("the chat template says so"),
        "{notes:?}"
    );
    assert!(notes[1].starts_with("Chat: every prompt is a user's message"), "{notes:?}");
    // a model whose template has none, and one whose tokenizer_config.json decides
    let chatml = chatting("chatml", None).unwrap();
    assert_eq!(chatml.bos(Bos::Auto).unwrap(), None);
    let copy = model("mistral");
    for (says, expected) in [(true, Some(303)), (false, None)] {
        copy.json("tokenizer_config.json", |config| config["add_bos_token"] = says.into());
        assert_eq!(vocabulary(&copy).bos(Bos::Auto).unwrap(), expected);
    }
    copy.json("tokenizer_config.json", |config| drop(config.as_object_mut().unwrap().remove("bos_token")));
    fs::write(copy.path("special_tokens_map.json"), json!({"bos_token": {"content": "<bos>"}}).to_string())
        .unwrap();
    assert_eq!(vocabulary(&copy).bos(Bos::Yes).unwrap(), Some(311));
}

/// What the tokenizer would put behind a text is left out, and said.
#[test]
fn an_end_that_the_tokenizer_adds_is_left_out() {
    let copy = model("mistral");
    copy.json("tokenizer.json", |tokenizer| {
        tokenizer["post_processor"] = json!({"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [303], "tokens": ["<s>"]},
                               "</s>": {"id": "</s>", "ids": [304], "tokens": ["</s>"]}}});
    });
    let (ids, notes) = read_prompt_aloud("Hello", &vocabulary(&copy), Bos::Auto).unwrap();
    assert_eq!(ids.first(), Some(&303));
    assert!(!ids.contains(&304) && notes[1].contains("\"</s>\" (304) behind a text"), "{notes:?}");
}

#[test]
fn files_of_prompts_are_chats_too() {
    let mistral = chatting("mistral", Some("Be kind.")).unwrap();
    let read = |line: Value| read_jsonl("drawn.jsonl", &line.to_string(), &mistral, Bos::Auto);
    let task = read(json!({"clean": "Hello", "corrupt": "Holle", "answers": ["a"]})).unwrap();
    let text = mistral.text(&task.examples[0].clean);
    assert_eq!(text, "<s>[INST]Be kind.\n\nHello[/INST]");
    assert!(task.bos && task.examples[0].end() == task.examples[0].clean.len() - 1);
    for line in [json!({"clean": [1, 2]}), json!({"clean": "Hello", "pos": {"S": 1}})] {
        assert!(read(line).unwrap_err().to_string().contains("without a chat template"));
    }
}

#[test]
fn a_tokenizer_of_another_kind_is_asked_for_only_when_text_is() {
    let copy = Copy::of("gpt2-bpe");
    for file in ["vocab.json", "merges.txt"] {
        fs::remove_file(copy.path(file)).unwrap();
    }
    for (file, kind) in [
        ("tokenizer.model", "SentencePiece"),
        ("spiece.model", "SentencePiece"),
        ("tekken.json", "Tekken"),
        ("qwen.tiktoken", "tiktoken"),
        ("vocab.txt", "WordPiece"),
    ] {
        fs::write(copy.path(file), "").unwrap();
        let vocabulary = vocabulary(&copy);
        let error = vocabulary.encode("Hello").unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(kind), "{error}");
        assert!(error.contains("AutoTokenizer.from_pretrained(") && error.contains("--tokens"), "{error}");
        assert!(vocabulary.chatting(None).is_err());
        fs::remove_file(copy.path(file)).unwrap();
    }
}

/// A template is a program that somebody else wrote: harmed anywhere, it comes to a text or a sentence.
#[test]
fn any_template_is_rendered_or_refused() {
    let sources: Vec<Vec<u8>> = ["llama3", "chatml", "gemma", "mistral", "thinking"]
        .iter()
        .map(|name| {
            let config: Value =
                serde_json::from_slice(&fs::read(fixture(&format!("{name}.json"))).unwrap()).unwrap();
            config["chat_template"].as_str().unwrap().as_bytes().to_vec()
        })
        .collect();
    hold(512, (select(sources), vec(harm(), 1..4)), |(source, harms)| {
        let source = String::from_utf8_lossy(&harmed(source, &harms)).into_owned();
        if let Err(error) = Template::new(source, "drawn", Default::default()).render(Some("s"), "Hello") {
            is_a_sentence(&error);
        }
    });
}

/// The program: a chat runs through every command that takes prompts, is said, and is written down in the study.
#[test]
fn the_program_chats() {
    let (bench, copy) = (Bench::new(), model("mistral"));
    let folder = copy.folder().to_str().unwrap();
    let said = |arguments: &[&str]| {
        let output = bench.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    };
    let chat = ["--model", folder, "--prompt", "Hello", "--chat", "--system", "Be kind."];
    for command in [&["predict"][..], &["lens"], &["generate", "--max-tokens", "2"]] {
        let said = said(&[command, &chat].concat());
        assert!(
            said.contains("the chat template says so") && said.contains("\"Be kind.\""),
            "{command:?}: {said}"
        );
    }
    said(&[&["predict", "--out", "run"][..], &chat].concat());
    let study = fs::read_to_string(bench.path("run/study.toml")).unwrap();
    assert!(study.contains("chat = true") && study.contains("system = \"Be kind.\""), "{study}");
    for (wrong, word) in [
        (&["predict", "--chat"][..], "needs prompts that are texts"),
        (&["predict", "--chat", "--task", "ioi"], "cannot be used with"),
        (&["generate", "--chat", "--tokens", "1,2"], "cannot be used with"),
        (&["predict", "--prompt", "Hello", "--system", "x"], "--chat"),
    ] {
        let said = bench.refused(2, &[wrong, &["--model", folder]].concat());
        assert!(said.contains(word), "{wrong:?}: {said}");
    }
    let said = bench.refused(1, &["predict", "--prompt", "Mary", "--chat"]);
    assert!(said.contains("no chat template"), "{said}");
}
