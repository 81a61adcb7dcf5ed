//! What heads do, read off the weights: OV and QK circuits as factored matrices, composition between heads.

mod circuit;
mod composition;
mod copied;
mod notes;
mod singular;
mod tokens;

use rayon::prelude::*;
use serde::Deserialize;

use super::{Analysis, Findings};
use crate::component::Component;
use crate::error::{Error, Result};
use crate::factored::{Factored, Svd, participation};
use crate::lab::Lab;
use crate::row;
use crate::row::Rows;
use crate::stats::Bootstrap;
use crate::task::Task;
use circuit::Circuits;
use tokens::Between;

/// Each head's maps from the weights alone (Elhage et al. 2021): W_OV says what is written when a token is attended to, W_QK who
/// attends to whom. Needs no prompts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// How many singular directions of each map are read in tokens.
    pub vectors: usize,
    /// How many tokens stand for an end of a direction.
    pub top: usize,
    /// How many random pairs of matrices make the baseline of composition.
    pub draws: usize,
    /// Whether MLPs are among the writers that heads compose with.
    pub mlps: bool,
    /// Pairs of heads whose joint maps are read in tokens: `[["0.0", "1.0"]]`; by default the three with the largest excess.
    pub pairs: Option<Vec<[String; 2]>>,
    /// How many tokens drawn at random are put through each head by themselves: is the token among the five it says?
    pub copied: usize,
    /// Tokens to put through besides: `[" Mary", " John"]`.
    pub words: Vec<String>,
}

impl Default for Weights {
    fn default() -> Self {
        Weights { vectors: 2, top: 5, draws: 100, mlps: false, pairs: None, copied: 0, words: Vec::new() }
    }
}

/// A token is copied if it is among this many.
const CHOICES: usize = 5;
/// Pairs of heads read in tokens when none is named.
const PAIRS: usize = 3;
/// More than anyone can mean.
const MOST: usize = 100_000;

row! {
    /// One head's maps.
    pub struct HeadWeights {
        /// Layer.
        pub layer: usize,
        /// Head.
        pub head: usize,
        /// Σ Re λ / Σ |λ| over the eigenvalues of W_E·W_OV·W_U, from −1 to 1: near 1 a token attended to raises its own logit.
        pub copying: Option<f64>,
        /// The same of W_OV alone: near 1 what is read from the stream is written back to where it was.
        pub preserving: Option<f64>,
        /// The same of W_E·W_QK·W_Eᵀ: near 1 tokens attend to tokens of their own kind.
        pub matching: Option<f64>,
        /// Frobenius norm of W_OV.
        pub ov_norm: f64,
        /// Its largest singular value.
        pub ov_top: f64,
        /// How many directions share its squares: (Σ s²)² / Σ s⁴, from 1 to d_head.
        pub ov_rank: Option<f64>,
        /// Frobenius norm of W_QK, the scale of scores in it.
        pub qk_norm: Option<f64>,
        /// Its largest singular value.
        pub qk_top: Option<f64>,
        /// How many directions share its squares.
        pub qk_rank: Option<f64>,
        /// Share of the tokens put through the head that are among the five it says loudest (parameters `copied`, `words`).
        pub copied: Option<f64>,
        /// Lower end of its 95 % bootstrap interval, over tokens.
        pub copied_ci_lo: Option<f64>,
        /// Upper end.
        pub copied_ci_hi: Option<f64>,
        /// How many tokens.
        pub n: Option<usize>,
        /// The part it was made to play, where the model's own description says so.
        pub role: String,
    }
}

row! {
    /// One eigenvalue.
    pub struct Eigenvalue {
        /// Layer.
        pub layer: usize,
        /// Head.
        pub head: usize,
        /// `copying`: W_E·W_OV·W_U; `preserving`: W_OV; `matching`: W_E·W_QK·W_Eᵀ.
        pub circuit: String,
        /// Which, the largest being 0.
        pub index: usize,
        /// Real part.
        pub re: f64,
        /// Imaginary part.
        pub im: f64,
    }
}

