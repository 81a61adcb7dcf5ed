//! Shares of a gap: intervals, p and q against naive computations from the scores of every prompt, whatever analysis and metric made
//! them; and runs that do not keep the gaps.

use std::sync::{Mutex, PoisonError};

use candle_core::DType;
use glassbox::compare::{Interval, compare};
use glassbox::output::{Folder, Place};
use glassbox::report;
use glassbox::stats::Bootstrap;
use glassbox::study::Study;
use glassbox::task::Side;

use super::{cells, each, naive_tests, open, quantile, ratio, runs};

/// The stages that are compared.
const STAGES: [(&str, &str); 2] = [("textbook@step500", "early"), ("textbook", "late")];
const PROMPTS: usize = 40;

/// Scores of every prompt on its clean and its corrupt side, straight from logits of that prompt alone, and for each the first prompt of
/// the same tokens.
struct Scores {
    clean: Vec<f64>,
    corrupt: Vec<f64>,
    units: Vec<usize>,
}

impl Scores {
    fn of(model: &str, metric: &str) -> Scores {
        let text = format!("model = \"{model}\"\n[task]\ngenerate = \"facts\"\nn = {PROMPTS}\n");
        let study = Study::parse(&text, "scores", None).unwrap();
        let lab = study.lab().unwrap();
        let task = study.task(&lab).unwrap();
        let score = |i: usize, side: Side| -> f64 {
            let logits = task.logits(&lab, &[i], side).unwrap().to_dtype(DType::F64).unwrap();
            let logits: Vec<f64> = logits.flatten_all().unwrap().to_vec1().unwrap();
            let total: f64 = logits.iter().map(|x| x.exp()).sum();
            let of = |ids: &[u32]| -> f64 {
                let logits = ids.iter().map(|&id| logits[id as usize]);
                match metric {
                    "prob-diff" => logits.map(|x| x.exp() / total).sum(),
                    _ => logits.sum::<f64>() / ids.len() as f64,
                }
            };
            of(&task.examples[i].answers) - of(&task.examples[i].wrong)
        };
        let all = |side: Side| (0..PROMPTS).map(|i| score(i, side)).collect();
        let first = |i: usize| {
            let same = |e: &glassbox::task::Example| e.clean == task.examples[i].clean;
            task.examples.iter().position(same).unwrap()
        };
        Scores {
            clean: all(Side::Clean),
            corrupt: all(Side::Corrupt),
            units: (0..PROMPTS).map(first).collect(),
        }
    }

    /// Gaps by the mean gap.
    fn gaps(&self) -> Vec<f64> {
        let gaps: Vec<f64> = self.clean.iter().zip(&self.corrupt).map(|(a, b)| a - b).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        gaps.iter().map(|gap| gap / mean).collect()
    }
}

/// Two runs of one analysis alone, without a table of predictions.
fn alone(analysis: &str, metric: &str) -> [String; 2] {
    // tests that want the same run wait for the first to make it
    static ONE: Mutex<()> = Mutex::new(());
    let _held = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    STAGES.map(|(model, name)| {
        let out = format!("{analysis}-{metric}-{name}");
        let n = PROMPTS.to_string();
        let flags =
            ["--task", "facts", "--n", &n, "--metric", metric, "--model", model, "--quiet", "--out", &out];
        if !runs().path(&out).exists() {
            runs().ok(&[&[analysis], flags.as_slice()].concat());
        }
        out
    })
}

