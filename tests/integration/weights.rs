//! Heads by their weights alone: against TransformerLens, and against the same maps multiplied out in full.

use candle_core::{DType, Device, Tensor};
use glassbox::analysis::heads::Heads;
use glassbox::analysis::weights::Weights;
use glassbox::analysis::{Analysis, Findings};
use glassbox::error::Result;
use glassbox::lab::{About, Lab};
use glassbox::model::{Config, MlpKind, Norm, NormKind, QkNorm, Transformer};
use glassbox::ops;
use glassbox::row::Rows;
use glassbox::task::Task;
use glassbox::vocabulary::Vocabulary;
use serde_json::Value;

use crate::causal::{numbers, table};
use crate::{styles, tiny};

fn lab(config: Config) -> Lab {
    of(Transformer::random(config, 5, DType::F64).unwrap())
}

fn of(model: Transformer) -> Lab {
    Lab::new(model, Vocabulary::default(), About::default())
}

fn run(lab: &Lab, parameters: &str) -> Result<Findings> {
    let weights: Weights = toml::from_str(parameters).unwrap();
    weights.run(lab, &Task::default())
}

fn near(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{what}: {got} is not {want}");
}

/// The rows where columns have these values.
fn at(rows: &Rows, keys: &[(&str, String)]) -> Rows {
    keys.iter().fold(rows.clone(), |rows, (column, value)| rows.only(column, value).unwrap())
}

#[test]
fn transformer_lens_computes_the_same() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights.json");
    let stored: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for name in ["hooked", "hooked-rotary"] {
        let lab = of(tiny::open(&tiny::checkpoint(name), DType::F64).unwrap());
        let c = lab.model.config.clone();
        let found = run(&lab, "draws = 2").unwrap();
        let theirs = &stored[name];
        let heads = || (0..c.n_layers).flat_map(|layer| (0..c.n_heads).map(move |head| (layer, head)));
        for (i, (layer, head)) in heads().enumerate() {
            for score in ["copying", "preserving", "matching"] {
                let want = theirs[score][layer][head].as_f64().unwrap();
                near(
                    numbers(table(&found, "weights"), score)[i],
                    want,
                    &format!("{name} {layer}.{head} {score}"),
                );
            }
            for (circuit, scale) in [("ov", 1.0), ("qk", c.layer(layer).scale)] {
                let keys = [
                    ("layer", layer.to_string()),
                    ("head", head.to_string()),
                    ("circuit", circuit.to_owned()),
                ];
                let own = numbers(&at(table(&found, "spectrum"), &keys), "value");
                assert_eq!(own.len(), c.d_head);
                for (k, value) in own.into_iter().enumerate() {
                    let want = theirs[circuit][layer][head][k].as_f64().unwrap() * scale;
                    near(value, want, &format!("{name} {layer}.{head} {circuit} {k}"));
                }
            }
        }
        let mut compared = 0;
        for (from, to) in heads().flat_map(|from| heads().map(move |to| (from, to))) {
            for kind in ["q", "k", "v"] {
                let want = theirs[kind][from.0][from.1][to.0][to.1].as_f64().unwrap();
                let keys = [
                    ("from", format!("a{}.h{}", from.0, from.1)),
                    ("to", format!("a{}.h{}", to.0, to.1)),
                    ("kind", kind.to_owned()),
                ];
                let row = at(table(&found, "composition"), &keys);
                match numbers(&row, "score").first() {
                    None => assert_eq!(want, 0.0, "a head reads no later one"),
                    Some(score) => near(*score, want, &format!("{name} {keys:?}")),
                }
                compared += row.len();
            }
        }
        assert_eq!(compared, 3 * c.n_heads * c.n_heads);
    }
}

/// I − 1/n.
fn centring(n: usize) -> Tensor {
    let ones = Tensor::full(1.0 / n as f64, (n, n), &Device::Cpu).unwrap();
    (Tensor::eye(n, DType::F64, &Device::Cpu).unwrap() - ones).unwrap()
}

