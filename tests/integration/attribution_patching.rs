//! Attribution patching against what it approximates: slopes of whole passes, softmaxes computed anew by hand, layers held fixed
//! by edits, gradients of torch, and exact patches where nothing bends. Models are random, of every style, in f64.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use glassbox::analysis::atp::{Atp, Grain, NodeSite};
use glassbox::analysis::patch::{By, Direction, Patch};
use glassbox::analysis::{Analysis, Findings};
use glassbox::edit::{Edit, Edits, Op};
use glassbox::gradient::Gradients;
use glassbox::lab::{About, Lab};
use glassbox::metric::Metric;
use glassbox::model::{Config, MlpKind, NormKind, Transformer};
use glassbox::record::{Activations, Recorder};
use glassbox::row::Rows;
use glassbox::site::{At, Positions, Site, Slice};
use glassbox::task::{Example, Task};
use glassbox::vocabulary::Vocabulary;

use crate::causal::{close, naive, numbers, pairs, recorded, table};
use crate::tiny::{checkpoint, open};
use crate::{parity, styles};

fn lab(config: Config) -> Lab {
    let model = Transformer::random(config, 17, DType::F64).unwrap();
    Lab::new(model, Vocabulary::default(), About::default())
}

/// Two pairs of different templates.
fn task(lab: &Lab) -> Task {
    let mut task = answered(lab, pairs());
    task.examples.truncate(2);
    task
}

/// With the answers that the clean prompt speaks for, against the corrupt one, most and least: there is a gap.
fn answered(lab: &Lab, mut task: Task) -> Task {
    for example in &mut task.examples {
        let said = |tokens: &[u32]| -> Vec<f64> {
            let logits = lab.model.forward(&lab.model.tokens(&[tokens]).unwrap(), &mut ()).unwrap();
            logits.narrow(1, tokens.len() - 1, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        let (clean, corrupt) = (said(&example.clean), said(example.corrupt.as_ref().unwrap()));
        let mut order: Vec<usize> = (0..clean.len()).collect();
        order.sort_by(|&a, &b| (clean[a] - corrupt[a]).total_cmp(&(clean[b] - corrupt[b])));
        example.wrong = vec![order[0] as u32];
        example.answers = vec![order[order.len() - 1] as u32];
    }
    task
}

/// One row of a table of examples: whose, and which node.
struct Cell<'a> {
    i: usize,
    example: &'a Example,
    noise: bool,
    slice: Slice,
    layer: usize,
    site: String,
    effect: f64,
    grad_drop: Option<f64>,
}

impl Cell<'_> {
    fn base(&self) -> &[u32] {
        if self.noise { &self.example.clean } else { self.example.corrupt.as_ref().unwrap() }
    }

    fn source(&self) -> &[u32] {
        if self.noise { self.example.corrupt.as_ref().unwrap() } else { &self.example.clean }
    }

    /// Changes are counted patched − corrupt, and clean − patched.
    fn sign(&self) -> f64 {
        if self.noise { -1.0 } else { 1.0 }
    }

    /// What the node has in the other run less what it has in its own.
    fn difference(&self, runs: &BTreeMap<Vec<u32>, Activations>) -> Tensor {
        let of = |tokens: &[u32]| self.slice.take(runs[tokens].get(self.slice.site).unwrap()).unwrap();
        (of(self.source()) - of(self.base())).unwrap()
    }
}

