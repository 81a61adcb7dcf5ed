//! Logit lens (nostalgebraist 2020): what the model would say if it stopped here.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::Deserialize;

use super::{Analysis, Findings};
use crate::distribution::{Summary, summaries};
use crate::error::Result;
use crate::lab::Lab;
use crate::model::{Padding, Stream, Transformer};
use crate::record::Recorder;
use crate::row;
use crate::row::Rows;
use crate::site::{At, Site};
use crate::stats::{Bootstrap, Estimate};
use crate::task::{Place, Side, Task};

/// The residual stream before, inside and after every block, read through the final norm (its own gain and bias) and
/// the unembedding: LL_l(t) = norm(x_l\[t\])·W_U + b_U, bent to a bound where the model's own logits are.
///
/// The last `resid_post` row is the model's real prediction. Early rows of many models are biased, because their basis
/// is not the last one (Belrose et al. 2023); with tied embeddings the first row tends to read the input token itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lens {
    /// Which positions are read.
    pub positions: Reach,
}

/// Which positions of a prompt are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// Every position, or the named ones when prompts do not align.
    #[default]
    All,
    /// Only where the answer is due.
    End,
}

row! {
    /// What the stream at one place says, over all examples.
    pub struct Reading {
        /// `resid_pre`, `resid_mid` or `resid_post`.
        pub site: String,
        /// Block.
        pub layer: usize,
        /// Position, BOS counted; where prompts do not align, the name that the position has in all of them.
        pub pos: String,
        /// The token there, or the position's name when examples differ.
        pub token: String,
        /// The token the lens reads first, most often over the examples.
        pub top: String,
        /// Probability of the answer.
        pub prob: Option<f64>,
        /// Rank of the answer (1 is first), mean over the examples.
        pub rank: Option<f64>,
        /// Logit difference of the answer and the wrong answer.
        pub logit_diff: Option<f64>,
        /// Entropy of the distribution (nats).
        pub entropy: f64,
        /// KL(final ‖ here): how far the model is from what it will say at this position (nats).
        pub kl: f64,
        /// Lower end of the 95 % interval of `prob`.
        pub prob_ci_lo: Option<f64>,
        /// Upper end.
        pub prob_ci_hi: Option<f64>,
        /// Lower end of the 95 % interval of `logit_diff`.
        pub logit_diff_ci_lo: Option<f64>,
        /// Upper end.
        pub logit_diff_ci_hi: Option<f64>,
        /// How many examples.
        pub n: usize,
    }
}

row! {
    /// What the stream at one place says in one example.
    pub struct ExampleReading {
        /// The example.
        pub example: String,
        /// `resid_pre`, `resid_mid` or `resid_post`.
        pub site: String,
        /// Block.
        pub layer: usize,
        /// Position, BOS counted.
        pub pos: usize,
        /// What `lens` calls this position: its number, or its name where prompts do not align.
        pub place: String,
        /// The token there.
        pub token: String,
        /// The token the lens reads first.
        pub top: String,
        /// Probability of the answer.
        pub prob: Option<f64>,
        /// Rank of the answer; 1 is first.
        pub rank: Option<f64>,
        /// Logit difference of the answer and the wrong answer.
        pub logit_diff: Option<f64>,
        /// Entropy of the distribution (nats).
        pub entropy: f64,
        /// KL(final ‖ here) (nats).
        pub kl: f64,
    }
}

impl Analysis for Lens {
    const NAME: &'static str = "lens";
    const ABOUT: &'static str = "logit lens: what the model would say if it stopped after each block";

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        task.fits(&lab.model)?;
        let places = match self.positions {
            Reach::All => task.places(),
            Reach::End => {
                let positions = task.examples.iter().map(|example| example.end()).collect();
                vec![Place { label: "end".into(), positions }]
            }
        };
        let layers = lab.model.config.n_layers;
        let steps = steps(&lab.model);
        // said[step][place][example]
        let mut said = vec![vec![vec![Summary::default(); task.examples.len()]; places.len()]; steps.len()];
        let batches = task.batches(task.fitting(lab, steps.len() * lab.model.config.d_model));
        lab.progress.begin("lens", (batches.len() * steps.len()) as u64);
        for batch in &batches {
            read(lab, task, batch, &places, &steps, &mut said)?;
        }
        lab.progress.end();

