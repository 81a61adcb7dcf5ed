//! Who tells whom: path patching.

use std::collections::BTreeSet;

use crate::report::page::{Block, Inline, Section, Table, Words, say};
use crate::report::story::{Story, figure, listed, number, paragraph, plain};
use crate::row::Rows;

/// Senders that a sentence names.
const NAMED: usize = 4;

pub(super) fn section(story: &Story) -> Option<Section> {
    let title = "Who tells whom: path patching".to_owned();
    let id = "paths".to_owned();
    let skipped = story.run.outcomes.iter().find_map(|o| o.skipped.as_ref().filter(|_| o.name == "path"));
    if let Some(why) = skipped {
        let blocks = vec![Block::Note(plain(&format!("This section is absent: {why}.")))];
        return Some(Section { id, title, blocks });
    }
    let rows = story.table("path")?;
    let mut blocks = vec![paragraph(
        "Patching a component says that it matters, not for whom. Here a **sender** takes its value from the other prompt of \
         the pair while all other heads keep their own, so that the change arrives at the **receivers** over direct paths \
         alone; what they then hear is given to them in a run of its own, and the rest of the model responds. Read backwards \
         from the logits: who writes them, who tells those heads where to look, who tells these.",
        [],
    )];
    blocks.extend(story.figure("path", "path"));
    blocks.extend(story.figure("path_edge", "path"));
    let told = told(rows).unwrap_or_default();
    if !told.is_empty() {
        blocks.push(Block::List(told));
    }
    blocks.extend(between(rows));
    blocks.push(table(rows));
    if let Some(rows) = story.table("path_set") {
        blocks.push(paragraph(
            "Sets send together. The interaction is the whole minus the sum of what its members send alone: members that stand in \
             for each other do little alone, and members one of whom speaks through another are counted twice in the sum.",
            [],
        ));
        let columns = ["receivers", "set", "freeze", "direction", "effect", "ci_lo", "ci_hi", "sum_of_parts"];
        let columns =
            columns.into_iter().chain(["interaction", "interaction_ci_lo", "interaction_ci_hi", "n"]);
        blocks.push(Block::Table(Table {
            rows: rows.clone(),
            columns: columns.map(str::to_owned).collect(),
            max_rows: Some(12),
            bars: Vec::new(),
            caption: say("Sets that send together, beside the sums of their members.", []),
        }));
    }
    blocks.push(Block::Note(plain(
        "What is frozen is part of the question: with MLPs computed anew, a path may lead through them. Only what differs \
         between the two prompts can be sent. Effects of several paths do not add up to the effect of all.",
    )));
    blocks.extend(story.notes("path"));
    Some(Section { id, title, blocks })
}

/// The columns that a sentence needs.
struct Cells {
    receivers: Vec<String>,
    ways: Vec<(String, String)>,
    sender: Vec<String>,
    role: Vec<String>,
    effect: Vec<Option<f64>>,
    lo: Vec<Option<f64>>,
    hi: Vec<Option<f64>>,
    notable: Vec<String>,
}

impl Cells {
    fn of(rows: &Rows) -> Option<Cells> {
        let text = |name: &str| rows.texts(name).ok();
        let numbers = |name: &str| rows.numbers(name).ok();
        Some(Cells {
            receivers: text("receivers")?,
            ways: text("freeze")?.into_iter().zip(text("direction")?).collect(),
            sender: text("sender")?,
            role: text("role")?,
            effect: numbers("effect")?,
            lo: numbers("ci_lo")?,
            hi: numbers("ci_hi")?,
            notable: text("notable")?,
        })
    }

    fn spoken(&self, i: usize) -> Words {
        let mut words = vec![Inline::Code(self.sender[i].clone())];
        if !self.role[i].is_empty() {
            words.push(Inline::Text(format!(" ({})", self.role[i])));
        }
        words
    }

    fn size(&self, i: usize) -> f64 {
        self.effect[i].map_or(0.0, f64::abs)
    }
}

