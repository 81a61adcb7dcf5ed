//! The shown part of a table: which columns and rows, as text, with intervals in one column and bars to scale.

use super::page::Table;
use crate::row::Column;
use crate::show;

/// A table cut down to what a page shows.
pub(super) struct Shown {
    pub(super) columns: Vec<ShownColumn>,
    /// How many rows are shown, of how many.
    pub(super) rows: (usize, usize),
}

/// One column as text.
pub(super) struct ShownColumn {
    /// The heading.
    pub(super) name: String,
    /// What the column means; empty when nobody said.
    pub(super) meaning: String,
    pub(super) kind: Kind,
    /// As a person reads them; missing cells are empty.
    pub(super) cells: Vec<String>,
    /// Where each bar starts and ends, as shares of the width, and whether it shows a negative number; empty without bars.
    pub(super) bars: Vec<Option<(f64, f64, bool)>>,
}

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    /// Names and tokens, set as one types them.
    Code,
    Words,
}

/// Text columns that hold names or tokens rather than words.
const CODE: [&str; 18] = [
    "from",
    "to",
    "read",
    "written",
    "component",
    "token",
    "top",
    "site",
    "answer",
    "wrong",
    "clean",
    "corrupt",
    "prompt",
    "query",
    "key",
    "source",
    "from",
    "to",
];

pub(super) fn shown(table: &Table) -> Shown {
    let all = table.rows.len();
    let rows = table.max_rows.map_or(all, |most| all.min(most));
    let first: Vec<usize> = (0..rows).collect();
    let wanted: Vec<&str> = if table.columns.is_empty() {
        table.rows.columns.iter().map(|(name, _, _)| name.as_str()).collect()
    } else {
        table.columns.iter().map(String::as_str).collect()
    };
    let mut columns = Vec::new();
    for (at, name) in wanted.iter().enumerate() {
        let find = |name: &str| table.rows.columns.iter().find(|(n, _, _)| n == name);
        let Some((_, meaning, column)) = find(name) else { continue };
        let column = column.take(&first);
        // A pair of columns that bound an interval is set as one.
        let (stem, end) = name.rsplit_once("ci_").unwrap_or_default();
        let (low, high) = (format!("{stem}ci_lo"), format!("{stem}ci_hi"));
        let both = wanted.contains(&low.as_str()) && wanted.contains(&high.as_str());
        match (end, find(&high)) {
            ("hi", _) if both => continue,
            ("lo", Some((_, _, upper))) if both => {
                if let Some(cells) = intervals(&column, &upper.take(&first)) {
                    // ends without a name of their own bound the number beside them
                    let beside = at.checked_sub(1).map_or("", |before| wanted[before]);
                    let whose = if stem.is_empty() { beside } else { stem.trim_end_matches('_') };
                    let whose = whose.replace('_', " ");
                    let of = if whose.is_empty() { whose } else { format!(" of {whose}") };
                    let meaning = format!("Bootstrap interval{of} over whole pairs");
                    let name = format!("95 % interval{of}");
                    columns.push(ShownColumn { name, meaning, kind: Kind::Number, cells, bars: Vec::new() });
                    continue;
                }
            }
            _ => {}
        }
        let kind = match column {
            Column::Int(_) | Column::Num(_) => Kind::Number,
            Column::Text(_) if CODE.contains(name) => Kind::Code,
            Column::Text(_) | Column::Bool(_) => Kind::Words,
        };
        let bars = if table.bars.iter().any(|bar| bar == name) { bars(&column) } else { Vec::new() };
        let cells = show::column(&column);
        columns.push(ShownColumn {
            name: name.replace('_', " "),
            meaning: meaning.clone(),
            kind,
            cells,
            bars,
        });
    }
    Shown { columns, rows: (rows, all) }
}

/// `[1.90, 2.71]`, both ends with the same decimals; nothing where an end is missing.
fn intervals(low: &Column, high: &Column) -> Option<Vec<String>> {
    let (Column::Num(low), Column::Num(high)) = (low, high) else { return None };
    let ends = show::column(&Column::Num(low.iter().chain(high).copied().collect()));
    let pairs = ends[..low.len()].iter().zip(&ends[low.len()..]);
    Some(
        pairs
            .map(|(l, h)| if l.is_empty() || h.is_empty() { String::new() } else { format!("[{l}, {h}]") })
            .collect(),
    )
}

/// Bars from zero, to the scale of the largest; zero is at the left unless a number is negative.
fn bars(column: &Column) -> Vec<Option<(f64, f64, bool)>> {
    let numbers: Vec<Option<f64>> = match column {
        Column::Num(cells) => cells.clone(),
        Column::Int(cells) => cells.iter().map(|x| x.map(|x| x as f64)).collect(),
        Column::Text(_) | Column::Bool(_) => return Vec::new(),
    };
    let finite = || numbers.iter().flatten().copied().filter(|x| x.is_finite());
    let (low, high) = (finite().fold(0.0, f64::min), finite().fold(0.0, f64::max));
    let at = |x: f64| if high > low { (x - low) / (high - low) } else { 0.0 };
    let bar = |x: f64| (at(x.min(0.0)), at(x.max(0.0)), x < 0.0);
    numbers.iter().map(|x| x.filter(|x| x.is_finite()).map(bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Rows;

    #[test]
    fn intervals_join_and_bars_start_at_zero() {
        let column = |name: &str, cells: &[f64]| {
            (name.to_owned(), String::new(), Column::Num(cells.iter().map(|&x| Some(x)).collect()))
        };
        let columns = vec![
            column("total", &[2.0, -1.0]),
            column("total_ci_lo", &[1.5, -1.25]),
            column("total_ci_hi", &[2.5, 0.0]),
        ];
        let rows = Rows { name: "c".into(), columns };
        let table = Table { rows, bars: vec!["total".into()], ..Table::default() };
        let whole = shown(&table);
        assert_eq!(whole.columns.len(), 2);
        assert_eq!(whole.columns[0].cells, ["2.00", "-1.00"]);
        assert_eq!(whole.columns[0].bars, [Some((1.0 / 3.0, 1.0, false)), Some((0.0, 1.0 / 3.0, true))]);
        assert_eq!(whole.columns[1].cells, ["[1.50, 2.50]", "[-1.25, 0.00]"]);
        assert_eq!(whole.columns[1].name, "95 % interval of total");
        let part =
            shown(&Table { columns: vec!["total_ci_hi".into(), "none".into()], max_rows: Some(1), ..table });
        assert_eq!((part.columns.len(), part.rows), (1, (1, 2)));
        assert_eq!(part.columns[0].name, "total ci hi");
        let ends = ["change", "the_whole", "ci_lo", "ci_hi"].map(|name| column(name, &[1.0]));
        let rows = Rows { name: "d".into(), columns: ends.to_vec() };
        let named = shown(&Table { rows, ..Table::default() }).columns.pop().unwrap().name;
        assert_eq!(named, "95 % interval of the whole", "the number beside it");
    }
}
