//! `glassbox compare`: numbers against naive computations, symmetries, what is missing, and every refusal.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use glassbox::compare::{Compared, Interval, compare};
use glassbox::output::{Finished, read_table};
use glassbox::row::{Column, Rows};
use glassbox::stats::Bootstrap;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::command::Bench;

mod families;
mod shares;

/// Small runs of the bundled model at two stages of its training, and one on other prompts.
fn runs() -> &'static Bench {
    static RUNS: OnceLock<Bench> = OnceLock::new();
    RUNS.get_or_init(|| {
        let bench = Bench::new();
        let report = |model: &str, n: &str, seed: &str, out: &str| {
            let all = [
                "report", "--model", model, "--task", "ioi", "--n", n, "--seed", seed, "--quiet", "--out",
                out,
            ];
            bench.ok(&all);
        };
        report("textbook@step500", "16", "0", "early");
        report("textbook", "16", "0", "late");
        report("textbook", "6", "1", "other");
        bench
    })
}

fn open(name: &str) -> Finished {
    Finished::open(&runs().path(name)).unwrap()
}

fn compared(a: &str, b: &str) -> Compared {
    compare([open(a), open(b)], [None, None]).unwrap()
}

/// Cells of a table by the text of these columns.
fn cells(rows: &Rows, keys: &[&str], value: &str) -> BTreeMap<String, f64> {
    let columns: Vec<Vec<String>> = keys.iter().map(|key| rows.texts(key).unwrap()).collect();
    let key = |i: usize| columns.iter().map(|column| column[i].clone()).collect::<Vec<_>>().join(" ");
    let values = rows.numbers(value).unwrap();
    (0..rows.len()).filter_map(|i| Some((key(i), values[i]?))).collect()
}

/// The q-quantile of a sorted list, with linear interpolation.
fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = q * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// Example → value of each cell, and the examples in order.
fn each(run: &str, table: &str, keys: &[&str], value: &str) -> (Vec<String>, BTreeMap<String, Vec<f64>>) {
    let rows = read_table(&runs().path(run).join(format!("tables/{table}.parquet"))).unwrap();
    let id = if rows.column("example").is_ok() { "example" } else { "sequence" };
    let ids = rows.texts(id).unwrap();
    let mut order: Vec<String> = Vec::new();
    ids.iter().for_each(|id| {
        if !order.contains(id) {
            order.push(id.clone());
        }
    });
    let whole = cells(&rows, &[&[id], keys].concat(), value);
    let names: Vec<String> = {
        let one = rows.only(id, &order[0]).unwrap();
        cells(&one, keys, value).into_keys().collect()
    };
    let of = |name: &String| order.iter().map(|id| whole[&format!("{id} {name}")]).collect();
    (order.clone(), names.iter().map(|name| (name.clone(), of(name))).collect())
}

/// Gaps by the mean gap, of a run measured by the logit difference: those that it keeps, which are those of its predictions but for
/// how prompts were batched.
fn gaps(run: &str) -> Vec<f64> {
    let rows = read_table(&runs().path(run).join("tables/prediction.parquet")).unwrap();
    let (clean, corrupt) = (rows.numbers("logit_diff").unwrap(), rows.numbers("logit_diff_corrupt").unwrap());
    let kept = read_table(&runs().path(run).join("tables/examples_gap_patch.parquet")).unwrap();
    assert_eq!(kept.texts("example").unwrap(), rows.texts("example").unwrap());
    let gaps: Vec<f64> = kept.numbers("gap").unwrap().into_iter().flatten().collect();
    for ((clean, corrupt), gap) in clean.iter().zip(corrupt).zip(&gaps) {
        assert!((clean.unwrap() - corrupt.unwrap() - gap).abs() < 1e-4, "{clean:?} {corrupt:?} {gap}");
    }
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    gaps.iter().map(|gap| gap / mean).collect()
}

fn units(run: &str) -> Vec<usize> {
    let prompts =
        read_table(&runs().path(run).join("tables/prediction.parquet")).unwrap().texts("prompt").unwrap();
    prompts.iter().map(|prompt| prompts.iter().position(|known| known == prompt).unwrap()).collect()
}

