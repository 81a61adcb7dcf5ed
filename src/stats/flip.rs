//! Whether a mean is 0: sign flips (Fisher 1935), and the control of many such tests at once (Benjamini & Hochberg 1995).

use std::collections::BTreeMap;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Units below which there is no p-value: with 12, the smallest is 2/2¹², which 100 tests at once lift to .05.
pub const FEWEST: usize = 13;
/// Units up to which every choice of signs is tried.
const EXACT: usize = 16;
/// Random choices of signs above that.
const FLIPS: usize = 9999;
/// Changes of a logit or a nat that are no more than what rounding in f32 makes of one: a part without effect would be found significant
/// because its rounding has a sign.
const ROUNDING: f64 = 1e-5;

/// The two-sided p-value of the mean of `values` being 0, if they could as well have had the other sign: the share of choices of
/// signs whose sum is at least as far from 0 as the one seen. `units` numbers what each value belongs to (`Task::units`);
/// a unit keeps together, since copies of a prompt are no further evidence.
///
/// All choices for up to 16 units, above that 9999 random ones with the one seen among them, (1 + k) / (1 + 9999). Values no
/// larger than the rounding of a logit (1e-5) count as 0, and values that are all 0 have p = 1. None below 13 units, and where a value is not a finite number.
pub fn sign_flip(values: &[f64], units: &[usize], seed: u64) -> Option<f64> {
    let mut sums: BTreeMap<usize, f64> = BTreeMap::new();
    for (&value, &unit) in values.iter().zip(units) {
        *sums.entry(unit).or_default() += if value.abs() <= ROUNDING { 0.0 } else { value };
    }
    let sums: Vec<f64> = sums.into_values().collect();
    if sums.len() < FEWEST || sums.iter().any(|sum| !sum.is_finite()) {
        return None;
    }
    let signed: Vec<Vec<f64>> = sums.chunks(8).map(signed).collect();
    let total = |bytes: &[u8]| -> f64 {
        signed.iter().zip(bytes).filter_map(|(sums, &byte)| sums.get(usize::from(byte))).sum()
    };
    // what ties but for rounding is as far
    let far = total(&vec![0; signed.len()]).abs() - 1e-12 * sums.iter().map(|sum| sum.abs()).sum::<f64>();
    if sums.len() <= EXACT {
        // a choice and its opposite are equally far: the last unit keeps its sign
        let choices = 1u16 << (sums.len() - 1);
        let as_far = (0..choices).filter(|choice| total(&choice.to_le_bytes()).abs() >= far).count();
        return Some(as_far as f64 / f64::from(choices));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x51_6E_F1_1B);
    let mut bytes = vec![0; signed.len()];
    let mut as_far = 0;
    for _ in 0..FLIPS {
        rng.fill_bytes(&mut bytes);
        as_far += usize::from(total(&bytes).abs() >= far);
    }
    Some((1 + as_far) as f64 / (1 + FLIPS) as f64)
}

/// The p-values of means of many parts, and the q-values of all together. What can change nothing, a shared bias for one, is not
/// tested: its values are exactly 0, and it has neither.
pub fn sign_flips(parts: &[&[f64]], units: &[usize], seed: u64) -> [Vec<Option<f64>>; 2] {
    let test = |values: &&[f64]| {
        let changes = values.iter().any(|x| *x != 0.0);
        if changes { sign_flip(values, units, seed) } else { None }
    };
    let p: Vec<Option<f64>> = parts.par_iter().map(test).collect();
    let q = false_discovery(&p);
    [p, q]
}

/// The sums of up to 8 numbers under each choice of signs, bit i being set where the i-th is flipped.
fn signed(sums: &[f64]) -> Vec<f64> {
    let of = |choice: usize| {
        sums.iter().enumerate().map(|(i, sum)| if choice >> i & 1 == 1 { -sum } else { *sum }).sum()
    };
    // bits past the last number flip nothing
    (0..256).map(of).collect()
}

