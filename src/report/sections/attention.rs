//! Where the top heads look, and what heads do in general.

use crate::report::page::Section;
use crate::report::story::{Story, paragraph};

pub(super) fn section(story: &Story) -> Option<Section> {
    let attention = story.figure("attention", "attention");
    let scores = story.figure("head_scores", "head_scores");
    if attention.is_none() && scores.is_none() {
        return None;
    }
    let mut blocks = Vec::new();
    if attention.is_some() {
        blocks.push(paragraph(
            "A head moves information from the tokens it attends to. Attention alone is no explanation: a head may attend \
             to a token and take nothing from it; the heads shown are chosen by their effect.",
            [],
        ));
        blocks.extend(attention);
    }
    if scores.is_some() {
        blocks.push(paragraph(
            "On random tokens repeated once, a head's habits show by themselves: attention to the previous token, to the \
             earlier occurrence of the same token, or to the token that followed it (induction).",
            [],
        ));
        blocks.extend(scores);
        blocks.extend(story.figure("head_scores_each", "head_scores_each"));
    }
    blocks.extend(story.notes("heads"));
    Some(Section { id: "attention".to_owned(), title: "Where heads look".to_owned(), blocks })
}
