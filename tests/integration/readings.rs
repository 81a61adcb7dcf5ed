//! Predictions, lens, heads and recordings against the model they are read from.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use glassbox::analysis::{self, Findings};
use glassbox::edit::{Edit, Edits, Op};
use glassbox::lab::{About, Lab};
use glassbox::metric::{Gain, Gains, Metric};
use glassbox::model::{Config, Transformer};
use glassbox::row::Rows;
use glassbox::site::{Site, Slice};
use glassbox::task::{Example, Side, Task};
use glassbox::vocabulary::Vocabulary;
use glassbox::{ops, patterns, recording};

fn lab(config: Config) -> Lab {
    let model = Transformer::random(config, 3, DType::F64).unwrap();
    Lab::new(model, Vocabulary::default(), About::default())
}

fn example(id: &str, clean: &[u32], corrupt: &[u32]) -> Example {
    Example {
        id: id.into(),
        clean: clean.to_vec(),
        corrupt: Some(corrupt.to_vec()),
        answers: vec![3, 5],
        wrong: vec![7],
        pos: BTreeMap::from([("end".into(), clean.len() - 1)]),
        group: "one".into(),
        ..Example::default()
    }
}

fn task() -> Task {
    let examples = vec![
        example("a", &[1, 2, 3, 4, 5], &[1, 9, 3, 4, 5]),
        example("b", &[6, 2, 8, 4, 1], &[6, 2, 8, 0, 1]),
    ];
    Task { name: "test".into(), examples, ..Task::default() }
}

fn run(name: &str, lab: &Lab, task: &Task) -> Findings {
    (analysis::find(name).unwrap().run)(toml::Table::new(), lab, task).unwrap()
}

fn table<'a>(findings: &'a Findings, name: &str) -> &'a Rows {
    findings.tables.iter().find(|table| table.name == name).unwrap()
}

fn numbers(rows: &Rows, column: &str) -> Vec<f64> {
    rows.numbers(column).unwrap().into_iter().map(Option::unwrap).collect()
}

fn close(got: f64, want: f64) {
    assert!((got - want).abs() < 1e-9, "{got} {want}");
}

/// p `[example][d_vocab]` at the end of each prompt, from a plain forward pass.
fn probabilities(lab: &Lab, task: &Task) -> Vec<Vec<f64>> {
    let of = |e: &Example| {
        let logits = lab.model.forward(&lab.model.tokens(&[&e.clean]).unwrap(), &mut ()).unwrap();
        ops::softmax(&logits.get(0).unwrap().get(e.end()).unwrap()).unwrap().to_vec1().unwrap()
    };
    task.examples.iter().map(of).collect()
}

#[test]
fn predictions_are_the_models_own() {
    for config in [Config::tiny(), Config::tiny_rotary()] {
        let (lab, mut task) = (lab(config), task());
        let gains = Gains { default: Gain { gain: 1.0, cost: 0.5 }, by_token: BTreeMap::new() };
        task.gains = Some(gains.clone());
        let found = run("predict", &lab, &task);
        let p = probabilities(&lab, &task);
        let likely = table(&found, "predict");
        assert_eq!(likely.len(), 20);
        let (ids, probs) = (numbers(likely, "id"), numbers(likely, "prob"));
        for row in 0..20 {
            close(probs[row], p[row / 10][ids[row] as usize]);
            close(numbers(likely, "surprisal")[row], -probs[row].ln());
            assert!(row % 10 == 0 || probs[row] <= probs[row - 1]);
        }
        let decisions = table(&found, "decisions");
        assert_eq!(decisions.len(), 12, "six rules for each of two examples");
        assert_eq!(numbers(decisions, "id")[0], ids[0], "greedy is the first");
        assert!(numbers(decisions, "picked").iter().all(|p| *p > 0.0 && *p <= 1.0));
        let prediction = table(&found, "prediction");
        for (row, p) in p.iter().enumerate() {
            close(numbers(prediction, "prob")[row], p[3] + p[5]);
            close(numbers(prediction, "logit_diff")[row], (p[3] * p[5]).ln() / 2.0 - p[7].ln());
            close(numbers(prediction, "entropy")[row], p.iter().map(|p| -p * p.ln()).sum());
            let eu = |id: usize| gains.expected(id as u32, p[id]);
            close(numbers(prediction, "expected_gain")[row], (eu(3) + eu(5)) / 2.0 - eu(7));
        }
        let behaviour = table(&found, "behaviour").only("metric", "logit-diff").unwrap();
        close(numbers(&behaviour, "value")[0], numbers(prediction, "logit_diff").iter().sum::<f64>() / 2.0);
        assert_eq!(run("predict", &lab, &task).tables, found.tables, "the same seed, the same choices");
    }
}

