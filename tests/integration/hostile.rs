//! Properties: whatever a file says, glassbox answers with a value or a sentence; whatever a token holds, it is inert in
//! every format. Inputs are drawn by proptest from a fixed seed: the same in every run.

use std::fs;

use glassbox::Error;
use glassbox::figure::{self, View};
use glassbox::lab::Lab;
use glassbox::report::page::{Block, Figure, Inline, Page, Section, Table, Token, TokenLine, Tokens};
use glassbox::report::{html, markdown};
use glassbox::row::{Column, Rows};
use glassbox::study::Study;
use glassbox::table::{self, Format, Terminal, formula};
use glassbox::task::{read_gains, read_jsonl};
use glassbox::vocabulary::Bos;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::command::{Bench, PROMPT};
use crate::loading::{Copy, open, tiny};
use crate::page::{only_our_markdown, only_our_markup};

/// Holds `property` for this many drawn inputs.
pub fn hold<S: Strategy>(cases: u32, inputs: S, property: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&inputs, |input| {
        property(input);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// A refusal is a sentence with a way out, and names an exit code for input or usage.
pub fn is_a_sentence(error: &Error) {
    let text = error.to_string();
    assert!(text.contains("\n  hint: ") && text.len() > 30, "no way out: {text}");
    assert!(matches!(error.exit_code(), 1 | 2) && !matches!(error, Error::Tensor(_)), "{text}");
}

/// Texts that have broken other tools, and any other.
fn text() -> impl Strategy<Value = String> {
    let known = [
        "",
        "'",
        "''",
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n",
        "'=1",
        "\u{ff1d}1",
        "\"",
        ",",
        "\r\n",
        "\u{0}",
        "\u{1b}[2J",
        "\u{9b}31m",
        "\u{202e}x",
        "\u{2028}",
        "\u{fffe}",
        "\u{ffff}",
        "\u{e0041}",
        "</script>",
        "<img src=x>",
        "]]>",
        "<!--",
        "&lt;",
        "`",
        "``|``",
        "[x](javascript:a)",
        "{}",
        "$x$",
        "\\",
        "null",
        "NaN",
        "inf",
        "12",
        " ",
        "the",
        "Mary",
        "\u{301}",
        "שלום",
        "🙂",
        "<|endoftext|>",
    ];
    prop_oneof![
        select(known.to_vec()).prop_map(str::to_owned),
        vec(select(known.to_vec()), 1..4).prop_map(|parts| parts.concat()),
        vec(any::<char>(), 0..6).prop_map(String::from_iter),
    ]
}

/// Any JSON, small, with numbers at the ends of their ranges.
pub fn any_json() -> impl Strategy<Value = Value> {
    let edges = [0, 1, 2, 3, 7, 1 << 31, 1 << 32, 1 << 53, i64::MAX, -1, i64::MIN];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        select(edges.to_vec()).prop_map(Value::from),
        Just(Value::from(u64::MAX)),
        select(vec![0.5, -0.0, 1e308, 1e-308, -1.5, 3.0]).prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(text(), inner, 0..3).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// One change to a JSON value: where, which, and what comes there.
#[derive(Debug, Clone)]
pub struct Change {
    path: Vec<Index>,
    kind: u8,
    name: String,
    value: Value,
}

pub fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (vec(any::<Index>(), 1..4), 0u8..6, text(), any_json());
    vec(change.prop_map(|(path, kind, name, value)| Change { path, kind, name, value }), 1..3)
}

/// The value with something in it replaced, removed, added or said twice.
pub fn changed(mut whole: Value, changes: &[Change]) -> Value {
    for change in changes {
        let (last, above) = change.path.split_last().unwrap();
        let mut at = &mut whole;
        for step in above {
            let deeper = match &*at {
                Value::Array(list) => list.iter().any(|v| v.is_array() || v.is_object()),
                Value::Object(map) => map.values().any(|v| v.is_array() || v.is_object()),
                _ => false,
            };
            if !deeper {
                break;
            }
            let nested = |v: &&mut Value| v.is_array() || v.is_object();
            let inside: Vec<&mut Value> = match at {
                Value::Array(list) => list.iter_mut().filter(nested).collect(),
                Value::Object(map) => map.values_mut().filter(nested).collect(),
                _ => Vec::new(),
            };
            let which = step.index(inside.len());
            at = inside.into_iter().nth(which).unwrap();
        }
        match at {
            Value::Array(list) if !list.is_empty() => {
                let i = last.index(list.len());
                match change.kind {
                    0 => drop(list.remove(i)),
                    1 => list.push(list[i].clone()),
                    2 => list.insert(i, change.value.clone()),
                    _ => list[i] = change.value.clone(),
                }
            }
            Value::Object(map) if !map.is_empty() => {
                let key = map.keys().nth(last.index(map.len())).unwrap().clone();
                match change.kind {
                    0 => drop(map.remove(&key)),
                    1 => drop(map.insert(change.name.clone(), change.value.clone())),
                    _ => drop(map.insert(key, change.value.clone())),
                }
            }
            other => *other = change.value.clone(),
        }
    }
    whole
}

pub fn read_json(path: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Opens a model and, if it opens, asks it something.
fn opened(folder: &std::path::Path) {
    match open(folder) {
        Err(error) => is_a_sentence(&error),
        Ok(lab) => {
            let tokens = lab.model.tokens(&[&[1, 2, 3]]).unwrap();
            if let Err(error) = lab.model.forward(&tokens, &mut ()) {
                is_a_sentence(&error);
            }
        }
    }
}

#[test]
fn any_config_is_read_or_refused() {
    for name in ["gpt2", "llama"] {
        let copy = Copy::of(name);
        let config = read_json(&copy.path("config.json"));
        hold(192, changes(), |changes| {
            fs::write(copy.path("config.json"), changed(config.clone(), &changes).to_string()).unwrap();
            opened(copy.folder());
        });
    }
}

/// The header of a weight file may lie about its own length, about shapes and about places; no more is ever read than the file
/// has.
#[test]
fn any_weight_header_is_read_or_refused() {
    let copy = Copy::of("gpt2");
    let whole = fs::read(copy.path("model.safetensors")).unwrap();
    let end = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&whole[8..end]).unwrap();
    let huge = [0, 1, 1 << 20, 1 << 32, 1 << 63, u64::MAX];
    let lie =
        prop_oneof![
            changes().prop_map(|changes| (None, changes, None)),
            (any::<Index>(), vec(select(huge.to_vec()), 0..4)).prop_map(|(i, s)| (
                None,
                Vec::new(),
                Some((i, "shape", s))
            )),
            (any::<Index>(), vec(select(huge.to_vec()), 2..3)).prop_map(|(i, s)| (
                None,
                Vec::new(),
                Some((i, "data_offsets", s))
            )),
            (prop_oneof![select(huge.to_vec()), Just(end as u64 - 7), Just(end as u64 - 9)])
                .prop_map(|length| (Some(length), Vec::new(), None)),
        ];
    hold(256, lie, |(length, changes, numbers)| {
        let mut header = changed(header.clone(), &changes);
        if let (Some((which, key, numbers)), Value::Object(map)) = (numbers, &mut header) {
            let name = map.keys().nth(which.index(map.len())).unwrap().clone();
            map[&name][key] = json!(numbers);
        }
        let header = header.to_string().into_bytes();
        let length = length.unwrap_or(header.len() as u64).to_le_bytes();
        fs::write(copy.path("model.safetensors"), [&length[..], &header, &whole[end..]].concat()).unwrap();
        opened(copy.folder());
    });
    for nested in [10, 1_000, 300_000] {
        let header = "[".repeat(nested);
        let length = (header.len() as u64).to_le_bytes();
        fs::write(copy.path("model.safetensors"), [&length[..], header.as_bytes()].concat()).unwrap();
        is_a_sentence(&open(copy.folder()).err().unwrap());
    }
}

/// Tokenizers of several kinds, on which the tokenizers library itself panics now and then.
fn tokenizers() -> Vec<Value> {
    let words = read_json(&tiny("gpt2-bpe").join("vocab.json"));
    let scored: Vec<Value> = words
        .as_object()
        .unwrap()
        .iter()
        .map(|(word, id)| json!([word, -1.0 - id.as_f64().unwrap()]))
        .collect();
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let models = [
        json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
               "fuse_unk": false, "byte_fallback": false, "vocab": words, "merges": [["t", "h"], ["h", "e"]]}),
        json!({"type": "Unigram", "unk_id": 0, "vocab": scored, "byte_fallback": true}),
        json!({"type": "WordPiece", "unk_token": "!", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
               "vocab": words}),
        json!({"type": "WordLevel", "unk_token": "!", "vocab": words}),
    ];
    let template = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "!", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"!": {"id": "!", "ids": [0], "tokens": ["!"]}}});
    let rules = json!({"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}, {"type": "Prepend", "prepend": "_"}]});
    let all = models.into_iter().enumerate().map(|(i, model)| {
        json!({"version": "1.0", "truncation": null, "padding": null, "model": model, "decoder": bytes,
               "added_tokens": [{"id": 0, "content": "!", "single_word": false, "lstrip": false, "rstrip": false,
                                 "normalized": false, "special": true}],
               "normalizer": if i % 2 == 0 { rules.clone() } else { Value::Null }, "post_processor": template,
               "pre_tokenizer": if i < 2 { bytes.clone() } else { json!({"type": "Whitespace"}) }})
    });
    all.collect()
}

#[test]
fn any_tokenizer_is_read_or_refused() {
    let copy = Copy::of("gpt2-bpe");
    hold(512, (select(tokenizers()), changes(), text()), |(tokenizer, changes, text)| {
        fs::write(copy.path("tokenizer.json"), changed(tokenizer, &changes).to_string()).unwrap();
        let lab = match open(copy.folder()) {
            Err(error) => return is_a_sentence(&error),
            Ok(lab) => lab,
        };
        for text in [&text, "the words, and a naïve end"] {
            match lab.vocabulary.encode(text) {
                Err(error) => is_a_sentence(&error),
                Ok(ids) => drop(lab.vocabulary.text(&ids)),
            }
        }
        if let Err(error) = lab.vocabulary.bos(Bos::Auto) {
            is_a_sentence(&error);
        }
    });
}

/// The one known to panic inside of the library: a template that names a token it does not describe.
#[test]
fn a_panic_of_the_tokenizer_library_is_an_error() {
    let copy = Copy::of("gpt2-bpe");
    let mut tokenizer = tokenizers().swap_remove(3);
    tokenizer["post_processor"]["special_tokens"] = json!({});
    fs::write(copy.path("tokenizer.json"), tokenizer.to_string()).unwrap();
    let refusal = open(copy.folder()).and_then(|lab| lab.vocabulary.bos(Bos::Auto)).unwrap_err();
    assert!(refusal.to_string().contains("contradict each other"), "{refusal}");
}

#[test]
fn any_prompt_file_is_read_or_refused() {
    let lab = open_bundled();
    let words = json!({"id": "x", "clean": "Mary gave", "corrupt": "John gave", "answers": ["Mary"], "wrong": ["John"],
                       "pos": {"S1": 0, "end": -1}, "group": "g", "meta": {}});
    let ids = json!({"clean": [1, 2, 3], "corrupt": [1, 4, 3], "answers": [5], "wrong": [6]});
    let line = prop_oneof![
        4 => (select(vec![words, ids]), changes()).prop_map(|(line, changes)| changed(line, &changes).to_string()),
        1 => text(),
        1 => any_json().prop_map(|value| value.to_string()),
    ];
    hold(512, (vec(line, 0..3), any::<Index>(), any::<bool>()), |(lines, cut, whole)| {
        let mut content = lines.join("\n");
        if !whole {
            let end = cut.index(content.len() + 1);
            content = String::from_utf8_lossy(&content.as_bytes()[..end]).into_owned();
        }
        match read_jsonl("drawn.jsonl", &content, &lab.vocabulary, Bos::Auto) {
            Err(error) => is_a_sentence(&error),
            Ok(task) => {
                task.check().unwrap();
                if let Err(error) = task.fits(&lab.model) {
                    is_a_sentence(&error);
                }
            }
        }
    });
    let gains = json!({"default": {"gain": 1, "cost": 0}, "Mary": {"gain": 2, "cost": 1}, "#17": {"gain": 1, "cost": 1}});
    hold(128, changes(), |changes| {
        if let Err(error) = read_gains(&changed(gains.clone(), &changes).to_string(), &lab.vocabulary) {
            is_a_sentence(&error);
        }
    });
}

fn open_bundled() -> Lab {
    Lab::open("textbook", candle_core::DType::F32, &candle_core::Device::Cpu).unwrap()
}

/// A study that is read can be written, and reads back as itself; a bad one, and a bad setting, is a usage error.
#[test]
fn any_study_is_read_or_refused() {
    let study = json!({
        "title": "t", "model": "textbook", "dtype": "f32", "device": "cpu", "fold": "all", "seed": 1, "metric": "kl", "heads": ["1.0"],
        "task": {"generate": "ioi", "n": 2, "corruption": "abc", "bos": "auto"},
        "analysis": [{"name": "patch", "sites": ["z"], "direction": "noise"}, {"name": "heads", "sequences": 2}],
        "figure": [{"name": "f", "kind": "curve", "table": "lens"}],
    });
    let read = |content: &str| match Study::parse(content, "drawn.toml", None) {
        Err(error) => {
            is_a_sentence(&error);
            assert_eq!(error.exit_code(), 2, "{error}");
        }
        Ok(study) => assert_eq!(Study::parse(&study.text().unwrap(), "again", None).unwrap(), study),
    };
    read(&toml::to_string(&study).unwrap());
    hold(256, (changes(), text(), any::<Index>()), |(changes, text, at)| {
        // TOML has no null and no number beyond i64: such a change is drawn for nothing
        if let Ok(content) = toml::to_string(&changed(study.clone(), &changes)) {
            read(&content);
            let at =
                (0..=at.index(content.len() + 1)).rev().find(|&at| content.is_char_boundary(at)).unwrap();
            read(&format!("{}{text}{}", &content[..at], &content[at..]));
        }
    });
    let keys = [
        "seed",
        "fold",
        "task.n",
        "task",
        "heads",
        "patch.sites",
        "metric",
        "model",
        "analysis",
        "nobody.x",
        "",
    ];
    hold(
        256,
        (select(keys.to_vec()), prop_oneof![text(), any_json().prop_map(|v| v.to_string())]),
        |(key, value)| {
            let study = Study { steps: vec![glassbox::study::Step::named("patch")], ..Study::default() };
            if let Err(error) = study.set(&format!("{key}={value}")) {
                is_a_sentence(&error);
                assert_eq!(error.exit_code(), 2, "{error}");
            }
        },
    );
}

fn column(name: &str, cells: Column) -> (String, String, Column) {
    (name.to_owned(), name.to_owned(), cells)
}

/// Cells of a CSV as they stand in the file, quotes taken off: what a spreadsheet sees.
fn raw_cells(csv: &str) -> Vec<Vec<(String, bool)>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut was_quoted) = (false, false);
    let mut chars = csv.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' => {
                quoted = !quoted;
                was_quoted = true;
            }
            ',' | '\n' if !quoted => {
                row.push((std::mem::take(&mut cell), std::mem::take(&mut was_quoted)));
                if c == '\n' {
                    rows.push(std::mem::take(&mut row));
                }
            }
            c => cell.push(c),
        }
    }
    rows
}

