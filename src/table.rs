//! Tables as files: CSV, Parquet, JSON, JSON lines, and one for the terminal. The only file that names polars.
//!
//! What each format keeps:
//!
//! | format  | missing | NaN, infinities | token text | meaning of columns |
//! |---------|---------|-----------------|------------|--------------------|
//! | Parquet | null    | as they are     | exact      | file metadata `glassbox.columns` |
//! | CSV     | empty   | `NaN`, `inf`    | exact but for formulas | –      |
//! | JSON    | null    | null            | exact      | –                  |
//! | table   | empty   | `NaN`, `inf`    | made visible | –                |
//!
//! CSV quotes every text cell, always: a missing text differs from an empty one, and spaces, line ends and quotes
//! survive. A text that a spreadsheet would run as a formula gets an apostrophe in front (see [`formula`]); numbers never do.
//! CSV has no types: a text column of digits alone reads as numbers, and pandas takes words such as `null` for missing
//! cells unless told `keep_default_na=False`. Parquet has none of these faults.

mod foreign;
pub mod formula;
mod terminal;

pub use terminal::Terminal;

use crate::error::{Error, Result};
use crate::row::{Column, Rows};
use polars::prelude as pl;
use polars::prelude::{NamedFrom, SerReader, SerWriter};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::str::FromStr;

/// The key of a Parquet file's metadata under which the meaning of each column stands, as a JSON object.
const MEANING: &str = "glassbox.columns";

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Columns for a person, hostile text made visible.
    #[default]
    Table,
    /// One array of objects, one object a line.
    Json,
    /// One object a line.
    Jsonl,
    /// Comma-separated values with a header, every text quoted.
    Csv,
    /// Apache Parquet, zstd.
    Parquet,
}

impl Format {
    /// Every format, in the order of `--help`.
    pub const ALL: [Format; 5] = [Format::Table, Format::Json, Format::Jsonl, Format::Csv, Format::Parquet];

