//! The gallery: every study under `probes/` with its report under `reports/`, run again and compared.
//!
//! Tables must agree to 1e-4 (of the larger of 1 and the value); pictures and page, drawn again from the committed
//! tables, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use glassbox::compare::compare;
use glassbox::figure::View;
use glassbox::output::{Finished, Folder, Place, read_table};
use glassbox::report;
use glassbox::row::{Column, Rows};
use glassbox::study::{Outcome, Study};

/// One test per study, so that they run side by side, and one that none is missing.
macro_rules! studies {
    ($($name:ident),*) => {
        $(#[test] fn $name() { rerun(stringify!($name)); })*

        #[test]
        fn every_study_is_in_the_gallery() {
            let stems = |folder: &str| -> Vec<String> {
                let entries = fs::read_dir(root().join(folder)).unwrap();
                let mut stems: Vec<String> = entries
                    .map(|entry| entry.unwrap().path())
                    .filter(|path| path.is_dir() || path.extension().is_some_and(|e| e == "toml"))
                    .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
                    .collect();
                stems.sort();
                stems
            };
            let mut tested = vec![$(stringify!($name)),*];
            tested.sort_unstable();
            assert_eq!(stems("probes"), tested);
            let of_two = |stem: &String| COMPARED.iter().any(|(name, ..)| name == stem);
            let (beside, reports): (Vec<String>, Vec<String>) = stems("reports").into_iter().partition(of_two);
            assert_eq!(reports, tested);
            assert_eq!(beside.len(), COMPARED.len());
        }
    };
}

studies!(
    acdc,
    attribution_patching,
    circuits,
    early,
    facts,
    forming,
    greater_than,
    induction,
    ioi,
    knockout,
    linear_probes,
    patching,
    path_patching,
    self_repair,
    steering,
    tracing,
    training,
    weights
);

/// Comparisons: the folder, both runs and what they are called.
const COMPARED: [(&str, [&str; 2], [&str; 2]); 1] =
    [("early_late", ["early", "ioi"], ["step 500", "step 2000"])];

/// A comparison is made of committed tables alone: all of it comes back byte for byte.
#[test]
fn comparisons() {
    for (name, runs, names) in COMPARED {
        // paths as the page gives them, from the root
        let [a, b] = runs.map(|run| format!("reports/{run}"));
        let [name_a, name_b] = names;
        let command = format!("glassbox compare {a} {b} --name-a '{name_a}' --name-b '{name_b}'");
        let opened = [&a, &b].map(|run| Finished::open(Path::new(run)).unwrap());
        let compared = compare(opened, names.map(|name| Some(name.to_owned()))).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join(name);
        let place = Place { out: Some(&out), verb: "compare", ..Place::default() };
        let mut folder = Folder::create(&place).unwrap();
        report::compare::write(&compared, &command, &mut folder).unwrap();
        let made = folder.finish(&report::compare::manifest(&compared, 1)).unwrap();
        let before = root().join("reports").join(name);
        for file in files(&before).into_iter().filter(|file| !file.ends_with("manifest.json")) {
            let same = fs::read(before.join(&file)).unwrap() == fs::read(made.join(&file)).unwrap();
            assert!(same, "{} differs when it is made again", file.display());
        }
    }
}

/// A comparison has every picture that both of its runs have, whatever their kind: these have all but those of `early_late`.
#[test]
fn comparisons_leave_no_picture_out() {
    for name in ["training", "linear_probes", "circuits", "steering", "tracing"] {
        let run = root().join("reports").join(name);
        let opened = [&run, &run].map(|run| Finished::open(run).unwrap());
        let compared = compare(opened, ["one", "two"].map(|name| Some(name.to_owned()))).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join(name);
        let place = Place { out: Some(&out), verb: "compare", ..Place::default() };
        let mut folder = Folder::create(&place).unwrap();
        report::compare::write(&compared, "glassbox compare", &mut folder).unwrap();
        let made = folder.finish(&report::compare::manifest(&compared, 1)).unwrap();
        let page = fs::read_to_string(made.join("report.md")).unwrap();
        for wrong in ["picture has no", "fall into one place"] {
            assert!(!page.contains(wrong), "{name}: {page}");
        }
    }
}

/// An estimate of an edge is not called what the cut loses: caption, axis and the comments of numbers name the method.
#[test]
fn estimates_of_edges_are_called_so() {
    let mut seen = [0; 2];
    for entry in fs::read_dir(root().join("reports")).unwrap() {
        let figures = entry.unwrap().path().join("figures");
        let (Ok(rows), Ok(macros)) =
            (read_table(&figures.join("edges.csv")), fs::read_to_string(figures.join("macros.tex")))
        else {
            continue;
        };
        let method = rows.texts("method").unwrap().remove(0);
        let caption = fs::read_to_string(figures.join("edges.tex")).unwrap();
        let view: View = toml::from_str(&fs::read_to_string(figures.join("edges.toml")).unwrap()).unwrap();
        let estimated = format!("estimated by {method}");
        let says = |text: &str| text.contains(&estimated);
        let is_estimate = method != "exact";
        assert_eq!(caption.matches(&estimated).count(), usize::from(is_estimate), "{}", figures.display());
        assert!(
            says(&view.value_label) == is_estimate && says(&macros) == is_estimate,
            "{}",
            figures.display()
        );
        seen[usize::from(is_estimate)] += 1;
    }
    assert!(seen.iter().all(|seen| *seen > 0), "the gallery has both: {seen:?}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// The committed tables of a study, by name.
fn committed(study: &str) -> BTreeMap<String, Rows> {
    let folder = root().join("reports").join(study).join("tables");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "parquet"))
        .map(|path| read_table(&path).unwrap())
        .map(|rows| (rows.name.clone(), rows))
        .collect()
}

fn rerun(name: &str) {
    let study = Study::read(&root().join("probes").join(name).with_extension("toml")).unwrap();
    let lab = study.lab().unwrap();
    let task = study.task(&lab).unwrap();
    let outcomes = study.run(&lab, &task).unwrap();
    let mut tables = committed(name);
    for outcome in &outcomes {
        for rows in &outcome.findings.tables {
            let before = tables.get(&rows.name).unwrap_or_else(|| panic!("{name} lacks {}", rows.name));
            agree(before, rows);
        }
    }

    // what was committed, in place of what was just computed
    let again = outcomes.iter().map(|outcome| {
        let mut outcome = outcome.clone();
        for rows in &mut outcome.findings.tables {
            *rows = tables.remove(&rows.name).unwrap();
        }
        outcome
    });
    let mut again: Vec<Outcome> = again.collect();
    // tables that the report made from others; those of a series belong to one of its models and are made again
    if !study.is_series() {
        again[0].findings.tables.extend(tables.into_values());
    }
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join(name);
    let place = Place { out: Some(&out), verb: "run", model: &study.model, ..Place::default() };
    let mut folder = Folder::create(&place).unwrap();
    let run = report::Run { study: &study, lab: &lab, task: &task, outcomes: &again, threads: 1 };
    report::write(&run, &mut folder).unwrap();
    let drawn = folder.finish(&report::manifest(&study, &lab, &task, 1)).unwrap();
    let before = root().join("reports").join(name);
    for file in files(&before) {
        let is_drawn =
            file.starts_with("figures") || file.ends_with("index.html") || file.ends_with("report.md");
        if is_drawn {
            let same = fs::read(before.join(&file)).unwrap() == fs::read(drawn.join(&file)).unwrap();
            assert!(same, "{} differs when it is drawn again", file.display());
        }
    }
}

/// Every file below a folder, relative to it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let name = PathBuf::from(entry.unwrap().file_name());
        match folder.join(&name) {
            path if path.is_dir() => found.extend(files(&path).into_iter().map(|file| name.join(file))),
            _ => found.push(name),
        }
    }
    found
}