fn product(factors: &[Tensor]) -> Tensor {
    let all = factors.iter().cloned().reduce(|a, b| ops::matmul(&a, &b).unwrap());
    all.unwrap()
}

fn diagonal(x: &Tensor) -> Tensor {
    let n = x.elem_count();
    Tensor::eye(n, DType::F64, &Device::Cpu).unwrap().broadcast_mul(x).unwrap()
}

/// What a norm is but for its divisor: the mean out, times the gain. None where there is no norm.
fn linear(norm: &Norm, d_model: usize) -> Option<Tensor> {
    let gain = norm.is_some().then(|| diagonal(&norm.gain))?;
    Some(if norm.kind == NormKind::Layer { product(&[centring(d_model), gain]) } else { gain })
}

/// W_OV and W_QK of a head, multiplied out.
fn dense(model: &Transformer, layer: usize, head: usize) -> (Tensor, Tensor) {
    let c = &model.config;
    let block = &model.blocks[layer];
    let (a, kv) = (&block.attention, head * c.n_kv_heads / c.n_heads);
    let own = |w: &Tensor, head: usize| w.narrow(1, head * c.d_head, c.d_head).unwrap();
    let before =
        |w: Tensor| product(&linear(&block.ln1, c.d_model).into_iter().chain([w]).collect::<Vec<_>>());
    let mut ov = vec![before(own(&a.v.w, kv)), a.o.w.narrow(0, head * c.d_head, c.d_head).unwrap()];
    ov.extend(linear(&block.ln1_post, c.d_model));
    if model.blocks.iter().all(|block| block.ln1.kind == NormKind::Layer)
        && model.ln_final.kind == NormKind::Layer
    {
        ov.push(centring(c.d_model));
    }
    let qk = product(&[before(own(&a.q.w, head)), before(own(&a.k.w, kv)).t().unwrap()]);
    (product(&ov), (qk * a.scale).unwrap())
}

fn size(x: &Tensor) -> f64 {
    x.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
}

fn trace(x: &Tensor) -> f64 {
    let rows: Vec<Vec<f64>> = x.to_vec2().unwrap();
    rows.iter().enumerate().map(|(i, row)| row[i]).sum()
}

/// Σ λᵏ for k up to the number of eigenvalues is tr Mᵏ: no other set of as many numbers fulfils that.
fn check_eigenvalues(rows: &Rows, map: &Tensor, what: &str) {
    let (re, im) = (numbers(rows, "re"), numbers(rows, "im"));
    let (mut power, mut each) = (map.clone(), re.iter().copied().zip(im.iter().copied()).collect::<Vec<_>>());
    for k in 1..=re.len() {
        let sum: f64 = each.iter().map(|(re, _)| re).sum();
        let scale = size(&power).max(1e-3);
        assert!(
            (sum - trace(&power)).abs() < 1e-9 * scale,
            "{what}, power {k}: {sum} is not {}",
            trace(&power)
        );
        power = product(&[power, map.clone()]);
        for ((x, y), (re, im)) in each.iter_mut().zip(re.iter().zip(&im)) {
            (*x, *y) = (*x * re - *y * im, *x * im + *y * re);
        }
    }
}