/// Every `step`-th row of a table of examples.
fn cells<'a>(task: &'a Task, rows: &Rows, step: usize) -> Vec<Cell<'a>> {
    let text = |column| rows.texts(column).unwrap_or_else(|_| vec![String::new(); rows.len()]);
    let (ids, sites, directions) = (text("example"), text("site"), text("direction"));
    let (heads, neurons, places, keys) = (text("head"), text("neuron"), text("pos"), text("key"));
    let (layers, effects) = (numbers(rows, "layer"), numbers(rows, "effect"));
    let drops = rows.numbers("grad_drop").unwrap_or_else(|_| vec![None; rows.len()]);
    let cell = |row: usize| {
        let i = task.examples.iter().position(|example| example.id == ids[row]).unwrap();
        let example = &task.examples[i];
        let site = if sites[row] == "result" { "z" } else { &sites[row] };
        let name =
            |at: &At| at.name().replace("attn.hook_", "").replace("mlp.hook_", "mlp_").replace("hook_", "");
        let at = *At::ALL.iter().find(|at| name(at) == site).unwrap();
        let mut slice = Slice::whole(Site::Block(layers[row] as usize, at));
        let position = |place: &str| match example.pos.get(place) {
            Some(&pos) => Positions::At(vec![pos]),
            None if place == "end" => Positions::At(vec![example.end()]),
            None => Positions::At(vec![place.parse().unwrap()]),
        };
        slice.head = heads[row].parse().ok();
        slice.index = neurons[row].parse().ok().map(|neuron| vec![neuron]);
        slice.pos = if places[row].is_empty() { Positions::All } else { position(&places[row]) };
        slice.key = if keys[row].is_empty() { Positions::All } else { position(&keys[row]) };
        Cell {
            i,
            example,
            noise: directions[row] == "noise",
            slice,
            layer: layers[row] as usize,
            site: sites[row].clone(),
            effect: effects[row],
            grad_drop: drops[row],
        }
    };
    (0..rows.len()).step_by(step).map(cell).collect()
}

/// Every activation of every run of a task.
fn runs(lab: &Lab, task: &Task) -> BTreeMap<Vec<u32>, Activations> {
    let prompts = task.examples.iter().flat_map(|e| [e.clean.clone(), e.corrupt.clone().unwrap()]);
    prompts.map(|tokens| (tokens.clone(), recorded(lab, &tokens))).collect()
}

fn mean_gap(lab: &Lab, task: &Task, metric: Metric) -> f64 {
    let gap = |(i, example): (usize, &Example)| {
        naive(lab, task, i, &example.clean, Vec::new(), metric)
            - naive(lab, task, i, example.corrupt.as_ref().unwrap(), Vec::new(), metric)
    };
    task.examples.iter().enumerate().map(gap).sum::<f64>() / task.examples.len() as f64
}

fn plain(by: &[Grain]) -> Atp {
    Atp { by: by.to_vec(), qk_fix: false, grad_drop: false, top: 0, neurons: 6, ..Atp::default() }
}

/// The change of the metric per step along the difference, other edits standing.
fn slope(
    lab: &Lab,
    task: &Task,
    cell: &Cell,
    change: &Tensor,
    step: f64,
    held: &[Edit],
    metric: Metric,
) -> f64 {
    let at = |step: f64| {
        let op = Op::Add((change * step).unwrap());
        let edits = held.iter().cloned().chain([Edit { at: cell.slice.clone(), op }]).collect();
        naive(lab, task, cell.i, cell.base(), edits, metric)
    };
    (at(step) - at(-step)) / (2.0 * step)
}

fn tables_of_examples(findings: &Findings) -> impl Iterator<Item = &Rows> {
    findings.tables.iter().filter(|rows| rows.name.starts_with("examples_atp_"))
}

/// Attribution is the finite difference in the limit of small differences, at every site and grain of every style.
#[test]
fn estimates_are_slopes_of_whole_passes() {
    for (style, config) in styles::able() {
        println!("{style}");
        let lab = lab(config);
        let task = task(&lab);
        let sites = NodeSite::ALL.into_iter().filter(|site| {
            let name = serde_json::to_value(site).unwrap();
            let at = match name.as_str().unwrap() {
                "resid_mid" => At::ResidMid,
                "mlp_out" => At::MlpOut,
                "mlp_pre" | "mlp_post" => At::MlpPost,
                _ => At::ResidPre,
            };
            lab.model.blocks.iter().any(|block| block.has(at))
        });
        let atp = Atp { sites: Some(sites.collect()), ..plain(&Grain::ALL) };
        let findings = atp.run(&lab, &task).unwrap();
        let (runs, gap) = (runs(&lab, &task), mean_gap(&lab, &task, Metric::LogitDiff));
        let mut checked = 0;
        for rows in tables_of_examples(&findings) {
            // a different part of the cells of every grain
            let step = (rows.len() / 40).max(1) | 1;
            for cell in cells(&task, rows, step) {
                let change = cell.difference(&runs);
                let want = cell.sign() * slope(&lab, &task, &cell, &change, 1e-5, &[], Metric::LogitDiff);
                let (got, size) = (cell.effect * gap, want.abs().max(1.0));
                assert!((got - want).abs() < 1e-6 * size, "{style}, {:?}: {got} is not {want}", cell.slice);
                checked += 1;
            }
        }
        assert!(checked > 100, "{style}: {checked}");
    }
}

