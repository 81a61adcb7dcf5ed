//! `glassbox report`: the main job.

use clap::Args;

use super::flags::{FolderFlags, ModelFlags, PlanFlags, PromptFlags, SeriesFlags, VenueFlags};
use super::print;
use crate::error::Result;
use crate::output::{Folder, Place};
use crate::report;
use crate::study::Study;
use crate::table::Format;

/// Answer "which components drive this prediction?" with a page to open
///
/// Runs the whole set of methods (prediction, logit lens, direct attribution, patching, attention) and writes a folder
/// with `index.html`, tables, figures and everything needed to rerun it. Without prompts it runs the bundled study
/// `probes/ioi.toml`. The folder's path is the last line on stdout.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glassbox report
  glassbox report --task facts --n 32 --out my-report
  glassbox report --venue acl                            figures as wide as a column of ACL, and as its whole page
  glassbox report --task facts --n 16 --checkpoints      how it came to be, beside what it is
  glassbox report --prompt 'When Mary and John went to the store , John gave a drink to' --answer Mary --wrong John
  glassbox report --model path/to/gpt2 --prompts pairs.jsonl --metric prob-diff")]
pub(super) struct Report {
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    series: SeriesFlags,
    #[command(flatten)]
    prompts: PromptFlags,
    #[command(flatten)]
    folder: FolderFlags,
    #[command(flatten)]
    venue: VenueFlags,
    #[command(flatten)]
    plan: PlanFlags,
}

/// The study that `glassbox report` runs when it is given no prompts.
const IOI: &str = include_str!("../../probes/ioi.toml");

impl Report {
    pub(super) fn run(self) -> Result<()> {
        self.prompts.check()?;
        let mut study = if self.prompts.is_default() {
            let bundled = Study::parse(IOI, "probes/ioi.toml", None)?;
            Study { task: bundled.task, title: bundled.title, steps: bundled.steps, ..self.model.study() }
        } else {
            self.model.study()
        };
        if !self.prompts.is_default() {
            self.prompts.fill(&mut study);
        }
        self.series.fill(&mut study);
        self.venue.fill(&mut study);
        work("report", &study, &self.model, &self.folder, &self.plan)
    }
}

/// Runs a study into a folder and prints the folder's path; or plans it, and prints what it would take.
pub(super) fn work(
    verb: &str,
    study: &Study,
    model: &ModelFlags,
    folder: &FolderFlags,
    plan: &PlanFlags,
) -> Result<()> {
    let threads = model.threads()?;
    let place = Place {
        out: folder.out.as_deref(),
        verb,
        model: &study.model,
        force: folder.force,
        resume: folder.resume,
    };
    if plan.dry_run {
        let lab = model.open(study)?;
        let task = study.task(&lab)?;
        return model.plan(study, lab, &task, Format::Table);
    }
    let mut out = Folder::create(&place)?;
    let mut lab = model.open(study)?;
    lab.journal = Some(out.journal());
    let task = study.task(&lab)?;
    task.notes.iter().for_each(|note| model.say(note));
    let outcomes = report::run(study, &lab, &task, &mut out)?;
    report::write(&report::Run { study, lab: &lab, task: &task, outcomes: &outcomes, threads }, &mut out)?;
    model.went_on(&out);
    model.remark(&lab);
    let manifest = report::manifest(study, &lab, &task, threads);
    let path = out.finish(&manifest)?;
    model.say(&format!("open {}", path.join("index.html").display()));
    print(format!("{}\n", path.display()).as_bytes())
}
