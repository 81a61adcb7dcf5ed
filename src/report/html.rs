//! A page as one HTML file that needs nothing but itself: style and script inside, no network, hostile text escaped.
//!
//! The content security policy allows the one script by its hash, and images only as data: even a token that slipped
//! through every escape could neither run nor load anything. Without the script the page reads the same; with it, what the
//! page found can be explored (`assets/web`).

mod figure;
mod script;
mod table;

use super::markdown::place;
use super::page::{Block, Inline, Page, TokenLine, Tokens, Words};
use crate::error::Result;
use crate::show;
use sha2::{Digest, Sha256};
use std::fmt::Write;

const STYLE: &str = concat!(
    include_str!("../../assets/web/page.css"),
    include_str!("../../assets/web/explore.css"),
    include_str!("../../assets/web/print.css")
);

/// The page as `index.html`. The same page gives the same bytes.
pub fn write(page: &Page) -> Result<String> {
    let (figures, tables) = page.numbering();
    let mut html = Html { out: String::new(), figures, tables };
    let title = escape(&show::visible(&page.title));
    let script = script::joined();
    html.push(&[
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'sha256-",
        &base64(&Sha256::digest(&script)),
        "'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n",
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
        "<meta name=\"color-scheme\" content=\"light dark\">\n<title>",
        &title,
        "</title>\n<style>\n",
        STYLE,
        "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#content\">Skip to the content</a>\n",
    ]);
    html.contents(page);
    html.push(&["<main id=\"content\">\n<header>\n"]);
    if !page.kicker.is_empty() {
        html.push(&["<p class=\"kicker\">", &escape(&show::visible(&page.kicker)), "</p>\n"]);
    }
    html.push(&["<h1>", &title, "</h1>\n"]);
    if !page.lead.is_empty() {
        html.push(&["<p class=\"lead\">", &html.words(&page.lead), "</p>\n"]);
    }
    html.push(&["</header>\n"]);
    if page.data.is_some() {
        // the script fills it, and shows it if there is something to explore
        html.push(&["<section id=\"explore\" hidden></section>\n"]);
    }
    for section in &page.sections {
        let id = escape(&section.id);
        let heading = escape(&show::visible(&section.title));
        html.push(&["<section id=\"", &id, "\">\n<h2><a href=\"#", &id, "\">", &heading, "</a></h2>\n"]);
        for block in &section.blocks {
            html.block(block)?;
        }
        html.push(&["</section>\n"]);
    }
    if !page.provenance.is_empty() {
        html.push(&["<footer id=\"made\">\n<h2><a href=\"#made\">How this page was made</a></h2>\n"]);
        html.facts(&page.provenance);
        html.push(&["</footer>\n"]);
    }
    html.push(&["</main>\n"]);
    if let Some(data) = &page.data {
        html.push(&["<script type=\"application/json\" id=\"data\">", &data_text(data), "</script>\n"]);
    }
    html.push(&["<script>", &script, "</script>\n</body>\n</html>\n"]);
    Ok(html.out)
}

/// A page under construction.
struct Html<'a> {
    out: String,
    figures: Vec<&'a str>,
    tables: Vec<&'a str>,
}

