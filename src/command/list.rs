//! `glassbox list`: what there is.

use clap::{Args, ValueEnum};

use super::flags::FormatFlags;
use super::print;
use crate::analysis::ANALYSES;
use crate::checkpoint::{Bundled, bundled};
use crate::error::{Error, Result};
use crate::family::FAMILIES;
use crate::metric::Metric;
use crate::row;
use crate::row::Rows;
use crate::site::{At, Site};
use crate::table::{self, Format};
use crate::task::{GENERATORS, Generator, LabelKind};

/// List model families, sites, analyses, tasks, metrics or bundled models
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
    Metrics,
    Models,
}

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
            What::Families => {
                let all = FAMILIES.iter().map(|f| named(f.name, f.about));
                Rows::of("families", &all.collect::<Vec<_>>())
            }
            What::Analyses => {
                Rows::of("analyses", &ANALYSES.iter().map(|a| named(a.name, a.about)).collect::<Vec<_>>())
            }
            What::Tasks => Rows::of("tasks", &GENERATORS.iter().map(asked).collect::<Vec<_>>()),
            What::Metrics => Rows::of("metrics", &Metric::ALL.map(|m| named(m.name(), m.about()))),
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
