//! `glassbox record`: activations, or gradients, as a file.

use std::path::PathBuf;

use clap::Args;

use super::flags::{ModelFlags, PromptFlags};
use super::print;
use crate::error::Result;
use crate::metric::Metric;
use crate::output;
use crate::recording;
use crate::study::Study;
use crate::task::Side;

/// Record activations (or gradients) at chosen sites into a safetensors file
///
/// Sites are globs over full classic names, as `glassbox list sites` shows them; `all` is every site but the
/// per-reader copies of the stream. The file holds exactly those tensors, f32, batch first, with the tokens in its
/// metadata. The memory needed is printed first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glassbox record --task ioi --n 8 --sites 'blocks.*.hook_resid_pre' logits -o acts.safetensors
  glassbox record --prompt 'When Mary and John went to' --sites all -o acts.safetensors
  glassbox record --task ioi --side corrupt --sites 'blocks.*.attn.hook_z' -o z.safetensors
  glassbox record --task ioi --sites 'blocks.*.hook_mlp_out' --grad logit-diff -o grads.safetensors")]
pub(super) struct Record {
    /// Which sites: globs over full names
    #[arg(long, value_name = "GLOB", num_args = 1.., required = true)]
    sites: Vec<String>,
    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// Which prompt of each pair
    #[arg(long, default_value = "clean", value_name = "clean|corrupt")]
    side: Side,
    /// Write the gradients of this metric at those sites instead
    #[arg(long, value_name = "METRIC")]
    grad: Option<Metric>,
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    prompts: PromptFlags,
}

impl Record {
    pub(super) fn run(self) -> Result<()> {
        self.prompts.check()?;
        output::check_file(&self.out, self.force)?;
        let mut study = Study { steps: Vec::new(), ..self.model.study() };
        self.prompts.fill(&mut study);
        let lab = self.model.open(&study)?;
        let task = study.task(&lab)?;
        task.notes.iter().for_each(|note| self.model.say(note));
        let sites = recording::sites(&lab.model, &self.sites)?;
        let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
        let bytes = recording::memory(&lab.model, &sites, task.examples.len(), longest);
        self.model.say(&format!(
            "{} site(s) of {} prompt(s): {} MB",
            sites.len(),
            task.examples.len(),
            bytes.div_ceil(1 << 20)
        ));
        let tensors = match self.grad {
            None => recording::record(&lab, &task, self.side, &sites)?,
            Some(metric) => recording::gradients(&lab, &task, self.side, metric, &sites)?,
        };
        let about = recording::metadata(&lab, &task, self.side, self.grad)?;
        output::write_tensors(&self.out, &tensors, &about, self.force)?;
        print(format!("{}\n", self.out.display()).as_bytes())
    }
}
