//! `glassbox plot`: any table as a figure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::print;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::figure::{FIGURES, Facts, TextAs, Venue, View};
use crate::output::{check_file, read_table, write_file_atomically};
use crate::report::{Drawing, ENDINGS};
use crate::row::{Column, Rows};

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
    /// Keep only rows with this text in that column; repeatable
    #[arg(long, value_name = "COLUMN=TEXT")]
    only: Vec<String>,
    /// One of several drawn numbers, instead of --value: its column, the interval's ends, its name in the legend; repeatable
    #[arg(long, value_name = "COLUMN[,LO,HI[,NAME]]")]
    series: Vec<String>,
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
    #[arg(long, value_name = "POINTS")]
    width: Option<f64>,
    /// Height in points, where the kind lets it be chosen
    #[arg(long, value_name = "POINTS")]
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
    #[arg(long, value_name = "SIZE")]
    outline: Option<f64>,
    /// How many to label, or of bars to keep
    #[arg(long, value_name = "N")]
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

    /// The view of file and flags.
    fn view(&self) -> Result<View> {
        let unreadable = |e: toml::de::Error| {
            let hint = "`glassbox plot --help` explains each flag, and `glassbox list figures` each kind";
            Error::usage(format!("this cannot be drawn: {}", e.message()), hint)
        };
        let mut all = toml::Table::new();
        if let Some(path) = &self.view {
            let text = checkpoint::read_text(path)?;
            all = toml::from_str(&text).map_err(|e| {
                let hint = "a view is TOML, as `figures/NAME.toml` of a run";
                Error::file("read", path, e.to_string().trim_end(), hint)
            })?;
        }
        let broken =
            |e: toml::ser::Error| Error::usage(format!("a flag cannot be read: {e}"), "check its number");
        let parts = toml::Table::try_from(&self.part).map_err(broken)?;
        if !self.series.is_empty() {
            ["value", "lo", "hi"].iter().for_each(|part| drop(all.remove(*part)));
            let series = self.series.iter().map(|words| series(words)).collect::<Result<_>>()?;
            all.insert("series".to_owned(), toml::Value::Array(series));
        } else if parts.contains_key("value") {
            all.remove("series");
        }
        all.extend(parts);
        if !self.reference.is_empty() {
            let lines = self.reference.iter().map(|words| reference(words)).collect::<Result<_>>()?;
            all.insert("references".to_owned(), toml::Value::Array(lines));
        }
        if self.log_x {
            all.insert("log_x".to_owned(), true.into());
        }
        let mut view: View = all.try_into().map_err(unreadable)?;
        for words in &self.only {
            let (column, text) = words.split_once('=').ok_or_else(|| {
                Error::usage(format!("`--only {words}` names no column and text"), "write `--only site=z`")
            })?;
            view.only.insert(column.to_owned(), text.to_owned());
        }
        if !FIGURES.iter().any(|figure| figure.name == view.kind) {
            let message = match view.kind.as_str() {
                "" => "no `--kind` says what to draw".to_owned(),
                kind => format!("there is no kind of figure named `{kind}`"),
            };
            let kinds: Vec<String> =
                FIGURES.iter().map(|figure| format!("\n    {}: {}", figure.name, figure.about)).collect();
            return Err(Error::usage(message, format!("the kinds are{}", kinds.concat())));
        }
        if view.name.is_empty() {
            view.name = self.table.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
        if view.facts == Facts::default() {
            view.facts = facts(&self.table);
        }
        Ok(view)
    }
}

/// `LO,HI`.
fn limits(words: &str) -> std::result::Result<[f64; 2], String> {
    let ends: Option<Vec<f64>> = words.split(',').map(|end| end.trim().parse().ok()).collect();
    ends.and_then(|ends| ends.try_into().ok())
        .ok_or_else(|| "write two numbers: `--limits -0.5,0.5`".to_owned())
}

/// `COLUMN[,LO,HI[,NAME]]`.
fn series(words: &str) -> Result<toml::Value> {
    let parts: Vec<&str> = words.splitn(4, ',').collect();
    let keys: &[&str] = match parts.len() {
        1 => &["value"],
        3 => &["value", "lo", "hi"],
        4 => &["value", "lo", "hi", "name"],
        _ => {
            return Err(Error::usage(
                format!("`--series {words}` names one end of an interval"),
                "write `--series total,total_lo,total_hi` or `--series total`",
            ));
        }
    };
    let pairs = keys.iter().zip(parts).map(|(key, part)| ((*key).to_owned(), part.to_owned().into()));
    Ok(toml::Value::Table(pairs.collect()))
}

