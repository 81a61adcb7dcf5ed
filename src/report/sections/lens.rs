//! The prediction as it forms, layer by layer.

use crate::report::page::Section;
use crate::report::story::{Story, paragraph};

pub(super) fn section(story: &Story) -> Option<Section> {
    story.table("lens")?;
    let mut blocks = vec![paragraph(
        "Every block adds to the residual stream. Sending the stream of an early layer straight to the output (the *logit \
         lens*) shows what the model would say if it stopped there. Early layers of many models write in a basis of \
         their own, so that an early reading that makes no sense is no sign that nothing is there.",
        [],
    )];
    blocks.extend(story.figure("lens", "lens_first"));
    blocks.extend(story.figure("lens_end", "lens_end"));
    blocks.extend(story.notes("lens"));
    Some(Section { id: "lens".to_owned(), title: "How the prediction forms".to_owned(), blocks })
}
