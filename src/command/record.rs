//! `glassbox record`: activations, gradients, or weights, as a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::Tensor;
use clap::Args;

use super::flags::{ModelFlags, PromptFlags};
use super::print;
use crate::error::Result;
use crate::lab::Lab;
use crate::metric::Metric;
use crate::output;
use crate::recording;
use crate::study::Study;
use crate::task::Side;

/// Record activations, gradients or weights into a safetensors file
///
/// Sites are globs over full classic names, as `glassbox list sites` shows them; `all` is every site but the
/// per-reader copies of the stream. The file holds exactly those tensors, f32, batch first, with the tokens in its
/// metadata. The memory needed is printed first. Weights have their classic names and layouts (`blocks.0.attn.W_Q [head,
/// d_model, d_head]`), and are those that the model computes with: folded ones under --fold.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glassbox record --task ioi --n 8 --sites 'blocks.*.hook_resid_pre' logits -o acts.safetensors
  glassbox record --prompt 'When Mary and John went to' --sites all -o acts.safetensors
  glassbox record --task ioi --side corrupt --sites 'blocks.*.attn.hook_z' -o z.safetensors
  glassbox record --task ioi --sites 'blocks.*.hook_mlp_out' --grad logit-diff -o grads.safetensors
  glassbox record --weights -o weights.safetensors
  glassbox record --weights 'blocks.*.attn.W_*' --fold -o attention.safetensors")]
pub(super) struct Record {
    /// Which sites: globs over full names
    #[arg(long, value_name = "GLOB", num_args = 1.., required_unless_present = "weights")]
    sites: Vec<String>,
    /// Which weights: globs over their classic names; without one, all
    #[arg(long, value_name = "GLOB", num_args = 0.., default_missing_value = "*")]
    weights: Vec<String>,
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
        let mut tensors = recording::weights(&lab.model, &self.weights)?;
        let mut about = recording::model_metadata(&lab);
        if !self.sites.is_empty() {
            let (recorded, of_prompts) = self.activations(&lab, &study)?;
            tensors.extend(recorded);
            about.extend(of_prompts);
        } else {
            about.insert("kind".into(), "weights".into());
        }
        output::write_tensors(&self.out, &tensors, &about, self.force)?;
        print(format!("{}\n", self.out.display()).as_bytes())
    }

    /// What was recorded, and what describes it.
    fn activations(
        &self,
        lab: &Lab,
        study: &Study,
    ) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, String>)> {
        let task = study.task(lab)?;
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
            None => recording::record(lab, &task, self.side, &sites)?,
            Some(metric) => recording::gradients(lab, &task, self.side, metric, &sites)?,
        };
        Ok((tensors, recording::metadata(lab, &task, self.side, self.grad)?))
    }
}
