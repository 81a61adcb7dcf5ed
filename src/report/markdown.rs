//! A page as Markdown, for a repository or an issue: figures are links, tables are tables.

use super::numbers::{Kind, shown};
use super::page::{Block, Figure, Inline, Page, Table, Tokens, Words};
use crate::show;

/// The page as `report.md`; figures link to `figures/<name>.svg` beside it.
pub fn write(page: &Page) -> String {
    let mut out = format!("# {}\n\n{}\n", plain(&page.title), words(page, &page.lead));
    for section in &page.sections {
        out += &format!("\n## {}\n", plain(&section.title));
        for block in &section.blocks {
            out += "\n";
            out += &self::block(page, block);
        }
    }
    if !page.provenance.is_empty() {
        out += &format!("\n## How this page was made\n\n{}", facts(page, &page.provenance));
    }
    out
}

fn block(page: &Page, block: &Block) -> String {
    match block {
        Block::Paragraph(text) => words(page, text) + "\n",
        Block::List(points) => points.iter().map(|point| format!("- {}\n", words(page, point))).collect(),
        Block::Note(text) => format!("> {}\n", words(page, text)),
        Block::Warning(text) => format!("> **Caution.** {}\n", words(page, text)),
        Block::Figure(figure) => self::figure(page, figure),
        Block::Table(table) => self::table(page, table),
        Block::Tokens(tokens) => self::tokens(page, tokens),
        Block::Facts(all) => facts(page, all),
    }
}

fn facts(page: &Page, all: &[(String, Words)]) -> String {
    all.iter().map(|(name, value)| format!("- {}: {}\n", plain(name), words(page, value))).collect()
}

fn figure(page: &Page, figure: &Figure) -> String {
    let number = place(&page.numbering().0, &figure.name);
    let caption = words(page, &figure.caption);
    format!("![Figure {number}](figures/{}.svg)\n\n**Figure {number}.** {caption}\n", link(&figure.name))
}

fn table(page: &Page, table: &Table) -> String {
    let shown = shown(table);
    let number = place(&page.numbering().1, &table.rows.name);
    let mut out = format!("**Table {number}.** {}\n\n", words(page, &table.caption));
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    out += &line(shown.columns.iter().map(|column| plain(&column.name)).collect());
    out += &line(
        shown.columns.iter().map(|c| if c.kind == Kind::Number { "--:" } else { ":--" }.to_owned()).collect(),
    );
    for i in 0..shown.rows.0 {
        let cells = shown.columns.iter().map(|column| match (column.kind, column.cells[i].as_str()) {
            (_, "") => String::new(),
            (Kind::Code, cell) => code(cell).replace('|', "\\|"),
            (_, cell) => plain(cell),
        });
        out += &line(cells.collect());
    }
    if shown.rows.0 < shown.rows.1 {
        let name = link(&table.rows.name);
        out += &format!(
            "\n{} more rows are in [`tables/{name}.csv`](tables/{name}.csv).\n",
            shown.rows.1 - shown.rows.0
        );
    }
    out
}

fn tokens(page: &Page, tokens: &Tokens) -> String {
    let mut out = String::new();
    for line in &tokens.lines {
        let shown = line.tokens.iter().map(|token| {
            let text = code(&show::visible(&token.text));
            let text = if token.strong { format!("**{text}**") } else { text };
            if token.mark.is_empty() { text } else { format!("{text} ({})", plain(&token.mark)) }
        });
        out += &format!("- {}: {}\n", plain(&line.label), shown.collect::<Vec<_>>().join(" "));
    }
    if tokens.caption.is_empty() { out } else { format!("{out}\n{}\n", words(page, &tokens.caption)) }
}

fn words(page: &Page, all: &Words) -> String {
    let (figures, tables) = page.numbering();
    let piece = |word: &Inline| match word {
        Inline::Text(text) => plain(text),
        Inline::Strong(text) => format!("**{}**", plain(text)),
        Inline::Emphasis(text) => format!("*{}*", plain(text)),
        Inline::Code(text) | Inline::Token(text) => code(&show::visible(text)),
        Inline::Section(_, text) => plain(text),
        Inline::Figure(name) => format!("Figure {}", place(&figures, name)),
        Inline::Table(name) => format!("Table {}", place(&tables, name)),
    };
    all.iter().map(piece).collect()
}

/// The number a figure or table goes by; `?` for one that the page does not hold.
pub(super) fn place(names: &[&str], name: &str) -> String {
    names.iter().position(|n| *n == name).map_or("?".to_owned(), |at| (at + 1).to_string())
}

/// A file name as part of a link.
fn link(name: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.bytes().map(|b| if safe(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Text with everything that Markdown or HTML would read as markup escaped.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in show::inert(text).chars() {
        match c {
            '\n' => out.push('↵'),
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '$' | '!' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// A code span: as many backticks around it as it takes for those inside to be text.
fn code(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let gap = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{gap}{text}{gap}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        assert_eq!(code("a`b``"), "``` a`b`` ```");
        assert_eq!(link("patch_head (1)"), "patch_head%20%281%29");
        assert_eq!(plain("<img> [x](y) a|b *c*\n"), "&lt;img> \\[x\\](y) a\\|b \\*c\\*↵");
        assert_eq!(plain("\u{1b}[2J \u{202e}x"), "&lt;0x1B>\\[2J &lt;U+202E>x");
    }
}
