//! Patching at every site and grain, of windows and sets, with values of every source: against naive whole passes on one
//! prompt, and the identities it obeys.

mod flags;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use glassbox::analysis::ablate::Ablate;
use glassbox::analysis::components::Components;
use glassbox::analysis::patch::{Patch, PatchSite};
use glassbox::analysis::{Analysis, Findings};
use glassbox::edit::{Edit, Op};
use glassbox::lab::{About, Arrays, Lab};
use glassbox::lesion::{Part, Sample};
use glassbox::metric::Metric;
use glassbox::model::{Config, MlpKind, Transformer};
use glassbox::record::Activations;
use glassbox::row::Rows;
use glassbox::site::{At, Positions, Site, Slice};
use glassbox::stats::{false_discovery, sign_flip};
use glassbox::study::{Prompts, Step, Study};
use glassbox::task::{Example, Side, Task};
use glassbox::vocabulary::Vocabulary;
use glassbox::{output, recording};

use crate::causal::{aligned, close, naive, numbers, pairs, recorded, table};
use crate::styles;

fn lab(config: Config, seed: u64) -> Lab {
    let model = Transformer::random(config, seed, DType::F64).unwrap();
    let about = About { name: "random".into(), hash: format!("{seed:064}"), ..About::default() };
    Lab::new(model, Vocabulary::default(), about)
}

fn plain() -> [Lab; 2] {
    [lab(Config::tiny(), 3), lab(Config::tiny_rotary(), 4)]
}

fn patch(parameters: &str) -> Patch {
    toml::from_str::<toml::Table>(parameters).unwrap().try_into().unwrap()
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} is not {b}");
}

fn only(rows: &Rows, cells: &[(&str, &str)]) -> Rows {
    cells.iter().fold(rows.clone(), |rows, (column, value)| rows.only(column, value).unwrap())
}

fn effects(found: &Findings, name: &str, cells: &[(&str, &str)]) -> Vec<f64> {
    numbers(&only(table(found, name), cells), "effect")
}

/// Every site and grain at once.
const EVERYTHING: &str =
    "by = ['all', 'position', 'head', 'head-position', 'query-key', 'neuron']\nneurons = 2\nsites = [SITES]";

fn everything(lab: &Lab) -> String {
    let has = |site: &PatchSite| {
        let name = toml::Value::try_from(site).unwrap().as_str().unwrap().to_owned();
        lab.model.blocks.iter().any(|block| block.has(at(&name)))
    };
    let names = PatchSite::ALL
        .iter()
        .filter(|site| has(site))
        .map(|site| toml::Value::try_from(site).unwrap().to_string());
    EVERYTHING.replace("SITES", &names.collect::<Vec<_>>().join(", "))
}

/// The place that a table calls by this name.
fn at(name: &str) -> At {
    let classic = match name {
        "mlp_pre" => "mlp.hook_pre".to_owned(),
        "mlp_post" => "mlp.hook_post".to_owned(),
        "z" | "result" | "q" | "k" | "v" | "pattern" => format!("attn.hook_{name}"),
        name => format!("hook_{name}"),
    };
    *At::ALL.iter().find(|at| at.name() == classic).unwrap()
}

/// What a row of an `examples_` table says is swapped, as whole-pass edits with these values.
fn edits(
    rows: &Rows,
    row: usize,
    window: usize,
    sets: &BTreeMap<&str, Vec<&str>>,
    example: &Example,
    values: &Activations,
) -> Vec<Edit> {
    let text = |column: &str| rows.texts(column).ok().map(|texts| texts[row].clone());
    let number = |column: &str| text(column).and_then(|text| text.parse::<usize>().ok());
    let place = |column: &str| {
        let label = text(column)?;
        Some(Positions::At(vec![example.pos.get(&label).copied().unwrap_or_else(|| label.parse().unwrap())]))
    };
    let slices: Vec<Slice> = match text("set") {
        Some(set) => {
            sets[set.as_str()].iter().map(|part| part.parse::<Part>().unwrap().slice().unwrap()).collect()
        }
        None => {
            let first = number("layer").unwrap();
            let window = if number("head").is_some() || number("neuron").is_some() { 1 } else { window };
            let one = |layer| {
                let mut slice = Slice::whole(Site::Block(layer, at(&text("site").unwrap())));
                slice.head = number("head");
                slice.index = number("neuron").map(|neuron| vec![neuron]);
                if let Some(pos) = place("pos").or_else(|| place("query")) {
                    slice.pos = pos;
                }
                if let Some(key) = place("key") {
                    slice.key = key;
                }
                slice
            };
            (first..first + window).map(one).collect()
        }
    };
    let set =
        |slice: Slice| Edit { op: Op::Set(slice.take(values.get(slice.site).unwrap()).unwrap()), at: slice };
    slices.into_iter().map(set).collect()
}

