//! What heads do by their weights alone.

use crate::report::page::{Block, Inline, Section, Table, Words, say};
use crate::report::story::{Story, listed, number, paragraph};
use crate::row::Rows;

/// A score from which on a head is called a copying one.
const COPIES: f64 = 0.8;
/// Heads named in a sentence.
const NAMED: usize = 8;

pub(super) fn section(story: &Story) -> Option<Section> {
    let rows = story.table("weights")?;
    let mut blocks = vec![paragraph(
        "A head's weights multiply into two maps that need no prompt to be looked at. **W_OV** says what is written when a \
         token is attended to, **W_QK** which token asks for which. If the eigenvalues of the first, from tokens to logits, are \
         positive, the head **copies**: what it attends to becomes likelier. A map says what a head does *if* it attends; \
         whether it ever does, and whether anything comes of it, only prompts can tell.",
        [],
    )];
    blocks.extend(copies(rows));
    blocks.extend(story.figure("weights_copying", "weights"));
    blocks.extend(story.figure("weights_spectrum", "spectrum"));
    blocks.extend(composition(story));
    blocks.extend(read(story, "virtual", &["from", "to", "kind", "index", "share", "end", "read", "written"], 12,
        "The maps that two heads make together, read in tokens: what the first moves, and what the second makes of it."));
    blocks.extend(read(
        story,
        "singular",
        &["layer", "head", "circuit", "index", "share", "end", "read", "written"],
        24,
        "The strongest directions of each head, read in tokens.",
    ));
    blocks.extend(story.notes("weights"));
    Some(Section {
        id: "weights".to_owned(),
        title: "What heads do by their weights alone".to_owned(),
        blocks,
    })
}

/// Which heads copy.
fn copies(rows: &Rows) -> Option<Block> {
    let (layers, heads) = (rows.texts("layer").ok()?, rows.texts("head").ok()?);
    let (scores, roles) = (rows.numbers("copying").ok()?, rows.texts("role").ok()?);
    let mut found: Vec<(usize, f64)> = scores
        .iter()
        .enumerate()
        .filter_map(|(i, score)| score.filter(|score| *score >= COPIES).map(|score| (i, score)))
        .collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let name = |&(i, score): &(usize, f64)| -> Words {
        let mut words = vec![Inline::Code(format!("a{}.h{}", layers[i], heads[i]))];
        words.extend(say(" ({}", [number(score)]));
        let role = if roles[i].is_empty() { String::new() } else { format!("; {}", roles[i]) };
        words.push(Inline::Text(format!("{role})")));
        words
    };
    let mut words = say(
        "Of {} heads, {} copy by this measure (a score of at least {})",
        [Inline::Text(rows.len().to_string()), Inline::Text(found.len().to_string()), number(COPIES)],
    );
    if !found.is_empty() {
        words.push(Inline::Text(": ".to_owned()));
        words.extend(listed(found.iter().take(NAMED).map(name).collect()));
        if found.len() > NAMED {
            words.push(Inline::Text(format!(" and {} more", found.len() - NAMED)));
        }
    }
    words.push(Inline::Text(".".to_owned()));
    Some(Block::Paragraph(words))
}

/// Which heads are made to read which.
fn composition(story: &Story) -> Vec<Block> {
    let Some(top) = story.table("composition_top") else { return Vec::new() };
    let first = || -> Option<Words> {
        let edge = top.texts("edge").ok()?.first()?.clone();
        let of = |column: &str| top.numbers(column).ok()?.first().copied().flatten();
        Some(say(
            "Furthest above chance lies `{}`: {}, where random matrices give {} ± {}.",
            [Inline::Text(edge), number(of("score")?), number(of("baseline")?), number(of("baseline_sd")?)],
        ))
    };
    let mut blocks = vec![paragraph(
        "**Composition** asks how much of what one head writes another head reads, through its queries (q), keys (k) or values \
         (v): ‖W₁·W₂‖ / (‖W₁‖·‖W₂‖). The scores are small even for heads made for each other, since a map that is spread over k \
         directions cannot score above about 1/√k: what counts is the excess over random matrices of the same shapes.",
        [],
    )];
    blocks.extend(first().map(Block::Paragraph));
    blocks.extend(story.figure("composition_top", "composition"));
    blocks.extend(story.figure("composition", "composition"));
    blocks
}

fn read(story: &Story, name: &str, columns: &[&str], most: usize, caption: &str) -> Option<Block> {
    Some(Block::Table(Table {
        rows: story.table(name)?.clone(),
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
        max_rows: Some(most),
        bars: Vec::new(),
        caption: say(caption, []),
    }))
}
