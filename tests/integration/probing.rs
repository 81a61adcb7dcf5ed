//! Linear probes end to end: known answers of the bundled model, interventions against naive runs, kept activations.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use glassbox::analysis::{Findings, find};
use glassbox::edit::{Edit, Edits, Op};
use glassbox::lab::{About, Lab};
use glassbox::learn::{Matrix, Method, Penalty, Set, cross_validate, dot, grouped};
use glassbox::metric::{Metric, Targets};
use glassbox::model::{Config, Transformer};
use glassbox::output::Activations;
use glassbox::row::Rows;
use glassbox::site::{At, Positions, Site, Slice};
use glassbox::task::{Example, GENERATORS, Label, Request, Task, generate, read_jsonl};
use glassbox::vocabulary::{Bos, Vocabulary};

fn textbook() -> Lab {
    Lab::open("textbook", DType::F32, &Device::Cpu).unwrap()
}

fn made(lab: &Lab, name: &str, n: usize) -> Task {
    generate(name, &Request { n, ..Request::default() }, &lab.vocabulary).unwrap()
}

fn run(lab: &Lab, task: &Task, parameters: &str) -> glassbox::Result<Findings> {
    (find("probe").unwrap().run)(toml::from_str(parameters).unwrap(), lab, task)
}

fn table<'a>(found: &'a Findings, name: &str) -> &'a Rows {
    found.tables.iter().find(|rows| rows.name == name).unwrap()
}

/// The number in `column` of the only row that has these texts.
fn cell(rows: &Rows, wanted: &[(&str, &str)], column: &str) -> f64 {
    let fits = |i: &usize| wanted.iter().all(|(name, value)| rows.texts(name).unwrap()[*i] == *value);
    let found: Vec<usize> = (0..rows.len()).filter(fits).collect();
    assert_eq!(found.len(), 1, "{wanted:?}");
    rows.numbers(column).unwrap()[found[0]].unwrap()
}

#[test]
fn the_number_of_a_subject_reaches_the_verb_in_the_last_layer() {
    let lab = textbook();
    let found = run(&lab, &made(&lab, "agreement", 64), "methods = ['logistic', 'mass-mean']").unwrap();
    let rows = table(&found, "probe");
    let at =
        |site, layer, column| cell(rows, &[("site", site), ("layer", layer), ("method", "logistic")], column);
    assert!(at("resid_pre", "0", "accuracy") < 0.6, "the attractor's token says nothing of the subject");
    assert_eq!(at("resid_post", "2", "accuracy"), 1.0);
    assert_eq!(at("resid_post", "2", "auroc"), 1.0);
    assert_eq!(at("resid_post", "2", "majority"), 0.5);
    assert!(at("resid_post", "2", "random_weights") < 0.75 && at("resid_post", "2", "shuffled") < 0.75);
    assert!(at("resid_post", "2", "compression") > 2.0 && at("resid_pre", "0", "compression") < 1.1);
    assert_eq!(at("resid_post", "2", "used"), 1.0);
    // the direction between the means carries nearly all of what the model uses, the one that separates best less of it
    let used = |method, column| {
        let place = [("site", "resid_post"), ("layer", "2"), ("group", "all"), ("method", method)];
        cell(table(&found, "probe_use"), &place, column)
    };
    assert_eq!((used("logistic", "rank"), used("mass-mean", "rank")), (1.0, 1.0));
    assert!(used("mass-mean", "change") < -0.85 * used("mass-mean", "before"));
    assert!(used("logistic", "change") < -0.5 * used("logistic", "before"));
    assert!(used("mass-mean", "random") > -0.15 * used("mass-mean", "before"));
}

#[test]
fn a_city_is_read_and_used_before_it_is_moved_and_idle_after() {
    let lab = textbook();
    let parameters = "methods = ['mass-mean']\nlabel = 'city'\nshuffles = 1\ncontrols = 1";
    let found = run(&lab, &made(&lab, "facts", 192), parameters).unwrap();
    let rows = table(&found, "probe");
    let at = |layer, column| cell(rows, &[("site", "resid_post"), ("layer", layer)], column);
    assert!(at("1", "accuracy") > 3.0 * at("1", "majority"), "the MLPs have looked the person up");
    assert!(at("1", "accuracy") > 2.0 * at("1", "embedding"));
    assert_eq!((at("1", "used"), at("2", "used")), (1.0, 0.0));
    assert!(at("2", "auroc") > 0.65, "it is still there");
    let change = |layer| {
        cell(
            table(&found, "probe_use"),
            &[("site", "resid_post"), ("layer", layer), ("group", "all")],
            "change",
        )
    };
    assert!(change("1") < -5.0, "{}", change("1"));
    assert_eq!(change("2"), 0.0, "nothing reads the subject's position after the last block");
}

