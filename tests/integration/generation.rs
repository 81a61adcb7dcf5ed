//! Promise 9: a text that grows by a cache, with edits that stand, is the text computed anew at every step.

use candle_core::{DType, Device, Tensor};
use glassbox::decide::{Rule, Sampling};
use glassbox::edit::{Edit, Edits, Op};
use glassbox::generate::{Growing, Settings, Stopped};
use glassbox::lab::{About, Lab};
use glassbox::metric::{Gain, Gains};
use glassbox::model::{Cache, Config, Pad, Transformer};
use glassbox::site::{At, Axis, Positions, Site, Slice};
use glassbox::vocabulary::Vocabulary;

use crate::tiny::checkpoint;

const PROMPT: [u32; 5] = [3, 17, 5, 9, 3];

fn labs(dtype: DType) -> [Lab; 2] {
    [Config::tiny(), Config::tiny_rotary()].map(|config| {
        let model = Transformer::random(config, 11, dtype).unwrap();
        Lab::new(model, Vocabulary::default(), About::default())
    })
}

fn sampled() -> Settings {
    let rule = Rule::Sample(Sampling { temperature: 1.3, ..Sampling::default() });
    Settings { rule, max_tokens: 9, stop: Vec::new() }
}

fn greedy(max_tokens: usize) -> Settings {
    Settings { rule: Rule::Greedy, max_tokens, stop: Vec::new() }
}

fn noise(count: usize, salt: f64) -> Tensor {
    let values: Vec<f64> = (0..count).map(|i| ((i as f64 + salt) * 78.233).sin() * 0.7).collect();
    Tensor::from_vec(values, count, &Device::Cpu).unwrap()
}

/// Logits at the last position of the whole sequence, computed anew with every edit that has a place in it.
fn anew(lab: &Lab, tokens: &[u32], edits: &[Edit]) -> Vec<f64> {
    let exists = |edit: &&Edit| match &edit.at.pos {
        Positions::All => true,
        Positions::From(pos) => *pos < tokens.len(),
        Positions::At(list) | Positions::PerRow(list) => list.iter().all(|pos| *pos < tokens.len()),
    };
    let mut hook = Edits::new(edits.iter().filter(exists).cloned());
    let logits = lab.model.forward(&lab.model.tokens(&[tokens]).unwrap(), &mut hook).unwrap();
    hook.finish().unwrap();
    let last = logits.narrow(1, tokens.len() - 1, 1).unwrap().flatten_all().unwrap();
    last.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// Edits at a site: at a prompt position, at one yet to come, from one on, everywhere.
fn edits_at(lab: &Lab, site: Site) -> Vec<Vec<Edit>> {
    let model = &lab.model;
    let keyed = site.axes().contains(&Axis::Key);
    let has_head = site.axes().iter().any(|axis| matches!(axis, Axis::Head | Axis::KvHead));
    let mut slice = Slice::whole(site);
    slice.head = has_head.then_some(1);
    let shape = model.shape(site, 1, 1);
    let width = if keyed { 1 } else { shape.iter().product::<usize>() / if has_head { shape[2] } else { 1 } };
    let mut all = Vec::new();
    for pos in [Positions::At(vec![2]), Positions::At(vec![7]), Positions::From(4), Positions::All] {
        let at = slice.clone().pos(pos);
        let mut ops = vec![Op::Add(noise(width, 0.3)), Op::Scale(0.4)];
        if !keyed {
            ops.push(Op::Set(noise(width, 0.9)));
            ops.push(Op::Project(noise(*shape.last().unwrap(), 1.7)));
        }
        // the scale is a divisor: a change of sign or a zero there is another model
        if matches!(site, Site::FinalScale | Site::Block(_, At::Ln1Scale | At::Ln2Scale)) {
            ops = vec![Op::Scale(1.4)];
        }
        // added to every score of a row a number changes nothing, and in a pattern it lets the future in
        if keyed {
            ops = vec![Op::Scale(0.4)];
        }
        all.extend(ops.into_iter().map(|op| vec![Edit { at: at.clone(), op }]));
    }
    if !keyed {
        let at = slice.clone().pos(Positions::At(vec![1, 3]));
        all.push(vec![Edit { at, op: Op::Set(noise(2 * width, 0.2)) }]);
    } else {
        let at = Slice { key: Positions::At(vec![1]), ..slice.pos(Positions::From(2)) };
        all.push(vec![Edit { at: at.clone(), op: Op::Scale(0.2) }]);
        all.push(vec![Edit { at: at.clone(), op: Op::Add(noise(1, 0.4)) }]);
        all.push(vec![Edit { at, op: Op::Set(noise(1, 0.6)) }]);
    }
    all
}

/// Speaks step by step and compares every step's logits with the whole sequence computed anew.
fn compare(lab: &Lab, edits: &[Edit], tolerance: f64, what: &str) {
    let mut growing = Growing::new(lab, &PROMPT, edits).unwrap();
    let mut moved = false;
    for step in 0..5u32 {
        let (got, want) = (growing.logits().to_vec(), anew(lab, growing.tokens(), edits));
        let scale = want.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() <= tolerance * scale, "{what}, step {step}: {got} and {want}");
        }
        moved = moved || anew(lab, growing.tokens(), &[]) != want;
        growing.push((7 * step + 2) % 24).unwrap();
    }
    // a change at a position that no later one is read from need not be seen
    let seen = |edit: &Edit| !matches!(&edit.at.pos, Positions::At(list) if list.iter().all(|&pos| pos < 4));
    assert!(moved || !edits.iter().any(seen), "{what} changes nothing");
}

