//! What analyses say of models of every architecture: direct effects against parts cut out of the stream by hand, sweeps
//! against whole passes, and every method on every style, or a sentence that says why not. Models are random, in f64.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use glassbox::analysis::attribution::Attribution;
use glassbox::analysis::components::Components;
use glassbox::analysis::heads::Heads;
use glassbox::analysis::lens::Lens;
use glassbox::analysis::patch::{By, Patch};
use glassbox::analysis::{ANALYSES, Analysis};
use glassbox::component::Component;
use glassbox::edit::{Edit, Edits, Op};
use glassbox::generate::{Growing, Settings};
use glassbox::lab::{About, Lab};
use glassbox::lesion::Part;
use glassbox::metric::Metric;
use glassbox::model::{Base, Config, MlpKind, Padding, Stream, Transformer, Wiring};
use glassbox::record::Recorder;
use glassbox::report;
use glassbox::site::{At, Positions, Site, Slice};
use glassbox::study::{REPORT, Step, Study};
use glassbox::task::{Example, Label, Task};
use glassbox::vocabulary::Vocabulary;
use glassbox::{decide::Rule, output::Folder, output::Place};

use crate::causal::{check_patches, close, naive, numbers, pairs, table, take};
use crate::{ablation, styles};

fn lab(config: Config) -> Lab {
    let model = Transformer::random(config, 11, DType::F64).unwrap();
    let about = About { name: "random".into(), ..About::default() };
    Lab::new(model, Vocabulary::default(), about)
}

/// The model whose logits are not bent to a bound.
fn unbent(lab: &Lab) -> Lab {
    let mut model = lab.model.clone();
    model.config.logit_cap = None;
    Lab::new(model, Vocabulary::default(), lab.about.clone())
}

/// The task with answers that the model can give.
fn sayable(mut task: Task, lab: &Lab) -> Task {
    let said = lab.model.config.d_vocab_out as u32;
    for example in &mut task.examples {
        for ids in [&mut example.answers, &mut example.wrong] {
            ids.iter_mut().for_each(|id| *id %= said);
            ids.sort_unstable();
            ids.dedup();
        }
    }
    task
}

