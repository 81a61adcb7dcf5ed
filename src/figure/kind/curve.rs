//! Curves with bands: a number along layers, half-steps or training.

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::across::Places;
use crate::figure::lines::{self, Line};
use crate::figure::once;
use crate::figure::scene::Scene;
use crate::figure::stack::{self, Pane};
use crate::figure::view::{Reference, Series, View};
use crate::figure::words;
use crate::row::Rows;

/// Which of the looks of lines is black and without dashes.
const BLACK: usize = 4;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "curve",
    about: "lines over `x` (numbers, or text in table order): `value` with a band from `lo` to `hi`; `group` or \
            `series` make several; `references` are dashed; `strip` is a low plot of one more number; `log_x` for training \
            steps",
    takes: &["group", "height", "log_x", "references", "strip"],
    draw,
};

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let places = Places::read(rows, view, "")?;
    let mut lines = lines::read(rows, view, &view.all_series()?, &places)?;
    once::single(&lines, rows, view, &places)?;
    let strip = match &view.strip {
        Some(strip) => low(strip, rows, view, &places)?,
        None => None,
    };
    if strip.is_some() {
        lines.retain(has_values); // a group may have numbers in the strip alone
    }
    let references = view.references.clone();
    let levels = references.iter().map(|r| r.at);
    let range = view.limits.unwrap_or_else(|| lines::range(&lines, levels, 0.06));
    let words = words::value(view, &view.y_label)?;
    let mut panes = vec![Pane { words, range, lines, references }];
    panes.extend(strip);
    stack::draw(view, &places, &panes, None)
}

/// The low plot, in black; nothing where it has no numbers.
fn low(strip: &Series, rows: &Rows, view: &View, places: &Places) -> Result<Option<Pane>> {
    let mut lines = lines::read(rows, view, std::slice::from_ref(strip), places)?;
    lines.retain(has_values);
    if lines.is_empty() {
        return Ok(None);
    }
    if let [line] = lines.as_mut_slice() {
        line.name.clear(); // its axis says it
        line.look = lines::look(BLACK);
    }
    let (range, references) = (lines::range(&lines, [0.0], 0.1), vec![Reference::default()]);
    Ok(Some(Pane { words: words::series(strip), range, lines, references }))
}

fn has_values(line: &Line) -> bool {
    line.points.iter().any(|point| point.y.is_finite())
}