        let bootstrap = Bootstrap::grouped(&task.units(), lab.seed);
        let (mut rows, mut each) = (Vec::new(), Vec::new());
        for layer in 0..layers {
            for (name, site) in
                [("resid_pre", At::ResidPre), ("resid_mid", At::ResidMid), ("resid_post", At::ResidPost)]
            {
                // what a block receives is what the one before it left
                let stream = match (site, layer.checked_sub(1)) {
                    (At::ResidPre, Some(before)) => Site::Block(before, At::ResidPost),
                    _ => Site::Block(layer, site),
                };
                let Some(step) = steps.iter().position(|&step| step == stream) else { continue };
                let site = name;
                for (place, said) in places.iter().zip(&said[step]) {
                    let token = place.token(task, &lab.vocabulary);
                    rows.push(over((site, layer, place), token, said, lab, &bootstrap));
                    for ((example, &pos), said) in task.examples.iter().zip(&place.positions).zip(said) {
                        let token = lab.vocabulary.token(example.clean.get(pos).copied().unwrap_or(0));
                        let spot = Spot { site, layer, pos, place: &place.label };
                        each.push(spot.one(said, &example.id, token, lab));
                    }
                }
            }
        }
        let mut tables = vec![Rows::of("lens", &rows), Rows::of("examples_lens", &each)];
        tables.extend(self.first(lab, task)?);
        Ok(Findings { tables, ..Findings::default() })
    }
}

impl Lens {
    /// Table `lens_first`: the first example alone, at every position of its prompt, where averages are by named
    /// position and so leave most of it out.
    fn first(&self, lab: &Lab, task: &Task) -> Result<Option<Rows>> {
        let whole = task.places().len() == task.examples[0].clean.len();
        if self.positions == Reach::End || task.examples.len() == 1 && whole {
            return Ok(None);
        }
        let alone = Task { examples: vec![task.examples[0].clone()], ..task.clone() };
        let mut tables = self.run(lab, &alone)?.tables;
        tables.truncate(1);
        Ok(tables.pop().map(|rows| Rows { name: "lens_first".to_owned(), ..rows }))
    }
}

/// The distinct streams of a pass: before block 0, then inside (where the MLP reads what attention wrote) and after each
/// block.
fn steps(model: &Transformer) -> Vec<Site> {
    let blocks = model.blocks.iter().enumerate().flat_map(|(layer, block)| {
        let mid = block.has_mid().then_some(Site::Block(layer, At::ResidMid));
        mid.into_iter().chain([Site::Block(layer, At::ResidPost)])
    });
    std::iter::once(Site::Block(0, At::ResidPre)).chain(blocks).collect()
}

