//! What tables say of chance and size, and what they warn of.

use glassbox::analysis::attribution::Attribution;

use super::*;

/// More pairs than a p-value needs.
fn many() -> Task {
    let example = |i: u32| {
        let clean: Vec<u32> = (0..7).map(|p| (5 * i + p * (i + 3) + 5 * p * p) % 24).collect();
        let mut corrupt = clean.clone();
        corrupt[3] = (clean[3] + 5) % 24;
        let (answers, wrong) = (vec![(i + 1) % 24], vec![(i + 4) % 24]);
        Example {
            id: format!("e{i}"),
            clean,
            corrupt: Some(corrupt),
            answers,
            wrong,
            group: "7".into(),
            ..Example::default()
        }
    };
    Task { name: "many".into(), examples: (0..18).map(example).collect(), ..Task::default() }
}

#[test]
fn tables_say_what_is_no_accident_and_what_is_large() {
    let (task, [lab, _]) = (many(), plain());
    let found = patch("by = ['head', 'position']").run(&lab, &task).unwrap();
    for name in ["patch_head", "resid_by_pos"] {
        let (rows, each) = (table(&found, name), table(&found, &format!("examples_{name}")));
        let own = numbers(each, "effect");
        // tests are of changes of the metric, effects are shares of the gap: in one direction raw = unpatched ± gap · effect
        let noised = only(rows, &[("direction", "noise")]);
        let mut ends: Vec<(f64, f64)> =
            numbers(&noised, "effect").into_iter().zip(numbers(&noised, "raw")).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (least, most) = (ends[0], ends[ends.len() - 1]);
        let gap = (most.1 - least.1) / (most.0 - least.0);
        let p = rows.numbers("p").unwrap();
        let expected = false_discovery(&p);
        for (row, (q, expected)) in rows.numbers("q").unwrap().iter().zip(expected).enumerate() {
            assert_eq!(*q, expected);
            let own = &own[18 * row..18 * (row + 1)];
            close(own.iter().sum::<f64>() / 18.0, numbers(rows, "effect")[row]);
            match p[row] {
                // the units are whole prompts, and the seed is the lab's
                Some(p) => {
                    let changes: Vec<f64> = own.iter().map(|effect| effect * gap).collect();
                    close(p, sign_flip(&changes, &task.units(), 0).unwrap());
                }
                None => assert!(own.iter().all(|x| *x == 0.0)),
            }
            let (lo, hi, effect) =
                (numbers(rows, "ci_lo")[row], numbers(rows, "ci_hi")[row], numbers(rows, "effect")[row]);
            let notable = (lo > 0.0 || hi < 0.0) && effect.abs() >= 0.05;
            assert_eq!(numbers(rows, "notable")[row] > 0.0, notable);
        }
    }
    let mut few = task.clone();
    few.examples.truncate(12);
    let found = patch("").run(&lab, &few).unwrap();
    assert!(table(&found, "patch_head").numbers("p").unwrap().iter().all(Option::is_none));

    let ablated: Ablate = toml::from_str(
        "kinds = ['resample']\nover = 'corrupt'\nby = ['head', 'set']\nsets = [['a0.h0', 'a1.h1']]",
    )
    .unwrap();
    let found = ablated.run(&lab, &task).unwrap();
    let rows = only(table(&found, "ablate_effect"), &[("metric", "logit-diff")]);
    let each = table(&found, "examples_ablate");
    let p = rows.numbers("p").unwrap();
    assert_eq!(rows.numbers("q").unwrap(), false_discovery(&p));
    for (part, p) in rows.texts("part").unwrap().iter().zip(&p) {
        let own = numbers(&only(each, &[("part", part)]), "logit_diff");
        close(p.unwrap(), sign_flip(&own, &task.units(), 0).unwrap());
    }
    assert!(
        only(table(&found, "ablate_effect"), &[("metric", "kl")])
            .numbers("p")
            .unwrap()
            .iter()
            .all(Option::is_none)
    );
    let sets = table(&found, "ablate_set");
    assert!(sets.numbers("p").unwrap().iter().all(Option::is_some));

    let components = Components {
        sets: toml::from_str::<Ablate>("sets = [['a0.h0', 'a1.h1'], ['a0', 'm1.n2']]").unwrap().sets,
        ..Components::default()
    };
    let totals = components.run(&lab, &task).unwrap();
    let rows = table(&totals, "components");
    assert_eq!(numbers(rows, "q").len(), rows.len());
    assert!(numbers(&only(rows, &[("component", "a0.b_O")]), "p")[0].is_nan());
    // the same swap as resampling the corrupt partner
    let set = table(&totals, "components_set");
    let pair = only(sets, &[("metric", "logit-diff")]);
    for (theirs, ours) in
        [("change", "total"), ("sum_of_parts", "sum_of_parts"), ("interaction", "interaction")]
    {
        close(numbers(set, ours)[0], -numbers(&pair, theirs)[0]);
    }
    let noised =
        patch("direction = 'noise'\nby = ['set']\nsets = [['a0', 'm1.n2']]").run(&lab, &task).unwrap();
    let (noised, gap) = (table(&noised, "patch_set"), {
        let run = |i: usize, tokens: &[u32]| naive(&lab, &task, i, tokens, Vec::new(), Metric::LogitDiff);
        (0..18)
            .map(|i| run(i, &task.examples[i].clean) - run(i, task.examples[i].corrupt.as_ref().unwrap()))
            .sum::<f64>()
            / 18.0
    });
    close(numbers(set, "total")[1], gap * numbers(noised, "effect")[0]);
    close(numbers(set, "interaction")[1], gap * numbers(noised, "interaction")[0]);
}