    /// The word for it on the command line; also the usual file ending.
    pub fn name(self) -> &'static str {
        match self {
            Format::Table => "table",
            Format::Json => "json",
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
            Format::Parquet => "parquet",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(word: &str) -> Result<Format> {
        let found = Format::ALL.into_iter().find(|format| format.name() == word);
        found.ok_or_else(|| Error::unknown("format", word, Format::ALL.map(Format::name)))
    }
}

/// The table as the bytes of a file in this format. The same rows give the same bytes.
pub fn write(rows: &Rows, format: Format) -> Result<Vec<u8>> {
    match format {
        Format::Table => Ok(Terminal::default().write(rows).into_bytes()),
        Format::Json => {
            let lines: Vec<String> = objects(rows).map(|object| object.to_string()).collect();
            Ok(if lines.is_empty() { "[]\n".into() } else { format!("[\n{}\n]\n", lines.join(",\n")).into() })
        }
        Format::Jsonl => Ok(objects(rows).map(|object| format!("{object}\n")).collect::<String>().into()),
        Format::Csv => {
            let mut bytes = Vec::new();
            let mut writer = pl::CsvWriter::new(&mut bytes).with_quote_style(pl::QuoteStyle::NonNumeric);
            writer.finish(&mut frame(&formula::guarded(rows))?).map_err(|e| unwritable(rows, &e))?;
            Ok(bytes)
        }
        Format::Parquet => {
            let mut bytes = Vec::new();
            let meaning: Map<String, Value> = rows
                .columns
                .iter()
                .map(|(name, meaning, _)| (name.clone(), meaning.as_str().into()))
                .collect();
            let metadata = vec![(MEANING.to_owned(), Value::Object(meaning).to_string())];
            pl::ParquetWriter::new(&mut bytes)
                .with_compression(pl::ParquetCompression::Zstd(None))
                .with_row_group_size(Some(128 * 1024))
                .with_key_value_metadata(Some(pl::KeyValueMetadata::from_static(metadata)))
                .finish(&mut frame(rows)?)
                .map_err(|e| unwritable(rows, &e))?;
            Ok(bytes)
        }
    }
}

/// Reads back a table that was written as CSV or Parquet; `name` becomes the table's.
///
/// A file that others made is refused in our words where it is no such table, or one without the order that a table has: a name
/// for each column and a cell for each name. Parquet gives back what was written. From CSV, types are taken from the cells (a column without any is text), and
/// the meaning of columns is lost.
pub fn read(name: &str, bytes: &[u8], format: Format) -> Result<Rows> {
    let broken = |_| {
        let why = "its contents are damaged, or of a kind that is not read here";
        foreign::refused(name, format, why, "write it again as plain columns of numbers, texts, yes and no")
    };
    let mut meanings = BTreeMap::<String, String>::new();
    let frame = match format {
        Format::Parquet => {
            foreign::parquet(name, bytes)?;
            let mut reader = pl::ParquetReader::new(Cursor::new(bytes));
            let metadata = reader.get_metadata().map_err(broken)?;
            foreign::distinct(name, format, metadata.schema().fields().iter().map(|field| field.name()))?;
            let pairs = metadata
                .key_value_metadata()
                .clone()
                .into_iter()
                .flatten()
                .filter(|pair| pair.key == MEANING);
            for text in pairs.filter_map(|pair| pair.value) {
                meanings = serde_json::from_str(&text).unwrap_or_default();
            }
            reader.finish().map_err(broken)?
        }
        Format::Csv if bytes.iter().all(u8::is_ascii_whitespace) => pl::DataFrame::empty(),
        Format::Csv => {
            foreign::csv(name, bytes)?;
            pl::CsvReadOptions::default()
                .with_infer_schema_length(None)
                .into_reader_with_file_handle(Cursor::new(bytes))
                .finish()
                .map_err(broken)?
        }
        Format::Table | Format::Json | Format::Jsonl => {
            let message = format!("the table `{name}` cannot be read from {format}");
            return Err(Error::input(message, "tables are read from CSV and Parquet"));
        }
    };
    let columns = frame.columns().iter().map(|column| {
        let mut cells = cells(column).map_err(|_| {
            let why = format!("the column `{}` holds {}", column.name(), column.dtype());
            foreign::refused(name, format, &why, "write it as numbers, texts, or yes and no")
        })?;
        let name = column.name().to_string();
        if let (Format::Csv, Column::Text(texts)) = (format, &mut cells) {
            texts.iter_mut().flatten().for_each(|text| *text = formula::exact(text).to_owned());
            cells = numbers(texts).map_or(cells, Column::Num);
        }
        // in a quoted name a quote stands twice
        let name = if format == Format::Csv { name.replace("\"\"", "\"") } else { name };
        Ok((name.clone(), meanings.remove(&name).unwrap_or_default(), cells))
    });
    Ok(Rows { name: name.to_owned(), columns: columns.collect::<Result<_>>()? })
}

/// A column of numbers in which other programs wrote words for those that are missing (NA, null, None) or are none (nan).
fn numbers(texts: &[Option<String>]) -> Option<Vec<Option<f64>>> {
    let number = |text: &Option<String>| match text.as_deref().map(str::trim) {
        None | Some("" | "NA" | "N/A" | "null" | "NULL" | "None") => Some(None),
        Some(text) => text.parse().ok().map(Some),
    };
    let found: Vec<Option<f64>> = texts.iter().map(number).collect::<Option<_>>()?;
    found.iter().flatten().any(|x| !x.is_nan()).then_some(found)
}

/// The rows as a polars frame.
fn frame(rows: &Rows) -> Result<pl::DataFrame> {
    let columns = rows.columns.iter().map(|(name, _, column)| {
        let name = name.as_str().into();
        pl::Column::from(match column {
            Column::Int(cells) => pl::Series::new(name, cells),
            Column::Num(cells) => pl::Series::new(name, cells),
            Column::Text(cells) => pl::Series::new(name, cells),
            Column::Bool(cells) => pl::Series::new(name, cells),
        })
    });
    pl::DataFrame::new(rows.len(), columns.collect()).map_err(|e| unwritable(rows, &e))
}

/// A frame's column as plain cells; other types than ours are converted where that loses nothing.
fn cells(column: &pl::Column) -> pl::PolarsResult<Column> {
    let series = column.as_materialized_series();
    Ok(match series.dtype() {
        pl::DataType::Boolean => Column::Bool(series.bool()?.iter().collect()),
        kind if kind.is_float() => Column::Num(series.cast(&pl::DataType::Float64)?.f64()?.iter().collect()),
        kind if kind.is_integer() => {
            Column::Int(series.strict_cast(&pl::DataType::Int64)?.i64()?.iter().collect())
        }
        _ => {
            let series = series.cast(&pl::DataType::String)?;
            Column::Text(series.str()?.iter().map(|text| text.map(str::to_owned)).collect())
        }
    })
}

/// One JSON object per row, keys in the order of the columns; what JSON cannot say is null.
fn objects(rows: &Rows) -> impl Iterator<Item = Value> {
    (0..rows.len()).map(|i| {
        let pairs = rows.columns.iter().map(|(name, _, column)| (name.clone(), json(column, i)));
        Value::Object(pairs.collect())
    })
}

fn json(column: &Column, i: usize) -> Value {
    match column {
        Column::Int(cells) => cells.get(i).copied().flatten().into(),
        Column::Num(cells) => cells.get(i).copied().flatten().into(),
        Column::Text(cells) => cells.get(i).cloned().flatten().into(),
        Column::Bool(cells) => cells.get(i).copied().flatten().into(),
    }
}

fn unwritable(rows: &Rows, cause: &pl::PolarsError) -> Error {
    Error::input(
        format!("the table `{}` cannot be written: {cause}", rows.name),
        "its columns must have distinct names and one length",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let texts = ["'s", " Mary", "", "a,\"b\"\r\n", "=1+1", "null", "\u{1b}[0m\u{202e}"];
        let text = texts.iter().map(|t| Some((*t).to_owned())).chain([None]).collect();
        let num =
            [1.0, f64::NAN, f64::INFINITY, -0.1, 1e-300, 1e300, 3.0].map(Some).into_iter().chain([None]);
        let column = |name: &str, column| (name.to_owned(), format!("the {name}"), column);
        Rows {
            name: "sample".into(),
            columns: vec![
                column("layer", Column::Int((0..7).map(Some).chain([None]).collect())),
                column("value", Column::Num(num.collect())),
                column("token", Column::Text(text)),
                column("ok", Column::Bool((0..7).map(|i| Some(i % 2 == 0)).chain([None]).collect())),
            ],
        }
    }

    #[test]
    fn parquet_and_csv_read_back_exactly() {
        for format in [Format::Parquet, Format::Csv] {
            let back = read("sample", &write(&rows(), format).unwrap(), format).unwrap();
            // NaN differs from itself, so that values are compared as they print.
            for ((name, meaning, cells), (name_back, meaning_back, cells_back)) in
                rows().columns.iter().zip(&back.columns)
            {
                assert_eq!((name, format!("{cells:?}")), (name_back, format!("{cells_back:?}")), "{format}");
                assert_eq!(meaning_back, if format == Format::Parquet { meaning } else { "" });
            }
            assert_eq!((back.name.as_str(), back.columns.len()), ("sample", 4));
            assert_eq!(write(&rows(), format).unwrap(), write(&rows(), format).unwrap());
        }
    }

    #[test]
    fn json_is_finite() {
        let array: Value = serde_json::from_slice(&write(&rows(), Format::Json).unwrap()).unwrap();
        assert_eq!(array[0]["value"], 1.0);
        assert!(array[1]["value"].is_null() && array[2]["value"].is_null() && array[7]["token"].is_null());
        assert_eq!(array[3]["token"], "a,\"b\"\r\n");
        let lines = String::from_utf8(write(&rows(), Format::Jsonl).unwrap()).unwrap();
        assert_eq!(lines.lines().count(), 8);
        assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).unwrap().is_object()));
    }

    #[test]
    fn empty_and_broken_tables() {
        for format in Format::ALL {
            write(&Rows::default(), format).unwrap();
            write(&rows().take(&[]), format).unwrap();
        }
        let whole = write(&rows(), Format::Parquet).unwrap();
        let cut = read("cut", &whole[..whole.len() / 2], Format::Parquet).unwrap_err();
        assert!(cut.to_string().contains("`cut`"), "{cut}");
        assert!(read("none", b" \n", Format::Csv).unwrap().columns.is_empty());
        assert!(read("json", b"[]", Format::Json).is_err());
        let mut twice = rows();
        twice.columns[1].0 = "layer".into();
        assert!(write(&twice, Format::Csv).unwrap_err().to_string().contains("distinct names"));
        assert!("xlsx".parse::<Format>().unwrap_err().to_string().contains("there are table"));
    }
}
