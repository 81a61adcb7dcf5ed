//! Ablation against torch on the bundled model, against whole passes with edits made by hand, and the identities it obeys.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use glassbox::analysis::ablate::Ablate;
use glassbox::analysis::components::Components;
use glassbox::analysis::{Analysis, Findings};
use glassbox::edit::{Edit, Edits, Op};
use glassbox::gradient::Gradients;
use glassbox::lab::{About, Lab};
use glassbox::metric::{Gain, Gains, Metric};
use glassbox::model::{Config, Transformer};
use glassbox::ops;
use glassbox::record::Recorder;
use glassbox::row::Rows;
use glassbox::site::{At, Positions, Site, Slice};
use glassbox::task::{Example, Task};
use glassbox::vocabulary::Vocabulary;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn styles() -> [Lab; 2] {
    [(Config::tiny(), 3), (Config::tiny_rotary(), 4)].map(|(config, seed)| {
        let model = Transformer::random(config, seed, DType::F64).unwrap();
        Lab::new(model, Vocabulary::default(), About::default())
    })
}

/// Pairs in two templates of different length with named positions, and gains, so that every metric can be measured.
pub fn task() -> Task {
    let example = |i: u32| {
        let length = if i.is_multiple_of(2) { 6 } else { 8 };
        let clean: Vec<u32> = (0..length).map(|p| (7 * i + 5 * p * p + 3 * p) % 24).collect();
        let mut corrupt = clean.clone();
        corrupt[3] = (clean[3] + 5) % 24;
        let pos = BTreeMap::from([("start".to_owned(), 1), ("middle".to_owned(), 2 + (i % 2) as usize)]);
        let (answers, wrong) = (vec![(i + 1) % 24, (i + 9) % 24], vec![(i + 4) % 24]);
        Example {
            id: format!("e{i}"),
            clean,
            corrupt: Some(corrupt),
            answers,
            wrong,
            pos,
            group: format!("{length}"),
            ..Example::default()
        }
    };
    let gains = Gains { default: Gain { gain: 1.0, cost: 0.5 }, by_token: BTreeMap::new() };
    Task {
        name: "test".into(),
        examples: (0..6).map(example).collect(),
        gains: Some(gains),
        ..Task::default()
    }
}

pub fn ablate(parameters: &str) -> Ablate {
    toml::from_str::<toml::Table>(parameters).unwrap().try_into().unwrap()
}

fn table<'a>(findings: &'a Findings, name: &str) -> &'a Rows {
    findings.tables.iter().find(|table| table.name == name).unwrap()
}

fn numbers(rows: &Rows, column: &str) -> Vec<f64> {
    rows.numbers(column).unwrap().into_iter().map(|x| x.unwrap_or(f64::NAN)).collect()
}

/// The rows that have these texts in these columns.
fn only(rows: &Rows, cells: &[(&str, &str)]) -> Rows {
    cells.iter().fold(rows.clone(), |rows, (column, value)| rows.only(column, value).unwrap())
}

fn close(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{what}: {a} is not {b}");
}