/// With half the step, half the error: what is left out is of second order.
#[test]
fn the_error_shrinks_with_the_difference() {
    let lab = lab(Config::tiny());
    let task = task(&lab);
    for metric in [Metric::LogitDiff, Metric::LogProb] {
        let atp = Atp { metric, ..plain(&[Grain::Head, Grain::Position]) };
        let findings = atp.run(&lab, &task).unwrap();
        let (runs, gap) = (runs(&lab, &task), mean_gap(&lab, &task, metric));
        let mut bent = 0;
        for cell in tables_of_examples(&findings).flat_map(|rows| cells(&task, rows, 3)) {
            let change = cell.difference(&runs);
            let one = |step: f64| {
                let op = Op::Add((&change * step).unwrap());
                let edits = vec![Edit { at: cell.slice.clone(), op }];
                let moved = naive(&lab, &task, cell.i, cell.base(), edits, metric);
                let whole = naive(&lab, &task, cell.i, cell.base(), Vec::new(), metric);
                cell.sign() * (moved - whole) / step - cell.effect * gap
            };
            let (far, near) = (one(2e-3), one(1e-3));
            if far.abs() > 1e-6 {
                assert!((near / far - 0.5).abs() < 0.02, "{metric}, {:?}: {far}, {near}", cell.slice);
                bent += 1;
            }
        }
        assert!(bent > 20, "{metric}: {bent}");
    }
}

/// The gradient at the patterns of a run, by example.
fn pattern_gradients(lab: &Lab, example: &Example, tokens: &[u32]) -> Activations {
    let mut hook = Gradients::new(|site| matches!(site, Site::Block(_, At::Pattern)));
    let logits = lab.model.forward(&lab.model.tokens(&[tokens]).unwrap(), &mut hook).unwrap();
    let logit = |ids: &[u32]| {
        let at = logits.narrow(1, example.end(), 1).unwrap().narrow(2, ids[0] as usize, 1).unwrap();
        at.flatten_all().unwrap()
    };
    hook.of(&(logit(&example.answers) - logit(&example.wrong)).unwrap()).unwrap()
}

/// Behind queries and keys the pattern is the one of a whole pass in which just that query or key is swapped.
#[test]
fn behind_queries_and_keys_the_softmax_is_computed_anew() {
    for (style, config) in styles::able() {
        println!("{style}");
        let lab = lab(config);
        let task = task(&lab);
        let atp = Atp {
            sites: Some(vec![NodeSite::Q, NodeSite::K]),
            qk_fix: true,
            ..plain(&[Grain::Head, Grain::HeadPosition])
        };
        let findings = atp.run(&lab, &task).unwrap();
        let (runs, gap) = (runs(&lab, &task), mean_gap(&lab, &task, Metric::LogitDiff));
        let mut checked = 0;
        for rows in tables_of_examples(&findings) {
            let step = if rows.name == "examples_atp_head" { 1 } else { 3 };
            for cell in cells(&task, rows, step) {
                let pattern = Site::Block(cell.layer, At::Pattern);
                let values = cell.slice.take(runs[cell.source()].get(cell.slice.site).unwrap()).unwrap();
                let edit = Edit { at: cell.slice.clone(), op: Op::Set(values) };
                let mut hook = (Edits::new([edit]), Recorder::new(|site| site == pattern));
                lab.model.forward(&lab.model.tokens(&[cell.base()]).unwrap(), &mut hook).unwrap();
                let moved =
                    (hook.1.kept.get(pattern).unwrap() - runs[cell.base()].get(pattern).unwrap()).unwrap();
                let gradients = pattern_gradients(&lab, cell.example, cell.base());
                let product = (moved * gradients.get(pattern).unwrap()).unwrap();
                let want = cell.sign() * product.sum_all().unwrap().to_scalar::<f64>().unwrap();
                let got = cell.effect * gap;
                assert!((got - want).abs() < 1e-9, "{style}, {:?}: {got} is not {want}", cell.slice);
                checked += usize::from(want.abs() > 1e-6);
            }
        }
        assert!(checked > 3, "{style}: {checked} have an effect");
    }
}

