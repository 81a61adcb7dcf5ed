//! Promise 6: folded weights say the same, are the ones TransformerLens makes, and are never folded unsaid.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use glassbox::analysis::Analysis;
use glassbox::analysis::attribution::Attribution;
use glassbox::lab::{About, Lab};
use glassbox::model::{Config, Fold, Folding, Transformer};
use glassbox::ops;
use glassbox::site::Site;
use glassbox::task::{Example, Task};
use glassbox::vocabulary::Vocabulary;

use crate::command::Bench;
use crate::tiny::open;

const TINY: [&str; 3] = ["gpt2", "llama", "llama-tied"];

fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny").join(name)
}

fn bundled(name: &str, dtype: DType) -> Lab {
    Lab::open(name, dtype, &Device::Cpu).unwrap()
}

/// A rotary model with grouped queries and every bias that such checkpoints can have.
fn biased(dtype: DType) -> Transformer {
    let mut model = Transformer::random(Config::tiny_rotary(), 5, dtype).unwrap();
    for (layer, block) in model.blocks.iter_mut().enumerate() {
        let attention = &mut block.attention;
        let mut linears = vec![&mut attention.q, &mut attention.k, &mut attention.v, &mut attention.o];
        let mlp = block.mlp.dense_mut().unwrap();
        linears.extend([&mut mlp.pre, &mut mlp.out]);
        linears.extend(&mut mlp.linear);
        for (which, linear) in linears.into_iter().enumerate() {
            let bias = (0..linear.w.dim(1).unwrap()).map(|i| ((i + 7 * which + 31 * layer) as f64).sin());
            let bias = Tensor::from_vec(bias.collect(), linear.w.dim(1).unwrap(), &Device::Cpu);
            linear.b = Some(bias.unwrap().to_dtype(dtype).unwrap());
        }
    }
    model
}

fn models(dtype: DType) -> Vec<(String, Transformer)> {
    let tiny = TINY.iter().chain(&["gpt2-bpe"]);
    let mut all: Vec<(String, Transformer)> =
        tiny.map(|name| (format!("tiny {name}"), open(&checkpoint(name), dtype).unwrap())).collect();
    all.push(("random".to_owned(), Transformer::random(Config::tiny(), 7, dtype).unwrap()));
    all.push(("biased".to_owned(), biased(dtype)));
    all.extend(["textbook", "textbook-wild"].map(|name| (name.to_owned(), bundled(name, dtype).model)));
    all
}

/// Two prompts of random tokens.
fn salad(model: &Transformer) -> [Vec<u32>; 2] {
    [1, 5].map(|salt: u32| (0..14).map(|i| (salt + 37 * i + i * i) % model.config.d_vocab as u32).collect())
}

fn log_probs(model: &Transformer, prompts: &[Vec<u32>; 2]) -> Vec<f64> {
    let tokens = model.tokens(&[&prompts[0], &prompts[1]]).unwrap();
    numbers(&ops::log_softmax(&model.forward(&tokens, &mut ()).unwrap()).unwrap())
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn largest(x: impl IntoIterator<Item = f64>) -> f64 {
    x.into_iter().fold(0.0, |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x.abs()) })
}

/// Largest difference, in units of max(1, |reference|max).
fn gap(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    largest(a.iter().zip(b).map(|(a, b)| a - b)) / largest(b.iter().copied()).max(1.0)
}

/// Folds the model each way that is valid, and holds the log-probabilities of these prompts to what they were.
fn check(name: &str, model: &Transformer, prompts: &[Vec<u32>; 2], tolerance: f64) {
    let own = log_probs(model, prompts);
    let alone = Fold::ALL.map(|step| Folding::Steps(vec![step]));
    for folding in alone.iter().chain([&Folding::All]) {
        let Ok((folded, steps)) = model.clone().folded(folding) else {
            let rms = matches!(folding, Folding::Steps(steps) if steps[..] == [Fold::Writers]);
            assert!(rms && model.pos_embed.is_none(), "{name} refuses {folding:?}");
            continue;
        };
        let off = gap(&log_probs(&folded, prompts), &own);
        assert!(off <= tolerance, "{name} {steps:?}: {off}");
    }
}