/// Several pairs of two templates, labelled for probes.
fn labelled(lab: &Lab) -> Task {
    let mut task = sayable(pairs(), lab);
    let more = task.examples.clone();
    for (k, example) in (0..4u32).flat_map(|k| more.iter().map(move |example| (k, example.clone()))) {
        let shifted = |ids: &[u32]| ids.iter().map(|id| (id + 5 * k + 1) % 24).collect();
        task.examples.push(Example {
            clean: shifted(&example.clean),
            corrupt: example.corrupt.as_deref().map(shifted),
            ..example
        });
    }
    for (i, example) in task.examples.iter_mut().enumerate() {
        // what the clean prompt says rather than the corrupt one, so that there is a difference to carry
        let said = |tokens: &[u32]| -> Vec<f64> {
            let logits = lab.model.forward(&lab.model.tokens(&[tokens]).unwrap(), &mut ()).unwrap();
            logits.narrow(1, tokens.len() - 1, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        let (clean, corrupt) = (said(&example.clean), said(example.corrupt.as_ref().unwrap()));
        let mut order: Vec<usize> = (0..clean.len()).collect();
        order.sort_by(|&a, &b| (clean[a] - corrupt[a]).total_cmp(&(clean[b] - corrupt[b])));
        example.wrong = vec![order[0] as u32];
        example.answers = vec![order[order.len() - 1] as u32];
        example.id = format!("e{i}");
        example.labels = [("big".to_owned(), (example.clean[1] > 11).to_string())].into();
    }
    task.labels = vec![Label { name: "big".into(), at: "start".into() }];
    task
}

/// One run, in pieces.
struct Run<'a> {
    lab: &'a Lab,
    example: &'a Example,
    base: Base,
}

impl Run<'_> {
    fn of<'a>(lab: &'a Lab, example: &'a Example) -> Run<'a> {
        let tokens = lab.model.tokens(&[&example.clean]).unwrap();
        Run { lab, example, base: Base::record(&lab.model, &tokens, |_| true).unwrap() }
    }

    fn kept(&self, layer: usize, at: At) -> &Tensor {
        self.base.kept.block(layer, at).unwrap()
    }

    /// Divisors held at the run's own values.
    fn frozen(&self, sites: impl IntoIterator<Item = Site>) -> Vec<Edit> {
        let there = sites.into_iter().filter(|site| self.base.kept.0.contains_key(site));
        let set =
            |site| Edit { at: Slice::whole(site), op: Op::Set(self.base.kept.get(site).unwrap().clone()) };
        there.map(set).collect()
    }

    /// What reaches the stream at a place of a layer under this edit, its norm's divisor frozen: less than before by this.
    fn lost(&self, model: &Transformer, layer: usize, at: At, edit: Option<Edit>) -> Tensor {
        let scale = if at == At::AttnOut { At::Ln1PostScale } else { At::Ln2PostScale };
        let edits = self.frozen([Site::Block(layer, scale)]).into_iter().chain(edit);
        let mut hook = (Edits::new(edits), Recorder::new(|site| site == Site::Block(layer, at)));
        model.run(self.base.stream(layer, 0).unwrap(), None, layer + 1, &mut hook).unwrap();
        (self.kept(layer, at) - hook.1.kept.block(layer, at).unwrap()).unwrap()
    }

    /// The logit difference of a final stream, with the final divisor frozen.
    fn difference(&self, resid: &Tensor) -> f64 {
        let model = &self.lab.model;
        let (layer, padding) = (model.config.n_layers, Padding::default());
        let stream = Stream { layer, first_pos: 0, padding, resid: resid.clone(), learned: None };
        let logits = model.unembed(&stream, &mut Edits::new(self.frozen([Site::FinalScale]))).unwrap();
        let logits: Vec<f64> =
            logits.narrow(1, self.example.end(), 1).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let mean = |ids: &[u32]| ids.iter().map(|&id| logits[id as usize]).sum::<f64>() / ids.len() as f64;
        mean(&self.example.answers) - mean(&self.example.wrong)
    }

    /// What the logit difference loses when this is cut out of the final stream.
    fn worth(&self, written: &Tensor) -> f64 {
        let last = self.kept(self.lab.model.config.n_layers - 1, At::ResidPost);
        self.difference(last) - self.difference(&(last - written).unwrap())
    }

    /// What a component writes to the stream.
    fn written(&self, component: Component) -> Tensor {
        let model = &self.lab.model;
        match component {
            Component::Embed => self.base.kept.get(Site::Embed).unwrap().clone(),
            Component::PosEmbed => self.base.kept.get(Site::PosEmbed).unwrap().clone(),
            Component::Mlp(layer) => self.kept(layer, At::MlpOut).clone(),
            Component::Head(layer, head) => {
                let at = Slice::whole(Site::Block(layer, At::Result)).head(head);
                self.lost(model, layer, At::AttnOut, Some(Edit { at, op: Op::Scale(0.0) }))
            }
            Component::Bias(layer) => {
                let mut model = model.clone();
                let block = &mut model.blocks[layer];
                (block.attention.o.b, block.ln1_post.bias) = (None, None);
                self.lost(&model, layer, At::AttnOut, None)
            }
        }
    }
}

