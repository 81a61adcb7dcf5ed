//! A study: a question put to a model, written down as data, so that it can be read, shared and rerun.

mod plan;
mod series;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::analysis::{self, Findings};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::figure::Venue;
use crate::lab::{self, Arrays, Lab};
use crate::metric::Metric;
use crate::model::Folding;
use crate::task::{self, Corruption, Prompt, Request, Task};
use crate::vocabulary::Bos;

pub use series::{Checkpoints, Stage};

/// What is asked of which model, with which prompts and methods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Study {
    /// What the report is called; by default it names the task and the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A bundled model's name or a directory in Hugging Face layout.
    pub model: String,
    /// Put the same questions to the model at these steps of its training too: `"all"`, or a list of steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<Checkpoints>,
    /// Put the same questions to these models too, whose vocabulary must be the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compare: Vec<String>,
    /// `f32` or `f64`.
    pub dtype: String,
    /// `auto`, `cpu`, `cuda`, `cuda:1`, `metal`.
    pub device: String,
    /// Weights folded before anything is computed: `all`, or steps with commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fold: Option<Folding>,
    /// Decides every random draw.
    pub seed: u64,
    /// What patching measures.
    pub metric: Metric,
    /// Where figures are to be printed: `neurips`, `acl`, `slide`, …; by default `neurips`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub venue: Option<Venue>,
    /// JSONL of prompts over which mean ablation averages; by default random sequences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<PathBuf>,
    /// A circuit, in any form that [`Listed`](crate::graph::Listed) reads, for the analyses that are given one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit: Option<PathBuf>,
    /// Recorded activations that `patch` puts into runs instead of the other prompt's: a file of `glassbox record`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<PathBuf>,
    /// JSON of what saying a token gains and costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gains: Option<PathBuf>,
    /// Folder where activations are kept between runs, for the analyses that do so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<PathBuf>,
    /// Heads whose attention is shown, written `9.6`, `L9H6` or `a9.h6`; by default those with the largest effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<String>,
    /// The prompts.
    pub task: Prompts,
    /// The methods, in order.
    #[serde(rename = "analysis")]
    pub steps: Vec<Step>,
    /// Pictures beside those the report draws by itself: views of tables.
    #[serde(rename = "figure", skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<toml::Table>,
}

/// Where the prompts come from: a generator, a file, or the words themselves.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prompts {
    /// A generator: `ioi`, `induction`, ….
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate: Option<String>,
    /// How many pairs the generator makes, or how many lines of the file are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<usize>,
    /// `flip`, `random` or `abc`, for `ioi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corruption: Option<String>,
    /// A file of prompts: JSON lines, JSON or CSV.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// What the file's prompts are called; by default the file's stem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Its matched prompt without the behaviour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrupt: Option<String>,
    /// Right next tokens; by default the model's first choice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answer: Vec<String>,
    /// Wrong next tokens; by default the runner-up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wrong: Vec<String>,
    /// The prompt as token ids, to which no BOS is added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<u32>,
    /// The corrupt prompt as token ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub corrupt_tokens: Vec<u32>,
    /// Right next tokens as ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answer_ids: Vec<u32>,
    /// Wrong next tokens as ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wrong_ids: Vec<u32>,
    /// Whether prompts begin with BOS: `auto` (as the tokenizer does), `yes`, `no`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos: Option<String>,
    /// Whether each prompt is a user's message in the model's chat template.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub chat: bool,
    /// What the system's message before it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// One method with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The analysis: a name of `glassbox list analyses`.
    pub name: String,
    /// Its parameters.
    #[serde(flatten)]
    pub parameters: toml::Table,
}

impl Default for Study {
    fn default() -> Study {
        Study {
            title: None,
            model: "textbook".to_owned(),
            checkpoints: None,
            compare: Vec::new(),
            dtype: "f32".to_owned(),
            device: "auto".to_owned(),
            fold: None,
            seed: 0,
            metric: Metric::default(),
            venue: None,
            reference: None,
            circuit: None,
            values: None,
            gains: None,
            activations: None,
            heads: Vec::new(),
            task: Prompts::default(),
            steps: REPORT.iter().map(|&name| Step::named(name)).collect(),
            figures: Vec::new(),
        }
    }
}

