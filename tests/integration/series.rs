//! Studies along training: every joined row is what the stage alone gives, and the page tells of the finished model.

use std::fs;
use std::path::{Path, PathBuf};

use glassbox::report;
use glassbox::row::{Column, Rows};
use glassbox::study::{Outcome, Study};

use crate::command::Bench;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a study; the default is a small one of induction.
fn outcomes(text: &str) -> (Study, Vec<Outcome>) {
    let steps = "[task]\ngenerate = \"induction\"\nn = 3\n[[analysis]]\nname = \"predict\"\n[[analysis]]\nname = \"heads\"\n\
                 sequences = 2\n[[analysis]]\nname = \"components\"\n[[analysis]]\nname = \"patch\"\nsites = [\"z\"]\n";
    let study = Study::parse(&format!("{text}\n{steps}"), "test", None).unwrap();
    let lab = study.lab().unwrap();
    let task = study.task(&lab).unwrap();
    let outcomes = study.run(&lab, &task).unwrap();
    (study, outcomes)
}

fn tables(outcomes: &[Outcome]) -> Vec<&Rows> {
    outcomes.iter().flat_map(|outcome| &outcome.findings.tables).collect()
}

fn cells(rows: &Rows) -> Vec<(&str, String)> {
    rows.columns.iter().map(|(name, _, column)| (name.as_str(), format!("{column:?}"))).collect()
}

#[test]
fn a_joined_table_is_every_stage_alone() {
    let (study, joined) = outcomes("checkpoints = [300, 700]\ncompare = [\"textbook-wild\"]");
    let stages = study.stages().unwrap();
    assert_eq!(stages.len(), 6);
    let mut rows_met = 0;
    for stage in &stages {
        let (_, alone) = outcomes(&format!("model = \"{}\"", stage.word));
        for rows in tables(&alone) {
            let all = tables(&joined).into_iter().find(|all| all.name == rows.name).unwrap();
            let first: Vec<&str> = all.columns.iter().take(2).map(|(name, _, _)| name.as_str()).collect();
            assert_eq!(first, ["model", "step"]);
            let mut own = all.only("model", &stage.model).unwrap();
            own = own.only("step", &stage.step.unwrap().to_string()).unwrap();
            own.columns.drain(..2);
            // roles are told by the description beside the finished weights, which a checkpoint shares
            assert_eq!(cells(&own), cells(rows), "{} of {}", rows.name, stage.word);
            rows_met += rows.len();
        }
    }
    assert_eq!(
        tables(&joined).into_iter().map(Rows::len).sum::<usize>(),
        rows_met,
        "nothing else is in them"
    );

    let own: Vec<Outcome> = joined.iter().map(|outcome| study.own(outcome).unwrap()).collect();
    let (_, finished) = outcomes("model = \"textbook\"");
    for (own, finished) in own.iter().zip(&finished) {
        assert_eq!(own.findings.notes.iter().filter(|note| note.contains("@step")).count(), 0);
        assert!(finished.findings.notes.iter().all(|note| own.findings.notes.contains(note)), "{}", own.name);
    }
    let (own, finished) = (tables(&own), tables(&finished));
    assert_eq!(own.len(), finished.len());
    own.iter().zip(&finished).for_each(|(own, finished)| assert_eq!(cells(own), cells(finished)));
}

/// A stage on which a method has nothing to show is left out and named; the others stay.
#[test]
fn a_stage_without_a_gap_is_left_out_by_name() {
    let (_, joined) = outcomes("checkpoints = [100]");
    let patch = joined.iter().find(|outcome| outcome.name == "patch").unwrap();
    let steps = patch.findings.tables[0].texts("step").unwrap();
    assert!(patch.skipped.is_none() && steps.contains(&"2000".to_owned()));
    let left_out = patch.findings.notes.iter().any(|note| note.starts_with("textbook@step100: left out: "));
    assert_eq!(left_out, !steps.contains(&"100".to_owned()), "{:?}", patch.findings.notes);
}

#[test]
fn any_folder_with_checkpoints_serves_and_others_are_refused() {
    let bench = Bench::new();
    let model = bench.path("mine");
    fs::create_dir_all(model.join("checkpoints")).unwrap();
    let bundled = root().join("assets/models/textbook");
    for name in ["config.json", "model.safetensors", "tokenizer.json", "checkpoints/step-700.safetensors"] {
        fs::copy(bundled.join(name), model.join(name)).unwrap();
    }
    let ask = ["heads", "--model", "mine", "--checkpoints", "--quiet", "--format", "csv"];
    let said = bench.refused(1, &ask);
    assert!(said.contains("recipe.toml"), "{said}");
    fs::copy(bundled.join("recipe.toml"), model.join("recipe.toml")).unwrap();
    let printed = bench.ok(&ask);
    let steps: Vec<&str> = printed.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!((steps.len(), steps[0], steps[23]), (24, "700", "2000"), "{printed}");
    assert!(
        printed.starts_with("\"step\",\"layer\",\"head\"") || printed.starts_with("step,layer,head"),
        "{printed}"
    );

    let said = bench.refused(2, &["heads", "--model", "mine", "--checkpoints=701", "--quiet"]);
    assert!(said.contains("701") && said.contains("700, 2000"), "{said}");
    let tiny = root().join("assets/tiny/gpt2").display().to_string();
    let said = bench.refused(1, &["predict", "--compare", &tiny, "--n", "4", "--quiet"]);
    assert!(said.contains("different vocabularies"), "{said}");
    let said =
        bench.refused(1, &["predict", "--model", &tiny, "--tokens", "1,2,3", "--checkpoints", "--quiet"]);
    assert!(said.contains("checkpoints/step-"), "{said}");
}