#[test]
fn a_cached_step_equals_the_whole_sequence_under_edits_at_every_site() {
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-12)] {
        for lab in labs(dtype) {
            compare(&lab, &[], tolerance, "no edit");
            let mut sites = lab.model.sites();
            sites.extend(At::ALL.iter().filter(|at| at.is_split_input()).map(|&at| Site::Block(1, at)));
            for site in sites {
                for edits in edits_at(&lab, site) {
                    compare(&lab, &edits, tolerance, &format!("{dtype:?} {site} {:?}", edits[0]));
                }
            }
        }
    }
}

#[test]
fn edits_of_several_sites_stand_together() {
    for lab in labs(DType::F32) {
        let mut all: Vec<Edit> = Vec::new();
        for (i, site) in [
            Site::Block(0, At::K),
            Site::Block(1, At::V),
            Site::Block(0, At::Z),
            Site::Block(1, At::ResidPre),
            Site::Block(1, At::Pattern),
        ]
        .into_iter()
        .enumerate()
        {
            all.extend(edits_at(&lab, site).swap_remove(i));
        }
        compare(&lab, &all, 1e-5, "five edits");
    }
}

#[test]
fn what_is_drawn_is_what_a_run_without_cache_draws() {
    for lab in labs(DType::F32) {
        let edits = [Edit {
            at: Slice::whole(Site::Block(1, At::ResidPre)).pos(Positions::From(4)),
            op: Op::Add(noise(16, 0.1)),
        }];
        let spoken =
            Growing::new(&lab, &PROMPT, &edits).unwrap().speak(&sampled(), 3, &mut |_| Ok(())).unwrap();
        assert_eq!((spoken.chosen.len(), spoken.stopped), (9, Stopped::Enough));
        // the same draws, the whole sequence computed anew before each
        let mut tokens = PROMPT.to_vec();
        let mut draws = draws(lab.seed, 3);
        for chosen in &spoken.chosen {
            let logits = anew(&lab, &tokens, &edits);
            let id = sampled().rule.choose(&logits, draws()).unwrap();
            assert_eq!((chosen.id, chosen.pos), (id, tokens.len()));
            let z: f64 = logits.iter().map(|x| x.exp()).sum();
            let p = |x: f64| x.exp() / z;
            let entropy: f64 = logits.iter().map(|&x| -p(x) * p(x).ln()).sum();
            assert!((chosen.prob - p(logits[id as usize])).abs() < 1e-5);
            assert!((chosen.log_prob - chosen.prob.ln()).abs() < 1e-9);
            assert!((chosen.entropy - entropy).abs() < 1e-4);
            tokens.push(id);
        }
    }
}