/// The methods of `glassbox report`.
pub const REPORT: [&str; 6] = ["predict", "lens", "attribution", "patch", "components", "heads"];

impl Step {
    /// An analysis with its default parameters.
    pub fn named(name: &str) -> Step {
        Step { name: name.to_owned(), parameters: toml::Table::new() }
    }
}

/// What one step found, or why it was left out.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The step's analysis.
    pub name: String,
    /// Its tables, tensors and notes.
    pub findings: Findings,
    /// Why it could not be run on these prompts, if so.
    pub skipped: Option<String>,
}

impl Study {
    /// Reads a study file. Paths in it are relative to the file.
    pub fn read(path: &Path) -> Result<Study> {
        let text = checkpoint::read_text(path)?;
        Study::parse(&text, &path.display().to_string(), path.parent())
    }

    /// Reads a study from text; `name` stands for it in errors.
    pub fn parse(text: &str, name: &str, folder: Option<&Path>) -> Result<Study> {
        let mut study: Study = toml::from_str(text).map_err(|e| unreadable(name, &e))?;
        let Study { reference, circuit, values, gains, activations, task, .. } = &mut study;
        let paths = [reference, circuit, values, gains, activations, &mut task.file];
        for path in paths.into_iter().flatten() {
            if let Some(folder) = folder {
                *path = folder.join(&*path);
            }
        }
        Ok(study)
    }

