//! `glassbox verify`: a model held to the promises of the engine.

use clap::Args;

use super::flags::{FormatFlags, HubFlags, ModelFlags};
use super::print;
use crate::error::{Error, Result};
use crate::row::Rows;
use crate::table::{self, Format, Terminal};
use crate::verify;

/// Hold a model to the promises of the engine, on its own weights, and print the conformance record
///
/// Every place: that it fires once with its shape, that changing it moves the logits (or which weights make it dead),
/// and its gradient against finite differences. Then identities, resumed passes and windows, padding, determinism. All
/// in f64, on prompts of random tokens. The exit code is 1 when a promise does not hold. The engine is held against
/// itself and against arithmetic: that a family is read rightly (which activation, which ε, which bias) is for comparison
/// with another implementation, which the tests do for each family.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glassbox verify
  glassbox verify --model textbook-wild --table promises
  glassbox verify --format json > conformance.json
  glassbox verify --model path/to/gpt2")]
pub(super) struct Verify {
    /// A bundled name (textbook, textbook-wild, textbook@step500), a directory in Hugging Face layout, or a hub id, which is
    /// fetched once (gpt2, pythia-70m, OWNER/NAME, OWNER/NAME@REVISION)
    #[arg(long, default_value = "textbook", help_heading = "Model")]
    model: String,
    /// Where to compute: cpu, cuda (the first NVIDIA card) or cuda:N, or auto for the best that is compiled in, present and
    /// computes in f64
    #[arg(long, default_value = "auto", help_heading = "Model")]
    device: String,
    /// The branch, tag or commit of the hub's model: as `@REVISION` after its id
    #[arg(long, value_name = "REVISION", help_heading = "Model")]
    revision: Option<String>,
    #[command(flatten)]
    hub: HubFlags,
    /// Decides the prompts and every random change
    #[arg(long, default_value_t = 0, help_heading = "Model")]
    seed: u64,
    /// Threads to use; by default all cores
    #[arg(long, value_name = "N", help_heading = "Model")]
    threads: Option<usize>,
    /// No progress, no remarks: only results and errors
    #[arg(long, help_heading = "Model")]
    quiet: bool,
    /// Print this table alone: sites or promises
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    table: Option<String>,
    #[command(flatten)]
    format: FormatFlags,
}

impl Verify {
    pub(super) fn run(self) -> Result<()> {
        let format = self.format.format;
        if format == Format::Parquet {
            return Err(Error::usage("parquet is no text to print", "choose csv or json"));
        }
        let names = ["sites", "promises"];
        if let Some(name) = self.table.as_deref().filter(|name| !names.contains(name)) {
            return Err(Error::unknown("table", name, names));
        }
        if self.table.is_none() && matches!(format, Format::Csv | Format::Jsonl) {
            let message = format!("{format} holds one table, and the record has two");
            return Err(Error::usage(message, "add `--table promises` or `--table sites`, or choose json"));
        }
        let working = ModelFlags::working(self.threads, self.quiet);
        let (model, revision, hub, device) = (self.model, self.revision, self.hub, self.device);
        let (seed, dtype) = (self.seed, "f64".into());
        let flags = ModelFlags { model, revision, hub, device, seed, dtype, ..working };
        let study = flags.study();
        let lab = flags.open(&study)?;
        let record = verify::verify(&lab)?;
        let tables = record.tables();
        match (tables.iter().find(|table| Some(&table.name) == self.table.as_ref()), format) {
            (Some(table), Format::Table) => print(readable(table).as_bytes())?,
            (Some(table), format) => print(&table::write(table, format)?)?,
            (None, Format::Table) => {
                let [sites, promises] = tables.each_ref().map(readable);
                print(format!("{sites}\n{promises}").as_bytes())?;
            }
            (None, _) => print(&whole(&lab.about.name, &tables)?)?,
        }
        record.check(&lab.about.name)
    }
}

/// Every row for the terminal, as wide as a terminal is: slopes are left to the other formats, notes on promises follow.
fn readable(rows: &Rows) -> String {
    let mut shown = rows.clone();
    let promises = rows.name == "promises";
    let left_out = if promises { &["note"][..] } else { &["gradient", "differences"] };
    shown.columns.retain(|(name, _, _)| !left_out.contains(&name.as_str()));
    let mut text = Terminal { max_rows: usize::MAX, ..Terminal::default() }.write(&shown);
    if let (true, Ok(names), Ok(notes)) = (promises, rows.texts("promise"), rows.texts("note")) {
        let noted = names.iter().zip(&notes).filter(|(_, note)| !note.is_empty());
        text.extend(noted.map(|(name, note)| format!(" {name}: {note}\n")));
    }
    text
}

/// Both tables as one JSON object.
fn whole(model: &str, tables: &[Rows]) -> Result<Vec<u8>> {
    let mut text = format!("{{\"model\": {}", serde_json::json!(model));
    for table in tables {
        let rows = String::from_utf8_lossy(&table::write(table, Format::Json)?).trim_end().to_owned();
        text += &format!(",\n\"{}\": {rows}", table.name);
    }
    Ok((text + "}\n").into_bytes())
}
