//! Causal methods against public implementations: the values of `tests/fixtures/causal.py`, by TransformerLens 2.18 in float64.

mod edges;

use std::path::Path;

use candle_core::{DType, Tensor};
use glassbox::analysis::Analysis;
use glassbox::analysis::atp::{Atp, Grain};
use glassbox::edit::{Edit, Edits, Op};
use glassbox::lab::{About, Lab};
use glassbox::model::Transformer;
use glassbox::record::{Activations, Recorder};
use glassbox::site::{At, Positions, Site, Slice};
use glassbox::task::{Example, Task};
use glassbox::vocabulary::Vocabulary;
use serde::Deserialize;
use serde_json::Value;

use crate::causal::{numbers, table};
use crate::tiny::{checkpoint, open};

/// Largest difference allowed, relative to the largest reference value of a list. The values have twelve digits.
const TOLERANCE: f64 = 1e-8;

const MODELS: [&str; 2] = ["gpt2", "llama"];

/// Two prompts of one length, and what is measured at their end.
#[derive(Deserialize)]
struct Pair {
    clean: Vec<u32>,
    corrupt: Vec<u32>,
    answer: usize,
    wrong: usize,
}

impl Pair {
    /// The run that is changed, and the one that values come from.
    fn runs(&self, direction: &str) -> (&[u32], &[u32]) {
        if direction == "noise" { (&self.clean, &self.corrupt) } else { (&self.corrupt, &self.clean) }
    }

    /// The logit difference at the end.
    fn ld(&self, logits: &Tensor) -> f64 {
        let end = logits.get(0).unwrap().get(self.clean.len() - 1).unwrap().to_vec1::<f64>().unwrap();
        end[self.answer] - end[self.wrong]
    }
}

/// A tiny checkpoint in float64 and the values computed for it.
struct Reference {
    name: &'static str,
    model: Transformer,
    pairs: Vec<Pair>,
    values: Value,
}

fn stored(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn references() -> impl Iterator<Item = Reference> {
    let mut stored = stored("causal.json");
    MODELS.into_iter().map(move |name| {
        let values = stored[name].take();
        let pairs = read(&values["pairs"]);
        Reference { name, model: open(&checkpoint(name), DType::F64).unwrap(), pairs, values }
    })
}

/// The pairs as a task; prompts of one length have the same positions.
fn pairs_of<'a>(pairs: impl IntoIterator<Item = &'a Pair>) -> Task {
    let example = |(i, pair): (usize, &Pair)| Example {
        id: format!("e{i}"),
        clean: pair.clean.clone(),
        corrupt: Some(pair.corrupt.clone()),
        answers: vec![pair.answer as u32],
        wrong: vec![pair.wrong as u32],
        group: pair.clean.len().to_string(),
        ..Example::default()
    };
    Task {
        name: "pairs".into(),
        examples: pairs.into_iter().enumerate().map(example).collect(),
        ..Task::default()
    }
}

fn read<T: for<'a> Deserialize<'a>>(value: &Value) -> T {
    T::deserialize(value).unwrap()
}

/// Holds a list to the reference, and says how far off it is.
fn hold(what: &str, ours: &[f64], reference: &[f64]) {
    assert_eq!(ours.len(), reference.len(), "{what}");
    let size = reference.iter().fold(f64::MIN_POSITIVE, |size, x| size.max(x.abs()));
    let far = |(a, b): (&f64, &f64)| if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() };
    let off = ours.iter().zip(reference).map(far).fold(0.0, f64::max) / size;
    println!("{what}: {off:.1e} off, of {} numbers up to {size:.3}", ours.len());
    assert!(off < TOLERANCE, "{what}: {off:e}\n{ours:?}\n{reference:?}");
}

/// Narrows a slice to the cell of these indices.
type Cut = fn(Slice, &[usize]) -> Slice;

impl Reference {
    fn lab(&self) -> Lab {
        Lab::new(self.model.clone(), Vocabulary::default(), About::default())
    }

    fn ids(&self, tokens: &[u32]) -> Tensor {
        self.model.tokens(&[tokens]).unwrap()
    }

    fn recorded(&self, tokens: &[u32]) -> Activations {
        self.model.record(&self.ids(tokens), |_| true).unwrap().1
    }

