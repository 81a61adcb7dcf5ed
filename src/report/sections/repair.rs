//! What later components do about one that is taken out.

use crate::report::page::{Block, Inline, Section, Table, Words, say};
use crate::report::story::{Story, listed, number, paragraph, percent};
use crate::row::Rows;

/// Shares below this are not worth a sentence.
const NOTABLE: f64 = 0.05;

pub(super) fn section(story: &Story) -> Option<Section> {
    let rows = story.table("repair")?;
    let mut blocks = vec![paragraph(
        "Take a component out, and the logit difference may fall by less than the component wrote: later ones change what they \
         write. That is *self-repair*, where a later direct effect changes against the lost one: a **backup** does what the lost \
         one did, a **relief** worked against it and does so less. A later component that falls along with the lost one has \
         lost its input; that is an *indirect effect* and repairs nothing. What the norms' new divisors do by themselves is \
         counted apart.",
        [],
    )];
    blocks.extend(told(rows, story.table("repair_later")).map(Block::Paragraph));
    blocks.extend(story.figure("repair", "repair_view"));
    blocks.extend(story.figure("repair_later", "repair_later_view"));
    blocks.push(Block::Table(Table {
        rows: rows.clone(),
        columns: ["ablated", "kind", "lost", "total", "self_repair", "share", "indirect", "scale", "q", "n"]
            .map(str::to_owned)
            .to_vec(),
        max_rows: Some(16),
        bars: vec!["self_repair".to_owned()],
        caption: say("What each removal takes, and what is made up for: lost + indirect − self_repair − scale = total.", []),
    }));
    if let Some(sets) = story.table("repair_set") {
        blocks.push(Block::Table(Table {
            rows: sets.clone(),
            max_rows: Some(12),
            caption: say(
                "Sets as wholes, and the sum of their parts taken out alone: parts that stand in for each other cost more \
                 together.",
                [],
            ),
            ..Table::default()
        }));
    }
    blocks.extend(story.notes("repair"));
    let title = "What is made up for: self-repair".to_owned();
    Some(Section { id: "self-repair".to_owned(), title, blocks })
}

/// The removals of which most is made up for, each with the component that does most of it.
fn told(rows: &Rows, later: Option<&Rows>) -> Option<Words> {
    let (names, kinds, shares) =
        (rows.texts("ablated").ok()?, rows.texts("kind").ok()?, rows.numbers("share").ok()?);
    let lost = rows.numbers("lost").ok()?;
    let mut order: Vec<usize> =
        (0..rows.len()).filter(|&i| shares[i].is_some_and(|share| share >= NOTABLE)).collect();
    order.sort_by(|&a, &b| shares[b].unwrap_or(0.0).total_cmp(&shares[a].unwrap_or(0.0)).then(a.cmp(&b)));
    if order.is_empty() {
        let none = "Nothing that is taken out here is made up for: no removal gets {} of its lost direct effect back.";
        return Some(say(none, [percent(NOTABLE)]));
    }
    let items = order.iter().take(3).map(|&i| {
        let mut words = say(
            "{} of the {} logits lost with {} ({})",
            [
                percent(shares[i].unwrap_or(f64::NAN)),
                number(lost[i].unwrap_or(f64::NAN)),
                Inline::Code(names[i].clone()),
                Inline::Text(kinds[i].clone()),
            ],
        );
        if let Some((component, how)) = later.and_then(|later| mostly(later, &names[i], &kinds[i])) {
            words.extend(say(" (mostly {}, {})", [Inline::Code(component), Inline::Text(how)]));
        }
        words
    });
    let mut words = say("Made up for: ", []);
    words.extend(listed(items.collect()));
    words.push(Inline::Text(".".to_owned()));
    Some(words)
}

/// The component that repairs most, and how.
fn mostly(later: &Rows, ablated: &str, kind: &str) -> Option<(String, String)> {
    let rows = later.only("ablated", ablated).ok()?.only("kind", kind).ok()?;
    let (names, hows, changes) =
        (rows.texts("component").ok()?, rows.texts("how").ok()?, rows.numbers("change").ok()?);
    let size = |i: usize| changes[i].map_or(0.0, f64::abs);
    let repairs = (0..rows.len()).filter(|&i| matches!(hows[i].as_str(), "backup" | "relief"));
    let most = repairs.max_by(|&a, &b| size(a).total_cmp(&size(b)).then(b.cmp(&a)))?;
    Some((names[most].clone(), hows[most].clone()))
}
