//! Small programs compiled by hand into transformers: whom each part listens to is known, and whom it does not.
//!
//! The true edges of a program are read off its construction and written down with it: an edge is true if its reader has weights
//! on what its writer writes, and something of it arrives at the logits. An edge that carries the same in every prompt (a
//! position, a constant) matters where zero stands in for it, and not where another prompt's value does: there are two lists. The
//! tests confirm both by cutting every edge alone, and then all that are said not to matter at once, with a hook that knows
//! nothing of graphs ([`oracle`]).

mod assembler;
mod brackets;
mod histogram;
mod oracle;
mod pointer;
mod sort;

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;
use glassbox::gradient::Gradients;
use glassbox::lab::{About, Lab};
use glassbox::site::{At, Site};
use glassbox::task::{Example, Task};
use glassbox::vocabulary::Vocabulary;

use assembler::Program;
use oracle::{Edge, Reader, Written};

/// The programs, each for a sharpness of attention: the score β of what a head selects, everything else having score 0. From β = 7
/// to 9 what is selected has about .99 to .999 of a head's attention.
pub const PROGRAMS: [fn(f64) -> Compiled; 4] =
    [sort::sort, histogram::double_histogram, brackets::brackets, pointer::pointer];

/// A program with everything known about it. Edges are named as in EAP-IG: `input->a0.h0<q>`, `a0.h0->m0`.
pub struct Compiled {
    pub name: &'static str,
    /// The program as a model, in f64.
    pub lab: Lab,
    /// Pairs of prompts of one length with different answers: each other's wrong answer.
    pub task: Task,
    /// The edges whose loss changes the output, where zero stands in for what they carry.
    pub zero: BTreeSet<String>,
    /// The same where the corrupt prompt's value stands in.
    pub resample: BTreeSet<String>,
    /// The nodes that no true edge touches.
    pub decoys: Vec<&'static str>,
    /// Every prompt.
    prompts: Vec<Vec<u32>>,
    /// Where answers are due.
    ends: Vec<usize>,
    /// What the program says to a prompt, at a position.
    answer: fn(&[u32], usize) -> u32,
}

/// How many pairs a task has.
const PAIRS: usize = 24;

fn names(edges: &[&str]) -> BTreeSet<String> {
    edges.iter().map(|&edge| edge.to_owned()).collect()
}

/// The program as a lab, and a task; what is true of it is yet to be said.
fn compiled(
    name: &'static str,
    program: &Program,
    prompts: Vec<Vec<u32>>,
    ends: Vec<usize>,
    answer: fn(&[u32], usize) -> u32,
) -> Compiled {
    // the first prompt from here on that does not have this answer
    let other = |from: usize, end: usize, than: Option<u32>| {
        let mut prompts = prompts.iter().cycle().skip(from % prompts.len()).take(prompts.len());
        prompts.find(|prompt| Some(answer(prompt, end)) != than).unwrap().clone()
    };
    let mut examples: Vec<Example> = Vec::new();
    for i in 0..PAIRS {
        let end = ends[i % ends.len()];
        let clean = other(1009 * i, end, examples.last().map(|example| example.answers[0]));
        let right = answer(&clean, end);
        let corrupt = other(2003 * i + 499, end, Some(right));
        examples.push(Example {
            id: format!("{name} {i}"),
            answers: vec![right],
            wrong: vec![answer(&corrupt, end)],
            clean,
            corrupt: Some(corrupt),
            pos: BTreeMap::from([("end".to_owned(), end)]),
            ..Example::default()
        });
    }
    Compiled {
        name,
        lab: Lab::new(
            program.assemble(),
            Vocabulary::default(),
            About { name: name.into(), ..About::default() },
        ),
        task: Task { name: name.into(), examples, ..Task::default() },
        zero: BTreeSet::new(),
        resample: BTreeSet::new(),
        decoys: Vec::new(),
        prompts,
        ends,
        answer,
    }
}

impl Compiled {
    fn tokens(&self, prompts: impl Iterator<Item = impl AsRef<[u32]>>) -> Tensor {
        let prompts: Vec<_> = prompts.collect();
        let rows: Vec<&[u32]> = prompts.iter().map(AsRef::as_ref).collect();
        self.lab.model.tokens(&rows).unwrap()
    }

    fn clean(&self) -> Tensor {
        self.tokens(self.task.examples.iter().map(|example| &example.clean))
    }

