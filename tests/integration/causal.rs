//! Promises 3, 4, 5, 7 and 10: what attribution, patching and the components table must satisfy whatever the weights.
//! Models are random, of both styles, in f64; references are naive whole passes, one prompt and one edit at a time.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use glassbox::analysis::attribution::Attribution;
use glassbox::analysis::components::Components;
use glassbox::analysis::patch::{By, Patch, PatchSite};
use glassbox::analysis::{Analysis, Findings};
use glassbox::edit::{Edit, Edits, Op};
use glassbox::lab::{About, Lab};
use glassbox::lesion::Sample;
use glassbox::metric::{Metric, Targets};
use glassbox::model::{Base, Config, Transformer};
use glassbox::record::Activations;
use glassbox::row::Rows;
use glassbox::site::{At, Positions, Site, Slice};
use glassbox::sweep::{Cell, Reading, sweep};
use glassbox::task::{Example, Task};
use glassbox::vocabulary::Vocabulary;

fn lab(config: Config, seed: u64) -> Lab {
    let model = Transformer::random(config, seed, DType::F64).unwrap();
    Lab::new(model, Vocabulary::default(), About::default())
}

fn styles() -> [Lab; 2] {
    [lab(Config::tiny(), 3), lab(Config::tiny_rotary(), 4)]
}

/// Pairs in two templates of different length, with two named positions.
pub fn pairs() -> Task {
    let example = |i: u32| {
        let length = if i.is_multiple_of(2) { 7 } else { 9 };
        let token = |p: u32| (7 * i + 5 * p * p + 3 * p) % 24;
        let clean: Vec<u32> = (0..length).map(token).collect();
        let mut corrupt = clean.clone();
        corrupt[3] = (clean[3] + 5) % 24;
        corrupt[5] = (clean[5] + 11) % 24;
        let pos = BTreeMap::from([("start".to_owned(), 1), ("subject".to_owned(), 3 + (i % 2) as usize)]);
        let (answers, wrong) = (vec![(i + 1) % 24, (i + 9) % 24], vec![(i + 4) % 24]);
        let group = format!("{length}");
        Example {
            id: format!("e{i}"),
            clean,
            corrupt: Some(corrupt),
            answers,
            wrong,
            pos,
            group,
            ..Example::default()
        }
    };
    Task { name: "test".into(), examples: (0..5).map(example).collect(), ..Task::default() }
}

/// The same pairs, all of one template: every position is a column.
pub fn aligned() -> Task {
    let mut task = pairs();
    task.examples.retain(|example| example.group == "7");
    task
}

pub fn table<'a>(findings: &'a Findings, name: &str) -> &'a Rows {
    findings.tables.iter().find(|table| table.name == name).unwrap()
}

pub fn numbers(rows: &Rows, column: &str) -> Vec<f64> {
    rows.numbers(column).unwrap().into_iter().map(|x| x.unwrap_or(f64::NAN)).collect()
}

#[track_caller]
pub fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} is not {b}");
}

/// What example `i` is measured against.
fn targets(lab: &Lab, task: &Task, i: usize) -> Targets {
    let clean = lab.model.forward(&lab.model.tokens(&[&task.examples[i].clean]).unwrap(), &mut ()).unwrap();
    let end = clean.narrow(1, task.examples[i].end(), 1).unwrap().squeeze(1).unwrap();
    task.targets(&[i], Some(glassbox::ops::log_softmax(&end).unwrap()))
}

/// The metric of one prompt after edits, by a whole pass.
pub fn naive(lab: &Lab, task: &Task, i: usize, tokens: &[u32], edits: Vec<Edit>, metric: Metric) -> f64 {
    measured(lab, task.examples[i].end(), tokens, edits, metric, &targets(lab, task, i))
}

fn measured(
    lab: &Lab,
    end: usize,
    tokens: &[u32],
    edits: Vec<Edit>,
    metric: Metric,
    targets: &Targets,
) -> f64 {
    let mut hook = Edits::new(edits);
    let logits = lab.model.forward(&lab.model.tokens(&[tokens]).unwrap(), &mut hook).unwrap();
    hook.finish().unwrap();
    let at_end = logits.narrow(1, end, 1).unwrap().squeeze(1).unwrap();
    metric.score(&at_end, targets).unwrap().to_vec1::<f64>().unwrap()[0]
}

