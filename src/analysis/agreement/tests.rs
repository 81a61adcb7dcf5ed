use super::*;
use crate::row::Column;

/// One example; the exact effects are known.
fn check(exact: &[f64], claims: &[(bool, &[f64])], top: usize, full: usize, sample: usize) -> Agreement {
    let each = |values: &[f64]| values.iter().map(|&x| vec![x]).collect::<Vec<_>>();
    let claim = |(i, (signed, values)): (usize, &(bool, &[f64]))| Claim {
        method: ["one", "two"][i],
        signed: *signed,
        change: each(values),
    };
    let ranking = Ranking {
        grain: "part",
        site: "z",
        direction: "noise",
        labels: (0..exact.len()).map(|i| format!("c{i}")).collect(),
        claims: claims.iter().enumerate().map(claim).collect(),
    };
    let bootstrap = Bootstrap::new(1, 0);
    let how = Check { top, full, sample, seed: 1, gap: &[2.0], bootstrap: &bootstrap };
    let mut agreement = Agreement::default();
    let asked = |indices: &[usize]| Ok(indices.iter().map(|&i| vec![exact[i]]).collect());
    agreement.check(&ranking, &how, asked).unwrap();
    agreement
}

#[test]
fn a_perfect_approximation_agrees_and_misses_nothing() {
    let exact = [0.5, -2.0, 0.1, 0.0, 1.0];
    let found = check(&exact, &[(true, &exact)], 10, 64, 0);
    let row = &found.summary[0];
    assert_eq!((row.components, row.checked, row.top, row.misses), (5, 5, 3, Some(0)));
    assert_eq!((row.pearson, row.spearman), (Some(1.0), Some(1.0)));
    assert_eq!((row.worst_error, row.sign_disagreements), (0.0, 0));
    assert_eq!(found.rows[1].exact, -1.0, "half of -2, the gap being 2");
    assert_eq!(found.rows[1].exact_rank, 1);
}

#[test]
fn what_the_approximation_overlooks_is_named() {
    // c1 is the largest, and the approximation does not see it; c4 has the wrong sign
    let (exact, approx) = ([0.5, -2.0, 0.1, 0.0, 1.0], [0.5, 0.0, 0.3, 0.2, -1.0]);
    let found = check(&exact, &[(true, &approx)], 3, 64, 0);
    let row = &found.summary[0];
    assert_eq!((row.misses, row.missed.as_str(), row.sign_disagreements), (Some(1), "c1", 1));
    // as sizes, the sign is no disagreement
    let found = check(&exact, &[(false, &approx)], 3, 64, 0);
    assert_eq!((found.summary[0].misses, found.summary[0].sign_disagreements), (Some(1), 0));
    assert_eq!(found.rows[4].exact, 0.5);
}

#[test]
fn without_the_whole_truth_misses_are_bounded_by_a_sample() {
    let mut exact = vec![0.01; 100];
    exact[3] = 5.0;
    let mut approx = vec![0.0; 100];
    (0..4).for_each(|i| approx[i] = 4.0 - i as f64);
    let found = check(&exact, &[(true, &approx)], 4, 64, 10);
    let row = &found.summary[0];
    // none of 10 of the other 96: with 24 such among them the chance is .0475, with 23 it is .0551
    assert_eq!((row.checked, row.misses, row.misses_at_most), (14, None, Some(23)));
    assert_eq!(found.rows.iter().filter(|row| row.drawn).count(), 10);
    // nothing drawn: nothing known
    let found = check(&exact, &[(true, &approx)], 4, 64, 0);
    assert_eq!((found.summary[0].misses, found.summary[0].misses_at_most), (None, None));
    // what another approximation has found is a known miss of this one
    let mut other = approx.clone();
    other[50] = 9.0;
    exact[50] = 7.0;
    let found = check(&exact, &[(true, &approx), (true, &other)], 4, 64, 10);
    assert_eq!(found.summary[0].missed, "c50");
    assert!(found.summary[0].misses_at_most >= Some(1));
    // and c3, which the first has in its top, of that other one
    assert_eq!(found.summary[1].missed, "c3");
}

#[test]
fn what_does_not_vary_is_missing_not_nan() {
    let found = check(&[0.0; 6], &[(true, &[0.0; 6])], 3, 64, 0);
    let row = &found.summary[0];
    assert_eq!((row.pearson, row.spearman, row.pearson_top, row.misses), (None, None, None, Some(0)));
    for rows in found.tables("t") {
        for (name, _, column) in &rows.columns {
            if let Column::Num(cells) = column {
                assert!(cells.iter().flatten().all(|x| x.is_finite()), "{name}");
            }
        }
    }
    assert!(check(&[], &[(true, &[])], 3, 64, 0).tables("t").is_empty());
}

#[test]
fn intervals_are_over_examples() {
    let (n, components) = (20, 6);
    let value = |c: usize, i: usize| (c as f64 - 2.0) * (1.0 + 0.1 * (i % 5) as f64);
    let change: Vec<Vec<f64>> = (0..components).map(|c| (0..n).map(|i| value(c, i)).collect()).collect();
    let ranking = Ranking {
        grain: "part",
        site: "z",
        direction: "denoise",
        labels: (0..components).map(|i| i.to_string()).collect(),
        claims: vec![Claim { method: "one", signed: true, change: change.clone() }],
    };
    let bootstrap = Bootstrap::new(n, 3);
    let gap = vec![-4.0; n];
    let how = Check { top: 2, full: 64, sample: 0, seed: 1, gap: &gap, bootstrap: &bootstrap };
    let mut one = Agreement::default();
    one.check(&ranking, &how, |indices| Ok(indices.iter().map(|&i| change[i].clone()).collect())).unwrap();
    let row = &one.rows[5];
    assert!((row.exact + 3.0 * 1.2 / 4.0).abs() < 1e-12, "a negative gap turns the sign: {}", row.exact);
    assert!(row.ci_lo.unwrap() < row.exact && row.exact < row.ci_hi.unwrap());
    let ends = [one.summary[0].pearson_lo, one.summary[0].pearson_hi];
    assert!(ends.iter().all(|end| (end.unwrap() - 1.0).abs() < 1e-12), "{ends:?}");
}
