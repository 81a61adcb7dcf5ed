//! What heads look at: scores on repeated random tokens, and attention patterns.

mod prefix;

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use super::{Analysis, Findings, weights};
use crate::component::Component;
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::lab::Lab;
use crate::lesion;
use crate::model::Transformer;
use crate::patterns;
use crate::row;
use crate::row::Rows;
use crate::site::{At, Site};
use crate::stats::{Bootstrap, Estimate};
use crate::task::Task;
use crate::vocabulary::Bos;

/// Scores of every head on sequences `BOS r₁…r_T r₁…r_T` of random tokens (BOS only if the tokenizer has one), where
/// nothing but the repetition can be attended to (Elhage et al. 2021; Olsson et al. 2022).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heads {
    /// How many sequences.
    pub sequences: usize,
    /// T, the tokens before the repetition; absent: min(50, ⌊(n_ctx − 1)/2⌋).
    pub length: Option<usize>,
    /// Heads whose attention on the first prompt is listed in table `attention`, written `9.6`, `L9H6` or `a9.h6`.
    pub show: Vec<String>,
}

impl Default for Heads {
    fn default() -> Self {
        Heads { sequences: 16, length: None, show: Vec::new() }
    }
}

row! {
    /// One head over all sequences.
    pub struct HeadScore {
        /// Layer.
        pub layer: usize,
        /// Head.
        pub head: usize,
        /// Mean attention to the token before.
        pub previous: f64,
        /// In the second half, mean attention to the same token in the first.
        pub duplicate: f64,
        /// In the second half, mean attention to the token after the same token in the first.
        pub induction: f64,
        /// Mean attention to the first position (BOS where there is one).
        pub bos: f64,
        /// Mean entropy of attention divided by that of even attention over the keys in sight: 0 one place, 1 all alike. What a
        /// sink takes is left out.
        pub entropy: f64,
        /// Lower end of the 95 % bootstrap interval of `previous`, over sequences.
        pub previous_ci_lo: Option<f64>,
        /// Upper end.
        pub previous_ci_hi: Option<f64>,
        /// Lower end for `duplicate`.
        pub duplicate_ci_lo: Option<f64>,
        /// Upper end.
        pub duplicate_ci_hi: Option<f64>,
        /// Lower end for `induction`.
        pub induction_ci_lo: Option<f64>,
        /// Upper end.
        pub induction_ci_hi: Option<f64>,
        /// On random tokens said four times, mean attention to all that followed the same token before. None where the context
        /// is too short.
        pub prefix: Option<f64>,
        /// Lower end of its interval.
        pub prefix_ci_lo: Option<f64>,
        /// Upper end.
        pub prefix_ci_hi: Option<f64>,
        /// From the weights: Σ Re λ / Σ |λ| over the eigenvalues of W_E·W_OV·W_U. Near 1 a token attended to raises its own
        /// logit. None where nothing is copied or could be.
        pub copying: Option<f64>,
        /// Which of the first three scores pass 0.4.
        pub kind: String,
        /// How many sequences.
        pub n: usize,
    }
}

row! {
    /// One head on one sequence.
    pub struct SequenceScore {
        /// Which sequence.
        pub sequence: usize,
        /// Layer.
        pub layer: usize,
        /// Head.
        pub head: usize,
        /// Mean attention to the token before.
        pub previous: f64,
        /// In the second half, mean attention to the same token in the first.
        pub duplicate: f64,
        /// In the second half, mean attention to the token after the same token in the first.
        pub induction: f64,
        /// Mean attention to the first position.
        pub bos: f64,
        /// Mean entropy of attention divided by that of even attention over the keys in sight.
        pub entropy: f64,
        /// On other tokens, said four times: mean attention to all that followed the same token before.
        pub prefix: Option<f64>,
    }
}

/// A score from which on a head is called by its name.
const NAMED: f64 = 0.4;

impl Analysis for Heads {
    const NAME: &'static str = "heads";
    const ABOUT: &'static str = "previous-token, duplicate-token, induction, prefix-matching, copying, BOS and entropy scores of every head";

