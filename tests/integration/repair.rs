//! Self-repair on models wired by hand, whose backup is known in closed form; against whole passes; and the identity that every
//! row obeys.
//!
//! The wired model: two layers of one head, no norm, no MLP, f64. The stream is token one-hot | what the unembedding reads | flag.
//! On `# x ?` head 0.0 finds x (score β, every other position 0, so with a = e^β / (e^β + 2)), writes it where the unembedding
//! reads, and raises the flag by the same a. Head 1.0 finds x with score γ(½ − flag) · s and writes it with weight w: for s =
//! 1 it wakes up when the flag is down, a backup; for s = −1 it falls asleep with it, having lost its input.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use glassbox::analysis::repair::Repair;
use glassbox::analysis::{Analysis, Findings};
use glassbox::edit::{Edit, Edits, Op};
use glassbox::lab::{About, Lab};
use glassbox::metric::Metric;
use glassbox::model::{
    Attention, Block, Config, Linear, Mlp, MlpKind, Norm, NormKind, Padding, PositionKind, Stream,
    Transformer,
};
use glassbox::record::{Activations, Recorder};
use glassbox::row::Rows;
use glassbox::site::{At, Site, Slice};
use glassbox::task::{Example, Task};
use glassbox::vocabulary::Vocabulary;

use crate::causal::{numbers, pairs, table};
use crate::styles;

const BETA: f64 = 6.0;
const GAMMA: f64 = 8.0;
/// Weight of the unembedding.
const G: f64 = 10.0;
const V: usize = 6;
const D: usize = 2 * V + 1;
const FLAG: usize = 2 * V;
const X: usize = 1;
const ASKS: usize = 2;

fn close(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{what}: {a} is not {b}");
}

/// A matrix with these entries.
fn matrix(
    rows: usize,
    columns: usize,
    entries: &[(usize, usize, f64)],
    bias: Option<(usize, f64)>,
) -> Linear {
    let mut w = vec![0.0; rows * columns];
    entries.iter().for_each(|&(row, column, x)| w[row * columns + column] = x);
    let b = bias.map(|(at, x)| {
        let mut b = vec![0.0; columns];
        b[at] = x;
        Tensor::new(b, &Device::Cpu).unwrap()
    });
    Linear { w: Tensor::from_vec(w, (rows, columns), &Device::Cpu).unwrap(), b }
}

/// Token i to entry i.
fn diagonal(from: usize, to: usize, weight: f64) -> Vec<(usize, usize, f64)> {
    (0..V).map(|i| (from + i, to + i, weight)).collect()
}

fn wired(sign: f64, weight: f64) -> Lab {
    let config = Config {
        d_model: D,
        n_layers: 2,
        n_heads: 1,
        n_kv_heads: 1,
        d_head: V,
        d_mlp: 1,
        d_vocab: V,
        d_vocab_out: V,
        n_ctx: 4,
        norm: NormKind::None,
        norm_bias: false,
        positions: PositionKind::None,
        mlp: MlpKind::Absent,
        ..Config::default()
    };
    let nothing = || Norm::none(&Tensor::zeros(1, DType::F64, &Device::Cpu).unwrap()).unwrap();
    let key = || matrix(D, V, &[(X, 0, 1.0)], None);
    let token = || matrix(D, V, &diagonal(0, 0, 1.0), None);
    let block = |layer, q, o| {
        let attention = Attention { scale: 1.0, ..Attention::new(&config, layer, [q, key(), token(), o]) };
        Block::new(config.wiring, nothing(), attention, nothing(), Mlp::Absent).unwrap()
    };
    let mut first: Vec<(usize, usize, f64)> = diagonal(0, V, 1.0);
    first.push((X, FLAG, 1.0));
    let blocks = vec![
        block(0, matrix(D, V, &[(ASKS, 0, BETA)], None), matrix(V, D, &first, None)),
        block(
            1,
            matrix(D, V, &[(FLAG, 0, -GAMMA * sign)], Some((0, GAMMA * sign / 2.0))),
            matrix(V, D, &diagonal(0, V, weight), None),
        ),
    ];
    let model = Transformer {
        embed: matrix(V, D, &diagonal(0, 0, 1.0), None).w,
        pos_embed: None,
        blocks,
        ln_final: nothing(),
        unembed: matrix(D, V, &diagonal(V, 0, G), None),
        config,
    };
    Lab::new(model, Vocabulary::default(), About::default())
}