#[test]
fn intervals_of_shares_resample_the_gap_of_every_prompt() {
    for (analysis, table, keys) in [
        ("patch", "patch_head", ["site", "direction", "layer", "head"].as_slice()),
        ("edges", "edges", ["method", "edge"].as_slice()),
    ] {
        for metric in ["logit-diff", "prob-diff"] {
            let names = alone(analysis, metric);
            let compared = compare([open(&names[0]), open(&names[1])], [None, None]).unwrap();
            let joined = &compared.tables[table];
            assert_eq!(joined.interval, Interval::Paired(PROMPTS), "{table} {metric}");
            let difference = &joined.sides[2];
            let scores = STAGES.map(|(model, _)| Scores::of(model, metric));
            let distinct: std::collections::BTreeSet<usize> = scores[0].units.iter().copied().collect();
            assert!(distinct.len() < PROMPTS, "copies of prompts are part of the test");
            let gaps = scores.each_ref().map(Scores::gaps);
            let column = if table == "edges" { "effect" } else { "raw" };
            let kept = names.each_ref().map(|name| each(name, &format!("examples_{table}"), keys, column).1);
            // how far each cell moves the score of each prompt, by the mean gap
            let tops = |k: usize, name: &str| -> Vec<f64> {
                let patched = &kept[k][name];
                if table == "edges" {
                    return patched.clone();
                }
                let Scores { clean, corrupt, .. } = &scores[k];
                let gap = clean.iter().zip(corrupt).map(|(a, b)| a - b).sum::<f64>() / PROMPTS as f64;
                let denoised = name.contains("denoise");
                let change =
                    |i: usize| if denoised { patched[i] - corrupt[i] } else { clean[i] - patched[i] };
                (0..PROMPTS).map(|i| change(i) / gap).collect()
            };
            let found = cells(difference, keys, "effect");
            let ends = [(cells(difference, keys, "ci_lo"), 0.025), (cells(difference, keys, "ci_hi"), 0.975)];
            let bootstrap = Bootstrap::grouped(&scores[0].units, 0);
            let draws = bootstrap.resamples(Bootstrap::DRAWS);
            assert!(!found.is_empty());
            let step = found.len() / 24 + 1;
            for (name, change) in found.iter().step_by(step) {
                let (of_a, of_b) = (tops(0, name), tops(1, name));
                let resampled: Vec<f64> = draws
                    .iter()
                    .map(|draw| ratio(&of_b, &gaps[1], draw) - ratio(&of_a, &gaps[0], draw))
                    .collect();
                for (end, q) in &ends {
                    let naive = quantile(&resampled, *q);
                    let size = change.abs().max(1.0);
                    let (end, place) = (end[name], format!("{table} {metric} {name}"));
                    assert!((end - naive).abs() < 1e-4 * size, "{place}: {end} {naive}");
                }
            }
            let all: std::collections::BTreeMap<&String, [Vec<f64>; 2]> =
                found.keys().map(|name| (name, [tops(0, name), tops(1, name)])).collect();
            naive_tests(difference, &found, keys, |name| {
                let [of_a, of_b] = &all[&name.to_owned()];
                let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
                let share = (mean(of_a) + mean(of_b)) / 2.0;
                let own = |tops: &[f64], gaps: &[f64], i: usize| tops[i] - share * gaps[i];
                let change = |i| own(of_b, &gaps[1], i) - own(of_a, &gaps[0], i);
                ((0..PROMPTS).map(change).collect(), scores[0].units.clone())
            });
        }
    }
}

#[test]
fn a_run_of_patching_alone_stands_in_for_a_report() {
    runs().ok(&["patch", "--task", "ioi", "--n", "16", "--quiet", "--out", "late-alone"]);
    let of = |b: &str| compare([open("early"), open(b)], [None, None]).unwrap().tables["patch_head"].clone();
    let (whole, alone) = (of("late"), of("late-alone"));
    assert_eq!(whole.interval, alone.interval);
    let keys = ["site", "direction", "layer", "head"];
    for column in ["effect", "ci_lo", "ci_hi", "p", "q"] {
        let [one, two] = [&whole, &alone].map(|joined| cells(&joined.sides[2], &keys, column));
        assert!(!one.is_empty() && one.keys().eq(two.keys()));
        for (name, x) in &one {
            assert!((x - two[name]).abs() < 1e-9, "{column} {name}: {x} {}", two[name]);
        }
    }
}

/// What earlier versions wrote: never gaps of 1, never each copy of a prompt as new evidence.
#[test]
fn without_gaps_or_units_there_is_no_interval_and_the_page_says_why() {
    let names = alone("patch", "prob-diff");
    for (missing, words) in
        [("examples_gap_patch", "the gap of each prompt"), ("examples_units", "have the same prompt")]
    {
        for k in 0..2 {
            let mut opened = names.each_ref().map(|name| open(name));
            opened[k].tables.remove(missing).unwrap();
            let compared = compare(opened, [None, None]).unwrap();
            let joined = &compared.tables["patch_head"];
            let Interval::None(why) = joined.interval else { panic!("{missing}: {:?}", joined.interval) };
            assert!(why.contains(words), "{why}");
            let difference = &joined.sides[2];
            assert!(difference.numbers("effect").unwrap().iter().any(Option::is_some));
            for column in ["ci_lo", "ci_hi", "p", "q"] {
                assert!(difference.numbers(column).unwrap().iter().all(Option::is_none), "{column}");
            }
            let scratch = tempfile::tempdir().unwrap();
            let out = scratch.path().join("beside");
            let mut folder =
                Folder::create(&Place { out: Some(&out), verb: "compare", ..Place::default() }).unwrap();
            report::compare::write(&compared, "glassbox compare", &mut folder).unwrap();
            let made = folder.finish(&report::compare::manifest(&compared, 1)).unwrap();
            let page = std::fs::read_to_string(made.join("report.md")).unwrap();
            assert!(page.contains(why) && !page.contains("resample the gap"), "{page}");
        }
    }
}