#[test]
fn folding_leaves_log_probabilities_as_they_are() {
    for (name, model) in models(DType::F64) {
        check(&name, &model, &salad(&model), 1e-10);
    }
    for (name, model) in models(DType::F32) {
        // A trained model is asked about its language: on random words, where the scores of `textbook` are large and close
        // together, the f32 pass is itself 1.4e-5 off the f64 one, and the folded model nearer to it.
        let words = [
            "When Mary and John went to the store , John gave a drink to",
            "the capital of France is Paris . the capital of Italy is",
        ];
        let prompts = if name.starts_with("textbook") {
            words
                .map(|text| bundled(&name, DType::F32).vocabulary.encode(text).unwrap())
                .map(|ids| ids[..12].to_vec())
        } else {
            salad(&model)
        };
        check(&name, &model, &prompts, 1e-5);
    }
}

#[test]
fn folded_weights_are_simple() {
    for (name, model) in models(DType::F64) {
        let learned = model.pos_embed.is_some(); // of these models, those with LayerNorm
        let (folded, steps) = model.folded(&Folding::All).unwrap();
        let expected = Fold::ALL.into_iter().filter(|&step| step != Fold::Writers || learned);
        assert_eq!(steps, expected.collect::<Vec<_>>(), "{name}");
        let mean = |x: &Tensor| largest(numbers(&x.mean(x.rank() - 1).unwrap()));
        let blocks = || folded.blocks.iter();
        let norms = blocks().flat_map(|b| [&b.ln1, &b.ln2]).chain([&folded.ln_final]);
        for norm in norms {
            assert!(norm.bias.is_none() && numbers(&norm.gain).iter().all(|&gain| gain == 1.0), "{name}");
        }
        assert!(blocks().all(|b| b.attention.v.b.is_none()), "{name}");
        assert!(mean(&folded.unembed.w) < 1e-12, "{name}");
        if learned {
            let writers = blocks().flat_map(|b| [&b.attention.o, &b.mlp.dense().unwrap().out]);
            let writers = writers.flat_map(|linear| [Some(&linear.w), linear.b.as_ref()]);
            for x in writers.chain([Some(&folded.embed), folded.pos_embed.as_ref()]).flatten() {
                assert!(mean(x) < 1e-12, "{name}: {}", mean(x));
            }
            let reader = &folded.blocks[0].attention.q.w;
            assert!(mean(&reader.t().unwrap()) < 1e-12, "{name}: what reads a LayerNorm");
        }
    }
}

#[test]
fn folded_activations_are_those_of_transformer_lens() {
    for name in TINY {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}-folded.safetensors"));
        let reference: HashMap<String, Tensor> = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
        let model = open(&checkpoint(name), DType::F32).unwrap();
        let tokens = reference["tokens"].to_dtype(DType::U32).unwrap();
        let sites: BTreeMap<Site, &Tensor> =
            reference.iter().filter_map(|(key, value)| Some((key.parse().ok()?, value))).collect();
        assert_eq!(sites.len(), reference.len() - 1, "{name}: every name is a site");
        assert!(sites.len() >= 30);
        let off = |model: &Transformer| -> Vec<(f64, Site)> {
            let (_, kept) = model.record(&tokens, |site| sites.contains_key(&site)).unwrap();
            sites
                .iter()
                .map(|(&site, x)| (gap(&numbers(kept.get(site).unwrap()), &numbers(x)), site))
                .collect()
        };
        let moved = off(&model).into_iter().filter(|(off, _)| *off > 1e-2).count();
        // RMSNorm's gain alone moves nothing but the logits, by their mean
        assert!(
            moved >= if name == "gpt2" { 20 } else { 1 },
            "{name}: folding changes what is seen: {moved}"
        );
        for (off, site) in off(&model.folded(&Folding::All).unwrap().0) {
            assert!(off < 1e-5, "{name} {site}: {off}");
        }
    }
}