fn asked() -> Task {
    let example = Example {
        id: "one".into(),
        clean: vec![0, X as u32, ASKS as u32],
        corrupt: Some(vec![0, 4, ASKS as u32]),
        answers: vec![X as u32],
        wrong: vec![3],
        pos: BTreeMap::new(),
        ..Example::default()
    };
    Task { name: "wired".into(), examples: vec![example], ..Task::default() }
}

fn repair(parameters: &str) -> Repair {
    toml::from_str::<toml::Table>(parameters).unwrap().try_into().unwrap()
}

fn one(rows: &Rows, keys: &[(&str, &str)]) -> Rows {
    let found = keys.iter().fold(rows.clone(), |rows, (key, value)| rows.only(key, value).unwrap());
    assert_eq!(found.len(), 1, "{keys:?}");
    found
}

/// Attention of head 0.0, and of head 1.0 with the flag at f, to x.
fn a() -> f64 {
    BETA.exp() / (BETA.exp() + 2.0)
}

fn second(sign: f64, flag: f64) -> f64 {
    let score = (GAMMA * sign * (0.5 - flag)).exp();
    score / (score + 2.0)
}

#[test]
fn a_backup_is_told_from_a_component_that_lost_its_input() {
    for (sign, weight, how) in [(1.0, 0.8, "backup"), (-1.0, 0.8, "indirect"), (-1.0, -0.5, "relief")] {
        let found = repair("kinds = [\"resample\", \"zero\"]").run(&wired(sign, weight), &asked()).unwrap();
        let rise = G * weight * (second(sign, 0.0) - second(sign, a()));
        for kind in ["resample", "zero"] {
            let row = one(table(&found, "repair"), &[("ablated", "a0.h0"), ("kind", kind)]);
            let of = |column: &str| numbers(&row, column)[0];
            close(of("lost"), G * a(), "lost");
            close(of("total"), G * a() - rise, "total");
            let repaired = if how == "indirect" { 0.0 } else { rise };
            close(of("self_repair"), repaired, how);
            close(of("share"), repaired / (G * a()), "share");
            close(of("indirect"), repaired - rise, "indirect");
            close(of("scale"), 0.0, "there is no norm");
            let later = one(table(&found, "repair_later"), &[("ablated", "a0.h0"), ("kind", kind)]);
            assert_eq!(later.texts("component").unwrap(), ["a1.h0"]);
            assert_eq!(later.texts("how").unwrap(), [how]);
            close(numbers(&later, "whole")[0], G * weight * second(sign, a()), "before");
            close(numbers(&later, "after")[0], G * weight * second(sign, 0.0), "after");
            close(numbers(&later, "change")[0], rise, "change");
        }
    }
    // nothing comes after the last head: what it loses is what falls (it is awake enough to be notable)
    let found = repair("ablate = [\"1.0\"]").run(&wired(-1.0, 0.8), &asked()).unwrap();
    let row = table(&found, "repair");
    close(numbers(row, "total")[0], numbers(row, "lost")[0], "the last one");
    assert_eq!((numbers(row, "self_repair")[0], numbers(row, "indirect")[0]), (0.0, 0.0));
    assert!(table(&found, "repair_later").is_empty());
    // both together: nothing is left to repair
    let found = repair("sets = [[\"0.0\", \"1.0\"]]").run(&wired(1.0, 0.8), &asked()).unwrap();
    let (row, set) = (one(table(&found, "repair"), &[("ablated", "0.0+1.0")]), table(&found, "repair_set"));
    close(numbers(&row, "lost")[0], G * (a() + 0.8 * second(1.0, a())), "both");
    close(numbers(&row, "total")[0], numbers(&row, "lost")[0], "both");
    // alone the first costs what is not made up for: together they cost that much more
    close(numbers(set, "interaction")[0], G * 0.8 * (second(1.0, 0.0) - second(1.0, a())), "interaction");
    close(numbers(set, "total")[0] - numbers(set, "interaction")[0], numbers(set, "sum_of_parts")[0], "sum");
}