/// Reads one batch at all steps. At most a few arrays `[rows, d_vocab]` are alive at once, of as many rows as the memory
/// allows.
fn read(
    lab: &Lab,
    task: &Task,
    batch: &[usize],
    places: &[Place],
    steps: &[Site],
    said: &mut [Vec<Vec<Summary>>],
) -> Result<()> {
    let model = &lab.model;
    let tokens = task.tokens(model, batch, Side::Clean)?;
    let pos = tokens.dim(1)?;
    let mut recorder = Recorder::new(|site| steps.contains(&site));
    let stream = model.embed(&tokens, &mut ())?;
    model.run(stream, None, model.config.n_layers, &mut recorder)?;
    let cells: Vec<(usize, usize)> =
        (0..batch.len()).flat_map(|r| (0..places.len()).map(move |p| (r, p))).collect();
    let bytes = (8 * model.config.d_vocab_out * model.dtype().size_in_bytes()) as u64;
    let together = ((lab.memory / 4) / bytes.max(1)).clamp(1, 1 << 16) as usize;
    for cells in cells.chunks(together) {
        let rows: Vec<u32> =
            cells.iter().map(|&(r, p)| (r * pos + places[p].positions[batch[r]]) as u32).collect();
        let rows = Tensor::new(rows, model.device())?;
        let layer = model.config.n_layers;
        let logits = |site: Site| -> Result<Tensor> {
            let x = recorder.kept.get(site)?.flatten_to(1)?.index_select(&rows, 0)?; // [row, d_model]
            let read = Stream {
                layer,
                first_pos: 0,
                padding: Padding::default(),
                resid: x.unsqueeze(1)?,
                learned: None,
            };
            Ok(model.unembed(&read, &mut ())?.squeeze(1)?)
        };
        let last = logits(steps[steps.len() - 1])?;
        let of = |&(r, _): &(usize, usize)| &task.examples[batch[r]];
        let targets: Vec<_> =
            cells.iter().map(of).map(|e| (e.answers.as_slice(), e.wrong.as_slice())).collect();
        for (step, &site) in steps.iter().enumerate() {
            lab.check()?;
            let here = logits(site)?;
            for (&(r, p), summary) in cells.iter().zip(summaries(&here, &last, &targets)?) {
                said[step][p][batch[r]] = summary;
            }
        }
    }
    lab.progress.advance(steps.len() as u64);
    Ok(())
}

/// What all examples say at one place.
fn over(
    spot: (&str, usize, &Place),
    token: String,
    said: &[Summary],
    lab: &Lab,
    bootstrap: &Bootstrap,
) -> Reading {
    let (site, layer, place) = spot;
    let mean = |of: fn(&Summary) -> Option<f64>| -> Option<Estimate> {
        let values: Option<Vec<f64>> = said.iter().map(of).collect();
        values.map(|values| bootstrap.mean(&values))
    };
    let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
    for said in said {
        *votes.entry(said.top).or_default() += 1;
    }
    let top =
        votes.iter().max_by_key(|(id, count)| (**count, std::cmp::Reverse(**id))).map_or(0, |(id, _)| *id);
    let (prob, logit_diff) = (mean(|said| said.prob), mean(|said| said.logit_diff));
    let rank: Option<Vec<f64>> = said.iter().map(|said| said.rank).collect();
    let plain = |of: fn(&Summary) -> f64| said.iter().map(of).sum::<f64>() / said.len() as f64;
    Reading {
        site: site.into(),
        layer,
        pos: place.label.clone(),
        token,
        top: lab.vocabulary.token(top),
        prob: prob.map(|e| e.value),
        rank: rank.map(|ranks| ranks.iter().sum::<f64>() / ranks.len() as f64),
        logit_diff: logit_diff.map(|e| e.value),
        entropy: plain(|said| said.entropy),
        kl: plain(|said| said.kl),
        prob_ci_lo: prob.and_then(|e| e.lo),
        prob_ci_hi: prob.and_then(|e| e.hi),
        logit_diff_ci_lo: logit_diff.and_then(|e| e.lo),
        logit_diff_ci_hi: logit_diff.and_then(|e| e.hi),
        n: said.len(),
    }
}

/// Where a reading was taken.
struct Spot<'a> {
    site: &'static str,
    layer: usize,
    pos: usize,
    place: &'a str,
}

impl Spot<'_> {
    fn one(self, said: &Summary, example: &str, token: String, lab: &Lab) -> ExampleReading {
        ExampleReading {
            example: example.to_owned(),
            site: self.site.into(),
            layer: self.layer,
            pos: self.pos,
            place: self.place.to_owned(),
            token,
            top: lab.vocabulary.token(said.top),
            prob: said.prob,
            rank: said.rank,
            logit_diff: said.logit_diff,
            entropy: said.entropy,
            kl: said.kl,
        }
    }
}
