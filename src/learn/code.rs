//! How few bits the labels take when a probe helps to send them: online code (Voita & Titov 2020).

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::method::hedged;
use super::{Method, Set};

/// Shares of the examples after which the probe is fitted again, in percent.
const BLOCKS: [f64; 11] = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.25, 12.5, 25.0, 50.0, 100.0];

/// The length of a code.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Code {
    /// Bits to send the labels with the probe's help.
    pub bits: f64,
    /// Bits to send them without: n·log₂ classes.
    pub uniform: f64,
    /// The penalty with which the code is shortest.
    pub penalty: f64,
}

/// Sends the labels block by block: the first at log₂ classes bits each, every further one by the probabilities of a logistic
/// probe fitted on those before. Groups are sent in an order drawn from `seed`, and no block ends within one, so that the probe
/// never knows a group it is asked about. Probabilities are smoothed by Laplace's rule, so that a class not seen yet has a price.
/// Every penalty of the grid gives a code; the shortest is taken, and naming it costs log₂ of the size of the grid.
pub fn online_code(set: &Set, seed: u64) -> Code {
    let n = set.y.len();
    let mut groups: Vec<usize> = set.groups.to_vec();
    groups.sort_unstable();
    groups.dedup();
    groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ 0xC0DE));
    let mut order: Vec<usize> = Vec::with_capacity(n);
    let mut ends = vec![0];
    for group in groups {
        order.extend((0..n).filter(|&i| set.groups[i] == group));
        ends.push(order.len());
    }
    let mut cuts: Vec<usize> = Vec::new();
    for share in BLOCKS {
        let wanted = ((share / 100.0 * n as f64).ceil() as usize).clamp(1, n);
        let cut = ends.iter().copied().find(|&end| end >= wanted).unwrap_or(n);
        if cuts.last() != Some(&cut) {
            cuts.push(cut);
        }
    }
    let grid = Method::Logistic.grid();
    let per_label = (set.classes as f64).log2();
    let first = cuts.first().copied().unwrap_or(n);
    let mut bits = vec![first as f64 * per_label + (grid.len() as f64).log2(); grid.len()];
    for pair in cuts.windows(2) {
        let (seen, block) = (&order[..pair[0]], &order[pair[0]..pair[1]]);
        let y: Vec<usize> = seen.iter().map(|&i| set.y[i]).collect();
        let asked = set.x.take(block);
        let path = Method::Logistic.path(&set.x.take(seen), &y, set.classes, grid, 1e-5);
        for (bits, fitted) in bits.iter_mut().zip(path) {
            let scores = fitted.linear.scores(&asked);
            for (row, &i) in block.iter().enumerate() {
                *bits -= hedged(scores.row(row), seen.len())[set.y[i]].log2();
            }
        }
    }
    let mut best = 0;
    for (i, b) in bits.iter().enumerate() {
        if *b < bits[best] {
            best = i;
        }
    }
    Code { bits: bits[best], uniform: n as f64 * per_label, penalty: grid[best] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Matrix;

    #[test]
    fn what_is_legible_compresses_and_noise_does_not() {
        let n = 200;
        let y: Vec<usize> = (0..n).map(|i| (i * 7919 % 31) % 2).collect();
        let noise = |i: usize, j: usize| ((i * 101 + j * 53) % 97) as f64 / 97.0;
        let rows = |strength: f64| {
            let row = |i: usize| (0..4).map(|j| noise(i, j) + strength * y[i] as f64).collect();
            Matrix::of(&(0..n).map(row).collect::<Vec<Vec<f64>>>())
        };
        let groups: Vec<usize> = (0..n).collect();
        let (clear, dull) = (rows(3.0), rows(0.0));
        let code = |x: &Matrix| online_code(&Set::new(x, y.clone(), 2, &groups).unwrap(), 0);
        let (clear, dull) = (code(&clear), code(&dull));
        assert_eq!(clear.uniform, 200.0);
        assert!(clear.bits < 40.0, "{clear:?}");
        assert!(dull.bits > 190.0, "{dull:?}");
    }
}