#[test]
fn direct_effects_are_what_is_cut_out_of_the_stream_and_sum_to_the_logit_difference() {
    for (style, config) in styles::able() {
        println!("{style}");
        let bent = lab(config);
        let lab = unbent(&bent);
        let task = sayable(pairs(), &lab);
        let findings = Attribution::default().run(&bent, &task).unwrap();
        assert!(findings.notes.iter().all(|note| !note.starts_with("error")), "{:?}", findings.notes);
        let capped = findings.notes.iter().any(|note| note.contains("bends its logits"));
        assert_eq!(capped, bent.model.config.logit_cap.is_some());
        for (i, example) in task.examples.iter().enumerate().take(2) {
            let run = Run::of(&lab, example);
            let rows = table(&findings, "examples_attribution").only("example", &example.id).unwrap();
            let direct = numbers(&rows, "direct");
            close(direct.iter().sum(), naive(&lab, &task, i, &example.clean, Vec::new(), Metric::LogitDiff));
            let names = rows.texts("component").unwrap();
            assert_eq!(names[names.len() - 2..], ["ln_final.b", "unembed.b"]);
            assert_eq!(names.len() - 2, Component::all(&lab.model).len());
            for (name, &direct) in names.iter().zip(&direct) {
                if let Ok(component) = name.parse() {
                    close(direct, run.worth(&run.written(component)));
                }
            }
            // nothing that is written is missing
            let last = run.kept(lab.model.config.n_layers - 1, At::ResidPost);
            let all = Component::all(&lab.model).into_iter().map(|component| run.written(component));
            let left = all.fold(last.clone(), |left, written| left.broadcast_sub(&written).unwrap());
            let left = left.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
            assert!(left < 1e-9, "{style}: the stream is not what components write, by {left}");
        }
        let accumulated = table(&findings, "accumulated");
        let mids = accumulated.texts("label").unwrap().iter().filter(|label| label.ends_with("mid")).count();
        assert_eq!(mids, lab.model.blocks.iter().filter(|block| block.has_mid()).count());
        let mean = (0..task.examples.len())
            .map(|i| naive(&lab, &task, i, &task.examples[i].clean, Vec::new(), Metric::LogitDiff))
            .sum::<f64>()
            / task.examples.len() as f64;
        close(*numbers(accumulated, "logit_diff").last().unwrap(), mean);
    }
}

#[test]
fn neurons_and_source_tokens_pass_the_same_norms() {
    for (style, config) in styles::able() {
        println!("{style}");
        let bent = lab(config);
        let lab = unbent(&bent);
        let mut task = sayable(pairs(), &lab);
        task.examples.truncate(1);
        let run = Run::of(&lab, &task.examples[0]);
        let findings = Attribution { neurons: 5, ..Attribution::default() }.run(&bent, &task).unwrap();
        let rows = table(&findings, "attribution_neuron");
        let dense = lab.model.blocks.iter().any(|block| block.mlp.dense().is_some());
        assert_eq!(rows.len(), if dense { 5 } else { 0 });
        let places = numbers(rows, "layer").into_iter().zip(numbers(rows, "neuron"));
        for ((layer, neuron), direct) in places.zip(numbers(rows, "direct")) {
            let whole = Slice::whole(Site::Block(layer as usize, At::MlpPost));
            let at = Slice { index: Some(vec![neuron as usize]), ..whole };
            let edit = Edit { at, op: Op::Scale(0.0) };
            close(direct, run.worth(&run.lost(&lab.model, layer as usize, At::MlpOut, Some(edit))));
        }
        let (end, rows) = (task.examples[0].end(), table(&findings, "attribution_source"));
        let (layers, heads) = (numbers(rows, "layer"), numbers(rows, "head"));
        let (keys, direct) = (rows.texts("pos").unwrap(), numbers(rows, "direct"));
        for row in (0..rows.len()).step_by(5) {
            let (layer, key) = (layers[row] as usize, keys[row].parse().unwrap());
            let at = Slice::whole(Site::Block(layer, At::Pattern)).head(heads[row] as usize);
            let at = Slice { key: Positions::At(vec![key]), ..at.pos(Positions::At(vec![end])) };
            let edit = Edit { at, op: Op::Scale(0.0) };
            close(direct[row], run.worth(&run.lost(&lab.model, layer, At::AttnOut, Some(edit))));
        }
    }
}

#[test]
fn every_patch_equals_a_whole_pass_on_one_prompt() {
    for (style, config) in styles::peculiar() {
        println!("{style}");
        let lab = lab(config);
        let task = sayable(pairs(), &lab);
        let findings =
            Patch { by: vec![By::Position, By::Head], ..Patch::default() }.run(&lab, &task).unwrap();
        for name in ["examples_patch_head", "examples_resid_by_pos"] {
            check_patches(&lab, &task, Metric::LogitDiff, table(&findings, name));
        }
        let sites = table(&findings, "resid_by_pos").texts("site").unwrap();
        let has = |at| lab.model.blocks.iter().any(|block| block.has(at));
        for (name, at) in [("resid_mid", At::ResidMid), ("mlp_out", At::MlpOut), ("attn_out", At::AttnOut)] {
            assert_eq!(sites.iter().any(|site| site == name), has(at), "{name}");
        }
    }
}