/// Holds the `step`-th row of every table of examples to a whole pass with values of `source(example, direction)`.
fn check(
    lab: &Lab,
    task: &Task,
    found: &Findings,
    (window, step): (usize, usize),
    sets: &BTreeMap<&str, Vec<&str>>,
    source: &dyn Fn(usize, &str) -> Activations,
) -> usize {
    let mut checked = 0;
    let mut values: BTreeMap<(usize, String), Activations> = BTreeMap::new();
    for rows in
        found.tables.iter().filter(|rows| rows.name.starts_with("examples_") && rows.column("raw").is_ok())
    {
        let (ids, directions) = (rows.texts("example").unwrap(), rows.texts("direction").unwrap());
        let raw = numbers(rows, "raw");
        for row in (0..rows.len()).step_by(step) {
            let i = task.examples.iter().position(|example| example.id == ids[row]).unwrap();
            let example = &task.examples[i];
            let run =
                if directions[row] == "denoise" { example.corrupt.as_ref().unwrap() } else { &example.clean };
            let from =
                values.entry((i, directions[row].clone())).or_insert_with(|| source(i, &directions[row]));
            let edits = edits(rows, row, window, sets, example, from);
            close(raw[row], naive(lab, task, i, run, edits, Metric::LogitDiff));
            checked += 1;
        }
    }
    checked
}

/// The other prompt of the pair.
fn partner<'a>(lab: &'a Lab, task: &'a Task) -> impl Fn(usize, &str) -> Activations + 'a {
    |i, direction| {
        let example = &task.examples[i];
        recorded(lab, if direction == "denoise" { &example.clean } else { example.corrupt.as_ref().unwrap() })
    }
}

#[test]
fn every_site_and_grain_equals_a_whole_pass() {
    for lab in plain() {
        for (task, step) in [(pairs(), 3), (aligned(), 11)] {
            let found = patch(&everything(&lab)).run(&lab, &task).unwrap();
            let names: Vec<&str> = found.tables.iter().map(|rows| rows.name.as_str()).collect();
            assert_eq!(
                names[..6],
                [
                    "patch_head",
                    "resid_by_pos",
                    "patch_head_pos",
                    "patch_layer",
                    "patch_pattern",
                    "patch_neuron"
                ]
            );
            let checked = check(&lab, &task, &found, (1, step), &BTreeMap::new(), &partner(&lab, &task));
            assert!(checked > 250, "{checked}");
        }
    }
}

#[test]
fn every_style_of_model_can_be_patched_at_every_site_it_has() {
    for (style, config) in styles::able() {
        println!("{style}");
        let lab = lab(config, 11);
        let mut task = pairs();
        let said = lab.model.config.d_vocab_out as u32;
        for example in &mut task.examples {
            for ids in [&mut example.answers, &mut example.wrong] {
                ids.iter_mut().for_each(|id| *id %= said);
                ids.sort_unstable();
                ids.dedup();
            }
        }
        task.examples.truncate(2);
        let sets = BTreeMap::from([("both", vec!["a0.h1", "a1"]), ("one", vec!["a1.h0"])]);
        let parameters = everything(&lab).replace("'neuron'", "'neuron', 'set'");
        let parameters = format!("{parameters}\nsets = {{both = ['a0.h1', 'a1'], one = ['a1.h0']}}");
        if lab.model.config.n_layers < 2 || lab.model.config.n_heads < 2 {
            continue;
        }
        let found = patch(&parameters).run(&lab, &task).unwrap();
        check(&lab, &task, &found, (1, 29), &sets, &partner(&lab, &task));
        let windows = patch("by = ['all', 'position']\nwindow = 2").run(&lab, &task).unwrap();
        check(&lab, &task, &windows, (2, 5), &sets, &partner(&lab, &task));
    }
}