/// Every part, kind and metric on the bundled model, prompt by prompt, as transformers and torch have them.
#[test]
fn ablations_agree_with_torch() {
    let path = root().join("tests/fixtures/ablate.safetensors");
    let values: HashMap<String, Tensor> = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let names = |axis: &str| -> Vec<String> {
        serde_json::from_str(&header.metadata().as_ref().unwrap()[axis]).unwrap()
    };
    let ids = |name: &str| -> Vec<u32> {
        values[name].to_dtype(DType::U32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let (answers, wrong) = (ids("answer"), ids("wrong"));
    let prompts: Vec<Vec<u32>> = values["tokens"].to_dtype(DType::U32).unwrap().to_vec2().unwrap();
    let example = |(i, clean): (usize, Vec<u32>)| Example {
        id: i.to_string(),
        clean,
        answers: vec![answers[i]],
        wrong: vec![wrong[i]],
        group: "one".into(),
        ..Example::default()
    };
    let examples: Vec<Example> = prompts.into_iter().enumerate().map(example).collect();
    let n = examples.len();
    let task = Task { name: "torch".into(), examples, ..Task::default() };
    let lab = Lab::open("textbook", DType::F64, &Device::Cpu).unwrap();
    let (kinds, parts, metrics) = (names("kinds"), names("parts"), names("metrics"));
    let sets: Vec<Vec<&str>> =
        parts.iter().filter(|part| part.contains('+')).map(|part| part.split('+').collect()).collect();
    // as many draws as there are other prompts: each of them is drawn once
    let parameters = format!("by = [\"head\", \"layer\", \"set\"]\nsets = {sets:?}\ndraws = {}", n - 1);
    let found = ablate(&parameters).run(&lab, &task).unwrap();
    let found = table(&found, "examples_ablate");
    let theirs: Vec<f64> = values["change"].flatten_all().unwrap().to_vec1().unwrap();
    let mut theirs = theirs.into_iter();
    for kind in &kinds {
        for part in &parts {
            for metric in &metrics {
                for i in 0..n {
                    let theirs = theirs.next().unwrap();
                    let row = only(found, &[("example", &i.to_string()), ("part", part), ("kind", kind)]);
                    let ours = numbers(&row, &metric.replace('-', "_"));
                    assert_eq!(ours.len(), 1, "{part} {kind}");
                    assert!(
                        (ours[0] - theirs).abs() <= 1e-6 * theirs.abs().max(1.0),
                        "{part} {kind} {metric} of prompt {i}: {} and {theirs}",
                        ours[0]
                    );
                }
            }
        }
    }
    assert!(theirs.next().is_none());
}

/// Whole passes over one prompt with edits made by hand.
struct Naive<'a> {
    lab: &'a Lab,
    task: &'a Task,
}

impl Naive<'_> {
    fn kept(&self, tokens: &[u32], site: Site) -> Tensor {
        self.lab
            .model
            .record(&self.lab.model.tokens(&[tokens]).unwrap(), |s| s == site)
            .unwrap()
            .1
            .get(site)
            .unwrap()
            .clone()
    }

    /// The metric on example i when a slice holds these values.
    fn metric(&self, i: usize, metric: Metric, edits: Vec<Edit>) -> f64 {
        let example = &self.task.examples[i];
        let tokens = self.lab.model.tokens(&[&example.clean]).unwrap();
        let at_end = |hook: &mut Edits| {
            let logits = self.lab.model.forward(&tokens, hook).unwrap();
            logits.narrow(1, example.end(), 1).unwrap().squeeze(1).unwrap()
        };
        let clean = ops::log_softmax(&at_end(&mut Edits::new([]))).unwrap();
        let targets = self.task.targets(&[i], Some(clean));
        metric.score(&at_end(&mut Edits::new(edits)), &targets).unwrap().to_vec1::<f64>().unwrap()[0]
    }

    /// The other examples of i's template.
    fn others(&self, i: usize) -> Vec<usize> {
        let group = &self.task.examples[i].group;
        (0..self.task.examples.len()).filter(|&j| j != i && self.task.examples[j].group == *group).collect()
    }

    /// What example i gets in this slice: one list of values for each draw.
    fn values(&self, i: usize, slice: &Slice, kind: &str) -> Vec<Tensor> {
        let clean = |j: usize| self.kept(&self.task.examples[j].clean, slice.site);
        let take = |x: Tensor| slice.take(&x).unwrap();
        let own = clean(i);
        let stack = |list: Vec<Tensor>| Tensor::cat(&list, 0).unwrap().mean_keepdim(0).unwrap();
        match kind {
            "zero" => vec![take(own.zeros_like().unwrap())],
            "mean" => {
                let others = (0..self.task.examples.len()).filter(|&j| j != i);
                let mean = stack(others.map(|j| clean(j).flatten(0, 1).unwrap()).collect());
                vec![take(
                    mean.unsqueeze(0).unwrap().broadcast_as(own.shape()).unwrap().contiguous().unwrap(),
                )]
            }
            "mean-by-position" => vec![take(stack(self.others(i).into_iter().map(clean).collect()))],
            _ => self.others(i).into_iter().map(|j| take(clean(j))).collect(),
        }
    }

    /// Change of the metric on example i, averaged over draws.
    pub fn change(&self, i: usize, metric: Metric, slices: &[Slice], kind: &str) -> f64 {
        let each: Vec<Vec<Tensor>> = slices.iter().map(|slice| self.values(i, slice, kind)).collect();
        let draws = each[0].len();
        let runs = (0..draws).map(|draw| {
            let edits = slices.iter().zip(&each);
            let edits =
                edits.map(|(slice, values)| Edit { at: slice.clone(), op: Op::Set(values[draw].clone()) });
            self.metric(i, metric, edits.collect())
        });
        runs.sum::<f64>() / draws as f64 - self.metric(i, metric, Vec::new())
    }
}

