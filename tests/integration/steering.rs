//! What steering must satisfy, against naive whole runs of single prompts with hand-made edits, in f64.

use candle_core::{DType, Device, Tensor};
use glassbox::analysis::steer::Steer;
use glassbox::analysis::{Analysis, Findings};
use glassbox::edit::{Edit, Edits, Op};
use glassbox::generate::Growing;
use glassbox::lab::{About, Lab};
use glassbox::model::{Config, NormKind, Transformer};
use glassbox::row::Rows;
use glassbox::site::{At, Positions, Site, Slice};
use glassbox::task::{Example, Task};
use glassbox::vocabulary::Vocabulary;

fn labs() -> [Lab; 2] {
    [Config::tiny(), Config::tiny_rotary()].map(|config| {
        let model = Transformer::random(config, 5, DType::F64).unwrap();
        Lab::new(model, Vocabulary::default(), About::default())
    })
}

/// Pairs of two lengths that differ in one token, or in two.
fn pairs(differ: usize) -> Task {
    let example = |i: u32| {
        let length = 6 + 2 * (i % 2);
        let clean: Vec<u32> = (0..length).map(|p| (7 * i + 5 * p * p + 3 * p) % 24).collect();
        let mut corrupt = clean.clone();
        (0..differ).for_each(|k| corrupt[2 + k] = (clean[2 + k] + 5) % 24);
        Example {
            id: format!("e{i}"),
            clean,
            corrupt: Some(corrupt),
            answers: vec![1 + i % 3],
            wrong: vec![9, 11],
            group: format!("{length}"),
            ..Example::default()
        }
    };
    Task { name: "test".into(), examples: (0..9).map(example).collect(), ..Task::default() }
}

fn steer(text: &str) -> Steer {
    toml::Value::Table(toml::from_str(text).unwrap()).try_into().unwrap()
}

fn table<'a>(findings: &'a Findings, name: &str) -> &'a Rows {
    findings.tables.iter().find(|table| table.name == name).unwrap()
}

fn numbers(rows: &Rows, column: &str) -> Vec<f64> {
    rows.numbers(column).unwrap().into_iter().map(|x| x.unwrap_or(f64::NAN)).collect()
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} is not {b}");
}

