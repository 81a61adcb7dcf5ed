//! Steering: what adding a direction to the stream does, by its strength, and what it costs.
//!
//! v_l = mean x_l[positive] − mean x_l[negative] over one part of the pairs; α·v_l is then added at the same position of the
//! prompts of the other part, which had no hand in making it (contrastive activation addition, Rimsky et al. 2024). Beside
//! every dose stands what random directions of the same norm do, and what the dose does to text that has nothing to do with
//! the contrast. Removing the direction from the whole stream (Arditi et al. 2024) asks whether the model needs it.

mod measure;
mod pairs;
mod rows;

use candle_core::Tensor;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use crate::analysis::attribution::ReadAt;
use crate::analysis::{Analysis, Findings};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::lesion::Sample;
use crate::metric::Metric;
use crate::model::Transformer;
use crate::record::Activations;
use crate::site::{At, Site};
use crate::steering::{Reading, contrast, norm, random_like};
use crate::task::{self, Example, GENERATORS, Request, Side, Task};
use crate::vocabulary::Bos;
use measure::{Doses, Measured};
use pairs::Pairs;

/// Dose–response of a steering vector and of its removal, layer by layer, with norm-matched random directions and the cost.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Steer {
    /// Where directions are read and added: `resid_pre`, `resid_mid`, `resid_post`, `attn_out` or `mlp_out` of every layer.
    /// With `resid_pre`, at the end of the prompt, the stream that leaves the last layer is added to the list.
    pub site: String,
    /// The position: `end` (where the answer is due), a named one, or a number. By default the position where the prompts
    /// of each pair differ, if it is one, else `end`.
    pub position: Option<ReadAt>,
    /// By what the direction is multiplied before it is added.
    pub strengths: Vec<f64>,
    /// Which shares of the direction are removed from the stream, at every layer and position; 1, all of it, always is.
    pub shares: Vec<f64>,
    /// Random directions of the same norm.
    pub randoms: usize,
    /// Which share of the pairs makes the direction; it is tried on the others.
    pub share: f64,
    /// The answer that the direction is to point to; pairs that have it as their wrong answer are turned round. By
    /// default clean prompts are positive, unless the pairs exchange two answers: then the first pair's answer.
    pub toward: Option<String>,
    /// Ordinary text: of each of these prompts the last token is to be predicted. By default prompts of the other tasks with
    /// their answers.
    pub reference: Option<Vec<Sample>>,
    /// The number whose change is reported.
    pub metric: Metric,
}

impl Default for Steer {
    fn default() -> Self {
        Steer {
            site: "resid_pre".to_owned(),
            position: None,
            strengths: vec![-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0],
            shares: vec![0.25, 0.5, 0.75, 1.0],
            randoms: 8,
            share: 0.5,
            toward: None,
            reference: None,
            metric: Metric::LogitDiff,
        }
    }
}

/// How many prompts each other task gives as ordinary text.
const ORDINARY: usize = 16;

/// A site with the direction found there and the random ones of its norm.
struct Place {
    site: Site,
    direction: Tensor,
    randoms: Vec<Tensor>,
    norm: f64,
}

impl Analysis for Steer {
    const NAME: &'static str = "steer";
    const ABOUT: &'static str = "dose–response of a steering vector made from contrasting prompts, against random directions of its norm";
    const NEEDS_PAIRS: bool = true;
    const TAKES_METRIC: bool = true;
    const TAKES_REFERENCE: bool = true;
    const TASK: &'static str = "agreement";

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        task.fits(&lab.model)?;
        let doses = Doses::new(&self.strengths, &self.shares)?;
        if self.randoms == 0 {
            return Err(Error::usage("`randoms` is 0: nothing to compare with", "write `randoms = 8`"));
        }
        let pairs = Pairs::of(lab, task, self.toward.as_deref(), self.share)?;
        let mut notes = pairs.notes.clone();
        let at = self.positions(&pairs.task, &mut notes)?;
        let places = self.places(lab, &pairs, &at)?;
        let ordinary = self.ordinary(lab, task, &mut notes)?;
        let cells = places.len() * (doses.count() * (1 + self.randoms) + 2);
        lab.progress.begin("steering", (3 * cells) as u64);
        let on = |task: &Task, side, at: &[usize], which: &[usize], metric| {
            measure::measure(lab, task, side, at, which, &places, &doses, metric)
        };
        let measured = Measured {
            positive: on(&pairs.task, Side::Clean, &at, &pairs.tried, self.metric)?,
            negative: on(&pairs.task, Side::Corrupt, &at, &pairs.tried, self.metric)?,
            ordinary: match &ordinary {
                None => None,
                Some(text) => {
                    // ordinary text has no named positions: it is steered where its next token is due
                    let (ends, all): (Vec<usize>, Vec<usize>) =
                        text.examples.iter().enumerate().map(|(i, example)| (example.end(), i)).unzip();
                    Some(on(text, Side::Clean, &ends, &all, Metric::LogProb)?)
                }
            },
        };
        lab.progress.end();
        Ok(rows::findings(self, lab, &pairs, &places, &doses, &measured, notes))
    }
}