#[test]
fn tables_keep_every_text_and_run_none() {
    let number =
        prop_oneof![any::<f64>(), select(vec![-1.5, f64::NAN, f64::NEG_INFINITY, -0.0, 1e-300, -1e300]),];
    hold(192, vec((text(), number), 1..8), |cells| {
        let texts: Vec<String> =
            std::iter::once("a word").map(str::to_owned).chain(cells.iter().map(|c| c.0.clone())).collect();
        let numbers: Vec<f64> = std::iter::once(-2.5).chain(cells.iter().map(|c| c.1)).collect();
        let rows = Rows {
            name: "drawn".into(),
            columns: vec![
                column("token", Column::Text(texts.iter().cloned().map(Some).collect())),
                column("value", Column::Num(numbers.iter().copied().map(Some).collect())),
            ],
        };
        let write = |format| table::write(&rows, format).unwrap();
        let csv = String::from_utf8(write(Format::Csv)).unwrap();
        let raw = raw_cells(&csv);
        assert_eq!(raw.len(), texts.len() + 1);
        for (row, (text, number)) in raw[1..].iter().zip(texts.iter().zip(&numbers)) {
            let [(cell, quoted), (value, bare)] = &row[..] else { panic!("{row:?}") };
            assert!(*quoted && !cell.starts_with(formula::STARTS), "{cell:?} would run");
            assert_eq!(formula::exact(cell), text);
            let value: f64 = value.parse().unwrap();
            assert!(!bare && (value == *number || value.is_nan() && number.is_nan()), "{value} for {number}");
        }
        for format in [Format::Csv, Format::Parquet] {
            let back = table::read("drawn", &write(format), format).unwrap();
            assert_eq!(back.texts("token").unwrap(), texts, "{format}");
            assert_eq!(
                format!("{:?}", back.column("value").unwrap()),
                format!("{:?}", rows.columns[1].2),
                "{format}"
            );
        }
        let array: Value = serde_json::from_slice(&write(Format::Json)).unwrap();
        let lines = String::from_utf8(write(Format::Jsonl)).unwrap();
        for (i, line) in lines.lines().enumerate() {
            assert_eq!(serde_json::from_str::<Value>(line).unwrap(), array[i]);
            assert_eq!(array[i]["token"], texts[i]);
        }
        let shown = Terminal::default().write(&rows);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        assert_eq!(shown.lines().count(), texts.len() + 1);
    });
}

