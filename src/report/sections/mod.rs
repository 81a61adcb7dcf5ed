//! The argument of a report, one file per step. A section without its tables is left out.

mod attention;
mod caveats;
mod components;
mod direct;
mod lens;
mod prediction;
mod prompts;
mod summary;
mod total;

use super::page::{Page, Section};
use super::story::Story;

type Write = fn(&Story) -> Option<Section>;

/// The sections, in order.
const SECTIONS: &[Write] = &[
    prompts::section,
    prediction::section,
    components::section,
    lens::section,
    direct::section,
    total::section,
    attention::section,
    caveats::section,
];

/// The page of a run.
pub(super) fn page(story: &Story) -> Page {
    Page {
        kicker: "glassbox report".to_owned(),
        title: summary::title(story),
        lead: summary::lead(story),
        sections: SECTIONS.iter().filter_map(|write| write(story)).collect(),
        provenance: summary::provenance(story),
    }
}