fn logits(lab: &Lab, tokens: &[u32], edits: Vec<Edit>) -> Vec<f64> {
    let mut hook = Edits::new(edits);
    let all = lab.model.forward(&lab.model.tokens(&[tokens]).unwrap(), &mut hook).unwrap();
    hook.finish().unwrap();
    all.narrow(1, tokens.len() - 1, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn activation(lab: &Lab, tokens: &[u32], site: Site, pos: usize) -> Vec<f64> {
    let tokens = lab.model.tokens(&[tokens]).unwrap();
    let (_, kept) = lab.model.record(&tokens, |s| s == site).unwrap();
    kept.get(site).unwrap().narrow(1, pos, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn probabilities(logits: &[f64]) -> Vec<f64> {
    let z: f64 = logits.iter().map(|x| x.exp()).sum();
    logits.iter().map(|x| x.exp() / z).collect()
}

fn logit_diff(logits: &[f64], example: &Example) -> f64 {
    let mean = |ids: &[u32]| ids.iter().map(|&id| logits[id as usize]).sum::<f64>() / ids.len() as f64;
    mean(&example.answers) - mean(&example.wrong)
}

/// The site of a table's cell.
fn site(name: &str) -> Site {
    name.parse().unwrap()
}

/// The direction at a site, from the pairs that the table of single prompts does not hold.
fn naive_direction(lab: &Lab, task: &Task, tried: &[String], site: Site, at: usize) -> Vec<f64> {
    let made: Vec<&Example> = task.examples.iter().filter(|e| !tried.contains(&e.id)).collect();
    let mut sum = vec![0.0; lab.model.config.d_model];
    for example in &made {
        let at = if at == usize::MAX { example.end() } else { at };
        let positive = activation(lab, &example.clean, site, at);
        let negative = activation(lab, example.corrupt.as_ref().unwrap(), site, at);
        for (i, sum) in sum.iter_mut().enumerate() {
            *sum += (positive[i] - negative[i]) / made.len() as f64;
        }
    }
    sum
}

#[test]
fn every_dose_equals_a_whole_run_with_a_hand_made_edit() {
    for lab in labs() {
        // one differing position, found by itself; two, so that the end is steered; attention's output at the end
        for (differ, at, parameters) in
            [(1, 2, ""), (2, usize::MAX, ""), (1, usize::MAX, "position = \"end\"\nsite = \"attn_out\"")]
        {
            let task = pairs(differ);
            let findings = steer(&format!("{parameters}\nrandoms = 2")).run(&lab, &task).unwrap();
            let each = table(&findings, "examples_steer");
            let tried = each.texts("example").unwrap();
            let (sides, sites) = (each.texts("prompt").unwrap(), each.texts("site").unwrap());
            let (strengths, values) = (numbers(each, "strength"), numbers(each, "value"));
            let (probs, kls) = (numbers(each, "prob"), numbers(each, "kl"));
            assert_eq!(
                each.len(),
                2 * 7
                    * tried.iter().collect::<std::collections::BTreeSet<_>>().len()
                    * sites.iter().collect::<std::collections::BTreeSet<_>>().len()
            );
            for i in 0..each.len() {
                let example = task.examples.iter().find(|e| e.id == tried[i]).unwrap();
                let tokens =
                    if sides[i] == "positive" { &example.clean } else { example.corrupt.as_ref().unwrap() };
                let site = site(&sites[i]);
                let direction = naive_direction(&lab, &task, &tried, site, at);
                let pushed: Vec<f64> = direction.iter().map(|x| x * strengths[i]).collect();
                let pos = if at == usize::MAX { example.end() } else { at };
                let edit = Edit {
                    at: Slice::whole(site).pos(Positions::At(vec![pos])),
                    op: Op::Add(Tensor::new(pushed, &Device::Cpu).unwrap()),
                };
                let (plain, got) = (logits(&lab, tokens, vec![]), logits(&lab, tokens, vec![edit]));
                close(values[i], logit_diff(&got, example));
                let (p, q) = (probabilities(&plain), probabilities(&got));
                close(probs[i], example.answers.iter().map(|&id| q[id as usize]).sum());
                close(kls[i], p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum());
            }
        }
    }
}

/// At the stream that leaves the last layer nothing follows but the final norm and the unembedding.
#[test]
fn the_last_push_is_what_norm_and_unembedding_say() {
    for lab in labs() {
        let task = pairs(2);
        let findings = steer("randoms = 1").run(&lab, &task).unwrap();
        let each = table(&findings, "examples_steer");
        let last = each.only("site", "blocks.1.hook_resid_post").unwrap();
        assert!(!last.is_empty());
        let (ids, sides) = (last.texts("example").unwrap(), last.texts("prompt").unwrap());
        let (strengths, values) = (numbers(&last, "strength"), numbers(&last, "value"));
        let flat = |x: &Tensor| -> Vec<f64> { x.flatten_all().unwrap().to_vec1().unwrap() };
        let direction = flat(&findings.tensors["steer.blocks.1.hook_resid_post"]);
        let norm = &lab.model.ln_final;
        let (gain, bias) = (flat(&norm.gain), norm.bias.as_ref().map(flat));
        let w: Vec<Vec<f64>> = lab.model.unembed.w.to_vec2().unwrap();
        let b = lab.model.unembed.b.as_ref().map(flat);
        for i in 0..last.len() {
            let example = task.examples.iter().find(|e| e.id == ids[i]).unwrap();
            let tokens =
                if sides[i] == "positive" { &example.clean } else { example.corrupt.as_ref().unwrap() };
            let mut x = activation(&lab, tokens, Site::Block(1, At::ResidPost), example.end());
            x.iter_mut().zip(&direction).for_each(|(x, v)| *x += strengths[i] * v);
            let mean =
                if norm.kind == NormKind::Layer { x.iter().sum::<f64>() / x.len() as f64 } else { 0.0 };
            let square = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
            let normed: Vec<f64> = (0..x.len())
                .map(|d| {
                    (x[d] - mean) / (square + norm.eps).sqrt() * gain[d] + bias.as_ref().map_or(0.0, |b| b[d])
                })
                .collect();
            let logits: Vec<f64> = (0..24)
                .map(|t| {
                    (0..x.len()).map(|d| normed[d] * w[d][t]).sum::<f64>() + b.as_ref().map_or(0.0, |b| b[t])
                })
                .collect();
            close(values[i], logit_diff(&logits, example));
        }
    }
}

#[test]
fn tables_are_the_means_of_the_single_prompts_and_no_dose_is_no_change() {
    for lab in labs() {
        let findings = steer("randoms = 3").run(&lab, &pairs(2)).unwrap();
        let (rows, each) = (table(&findings, "steer"), table(&findings, "examples_steer"));
        let (sites, strengths) = (rows.texts("site").unwrap(), numbers(rows, "strength"));
        let of = |site: &str, strength: f64, column: &str| -> f64 {
            let at = numbers(&each.only("site", site).unwrap(), "strength");
            let values = numbers(&each.only("site", site).unwrap(), column);
            let kept: Vec<f64> =
                at.iter().zip(values).filter(|(s, _)| **s == strength).map(|(_, v)| v).collect();
            kept.iter().sum::<f64>() / kept.len() as f64
        };
        for i in 0..rows.len() {
            let (site, strength) = (sites[i].as_str(), strengths[i]);
            close(numbers(rows, "effect")[i], of(site, strength, "value") - of(site, 0.0, "value"));
            close(numbers(rows, "prob")[i], of(site, strength, "prob"));
            close(numbers(rows, "kl")[i], of(site, strength, "kl"));
            let (mean, lo, hi) =
                (numbers(rows, "random")[i], numbers(rows, "random_lo")[i], numbers(rows, "random_hi")[i]);
            assert!(lo <= mean && mean <= hi);
            if strength == 0.0 {
                for column in ["effect", "ci_lo", "ci_hi", "random", "random_lo", "random_hi", "kl"] {
                    assert_eq!(numbers(rows, column)[i], 0.0, "{column}: exactly nothing");
                }
            } else {
                assert!(lo < hi && numbers(rows, "kl")[i] > 0.0);
            }
        }
    }
}

#[test]
fn removing_the_direction_is_a_projection_wherever_the_stream_is() {
    for lab in labs() {
        let task = pairs(1);
        let findings = steer("randoms = 1").run(&lab, &task).unwrap();
        let each = table(&findings, "examples_steer").texts("example").unwrap();
        let rows = table(&findings, "steer_removed");
        for (i, name) in rows.texts("site").unwrap().into_iter().enumerate() {
            let direction = &findings.tensors[&format!("steer.{name}")];
            let edits = || -> Vec<Edit> {
                let sites = (0..2)
                    .flat_map(|l| [At::ResidPre, At::ResidMid, At::ResidPost].map(|at| Site::Block(l, at)));
                let edit = |site| Edit { at: Slice::whole(site), op: Op::Project(direction.clone()) };
                sites.map(edit).collect()
            };
            let (mut gap, mut removed, mut n) = (0.0, 0.0, 0.0);
            for example in task.examples.iter().filter(|e| each.contains(&e.id)) {
                let corrupt = example.corrupt.as_ref().unwrap();
                let ld = |tokens: &[u32], edits| logit_diff(&logits(&lab, tokens, edits), example);
                gap += ld(&example.clean, vec![]) - ld(corrupt, vec![]);
                removed += ld(&example.clean, edits()) - ld(corrupt, edits());
                n += 1.0;
            }
            close(numbers(rows, "gap")[i], gap / n);
            close(numbers(rows, "gap_removed")[i], removed / n);
        }
    }
}

/// Takes a share of what lies along a unit vector out of the stream, number by number.
struct Damped {
    unit: Vec<f64>,
    share: f64,
}

impl glassbox::hook::Hook for Damped {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::Block(_, At::ResidPre | At::ResidMid) | Site::Block(1, At::ResidPost))
    }

    fn visit(&mut self, _: Site, _: usize, x: Tensor) -> glassbox::Result<Tensor> {
        let mut numbers: Vec<f64> = x.flatten_all()?.to_vec1()?;
        for x in numbers.chunks_exact_mut(self.unit.len()) {
            let along: f64 = x.iter().zip(&self.unit).map(|(x, u)| x * u).sum();
            x.iter_mut().zip(&self.unit).for_each(|(x, u)| *x -= self.share * along * u);
        }
        Ok(Tensor::from_vec(numbers, x.shape(), &Device::Cpu)?)
    }
}

#[test]
fn removal_has_doses_with_none_and_all_at_its_ends() {
    for lab in labs() {
        let task = pairs(1);
        let findings = steer("randoms = 3\nshares = [0.0, 0.3, 1.5]").run(&lab, &task).unwrap();
        let tried = table(&findings, "examples_steer").texts("example").unwrap();
        let (curve, whole) = (table(&findings, "steer_removed_curve"), table(&findings, "steer_removed"));
        let (sites, directions) = (curve.texts("site").unwrap(), curve.texts("direction").unwrap());
        let (shares, gaps) = (numbers(curve, "share"), numbers(curve, "gap"));
        assert_eq!(curve.len(), whole.len() * 4 * 2);
        for i in 0..curve.len() {
            let row = whole.only("site", &sites[i]).unwrap();
            let (lo, hi) = (numbers(curve, "gap_lo")[i], numbers(curve, "gap_hi")[i]);
            assert!(lo <= gaps[i] + 1e-9 && gaps[i] <= hi + 1e-9, "{} in {lo} to {hi}", gaps[i]);
            if shares[i] == 0.0 {
                close(gaps[i], numbers(&row, "gap")[0]);
            }
            if directions[i] != "steering vector" {
                continue;
            }
            if shares[i] == 1.0 {
                close(gaps[i], numbers(&row, "gap_removed")[0]);
            }
            let direction: Vec<f64> = findings.tensors[&format!("steer.{}", sites[i])].to_vec1().unwrap();
            let norm = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
            let unit: Vec<f64> = direction.iter().map(|x| x / norm).collect();
            let (mut gap, mut n) = (0.0, 0.0);
            for example in task.examples.iter().filter(|e| tried.contains(&e.id)) {
                let ld = |tokens: &[u32]| {
                    let mut hook = Damped { unit: unit.clone(), share: shares[i] };
                    let all = lab.model.forward(&lab.model.tokens(&[tokens]).unwrap(), &mut hook).unwrap();
                    let end = all.narrow(1, tokens.len() - 1, 1).unwrap().flatten_all().unwrap();
                    logit_diff(&end.to_vec1::<f64>().unwrap(), example)
                };
                gap += ld(&example.clean) - ld(example.corrupt.as_ref().unwrap());
                n += 1.0;
            }
            close(gaps[i], gap / n);
        }
        assert!(steer("shares = [-1.0]").run(&lab, &task).unwrap_err().to_string().contains("`shares`"));
    }
}

#[test]
fn a_push_of_strength_zero_leaves_every_logit_as_it_is() {
    for dtype in [DType::F32, DType::F64] {
        for config in [Config::tiny(), Config::tiny_rotary()] {
            let model = Transformer::random(config, 5, dtype).unwrap();
            let lab = Lab::new(model, Vocabulary::default(), About::default());
            let none = Tensor::zeros(16, dtype, &Device::Cpu).unwrap();
            let at = Slice::whole(Site::Block(1, At::ResidPre)).pos(Positions::From(2));
            let edit = Edit { at, op: Op::Add(none) };
            let mut plain = Growing::new(&lab, &[3, 1, 4, 1, 5], &[]).unwrap();
            let mut pushed = Growing::new(&lab, &[3, 1, 4, 1, 5], &[edit]).unwrap();
            for token in [9, 2, 6] {
                assert_eq!(plain.logits(), pushed.logits(), "bit for bit");
                plain.push(token).unwrap();
                pushed.push(token).unwrap();
            }
        }
    }
}

/// On the bundled model the number of the subject is a direction: it moves the verb both ways, random ones do not, and
/// without it the verb is a guess.
#[test]
fn number_can_be_steered_in_the_bundled_model() {
    let lab = Lab::open("textbook", DType::F32, &Device::Cpu).unwrap();
    let request = glassbox::task::Request { n: 48, ..Default::default() };
    let task = glassbox::task::generate("agreement", &request, &lab.vocabulary).unwrap();
    let findings = steer("strengths = [-1.0, 0.0, 1.0]\nrandoms = 6").run(&lab, &task).unwrap();
    let rows = table(&findings, "steer");
    assert_eq!(rows.len(), 9);
    for i in 0..rows.len() {
        let (effect, strength) = (numbers(rows, "effect")[i], numbers(rows, "strength")[i]);
        let prob = numbers(rows, "prob")[i];
        let random = numbers(rows, "random_lo")[i].abs().max(numbers(rows, "random_hi")[i].abs());
        match strength {
            0.0 => assert!((prob - 0.5).abs() < 0.02, "half of the prompts have the other answer: {prob}"),
            s if s > 0.0 => assert!(effect > 2.0 * random && prob > 0.95, "{effect} {random} {prob}"),
            _ => assert!(effect < -2.0 * random && prob < 0.05, "{effect} {random} {prob}"),
        }
    }
    let removed = table(&findings, "steer_removed");
    for i in 0..removed.len() {
        let (gap, left) = (numbers(removed, "gap")[i], numbers(removed, "gap_removed")[i]);
        assert!(left < 0.2 * gap && numbers(removed, "random_lo")[i] > 0.7 * gap, "{gap} {left}");
        assert!(numbers(removed, "q")[i] < 0.01, "24 pairs are a test");
    }
}

#[test]
fn what_cannot_be_steered_is_refused() {
    let [lab, _] = labs();
    let refused = |parameters: &str, task: &Task, word: &str| {
        let error = steer(parameters).run(&lab, task).err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    };
    refused("site = \"z\"", &pairs(1), "site to steer at");
    refused("strengths = []", &pairs(1), "strengths");
    refused("randoms = 0", &pairs(1), "nothing to compare with");
    refused("share = 0.0", &pairs(1), "share");
    let mut one = pairs(1);
    one.examples.truncate(1);
    refused("", &one, "one pair cannot both");
    let same = |e: &mut Example| e.corrupt = Some(e.clean.clone());
    let mut equal = pairs(1);
    equal.examples.iter_mut().for_each(same);
    let findings = steer("randoms = 1").run(&lab, &equal).unwrap();
    assert!(findings.notes.iter().any(|note| note.contains("direction is zero")), "{:?}", findings.notes);
}
