//! Attention knockout against whole passes with a hook written by hand, and on a model whose circuit is known.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use glassbox::Result;
use glassbox::analysis::knockout::Knockout;
use glassbox::analysis::{Analysis, Findings};
use glassbox::hook::Hook;
use glassbox::lab::{About, Lab};
use glassbox::metric::Metric;
use glassbox::model::{Config, Transformer};
use glassbox::row::Rows;
use glassbox::site::{At, Site};
use glassbox::study::Study;
use glassbox::task::{Example, Task};
use glassbox::vocabulary::Vocabulary;

use crate::causal::{aligned, numbers, pairs, table};
use crate::styles;

fn lab(config: Config) -> Lab {
    let model = Transformer::random(config, 11, DType::F64).unwrap();
    Lab::new(model, Vocabulary::default(), About::default())
}

fn knockout(parameters: &str) -> Knockout {
    toml::from_str::<toml::Table>(parameters).unwrap().try_into().unwrap()
}

fn close(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{what}: {a} is not {b}");
}

/// Hides keys from one query, number by number.
struct Hidden<'a> {
    layers: std::ops::RangeInclusive<usize>,
    head: Option<(usize, usize)>,
    query: usize,
    keys: &'a [usize],
}

impl Hook for Hidden<'_> {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::Block(layer, At::Scores) if self.layers.contains(&layer))
    }

    fn visit(&mut self, site: Site, _: usize, x: Tensor) -> Result<Tensor> {
        let (_, heads, queries, keys) = x.dims4()?;
        let mut numbers: Vec<f64> = x.flatten_all()?.to_vec1()?;
        for head in 0..heads {
            if self.head.is_none_or(|(layer, only)| site.layer() == Some(layer) && only == head) {
                for &key in self.keys {
                    numbers[(head * queries + self.query) * keys + key] = f64::NEG_INFINITY;
                }
            }
        }
        Ok(Tensor::from_vec(numbers, x.shape(), &Device::Cpu)?)
    }
}

/// Probability and metric of one example at its end, by a whole pass under a hook.
fn whole(lab: &Lab, task: &Task, i: usize, metric: Metric, hook: &mut dyn Hook) -> [f64; 2] {
    let example = &task.examples[i];
    let tokens = lab.model.tokens(&[&example.clean]).unwrap();
    let at_end = |hook: &mut dyn Hook| {
        lab.model.forward(&tokens, hook).unwrap().narrow(1, example.end(), 1).unwrap().squeeze(1).unwrap()
    };
    let clean = glassbox::ops::log_softmax(&at_end(&mut ())).unwrap();
    let (targets, logits) = (task.targets(&[i], Some(clean)), at_end(hook));
    [Metric::Prob, metric].map(|m| m.score(&logits, &targets).unwrap().to_vec1::<f64>().unwrap()[0])
}

/// What the tables call a source, in one example.
fn keys(source: &str, named: &[&str], example: &Example, from: usize, causal: bool) -> Vec<usize> {
    let one = |name: &str| match name {
        "self" => vec![from],
        "start..subject" => (example.pos["start"]..=example.pos["subject"]).collect(),
        name => vec![example.pos.get(name).copied().unwrap_or_else(|| name.parse().unwrap())],
    };
    let seen = |pos: &usize| !causal || *pos <= from;
    match source {
        "rest" => {
            let taken: Vec<usize> = named.iter().filter(|n| **n != "rest").flat_map(|n| one(n)).collect();
            (0..example.clean.len()).filter(|pos| seen(pos) && !taken.contains(pos)).collect()
        }
        name => one(name).into_iter().filter(seen).collect(),
    }
}

