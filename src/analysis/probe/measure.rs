//! One probe at one place, with everything it is compared with.

use rand::SeedableRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::collect::Arrays;
use super::question::Question;
use super::{INNER, Probe};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::learn::{
    Code, Folds, Held, Matrix, Method, Penalty, Ranking, Set, balanced_accuracy, cross_validate, grouped,
    online_code, recurring,
};
use crate::stats::{Bootstrap, Estimate};

/// What was found at one place by one method.
pub(super) struct Measured {
    /// Which of the question's spots.
    pub(super) spot: usize,
    pub(super) method: Method,
    pub(super) folds: Folds,
    pub(super) held: Held,
    /// Means over held-out examples, with intervals over groups.
    pub(super) accuracy: Estimate,
    pub(super) balanced: Estimate,
    pub(super) auroc: Estimate,
    /// The share of the most frequent class.
    pub(super) majority: f64,
    /// Accuracies with shuffled labels.
    pub(super) shuffled: Vec<f64>,
    /// Accuracy of the same method on the embeddings at this position, and how far this one is above it.
    pub(super) embedding: Option<Compared>,
    /// The same of the model with random weights.
    pub(super) random: Option<Compared>,
    pub(super) control: Option<Control>,
    pub(super) code: Option<Code>,
    /// Decides every random draw.
    pub(super) seed: u64,
    /// Held-out examples of a class that their training part lacks: they cannot be recognised.
    pub(super) unseen: usize,
}

/// Another probe's accuracy, and this one's advantage over it on the same examples.
pub(super) struct Compared {
    pub(super) accuracy: f64,
    pub(super) advantage: Estimate,
}

/// The control task (Hewitt & Liang 2019), on folds in which every type that is asked about was trained on.
pub(super) struct Control {
    /// The probe's own accuracy on these folds.
    pub(super) task: Estimate,
    /// Accuracy on labels drawn at random per type, mean over the draws.
    pub(super) control: Estimate,
    /// The difference.
    pub(super) selectivity: Estimate,
    pub(super) types: usize,
    pub(super) n: usize,
}

/// Measures one method at one spot. `before` holds what was measured at the embeddings.
pub(super) fn measure(
    probe: &Probe,
    lab: &Lab,
    question: &Question,
    (spot, method): (usize, Method),
    (trained, random): (&Arrays, Option<&Arrays>),
    before: &[Measured],
) -> Result<Measured> {
    lab.check()?;
    let (y, classes) = (&question.y, question.classes.len());
    let column = &question.columns[question.spots[spot].place];
    let groups = &column.groups;
    let x = trained.get(question, spot)?;
    let set = Set::new(&x, y.clone(), classes, groups)?;
    let folds = folds(probe, lab, question, &set, &column.place.label)?;
    let held = cross_validate(&set, method, &folds, Penalty::Inside(INNER), lab.seed)?;
    let units = Units::new(groups, lab.seed);
    let right = right(&held, y);
    let ranking = Ranking::new(&held.scores, y, &folds.of);

    let mut counts = vec![0usize; classes];
    y.iter().for_each(|&class| counts[class] += 1);
    let penalties = held.penalties();
    let shuffled = (0..probe.shuffles)
        .map(|draw| {
            let y = shuffle(y, groups, lab.seed.wrapping_add(1 + draw as u64));
            let set = set.relabelled(y);
            let held = cross_validate(&set, method, &folds, Penalty::Given(&penalties), lab.seed)?;
            Ok(held.accuracy(&set.y))
        })
        .collect::<Result<Vec<f64>>>()?;

    let compared = |other: &Held| {
        let advantage: Vec<f64> = right.iter().zip(self::right(other, y)).map(|(a, b)| a - b).collect();
        Compared { accuracy: other.accuracy(y), advantage: units.mean(&advantage) }
    };
    let same = |other: &&Measured| {
        other.method == method && question.spots[other.spot].place == question.spots[spot].place
    };
    let embedding = before.iter().find(same).map(|other| compared(&other.held));
    let random = match random {
        None => None,
        Some(arrays) => {
            let x = arrays.get(question, spot)?;
            let set = Set::new(&x, y.clone(), classes, groups)?;
            let other = cross_validate(&set, method, &folds, Penalty::Inside(INNER), lab.seed)?;
            Some(compared(&other))
        }
    };
    let unseen =
        (0..y.len()).filter(|&i| !(0..y.len()).any(|j| y[j] == y[i] && folds.of[j] != folds.of[i])).count();
    Ok(Measured {
        spot,
        method,
        accuracy: units.mean(&right),
        balanced: units.estimate(&|weights| balanced_accuracy(y, &held.predicted, classes, weights)),
        auroc: units.estimate(&|weights| ranking.auroc(weights)),
        majority: counts.iter().copied().max().unwrap_or(0) as f64 / y.len().max(1) as f64,
        shuffled,
        embedding,
        random,
        control: control(probe, lab, &set, method, &column.types, &penalties)?,
        code: (method == Method::Logistic).then(|| online_code(&set, lab.seed)),
        folds,
        held,
        seed: lab.seed,
        unseen,
    })
}

