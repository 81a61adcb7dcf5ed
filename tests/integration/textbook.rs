//! The bundled models, held to every number their READMEs promise.

use candle_core::{DType, Device};
use glassbox::lab::Lab;
use glassbox::task::language::Language;
use glassbox::task::language::words::{self, list};
use glassbox::train::gates::{CIRCUIT, Care, measure};
use glassbox::train::{Recipe, circuit, data};

fn open(model: &str) -> Lab {
    Lab::open(model, DType::F32, &Device::Cpu).unwrap()
}

fn folder(model: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/models").join(model)
}

fn recipe(model: &str) -> Recipe {
    Recipe::parse(&std::fs::read_to_string(folder(model).join("recipe.toml")).unwrap()).unwrap()
}

/// The gates that fail, of how many, and whether the README says of each what is measured.
fn failing(model: &str, designed: bool) -> (Vec<String>, usize) {
    let lab = open(model);
    let gates = measure(&lab.model, &lab.vocabulary, designed, Care::Full).unwrap();
    let readme = std::fs::read_to_string(folder(model).join("README.md")).unwrap();
    for gate in &gates {
        let row = readme.lines().find(|line| line.starts_with(&format!("| {} |", gate.name))).unwrap();
        let value: f64 = row.split('|').nth(2).unwrap().trim().parse().unwrap();
        assert!((value - gate.value).abs() < 0.02, "{row} but {}", gate.value);
        assert_eq!(row.contains("**no**"), !gate.holds(), "{row}");
    }
    let failed = gates.iter().filter(|gate| !gate.holds()).map(|gate| gate.name.clone());
    (failed.collect(), gates.len())
}

#[test]
fn textbook_holds_every_gate() {
    assert_eq!(failing("textbook", true), (Vec::new(), 18));
}

/// Nobody designed it, and it does not come to generalise IOI to names it never saw in such a sentence.
#[test]
fn textbook_wild_behaves_but_for_ioi() {
    let (failed, of) = failing("textbook-wild", false);
    assert!(failed.iter().all(|gate| gate.starts_with("IOI")), "{failed:?}");
    assert_eq!(of, 8);
}

#[test]
fn the_last_step_is_the_model_itself() {
    for model in ["textbook", "textbook-wild"] {
        let last = recipe(model).training.steps;
        assert_eq!(open(&format!("{model}@step{last}")).about, open(model).about);
    }
}

#[test]
fn the_circuit_file_says_what_swapping_shows() {
    let lab = open("textbook");
    let written = lab.about.circuit.clone().unwrap();
    let measured = circuit::measured(&lab.model, &lab.vocabulary).unwrap();
    for task in ["ioi", "induction", "facts"] {
        assert_eq!(written[task]["roles"], measured[task]["roles"]);
        assert_eq!(written[task]["edges"], measured[task]["edges"]);
        for (component, total) in written[task]["total"].as_object().unwrap() {
            let again = measured[task]["total"][component].as_f64().unwrap();
            assert!((total.as_f64().unwrap() - again).abs() < 1e-2, "{task} {component}: {total} {again}");
        }
    }
    let totals = written["ioi"]["total"].as_object().unwrap();
    let mut heads: Vec<(&String, f64)> = totals
        .iter()
        .filter(|(name, _)| name.starts_with('a'))
        .map(|(name, total)| (name, total.as_f64().unwrap().abs()))
        .collect();
    heads.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (layer, head) in CIRCUIT {
        let name = format!("a{layer}.h{head}");
        assert!(heads[..4].iter().any(|(first, _)| **first == name), "{name} {heads:?}");
    }
}

#[test]
fn reports_say_that_the_circuit_is_designed() {
    let caveats = open("textbook").about.caveats;
    assert_eq!(caveats.len(), 1);
    assert!(caveats[0].contains("7 of this model's 12 heads") && caveats[0].contains("not discovered"));
    assert!(open("textbook-wild").about.circuit.is_none());
}

#[test]
fn held_out_names_never_stand_in_a_training_sentence_about_two_people() {
    let language = Language::new();
    let held: Vec<u32> = list(words::HELD_OUT).into_iter().map(|name| language.id(name).unwrap()).collect();
    for model in ["textbook", "textbook-wild"] {
        let recipe = recipe(model);
        let mut sentences = 0;
        for step in 0..40 {
            let batch = data::batch(&language, &recipe, step).unwrap();
            for end in 0..batch.tokens.len() {
                let (Some(repeated), Some(receiver)) = (batch.repeated[end], batch.receiver[end]) else {
                    continue;
                };
                let start = end - end % batch.length;
                for name in [
                    batch.tokens[start + repeated],
                    batch.said[start + repeated],
                    batch.said[start + receiver],
                ] {
                    assert!(!held.contains(&name), "{}", language.vocabulary[name as usize]);
                }
                sentences += 1;
            }
        }
        assert!(sentences > 500, "{sentences}");
    }
}

#[test]
fn checkpoints_open_and_files_are_small() {
    for model in ["textbook", "textbook-wild"] {
        let size = std::fs::metadata(folder(model).join("model.safetensors")).unwrap().len();
        assert!(size <= 4 << 20, "{size}");
        let steps = recipe(model).training.checkpoints;
        assert!((3..=8).contains(&steps.len()));
        for step in steps {
            let lab = open(&format!("{model}@step{step}"));
            assert_eq!(lab.model.config.n_layers, 3);
        }
    }
}
