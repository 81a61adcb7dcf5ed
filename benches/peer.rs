//! glassbox as a worker of `benches/peers/run.py`: one line in, one line out.
//!
//! `--model DIR [--threads N]` loads a model once and answers `{"task": NAME, "pairs": FILE, …}` with how long
//! the task took and its numbers. Tasks are the analyses as a user runs them, intervals over prompts included. Without a
//! model there is nobody to compare with, and nothing is done.

use std::io::{BufRead, Write};
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use glassbox::analysis::atp::{Atp, Grain, NodeSite};
use glassbox::analysis::edges::{Edges, Scoring};
use glassbox::analysis::patch::{By, Direction, Patch, PatchSite};
use glassbox::analysis::{Analysis, Findings};
use glassbox::checkpoint::read_text;
use glassbox::lab::Lab;
use glassbox::learn::{Logistic, Matrix, Standard};
use glassbox::site::{At, Site};
use glassbox::task::{Side, Task, read_jsonl};
use glassbox::vocabulary::Bos;
use glassbox::{Error, Result};
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

/// What is asked.
#[derive(Deserialize)]
struct Asked {
    task: String,
    #[serde(default)]
    pairs: String,
    /// Bytes that batches may take.
    memory: Option<u64>,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let flag = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let Some(model) = flag("--model") else {
        println!(
            "peer: the other side of `python3 benches/peers/run.py`, which compares with TransformerLens"
        );
        return Ok(());
    };
    if let Some(threads) = flag("--threads").and_then(|threads| threads.parse().ok()) {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|e| Error::Tensor(e.to_string()))?;
    }
    let begin = Instant::now();
    let mut lab = Lab::open(model, DType::F32, &Device::Cpu)?;
    say(&json!({"ready": begin.elapsed().as_secs_f64(), "peak": peak()}));
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Error::Tensor(e.to_string()))?;
        let asked: Asked =
            serde_json::from_str(&line).map_err(|e| Error::usage(e.to_string(), "ask again"))?;
        lab.memory = asked.memory.unwrap_or(lab.memory);
        let (seconds, values) = answer(&lab, model, &asked)?;
        say(&json!({"seconds": seconds, "values": values, "peak": peak()}));
    }
    Ok(())
}

fn say(answer: &Value) {
    println!("{answer}");
    std::io::stdout().flush().ok();
}

/// How long a task took, and its numbers in the order that peers give them in.
fn answer(lab: &Lab, folder: &str, asked: &Asked) -> Result<(f64, Vec<f64>)> {
    if asked.task == "probes" {
        return probes(folder);
    }
    let pairs = std::path::Path::new(&asked.pairs);
    let task = read_jsonl("pairs", &read_text(pairs)?, &lab.vocabulary, Bos::No)?;
    let every: Vec<usize> = (0..task.examples.len()).collect();
    let clean = task.tokens(&lab.model, &every, Side::Clean)?;
    let begin = Instant::now();
    // what is timed, and then what is shown of it
    match asked.task.as_str() {
        "forward" => {
            let logits = lab.model.forward(&clean, &mut ())?;
            let seconds = begin.elapsed().as_secs_f64();
            let (_, pos, vocabulary) = logits.dims3()?;
            let logits = strided(&strided(&logits, 1, 7, pos)?, 2, 1009, vocabulary)?;
            Ok((seconds, numbers(&logits)?))
        }
        "record" => {
            let not_result = |site| match site {
                Site::Block(_, at) => at != At::Result && !at.is_split_input(),
                site => site != Site::Logits,
            };
            let (_, kept) = lab.model.record(&clean, not_result)?;
            let seconds = begin.elapsed().as_secs_f64();
            let layers = 0..lab.model.config.n_layers;
            let sites =
                [At::ResidPost, At::MlpPost].into_iter().flat_map(|at| layers.clone().map(move |l| (l, at)));
            let norm = |(layer, at)| -> Result<f64> {
                let x = kept.block(layer, at)?;
                let last = numbers(&x.narrow(1, x.dim(1)? - 1, 1)?)?;
                Ok(last.iter().map(|x| x * x).sum::<f64>().sqrt())
            };
            Ok((seconds, sites.map(norm).collect::<Result<_>>()?))
        }
        what => {
            let found = analyse(lab, &task, what)?;
            let seconds = begin.elapsed().as_secs_f64();
            Ok((seconds, shown(&found, what)?))
        }
    }
}