/// Every cell of every example against a pass of its own.
fn check(
    lab: &Lab,
    task: &Task,
    parameters: &Knockout,
    from: impl Fn(&Example) -> usize,
    named: &[&str],
) -> Findings {
    let found = parameters.run(lab, task).unwrap();
    let (rows, cells) = (table(&found, "examples_knockout"), table(&found, "knockout"));
    let windows: BTreeMap<usize, (usize, usize)> = (0..cells.len())
        .map(|i| ["layer", "first", "last"].map(|name| numbers(cells, name)[i] as usize))
        .map(|[layer, first, last]| (layer, (first, last)))
        .collect();
    let (ids, sources) = (rows.texts("example").unwrap(), rows.texts("source").unwrap());
    let (layers, probs, changes) = (numbers(rows, "layer"), numbers(rows, "prob"), numbers(rows, "change"));
    let heads: Vec<(usize, usize)> = parameters
        .heads
        .iter()
        .map(|head| head.split_once('.').map(|(l, h)| (l.parse().unwrap(), h.parse().unwrap())).unwrap())
        .collect();
    for row in 0..rows.len() {
        let i = task.examples.iter().position(|example| example.id == ids[row]).unwrap();
        let example = &task.examples[i];
        let (first, last) = windows[&(layers[row] as usize)];
        let query = from(example);
        let keys = keys(&sources[row], named, example, query, lab.model.config.causal);
        let mut hook = Hidden { layers: first..=last, head: heads.first().copied(), query, keys: &keys };
        let (before, after) = (
            whole(lab, task, i, parameters.metric, &mut ()),
            whole(lab, task, i, parameters.metric, &mut hook),
        );
        let what = format!("{} {} layer {}", ids[row], sources[row], layers[row]);
        close(probs[row], after[0], &what);
        close(changes[row], after[1] - before[1], &what);
    }
    found
}

#[test]
fn every_cut_equals_a_whole_pass_with_a_hook() {
    for (style, config) in styles::peculiar() {
        println!("{style}");
        let lab = lab(config);
        let mut task = pairs();
        let said = lab.model.config.d_vocab_out as u32;
        for example in &mut task.examples {
            example.answers = vec![example.answers[0] % said];
            example.wrong = vec![(example.answers[0] + 1) % said];
        }
        let end = |example: &Example| example.end();
        let default = ["start", "subject", "self", "rest"];
        let found = check(&lab, &task, &Knockout::default(), end, &default);
        let mut sources = table(&found, "knockout").texts("source").unwrap();
        sources.dedup();
        assert_eq!(sources, default);
        // all layers at once, in another metric
        check(&lab, &task, &knockout("window = 3\nmetric = \"kl\""), end, &default);
    }
}

#[test]
fn spans_other_queries_and_single_heads_are_cut_too() {
    let lab = lab(Config::tiny_rotary());
    let (task, end) = (pairs(), |example: &Example| example.end());
    let spans = ["start..subject", "rest"];
    check(&lab, &task, &knockout("sources = [\"start..subject\", \"rest\"]"), end, &spans);
    let of = |parameters: &str| format!("sources = [\"start\", \"self\", \"rest\"]\n{parameters}");
    let named = ["start", "self", "rest"];
    check(&lab, &task, &knockout(&of("heads = [\"1.2\"]\nwindow = 2")), end, &named);
    let subject = |example: &Example| example.pos["subject"];
    check(&lab, &task, &knockout(&of("from = \"subject\"")), subject, &named);
    // of prompts of one template every position is a source
    let found = Knockout::default().run(&lab, &aligned()).unwrap();
    let mut sources = table(&found, "knockout").texts("source").unwrap();
    sources.dedup();
    assert_eq!(sources, ["0", "1", "2", "3", "4", "5", "self"]);
}

/// A head that gives a source no weight loses nothing by not seeing it; a query that sees nothing at all writes nothing.
#[test]
fn what_has_no_weight_is_no_loss_and_an_empty_row_is_zero() {
    // a window of two keys: of the first positions nothing reaches the end in one layer
    let config =
        styles::all().into_iter().find(|(name, _)| *name == "windows in every other layer").unwrap().1;
    let lab = lab(config);
    let found = knockout("sources = [\"start\", \"0..end\"]").run(&lab, &pairs()).unwrap();
    let rows = table(&found, "examples_knockout");
    let unseen = rows.only("source", "start").unwrap().only("layer", "0").unwrap();
    assert_eq!(unseen.len(), 5);
    numbers(&unseen, "change").iter().for_each(|change| close(*change, 0.0, "unseen"));
    assert!(
        found.notes.iter().any(|note| note.contains("0..end leaves some row nothing")),
        "{:?}",
        found.notes
    );
    // every key hidden: the head's z is what a lesion to zero gives
    let task = pairs();
    let all = rows.only("source", "0..end").unwrap();
    for i in 0..all.len() {
        let e = task.examples.iter().position(|x| x.id == all.texts("example").unwrap()[i]).unwrap();
        let layer = numbers(&all, "layer")[i] as usize;
        let at = glassbox::site::Slice::whole(Site::Block(layer, At::Z));
        let at = at.pos(glassbox::site::Positions::At(vec![task.examples[e].end()]));
        let zero = glassbox::edit::Op::Scale(0.0);
        let mut hook = glassbox::edit::Edits::new([glassbox::edit::Edit { at, op: zero }]);
        let lesioned = whole(&lab, &task, e, Metric::LogitDiff, &mut hook);
        close(numbers(&all, "prob")[i], lesioned[0], "all hidden");
    }
}

