//! The promises of the engine, over both styles of model: learned positions with LayerNorm, rotary with grouped queries.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use glassbox::Result;
use glassbox::edit::{Edit, Edits, Op};
use glassbox::gradient::Gradients;
use glassbox::hook::{Each, Hook};
use glassbox::model::{Base, Config, Padding, Stream, Transformer};
use glassbox::record::Recorder;
use glassbox::site::{At, Axis, Positions, Site, Slice};

const TOKENS: [[u32; 7]; 2] = [[3, 17, 5, 9, 3, 17, 11], [8, 1, 22, 9, 14, 1, 0]];

fn models(dtype: DType) -> Vec<Transformer> {
    [Config::tiny(), Config::tiny_rotary()]
        .into_iter()
        .map(|config| Transformer::random(config, 7, dtype).unwrap())
        .collect()
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

/// Numbers that look random, the same on every machine, none of them constant along any axis.
fn noise(shape: &[usize], salt: f64, like: &Tensor) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count).map(|i| ((i as f64 + salt) * 78.233).sin() * 0.3).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(like.dtype()).unwrap()
}

/// Every site, the split inputs included.
fn every_site(model: &Transformer) -> Vec<Site> {
    let mut sites = model.sites();
    for layer in 0..model.config.n_layers {
        sites.extend(At::ALL.iter().filter(|at| at.is_split_input()).map(|&at| Site::Block(layer, at)));
    }
    sites
}

#[test]
fn every_site_fires_once_with_the_shape_of_the_table() {
    for model in models(DType::F32) {
        let mut seen: BTreeMap<Site, usize> = BTreeMap::new();
        let mut shapes = BTreeMap::new();
        let mut order = Vec::new();
        let mut hook = Each(|site, x: Tensor| {
            *seen.entry(site).or_default() += 1;
            shapes.insert(site, x.dims().to_vec());
            order.push(site);
            Ok(x)
        });
        model.forward(&tokens(&model), &mut hook).unwrap();
        let expected: BTreeMap<Site, usize> = model.sites().into_iter().map(|site| (site, 1)).collect();
        assert_eq!(seen, expected);
        assert!(order.is_sorted(), "sites fire in the order of the table");
        for (site, shape) in shapes {
            assert_eq!(shape, model.shape(site, 2, 7), "{site}");
        }
        for site in every_site(&model) {
            let (_, kept) = model.record(&tokens(&model), |s| s == site).unwrap();
            assert_eq!(kept.get(site).unwrap().dims(), model.shape(site, 2, 7), "{site}");
        }
        assert!(model.check_site(Site::Block(model.config.n_layers, At::Z)).is_err());
    }
}

#[test]
fn watching_does_not_change_what_is_computed() {
    for model in models(DType::F32) {
        let plain = model.forward(&tokens(&model), &mut ()).unwrap();
        let costly = |site: Site| matches!(site, Site::Block(_, At::Result));
        let (watched, _) =
            model.record(&tokens(&model), |site| model.sites().contains(&site) && !costly(site)).unwrap();
        assert_eq!(numbers(&plain), numbers(&watched), "bit for bit");
        for site in every_site(&model) {
            let (watched, _) = model.record(&tokens(&model), |s| s == site).unwrap();
            assert!(gap(&plain, &watched) < 1e-5, "{site}");
        }
    }
}

/// d Σ w·logits / d site, by finite differences along random directions at each site, in f64.
#[test]
fn every_site_is_alive_and_its_gradient_is_right() {
    for model in models(DType::F64) {
        let tokens = tokens(&model);
        let weights = noise(&model.shape(Site::Logits, 2, 7), 0.5, &model.embed);
        let score = |hook: &mut dyn Hook| -> f64 {
            let logits = model.forward(&tokens, hook).unwrap();
            (logits * &weights).unwrap().sum_all().unwrap().to_scalar().unwrap()
        };
        let plain = score(&mut ());
        for site in every_site(&model) {
            let mut gradients = Gradients::new(|s| s == site);
            let logits = model.forward(&tokens, &mut gradients).unwrap();
            let grad = gradients.of(&(logits * &weights).unwrap()).unwrap().get(site).unwrap().clone();
            let direction = noise(grad.dims(), 3.0, &grad);
            let slope: f64 = numbers(&grad).iter().zip(numbers(&direction)).map(|(g, d)| g * d).sum();
            let at = |h: f64| {
                let step = direction.affine(h, 0.0).unwrap();
                let mut edits = Edits::new([Edit { at: Slice::whole(site), op: Op::Add(step) }]);
                let score = score(&mut edits);
                edits.finish().unwrap();
                score
            };
            assert!((at(0.5) - plain).abs() > 1e-6, "{site} is dead: an edit there does not move the logits");
            let h = 1e-3; // of fourth order, so that neither rounding nor curvature shows
            let differences = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            let error = (slope - differences).abs() / slope.abs().max(differences.abs()).max(1e-3);
            assert!(error < 1e-6, "{site}: {slope} by backward, {differences} by differences");
        }
    }
}