/// 24 prompts of a random model's tokens, of two lengths, with a label that the first token gives away.
fn small() -> (Lab, Task) {
    let model = Transformer::random(Config::tiny(), 5, DType::F64).unwrap();
    let lab = Lab::new(model, Vocabulary::default(), About::default());
    let example = |i: u32| {
        let length = 5 + i % 2;
        let clean: Vec<u32> = (0..length).map(|p| (7 * i + 5 * p * p + 3 * p) % 24).collect();
        Example {
            id: format!("e{i}"),
            pos: BTreeMap::from([("middle".to_owned(), 2), ("end".to_owned(), clean.len() - 1)]),
            labels: [("big".to_owned(), (clean[0] > 11).to_string())].into(),
            clean,
            answers: vec![(i + 1) % 24],
            wrong: vec![(i + 4) % 24],
            ..Example::default()
        }
    };
    let labels = vec![Label { name: "big".into(), at: "middle".into() }];
    let task =
        Task { name: "small".into(), examples: (0..24).map(example).collect(), labels, ..Task::default() };
    (lab, task)
}

#[test]
fn an_intervention_is_what_a_naive_run_gives() {
    let (lab, task) = small();
    let site = Site::Block(0, At::ResidPost);
    let rows: Vec<Vec<f64>> = task
        .examples
        .iter()
        .map(|example| {
            let tokens = lab.model.tokens(&[&example.clean]).unwrap();
            let (_, kept) = lab.model.record(&tokens, |s| s == site).unwrap();
            kept.get(site).unwrap().to_vec3::<f64>().unwrap()[0][2].clone()
        })
        .map(|row| row.into_iter().map(|x| f64::from(x as f32)).collect()) // as it is kept
        .collect();
    let (x, y) =
        (Matrix::of(&rows), task.examples.iter().map(|e| usize::from(e.clean[0] > 11)).collect::<Vec<_>>());
    let groups: Vec<usize> = (0..24).collect(); // every prompt is its own
    let set = Set::new(&x, y.clone(), 2, &groups).unwrap();
    let folds = grouped(&y, 2, &groups, 4, lab.seed).unwrap();
    let found = run(
        &lab,
        &task,
        "sites = ['blocks.0.hook_resid_post']\nfolds = 4\nmethods = ['logistic', 'mass-mean']",
    )
    .unwrap();
    for method in [Method::Logistic, Method::MassMean] {
        let held = cross_validate(&set, method, &folds, Penalty::Inside(3), lab.seed).unwrap();
        let mut change = 0.0;
        for (i, example) in task.examples.iter().enumerate() {
            let fit = &held.fits[folds.of[i]];
            let read = fit.linear.subspace();
            assert_eq!(read.rows, 1);
            let along = dot(read.row(0), &fit.mean);
            let back: Vec<f64> = read.row(0).iter().map(|b| along * b).collect();
            let tensor = |v: &[f64]| Tensor::new(v, &Device::Cpu).unwrap();
            let at = Slice::whole(site).pos(Positions::At(vec![2]));
            let mut edits = Edits::new([
                Edit { at: at.clone(), op: Op::Project(tensor(read.row(0))) },
                Edit { at, op: Op::Add(tensor(&back)) },
            ]);
            let tokens = lab.model.tokens(&[&example.clean]).unwrap();
            let end = example.end();
            let last = |logits: Tensor| logits.narrow(1, end, 1).unwrap().squeeze(1).unwrap();
            let targets = Targets {
                answers: vec![example.answers.clone()],
                wrong: vec![example.wrong.clone()],
                ..Targets::default()
            };
            let score = |logits: Tensor| -> f64 {
                Metric::LogitDiff.score(&last(logits), &targets).unwrap().to_vec1::<f64>().unwrap()[0]
            };
            let before = score(lab.model.forward(&tokens, &mut ()).unwrap());
            change += (score(lab.model.forward(&tokens, &mut edits).unwrap()) - before) / 24.0;
        }
        let rows = table(&found, "probe_use");
        let ours =
            cell(rows, &[("site", "resid_post"), ("method", method.name()), ("group", "all")], "change");
        assert!(change.abs() > 1e-3 && (ours - change).abs() < 1e-6, "{}: {ours} {change}", method.name());
    }
}