#[test]
fn every_lesion_equals_a_whole_pass() {
    for (style, config) in styles::peculiar() {
        println!("{style}");
        let lab = lab(config);
        let task = sayable(ablation::task(), &lab);
        let embeddings = match lab.model.pos_embed {
            Some(_) => "[\"embed\"], [\"pos_embed\"], [\"pos_embed\", \"a1.h0\"]",
            None => "[\"embed\"], [\"embed\", \"a1.h0\"]",
        };
        let ablate = ablation::ablate(&format!("sets = [{embeddings}]\ndraws = 2\nneurons = 2"));
        assert_eq!(ablation::check_lesions(&lab, &task, &ablate), 7 * 4);
    }
}

#[test]
fn total_effects_are_of_the_logits_that_direct_effects_are_shares_of() {
    for (style, config) in styles::peculiar() {
        println!("{style}");
        let bent = lab(config);
        let lab = unbent(&bent);
        let task = sayable(pairs(), &lab);
        let findings = Components::default().run(&bent, &task).unwrap();
        let rows = table(&findings, "components");
        let attribution = Attribution::default().run(&bent, &task).unwrap();
        for component in Component::all(&lab.model) {
            let row = rows.only("component", &component.to_string()).unwrap();
            let swap =
                table(&attribution, "attribution_swap").only("component", &component.to_string()).unwrap();
            close(numbers(&row, "direct")[0], numbers(&swap, "direct")[0]);
            let total = task.examples.iter().enumerate().map(|(i, example)| {
                let corrupt = example.corrupt.as_ref().unwrap();
                let part = Part::from(component).slice().ok();
                let edits = part.map(|slice| take(&lab, corrupt, slice)).into_iter().collect();
                let without = naive(&lab, &task, i, &example.clean, edits, Metric::LogitDiff);
                naive(&lab, &task, i, &example.clean, Vec::new(), Metric::LogitDiff) - without
            });
            close(numbers(&row, "total")[0], total.sum::<f64>() / task.examples.len() as f64);
        }
    }
}

/// The last reading of the lens is the model's own prediction, bound included.
#[test]
fn the_lens_ends_with_what_the_model_says() {
    for (style, config) in styles::able() {
        println!("{style}");
        let lab = lab(config);
        let task = sayable(pairs(), &lab);
        let findings = Lens::default().run(&lab, &task).unwrap();
        let rows = table(&findings, "examples_lens").only("site", "resid_post").unwrap();
        let last = rows.only("layer", &(lab.model.config.n_layers - 1).to_string()).unwrap();
        assert!(numbers(&last, "kl").iter().all(|kl| kl.abs() < 1e-9));
        let sites = table(&findings, "lens").texts("site").unwrap();
        let mid = lab.model.blocks.iter().any(|block| block.has_mid());
        assert_eq!(sites.iter().any(|site| site == "resid_mid"), mid);
        let alone = Task { examples: vec![task.examples[0].clone()], ..task.clone() };
        let rows = table(&Lens::default().run(&lab, &alone).unwrap(), "examples_lens").clone();
        let rows = rows.only("site", "resid_post").unwrap();
        let rows = rows.only("layer", &(lab.model.config.n_layers - 1).to_string()).unwrap();
        let rows = rows.only("pos", &task.examples[0].end().to_string()).unwrap();
        let said = naive(&lab, &task, 0, &task.examples[0].clean, Vec::new(), Metric::LogitDiff);
        close(numbers(&rows, "logit_diff")[0], said);
    }
}