/// Dropping a layer from the gradient is holding what it writes fixed: the mean |slope| over the layers held in turn.
#[test]
fn dropped_layers_are_layers_held_fixed() {
    for (style, config) in styles::peculiar() {
        println!("{style}");
        let layers = 3;
        let lab = lab(Config { n_layers: layers, ..config });
        let task = task(&lab);
        let by = [Grain::Position, Grain::Head, Grain::Neuron];
        let findings = Atp { grad_drop: true, ..plain(&by) }.run(&lab, &task).unwrap();
        let (runs, gap) = (runs(&lab, &task), mean_gap(&lab, &task, Metric::LogitDiff).abs());
        for rows in tables_of_examples(&findings) {
            for cell in cells(&task, rows, (rows.len() / 12).max(1) | 1) {
                let change = cell.difference(&runs);
                let inside = !cell.site.starts_with("resid");
                let mut sizes = Vec::new();
                for layer in (0..layers).filter(|&layer| !(inside && layer == cell.layer)) {
                    let held: Vec<Edit> = [At::AttnOut, At::MlpOut]
                        .into_iter()
                        .filter(|&at| lab.model.blocks[layer].has(at))
                        .map(|at| {
                            let site = Site::Block(layer, at);
                            let value = runs[cell.base()].get(site).unwrap().clone();
                            Edit { at: Slice::whole(site), op: Op::Set(value) }
                        })
                        .collect();
                    sizes.push(slope(&lab, &task, &cell, &change, 1e-5, &held, Metric::LogitDiff).abs());
                }
                let want = sizes.iter().sum::<f64>() / sizes.len() as f64;
                let got = cell.grad_drop.unwrap() * gap;
                assert!(
                    (got - want).abs() < 1e-6 * want.max(1.0),
                    "{style}, {:?}: {got}, {want}",
                    cell.slice
                );
            }
        }
    }
}

/// One layer of attention without norms: behind the softmax all is linear, so that estimates are patches, in sign and unit.
#[test]
fn where_nothing_bends_estimates_are_exact_patches() {
    let config = Config {
        n_layers: 1,
        mlp: MlpKind::Absent,
        norm: NormKind::None,
        norm_bias: false,
        final_norm: false,
        ..Config::tiny()
    };
    let lab = lab(config);
    let task = answered(&lab, pairs());
    let atp = Atp { by: vec![Grain::Position, Grain::Head, Grain::HeadPosition], ..Atp::default() };
    let estimated = atp.run(&lab, &task).unwrap();
    let by = vec![By::Position, By::Head, By::HeadPosition];
    let exact = Patch { by, ..Patch::default() }.run(&lab, &task).unwrap();
    for (ours, theirs) in
        [("atp_head", "patch_head"), ("atp_position", "resid_by_pos"), ("atp_head_pos", "patch_head_pos")]
    {
        let (ours, theirs) = (table(&estimated, ours), table(&exact, theirs));
        let key = |rows: &Rows, row: usize| -> Vec<String> {
            let text = |name| rows.texts(name).map_or_else(|_| String::new(), |cells| cells[row].clone());
            ["site", "direction", "layer", "head", "pos"].into_iter().map(text).collect()
        };
        let known: BTreeMap<Vec<String>, f64> =
            (0..theirs.len()).map(|row| (key(theirs, row), numbers(theirs, "effect")[row])).collect();
        let mut bent = 0;
        for (row, effect) in numbers(ours, "effect").into_iter().enumerate() {
            let key = key(ours, row);
            // what reaches the logits through the softmax is no straight line
            if key[0] == "resid_pre" {
                bent += usize::from((effect - known[&key]).abs() > 1e-6);
            } else {
                close(effect, known[&key]);
            }
        }
        assert_eq!(bent > 0, ours.name == "atp_position");
    }
    for row in 0..table(&estimated, "atp_agreement_summary").len() {
        let summary = table(&estimated, "atp_agreement_summary");
        if summary.texts("site").unwrap()[row] != "resid_pre"
            && summary.texts("method").unwrap()[row] != "atp"
        {
            assert_eq!(summary.numbers("misses").unwrap()[row], Some(0.0));
        }
    }
}

