//! The argument of a report, one file per step. A section without its tables is left out.

mod ablation;
mod atp;
mod attention;
mod caveats;
mod circuit;
mod components;
mod direct;
mod edges;
mod knockout;
mod lens;
mod path;
mod prediction;
mod probe;
mod prompts;
mod repair;
mod stimulation;
mod summary;
mod total;
mod tracing;
mod training;
mod weights;

use super::page::{Inline, Page, Section, Words};
use super::story::Story;

type Write = fn(&Story) -> Option<Section>;

/// The sections, in order.
const SECTIONS: &[Write] = &[
    prompts::section,
    prediction::section,
    training::section,
    components::section,
    lens::section,
    direct::section,
    total::section,
    path::section,
    edges::section,
    circuit::section,
    tracing::section,
    atp::section,
    ablation::section,
    repair::section,
    knockout::section,
    attention::section,
    weights::section,
    probe::section,
    stimulation::section,
    caveats::section,
];

/// What stands under the title: a sentence or two from everyone who has a finding to tell, in order.
const LEADS: &[fn(&Story) -> Option<Words>] =
    &[summary::lead, training::lead, probe::lead, stimulation::lead];

/// The page of a run.
pub(super) fn page(story: &Story) -> Page {
    let leads: Vec<Words> = LEADS.iter().filter_map(|lead| lead(story)).collect();
    Page {
        kicker: "glassbox report".to_owned(),
        title: summary::title(story),
        lead: leads.join(&Inline::Text(" ".to_owned())),
        sections: SECTIONS.iter().filter_map(|write| write(story)).collect(),
        provenance: summary::provenance(story),
        data: None,
    }
}
