//! Pictures of circuits say the numbers that the tables say, and refuse what is no circuit.

use std::path::Path;

use glassbox::figure::{self, View};
use glassbox::graph::compare::{auroc, roc};
use glassbox::output::read_table;
use glassbox::row::{Column, Rows};

use super::samples::samples;

/// A table of the gallery's study of circuits.
fn table(name: &str) -> Rows {
    let file = format!("reports/circuits/tables/{name}.csv");
    read_table(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

fn drawn(rows: &Rows, view: &str) -> String {
    figure::draw(rows, &toml::from_str::<View>(view).unwrap()).unwrap().to_svg()
}

/// A number of a table, by the text of another column.
fn number(rows: &Rows, by: &str, name: &str, value: &str) -> f64 {
    rows.only(by, name).unwrap().numbers(value).unwrap()[0].unwrap()
}

#[test]
fn areas_in_the_legend_are_those_of_the_summary() {
    let summary = table("circuit_summary");
    let view = "kind='faithfulness'\nx='edges'\nvalue='faithfulness'\nlo='ci_lo'\nhi='ci_hi'\ngroup='order'\nfraction='fraction'\nspan='full'";
    let svg = drawn(&table("circuit_sizes"), view);
    let legend = |order: &str| {
        let start = svg.find(&format!("{order}: CPR")).unwrap();
        svg[start..].split('<').next().unwrap().to_owned()
    };
    for (order, area, measure) in
        [("signed", "CPR", "CPR"), ("absolute", "CMD", "CMD"), ("random", "CMD", "CMD of random circuits")]
    {
        let told = format!("{area} {:.3}", number(&summary, "measure", measure, "value"));
        assert!(legend(order).contains(&told), "{} says not {told}", legend(order));
    }
    // without the fractions that the areas are defined over, none is given
    assert!(!drawn(&table("circuit_sizes"), &view.replace("fraction='fraction'", "")).contains("CPR"));
}

#[test]
fn areas_under_roc_curves_are_those_of_the_tables() {
    let view = "kind='roc'\nx='false_positives'\ny='true_positives'\ngroup='method'";
    let svg = drawn(&table("circuit_roc"), view);
    let known = number(&table("edges_truth"), "method", "eap-ig-inputs", "auroc");
    assert_eq!(known, number(&table("circuit_summary"), "measure", "AUROC", "value"));
    assert!(svg.contains(&format!("eap-ig-inputs: AUC {known:.3}")));
    // many ties, where steps and slants would differ
    for seed in 0..6usize {
        let scores: Vec<f64> = (0..90).map(|i| ((i * 37 + seed * 11) % (4 + seed)) as f64).collect();
        let positive: Vec<bool> = (0..90).map(|i| (i * (seed + 3)) % 7 < 2).collect();
        let (curve, area) = (roc(&scores, &positive).unwrap(), auroc(&scores, &positive).unwrap());
        let cells = |part: fn(&(f64, f64)) -> f64| Column::Num(curve.points.iter().map(|p| Some(part(p))).collect());
        let columns = [("false_positives", cells(|p| p.0)), ("true_positives", cells(|p| p.1))];
        let columns = columns.map(|(name, column)| (name.to_owned(), String::new(), column)).to_vec();
        let rows = Rows { name: "curve".into(), columns };
        let svg = drawn(&rows, &view.replace("\ngroup='method'", ""));
        assert!(svg.contains(&format!("AUC {area:.3}")), "seed {seed}: {area}");
    }
}

#[test]
fn a_circuit_shows_every_edge_part_and_role() {
    let circuit = table("circuit");
    let svg = drawn(&circuit, "kind='circuit'\nx='from'\ny='to'\nvalue='effect'\ngroup='channel'");
    for edge in circuit.texts("edge").unwrap() {
        assert!(svg.contains(&format!("data-edge=\"{}\"", edge.replace('<', "&lt;").replace('>', "&gt;"))), "{edge}");
    }
    let at = |part: &str| -> f64 {
        let label = svg.find(&format!(">{part}</text>")).unwrap();
        let tag = &svg[svg[..label].rfind("<text").unwrap()..label];
        tag.split("y=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
    };
    let ranks = ["logits", "a2.h0", "a1.h1", "m0", "a0.h1", "input"].map(at);
    assert!(ranks.is_sorted(), "the logits above, the input below: {ranks:?}");
    let (_, rows, view) = samples().into_iter().find(|sample| sample.0 == "circuit").unwrap();
    let svg = figure::draw(&rows, &view).unwrap().to_svg();
    assert!(["name mover", "S-inhibition", "duplicate token"].iter().all(|role| svg.contains(role)));
}

#[test]
fn what_is_no_circuit_is_refused() {
    let edges = |pairs: &[[&str; 2]]| {
        let column = |k: usize| Column::Text(pairs.iter().map(|p| Some(p[k].to_owned())).collect());
        let columns = [("from", column(0)), ("to", column(1))];
        Rows { name: "edges".into(), columns: columns.map(|(n, c)| (n.to_owned(), String::new(), c)).to_vec() }
    };
    for (pairs, words) in [
        (&[["a0.h1", "a0.h1<q>"]][..], ["joins a part to itself", "runs later"]),
        (&[["a0.h1", "m0"], ["m0", "a0.h1<v>"]], ["from `m0` to `a0.h1` does not run forward", "no cycles"]),
        (&[["a1.h0", "a1.h1<k>"]], ["does not run forward", "who writes"]),
        (&[["logits", "m0"]], ["does not run forward", "`x`"]),
        (&[["input", "resid_post"]], ["`resid_post` names no part", "a9.h6"]),
        (&[["", ""]], ["names no part", "`input`"]),
        (&[["input", "m0"], ["input", "m0"]], ["two rows hold the edge", "`only`"]),
        (&[["input", "a0.h1<z>"]], ["no channel", "`q`, `k` or `v`"]),
    ] {
        let view: View = toml::from_str("kind='circuit'\nx='from'\ny='to'").unwrap();
        let told = figure::draw(&edges(pairs), &view).unwrap_err().to_string();
        assert!(words.iter().all(|word| told.contains(word)), "{pairs:?}: {told}");
    }
}
