//! Scores of edges held to what they must equal on any model: finite differences, sums over cuts, gradients of nodes.

use candle_core::{DType, Device, Tensor};
use glassbox::analysis::edges::{Carry, Edges, Scoring};
use glassbox::analysis::{Analysis, Findings};
use glassbox::error::Result;
use glassbox::gradient::Gradients;
use glassbox::graph::{Edge, Exchange, Graph, Writer, Written, scores};
use glassbox::lab::{About, Lab};
use glassbox::metric::Metric;
use glassbox::model::{Activation, Base, Config, NormKind, Transformer, Wiring};
use glassbox::record::at_positions;
use glassbox::site::{At, Site};
use glassbox::sweep::Reading;
use glassbox::task::{Side, Task};
use glassbox::vocabulary::Vocabulary;

use crate::causal::pairs;
use crate::styles;

fn lab(config: Config) -> Lab {
    let model = Transformer::random(config, 23, DType::F64).unwrap();
    Lab::new(model, Vocabulary::default(), About { name: "random".into(), ..About::default() })
}

/// The pairs that this model can read and answer.
fn task(lab: &Lab) -> Option<Task> {
    let mut task = pairs();
    let c = &lab.model.config;
    task.examples.retain(|e| {
        let ids = e.clean.iter().chain(e.corrupt.iter().flatten());
        e.clean.len() <= c.n_ctx && ids.max().is_some_and(|&id| (id as usize) < c.d_vocab)
    });
    for example in &mut task.examples {
        for ids in [&mut example.answers, &mut example.wrong] {
            ids.iter_mut().for_each(|id| *id %= c.d_vocab_out as u32);
            ids.sort_unstable();
            ids.dedup();
        }
    }
    (!task.examples.is_empty()).then_some(task)
}

fn run(lab: &Lab, task: &Task, methods: &[Scoring], change: impl FnOnce(&mut Edges)) -> Result<Findings> {
    let mut edges = Edges { methods: methods.to_vec(), verify: 0, ..Edges::default() };
    change(&mut edges);
    edges.run(lab, task)
}