#[test]
fn pages_show_every_text_and_run_none() {
    hold(96, vec(text(), 4..9), |texts| {
        let words = |i: usize| {
            let text = || texts[i % texts.len()].clone();
            vec![
                Inline::Text(text()),
                Inline::Strong(text()),
                Inline::Emphasis(text()),
                Inline::Code(text()),
                Inline::Token(text()),
            ]
        };
        let token =
            |text: &String| Token { text: text.clone(), mark: text.clone(), value: Some(0.5), strong: true };
        let rows = Rows {
            name: "drawn".into(),
            columns: vec![column(&texts[0], Column::Text(texts.iter().cloned().map(Some).collect()))],
        };
        let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"10pt\" height=\"10pt\" viewBox=\"0 0 10 10\"></svg>";
        let blocks = vec![
            Block::Paragraph(words(0)),
            Block::List(vec![words(1), words(2)]),
            Block::Note(words(3)),
            Block::Warning(words(4)),
            Block::Facts(texts.iter().map(|text| (text.clone(), words(5))).collect()),
            Block::Tokens(Tokens {
                lines: vec![TokenLine { label: texts[1].clone(), tokens: texts.iter().map(token).collect() }],
                caption: words(6),
            }),
            Block::Table(Table { rows: rows.clone(), caption: words(7), ..Table::default() }),
            Block::Figure(Figure {
                name: "drawn".into(),
                svg: svg.into(),
                caption: words(8),
                data: Some(Table { rows, ..Table::default() }),
                command: texts[0].clone(),
            }),
        ];
        let page = Page {
            kicker: texts[2].clone(),
            title: texts[3].clone(),
            lead: words(9),
            sections: vec![Section { id: "one".into(), title: texts[0].clone(), blocks }],
            provenance: vec![(texts[1].clone(), words(10))],
            data: Some(json!({ "words": texts })),
        };
        only_our_markup(&html(&page).unwrap());
        only_our_markdown(&markdown(&page));
    });
}

