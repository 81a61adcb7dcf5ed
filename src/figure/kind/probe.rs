//! What probes read by depth, beside what there is to get without the model: control task, shuffled labels, random
//! weights, the most frequent class.

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::axes;
use crate::figure::color::CATEGORICAL;
use crate::figure::font;
use crate::figure::scene::Scene;
use crate::figure::stack::{self, Across, Line, Look, Pane, Part, named, points};
use crate::figure::style::Span;
use crate::figure::view::{Reference, Series, View, categories};
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "probe",
    about: "accuracy by depth `x`: the first of `series` is the probe, others what it is compared with (constant ones are \
            dashed levels); `text` is the column of n, `strip` a low plot of the selectivity; the axis begins below chance",
    draw,
};

/// Room below chance, in shares of right answers.
const BELOW: f64 = 0.05;

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let across = Across::of(rows, view)?;
    let n = match &view.text {
        Some(column) => categories(rows, column)?.0,
        None => Vec::new(),
    };
    let n = match (n.first(), n.last()) {
        (Some(least), Some(most)) if least != most => format!(" (n = {least}–{most})"),
        (Some(n), _) if !n.is_empty() => format!(" (n = {n})"),
        _ => String::new(),
    };
    let (mut lines, mut references) = (Vec::new(), view.references.clone());
    for (k, series) in view.all_series()?.iter().enumerate() {
        let points = points(rows, series, &across.at, |_| true)?;
        // what never moves is a level with its name beside it, as chance is
        if let Some(at) = constant(&points).filter(|_| k > 0) {
            references.push(Reference { at, name: named(series), ..Reference::default() });
            continue;
        }
        let part = if k == 0 { Part::Main } else { Part::One };
        let look = Look { color: CATEGORICAL[k % CATEGORICAL.len()], dash: k % 2 == 1, part };
        let name = named(series) + if k == 0 { &n } else { "" };
        lines.push(Line { name: font::visible(&name), points, look });
    }
    let range = view.limits.unwrap_or_else(|| scores(&lines, &references));
    let words = match (view.value_label.as_str(), view.y_label.as_str()) {
        ("", "") => view.all_series()?.first().map_or_else(String::new, named),
        ("", words) | (words, _) => font::visible(words),
    };
    let mut panes = vec![Pane { words, range, lines, references }];
    panes.extend(view.strip.as_ref().map(|strip| low(rows, strip, &across)).transpose()?.flatten());
    stack::draw(view, &across, &panes, view.points(Span::Half))
}

/// The strip: one line about zero; none where it has no values at all.
fn low(rows: &Rows, strip: &Series, across: &Across) -> Result<Option<Pane>> {
    let points = points(rows, strip, &across.at, |_| true)?;
    if !points.iter().any(|p| p[1].is_finite()) {
        return Ok(None);
    }
    let range = axes::spread(points.iter().flat_map(|p| p[1..].to_vec()), &[0.0], 0.1);
    let look = Look { color: CATEGORICAL[6], dash: false, part: Part::One };
    let zero = Reference::default();
    let lines = vec![Line { name: String::new(), points, look }];
    Ok(Some(Pane { words: named(strip), range, lines, references: vec![zero] }))
}

/// The value of a line that never moves.
fn constant(points: &[[f64; 4]]) -> Option<f64> {
    let values: Vec<f64> = points.iter().map(|p| p[1]).filter(|v| v.is_finite()).collect();
    let first = *values.first().filter(|_| values.len() > 1)?;
    values.iter().all(|v| (v - first).abs() < 1e-12).then_some(first)
}

/// From below chance, and below whatever lies lower, to 1.
fn scores(lines: &[Line], references: &[Reference]) -> [f64; 2] {
    let drawn = lines.iter().flat_map(|line| line.points.iter().flat_map(|p| p[1..].to_vec()));
    let levels = references.iter().map(|reference| reference.at);
    let values: Vec<f64> = drawn.chain(levels).filter(|v| v.is_finite()).collect();
    let (least, most) = values.iter().fold((1.0f64, 0.0f64), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
    if values.is_empty() {
        [0.0, 1.0]
    } else if least < 0.0 || most > 1.0 {
        axes::spread(values, &[], 0.06) // no shares
    } else {
        [(least - BELOW).max(0.0), 1.0]
    }
}