/// The ratio of sums in a resample, spelled out.
fn ratio(values: &[f64], weights: &[f64], draw: &[u32]) -> f64 {
    let sum = |list: &[f64]| draw.iter().map(|&i| list[i as usize]).sum::<f64>();
    sum(values) / sum(weights)
}

/// p of every difference as the share of sign choices that lie as far from 0, within what 10,000 choices can tell; q from all p.
fn naive_tests(
    difference: &Rows,
    found: &BTreeMap<String, f64>,
    keys: &[&str],
    changes: impl Fn(&str) -> (Vec<f64>, Vec<usize>),
) {
    let (p, q) = (cells(difference, keys, "p"), cells(difference, keys, "q"));
    assert!(!p.is_empty() && p.keys().eq(q.keys()) && p.keys().all(|name| found.contains_key(name)));
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    for name in p.keys() {
        let (changes, units) = changes(name);
        let mut sums: BTreeMap<usize, f64> = BTreeMap::new();
        for (change, unit) in changes.iter().zip(units) {
            *sums.entry(unit).or_default() += if change.abs() <= 1e-5 { 0.0 } else { *change };
        }
        let seen = sums.values().sum::<f64>().abs() * (1.0 - 1e-9);
        let far = |rng: &mut ChaCha8Rng| {
            sums.values().map(|x| if rng.random_bool(0.5) { *x } else { -x }).sum::<f64>().abs() >= seen
        };
        let naive = (0..10_000).filter(|_| far(&mut rng)).count() as f64 / 1e4;
        // five standard errors of both
        let within = 5.0 * (2.0 * naive.max(1e-3) * (1.0 - naive).max(1e-3) / 1e4).sqrt() + 2e-4;
        assert!((p[name] - naive).abs() <= within, "{} {name}: {} {naive}", difference.name, p[name]);
    }
    // Benjamini and Hochberg: the least of p·m/rank over all that are no smaller
    let mut order: Vec<(f64, f64)> = p.iter().map(|(name, p)| (*p, q[name])).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (m, mut least) = (order.len() as f64, 1.0f64);
    for (i, (p, q)) in order.iter().enumerate() {
        least = least.min(p * m / (m - i as f64));
        assert!((q - least).abs() < 1e-12, "{}: {q} {least}", difference.name);
    }
}

