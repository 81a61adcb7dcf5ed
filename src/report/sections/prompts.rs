//! What the model was given.

use std::collections::BTreeSet;

use crate::report::page::{Block, Inline, Section, Token, TokenLine, Tokens, say};
use crate::report::story::{Story, paragraph, plain};
use crate::task::Example;

/// Pairs shown in full.
const SHOWN: usize = 4;

pub(super) fn section(story: &Story) -> Option<Section> {
    let (task, lab) = (story.run.task, story.run.lab);
    let first = task.examples.first()?;
    let templates: BTreeSet<&str> = task.examples.iter().map(|e| e.group.as_str()).collect();
    let bos = if task.bos {
        "begins with the beginning-of-sequence token"
    } else {
        "has no beginning-of-sequence token"
    };
    let mut blocks = vec![paragraph(
        "The model was given {}{}. Every prompt {}. The answer is due after the token marked `end`.",
        [
            Inline::Text(story.prompts()),
            Inline::Text(if templates.len() > 1 {
                format!(" in {} templates", templates.len())
            } else {
                String::new()
            }),
            Inline::Text(bos.to_owned()),
        ],
    )];
    if first.corrupt.is_some() {
        blocks.push(paragraph(
            "Each clean prompt has a corrupt twin of the same length; where they differ, the tokens stand out. Patching \
             moves activations from one to the other, so that only what differs between them can matter.",
            [],
        ));
    }
    let mut lines = Vec::new();
    for example in task.examples.iter().take(SHOWN) {
        lines.push(line(story, example, &example.clean, "clean"));
        if let Some(corrupt) = &example.corrupt {
            lines.push(line(story, example, corrupt, "corrupt"));
        }
    }
    let caption = match task.examples.len() {
        n if n > SHOWN => say("The first {} of {}.", [SHOWN, n].map(|n| Inline::Text(n.to_string()))),
        _ => Vec::new(),
    };
    blocks.push(Block::Tokens(Tokens { lines, caption }));
    let token = |ids: &[u32]| -> Vec<Inline> {
        ids.iter().map(|&id| Inline::Token(lab.vocabulary.token(id))).collect()
    };
    if !first.answers.is_empty() {
        blocks.push(Block::Facts(vec![
            ("Answer of the first".to_owned(), token(&first.answers)),
            ("Compared with".to_owned(), token(&first.wrong)),
        ]));
    }
    blocks.extend(task.notes.iter().map(|note| Block::Note(plain(note))));
    Some(Section { id: "prompts".to_owned(), title: "The prompts".to_owned(), blocks })
}

fn line(story: &Story, example: &Example, ids: &[u32], label: &str) -> TokenLine {
    let other = if label == "clean" { example.corrupt.as_deref() } else { Some(example.clean.as_slice()) };
    let tokens = ids.iter().enumerate().map(|(pos, &id)| {
        let names: Vec<&str> =
            example.pos.iter().filter(|(_, p)| **p == pos).map(|(name, _)| name.as_str()).collect();
        Token {
            text: story.run.lab.vocabulary.token(id),
            value: None,
            mark: names.join(" "),
            strong: other.is_some_and(|other| other.get(pos) != Some(&id)),
        }
    });
    TokenLine { label: label.to_owned(), tokens: tokens.collect() }
}