/// resid_mid = resid_pre + attn_out and resid_post = resid_mid + mlp_out, with a write at any site.
#[test]
fn the_stream_adds_up_under_a_write_at_every_site() {
    for model in models(DType::F64) {
        for site in every_site(&model) {
            let shape = model.shape(site, 2, 7);
            let write = Edit { at: Slice::whole(site), op: Op::Add(noise(&shape, 1.0, &model.embed)) };
            let mut hook = (Edits::new([write]), Recorder::new(|s| model.sites().contains(&s)));
            model.forward(&tokens(&model), &mut hook).unwrap();
            let kept = hook.1.kept;
            for layer in 0..model.config.n_layers {
                let sum = |a, b| (kept.block(layer, a).unwrap() + kept.block(layer, b).unwrap()).unwrap();
                let written = |at| site == Site::Block(layer, at);
                if !written(At::ResidMid) {
                    let mid = kept.block(layer, At::ResidMid).unwrap();
                    assert!(gap(mid, &sum(At::ResidPre, At::AttnOut)) < 1e-12, "{site}");
                }
                if !written(At::ResidPost) {
                    let post = kept.block(layer, At::ResidPost).unwrap();
                    assert!(gap(post, &sum(At::ResidMid, At::MlpOut)) < 1e-12, "{site}");
                }
                if !written(At::AttnOut) {
                    let heads = kept.block(layer, At::Result).unwrap().sum(2).unwrap();
                    let out = match &model.blocks[layer].attention.o.b {
                        Some(b) => heads.broadcast_add(b).unwrap(),
                        None => heads,
                    };
                    assert!(gap(&out, kept.block(layer, At::AttnOut).unwrap()) < 1e-12, "{site}");
                }
            }
        }
    }
}

#[test]
fn a_resumed_and_windowed_pass_equals_the_whole_pass() {
    for model in models(DType::F32) {
        let tokens = tokens(&model);
        let base = Base::record(&model, &tokens, |_| false).unwrap();
        let whole = model.forward(&tokens, &mut ()).unwrap();
        for layer in 0..model.config.n_layers {
            for first in 0..7 {
                let from = base.stream(layer, first).unwrap();
                let stream = model.run(from, Some(&base), model.config.n_layers, &mut ()).unwrap();
                let logits = model.unembed(&stream, &mut ()).unwrap();
                let part = whole.narrow(1, first, 7 - first).unwrap();
                let scale = numbers(&whole).iter().fold(1.0, |m: f64, x| m.max(x.abs()));
                assert!(gap(&logits, &part) <= 1e-5 * scale, "layer {layer}, position {first}");
                if first == 0 {
                    assert_eq!(numbers(&logits), numbers(&part), "resuming is bit-identical");
                }
            }
        }
    }
}

#[test]
fn an_edit_in_a_window_equals_the_edit_in_a_whole_pass() {
    for model in models(DType::F32) {
        let tokens = tokens(&model);
        let base = Base::record(&model, &tokens, |_| false).unwrap();
        for at in At::ALL.iter().filter(|at| at.axes().contains(&Axis::Pos)) {
            let site = Site::Block(0, *at);
            if model.check_site(site).is_err() {
                continue;
            }
            let mut shape = model.shape(site, 2, 1);
            shape[1] = 1;
            let edit = || Edit {
                at: Slice::whole(site).pos(Positions::PerRow(vec![4, 5])),
                op: Op::Add(noise(&shape, 2.0, &model.embed)),
            };
            let mut whole = Edits::new([edit()]);
            let want = model.forward(&tokens, &mut whole).unwrap().narrow(1, 4, 3).unwrap();
            whole.finish().unwrap();
            let mut part = Edits::new([edit()]);
            let from = base.stream(0, 4).unwrap();
            let stream = model.run(from, Some(&base), model.config.n_layers, &mut part).unwrap();
            part.finish().unwrap();
            let got = model.unembed(&stream, &mut ()).unwrap();
            assert!(gap(&got, &want) <= 1e-5 * 4.0, "{site}: {}", gap(&got, &want));
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
    };
    assert!(model.run(stream.clone(), None, 2, &mut ()).unwrap_err().to_string().contains("position 2"));
    assert!(model.run(stream, None, 9, &mut ()).unwrap_err().to_string().contains("layer 9"));
    let mut shrink = Each(|_, x: Tensor| Ok(x.narrow(0, 0, 1)?));
    refused(model.forward(&tokens(model), &mut shrink), "what the hook returned");
}