#[test]
fn attribution_of_a_folded_model_sums_to_the_same_logit_difference() {
    let example = |i: u32| Example {
        id: format!("e{i}"),
        clean: (0..8).map(|p| (7 * i + 5 * p * p + 3 * p) % 24).collect(),
        corrupt: None,
        answers: vec![i + 1, i + 9],
        wrong: vec![i + 4],
        pos: BTreeMap::new(),
        ..Example::default()
    };
    let task = Task { name: "test".into(), examples: (0..3).map(example).collect(), ..Task::default() };
    for (name, model) in models(DType::F64) {
        let direct = |folding: Option<Folding>| -> Vec<f64> {
            let mut lab = Lab::new(model.clone(), Vocabulary::default(), About::default());
            if let Some(folding) = folding {
                lab = lab.folded(&folding).unwrap();
            }
            let findings = Attribution::default().run(&lab, &task).unwrap();
            assert!(
                findings.notes.iter().all(|note| !note.starts_with("error")),
                "{name}: {:?}",
                findings.notes
            );
            let rows = findings.tables.iter().find(|table| table.name == "attribution").unwrap();
            rows.numbers("direct").unwrap().into_iter().flatten().collect()
        };
        let (own, folded) = (direct(None), direct(Some(Folding::All)));
        let (sum, again): (f64, f64) = (own.iter().sum(), folded.iter().sum());
        assert!((sum - again).abs() < 1e-9 * sum.abs().max(1.0), "{name}: {sum} {again}");
        let norm_bias = folded[folded.len() - 2];
        assert_eq!(norm_bias, 0.0, "{name}: β is in the unembedding's bias");
    }
}

#[test]
fn steps_are_named_and_what_is_not_valid_is_refused() {
    let folding: Folding = "fold_ln, center_unembed".parse().unwrap();
    assert_eq!(folding, Folding::Steps(vec![Fold::Norms, Fold::Unembed]));
    assert_eq!(String::from(folding), "fold_ln,center_unembed");
    assert!("fold_in".parse::<Folding>().unwrap_err().to_string().contains("fold_ln"));
    assert!("".parse::<Folding>().is_err());
    let rms = Transformer::random(Config::tiny_rotary(), 1, DType::F64).unwrap();
    let refused = rms.folded(&"fold_ln,center_writing_weights".parse().unwrap()).unwrap_err();
    assert_eq!(refused.exit_code(), 2);
    assert!(refused.to_string().contains("subtract the mean"), "{refused}");
}

#[test]
fn a_run_says_how_its_weights_were_folded() {
    let bench = Bench::new();
    let attribution = ["attribution", "--task", "capital", "--n", "3", "--quiet", "--out"];
    bench.ok(&[&attribution[..], &["folded", "--fold"]].concat());
    bench.ok(&[&attribution[..], &["plain"]].concat());
    let read = |path: &str| std::fs::read_to_string(bench.path(path)).unwrap();
    let all = Fold::ALL.map(Fold::name);
    assert!(read("folded/study.toml").contains("fold = \"all\""));
    let manifest: serde_json::Value = serde_json::from_str(&read("folded/manifest.json")).unwrap();
    assert_eq!(manifest["folded"], serde_json::json!(all));
    let manifest: serde_json::Value = serde_json::from_str(&read("plain/manifest.json")).unwrap();
    assert_eq!(manifest["folded"], serde_json::json!([]));
    for (page, said) in [("index.html", "Weights folded</dt>"), ("report.md", "Weights folded: `")] {
        assert!(read(&format!("folded/{page}")).contains(said), "{page}");
        assert!(read(&format!("folded/{page}")).contains(&all.join(",")), "{page}");
        assert!(read(&format!("folded/{page}")).contains("Weights were folded"), "{page}");
        assert!(!read(&format!("plain/{page}")).contains("Weights were folded"), "{page}");
    }
    assert!(read("plain/report.md").contains("Weights folded: no\n"));
    assert_ne!(read("folded/tables/attribution.csv"), read("plain/tables/attribution.csv"));
    bench.ok(&["run", "folded/study.toml", "--quiet", "--out", "again"]);
    assert_eq!(bench.files("folded"), bench.files("again"));

    let record = ["record", "--quiet", "--task", "facts", "--n", "1", "--sites", "hook_embed", "-o"];
    bench.ok(&[&record[..], &["some.safetensors", "--fold=center_unembed,fold_ln"]].concat());
    let bytes = std::fs::read(bench.path("some.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["folded"], "fold_ln,center_unembed");

    let tiny = checkpoint("llama").display().to_string();
    let predict = ["predict", "--model", &tiny, "--tokens", "1,2,3"];
    let said = bench.refused(2, &[&predict[..], &["--fold=center_writing_weights"]].concat());
    assert!(said.contains("subtract the mean"), "{said}");
    assert!(bench.refused(2, &[&predict[..], &["--fold=fold_in"]].concat()).contains("fold_ln"));
}
