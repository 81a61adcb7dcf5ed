//! Causal tracing against whole passes with edits made by hand, the identities it obeys, and a model whose circuit is known.

use candle_core::{DType, Device, Tensor};
use glassbox::analysis::trace::Trace;
use glassbox::analysis::{Analysis, Findings};
use glassbox::edit::{Edit, Edits, Op};
use glassbox::hook::Hook;
use glassbox::lab::{About, Lab};
use glassbox::metric::Metric;
use glassbox::model::{Config, Transformer};
use glassbox::record::{Activations, Recorder};
use glassbox::site::{At, Positions, Site, Slice};
use glassbox::study::Study;
use glassbox::task::Task;
use glassbox::vocabulary::Vocabulary;

use crate::causal::{numbers, pairs, table};
use crate::styles;

fn lab(config: Config) -> Lab {
    let model = Transformer::random(config, 11, DType::F64).unwrap();
    Lab::new(model, Vocabulary::default(), About::default())
}

fn trace(parameters: &str) -> Trace {
    toml::from_str::<toml::Table>(parameters).unwrap().try_into().unwrap()
}

fn close(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{what}: {a} is not {b}");
}

fn task(lab: &Lab) -> Task {
    let (mut task, said) = (pairs(), lab.model.config.d_vocab_out as u32);
    for example in &mut task.examples {
        example.answers = vec![example.answers[0] % said];
        example.wrong = vec![(example.answers[0] + 1) % said];
    }
    task
}

/// Both metrics and everything recorded, of one prompt under edits.
fn run(
    lab: &Lab,
    task: &Task,
    i: usize,
    tokens: &[u32],
    edits: Vec<Edit>,
    metric: Metric,
) -> ([f64; 2], Activations) {
    let example = &task.examples[i];
    let at_end = |tokens: &[u32], hook: &mut dyn Hook| {
        let logits = lab.model.forward(&lab.model.tokens(&[tokens]).unwrap(), hook).unwrap();
        logits.narrow(1, example.end(), 1).unwrap().squeeze(1).unwrap()
    };
    let clean = glassbox::ops::log_softmax(&at_end(&example.clean, &mut ())).unwrap();
    let mut hook = (Edits::new(edits), Recorder::new(|_| true));
    let logits = at_end(tokens, &mut hook);
    hook.0.finish().unwrap();
    let targets = task.targets(&[i], Some(clean));
    let values =
        [Metric::Prob, metric].map(|m| m.score(&logits, &targets).unwrap().to_vec1::<f64>().unwrap()[0]);
    (values, hook.1.kept)
}

fn set(kept: &Activations, layer: usize, at: At, pos: usize) -> Edit {
    let slice = Slice::whole(Site::Block(layer, at)).pos(Positions::At(vec![pos]));
    Edit { op: Op::Set(slice.take(kept.block(layer, at).unwrap()).unwrap()), at: slice }
}

/// Every cell of every example against a pass of its own, from corrupt tokens.
fn check_tokens(lab: &Lab, task: &Task, metric: Metric, parameters: &str) -> Findings {
    let parameters = format!("corruption = \"tokens\"\nmetric = \"{metric}\"\n{parameters}");
    let found = trace(&parameters).run(lab, task).unwrap();
    let (rows, cells) = (table(&found, "examples_trace"), table(&found, "trace"));
    let text = |name: &str| rows.texts(name).unwrap();
    let (ids, states, metrics, places) = (text("example"), text("state"), text("metric"), text("pos"));
    let (layers, effects) = (numbers(rows, "layer"), numbers(rows, "effect"));
    for row in 0..rows.len() {
        let i = task.examples.iter().position(|example| example.id == ids[row]).unwrap();
        let example = &task.examples[i];
        let corrupt = example.corrupt.as_ref().unwrap();
        let (_, clean) = run(lab, task, i, &example.clean, Vec::new(), metric);
        let (before, other) = run(lab, task, i, corrupt, Vec::new(), metric);
        let pos = example.pos.get(&places[row]).copied().unwrap_or_else(|| places[row].parse().unwrap());
        let layer = layers[row] as usize;
        let window = cells.only("state", &states[row]).unwrap().only("layer", &layer.to_string()).unwrap();
        let (first, last) = (numbers(&window, "first")[0] as usize, numbers(&window, "last")[0] as usize);
        let state = states[row].split(',').next().unwrap();
        let at = match state {
            "resid_pre" => At::ResidPre,
            "resid_post" => At::ResidPost,
            "mlp" => At::MlpOut,
            _ => At::AttnOut,
        };
        let has = |layer: usize, at: At| lab.model.blocks[layer].has(at);
        let mut edits: Vec<Edit> =
            (first..=last).filter(|&l| has(l, at)).map(|l| set(&clean, l, at, pos)).collect();
        if let Some((_, severed)) = states[row].split_once(", ") {
            let at = if severed == "mlp severed" { At::MlpOut } else { At::AttnOut };
            let from = layer + usize::from(state == "resid_post");
            edits.extend(
                (from..lab.model.config.n_layers).filter(|&l| has(l, at)).map(|l| set(&other, l, at, pos)),
            );
        }
        let (after, _) = run(lab, task, i, corrupt, edits, metric);
        let m = usize::from(metrics[row] != "prob");
        let what = format!("{} {} layer {layer} at {pos}", ids[row], states[row]);
        close(effects[row], after[m] - before[m], &what);
    }
    found
}

