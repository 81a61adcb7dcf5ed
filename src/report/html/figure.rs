//! Figures of a page.

use super::{Html, escape, place, slug};
use crate::error::Result;
use crate::report::page::Figure;
use crate::report::svg;
use crate::show;

/// The files of a figure that lie beside the page: ending, and what it is called. The first two every page has, the others
/// those whose figures are drawn from a table.
const FILES: [(&str, &str); 5] =
    [("svg", "SVG"), ("png", "PNG"), ("pdf", "PDF"), ("tex", "LaTeX"), ("csv", "CSV")];

impl Html<'_> {
    /// A drawing, its caption, and folded up beneath it how to save it and the numbers behind it.
    pub(super) fn figure(&mut self, figure: &Figure) -> Result<()> {
        let slug = slug(&figure.name);
        let number = place(&self.figures, &figure.name);
        let caption = self.words(&figure.caption);
        let drawing = svg::inline(&figure.svg, &slug)?.titled(&first_sentence(&caption));
        let width = drawing.width.to_string();
        self.push(&["<figure id=\"figure-", &slug, "\">\n<div class=\"paper\" style=\"--w:", &width, "\">"]);
        self.push(&[&drawing.markup, "</div>\n<figcaption><strong>Figure ", &number, ".</strong> "]);
        self.push(&[&caption, "</figcaption>\n<div class=\"tools\">\n"]);
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
        let table = figure.data.as_ref().map(|table| escape(&table.rows.name));
        let most = if table.is_some() { FILES.len() } else { 2 };
        for (ending, called) in FILES.into_iter().take(most) {
            self.push(&[
                "<a data-save=\"",
                ending,
                "\" href=\"figures/",
                &name,
                ".",
                ending,
                "\" download=\"",
            ]);
            self.push(&[&name, ".", ending, "\""]);
            if let ("csv", Some(table)) = (ending, &table) {
                self.push(&[" data-table=\"", table, "\""]);
            }
            self.push(&[">", called, "</a> "]);
        }
        self.push(&["</p>\n"]);
        if !figure.command.is_empty() {
            let command = escape(&show::visible(&figure.command));
            // as `save.js` has it
            let here = [" study.toml", ".jsonl", " gains.json"].iter().any(|file| command.contains(file));
            let place = if here { " <span>run in this report’s folder</span>" } else { "" };
            self.push(&["<p class=\"command\"><code>", &command, "</code>", place, "</p>\n"]);
        }
        self.push(&["</details>\n"]);
    }
}

/// The first sentence of a text that is HTML, without its markup: what a drawing is called.
fn first_sentence(html: &str) -> String {
    let mut text = String::new();
    for piece in html.split('<') {
        text += piece.split_once('>').map_or(piece, |(_, after)| after);
    }
    let end = text.find(". ").map_or(text.len(), |at| at + 1);
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_is_called_by_its_first_sentence() {
        assert_eq!(
            first_sentence("Each <code>a &lt; 0.5</code> of <em>it</em>. And more."),
            "Each a &lt; 0.5 of it."
        );
        assert_eq!(first_sentence("<strong>One</strong> only"), "One only");
    }
}