/// For each set of receivers and each way of patching, the senders it hears most.
fn told(rows: &Rows) -> Option<Vec<Words>> {
    let cells = Cells::of(rows)?;
    let ways: BTreeSet<&(String, String)> = cells.ways.iter().collect();
    let mut groups: Vec<(&String, &(String, String))> = Vec::new();
    for group in cells.receivers.iter().zip(&cells.ways) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let sentence = |(receivers, way): (&String, &(String, String))| {
        let mut heard: Vec<usize> = (0..rows.len())
            .filter(|&i| {
                &cells.receivers[i] == receivers && &cells.ways[i] == way && cells.notable[i] == "true"
            })
            .collect();
        heard.sort_by(|&a, &b| cells.size(b).total_cmp(&cells.size(a)).then(a.cmp(&b)));
        let mut words = vec![Inline::Code(receivers.clone())];
        if ways.len() > 1 {
            let rule = if way.0 == "all" { "everything frozen" } else { "heads frozen" };
            words.push(Inline::Text(format!(" ({rule}, {})", way.1)));
        }
        if heard.is_empty() {
            words.push(Inline::Text(" hears nothing notable directly from any of the senders.".to_owned()));
            return words;
        }
        words.push(Inline::Text(" hears ".to_owned()));
        let others = heard.len().saturating_sub(NAMED);
        words.extend(listed(
            heard
                .into_iter()
                .take(NAMED)
                .map(|i| {
                    let mut words = cells.spoken(i);
                    let interval = cells.lo[i].zip(cells.hi[i]);
                    let interval = interval
                        .map(|(lo, hi)| format!(" [{}, {}]", figure(lo), figure(hi)))
                        .unwrap_or_default();
                    let effect = figure(cells.effect[i].unwrap_or(f64::NAN));
                    words.push(Inline::Text(format!(", {effect}{interval}")));
                    words
                })
                .collect(),
        ));
        if others > 0 {
            words.push(Inline::Text(format!(", and less of {others} others")));
        }
        words.push(Inline::Text(".".to_owned()));
        words
    };
    Some(groups.into_iter().map(sentence).collect())
}

/// Where both rules were asked for: the path whose effect goes most through MLPs.
fn between(rows: &Rows) -> Option<Block> {
    let cells = Cells::of(rows)?;
    let notable = |i: &usize| cells.notable[*i] == "true" && cells.ways[*i].0 == "heads";
    let edge = |i: usize| {
        let same = |j: &usize| {
            cells.receivers[*j] == cells.receivers[i]
                && cells.sender[*j] == cells.sender[i]
                && cells.ways[*j].1 == cells.ways[i].1
                && cells.ways[*j].0 == "all"
        };
        (0..rows.len()).find(same).and_then(|j| cells.effect[j])
    };
    let through = (0..rows.len()).filter(notable).filter_map(|i| Some((i, cells.effect[i]?, edge(i)?)));
    let (i, path, edge) = through.max_by(|a, b| (a.1 - a.2).abs().total_cmp(&(b.1 - b.2).abs()))?;
    // what differs by less than a fifth is not worth a sentence
    if (path - edge).abs() < 0.2 * path.abs() {
        return None;
    }
    Some(Block::Paragraph(say(
        "The rule matters most from `{}` to `{}`: {} where MLPs are computed anew, {} over the edge alone. The difference \
         is what MLPs between them pass on.",
        [
            Inline::Text(cells.sender[i].clone()),
            Inline::Text(cells.receivers[i].clone()),
            number(path),
            number(edge),
        ],
    )))
}

fn table(rows: &Rows) -> Block {
    let sizes = rows.numbers("effect").unwrap_or_default();
    let size = |i: usize| sizes.get(i).copied().flatten().map_or(0.0, f64::abs);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| size(b).total_cmp(&size(a)).then(a.cmp(&b)));
    let several =
        |column: &str| rows.texts(column).is_ok_and(|all| all.iter().any(|one| Some(one) != all.first()));
    let any = |column: &str| rows.texts(column).is_ok_and(|all| all.iter().any(|one| !one.is_empty()));
    let columns = [
        ("receivers", true),
        ("sender", true),
        ("role", any("role")),
        ("freeze", several("freeze")),
        ("direction", several("direction")),
        ("effect", true),
        ("ci_lo", true),
        ("ci_hi", true),
        ("variation", any("variation")),
        ("q", any("q")),
        ("n", true),
    ];
    Block::Table(Table {
        rows: rows.take(&order),
        columns: columns.into_iter().filter(|(_, shown)| *shown).map(|(name, _)| name.to_owned()).collect(),
        max_rows: Some(16),
        bars: vec!["effect".to_owned()],
        caption: say("Paths, by the size of their effect.", []),
    })
}