pub fn recorded(lab: &Lab, tokens: &[u32]) -> Activations {
    lab.model.record(&lab.model.tokens(&[tokens]).unwrap(), |_| true).unwrap().1
}

pub fn take(lab: &Lab, from: &[u32], slice: Slice) -> Edit {
    let values = slice.take(recorded(lab, from).get(slice.site).unwrap()).unwrap();
    Edit { at: slice, op: Op::Set(values) }
}

#[test]
fn direct_effects_sum_to_the_logit_difference_and_parts_to_their_wholes() {
    for mut lab in styles() {
        // without its output bias, an MLP is the sum of its neurons
        lab.model.blocks.iter_mut().for_each(|block| block.mlp.dense_mut().unwrap().out.b = None);
        for (task, position) in [(pairs(), "end"), (aligned(), "4"), (pairs(), "subject")] {
            let parameters = toml::from_str(&format!("position = \"{position}\"\nneurons = 1000")).unwrap();
            let attribution: Attribution = toml::Value::Table(parameters).try_into().unwrap();
            let findings = attribution.run(&lab, &task).unwrap();
            assert!(findings.notes.iter().all(|note| !note.starts_with("error")), "{:?}", findings.notes);
            let n = task.examples.len() as f64;
            let logit_diff: f64 = (0..task.examples.len())
                .map(|i| {
                    let example = &task.examples[i];
                    let mut moved = task.clone();
                    let at = attribution.position.of(example).unwrap();
                    moved.examples[i].pos.insert("end".into(), at);
                    naive(&lab, &moved, i, &example.clean, Vec::new(), Metric::LogitDiff) / n
                })
                .sum();
            let all = table(&findings, "attribution");
            close(numbers(all, "direct").iter().sum(), logit_diff);
            close(*numbers(table(&findings, "accumulated"), "logit_diff").last().unwrap(), logit_diff);

            let heads = table(&findings, "attribution_head");
            let sources = table(&findings, "attribution_source");
            let (layers, which) = (numbers(heads, "layer"), numbers(heads, "head"));
            for (row, direct) in numbers(heads, "direct").into_iter().enumerate() {
                let of = sources.only("layer", &layers[row].to_string()).unwrap();
                let of = of.only("head", &which[row].to_string()).unwrap();
                close(numbers(&of, "direct").iter().sum(), direct);
            }
            let neurons = table(&findings, "attribution_neuron");
            for layer in ["0", "1"] {
                let mlp = all.only("component", &format!("m{layer}")).unwrap();
                let own = neurons.only("layer", layer).unwrap();
                close(numbers(&own, "direct").iter().sum(), numbers(&mlp, "direct")[0]);
            }
        }
    }
}

#[test]
fn every_patch_equals_a_whole_pass_on_one_prompt() {
    for lab in styles() {
        for (task, metric) in
            [(pairs(), Metric::LogitDiff), (aligned(), Metric::Kl), (pairs(), Metric::LogProb)]
        {
            let patch =
                Patch { by: vec![By::Position, By::Head, By::HeadPosition], metric, ..Patch::default() };
            let findings = patch.run(&lab, &task).unwrap();
            for name in ["examples_patch_head", "examples_resid_by_pos", "examples_patch_head_pos"] {
                check_patches(&lab, &task, metric, table(&findings, name));
            }
        }
    }
}