#[test]
fn every_restoration_equals_a_whole_pass() {
    for (style, config) in styles::peculiar() {
        println!("{style}");
        let lab = lab(config);
        let mlps = lab.model.blocks[0].has(At::MlpOut);
        let sever = if mlps { "[\"mlp\", \"attention\"]" } else { "[\"attention\"]" };
        let states = if mlps { ", \"mlp\"" } else { "" };
        let states =
            format!("states = [\"resid_pre\", \"resid_post\", \"attention\"{states}]\nsever = {sever}");
        check_tokens(&lab, &task(&lab), Metric::LogitDiff, &states);
        check_tokens(&lab, &task(&lab), Metric::Kl, "window = 2");
    }
}

/// The noise that was drawn is found from the total effect's own run: with the clean stream restored where it was added,
/// everything comes back.
#[test]
fn restoring_the_embeddings_is_the_clean_run_and_the_last_stream_is_what_is_said() {
    for config in [Config::tiny(), Config::tiny_rotary()] {
        let lab = lab(config);
        let task = task(&lab);
        for corruption in ["noise", "tokens"] {
            let mut task = task.clone();
            // one differing position, so that one place holds all of it
            for example in &mut task.examples {
                let subject = example.pos["subject"];
                let mut corrupt = example.clean.clone();
                corrupt[subject] = (corrupt[subject] + 5) % 24;
                example.corrupt = Some(corrupt);
                example.pos.insert("last".into(), example.clean.len() - 1);
            }
            let parameters = format!(
                "corruption = \"{corruption}\"\nsamples = 3\nstates = [\"resid_pre\", \"resid_post\"]"
            );
            let found = trace(&parameters).run(&lab, &task).unwrap();
            let (rows, totals) = (table(&found, "examples_trace"), table(&found, "examples_trace_total"));
            for (state, layer, pos) in [("resid_pre", "0", "subject"), ("resid_post", "1", "last")] {
                let restored = rows.only("state", state).unwrap().only("layer", layer).unwrap();
                let restored = restored.only("pos", pos).unwrap();
                let (ours, all) = (numbers(&restored, "effect"), numbers(totals, "effect"));
                assert_eq!(ours.len(), 10);
                ours.iter().zip(all).for_each(|(a, b)| close(*a, b, state));
            }
            let started = rows.only("pos", "start").unwrap();
            assert!(numbers(&started, "effect").iter().all(|x| *x == 0.0), "before the first changed token");
        }
    }
}

#[test]
fn without_noise_there_is_no_effect_and_with_it_the_seed_alone_decides() {
    let mut lab = lab(Config::tiny());
    let task = task(&lab);
    let none = trace("noise = 0.0\nsamples = 2").run(&lab, &task).unwrap();
    for name in ["examples_trace", "examples_trace_total"] {
        numbers(table(&none, name), "effect").iter().for_each(|x| close(*x, 0.0, name));
    }
    assert!(none.notes.iter().any(|note| note.contains("hardly changes prob")), "{:?}", none.notes);
    assert!(numbers(table(&none, "trace"), "share").iter().all(|share| share.is_nan()));

    let effects = |lab: &Lab, task: &Task| {
        numbers(table(&trace("samples = 4").run(lab, task).unwrap(), "examples_trace"), "effect")
    };
    let large = effects(&lab, &task);
    assert!(large.iter().any(|x| x.abs() > 1e-3));
    assert_eq!(large, effects(&lab, &task));
    lab.memory = 1;
    effects(&lab, &task).iter().zip(&large).for_each(|(a, b)| close(*a, *b, "memory"));
    lab.memory = 2 << 30;
    lab.seed = 1;
    assert!(effects(&lab, &task).iter().zip(&large).any(|(a, b)| (a - b).abs() > 1e-6), "another seed");
}