#[test]
fn factored_maps_are_the_maps_multiplied_out() {
    for (style, config) in styles::able() {
        println!("{style}");
        let lab = lab(config);
        let (model, c) = (&lab.model, &lab.model.config);
        let found = run(&lab, "draws = 2").unwrap();
        let normed = c.qk_norm != QkNorm::None;
        let rows = table(&found, "weights");
        let heads: Vec<(usize, usize)> =
            (0..c.n_layers).flat_map(|layer| (0..c.n_heads).map(move |head| (layer, head))).collect();
        let maps: Vec<(Tensor, Tensor)> =
            heads.iter().map(|&(layer, head)| dense(model, layer, head)).collect();
        let mut said = vec![model.unembed.w.clone()];
        said.splice(0..0, linear(&model.ln_final, c.d_model));
        if c.logit_cap.is_none() {
            said.push(centring(c.d_vocab_out));
        }
        for (i, ((layer, head), (ov, qk))) in heads.iter().zip(&maps).enumerate() {
            let what = format!("{style} {layer}.{head}");
            near(numbers(rows, "ov_norm")[i], size(ov), &what);
            let of = |circuit: &str| {
                let keys = [
                    ("layer", layer.to_string()),
                    ("head", head.to_string()),
                    ("circuit", circuit.to_owned()),
                ];
                (
                    at(table(&found, "eigenvalues"), &keys),
                    numbers(&at(table(&found, "spectrum"), &keys), "value"),
                )
            };
            check_eigenvalues(&of("preserving").0, ov, &what);
            let fourth = |s: &[f64]| s.iter().map(|s| s.powi(4)).sum::<f64>();
            let square = |x: &Tensor| size(&product(&[x.t().unwrap(), x.clone()])).powi(2);
            near(fourth(&of("ov").1), square(ov), &what);
            near(numbers(rows, "ov_rank")[i], size(ov).powi(4) / square(ov), &what);
            if normed {
                assert!(numbers(rows, "qk_norm")[i].is_nan() && numbers(rows, "matching")[i].is_nan());
                assert!(of("matching").0.is_empty() && of("qk").1.is_empty());
            } else {
                near(numbers(rows, "qk_norm")[i], size(qk), &what);
                near(fourth(&of("qk").1), square(qk), &what);
                let embedded = product(&[model.embed.clone(), qk.clone(), model.embed.t().unwrap()]);
                check_eigenvalues(&of("matching").0, &embedded, &what);
            }
            if c.d_vocab == c.d_vocab_out {
                let through = [model.embed.clone(), ov.clone()].into_iter().chain(said.iter().cloned());
                check_eigenvalues(&of("copying").0, &product(&through.collect::<Vec<_>>()), &what);
            } else {
                assert!(numbers(rows, "copying")[i].is_nan() && of("copying").0.is_empty());
                assert!(found.notes.iter().any(|note| note.contains("`copying` is empty")));
            }
        }
        let mut expected = 0;
        for (from, first) in heads.iter().zip(&maps) {
            for (to, second) in heads.iter().zip(&maps).filter(|(to, _)| to.0 > from.0) {
                let ways = [("q", second.1.clone()), ("k", second.1.t().unwrap()), ("v", second.0.clone())];
                for (kind, reader) in ways.into_iter().filter(|(kind, _)| !normed || *kind == "v") {
                    let keys = [
                        ("from", format!("a{}.h{}", from.0, from.1)),
                        ("to", format!("a{}.h{}", to.0, to.1)),
                        ("kind", kind.to_owned()),
                    ];
                    let row = at(table(&found, "composition"), &keys);
                    let want =
                        size(&product(&[first.0.clone(), reader.clone()])) / size(&first.0) / size(&reader);
                    near(numbers(&row, "score")[0], want, &format!("{style} {keys:?}"));
                    expected += 1;
                }
            }
        }
        let all = found.tables.iter().find(|rows| rows.name == "composition").map_or(0, Rows::len);
        assert_eq!(all, expected, "{style}");
    }
}

#[test]
fn mlps_compose_as_their_weights_multiplied_out() {
    for config in [Config::tiny(), Config::tiny_rotary(), Config { mlp_norm: true, ..Config::tiny() }] {
        let lab = lab(config);
        let (model, c) = (&lab.model, &lab.model.config);
        let found = run(&lab, "draws = 2\nmlps = true").unwrap();
        let mlp = model.blocks[0].mlp.dense().unwrap();
        let mut out: Vec<Tensor> =
            mlp.norm.as_ref().and_then(|norm| linear(norm, c.d_mlp)).into_iter().collect();
        out.push(mlp.out.w.clone());
        if c.norm == NormKind::Layer {
            out.push(centring(c.d_model));
        }
        let out = product(&out);
        for head in 0..c.n_heads {
            let (ov, qk) = dense(model, 1, head);
            for (kind, reader) in [("q", qk.clone()), ("k", qk.t().unwrap()), ("v", ov)] {
                let keys =
                    [("from", "m0".to_owned()), ("to", format!("a1.h{head}")), ("kind", kind.to_owned())];
                let row = at(table(&found, "composition"), &keys);
                let want = size(&product(&[out.clone(), reader.clone()])) / size(&out) / size(&reader);
                near(numbers(&row, "score")[0], want, kind);
            }
        }
    }
}

