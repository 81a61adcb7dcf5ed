//! Whether an approximation ranks components as exact patching does.
//!
//! The largest of every ranking are patched exactly, in the same direction; a short ranking from end to end. Correlations,
//! signs and misses say how far the approximation can be trusted. A miss is a component among the exact top that the
//! approximation does not have in its own; where only the top was checked misses are unknown, and a random sample of the others
//! bounds them. Nothing here knows what a component is: nodes and edges are ranked alike.

mod correlation;
mod rows;

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::error::Result;
use crate::row::Rows;
use crate::stats::{Bootstrap, Estimate};
use correlation::{at_most, pearson, ranks, spearman};
use rows::{AgreementRow, SummaryRow};

/// Effects below this share of the largest that was measured matter to nobody: they are neither missed nor of the wrong sign.
const NEGLIGIBLE: f64 = 0.01;

/// What an approximation says of every component.
pub(crate) struct Claim {
    /// Its name in the tables.
    pub(crate) method: &'static str,
    /// False where only sizes are claimed; they are held against the mean |exact| over examples.
    pub(crate) signed: bool,
    /// Change of the metric, `[component][example]`.
    pub(crate) change: Vec<Vec<f64>>,
}

/// Components of one kind, ranked by one or several approximations.
pub(crate) struct Ranking<'a> {
    /// What is ranked: `head`, `position`, `edge`.
    pub(crate) grain: &'a str,
    /// The activation.
    pub(crate) site: &'a str,
    /// `denoise` or `noise`.
    pub(crate) direction: &'a str,
    /// Names of the components.
    pub(crate) labels: Vec<String>,
    /// At least one; all of the same components.
    pub(crate) claims: Vec<Claim>,
}

/// How much is checked, and what effects are shares of.
pub(crate) struct Check<'a> {
    /// How many of each approximation's largest.
    pub(crate) top: usize,
    /// Rankings of at most so many components are checked whole.
    pub(crate) full: usize,
    /// How many others of a longer ranking are drawn.
    pub(crate) sample: usize,
    /// Draws of the sample.
    pub(crate) seed: u64,
    /// Effects are Σ change / Σ gap over examples.
    pub(crate) gap: &'a [f64],
    /// Intervals over examples.
    pub(crate) bootstrap: &'a Bootstrap,
}

/// What was checked so far.
#[derive(Default)]
pub(crate) struct Agreement {
    rows: Vec<AgreementRow>,
    summary: Vec<SummaryRow>,
}

impl Agreement {
    /// Checks a ranking. `exact` patches the components at these indices and returns their changes of the metric,
    /// `[index][example]`.
    pub(crate) fn check(
        &mut self,
        ranking: &Ranking,
        how: &Check,
        exact: impl FnOnce(&[usize]) -> Result<Vec<Vec<f64>>>,
    ) -> Result<()> {
        let count = ranking.labels.len();
        if count == 0 || how.top == 0 || how.gap.is_empty() {
            return Ok(());
        }
        // of a short ranking, at most the upper half is its top: otherwise there would be nothing to miss
        let k = how.top.min(count.div_ceil(2));
        let claims: Vec<Effects> =
            ranking.claims.iter().map(|claim| Effects::new(claim.signed, &claim.change, how)).collect();
        let tops: Vec<Vec<usize>> = claims.iter().map(|claim| claim.largest(k)).collect();
        let mut checked: BTreeSet<usize> = tops.iter().flatten().copied().collect();
        let mut drawn = Vec::new();
        if count <= how.full.max(checked.len()) {
            checked = (0..count).collect();
        } else {
            let others: Vec<usize> = (0..count).filter(|i| !checked.contains(i)).collect();
            let mut rng = ChaCha8Rng::seed_from_u64(how.seed ^ 0xA6_4E_E3);
            let sample = index::sample(&mut rng, others.len(), how.sample.min(others.len()));
            drawn = sample.into_iter().map(|i| others[i]).collect();
            checked.extend(&drawn);
        }
        let checked: Vec<usize> = checked.into_iter().collect();
        let exact = exact(&checked)?;
        for ((claim, effects), top) in ranking.claims.iter().zip(&claims).zip(&tops) {
            let truth = Effects::new(claim.signed, &exact, how);
            let case = Case {
                ranking,
                method: claim.method,
                claim: effects,
                truth,
                checked: &checked,
                top,
                drawn: &drawn,
            };
            self.rows.extend(case.rows(how));
            self.summary.push(case.summary(how));
        }
        Ok(())
    }