#[test]
fn doubtful_numbers_are_flagged() {
    let [lab, _] = plain();
    let best = |tokens: &[u32]| {
        let logits = lab.model.forward(&lab.model.tokens(&[tokens]).unwrap(), &mut ()).unwrap();
        let last: Vec<f64> =
            logits.narrow(1, tokens.len() - 1, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        (0..last.len()).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap() as u32
    };
    let flagged = |task: &Task, parameters: &str, words: &str| {
        let found = patch(parameters).run(&lab, task).unwrap();
        found.notes.iter().any(|note| note.contains(words))
    };
    // the model always prefers the wrong answer
    let mut failing = many();
    failing.examples.iter_mut().for_each(|example| {
        example.wrong = vec![best(&example.clean)];
        example.answers = vec![(example.wrong[0] + 1) % 24];
    });
    let mut able = failing.clone();
    able.examples.iter_mut().for_each(|example| std::mem::swap(&mut example.answers, &mut example.wrong));
    assert!(flagged(&failing, "", "on 0 of 18 clean prompts"));
    assert!(!flagged(&able, "", "hardly does the task"));
    // the first pair is one prompt twice: ranked first both times, and no gap of its own
    let mut stuck = able.clone();
    stuck.examples.iter_mut().for_each(|example| {
        example.corrupt = Some(example.clean.iter().map(|token| (token + 7) % 24).collect());
    });
    stuck.examples[0].corrupt = Some(stuck.examples[0].clean.clone());
    assert!(flagged(&stuck, "metric = 'rank'", "at its bound on both prompts of"));
    assert!(flagged(&stuck, "", "less than a tenth of the mean gap"));
    let found = patch("").run(&lab, &stuck).unwrap();
    let own = only(table(&found, "examples_patch_head"), &[("example", "e0")]);
    assert!(
        numbers(&own, "effect").iter().all(|effect| effect.abs() < 1e-9),
        "a pair without a gap has no effect, and no share of it"
    );
}

/// Direct effects are tested as whole prompts, and each table corrects for its own rows.
#[test]
fn direct_effects_have_p_and_q() {
    let (task, lab) = (many(), lab(Config::tiny(), 3));
    let found = Attribution::default().run(&lab, &task).unwrap();
    let each = table(&found, "examples_attribution");
    for name in ["attribution", "attribution_head"] {
        let rows = table(&found, name);
        let p = rows.numbers("p").unwrap();
        assert_eq!(rows.numbers("q").unwrap(), false_discovery(&p));
        let parts = match rows.texts("component") {
            Ok(parts) => parts,
            Err(_) => {
                let [layers, heads] = ["layer", "head"].map(|column| rows.texts(column).unwrap());
                layers.iter().zip(&heads).map(|(layer, head)| format!("a{layer}.h{head}")).collect()
            }
        };
        for (part, p) in parts.iter().zip(&p) {
            let own = numbers(&only(each, &[("component", part)]), "direct");
            match p {
                Some(p) => close(*p, sign_flip(&own, &task.units(), 0).unwrap()),
                None => assert!(own.iter().all(|x| *x == 0.0), "{part}"),
            }
        }
        assert!(p.iter().any(Option::is_some));
    }
}