    /// The task is needed only for `attention.pattern` `[layer, head, query, key]` of its first example.
    const TAKES_HEADS: bool = true;

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        let shown: Vec<(usize, usize)> =
            self.show.iter().map(|name| Component::named_head(name)).collect::<Result<_>>()?;
        let attention = match shown.as_slice() {
            [] => None,
            heads => Some(patterns::patterns(lab, task, heads, 0)?),
        };
        let repeated = self.sequences(lab)?;
        let config = &lab.model.config;
        let mut each = Vec::new();
        lab.progress.begin("heads", repeated.rows.len() as u64);
        for (sequence, row) in repeated.rows.iter().enumerate() {
            lab.check()?;
            let mut watch =
                Watch { model: &lab.model, at: (repeated.first, repeated.period), scores: Vec::new() };
            let stream = lab.model.embed(&lab.model.tokens(&[row])?, &mut ())?;
            lab.model.run(stream, None, config.n_layers, &mut watch)?;
            for (place, mut score) in watch.scores.into_iter().enumerate() {
                score.sequence = sequence;
                (score.layer, score.head) = (place / config.n_heads, place % config.n_heads);
                each.push(score);
            }
            lab.progress.advance(1);
        }
        lab.progress.end();
        let period = prefix::period(lab);
        if let Some(period) = period {
            let scores = prefix::scores(lab, self.sequences, period)?;
            each.iter_mut()
                .zip(scores.into_iter().flatten())
                .for_each(|(row, score)| row.prefix = Some(score));
        }
        let copying = weights::copying(lab)?;

        let bootstrap = Bootstrap::new(self.sequences, lab.seed);
        let heads = (0..config.n_layers).flat_map(|layer| (0..config.n_heads).map(move |head| (layer, head)));
        let rows: Vec<HeadScore> =
            heads.zip(copying).map(|(place, copying)| over(&each, place, copying, &bootstrap)).collect();
        let mut findings = Findings {
            tables: attention
                .into_iter()
                .chain([Rows::of("head_scores", &rows), Rows::of("examples_head_scores", &each)])
                .collect(),
            ..Findings::default()
        };
        findings.notes.push(format!(
            "Head scores: {} sequences of {} random tokens, said twice, {}.",
            self.sequences,
            repeated.period,
            if repeated.first == 1 { "after BOS" } else { "without BOS, which the tokenizer does not have" }
        ));
        findings.notes.push(match period {
            Some(period) => format!(
                "Prefix matching: as many sequences of {period} random tokens said four times; attention to the followers of \
                 all earlier occurrences counts together. Copying: from the weights alone (see `weights`)."
            ),
            None => "Prefix matching: the context is too short for tokens said four times.".to_owned(),
        });
        findings.notes.extend(sight(&lab.model, repeated.period));
        if !task.examples.is_empty() {
            let pattern = patterns::of(lab, &task.examples[0])?;
            findings.tensors.insert("attention.pattern".into(), pattern);
        }
        Ok(findings)
    }
}

/// Sequences of random tokens, each said twice.
struct Repeated {
    rows: Vec<Vec<u32>>,
    /// Where the first half begins: 1 after BOS.
    first: usize,
    /// Length of a half.
    period: usize,
}

impl Heads {
    fn sequences(&self, lab: &Lab) -> Result<Repeated> {
        let c = &lab.model.config;
        let bos = lab.vocabulary.bos(Bos::Yes).ok().flatten();
        let most = (c.n_ctx - usize::from(bos.is_some()).min(c.n_ctx)) / 2;
        let period = self.length.unwrap_or(50.min(c.n_ctx.saturating_sub(1) / 2));
        if period < 2 || period > most {
            return Err(Error::usage(
                format!("{period} tokens said twice do not fit: the context is {}", c.n_ctx),
                format!("choose a `length` from 2 to {most}"),
            ));
        }
        lesion::check_count(self.sequences)?;
        let ids = lab.vocabulary.ordinary(c.d_vocab);
        if ids.is_empty() {
            return Err(Error::input(
                "the vocabulary holds only special tokens",
                "check that tokenizer and model belong together",
            ));
        }
        let mut rng = ChaCha8Rng::seed_from_u64(lab.seed ^ 0x4EAD_5C0E);
        let rows = (0..self.sequences).map(|_| {
            let half: Vec<u32> = (0..period).map(|_| ids[rng.random_range(0..ids.len())]).collect();
            bos.iter().chain(&half).chain(&half).copied().collect()
        });
        Ok(Repeated { rows: rows.collect(), first: usize::from(bos.is_some()), period })
    }
}

/// Reads the scores off each pattern as it passes, so that no pattern is kept.
struct Watch<'a> {
    model: &'a Transformer,
    /// Where the first half begins, and its length.
    at: (usize, usize),
    scores: Vec<SequenceScore>,
}

