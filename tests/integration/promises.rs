//! The promises of the engine, as `glassbox verify` checks them, over every style of model; and what a misuse is told.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use glassbox::Result;
use glassbox::hook::Each;
use glassbox::lab::{About, Lab};
use glassbox::model::{Base, Config, Pad, Padding, Stream, Transformer};
use glassbox::site::{At, Site};
use glassbox::verify::{PROMISES, Record, verify};
use glassbox::vocabulary::Vocabulary;

use crate::styles;
use crate::tiny::checkpoint;

const TOKENS: [[u32; 7]; 2] = [[3, 17, 5, 9, 3, 17, 11], [8, 1, 22, 9, 14, 1, 0]];

fn models(dtype: DType) -> Vec<Transformer> {
    [Config::tiny(), Config::tiny_rotary()]
        .into_iter()
        .map(|config| Transformer::random(config, 7, dtype).unwrap())
        .collect()
}

fn lab(model: Transformer) -> Lab {
    Lab::new(model, Vocabulary::default(), About::default())
}

fn tokens(model: &Transformer) -> Tensor {
    model.tokens(&[&TOKENS[0], &TOKENS[1]]).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// Largest distance between finite entries; entries that are infinite must be so on both sides.
fn gap(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let pairs = numbers(a).into_iter().zip(numbers(b));
    pairs.map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() }).fold(0.0, f64::max)
}

/// Verifies, and prints what was measured.
fn kept(lab: &Lab, what: &str) -> Record {
    let record = verify(lab).unwrap();
    assert_eq!(record.promises.len(), PROMISES.len());
    assert_eq!(record.sites.len(), lab.model.every_site().count());
    for row in &record.promises {
        println!(
            "{what}: {} {:?} of {:?} in {} checks",
            row.promise, row.measured, row.tolerance, row.checks
        );
    }
    record.check(what).unwrap();
    record
}