    fn edited(&self, pair: &Pair, tokens: &[u32], edits: Vec<Edit>) -> f64 {
        let mut hook = Edits::new(edits);
        let logits = self.model.forward(&self.ids(tokens), &mut hook).unwrap();
        hook.finish().unwrap();
        pair.ld(&logits)
    }

    /// One cell of another run's activation, as an edit.
    fn cell(kind: &str, index: &[usize], source: &Activations) -> Edit {
        let (at, slice): (At, Cut) = match kind {
            "pattern" => (At::Pattern, |slice, index| Slice {
                key: Positions::At(vec![index[3]]),
                ..slice.head(index[1]).pos(Positions::At(vec![index[2]]))
            }),
            "neurons" => (At::MlpPost, |slice, index| Slice {
                index: Some(vec![index[2]]),
                ..slice.pos(Positions::At(vec![index[1]]))
            }),
            _ => (At::ResidMid, |slice, index| slice.pos(Positions::At(vec![index[1]]))),
        };
        let site = Site::Block(index[0], at);
        let slice = slice(Slice::whole(site), index);
        let values = slice.take(source.get(site).unwrap()).unwrap();
        // a slice takes whole rows of keys
        let values = if kind == "pattern" {
            values.flatten_all().unwrap().narrow(0, index[3].min(values.elem_count() - 1), 1).unwrap()
        } else {
            values
        };
        Edit { at: slice, op: Op::Set(values) }
    }
}

#[test]
fn runs_agree() {
    for reference in references() {
        for which in ["clean", "corrupt"] {
            let ours: Vec<f64> = reference
                .pairs
                .iter()
                .map(|pair| {
                    reference.edited(pair, if which == "clean" { &pair.clean } else { &pair.corrupt }, vec![])
                })
                .collect();
            let theirs: Vec<f64> = read(&reference.values["ld"][which]);
            hold(&format!("{}, LD of the {which} runs", reference.name), &ours, &theirs);
        }
    }
}

#[test]
fn single_cells_patched_agree() {
    for reference in references() {
        let cells = &reference.values["cells"];
        for (i, pair) in reference.pairs.iter().enumerate() {
            for kind in ["pattern", "neurons", "mid"] {
                let indices: Vec<Vec<usize>> = read(&cells[kind]);
                for direction in ["noise", "denoise"] {
                    let (run, source) = pair.runs(direction);
                    let source = reference.recorded(source);
                    let patched = |index: &Vec<usize>| {
                        reference.edited(pair, run, vec![Reference::cell(kind, index, &source)])
                    };
                    let ours: Vec<f64> = indices.iter().map(patched).collect();
                    let theirs: Vec<f64> = read(&cells["ld"][i][kind][direction]);
                    hold(&format!("{}, {kind} {direction}", reference.name), &ours, &theirs);
                }
            }
        }
    }
}

#[test]
fn attention_knocked_out_agrees() {
    #[derive(Deserialize)]
    struct Knockout {
        queries: Vec<i64>,
        keys: Vec<usize>,
        first: usize,
        layers: usize,
        ld: Vec<f64>,
    }
    for reference in references() {
        let knockouts: Vec<Knockout> = read(&reference.values["knockout"]);
        let layers = reference.model.config.n_layers;
        for knockout in knockouts {
            let cut = |pair: &Pair| {
                let length = pair.clean.len() as i64;
                let queries = knockout.queries.iter().map(|q| q.rem_euclid(length) as usize).collect();
                let slice = |layer| Slice {
                    pos: Positions::At(queries),
                    key: Positions::At(knockout.keys.clone()),
                    ..Slice::whole(Site::Block(layer, At::Scores))
                };
                let never = Tensor::full(f64::NEG_INFINITY, 1, &candle_core::Device::Cpu).unwrap();
                let window = knockout.first..(knockout.first + knockout.layers).min(layers);
                let slice = slice(0);
                let edits = window.map(|layer| Edit {
                    at: Slice { site: Site::Block(layer, At::Scores), ..slice.clone() },
                    op: Op::Set(never.clone()),
                });
                reference.edited(pair, &pair.clean, edits.collect())
            };
            let ours: Vec<f64> = reference.pairs.iter().map(cut).collect();
            hold(&format!("{}, attention knocked out", reference.name), &ours, &knockout.ld);
        }
    }
}