/// Independent Gaussian factors meet in one of d directions: the mean square of the score is 1/d but for the spread of the
/// norms. Random weights score as the baseline does, a copy far above it.
#[test]
fn the_baseline_is_what_chance_gives() {
    let config = Config { d_model: 64, d_head: 8, d_mlp: 96, ..Config::tiny_rotary() };
    let found = run(&lab(config.clone()), "mlps = true").unwrap();
    let rows = table(&found, "composition");
    let baseline = numbers(rows, "baseline");
    assert!(baseline.iter().all(|mean| (mean * 8.0 - 1.0).abs() < 0.05), "{baseline:?}");
    let centred = Config { norm: NormKind::Layer, d_model: 17, ..config.clone() };
    let found = run(&lab(centred), "draws = 1000").unwrap();
    let mean = numbers(table(&found, "composition"), "baseline")[0];
    assert!((mean * 4.0 - 1.0).abs() < 0.05, "one of 17 dimensions is never passed on: {mean}");

    // head 1.0 asks for exactly what head 0.0 writes
    let mut model = Transformer::random(config, 5, DType::F64).unwrap();
    let written = model.blocks[0].attention.o.w.narrow(0, 0, 8).unwrap(); // head 0.0: [d_head, d_model]
    let gain = model.blocks[1].ln1.gain.clone();
    let ask = written.broadcast_div(&gain).unwrap().t().unwrap();
    let q = &mut model.blocks[1].attention.q.w;
    *q = Tensor::cat(&[&ask.contiguous().unwrap(), &q.narrow(1, 8, 24).unwrap().contiguous().unwrap()], 1)
        .unwrap();
    let found = run(&of(model), "").unwrap();
    let rows = table(&found, "composition");
    let keys = [("from", "a0.h0".to_owned()), ("to", "a1.h0".to_owned()), ("kind", "q".to_owned())];
    let planted = at(rows, &keys);
    assert!(numbers(&planted, "z")[0] > 10.0);
    let largest = numbers(rows, "excess").into_iter().fold(f64::NEG_INFINITY, f64::max);
    assert_eq!(numbers(&planted, "excess")[0], largest);
    assert_eq!(
        table(&found, "virtual").texts("to").unwrap()[0],
        "a1.h0",
        "the strongest pair is read in tokens"
    );
}

/// Every direction's ends hold the tokens with the furthest products, found here one by one.
#[test]
fn directions_are_read_in_the_tokens_that_lie_furthest() {
    for config in [Config::tiny(), Config::tiny_rotary(), Config { d_vocab_out: 9, ..Config::tiny() }] {
        let lab = lab(config);
        let (model, c) = (&lab.model, &lab.model.config);
        let found = run(&lab, "draws = 2\nvectors = 3\ntop = 4\npairs = [['0.1', '1.2']]").unwrap();
        let said = product(&[linear(&model.ln_final, c.d_model).unwrap(), model.unembed.w.clone()]);
        let embed = model.embed.t().unwrap();
        let rows = table(&found, "singular");
        assert_eq!(rows.len(), c.n_layers * c.n_heads * 2 * 3 * 2);
        for row in (0..rows.len()).step_by(7) {
            let one = rows.take(&[row]);
            let (layer, head) = (numbers(&one, "layer")[0] as usize, numbers(&one, "head")[0] as usize);
            let (ov, qk) = dense(model, layer, head);
            let (map, right) = match one.texts("circuit").unwrap()[0].as_str() {
                "ov" => (ov, &said),
                _ => (qk, &embed),
            };
            check_ends(&one, &map, &embed, right);
        }
        let together = table(&found, "virtual");
        let (first, (ov, qk)) = (dense(model, 0, 1).0, dense(model, 1, 2));
        for (kind, second, right) in
            [("q", qk.clone(), &embed), ("k", qk.t().unwrap(), &embed), ("v", ov, &said)]
        {
            let own = together.only("kind", kind).unwrap();
            assert_eq!(own.len(), 6);
            let map = product(&[first.clone(), second]);
            near(numbers(&own, "norm")[0], size(&map), kind);
            for row in 0..own.len() {
                check_ends(&own.take(&[row]), &map, &embed, right);
            }
        }
    }
}