#[test]
fn kept_activations_are_read_again_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut lab, task) = small();
    let ask = |lab: &Lab| run(lab, &task, "methods = ['mass-mean']\npositions = ['middle', 'end']").unwrap();
    let plain = ask(&lab);
    let mut remarks = Vec::new();
    for _ in 0..3 {
        lab.store = Some(Arc::new(Activations::at(folder.path()).unwrap()));
        assert_eq!(ask(&lab).tables, plain.tables);
        remarks.push(lab.store.as_ref().unwrap().remarks().join("\n"));
        if remarks.len() == 2 {
            let find = |path: &std::path::Path| {
                std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>()
            };
            let files = find(&find(folder.path())[0]);
            let file = files.iter().find(|f| f.extension().is_some_and(|e| e == "safetensors")).unwrap();
            std::fs::write(file, b"short").unwrap();
        }
    }
    // embeddings and two layers at two positions, of the model and of random weights
    let places = 2 * 2 * (1 + lab.model.config.n_layers);
    assert!(remarks[0].contains(&format!("{places} recorded")), "{}", remarks[0]);
    assert!(remarks[1].contains(" 0 recorded"), "{}", remarks[1]);
    assert!(remarks[2].contains("recorded anew") && remarks[2].contains(" 1 recorded"), "{}", remarks[2]);
}

#[test]
fn refusals_say_what_to_do() {
    let (mut lab, mut task) = small();
    let said = |lab: &Lab, task: &Task, parameters: &str| run(lab, task, parameters).unwrap_err().to_string();
    assert!(said(&lab, &task, "label = 'bigg'").contains("`big`"));
    assert!(said(&lab, &task, "positions = ['midle']").contains("`middle`"));
    assert!(said(&lab, &task, "sites = ['pattern']").contains("resid_post"));
    assert!(said(&lab, &task, "by = 'subject'").contains("subject"));
    assert!(said(&lab, &task, "positions = ['0']\nby = 'group'").contains("group"));
    assert!(said(&lab, &task, "folds = 1").contains("two folds"));
    lab.memory = 1000;
    assert!(said(&lab, &task, "").contains("--activations"));
    lab.memory = 2 << 30;
    // a class that only one prompt has is left out, and said so
    task.examples[3].labels.insert("big".into(), "enormous".into());
    let found = run(&lab, &task, "methods = ['ridge']\nintervene = false").unwrap();
    assert!(found.notes.iter().any(|note| note.contains("enormous")), "{:?}", found.notes);
    assert_eq!(table(&found, "probe").numbers("n").unwrap()[0], Some(23.0));
    task.labels.clear();
    assert!(said(&lab, &task, "").contains("no labels"));
}

#[test]
fn generators_label_what_they_say() {
    let lab = textbook();
    for generator in GENERATORS {
        let task = made(&lab, generator.name, 24);
        assert_eq!(task.labels.len(), generator.labels.len());
        for example in &task.examples {
            let names: Vec<&str> = example.labels.keys().map(String::as_str).collect();
            let mut declared: Vec<&str> = generator.labels.iter().map(|label| label.name).collect();
            declared.sort_unstable();
            assert_eq!(names, declared, "{}", generator.name);
            assert!(generator.labels.iter().all(|label| example.pos.contains_key(label.at)));
        }
    }
    for example in made(&lab, "facts", 24).examples {
        let asked = match example.labels["relation"].as_str() {
            "work" => "job",
            other => other,
        };
        assert_eq!(lab.vocabulary.token(example.answers[0]), example.labels[asked]);
    }
    for example in made(&lab, "agreement", 24).examples {
        let verb = if example.labels["number"] == "plural" { "are" } else { "is" };
        assert_eq!(lab.vocabulary.token(example.answers[0]), verb);
    }
    for example in made(&lab, "ioi", 24).examples {
        assert_eq!(example.labels["order"] == "ABBA", example.pos["IO"] < example.pos["S1"]);
    }
}

#[test]
fn jsonl_brings_labels_and_subjects() {
    let lab = textbook();
    let lines = "{\"clean\": \"Mary went to\", \"label\": 1, \"subject\": \"Mary\"}\n\
                 {\"clean\": \"John went to\", \"label\": {\"sex\": \"m\", \"old\": false}}\n";
    let task = read_jsonl("lines", lines, &lab.vocabulary, Bos::Auto).unwrap();
    let names: Vec<&str> = task.labels.iter().map(|label| label.name.as_str()).collect();
    assert_eq!(names, ["label", "old", "sex"]);
    assert_eq!(task.examples[0].labels["label"], "1");
    assert_eq!(task.examples[1].labels["old"], "false");
    assert_eq!(task.examples[0].subject.as_deref(), Some("Mary"));
    let bad = read_jsonl("bad", "{\"clean\": \"Mary\", \"label\": [1]}", &lab.vocabulary, Bos::Auto);
    assert!(bad.unwrap_err().to_string().contains("field `label` holds [1]"));
}