/// Where rotation depends on the text's length, what is said next is what the whole text says, before and behind the
/// length at which the rotation changes.
#[test]
fn a_text_that_outgrows_its_rotation_is_read_anew() {
    for (name, prompt, behind) in [("phi3-longrope", 6, 10), ("llama-dynamic", 6, 9)] {
        let lab = Lab::open(&checkpoint(name).to_string_lossy(), DType::F64, &Device::Cpu).unwrap();
        let rotary = lab.model.blocks[0].attention.rotary.clone().unwrap();
        assert_ne!(rotary.frequencies(prompt), rotary.frequencies(behind), "{name} has a length to outgrow");
        let text: Vec<u32> = (0..12).map(|i| 3 + 5 * i % 31).collect();
        let standing = Slice::whole(Site::Block(0, At::ResidPost)).pos(Positions::At(vec![2]));
        let edits = [Edit { at: standing, op: Op::Scale(0.5) }];
        for edits in [&[][..], &edits] {
            let mut growing = Growing::new(&lab, &text[..prompt], edits).unwrap();
            for end in prompt..text.len() {
                let want = anew(&lab, &text[..end], edits);
                let off = growing.logits().iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(off < 1e-10, "{name}, {end} tokens: {off}");
                growing.push(text[end]).unwrap();
            }
        }
    }
}

/// Rows of unequal length, padded on the left, grow together as each would alone.
#[test]
fn a_padded_batch_grows_as_its_rows_do() {
    for lab in labs(DType::F64) {
        let model = &lab.model;
        let rows: [&[u32]; 2] = [&PROMPT, &[8, 1]];
        let mut cache = Cache::new(model);
        let mut next = model.padded(&rows, Pad::Left).unwrap();
        let mut alone = rows.map(<[u32]>::to_vec);
        for step in 0..5u32 {
            let stream = model.grow(&next, &mut cache, &mut ()).unwrap();
            let logits = model.unembed(&stream, &mut ()).unwrap();
            let last = logits.narrow(1, logits.dim(1).unwrap() - 1, 1).unwrap().squeeze(1).unwrap();
            for (row, tokens) in last.to_vec2::<f64>().unwrap().iter().zip(&alone) {
                let want = anew(&lab, tokens, &[]);
                assert!(row.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-10), "step {step}");
            }
            let new = [(5 * step + 1) % 24, (3 * step + 7) % 24];
            alone.iter_mut().zip(new).for_each(|(tokens, new)| tokens.push(new));
            next = model.tokens(&[&new[..1], &new[1..]]).unwrap();
        }
        let right = model.padded(&rows, Pad::Right).unwrap();
        let error = model.grow(&right, &mut Cache::new(model), &mut ()).unwrap_err().to_string();
        assert!(error.contains("on the right cannot grow"), "{error}");
        assert!(model.grow(&model.tokens(&[&[1]]).unwrap(), &mut cache, &mut ()).is_err(), "one row of two");
    }
}

fn draws(seed: u64, stream: u64) -> impl FnMut() -> u64 {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    move || rng.random()
}

#[test]
fn a_seed_names_a_text_and_forks_do_not_disturb_each_other() {
    let [lab, _] = labs(DType::F32);
    let start = Growing::new(&lab, &PROMPT, &[]).unwrap();
    let say = |stream| {
        let spoken = start.fork().unwrap().speak(&sampled(), stream, &mut |_| Ok(())).unwrap();
        spoken.chosen.iter().map(|chosen| chosen.id).collect::<Vec<_>>()
    };
    let (first, second) = (say(0), say(1));
    assert_ne!(first, second);
    assert_eq!((say(0), say(1)), (first.clone(), second));
    let fresh = Growing::new(&lab, &PROMPT, &[]).unwrap().speak(&sampled(), 0, &mut |_| Ok(())).unwrap();
    assert_eq!(fresh.chosen.iter().map(|chosen| chosen.id).collect::<Vec<_>>(), first);
}

