//! Prefix matching (Olsson et al. 2022): on random tokens said four times, how much attention goes to what followed the same
//! token before.

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::Result;
use crate::hook::Hook;
use crate::lab::Lab;
use crate::site::{At, Site};
use crate::vocabulary::Bos;

/// How often the tokens are said, and how many they are where the context allows.
const TIMES: usize = 4;
const LENGTH: usize = 25;

/// The length of what is said four times; none if the context is too short for two tokens.
pub(super) fn period(lab: &Lab) -> Option<usize> {
    let before = usize::from(bos(lab).is_some());
    let most = lab.model.config.n_ctx.saturating_sub(before) / TIMES;
    Some(most.min(LENGTH)).filter(|period| *period >= 2)
}

/// The score of every head on each sequence `[sequence][layer · head]`.
pub(super) fn scores(lab: &Lab, sequences: usize, period: usize) -> Result<Vec<Vec<f64>>> {
    let model = &lab.model;
    let ids = lab.vocabulary.ordinary(model.config.d_vocab);
    let mut rng = ChaCha8Rng::seed_from_u64(lab.seed ^ 0x9EF1_8A7C);
    let bos = bos(lab);
    let mut found = Vec::new();
    lab.progress.begin("prefix matching", sequences as u64);
    for _ in 0..sequences {
        lab.check()?;
        let said: Vec<u32> = (0..period).map(|_| ids[rng.random_range(0..ids.len())]).collect();
        let row: Vec<u32> =
            bos.iter().copied().chain((0..TIMES).flat_map(|_| said.iter().copied())).collect();
        let mut watch = Watch { first: usize::from(bos.is_some()), period, scores: Vec::new() };
        let stream = model.embed(&model.tokens(&[&row])?, &mut ())?;
        model.run(stream, None, model.config.n_layers, &mut watch)?;
        found.push(watch.scores);
        lab.progress.advance(1);
    }
    lab.progress.end();
    Ok(found)
}

fn bos(lab: &Lab) -> Option<u32> {
    lab.vocabulary.bos(Bos::Yes).ok().flatten()
}

/// Reads the score off each pattern as it passes.
struct Watch {
    first: usize,
    period: usize,
    scores: Vec<f64>,
}

impl Hook for Watch {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::Block(_, At::Pattern))
    }

    fn visit(&mut self, _: Site, _: usize, x: Tensor) -> Result<Tensor> {
        let (_, _, queries, keys) = x.dims4()?;
        let flat: Vec<f64> = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        let heads = flat.chunks_exact(queries * keys);
        self.scores.extend(heads.map(|pattern| score(pattern, keys, self.first, self.period)));
        Ok(x)
    }
}

/// From the second time on, the attention of a token to all that followed it before, mean over tokens. The pattern is `[query,
/// key]`; the tokens begin at `first`.
fn score(pattern: &[f64], keys: usize, first: usize, period: usize) -> f64 {
    let followers = |query: usize| {
        let before = (query - first) / period;
        (1..=before).map(move |times| query - times * period + 1)
    };
    let queries = first + period..keys;
    let count = queries.len() as f64;
    queries.flat_map(|query| followers(query).map(move |key| pattern[query * keys + key])).sum::<f64>()
        / count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pattern `[query, key]` whose queries spread evenly over these keys.
    fn even(n: usize, keys: impl Fn(usize) -> Vec<usize>) -> Vec<f64> {
        let mut pattern = vec![0.0; n * n];
        for query in 0..n {
            let to = keys(query);
            to.iter().for_each(|key| pattern[query * n + key] += 1.0 / to.len() as f64);
        }
        pattern
    }

    #[test]
    fn hand_made_heads_score_what_they_are() {
        // BOS, then three tokens four times
        let (n, first, period) = (13, 1, 3);
        let all =
            even(n, |q| if q < 4 { vec![0] } else { (1..=(q - 1) / 3).map(|t| q - 3 * t + 1).collect() });
        assert!((score(&all, n, first, period) - 1.0).abs() < 1e-12, "all occurrences count together");
        let last = even(n, |q| if q < 4 { vec![0] } else { vec![q - 2] });
        assert_eq!(score(&last, n, first, period), 1.0);
        let duplicate = even(n, |q| if q < 4 { vec![0] } else { vec![q - 3] });
        assert_eq!(score(&duplicate, n, first, period), 0.0);
        // evenly over all in sight: three queries with one follower, three with two, three with three
        let everywhere = even(n, |q| (0..=q).collect());
        let want: f64 = (4..13).map(|q| ((q - 1) / 3) as f64 / (q + 1) as f64).sum::<f64>() / 9.0;
        assert!((score(&everywhere, n, first, period) - want).abs() < 1e-12);
        // a token said twice in a row: at period 2 the token after the earlier occurrence is the one before
        assert_eq!(score(&even(8, |q| vec![q.saturating_sub(1)]), 8, 0, 2), 1.0);
    }
}
