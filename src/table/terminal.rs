//! A table for the terminal: numbers to the right, text to the left, as wide as the window and no longer than asked.

use crate::row::{Column, Rows};
use crate::show;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

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
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if let Some(width) = self.width {
            table.set_width(width);
        }
        table.set_header(
            rows.columns.iter().map(|(name, _, column)| Cell::new(name).set_alignment(align(column))),
        );
        for i in 0..shown {
            let cells = rows.columns.iter().zip(&columns);
            table.add_row(
                cells.map(|((_, _, column), shown)| Cell::new(&shown[i]).set_alignment(align(column))),
            );
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        let mut text = lines.join("\n") + "\n";
        if rows.len() > shown {
            text += &format!("… {} more (--format csv prints all {})\n", rows.len() - shown, rows.len());
        }
        text
    }
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
        assert!(
            Terminal { max_rows: 9, width: Some(12) }.write(&rows).lines().all(|l| l.chars().count() <= 12)
        );
    }
}