pub fn check_patches(lab: &Lab, task: &Task, metric: Metric, rows: &Rows) {
    let text = |column| rows.texts(column).unwrap();
    let (ids, sites, directions) = (text("example"), text("site"), text("direction"));
    let (layers, raw) = (numbers(rows, "layer"), numbers(rows, "raw"));
    let head = rows.texts("head").unwrap_or_else(|_| vec![String::new(); rows.len()]);
    let pos = rows.texts("pos").unwrap_or_else(|_| vec![String::new(); rows.len()]);
    let of = |prompt: fn(&Example) -> &Vec<u32>| -> Vec<Activations> {
        task.examples.iter().map(|example| recorded(lab, prompt(example))).collect()
    };
    let kept = [of(|example| &example.clean), of(|example| example.corrupt.as_ref().unwrap())];
    let targets: Vec<Targets> = (0..task.examples.len()).map(|i| targets(lab, task, i)).collect();
    // every cell of the coarse tables, every fifth of the finest
    for row in (0..rows.len()).step_by(if rows.name == "examples_patch_head_pos" { 5 } else { 1 }) {
        let i = task.examples.iter().position(|example| example.id == ids[row]).unwrap();
        let example = &task.examples[i];
        let (clean, corrupt) = (&example.clean, example.corrupt.as_ref().unwrap());
        let (run, source) =
            if directions[row] == "noise" { (clean, &kept[1][i]) } else { (corrupt, &kept[0][i]) };
        let known =
            At::ALL.iter().find(|at| at.name().trim_start_matches("attn.") == format!("hook_{}", sites[row]));
        let mut slice = Slice::whole(Site::Block(layers[row] as usize, *known.unwrap()));
        slice.head = head[row].parse().ok();
        if !pos[row].is_empty() {
            let named = example.pos.get(&pos[row]).copied();
            slice = slice.pos(Positions::At(vec![named.unwrap_or_else(|| pos[row].parse().unwrap())]));
        }
        let op = Op::Set(slice.take(source.get(slice.site).unwrap()).unwrap());
        let edits = vec![Edit { at: slice, op }];
        close(raw[row], measured(lab, example.end(), run, edits, metric, &targets[i]));
    }
}

#[test]
fn the_memory_allowed_changes_no_number() {
    for mut lab in styles() {
        let run = |lab: &Lab| {
            let patch = Patch::default().run(lab, &pairs()).unwrap();
            let components = Components::default().run(lab, &pairs()).unwrap();
            [patch.tables, components.tables].concat()
        };
        let large = run(&lab);
        lab.memory = 1;
        for (small, large) in run(&lab).iter().zip(&large) {
            for (name, _, column) in &small.columns {
                match large.numbers(name) {
                    Ok(_) => numbers(small, name).iter().zip(numbers(large, name)).for_each(|(&a, b)| {
                        assert!(a.is_nan() && b.is_nan() || (a - b).abs() < 1e-9, "{name}: {a} {b}");
                    }),
                    Err(_) => assert_eq!(column, large.column(name).unwrap()),
                }
            }
        }
    }
}

/// Logit differences of one prompt's run with these cells, swept.
fn swept(lab: &Lab, task: &Task, tokens: &[u32], cells: Vec<Vec<Edit>>) -> Vec<f64> {
    let base = Base::record(&lab.model, &lab.model.tokens(&[tokens]).unwrap(), |_| false).unwrap();
    let cells: Vec<Cell> = cells.into_iter().map(|edits| Cell { edits }).collect();
    let (read, targets) = ([task.examples[0].end()], task.targets(&[0], None));
    let reading = Reading::metric(&read, Metric::LogitDiff, &targets);
    sweep(lab, &base, &cells, &reading).unwrap().into_iter().flatten().collect()
}

#[test]
fn the_whole_stream_is_the_whole_run_and_all_heads_are_attention() {
    for lab in styles() {
        let task = aligned();
        let (clean, corrupt) = (&task.examples[0].clean, task.examples[0].corrupt.as_ref().unwrap());
        let whole = |from: &[u32], layer, at| vec![take(&lab, from, Slice::whole(Site::Block(layer, at)))];
        let own = naive(&lab, &task, 0, corrupt, Vec::new(), Metric::LogitDiff);
        let restored = swept(&lab, &task, corrupt, vec![whole(clean, 0, At::ResidPre)]);
        close(restored[0], naive(&lab, &task, 0, clean, Vec::new(), Metric::LogitDiff));
        for layer in 0..2 {
            let heads =
                (0..4).map(|head| take(&lab, clean, Slice::whole(Site::Block(layer, At::Z)).head(head)));
            let same = [At::ResidPre, At::Z, At::K, At::Pattern, At::MlpOut, At::ResidPost];
            let mut cells = vec![heads.collect(), whole(clean, layer, At::AttnOut)];
            cells.extend(same.map(|at| whole(corrupt, layer, at)));
            let found = swept(&lab, &task, corrupt, cells);
            close(found[0], found[1]);
            found[2..].iter().for_each(|&unchanged| close(unchanged, own));
        }
    }
}