/// The direction of this index by power iteration on M·Mᵀ with the stronger ones taken out, and the tokens at its ends.
fn check_ends(row: &Rows, map: &Tensor, left: &Tensor, right: &Tensor) {
    let index = numbers(row, "index")[0] as usize;
    let mut square = product(&[map.clone(), map.t().unwrap()]);
    let mut found = (0.0, square.clone());
    for _ in 0..=index {
        let mut power = square.clone();
        for _ in 0..24 {
            power = product(&[power.clone(), power.clone()]);
            power = (&power / size(&power)).unwrap();
        }
        let columns: Vec<f64> = power.sqr().unwrap().sum(0).unwrap().to_vec1().unwrap();
        let best = (0..columns.len()).max_by(|&a, &b| columns[a].total_cmp(&columns[b])).unwrap();
        let u = power.narrow(1, best, 1).unwrap();
        let u = (&u / size(&u)).unwrap(); // [d_model, 1]
        let value = size(&product(&[u.t().unwrap(), map.clone()]));
        let out = (product(&[u.clone(), u.t().unwrap()]) * (value * value)).unwrap();
        square = (square - out).unwrap();
        found = (value, u);
    }
    let (value, u) = found;
    assert!((numbers(row, "value")[0] - value).abs() < 1e-6 * value, "{index}: {value} {row:?}");
    near(numbers(row, "share")[0], (numbers(row, "value")[0] / size(map)).powi(2), "share");
    let flat = |x: Tensor| -> Vec<f64> { x.flatten_all().unwrap().to_vec1().unwrap() };
    let mut read = flat(product(&[u.t().unwrap(), left.clone()]));
    let mut written = flat(product(&[u.t().unwrap(), map.clone(), right.clone()]));
    let furthest = read.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
    let plus = row.texts("end").unwrap()[0] == "+";
    if (furthest > 0.0) != plus {
        read.iter_mut().chain(&mut written).for_each(|x| *x = -*x);
    }
    for (column, products) in [("read", read), ("written", written)] {
        let mut order: Vec<usize> = (0..products.len()).collect();
        order.sort_by(|&a, &b| products[b].total_cmp(&products[a]));
        let words: Vec<String> = order.iter().take(4).map(|id| format!("\"#{id}\"")).collect();
        assert_eq!(row.texts(column).unwrap()[0], words.join(", "), "{column}: {row:?}");
    }
}

