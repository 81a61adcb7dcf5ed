//! Methods that find edges, on models whose edges are known: programs compiled by hand, and the bundled model.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device};
use glassbox::analysis::circuit::{Circuits, Method};
use glassbox::analysis::edges::{Carry, Edges, Scoring};
use glassbox::analysis::{Analysis, Findings};
use glassbox::lab::Lab;
use glassbox::metric::Metric;
use glassbox::row::Rows;
use glassbox::stats::Bootstrap;
use glassbox::study::{Prompts, Study};

use crate::compiled::{Compiled, PROGRAMS};
use crate::wired::truth::{RESAMPLE, ZERO};
use crate::wired::{CLEAN, NO_A, edges as by_hand};

const ALL: [Scoring; 5] =
    [Scoring::Exact, Scoring::Eap, Scoring::EapIgInputs, Scoring::EapIgActivations, Scoring::CleanCorrupt];

fn table<'a>(findings: &'a Findings, name: &str) -> &'a Rows {
    findings.tables.iter().find(|table| table.name == name).unwrap_or_else(|| panic!("no table {name}"))
}

/// A number of `circuit_summary`.
fn measure(findings: &Findings, name: &str) -> f64 {
    let rows = table(findings, "circuit_summary").only("measure", name).unwrap();
    rows.numbers("value").unwrap()[0].unwrap_or_else(|| panic!("no {name}"))
}

/// The area under the curve of finding known edges, by method.
fn areas(findings: &Findings) -> Vec<(String, f64)> {
    let rows = table(findings, "edges_truth");
    let areas = rows.numbers("auroc").unwrap();
    rows.texts("method").unwrap().into_iter().zip(areas.into_iter().flatten()).collect()
}

/// Puts the edges that are true where the model's own description would stand.
fn describe(program: &mut Compiled, edges: &BTreeSet<String>) {
    program.lab.about.circuit = Some(serde_json::json!({ &program.task.name: { "edges": edges } }));
}

#[test]
fn exact_cuts_find_every_edge_of_the_compiled_programs_and_no_other() {
    for make in PROGRAMS {
        let mut program = make(8.0);
        for (carry, truth) in
            [(Carry::Corrupt, program.resample.clone()), (Carry::Zero, program.zero.clone())]
        {
            describe(&mut program, &truth);
            let edges = Edges { methods: ALL.to_vec(), carry, verify: 0, ..Edges::default() };
            let found = areas(&edges.run(&program.lab, &program.task).unwrap());
            println!("{}, {carry:?}, {} true edges: {found:.3?}", program.name, truth.len());
            assert_eq!(found[0].0, "exact");
            assert_eq!(found[0].1, 1.0, "{} {carry:?}", program.name);
        }
    }
}

#[test]
fn acdc_keeps_the_edges_of_the_compiled_programs_and_no_other() {
    for make in PROGRAMS {
        let mut program = make(8.0);
        for (carry, truth) in
            [(Carry::Corrupt, program.resample.clone()), (Carry::Zero, program.zero.clone())]
        {
            describe(&mut program, &truth);
            // by the logit difference an edge whose loss raises it may go: brackets have one where zeros are put
            let losses: &[Metric] = match carry {
                Carry::Corrupt => &[Metric::Kl, Metric::LogitDiff],
                _ => &[Metric::Kl],
            };
            for &loss in losses {
                let circuit = Circuits {
                    method: Method::Acdc,
                    thresholds: vec![1e-9, 1e-6, 1e-4, 1e-2, 1e-1, 1.0],
                    loss,
                    carry,
                    subsets: 0,
                    ..Circuits::default()
                };
                let findings = circuit.run(&program.lab, &program.task).unwrap();
                let area = measure(&findings, "AUROC");
                println!("{}, {carry:?}, {loss}: {area:.3}", program.name);
                assert_eq!(area, 1.0, "{} {carry:?} {loss}", program.name);
            }
        }
    }
}

