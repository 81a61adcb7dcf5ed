//! Flags that several commands share, and how they become a study.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use super::print;
use super::progress::Bars;
use crate::checkpoint::{Env, Hub};
use crate::error::{Error, Result};
use crate::figure::Venue;
use crate::lab::{self, Lab};
use crate::metric::Metric;
use crate::model::Folding;
use crate::output::{Activations, Folder};
use crate::study::{Checkpoints, Prompts, Study};
use crate::table::{self, Format};
use crate::task::Task;

/// What batches may take where nobody says otherwise.
const MEMORY: u64 = 2 << 30;

/// Which model, and how to work.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelFlags {
    /// A bundled name (textbook, textbook-wild, textbook@step500), a directory in Hugging Face layout, or a hub id, which is
    /// fetched once (gpt2, pythia-70m, OWNER/NAME, OWNER/NAME@REVISION)
    #[arg(long, default_value = "textbook")]
    pub model: String,
    /// The branch, tag or commit of the hub's model: as `@REVISION` after its id
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
    #[command(flatten)]
    pub hub: HubFlags,
    /// Where to compute: cpu, cuda (the first NVIDIA card) or cuda:N, metal, or auto for the best of those compiled in and present
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Numbers to compute in: f32 or f64
    #[arg(long, default_value = "f32")]
    pub dtype: String,
    /// Fold the weights, which changes no log-probability: all that can be, or of fold_ln, center_writing_weights,
    /// center_unembed, fold_value_biases those named (`--fold=fold_ln,center_unembed`)
    #[arg(long, value_name = "STEPS", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub fold: Option<Folding>,
    /// Decides every random draw
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Memory that batches of work may take, besides the model: 512MiB, 2GiB
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = parse_bytes)]
    pub memory: u64,
    /// Threads to use; by default all cores
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// No progress, no remarks: only results and errors
    #[arg(long)]
    pub quiet: bool,
}

/// How models of the hub are come by.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Model")]
pub(super) struct HubFlags {
    /// Fetch nothing and open no connection: only what is on this machine (also HF_HUB_OFFLINE=1)
    #[arg(long)]
    pub offline: bool,
    /// A file with the token for private and gated models; by default HF_TOKEN, then what `hf auth login` wrote
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Which prompts.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Prompts (by default: --task ioi; for steer, agreement)")]
pub(super) struct PromptFlags {
    /// One prompt
    #[arg(long, short, conflicts_with_all = ["prompts", "task", "tokens"])]
    pub prompt: Option<String>,
    /// A matched prompt of as many tokens without the behaviour
    #[arg(long, requires = "prompt")]
    pub corrupt: Option<String>,
    /// The right next token, with its leading space if it has one; repeatable. By default the model's first choice
    #[arg(long)]
    pub answer: Vec<String>,
    /// The wrong next token it is compared with; repeatable. By default the runner-up
    #[arg(long)]
    pub wrong: Vec<String>,
    /// Prompts from a file: JSON lines with {"clean", "corrupt", "answers", "wrong", "pos", "group", "label"}, the same as a JSON list
    /// or CSV, or the data sets of EAP-IG, MIB, auto-circuit, feature-circuits, TransformerLens (`glassbox list formats`)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["task", "tokens"])]
    pub prompts: Option<PathBuf>,
    /// Generated prompts: ioi, induction, greater-than, capital, facts, agreement
    #[arg(long, conflicts_with = "tokens")]
    pub task: Option<String>,
    /// How many pairs to generate (64), or lines of the file to read (all)
    #[arg(long)]
    pub n: Option<usize>,
    /// How ioi prompts are corrupted: flip (the answer becomes the other name), random (a third name), abc (three others)
    #[arg(long)]
    pub corruption: Option<String>,
    /// Whether prompts begin with the beginning-of-sequence token: auto (as the tokenizer does), yes, no
    #[arg(long, default_value = "auto")]
    pub bos: String,
    #[command(flatten)]
    pub chat: ChatFlags,
    /// The prompt as token ids, to which no BOS is added
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    pub tokens: Vec<u32>,
    /// The corrupt prompt as token ids
    #[arg(long, value_delimiter = ',', value_name = "IDS", requires = "tokens")]
    pub corrupt_tokens: Vec<u32>,
    /// The right next token as an id; repeatable
    #[arg(long, value_name = "ID")]
    pub answer_id: Vec<u32>,
    /// The wrong next token as an id; repeatable
    #[arg(long, value_name = "ID")]
    pub wrong_id: Vec<u32>,
    /// What is measured: logit-diff, log-prob, prob, prob-diff, rank, kl, expected-gain
    #[arg(long, default_value = "logit-diff")]
    pub metric: Metric,
    /// What saying a token gains when right and costs when wrong: JSON {"default": {"gain": 1, "cost": 0}, " Mary": …}
    #[arg(long, value_name = "FILE")]
    pub gains: Option<PathBuf>,
    /// Heads whose attention is shown: 9.6, L9H6 or a9.h6, with commas. By default those with the largest effect
    #[arg(long, value_delimiter = ',', value_name = "HEADS")]
    pub heads: Vec<String>,
    /// Prompts whose mean activations replace a part where there is no corrupt prompt (JSONL); by default random ones
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// A circuit for the methods that are given one: JSON of EAP-IG or MIB, or {"edges": ["a0.h1->m0", …]}
    #[arg(long, value_name = "FILE")]
    pub circuit: Option<PathBuf>,
    /// Activations that `patch` puts into a run instead of the other prompt's: a file that `glassbox record --out` wrote
    #[arg(long, value_name = "FILE")]
    pub values: Option<PathBuf>,
    /// A folder where `probe` keeps recorded activations, and finds them again
    #[arg(long, value_name = "DIR")]
    pub activations: Option<PathBuf>,
}

/// Whether prompts are said or asked.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ChatFlags {
    /// Put each prompt as a user's message, in the model's chat template
    #[arg(long, conflicts_with_all = ["task", "tokens"])]
    pub chat: bool,
    /// What the system's message before it says
    #[arg(long, value_name = "TEXT", requires = "chat")]
    pub system: Option<String>,
}

