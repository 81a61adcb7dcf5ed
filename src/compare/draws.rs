//! How sure differences are: intervals by resampling examples, p-values by sign flips of those that both runs saw.

use rayon::prelude::*;

use super::columns::Spec;
use super::each::Sample;
use super::side::Side;
use crate::error::Result;
use crate::row::Rows;
use crate::stats::{Bootstrap, percentiles, sign_flip};

/// What the intervals of a table's differences stand on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interval {
    /// So many examples, the same in both runs: the difference in each is resampled.
    Paired(usize),
    /// Different examples: each run's mean is resampled by itself.
    Apart([usize; 2]),
    /// None, for this reason.
    None(&'static str),
}

impl Interval {
    /// Why tables that are made of no examples, or whose examples are not kept, have no intervals.
    pub const NO_EXAMPLES: &'static str = "the runs keep no values of every example for it";
}

/// Another stream of draws for the second run where the two are resampled apart.
const APART: u64 = 0x9E37_79B9_7F4A_7C15;

/// Intervals of the differences of one column, for pairs of rows.
pub(super) struct Draws<'a> {
    samples: [Sample<'a>; 2],
    bootstraps: [Bootstrap; 2],
    /// Whether the first sample is B's: what is computed does not depend on which run is called A.
    flipped: bool,
    seed: u64,
    /// On what intervals stand.
    pub(super) interval: Interval,
}

/// How sure a difference is.
#[derive(Debug, Clone, Default)]
pub(super) struct Sure {
    /// Its 95 % interval.
    pub(super) interval: Option<[f64; 2]>,
    /// The p-value of its being 0; none where the runs saw different examples.
    pub(super) p: Option<f64>,
}

/// One pair of rows: places in both tables, and both values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) rows: [usize; 2],
    pub(super) values: [f64; 2],
    /// Whether the value is a share of the gap.
    pub(super) is_share: bool,
}

impl<'a> Draws<'a> {
    /// Examples behind both tables; the reason where there are none.
    pub(super) fn of(
        sides: &'a [Side; 2],
        tables: [&Rows; 2],
        spec: &Spec,
        same: bool,
    ) -> Result<std::result::Result<Draws<'a>, &'static str>> {
        let [a, b] = sides;
        let (of_a, of_b) = match (Sample::of(a, tables[0], spec)?, Sample::of(b, tables[1], spec)?) {
            (Ok(of_a), Ok(of_b)) => (of_a, of_b),
            (Err(why), _) | (_, Err(why)) => return Ok(Err(why)),
        };
        let flipped = a.run.sha256 > b.run.sha256;
        let mut samples = if flipped { [of_b, of_a] } else { [of_a, of_b] };
        let [first, second] = &mut samples;
        let alike = if first.is_prompts { same } else { drawn_alike([a, b]) };
        let paired = alike && second.reorder(&first.ids);
        let seed = a.seed().min(b.seed());
        let one = Bootstrap::grouped(&first.units, seed);
        let other = if paired { one.clone() } else { Bootstrap::grouped(&second.units, seed ^ APART) };
        let mut sizes = [first.ids.len(), second.ids.len()];
        if flipped {
            sizes.reverse();
        }
        let interval = if paired { Interval::Paired(sizes[0]) } else { Interval::Apart(sizes) };
        Ok(Ok(Draws { samples, bootstraps: [one, other], flipped, seed, interval }))
    }

    /// How sure each pair's difference is; nothing where examples do not give the table's own value back.
    ///
    /// A share of a gap is a ratio of means, top over gap. If both runs had one share r, each example's `top − r · gap`, in units of
    /// its run's mean gap, would come in one run as well as in the other: r is the mean of both shares, and flipped is how far the
    /// two are apart. Their mean is the difference, and that gaps vary between prompts is no doubt about it.
    pub(super) fn of_column(&self, column: &str, tables: [&Rows; 2], pairs: &[Pair]) -> Result<Vec<Sure>> {
        if !self.samples.iter().all(|sample| sample.has(column)) {
            return Ok(vec![Sure::default(); pairs.len()]);
        }
        let turned = |[a, b]: [usize; 2]| if self.flipped { [b, a] } else { [a, b] };
        let turned_tables = if self.flipped { [tables[1], tables[0]] } else { tables };
        let [first, second] = &self.samples;
        let names = [first.names(turned_tables[0])?, second.names(turned_tables[1])?];
        let cells = [first.column(column)?, second.column(column)?];
        let [one, other] = &self.bootstraps;
        let plain = [one.over(None), other.over(None)];
        let gaps = [first.gaps.as_deref(), second.gaps.as_deref()];
        let shares = [gaps[0].map(|gaps| one.over(Some(gaps))), gaps[1].map(|gaps| other.over(Some(gaps)))];
        let side = |k: usize, row: usize, value: f64, is_share: bool| -> Option<[Vec<f64>; 2]> {
            let name = names.get(k)?.get(row)?;
            let values = self.samples.get(k)?.values(cells.get(k)?, name)?;
            let over = if is_share { shares.get(k)?.as_ref()? } else { plain.get(k)? };
            let found = over.value(&values);
            ((found - value).abs() <= 1e-6 * value.abs().max(1e-3)).then(|| [over.resampled(&values), values])
        };
        let is_paired = matches!(self.interval, Interval::Paired(_));
        let one = |pair: &Pair| -> Option<Sure> {
            let (rows, [a, b]) = (turned(pair.rows), pair.values);
            let [u, v] = if self.flipped { [b, a] } else { [a, b] };
            let (first, second) = (side(0, rows[0], u, pair.is_share)?, side(1, rows[1], v, pair.is_share)?);
            let share = (u + v) / 2.0;
            let own = |k: usize, values: &[f64]| -> Option<Vec<f64>> {
                if !pair.is_share {
                    return Some(values.to_vec());
                }
                let gaps = (*gaps.get(k)?)?;
                Some(values.iter().zip(gaps).map(|(top, gap)| top - share * gap).collect())
            };
            let change =
                |[x, y]: [&Vec<f64>; 2]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| y - x).collect() };
            let ends = percentiles(change([&first[0], &second[0]]));
            // 0 − x rather than −x: no negative zero
            let interval = ends.map(|(lo, hi)| if self.flipped { [0.0 - hi, 0.0 - lo] } else { [lo, hi] });
            let units = &self.samples[0].units;
            let test = || sign_flip(&change([&own(0, &first[1])?, &own(1, &second[1])?]), units, self.seed);
            Some(Sure { interval, p: if is_paired { test() } else { None } })
        };
        Ok(pairs.par_iter().map(|pair| one(pair).unwrap_or_default()).collect())
    }
}

/// Whether a method that draws its own sequences drew the same in both.
fn drawn_alike([a, b]: [&Side; 2]) -> bool {
    a.seed() == b.seed() && a.fact(&["tokenizer_sha256"]) == b.fact(&["tokenizer_sha256"])
}
