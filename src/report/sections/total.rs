//! Total effects by activation patching, or why there are none.

use crate::report::page::{Block, Section};
use crate::report::story::{Story, paragraph, plain};

pub(super) fn section(story: &Story) -> Option<Section> {
    let title = "What carries the difference: activation patching".to_owned();
    let id = "patching".to_owned();
    let skipped = story.run.outcomes.iter().find_map(|o| o.skipped.as_ref().filter(|_| o.name == "patch"));
    if let Some(why) = skipped {
        let blocks = vec![Block::Note(plain(&format!("This section is absent: {why}.")))];
        return Some(Section { id, title, blocks });
    }
    story.table("patch_head").or_else(|| story.table("resid_by_pos"))?;
    let mut blocks = vec![paragraph(
        "Two prompts that differ in one word differ in their activations. Running the corrupt prompt and restoring one \
         activation from the clean run (*denoising*) asks what suffices to bring the answer back; running the clean \
         prompt and inserting one from the corrupt run (*noising*) asks what is needed. The two can differ. Everything \
         after the patch is recomputed, norms included.",
        [],
    )];
    blocks.extend(story.figure("resid_by_pos", "resid_by_pos"));
    blocks.extend(story.figure("patch_head", "patch_head"));
    blocks.extend(story.notes("patch"));
    Some(Section { id, title, blocks })
}