impl Hook for Watch<'_> {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::Block(_, At::Pattern))
    }

    fn visit(&mut self, site: Site, _: usize, x: Tensor) -> Result<Tensor> {
        let (_, _, queries, keys) = x.dims4()?;
        let attention = &self.model.block(site.layer().unwrap_or(0))?.attention;
        let seen = |query: usize| {
            let all = if attention.causal { query + 1 } else { keys };
            attention.window.map_or(all, |window| window.min(all))
        };
        let flat: Vec<f64> = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        let heads = flat.chunks_exact(queries * keys);
        self.scores.extend(heads.map(|pattern| scores(pattern, keys, self.at, &seen)));
        Ok(x)
    }
}

/// What keeps heads of this model from scoring whatever they look for.
fn sight(model: &Transformer, period: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let short = |window: &usize| *window <= period;
    let layers = model.blocks.iter().enumerate();
    let near: Vec<String> = layers
        .filter(|(_, block)| block.attention.window.as_ref().is_some_and(short))
        .map(|(layer, _)| layer.to_string())
        .collect();
    if !near.is_empty() {
        notes.push(format!(
            "Heads of layers {} see no further back than their window, which is too short for a token said {period} tokens \
             before: their duplicate and induction scores are low whatever they look for. A `length` below the window shows \
             more.",
            near.join(", ")
        ));
    }
    if model.blocks.iter().any(|block| block.attention.sinks.is_some()) {
        notes.push(
            "Attention that goes to a head's sink goes to no token: a head's scores need not sum to 1."
                .to_owned(),
        );
    }
    if !model.config.causal {
        notes.push(
            "This model looks both ways: a head may find a token's repetition ahead of it too.".to_owned(),
        );
    }
    notes
}

/// The scores of one head (to be named) from its pattern `[query, key]`, row by row, of a sequence whose first half begins at
/// `first`; `seen` is how many keys a query can attend to.
fn scores(
    pattern: &[f64],
    keys: usize,
    (first, period): (usize, usize),
    seen: &dyn Fn(usize) -> usize,
) -> SequenceScore {
    let queries = pattern.len() / keys;
    let at = |query: usize, key: usize| pattern[query * keys + key];
    let mean = |queries: std::ops::Range<usize>, of: &dyn Fn(usize) -> f64| {
        let count = queries.len() as f64;
        queries.map(of).sum::<f64>() / count
    };
    let second = first + period..queries;
    let spread = |query: usize| -> f64 {
        let row = &pattern[query * keys..(query + 1) * keys];
        // of what goes to tokens: a sink may take a part
        let (total, most) = (row.iter().sum::<f64>(), (seen(query) as f64).ln());
        if total <= 0.0 || most <= 0.0 {
            return 0.0;
        }
        row.iter().map(|a| a / total).filter(|a| *a > 0.0).map(|a| -a * a.ln()).sum::<f64>() / most
    };
    SequenceScore {
        sequence: 0,
        layer: 0,
        head: 0,
        previous: mean(1..queries, &|q| at(q, q - 1)),
        duplicate: mean(second.clone(), &|q| at(q, q - period)),
        induction: mean(second, &|q| at(q, q - period + 1)),
        bos: mean(1..queries, &|q| at(q, 0)),
        entropy: mean(1..queries, &spread),
        prefix: None,
    }
}