/// q-values: the smallest false-discovery rate at which each test is still a discovery, over the tests that have a p-value.
pub fn false_discovery(p: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut tests: Vec<(usize, f64)> = p.iter().enumerate().filter_map(|(i, p)| p.map(|p| (i, p))).collect();
    tests.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut q = vec![None; p.len()];
    let mut least = 1.0f64;
    for (below, &(i, p)) in tests.iter().enumerate() {
        let rank = tests.len() - below;
        least = least.min(p * tests.len() as f64 / rank as f64);
        if let Some(q) = q.get_mut(i) {
            *q = Some(least);
        }
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut one = || f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5;
        // sums of uniforms, near enough to normal and symmetric
        (0..n).map(|_| (0..6).map(|_| one()).sum()).collect()
    }

    /// Every choice of signs of every value, one after the other, without tables or symmetry.
    fn naive(values: &[f64]) -> f64 {
        let sum = |choice: u32| -> f64 {
            values.iter().enumerate().map(|(i, x)| if choice >> i & 1 == 1 { -x } else { *x }).sum()
        };
        let seen = sum(0).abs() - 1e-9;
        let all = 1u32 << values.len();
        (0..all).filter(|&choice| sum(choice).abs() >= seen).count() as f64 / f64::from(all)
    }

    #[test]
    fn few_units_are_enumerated() {
        for n in [13, 16] {
            let values: Vec<f64> = noise(n, n as u64).iter().map(|x| x + 0.2).collect();
            let units: Vec<usize> = (0..n).collect();
            assert_eq!(sign_flip(&values, &units, 1), Some(naive(&values)));
        }
        // all of one sign: nothing but the opposite is as far
        assert_eq!(sign_flip(&[1.0; 13], &(0..13).collect::<Vec<_>>(), 1), Some(2.0 / 8192.0));
    }

    #[test]
    fn units_flip_whole() {
        let values = noise(26, 5);
        let units: Vec<usize> = (0..26).map(|i| i % 13).collect();
        let whole: Vec<f64> = (0..13).map(|i| values[i] + values[i + 13]).collect();
        assert_eq!(sign_flip(&values, &units, 1), Some(naive(&whole)));
        // four copies of 12 prompts are 12
        assert_eq!(sign_flip(&[1.0; 48], &(0..48).map(|i| i / 4).collect::<Vec<_>>(), 1), None);
    }

    #[test]
    fn random_flips_agree_with_the_exact_value_and_with_theory() {
        // 20 units of ±1: the sum is binomial
        let values: Vec<f64> = (0..20).map(|i| if i < 14 { 1.0 } else { -1.0 }).collect();
        let units: Vec<usize> = (0..20).collect();
        let choose = |k: u64| (1..=k).fold(1.0, |c, i| c * (21 - i) as f64 / i as f64);
        let exact = 2.0 * (14..=20).map(choose).sum::<f64>() / f64::from(1 << 20);
        let p = sign_flip(&values, &units, 7).unwrap();
        assert!((p - exact).abs() < 4.0 * (exact * (1.0 - exact) / 9999.0).sqrt(), "{p} {exact}");
        // nothing is rarer than one in ten thousand, and the seed alone decides
        assert_eq!(sign_flip(&[1.0; 40], &(0..40).collect::<Vec<_>>(), 7), Some(1e-4));
        assert_eq!(sign_flip(&values, &units, 7), Some(p));
    }

    #[test]
    fn without_an_effect_p_is_uniform() {
        for n in [14, 30] {
            let units: Vec<usize> = (0..n).collect();
            let ps: Vec<f64> = (0..400).map(|seed| sign_flip(&noise(n, seed), &units, 3).unwrap()).collect();
            for level in [0.05, 0.25, 0.5] {
                let share = ps.iter().filter(|&&p| p <= level).count() as f64 / 400.0;
                // four standard errors
                assert!(
                    (share - level).abs() < 4.0 * (level * (1.0 - level) / 400.0).sqrt(),
                    "{n} {level} {share}"
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_tested() {
        let units: Vec<usize> = (0..20).collect();
        assert_eq!(sign_flip(&[0.0; 20], &units, 1), Some(1.0));
        assert_eq!(sign_flip(&[3e-6; 20], &units, 1), Some(1.0), "all of one sign, but rounding");
        assert!(sign_flip(&[3e-4; 20], &units, 1).unwrap() < 1e-3);
        assert_eq!(sign_flip(&[1.0; 12], &units[..12], 1), None);
        assert_eq!(sign_flip(&[f64::NAN; 20], &units, 1), None);
    }

    #[test]
    fn q_values_are_those_of_benjamini_and_hochberg() {
        // p.adjust(c(.01, .04, .03, .005, .8), "BH") in R
        let p = [Some(0.01), None, Some(0.04), Some(0.03), Some(0.005), Some(0.8)];
        let q = false_discovery(&p);
        let expected = [Some(0.025), None, Some(0.05), Some(0.05), Some(0.025), Some(0.8)];
        for (q, expected) in q.iter().zip(expected) {
            assert_eq!(q.is_some(), expected.is_some());
            assert!((q.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs() < 1e-12, "{q:?} {expected:?}");
        }
        // a test is a discovery at rate r exactly where the step-up rule rejects it
        let p: Vec<f64> = noise(50, 2)
            .iter()
            .enumerate()
            .map(|(i, x)| x.abs().min(1.0) * (i as f64 / 50.0).powi(2))
            .collect();
        let q = false_discovery(&p.iter().map(|&p| Some(p)).collect::<Vec<_>>());
        for rate in [0.01, 0.05, 0.2] {
            let mut sorted = p.clone();
            sorted.sort_by(f64::total_cmp);
            let last = (1..=50).rev().find(|&k| sorted[k - 1] <= rate * k as f64 / 50.0);
            let bound = last.map_or(-1.0, |k| sorted[k - 1]);
            for (p, q) in p.iter().zip(&q) {
                assert_eq!(q.unwrap() <= rate, *p <= bound, "{rate} {p} {q:?}");
            }
        }
    }
}