/// The wired model with its true edges where its own description would stand.
fn wired(truth: &[&str]) -> (Lab, glassbox::task::Task) {
    let (mut lab, task) = (crate::wired::wired_at(8.0), crate::wired::truth::pairs());
    lab.about.circuit = Some(serde_json::json!({ &task.name: { "edges": truth } }));
    (lab, task)
}

#[test]
fn exact_cuts_and_acdc_find_the_edges_of_the_wired_model() {
    for (carry, truth) in [(Carry::Corrupt, &RESAMPLE[..]), (Carry::Zero, &ZERO[..])] {
        let (lab, task) = wired(truth);
        let edges = Edges { methods: ALL.to_vec(), carry, verify: 0, ..Edges::default() };
        let found = areas(&edges.run(&lab, &task).unwrap());
        println!("wired, {carry:?}: {found:.3?}");
        assert_eq!(found[0], ("exact".to_owned(), 1.0));
        let circuit = Circuits {
            method: Method::Acdc,
            thresholds: vec![1e-6, 1e-3, 0.1, 1.0],
            loss: Metric::LogitDiff,
            carry,
            subsets: 0,
            ..Circuits::default()
        };
        assert_eq!(measure(&circuit.run(&lab, &task).unwrap(), "AUROC"), 1.0, "{carry:?}");
    }
}

#[test]
fn estimates_are_those_derived_by_hand() {
    for beta in [7.0, 8.0, 9.0] {
        let lab = crate::wired::wired_at(beta);
        let task = crate::wired::task(NO_A);
        for (scoring, carry, truth) in [
            (Scoring::Eap, Carry::Corrupt, by_hand::eap(beta, &CLEAN, Some(&NO_A))),
            (Scoring::Eap, Carry::Zero, by_hand::eap(beta, &CLEAN, None)),
            (Scoring::EapIgInputs, Carry::Corrupt, by_hand::eap_ig(beta, &CLEAN, &NO_A, 5)),
            (Scoring::CleanCorrupt, Carry::Corrupt, by_hand::clean_corrupt(beta, &CLEAN, &NO_A)),
        ] {
            let edges = Edges { methods: vec![scoring], carry, verify: 0, ..Edges::default() };
            let findings = edges.run(&lab, &task).unwrap();
            let rows = table(&findings, "edges");
            let (names, lost) = (rows.texts("edge").unwrap(), rows.numbers("lost").unwrap());
            let largest = truth.values().fold(0.0f64, |most, x| most.max(x.abs()));
            let mut checked = 0;
            for (name, lost) in names.iter().zip(lost) {
                let Some(by_hand) = truth.get(name) else { continue };
                let lost = lost.unwrap();
                assert!(
                    (lost - by_hand).abs() < 1e-9 * largest.max(1.0),
                    "{scoring:?} {carry:?} {name}: {lost} and {by_hand}"
                );
                checked += 1;
            }
            assert_eq!(checked, truth.len());
        }
    }
}

fn textbook(task: &str) -> (Lab, glassbox::task::Task) {
    let lab = Lab::open("textbook", DType::F32, &Device::Cpu).unwrap();
    let prompts = Prompts { generate: Some(task.to_owned()), n: Some(16), ..Prompts::default() };
    let study = Study { task: prompts, ..Study::default() };
    let task = study.task(&lab).unwrap();
    (lab, task)
}

#[test]
fn exact_cuts_find_the_designed_edges_of_the_bundled_model() {
    for task in ["ioi", "induction", "facts"] {
        let (lab, task) = textbook(task);
        let edges = Edges { methods: ALL.to_vec(), ..Edges::default() };
        let findings = edges.run(&lab, &task).unwrap();
        let found = areas(&findings);
        println!("{}: {found:.3?}", task.name);
        assert!(found[0].1 > 0.95, "{}: {found:?}", task.name);
        let summary = table(&findings, "edges_agreement_summary");
        assert_eq!(summary.len(), ALL.len() - 1);
    }
}

