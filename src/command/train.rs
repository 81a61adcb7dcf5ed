//! `glassbox train`: a model from a recipe.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::flags::{FolderFlags, ModelFlags, listen};
use super::print;
use super::progress::Bars;
use crate::error::Result;
use crate::output::{Folder, Place};
use crate::train::{Recipe, Trainer};

/// Train a small model whose circuits are known, from a recipe
///
/// Writes a model folder (weights, tokenizer, circuit, recipe, README with the gates as measured, checkpoints on the
/// way) that every other command opens with `--model DIR`. Interrupted, it goes on with `--resume` and ends with the
/// same weights. Training computes on the CPU. The folder's path is the last line on stdout.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glassbox train assets/models/textbook/recipe.toml
  glassbox train assets/models/textbook/recipe.toml --out mine
  glassbox train assets/models/textbook/recipe.toml --out mine --resume     after Ctrl-C")]
pub(super) struct Train {
    /// The recipe
    #[arg(value_name = "RECIPE.toml")]
    recipe: PathBuf,
    /// Threads to use; by default all cores
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// No progress, no remarks: only results and errors
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    folder: FolderFlags,
}

impl Train {
    pub(super) fn run(self) -> Result<()> {
        let recipe = Recipe::read(&self.recipe)?;
        let flags = ModelFlags::working(self.threads, self.quiet);
        let threads = flags.threads()?;
        let place = Place {
            out: self.folder.out.as_deref(),
            verb: "train",
            model: &recipe.name,
            force: self.folder.force,
            resume: self.folder.resume,
        };
        let mut folder = Folder::create(&place)?;
        let mut trainer = Trainer::open(recipe, &folder)?;
        if trainer.step() > 0 {
            flags.say(&format!("going on after step {}", trainer.step()));
        }
        let stop = Arc::new(AtomicBool::new(false));
        listen(&stop)?;
        let gates = trainer.run(&mut folder, &Bars::new(self.quiet), &stop)?;
        for gate in &gates {
            flags.say(&gate.to_string());
        }
        let path = folder.finish(&trainer.manifest(threads)?)?;
        print(format!("{}\n", path.display()).as_bytes())
    }
}