#[test]
fn a_key_value_head_is_its_copies_in_the_expanded_model() {
    let grouped = lab(Config::tiny_rotary(), 5);
    let mut expanded = lab(Config::tiny_rotary(), 5);
    expanded.model.config.n_kv_heads = 4;
    for block in &mut expanded.model.blocks {
        block.attention.n_kv_heads = 4;
        for linear in [&mut block.attention.k, &mut block.attention.v] {
            let w = linear.w.reshape((16, 2, 1, 4)).unwrap().broadcast_as((16, 2, 2, 4)).unwrap();
            linear.w = w.contiguous().unwrap().reshape((16, 16)).unwrap();
        }
    }
    let task = aligned();
    let (clean, corrupt) = (&task.examples[0].clean, task.examples[0].corrupt.as_ref().unwrap());
    for (layer, at) in [(0, At::K), (0, At::V), (1, At::K), (1, At::V)] {
        let head = |lab: &Lab, head| take(lab, clean, Slice::whole(Site::Block(layer, at)).head(head));
        for kv in 0..2 {
            let one = swept(&grouped, &task, corrupt, vec![vec![head(&grouped, kv)]]);
            let copies = (2 * kv..2 * kv + 2).map(|copy| head(&expanded, copy)).collect();
            close(one[0], swept(&expanded, &task, corrupt, vec![copies])[0]);
        }
    }
}

#[test]
fn components_of_a_pair_are_of_one_swap() {
    for lab in styles() {
        let task = pairs();
        let findings = Components::default().run(&lab, &task).unwrap();
        let rows = table(&findings, "components");
        let swap = Attribution::default().run(&lab, &task).unwrap();
        let swap = table(&swap, "attribution_swap");
        for (row, name) in rows.texts("component").unwrap().iter().enumerate() {
            let direct = numbers(&swap.only("component", name).unwrap(), "direct")[0];
            close(numbers(rows, "direct")[row], direct);
            let site = match name.as_str() {
                "embed" => Some(Slice::whole(Site::Embed)),
                "m0" | "m1" => Some(Slice::whole(Site::Block(name[1..].parse().unwrap(), At::MlpOut))),
                name => name[1..].split_once(".h").map(|(layer, head)| {
                    let site = Site::Block(layer.parse().unwrap(), At::Z);
                    Slice::whole(site).head(head.parse().unwrap())
                }),
            };
            let total: f64 = (0..task.examples.len())
                .map(|i| {
                    let (clean, corrupt) =
                        (&task.examples[i].clean, task.examples[i].corrupt.as_ref().unwrap());
                    let edits = site.clone().map(|slice| take(&lab, corrupt, slice)).into_iter().collect();
                    naive(&lab, &task, i, clean, Vec::new(), Metric::LogitDiff)
                        - naive(&lab, &task, i, clean, edits, Metric::LogitDiff)
                })
                .sum();
            close(numbers(rows, "total")[row], total / task.examples.len() as f64);
        }
        let ranks: Vec<f64> = (1..=rows.len()).map(|rank| rank as f64).collect();
        assert_eq!(numbers(rows, "rank"), ranks);
    }
}

#[test]
fn mean_ablation_sets_a_component_to_its_mean_over_the_reference() {
    for lab in styles() {
        let mut task = pairs();
        task.examples.iter_mut().for_each(|example| example.corrupt = None);
        let reference = [vec![1, 2, 3], vec![9, 8, 7, 6, 5], vec![4, 4, 2]];
        let mean = |site: Site| {
            let runs: Vec<Tensor> = reference
                .iter()
                .map(|r| recorded(&lab, r).get(site).unwrap().flatten(0, 1).unwrap())
                .collect();
            Tensor::cat(&runs, 0).unwrap().mean(0).unwrap()
        };
        let given = reference.iter().cloned().map(Sample::from).collect();
        let analysis = Components { reference: Some(given), ..Components::default() };
        let findings = analysis.run(&lab, &task).unwrap();
        let attribution = Attribution::default().run(&lab, &task).unwrap();
        let mut cases = vec![
            ("embed", Slice::whole(Site::Embed), mean(Site::Embed)),
            ("m0", Slice::whole(Site::Block(0, At::MlpOut)), mean(Site::Block(0, At::MlpOut))),
            (
                "a1.h2",
                Slice::whole(Site::Block(1, At::Z)).head(2),
                mean(Site::Block(1, At::Z)).get(2).unwrap(),
            ),
        ];
        if lab.model.pos_embed.is_some() {
            cases.push(("pos_embed", Slice::whole(Site::PosEmbed), mean(Site::PosEmbed)));
        }
        for (name, slice, value) in cases {
            let row = table(&findings, "components").only("component", name).unwrap();
            let edit = || vec![Edit { at: slice.clone(), op: Op::Set(value.clone()) }];
            let total: f64 = (0..task.examples.len())
                .map(|i| {
                    let clean = &task.examples[i].clean;
                    naive(&lab, &task, i, clean, Vec::new(), Metric::LogitDiff)
                        - naive(&lab, &task, i, clean, edit(), Metric::LogitDiff)
                })
                .sum();
            close(numbers(&row, "total")[0], total / task.examples.len() as f64);
            let direct = table(&attribution, "attribution").only("component", name).unwrap();
            close(numbers(&row, "direct")[0], numbers(&direct, "direct")[0]);
        }
    }
}