#[test]
fn differences_are_those_of_means_and_paired_intervals_those_of_a_naive_bootstrap() {
    let compared = compared("early", "late");
    assert!(compared.same_examples);
    /// A table, that of its examples, its keys, its value and the interval's ends.
    type Of<'a> = (&'a str, &'a str, &'a [&'a str], &'a str, [&'a str; 2]);
    let tables: [Of; 6] = [
        ("components", "examples_components", &["component"], "total", ["total_ci_lo", "total_ci_hi"]),
        ("components", "examples_components", &["component"], "direct", ["direct_ci_lo", "direct_ci_hi"]),
        ("attribution_head", "examples_attribution", &["layer", "head"], "direct", ["ci_lo", "ci_hi"]),
        (
            "patch_head",
            "examples_patch_head",
            &["site", "direction", "layer", "head"],
            "effect",
            ["ci_lo", "ci_hi"],
        ),
        (
            "resid_by_pos",
            "examples_resid_by_pos",
            &["site", "direction", "layer", "pos"],
            "effect",
            ["ci_lo", "ci_hi"],
        ),
        (
            "head_scores",
            "examples_head_scores",
            &["layer", "head"],
            "induction",
            ["induction_ci_lo", "induction_ci_hi"],
        ),
    ];
    for (table, examples, keys, value, [lo, hi]) in tables {
        let joined = &compared.tables[table];
        let [a, b, difference] = &joined.sides;
        let is_share = value == "effect";
        let ((ids, of_a), (ids_b, of_b)) =
            (each("early", examples, keys, value), each("late", examples, keys, value));
        assert_eq!(ids, ids_b);
        assert_eq!(joined.interval, Interval::Paired(ids.len()), "{table}");
        let (own, other) = (cells(a, keys, value), cells(b, keys, value));
        let (found, lows, highs) =
            (cells(difference, keys, value), cells(difference, keys, lo), cells(difference, keys, hi));
        assert_eq!(found.len(), own.len(), "{table}");
        let sequences = table == "head_scores";
        let unit: Vec<usize> = if sequences { (0..ids.len()).collect() } else { units("early") };
        let ones = vec![1.0; ids.len()];
        let (weights_a, weights_b) =
            if is_share { (gaps("early"), gaps("late")) } else { (ones.clone(), ones) };
        let bootstrap = Bootstrap::grouped(&unit, 0);
        let draws = bootstrap.resamples(Bootstrap::DRAWS);
        let (run_lo, run_hi) = (cells(a, keys, lo), cells(a, keys, hi));
        if !sequences && table != "attribution_head" && value != "direct" {
            naive_tests(difference, &found, keys, |name| {
                let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
                // of a share, how far each prompt is from the share that both runs would have if they had one
                let one = is_share.then(|| {
                    (mean(&of_a[name]) / mean(&weights_a) + mean(&of_b[name]) / mean(&weights_b)) / 2.0
                });
                let part = |values: &[f64], weights: &[f64], i: usize| {
                    (values[i] - one.unwrap_or(0.0) * weights[i]) / mean(weights)
                };
                let change = |i| part(&of_b[name], &weights_b, i) - part(&of_a[name], &weights_a, i);
                let changes: Vec<f64> = (0..ids.len()).map(change).collect();
                (changes, unit.clone())
            });
        }
        for (name, change) in &found {
            assert_eq!(*change, other[name] - own[name], "{table} {name}");
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let means = mean(&of_b[name]) - mean(&of_a[name]);
            assert!(
                (change - means).abs() < 1e-9 * change.abs().max(1.0),
                "{table} {name}: {change} {means}"
            );
            let resampled: Vec<f64> = draws
                .iter()
                .map(|draw| ratio(&of_b[name], &weights_b, draw) - ratio(&of_a[name], &weights_a, draw))
                .collect();
            for (end, q) in [(&lows, 0.025), (&highs, 0.975)] {
                let naive = quantile(&resampled, q);
                let size = change.abs().max(1.0);
                assert!((end[name] - naive).abs() < 1e-9 * size, "{table} {name}: {} {naive}", end[name]);
            }
            // the same reading of the examples gives the run's own interval back
            let alone: Vec<f64> = draws.iter().map(|draw| ratio(&of_a[name], &weights_a, draw)).collect();
            for (end, q) in [(&run_lo, 0.025), (&run_hi, 0.975)] {
                let naive = quantile(&alone, q);
                assert!(
                    (end[name] - naive).abs() < 1e-5 * naive.abs().max(1.0),
                    "{table} {name}: {} {naive}",
                    end[name]
                );
            }
        }
    }
    // behaviour is made from the table of prompts
    let [_, _, difference] = &compared.tables["behaviour"].sides;
    let accuracy = cells(difference, &["metric"], "value")["accuracy"];
    let (lo, hi) = (
        cells(difference, &["metric"], "ci_lo")["accuracy"],
        cells(difference, &["metric"], "ci_hi")["accuracy"],
    );
    assert!(lo <= accuracy && accuracy <= hi);
}

/// Positions of IOI prompts have names, and lie elsewhere in each.
#[test]
fn differences_of_the_lens_have_intervals_where_positions_have_names() {
    let compared = compared("early", "late");
    let joined = &compared.tables["lens"];
    assert_eq!(joined.interval, Interval::Paired(16));
    let [_, _, difference] = &joined.sides;
    assert!(difference.texts("pos").unwrap().contains(&"IO".to_owned()));
    let [found, lows, highs] =
        ["prob", "prob_ci_lo", "prob_ci_hi"].map(|name| cells(difference, &["site", "layer", "pos"], name));
    let [(_, of_a), (_, of_b)] =
        ["early", "late"].map(|run| each(run, "examples_lens", &["site", "layer", "place"], "prob"));
    assert!(found.len() > 12 && lows.len() == found.len() && found.keys().eq(of_a.keys()));
    let (bootstrap, ones) = (Bootstrap::grouped(&units("early"), 0), vec![1.0; 16]);
    let draws = bootstrap.resamples(Bootstrap::DRAWS);
    for name in found.keys() {
        let change = |draw: &&[u32]| ratio(&of_b[name], &ones, draw) - ratio(&of_a[name], &ones, draw);
        let resampled: Vec<f64> = draws.iter().map(change).collect();
        for (end, q) in [(&lows, 0.025), (&highs, 0.975)] {
            let naive = quantile(&resampled, q);
            assert!((end[name] - naive).abs() < 1e-9, "{name}: {} {naive}", end[name]);
        }
    }
}

#[test]
fn other_prompts_are_resampled_apart() {
    let compared = compared("early", "other");
    assert!(!compared.same_examples);
    let joined = &compared.tables["components"];
    assert_eq!(joined.interval, Interval::Apart([16, 6]));
    let [_, _, difference] = &joined.sides;
    assert!(difference.numbers("n").unwrap().iter().all(Option::is_none));
    let (_, of_a) = each("early", "examples_components", &["component"], "total");
    let (_, of_b) = each("other", "examples_components", &["component"], "total");
    let change = cells(difference, &["component"], "total");
    let (lows, highs) =
        (cells(difference, &["component"], "total_ci_lo"), cells(difference, &["component"], "total_ci_hi"));
    let spread = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (values.len() * values.len()) as f64
    };
    // the interval of a difference of independent means, to what a percentile bootstrap of a few prompts differs from theory
    for (name, change) in &change {
        let half = 1.96 * (spread(&of_a[name]) + spread(&of_b[name])).sqrt();
        let found = (highs[name] - lows[name]) / 2.0;
        assert!((found - half).abs() <= 0.35 * half + 1e-9, "{name}: {found} {half}");
        assert!(lows[name] <= change + 1e-9 && *change <= highs[name] + 1e-9, "{name}");
    }
}

#[test]
fn exchanging_the_runs_changes_every_sign_and_a_run_is_itself() {
    for (a, b) in [("early", "late"), ("early", "other")] {
        let (one, two) = (compared(a, b), compared(b, a));
        assert_eq!(one.tables.len(), two.tables.len());
        for (name, joined) in &one.tables {
            let [_, _, there] = &joined.sides;
            let [_, _, back] = &two.tables[name].sides;
            let names = |rows: &Rows| -> Vec<String> {
                let columns: Vec<Vec<String>> =
                    joined.keys.iter().map(|key| rows.texts(key).unwrap()).collect();
                (0..rows.len())
                    .map(|i| columns.iter().map(|c| c[i].clone()).collect::<Vec<_>>().join("|"))
                    .collect()
            };
            let (own, other) = (names(there), names(back));
            let place = |i: usize| other.iter().position(|name| *name == own[i]).unwrap();
            assert_eq!(own.len(), other.len(), "{name}");
            let order: Vec<usize> = (0..own.len()).map(place).collect();
            let back = back.take(&order);
            for (column, _, cells) in &there.columns {
                if let (Column::Num(cells), false) = (cells, joined.keys.contains(column)) {
                    let mirror = match (column.strip_suffix("lo"), column.strip_suffix("hi")) {
                        (Some(stem), _) => format!("{stem}hi"),
                        (_, Some(stem)) => format!("{stem}lo"),
                        _ => column.clone(),
                    };
                    let mirrored = back.numbers(&mirror).unwrap();
                    // how sure a change is, is no matter of its sign
                    let turned = |x: f64| if matches!(column.as_str(), "p" | "q") { x } else { 0.0 - x };
                    for (x, y) in cells.iter().zip(&mirrored) {
                        assert_eq!(x.map(turned), *y, "{name}.{column}");
                    }
                }
            }
        }
    }
    let same = compared("late", "late");
    assert!(same.warnings.iter().any(|warning| warning.contains("same run")));
    for (name, joined) in &same.tables {
        let [own, _, difference] = &joined.sides;
        assert_eq!(own.len(), difference.len(), "{name}");
        for (column, _, cells) in &difference.columns {
            if let (Column::Num(cells), false) = (cells, joined.keys.contains(column)) {
                let none = if matches!(column.as_str(), "p" | "q") { 1.0 } else { 0.0 };
                assert!(cells.iter().flatten().all(|x| *x == none || x.is_nan()), "{name}.{column}");
            }
        }
        if ["components", "patch_head", "attribution"].contains(&name.as_str()) {
            let bound = if name == "components" { "total_ci_lo" } else { "ci_lo" };
            assert!(difference.numbers(bound).unwrap().iter().all(|x| *x == Some(0.0)), "{name}");
        }
    }
}

/// Makes a comparison in the shared folder.
fn made(out: &str, more: &[&str]) -> PathBuf {
    static ONE: Mutex<()> = Mutex::new(());
    let _held = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = runs();
    if !bench.path(out).exists() {
        bench.ok(&[&["compare", "--quiet", "--out", out], more].concat());
    }
    bench.path(out)
}

#[test]
fn the_folder_is_whole_and_the_same_twice() {
    let out = made("beside", &["early", "late"]);
    let page = fs::read_to_string(out.join("index.html")).unwrap();
    let markdown = fs::read_to_string(out.join("report.md")).unwrap();
    for heading in
        ["What was compared", "What they do", "Which components changed", "Prompts on which they disagree"]
    {
        assert!(page.contains(heading) && markdown.contains(heading), "{heading}");
    }
    for name in [
        "components_total_beside",
        "components_direct_beside",
        "patch_head_denoise",
        "attribution_head",
        "accumulated",
    ] {
        for ending in ["svg", "png"] {
            assert!(out.join(format!("figures/{name}.{ending}")).is_file(), "{name}.{ending}");
        }
        assert!(page.contains(&format!("figure-{name}")), "{name} is on the page");
    }
    let svg = fs::read_to_string(out.join("figures/attribution_head.svg")).unwrap();
    for panel in ["early", "late", "late \u{2212} early"] {
        assert!(svg.contains(&format!(">{panel}<")), "{panel}");
    }
    let long = read_table(&out.join("tables/components.parquet")).unwrap();
    let mut whose = long.texts("run").unwrap();
    whose.dedup();
    assert_eq!(whose, ["early", "late", "late \u{2212} early"]);

    let manifest: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("manifest.json")).unwrap()).unwrap();
    for (run, name) in [("early", 0), ("late", 1)] {
        let bytes = fs::read(runs().path(run).join("manifest.json")).unwrap();
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(manifest["runs"][name]["manifest_sha256"], hash);
        assert_eq!(manifest["runs"][name]["name"], run);
        assert!(page.contains(&hash));
    }
    // the change that is named has its interval, and no place reads "at after layer"
    let said = markdown.split("changed most, by **").nth(1).unwrap();
    let rest = said.split_once("** logits \\[").map(|(number, _)| number.len());
    assert!(rest.is_some_and(|length| length < 12), "{}", said.get(..40).unwrap());
    assert!(markdown.contains("The largest difference is ") && !markdown.contains("at after"));
    assert!(page.contains("glassbox compare early late"));
    made("beside-again", &["early", "late"]);
    assert_eq!(runs().files("beside"), runs().files("beside-again"));
    // other tests write into this folder too
    let again = runs().run(&["compare", "early", "late", "--out", "beside"]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.code() == Some(1) && said.contains("--force"), "{said}");
}

