//! `glassbox compare`: two finished runs side by side.

use std::path::PathBuf;

use clap::Args;

use super::flags::ModelFlags;
use super::print;
use crate::compare;
use crate::error::Result;
use crate::output::{Finished, Folder, Place};
use crate::report;

/// Put two finished runs side by side: what differs, by how much, and how surely
///
/// Two models, two checkpoints, two sets of prompts, two seeds: the tables that both runs have are joined row by row. Grids show both
/// runs and their difference (B minus A) on one scale, bars and lines both runs, some of them also the difference. Differences have 95 % intervals from the values of every example,
/// pairwise where both runs saw the same prompts. No model is opened. The folder's path is the last line on stdout.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glassbox report --model textbook@step500 --out early; glassbox report --out late; glassbox compare early late
  glassbox compare early late --name-a 'step 500' --name-b finished --out forming
  glassbox report --task ioi --out ioi; glassbox report --task induction --out induction; glassbox compare ioi induction")]
pub(super) struct Compare {
    /// The run that is subtracted: its folder
    #[arg(value_name = "RUN_A")]
    a: PathBuf,
    /// The run that it is subtracted from
    #[arg(value_name = "RUN_B")]
    b: PathBuf,
    /// What A is called, instead of by its folder
    #[arg(long, value_name = "NAME")]
    name_a: Option<String>,
    /// What B is called
    #[arg(long, value_name = "NAME")]
    name_b: Option<String>,
    /// The folder to write
    #[arg(long, short, value_name = "DIR", help_heading = "Output")]
    out: Option<PathBuf>,
    /// Replace the folder if it exists
    #[arg(long, help_heading = "Output")]
    force: bool,
    /// Threads to use; by default all cores
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// No remarks: only results and errors
    #[arg(long)]
    quiet: bool,
}

impl Compare {
    pub(super) fn run(self) -> Result<()> {
        let work = ModelFlags::working(self.threads, self.quiet);
        let threads = work.threads()?;
        let runs = [Finished::open(&self.a)?, Finished::open(&self.b)?];
        let command = self.command();
        let compared = compare::compare(runs, [self.name_a, self.name_b])?;
        compared.warnings.iter().for_each(|warning| work.say(&format!("caution: {warning}")));
        let [a, b, _] = &compared.names;
        let model = format!("{a}-{b}").replace('/', "-");
        let place = Place {
            out: self.out.as_deref(),
            verb: "compare",
            model: &model,
            force: self.force,
            resume: false,
        };
        let mut folder = Folder::create(&place)?;
        report::compare::write(&compared, &command, &mut folder)?;
        let path = folder.finish(&report::compare::manifest(&compared, threads))?;
        work.say(&format!("open {}", path.join("index.html").display()));
        print(format!("{}\n", path.display()).as_bytes())
    }

    /// The command that makes the comparison again, wherever it is written.
    fn command(&self) -> String {
        let quoted =
            |word: &str| match word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/@=".contains(c)) {
                true if !word.is_empty() => word.to_owned(),
                _ => format!("'{}'", word.replace('\'', r"'\''")),
            };
        let mut words = vec!["glassbox compare".to_owned()];
        words.extend([&self.a, &self.b].map(|path| quoted(&path.display().to_string())));
        for (flag, name) in [("--name-a", &self.name_a), ("--name-b", &self.name_b)] {
            words.extend(name.iter().map(|name| format!("{flag} {}", quoted(name))));
        }
        words.join(" ")
    }
}