#[test]
fn a_circuit_of_the_bundled_model_carries_the_behaviour_alone() {
    let (lab, task) = textbook("ioi");
    let findings = Circuits { resamples: 20, ..Circuits::default() }.run(&lab, &task).unwrap();
    let faithfulness = measure(&findings, "faithfulness");
    assert!((0.9..=1.1).contains(&faithfulness), "{faithfulness}");
    assert!(measure(&findings, "edges") < 60.0);
    assert!(measure(&findings, "CMD") < measure(&findings, "CMD of random circuits"));
    // a file of it is the same circuit again
    let given = Some(findings.files["circuit.json"].clone());
    let again = Circuits { given, ..Circuits::default() }.run(&lab, &task).unwrap();
    assert_eq!(measure(&again, "faithfulness"), faithfulness);
    assert_eq!(measure(&again, "edges"), measure(&findings, "edges"));
}

/// Known above others, over all pairs of one and the other, ties counting half.
fn won(known: &[f64], others: &[f64]) -> f64 {
    let win = |a: f64, b: f64| if a == b { 0.5 } else { f64::from(u8::from(a > b)) };
    let wins: f64 = known.iter().flat_map(|a| others.iter().map(move |b| win(a.abs(), b.abs()))).sum();
    wins / (known.len() * others.len()) as f64
}

#[test]
fn intervals_of_areas_are_those_of_prompts_drawn_anew() {
    let (lab, task) = textbook("induction");
    let methods = vec![Scoring::Eap, Scoring::CleanCorrupt];
    let findings = Edges { methods, verify: 0, ..Edges::default() }.run(&lab, &task).unwrap();
    let described = lab.about.circuit.as_ref().unwrap()[&task.name]["edges"].as_array().unwrap().clone();
    let described: BTreeSet<&str> = described.iter().map(|edge| edge.as_str().unwrap()).collect();
    let truth = table(&findings, "edges_truth");
    for (m, method) in truth.texts("method").unwrap().iter().enumerate() {
        let rows = table(&findings, "examples_edges").only("method", method).unwrap();
        let (edges, effects) = (rows.texts("edge").unwrap(), rows.numbers("effect").unwrap());
        // of each edge its effect on every prompt, in the order of the prompts
        let mut each: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        edges.iter().zip(effects).for_each(|(edge, x)| each.entry(edge).or_default().push(x.unwrap()));
        each.retain(|edge, _| !edge.starts_with("input->"));
        assert!(each.values().all(|effects| effects.len() == task.examples.len()));
        let area = |draw: &[u32]| {
            let of = |is_known: bool| -> Vec<f64> {
                let own = each.iter().filter(|(edge, _)| described.contains(*edge) == is_known);
                own.map(|(_, effects)| draw.iter().map(|&i| effects[i as usize]).sum()).collect()
            };
            won(&of(true), &of(false))
        };
        let all: Vec<u32> = (0..task.examples.len() as u32).collect();
        let bootstrap = Bootstrap::grouped(&task.units(), lab.seed);
        let mut drawn: Vec<f64> = bootstrap.resamples(Bootstrap::DRAWS).into_iter().map(area).collect();
        drawn.sort_by(f64::total_cmp);
        let quantile = |q: f64| {
            let place = q * (drawn.len() - 1) as f64;
            let (low, high) = (drawn[place.floor() as usize], drawn[place.ceil() as usize]);
            low + place.fract() * (high - low)
        };
        for (column, expected) in
            [("auroc", area(&all)), ("ci_lo", quantile(0.025)), ("ci_hi", quantile(0.975))]
        {
            let found = truth.numbers(column).unwrap()[m].unwrap();
            assert!((found - expected).abs() < 1e-9, "{method} {column}: {found}, not {expected}");
        }
        assert!(quantile(0.025) < 1.0, "{method}: an interval of no width tells little");
    }
}