/// The number that a macro of this name stands for, and what its last digit counts.
fn told(macros: &str, name: &str) -> [f64; 2] {
    let start = format!("\\newcommand{{\\gb{name}}}{{");
    let line = macros
        .lines()
        .find_map(|line| line.strip_prefix(&start))
        .unwrap_or_else(|| panic!("{name}:\n{macros}"));
    let text = line.trim_end_matches('}').replace("\\ensuremath{-}", "-");
    let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    [text.parse().unwrap_or_else(|_| panic!("{line}")), 10f64.powi(-(decimals as i32))]
}

#[test]
fn numbers_for_the_text_are_those_of_both_runs_and_their_change() {
    let macros = fs::read_to_string(made("beside", &["early", "late"]).join("figures/macros.tex")).unwrap();
    let [early, late] = ["early", "late"].map(|run| {
        let rows = read_table(&runs().path(run).join("tables/components.parquet")).unwrap();
        cells(&rows, &["component"], "total")
    });
    let mut changes: Vec<(&String, f64)> = early.iter().map(|(name, own)| (name, late[name] - own)).collect();
    changes.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    for (name, change) in changes.into_iter().take(10) {
        let stem = format!("Total{}", glassbox::figure::tex::letters(name));
        for (run, value) in [("Early", early[name]), ("Late", late[name]), ("Change", change)] {
            let [printed, unit] = told(&macros, &format!("{stem}{run}"));
            assert!((printed - value).abs() <= 0.500001 * unit, "{stem}{run}: {printed}, {value}");
        }
    }
    assert!(macros.contains("\\newcommand{\\gbLogitDiffChangeCI}{["), "{macros}");
}

