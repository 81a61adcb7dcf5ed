//! Values from a file of activations, or from means over reference prompts.

use super::*;

/// A file of what a side of the task holds, as `glassbox record` writes it.
fn file(lab: &Lab, task: &Task, side: Side, globs: &[&str]) -> (tempfile::TempDir, Arc<Arrays>) {
    let globs: Vec<String> = globs.iter().map(|&glob| glob.to_owned()).collect();
    let sites = recording::sites(&lab.model, &globs).unwrap();
    let tensors = recording::record(lab, task, side, &sites).unwrap();
    let about = recording::metadata(lab, task, side, None).unwrap();
    written(&tensors, &about)
}

fn written(
    tensors: &BTreeMap<String, Tensor>,
    about: &BTreeMap<String, String>,
) -> (tempfile::TempDir, Arc<Arrays>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("values.safetensors");
    output::write_tensors(&path, tensors, about, false).unwrap();
    (folder, Arc::new(Arrays::open(&path).unwrap()))
}

/// As it was written, in single precision.
#[test]
fn values_from_a_file_are_those_of_the_prompts_it_was_recorded_on() {
    for mut lab in plain() {
        let task = pairs();
        let parameters = "by = ['all', 'position', 'head', 'head-position', 'set']\nsets = [['a0.h1', 'm1']]\ndirection = 'noise'\n\
                          sites = ['resid_pre', 'resid_post', 'z', 'pattern', 'mlp_post']";
        let pair = patch(parameters).run(&lab, &task).unwrap();
        let (_folder, values) = file(&lab, &task, Side::Corrupt, &["blocks.*"]);
        lab.values = Some(values);
        let found = patch(parameters).run(&lab, &task).unwrap();
        for rows in &pair.tables {
            let column = if rows.name == "examples_gap_patch" { "gap" } else { "raw" };
            let other = numbers(table(&found, &rows.name), column);
            assert_eq!(rows.len(), other.len());
            numbers(rows, column).into_iter().zip(other).for_each(|(a, b)| near(a, b));
        }
        assert!(found.notes.iter().any(|note| note.contains("values.safetensors")), "{:?}", found.notes);
        // without corrupt prompts it is the change of the metric
        let mut clean = task.clone();
        clean.examples.iter_mut().for_each(|example| example.corrupt = None);
        let inserted = patch(&parameters.replace("direction = 'noise'\n", "")).run(&lab, &clean).unwrap();
        let (shares, changes) =
            (table(&pair, "examples_patch_head"), table(&inserted, "examples_patch_head"));
        assert!(changes.texts("direction").unwrap().iter().all(|direction| direction == "insert"));
        let base: Vec<f64> = (0..5)
            .map(|i| naive(&lab, &clean, i, &clean.examples[i].clean, Vec::new(), Metric::LogitDiff))
            .collect();
        let ids = changes.texts("example").unwrap();
        assert_eq!(ids.len(), shares.len());
        for (row, id) in ids.iter().enumerate() {
            let i: usize = id[1..].parse().unwrap();
            near(numbers(changes, "effect")[row], numbers(shares, "raw")[row] - base[i]);
        }
        assert!(
            table(&inserted, "patch_head").texts("unit").unwrap().iter().all(|unit| unit == "logit-diff")
        );
        assert!(patch("direction = 'denoise'").run(&lab, &clean).is_err());
    }
}

