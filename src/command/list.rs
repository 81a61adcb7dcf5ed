//! `glassbox list`: what there is.

use clap::{Args, ValueEnum};

use super::flags::FormatFlags;
use super::print;
use crate::analysis::ANALYSES;
use crate::checkpoint::{Bundled, bundled};
use crate::error::{Error, Result};
use crate::family::{FAMILIES, Family};
use crate::figure::FIGURES;
use crate::metric::Metric;
use crate::row;
use crate::row::Rows;
use crate::site::{At, Site};
use crate::table::{self, Format};
use crate::task::{FORMATS, GENERATORS, Generator, LabelKind};

/// List model families, sites, analyses, tasks, formats of prompts, metrics, kinds of figures or bundled models
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glassbox list sites
  glassbox list analyses --format json")]
pub(super) struct List {
    /// What to list
    what: What,
    #[command(flatten)]
    format: FormatFlags,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    Families,
    Sites,
    Analyses,
    Tasks,
    Formats,
    Metrics,
    Figures,
    Models,
}

/// Our own format, beside those that are recognised.
const OWN: &str =
    "clean, corrupt, answers, wrong, pos, group, label, subject, id: JSON lines, a JSON list, or CSV";

row! {
    /// A name and what it stands for.
    pub struct Named {
        /// As it is written.
        pub name: String,
        /// What it is.
        pub about: String,
    }
}

row! {
    /// A generated task.
    pub struct Asked {
        /// As it is written after `--task`.
        pub name: String,
        /// What it asks.
        pub about: String,
        /// What a probe can be asked to read (`label=`), and where.
        pub labels: String,
    }
}

row! {
    /// A family of models that can be read.
    pub struct Readable {
        /// What it is called.
        pub name: String,
        /// What distinguishes it.
        pub about: String,
        /// The tiny checkpoints on which it is held to its own library.
        pub tested: String,
        /// The largest deviation measured there, relative to max(1, largest value at the site), as the next power of ten.
        pub deviation: String,
    }
}

row! {
    /// A place of the forward pass.
    pub struct Place {
        /// Its classic name; `{l}` is the layer.
        pub name: String,
        /// The axes of the activation there.
        pub shape: String,
        /// What stands there.
        pub about: String,
    }
}

impl List {
    pub(super) fn run(self) -> Result<()> {
        if self.format.format == Format::Parquet {
            return Err(Error::usage("parquet is no text to print", "choose csv or json"));
        }
        print(&table::write(&self.rows(), self.format.format)?)
    }

    fn rows(&self) -> Rows {
        let named = |name: &str, about: &str| Named { name: name.to_owned(), about: about.to_owned() };
        match self.what {
            What::Sites => Rows::of("sites", &sites()),
            What::Families => Rows::of("families", &FAMILIES.iter().map(read).collect::<Vec<_>>()),
            What::Analyses => {
                Rows::of("analyses", &ANALYSES.iter().map(|a| named(a.name, a.about)).collect::<Vec<_>>())
            }
            What::Tasks => Rows::of("tasks", &GENERATORS.iter().map(asked).collect::<Vec<_>>()),
            What::Formats => {
                let own = named("glassbox", OWN);
                let others = FORMATS.iter().map(|format| named(format.name, format.about));
                Rows::of("formats", &std::iter::once(own).chain(others).collect::<Vec<_>>())
            }
            What::Metrics => Rows::of("metrics", &Metric::ALL.map(|m| named(m.name(), m.about()))),
            What::Figures => {
                Rows::of("figures", &FIGURES.iter().map(|f| named(f.name, f.about)).collect::<Vec<_>>())
            }
            What::Models => {
                let steps = |all: &[u64]| match all {
                    [] => String::new(),
                    all => {
                        let all: Vec<String> = all.iter().map(|step| format!("@step{step}")).collect();
                        format!("; training kept {}", all.join(", "))
                    }
                };
                let about = |b: &Bundled| format!("bundled{}", steps(&b.steps));
                let all = bundled().into_iter().map(|b| Named { about: about(&b), name: b.name });
                Rows::of("models", &all.collect::<Vec<_>>())
            }
        }
    }
}

/// A family, with what the page of families says of it: the page is made by the test that measures.
fn read(family: &Family) -> Readable {
    const PAGE: &str = include_str!("../../reports/families.md");
    let row = PAGE.lines().find(|line| line.starts_with(&format!("| `{}` |", family.name)));
    let cells: Vec<&str> = row.unwrap_or_default().split(" | ").map(str::trim).collect();
    let variants = cells.get(2).copied().unwrap_or_default().split("<br>");
    let names = variants.filter_map(|variant| variant.strip_prefix('`')?.split_once('`'));
    Readable {
        name: family.name.to_owned(),
        about: family.about.to_owned(),
        tested: names.map(|(name, _)| name).collect::<Vec<_>>().join(", "),
        deviation: cells.get(3).map(|cell| cell.trim_end_matches('|').trim().to_owned()).unwrap_or_default(),
    }
}

fn asked(generator: &Generator) -> Asked {
    let label = |label: &LabelKind| format!("{} ({}; at {})", label.name, label.about, label.at);
    Asked {
        name: generator.name.to_owned(),
        about: generator.about.to_owned(),
        labels: generator.labels.iter().map(label).collect::<Vec<_>>().join(", "),
    }
}

fn sites() -> Vec<Place> {
    let outer_first = [Site::Embed, Site::PosEmbed];
    let outer_last = [Site::FinalScale, Site::FinalNorm, Site::Logits];
    let blocks = At::ALL.iter().map(|&at| Site::Block(0, at));
    let place = |site: Site| Place {
        name: site.to_string().replacen("blocks.0.", "blocks.{l}.", 1),
        shape: site.shape_words(),
        about: site.about().to_owned(),
    };
    outer_first.into_iter().chain(blocks).chain(outer_last).map(place).collect()
}