#[test]
fn what_one_run_alone_has_is_missing_and_said() {
    let bench = runs();
    let patch = |direction: &str, metric: &str, out: &str| {
        let direction = format!("direction={direction}");
        let all =
            ["patch", "--task", "ioi", "--n", "8", "--metric", metric, "--quiet", "--out", out, &direction];
        bench.ok(&all);
    };
    patch("noise", "logit-diff", "noise");
    patch("both", "prob", "both");
    let output = bench.run(&["compare", "noise", "both", "--out", "alone"]);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("not meaningful") && said.contains("logit-diff") && said.contains("prob"),
        "{said}"
    );
    assert!(said.contains("direction"), "{said}");
    let out = bench.path("alone");
    let unmatched = read_table(&out.join("tables/unmatched.parquet")).unwrap();
    let heads = unmatched.only("table", "patch_head").unwrap();
    assert!(heads.texts("run").unwrap().iter().all(|run| run == "both"));
    assert!(heads.texts("row").unwrap().iter().all(|row| row.contains("denoise")));
    let own = read_table(&bench.path("noise/tables/patch_head.parquet")).unwrap();
    assert_eq!(heads.len(), own.len());
    let page = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(page.contains("What one run alone has"));
    assert!(page.matches("not meaningful").count() > 1, "said above and under pictures");
}