    /// The tables of what `of` (`atp`, `edges`) estimated: `…_agreement_summary` and `…_agreement`; none where nothing was checked.
    pub(crate) fn tables(&self, of: &str) -> Vec<Rows> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        vec![
            Rows::of(format!("{of}_agreement_summary"), &self.summary),
            Rows::of(format!("{of}_agreement"), &self.rows),
        ]
    }

    /// What a reader must know: how much was checked, and where the approximation is worst.
    pub(crate) fn notes(&self, of: &str) -> Vec<String> {
        let Some(first) = self.rows.first() else {
            return vec![
                "nothing was checked by exact patching: these are estimates, and may mislead".to_owned(),
            ];
        };
        let mut notes = vec![format!(
            "{} rankings were checked by exact patching in the same direction ({} components; table {of}_agreement_summary)",
            self.summary.len(),
            self.rows.len()
        )];
        let worst = self
            .rows
            .iter()
            .filter(|row| row.signed)
            .fold(first, |worst, row| if row.error.abs() > worst.error.abs() { row } else { worst });
        notes.push(format!(
            "the largest error: {} ({}) is {:.3} by {}, and {:.3} exactly",
            worst.component, worst.direction, worst.approx, worst.method, worst.exact
        ));
        let missed = self.summary.iter().filter(|row| row.misses.is_some_and(|misses| misses > 0)).count();
        let unknown = self.summary.iter().filter(|row| row.misses.is_none()).count();
        notes.push(format!(
            "{missed} rankings miss components of the exact top; of {unknown} the misses are unknown, because only their top \
             and a sample were patched"
        ));
        notes
    }
}

/// Effects of components, as shares of the gap.
struct Effects {
    signed: bool,
    change: Vec<Vec<f64>>,
    effect: Vec<f64>,
}

impl Effects {
    fn new(signed: bool, change: &[Vec<f64>], how: &Check) -> Effects {
        let one = |change: &Vec<f64>| -> Vec<f64> {
            if signed { change.clone() } else { change.iter().map(|x| x.abs()).collect() }
        };
        let change: Vec<Vec<f64>> = change.iter().map(one).collect();
        let mut effects = Effects { signed, effect: Vec::new(), change };
        effects.effect = effects.weighted(&vec![1.0; how.gap.len()], how.gap);
        effects
    }

    /// Effects over examples of these weights: ratios of means.
    fn weighted(&self, weights: &[f64], gap: &[f64]) -> Vec<f64> {
        let sum = |values: &[f64]| values.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>();
        let gap = if self.signed { sum(gap) } else { sum(gap).abs() };
        self.change.iter().map(|change| sum(change) / gap).collect()
    }

    fn estimate(&self, index: usize, how: &Check) -> Estimate {
        let gap = |weights: &[f64]| how.gap.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>();
        let change =
            |weights: &[f64]| self.change[index].iter().zip(weights).map(|(x, w)| x * w).sum::<f64>();
        how.bootstrap.weighted(&|weights| {
            change(weights) / if self.signed { gap(weights) } else { gap(weights).abs() }
        })
    }

    /// The `k` components with the largest |effect|, largest first, the earlier first among equals.
    fn largest(&self, k: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.effect.len()).collect();
        order.sort_by(|&a, &b| self.effect[b].abs().total_cmp(&self.effect[a].abs()).then(a.cmp(&b)));
        order.truncate(k);
        order
    }
}

/// One approximation of one ranking with the exact effects that are known.
struct Case<'a> {
    ranking: &'a Ranking<'a>,
    method: &'static str,
    claim: &'a Effects,
    /// Of the checked components, in their order.
    truth: Effects,
    checked: &'a [usize],
    top: &'a [usize],
    drawn: &'a [usize],
}

