//! What the sections of a report draw on: the tables by name, pictures, and how numbers read.

use std::collections::BTreeMap;

use super::command;
use super::page::{Block, Figure, Inline, Table, Words, say};
use crate::checkpoint;
use crate::error::Result;
use crate::lab::Lab;
use crate::row::{Cell, Rows};
use crate::study::{Outcome, Study};
use crate::task::Task;

/// One finished run of a study.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// What was asked.
    pub study: &'a Study,
    /// The model.
    pub lab: &'a Lab,
    /// The prompts.
    pub task: &'a Task,
    /// What each step found.
    pub outcomes: &'a [Outcome],
    /// Threads it ran on.
    pub threads: usize,
}

impl Run<'_> {
    /// The model as a rerun names it, from any folder and at any time.
    pub(super) fn model(&self) -> String {
        let model = checkpoint::absolute(&self.study.model);
        match &self.lab.about.revision {
            // a branch moves on; what was studied does not
            Some(commit) => {
                format!("{}@{commit}", model.split_once('@').map_or(model.as_str(), |(id, _)| id))
            }
            None => model,
        }
    }
}

/// A drawn picture.
pub(super) struct Picture {
    pub(super) svg: String,
    pub(super) caption: String,
    /// The rows that it shows.
    pub(super) rows: Rows,
}

/// A run seen by the sections.
pub(super) struct Story<'a> {
    pub(super) run: Run<'a>,
    pub(super) tables: BTreeMap<String, Rows>,
    pub(super) pictures: BTreeMap<String, Picture>,
}

impl Story<'_> {
    /// The table of this name, if a step made it and it has rows.
    pub(super) fn table(&self, name: &str) -> Option<&Rows> {
        self.tables.get(name).filter(|rows| !rows.is_empty())
    }

    /// The notes of the step of this name.
    pub(super) fn notes(&self, step: &str) -> Vec<Block> {
        let own = self.run.outcomes.iter().filter(|outcome| outcome.name == step);
        let notes: Vec<Words> =
            own.flat_map(|outcome| &outcome.findings.notes).map(|note| plain(note)).collect();
        if notes.is_empty() { Vec::new() } else { vec![Block::List(notes)] }
    }

    /// A picture with the table behind it, if it was drawn.
    pub(super) fn figure(&self, name: &str, table: &str) -> Option<Block> {
        let picture = self.pictures.get(name)?;
        let data = self.tables.contains_key(table).then(|| Table {
            rows: Rows { name: table.to_owned(), ..picture.rows.clone() },
            max_rows: Some(200),
            ..Table::default()
        });
        Some(Block::Figure(Figure {
            name: name.to_owned(),
            svg: picture.svg.clone(),
            caption: plain(&picture.caption),
            data,
            command: command::of(self, table),
        }))
    }

    /// How prompts are spoken of: "64 prompt pairs of `ioi`", "one prompt".
    pub(super) fn prompts(&self) -> String {
        let (n, task) = (self.run.task.examples.len(), self.run.task);
        let kind = if task.is_paired() { "prompt pair" } else { "prompt" };
        match n {
            1 => format!("one {kind}"),
            n => format!("{n} {kind}s of {}", task.name),
        }
    }

    /// The components with their effects, largest total first.
    pub(super) fn components(&self) -> Vec<Component> {
        let Some(rows) = self.table("components") else { return Vec::new() };
        let read = || -> Result<Vec<Component>> {
            let (names, roles) = (rows.texts("component")?, rows.texts("role")?);
            let (direct, total) = (rows.numbers("direct")?, rows.numbers("total")?);
            let (lo, hi) = (rows.numbers("total_ci_lo")?, rows.numbers("total_ci_hi")?);
            let notes = rows.texts("note")?;
            let each = (0..rows.len()).map(|i| Component {
                name: names[i].clone(),
                role: roles[i].clone(),
                direct: direct[i].unwrap_or(f64::NAN),
                total: total[i].unwrap_or(f64::NAN),
                interval: lo[i].zip(hi[i]),
                note: notes[i].clone(),
            });
            Ok(each.collect())
        };
        let mut components = read().unwrap_or_default();
        components.sort_by(|a, b| b.total.abs().total_cmp(&a.total.abs()));
        components
    }

    /// The heads among the components, largest total first.
    pub(super) fn heads(&self) -> Vec<Component> {
        self.components().into_iter().filter(|c| c.name.contains(".h")).collect()
    }
}

/// One row of the table `components`.
#[derive(Debug, Clone)]
pub(super) struct Component {
    pub(super) name: String,
    pub(super) role: String,
    pub(super) direct: f64,
    pub(super) total: f64,
    pub(super) interval: Option<(f64, f64)>,
    pub(super) note: String,
}

impl Component {
    /// Layer and head of `a9.h6`.
    pub(super) fn head(&self) -> Option<(usize, usize)> {
        let (layer, head) = self.name.strip_prefix('a')?.split_once(".h")?;
        Some((layer.parse().ok()?, head.parse().ok()?))
    }

    /// "`a2.h0` (name mover)".
    pub(super) fn spoken(&self) -> Words {
        let mut words = vec![Inline::Code(self.name.clone())];
        if !self.role.is_empty() {
            words.push(Inline::Text(format!(" ({})", self.role)));
        }
        words
    }
}

/// A number as a sentence says it.
pub(super) fn number(x: f64) -> Inline {
    Inline::Text(figure(x))
}

/// A number with two decimals, or more when it is small.
pub(super) fn figure(x: f64) -> String {
    match x.abs() {
        _ if !x.is_finite() => "not a number".to_owned(),
        0.0 => "0".to_owned(),
        size if size < 0.001 => format!("{x:.1e}"),
        size if size < 0.1 => format!("{x:.3}"),
        size if size < 1000.0 => format!("{x:.2}"),
        _ => format!("{x:.0}"),
    }
    .replace('-', "\u{2212}")
}

/// A share as a percentage.
pub(super) fn percent(x: f64) -> Inline {
    // never rounded up to all
    let shown = if x < 1.0 && x > 0.995 { format!("{:.2}", 100.0 * x) } else { format!("{:.0}", 100.0 * x) };
    Inline::Text(format!("{shown} %"))
}

/// Words that are only words, whatever they hold.
pub(super) fn plain(text: &str) -> Words {
    vec![Inline::Text(text.to_owned())]
}

/// A paragraph.
pub(super) fn paragraph(sentence: &str, parts: impl IntoIterator<Item = Inline>) -> Block {
    Block::Paragraph(say(sentence, parts))
}

/// "a, b and c".
pub(super) fn listed(items: Vec<Words>) -> Words {
    let last = items.len().saturating_sub(1);
    let mut words = Words::new();
    for (i, item) in items.into_iter().enumerate() {
        let joint = match i {
            0 => "",
            i if i == last => " and ",
            _ => ", ",
        };
        if !joint.is_empty() {
            words.push(Inline::Text(joint.to_owned()));
        }
        words.extend(item);
    }
    words
}

/// A column made for a figure.
pub(super) fn column<T: Cell>(name: &str, about: &str, cells: &[T]) -> (String, String, crate::row::Column) {
    (name.to_owned(), about.to_owned(), T::column(cells.iter()))
}
