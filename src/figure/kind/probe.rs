//! What probes read by depth, beside what there is to get without the model: control task, shuffled labels, random
//! weights, the most frequent class.

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::across::Places;
use crate::figure::axes;
use crate::figure::font;
use crate::figure::lines::{self, Line, Look, Part};
use crate::figure::marker::Marker;
use crate::figure::once;
use crate::figure::scene::Scene;
use crate::figure::stack::{self, Pane};
use crate::figure::view::{Reference, View, categories};
use crate::figure::words;
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "probe",
    about: "accuracy by depth `x`: the first of `series` is the probe, others what it is compared with (constant ones are \
            dashed levels); `text` is the column of n, `strip` a low plot of the selectivity; the axis begins below chance",
    takes: &["height", "log_x", "references", "strip"],
    draw,
};

/// Room below chance, in shares of right answers.
const BELOW: f64 = 0.05;

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let places = Places::read(rows, view, "")?;
    let n = match &view.text {
        Some(column) => categories(rows, column)?.0,
        None => Vec::new(),
    };
    let n = match (n.first(), n.last()) {
        (Some(least), Some(most)) if least != most => format!(" (n = {least}–{most})"),
        (Some(n), _) if !n.is_empty() => format!(" (n = {n})"),
        _ => String::new(),
    };
    let mut lines = lines::read(rows, view, &view.all_series()?, &places)?;
    once::single(&lines, rows, view, &places)?;
    if let Some(probe) = lines.first_mut() {
        probe.name.push_str(&font::visible(&n));
        probe.look.part = Part::Main;
    }
    let mut references = view.references.clone();
    let levels: Vec<(usize, f64)> =
        lines.iter().enumerate().skip(1).filter_map(|(k, line)| Some((k, constant(line)?))).collect();
    if let [(k, at)] = levels[..] {
        // what never moves is a level with its name beside it, as chance is
        references.push(Reference { at, name: lines.remove(k).name, ..Reference::default() });
    } else {
        // beside several, which may lie close to each other, names have no room
        levels.iter().enumerate().for_each(|(nth, (k, _))| lines[*k].look = lines::level(nth));
    }
    let range = view.limits.unwrap_or_else(|| scores(&lines, &references));
    let words = words::value(view, &view.y_label)?;
    let mut panes = vec![Pane { words, range, lines, references }];
    if let Some(strip) = &view.strip {
        let mut lines = lines::read(rows, view, std::slice::from_ref(strip), &places)?;
        for line in &mut lines {
            line.name.clear(); // its axis says it
            line.look = Look { dash: &[], marker: Marker::Dot, ..lines::look(6) };
        }
        // none where it has no values at all
        if lines::values(&lines).next().is_some() {
            let (range, references) = (lines::range(&lines, [0.0], 0.1), vec![Reference::default()]);
            panes.push(Pane { words: words::series(strip), range, lines, references });
        }
    }
    stack::draw(view, &places, &panes, None)
}

/// The value of a line that never moves.
fn constant(line: &Line) -> Option<f64> {
    let values: Vec<f64> = line.points.iter().map(|p| p.y).filter(|v| v.is_finite()).collect();
    let first = *values.first().filter(|_| values.len() > 1)?;
    values.iter().all(|v| (v - first).abs() < 1e-12).then_some(first)
}

/// From below chance, and below whatever lies lower, to 1.
fn scores(lines: &[Line], references: &[Reference]) -> [f64; 2] {
    let levels = references.iter().map(|reference| reference.at);
    let values: Vec<f64> = lines::values(lines).chain(levels).filter(|v| v.is_finite()).collect();
    let (least, most) = values.iter().fold((1.0f64, 0.0f64), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
    if values.is_empty() {
        [0.0, 1.0]
    } else if least < 0.0 || most > 1.0 {
        axes::spread(values, &[], 0.06) // no shares
    } else {
        [(least - BELOW).max(0.0), 1.0]
    }
}