/// One whole pass of a prompt under edits.
struct Pass {
    logit_diff: f64,
    kept: Activations,
}

fn pass(lab: &Lab, task: &Task, i: usize, tokens: &[u32], edits: Vec<Edit>) -> Pass {
    let mut hook = (Edits::new(edits), Recorder::new(|_| true));
    let logits = lab.model.forward(&lab.model.tokens(&[tokens]).unwrap(), &mut hook).unwrap();
    hook.0.finish().unwrap();
    let end = logits.narrow(1, task.examples[i].end(), 1).unwrap().squeeze(1).unwrap();
    let score = Metric::LogitDiff.score(&end, &task.targets(&[i], None)).unwrap();
    Pass { logit_diff: score.to_vec1::<f64>().unwrap()[0], kept: hook.1.kept }
}

/// The logit difference of a final stream with the final divisor of a run.
fn read(lab: &Lab, task: &Task, i: usize, resid: Tensor, kept: &Activations) -> f64 {
    let (layer, padding) = (lab.model.config.n_layers, Padding::default());
    let stream = Stream { layer, first_pos: 0, padding, resid, learned: None };
    let scale = kept.0.get(&Site::FinalScale);
    let edits = scale.map(|x| Edit { at: Slice::whole(Site::FinalScale), op: Op::Set(x.clone()) });
    let logits = lab.model.unembed(&stream, &mut Edits::new(edits)).unwrap();
    let end = logits.narrow(1, task.examples[i].end(), 1).unwrap().squeeze(1).unwrap();
    Metric::LogitDiff.score(&end, &task.targets(&[i], None)).unwrap().to_vec1::<f64>().unwrap()[0]
}

fn at(name: &str) -> Slice {
    match name.strip_prefix('m') {
        Some(layer) => Slice::whole(Site::Block(layer.parse().unwrap(), At::MlpOut)),
        None => {
            let (layer, head) = name[1..].split_once(".h").unwrap();
            Slice::whole(Site::Block(layer.parse().unwrap(), At::Z)).head(head.parse().unwrap())
        }
    }
}

/// What a component wrote to the stream, where no norm stands behind it.
fn written(name: &str, kept: &Activations, shape: &Tensor) -> Tensor {
    let slice = at(name);
    let (Site::Block(layer, place), head) = (slice.site, slice.head) else { panic!("{name}") };
    match (place, head) {
        (At::Z, Some(head)) => {
            kept.block(layer, At::Result).unwrap().narrow(2, head, 1).unwrap().reshape(shape.shape()).unwrap()
        }
        _ => kept.block(layer, At::MlpOut).unwrap().clone(),
    }
}

fn task(lab: &Lab) -> Task {
    let (mut task, said) = (pairs(), lab.model.config.d_vocab_out as u32);
    for example in &mut task.examples {
        example.answers = vec![example.answers[0] % said];
        example.wrong = vec![(example.answers[0] + 1) % said];
    }
    task
}

fn lab(config: Config) -> Lab {
    let model = Transformer::random(config, 11, DType::F64).unwrap();
    Lab::new(model, Vocabulary::default(), About::default())
}

