//! `glassbox plot`: any table as a figure.

mod hints;
mod view;
mod words;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::print;
use crate::error::{Error, Result};
use crate::figure::{TextAs, Venue};
use crate::output::{check_file, read_table, write_file_atomically};
use crate::report::{Drawing, ENDINGS};
use hints::explained;
use words::{limits, number, two_columns, whole};

/// Draw a table, of a run or your own, as a figure for a paper
///
/// Columns are named: `--x`, `--y`, `--value` and so on; `glassbox list figures` says which a kind needs. A view file holds the same as
/// data, and flags change it; beside each figure of a run lie its numbers and its view (`figures/NAME.csv`, `figures/NAME.toml`).
/// Captions of a run's tables say where the numbers come from. The file's ending decides what is written: svg, pdf, png (300 dpi), csv
/// (the rows it is drawn from), toml (the view), tex (a figure environment with the caption); a name without an ending is written as all of them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glassbox plot runs/report-textbook-1/figures/patch_head.csv --view runs/report-textbook-1/figures/patch_head.toml \\
                --venue acl --span col -o patch_head.pdf
  glassbox plot reports/ioi/tables/patch_head.parquet --kind heatmap --x head --y layer --value effect --lo ci_lo --hi ci_hi \\
                --only site=z --only direction=denoise --value-label 'share of the gap' -o heads.pdf -o heads.png
  glassbox plot losses.csv --kind curve --x step --value loss --group run --log-x --venue icml -o losses
  glassbox plot effects.csv --kind bars --label component --series total,total_lo,total_hi --series direct --top 12 \\
                --caption 'Effects of components.' -o effects.svg")]
pub(super) struct Plot {
    /// The table: a file that ends in .csv or .parquet
    #[arg(value_name = "TABLE")]
    table: PathBuf,
    /// The file to write; repeatable. Without an ending: NAME.svg, .pdf, .png, .csv, .toml and .tex
    #[arg(long, short, value_name = "FILE", required = true, help_heading = "Output")]
    out: Vec<PathBuf>,
    /// Replace files that exist
    #[arg(long, help_heading = "Output")]
    force: bool,
    /// The letters of a PDF: as text in an embedded font, or as shapes for systems that take no font
    #[arg(
        long,
        value_name = "text|path",
        default_value = "text",
        hide_possible_values = true,
        help_heading = "Output"
    )]
    text_as: Letters,
    /// A view to begin from, in TOML
    #[arg(long, value_name = "FILE")]
    view: Option<PathBuf>,
    #[command(flatten)]
    part: Parts,
    /// Keep only rows with this text in that column; repeatable for other columns
    #[arg(long, value_name = "COLUMN=TEXT")]
    only: Vec<String>,
    /// One of several drawn numbers, instead of --value: its column, the interval's ends, its name in the legend; repeatable
    #[arg(long, value_name = "COLUMN[,LO,HI[,NAME]]")]
    series: Vec<String>,
    /// One more drawn number in a low plot below, on the same x axis: its column, the interval's ends, its name
    #[arg(long, value_name = "COLUMN[,LO,HI[,NAME]]")]
    strip: Option<String>,
    /// A dashed line at a value that matters; repeatable
    #[arg(long, value_name = "AT[=NAME]", allow_hyphen_values = true)]
    reference: Vec<String>,
    /// A logarithmic x axis
    #[arg(long)]
    log_x: bool,
}

/// How letters are written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Letters {
    Text,
    Path,
}

