//! A table for the terminal: numbers to the right, text to the left, as wide as the window and no longer than asked.

use crate::row::{Column, Rows};
use crate::show;
use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use unicode_width::UnicodeWidthStr;

/// A word of text may be broken beyond this.
const MOST: usize = 24;

/// How a table looks on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Rows shown; the rest is counted.
    pub max_rows: usize,
    /// Columns of the window; `None` asks the terminal, and does not wrap where there is none.
    pub width: Option<u16>,
}

impl Default for Terminal {
    fn default() -> Self {
        Terminal { max_rows: 60, width: None }
    }
}

impl Terminal {
    /// The table as lines of text, with a last line that counts the rows left out.
    pub fn write(&self, rows: &Rows) -> String {
        let shown = rows.len().min(self.max_rows);
        let first: Vec<usize> = (0..shown).collect();
        let columns: Vec<Vec<String>> =
            rows.columns.iter().map(|(_, _, column)| show::column(&column.take(&first))).collect();
        let align = |column: &Column| match column {
            Column::Int(_) | Column::Num(_) => CellAlignment::Right,
            Column::Text(_) | Column::Bool(_) => CellAlignment::Left,
        };
        let wide: Vec<usize> = rows
            .columns
            .iter()
            .zip(&columns)
            .map(|((name, _, column), cells)| least(name, column, cells))
            .collect();
        let natural = rows.columns.iter().zip(&columns).map(|((name, ..), cells)| {
            cells.iter().map(|cell| cell.width()).max().unwrap_or(0).max(name.width()) + 2
        });
        let room = self.width.or_else(|| Table::new().width()).map(usize::from);
        let kept = fitting(&wide, room);
        // where it is tight, names are broken at their joints
        let tight = room.is_some_and(|room| natural.sum::<usize>() > room);
        let columns: Vec<_> =
            rows.columns.iter().zip(&columns).zip(&kept).filter(|(_, kept)| **kept).map(|(c, _)| c).collect();
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if let Some(width) = self.width {
            table.set_width(width);
        }
        table.set_header(columns.iter().map(|((name, _, column), _)| {
            Cell::new(if tight { name.replace('_', " ") } else { name.clone() }).set_alignment(align(column))
        }));
        // a number is never broken
        for (place, wide) in
            wide.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(wide, _)| *wide).enumerate()
        {
            if let Some(column) = table.column_mut(place) {
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(wide as u16)));
            }
        }
        for i in 0..shown {
            table.add_row(
                columns
                    .iter()
                    .map(|((_, _, column), shown)| Cell::new(&shown[i]).set_alignment(align(column))),
            );
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        let mut text = lines.join("\n") + "\n";
        if rows.len() > shown {
            text += &format!("… {} more (--format csv prints all {})\n", rows.len() - shown, rows.len());
        }
        let names: Vec<&str> = rows
            .columns
            .iter()
            .zip(&kept)
            .filter(|(_, kept)| !**kept)
            .map(|((name, ..), _)| name.as_str())
            .collect();
        if !names.is_empty() {
            text += &format!("no room for {} (--format csv has all)\n", names.join(", "));
        }
        text
    }
}

/// The narrowest that a column can be, its padding included: numbers stay whole, words of text and of the header do.
fn least(name: &str, column: &Column, cells: &[String]) -> usize {
    let longest =
        |words: &mut dyn Iterator<Item = &str>| words.map(UnicodeWidthStr::width).max().unwrap_or(0);
    let header = longest(&mut name.split('_'));
    let cells = match column {
        Column::Int(_) | Column::Num(_) => longest(&mut cells.iter().map(String::as_str)),
        Column::Text(_) | Column::Bool(_) => {
            longest(&mut cells.iter().flat_map(|cell| cell.split_whitespace())).min(MOST)
        }
    };
    header.max(cells) + 2
}

/// Which columns there is room for, the first ones first.
fn fitting(wide: &[usize], room: Option<usize>) -> Vec<bool> {
    let mut used = 0;
    let fits = |(place, &wide): (usize, &usize)| {
        used += wide;
        place == 0 || room.is_none_or(|room| used <= room)
    };
    wide.iter().enumerate().map(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_right_text_left_and_a_limit() {
        let rows = Rows {
            name: "t".into(),
            columns: vec![
                (
                    "token".into(),
                    String::new(),
                    Column::Text([" a", "\u{1b}[2J", "b"].map(|t| Some(t.into())).into()),
                ),
                ("prob".into(), String::new(), Column::Num(vec![Some(0.5), Some(0.25), None])),
            ],
        };
        let text = Terminal { max_rows: 2, width: None }.write(&rows);
        assert_eq!(
            text,
            " token       prob\n ␣a         0.500\n <0x1B>[2J  0.250\n… 1 more (--format csv prints all 3)\n"
        );
        // a number is never broken: a column for which there is no room is named below
        let narrow = Terminal { max_rows: 9, width: Some(12) }.write(&rows);
        assert!(narrow.lines().take(4).all(|line| line.chars().count() <= 12), "{narrow}");
        assert!(narrow.ends_with("no room for prob (--format csv has all)\n"), "{narrow}");
        let wide = Terminal { max_rows: 9, width: Some(18) }.write(&rows);
        assert!(wide.contains("0.500") && !wide.contains("no room"), "{wide}");
    }
}