/// The gallery's study of training: induction comes, in both models, and the page says when.
#[test]
fn the_study_of_training_shows_induction_come() {
    let bench = Bench::new();
    let study = root().join("probes/training.toml").display().to_string();
    bench.ok(&["run", &study, "--out", "t", "--quiet"]);
    let table =
        |name: &str| glassbox::output::read_table(&bench.path(&format!("t/tables/{name}.csv"))).unwrap();
    let points = table("training").only("quantity", "induction").unwrap();
    let onsets = table("training_onset");
    let of = |model: &str, quantity: &str, part: &str| {
        let rows = onsets
            .only("model", model)
            .unwrap()
            .only("quantity", quantity)
            .unwrap()
            .only("part", part)
            .unwrap();
        [rows.numbers("after").unwrap()[0].unwrap(), rows.numbers("by").unwrap()[0].unwrap()]
    };
    // the table of points says the same
    for (model, part) in [("textbook", "a1.h0"), ("textbook-wild", "a1.h0")] {
        let line = points.only("model", model).unwrap().only("part", part).unwrap();
        let values: Vec<f64> = line.numbers("value").unwrap().into_iter().flatten().collect();
        let steps: Vec<f64> = line.numbers("step").unwrap().into_iter().flatten().collect();
        let middle = (values[0] + values[values.len() - 1]) / 2.0;
        let place = values.iter().position(|value| *value >= middle).unwrap();
        assert_eq!(of(model, "induction", part), [steps[place - 1], steps[place]]);
        assert!(values[0] < 0.1 && values[values.len() - 1] > 0.9, "{model}: {values:?}");
    }
    let page = fs::read_to_string(bench.path("t/report.md")).unwrap();
    let [after, by] = of("textbook-wild", "logit difference", "");
    assert!(
        page.contains(&format!("between steps **{after:.0}** and **{by:.0}** in `textbook-wild`")),
        "{page}"
    );
    assert!(page.contains("## How it came to be") && page.contains("designed, not discovered"));
    let figure = fs::read_to_string(bench.path("t/figures/training.svg")).unwrap();
    for panel in ["logit difference (logits)", "accuracy", "induction", "direct effect (logits)", "half of the way"] {
        assert!(figure.contains(panel), "{panel}");
    }
    fn size(path: PathBuf) -> u64 {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { size(path) } else { fs::metadata(path).unwrap().len() }).sum()
    }
    assert!(size(bench.path("t")) <= 3_000_000, "{}", size(bench.path("t")));
    let manifest: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(bench.path("t/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["stages"].as_array().unwrap().len(), 12);
    // the folder reruns itself to the same tables
    bench.ok(&["run", "t/study.toml", "--out", "again", "--quiet"]);
    let both = ["training", "behaviour"].map(|name| format!("tables/{name}.csv"));
    for name in both {
        assert_eq!(
            fs::read(bench.path(&format!("t/{name}"))).unwrap(),
            fs::read(bench.path(&format!("again/{name}"))).unwrap()
        );
    }
}

#[test]
fn models_stand_beside_each_other_without_steps_of_training() {
    let bench = Bench::new();
    let ask =
        ["predict", "--task", "facts", "--n", "4", "--compare", "textbook-wild", "--out", "c", "--quiet"];
    bench.ok(&ask);
    let table =
        |name: &str| glassbox::output::read_table(&bench.path(&format!("c/tables/{name}.csv"))).unwrap();
    let (compared, behaviour) = (table("compared"), table("behaviour"));
    for model in ["textbook", "textbook-wild"] {
        let of = |rows: &Rows, column: &str, cell: &str, value: &str| {
            let rows = rows.only("model", model).unwrap().only(column, cell).unwrap();
            assert_eq!(rows.len(), 1);
            rows.numbers(value).unwrap()[0].unwrap()
        };
        let told = of(&compared, "quantity", "logit difference", "value");
        assert_eq!(told, of(&behaviour, "metric", "logit-diff", "value"));
    }
    let page = fs::read_to_string(bench.path("c/report.md")).unwrap();
    assert!(page.contains("## Beside other models") && !page.contains("How it came to be"), "{page}");
}

/// Asking for the finished model alone is no series, and tables have no new columns.
#[test]
fn a_study_of_one_model_is_as_it_was() {
    let (study, alone) = outcomes("model = \"textbook\"");
    assert!(!study.is_series());
    let names = |rows: &&Rows| rows.column("step").is_ok() || rows.column("model").is_ok();
    assert!(!tables(&alone).iter().any(names));
    let lab = study.lab().unwrap();
    let task = study.task(&lab).unwrap();
    let manifest = report::manifest(&study, &lab, &task, 1);
    assert_eq!(manifest.more["stages"].as_array().unwrap().len(), 0);
    assert!(matches!(tables(&alone)[0].columns[0].2, Column::Text(_)));
}