#[test]
fn names_are_hostile_text() {
    let name = "<script>alert(1)</script>\u{202e}=1";
    let out = made("hostile", &["early", "late", "--name-a", name, "--name-b", "a|b `c`"]);
    let page = fs::read_to_string(out.join("index.html")).unwrap();
    assert!(!page.contains("<script>alert") && !page.contains('\u{202e}'));
    for figure in fs::read_dir(out.join("figures")).unwrap() {
        let path = figure.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "svg") {
            let svg = fs::read_to_string(&path).unwrap();
            assert!(!svg.contains("<script") && !svg.contains('\u{202e}'), "{}", path.display());
        }
    }
    // a run may be called as a column is
    made("column", &["early", "late", "--name-a", "component", "--name-b", "n"]);
}

/// A copy of a run in a folder of its own.
fn copy(bench: &Bench, run: &str, name: &str) -> PathBuf {
    let out = bench.path(name);
    fs::create_dir_all(out.join("tables")).unwrap();
    let from = runs().path(run);
    for file in ["manifest.json", "study.toml"] {
        fs::copy(from.join(file), out.join(file)).unwrap();
    }
    for entry in fs::read_dir(from.join("tables")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, out.join("tables").join(path.file_name().unwrap())).unwrap();
    }
    out
}

#[test]
fn what_cannot_be_compared_is_refused_with_a_way_out() {
    let bench = Bench::new();
    let good = copy(&bench, "early", "good").display().to_string();
    let refused = |other: &Path, words: &str| {
        let said = bench.refused(1, &["compare", &good, &other.display().to_string()]);
        assert!(said.contains(words) && said.contains("hint:"), "{words}: {said}");
    };
    refused(&bench.path("nowhere"), "no such folder");
    refused(&PathBuf::from(bench.file("file", "x")), "it is a file");
    fs::create_dir(bench.path("empty")).unwrap();
    refused(&bench.path("empty"), "no manifest.json");
    fs::create_dir(bench.path("running.partial")).unwrap();
    refused(&bench.path("running"), "not finished");
    refused(&bench.path("running.partial"), "not finished");

    let broken = copy(&bench, "late", "broken");
    fs::write(broken.join("manifest.json"), "{").unwrap();
    refused(&broken, "manifest.json");
    let text = fs::read_to_string(runs().path("late/manifest.json")).unwrap();
    fs::write(broken.join("manifest.json"), text.replace("\"schema_version\": 1", "\"schema_version\": 99"))
        .unwrap();
    refused(&broken, "schema_version is 99");
    fs::write(broken.join("manifest.json"), &text).unwrap();
    let table = broken.join("tables/components.parquet");
    let bytes = fs::read(&table).unwrap();
    fs::write(&table, &bytes[..bytes.len() / 2]).unwrap();
    refused(&broken, "components");
    fs::remove_file(&table).unwrap();
    refused(&broken, "components");

    refused(&made("beside", &["early", "late"]), "a comparison itself");
    let heads = bench.path("heads");
    bench.ok(&["weights", "--quiet", "--out", "heads"]);
    let lonely = bench.path("lonely");
    bench.ok(&["predict", "--task", "ioi", "--n", "2", "--quiet", "--out", "lonely"]);
    let said = bench.refused(1, &["compare", &heads.display().to_string(), &lonely.display().to_string()]);
    assert!(said.contains("share no table"), "{said}");
    let said = bench.refused(2, &["compare", &good, &good, "--name-a", "x", "--name-b", "x"]);
    assert!(said.contains("--name-a"), "{said}");
}