#[test]
fn every_method_runs_on_every_style() {
    let mut broken = Vec::new();
    for (style, config) in styles::able() {
        let lab = lab(config);
        let task = labelled(&lab);
        for entry in ANALYSES {
            let parameters: toml::Table = match entry.name {
                "probe" => toml::from_str("methods = [\"mass-mean\"]\nshuffles = 1\ncontrols = 1").unwrap(),
                _ => toml::Table::new(),
            };
            let found = match (entry.run)(parameters, &lab, &task) {
                Ok(found) => found,
                Err(error) => {
                    broken.push(format!("{} on {style}: {error}", entry.name));
                    continue;
                }
            };
            assert!(found.tables.iter().any(|rows| !rows.is_empty()), "{} on {style}", entry.name);
            for rows in &found.tables {
                for (name, _, _) in &rows.columns {
                    if rows.numbers(name).unwrap_or_default().iter().flatten().any(|x| !x.is_finite()) {
                        broken.push(format!("{} on {style}: {name} of {}", entry.name, rows.name));
                    }
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Contexts of a token or two: what needs more says so.
#[test]
fn short_contexts_and_small_vocabularies_are_no_reason_to_panic() {
    for (style, config) in styles::all().into_iter().filter(|(_, c)| c.n_ctx < 9 || c.d_vocab < 24) {
        let lab = lab(config);
        let (n_ctx, words) = (lab.model.config.n_ctx.min(3), lab.model.config.d_vocab as u32);
        let example = |i: u32| Example {
            id: format!("e{i}"),
            clean: (0..n_ctx as u32).map(|p| (p + i) % words).collect(),
            corrupt: Some((0..n_ctx as u32).map(|p| (p + i + 1) % words).collect()),
            answers: vec![0],
            wrong: vec![1],
            ..Example::default()
        };
        let task = Task { name: "short".into(), examples: (0..4).map(example).collect(), ..Task::default() };
        for entry in ANALYSES {
            if let Err(error) = (entry.run)(toml::Table::new(), &lab, &task) {
                println!("{} on {style}: {error}", entry.name);
                assert!(error.to_string().contains("hint"), "{} on {style}: {error}", entry.name);
            }
        }
    }
}

#[test]
fn what_a_model_does_not_have_is_refused_in_a_sentence() {
    let refused = |config: Config, analysis: &str, parameters: &str, words: &[&str]| {
        let lab = lab(config);
        let entry = glassbox::analysis::find(analysis).unwrap();
        let error =
            (entry.run)(toml::from_str(parameters).unwrap(), &lab, &labelled(&lab)).unwrap_err().to_string();
        println!("{error}\n");
        words.iter().for_each(|word| assert!(error.contains(word), "{word:?} is not in: {error}"));
    };
    let named = |name: &str| styles::all().into_iter().find(|(style, _)| *style == name).unwrap().1;
    let parallel = || Config { wiring: Wiring::Parallel, ..Config::tiny() };
    let bare = || Config { mlp: MlpKind::Absent, ..Config::tiny() };
    refused(parallel(), "patch", "sites = ['resid_mid']", &["no resid_mid", "`attn_out`"]);
    refused(bare(), "patch", "sites = ['z', 'mlp_out']", &["no mlp_out", "no MLPs"]);
    refused(bare(), "ablate", "sets = [['a0.h1', 'm0']]", &["m0 is no part", "no MLP"]);
    refused(bare(), "ablate", "by = ['neuron']", &["nothing to take out"]);
    let experts = || named("experts");
    refused(experts(), "ablate", "sets = [['m0.n3', 'a1']]", &["m0.n3", "experts", "`m0`"]);
    refused(experts(), "ablate", "by = ['neuron']", &["nothing to take out"]);
    refused(parallel(), "steer", "site = 'resid_mid'", &["blocks.0.hook_resid_mid", "no such place"]);
    refused(parallel(), "probe", "sites = ['resid_mid']", &["hook_resid_mid", "no such place"]);
    refused(bare(), "probe", "sites = ['mlp_out']", &["hook_mlp_out", "no such place"]);

    let mixed = lab(named("plain experts in one layer"));
    assert!("m0.n31".parse::<Part>().unwrap().check(&mixed.model).is_ok());
    assert!("m0.n32".parse::<Part>().unwrap().check(&mixed.model).is_err(), "one too many");
    assert!("m1.n0".parse::<Part>().unwrap().check(&mixed.model).is_err(), "of experts");

    let speak = |name: &str, max_tokens| {
        let lab = lab(named(name));
        let settings = Settings { rule: Rule::Greedy, max_tokens, stop: Vec::new() };
        Growing::new(&lab, &[1, 2, 3], &[])?
            .speak(&settings, 0, &mut |_| Ok(()))
            .map(|said| said.chosen.len())
    };
    for name in ["looks both ways", "an output vocabulary of its own"] {
        let error = speak(name, 2).unwrap_err().to_string();
        assert!(error.contains("this model"), "{error}");
        assert_eq!(speak(name, 1).unwrap(), 1);
    }
}

#[test]
fn answers_are_of_the_output_vocabulary_and_prompts_of_the_input() {
    let lab = lab(Config { d_vocab_out: 30, ..Config::tiny() });
    let mut task = pairs();
    task.examples[0].answers = vec![29];
    task.fits(&lab.model).unwrap();
    Attribution::default().run(&lab, &task).unwrap();
    task.examples[0].answers = vec![30];
    assert!(task.fits(&lab.model).unwrap_err().to_string().contains("vocabulary of 30"));
    task.examples[0].answers = vec![29];
    task.examples[0].clean[2] = 24;
    assert!(task.fits(&lab.model).unwrap_err().to_string().contains("vocabulary of 24"));
}

#[test]
fn heads_are_scored_within_what_they_see() {
    for (style, word) in
        [("windows in every other layer", "window"), ("sinks", "sink"), ("looks both ways", "ahead")]
    {
        let config = styles::all().into_iter().find(|(name, _)| *name == style).unwrap().1;
        let found = Heads::default().run(&lab(config), &Task::default()).unwrap();
        assert!(found.notes.iter().any(|note| note.contains(word)), "{:?}", found.notes);
        let entropy = numbers(table(&found, "head_scores"), "entropy");
        assert!(entropy.iter().all(|x| (0.0..=1.0 + 1e-12).contains(x)), "{style}: {entropy:?}");
    }
}

/// A report of a model without a stream between attention and MLP, of one with norms behind its parts, and of one without
/// MLPs: every figure and section that can be is there.
#[test]
fn reports_are_written_whatever_the_architecture() {
    for style in [
        "parallel",
        "LayerNorms around",
        "attention only",
        "experts",
        "caps",
        "looks both ways",
        "much at once",
    ] {
        let config = styles::all().into_iter().find(|(name, _)| *name == style).unwrap().1;
        let lab = lab(config);
        let mut task = labelled(&lab);
        task.examples.retain(|example| example.group == "7");
        let steps = REPORT.iter().copied().chain(["ablate", "steer"]).map(Step::named).collect();
        let study = Study { steps, model: style.to_owned(), ..Study::default() };
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("report");
        let place = Place { out: Some(&out), verb: "report", model: style, ..Place::default() };
        let mut folder = Folder::create(&place).unwrap();
        let outcomes = report::run(&study, &lab, &task, &mut folder).unwrap();
        let run = report::Run { study: &study, lab: &lab, task: &task, outcomes: &outcomes, threads: 1 };
        report::write(&run, &mut folder).unwrap();
        let out = folder.finish(&report::manifest(&study, &lab, &task, 1)).unwrap();
        let page = std::fs::read_to_string(out.join("report.md")).unwrap();
        assert_eq!(page.contains("m0"), lab.model.config.mlp != MlpKind::Absent, "{style}");
        assert_eq!(page.contains("bends its logits"), lab.model.config.logit_cap.is_some(), "{style}");
        let mut drawn: BTreeMap<String, bool> = BTreeMap::new();
        for name in
            ["lens", "lens_end", "accumulated", "attribution", "resid_by_pos", "patch_head", "components"]
        {
            drawn.insert(name.to_owned(), out.join(format!("figures/{name}.svg")).is_file());
        }
        assert!(drawn.values().all(|there| *there), "{style}: {drawn:?}");
    }
}
