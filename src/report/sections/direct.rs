//! Direct logit attribution.

use crate::report::page::Section;
use crate::report::story::{Story, paragraph};

pub(super) fn section(story: &Story) -> Option<Section> {
    story.table("attribution")?;
    let mut blocks = vec![paragraph(
        "The final residual stream is a sum of what every component wrote, and with the scale of the final norm held at its \
         own value the logit difference is a sum over components too: each part is that component's *direct* \
         effect. It says who wrote the answer, not who made it possible.",
        [],
    )];
    blocks.extend(story.figure("accumulated", "accumulated"));
    blocks.extend(story.figure("attribution_sum", "attribution_sum"));
    blocks.extend(story.figure("attribution", "attribution"));
    blocks.extend(story.figure("attribution_head", "attribution_head"));
    blocks.extend(story.figure("attribution_source", "attribution_source_top"));
    blocks.extend(story.notes("attribution"));
    Some(Section {
        id: "direct".to_owned(),
        title: "Who writes the answer: direct attribution".to_owned(),
        blocks,
    })
}
