//! Path patching against three whole passes with explicit edits, against edges of the graph, against direct effects, against circuits
//! that are known, and against reference values. Models are random, in f64, unless said otherwise.

use candle_core::{DType, Device};
use glassbox::analysis::components::Components;
use glassbox::analysis::patch::Direction;
use glassbox::analysis::path::{Freeze, Names, Path, Receivers};
use glassbox::analysis::{Analysis, Findings};
use glassbox::edit::{Edit, Edits, Op};
use glassbox::graph::{Channel, Edge, Exchange, Graph, Reader, Writer, Written, scores};
use glassbox::groups::Sets;
use glassbox::lab::{About, Lab};
use glassbox::metric::Metric;
use glassbox::model::{Base, Config, NormKind, Transformer};
use glassbox::record::{Activations, Recorder};
use glassbox::row::Rows;
use glassbox::site::{At, Site, Slice};
use glassbox::sweep::Reading;
use glassbox::task::{Example, Task};
use glassbox::vocabulary::Vocabulary;

use crate::causal::{close, naive, numbers, pairs, recorded, table};
use crate::styles;

fn lab(config: Config) -> Lab {
    let model = Transformer::random(config, 11, DType::F64).unwrap();
    Lab::new(model, Vocabulary::default(), About::default())
}

/// Two pairs of different length, with the answer and the wrong one between which clean and corrupt run differ most.
fn task(lab: &Lab) -> Task {
    let mut task = pairs();
    task.examples.truncate(2);
    for example in &mut task.examples {
        let said = |tokens: &[u32]| -> Vec<f64> {
            let logits = lab.model.forward(&lab.model.tokens(&[tokens]).unwrap(), &mut ()).unwrap();
            logits.narrow(1, tokens.len() - 1, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        let (clean, corrupt) = (said(&example.clean), said(example.corrupt.as_ref().unwrap()));
        let mut order: Vec<usize> = (0..clean.len()).collect();
        order.sort_by(|&a, &b| (clean[a] - corrupt[a]).total_cmp(&(clean[b] - corrupt[b])));
        (example.wrong, example.answers) = (vec![order[0] as u32], vec![order[order.len() - 1] as u32]);
    }
    task
}

/// Each MLP, a query, a key and a value of each layer, all queries of the last, everything but the logits, the logits.
fn every_kind(graph: &Graph) -> Vec<Vec<Reader>> {
    let (logits, inner) = graph.readers().split_last().unwrap();
    let layer = |reader: &Reader| match reader {
        Reader::Head { layer, channel, .. } => Some((*layer, *channel)),
        _ => None,
    };
    let last = inner.iter().filter_map(layer).max().unwrap().0;
    let mut sets = vec![vec![*logits]];
    sets.extend(inner.iter().filter(|reader| layer(reader).is_none()).map(|&reader| vec![reader]));
    for place in inner.windows(2) {
        // the last head of each channel of each layer
        if layer(&place[0]).is_some() && layer(&place[0]) != layer(&place[1]) {
            sets.push(vec![place[0]]);
        }
    }
    let queries = inner.iter().filter(|reader| layer(reader) == Some((last, Channel::Q))).copied().collect();
    for set in [queries, inner.to_vec()] {
        // of one head there is nothing but that head
        if !sets.contains(&set) {
            sets.push(set);
        }
    }
    sets
}

fn named(sets: &[Vec<Reader>]) -> Receivers {
    Receivers::Listed(sets.iter().map(|set| Names::Together(words(set))).collect())
}

/// Names, under which the input is part of a set too.
fn words<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(|one| one.to_string().replace("input", "embed")).collect()
}

fn joined<T: ToString>(list: &[T]) -> String {
    match list {
        [one] => one.to_string(),
        several => words(several).join("+"),
    }
}

fn set(site: Site, head: Option<usize>, from: &Activations) -> Edit {
    let at = Slice { head, ..Slice::whole(site) };
    let values = at.take(from.get(site).unwrap()).unwrap();
    Edit { at, op: Op::Set(values) }
}

/// What the receivers hear: a whole pass on `tokens` in which every head (and every MLP, if all are frozen) is set to its own value and
/// senders to their other.
fn heard(
    lab: &Lab,
    tokens: &[u32],
    own: &Activations,
    other: &Activations,
    senders: &[Writer],
    freeze: Freeze,
) -> Activations {
    let mut edits = Vec::new();
    if senders.contains(&Writer::Input) {
        edits.push(set(Site::Block(0, At::ResidPre), None, other));
    }
    for layer in 0..lab.model.config.n_layers {
        for head in 0..lab.model.config.n_heads {
            let from = if senders.contains(&Writer::Head(layer, head)) { other } else { own };
            edits.push(set(Site::Block(layer, At::Z), Some(head), from));
        }
        let (sends, site) = (senders.contains(&Writer::Mlp(layer)), Site::Block(layer, At::MlpOut));
        if sends || freeze == Freeze::All && lab.model.blocks[layer].has(At::MlpOut) {
            edits.push(set(site, None, if sends { other } else { own }));
        }
    }
    let wanted = |site| matches!(site, Site::Block(_, At::Q | At::K | At::V | At::MlpIn | At::ResidPost));
    let mut hook = (Edits::new(edits), Recorder::new(wanted));
    lab.model.forward(&lab.model.tokens(&[tokens]).unwrap(), &mut hook).unwrap();
    hook.0.finish().unwrap();
    hook.1.kept
}

/// The edits that have the receivers hear it.
fn hearing(lab: &Lab, heard: &Activations, receivers: &[Reader]) -> Vec<Edit> {
    let edit = |reader: &Reader| match *reader {
        Reader::Head { layer, channel, head, .. } => {
            let at = match channel {
                Channel::Q => At::Q,
                Channel::K => At::K,
                Channel::V => At::V,
            };
            set(Site::Block(layer, at), Some(head), heard)
        }
        Reader::Mlp(layer) => set(Site::Block(layer, At::MlpIn), None, heard),
        Reader::Logits => set(Site::Block(lab.model.config.n_layers - 1, At::ResidPost), None, heard),
    };
    receivers.iter().map(edit).collect()
}

/// The patched metric of one cell of one example.
fn raw(
    rows: &Rows,
    example: &Example,
    sender: &str,
    receivers: &str,
    freeze: &str,
    direction: &str,
) -> Option<f64> {
    let mut rows = rows.clone();
    for (column, value) in [
        ("example", example.id.as_str()),
        ("sender", sender),
        ("receivers", receivers),
        ("freeze", freeze),
        ("direction", direction),
    ] {
        rows = rows.only(column, value).unwrap();
    }
    assert!(rows.len() < 2);
    numbers(&rows, "raw").first().copied()
}

#[test]
fn every_path_equals_three_whole_passes() {
    for (i, (style, config)) in styles::able().enumerate() {
        println!("{style}");
        let lab = lab(config);
        let (task, graph) = (task(&lab), Graph::of(&lab.model));
        let mut senders: Vec<Vec<Writer>> = graph.writers().iter().map(|&writer| vec![writer]).collect();
        senders.push(graph.writers().iter().copied().step_by(2).collect());
        let receivers = every_kind(&graph);
        // each rule in each direction, on every other style
        let ways = match i % 2 {
            0 => [(Freeze::Heads, Direction::Noise), (Freeze::All, Direction::Denoise)],
            _ => [(Freeze::Heads, Direction::Denoise), (Freeze::All, Direction::Noise)],
        };
        for (freeze, direction) in ways {
            let (rule, way) = match (freeze, direction) {
                (Freeze::All, Direction::Noise) => ("all", "noise"),
                (Freeze::All, _) => ("all", "denoise"),
                (_, Direction::Noise) => ("heads", "noise"),
                _ => ("heads", "denoise"),
            };
            let path = Path {
                senders: Some(words(graph.writers())),
                sets: Sets::Listed(vec![words(senders.last().unwrap())]),
                receivers: named(&receivers),
                freeze,
                direction,
                ..Path::default()
            };
            let findings = path.run(&lab, &task).unwrap();
            let rows = table(&findings, "examples_path");
            let mut listed = 0;
            for (i, example) in task.examples.iter().enumerate() {
                let corrupt = example.corrupt.as_ref().unwrap();
                let (tokens, other) = match direction {
                    Direction::Noise => (&example.clean, corrupt),
                    _ => (corrupt, &example.clean),
                };
                let (own, other) = (recorded(&lab, tokens), recorded(&lab, other));
                let rows = rows.only("example", &example.id).unwrap();
                for senders in &senders {
                    let first = graph.writer(*senders.iter().min().unwrap()).unwrap();
                    let heard = heard(&lab, tokens, &own, &other, senders, freeze);
                    for receivers in &receivers {
                        let reaches = |&reader: &Reader| first < graph.reach(graph.reader(reader).unwrap());
                        let found = raw(&rows, example, &joined(senders), &joined(receivers), rule, way);
                        assert_eq!(found.is_some(), receivers.iter().any(reaches));
                        let Some(found) = found else { continue };
                        let edits = hearing(&lab, &heard, receivers);
                        close(found, naive(&lab, &task, i, tokens, edits, Metric::LogitDiff));
                        listed += 1;
                    }
                }
            }
            assert_eq!(rows.len(), listed);
        }
    }
}

/// With everything frozen a path is an edge: receivers of one place with edges from the senders cut.
#[test]
fn with_everything_frozen_a_path_is_an_edge() {
    for (style, config) in styles::able() {
        println!("{style}");
        let lab = lab(config);
        let (task, graph) = (task(&lab), Graph::of(&lab.model));
        let mut receivers = every_kind(&graph);
        receivers.pop();
        let path = Path {
            senders: Some(words(graph.writers())),
            receivers: named(&receivers),
            freeze: Freeze::All,
            ..Path::default()
        };
        let findings = path.run(&lab, &task).unwrap();
        let example = &task.examples[1];
        let tokens = |ids: &[u32]| lab.model.tokens(&[ids]).unwrap();
        let base = Base::record(&lab.model, &tokens(&example.clean), Written::needs).unwrap();
        let (_, other) =
            lab.model.record(&tokens(example.corrupt.as_ref().unwrap()), Written::needs).unwrap();
        let written = |kept| Written::of(&lab.model, &graph, kept).unwrap();
        let (own, other) = (written(&base.kept), written(&other));
        let exchange = Exchange {
            model: &lab.model,
            graph: &graph,
            base: &base,
            own: &own,
            other: &other,
            first_pos: 0,
        };
        let (mut names, mut cuts) = (Vec::new(), Vec::new());
        for receivers in &receivers {
            for &from in graph.writers() {
                let edge = |&to: &Reader| graph.find(Edge { from, to }).ok();
                let cut: Vec<usize> = receivers.iter().filter_map(edge).collect();
                if !cut.is_empty() {
                    names.push((from.to_string(), joined(receivers)));
                    cuts.push(cut);
                }
            }
        }
        let (read, targets) = ([example.end()], task.targets(&[1], None));
        let reading = Reading::metric(&read, Metric::LogitDiff, &targets);
        let edges = scores(&lab, &exchange, &cuts, &reading).unwrap();
        let rows = table(&findings, "examples_path").only("example", &example.id).unwrap();
        assert_eq!(rows.len(), names.len());
        for ((sender, receivers), edge) in names.iter().zip(edges) {
            close(raw(&rows, example, sender, receivers, "all", "noise").unwrap(), edge[0]);
        }
    }
}

/// Where no norm is computed anew, the edge to the logits is the direct effect of the swap.
#[test]
fn without_a_final_norm_a_path_to_the_logits_is_the_direct_effect() {
    let bare = || Config { norm: NormKind::None, norm_bias: false, ..Config::tiny() };
    for config in [bare(), Config { final_norm: false, ..Config::tiny() }] {
        let lab = lab(config);
        let task = task(&lab);
        let path = Path { freeze: Freeze::All, ..Path::default() }.run(&lab, &task).unwrap();
        let direct = Components::default().run(&lab, &task).unwrap();
        for (i, example) in task.examples.iter().enumerate() {
            let whole = naive(&lab, &task, i, &example.clean, Vec::new(), Metric::LogitDiff);
            let direct = table(&direct, "examples_components").only("example", &example.id).unwrap();
            let rows = table(&path, "examples_path").only("example", &example.id).unwrap();
            assert_eq!(rows.len(), 10);
            for sender in rows.texts("sender").unwrap() {
                let lost = whole - raw(&rows, example, &sender, "logits", "all", "noise").unwrap();
                close(lost, numbers(&direct.only("component", &sender).unwrap(), "direct")[0]);
            }
        }
    }
}

/// Everyone who writes, sent together, is the other run.
#[test]
fn all_that_is_written_is_the_other_run() {
    for (_, config) in styles::peculiar() {
        let lab = lab(config);
        let path = Path {
            sets: Sets::Listed(vec![words(Graph::of(&lab.model).writers())]),
            freeze: Freeze::Both,
            direction: Direction::Both,
            ..Path::default()
        };
        let findings = path.run(&lab, &task(&lab)).unwrap();
        let set = table(&findings, "path_set");
        let effects = numbers(set, "effect");
        assert_eq!(effects.len(), 4);
        effects.iter().for_each(|&effect| close(effect, 1.0));
        // the sum has the input in it, which nobody asked for by itself
        let (sums, beyond) = (numbers(set, "sum_of_parts"), numbers(set, "interaction"));
        sums.iter().zip(beyond).for_each(|(sum, beyond)| close(sum + beyond, 1.0));
        let senders = vec!["input".to_owned()];
        let input =
            Path { senders: Some(senders), sets: Sets::default(), ..path }.run(&lab, &task(&lab)).unwrap();
        let input = numbers(table(&input, "path"), "effect");
        let alone = table(&findings, "path");
        for (i, (rule, direction)) in
            [("heads", "noise"), ("heads", "denoise"), ("all", "noise"), ("all", "denoise")]
                .into_iter()
                .enumerate()
        {
            let own = alone.only("freeze", rule).unwrap().only("direction", direction).unwrap();
            close(sums[i], numbers(&own, "effect").iter().sum::<f64>() + input[i]);
        }
    }
}

#[test]
fn a_key_value_head_is_its_copies_in_the_expanded_model() {
    let grouped = lab(Config::tiny_rotary());
    let mut expanded = lab(Config::tiny_rotary());
    expanded.model.config.n_kv_heads = 4;
    for block in &mut expanded.model.blocks {
        block.attention.n_kv_heads = 4;
        for linear in [&mut block.attention.k, &mut block.attention.v] {
            let w = linear.w.reshape((16, 2, 1, 4)).unwrap().broadcast_as((16, 2, 2, 4)).unwrap();
            linear.w = w.contiguous().unwrap().reshape((16, 16)).unwrap();
        }
    }
    let task = task(&grouped);
    let run = |lab: &Lab, receivers: &str| {
        let path: Path = toml::from_str(&format!("receivers = {receivers}\nfreeze = 'both'")).unwrap();
        path.run(lab, &task).unwrap()
    };
    let few = run(&grouped, "{a = ['a1.kv1<k>'], b = ['a1.h2<v>'], c = ['a1.h1<k>', 'a1.h0<v>']}");
    assert!(few.notes.iter().any(|note| note.contains("2 heads share")), "{:?}", few.notes);
    let many = run(
        &expanded,
        "{a = ['a1.h2<k>', 'a1.h3<k>'], b = ['a1.h2<v>', 'a1.h3<v>'], \
         c = ['a1.h0<k>', 'a1.h1<k>', 'a1.h0<v>', 'a1.h1<v>']}",
    );
    let (few, many) = (numbers(table(&few, "path"), "raw"), numbers(table(&many, "path"), "raw"));
    assert_eq!(few.len(), 2 * 3 * 5);
    few.into_iter().zip(many).for_each(|(few, many)| close(few, many));
}

#[test]
fn the_memory_allowed_changes_no_number() {
    for config in [Config::tiny(), Config::tiny_rotary()] {
        let mut lab = lab(config);
        let mut task = task(&lab);
        let more = pairs().examples.into_iter().skip(2);
        task.examples.extend(more);
        let path: Path =
            toml::from_str("receivers = ['logits', ['m1', 'a1.h1<q>']]\ndirection = 'both'").unwrap();
        let large = path.run(&lab, &task).unwrap();
        lab.memory = 1;
        let small = path.run(&lab, &task).unwrap();
        for (small, large) in small.tables.iter().zip(&large.tables) {
            let columns: &[&str] =
                if small.name.starts_with("examples_gap_") { &["gap"] } else { &["effect", "raw"] };
            for column in columns {
                numbers(small, column).into_iter().zip(numbers(large, column)).for_each(|(a, b)| close(a, b));
            }
        }
    }
}

#[test]
fn what_the_table_says_of_itself() {
    let lab = lab(Config::tiny());
    let task = task(&lab);
    let findings = Path { direction: Direction::Both, ..Path::default() }.run(&lab, &task).unwrap();
    let rows = table(&findings, "path");
    let noise = rows.only("direction", "noise").unwrap();
    let mean = |side: fn(&Example) -> &[u32]| -> f64 {
        let each = task.examples.iter().enumerate();
        each.map(|(i, e)| naive(&lab, &task, i, side(e), Vec::new(), Metric::LogitDiff) / 2.0).sum()
    };
    let (clean, corrupt) = (mean(|e| &e.clean), mean(|e| e.corrupt.as_ref().unwrap()));
    for ((effect, variation), raw) in
        numbers(&noise, "effect").into_iter().zip(numbers(&noise, "variation")).zip(numbers(&noise, "raw"))
    {
        close(effect, (clean - raw) / (clean - corrupt));
        close(variation, 100.0 * (raw - clean) / clean);
    }
    let denoise = rows.only("direction", "denoise").unwrap();
    for (effect, raw) in numbers(&denoise, "effect").into_iter().zip(numbers(&denoise, "raw")) {
        close(effect, (raw - corrupt) / (clean - corrupt));
    }
    assert!(denoise.numbers("variation").unwrap().iter().all(Option::is_none));
    // of two prompts there is no p-value; of 0 there is no percentage
    assert!(rows.numbers("p").unwrap().iter().all(Option::is_none));
    let kl = Path { metric: Metric::Kl, ..Path::default() }.run(&lab, &task).unwrap();
    assert!(table(&kl, "path").numbers("variation").unwrap().iter().all(Option::is_none));
    assert!(kl.notes.iter().any(|note| note.contains("about 0")), "{:?}", kl.notes);
    let mut same = task.clone();
    same.examples.iter_mut().for_each(|example| example.corrupt = Some(example.clean.clone()));
    let error = Path::default().run(&lab, &same).unwrap_err().to_string();
    assert!(error.contains("a gap of 0.0000"), "{error}");
    same.examples[1].corrupt = None;
    let error = Path::default().run(&lab, &same).unwrap_err().to_string();
    assert!(error.contains("`e1` has none"), "{error}");
    let mut lost = task.clone();
    lost.examples.iter_mut().for_each(|e| std::mem::swap(&mut e.answers, &mut e.wrong));
    let notes = Path::default().run(&lab, &lost).unwrap().notes;
    let right = (0..2)
        .filter(|&i| naive(&lab, &lost, i, &lost.examples[i].clean, Vec::new(), Metric::LogitDiff) > 0.0);
    assert_eq!(notes.iter().any(|note| note.contains("does not do this")), right.count() < 2);
}

/// A pair that differs in one example only behind what is read: nothing to run there, and nothing changes.
#[test]
fn what_nothing_reaches_is_exactly_zero() {
    let lab = lab(Config::tiny());
    let mut task = task(&lab);
    task.examples[0].pos.insert("end".into(), 2);
    let path: Path = toml::from_str("receivers = ['logits', 'a1.h1<k>']").unwrap();
    let effects = |findings: &Findings, example: &str| {
        numbers(&table(findings, "examples_path").only("example", example).unwrap(), "effect")
    };
    let findings = path.run(&lab, &task).unwrap();
    let untouched = effects(&findings, "e0");
    assert!(!untouched.is_empty() && untouched.iter().all(|&effect| effect == 0.0));
    assert!(effects(&findings, "e1").iter().any(|&effect| effect != 0.0));
    assert!(findings.notes.iter().any(|note| note.contains("exactly 0")), "{:?}", findings.notes);
    // beside a prompt of the same length that is reached, it is run along
    task.examples.push(pairs().examples.swap_remove(2));
    let findings = path.run(&lab, &task).unwrap();
    assert!(effects(&findings, "e0").iter().all(|effect| effect.abs() < 1e-12));
    assert!(effects(&findings, "e2").iter().any(|effect| effect.abs() > 1e-3));
}

fn textbook(parameters: &str) -> Findings {
    let lab = Lab::open("textbook", DType::F32, &Device::Cpu).unwrap();
    let request =
        glassbox::study::Study::parse("[task]\ngenerate = 'ioi'\nn = 32\ncorruption = 'abc'", "", None);
    let task = request.unwrap().task(&lab).unwrap();
    let path: Path = toml::from_str(parameters).unwrap();
    path.run(&lab, &task).unwrap()
}

/// The bundled model's IOI circuit, edge by edge: who is told what by whom is what `circuit.json` says.
#[test]
fn the_textbook_circuit_is_found_backwards_from_the_logits() {
    let movers = "receivers = ['logits', ['a2.h0<q>', 'a2.h1<q>'], ['a2.h0<k>', 'a2.h1<k>', 'a2.h0<v>', 'a2.h1<v>'], \
                  'a1.h1<v>']";
    let findings = textbook(&format!("{movers}\nfreeze = 'both'"));
    let rows = table(&findings, "path");
    let notable = |receivers: &str, freeze: &str| -> Vec<(String, f64, String)> {
        let rows = rows.only("receivers", receivers).unwrap().only("freeze", freeze).unwrap();
        let rows = rows.only("notable", "true").unwrap();
        let mut found: Vec<_> = rows
            .texts("sender")
            .unwrap()
            .into_iter()
            .zip(numbers(&rows, "effect"))
            .zip(rows.texts("role").unwrap())
            .map(|((sender, effect), role)| (sender, effect, role))
            .collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        found
    };
    for freeze in ["heads", "all"] {
        for receivers in ["logits", "a2.h0<q>+a2.h1<q>", "a2.h0<k>+a2.h1<k>+a2.h0<v>+a2.h1<v>", "a1.h1<v>"] {
            println!("{freeze} {receivers}: {:?}", notable(receivers, freeze));
        }
        let to_logits = notable("logits", freeze);
        assert_eq!(to_logits.len(), 2, "{to_logits:?}");
        assert!(to_logits.iter().all(|(_, effect, role)| *effect > 0.1 && role == "name mover"));
        let to_queries = notable("a2.h0<q>+a2.h1<q>", freeze);
        assert_eq!(to_queries[0].2, "S-inhibition", "{to_queries:?}");
        let to_values = notable("a1.h1<v>", freeze);
        // the duplicate-token head is heard through the MLP behind it, not by itself
        let strongest = if freeze == "heads" { "a0.h1" } else { "m0" };
        assert_eq!(to_values[0].0, strongest, "{to_values:?}");
        assert_eq!(to_values.iter().any(|(sender, ..)| sender == "a0.h1"), freeze == "heads");
    }
    // the name movers together are their sum: the final norm alone lies between them and the logits
    let set =
        table(&findings, "path_set").only("receivers", "logits").unwrap().only("set", "name movers").unwrap();
    assert_eq!(set.texts("parts").unwrap(), ["a2.h0 a2.h1"; 2]);
    for (beyond, whole) in numbers(&set, "interaction").into_iter().zip(numbers(&set, "effect")) {
        assert!(beyond.abs() < 0.2 * whole, "{beyond} {whole}");
    }
    assert!(rows.numbers("p").unwrap().iter().all(Option::is_some));
}

/// Values that another implementation computed (TransformerLens, by the script beside the file).
#[test]
fn paths_agree_with_the_reference() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("tests/fixtures/causal.json")).unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    for name in ["gpt2", "llama"] {
        let folder = root.join("assets/tiny").join(name);
        let lab = Lab::open(folder.to_str().unwrap(), DType::F64, &Device::Cpu).unwrap();
        let tokens = |value: &serde_json::Value| -> Vec<u32> {
            value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
        };
        let example = |(i, pair): (usize, &serde_json::Value)| Example {
            id: i.to_string(),
            clean: tokens(&pair["clean"]),
            corrupt: Some(tokens(&pair["corrupt"])),
            answers: vec![pair["answer"].as_u64().unwrap() as u32],
            wrong: vec![pair["wrong"].as_u64().unwrap() as u32],
            ..Example::default()
        };
        let examples = all[name]["pairs"].as_array().unwrap().iter().enumerate().map(example).collect();
        let task = Task { name: "reference".into(), examples, ..Task::default() };
        let readers: Vec<_> = Graph::of(&lab.model).readers().iter().map(|reader| vec![*reader]).collect();
        let path = Path { receivers: named(&readers), freeze: Freeze::Both, ..Path::default() };
        let findings = path.run(&lab, &task).unwrap();
        let rows = table(&findings, "examples_path");
        let mut checked = 0;
        for freeze in ["heads", "all"] {
            for (i, example) in task.examples.iter().enumerate() {
                let rows = rows.only("example", &example.id).unwrap();
                for (path, value) in all[name]["paths"][freeze][i].as_object().unwrap() {
                    let (sender, receiver) = path.split_once("->").unwrap();
                    let found = raw(&rows, example, sender, receiver, freeze, "noise").unwrap();
                    let value = value.as_f64().unwrap();
                    assert!(
                        (found - value).abs() < 1e-7 * value.abs().max(1.0),
                        "{name} {path}: {found} {value}"
                    );
                    checked += 1;
                }
            }
        }
        assert_eq!(checked, rows.len());
        println!("{name}: {checked} paths");
    }
}