#[test]
fn a_file_may_hold_one_row_for_all_and_one_position_for_every_one() {
    let mut lab = lab(Config::tiny(), 3);
    let mut task = aligned();
    task.examples.truncate(3);
    let one = Task { examples: vec![task.examples[1].clone()], ..task.clone() };
    let (_folder, values) =
        file(&lab, &one, Side::Corrupt, &["blocks.*.attn.hook_z", "blocks.1.hook_mlp_out"]);
    lab.values = Some(values);
    let found = patch("by = ['all', 'position', 'head']").run(&lab, &task).unwrap();
    let sites: Vec<String> = table(&found, "patch_layer").texts("site").unwrap();
    // the file says what is patched: z in both layers, mlp_out in one, each both ways
    assert_eq!(sites.iter().filter(|site| *site == "z").count(), 4);
    assert_eq!(sites.iter().filter(|site| *site == "mlp_out").count(), 2);
    let source = |_: usize, _: &str| recorded(&lab, one.examples[0].corrupt.as_ref().unwrap());
    // what was written in single precision is compared as such
    for rows in
        found.tables.iter().filter(|rows| rows.name.starts_with("examples_") && rows.column("raw").is_ok())
    {
        let (ids, directions) = (rows.texts("example").unwrap(), rows.texts("direction").unwrap());
        for (row, raw) in numbers(rows, "raw").into_iter().enumerate() {
            let i = task.examples.iter().position(|example| example.id == ids[row]).unwrap();
            let example = &task.examples[i];
            let run =
                if directions[row] == "denoise" { example.corrupt.as_ref().unwrap() } else { &example.clean };
            let edits = edits(rows, row, 1, &BTreeMap::new(), example, &source(i, ""));
            near(raw, naive(&lab, &task, i, run, edits, Metric::LogitDiff));
        }
    }

    // a vector for every position, without a word on where it is from
    let x = Tensor::randn(0f32, 1., (1, 1, 16), lab.model.device()).unwrap();
    let (_folder, values) =
        written(&BTreeMap::from([("blocks.0.hook_attn_out".into(), x.clone())]), &BTreeMap::new());
    lab.values = Some(values);
    let found = patch("by = ['all']\ndirection = 'noise'").run(&lab, &pairs()).unwrap();
    let rows = table(&found, "examples_patch_layer");
    for (i, raw) in numbers(rows, "raw").into_iter().enumerate() {
        let at = Slice::whole(Site::Block(0, At::AttnOut));
        let edit = Edit { at, op: Op::Set(x.flatten_all().unwrap()) };
        near(raw, naive(&lab, &pairs(), i, &pairs().examples[i].clean, vec![edit], Metric::LogitDiff));
    }
}

#[test]
fn a_file_that_does_not_fit_is_refused_in_a_sentence() {
    let mut lab = lab(Config::tiny(), 3);
    let task = pairs();
    let sites = recording::sites(&lab.model, &["blocks.*.attn.hook_z".to_owned()]).unwrap();
    let tensors = recording::record(&lab, &task, Side::Corrupt, &sites).unwrap();
    let about = recording::metadata(&lab, &task, Side::Corrupt, None).unwrap();
    let mut said = |tensors: &BTreeMap<String, Tensor>,
                    change: &[(&str, Option<&str>)],
                    parameters: &str,
                    task: &Task| {
        let mut about = about.clone();
        for (key, value) in change {
            about.remove(*key);
            about.extend(value.map(|value| ((*key).to_owned(), value.to_owned())));
        }
        let (_folder, values) = written(tensors, &about);
        lab.values = Some(values);
        patch(parameters).run(&lab, task).map(|_| ()).map_err(|error| error.to_string())
    };
    said(&tensors, &[], "", &task).unwrap();
    let mut refused = |tensors: &BTreeMap<String, Tensor>,
                       change: &[(&str, Option<&str>)],
                       parameters: &str,
                       task: &Task,
                       words: &[&str]| {
        let error = said(tensors, change, parameters, task).unwrap_err();
        println!("{error}\n");
        words.iter().for_each(|word| assert!(error.contains(word), "{word:?} is not in: {error}"));
    };
    refused(&tensors, &[("model_hash", Some("f00dfeedbeef"))], "", &task, &["f00dfeed", "random", "hint"]);
    refused(&tensors, &[("folded", Some("fold_ln"))], "", &task, &["fold_ln", "--fold"]);
    refused(&tensors, &[("kind", Some("gradients"))], "", &task, &["gradients, not activations"]);
    refused(&tensors, &[("tokens", Some("[[1, 2], [3]]"))], "", &task, &["2 prompts", "there are 5"]);
    refused(&tensors, &[("tokens", Some("seven"))], "", &task, &["no lists of ids"]);
    refused(&tensors, &[("tokens", None)], "", &task, &["how long its prompts are"]);
    refused(&tensors, &[], "sites = ['q']", &task, &["no blocks.*.attn.hook_q", "record"]);
    refused(&tensors, &[], "sets = [['m0']]", &task, &["hook_mlp_out"]);
    let mut reversed = task.clone();
    reversed.examples.swap(0, 1);
    refused(&tensors, &[], "", &reversed, &["7 tokens where `e1` has 9"]);
    let few: BTreeMap<String, Tensor> =
        tensors.iter().map(|(name, x)| (name.clone(), x.narrow(0, 0, 2).unwrap())).collect();
    refused(&few, &[("tokens", None)], "", &task, &["hook_z", "one for all"]);
    refused(&tensors, &[], "from = 'mean'", &task, &["--reference"]);
    lab.values = None;
    let error = patch("from = 'file'").run(&lab, &task).unwrap_err().to_string();
    assert!(error.contains("--values"), "{error}");
}