#[test]
fn tables_are_ratios_of_means_and_memory_changes_nothing() {
    let mut lab = lab(Config::tiny());
    let task = pairs();
    let found = Knockout::default().run(&lab, &task).unwrap();
    let (rows, examples) = (table(&found, "knockout"), table(&found, "examples_knockout"));
    let before: Vec<f64> = (0..5).map(|i| whole(&lab, &task, i, Metric::LogitDiff, &mut ())[0]).collect();
    let n = task.examples.len() as f64;
    for i in 0..rows.len() {
        let (source, layer) = (&rows.texts("source").unwrap()[i], &rows.texts("layer").unwrap()[i]);
        let own = examples.only("source", source).unwrap().only("layer", layer).unwrap();
        let probs = numbers(&own, "prob");
        let relative = (probs.iter().sum::<f64>() - before.iter().sum::<f64>()) / before.iter().sum::<f64>();
        close(numbers(rows, "relative")[i], relative, "a ratio of means");
        close(numbers(&own, "relative").iter().sum::<f64>() / n, relative, "the mean over examples");
        assert!(numbers(rows, "ci_lo")[i] <= relative && relative <= numbers(rows, "ci_hi")[i]);
        assert!(numbers(rows, "p")[i].is_nan(), "five prompts are no test");
    }
    lab.memory = 1;
    let again = Knockout::default().run(&lab, &task).unwrap();
    let of = |found: &Findings| numbers(table(found, "examples_knockout"), "change");
    of(&found).iter().zip(of(&again)).for_each(|(a, b)| close(*a, b, "memory"));
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let lab = lab(Config::tiny());
    let refused = |parameters: &str, words: &[&str]| {
        let error = knockout(parameters).run(&lab, &pairs()).unwrap_err().to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "{word}: {error}"));
    };
    refused("window = 0", &["window of 0"]);
    refused("heads = [\"0.9\"]", &["9"]);
    refused("heads = [\"7.0\"]", &["7"]);
    refused("sources = [\"object\"]", &["object"]);
    refused("sources = [\"end\"]\nfrom = \"subject\"", &["no `end`", "could attend"]);
    refused("sources = [\"0..end\", \"rest\"]", &["no `rest`"]);
}

/// The last word takes the fact from the name in layer 2, by head a2.h2, as it was designed; and who is given something is
/// read off that name's position in layer 2.
#[test]
fn the_bundled_model_reads_the_subject_where_it_was_designed_to() {
    let run = |task: &str, parameters: &str| {
        let text = format!(
            "model = \"textbook\"\n[task]\ngenerate = \"{task}\"\nn = 32\n[[analysis]]\nname = \"knockout\"\n{parameters}"
        );
        let study = Study::parse(&text, "test", None).unwrap();
        let lab = study.lab().unwrap();
        let task = study.task(&lab).unwrap();
        study.run(&lab, &task).unwrap().remove(0).findings
    };
    let of = |rows: &Rows, source: &str, layer: &str, column: &str| {
        let row = rows.only("source", source).unwrap().only("layer", layer).unwrap();
        numbers(&row, column)[0]
    };
    for parameters in
        ["sources = [\"subject\", \"rest\"]", "sources = [\"subject\", \"rest\"]\nheads = [\"2.2\"]"]
    {
        let found = run("facts", parameters);
        let rows = table(&found, "knockout");
        assert!(of(rows, "subject", "2", "relative") < -0.8, "{}", of(rows, "subject", "2", "relative"));
        assert!(of(rows, "subject", "2", "q") < 0.01);
        for layer in ["0", "1"] {
            assert!(of(rows, "subject", layer, "relative").abs() < 0.2, "{layer}");
        }
    }
    let found = run("ioi", "sources = [\"IO\", \"S1\", \"rest\"]");
    let rows = table(&found, "knockout");
    assert!(of(rows, "IO", "2", "relative") < -0.8, "{}", of(rows, "IO", "2", "relative"));
    assert!(of(rows, "IO", "0", "relative").abs() < 0.2 && of(rows, "IO", "1", "relative").abs() < 0.2);
}