/// The slices of a part's name at one position, or all.
pub fn slices(part: &str, pos: Option<usize>) -> Vec<Slice> {
    let one = |part: &str| {
        let layer = |text: &str| text.parse::<usize>().unwrap();
        let block = |l, at| Slice::whole(Site::Block(l, at));
        let slice = match part {
            "embed" => Slice::whole(Site::Embed),
            "pos_embed" => Slice::whole(Site::PosEmbed),
            part if part.contains(".h") => {
                let (l, head) = part[1..].split_once(".h").unwrap();
                block(layer(l), At::Z).head(layer(head))
            }
            part if part.contains(".n") => {
                let (l, neuron) = part[1..].split_once(".n").unwrap();
                Slice { index: Some(vec![layer(neuron)]), ..block(layer(l), At::MlpPost) }
            }
            part if part.starts_with('m') => block(layer(&part[1..]), At::MlpOut),
            part => block(layer(&part[1..]), At::AttnOut),
        };
        match pos {
            None => slice,
            Some(pos) => slice.pos(Positions::At(vec![pos])),
        }
    };
    part.split('+').map(one).collect()
}

#[test]
fn every_lesion_equals_whole_passes_in_every_metric() {
    let task = task();
    for lab in styles() {
        let embeddings =
            if lab.model.pos_embed.is_some() { "[\"embed\", \"pos_embed\"]" } else { "[\"embed\", \"m1\"]" };
        let sets = format!(
            "sets = [[\"a0.h1\", \"a1.h0\"], {embeddings}, [\"embed\"], [\"m0\", \"m0.n3\", \"a1\"]]"
        );
        let ablate = ablate(&format!("{sets}\ndraws = 2\nneurons = 3"));
        let found = check_lesions(&lab, &task, &ablate);
        assert_eq!(found, 7 * 4);
    }
}

/// Runs it and holds every lesion to whole passes, in one metric each, so that all are met many times. How many pairs of
/// metric and kind were met.
pub fn check_lesions(lab: &Lab, task: &Task, ablate: &Ablate) -> usize {
    let found = ablate.run(lab, task).unwrap();
    let rows = table(&found, "examples_ablate");
    let naive = Naive { lab, task };
    let text = |column| rows.texts(column).unwrap();
    let (ids, parts, places, kinds) = (text("example"), text("part"), text("pos"), text("kind"));
    let metrics: Vec<(Metric, Vec<f64>)> = Metric::ALL
        .into_iter()
        .map(|metric| (metric, numbers(rows, &metric.name().replace('-', "_"))))
        .collect();
    let mut grains = BTreeMap::new();
    for row in 0..rows.len() {
        let i = task.examples.iter().position(|example| example.id == ids[row]).unwrap();
        let pos = (!places[row].is_empty()).then(|| task.examples[i].pos[&places[row]]);
        let (metric, values) = &metrics[row % metrics.len()];
        let expected = naive.change(i, *metric, &slices(&parts[row], pos), &kinds[row]);
        close(values[row], expected, &format!("{} {} {} {metric}", ids[row], parts[row], kinds[row]));
        *grains.entry((metric.name(), kinds[row].clone())).or_insert(0) += 1;
    }
    grains.len()
}