/// A picture is XML that a strict reader takes, with no element that could run or load anything.
#[test]
fn pictures_show_every_text_and_run_none() {
    let view =
        "name='drawn'\ntable='drawn'\nkind='tokens'\nx='pos'\nx_text='token'\nvalue='value'\ngroup='strip'";
    hold(48, vec(text(), 1..6), |texts| {
        let n = texts.len() as i64;
        let rows = Rows {
            name: "drawn".into(),
            columns: vec![
                column("pos", Column::Int((0..n).map(Some).collect())),
                column("token", Column::Text(texts.iter().cloned().map(Some).collect())),
                column("strip", Column::Text(vec![Some(texts[0].clone()); texts.len()])),
                column("value", Column::Num((0..n).map(|i| Some(i as f64 - 1.0)).collect())),
            ],
        };
        let mut view: View = toml::from_str(view).unwrap();
        view.caption = texts.concat();
        let scene = figure::draw(&rows, &view).unwrap();
        let svg = scene.to_svg();
        assert!(!svg.chars().any(|c| c.is_control() && c != '\n'), "{svg:?}");
        for tag in svg.split('<').skip(1) {
            let name: String =
                tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
            let ours = "svg title desc defs pattern clipPath image rect text tspan g polyline polygon path line circle linearGradient stop";
            assert!(ours.split(' ').any(|known| known == name), "<{tag}");
        }
        scene.to_png(24.0).unwrap(); // reads the SVG as XML
    });
}

/// Parameters that would have a run hold more than any machine has are refused before anything is allocated.
#[test]
fn no_parameter_asks_for_more_than_there_is() {
    let bench = Bench::new();
    let prompt = ["--prompt", PROMPT, "--answer", "Mary", "--wrong", "John"];
    for (arguments, word) in [
        (vec!["heads", "sequences=99999999999"], "more than a run can hold"),
        (vec!["heads", "length=99999999999"], "do not fit"),
        ([&["ablate", "sequences=99999999999"][..], &prompt].concat(), "more than a run can hold"),
        (vec!["predict", "--task", "ioi", "--n", "99999999999"], "more than a run can hold"),
    ] {
        let said = bench.refused(2, &arguments);
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    let most = u64::MAX.to_string(); // asks for all there is, and gets it
    bench.ok(&["predict", "--task", "capital", "--n", "2", "--quiet", &format!("top={}", i64::MAX)]);
    bench.ok(&["attribution", "--task", "capital", "--n", "2", "--quiet", &format!("neurons={}", i64::MAX)]);
    assert_eq!(bench.run(&["predict", &format!("top={most}")]).status.code(), Some(2), "no i64");
}