/// What the agreement calls exact is what `patch` measures.
#[test]
fn checks_are_exact_patches() {
    for (style, config) in styles::peculiar() {
        println!("{style}");
        let lab = lab(config);
        let task = task(&lab);
        let atp = Atp { by: vec![Grain::Position, Grain::Head], grad_drop: false, ..Atp::default() };
        let found = atp.run(&lab, &task).unwrap();
        let exact = Patch::default().run(&lab, &task).unwrap();
        let known: BTreeMap<(String, String), f64> = [("patch_head", "head"), ("resid_by_pos", "pos")]
            .into_iter()
            .flat_map(|(name, last)| {
                let rows = table(&exact, name);
                let text = |column| rows.texts(column).unwrap();
                let (sites, layers, lasts) = (text("site"), text("layer"), text(last));
                let joint = if last == "head" { "." } else { " @ " };
                let name = |i: usize| format!("{} {}{joint}{}", sites[i], layers[i], lasts[i]);
                let (directions, effects) = (text("direction"), numbers(rows, "effect"));
                (0..rows.len()).map(|i| ((name(i), directions[i].clone()), effects[i])).collect::<Vec<_>>()
            })
            .collect();
        let rows = table(&found, "atp_agreement");
        let (names, directions) = (rows.texts("component").unwrap(), rows.texts("direction").unwrap());
        for (row, exact) in numbers(rows, "exact").into_iter().enumerate() {
            close(exact, known[&(names[row].clone(), directions[row].clone())]);
        }
        assert!(rows.len() >= known.len());
    }
}

/// (n_corrupt − n_clean) · gradient with torch's gradients at the clean prompt, at every site of the tiny checkpoints.
#[test]
fn estimates_are_products_with_the_gradients_of_torch() {
    for name in ["gpt2", "llama", "llama-tied"] {
        let lab =
            Lab::new(open(&checkpoint(name), DType::F64).unwrap(), Vocabulary::default(), About::default());
        let reference = parity::values(&format!("{name}-grad"));
        let rows: Vec<Vec<u32>> = parity::tokens(&reference, "tokens").to_vec2().unwrap();
        let id = |name: &str| vec![parity::numbers(&reference[name])[0] as u32];
        let example = |(i, clean): (usize, Vec<u32>)| {
            let mut corrupt = clean.clone();
            corrupt[1] = (clean[1] + 7) % lab.model.config.d_vocab as u32;
            let (answers, wrong) = (id("answer"), id("wrong"));
            Example {
                id: format!("{i}"),
                clean,
                corrupt: Some(corrupt),
                answers,
                wrong,
                ..Example::default()
            }
        };
        let examples = rows.into_iter().enumerate().map(example).collect();
        let task = Task { name: name.into(), examples, ..Task::default() };
        let atp =
            Atp { direction: Direction::Noise, ..plain(&[Grain::Position, Grain::Head, Grain::Neuron]) };
        let findings = atp.run(&lab, &task).unwrap();
        let (runs, gap) = (runs(&lab, &task), mean_gap(&lab, &task, Metric::LogitDiff));
        let mut checked = 0;
        for cell in tables_of_examples(&findings).flat_map(|rows| cells(&task, rows, 1)) {
            let gradient = reference[&cell.slice.site.to_string()].narrow(0, cell.i, 1).unwrap();
            let gradient = gradient.contiguous().unwrap().to_dtype(DType::F64).unwrap();
            let product = (cell.difference(&runs) * cell.slice.take(&gradient).unwrap()).unwrap();
            let want = -product.sum_all().unwrap().to_scalar::<f64>().unwrap();
            let got = cell.effect * gap;
            assert!(
                (got - want).abs() < 1e-6 * want.abs().max(1.0),
                "{name}, {:?}: {got}, {want}",
                cell.slice
            );
            checked += usize::from(want != 0.0);
        }
        assert!(checked > 20, "{name}: {checked}");
    }
}

