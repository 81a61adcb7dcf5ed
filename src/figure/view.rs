//! A picture asked for as data: which table columns go where.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::figure::caption::Facts;
use crate::figure::color::Map;
use crate::figure::style::{Span, Style, Venue};
use crate::row::{Column, Rows};

/// One picture of one table. Columns are named; what is left out takes the kind's default.
///
/// ```
/// let view: glassbox::figure::View = toml::from_str(r#"
///     kind = "heatmap"
///     x = "head"
///     y = "layer"
///     value = "effect"
///     value_label = "share of the logit difference restored"
///     only = { site = "z", direction = "denoise" }
/// "#).unwrap();
/// assert_eq!(view.kind, "heatmap");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct View {
    /// File name without extension; the caller's, not used in drawing.
    pub name: String,
    /// Name of the table it draws; the caller's, not used in drawing.
    pub table: String,
    /// Which picture: a name in [`FIGURES`](crate::figure::FIGURES).
    pub kind: String,
    /// What is shown, in a sentence or two. With what follows from view, table and facts after it (see
    /// [`caption`](crate::figure::caption)) it becomes the description inside the file; it is no part of the drawing.
    pub caption: String,
    /// What the numbers are of, where that is not the prompts that the facts tell of: "repeated random tokens". Empty for no data.
    pub data: Option<String>,
    /// What bootstrap intervals draw whole, where that is not whole prompts or pairs: "groups of prompts".
    pub over: Option<String>,
    /// Keep only rows whose columns have these values, compared as text.
    pub only: BTreeMap<String, String>,

    /// Column across.
    pub x: Option<String>,
    /// Column down or up.
    pub y: Option<String>,
    /// Column of the drawn number.
    pub value: Option<String>,
    /// Column with the interval's lower end.
    pub lo: Option<String>,
    /// Column with the interval's upper end.
    pub hi: Option<String>,
    /// Column with p-values corrected for the number of cells: what grids outline by, instead of intervals.
    pub q: Option<String>,
    /// How the table's tests were parted before they were corrected, for the caption: "each metric by itself".
    pub family: Option<String>,
    /// Several drawn numbers side by side, instead of `value`, `lo` and `hi`.
    pub series: Vec<Series>,
    /// One more drawn number, in a low strip below on the same x axis: what probing or steering is set against.
    pub strip: Option<Series>,
    /// Column that splits the rows into panels.
    pub facet: Option<String>,
    /// Column that splits the rows into lines, colours or strips.
    pub group: Option<String>,
    /// Column that names a row: component, point.
    pub label: Option<String>,
    /// Column with a few words after the name: role.
    pub role: Option<String>,
    /// Column of text written into a cell: top token.
    pub text: Option<String>,
    /// Column with the token that stands at each `x`; in a circuit, what that part is for.
    pub x_text: Option<String>,
    /// Column with the token that stands at each `y`; in a circuit, what that part is for.
    pub y_text: Option<String>,
    /// Column with the share of all edges that a circuit's size stands for: what areas are taken over (`faithfulness`).
    pub fraction: Option<String>,
    /// Columns with the last `x` before and the first `x` after a line passed half of its way (`training`).
    pub onset: Option<[String; 2]>,
    /// Column with the token that should follow at each `x`.
    pub target: Option<String>,
    /// Yes-or-no column: tokens to set in bold, cells to mark.
    pub mark: Option<String>,

    /// Words along the x axis.
    pub x_label: String,
    /// Words along the y axis.
    pub y_label: String,
    /// Words along the colour bar or value axis.
    pub value_label: String,
    /// Where it is printed: decides the width of a span and the sizes of type and lines.
    pub venue: Venue,
    /// How much of the page's width it takes; by default what suits the kind.
    pub span: Option<Span>,
    /// Width in points (1/72 inch), instead of a span's.
    pub width: Option<f64>,
    /// Height in points where the kind lets it be chosen.
    pub height: Option<f64>,
    /// Where layer 0 (the first row of a grid) stands.
    pub layer_axis: Option<LayerAxis>,
    /// The colour map; by default `rdbu` where sign matters, `blues` for probabilities.
    pub map: Option<Map>,
    /// Limits of the colours or of the value axis; values outside are shown as clipped.
    pub limits: Option<[f64; 2]>,
    /// Whether panels of different colours share one scale; by default they do.
    pub shared: Option<bool>,
    /// From what size on a cell that differs from 0 is outlined; by default a twentieth of the largest drawn.
    pub outline: Option<f64>,
    /// How many to label (grids, points) or to keep (bars); 0 = none.
    pub top: Option<usize>,
    /// Order of bars.
    pub sort: Sort,
    /// A logarithmic x axis.
    pub log_x: bool,
    /// Dashed lines at values that matter.
    pub references: Vec<Reference>,
    /// Where the numbers come from, for the caption.
    pub facts: Facts,
    /// Pictures of the same table that stand together as (a), (b), …: for the kind `panels`.
    pub panels: Vec<View>,
    /// How tall it may be in points, where less than the venue leaves: a panel's share of the whole.
    #[serde(skip)]
    pub tall: Option<f64>,
}