/// Every fall, every lost effect and every later change against whole passes, one prompt at a time; and the sum they make.
#[test]
fn every_ablation_equals_whole_passes() {
    for (style, config) in styles::able() {
        println!("{style}");
        let bent = lab(config.clone());
        let lab = lab(Config { logit_cap: None, ..config });
        let task = task(&lab);
        let found = repair("kinds = [\"resample\", \"zero\"]").run(&bent, &task).unwrap();
        assert!(found.notes.iter().all(|note| !note.starts_with("error")), "{:?}", found.notes);
        let behind =
            lab.model.blocks.iter().any(|block| block.ln1_post.is_some() || block.ln2_post.is_some());
        let (rows, later) = (table(&found, "examples_repair"), table(&found, "examples_repair_later"));
        let text = |name: &str| rows.texts(name).unwrap();
        let (ids, names, kinds) = (text("example"), text("ablated"), text("kind"));
        let [lost, total, repaired, scale, indirect] =
            ["lost", "total", "self_repair", "scale", "indirect"].map(|name| numbers(rows, name));
        assert!(rows.len() >= 2 * task.examples.len());
        for row in 0..rows.len() {
            let what = format!("{} {} {}", ids[row], names[row], kinds[row]);
            close(lost[row] + indirect[row] - repaired[row] - scale[row], total[row], &what);
            let i = task.examples.iter().position(|example| example.id == ids[row]).unwrap();
            let example = &task.examples[i];
            let slice = at(&names[row]);
            let op = match kinds[row].as_str() {
                "zero" => Op::Scale(0.0),
                _ => {
                    let other = pass(&lab, &task, i, example.corrupt.as_ref().unwrap(), Vec::new());
                    Op::Set(slice.take(other.kept.get(slice.site).unwrap()).unwrap())
                }
            };
            let whole = pass(&lab, &task, i, &example.clean, Vec::new());
            let ablated = pass(&lab, &task, i, &example.clean, vec![Edit { at: slice, op }]);
            close(total[row], whole.logit_diff - ablated.logit_diff, &what);
            if behind {
                continue;
            }
            let last = whole.kept.block(lab.model.config.n_layers - 1, At::ResidPost).unwrap();
            let change = |name: &str| {
                let gap = (written(name, &ablated.kept, last) - written(name, &whole.kept, last)).unwrap();
                read(&lab, &task, i, (last + gap).unwrap(), &whole.kept) - whole.logit_diff
            };
            close(lost[row], -change(&names[row]), &what);
            let own =
                one_of(later, &[("example", &ids[row]), ("ablated", &names[row]), ("kind", &kinds[row])]);
            let (components, changes) = (own.texts("component").unwrap(), numbers(&own, "change"));
            for (component, ours) in components.iter().zip(&changes) {
                close(*ours, change(component), &format!("{what}: {component}"));
            }
            // what the final divisor does: the ablated stream read with its own, and with the whole run's
            let after = ablated.kept.block(lab.model.config.n_layers - 1, At::ResidPost).unwrap().clone();
            let held = read(&lab, &task, i, after, &whole.kept);
            close(scale[row], ablated.logit_diff - held, &format!("{what}: scale"));
        }
    }
}

fn one_of(rows: &Rows, keys: &[(&str, &str)]) -> Rows {
    keys.iter().fold(rows.clone(), |rows, (key, value)| rows.only(key, value).unwrap())
}

#[test]
fn means_memory_and_refusals() {
    let mut lab = lab(Config::tiny());
    let task = task(&lab);
    let run = |lab: &Lab, parameters: &str| repair(parameters).run(lab, &task).unwrap();
    let of = |found: &Findings| numbers(table(found, "examples_repair_later"), "change");
    let parameters =
        "kinds = [\"mean\", \"resample\"]\nablate = [\"a0\", \"m0\"]\nsets = {pair = [\"0.1\", \"1.2\"]}";
    let large = run(&lab, parameters);
    assert!(large.notes.iter().any(|note| note.contains("means at each position")), "{:?}", large.notes);
    assert_eq!(
        table(&large, "repair").texts("ablated").unwrap()[..5],
        ["a0", "m0", "a0.h1", "a1.h2", "pair"]
    );
    lab.memory = 1;
    let small = of(&run(&lab, parameters));
    assert_eq!(small.len(), of(&large).len());
    of(&large).iter().zip(&small).for_each(|(a, b)| close(*a, *b, "memory"));

    let refused = |parameters: &str, task: &Task, word: &str| {
        let error = repair(parameters).run(&lab, task).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    };
    refused("ablate = [\"embed\"]", &task, "neither head nor MLP");
    refused("ablate = [\"0.9\"]", &task, "9");
    refused("ablate = [\"m0.n1\"]", &task, "neither head nor MLP");
    refused("kinds = []", &task, "kinds");
    let mut alone = task.clone();
    alone.examples.iter_mut().for_each(|example| example.corrupt = None);
    refused("kinds = [\"resample\"]", &alone, "no corrupt prompt");
    let found = Repair::default().run(&lab, &alone).unwrap();
    assert!(table(&found, "repair").texts("kind").unwrap().iter().all(|kind| kind == "mean"));
}