impl Case<'_> {
    fn rows(&self, how: &Check) -> Vec<AgreementRow> {
        let size = |effects: &[f64]| -> Vec<f64> { effects.iter().map(|x| -x.abs()).collect() };
        let (by_claim, by_truth) = (ranks(&size(&self.claim.effect)), ranks(&size(&self.truth.effect)));
        let one = |(place, &index): (usize, &usize)| {
            let exact = self.truth.estimate(place, how);
            let approx = self.claim.effect[index];
            AgreementRow {
                grain: self.ranking.grain.to_owned(),
                site: self.ranking.site.to_owned(),
                direction: self.ranking.direction.to_owned(),
                method: self.method.to_owned(),
                signed: self.claim.signed,
                component: self.ranking.labels[index].clone(),
                approx,
                exact: exact.value,
                ci_lo: exact.lo,
                ci_hi: exact.hi,
                error: approx - exact.value,
                approx_rank: by_claim[index],
                exact_rank: by_truth[place],
                drawn: self.drawn.contains(&index),
                n: exact.n,
            }
        };
        self.checked.iter().enumerate().map(one).collect()
    }

    fn summary(&self, how: &Check) -> SummaryRow {
        let whole = self.checked.len() == self.claim.effect.len();
        let places = |of: &[usize]| -> Vec<usize> {
            (0..self.checked.len()).filter(|&place| of.contains(&self.checked[place])).collect()
        };
        let (tops, all): (Vec<usize>, Vec<usize>) = (places(self.top), (0..self.checked.len()).collect());
        let pairs = |places: &[usize], weights: &[f64]| -> (Vec<f64>, Vec<f64>) {
            let (claim, truth) =
                (self.claim.weighted(weights, how.gap), self.truth.weighted(weights, how.gap));
            places.iter().map(|&place| (claim[self.checked[place]], truth[place])).unzip()
        };
        let one = vec![1.0; how.gap.len()];
        let plain = |places: &[usize], of: fn(&[f64], &[f64]) -> Option<f64>| {
            let (claim, truth) = pairs(places, &one);
            of(&claim, &truth)
        };
        // correlations over all that is known without bias: everything, or the top alone
        let over = if whole { &all } else { &tops };
        let claimed = Effects {
            change: self.checked.iter().map(|&i| self.claim.change[i].clone()).collect(),
            signed: self.claim.signed,
            effect: Vec::new(),
        };
        let interval = |of: fn(&[f64], &[f64]) -> Option<f64>| {
            let found = how.bootstrap.weighted(&|weights| {
                let (claim, truth) =
                    (claimed.weighted(weights, how.gap), self.truth.weighted(weights, how.gap));
                let (claim, truth): (Vec<f64>, Vec<f64>) =
                    over.iter().map(|&place| (claim[place], truth[place])).unzip();
                of(&claim, &truth).unwrap_or(f64::NAN)
            });
            if found.value.is_nan() { (None, None, None) } else { (Some(found.value), found.lo, found.hi) }
        };
        let (pearson_all, pearson_lo, pearson_hi) = interval(pearson);
        let (spearman_all, spearman_lo, spearman_hi) = interval(spearman);
        let flipped = tops.iter().filter(|&&place| {
            let product = self.claim.effect[self.checked[place]] * self.truth.effect[place];
            self.claim.signed && product < 0.0 && self.matters(place)
        });
        let errors = tops
            .iter()
            .map(|&place| (self.claim.effect[self.checked[place]] - self.truth.effect[place]).abs());
        let missed = self.missed(&tops);
        let names: Vec<&str> =
            missed.iter().map(|&place| self.ranking.labels[self.checked[place]].as_str()).collect();
        SummaryRow {
            grain: self.ranking.grain.to_owned(),
            site: self.ranking.site.to_owned(),
            direction: self.ranking.direction.to_owned(),
            method: self.method.to_owned(),
            components: self.claim.effect.len(),
            checked: self.checked.len(),
            top: self.top.len(),
            pearson: pearson_all,
            pearson_lo,
            pearson_hi,
            spearman: spearman_all,
            spearman_lo,
            spearman_hi,
            pearson_top: plain(&tops, pearson),
            spearman_top: plain(&tops, spearman),
            worst_error: errors.fold(0.0, f64::max),
            sign_disagreements: flipped.count(),
            misses: whole.then_some(missed.len()),
            misses_at_most: (!whole && !self.drawn.is_empty()).then(|| self.bound(&missed)),
            missed: names.join(", "),
            n: how.gap.len(),
        }
    }

    /// Whether the component at this place, among those checked, has an effect worth speaking of.
    fn matters(&self, place: usize) -> bool {
        let largest = self.truth.effect.iter().fold(0.0, |largest: f64, effect| largest.max(effect.abs()));
        let size = self.truth.effect[place].abs();
        size > 0.0 && size >= NEGLIGIBLE * largest
    }

    /// Places, among those checked, of what belongs to the exact top and not to the claim's, largest first. Components
    /// with a negligible effect belong to no top, and equals of the last of the top are no misses.
    fn missed(&self, tops: &[usize]) -> Vec<usize> {
        let order = self.truth.largest(self.checked.len());
        let size = |place: usize| self.truth.effect[place].abs();
        let top: Vec<usize> =
            order.into_iter().take(self.top.len()).filter(|&place| self.matters(place)).collect();
        let Some(&last) = top.last() else { return Vec::new() };
        let found = tops.iter().filter(|&&place| size(place) >= size(last)).count();
        let missing = top.len().saturating_sub(found);
        top.into_iter().filter(|place| !tops.contains(place)).take(missing).collect()
    }

    /// With 95 % confidence, at most so many components belong to the exact top and not to the claim's: those seen outside it,
    /// and what the sample allows among the rest. A component of the rest belongs to the top if it is larger than the
    /// smallest that was found for it.
    fn bound(&self, missed: &[usize]) -> usize {
        let drawn = |place: &&usize| self.drawn.contains(&self.checked[**place]);
        let hits = missed.iter().filter(drawn).count();
        let rest = self.claim.effect.len() - (self.checked.len() - self.drawn.len());
        (missed.len() - hits) + at_most(hits, self.drawn.len(), rest)
    }
}

#[cfg(test)]
mod tests;