/// The linear estimates: those with the softmax computed anew are AtP*'s own.
#[test]
fn attribution_patching_agrees() {
    for reference in references() {
        for (i, pair) in reference.pairs.iter().enumerate() {
            let atp = Atp { by: vec![Grain::Position, Grain::Head], top: 0, full: 0, ..Atp::default() };
            let findings = atp.run(&reference.lab(), &pairs_of([pair])).unwrap();
            let gap =
                reference.edited(pair, &pair.clean, vec![]) - reference.edited(pair, &pair.corrupt, vec![]);
            let mut seen = 0;
            for (name, sites, within) in [
                ("atp_position", &["resid_pre", "attn_out", "resid_mid", "mlp_out"][..], "pos"),
                ("atp_head", &["q", "k", "v", "z", "pattern"][..], "head"),
            ] {
                let rows = table(&findings, name);
                for (site, (direction, sign)) in
                    sites.iter().flat_map(|site| [("noise", -1.0), ("denoise", 1.0)].map(|way| (site, way)))
                {
                    let theirs: Vec<Vec<f64>> = read(&reference.values["atp"][i][direction][site]);
                    let rows = rows.only("site", site).unwrap().only("direction", direction).unwrap();
                    let estimate = if ["q", "k"].contains(site) { "linear" } else { "effect" };
                    let mut ours: Vec<Vec<f64>> =
                        theirs.iter().map(|layer| vec![f64::NAN; layer.len()]).collect();
                    let places = rows.texts(within).unwrap();
                    for ((layer, place), effect) in
                        numbers(&rows, "layer").iter().zip(&places).zip(numbers(&rows, estimate))
                    {
                        ours[*layer as usize][place.parse::<usize>().unwrap()] = sign * effect * gap;
                    }
                    hold(
                        &format!("{}, {site} {direction}", reference.name),
                        &ours.concat(),
                        &theirs.concat(),
                    );
                    seen += rows.len();
                }
            }
            assert!(seen > 100);
        }
    }
}

/// What is written at resid_mid is what the MLP reads and what stays in the stream: resid_post = resid_mid + mlp_out, under any
/// write. In TransformerLens 4.3 it is not: there the write reaches the MLP only, and the stream goes on with the value from before.
#[test]
fn a_write_at_resid_mid_stays_in_the_stream_where_the_bridge_loses_it() {
    #[derive(Deserialize)]
    struct Mid {
        pair: usize,
        layer: usize,
        pos: usize,
        off: f64,
        off_before: f64,
        bridge: f64,
        classic: f64,
    }
    let bridge = stored("causal-bridge.json");
    for reference in references() {
        let written: Vec<Mid> = read(&bridge[reference.name]);
        let mut furthest = 0f64;
        for mid in &written {
            let pair = &reference.pairs[mid.pair];
            let source = reference.recorded(&pair.corrupt);
            let edit = Reference::cell("mid", &[mid.layer, mid.pos], &source);
            let mut hook = (Edits::new([edit]), Recorder::new(|_| true));
            let logits = reference.model.forward(&reference.ids(&pair.clean), &mut hook).unwrap();
            hook.0.finish().unwrap();
            let at = |at| hook.1.kept.block(mid.layer, at).unwrap().clone();
            let off = (at(At::ResidPost) - (at(At::ResidMid) + at(At::MlpOut)).unwrap()).unwrap();
            let off = off.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap();
            assert!(off < 1e-12, "{}: {off:e}", reference.name);
            let ours = pair.ld(&logits);
            assert!((ours - mid.classic).abs() < TOLERANCE * mid.classic.abs().max(1.0));
            furthest = furthest.max((ours - mid.bridge).abs());
            // what the bridge did there: resid_post is that of the value before the write, by as much as was written
            assert!(
                mid.off > 1.0 && mid.off_before < 1e-12,
                "{}: {} {}",
                reference.name,
                mid.off,
                mid.off_before
            );
        }
        assert!(furthest > 1.0, "{}: the bridge's logit differences are {furthest} off", reference.name);
    }
}