fn analyse(lab: &Lab, task: &Task, what: &str) -> Result<Findings> {
    let patch = |site, by| Patch {
        sites: Some(vec![site]),
        by: vec![by],
        direction: Direction::Denoise,
        ..Patch::default()
    };
    let edges = |scoring| Edges { methods: vec![scoring], steps: 5, verify: 0, ..Edges::default() };
    match what {
        "heads" => patch(PatchSite::Z, By::Head).run(lab, task),
        "resid" => patch(PatchSite::ResidPre, By::Position).run(lab, task),
        "head_positions" => patch(PatchSite::Z, By::HeadPosition).run(lab, task),
        "attribution" => Atp {
            sites: Some(SITES.to_vec()),
            direction: Direction::Denoise,
            by: vec![Grain::Position, Grain::Head, Grain::Neuron],
            qk_fix: false,
            grad_drop: false,
            top: 0,
            ..Atp::default()
        }
        .run(lab, task),
        "edges" => edges(Scoring::Eap).run(lab, task),
        "edges_ig" => edges(Scoring::EapIgInputs).run(lab, task),
        _ => Err(Error::usage(format!("there is no task {what}"), "see this file")),
    }
}

/// Every site that both libraries have, in the order in which effects are compared.
const SITES: [NodeSite; 10] = [
    NodeSite::ResidPre,
    NodeSite::AttnOut,
    NodeSite::MlpOut,
    NodeSite::ResidPost,
    NodeSite::Z,
    NodeSite::Q,
    NodeSite::K,
    NodeSite::V,
    NodeSite::Pattern,
    NodeSite::MlpPost,
];

/// The effects of a table or two, in order.
fn shown(found: &Findings, what: &str) -> Result<Vec<f64>> {
    let column = |name: &str| -> Result<Vec<f64>> {
        let table = found.tables.iter().find(|table| table.name == name);
        let table = table.ok_or_else(|| Error::usage(format!("no table {name}"), "see this file"))?;
        Ok(table.numbers("effect")?.into_iter().flatten().collect())
    };
    match what {
        "heads" => column("patch_head"),
        "resid" => column("resid_by_pos"),
        "head_positions" => column("patch_head_pos"),
        "attribution" => Ok([column("atp_position")?, column("atp_head")?].concat()),
        _ => {
            let name = if what == "edges" { "edges.eap" } else { "edges.eap-ig-inputs" };
            let each = found.tensors.get(name).ok_or_else(|| Error::usage("no scores", "see this file"))?;
            numbers(&each.mean(0)?)
        }
    }
}

/// Logistic probes of 13 places: standardised, C = 1.
fn probes(folder: &str) -> Result<(f64, Vec<f64>)> {
    let path = std::path::Path::new(folder).join("probe.safetensors");
    let tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
    let get = |name: &str| {
        tensors.get(name).ok_or_else(|| Error::usage(format!("no {name} in the file"), "run make_model.py"))
    };
    let (x, y) = (get("x")?, get("y")?);
    let y: Vec<usize> = numbers(y)?.into_iter().map(|class| class as usize).collect();
    let (sites, rows, cols) = x.dims3()?;
    let places = (0..sites).map(|i| Ok(Matrix { rows, cols, data: numbers(&x.get(i)?)? }));
    let places: Vec<Matrix> = places.collect::<Result<_>>()?;
    let begin = Instant::now();
    let fit = |x: &Matrix| Logistic::new(&Standard::of(x).apply(x), &y, 2).fit(1.0, &[], 1e-8, 10_000);
    let fits: Vec<_> = places.par_iter().map(fit).collect();
    let seconds = begin.elapsed().as_secs_f64();
    if fits.iter().any(|fit| !fit.converged) {
        return Err(Error::usage("a fit did not converge", "look at its slope"));
    }
    Ok((seconds, fits.into_iter().flat_map(|fit| fit.x).collect()))
}

/// Every `step`-th entry of an axis.
fn strided(x: &Tensor, axis: usize, step: usize, size: usize) -> Result<Tensor> {
    let kept: Vec<u32> = (0..size as u32).step_by(step).collect();
    Ok(x.index_select(&Tensor::new(kept, &Device::Cpu)?, axis)?)
}

fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// Peak memory of this process in KiB, where the system tells.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