fn agree(before: &Rows, now: &Rows) {
    let names = |rows: &Rows| rows.columns.iter().map(|(name, _, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(before), names(now), "{}", now.name);
    assert_eq!(before.len(), now.len(), "{}", now.name);
    for ((name, _, before), (_, _, after)) in before.columns.iter().zip(&now.columns) {
        let place = format!("{} of {}", name, now.name);
        let (Column::Num(before), Column::Num(after)) = (before, after) else {
            assert_eq!(before, after, "{place}");
            continue;
        };
        for (row, pair) in before.iter().zip(after).enumerate() {
            match pair {
                (Some(a), Some(b)) if a.is_finite() && b.is_finite() => {
                    let gap = (a - b).abs() / a.abs().max(1.0);
                    assert!(gap <= 1e-4, "{place}, row {row}: {a} was committed, now it is {b}");
                }
                (a, b) => assert_eq!(a.map(f64::to_bits), b.map(f64::to_bits), "{place}, row {row}"),
            }
        }
    }
}

/// Heat maps are outlined by the column that their view names, counted here from the numbers beside the picture.
#[test]
fn outlined_cells_are_those_that_the_corrected_test_keeps() {
    let mut seen = 0;
    for folder in fs::read_dir(root().join("reports")).unwrap() {
        let Ok(files) = fs::read_dir(folder.unwrap().path().join("figures")) else { continue };
        for file in
            files.map(|file| file.unwrap().path()).filter(|f| f.extension().is_some_and(|e| e == "toml"))
        {
            let view: View = toml::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
            let Some(q) = view.q.as_deref().filter(|_| view.kind == "heatmap") else { continue };
            let rows = read_table(&file.with_extension("csv")).unwrap();
            let (q, values) = (rows.numbers(q).unwrap(), rows.numbers(&view.value.unwrap()).unwrap());
            if q.iter().all(Option::is_none) {
                continue;
            }
            let finite = || values.iter().flatten().filter(|x| x.is_finite());
            let least = view.outline.unwrap_or(0.05 * finite().fold(0.0, |m: f64, x| m.max(x.abs())));
            let is_kept = |(q, x): (&Option<f64>, &Option<f64>)| {
                q.is_some_and(|q| q <= 0.05) && x.is_some_and(|x| x.abs() >= least)
            };
            let kept = q.iter().zip(&values).filter(|pair| is_kept(*pair)).count();
            let svg = fs::read_to_string(file.with_extension("svg")).unwrap();
            let outlined =
                svg.lines().filter(|line| line.contains("fill=\"none\" stroke=\"#222222\"")).count();
            assert_eq!(outlined, kept, "{}", file.display());
            let caption = fs::read_to_string(file.with_extension("tex")).unwrap();
            assert_eq!(
                caption.contains("corrected for all tested cells of the table"),
                kept > 0,
                "{}",
                file.display()
            );
            seen += kept;
        }
    }
    assert!(seen > 50, "{seen}");
}