#[test]
fn a_token_that_is_copied_is_among_the_first_that_are_said() {
    for config in [Config::tiny(), Config::tiny_rotary(), Config { mlp: MlpKind::Absent, ..Config::tiny() }] {
        let lab = lab(config);
        let (model, c) = (&lab.model, &lab.model.config);
        let found = run(&lab, "draws = 2\ncopied = 9").unwrap();
        let rows = table(&found, "examples_copied");
        assert_eq!(rows.len(), 9 * c.n_layers * c.n_heads);
        // the same model without attention and positions: what layer 0 leaves of a token
        let mut bare = model.clone();
        bare.pos_embed = None;
        bare.blocks[0].attention.o.w = bare.blocks[0].attention.o.w.zeros_like().unwrap();
        bare.blocks[0].attention.o.b = None;
        let (ids, ranks) = (numbers(rows, "id"), numbers(rows, "rank"));
        let (layers, heads) = (numbers(rows, "layer"), numbers(rows, "head"));
        for row in 0..rows.len() {
            let id = ids[row] as u32;
            let (_, kept) = bare.record(&bare.tokens(&[&[id]]).unwrap(), |_| true).unwrap();
            let seen = kept.block(0, glassbox::site::At::ResidPost).unwrap().reshape((1, c.d_model)).unwrap();
            // scales are lost in the final norm
            let written = product(&[seen, dense(model, layers[row] as usize, heads[row] as usize).0]);
            let logits =
                model.unembed.forward(&model.ln_final.apply(&(written * 1e3).unwrap()).unwrap()).unwrap();
            let logits: Vec<f64> = logits.flatten_all().unwrap().to_vec1().unwrap();
            let rank = logits.iter().filter(|x| **x > logits[id as usize]).count();
            assert_eq!(ranks[row], rank as f64, "token {id} in {}.{}", layers[row], heads[row]);
        }
        let all = table(&found, "weights");
        for (i, share) in numbers(all, "copied").into_iter().enumerate() {
            let (layer, head) = ((i / c.n_heads) as f64, (i % c.n_heads) as f64);
            let own = (0..rows.len()).filter(|&row| layers[row] == layer && heads[row] == head);
            near(share, own.filter(|&row| ranks[row] < 5.0).count() as f64 / 9.0, "share");
        }
        assert!(numbers(all, "n").iter().all(|n| *n == 9.0));
    }
}

#[test]
fn heads_are_scored_by_their_weights_too() {
    let lab = lab(Config::tiny());
    let scores = Heads { sequences: 3, ..Heads::default() }.run(&lab, &Task::default()).unwrap();
    let (heads, weights) = (table(&scores, "head_scores"), run(&lab, "draws = 2").unwrap());
    assert_eq!(numbers(heads, "copying"), numbers(table(&weights, "weights"), "copying"));
    let each = table(&scores, "examples_head_scores");
    for (i, score) in numbers(heads, "prefix").into_iter().enumerate() {
        let own = at(each, &[("layer", (i / 4).to_string()), ("head", (i % 4).to_string())]);
        near(score, numbers(&own, "prefix").iter().sum::<f64>() / 3.0, "prefix");
        assert!((0.0..=1.0).contains(&score));
    }
    let short = Heads::default().run(
        &of(Transformer::random(Config { n_ctx: 7, ..Config::tiny() }, 5, DType::F64).unwrap()),
        &Task::default(),
    );
    assert!(numbers(table(&short.unwrap(), "head_scores"), "prefix").iter().all(|x| x.is_nan()), "7 < 4 · 2");
}

#[test]
fn what_is_not_there_is_refused_in_a_sentence() {
    for (config, parameters, words) in [
        (Config::tiny(), "pairs = [['1.0', '0.0']]", "does not read"),
        (Config::tiny(), "pairs = [['0.0', '0.1']]", "later layer"),
        (Config::tiny(), "pairs = [['0.0', '1.9']]", "it has 4"),
        (Config::tiny(), "pairs = [['0.0', '7.0']]", "layer 7"),
        (Config::tiny(), "pairs = [['m0', '1.0']]", "no head"),
        (Config::tiny(), "draws = 1", "needs 2"),
        (Config::tiny(), "top = 1000000", "more than"),
        (Config { d_vocab_out: 5, ..Config::tiny() }, "copied = 3", "none is copied"),
    ] {
        let error = run(&lab(config), parameters).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("hint"), "{parameters}: {error}");
    }
    let normed = lab(Config { qk_norm: QkNorm::Head, ..Config::tiny_rotary() });
    let found = run(&normed, "pairs = [['0.0', '1.0']]").unwrap();
    assert!(found.notes.iter().any(|note| note.contains("not bilinear")));
    assert!(table(&found, "virtual").texts("kind").unwrap().iter().all(|kind| kind == "v"));
    let words = |config: Config| run(&lab(config), "draws = 2").unwrap().notes.join("\n");
    assert!(
        words(Config::tiny_rotary()).contains("distance 0")
            && words(Config::tiny_rotary()).contains("groups of 2")
    );
    assert!(words(Config::tiny()).contains("LayerNorm") && !words(Config::tiny()).contains("distance 0"));
}