/// Group-wise folds, or a sentence that says why this position has none.
fn folds(probe: &Probe, lab: &Lab, question: &Question, set: &Set, position: &str) -> Result<Folds> {
    let count = set.groups.iter().max().map_or(0, |most| most + 1);
    // the training part is parted once more, to choose the penalty
    if count < 3 {
        return Err(Error::input(
            format!(
                "at `{position}` the prompts form {count} group(s) only, held out by {} and joined where their tokens up to \
                 there are the same: three or more are needed",
                question.held_out_by()
            ),
            "give more prompts (`--n`), a later position, or hold out by something finer (`by=\"prompt\"`)",
        ));
    }
    grouped(&set.y, set.classes, set.groups, probe.folds, lab.seed)
}

/// Labels at random: between groups where each group has one label, so that it still has one; else between examples.
fn shuffle(y: &[usize], groups: &[usize], seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5F_1E);
    let count = groups.iter().max().map_or(0, |most| most + 1);
    let mut of: Vec<Option<usize>> = vec![None; count];
    let whole = y.iter().zip(groups).all(|(&class, &group)| *of[group].get_or_insert(class) == class);
    if whole {
        let mut labels: Vec<usize> = of.into_iter().map(|class| class.unwrap_or(0)).collect();
        labels.shuffle(&mut rng);
        return groups.iter().map(|&group| labels[group]).collect();
    }
    let mut shuffled = y.to_vec();
    shuffled.shuffle(&mut rng);
    shuffled
}

/// The probe on the task and on labels that mean nothing but belong to types, where types recur. The penalties are those chosen
/// for the task, the middle of those that the folds chose: the control is asked of the very same kind of probe.
fn control(
    probe: &Probe,
    lab: &Lab,
    set: &Set,
    method: Method,
    types: &[usize],
    penalties: &[f64],
) -> Result<Option<Control>> {
    let Some((rows, folds)) = recurring(types, probe.folds, lab.seed) else { return Ok(None) };
    let kinds: Vec<usize> = rows.iter().map(|&i| types[i]).collect();
    let mut distinct = kinds.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < 2 || folds.count < 2 {
        return Ok(None);
    }
    let x: Matrix = set.x.take(&rows);
    let y: Vec<usize> = rows.iter().map(|&i| set.y[i]).collect();
    let own = Set::new(&x, y.clone(), set.classes, &kinds)?;
    let typical = median(penalties);
    let given = vec![typical; folds.count];
    let ask = |set: &Set| cross_validate(set, method, &folds, Penalty::Given(&given), lab.seed);
    let task = right(&ask(&own)?, &y);
    let mut controls = vec![0.0; rows.len()];
    for draw in 0..probe.controls {
        let mut rng = ChaCha8Rng::seed_from_u64(lab.seed.wrapping_add(draw as u64) ^ 0xC0_11);
        let most = kinds.iter().max().map_or(0, |most| most + 1);
        // each type's label is drawn from the labels as they are distributed
        let label: Vec<usize> = (0..most).map(|_| y.choose(&mut rng).copied().unwrap_or(0)).collect();
        let drawn: Vec<usize> = kinds.iter().map(|&kind| label[kind]).collect();
        let said = right(&ask(&own.relabelled(drawn.clone()))?, &drawn);
        controls.iter_mut().zip(said).for_each(|(sum, right)| *sum += right / probe.controls as f64);
    }
    let difference: Vec<f64> = task.iter().zip(&controls).map(|(a, b)| a - b).collect();
    let units = Units::new(&kinds, lab.seed);
    Ok(Some(Control {
        task: units.mean(&task),
        control: units.mean(&controls),
        selectivity: units.mean(&difference),
        types: distinct.len(),
        n: rows.len(),
    }))
}

