//! Linear probes: what can be read from activations by a linear function, and whether the model reads it too.
//!
//! A probe that does well shows that something is *there*; it does not show that the model uses it. So every probe stands beside
//! what it must be compared with (the most frequent class, shuffled labels, the embeddings, the same model with random weights, a
//! control task) and beside an intervention: the subspace it reads is taken out of the activation, and the model asked again.
//!
//! Cross-validation parts no group: examples of one subject, or with the same tokens up to the probed position (whose activations
//! are equal), are held out together.

mod collect;
mod measure;
mod question;
mod rows;
mod tables;
mod using;

use rayon::prelude::*;
use serde::Deserialize;

use crate::analysis::{Analysis, Findings};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::learn::Method;
use crate::metric::Metric;
use crate::model::Transformer;
use crate::task::Task;
use collect::{Arrays, collect};
use measure::{Measured, measure};
use question::{By, Question};

/// What can be read linearly from the activations at chosen sites and positions, and whether the model uses it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Probe {
    /// Which label is read; by default the task's usual one (`glassbox list tasks` shows them).
    pub label: Option<String>,
    /// Sites: short names (`resid_post`, `mlp_out`, `z`) at every layer, or globs (`blocks.1.*`). The embeddings (the stream that
    /// enters layer 0) are always read beside them.
    pub sites: Vec<String>,
    /// Positions: names, `last`, or numbers (BOS counted); by default the label's own.
    pub positions: Vec<String>,
    /// Kinds of probes: `logistic`, `ridge`, `mass-mean`, `mass-mean-iid`.
    pub methods: Vec<Method>,
    /// What is never parted between training and test: examples of one `subject`, one `group`, or one `prompt`. By default the
    /// subject where all examples have one, else the prompt.
    pub by: Option<By>,
    /// Folds of the cross-validation.
    pub folds: usize,
    /// How often labels are shuffled.
    pub shuffles: usize,
    /// How often the control task is drawn.
    pub controls: usize,
    /// Whether a model of the same shape with random weights is probed too.
    pub random_weights: bool,
    /// Whether what the probes read is taken out of the model's activations.
    pub intervene: bool,
    /// How many random subspaces are taken out for comparison.
    pub directions: usize,
    /// What an intervention is measured by.
    pub metric: Metric,
}

impl Default for Probe {
    fn default() -> Self {
        Probe {
            label: None,
            sites: vec!["resid_post".to_owned()],
            positions: Vec::new(),
            methods: vec![Method::Logistic, Method::Ridge, Method::MassMean],
            by: None,
            folds: 5,
            shuffles: 5,
            controls: 3,
            random_weights: true,
            intervene: true,
            directions: 5,
            metric: Metric::LogitDiff,
        }
    }
}

/// Folds inside a training part, by which penalties are chosen.
const INNER: usize = 3;

impl Analysis for Probe {
    const NAME: &'static str = "probe";
    const ABOUT: &'static str =
        "linear probes with their baselines, and whether the model uses what they read";
    const TAKES_METRIC: bool = true;
    const TAKES_ACTIVATIONS: bool = true;

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        task.fits(&lab.model)?;
        self.check()?;
        let question = Question::new(self, lab, task)?;
        let trained = collect(lab, &lab.model, "as trained", &question)?;
        let random = self.random(lab, &question)?;
        let measured = self.measure(lab, &question, &trained, random.as_ref())?;
        let used = if self.intervene { using::all(lab, &question, &measured, self)? } else { Vec::new() };
        Ok(rows::findings(self, &question, &measured, &used))
    }
}

impl Probe {
    fn check(&self) -> Result<()> {
        let refuse = |what: &str, hint: &str| Err(Error::usage(what.to_owned(), hint.to_owned()));
        if self.methods.is_empty() {
            return refuse("there is no method", "write `methods=[\"logistic\"]`");
        }
        if self.folds < 2 {
            return refuse("cross-validation needs two folds or more", "write `folds=5`");
        }
        if self.shuffles == 0 || self.controls == 0 {
            return refuse("`shuffles` and `controls` are drawn at least once", "write 1 or more");
        }
        if self.intervene && self.directions == 0 {
            return refuse(
                "an intervention is compared with random directions",
                "write `directions=5`, or `intervene=false`",
            );
        }
        Ok(())
    }

    /// The same sites and positions of a model whose every weight is random, embeddings included.
    fn random(&self, lab: &Lab, question: &Question) -> Result<Option<Arrays>> {
        if !self.random_weights {
            return Ok(None);
        }
        let bytes = (lab.about.parameters * lab.model.dtype().size_in_bytes()) as u64;
        if bytes > lab.memory {
            return Err(Error::usage(
                format!("a model of the same shape with random weights takes {} MB more", bytes >> 20),
                "leave this baseline out with `random_weights=false`",
            ));
        }
        let model = Transformer::random(lab.model.config.clone(), lab.seed, lab.model.dtype())?;
        let weights = format!("random, seed {}", lab.seed);
        collect(lab, &model, &weights, question).map(Some)
    }

    /// Every method at every place. As many places are in memory at once as the lab allows; the embeddings' predictions are kept
    /// for comparison with all others.
    fn measure(
        &self,
        lab: &Lab,
        question: &Question,
        trained: &Arrays,
        random: Option<&Arrays>,
    ) -> Result<Vec<Measured>> {
        let work: Vec<(usize, Method)> = (0..question.spots.len())
            .flat_map(|spot| self.methods.iter().map(move |&method| (spot, method)))
            .collect();
        lab.progress.begin("probe", work.len() as u64);
        // a place holds its numbers in f64, a copy per fold in flight, and those of the random model
        let widest = question.spots.iter().map(|spot| spot.width).max().unwrap_or(1);
        let each = (question.kept.len() * widest * 8 * (4 + rayon::current_num_threads())) as u64;
        let together = ((lab.memory / 2) / each.max(1)).clamp(1, 64) as usize;
        let mut measured: Vec<Measured> = Vec::new();
        // the embeddings come first, so that the others can be compared with them
        let base: Vec<_> =
            work.iter().copied().filter(|(spot, _)| question.spots[*spot].is_embedding).collect();
        let rest: Vec<_> =
            work.iter().copied().filter(|(spot, _)| !question.spots[*spot].is_embedding).collect();
        for part in [base, rest] {
            for some in part.chunks(together) {
                lab.check()?;
                let done = some.par_iter().map(|&(spot, method)| {
                    let one = measure(self, lab, question, (spot, method), (trained, random), &measured)?;
                    lab.progress.advance(1);
                    Ok(one)
                });
                let done: Vec<Measured> = done.collect::<Result<_>>()?;
                measured.extend(done);
            }
        }
        lab.progress.end();
        measured.sort_by_key(|one| (one.spot, self.methods.iter().position(|&m| m == one.method)));
        Ok(measured)
    }
}
