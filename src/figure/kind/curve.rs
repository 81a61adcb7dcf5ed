//! Curves with bands: a number along layers, half-steps or training.

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::across::Places;
use crate::figure::lines;
use crate::figure::scene::Scene;
use crate::figure::stack::{self, Pane};
use crate::figure::view::View;
use crate::figure::words;
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "curve",
    about: "lines over `x` (numbers, or text in table order): `value` with a band from `lo` to `hi`; `group` or \
            `series` make several; `references` are dashed; `log_x` for training steps",
    draw,
};

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let places = Places::read(rows, view, "")?;
    let lines = lines::read(rows, view, &view.all_series()?, &places)?;
    let references = view.references.clone();
    let levels = references.iter().map(|r| r.at);
    let range = view.limits.unwrap_or_else(|| lines::range(&lines, levels, 0.06));
    let words = words::value(view, &view.y_label)?;
    stack::draw(view, &places, &[Pane { words, range, lines, references }], None)
}