#[test]
fn tables_are_means_of_their_examples_and_an_interaction_is_what_is_left() {
    let (task, [lab, _]) = (task(), styles());
    let found =
        ablate("sets = {pair = [\"a0.h1\", \"m1.n2\"]}\nby = [\"set\", \"head\"]").run(&lab, &task).unwrap();
    let examples = table(&found, "examples_ablate");
    let effects = table(&found, "ablate_effect");
    let mean = |part: &str, kind: &str| {
        let values = numbers(&only(examples, &[("part", part), ("kind", kind)]), "logit_diff");
        assert_eq!(values.len(), task.examples.len());
        values.iter().sum::<f64>() / values.len() as f64
    };
    for kind in ["zero", "mean", "mean-by-position", "resample"] {
        for part in ["pair", "a1.h3"] {
            let row = only(effects, &[("part", part), ("kind", kind), ("metric", "logit-diff")]);
            close(numbers(&row, "change")[0], mean(part, kind), part);
            let (lo, hi) = (numbers(&row, "ci_lo")[0], numbers(&row, "ci_hi")[0]);
            assert!(lo <= mean(part, kind) && mean(part, kind) <= hi, "{lo} {hi}");
        }
        let row = only(table(&found, "ablate_set"), &[("kind", kind), ("metric", "logit-diff")]);
        let neuron = Naive { lab: &lab, task: &task };
        // a part that no table lists is measured for the sum
        let alone: f64 = match kind {
            "zero" => {
                let each = (0..6).map(|i| neuron.change(i, Metric::LogitDiff, &slices("m1.n2", None), kind));
                each.sum::<f64>() / 6.0
            }
            _ => numbers(&row, "sum_of_parts")[0] - mean("a0.h1", kind),
        };
        close(numbers(&row, "sum_of_parts")[0], mean("a0.h1", kind) + alone, kind);
        close(numbers(&row, "interaction")[0], mean("pair", kind) - mean("a0.h1", kind) - alone, kind);
    }
}

/// All heads of a layer together are its attention; and the corrupt partner in a component's place is what `components`
/// calls the total effect.
#[test]
fn identities() {
    let task = task();
    for lab in styles() {
        let sets = "sets = {all = [\"a1.h0\", \"a1.h1\", \"a1.h2\", \"a1.h3\"]}\nby = [\"set\", \"layer\", \"head\"]";
        let found =
            ablate(&format!("{sets}\nover = \"corrupt\"\nkinds = [\"mean-by-position\", \"resample\"]"));
        let found = found.run(&lab, &task).unwrap();
        let effects = table(&found, "ablate_effect");
        for kind in ["mean-by-position", "resample"] {
            let of = |part| only(effects, &[("part", part), ("kind", kind)]);
            numbers(&of("all"), "value")
                .into_iter()
                .zip(numbers(&of("a1"), "value"))
                .for_each(|(a, b)| close(a, b, kind));
        }
        let components = Components::default().run(&lab, &task).unwrap();
        let totals = table(&components, "components");
        for part in ["a0.h0", "a0.h3", "a1.h2", "m0", "m1"] {
            let cells = [("part", part), ("kind", "resample"), ("metric", "logit-diff")];
            let change = numbers(&only(effects, &cells), "change")[0];
            close(change, -numbers(&only(totals, &[("component", part)]), "total")[0], part);
        }
    }
}

#[test]
fn neurons_are_those_with_the_largest_gradient_times_activation() {
    let task = task();
    for lab in styles() {
        let found = ablate("by = [\"neuron\"]\nneurons = 1000\nkinds = [\"zero\"]").run(&lab, &task).unwrap();
        let rows = table(&found, "ablate");
        assert_eq!(rows.len(), 2 * lab.model.config.d_mlp, "every neuron once");
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        for (i, example) in task.examples.iter().enumerate() {
            let at = |site: Site| matches!(site, Site::Block(_, At::MlpPost));
            let mut hook = (Gradients::new(at), Recorder::new(at));
            let logits = lab.model.forward(&lab.model.tokens(&[&example.clean]).unwrap(), &mut hook).unwrap();
            let end = logits.narrow(1, example.end(), 1).unwrap().squeeze(1).unwrap();
            let score = Metric::LogitDiff.score(&end, &task.targets(&[i], None)).unwrap();
            let gradients = hook.0.of(&score).unwrap();
            for layer in 0..2 {
                let site = Site::Block(layer, At::MlpPost);
                let part = (gradients.get(site).unwrap() * hook.1.kept.get(site).unwrap().detach()).unwrap();
                let part: Vec<f64> = part.squeeze(0).unwrap().sum(0).unwrap().to_vec1().unwrap();
                for (neuron, value) in part.into_iter().enumerate() {
                    *sums.entry(format!("m{layer}.n{neuron}")).or_default() -=
                        value / task.examples.len() as f64;
                }
            }
        }
        for (name, estimate) in rows.texts("part").unwrap().iter().zip(numbers(rows, "zero_estimate")) {
            close(estimate, sums[name], name);
        }
        let few = ablate("by = [\"neuron\"]\nneurons = 2\nkinds = [\"zero\"]").run(&lab, &task).unwrap();
        let mut expected: Vec<&String> = sums.keys().collect();
        expected.sort_by(|a, b| sums[*b].abs().total_cmp(&sums[*a].abs()));
        let mut few = table(&few, "ablate").texts("part").unwrap();
        few.sort();
        let mut expected: Vec<String> = expected.into_iter().take(2).cloned().collect();
        expected.sort();
        assert_eq!(few, expected);
    }
}

