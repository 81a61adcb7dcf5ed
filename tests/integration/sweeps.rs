//! Sweeps: many cells at once are the same cells one by one, in whole passes; what costs nothing costs nothing.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use glassbox::edit::{Edit, Edits, Op};
use glassbox::lab::{About, Lab, Planned, Plans};
use glassbox::model::{Base, Config, Pad, Transformer};
use glassbox::record::at_positions;
use glassbox::site::{At, Axis, Positions, Site, Slice};
use glassbox::sweep::{Cell, Enters, Reading, cone, sweep};
use glassbox::vocabulary::Vocabulary;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::command::Bench;
use crate::styles;

fn lab(config: Config, dtype: DType) -> Lab {
    let model = Transformer::random(config, 5, dtype).unwrap();
    Lab::new(model, Vocabulary::unread(None), About::default())
}

/// Three rows of up to six tokens, one of them shorter where the model reads one way.
fn tokens(model: &Transformer, rng: &mut ChaCha8Rng) -> (Tensor, Vec<usize>) {
    let longest = model.config.n_ctx.min(6);
    let mut row = |length: usize| -> Vec<u32> {
        (0..length).map(|_| rng.random_range(0..model.config.d_vocab as u32)).collect()
    };
    let short = if longest > 3 { longest - 1 } else { longest };
    let rows = [row(longest), row(short), row(longest)];
    let read = rows.iter().map(|row| row.len() - 1).collect();
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    (model.padded(&rows, Pad::Right).unwrap(), read)
}

/// A random change of a random place inside of the blocks.
fn change(model: &Transformer, kept: &dyn Fn(Site) -> Tensor, read: &[usize], rng: &mut ChaCha8Rng) -> Edit {
    let sites: Vec<Site> = model.sites().into_iter().filter(|site| site.layer().is_some()).collect();
    let site = *sites.choose(rng).unwrap();
    let x = kept(site);
    let mut at = Slice::whole(site);
    let last = *read.iter().min().unwrap();
    at.pos = match rng.random_range(0..4) {
        0 => Positions::All,
        1 => Positions::From(rng.random_range(0..=last)),
        2 => Positions::At(vec![rng.random_range(0..=last)]),
        _ => Positions::PerRow(read.iter().map(|&read| rng.random_range(0..=read)).collect()),
    };
    let heads = site.axes().iter().position(|axis| matches!(axis, Axis::Head | Axis::KvHead));
    if let (Some(axis), true) = (heads, rng.random_bool(0.7)) {
        at.head = Some(rng.random_range(0..x.dims()[axis]));
    }
    if rng.random_bool(0.3) {
        let first = rng.random_range(0..x.dim(0).unwrap());
        at.rows = Some(first..rng.random_range(first..x.dim(0).unwrap()) + 1);
        if let Positions::PerRow(all) = &at.pos {
            at.pos = Positions::PerRow(all[at.rows.clone().unwrap()].to_vec());
        }
    }
    let hidden = matches!(site, Site::Block(_, At::Scores | At::Pattern));
    let op = match rng.random_range(0..3) {
        _ if hidden || matches!(site, Site::Block(_, At::Router | At::ExpertWeights)) => Op::Scale(0.5),
        0 => Op::Scale(rng.random_range(-1.0..2.0)),
        kind => {
            let part = at.take(&x).unwrap();
            let size = part.elem_count();
            let values: Vec<f64> = (0..size).map(|_| rng.random_range(-1.0..1.0)).collect();
            let values = Tensor::from_vec(values, part.shape(), &Device::Cpu).unwrap();
            if kind == 1 { Op::Set(values) } else { Op::Add(values) }
        }
    };
    Edit { at, op }
}