    /// Changes one setting, written `key=value` with dots: `task.n=32`, `patch.direction="noise"`. A value that is not
    /// TOML is taken as text.
    pub fn set(self, assignment: &str) -> Result<Study> {
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(Error::usage(
                format!("`{assignment}` is no setting"),
                "write `key=value`, such as `task.n=32`",
            ));
        };
        let (key, value) = (key.trim(), value.trim());
        let value = toml::from_str::<toml::Table>(&format!("v = {value}"))
            .ok()
            .and_then(|mut table| table.remove("v"))
            .unwrap_or_else(|| toml::Value::String(value.to_owned()));
        let mut table = toml::Table::try_from(&self)
            .map_err(|e| Error::usage(format!("the study cannot be written: {e}"), "check its numbers"))?;
        if let Some((step, parameter)) = key.split_once('.').filter(|(head, _)| *head != "task") {
            let mut study = self;
            let names: Vec<String> = study.steps.iter().map(|step| step.name.clone()).collect();
            let Some(found) = study.steps.iter_mut().find(|found| found.name == step) else {
                return Err(Error::unknown("step in this study", step, names.iter().map(String::as_str)));
            };
            found.parameters.insert(parameter.to_owned(), value);
            return Ok(study);
        }
        let (part, key) = match key.strip_prefix("task.") {
            None => (&mut table, key),
            Some(key) => match table.entry("task").or_insert_with(|| toml::Table::new().into()) {
                toml::Value::Table(task) => (task, key),
                _ => return Err(Error::usage("`task` is no table", "write `task.n=32`")),
            },
        };
        part.insert(key.to_owned(), value);
        let text = toml::to_string(&table)
            .map_err(|e| Error::usage(format!("`{assignment}` cannot be written: {e}"), "check the value"))?;
        Study::parse(&text, assignment, None)
    }

    /// The study as a file that reruns it.
    pub fn text(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| Error::usage(format!("the study cannot be written: {e}"), "check its numbers"))
    }

    /// Refuses what no step would read, before any work.
    fn check(&self) -> Result<()> {
        let entries = self.steps.iter().map(|step| analysis::find(&step.name)).collect::<Result<Vec<_>>>()?;
        let unread = |what: &str| {
            Error::usage(
                format!("none of the analyses asked for reads `{what}`"),
                format!("leave `{what}` out"),
            )
        };
        if self.reference.is_some() && !entries.iter().any(|entry| entry.takes_reference) {
            return Err(unread("reference"));
        }
        if self.circuit.is_some() && !entries.iter().any(|entry| entry.takes_circuit) {
            return Err(unread("circuit"));
        }
        if self.values.is_some() && !entries.iter().any(|entry| entry.takes_values) {
            return Err(unread("values"));
        }
        if self.activations.is_some() && !entries.iter().any(|entry| entry.takes_activations) {
            return Err(unread("activations"));
        }
        if !self.heads.is_empty() && !entries.iter().any(|entry| entry.takes_heads) {
            return Err(unread("heads"));
        }
        let (texts, Prompts { chat, system, .. }) =
            (self.task.prompt.is_some() || self.task.file.is_some(), &self.task);
        if *chat && !texts {
            return Err(Error::usage(
                "`chat` needs prompts that are texts",
                "give `--prompt` or `--prompts`; token ids and generated tasks stand as they are",
            ));
        }
        if system.is_some() && !chat {
            return Err(Error::usage("`system` is a message in a chat", "add `--chat`, or leave it out"));
        }
        match self.task.n {
            Some(n) if n > 1_000_000 => Err(Error::usage(
                format!("{n} prompts are more than a run can hold"),
                "ask for a million at most",
            )),
            _ => Ok(()),
        }
    }

    /// Opens the model.
    pub fn lab(&self) -> Result<Lab> {
        self.check()?;
        if self.is_series() {
            self.stages()?;
        }
        let mut lab = self.open(&self.model)?;
        if self.task.chat {
            lab.vocabulary = lab.vocabulary.chatting(self.task.system.clone())?;
        }
        Ok(lab)
    }

    /// What opening the model will take of the memory there is, in a sentence; nothing for a small one.
    pub fn need(&self) -> Result<Option<String>> {
        self.check()?;
        let dtype = lab::dtype(&self.dtype)?;
        Lab::need(&self.model, dtype, &lab::device(&self.device, dtype)?)
    }

    /// Opens a model as the study wants it.
    fn open(&self, model: &str) -> Result<Lab> {
        let dtype = lab::dtype(&self.dtype)?;
        let mut lab = Lab::open(model, dtype, &lab::device(&self.device, dtype)?)?;
        if let Some(folding) = &self.fold {
            lab = lab.folded(folding)?;
        }
        lab.seed = self.seed;
        lab.values = self.values.as_deref().map(Arrays::open).transpose()?.map(Arc::new);
        Ok(lab)
    }

    /// Makes or reads the prompts.
    pub fn task(&self, lab: &Lab) -> Result<Task> {
        let mut task = self.task.make(self.seed, self.bos()?, lab)?;
        if let Some(path) = &self.gains {
            let (gains, notes) = task::read_gains(&checkpoint::read_text(path)?, &lab.vocabulary)?;
            if let Some((id, _)) =
                gains.by_token.iter().find(|(id, _)| **id as usize >= lab.model.config.d_vocab_out)
            {
                return Err(Error::input(
                    format!(
                        "the gains name token {id}, but the vocabulary has {}",
                        lab.model.config.d_vocab_out
                    ),
                    "check that gains and model belong together",
                ));
            }
            task.gains = Some(gains);
            task.notes.extend(notes);
        }
        task.check()?;
        Ok(task)
    }

    /// Whether prompts, reference prompts included, begin with BOS.
    fn bos(&self) -> Result<Bos> {
        self.task.bos.as_deref().unwrap_or("auto").parse()
    }

    /// Runs every step.
    pub fn run(&self, lab: &Lab, task: &Task) -> Result<Vec<Outcome>> {
        self.steps.iter().map(|step| self.step(step, lab, task)).collect()
    }

    /// Runs one step: on every stage, if several are asked for, and then joined.
    pub fn step(&self, step: &Step, lab: &Lab, task: &Task) -> Result<Outcome> {
        if self.is_series() { self.over_stages(step, lab, task) } else { self.on(step, lab, task) }
    }

    /// Runs one step on one model.
    fn on(&self, step: &Step, lab: &Lab, task: &Task) -> Result<Outcome> {
        let entry = analysis::find(&step.name)?;
        let mut outcome = Outcome { name: step.name.clone(), findings: Findings::default(), skipped: None };
        let instead = entry.takes_values
            && (self.values.is_some()
                || self.reference.is_some()
                || step.parameters.contains_key("reference"));
        if entry.needs_pairs && !task.is_paired() && !instead {
            outcome.skipped = Some(format!(
                "`{}` copies activations between two prompts, and there is no corrupt prompt; give one with --corrupt, \
                 or a --task or --prompts file with pairs",
                step.name
            ));
            return Ok(outcome);
        }
        let mut parameters = step.parameters.clone();
        if entry.takes_metric && !parameters.contains_key("metric") {
            parameters.insert("metric".to_owned(), self.metric.name().into());
        }
        if entry.takes_heads && !self.heads.is_empty() && !parameters.contains_key("show") {
            let heads = self.heads.iter().map(|head| toml::Value::String(head.clone()));
            parameters.insert("show".to_owned(), toml::Value::Array(heads.collect()));
        }
        if let (true, Some(path)) = (entry.takes_circuit, &self.circuit) {
            parameters.insert("given".to_owned(), checkpoint::read_text(path)?.into());
        }
        if let (true, Some(path)) = (entry.takes_reference, &self.reference) {
            let text = checkpoint::read_text(path)?;
            let reference =
                task::read_jsonl(&path.display().to_string(), &text, &lab.vocabulary, self.bos()?)?;
            let rows = reference.examples.iter().map(|example| {
                let tokens = example.clean.iter().map(|&id| toml::Value::Integer(i64::from(id)));
                toml::Value::Table(toml::Table::from_iter([
                    ("tokens".to_owned(), toml::Value::Array(tokens.collect())),
                    ("group".to_owned(), example.group.clone().into()),
                ]))
            });
            parameters.insert("reference".to_owned(), toml::Value::Array(rows.collect()));
        }
        match (entry.run)(parameters, lab, task) {
            Ok(findings) => outcome.findings = findings,
            // A model that does not tell the two prompts apart has no effects to show; what else it does is still worth
            // a page. A study of this one method has nothing else, and fails.
            Err(Error::Input { message, hint })
                if entry.needs_pairs && (self.steps.len() > 1 || self.is_series()) =>
            {
                outcome.skipped = Some(format!("{message}; {hint}"));
            }
            Err(error) => return Err(error),
        }
        Ok(outcome)
    }
}