#[test]
fn the_memory_allowed_changes_no_number() {
    let mut lab = lab(Config::tiny_rotary());
    let task = answered(&lab, pairs());
    let run = |lab: &Lab| Atp::default().run(lab, &task).unwrap();
    let large = run(&lab);
    lab.memory = 1;
    let small = run(&lab);
    assert!(small.notes.iter().any(|note| note.contains("neurons are left out")), "{:?}", small.notes);
    // what was checked is another list where neurons are left out
    let estimated = |name: &str| name.contains("atp_") && !name.contains("agreement");
    for rows in small.tables.iter().filter(|rows| estimated(&rows.name)) {
        let other = table(&large, &rows.name);
        for (name, _, _) in rows.columns.iter().filter(|(name, _, _)| rows.numbers(name).is_ok()) {
            let pairs = rows.numbers(name).unwrap().into_iter().zip(other.numbers(name).unwrap());
            assert!(
                pairs.into_iter().all(|(a, b)| a == b || (a.unwrap() - b.unwrap()).abs() < 1e-9),
                "{name}"
            );
        }
    }
}

#[test]
fn what_has_no_gradient_is_refused_in_a_sentence() {
    let lab = lab(Config::tiny());
    let task = task(&lab);
    let said = |atp: Atp| atp.run(&lab, &task).unwrap_err().to_string();
    let rank = said(Atp { metric: Metric::Rank, ..Atp::default() });
    assert!(rank.contains("no gradient") && rank.contains("glassbox patch"), "{rank}");
    let kl = said(Atp { metric: Metric::Kl, direction: Direction::Noise, ..Atp::default() });
    assert!(kl.contains("gradient is 0") && kl.contains("denoise"), "{kl}");
    let both = Atp { metric: Metric::Kl, ..Atp::default() }.run(&lab, &task).unwrap();
    assert!(both.notes.iter().any(|note| note.contains("only denoising")), "{:?}", both.notes);
    let directions = table(&both, "atp_head").texts("direction").unwrap();
    assert!(directions.iter().all(|direction| direction == "denoise"));
    let nothing = said(Atp { sites: Some(vec![NodeSite::Z]), by: vec![Grain::Position], ..Atp::default() });
    assert!(nothing.contains("nothing to attribute to"), "{nothing}");
    let mut alone = task.clone();
    alone.examples[1].corrupt = None;
    assert!(Atp::default().run(&lab, &alone).unwrap_err().to_string().contains("`e1` has none"));
    let mut same = task.clone();
    same.examples.iter_mut().for_each(|example| example.corrupt = Some(example.clean.clone()));
    assert!(Atp::default().run(&lab, &same).unwrap_err().to_string().contains("a gap of 0.0000"));
    assert!(toml::from_str::<Atp>("qk_fixed = true").is_err());
}

/// The gap of KL is negative; shares of it are not.
#[test]
fn kl_is_estimated_where_it_has_a_gradient() {
    let lab = lab(Config::tiny_rotary());
    let task = task(&lab);
    let atp = Atp { metric: Metric::Kl, ..plain(&[Grain::Head, Grain::Position]) };
    let findings = atp.run(&lab, &task).unwrap();
    let (runs, gap) = (runs(&lab, &task), mean_gap(&lab, &task, Metric::Kl));
    assert!(gap < 0.0);
    for cell in tables_of_examples(&findings).flat_map(|rows| cells(&task, rows, 2)) {
        let change = cell.difference(&runs);
        let want = slope(&lab, &task, &cell, &change, 1e-5, &[], Metric::Kl);
        assert!((cell.effect * gap - want).abs() < 1e-6, "{:?}: {} {want}", cell.slice, cell.effect * gap);
    }
}