#[test]
fn the_last_row_of_the_lens_is_the_prediction() {
    for config in [Config::tiny(), Config::tiny_rotary()] {
        let (lab, task) = (lab(config), task());
        let found = run("lens", &lab, &task);
        let rows = table(&found, "examples_lens");
        assert_eq!(rows.len(), 2 * 3 * 5 * 2, "layers × sites × positions × examples");
        let last = rows.only("site", "resid_post").unwrap().only("layer", "1").unwrap();
        assert!(numbers(&last, "kl").iter().all(|kl| *kl == 0.0));
        let end = last.only("pos", "4").unwrap();
        for (row, p) in probabilities(&lab, &task).iter().enumerate() {
            close(numbers(&end, "prob")[row], p[3] + p[5]);
            close(numbers(&end, "entropy")[row], p.iter().map(|p| -p * p.ln()).sum());
            close(numbers(&end, "logit_diff")[row], (p[3] * p[5]).ln() / 2.0 - p[7].ln());
        }
        // what a block receives is what the one before it left
        let before = rows.only("site", "resid_pre").unwrap().only("layer", "1").unwrap();
        let after = rows.only("site", "resid_post").unwrap().only("layer", "0").unwrap();
        assert_eq!(numbers(&before, "kl"), numbers(&after, "kl"));
        assert!(numbers(&after, "kl").iter().all(|kl| *kl > 0.0));
        let mean = table(&found, "lens");
        assert_eq!(mean.len(), 2 * 3 * 5);
        let shown =
            mean.only("site", "resid_mid").unwrap().only("layer", "1").unwrap().only("pos", "2").unwrap();
        let each =
            rows.only("site", "resid_mid").unwrap().only("layer", "1").unwrap().only("pos", "2").unwrap();
        close(numbers(&shown, "kl")[0], numbers(&each, "kl").iter().sum::<f64>() / 2.0);
        assert_eq!(numbers(&shown, "n"), [2.0]);
    }
}

#[test]
fn the_lens_does_not_depend_on_the_memory_allowed() {
    let (mut lab, task) = (lab(Config::tiny()), task());
    let plenty = run("lens", &lab, &task);
    lab.memory = 1;
    for (a, b) in plenty.tables.iter().zip(&run("lens", &lab, &task).tables) {
        for (x, y) in numbers(a, "entropy").iter().zip(numbers(b, "entropy")) {
            close(*x, y);
        }
    }
}

#[test]
fn columns_that_do_not_align_are_never_averaged() {
    let (lab, mut task) = (lab(Config::tiny()), task());
    task.examples.push(example("c", &[1, 2, 3], &[1, 2, 4]));
    let found = run("lens", &lab, &task);
    let rows = table(&found, "lens");
    assert_eq!(rows.len(), 2 * 3, "only `end` is named in all three");
    assert!(rows.texts("token").unwrap().iter().all(|token| token == "end"));
}

#[test]
fn head_scores_are_means_of_patterns() {
    let (lab, task) = (lab(Config::tiny_rotary()), task());
    let found = run("heads", &lab, &task);
    let (rows, each) = (table(&found, "head_scores"), table(&found, "examples_head_scores"));
    assert_eq!((rows.len(), each.len()), (8, 8 * 16));
    for name in ["previous", "duplicate", "induction", "bos", "entropy"] {
        let mean: Vec<f64> = numbers(rows, name);
        assert!(mean.iter().all(|x| *x > 0.0 && *x < 1.0), "{name} {mean:?}");
        let own = each.only("layer", "1").unwrap().only("head", "2").unwrap();
        close(mean[6], numbers(&own, name).iter().sum::<f64>() / 16.0);
    }
    let table = patterns::patterns(&lab, &task, &[(1, 2)], 0).unwrap();
    assert_eq!(table.len(), 15);
    close(numbers(&table.only("query", "3").unwrap(), "weight").iter().sum(), 1.0);
    let whole = &found.tensors["attention.pattern"];
    assert_eq!(whole.dims(), [2, 4, 5, 5]);
    assert!(patterns::patterns(&lab, &task, &[(2, 0)], 0).is_err());
    assert!(patterns::patterns(&lab, &task, &[(0, 4)], 0).is_err());
    assert!(patterns::patterns(&lab, &task, &[(0, 0)], 2).is_err());
}