row! {
    /// One singular value.
    pub struct Spectrum {
        /// Layer.
        pub layer: usize,
        /// Head.
        pub head: usize,
        /// `ov`: W_OV; `qk`: W_QK.
        pub circuit: String,
        /// Which, the largest being 0.
        pub index: usize,
        /// The singular value.
        pub value: f64,
    }
}

/// A name and the eigenvalues that a score was made of.
type Named = (&'static str, Vec<[f64; 2]>);

/// One head, measured.
struct Head {
    eigenvalues: Vec<Named>,
    scores: [Option<f64>; 3],
    ov: (f64, Svd),
    qk: Option<(f64, Svd)>,
}

impl Head {
    fn of(ov: &Factored, qk: Option<&Factored>, between: &Between) -> Result<Head> {
        let decomposed = |map: &Factored| -> Result<(f64, Svd)> { Ok((map.norm(), map.svd()?)) };
        let copying = between.said.as_ref().map(|said| Factored::new(said * ov.a(), ov.b().clone()));
        let alike = qk.zip(between.alike.as_ref());
        let matching = alike.map(|(qk, alike)| Factored::new(alike * qk.a(), qk.b().clone()));
        let maps = [
            ("copying", copying.transpose()?),
            ("preserving", Some(ov.clone())),
            ("matching", matching.transpose()?),
        ];
        let (mut eigenvalues, mut scores) = (Vec::new(), [None; 3]);
        for (score, (name, map)) in scores.iter_mut().zip(maps) {
            if let Some(map) = map {
                let own = map.eigenvalues()?;
                *score = map.positivity(&own);
                eigenvalues.push((name, own));
            }
        }
        Ok(Head { eigenvalues, scores, ov: decomposed(ov)?, qk: qk.map(decomposed).transpose()? })
    }
}

/// The copying score of every head `[layer · head]`: Σ Re λ / Σ |λ| over the eigenvalues of W_E·W_OV·W_U. None where there is
/// none (the head writes nothing that is said, or other tokens are said than read).
pub fn copying(lab: &Lab) -> Result<Vec<Option<f64>>> {
    let between = Between::of(lab, false)?;
    let Some(said) = &between.said else {
        return Ok(vec![None; lab.model.config.n_layers * lab.model.config.n_heads]);
    };
    let mut scores = Vec::new();
    for layer in 0..lab.model.config.n_layers {
        lab.check()?;
        let ov = Circuits::of(&lab.model, layer)?.ov;
        let score = |ov: &Factored| -> Result<Option<f64>> {
            let map = Factored::new(said * ov.a(), ov.b().clone())?;
            Ok(map.positivity(&map.eigenvalues()?))
        };
        scores.extend(ov.par_iter().map(score).collect::<Result<Vec<_>>>()?);
    }
    Ok(scores)
}

impl Analysis for Weights {
    const NAME: &'static str = "weights";
    const ABOUT: &'static str = "what heads do by their weights alone: copying, matching, spectra, and which heads compose with which";

    /// The task is needed only for its name: a model's own description gives roles by task.
    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        self.check()?;
        let (model, c) = (&lab.model, &lab.model.config);
        let pairs: Option<Vec<singular::Pair>> = match &self.pairs {
            Some(named) => {
                Some(named.iter().map(|pair| singular::Pair::named(pair, lab)).collect::<Result<_>>()?)
            }
            None => None,
        };
        let asked = copied::tokens(lab, &self.words, self.copied)?;
        let normed = model.blocks.iter().all(|block| block.attention.q_norm.is_some());
        let between = Between::of(lab, !normed)?;
        let most = [self.vectors, self.top];
        let (mut rows, mut eigenvalues, mut spectra, mut directions) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        lab.progress.begin("weights", c.n_layers as u64);
        for layer in 0..c.n_layers {
            lab.check()?;
            let Circuits { ov, qk } = Circuits::of(model, layer)?;
            let one = |(head, ov): (usize, &Factored)| {
                Head::of(ov, qk.as_ref().and_then(|qk| qk.get(head)), &between)
            };
            let heads: Vec<Head> = ov.par_iter().enumerate().map(one).collect::<Result<_>>()?;
            let mut svds = Vec::new();
            for (head, found) in heads.into_iter().enumerate() {
                rows.push(found.row(
                    layer,
                    head,
                    Component::Head(layer, head).role(lab.about.circuit.as_ref(), &task.name),
                ));
                for (circuit, values) in found.eigenvalues {
                    let each = values.into_iter().enumerate();
                    eigenvalues.extend(each.map(|(index, [re, im])| Eigenvalue {
                        layer,
                        head,
                        circuit: circuit.to_owned(),
                        index,
                        re,
                        im,
                    }));
                }
                for (circuit, (_, svd)) in [("ov", Some(found.ov)), ("qk", found.qk)]
                    .into_iter()
                    .filter_map(|(name, it)| Some((name, it?)))
                {
                    let each = svd.s.iter().enumerate();
                    spectra.extend(each.map(|(index, &value)| Spectrum {
                        layer,
                        head,
                        circuit: circuit.to_owned(),
                        index,
                        value,
                    }));
                    svds.push((head, circuit, svd));
                }
            }
            directions.extend(singular::singular(lab, layer, &svds, most)?);
            lab.progress.advance(1);
        }
        lab.progress.end();
        let composition = composition::composition(lab, self.mlps, self.draws)?;
        let pairs = pairs.unwrap_or_else(|| singular::Pair::strongest(&composition, PAIRS));
        let together = singular::together(lab, &pairs, most)?;
        let ranks = copied::copied(lab, &asked)?;
        shares(&mut rows, &ranks, lab.seed);
        let mut tables = vec![Rows::of("weights", &rows)];
        let more = [
            Rows::of("composition", &composition),
            Rows::of("singular", &directions),
            Rows::of("virtual", &together),
            Rows::of("eigenvalues", &eigenvalues),
            Rows::of("spectrum", &spectra),
            Rows::of("examples_copied", &ranks),
        ];
        tables.extend(more.into_iter().filter(|rows| !rows.is_empty()));
        Ok(Findings { tables, notes: notes::notes(lab, self.mlps, self.draws), ..Findings::default() })
    }
}