#[test]
fn a_circuit_forming_is_every_stage_on_one_scale_and_is_compared_by_its_last() {
    let bench = runs();
    let study = "model = \"textbook\"\ncheckpoints = [100, 500]\n[task]\ngenerate = \"ioi\"\nn = 4\n[[analysis]]\nname = \"predict\"\n\
                 [[analysis]]\nname = \"heads\"\nsequences = 2\n[[analysis]]\nname = \"components\"\n[[analysis]]\nname = \"edges\"\n";
    let file = bench.file("forming.toml", study);
    bench.ok(&["run", &file, "--quiet", "--out", "forming"]);
    let table = |name: &str| read_table(&bench.path(&format!("forming/tables/{name}.parquet"))).unwrap();
    let heads = table("training_heads").only("quantity", "total effect").unwrap();
    let found = cells(&heads, &["step", "layer", "head"], "value");
    let components = cells(&table("components"), &["step", "component"], "total");
    assert_eq!(found.len(), 3 * 12, "every head at every stage");
    for (name, value) in &found {
        let parts: Vec<&str> = name.split(' ').collect();
        assert_eq!(components[&format!("{} a{}.h{}", parts[0], parts[1], parts[2])], *value);
    }
    // the strongest edges of the finished model; a stage without a gap has none
    let (followed, edges) = (table("training_edges"), table("edges"));
    let lost = cells(&edges, &["step", "edge"], "lost");
    let mut sizes: Vec<f64> =
        cells(&edges.only("step", "2000").unwrap(), &["edge"], "lost").into_values().collect();
    sizes.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
    let last = cells(&followed.only("step", "2000").unwrap(), &["edge"], "lost");
    assert_eq!(last.len(), 8);
    assert!(last.values().all(|value| value.abs() >= sizes[7].abs()));
    cells(&followed, &["step", "edge"], "lost")
        .iter()
        .for_each(|(name, value)| assert_eq!(lost[name], *value));
    for name in ["forming_total", "forming_edges"] {
        assert!(bench.path(&format!("forming/figures/{name}.svg")).is_file(), "{name}");
    }

    let run = || Finished::open(&bench.path("forming")).unwrap();
    let same = compare([run(), run()], [Some("x".into()), Some("y".into())]).unwrap();
    let [own, _, difference] = &same.tables["components"].sides;
    assert!(own.column("step").is_err());
    assert_eq!(own.len(), table("components").only("step", "2000").unwrap().len());
    assert!(difference.numbers("total").unwrap().iter().all(|x| *x == Some(0.0)));
    assert!(same.tables["training_heads"].sides[0].column("step").is_ok());
    bench.ok(&["compare", "forming", "forming", "--name-b", "again", "--quiet", "--out", "forming-twice"]);
}
