//! Causal tracing: which states carry what a corrupted prompt has lost (Meng et al. 2022).
//!
//! The corrupt run is the clean prompt with noise ε ~ N(0, ν²) added to the embeddings of its subject, several samples of it, or the
//! pair's other prompt (token replacement, which stays within what the model knows; Zhang & Nanda 2024). Into it one state is
//! restored from the clean run. Total effect: clean − corrupt. Indirect effect of a state: restored − corrupt.
//!
//! Severed, a restored stream has its MLPs (or attention) at that position held at their corrupt values in all later layers, so
//! that what passes through them is missing.

mod noise;
mod rows;
mod states;

use candle_core::Tensor;
use serde::{Deserialize, Deserializer, Serialize};

use crate::analysis::patch::Reach;
use crate::analysis::{Analysis, Findings};
use crate::edit::Edits;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::metric::Metric;
use crate::model::{Base, Transformer};
use crate::ops;
use crate::site::Site;
use crate::sweep::{Cell, Reading, sweep};
use crate::task::{Place, Task};
use noise::Noise;
use states::{Kind, Restored};
pub use states::{Severed, State};

/// A position by its name, or by its number as it stands.
fn position<'de, D: Deserializer<'de>>(written: D) -> std::result::Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Position {
        Number(usize),
        Name(String),
    }
    Ok(Some(match Position::deserialize(written)? {
        Position::Number(number) => number.to_string(),
        Position::Name(name) => name,
    }))
}

/// Which states carry the answer: one restored at a time into a corrupted run.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trace {
    /// `noise` on the subject's embeddings, or the `tokens` of the corrupt prompt.
    pub corruption: Corruption,
    /// Where noise goes: a named position, `first..subject`, several with commas. By default the position called `subject`, or,
    /// where there is none, all positions in which clean and corrupt prompt differ.
    #[serde(deserialize_with = "position")]
    pub subject: Option<String>,
    /// ν in standard deviations of the embeddings of all the task's subject tokens.
    pub noise: f64,
    /// Samples of noise for each prompt.
    pub samples: usize,
    /// What is restored: `resid_pre`, `resid_post`, `mlp`, `attention`; by default the last three, as far as the model has them.
    pub states: Option<Vec<State>>,
    /// What a restored stream is cut off from: `mlp`, `attention`; each is traced besides.
    pub sever: Vec<Severed>,
    /// How many layers' MLPs or attention are restored together; by default a fifth of the model's (10 of 48), one at least.
    pub window: Option<usize>,
    /// The number whose change is reported beside that of the answer's probability.
    pub metric: Metric,
}

impl Default for Trace {
    fn default() -> Self {
        Trace {
            corruption: Corruption::Noise,
            subject: None,
            noise: 3.0,
            samples: 10,
            states: None,
            sever: Vec::new(),
            window: None,
            metric: Metric::LogitDiff,
        }
    }
}

/// How the answer is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corruption {
    /// Normal noise on the embeddings of the subject.
    Noise,
    /// The corrupt prompt of the pair.
    Tokens,
}

/// Everything measured, by measure and example; means over samples of noise.
struct Measured {
    /// `[measure][example]`.
    clean: Vec<Vec<f64>>,
    /// `[measure][example]`.
    corrupt: Vec<Vec<f64>>,
    /// `[cell][measure][example]`.
    restored: Vec<Vec<Vec<f64>>>,
    /// How many runs were not needed because they could change nothing.
    exact: usize,
}

/// What a run is made of.
struct Setting<'a> {
    places: &'a [Place],
    cells: &'a [Restored],
    kinds: &'a [Kind],
    width: usize,
    /// The probability of the answers, then the metric asked for where that is another.
    metrics: &'a [Metric],
    /// None where tokens are replaced.
    noise: Option<&'a Noise>,
}

impl Analysis for Trace {
    const NAME: &'static str = "trace";
    const ABOUT: &'static str = "causal tracing: which restored state brings back what noise on the subject, or another prompt, took away";
    const TAKES_METRIC: bool = true;
    const TASK: &'static str = "facts";

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        task.fits(&lab.model)?;
        let model = &lab.model;
        let kinds = states::kinds(self, model)?;
        let width = self.window.unwrap_or(((model.config.n_layers + 2) / 5).max(1));
        if width == 0 {
            return Err(Error::usage("a window of 0 layers restores nothing", "write `window = 1` or more"));
        }
        let noise = match self.corruption {
            Corruption::Noise => Some(Noise::new(self, lab, task)?),
            Corruption::Tokens => {
                self.replaces(task)?;
                None
            }
        };
        let places = task.places();
        let cells = states::cells(&kinds, model, places.len());
        let mut metrics = vec![Metric::Prob];
        metrics.extend((self.metric != Metric::Prob).then_some(self.metric));
        let setting = Setting {
            places: &places,
            cells: &cells,
            kinds: &kinds,
            width,
            metrics: &metrics,
            noise: noise.as_ref(),
        };
        let measured = self.measure(lab, task, &setting)?;
        Ok(rows::findings(self, lab, task, &setting, &measured))
    }
}

/// An example under one sample of noise: a row of a batch.
type Unit = (usize, usize);

