//! `glassbox circuit`: find a circuit, evaluate one, compare two.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::analyse::Common;
use super::flags::FormatFlags;
use super::print;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::graph::Listed;
use crate::graph::compare::{self, Agreement};
use crate::output;
use crate::row;
use crate::row::Rows;
use crate::table::{self, Format};

/// Find the edges between heads and MLPs that a behaviour needs, evaluate such a circuit, or compare two
///
/// Edges are named as by EAP-IG and MIB: `input->a0.h1<q>`, `a5.h5->a9.h9<k>`, `a9.h9->m10`, `m0->logits`. --out with a name that
/// ends in .json writes the circuit as their JSON, with every edge's score; any other name is a run folder, which holds it too
/// (circuit.json), and the same for viewers of attribution graphs (attribution_graph.json).
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  glassbox circuit --task ioi
  glassbox circuit --task ioi --n 32 --out c.json
  glassbox circuit --task facts --out circuit-facts
  glassbox circuit eval c.json --task ioi
  glassbox circuit compare c.json other.json --table edges"
)]
pub(super) struct Circuit {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Other {
    Eval(Box<Eval>),
    Compare(Compare),
}

/// How much of the behaviour a given circuit carries, all other edges being cut
///
/// The circuit is the JSON of EAP-IG or MIB, {"edges": ["a0.h1->m0", …]}, or such a list by task; names of auto-circuit are understood.
/// In a model whose heads share keys, the copies of a shared edge must be kept or cut together.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glassbox circuit eval c.json --task ioi
  glassbox circuit eval mib/ioi_gpt2.json --model gpt2 --prompts ioi.jsonl --out evaluation")]
struct Eval {
    /// The circuit
    #[arg(value_name = "CIRCUIT.json")]
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// What two circuits share: edges and nodes in both and in each alone, and how well A's scores find B's edges
///
/// Precision, recall and AUROC are those of A with B as the truth; ties count half. No model is opened. In a graph whose heads share
/// keys, each copy of a shared edge counts.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glassbox circuit compare found.json truth.json
  glassbox circuit compare found.json textbook/circuit.json --task ioi
  glassbox circuit compare a.json b.json --table edges --format csv")]
struct Compare {
    /// The circuit that is judged
    #[arg(value_name = "A.json")]
    found: PathBuf,
    /// The circuit it is judged by
    #[arg(value_name = "B.json")]
    reference: PathBuf,
    /// Which task is meant in a file that describes several
    #[arg(long)]
    task: Option<String>,
    /// Print this table instead: edges, which has every edge that either keeps
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    table: Option<String>,
    #[command(flatten)]
    format: FormatFlags,
}

row! {
    /// What two circuits share.
    pub struct Shared {
        /// Edges, or the nodes that edges leave.
        pub of: String,
        /// How many A keeps.
        pub a: usize,
        /// How many B keeps.
        pub b: usize,
        /// How many both keep.
        pub shared: usize,
        /// How many A alone keeps.
        pub only_a: usize,
        /// How many B alone keeps.
        pub only_b: usize,
        /// Those in both over those in either.
        pub iou: f64,
        /// Of A's, the part that is in B.
        pub precision: Option<f64>,
        /// Of B's, the part that is in A.
        pub recall: Option<f64>,
        /// The harmonic mean of the two.
        pub f1: Option<f64>,
        /// Probability that an edge of B has a larger |score| in A than another edge, ties counting half.
        pub auroc: Option<f64>,
        /// The same of the scores with their signs.
        pub auroc_signed: Option<f64>,
    }
}

row! {
    /// An edge that either circuit keeps.
    pub struct Kept {
        /// The edge.
        pub edge: String,
        /// Whether A keeps it.
        pub in_a: bool,
        /// Whether B keeps it.
        pub in_b: bool,
        /// Its score in A.
        pub score_a: Option<f64>,
        /// Its score in B.
        pub score_b: Option<f64>,
    }
}

impl Circuit {
    pub(super) fn run(self) -> Result<()> {
        match self.other {
            None => find(self.common),
            Some(Other::Eval(eval)) => eval.run(),
            Some(Other::Compare(compare)) => compare.run(),
        }
    }
}

impl Eval {
    fn run(mut self) -> Result<()> {
        if self.common.prompts.circuit.is_some() {
            return Err(Error::usage("the circuit is named twice", "leave `--circuit` out"));
        }
        // a file that is not there is refused before a model is opened
        checkpoint::read_text(&self.file)?;
        self.common.prompts.circuit = Some(self.file);
        find(self.common)
    }
}

/// Runs the analysis; a circuit that goes into a file of its own is written once all is done.
fn find(mut common: Common) -> Result<()> {
    let file = common.folder.out.take_if(|out| out.extension().is_some_and(|ending| ending == "json"));
    if let Some(file) = &file {
        output::check_file(file, common.folder.force)?;
        if common.folder.resume {
            return Err(Error::usage(
                "a single file is not continued",
                "leave `--resume` out, or write a folder",
            ));
        }
    }
    let outcomes = common.work("circuit")?;
    let text = outcomes.iter().find_map(|outcome| outcome.findings.files.get("circuit.json"));
    if let (Some(file), Some(text)) = (&file, text) {
        output::write_file_atomically(file, text.as_bytes(), common.folder.force)?;
        common.model.say(&format!("wrote {}", file.display()));
    }
    common.tell(&outcomes)
}

impl Compare {
    fn run(self) -> Result<()> {
        if self.format.format == Format::Parquet {
            return Err(Error::usage("parquet is no text to print", "choose csv or json"));
        }
        let read = |path: &Path| {
            let text = checkpoint::read_text(path)?;
            Listed::parse(&path.display().to_string(), &text, self.task.as_deref())
        };
        let (found, reference) = (read(&self.found)?, read(&self.reference)?);
        let compared = compare::files(&found, &reference)?;
        let rows = match self.table.as_deref() {
            None | Some("compare") => Rows::of("compare", &shared(&compared)),
            Some("edges") => Rows::of("edges", &compared.each.iter().map(kept).collect::<Vec<_>>()),
            Some(other) => return Err(Error::unknown("table", other, ["compare", "edges"])),
        };
        print(&table::write(&rows, self.format.format)?)?;
        found.notes.iter().chain(&reference.notes).for_each(|note| super::remark(note));
        Ok(())
    }
}

fn shared(compared: &compare::Compared) -> [Shared; 2] {
    let row = |of: &str, agreement: &Agreement| Shared {
        of: of.to_owned(),
        a: agreement.found,
        b: agreement.reference,
        shared: agreement.shared,
        only_a: agreement.only_found(),
        only_b: agreement.only_reference(),
        iou: agreement.iou(),
        precision: agreement.precision(),
        recall: agreement.recall(),
        f1: agreement.f1(),
        auroc: None,
        auroc_signed: None,
    };
    let edges = row("edges", &compared.edges);
    let (auroc, auroc_signed) = (compared.auroc, compared.auroc_signed);
    [Shared { auroc, auroc_signed, ..edges }, row("nodes", &compared.nodes)]
}

fn kept(each: &compare::Each) -> Kept {
    let [in_a, in_b] = each.kept;
    let [score_a, score_b] = each.scores;
    Kept { edge: each.edge.to_string(), in_a, in_b, score_a, score_b }
}