/// The parts of a view that are one word or number each, named as in a view file.
#[derive(Debug, Clone, Args, Serialize)]
struct Parts {
    /// Which picture: a name of `glassbox list figures`
    #[arg(long)]
    kind: Option<String>,
    /// Column across
    #[arg(long, value_name = "COLUMN")]
    x: Option<String>,
    /// Column down or up
    #[arg(long, value_name = "COLUMN")]
    y: Option<String>,
    /// Column of the drawn number
    #[arg(long, value_name = "COLUMN")]
    value: Option<String>,
    /// Column with the interval's lower end
    #[arg(long, value_name = "COLUMN")]
    lo: Option<String>,
    /// Column with the interval's upper end
    #[arg(long, value_name = "COLUMN")]
    hi: Option<String>,
    /// Column with p-values corrected for the number of cells: grids outline by it instead of by intervals
    #[arg(long, value_name = "COLUMN")]
    q: Option<String>,
    /// Column that splits the rows into panels
    #[arg(long, value_name = "COLUMN")]
    facet: Option<String>,
    /// Column that splits the rows into lines, colours or strips
    #[arg(long, value_name = "COLUMN")]
    group: Option<String>,
    /// Column that names a row
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// Column with a few words after the name
    #[arg(long, value_name = "COLUMN")]
    role: Option<String>,
    /// Column of text written into a cell
    #[arg(long, value_name = "COLUMN")]
    text: Option<String>,
    /// Column with the token that stands at each x
    #[arg(long, value_name = "COLUMN")]
    x_text: Option<String>,
    /// Column with the token that stands at each y
    #[arg(long, value_name = "COLUMN")]
    y_text: Option<String>,
    /// Column with the token that should follow at each x
    #[arg(long, value_name = "COLUMN")]
    target: Option<String>,
    /// Column with the share of all edges that a circuit's size stands for
    #[arg(long, value_name = "COLUMN")]
    fraction: Option<String>,
    /// Columns with the last x before and the first x after a line passed half of its way
    #[arg(long, value_name = "COLUMN,COLUMN", value_parser = two_columns)]
    onset: Option<[String; 2]>,
    /// Yes-or-no column: what to set in bold or to mark
    #[arg(long, value_name = "COLUMN")]
    mark: Option<String>,
    /// Words along the x axis
    #[arg(long, value_name = "WORDS")]
    x_label: Option<String>,
    /// Words along the y axis
    #[arg(long, value_name = "WORDS")]
    y_label: Option<String>,
    /// Words along the colour bar or value axis
    #[arg(long, value_name = "WORDS")]
    value_label: Option<String>,
    /// What is shown, in a sentence; what follows from table and run is added
    #[arg(long, value_name = "WORDS")]
    caption: Option<String>,
    /// What the numbers are of, for the caption
    #[arg(long, value_name = "WORDS")]
    data: Option<String>,
    /// Where it is printed
    #[arg(long, value_parser = Venue::ALL.map(Venue::name))]
    venue: Option<String>,
    /// How much of the page's width it takes
    #[arg(long, value_parser = ["col", "full", "half"])]
    span: Option<String>,
    /// Width in points, instead of a span's; 72 are an inch
    #[arg(long, value_name = "POINTS", value_parser = number, allow_negative_numbers = true)]
    width: Option<f64>,
    /// Height in points, where the kind lets it be chosen
    #[arg(long, value_name = "POINTS", value_parser = number, allow_negative_numbers = true)]
    height: Option<f64>,
    /// Where layer 0 stands: at the top (down), at the bottom (up), or layers run across (x)
    #[arg(long, value_parser = ["down", "up", "x"])]
    layer_axis: Option<String>,
    /// Colours: diverging about 0 (rdbu, puor) or growing
    #[arg(long, value_parser = ["rdbu", "puor", "blues", "greens", "purples", "reds", "viridis", "cividis"])]
    map: Option<String>,
    /// Limits of colours or value axis
    #[arg(long, value_name = "LO,HI", value_parser = limits, allow_hyphen_values = true)]
    limits: Option<[f64; 2]>,
    /// From what size on cells that differ from 0 are outlined
    #[arg(long, value_name = "SIZE", value_parser = number, allow_negative_numbers = true)]
    outline: Option<f64>,
    /// How many to label, or of bars to keep
    #[arg(long, value_name = "N", value_parser = whole, allow_negative_numbers = true)]
    top: Option<usize>,
    /// Order of bars: by value, by size, or as in the table
    #[arg(long, value_parser = ["value", "size", "table"])]
    sort: Option<String>,
}

impl Plot {
    pub(super) fn run(self) -> Result<()> {
        let files = self.files()?;
        for (path, ..) in &files {
            if *path == self.table || Some(path) == self.view.as_ref() {
                let what = format!("{} is what the figure is drawn from", path.display());
                return Err(Error::usage(what, "give the figure another name with -o"));
            }
            check_file(path, self.force)?;
        }
        let rows = read_table(&self.table)?;
        let view = self.view()?;
        let mut drawing = Drawing::of(&rows, &view).map_err(|error| explained(error, &rows, &view))?;
        drawing.text = match self.text_as {
            Letters::Text => TextAs::Text,
            Letters::Path => TextAs::Path,
        };
        let made =
            files.iter().map(|(_, ending, name)| drawing.file(ending, name)).collect::<Result<Vec<_>>>()?;
        for ((path, ..), bytes) in files.iter().zip(&made) {
            write_file_atomically(path, bytes, self.force)?;
            print(format!("{}\n", path.display()).as_bytes())?;
        }
        Ok(())
    }

    /// Each file to write: its path, its ending, and its name without one.
    fn files(&self) -> Result<Vec<(PathBuf, &'static str, String)>> {
        let mut files: Vec<(PathBuf, &'static str, String)> = Vec::new();
        for out in &self.out {
            if out.to_string_lossy().ends_with(['/', '\\']) {
                let what = format!("{} names a folder, not a figure", out.display());
                return Err(Error::usage(what, "give the figure a name in it: `-o figures/heads`"));
            }
            let whole = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let made: Vec<_> = match out.extension().map(|ending| ending.to_string_lossy()) {
                None => {
                    let path = |ending| out.with_file_name(format!("{whole}.{ending}"));
                    ENDINGS.iter().map(|ending| (path(ending), *ending, whole.clone())).collect()
                }
                Some(ending) => {
                    let known = ENDINGS.iter().find(|known| **known == ending).ok_or_else(|| {
                        Error::usage(
                            format!("figures are not written as .{ending}"),
                            format!(
                                "end the name in .{}; without an ending all of them are written",
                                ENDINGS.join(", .")
                            ),
                        )
                    })?;
                    let stem = out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    vec![(out.clone(), *known, stem)]
                }
            };
            files.extend(made);
        }
        let twice =
            |i: usize| files.iter().take(i).any(|(path, ..)| Some(path) == files.get(i).map(|f| &f.0));
        match (0..files.len()).find(|i| twice(*i)).and_then(|i| files.get(i)) {
            None => Ok(files),
            Some((path, ..)) => {
                Err(Error::usage(format!("{} is asked for twice", path.display()), "give each name once"))
            }
        }
    }
}