fn over(
    each: &[SequenceScore],
    (layer, head): (usize, usize),
    copying: Option<f64>,
    bootstrap: &Bootstrap,
) -> HeadScore {
    let own = || each.iter().filter(move |row| row.layer == layer && row.head == head);
    let mean =
        |of: fn(&SequenceScore) -> f64| -> Estimate { bootstrap.mean(&own().map(of).collect::<Vec<_>>()) };
    let (previous, duplicate) = (mean(|s| s.previous), mean(|s| s.duplicate));
    let induction = mean(|s| s.induction);
    let prefix: Option<Vec<f64>> = own().map(|s| s.prefix).collect();
    let prefix = prefix.map(|scores| bootstrap.mean(&scores));
    let named = [("previous token", previous), ("duplicate token", duplicate), ("induction", induction)];
    let named = named.iter().filter(|(_, score)| score.value >= NAMED).map(|(name, _)| *name);
    HeadScore {
        layer,
        head,
        previous: previous.value,
        duplicate: duplicate.value,
        induction: induction.value,
        bos: mean(|s| s.bos).value,
        entropy: mean(|s| s.entropy).value,
        previous_ci_lo: previous.lo,
        previous_ci_hi: previous.hi,
        duplicate_ci_lo: duplicate.lo,
        duplicate_ci_hi: duplicate.hi,
        induction_ci_lo: induction.lo,
        induction_ci_hi: induction.hi,
        prefix: prefix.map(|score| score.value),
        prefix_ci_lo: prefix.and_then(|score| score.lo),
        prefix_ci_hi: prefix.and_then(|score| score.hi),
        copying,
        kind: named.collect::<Vec<_>>().join(", "),
        n: previous.n,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::About;
    use crate::model::Config;
    use crate::vocabulary::Vocabulary;

    /// A pattern whose query attends to one key.
    fn one_hot(n: usize, key: impl Fn(usize) -> usize) -> Vec<f64> {
        (0..n * n).map(|i| f64::from(u8::from(i % n == key(i / n)))).collect()
    }

    #[test]
    fn a_half_has_fifty_tokens_or_what_the_context_allows() {
        for (n_ctx, period) in [(5, 2), (6, 2), (7, 3), (32, 15), (100, 49), (101, 50), (102, 50), (1024, 50)]
        {
            for bos in [None, Some(0)] {
                let model = Transformer::random(Config { n_ctx, ..Config::tiny() }, 0, DType::F32).unwrap();
                let lab = Lab::new(model, Vocabulary::new(None, bos), About::default());
                let repeated = Heads::default().sequences(&lab).unwrap();
                assert_eq!(
                    (repeated.period, repeated.first),
                    (period, usize::from(bos.is_some())),
                    "{n_ctx}"
                );
                for row in repeated.rows {
                    let (first, halves) = row.split_at(repeated.first);
                    assert_eq!((first.to_vec(), halves.len()), (Vec::from_iter(bos), 2 * period));
                    assert_eq!(halves[..period], halves[period..]);
                    assert!(row.len() <= n_ctx);
                }
            }
        }
    }

    #[test]
    fn a_hand_made_head_scores_what_it_is() {
        // BOS a b c a b c: first = 1, period = 3
        let previous = scores(&one_hot(7, |q| q.saturating_sub(1)), 7, (1, 3), &|q| q + 1);
        assert_eq!((previous.previous, previous.duplicate, previous.induction), (1.0, 0.0, 0.0));
        assert_eq!((previous.entropy, previous.bos), (0.0, 1.0 / 6.0));
        let duplicate = scores(&one_hot(7, |q| if q >= 4 { q - 3 } else { 0 }), 7, (1, 3), &|q| q + 1);
        assert_eq!((duplicate.previous, duplicate.duplicate, duplicate.induction), (1.0 / 6.0, 1.0, 0.0));
        assert_eq!(duplicate.bos, 0.5);
        let induction = scores(&one_hot(7, |q| if q >= 4 { q - 2 } else { 0 }), 7, (1, 3), &|q| q + 1);
        assert_eq!((induction.duplicate, induction.induction), (0.0, 1.0));
    }

    #[test]
    fn even_attention_has_known_scores() {
        let n = 7;
        let even: Vec<f64> =
            (0..n * n).map(|i| if i % n <= i / n { 1.0 / (i / n + 1) as f64 } else { 0.0 }).collect();
        let s = scores(&even, n, (1, 3), &|q| q + 1);
        let all: f64 = (1..7).map(|q| 1.0 / f64::from(q + 1)).sum::<f64>() / 6.0;
        let second: f64 = (4..7).map(|q| 1.0 / f64::from(q + 1)).sum::<f64>() / 3.0;
        // of which a sink takes half; and within a window of two keys
        let half: Vec<f64> = even.iter().map(|a| a / 2.0).collect();
        let sunk = scores(&half, n, (1, 3), &|q| q + 1);
        assert!((sunk.entropy - 1.0).abs() < 1e-12 && (sunk.previous - all / 2.0).abs() < 1e-12);
        let near: Vec<f64> =
            (0..n * n).map(|i| if i % n <= i / n && i / n < i % n + 2 { 0.5 } else { 0.0 }).collect();
        assert!((scores(&near, n, (1, 3), &|q| (q + 1).min(2)).entropy - 1.0).abs() < 1e-12);
        for (got, want) in
            [(s.previous, all), (s.bos, all), (s.duplicate, second), (s.induction, second), (s.entropy, 1.0)]
        {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
    }
}