/// `AT[=NAME]`.
fn reference(words: &str) -> Result<toml::Value> {
    let (at, name) = words.split_once('=').unwrap_or((words, ""));
    let at: f64 = at.trim().parse().map_err(|_| {
        Error::usage(format!("`--reference {words}` names no value"), "write `--reference 0.5=chance`")
    })?;
    let pairs = [("at".to_owned(), at.into()), ("name".to_owned(), name.to_owned().into())];
    Ok(toml::Value::Table(pairs.into_iter().collect()))
}

/// What the manifest of the run says that wrote this table; nothing of any other table.
fn facts(table: &Path) -> Facts {
    let table = std::path::absolute(table).unwrap_or_else(|_| table.to_owned());
    let manifest = |folder: &Path| {
        let text = checkpoint::read_text(&folder.join("manifest.json")).ok()?;
        let all: serde_json::Value = serde_json::from_str(&text).ok()?;
        let inside = table.strip_prefix(folder).ok()?;
        let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        let (own, outputs) = (parts.join("/"), all["outputs"].as_array()?);
        outputs.iter().any(|output| output["path"] == own.as_str()).then_some(())?;
        serde_json::from_value(all["facts"].clone()).ok()
    };
    table.ancestors().skip(1).take(2).find_map(manifest).unwrap_or_default()
}

/// The error with what the table holds, where that is the way out.
fn explained(error: Error, rows: &Rows, view: &View) -> Error {
    let names: Vec<&str> = rows.columns.iter().map(|(name, ..)| name.as_str()).collect();
    let columns = format!("the table has {}", names.join(", "));
    match error {
        Error::Unknown { kind: "column", name, near } => {
            let near = if near.starts_with("there are") { columns } else { format!("{near} {columns}") };
            Error::Unknown { kind: "column", name, near }
        }
        Error::Usage { message, .. } if message.contains("picture needs `") => {
            let part = message.split('`').nth(3).and_then(|part| part.split(' ').next()).unwrap_or_default();
            let hint = format!("add `--{} COLUMN`; {columns}", part.replace('_', "-"));
            Error::Usage { message, hint }
        }
        Error::Input { message, hint } if message.starts_with("two rows of") => {
            let hint = apart(rows, view).unwrap_or(hint);
            Error::Input { message, hint }
        }
        other => other,
    }
}

/// How to split the first two rows that fall into one place: the columns in which they differ.
fn apart(rows: &Rows, view: &View) -> Option<String> {
    let rows = view.rows(rows).ok()?;
    let places = [&view.x, &view.y, &view.facet, &view.group];
    let places: Vec<Vec<String>> = places.iter().filter_map(|c| rows.texts(c.as_deref()?).ok()).collect();
    let mut seen: BTreeMap<Vec<&String>, usize> = BTreeMap::new();
    let (first, second) = (0..rows.len()).find_map(|i| {
        let key = places.iter().filter_map(|texts| texts.get(i)).collect();
        seen.insert(key, i).map(|before| (before, i))
    })?;
    let mut ways: Vec<(usize, &str, String)> = Vec::new();
    for (name, _, column) in &rows.columns {
        let texts = rows.texts(name).ok()?;
        let (a, b) = (texts.get(first)?, texts.get(second)?);
        if a != b && !matches!(column, Column::Num(_)) {
            let distinct = texts.iter().collect::<BTreeSet<_>>().len();
            ways.push((distinct, name, format!("`{name}` ({a}, {b})")));
        }
    }
    // what takes few values is a kind of row
    ways.sort();
    let (_, kind, _) = ways.first()?;
    let lines =
        if view.kind == "curve" { format!("`--group {kind}` draws a line of each, ") } else { String::new() };
    let split =
        format!("{lines}`--only {kind}=…` keeps one kind of row, `--facet {kind}` makes a panel of each");
    let all: Vec<&str> = ways.iter().take(4).map(|(_, _, way)| way.as_str()).collect();
    Some(format!("two such rows differ in {}: {split}", all.join(", ")))
}