/// What else the same questions are put to.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Model")]
pub(super) struct SeriesFlags {
    /// Also ask the model at the steps of its training that were kept: all, or these (`--checkpoints=100,700`). Tables get
    /// a column `step`
    #[arg(long, value_name = "STEPS", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub checkpoints: Option<Checkpoints>,
    /// Also ask another model, of the same vocabulary; repeatable. Tables get a column `model`
    #[arg(long, value_name = "MODEL")]
    pub compare: Vec<String>,
}

impl SeriesFlags {
    /// Writes them into a study.
    pub(super) fn fill(&self, study: &mut Study) {
        study.checkpoints.clone_from(&self.checkpoints);
        study.compare.clone_from(&self.compare);
    }
}

/// Where results go.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct FolderFlags {
    /// The folder to write
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace the folder if it exists
    #[arg(long)]
    pub force: bool,
    /// Continue unfinished work in the folder
    #[arg(long)]
    pub resume: bool,
}

/// How the run's figures are drawn.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct VenueFlags {
    /// Where the folder's figures are to be printed, which decides their widths and type: neurips (by default), icml, iclr, acl, aaai,
    /// cvpr, tmlr, slide, blog
    #[arg(long, value_name = "VENUE")]
    pub venue: Option<Venue>,
}

impl VenueFlags {
    /// Writes it into a study, which may name one itself.
    pub(super) fn fill(&self, study: &mut Study) {
        study.venue = self.venue.or(study.venue);
    }
}

/// Whether work is only planned.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct PlanFlags {
    /// Plan the sweeps, print what they would take (runs, operations, memory, seconds), and write nothing
    #[arg(long, conflicts_with_all = ["out", "force", "resume"])]
    pub dry_run: bool,
}

impl ModelFlags {
    /// Threads and talk alone, for a command that opens no model.
    pub(super) fn working(threads: Option<usize>, quiet: bool) -> ModelFlags {
        let Study { model, device, dtype, fold, seed, .. } = Study::default();
        let (revision, hub) = (None, HubFlags::default());
        let memory = MEMORY;
        ModelFlags { model, revision, hub, device, dtype, fold, seed, memory, threads, quiet }
    }