#[test]
fn a_window_is_its_layers_together_and_a_set_its_parts() {
    for lab in plain() {
        let task = pairs();
        let sets = BTreeMap::from([
            ("attention", vec!["a0", "a1"]),
            ("mixed", vec!["embed", "a0.h1", "m0.n3", "m1"]),
            ("alone", vec!["a1.h2"]),
        ]);
        let parameters = "by = ['all', 'position', 'head', 'set']\nwindow = 2\n\
                          sets = {attention = ['a0', 'a1'], mixed = ['embed', 'a0.h1', 'm0.n3', 'm1'], alone = ['a1.h2']}";
        let found = patch(parameters).run(&lab, &task).unwrap();
        assert!(check(&lab, &task, &found, (2, 1), &sets, &partner(&lab, &task)) > 200);
        assert!(found.notes.iter().any(|note| note.contains("not any one layer's")), "{:?}", found.notes);
        for direction in ["denoise", "noise"] {
            let key = ("direction", direction);
            let window = effects(&found, "patch_layer", &[key, ("site", "attn_out")]);
            let set = only(table(&found, "patch_set"), &[key, ("set", "attention")]);
            close(numbers(&set, "effect")[0], window[0]);
            // the whole, the parts alone, and what is left
            let single = patch("by = ['all']\nsites = ['attn_out']").run(&lab, &task).unwrap();
            let sum: f64 = effects(&single, "patch_layer", &[key]).iter().sum();
            close(numbers(&set, "sum_of_parts")[0], sum);
            close(numbers(&set, "interaction")[0], window[0] - sum);
            let alone = only(table(&found, "patch_set"), &[key, ("set", "alone")]);
            close(numbers(&alone, "interaction")[0], 0.0);
            let head = effects(&found, "patch_head", &[key, ("site", "z"), ("layer", "1"), ("head", "2")]);
            close(numbers(&alone, "effect")[0], head[0]);
        }
        assert!(table(&found, "patch_head").column("window").is_err());
        for wrong in ["window = 3", "window = 0"] {
            assert!(patch(wrong).run(&lab, &task).unwrap_err().to_string().contains("window of"));
        }
    }
}

#[test]
fn identities_between_sites() {
    for lab in plain().into_iter().chain([lab(Config { mlp: MlpKind::Gated, ..Config::tiny() }, 6)]) {
        let task = pairs();
        let found = patch(
            "by = ['all', 'head']\nsites = ['mlp_post', 'mlp_pre', 'mlp_out', 'z', 'result', 'attn_out', 'resid_post']",
        );
        let found = found.run(&lab, &task).unwrap();
        let of = |name: &str, site: &str| effects(&found, name, &[("site", site)]);
        let same = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).for_each(|(a, b)| close(*a, *b));
        // all neurons are the MLP, all heads are attention, and a head is what it writes
        same(of("patch_layer", "mlp_post"), of("patch_layer", "mlp_out"));
        if lab.model.config.mlp == MlpKind::Plain {
            same(of("patch_layer", "mlp_pre"), of("patch_layer", "mlp_out"));
        }
        same(of("patch_layer", "z"), of("patch_layer", "attn_out"));
        same(of("patch_layer", "result"), of("patch_layer", "attn_out"));
        same(of("patch_head", "z"), of("patch_head", "result"));
        // what leaves the last layer is everything
        for direction in ["denoise", "noise"] {
            let last = effects(
                &found,
                "patch_layer",
                &[("site", "resid_post"), ("layer", "1"), ("direction", direction)],
            );
            close(last[0], 1.0);
        }
    }
}

#[test]
fn all_cells_of_a_query_are_its_row_of_attention() {
    for lab in plain() {
        let task = aligned();
        let found =
            patch("by = ['head-position', 'query-key']\nsites = ['pattern']").run(&lab, &task).unwrap();
        let rows = only(
            table(&found, "examples_patch_head_pos"),
            &[("example", "e0"), ("direction", "noise"), ("layer", "0")],
        );
        let example = &task.examples[0];
        let corrupt = recorded(&lab, example.corrupt.as_ref().unwrap());
        let (heads, places, raw) =
            (numbers(&rows, "head"), rows.texts("pos").unwrap(), numbers(&rows, "raw"));
        for row in 0..rows.len() {
            let query: usize = places[row].parse().unwrap();
            let cell = |key: usize| {
                let mut at = Slice::whole(Site::Block(0, At::Pattern)).head(heads[row] as usize);
                (at.pos, at.key) = (Positions::At(vec![query]), Positions::At(vec![key]));
                Edit { op: Op::Set(at.take(corrupt.get(at.site).unwrap()).unwrap()), at }
            };
            let together =
                naive(&lab, &task, 0, &example.clean, (0..=query).map(cell).collect(), Metric::LogitDiff);
            close(raw[row], together);
        }
        // nothing is said of what a query cannot see
        let cells = table(&found, "patch_pattern");
        let place = |column: &str| -> Vec<usize> {
            cells.texts(column).unwrap().iter().map(|place| place.parse().unwrap()).collect()
        };
        let seen = place("query").iter().zip(place("key")).all(|(query, key)| key <= *query);
        assert!(seen && cells.len() == 2 * 2 * 4 * 7 * 8 / 2, "{}", cells.len());
    }
}