#[test]
fn a_text_ends_where_it_must() {
    for lab in labs(DType::F32) {
        let start = Growing::new(&lab, &PROMPT, &[]).unwrap();
        let speak = |settings: &Settings| {
            let mut heard = Vec::new();
            let spoken = start.fork().unwrap().speak(settings, 0, &mut |chosen| {
                heard.push(chosen.clone());
                Ok(())
            });
            let spoken = spoken.unwrap();
            assert_eq!(heard, spoken.chosen, "every token is heard as it is chosen");
            spoken
        };
        let full = speak(&greedy(1000));
        assert_eq!((full.chosen.len(), full.stopped), (32 - 5, Stopped::Context));
        let none = speak(&greedy(0));
        assert_eq!((none.chosen.len(), none.stopped), (0, Stopped::Enough));
        let stop = full.chosen[2].id;
        let until = speak(&Settings { stop: vec![stop], ..greedy(1000) });
        let first = full.chosen.iter().position(|chosen| chosen.id == stop).unwrap();
        assert_eq!((until.chosen.len(), until.stopped), (first + 1, Stopped::Token));
        assert_eq!(until.chosen, full.chosen[..=first]);
        assert!(
            start
                .fork()
                .unwrap()
                .speak(&Settings { stop: vec![99], ..greedy(1) }, 0, &mut |_| Ok(()))
                .is_err()
        );
    }
}

#[test]
fn gains_decide_where_they_are_the_rule() {
    let [lab, _] = labs(DType::F64);
    let plain = Growing::new(&lab, &PROMPT, &[]).unwrap().speak(&greedy(1), 0, &mut |_| Ok(())).unwrap();
    let dear = plain.chosen[0].id;
    // being wrong about the likeliest token costs more than it can gain
    let gains = Gains {
        default: Gain { gain: 1.0, cost: 0.0 },
        by_token: [(dear, Gain { gain: 1.0, cost: 1e6 })].into(),
    };
    let settings = Settings { rule: Rule::ExpectedGain(gains), max_tokens: 1, stop: Vec::new() };
    let wary = Growing::new(&lab, &PROMPT, &[]).unwrap().speak(&settings, 0, &mut |_| Ok(())).unwrap();
    assert_ne!(wary.chosen[0].id, dear);
    assert!((wary.chosen[0].expected_gain.unwrap() - wary.chosen[0].prob).abs() < 1e-12);
}

#[test]
fn edits_that_cannot_stand_are_refused_and_those_out_of_reach_are_named() {
    let [lab, _] = labs(DType::F32);
    let at = |pos| Slice::whole(Site::Block(1, At::ResidPre)).pos(pos);
    let grow = |edit| Growing::new(&lab, &PROMPT, &[edit]);
    let refused = |edit: Edit, word: &str| {
        let error = grow(edit).err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(Edit { at: at(Positions::All), op: Op::Set(noise(5 * 16, 0.0)) }, "16 numbers for each position");
    refused(Edit { at: at(Positions::At(vec![40])), op: Op::Scale(0.0) }, "position 40");
    refused(Edit { at: Slice::whole(Site::Block(9, At::Z)), op: Op::Scale(0.0) }, "layers 0 to 1");
    let pattern = Slice::whole(Site::Block(1, At::Pattern)).head(0).pos(Positions::From(2));
    refused(Edit { at: pattern.clone(), op: Op::Add(noise(1, 0.0)) }, "after the query");
    refused(Edit { at: pattern.clone(), op: Op::Project(noise(5, 0.0)) }, "after the query");
    let keys = |keys| Slice { key: Positions::At(keys), ..pattern.clone() };
    refused(Edit { at: keys(vec![3]), op: Op::Set(noise(1, 0.0)) }, "after the query");
    refused(Edit { at: keys(vec![0, 1]), op: Op::Set(noise(2, 0.0)) }, "1 numbers");
    let late = grow(Edit { at: at(Positions::At(vec![20])), op: Op::Scale(0.0) }).unwrap();
    assert_eq!(late.speak(&greedy(4), 0, &mut |_| Ok(())).unwrap().unreached, [20]);
    assert!(Growing::new(&lab, &[], &[]).is_err(), "an empty prompt");
    assert!(Growing::new(&lab, &[1; 33], &[]).is_err(), "a prompt beyond the context");
}