    /// A study of this model.
    pub(super) fn study(&self) -> Study {
        let revision = self.revision.iter().map(|revision| format!("@{revision}"));
        Study {
            model: std::iter::once(self.model.clone()).chain(revision).collect(),
            device: self.device.clone(),
            dtype: self.dtype.clone(),
            fold: self.fold.clone(),
            seed: self.seed,
            ..Study::default()
        }
    }

    /// Sets up threads, progress and Ctrl-C, and opens the study's model.
    pub(super) fn open(&self, study: &Study) -> Result<Lab> {
        self.threads()?;
        self.fetch(study)?;
        study.need()?.iter().for_each(|need| self.say(need));
        let mut lab = study.lab()?;
        self.attend(&mut lab)?;
        if !lab.model.device().is_cpu() {
            self.say(&format!("computing on {}", lab::device_name(lab.model.device())));
        }
        if let Some(steps) = lab.folding() {
            self.say(&format!("weights folded: {steps}"));
        }
        if let Some(folder) = &study.activations {
            lab.store = Some(Arc::new(Activations::at(folder)?));
        }
        Ok(lab)
    }

    /// Fetches the models of a study that are named by a hub id and are not in the cache.
    fn fetch(&self, study: &Study) -> Result<()> {
        if self.revision.is_some() && self.model.contains('@') {
            let message = format!("`--revision` and the @ in {:?} both name a revision", self.model);
            return Err(Error::usage(message, "give one of them"));
        }
        let HubFlags { offline, token_file } = self.hub.clone();
        let hub = Hub::new(Env::of_process()).offline(offline).with_token_file(token_file);
        let bars = Bars::new(self.quiet);
        for model in std::iter::once(&study.model).chain(&study.compare) {
            hub.fetch(model, &bars)?.iter().for_each(|remark| self.say(remark));
        }
        Ok(())
    }