impl Weights {
    fn check(&self) -> Result<()> {
        if !(2..=MOST).contains(&self.draws) {
            return Err(Error::usage(
                format!(
                    "`draws` is {}: a baseline with a spread needs 2 draws, and {MOST} are more than enough",
                    self.draws
                ),
                "write `draws = 100`",
            ));
        }
        let many = [("vectors", self.vectors), ("top", self.top), ("copied", self.copied)];
        match many.into_iter().find(|(_, count)| *count > MOST) {
            Some((name, count)) => Err(Error::usage(
                format!("`{name}` is {count}: more than a table can hold"),
                format!("ask for {MOST} at most"),
            )),
            None => Ok(()),
        }
    }
}

impl Head {
    fn row(&self, layer: usize, head: usize, role: String) -> HeadWeights {
        let top = |svd: &Svd| svd.s.first().copied().unwrap_or(0.0);
        let [copying, preserving, matching] = self.scores;
        let ((ov_norm, ov), qk) = (&self.ov, self.qk.as_ref());
        HeadWeights {
            layer,
            head,
            copying,
            preserving,
            matching,
            ov_norm: *ov_norm,
            ov_top: top(ov),
            ov_rank: participation(&ov.s),
            qk_norm: qk.map(|(norm, _)| *norm),
            qk_top: qk.map(|(_, svd)| top(svd)),
            qk_rank: qk.and_then(|(_, svd)| participation(&svd.s)),
            copied: None,
            copied_ci_lo: None,
            copied_ci_hi: None,
            n: None,
            role,
        }
    }
}

/// Fills in which share of tokens each head copies.
fn shares(rows: &mut [HeadWeights], ranks: &[copied::Copied], seed: u64) {
    if ranks.is_empty() {
        return;
    }
    let bootstrap = Bootstrap::new(ranks.len() / rows.len().max(1), seed);
    for row in rows {
        let own = ranks.iter().filter(|rank| (rank.layer, rank.head) == (row.layer, row.head));
        let hits: Vec<f64> = own.map(|rank| f64::from(u8::from(rank.rank < CHOICES))).collect();
        let share = bootstrap.mean(&hits);
        (row.copied, row.n) = (Some(share.value), Some(share.n));
        (row.copied_ci_lo, row.copied_ci_hi) = (share.lo, share.hi);
    }
}