impl Prompts {
    /// The task these prompts make. What they do not say about answers, the model does, and a note says so.
    fn make(&self, seed: u64, bos: Bos, lab: &Lab) -> Result<Task> {
        let given = |list: &[u32]| (!list.is_empty()).then(|| list.to_vec());
        if let Some(path) = &self.file {
            let text = checkpoint::read_text(path)?;
            let mut task = task::read_jsonl(&path.display().to_string(), &text, &lab.vocabulary, bos)?;
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            task.name = self.name.clone().or(stem).unwrap_or(task.name);
            task.examples.truncate(self.n.unwrap_or(usize::MAX));
            task::complete(lab, &mut task)?;
            return Ok(task);
        }
        if let (Some(name), None, true) = (&self.generate, &self.prompt, self.tokens.is_empty()) {
            let corruption = self.corruption.as_deref().map_or(Ok(Corruption::default()), str::parse)?;
            return task::generate(
                name,
                &Request { n: self.n.unwrap_or(64), seed, corruption, bos },
                &lab.vocabulary,
            );
        }
        let prompt = Prompt {
            text: self.prompt.clone(),
            corrupt: self.corrupt.clone(),
            answers: self.answer.clone(),
            wrong: self.wrong.clone(),
            tokens: given(&self.tokens),
            corrupt_tokens: given(&self.corrupt_tokens),
            answer_ids: self.answer_ids.clone(),
            wrong_ids: self.wrong_ids.clone(),
            bos,
        };
        prompt.task(lab)
    }
}

fn unreadable(name: &str, cause: &toml::de::Error) -> Error {
    Error::usage(
        format!("the study {name} cannot be read: {}", cause.to_string().trim_end()),
        "the keys are those of the study files under `probes/`",
    )
}