/// The middle of the penalties, the lower of two middles.
pub(super) fn median(penalties: &[f64]) -> f64 {
    let mut sorted = penalties.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// 1 for each example that was recognised.
fn right(held: &Held, y: &[usize]) -> Vec<f64> {
    held.predicted.iter().zip(y).map(|(a, b)| f64::from(u8::from(a == b))).collect()
}

/// Groups that are drawn whole.
pub(super) struct Units {
    of: Vec<usize>,
    count: usize,
    bootstrap: Bootstrap,
}

impl Units {
    pub(super) fn new(groups: &[usize], seed: u64) -> Units {
        let mut distinct = groups.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let of = groups.iter().map(|group| distinct.partition_point(|other| other < group)).collect();
        Units { of, count: distinct.len(), bootstrap: Bootstrap::new(distinct.len(), seed) }
    }

    /// The mean over examples, with the interval over groups.
    pub(super) fn mean(&self, values: &[f64]) -> Estimate {
        let (mut sums, mut counts) = (vec![0.0; self.count], vec![0.0; self.count]);
        for (&unit, value) in self.of.iter().zip(values) {
            sums[unit] += value;
            counts[unit] += 1.0;
        }
        self.bootstrap.ratio(&sums, Some(&counts))
    }

    /// Any statistic of weighted examples, with the interval over groups.
    fn estimate(&self, statistic: &dyn Fn(&[f64]) -> f64) -> Estimate {
        self.bootstrap.weighted(&|units| {
            let weights: Vec<f64> = self.of.iter().map(|&unit| units[unit]).collect();
            statistic(&weights)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffling_keeps_a_groups_labels_together() {
        let groups = [0, 0, 1, 1, 2, 3];
        let shuffled = shuffle(&[0, 0, 1, 1, 0, 1], &groups, 3);
        assert_eq!((shuffled[0], shuffled[2]), (shuffled[1], shuffled[3]));
        let mixed = shuffle(&[0, 1, 1, 1, 0, 1], &groups, 3);
        assert_eq!(mixed.iter().sum::<usize>(), 4);
    }

    #[test]
    fn intervals_count_groups_not_examples() {
        // 100 copies of 4 groups know no more than 4 groups
        let (few, many): (Vec<usize>, Vec<usize>) = ((0..4).collect(), (0..400).map(|i| i % 4).collect());
        let width = |groups: &[usize]| {
            let values: Vec<f64> = groups.iter().map(|&g| f64::from(u8::from(g == 0))).collect();
            let estimate = Units::new(groups, 0).mean(&values);
            estimate.hi.zip(estimate.lo).map(|(hi, lo)| hi - lo)
        };
        assert_eq!(width(&few), width(&many));
        let units = Units::new(&many, 0);
        let values: Vec<f64> = many.iter().map(|&g| g as f64).collect();
        let by_weights = units
            .estimate(&|w| values.iter().zip(w).map(|(v, w)| v * w).sum::<f64>() / w.iter().sum::<f64>());
        let (a, b) = (units.mean(&values), by_weights);
        assert!((a.value - b.value).abs() < 1e-12 && (a.lo.unwrap() - b.lo.unwrap()).abs() < 1e-12);
    }
}