/// Logits where rows are read, of a whole pass under a cell's edits.
fn naive(model: &Transformer, tokens: &Tensor, cell: &Cell, read: &[usize]) -> Vec<f64> {
    let mut edits = Edits::new(cell.edits.clone());
    let logits = model.forward(tokens, &mut edits).unwrap();
    edits.finish().unwrap();
    at_positions(&logits, read).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn random_cells_of_every_style_equal_whole_passes() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for (style, config) in styles::able() {
        let mut lab = lab(config, DType::F64);
        let model = lab.model.clone();
        let (tokens, read) = tokens(&model, &mut rng);
        let (_, all) =
            model.record(&tokens, |site| !matches!(site, Site::Block(_, at) if at.is_split_input())).unwrap();
        let kept = |site| all.get(site).unwrap().clone();
        let cells: Vec<Cell> = (0..24)
            .map(|_| {
                let count = rng.random_range(1..4);
                Cell { edits: (0..count).map(|_| change(&model, &kept, &read, &mut rng)).collect() }
            })
            .collect();
        let want: Vec<Vec<f64>> = cells.iter().map(|cell| naive(&model, &tokens, cell, &read)).collect();
        let reading = Reading::new(&read, |logits, _| Ok(logits.clone()));
        // from bases that hold nothing but what they must, and all that cells may begin from
        let sites = model.sites();
        let rich = |site| sites.contains(&site);
        let mut found = Vec::new();
        for base in [Base::record(&model, &tokens, |_| false), Base::record(&model, &tokens, rich)] {
            let base = base.unwrap();
            for memory in [1, 1 << 16, 2 << 30] {
                lab.memory = memory;
                found.push(sweep(&lab, &base, &cells, &reading).unwrap());
            }
        }
        for found in &found {
            for ((got, want), cell) in found.iter().zip(&want).zip(&cells) {
                for (got, want) in got.iter().zip(want) {
                    assert!(
                        (got - want).abs() < 1e-9 * want.abs().max(1.0),
                        "{style}: {got} {want} {cell:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn threads_change_no_bit_and_memory_no_more_than_rounding_does() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let mut lab = lab(Config { n_layers: 4, ..Config::tiny_rotary() }, DType::F32);
    let model = lab.model.clone();
    let (tokens, read) = tokens(&model, &mut rng);
    let (_, all) = model.record(&tokens, |site| model.sites().contains(&site)).unwrap();
    let kept = |site| all.get(site).unwrap().clone();
    let cells: Vec<Cell> =
        (0..60).map(|_| Cell { edits: vec![change(&model, &kept, &read, &mut rng)] }).collect();
    let base = Base::record(&model, &tokens, |_| false).unwrap();
    let mut run = |memory, threads: usize| {
        lab.memory = memory;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let reading = Reading::new(&read, |logits, _| Ok(logits.clone()));
            sweep(&lab, &base, &cells, &reading).unwrap()
        })
    };
    let first = run(2 << 30, 1);
    for threads in [2, 3] {
        assert!(run(2 << 30, threads) == first, "{threads} threads");
    }
    // another amount of memory is another plan
    for memory in [1, 1 << 14] {
        for (got, want) in run(memory, 2).concat().iter().zip(first.concat()) {
            assert!((got - want).abs() < 1e-5 * want.abs().max(1.0), "{memory} bytes: {got} {want}");
        }
    }
}

/// Positions at which the two prompts of each row differ.
const DIFFER: [&[usize]; 3] = [&[2], &[4], &[1, 3]];
const LENGTH: usize = 6;

/// Pairs that differ there, and a task's plan of patching them.
fn planned(name: &str, parameters: &[&str]) -> Planned {
    use glassbox::analysis::Analysis;
    use glassbox::analysis::patch::Patch;
    use glassbox::task::{Example, Task};
    let lab = Lab { planned: Some(Arc::new(Plans::default())), ..lab(Config::tiny(), DType::F32) };
    let example = |(row, differ): (usize, &&[usize])| {
        let clean: Vec<u32> = (0..LENGTH).map(|pos| ((7 * row + 3 * pos) % 11) as u32).collect();
        let mut corrupt = clean.clone();
        differ.iter().for_each(|&pos| corrupt[pos] = (corrupt[pos] + 1) % 11);
        Example {
            id: format!("{name}{row}"),
            clean,
            corrupt: Some(corrupt),
            answers: vec![1],
            wrong: vec![2],
            ..Example::default()
        }
    };
    let task = Task { examples: DIFFER.iter().enumerate().map(example).collect(), ..Task::default() };
    let patch: Patch = toml::from_str(&parameters.join("\n")).unwrap();
    patch.run(&lab, &task).unwrap();
    lab.planned.unwrap().take()
}

#[test]
fn what_is_free_is_told_by_tokens_and_what_is_not_costs_its_cone() {
    let c = Config::tiny();
    let (layers, heads, last) = (c.n_layers, c.n_heads, LENGTH - 1);
    // by position, of the stream before each block: free left of the first difference, and of the embedding where the token is the same
    let plan = planned("resid", &["sites = ['resid_pre']", "by = ['position']", "direction = 'noise'"]);
    let (mut runs, mut floor) = (0, 0);
    for differ in DIFFER {
        for layer in 0..layers {
            for pos in (differ[0]..LENGTH).filter(|pos| layer > 0 || differ.contains(pos)) {
                runs += 1;
                floor += cone(&c, Enters::Stream, layer, [pos, pos], last);
            }
        }
    }
    assert_eq!((plan.runs, plan.floor), (runs, floor));
    assert_eq!(plan.free, (DIFFER.len() * layers * LENGTH) as u64 - runs);
    assert!(plan.flops >= plan.floor && plan.passes == 1);
    // by head, everywhere: from the first difference on, in the last layer where it is read alone
    let plan = planned("heads", &["sites = ['z']", "by = ['head']", "direction = 'noise'"]);
    let each = |layer, differ: &[usize]| cone(&c, Enters::Head, layer, [differ[0], last], last);
    let floor: u64 = (0..layers).flat_map(|layer| DIFFER.map(|differ| each(layer, differ))).sum();
    assert_eq!((plan.runs, plan.free), ((3 * layers * heads) as u64, 0));
    // the engine writes all heads anew, the cone the one that changed
    assert_eq!(plan.floor, floor * heads as u64);
}

#[test]
fn a_dry_run_prints_what_the_run_would_take_and_writes_nothing() {
    let bench = Bench::new();
    let shown = bench.ok(&["patch", "--quiet", "--task", "ioi", "--n", "4", "--dry-run", "--format", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let row = &rows[0];
    assert_eq!(row["analysis"], "patch");
    let number = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name} in {row}"));
    assert!(number("runs") > 0.0 && number("gflop") >= number("floor_gflop") && number("floor_gflop") > 0.0);
    assert!((0.0..1.0).contains(&number("waste")) && number("seconds") > 0.0);
    assert!(std::fs::read_dir(bench.path(".")).unwrap().next().is_none(), "nothing is written");
    let shown = bench.ok(&["report", "--quiet", "--n", "2", "--dry-run"]);
    assert!(shown.contains("patch") && shown.contains("components"), "{shown}");
    assert!(std::fs::read_dir(bench.path(".")).unwrap().next().is_none(), "nothing is written");
}
