//! Families of tests: the difference is corrected within those in which runs correct their own tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use glassbox::compare::{compare, family, family_in_words};
use glassbox::output::{Finished, read_table};
use glassbox::row::Rows;

fn reports() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reports")
}

/// Benjamini and Hochberg, from the definition: of each test, the least of p·m/rank over all p that are no smaller.
fn naive(p: &[f64]) -> Vec<f64> {
    let m = p.len() as f64;
    let rank = |x: f64| p.iter().filter(|y| **y <= x).count() as f64;
    let at = |x: f64| x * m / rank(x);
    p.iter().map(|&x| p.iter().filter(|y| **y >= x).map(|&y| at(y)).fold(1.0, f64::min)).collect()
}

/// Whether the table's q are those of its p within these families.
fn check(rows: &Rows, families: &[&str], what: &str) {
    let keys: Vec<Vec<String>> = families.iter().map(|name| rows.texts(name).unwrap()).collect();
    let (p, q) = (rows.numbers("p").unwrap(), rows.numbers("q").unwrap());
    let mut members: BTreeMap<Vec<&str>, Vec<usize>> = BTreeMap::new();
    for i in 0..rows.len() {
        let key = keys.iter().map(|cells| cells[i].as_str()).collect();
        assert_eq!(p[i].is_some(), q[i].is_some(), "{what}, row {i}");
        if p[i].is_some() {
            members.entry(key).or_default().push(i);
        }
    }
    for (key, places) in members {
        let own: Vec<f64> = places.iter().map(|&i| p[i].unwrap()).collect();
        for (&i, expected) in places.iter().zip(naive(&own)) {
            let found = q[i].unwrap();
            assert!((found - expected).abs() < 1e-9, "{what} {key:?}, row {i}: q is {found}, not {expected}");
        }
    }
}

/// A new table with p and q comes into the gallery, and fails here unless its family is declared.
#[test]
fn declared_families_give_the_q_of_every_table_of_the_gallery() {
    let mut seen = BTreeSet::new();
    for folder in fs::read_dir(reports()).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(manifest) = fs::read_to_string(folder.join("manifest.json")) else { continue };
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        if manifest.get("runs").is_some() {
            continue; // a comparison holds tables of several runs
        }
        for file in fs::read_dir(folder.join("tables")).unwrap().map(|entry| entry.unwrap().path()) {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            if file.extension().is_none_or(|ending| ending != "parquet") || name.starts_with("examples_") {
                continue;
            }
            let rows = read_table(&file).unwrap();
            // a choice of what was tested (the largest neurons) has no q
            let Ok(q) = rows.numbers("q") else { continue };
            if q.iter().all(Option::is_none) {
                continue;
            }
            let mut families = family(&name).to_vec();
            if !name.starts_with("training") {
                families.extend(["model", "step"].into_iter().filter(|name| rows.column(name).is_ok()));
            }
            check(&rows, &families, &file.display().to_string());
            seen.insert(name);
        }
    }
    for name in [
        "ablate_effect",
        "atp_head",
        "components",
        "edges",
        "knockout",
        "patch_head",
        "path",
        "path_set",
        "repair",
        "repair_later",
        "resid_by_pos",
        "steer",
        "steer_removed",
        "trace",
    ] {
        assert!(seen.contains(name), "no {name} in the gallery: {seen:?}");
    }
}

#[test]
fn differences_are_corrected_within_the_families_of_the_runs() {
    let open = |name: &str| Finished::open(&reports().join(name)).unwrap();
    let compared = compare([open("early"), open("ioi")], [None, None]).unwrap();
    let [_, _, difference] = &compared.tables["ablate_effect"].sides;
    assert!(difference.numbers("q").unwrap().iter().any(Option::is_some));
    check(difference, &["metric", "kind"], "the difference of ablate_effect");
    let [_, _, difference] = &compared.tables["components"].sides;
    assert!(difference.numbers("q").unwrap().iter().any(Option::is_some));
    check(difference, &[], "the difference of components");
    assert_eq!(family_in_words("ablate_effect"), "of each metric and kind");
    assert_eq!(family_in_words("edges"), "of each method");
    assert_eq!(family_in_words("components"), "of the table");
}
