//! Tables of a page.

use super::{Html, escape};
use crate::report::numbers::{Kind, ShownColumn, shown};
use crate::report::page::Table;
use crate::show;
use std::fmt::Write;

impl Html<'_> {
    /// A table with its caption, and beneath it what was left out and what the columns mean.
    pub(super) fn table(&mut self, table: &Table, id: &str, label: &str) {
        let shown = shown(table);
        self.push(&["<div class=\"table\" id=\"", id, "\">\n<table>\n"]);
        if !label.is_empty() || !table.caption.is_empty() {
            self.push(&[
                "<caption><div><strong>",
                label,
                "</strong> ",
                &self.words(&table.caption),
                "</div></caption>\n",
            ]);
        }
        self.push(&["<thead><tr>"]);
        for column in &shown.columns {
            let class = class(column);
            let (name, meaning) =
                (escape(&show::visible(&column.name)), escape(&show::visible(&column.meaning)));
            self.push(&["<th scope=\"col\"", class]);
            if !column.meaning.is_empty() {
                self.push(&[" title=\"", &meaning, "\""]);
            }
            self.push(&[">", &name, "</th>"]);
        }
        self.push(&["</tr></thead>\n<tbody>\n"]);
        for i in 0..shown.rows.0 {
            self.push(&["<tr>"]);
            for (at, column) in shown.columns.iter().enumerate() {
                self.cell(column, i, at == 0 && column.kind != Kind::Number);
            }
            self.push(&["</tr>\n"]);
        }
        self.push(&["</tbody>\n</table>\n"]);
        let name = escape(&table.rows.name);
        let (some, all) = shown.rows;
        let rows = if some < all { format!("{some} of {all} rows; all in ") } else { "Also in ".to_owned() };
        self.push(&[
            "<p class=\"more\">",
            &rows,
            "<a href=\"tables/",
            &name,
            ".csv\">tables/",
            &name,
            ".csv</a></p>\n",
        ]);
        let meant: Vec<&ShownColumn> =
            shown.columns.iter().filter(|column| !column.meaning.is_empty()).collect();
        if !meant.is_empty() {
            self.push(&["<details class=\"legend\"><summary>What the columns mean</summary>\n<dl>\n"]);
            for column in meant {
                let (name, meaning) =
                    (escape(&show::visible(&column.name)), escape(&show::visible(&column.meaning)));
                self.push(&["<div><dt>", &name, "</dt><dd>", &meaning, "</dd></div>\n"]);
            }
            self.push(&["</dl>\n</details>\n"]);
        }
        self.push(&["</div>\n"]);
    }

    fn cell(&mut self, column: &ShownColumn, i: usize, heads: bool) {
        let (open, close) = if heads { ("<th scope=\"row\"", "</th>") } else { ("<td", "</td>") };
        let text = &column.cells[i];
        self.push(&[open]);
        match column.bars.get(i).copied().flatten() {
            Some((from, to, negative)) => {
                let class = if negative { "n bar neg" } else { "n bar" };
                let (from, to) = (from * 100.0, to * 100.0);
                // Writing to a string cannot fail.
                let _ = write!(self.out, " class=\"{class}\" style=\"--a:{from:.1}%;--b:{to:.1}%\"");
            }
            None => self.push(&[class(column)]),
        }
        let text = escape(text);
        let text =
            if column.kind == Kind::Number { text.replace('-', "−").replace("e−", "e-") } else { text };
        self.push(&[">", &text, close]);
    }
}

fn class(column: &ShownColumn) -> &'static str {
    // Short names and words stay on their line; long ones may break.
    let short = column.cells.iter().all(|cell| cell.chars().count() <= 28);
    match column.kind {
        Kind::Number => " class=\"n\"",
        Kind::Code if short => " class=\"c s\"",
        Kind::Code => " class=\"c\"",
        Kind::Words if short => " class=\"s\"",
        Kind::Words => "",
    }
}