    /// Builds the thread pool that every parallel operation uses.
    pub(super) fn threads(&self) -> Result<usize> {
        if let Some(threads) = self.threads {
            if threads == 0 {
                return Err(Error::usage("`--threads 0` leaves nobody to do the work", "write 1 or more"));
            }
            if threads > 1024 {
                let message = format!("`--threads {threads}` is more than any machine has");
                return Err(Error::usage(message, "leave it out to use every core"));
            }
            // A second call in one process keeps the first pool, which is what a test wants.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        }
        let threads = rayon::current_num_threads();
        second_pool(threads);
        Ok(threads)
    }

    /// Gives the lab a progress bar and a stop flag that Ctrl-C raises.
    pub(super) fn attend(&self, lab: &mut Lab) -> Result<()> {
        lab.progress = Arc::new(Bars::new(self.quiet));
        lab.memory = self.memory;
        listen(&lab.stop)
    }

    /// What the lab's store has to say once the work is done.
    pub(super) fn remark(&self, lab: &Lab) {
        lab.store.iter().flat_map(|store| store.remarks()).for_each(|remark| self.say(&remark));
    }

    /// Prints what a study's sweeps would take, instead of running it.
    pub(super) fn plan(&self, study: &Study, lab: Lab, task: &Task, format: Format) -> Result<()> {
        let (rows, notes) = study.plan(lab, task)?;
        print(&table::write(&rows, format)?)?;
        notes.iter().for_each(|note| self.say(note));
        Ok(())
    }

    /// How much a run that was continued did not do again.
    pub(super) fn went_on(&self, folder: &Folder) {
        match folder.journal().found() {
            0 => {}
            batches => self.say(&format!("went on after {batches} finished batch(es)")),
        }
    }

    /// A remark on stderr, unless quiet.
    pub(super) fn say(&self, remark: &str) {
        if !self.quiet {
            super::remark(remark);
        }
    }
}

/// candle's elementwise functions have a pool of threads of their own, which is made on first use and as large as the
/// environment says, or the machine: so `--threads 1` would be two, and in a container each core of the host one more. It is
/// made here, where nothing else runs yet, with the size of ours.
fn second_pool(threads: usize) {
    const SIZE: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(SIZE).is_none() {
        temp_env::with_var(SIZE, Some(threads.to_string()), candle_core::utils::barrier_pool);
    }
}

/// Lets Ctrl-C raise a stop flag.
pub(super) fn listen(stop: &Arc<AtomicBool>) -> Result<()> {
    let stop = Arc::clone(stop);
    let listening = ctrlc::set_handler(move || {
        // The second Ctrl-C does not wait for the batch in flight.
        if stop.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    listening.map_err(|e| Error::Tensor(format!("Ctrl-C cannot be listened to: {e}")))
}

impl PromptFlags {
    /// Whether nothing was said about prompts, metric or files.
    pub(super) fn is_default(&self) -> bool {
        let mut study = Study::default();
        self.fill(&mut study);
        let untouched = Study {
            task: Prompts { generate: Some("ioi".to_owned()), ..Prompts::default() },
            ..Study::default()
        };
        study == untouched && self.task.is_none()
    }

    /// Refuses flags that would be ignored.
    pub(super) fn check(&self) -> Result<()> {
        let one = self.prompt.is_some() || !self.tokens.is_empty();
        let answers = [
            (!self.answer.is_empty(), "--answer"),
            (!self.wrong.is_empty(), "--wrong"),
            (!self.answer_id.is_empty(), "--answer-id"),
            (!self.wrong_id.is_empty(), "--wrong-id"),
        ];
        if let (false, Some((_, flag))) = (one, answers.into_iter().find(|(given, _)| *given)) {
            return Err(Error::usage(
                format!("`{flag}` belongs to one prompt, and there is none"),
                "give `--prompt` or `--tokens`; files and tasks bring their own answers",
            ));
        }
        if self.corruption.is_some() && (one || self.prompts.is_some()) {
            return Err(Error::usage("`--corruption` belongs to `--task ioi`", "leave it out"));
        }
        if self.n.is_some() && one {
            return Err(Error::usage(
                "`--n` belongs to a task or a file, and there is one prompt",
                "leave it out",
            ));
        }
        if self.bos == "yes" && !self.tokens.is_empty() {
            return Err(Error::usage(
                "token ids are taken as they are",
                "put the BOS id first in `--tokens` yourself",
            ));
        }
        Ok(())
    }

    /// Writes these prompts into a study; without any, `ioi`.
    pub(super) fn fill(&self, study: &mut Study) {
        let none = self.prompt.is_none() && self.prompts.is_none() && self.tokens.is_empty();
        let generate = self.task.clone().or_else(|| none.then(|| "ioi".to_owned()));
        study.metric = self.metric;
        study.gains.clone_from(&self.gains);
        study.reference.clone_from(&self.reference);
        study.circuit.clone_from(&self.circuit);
        study.values.clone_from(&self.values);
        study.heads.clone_from(&self.heads);
        study.activations.clone_from(&self.activations);
        study.task = Prompts {
            generate,
            n: self.n,
            corruption: self.corruption.clone(),
            file: self.prompts.clone(),
            name: None,
            prompt: self.prompt.clone(),
            corrupt: self.corrupt.clone(),
            answer: self.answer.clone(),
            wrong: self.wrong.clone(),
            tokens: self.tokens.clone(),
            corrupt_tokens: self.corrupt_tokens.clone(),
            answer_ids: self.answer_id.clone(),
            wrong_ids: self.wrong_id.clone(),
            bos: (self.bos != "auto").then(|| self.bos.clone()),
            chat: self.chat.chat,
            system: self.chat.system.clone(),
        };
    }
}

/// `--format`.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct FormatFlags {
    /// How tables are printed: table, json, jsonl, csv, parquet (parquet needs --out)
    #[arg(long, default_value = "table")]
    pub format: Format,
}

/// A number of bytes, as 512MiB, 2GiB or 1.5G; a bare number is in bytes.
pub(super) fn parse_bytes(words: &str) -> std::result::Result<u64, String> {
    let (number, unit) = words.split_at(words.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(words.len()));
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "kb" => 1e3,
        "m" | "mib" => 1024.0 * 1024.0,
        "mb" => 1e6,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "gb" => 1e9,
        _ => return Err(format!("`{unit}` is no unit of memory: write 512MiB or 2GiB")),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number * factor >= 1.0 && number.is_finite() => {
            Ok((number * factor) as u64)
        }
        _ => Err(format!("`{words}` is no amount of memory: write 512MiB or 2GiB")),
    }
}
