//! A report as plain data: sections of words, figures, tables and tokens, before it is HTML or Markdown.
//!
//! Nothing in here is markup. Titles, words and tokens may hold any text; the writers escape all of it.

use crate::row::Rows;

/// One page that explains an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// A few words above the title: what kind of page this is.
    pub kicker: String,
    /// The question or the finding.
    pub title: String,
    /// The answer in two or three sentences.
    pub lead: Words,
    /// The argument, in order.
    pub sections: Vec<Section>,
    /// How this page was made: model, seed, versions, the command that makes it again.
    pub provenance: Vec<(String, Words)>,
    /// What the page's script shows; none for a page that is only read.
    pub data: Option<serde_json::Value>,
}

/// One step of the argument.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section {
    /// Its address in the page: letters, digits and hyphens. Unique.
    pub id: String,
    /// Its heading.
    pub title: String,
    /// What it holds, in order.
    pub blocks: Vec<Block>,
}

/// One piece of a section.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// Running text.
    Paragraph(Words),
    /// Points of equal weight.
    List(Vec<Words>),
    /// An aside: how to read something, how to get more.
    Note(Words),
    /// What a reader must know before believing this.
    Warning(Words),
    /// A picture.
    Figure(Figure),
    /// A table.
    Table(Table),
    /// One or more lines of tokens.
    Tokens(Tokens),
    /// Names and what they are.
    Facts(Vec<(String, Words)>),
}

/// Running text as pieces.
pub type Words = Vec<Inline>;

/// A piece of running text.
#[derive(Debug, Clone, PartialEq)]
pub enum Inline {
    /// Plain words.
    Text(String),
    /// Words that carry the sentence.
    Strong(String),
    /// A word that is stressed or introduced.
    Emphasis(String),
    /// A name as one types it: component, file, command.
    Code(String),
    /// A token: hostile text, shown with its spaces and controls made visible.
    Token(String),
    /// A link to a section of this page: id, words.
    Section(String, String),
    /// "Figure 3", linked, by the figure's name.
    Figure(String),
    /// "Table 2", linked, by the table's name.
    Table(String),
}

/// A picture with its caption and the numbers behind it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figure {
    /// Its file name, without ending: `figures/<name>.svg`.
    pub name: String,
    /// The drawing.
    pub svg: String,
    /// What it shows and how to read it.
    pub caption: Words,
    /// The numbers, folded up beneath it.
    pub data: Option<Table>,
    /// The command that computes them again; empty for none.
    pub command: String,
}

/// A table of which the first rows are shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// All rows, sorted as they are to be shown; the name is that of `tables/<name>.csv`.
    pub rows: Rows,
    /// The columns to show, in order; none named means all. Those the rows lack are left out.
    pub columns: Vec<String>,
    /// How many rows to show.
    pub max_rows: Option<usize>,
    /// Columns of numbers that get a bar behind each number.
    pub bars: Vec<String>,
    /// What it shows.
    pub caption: Words,
}

/// Lines of tokens, say a clean prompt above its corrupt twin.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tokens {
    /// The lines.
    pub lines: Vec<TokenLine>,
    /// What the marks and colours mean.
    pub caption: Words,
}

/// One line of tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenLine {
    /// What this line is: "clean", "corrupt".
    pub label: String,
    /// The tokens in order.
    pub tokens: Vec<Token>,
}

/// One token of a line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Token {
    /// The token as the tokenizer spells it.
    pub text: String,
    /// A number shown as colour, by its share of the largest in all lines.
    pub value: Option<f64>,
    /// A few letters beneath it: `S1`, `IO`, `end`.
    pub mark: String,
    /// Whether to make it stand out, as where clean and corrupt differ.
    pub strong: bool,
}

impl Page {
    /// Figures and tables in the order of the page, so that they can be numbered: names of figures, names of tables.
    pub(super) fn numbering(&self) -> (Vec<&str>, Vec<&str>) {
        let blocks = || self.sections.iter().flat_map(|section| &section.blocks);
        let figures = blocks().filter_map(|block| match block {
            Block::Figure(figure) => Some(figure.name.as_str()),
            _ => None,
        });
        let tables = blocks().filter_map(|block| match block {
            Block::Table(table) => Some(table.rows.name.as_str()),
            _ => None,
        });
        (figures.collect(), tables.collect())
    }
}

/// How a piece of text is set.
type Look = fn(String) -> Inline;

/// Words from a sentence with `**strong**`, `*emphasis*` and `` `code` `` in it; each `{}` takes the next of `parts`.
///
/// Write the sentence in the source and hand tokens in as parts: what a part holds is never read as markup.
///
/// ```
/// use glassbox::report::page::{Inline, say};
/// let words = say("It prefers {} by **{}**.", [Inline::Token(" Mary".into()), Inline::Text("3.2".into())]);
/// assert_eq!(words[1], Inline::Token(" Mary".into()));
/// assert_eq!(words[3], Inline::Strong("3.2".into()));
/// ```
pub fn say(sentence: &str, parts: impl IntoIterator<Item = Inline>) -> Words {
    let mut parts = parts.into_iter();
    let mut words = Words::new();
    let mut rest = sentence;
    while !rest.is_empty() {
        let marks: [(&str, Look); 3] = [("**", Inline::Strong), ("*", Inline::Emphasis), ("`", Inline::Code)];
        let marked = marks.into_iter().find_map(|(mark, make)| {
            let (inner, after) = rest.strip_prefix(mark)?.split_once(mark)?;
            (!inner.is_empty() && !inner.starts_with(' ')).then_some((inner, after, make))
        });
        if let Some((inner, after, make)) = marked {
            fill(inner, &mut parts, &mut words, make);
            rest = after;
        } else {
            let first = rest.chars().next().map_or(1, char::len_utf8);
            let end = rest[first..].find(['*', '`']).map_or(rest.len(), |at| at + first);
            fill(&rest[..end], &mut parts, &mut words, Inline::Text);
            rest = &rest[end..];
        }
    }
    words
}

/// The text with its `{}` filled: a part of plain text takes the look of its surroundings, any other keeps its own.
fn fill(text: &str, parts: &mut impl Iterator<Item = Inline>, words: &mut Words, make: Look) {
    let mut pieces = text.split("{}");
    let mut now = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match parts.next() {
            Some(Inline::Text(part)) => now += &part,
            Some(other) => {
                if !now.is_empty() {
                    words.push(make(std::mem::take(&mut now)));
                }
                words.push(other);
            }
            None => now += "{}",
        }
        now += piece;
    }
    if !now.is_empty() {
        words.push(make(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_become_words() {
        let text = |t: &str| Inline::Text(t.into());
        assert_eq!(
            say("a **b {}** `c` *d* 2 * 3 ** {} {}", [text("**x**"), Inline::Token("`<b>`".into())]),
            [
                text("a "),
                Inline::Strong("b **x**".into()),
                text(" "),
                Inline::Code("c".into()),
                text(" "),
                Inline::Emphasis("d".into()),
                text(" 2 "),
                text("* 3 "),
                text("*"),
                text("* "),
                Inline::Token("`<b>`".into()),
                text(" {}"),
            ]
        );
        assert_eq!(say("", []), []);
        assert_eq!(say("**", []).len(), 2);
    }
}