#[test]
fn means_over_reference_prompts_are_put_in_position_by_position() {
    for lab in plain() {
        let task = pairs();
        let reference: Vec<Vec<u32>> =
            (0..3u32).map(|k| (0..9 + k).map(|i| (5 * i + 7 * k) % 24).collect()).collect();
        let given: Vec<Sample> = reference.iter().cloned().map(Sample::from).collect();
        let sites = "sites = ['resid_mid', 'z', 'v', 'pattern', 'mlp_post']\nby = ['all', 'position', 'head', 'query-key', 'set']\n\
                     sets = [['a0.h1', 'm1']]";
        let analysis = Patch { reference: Some(given.clone()), ..patch(&format!("{sites}\nfrom = 'mean'")) };
        let found = analysis.run(&lab, &task).unwrap();
        let mean = |length: usize| {
            let runs: Vec<Activations> = reference.iter().map(|r| recorded(&lab, &r[..9])).collect();
            let mut mean = Activations::default();
            for (&site, first) in &runs[0].0 {
                if let Site::Block(_, at) = site
                    && !matches!(at, At::Scores)
                {
                    let all = runs
                        .iter()
                        .skip(1)
                        .fold(first.clone(), |sum, run| (sum + run.get(site).unwrap()).unwrap());
                    let mut x = (all / 3.0).unwrap();
                    for (d, axis) in site.axes().iter().enumerate() {
                        if ["pos", "query", "key"].contains(&axis.word()) {
                            x = x.narrow(d, 0, length).unwrap();
                        }
                    }
                    mean.0.insert(site, x.contiguous().unwrap());
                }
            }
            mean
        };
        let sets = BTreeMap::from([("a0.h1+m1", vec!["a0.h1", "m1"])]);
        let source = |i: usize, _: &str| mean(task.examples[i].clean.len());
        assert!(check(&lab, &task, &found, (1, 7), &sets, &source) > 50);

        // shorter references: one mean for all positions, and none of attention
        let short: Vec<Sample> = [vec![1, 2, 3], vec![9, 8, 7, 6, 5]].into_iter().map(Sample::from).collect();
        let mut clean = task.clone();
        clean.examples.iter_mut().for_each(|example| example.corrupt = None);
        let analysis = Patch { reference: Some(short), ..patch("by = ['all']") };
        let found = analysis.run(&lab, &clean).unwrap();
        let rows = table(&found, "patch_layer");
        assert!(!rows.texts("site").unwrap().contains(&"pattern".to_owned()));
        let site = Site::Block(0, At::MlpOut);
        let runs = [vec![1, 2, 3], vec![9, 8, 7, 6, 5]]
            .map(|r| recorded(&lab, &r).get(site).unwrap().squeeze(0).unwrap());
        let vector = Tensor::cat(&runs, 0).unwrap().mean(0).unwrap();
        let row = only(rows, &[("site", "mlp_out"), ("layer", "0")]);
        let change: f64 = (0..5)
            .map(|i| {
                let run = |edits| naive(&lab, &clean, i, &clean.examples[i].clean, edits, Metric::LogitDiff);
                let edit = Edit { at: Slice::whole(site), op: Op::Set(vector.clone()) };
                run(vec![edit]) - run(Vec::new())
            })
            .sum();
        close(numbers(&row, "effect")[0], change / 5.0);
        let pattern = Patch { sites: Some(vec![PatchSite::Pattern]), ..analysis };
        let error = pattern.run(&lab, &clean).unwrap_err().to_string();
        assert!(error.contains("hook_pattern") && error.contains("longer"), "{error}");
    }
}