impl Steer {
    /// The position of each example that is read and steered.
    fn positions(&self, task: &Task, notes: &mut Vec<String>) -> Result<Vec<usize>> {
        if let Some(position) = &self.position {
            return task.examples.iter().map(|example| position.of(example)).collect();
        }
        let differ = |example: &Example| {
            let pairs = example.clean.iter().zip(example.corrupt.iter().flatten()).enumerate();
            let mut places = pairs.filter(|(_, (a, b))| a != b).map(|(pos, _)| pos);
            places.next().filter(|_| places.next().is_none())
        };
        let only: Option<Vec<usize>> = task.examples.iter().map(differ).collect();
        let (where_, at) = match only {
            Some(at) => ("where the two prompts of a pair differ", at),
            None => ("where the answer is due", task.examples.iter().map(Example::end).collect()),
        };
        notes.push(format!("read and added {where_}; position=… chooses another place"));
        Ok(at)
    }

    /// Where directions are read and added, in order of execution.
    fn sites(&self, model: &Transformer, ends: bool) -> Result<Vec<Site>> {
        let all = [At::ResidPre, At::ResidMid, At::ResidPost, At::AttnOut, At::MlpOut];
        let name = |at: At| at.name().trim_start_matches("hook_");
        let at = all.into_iter().find(|&at| name(at) == self.site);
        let at = at.ok_or_else(|| Error::unknown("site to steer at", &self.site, all.map(name)))?;
        let layers = model.config.n_layers;
        let mut sites: Vec<Site> = (0..layers).map(|layer| Site::Block(layer, at)).collect();
        if at == At::ResidPre && ends {
            sites.push(Site::Block(layers - 1, At::ResidPost));
        }
        sites.iter().try_for_each(|&site| model.check_site(site))?;
        Ok(sites)
    }

    fn places(&self, lab: &Lab, pairs: &Pairs, at: &[usize]) -> Result<Vec<Place>> {
        let readings = |side| -> Result<Vec<Reading>> {
            let of = |&i: &usize| {
                let example = &pairs.task.examples[i];
                Ok(Reading { tokens: example.prompt(side)?, at: at[i] })
            };
            pairs.made.iter().map(of).collect()
        };
        let ends = pairs.task.examples.iter().zip(at).all(|(example, &at)| example.end() == at);
        let sites = self.sites(&lab.model, ends)?;
        let Activations(directions) =
            contrast(lab, &readings(Side::Clean)?, &readings(Side::Corrupt)?, &sites)?;
        let mut rng = ChaCha8Rng::seed_from_u64(lab.seed ^ 0x2A2D_07E5);
        let place = |(site, direction): (Site, Tensor)| {
            let norm = norm(&direction)?;
            let randoms =
                (0..self.randoms).map(|_| random_like(&direction, &mut rng)).collect::<Result<_>>()?;
            Ok(Place { site, direction, randoms, norm })
        };
        directions.into_iter().map(place).collect()
    }

    /// Prompts that have nothing to do with the contrast, each with the token that comes next; none if there are none.
    fn ordinary(&self, lab: &Lab, task: &Task, notes: &mut Vec<String>) -> Result<Option<Task>> {
        let mut examples = Vec::new();
        if let Some(reference) = &self.reference {
            for Sample { tokens, .. } in reference {
                let Some((&last, before)) = tokens.split_last().filter(|(_, before)| !before.is_empty())
                else {
                    return Err(Error::input(
                        "a reference prompt is one token long: there is nothing to predict its last token from",
                        "give prompts of two tokens or more",
                    ));
                };
                examples.push(Example { clean: before.to_vec(), answers: vec![last], ..Example::default() });
            }
            notes.push(format!("ordinary text: the last tokens of {} reference prompts", examples.len()));
        } else {
            let bos = if task.bos { Bos::Yes } else { Bos::No };
            let request = Request { n: ORDINARY, seed: lab.seed, bos, ..Request::default() };
            let mut names = Vec::new();
            for generator in GENERATORS.iter().filter(|generator| generator.name != task.name) {
                // a model that does not know a task's words is not asked about it
                let Ok(other) = task::generate(generator.name, &request, &lab.vocabulary) else { continue };
                if other.fits(&lab.model).is_ok() {
                    names.push(generator.name);
                    examples.extend(other.examples);
                }
            }
            if names.is_empty() {
                notes.push(
                    "no ordinary text: this model knows the words of no other task; give --reference FILE"
                        .into(),
                );
                return Ok(None);
            }
            notes.push(format!("ordinary text: {} prompts each of {}", ORDINARY, names.join(", ")));
        }
        for (i, example) in examples.iter_mut().enumerate() {
            example.id = format!("text-{i}");
            example.corrupt = None;
        }
        let ordinary = Task { name: "ordinary".into(), examples, bos: task.bos, ..Task::default() };
        ordinary.fits(&lab.model)?;
        Ok(Some(ordinary))
    }
}