    fn corrupt(&self) -> Tensor {
        self.tokens(self.task.examples.iter().filter_map(|example| example.corrupt.as_ref()))
    }

    /// Logits of each example where its answer is due.
    fn at_end(&self, logits: &Tensor) -> Vec<Vec<f64>> {
        let logits: Vec<Vec<Vec<f64>>> = logits.to_vec3().unwrap();
        logits.iter().zip(&self.task.examples).map(|(rows, example)| rows[example.end()].clone()).collect()
    }

    /// Mean logit difference over the task.
    fn score(&self, ends: &[Vec<f64>]) -> f64 {
        let difference = |(logits, example): (&Vec<f64>, &Example)| {
            logits[example.answers[0] as usize] - logits[example.wrong[0] as usize]
        };
        ends.iter().zip(&self.task.examples).map(difference).sum::<f64>() / ends.len() as f64
    }
}

/// The largest difference anywhere.
fn apart(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let each = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs());
    each.fold(0.0, f64::max)
}

/// Mean KL divergence of the second from the first, in nats.
fn divergence(from: &[Vec<f64>], of: &[Vec<f64>]) -> f64 {
    let log_probs = |logits: &[f64]| -> Vec<f64> {
        let total = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        logits.iter().map(|logit| logit - total).collect()
    };
    let each = from.iter().zip(of).map(|(from, of)| {
        let pairs = log_probs(from).into_iter().zip(log_probs(of));
        pairs.map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
    });
    each.sum::<f64>() / from.len() as f64
}

/// Below this an edge carries nothing; above [`SOMETHING`] it carries something. Nothing may lie between.
const NOTHING: f64 = 1e-9;
const SOMETHING: f64 = 1e-4;

/// On every prompt there is, at every position where an answer is due, with a margin of half the gain or so.
#[test]
fn every_model_is_its_program() {
    for (program, beta) in PROGRAMS.iter().flat_map(|program| [7.0, 8.0, 9.0].map(|beta| (program, beta))) {
        let compiled = program(beta);
        for prompts in compiled.prompts.chunks(256) {
            let tokens = compiled.tokens(prompts.iter());
            let logits = compiled.lab.model.forward(&tokens, &mut ()).unwrap();
            let logits: Vec<Vec<Vec<f64>>> = logits.to_vec3().unwrap();
            for (prompt, logits) in prompts.iter().zip(logits) {
                for &end in &compiled.ends {
                    let (right, logits) = ((compiled.answer)(prompt, end) as usize, &logits[end]);
                    let others = (0..logits.len()).filter(|&i| i != right).map(|i| logits[i]);
                    let margin = logits[right] - others.fold(f64::NEG_INFINITY, f64::max);
                    assert!(margin > 2.5, "{} at {end} of {prompt:?}: {logits:?}", compiled.name);
                }
            }
        }
    }
}

/// Each edge alone, both ways, over the task: the true ones change logits, mean logit difference and distribution, the others
/// nothing at all.
#[test]
fn the_true_edges_are_those_that_matter() {
    for compiled in PROGRAMS.map(|program| program(8.0)) {
        let (model, tokens) = (&compiled.lab.model, compiled.clean());
        let all = oracle::edges(model);
        let (whole, written) = oracle::cut(model, &tokens, &[], &Written::new());
        let whole = compiled.at_end(&whole);
        let (corrupted, corrupt) = oracle::cut(model, &compiled.corrupt(), &[], &Written::new());
        let zeros = written.iter().map(|(&writer, x)| (writer, x.zeros_like().unwrap())).collect();
        for (way, instead, edges) in
            [("zero", &zeros, &compiled.zero), ("resample", &corrupt, &compiled.resample)]
        {
            let (there, others): (Vec<Edge>, Vec<Edge>) =
                all.iter().partition(|edge| edges.contains(&oracle::name(**edge)));
            assert_eq!(there.len(), edges.len(), "{} {way}: all exist", compiled.name);
            let cut = |edges: &[Edge]| compiled.at_end(&oracle::cut(model, &tokens, edges, instead).0);
            for &edge in &all {
                let ends = cut(&[edge]);
                let logits = apart(&ends, &whole);
                let score = (compiled.score(&ends) - compiled.score(&whole)).abs();
                let divergence = divergence(&whole, &ends);
                let say = format!(
                    "{} {way} {}: {logits:e} {score:e} {divergence:e}",
                    compiled.name,
                    oracle::name(edge)
                );
                match there.contains(&edge) {
                    true => assert!(logits.min(score).min(divergence) > SOMETHING, "{say}"),
                    false => assert!(logits.max(score).max(divergence) < NOTHING, "{say}"),
                }
            }
            assert!(
                apart(&cut(&others), &whole) < NOTHING,
                "{} {way}: the true edges are enough",
                compiled.name
            );
            // ACDC (Conmy et al. 2023) finds them: from the last reader to the first, an edge goes if that changes nothing
            let (mut gone, mut lost) = (Vec::new(), 0.0);
            for &edge in all.iter().rev() {
                gone.push(edge);
                let now = divergence(&whole, &cut(&gone));
                if now - lost < NOTHING {
                    lost = now;
                } else {
                    gone.pop();
                }
            }
            gone.reverse();
            assert_eq!(gone, others, "{} {way}", compiled.name);
        }
        // with every edge cut, the corrupt run: the oracle is one
        let ends = compiled.at_end(&oracle::cut(model, &tokens, &all, &corrupt).0);
        assert!(apart(&ends, &compiled.at_end(&corrupted)) < NOTHING, "{}", compiled.name);
        assert!(apart(&ends, &whole) > 1.0, "{}", compiled.name);
    }
}