/// `[edge]` in the order of the graph, in units of the metric.
fn lost(findings: &Findings, graph: &Graph, method: Scoring) -> Vec<f64> {
    let table = findings.tables[0].only("method", method.name()).unwrap();
    let (names, lost) = (table.texts("edge").unwrap(), table.numbers("lost").unwrap());
    let mut all = vec![f64::NAN; graph.len()];
    for (name, lost) in names.iter().zip(lost) {
        all[graph.find(name.parse().unwrap()).unwrap()] = lost.unwrap();
    }
    all
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The mean metric of the task with edges cut that carry own + share · (corrupt − own).
fn cut(lab: &Lab, task: &Task, graph: &Graph, lists: &[Vec<usize>], share: f64) -> Vec<f64> {
    let model = &lab.model;
    let n = task.examples.len() as f64;
    let mut all = vec![0.0; lists.len()];
    for batch in task.batches(100) {
        let read = task.ends(&batch);
        let tokens = task.tokens(model, &batch, Side::Clean).unwrap();
        let base = Base::record(model, &tokens, Written::needs).unwrap();
        let own = Written::of(model, graph, &base.kept).unwrap();
        let others = task.tokens(model, &batch, Side::Corrupt).unwrap();
        let (_, kept) = model.record(&others, Written::needs).unwrap();
        let mut other = Written::of(model, graph, &kept).unwrap();
        for (other, own) in other.each.iter_mut().zip(&own.each) {
            *other = (own + ((&*other - own).unwrap() * share).unwrap()).unwrap();
        }
        let exchange = Exchange { model, graph, base: &base, own: &own, other: &other, first_pos: 0 };
        let targets = task.targets(&batch, None);
        let reading = Reading::metric(&read, Metric::LogitDiff, &targets);
        for (all, scores) in all.iter_mut().zip(scores(lab, &exchange, lists, &reading).unwrap()) {
            *all += scores.iter().sum::<f64>() / n;
        }
    }
    all
}

#[test]
fn eap_is_the_slope_of_an_exact_cut() {
    for (name, config) in styles::all() {
        let lab = lab(config);
        let (graph, Some(task)) = (Graph::of(&lab.model), task(&lab)) else { continue };
        let Ok(findings) = run(&lab, &task, &[Scoring::Eap], |_| {}) else { continue };
        let eap = lost(&findings, &graph, Scoring::Eap);
        let mut lists: Vec<Vec<usize>> = (0..graph.len()).map(|edge| vec![edge]).collect();
        lists.push(Vec::new());
        let scale = eap.iter().fold(1.0f64, |most, x| most.max(x.abs()));
        // the error of a one-sided difference shrinks with its step
        let error = |step: f64| -> f64 {
            let mut measured = cut(&lab, &task, &graph, &lists, step);
            let own = measured.pop().unwrap();
            let differences = measured.iter().zip(&eap);
            differences.map(|(m, eap)| ((own - m) / step - eap).abs()).fold(0.0, f64::max) / scale
        };
        let (coarse, fine) = (error(1e-3), error(1e-5));
        assert!(fine < 1e-4, "{name}: {fine}");
        assert!(fine < 0.05 * coarse + 1e-9, "{name}: {coarse} at 1e-3, {fine} at 1e-5");
    }
}

#[test]
fn edges_out_of_a_writer_sum_to_the_score_of_the_writer() {
    for (name, config) in styles::all() {
        let lab = lab(config);
        let (graph, Some(task)) = (Graph::of(&lab.model), task(&lab)) else { continue };
        let Ok(findings) = run(&lab, &task, &[Scoring::Eap], |_| {}) else { continue };
        let eap = lost(&findings, &graph, Scoring::Eap);
        let mut sums = vec![0.0; graph.writers().len()];
        (0..graph.len()).for_each(|edge| sums[graph.ends(edge).0] += eap[edge]);
        // a writer's own place: what enters layer 0, each head's result, what an MLP adds
        let place =
            |site| matches!(site, Site::Block(0, At::ResidPre) | Site::Block(_, At::Result | At::MlpOut));
        let model = &lab.model;
        let mut nodes = vec![0.0; graph.writers().len()];
        for batch in task.batches(100) {
            let (read, targets) = (task.ends(&batch), task.targets(&batch, None));
            let clean = task.tokens(model, &batch, Side::Clean).unwrap();
            let corrupt = task.tokens(model, &batch, Side::Corrupt).unwrap();
            let mut hook = Gradients::new(place);
            let logits = at_positions(&model.forward(&clean, &mut hook).unwrap(), &read).unwrap();
            let gradients = hook.of(&Metric::LogitDiff.score(&logits, &targets).unwrap()).unwrap();
            let (_, own) = model.record(&clean, place).unwrap();
            let (_, other) = model.record(&corrupt, place).unwrap();
            for (writer, sum) in graph.writers().iter().zip(&mut nodes) {
                let (site, head) = match *writer {
                    Writer::Input => (Site::Block(0, At::ResidPre), None),
                    Writer::Head(layer, head) => (Site::Block(layer, At::Result), Some(head)),
                    Writer::Mlp(layer) => (Site::Block(layer, At::MlpOut), None),
                };
                let of = |x: &Tensor| match head {
                    Some(head) => flat(&x.narrow(2, head, 1).unwrap()),
                    None => flat(x),
                };
                let [own, other, slope] = [&own, &other, &gradients].map(|kept| of(kept.get(site).unwrap()));
                let each =
                    own.iter().zip(other).zip(slope).map(|((own, other), slope)| (own - other) * slope);
                *sum += each.sum::<f64>() / task.examples.len() as f64;
            }
        }
        for ((writer, sum), node) in graph.writers().iter().zip(&sums).zip(&nodes) {
            assert!((sum - node).abs() < 1e-9 * node.abs().max(1.0), "{name}, {writer}: {sum} and {node}");
        }
    }
}

#[test]
fn integrated_gradients_add_up_to_the_difference_between_the_runs() {
    for (name, config) in styles::all().into_iter().take(2).chain(styles::peculiar().take(4)) {
        let lab = lab(config);
        let (graph, Some(task)) = (Graph::of(&lab.model), task(&lab)) else { continue };
        // inputs: what leaves the input; activations: what leaves any place that is exchanged as a whole
        let input: Vec<usize> = (0..graph.len()).filter(|&e| graph.ends(e).0 == 0).collect();
        let layer = lab.model.config.n_layers - 1;
        let heads: Vec<usize> = (0..graph.len())
            .filter(|&e| matches!(graph.edge(e), Edge { from: Writer::Head(l, _), .. } if l == layer))
            .collect();
        let all: Vec<usize> = (0..graph.len()).collect();
        let whole = cut(&lab, &task, &graph, &[Vec::new(), all, heads.clone()], 1.0);
        for (method, edges, truth) in [
            (Scoring::EapIgInputs, &input, whole[0] - whole[1]),
            (Scoring::EapIgActivations, &heads, whole[0] - whole[2]),
        ] {
            let error = |steps: usize| -> Option<f64> {
                let findings = run(&lab, &task, &[method], |edges| edges.steps = steps).ok()?;
                let lost = lost(&findings, &graph, method);
                Some((edges.iter().map(|&edge| lost[edge]).sum::<f64>() - truth).abs())
            };
            let (Some(few), Some(many)) = (error(32), error(256)) else { continue };
            // a sum at one end of each step: its error halves when steps are halved
            assert!(
                many < 0.25 * few + 1e-6,
                "{name}, {}: {few} with 32 steps, {many} with 256",
                method.name()
            );
        }
    }
}

#[test]
fn scores_do_not_depend_on_how_much_is_computed_at_once() {
    for (_, config) in styles::all().into_iter().take(2) {
        let mut lab = lab(config);
        let task = task(&lab).unwrap();
        let graph = Graph::of(&lab.model);
        for method in [
            Scoring::Exact,
            Scoring::Eap,
            Scoring::EapIgInputs,
            Scoring::EapIgActivations,
            Scoring::CleanCorrupt,
        ] {
            lab.memory = 2 << 30;
            let wide = lost(&run(&lab, &task, &[method], |_| {}).unwrap(), &graph, method);
            lab.memory = 1;
            let narrow = lost(&run(&lab, &task, &[method], |_| {}).unwrap(), &graph, method);
            for (a, b) in wide.iter().zip(&narrow) {
                assert!((a - b).abs() < 1e-9 * a.abs().max(1.0), "{}: {a} and {b}", method.name());
            }
        }
    }
}

#[test]
fn exact_scores_are_of_single_cuts_whatever_they_carry_and_wherever() {
    let lab = lab(Config::tiny_rotary());
    let (graph, task) = (Graph::of(&lab.model), task(&lab).unwrap());
    let lists: Vec<Vec<usize>> = (0..graph.len()).map(|edge| vec![edge]).chain([Vec::new()]).collect();
    let mut measured = cut(&lab, &task, &graph, &lists, 1.0);
    let own = measured.pop().unwrap();
    let exact = lost(&run(&lab, &task, &[Scoring::Exact], |_| {}).unwrap(), &graph, Scoring::Exact);
    for (exact, measured) in exact.iter().zip(measured) {
        assert!((exact - (own - measured)).abs() < 1e-9);
    }
    // the other way round is the same pairs exchanged
    let mut turned = task.clone();
    for example in &mut turned.examples {
        std::mem::swap(&mut example.clean, example.corrupt.as_mut().unwrap());
    }
    let denoise = run(&lab, &turned, &[Scoring::Exact, Scoring::EapIgInputs], |edges| {
        edges.direction = glassbox::analysis::patch::Direction::Denoise;
    });
    let denoise = lost(&denoise.unwrap(), &graph, Scoring::Exact);
    for (exact, denoise) in exact.iter().zip(denoise) {
        assert!((exact - denoise).abs() < 1e-9);
    }
    for carry in [Carry::Zero, Carry::Mean] {
        let findings =
            run(&lab, &task, &[Scoring::Exact, Scoring::Eap], |edges| edges.carry = carry).unwrap();
        assert!(lost(&findings, &graph, Scoring::Exact).iter().all(|lost| lost.is_finite()));
    }
}

#[test]
fn what_has_no_slope_is_refused() {
    let lab = lab(Config::tiny());
    let task = task(&lab).unwrap();
    let refused = |change: &dyn Fn(&mut Edges)| {
        run(&lab, &task, &[Scoring::Eap], |edges| change(edges)).unwrap_err().to_string()
    };
    assert!(refused(&|edges| edges.metric = Metric::Kl).contains("minimum"));
    assert!(refused(&|edges| edges.metric = Metric::Rank).contains("no gradient"));
    assert!(refused(&|edges| edges.methods.clear()).contains("empty"));
    assert!(
        refused(&|edges| edges.direction = glassbox::analysis::patch::Direction::Both).contains("one run")
    );
    let ig = run(&lab, &task, &[Scoring::EapIgInputs], |edges| edges.metric = Metric::Kl).unwrap();
    assert!(ig.tables[0].numbers("effect").unwrap().iter().flatten().any(|x| x.abs() > 1e-3));
}

#[test]
fn edges_between_groups_are_cut_together() {
    let lab = lab(Config::tiny());
    let (graph, task) = (Graph::of(&lab.model), task(&lab).unwrap());
    let sets = |text: &str| toml::from_str::<Edges>(text).unwrap().groups;
    let asked = sets("groups = { early = [\"a0.h1\", \"m0\"], late = [\"a1.h0\", \"a1.h2\"] }");
    let findings = run(&lab, &task, &[Scoring::Eap], |edges| edges.groups = asked).unwrap();
    let rows = findings.tables.iter().find(|table| table.name == "edges_group").unwrap();
    let row = rows.only("from", "early").unwrap().only("to", "late").unwrap();
    let wanted = |edge: &usize| {
        let name = graph.edge(*edge).to_string();
        (name.starts_with("a0.h1->") || name.starts_with("m0->"))
            && (name.contains(">a1.h0<") || name.contains(">a1.h2<"))
    };
    let between: Vec<usize> = (0..graph.len()).filter(wanted).collect();
    assert_eq!(row.numbers("edges").unwrap(), [Some(12.0)]);
    let mut lists = vec![Vec::new(), (0..graph.len()).collect(), between.clone()];
    lists.extend(between.iter().map(|&edge| vec![edge]));
    let measured = cut(&lab, &task, &graph, &lists, 1.0);
    let share = |i: usize| (measured[0] - measured[i]) / (measured[0] - measured[1]);
    let sum: f64 = (3..measured.len()).map(share).sum();
    let number = |column: &str| row.numbers(column).unwrap()[0].unwrap();
    assert!((number("effect") - share(2)).abs() < 1e-9);
    assert!((number("sum_of_parts") - sum).abs() < 1e-9);
    assert!((number("interaction") - (share(2) - sum)).abs() < 1e-9);
    let neuron = sets("groups = { one = [\"m0.n1\"] }");
    assert!(run(&lab, &task, &[Scoring::Eap], |edges| edges.groups = neuron).is_err());
}

/// A model without a bend: attention that looks everywhere alike, no norm, neurons far from where they bend. What the graph of slopes
/// says of it is what is measured: edge by edge, whichever way slopes are taken, and from the input in all.
#[test]
fn the_graph_of_a_model_without_bends_predicts_what_is_measured() {
    let plain =
        Config { activation: Activation::Relu, norm: NormKind::None, norm_bias: false, ..Config::tiny() };
    let grouped = Config { n_kv_heads: 2, ..plain.clone() };
    let parallel = Config { wiring: Wiring::Parallel, ..plain.clone() };
    for config in [plain, grouped, parallel] {
        let mut lab = lab(config);
        for block in &mut lab.model.blocks {
            block.attention.scale = 0.0;
            let dense = block.mlp.dense_mut().unwrap();
            dense.pre.b = Some(Tensor::full(1e3, dense.pre.w.dim(1).unwrap(), &Device::Cpu).unwrap());
        }
        let (graph, mut task) = (Graph::of(&lab.model), task(&lab).unwrap());
        // without bends pairs that differ one way and the other add up to little: one pair that differs
        let all: Vec<usize> = (0..graph.len()).collect();
        task.examples.retain(|example| {
            let one = Task { examples: vec![example.clone()], ..Task::default() };
            let whole = cut(&lab, &one, &graph, &[Vec::new(), all.clone()], 1.0);
            (whole[0] - whole[1]).abs() > 0.1
        });
        task.examples.truncate(1);
        let methods = [
            Scoring::Exact,
            Scoring::Eap,
            Scoring::EapIgInputs,
            Scoring::EapIgActivations,
            Scoring::CleanCorrupt,
        ];
        let findings = run(&lab, &task, &methods, |_| {}).unwrap();
        let measured = lost(&findings, &graph, Scoring::Exact);
        let largest = measured.iter().fold(1.0f64, |most, x| most.max(x.abs()));
        assert!(measured.iter().any(|x| x.abs() > 0.01), "{measured:?}");
        let whole = cut(&lab, &task, &graph, &[Vec::new(), all], 1.0);
        for method in &methods[1..] {
            let predicted = lost(&findings, &graph, *method);
            for (edge, (predicted, measured)) in predicted.iter().zip(&measured).enumerate() {
                let off = (predicted - measured).abs();
                assert!(off < 1e-8 * largest, "{} {}: {off}", method.name(), graph.edge(edge));
            }
            let input: f64 = (0..graph.len()).filter(|&e| graph.ends(e).0 == 0).map(|e| predicted[e]).sum();
            assert!((input - (whole[0] - whole[1])).abs() < 1e-8 * largest, "{}", method.name());
        }
    }
}
