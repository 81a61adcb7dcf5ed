//! Two finished runs beside each other: what they were asked, and their tables joined row by row with the difference.
//!
//! Works on tables alone: no model is opened. A difference is *B − A*. Promises:
//!
//! - the value of a difference is the difference of the two values in the tables, nothing else;
//! - exchanging A and B changes the sign of every difference and of every interval, bit by bit;
//! - a run beside itself differs by 0, with the interval [0, 0];
//! - a row that one run alone has is missing in the other and in the difference, never 0.
//!
//! Intervals come from the tables of every example (`examples_…`): pairs are resampled together where both runs saw the same
//! examples ([`Interval::Paired`]), else each run by itself ([`Interval::Apart`]). Copies of a prompt (`examples_units`) are drawn
//! together, and an effect that is a share of a gap is drawn with its gap (`examples_gap_…`); without those there is no
//! interval ([`Interval::None`]). Tests are corrected in the same families as those of the runs ([`family`]).

mod columns;
mod draws;
mod each;
mod facts;
mod join;
mod side;

pub use columns::{family, family_in_words};
pub use draws::Interval;
pub use facts::Fact;
pub use join::{Joined, stacked};
pub use side::Side;

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::output::Finished;
use crate::row::Rows;

/// Two runs and what they share.
#[derive(Debug, Clone)]
pub struct Compared {
    /// What A, B and the difference are called.
    pub names: [String; 3],
    /// The runs.
    pub sides: [Side; 2],
    /// What was asked of each, and where they differ.
    pub facts: Vec<Fact>,
    /// Why a difference between the two may mean nothing.
    pub warnings: Vec<String>,
    /// Whether both saw the same examples.
    pub same_examples: bool,
    /// The tables that both have, by name.
    pub tables: BTreeMap<String, Joined>,
    /// Tables that are left out, each with the reason.
    pub left_out: Vec<(String, String)>,
}

/// Joins two runs. They are called by the names given, else by their folders.
pub fn compare(runs: [Finished; 2], given: [Option<String>; 2]) -> Result<Compared> {
    let [a, b] = runs;
    let names = names([&a, &b], given)?;
    let sides = [Side::of(a)?, Side::of(b)?];
    let same = facts::same_examples(&sides);
    let mut tables = BTreeMap::new();
    let mut left_out = Vec::new();
    for (name, rows) in &sides[0].tables {
        let Some(other) = sides[1].tables.get(name) else {
            left_out.push((name.clone(), format!("{} has it alone", names[0])));
            continue;
        };
        if name.starts_with("examples_") {
            continue;
        }
        if !same && of_prompts(rows, other) {
            let why = "it tells of single prompts, and the runs had others each";
            left_out.push((name.clone(), why.to_owned()));
            continue;
        }
        match join::join(&sides, [rows, other], same)? {
            Ok(joined) => _ = tables.insert(name.clone(), joined),
            Err(why) => left_out.push((name.clone(), why)),
        }
    }
    let alone = sides[1].tables.keys().filter(|name| !sides[0].tables.contains_key(*name));
    left_out.extend(alone.map(|name| (name.clone(), format!("{} has it alone", names[1]))));
    left_out.retain(|(name, _)| !name.starts_with("examples_"));
    if tables.is_empty() {
        let list = |side: &Side| {
            let names: Vec<&str> = side.tables.keys().map(String::as_str).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        let message = format!(
            "{} and {} share no table that could be joined: the first has {}, the second {}",
            names[0],
            names[1],
            list(&sides[0]),
            list(&sides[1])
        );
        return Err(Error::input(message, "compare runs of the same analyses: `glassbox report` makes both"));
    }
    let facts = facts::facts(&sides);
    let warnings = facts::warnings(&names, &sides, &facts, &tables);
    Ok(Compared { names, sides, facts, warnings, same_examples: same, tables, left_out })
}

/// Whether a table's rows are of single prompts, or of positions at which the two have other tokens: where the prompts differ, what
/// stands at one place in both has nothing to do with each other.
fn of_prompts(a: &Rows, b: &Rows) -> bool {
    let tokens = |rows: &Rows| rows.texts("token").unwrap_or_default();
    a.name == "lens_first" || a.column("example").is_ok() || tokens(a) != tokens(b)
}

/// What the runs and their difference are called: as given, else by folder, else by folder and the one above.
fn names(runs: [&Finished; 2], given: [Option<String>; 2]) -> Result<[String; 3]> {
    let last = |run: &Finished, parts: usize| {
        let all: Vec<String> =
            run.folder.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        all[all.len().saturating_sub(parts)..].join("/")
    };
    let by_folder = |parts: usize| runs.map(|run| last(run, parts));
    let (one, two) = (by_folder(1), by_folder(2));
    let folders = match () {
        () if one[0] != one[1] => one,
        () if two[0] != two[1] => two,
        () => ["A".to_owned(), "B".to_owned()],
    };
    let [a, b] = given;
    let [own_a, own_b] = folders;
    let (a, b) = (a.unwrap_or(own_a), b.unwrap_or(own_b));
    if a.trim().is_empty() || b.trim().is_empty() {
        return Err(Error::usage("a run's name is empty", "give it one with --name-a or --name-b"));
    }
    let difference = if a.chars().count() + b.chars().count() <= 24 {
        format!("{b} \u{2212} {a}")
    } else {
        "difference".to_owned()
    };
    if a == b || a == difference || b == difference {
        let message = format!("both runs, or a run and the difference, would be called {a:?}");
        return Err(Error::usage(message, "give them names with --name-a and --name-b"));
    }
    Ok([a, b, difference])
}