#[test]
fn neurons_are_those_asked_for_or_those_that_attribution_expects_most_of() {
    for lab in plain() {
        let task = pairs();
        let found = patch("by = ['neuron']\nneurons = 1000\ndirection = 'noise'").run(&lab, &task).unwrap();
        let rows = table(&found, "patch_neuron");
        assert_eq!(rows.len(), 2 * lab.model.config.d_mlp);
        let estimates = numbers(rows, "estimate");
        assert!(estimates.windows(2).all(|pair| pair[0].abs() >= pair[1].abs()));
        // the estimate is the slope of the metric as the neuron moves from its clean to its corrupt value, as a share of the gap
        let run = |i: usize, tokens: &[u32]| naive(&lab, &task, i, tokens, Vec::new(), Metric::LogitDiff);
        let both = |(i, e): (usize, &Example)| run(i, &e.clean) - run(i, e.corrupt.as_ref().unwrap());
        let gap = task.examples.iter().enumerate().map(both).sum::<f64>() / 5.0;
        for row in [0, 5, 20] {
            let site = Site::Block(numbers(rows, "layer")[row] as usize, At::MlpPost);
            let at = Slice { index: Some(vec![numbers(rows, "neuron")[row] as usize]), ..Slice::whole(site) };
            let h = 1e-5;
            let slope: f64 = task
                .examples
                .iter()
                .enumerate()
                .map(|(i, example)| {
                    let corrupt = example.corrupt.as_ref().unwrap();
                    let [clean, other] = [&example.clean, corrupt]
                        .map(|run| at.take(recorded(&lab, run).get(site).unwrap()).unwrap());
                    let moved = |by: f64| {
                        let value = (&clean + ((&other - &clean).unwrap() * by).unwrap()).unwrap();
                        naive(
                            &lab,
                            &task,
                            i,
                            &example.clean,
                            vec![Edit { at: at.clone(), op: Op::Set(value) }],
                            Metric::LogitDiff,
                        )
                    };
                    (moved(h) - moved(-h)) / (2.0 * h)
                })
                .sum();
            assert!((-estimates[row] * gap - slope / 5.0).abs() < 1e-7, "{} {}", estimates[row], slope / 5.0);
        }
        let listed = patch("by = ['neuron']\nneurons = ['m1.n3', 'm0.n0']\nsites = ['mlp_pre', 'mlp_post']")
            .run(&lab, &task)
            .unwrap();
        assert_eq!(table(&listed, "patch_neuron").len(), 2 * 2 * 2);
        check(&lab, &task, &listed, (1, 1), &BTreeMap::new(), &partner(&lab, &task));
        for wrong in ["['m1']", "['m9.n0']", "['m0.n1000']"] {
            assert!(
                patch(&format!("by = ['neuron']\nneurons = {wrong}")).run(&lab, &task).is_err(),
                "{wrong}"
            );
        }
    }
}

#[test]
fn a_study_names_the_file_and_the_groups() {
    let (folder, lab) = (tempfile::tempdir().unwrap(), Study::default().lab().unwrap());
    let prompts = Prompts { generate: Some("ioi".into()), n: Some(4), ..Prompts::default() };
    let study = Study { task: prompts, steps: vec![Step::named("patch")], ..Study::default() };
    let task = study.task(&lab).unwrap();
    let sites = recording::sites(&lab.model, &["blocks.*.attn.hook_z".to_owned()]).unwrap();
    let tensors = recording::record(&lab, &task, Side::Corrupt, &sites).unwrap();
    let about = recording::metadata(&lab, &task, Side::Corrupt, None).unwrap();
    let path = folder.path().join("z.safetensors");
    output::write_tensors(&path, &tensors, &about, false).unwrap();
    let pair = study.run(&lab, &task).unwrap().remove(0).findings;
    // the bundled model's roles are its groups
    assert!(!table(&pair, "patch_set").is_empty());
    let study = Study::parse(
        &study.text().unwrap().replacen("model", "values = 'z.safetensors'\nmodel", 1),
        "test",
        Some(folder.path()),
    )
    .unwrap();
    assert_eq!(study.values.as_deref(), Some(path.as_path()));
    let lab = study.lab().unwrap();
    let found = study.run(&lab, &task).unwrap().remove(0).findings;
    let of = |found: &Findings| effects(found, "patch_head", &[("site", "z"), ("direction", "noise")]);
    of(&pair).iter().zip(of(&found)).for_each(|(a, b)| near(*a, b));
    assert!(found.tables.iter().all(|rows| rows.name != "resid_by_pos"), "the file holds no stream");
    let unread = Study { steps: vec![Step::named("lens")], ..study };
    assert!(unread.lab().err().unwrap().to_string().contains("`values`"));
}