#[test]
fn memory_and_batches_change_no_number_and_a_seed_decides_the_draws() {
    let (task, [mut lab, _]) = (task(), styles());
    let run = |lab: &Lab| {
        let found = ablate("draws = 1\nneurons = 2").run(lab, &task).unwrap();
        numbers(table(&found, "examples_ablate"), "logit_diff")
    };
    let large = run(&lab);
    lab.memory = 1;
    run(&lab).iter().zip(&large).for_each(|(a, b)| close(*a, *b, "memory"));
    lab.memory = 2 << 30;
    lab.seed = 1;
    assert!(
        run(&lab).iter().zip(&large).any(|(a, b)| (a - b).abs() > 1e-6),
        "another seed draws other prompts"
    );
}

#[test]
fn what_cannot_be_aligned_or_named_is_refused() {
    let (task, [lab, _]) = (task(), styles());
    let refused = |parameters: &str, task: &Task| ablate(parameters).run(&lab, task).unwrap_err().to_string();
    let mut lonely = task.clone();
    lonely.examples.retain(|example| example.id != "e1" && example.id != "e3");
    let said = refused("over = \"task\"", &lonely);
    assert!(said.contains("`e5`") && said.contains("8 tokens"), "{said}");
    // by itself it falls back to the corrupt prompts, and says so
    let found = ablate("").run(&lab, &lonely).unwrap();
    assert!(found.notes.iter().any(|note| note.contains("corrupt partner")), "{:?}", found.notes);
    lonely.examples.iter_mut().for_each(|example| example.corrupt = None);
    let found = ablate("").run(&lab, &lonely).unwrap();
    assert!(found.notes.iter().any(|note| note.contains("random tokens")), "{:?}", found.notes);
    assert!(refused("over = \"corrupt\"", &lonely).contains("no corrupt prompt"));

    let short = "reference = [{tokens = [1, 2, 3]}, {tokens = [4, 5, 6, 7, 8, 9, 10]}]";
    let said = refused(short, &task);
    assert!(said.contains("`e1`") && said.contains("at least 8 tokens"), "{said}");
    ablate(&format!("{short}\nkinds = [\"zero\", \"mean\"]")).run(&lab, &task).unwrap();
    // where templates are known they must match, however long a reference is
    let other = "reference = [{tokens = [1, 2, 3, 4, 5, 6, 7, 8, 9], group = \"6\"}]";
    assert!(refused(other, &task).contains("template \"6\""), "{}", refused(other, &task));

    assert!(refused("sets = [[\"a0.h9\"]]", &task).contains('9'));
    assert!(refused("sets = [[\"m7\"]]", &task).contains("layers 0 to 1"));
    assert!(refused("sets = [[\"b1\"]]", &task).contains("`b1`"));
    assert!(refused("sets = [[\"m0\", \"m0\"]]", &task).contains("twice"));
    assert!(refused("sets = [[\"a0.b_O\"]]", &task).contains("a0.b_O"));
    assert!(refused("kinds = []", &task).contains("kinds"));
    assert!(refused("by = [\"set\"]", &task).contains("nothing to take out"));
}