/// Distractors are there, and they do something: their outputs differ from prompt to prompt.
#[test]
fn decoys_are_alive_and_touch_no_true_edge() {
    for compiled in PROGRAMS.map(|program| program(8.0)) {
        let model = &compiled.lab.model;
        let (_, clean) = oracle::cut(model, &compiled.clean(), &[], &Written::new());
        let (_, corrupt) = oracle::cut(model, &compiled.corrupt(), &[], &Written::new());
        for (writer, x) in &clean {
            let name = writer.to_string();
            let touches = |edge: &String| edge.split(['-', '>', '<']).any(|part| part == name);
            let touched = compiled.zero.iter().any(touches);
            assert_eq!(!touched, compiled.decoys.contains(&&name[..]), "{} {name}", compiled.name);
            let moved = (x - &corrupt[writer]).unwrap().abs().unwrap().max_all().unwrap();
            assert!(moved.to_scalar::<f64>().unwrap() > 0.1, "{} {name} never changes", compiled.name);
        }
        compiled.task.check().unwrap();
        let units: BTreeSet<usize> = compiled.task.units().into_iter().collect();
        assert!(units.len() > 13, "{} asks {} different prompts", compiled.name, units.len());
        assert!(compiled.resample.is_subset(&compiled.zero));
        assert!(2 * compiled.zero.len() < oracle::edges(model).len(), "{}", compiled.name);
    }
}

/// Every reader that a true edge leads to has a gradient, so that methods of the first order have a chance.
#[test]
fn gradients_live() {
    for compiled in PROGRAMS.map(|program| program(8.0)) {
        let mut hook = Gradients::new(|site| matches!(site, Site::Block(_, at) if at.is_split_input()));
        let logits = compiled.lab.model.forward(&compiled.clean(), &mut hook).unwrap();
        let mut worth = vec![0.0; logits.elem_count()];
        let (_, pos, d_vocab) = logits.dims3().unwrap();
        for (i, example) in compiled.task.examples.iter().enumerate() {
            let at = |id: u32| (i * pos + example.end()) * d_vocab + id as usize;
            (worth[at(example.answers[0])], worth[at(example.wrong[0])]) = (1.0, -1.0);
        }
        let worth = Tensor::from_vec(worth, logits.dims(), logits.device()).unwrap();
        let found = hook.of(&(logits * worth).unwrap().sum_all().unwrap()).unwrap();
        for (_, reader) in oracle::edges(&compiled.lab.model) {
            let grad = match reader {
                Reader::Head(layer, head, at) => found.block(layer, at).unwrap().narrow(2, head, 1).unwrap(),
                Reader::Mlp(layer) => found.block(layer, At::MlpIn).unwrap().clone(),
                Reader::Logits => continue,
            };
            let size: f64 = grad.abs().unwrap().max_all().unwrap().to_scalar().unwrap();
            let leads_on = compiled.zero.iter().any(|edge| edge.ends_with(&format!("->{reader}")));
            assert_eq!(size > SOMETHING, leads_on, "{} {reader}: {size:e}", compiled.name);
        }
    }
}
