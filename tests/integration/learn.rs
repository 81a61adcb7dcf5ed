//! Probes' numbers against scikit-learn's (`tests/fixtures/probes.json`).

use glassbox::learn::{
    Logistic, Matrix, Method, Penalty, Ranking, Ridge, Set, Spread, balanced_accuracy, best, cross_validate,
    dot, grouped, mass_mean, softmax,
};
use serde_json::Value;

struct Case {
    x: Matrix,
    y: Vec<usize>,
    classes: usize,
    values: Value,
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

fn cases() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/probes.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let case = |values: &Value| {
        let rows: Vec<Vec<f64>> = values["x"].as_array().unwrap().iter().map(numbers).collect();
        let y = numbers(&values["y"]).into_iter().map(|y| y as usize).collect();
        let classes = values["classes"].as_u64().unwrap() as usize;
        Case { x: Matrix::of(&rows), y, classes, values: values.clone() }
    };
    let cases: Vec<Case> = all["cases"].as_array().unwrap().iter().map(case).collect();
    assert_eq!(cases.iter().map(|case| case.classes).collect::<Vec<_>>(), [2, 2, 3, 5]);
    cases
}

fn far(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |most, (a, b)| f64::max(most, (a - b).abs()))
}

#[test]
fn logistic_optima_are_scikit_learns() {
    for case in cases() {
        for fit in case.values["logistic"].as_array().unwrap() {
            let c = fit["c"].as_f64().unwrap();
            let problem = Logistic::new(&case.x, &case.y, case.classes);
            let found = problem.fit(c, &[], 1e-9, 10_000);
            assert!(found.converged, "{c}: {found:?}");
            let (ours, theirs) = (problem.objective(c, &found.x), fit["objective"].as_f64().unwrap());
            assert!((ours - theirs).abs() < 1e-6, "{c}: {ours} {theirs}");
            let coefficients = numbers(&fit["coefficients"]);
            let (w, b) = found.x.split_at(coefficients.len());
            assert!(far(w, &coefficients) < 1e-5, "{c}: {w:?} {coefficients:?}");
            assert!(far(b, &numbers(&fit["intercepts"])) < 1e-5, "{c}: {b:?}");

            let mut p = problem.linear(&found.x).scores(&case.x);
            p.data.chunks_exact_mut(case.classes).for_each(softmax);
            assert!(far(&p.data[..8 * case.classes], &numbers(&fit["probabilities"])) < 1e-6);
            let n = case.y.len();
            let area = Ranking::new(&p, &case.y, &vec![0; n]).auroc(&vec![1.0; n]);
            assert!((area - fit["auroc"].as_f64().unwrap()).abs() < 1e-9, "{area}");
            let predicted: Vec<usize> = (0..n).map(|i| best(p.row(i))).collect();
            let balanced = balanced_accuracy(&case.y, &predicted, case.classes, &vec![1.0; n]);
            assert!((balanced - fit["balanced_accuracy"].as_f64().unwrap()).abs() < 1e-12);
        }
    }
}

#[test]
fn ridge_and_discriminant_coefficients_are_scikit_learns() {
    for case in cases() {
        let problem = Ridge::new(&case.x, &case.y, case.classes);
        for fit in case.values["ridge"].as_array().unwrap() {
            let linear = problem.fit(fit["alpha"].as_f64().unwrap()).unwrap();
            assert!(far(&linear.weights.data, &numbers(&fit["coefficients"])) < 1e-9);
            assert!(far(&linear.bias, &numbers(&fit["intercepts"])) < 1e-9);
        }
        let lda = &case.values["lda"];
        let spread = Spread::Within(lda["shrinkage"].as_f64().unwrap());
        let linear = mass_mean(&case.x, &case.y, case.classes, spread).unwrap();
        let (coefficients, intercepts) = (numbers(&lda["coefficients"]), numbers(&lda["intercepts"]));
        // scores are the same for all x when their differences from the first class are; scikit-learn has one row for two classes
        let width = case.x.cols;
        let theirs = |k: usize| match case.classes {
            2 => coefficients.clone(),
            _ => (0..width).map(|j| coefficients[k * width + j] - coefficients[j]).collect(),
        };
        for k in 1..case.classes {
            let ours: Vec<f64> =
                (0..width).map(|j| linear.weights.row(k)[j] - linear.weights.row(0)[j]).collect();
            assert!(far(&ours, &theirs(k)) < 1e-8, "{ours:?} {:?}", theirs(k));
            let bias = if case.classes == 2 { intercepts[0] } else { intercepts[k] - intercepts[0] };
            assert!((linear.bias[k] - linear.bias[0] - bias).abs() < 1e-8);
        }
    }
}

/// A feature that names the group, and one that weakly names the class.
fn leaky() -> (Matrix, Vec<usize>, Vec<usize>) {
    let groups: Vec<usize> = (0..120).map(|i| i / 4).collect();
    let y: Vec<usize> = groups.iter().map(|g| g * 7 % 3 % 2).collect();
    let row = |i: usize| {
        let mut row: Vec<f64> = (0..30).map(|g| f64::from(u8::from(groups[i] == g))).collect();
        row.push(((i * 37 % 19) as f64 - 9.0) / 9.0 + 0.4 * y[i] as f64);
        row
    };
    (Matrix::of(&(0..120).map(row).collect::<Vec<_>>()), y, groups)
}

#[test]
fn what_names_the_group_is_no_help_when_groups_are_held_out() {
    let (x, y, groups) = leaky();
    let each: Vec<usize> = (0..120).collect();
    let accuracy = |groups: &[usize]| {
        let set = Set::new(&x, y.clone(), 2, groups).unwrap();
        let folds = grouped(&set.y, 2, groups, 5, 0).unwrap();
        cross_validate(&set, Method::Logistic, &folds, Penalty::Inside(3), 0).unwrap().accuracy(&y)
    };
    assert!(accuracy(&each) > 0.95, "examples of a group are parted: the group gives the class away");
    assert!(accuracy(&groups) < 0.8, "groups are held out whole");
}

#[test]
fn the_subspace_of_a_probe_is_all_that_it_reads() {
    let case = cases().pop().unwrap();
    let groups: Vec<usize> = (0..case.y.len()).collect();
    let set = Set::new(&case.x, case.y.clone(), case.classes, &groups).unwrap();
    let folds = grouped(&set.y, set.classes, &groups, 4, 0).unwrap();
    for method in Method::ALL {
        let held = cross_validate(&set, method, &folds, Penalty::Inside(3), 0).unwrap();
        for fit in held.fits {
            let read = fit.linear.subspace();
            assert!((1..set.classes).contains(&read.rows), "{method:?}: rank {}", read.rows);
            let mut without = case.x.clone();
            for i in 0..without.rows {
                let x = case.x.row(i).to_vec();
                for k in 0..read.rows {
                    let along = dot(&x, read.row(k));
                    without.row_mut(i).iter_mut().zip(read.row(k)).for_each(|(v, r)| *v -= along * r);
                }
            }
            let scores = fit.linear.scores(&without);
            let differences =
                |i: usize| scores.row(i).iter().map(|s| s - scores.row(i)[0]).collect::<Vec<_>>();
            for i in 1..without.rows {
                assert!(far(&differences(i), &differences(0)) < 1e-8, "{method:?}");
            }
        }
    }
}
