//! Who is trained on and who is asked.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};

/// A partition of the examples.
#[derive(Debug, Clone, PartialEq)]
pub struct Folds {
    /// Each example's fold.
    pub of: Vec<usize>,
    /// How many folds there are.
    pub count: usize,
}

/// At most `count` folds that part no group and in which classes are spread as evenly as groups allow: groups with the most uneven
/// classes are placed first, each into the fold where the classes' shares stay most even over folds, then the sizes of the folds.
pub fn grouped(y: &[usize], classes: usize, groups: &[usize], count: usize, seed: u64) -> Result<Folds> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, &group) in groups.iter().enumerate() {
        members.entry(group).or_default().push(i);
    }
    let count = count.min(members.len());
    if count < 2 {
        return Err(Error::input(
            format!("{} group(s) of examples cannot be parted into training and test", members.len()),
            "give more examples of different groups: `--n`, the fields `subject` or `group`, or another `by`",
        ));
    }
    let tally = |list: &[usize]| {
        let mut counts = vec![0.0; classes];
        list.iter().for_each(|&i| counts[y[i]] += 1.0);
        counts
    };
    let total: Vec<f64> =
        tally(&(0..y.len()).collect::<Vec<_>>()).into_iter().map(|n: f64| n.max(1.0)).collect();
    let mut order: Vec<(Vec<usize>, Vec<f64>)> =
        members.into_values().map(|m| (tally(&m), m)).map(|(c, m)| (m, c)).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ 0xF01D));
    order.sort_by(|a, b| variance(&b.1).total_cmp(&variance(&a.1)));
    let mut filled = vec![vec![0.0; classes]; count];
    let mut of = vec![0; y.len()];
    for (list, counts) in order {
        // how uneven the folds become, for each choice of a fold
        let uneven = |fold: usize| {
            let spread = (0..classes).map(|class| {
                let share = |f: usize| {
                    (filled[f][class] + if f == fold { counts[class] } else { 0.0 }) / total[class]
                };
                variance(&(0..count).map(share).collect::<Vec<_>>()).sqrt()
            });
            (spread.sum::<f64>(), filled[fold].iter().sum::<f64>())
        };
        let costs: Vec<(f64, f64)> = (0..count).map(uneven).collect();
        let better = |a: (f64, f64), b: (f64, f64)| a.0 < b.0 - 1e-12 || (a.0 <= b.0 + 1e-12 && a.1 < b.1);
        let mut fold = 0;
        for other in 1..count {
            if better(costs[other], costs[fold]) {
                fold = other;
            }
        }
        filled[fold].iter_mut().zip(&counts).for_each(|(sum, n)| *sum += n);
        list.iter().for_each(|&i| of[i] = fold);
    }
    Ok(Folds { of, count })
}

/// The examples whose type occurs at least twice, and folds of them in which every type that is asked about was also trained on:
/// the occurrences of a type are dealt to the folds in turn. None when fewer than two examples are left.
pub fn recurring(types: &[usize], count: usize, seed: u64) -> Option<(Vec<usize>, Folds)> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, &kind) in types.iter().enumerate() {
        members.entry(kind).or_default().push(i);
    }
    members.retain(|_, list| list.len() > 1);
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x7E_C0);
    let mut dealt: Vec<(usize, usize)> = Vec::new();
    for list in members.values_mut() {
        list.shuffle(&mut rng);
        for &i in list.iter() {
            dealt.push((i, dealt.len() % count.max(2)));
        }
    }
    dealt.sort_unstable();
    let count = dealt.iter().map(|(_, fold)| fold + 1).max()?;
    let (rows, of) = dealt.into_iter().unzip();
    Some((rows, Folds { of, count }))
}

fn variance(values: &[f64]) -> f64 {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_is_parted_and_classes_are_spread() {
        // 30 groups of 1 to 4 examples, three classes, one class per group
        let groups: Vec<usize> = (0..30).flat_map(|g| vec![g; 1 + g % 4]).collect();
        let y: Vec<usize> = groups.iter().map(|g| g % 3).collect();
        let folds = grouped(&y, 3, &groups, 5, 0).unwrap();
        assert_eq!(folds, grouped(&y, 3, &groups, 5, 0).unwrap());
        for (i, j) in (1..y.len()).map(|i| (i - 1, i)) {
            assert!(groups[i] != groups[j] || folds.of[i] == folds.of[j]);
        }
        for fold in 0..5 {
            for class in 0..3 {
                let held = (0..y.len()).filter(|&i| folds.of[i] == fold && y[i] == class).count();
                let all = y.iter().filter(|&&c| c == class).count();
                assert!(
                    held * 5 <= all * 2 && held > 0,
                    "fold {fold} holds {held} of {all} of class {class}"
                );
            }
        }
        assert!(grouped(&y, 3, &vec![0; y.len()], 5, 0).is_err());
        assert_eq!(grouped(&[0, 1, 0, 1], 2, &[0, 0, 1, 1], 5, 0).unwrap().count, 2);
    }

    #[test]
    fn what_is_asked_about_was_trained_on() {
        let types = [0, 1, 1, 2, 2, 2, 3, 4, 4, 4, 4, 4, 4, 4];
        let (rows, folds) = recurring(&types, 5, 0).unwrap();
        assert_eq!(rows, [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13]);
        for (i, &row) in rows.iter().enumerate() {
            let twin =
                |(j, &other): (usize, &usize)| types[other] == types[row] && folds.of[j] != folds.of[i];
            assert!(rows.iter().enumerate().any(twin), "{row}");
        }
        assert!(recurring(&[0, 1, 2], 5, 0).is_none());
    }
}