/// The noise itself: ν is the number said, its spread over many draws is ν, and it stands where the subject does.
#[test]
fn noise_has_the_size_that_is_said() {
    let lab = lab(Config::tiny());
    let task = task(&lab);
    let found = trace("samples = 1\nnoise = 2.0\nsubject = \"start..subject\"").run(&lab, &task).unwrap();
    let ids: Vec<u32> =
        task.examples.iter().flat_map(|e| e.clean[e.pos["start"]..=e.pos["subject"]].to_vec()).collect();
    let rows = lab.model.embed.index_select(&Tensor::new(ids, &Device::Cpu).unwrap(), 0).unwrap();
    let numbers: Vec<f64> = rows.flatten_all().unwrap().to_vec1().unwrap();
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (numbers.len() - 1) as f64;
    let said = format!("ν = {:.4}", 2.0 * variance.sqrt());
    assert!(
        found.notes[0].contains(&said) && found.notes[0].contains("start..subject"),
        "{said}: {:?}",
        found.notes
    );

    let mut rng = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(5);
    let drawn: Vec<f64> = (0..40_000).map(|_| glassbox::steering::normal(&mut rng)).collect();
    let (mean, squares) = (drawn.iter().sum::<f64>() / 4e4, drawn.iter().map(|x| x * x).sum::<f64>() / 4e4);
    let fourth = drawn.iter().map(|x| x.powi(4)).sum::<f64>() / 4e4;
    // five standard errors: 1/√n, √(2/n), √(96/n)
    assert!(
        mean.abs() < 0.025 && (squares - 1.0).abs() < 0.036 && (fourth - 3.0).abs() < 0.25,
        "{mean} {squares} {fourth}"
    );
}

#[test]
fn what_cannot_be_traced_is_refused() {
    let lab = lab(Config::tiny());
    let refused = |parameters: &str, task: &Task, words: &[&str]| {
        let error = trace(parameters).run(&lab, task).unwrap_err().to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "{word}: {error}"));
    };
    let mut alone = task(&lab);
    alone.examples.iter_mut().for_each(|example| example.corrupt = None);
    trace("samples = 1").run(&lab, &alone).unwrap();
    refused("corruption = \"tokens\"", &alone, &["no corrupt prompt"]);
    alone.examples.iter_mut().for_each(|example| example.pos.clear());
    refused("", &alone, &["subject=", "`e0`"]);
    let task = task(&lab);
    refused("corruption = \"tokens\"\nsubject = \"start\"", &task, &["`subject`"]);
    refused("samples = 0", &task, &["samples"]);
    refused("noise = -1.0", &task, &["-1"]);
    refused("window = 0", &task, &["window"]);
    refused("states = []", &task, &["states"]);
    refused("states = [\"mlp\"]\nsever = [\"mlp\"]", &task, &["resid_post"]);
    refused("subject = \"object\"", &task, &["object"]);
    let bare = styles::all().into_iter().find(|(name, _)| *name == "attention only").unwrap().1;
    let bare = self::lab(bare);
    let error = trace("states = [\"mlp\"]").run(&bare, &task).unwrap_err().to_string();
    assert!(error.contains("attention alone"), "{error}");
}

/// By design m0 and m1 enrich the name at its last token: that is where restored MLPs bring the answer back.
#[test]
fn the_bundled_model_recalls_at_the_subject_in_early_mlps() {
    let text = "model = \"textbook\"\n[task]\ngenerate = \"facts\"\nn = 32\n[[analysis]]\nname = \"trace\"\nsubject = \"first..subject\"";
    let study = Study::parse(text, "test", None).unwrap();
    let lab = study.lab().unwrap();
    let task = study.task(&lab).unwrap();
    let found = study.run(&lab, &task).unwrap().remove(0).findings;
    let rows = table(&found, "trace").only("metric", "prob").unwrap().only("state", "mlp").unwrap();
    let effects = numbers(&rows, "effect");
    let best = (0..rows.len()).max_by(|&a, &b| effects[a].total_cmp(&effects[b])).unwrap();
    assert_eq!(rows.texts("pos").unwrap()[best], "subject");
    assert!(numbers(&rows, "layer")[best] <= 1.0 && numbers(&rows, "ci_lo")[best] > 0.0, "{effects:?}");
    let total = table(&found, "trace_total").only("metric", "prob").unwrap();
    assert!(numbers(&total, "effect")[0] > 0.5, "{:?}", numbers(&total, "effect"));
}