/// References as long as the prompts: each position has its own mean, so that a position embedding, equal in all
/// prompts, has no effect at all.
#[test]
fn mean_ablation_is_position_by_position_where_it_can_be() {
    for lab in styles() {
        let mut task = pairs();
        task.examples.iter_mut().for_each(|example| example.corrupt = None);
        let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap();
        let reference: Vec<Vec<u32>> =
            (0..3).map(|k| (0..longest as u32 + k).map(|i| (5 * i + 7 * k) % 24).collect()).collect();
        let given = reference.iter().cloned().map(Sample::from).collect();
        let analysis = Components { reference: Some(given), ..Components::default() };
        let findings = analysis.run(&lab, &task).unwrap();
        let sites = [("m0", Site::Block(0, At::MlpOut), None), ("a1.h2", Site::Block(1, At::Z), Some(2))];
        for (name, site, head) in sites {
            let row = table(&findings, "components").only("component", name).unwrap();
            let mut total = 0.0;
            for (i, example) in task.examples.iter().enumerate() {
                let pos = example.clean.len();
                let runs: Vec<Tensor> = reference
                    .iter()
                    .map(|r| recorded(&lab, r).get(site).unwrap().narrow(1, 0, pos).unwrap())
                    .collect();
                let mut mean = Tensor::cat(&runs, 0).unwrap().mean(0).unwrap(); // [pos, …]
                let mut slice = Slice::whole(site);
                if let Some(head) = head {
                    mean = mean.narrow(1, head, 1).unwrap();
                    slice = slice.head(head);
                }
                let edit = vec![Edit { at: slice, op: Op::Set(mean.contiguous().unwrap()) }];
                total += naive(&lab, &task, i, &example.clean, Vec::new(), Metric::LogitDiff)
                    - naive(&lab, &task, i, &example.clean, edit, Metric::LogitDiff);
            }
            close(numbers(&row, "total")[0], total / task.examples.len() as f64);
        }
        if lab.model.pos_embed.is_some() {
            let row = table(&findings, "components").only("component", "pos_embed").unwrap();
            close(numbers(&row, "total")[0], 0.0);
        }
    }
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_numbers() {
    let lab = lab(Config::tiny(), 3);
    let said = |task: &Task| Patch::default().run(&lab, task).unwrap_err().to_string();
    let mut same = pairs();
    same.examples.iter_mut().for_each(|example| example.corrupt = Some(example.clean.clone()));
    assert!(said(&same).contains("a gap of 0.0000"), "{}", said(&same));
    let components = Components::default().run(&lab, &same).unwrap();
    assert!(numbers(table(&components, "components"), "total").iter().all(|&total| total == 0.0));
    let mut unpaired = pairs();
    unpaired.examples[1].corrupt = None;
    assert!(said(&unpaired).contains("`e1` has none"), "{}", said(&unpaired));
    let nothing = Patch { sites: Some(vec![PatchSite::Z]), by: vec![By::Position], ..Patch::default() };
    assert_eq!(nothing.run(&lab, &pairs()).unwrap_err().exit_code(), 2);
    let mut open = pairs();
    open.examples[0].wrong.clear();
    assert!(Attribution::default().run(&lab, &open).is_err());
    let nowhere: Attribution = toml::from_str("position = \"verb\"").unwrap();
    assert!(nowhere.run(&lab, &pairs()).unwrap_err().to_string().contains("verb"));
    assert!(toml::from_str::<Patch>("sites = [\"resid\"]").is_err());
    assert!(toml::from_str::<Components>("refference = []").is_err());
}