/// A drawn number: its column, its interval, its name in the legend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Series {
    /// Column of the number.
    pub value: String,
    /// Column with the interval's lower end.
    pub lo: Option<String>,
    /// Column with the interval's upper end.
    pub hi: Option<String>,
    /// Name in the legend; by default the column's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// A dashed line with a name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Where on the value axis.
    #[serde(default)]
    pub at: f64,
    /// Instead of `at`, a column: where its last value lies, such as the end of an accumulated sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Only in the panel of this name, in pictures with panels of unlike numbers (`training`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub facet: String,
}

/// Where the first row of a grid stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerAxis {
    /// Layer 0 at the top.
    Down,
    /// Layer 0 at the bottom.
    Up,
    /// Layers run across: x and y are exchanged.
    X,
}

/// Order of bars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// Largest value first.
    #[default]
    Value,
    /// Largest size first, whatever its sign.
    Size,
    /// As in the table.
    Table,
}

impl View {
    /// The view as TOML, from which it can be read back; what has its default is left out.
    pub fn to_toml(&self) -> Result<String> {
        let broken = |e: toml::ser::Error| {
            Error::usage(format!("the view `{}` cannot be written: {e}", self.name), "check its numbers")
        };
        let mut all = toml::Table::try_from(self).map_err(broken)?;
        let plain = toml::Table::try_from(View::default()).map_err(broken)?;
        all.retain(|key, value| plain.get(key) != Some(value));
        toml::to_string(&all).map_err(broken)
    }

    /// The width in points; `span` is the kind's own choice where the view makes none.
    pub fn points(&self, span: Span) -> f64 {
        self.width.unwrap_or_else(|| self.venue.width(self.span.unwrap_or(span)))
    }

    /// The sizes of type and lines, and how tall it may be.
    pub fn style(&self) -> Style {
        let style = self.venue.style();
        Style { tall: self.tall.unwrap_or(style.tall), ..style }
    }

    /// The column chosen for a part, or a sentence that says which part is missing.
    pub fn need<'a>(&self, part: &str, column: &'a Option<String>) -> Result<&'a str> {
        column.as_deref().ok_or_else(|| {
            Error::usage(
                format!("the `{}` picture needs `{part} = \"<column>\"`", self.kind),
                format!("name a column of the table under `{part}`"),
            )
        })
    }

    /// The drawn numbers: `series`, or the one made of `value`, `lo` and `hi`.
    pub fn all_series(&self) -> Result<Vec<Series>> {
        if !self.series.is_empty() {
            return Ok(self.series.clone());
        }
        let value = self.need("value", &self.value)?.to_owned();
        Ok(vec![Series { value, lo: self.lo.clone(), hi: self.hi.clone(), name: String::new() }])
    }

    /// The view with references to columns of these rows put where they lie; one without a value is left out.
    pub fn settled(&self, rows: &Rows) -> Result<View> {
        let mut view = self.clone();
        for reference in &mut view.references {
            if let Some(column) = reference.column.take() {
                let last = rows.numbers(&column)?.into_iter().flatten().rfind(|v| v.is_finite());
                reference.at = last.unwrap_or(f64::NAN);
            }
        }
        view.references.retain(|reference| reference.at.is_finite());
        Ok(view)
    }

    /// The rows that `only` keeps.
    pub fn rows(&self, rows: &Rows) -> Result<Rows> {
        let mut kept = rows.clone();
        for (column, value) in &self.only {
            kept = kept.only(column, value)?;
        }
        if kept.is_empty() {
            let empty = format!("there is nothing to draw: no row of `{}` is left", rows.name);
            let hint = if self.only.is_empty() {
                "the table is empty".to_owned()
            } else {
                let only: Vec<String> = self.only.iter().map(|(k, v)| format!("{k} = \"{v}\"")).collect();
                format!("`only` keeps rows with {}", only.join(" and "))
            };
            return Err(Error::input(empty, hint));
        }
        Ok(kept)
    }
}

/// The numbers of a column that may not be asked for: all missing then.
pub fn optional_numbers(rows: &Rows, column: &Option<String>) -> Result<Vec<Option<f64>>> {
    column.as_deref().map_or_else(|| Ok(vec![None; rows.len()]), |name| rows.numbers(name))
}

/// The texts of a column that may not be asked for.
pub fn optional_texts(rows: &Rows, column: &Option<String>) -> Result<Option<Vec<String>>> {
    column.as_deref().map(|name| rows.texts(name)).transpose()
}

