//! The trainer: resuming gives the same weights, recipes are checked, an interrupted run leaves only a partial folder.

use std::sync::atomic::AtomicBool;

use candle_core::DType;
use glassbox::lab::Silent;
use glassbox::output::{Folder, Manifest, Place};
use glassbox::train::{Recipe, STATE, Trainer};

const TINY: &str = r#"
name = "tiny"
seed = 3
[model]
layers = 3
heads = 4
d_model = 16
d_mlp = 16
context = 32
[training]
steps = 6
rows = 3
length = 32
learning_rate = 0.002
warmup = 2
floor = 0.05
beta1 = 0.9
beta2 = 0.98
weight_decay = 0.05
clip = 1.0
answer_weight = 5.0
checkpoints = [4]
gates_every = 100
[data]
periodic = 0.3
periods = [5, 9]
two_people = 0.5
stand_ins = 0.1
one_person = 0.1
facts = 0.2
greater_than = 0.05
capital = 0.05
agreement = 0.04
gender = 0.03
succession = 0.03
[attention]
weight = 0.3
exchange = 0.5
"#;

fn recipe() -> Recipe {
    Recipe::parse(TINY).unwrap()
}

fn weights(trainer: &Trainer) -> Vec<u8> {
    trainer.weights(DType::F32).unwrap()
}

#[test]
fn resuming_gives_the_same_weights_bit_for_bit() {
    let mut whole = Trainer::new(recipe()).unwrap();
    (0..6).for_each(|_| whole.advance().unwrap());
    let mut first = Trainer::new(recipe()).unwrap();
    (0..3).for_each(|_| first.advance().unwrap());
    let state = first.state().unwrap();
    let mut second = Trainer::resume(recipe(), &state).unwrap();
    assert_eq!(second.step(), 3);
    (0..3).for_each(|_| second.advance().unwrap());
    assert!(weights(&second) == weights(&whole));
    assert!(weights(&first) != weights(&whole));
}

#[test]
fn an_interrupted_run_is_continued_to_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let place = |out: &std::path::Path, resume: bool| {
        Folder::create(&Place { out: Some(out), verb: "train", model: "tiny", resume, ..Place::default() })
    };
    let go = AtomicBool::new(false);
    let whole = at("whole");
    let mut folder = place(&whole, false).unwrap();
    Trainer::new(recipe()).unwrap().run(&mut folder, &Silent, &go).unwrap();
    folder.finish(&Manifest::default()).unwrap();

    let out = at("broken");
    let mut folder = place(&out, false).unwrap();
    let mut trainer = Trainer::new(recipe()).unwrap();
    (0..5).for_each(|_| trainer.advance().unwrap());
    let stopped = trainer.run(&mut folder, &Silent, &AtomicBool::new(true)).unwrap_err();
    assert_eq!(stopped.exit_code(), 130);
    assert!(stopped.to_string().contains("after step 5"), "{stopped}");
    drop(folder);
    assert!(!out.exists());

    let mut folder = place(&out, true).unwrap();
    assert!(folder.resumed());
    let state = folder.read(STATE).unwrap().unwrap();
    let mut trainer = Trainer::resume(recipe(), &state).unwrap();
    assert_eq!(trainer.step(), 5);
    trainer.run(&mut folder, &Silent, &go).unwrap();
    folder.finish(&Manifest::default()).unwrap();
    for file in
        ["model.safetensors", "circuit.json", "config.json", "README.md", "recipe.toml", "tokenizer.json"]
    {
        assert!(std::fs::read(whole.join(file)).unwrap() == std::fs::read(out.join(file)).unwrap(), "{file}");
    }
    assert!(!out.join(STATE).exists());
    assert!(out.join("index.html").exists() && out.join("tables/training.csv").exists());
    assert!(whole.join("checkpoints/step-4.safetensors").exists());
    // and it is a model like any other
    let lab = glassbox::lab::Lab::open(out.to_str().unwrap(), DType::F32, &candle_core::Device::Cpu).unwrap();
    assert_eq!(lab.model.config.d_model, 16);
}

#[test]
fn a_state_of_another_recipe_is_refused() {
    let state = Trainer::new(recipe()).unwrap().state().unwrap();
    let other = Recipe { seed: 4, ..recipe() };
    assert!(Trainer::resume(other, &state).err().unwrap().to_string().contains("another recipe"));
    assert!(Trainer::resume(recipe(), &state[..100]).is_err());
    assert!(Trainer::resume(recipe(), b"").is_err());
}

#[test]
fn recipes_that_make_no_sense_are_refused() {
    let refused = |from: &str, to: &str| Recipe::parse(&TINY.replace(from, to)).unwrap_err().to_string();
    assert!(refused("seed = 3", "sead = 3").contains("sead"));
    assert!(refused("heads = 4", "heads = 5").contains("no multiple of 5 heads"));
    assert!(refused("layers = 3", "layers = 2").contains("3 layers"));
    assert!(refused("length = 32", "length = 33").contains("context of 32"));
    assert!(refused("periodic = 0.3", "periodic = 1.3").contains("shares between 0 and 1"));
    assert!(refused("facts = 0.2", "facts = -0.2").contains("must not be negative"));
    assert!(refused("steps = 6", "steps = 0").contains("at least 1"));
    assert!(refused("periods = [5, 9]", "periods = [9, 5]").contains("rising"));
    assert_eq!(Recipe::parse(&recipe().text().unwrap()).unwrap(), recipe());
}
