//! Figures of a page.

use super::{Html, escape, place, slug};
use crate::error::Result;
use crate::report::page::Figure;
use crate::report::svg;
use crate::show;

/// The files of a figure that lie beside the page: ending, and what it is called.
const FILES: [(&str, &str); 2] = [("svg", "SVG"), ("png", "PNG")];

impl Html<'_> {
    /// A drawing, its caption, and folded up beneath it how to save it and the numbers behind it.
    pub(super) fn figure(&mut self, figure: &Figure) -> Result<()> {
        let slug = slug(&figure.name);
        let number = place(&self.figures, &figure.name);
        let drawing = svg::inline(&figure.svg, &slug)?;
        let width = drawing.width.to_string();
        self.push(&["<figure id=\"figure-", &slug, "\">\n<div class=\"paper\" style=\"--w:", &width, "\">"]);
        self.push(&[&drawing.markup, "</div>\n<figcaption><strong>Figure ", &number, ".</strong> "]);
        self.push(&[&self.words(&figure.caption), "</figcaption>\n<div class=\"tools\">\n"]);
        self.menu(figure);
        if let Some(table) = &figure.data {
            self.push(&["<details><summary>The numbers behind figure ", &number, "</summary>\n"]);
            self.table(table, &format!("data-{slug}"), "");
            self.push(&["</details>\n"]);
        }
        self.push(&["</div>\n</figure>\n"]);
        Ok(())
    }

    /// The files of a figure, and the command that computes it again. The script lets the same links save what the page
    /// itself holds, so that they work on a page that has left its folder.
    fn menu(&mut self, figure: &Figure) {
        let name = escape(&figure.name);
        self.push(&["<details class=\"menu\"><summary>Save</summary>\n<p class=\"files\">"]);
        for (ending, called) in FILES {
            self.push(&["<a data-save=\"", ending, "\" href=\"figures/", &name, ".", ending, "\" download=\""]);
            self.push(&[&name, ".", ending, "\">", called, "</a> "]);
        }
        if let Some(table) = &figure.data {
            let table = escape(&table.rows.name);
            self.push(&["<a data-save=\"csv\" data-table=\"", &table, "\" href=\"tables/", &table]);
            self.push(&[".csv\" download=\"", &table, ".csv\">CSV</a>"]);
        }
        self.push(&["</p>\n"]);
        if !figure.command.is_empty() {
            self.push(&["<p class=\"command\"><code>", &escape(&show::visible(&figure.command)), "</code></p>\n"]);
        }
        self.push(&["</details>\n"]);
    }
}