/// The yes-or-no cells of a column that may not be asked for: no then.
pub fn optional_marks(rows: &Rows, column: &Option<String>) -> Result<Vec<bool>> {
    let Some(name) = column.as_deref().filter(|name| matches!(rows.column(name), Ok(Column::Text(_)))) else {
        let numbers = optional_numbers(rows, column)?;
        return Ok(numbers.into_iter().map(|v| v.is_some_and(|v| v != 0.0)).collect());
    };
    let mark = |text: &String| match text.trim().to_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" | "" => Ok(false),
        _ => Err(Error::input(
            format!("column `{name}` holds `{text}`, which is neither yes nor no"),
            "write yes or no, true or false, or 1 or 0",
        )),
    };
    rows.texts(name)?.iter().map(mark).collect()
}

/// As [`categories`] of a column that may not be asked for: all rows are of one without a name then.
pub fn optional_categories(rows: &Rows, column: &Option<String>) -> Result<(Vec<String>, Vec<usize>)> {
    let one = || Ok((vec![String::new()], vec![0; rows.len()]));
    column.as_deref().map_or_else(one, |column| categories(rows, column))
}

/// The distinct values of a column and each row's place among them: numbers ascending, text as it first appears.
pub fn categories(rows: &Rows, column: &str) -> Result<(Vec<String>, Vec<usize>)> {
    let texts = rows.texts(column)?;
    let mut names: Vec<String> = Vec::new();
    if matches!(rows.column(column)?, Column::Text(_)) {
        let mut seen = std::collections::HashSet::new();
        names.extend(texts.iter().filter(|text| seen.insert(text.as_str())).cloned());
    } else {
        let mut pairs: Vec<(Option<f64>, &String)> = rows.numbers(column)?.into_iter().zip(&texts).collect();
        pairs.sort_by(|a, b| a.0.unwrap_or(f64::INFINITY).total_cmp(&b.0.unwrap_or(f64::INFINITY)));
        pairs.dedup_by(|a, b| a.1 == b.1);
        names.extend(pairs.into_iter().map(|(_, text)| text.clone()));
    }
    let place: std::collections::HashMap<&str, usize> =
        names.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let places = texts.iter().map(|text| place.get(text.as_str()).copied().unwrap_or(0)).collect();
    Ok((names, places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_is_refused() {
        let wrong = toml::from_str::<View>("kind = \"bars\"\nvalues = \"effect\"");
        assert!(wrong.unwrap_err().to_string().contains("values"));
        let view: View = toml::from_str("width = 300.0\nlayer_axis = \"up\"\nmap = \"viridis\"").unwrap();
        assert_eq!(view.points(Span::Col), 300.0);
        let view: View = toml::from_str("venue = \"icml\"\nspan = \"full\"").unwrap();
        assert_eq!(view.points(Span::Col), 486.0);
    }

    #[test]
    fn a_view_is_written_as_it_is_read() {
        let text = "name = \"h\"\nkind = \"curve\"\nvenue = \"acl\"\nspan = \"half\"\nlimits = [0.0, 1.0]\nlog_x = true\n\n\
                    [only]\nsite = \"z\"\n\n[[series]]\nvalue = \"a\"\n\n[[references]]\nat = 0.5\nname = \"chance\"\n\n\
                    [facts]\nmodel = \"m\"\nseed = 3\n";
        let view: View = toml::from_str(text).unwrap();
        let written = view.to_toml().unwrap();
        assert_eq!(toml::from_str::<View>(&written).unwrap(), view);
        assert!(!written.contains("sort") && !written.contains("x_label"), "{written}");
    }

    #[test]
    fn a_reference_lies_where_its_column_ends() {
        let view: View =
            toml::from_str("references = [{ column = 'sum', name = 'final' }, { at = 2.0 }]").unwrap();
        let sum = |last| Rows {
            name: "t".into(),
            columns: vec![("sum".into(), String::new(), Column::Num(vec![Some(1.0), last, None]))],
        };
        let places = |last| -> Vec<f64> {
            view.settled(&sum(last)).unwrap().references.iter().map(|r| r.at).collect()
        };
        assert_eq!((places(Some(4.0)), places(None)), (vec![4.0, 2.0], vec![1.0, 2.0]));
        assert!(view.settled(&Rows::default()).unwrap_err().to_string().contains("`sum`"));
    }

    #[test]
    fn numbers_are_ordered_and_text_keeps_its_order() {
        let rows = Rows {
            name: "t".into(),
            columns: vec![
                ("n".into(), String::new(), Column::Int([10, 2, 10].map(Some).to_vec())),
                ("s".into(), String::new(), Column::Text(["z", "a", "z"].map(|s| Some(s.into())).to_vec())),
            ],
        };
        assert_eq!(categories(&rows, "n").unwrap(), (vec!["2".into(), "10".into()], vec![1, 0, 1]));
        assert_eq!(categories(&rows, "s").unwrap(), (vec!["z".into(), "a".into()], vec![0, 1, 0]));
    }
}
