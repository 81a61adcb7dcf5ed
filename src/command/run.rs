//! `glassbox run`: a study written down as data.

use std::path::PathBuf;

use clap::Args;

use super::flags::{FolderFlags, HubFlags, ModelFlags, PlanFlags, VenueFlags, parse_bytes};
use super::report::work;
use crate::error::Result;
use crate::study::Study;

/// Run a study file, with settings changed on the command line
///
/// The study names model, prompts and methods; `key=value` changes one setting, with dots for parts: `seed=1`,
/// `task.n=32`, `patch.direction=noise`. Every run folder holds the `study.toml` that reruns it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glassbox run probes/ioi.toml
  glassbox run probes/ioi.toml model=textbook-wild task.n=32 --out wild
  glassbox run runs/report-textbook-1/study.toml --out again")]
pub(super) struct Run {
    /// The study
    #[arg(value_name = "STUDY.toml")]
    study: PathBuf,
    /// Settings to change
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Where to compute, whatever the study says: cpu, cuda (the first NVIDIA card) or cuda:N, metal, or auto
    #[arg(long)]
    device: Option<String>,
    /// Memory that batches of work may take, besides the model: 512MiB, 2GiB
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = parse_bytes)]
    memory: u64,
    /// Threads to use; by default all cores
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// No progress, no remarks: only results and errors
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    hub: HubFlags,
    #[command(flatten)]
    folder: FolderFlags,
    #[command(flatten)]
    venue: VenueFlags,
    #[command(flatten)]
    plan: PlanFlags,
}

impl Run {
    pub(super) fn run(self) -> Result<()> {
        let mut study = Study::read(&self.study)?;
        for setting in &self.settings {
            study = study.set(setting)?;
        }
        self.venue.fill(&mut study);
        if let Some(device) = self.device {
            study.device = device;
        }
        let model = ModelFlags {
            model: study.model.clone(),
            revision: None,
            hub: self.hub,
            device: study.device.clone(),
            dtype: study.dtype.clone(),
            fold: study.fold.clone(),
            seed: study.seed,
            memory: self.memory,
            threads: self.threads,
            quiet: self.quiet,
        };
        work("run", &study, &model, &self.folder, &self.plan)
    }
}