impl Trace {
    /// Checks that tokens can be replaced, and that nothing was said about noise.
    fn replaces(&self, task: &Task) -> Result<()> {
        if self.subject.is_some() {
            return Err(Error::usage(
                "`subject` says where noise goes, and with `corruption = \"tokens\"` there is none",
                "leave `subject` out: the corrupt prompts decide which tokens differ",
            ));
        }
        match task.examples.iter().find(|example| example.corrupt.is_none()) {
            None => Ok(()),
            Some(example) => Err(Error::usage(
                format!("`{}` has no corrupt prompt whose tokens could be taken", example.id),
                "give `--corrupt`, or the field `corrupt` of each line, or choose `corruption=noise`",
            )),
        }
    }

    fn measure(&self, lab: &Lab, task: &Task, setting: &Setting) -> Result<Measured> {
        let (model, n) = (&lab.model, task.examples.len());
        let none = vec![vec![0.0; n]; setting.metrics.len()];
        let mut all = Measured {
            clean: none.clone(),
            corrupt: none.clone(),
            restored: vec![none; setting.cells.len()],
            exact: 0,
        };
        let kept = |site| states::kept(setting.kinds, model, site);
        let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
        let held = |site| kept(site) || Base::needs(model, site) || site == Site::Logits;
        let each = 4 * model.recorded_bytes(longest, held);
        let most = (lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize;
        let samples = setting.noise.map_or(1, |noise| noise.samples);
        let share = 1.0 / samples as f64;
        let units = |examples: &Vec<usize>| -> Vec<Unit> {
            examples.iter().flat_map(|&i| (0..samples).map(move |sample| (i, sample))).collect()
        };
        let batches: Vec<Vec<Unit>> = task
            .batches(usize::MAX)
            .iter()
            .flat_map(|examples| units(examples).chunks(most).map(<[Unit]>::to_vec).collect::<Vec<_>>())
            .collect();
        lab.progress.begin("tracing", (batches.len() * setting.cells.len()) as u64);
        for batch in &batches {
            lab.check()?;
            let examples: Vec<usize> = batch.iter().map(|&(example, _)| example).collect();
            let runs = Runs::of(model, task, setting, batch, &kept)?;
            let targets = task.targets(&examples, Some(ops::log_softmax(&runs.clean_logits)?));
            let numbers = |logits: &Tensor| -> Result<Vec<f64>> {
                Ok(Metric::columns(setting.metrics, logits, &targets)?.flatten_all()?.to_vec1()?)
            };
            add(&mut all.clean, &examples, &numbers(&runs.clean_logits)?, share);
            let corrupt = numbers(&runs.corrupt_logits)?;
            add(&mut all.corrupt, &examples, &corrupt, share);
            let (mut indices, mut cells) = (Vec::new(), Vec::new());
            for (index, cell) in setting.cells.iter().enumerate() {
                let place: Vec<usize> =
                    examples.iter().map(|&i| setting.places[cell.place].positions[i]).collect();
                let edits = cell.edits(model, &runs, &place, setting.width)?;
                if edits.is_empty() {
                    add(&mut all.restored[index], &examples, &corrupt, share);
                } else {
                    indices.push(index);
                    cells.push(Cell { edits });
                }
            }
            let exact = setting.cells.len() - cells.len();
            all.exact += exact;
            lab.progress.advance(exact as u64);
            let reading = Reading::metrics(&runs.read, setting.metrics, &targets).swapping(&runs.reach);
            for (&index, scores) in indices.iter().zip(sweep(lab, &runs.corrupt, &cells, &reading)?) {
                add(&mut all.restored[index], &examples, &scores, share);
            }
        }
        lab.progress.end();
        Ok(all)
    }
}

/// The clean and the corrupt run of one batch of units.
struct Runs {
    clean: crate::record::Activations,
    clean_logits: Tensor,
    corrupt: Base,
    corrupt_logits: Tensor,
    read: Vec<usize>,
    reach: Reach,
}

impl Runs {
    fn of(
        model: &Transformer,
        task: &Task,
        setting: &Setting,
        batch: &[Unit],
        kept: &dyn Fn(Site) -> bool,
    ) -> Result<Runs> {
        let rows: Vec<&crate::task::Example> =
            batch.iter().filter_map(|&(i, _)| task.examples.get(i)).collect();
        let read: Vec<usize> = rows.iter().map(|example| example.end()).collect();
        let prompts: Vec<&[u32]> = rows.iter().map(|example| example.clean.as_slice()).collect();
        let tokens = model.tokens(&prompts)?;
        let (clean_logits, clean) = model.read(&tokens, &read, kept)?;
        let (corrupt, reach) = match setting.noise {
            None => {
                let others: Vec<&[u32]> =
                    rows.iter().filter_map(|example| example.corrupt.as_deref()).collect();
                let reach = Reach::new(model, &prompts, &others, &read);
                (Base::record(model, &model.tokens(&others)?, kept)?, reach)
            }
            Some(noise) => {
                let length = prompts.first().map_or(0, |prompt| prompt.len());
                let reach = Reach::beginning(model, &noise.first(batch), length, &read);
                let mut edits = Edits::new(noise.edits(batch)?);
                let base = Base::changed(model, &tokens, &mut edits, kept)?;
                edits.finish()?;
                (base, reach)
            }
        };
        let corrupt_logits = corrupt.logits(model, &read)?;
        Ok(Runs { clean, clean_logits, corrupt, corrupt_logits, read, reach })
    }
}

/// Numbers `[row][measure]`, weighted into `[measure][example]`.
fn add(all: &mut [Vec<f64>], examples: &[usize], values: &[f64], weight: f64) {
    for (&example, values) in examples.iter().zip(values.chunks_exact(all.len().max(1))) {
        all.iter_mut().zip(values).for_each(|(all, value)| all[example] += weight * value);
    }
}