/// The same for many; what is broken is said of all at once.
fn all_kept(labs: impl Iterator<Item = (Lab, String)>) {
    let mut broken = Vec::new();
    for (lab, what) in labs {
        if let Err(error) = verify(&lab).unwrap().check(&what) {
            broken.push(error.to_string());
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_promise_holds_on_the_tiny_checkpoints() {
    for name in ["gpt2", "gpt2-bpe", "llama", "llama-tied"] {
        for dtype in [DType::F64, DType::F32] {
            let lab = Lab::open(&checkpoint(name).to_string_lossy(), dtype, &Device::Cpu).unwrap();
            kept(&lab, name);
        }
    }
}

#[test]
fn every_promise_holds_on_a_checkpoint_of_every_family() {
    let index = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families/index.json");
    let index: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(index).unwrap()).unwrap();
    all_kept(index.into_keys().map(|name| {
        let lab = Lab::open(&checkpoint(&name).to_string_lossy(), DType::F64, &Device::Cpu).unwrap();
        (lab, name)
    }));
}

#[test]
fn every_promise_holds_on_random_models_of_every_style() {
    let styles = styles::all();
    all_kept(styles.into_iter().flat_map(|(what, config)| {
        (0..if what == "tiny" || what == "rotary" { 3 } else { 1 }).map(move |seed| {
            let mut lab = lab(Transformer::random(config.clone(), seed, DType::F64).unwrap());
            lab.seed = seed;
            (lab, what.to_owned())
        })
    }));
}

#[test]
fn a_place_without_effect_is_dead_by_name_of_the_weight() {
    let zero = |x: &mut Tensor| *x = x.zeros_like().unwrap();
    type Kill = (&'static str, fn(&mut Transformer, fn(&mut Tensor)), usize);
    let kills: &[Kill] = &[
        ("W_out is zero", |m, zero| zero(&mut m.blocks[1].mlp.dense_mut().unwrap().out.w), 5),
        ("the gain of ln2 is zero", |m, zero| zero(&mut m.blocks[0].ln2.gain), 3),
        ("nothing reads the MLP's input", |m, zero| zero(&mut m.blocks[0].mlp.dense_mut().unwrap().pre.w), 3),
        ("W_O is zero", |m, zero| zero(&mut m.blocks[0].attention.o.w), 11),
        ("the gain of ln1 is zero", |m, zero| zero(&mut m.blocks[1].ln1.gain), 8),
        ("W_V is zero", |m, zero| zero(&mut m.blocks[1].attention.v.w), 8),
        ("W_Q is zero", |m, zero| zero(&mut m.blocks[1].attention.q.w), 1),
        ("W_K is zero", |m, zero| zero(&mut m.blocks[1].attention.k.w), 3),
        ("the gain of ln_final is zero", |m, zero| zero(&mut m.ln_final.gain), 48),
        ("W_U is zero", |m, zero| zero(&mut m.unembed.w), 48),
    ];
    for &(why, kill, expected) in kills {
        let mut model = Transformer::random(Config::tiny(), 7, DType::F64).unwrap();
        kill(&mut model, zero);
        let record = verify(&lab(model)).unwrap();
        let dead: Vec<&str> = record
            .sites
            .iter()
            .filter(|row| row.note.as_deref().is_some_and(|note| note.contains(why)))
            .map(|row| row.site.as_str())
            .collect();
        println!("{why}: {dead:?}");
        assert_eq!(dead.len(), expected, "{why}: {dead:?}");
        record.check(why).unwrap();
    }
}

#[test]
fn padding_is_refused_where_it_cannot_be() {
    let model = &models(DType::F32)[0];
    let batch = model.padded(&[&[1, 2, 3], &[4]], Pad::Left).unwrap();
    let stream = model.embed(&batch, &mut ()).unwrap();
    let error = stream.at(&[2, 1]).unwrap_err().to_string();
    assert!(error.contains("column 1 of row 1 is padding") && error.contains("2..3"), "{error}");
    assert_eq!(stream.at(&[0, 2]).unwrap().resid.dims(), [2, 1, 16]);
    // the context bounds the longest row, not the columns of the batch
    let wide = Pad::Right.fill(&[5; 32], 40);
    assert!(model.forward(&model.tokens(&[&wide]).unwrap(), &mut ()).is_ok());
    let long = Pad::Right.fill(&[5; 33], 40);
    let error = model.forward(&model.tokens(&[&long]).unwrap(), &mut ()).unwrap_err().to_string();
    assert!(error.contains("33 tokens"), "{error}");
}

#[test]
fn watching_does_not_change_what_is_computed() {
    for model in models(DType::F32) {
        let plain = model.forward(&tokens(&model), &mut ()).unwrap();
        let costly = |site: Site| matches!(site, Site::Block(_, At::Result));
        let (watched, _) =
            model.record(&tokens(&model), |site| model.sites().contains(&site) && !costly(site)).unwrap();
        assert_eq!(numbers(&plain), numbers(&watched), "bit for bit");
        for site in model.every_site().collect::<Vec<_>>() {
            let (watched, _) = model.record(&tokens(&model), |s| s == site).unwrap();
            assert!(gap(&plain, &watched) < 1e-5, "{site}");
        }
    }
}

#[test]
fn reading_one_position_per_row_equals_reading_all() {
    for model in models(DType::F32) {
        let base = Base::record(&model, &tokens(&model), |_| false).unwrap();
        let stream =
            model.run(base.stream(1, 2).unwrap(), Some(&base), model.config.n_layers, &mut ()).unwrap();
        let all = model.unembed(&stream, &mut ()).unwrap();
        for read in [[6, 6], [3, 5]] {
            let some = model.unembed(&stream.at(&read).unwrap(), &mut ()).unwrap();
            for (row, pos) in read.into_iter().enumerate() {
                let want = all.narrow(0, row, 1).unwrap().narrow(1, pos - 2, 1).unwrap();
                assert!(gap(&some.narrow(0, row, 1).unwrap(), &want) < 1e-5);
            }
        }
        assert!(stream.at(&[1, 6]).is_err(), "left of the window");
        assert!(stream.at(&[6]).is_err(), "one position for two rows");
    }
}

#[test]
fn misuse_is_refused_with_a_sentence() {
    let model = &models(DType::F32)[0];
    let refused = |result: Result<Tensor>, word: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(model.forward(&model.tokens(&[&[99]]).unwrap(), &mut ()), "99");
    refused(model.forward(&model.tokens(&[&[1; 40]]).unwrap(), &mut ()), "context is 32");
    refused(model.forward(&model.tokens(&[&[]]).unwrap(), &mut ()), "empty");
    refused(model.tokens(&[&[1, 2], &[1]]), "cannot share a batch");
    let stream = Stream {
        layer: 0,
        first_pos: 2,
        padding: Padding::default(),
        resid: Tensor::zeros((1, 2, 16), DType::F32, &Device::Cpu).unwrap(),
        learned: None,
    };
    assert!(model.run(stream.clone(), None, 2, &mut ()).unwrap_err().to_string().contains("position 2"));
    assert!(model.run(stream.clone(), None, 9, &mut ()).unwrap_err().to_string().contains("layer 9"));
    // three sequences are no copies of two rows
    let base =
        Base::record(model, &model.tokens(&[&[1, 2, 3, 4], &[4, 3, 2, 1]]).unwrap(), |_| false).unwrap();
    let three = Stream { resid: stream.resid.repeat((3, 1, 1)).unwrap(), ..stream };
    let error = model.run(three, Some(&base), 2, &mut ()).unwrap_err().to_string();
    assert!(error.contains("a divisor of 3"), "{error}");
    let mut shrink = Each(|_, x: Tensor| Ok(x.narrow(0, 0, 1)?));
    refused(model.forward(&tokens(model), &mut shrink), "what the hook returned");
}