impl Html<'_> {
    fn push(&mut self, pieces: &[&str]) {
        self.out.extend(pieces.iter().copied());
    }

    fn contents(&mut self, page: &Page) {
        self.push(&["<nav aria-label=\"Contents\">\n<p>Contents</p>\n<ol>\n"]);
        for section in &page.sections {
            let heading = escape(&show::visible(&section.title));
            self.push(&["<li><a href=\"#", &escape(&section.id), "\">", &heading, "</a></li>\n"]);
        }
        if !page.provenance.is_empty() {
            self.push(&["<li><a href=\"#made\">How this page was made</a></li>\n"]);
        }
        self.push(&["</ol>\n</nav>\n"]);
    }

    fn block(&mut self, block: &Block) -> Result<()> {
        match block {
            Block::Paragraph(text) => self.push(&["<p>", &self.words(text), "</p>\n"]),
            Block::List(points) => {
                self.push(&["<ul>\n"]);
                for point in points {
                    self.push(&["<li>", &self.words(point), "</li>\n"]);
                }
                self.push(&["</ul>\n"]);
            }
            Block::Note(text) => {
                self.push(&["<aside class=\"note\"><p>", &self.words(text), "</p></aside>\n"]);
            }
            Block::Warning(text) => {
                let text = self.words(text);
                self.push(&[
                    "<aside class=\"warning\"><p><strong>Caution.</strong> ",
                    &text,
                    "</p></aside>\n",
                ]);
            }
            Block::Figure(figure) => self.figure(figure)?,
            Block::Table(table) => {
                let number = place(&self.tables, &table.rows.name);
                let id = format!("table-{}", slug(&table.rows.name));
                self.table(table, &id, &format!("Table {number}."));
            }
            Block::Tokens(tokens) => self.tokens(tokens),
            Block::Facts(all) => self.facts(all),
        }
        Ok(())
    }

    fn facts(&mut self, all: &[(String, Words)]) {
        self.push(&["<dl class=\"facts\">\n"]);
        for (name, value) in all {
            let name = escape(&show::visible(name));
            self.push(&["<div><dt>", &name, "</dt><dd>", &self.words(value), "</dd></div>\n"]);
        }
        self.push(&["</dl>\n"]);
    }

    fn tokens(&mut self, tokens: &Tokens) {
        let values = tokens.lines.iter().flat_map(|line| &line.tokens).filter_map(|token| token.value);
        let most = values.filter(|x| x.is_finite()).fold(0.0_f64, |most, x| most.max(x.abs()));
        self.push(&["<figure class=\"tokens\">\n"]);
        for line in &tokens.lines {
            self.token_line(line, most);
        }
        if !tokens.caption.is_empty() {
            self.push(&["<figcaption>", &self.words(&tokens.caption), "</figcaption>\n"]);
        }
        self.push(&["</figure>\n"]);
    }

    fn token_line(&mut self, line: &TokenLine, most: f64) {
        self.push(&[
            "<div class=\"line\"><span class=\"label\">",
            &escape(&show::visible(&line.label)),
            "</span><ol>",
        ]);
        for token in &line.tokens {
            let share = token.value.filter(|x| x.is_finite() && most > 0.0).map(|x| x / most);
            let mut class = String::from("tok");
            class += if token.strong { " strong" } else { "" };
            class += if share.is_some_and(|x| x < 0.0) { " neg" } else { "" };
            let mut look = String::new();
            if let (Some(share), Some(value)) = (share, token.value) {
                look =
                    format!(" style=\"--v:{:.0}%\" title=\"{}\"", share.abs() * 100.0, show::number(value));
            }
            let text = spaced(&show::visible(&token.text));
            self.push(&["<li><code class=\"", &class, "\" dir=\"auto\"", &look, ">", &text, "</code>"]);
            if !token.mark.is_empty() {
                self.push(&["<small>", &escape(&show::visible(&token.mark)), "</small>"]);
            }
            self.push(&["</li>"]);
        }
        self.push(&["</ol></div>\n"]);
    }

    fn words(&self, all: &Words) -> String {
        let visible = |text: &str| escape(&text.split('\n').map(inner).collect::<Vec<_>>().join("\n"));
        let piece = |word: &Inline| match word {
            Inline::Text(text) => visible(text),
            Inline::Strong(text) => format!("<strong>{}</strong>", visible(text)),
            Inline::Emphasis(text) => format!("<em>{}</em>", visible(text)),
            Inline::Code(text) => format!("<code>{}</code>", escape(&inner(text))),
            Inline::Token(text) => {
                format!("<code class=\"tok\" dir=\"auto\">{}</code>", spaced(&show::visible(text)))
            }
            Inline::Section(id, text) => format!("<a href=\"#{}\">{}</a>", escape(id), visible(text)),
            Inline::Figure(name) => {
                format!("<a href=\"#figure-{}\">Figure {}</a>", slug(name), place(&self.figures, name))
            }
            Inline::Table(name) => {
                format!("<a href=\"#table-{}\">Table {}</a>", slug(name), place(&self.tables, name))
            }
        };
        all.iter().map(piece).collect()
    }
}

/// Running text made visible, but with the spaces at its ends, which join it to its neighbours.
fn inner(text: &str) -> String {
    let body = text.trim_matches(' ');
    if body.is_empty() { text.to_owned() } else { text.replacen(body, &show::visible(body), 1) }
}

/// A visible token, escaped, with the signs for spaces set apart from its letters.
fn spaced(visible: &str) -> String {
    escape(visible).replace('␣', "<i>␣</i>")
}

/// Text as HTML text or as a value between double quotes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

/// JSON that nothing in it can end, and that holds no character which acts: whatever is not plain ASCII is written by its
/// number, and so are the signs of markup.
fn data_text(data: &serde_json::Value) -> String {
    let json = data.to_string();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{7f}'.. => {
                // Writing to a string cannot fail.
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                    let _ = write!(out, "\\u{unit:04x}");
                });
            }
            c => out.push(c),
        }
    }
    out
}

/// A name as part of an id.
fn slug(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

/// Bytes as base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |few: &[u8]| {
        let bits =
            few.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - few.len()));
        let digit =
            |at: usize| if at <= few.len() { DIGITS[bits >> (18 - 6 * at) & 63] as char } else { '=' };
        [0, 1, 2, 3].map(digit)
    };
    bytes.chunks(3).flat_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|t| base64(t.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
        assert_eq!(escape("<a b='c' d=\"e\">&"), "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;");
        assert_eq!(inner(" is \u{1b}x "), " is <0x1B>x ");
        assert_eq!(slug("patch/head <1>"), "patch-head--1-");
        let data = serde_json::json!({ "a": ["</script><!--", "\u{202e}🙂", "\n\"\u{0}"] });
        let text = data_text(&data);
        assert!(text.is_ascii() && !text.contains(['<', '>', '&', '\n', '\0']), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), data);
    }
}