fn globs(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn globs_name_sites() {
    let model = lab(Config::tiny()).model;
    let named = |names: &[&str]| recording::sites(&model, &globs(names));
    assert_eq!(named(&["all"]).unwrap(), model.sites());
    assert_eq!(named(&["*"]).unwrap(), model.sites());
    let texts: Vec<String> =
        named(&["logits", "blocks.*.hook_resid_pre"]).unwrap().iter().map(Site::to_string).collect();
    assert_eq!(texts, ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre", "logits"]);
    assert_eq!(named(&["blocks.*.hook_q_input"]).unwrap().len(), 2);
    for (wrong, said) in [
        ("blocks.*.hook_resid_prae", "blocks.0.hook_resid_pre"),
        ("blocks.7.hook_resid_pre", "layers 0 to 1"),
        ("blocks.7.*", "out of range"),
        ("logit", "logits"),
        ("blocks.0.mlp.hook_pre_linear", "no such place"),
        ("blocks.[", "not a pattern"),
    ] {
        let error = named(&[wrong]).unwrap_err().to_string();
        assert!(error.contains(said), "{wrong}: {error}");
    }
    assert!(named(&[]).is_err());
}

#[test]
fn a_recording_holds_what_the_pass_held() {
    let (mut lab, task) = (lab(Config::tiny()), task());
    let sites = recording::sites(&lab.model, &globs(&["all"])).unwrap();
    let whole = recording::record(&lab, &task, Side::Corrupt, &sites).unwrap();
    assert_eq!(whole.len(), sites.len());
    let bytes: usize = whole.values().map(|x| x.elem_count() * (4 + 8)).sum();
    assert_eq!(recording::memory(&lab.model, &sites, 2, 5), bytes as u64);
    let tokens = task.tokens(&lab.model, &[0, 1], Side::Corrupt).unwrap();
    let (logits, _) = lab.model.record(&tokens, |_| false).unwrap();
    assert_eq!(whole["logits"].dims(), [2, 5, 24]);
    assert_eq!(whole["logits"].dtype(), DType::F32);
    let far = |a: &Tensor, b: &Tensor| -> f32 {
        (a - b.to_dtype(DType::F32).unwrap()).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    };
    assert!(far(&whole["logits"], &logits) < 1e-5);
    lab.memory = 1; // one prompt at a time
    let split = recording::record(&lab, &task, Side::Corrupt, &sites).unwrap();
    assert!(far(&split["logits"], &whole["logits"]) < 1e-5);
    let said = recording::metadata(&lab, &task, Side::Corrupt, None).unwrap();
    assert_eq!(said["tokens"], "[[1,9,3,4,5],[6,2,8,0,1]]");

    let mut uneven = task.clone();
    uneven.examples.push(example("c", &[1, 2], &[1, 3]));
    let uneven = recording::record(&lab, &uneven, Side::Clean, &sites).unwrap();
    assert_eq!(uneven["logits"].dims(), [3, 5, 24], "a shorter prompt is filled up");
}

#[test]
fn recorded_gradients_agree_with_finite_differences() {
    for config in [Config::tiny(), Config::tiny_rotary()] {
        let (lab, mut task) = (lab(config), task());
        let gain = Gain { gain: 1.0, cost: 2.0 };
        task.gains = Some(Gains { default: gain, by_token: BTreeMap::new() });
        let names = ["blocks.0.hook_resid_mid", "blocks.1.attn.hook_z", "blocks.1.attn.hook_pattern"];
        let sites = recording::sites(&lab.model, &globs(&names)).unwrap();
        for metric in Metric::ALL.into_iter().filter(|metric| metric.has_gradient()) {
            let grads = recording::gradients(&lab, &task, Side::Corrupt, metric, &sites).unwrap();
            let clean = ops::log_softmax(&task.logits(&lab, &[0, 1], Side::Clean).unwrap()).unwrap();
            let targets = task.targets(&[0, 1], Some(clean));
            let tokens = task.tokens(&lab.model, &[0, 1], Side::Corrupt).unwrap();
            let (_, kept) = lab.model.record(&tokens, |site| sites.contains(&site)).unwrap();
            for &site in &sites {
                let x = kept.get(site).unwrap();
                let grad: Vec<f32> = grads[&site.to_string()].flatten_all().unwrap().to_vec1().unwrap();
                for i in (0..grad.len()).step_by(23) {
                    let score = |h: f64| -> f64 {
                        let mut values: Vec<f64> = x.flatten_all().unwrap().to_vec1().unwrap();
                        values[i] += h;
                        let set = Op::Set(Tensor::from_vec(values, x.shape(), x.device()).unwrap());
                        let mut edits = Edits::new([Edit { at: Slice::whole(site), op: set }]);
                        let logits = lab.model.forward(&tokens, &mut edits).unwrap();
                        let last = logits.narrow(1, 4, 1).unwrap().squeeze(1).unwrap();
                        metric.score(&last, &targets).unwrap().sum_all().unwrap().to_scalar().unwrap()
                    };
                    let slope = (score(1e-5) - score(-1e-5)) / 2e-5;
                    assert!(
                        (slope - f64::from(grad[i])).abs() < 1e-5,
                        "{metric} {site} {i}: {slope} {}",
                        grad[i]
                    );
                }
            }
        }
        let error = recording::gradients(&lab, &task, Side::Clean, Metric::Rank, &sites).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
