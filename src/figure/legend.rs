//! Names of colours above a plot, in as many rows as they need.

use crate::figure::axes::TICK;
use crate::figure::color::Color;
use crate::figure::font;
use crate::figure::scene::{Fill, Frame, Item, Scene, Stroke, Text};

/// Height of a row of names.
const ROW: f64 = 10.0;
/// Before the first name.
const MARGIN: f64 = 4.0;

/// What stands before a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// A filled box: bars.
    Box,
    /// A line.
    Line,
    /// A dashed line.
    Dash,
    /// A dot: points.
    Dot,
}

/// A name and its look.
pub struct Entry {
    /// The name, as it was given.
    pub name: String,
    /// Its colour.
    pub color: Color,
    /// What stands before it.
    pub sign: Sign,
}

/// Height that the legend takes above a plot; a small margin when there is nothing to tell apart.
pub fn height(entries: &[Entry], width: f64) -> f64 {
    let lowest = places(entries, width).last().map_or(0.0, |(_, y)| *y);
    if entries.len() > 1 { lowest + ROW } else { 4.0 }
}

/// Draws the names from the top left corner on; nothing for a single one.
pub fn draw(scene: &mut Scene, entries: &[Entry]) {
    if entries.len() < 2 {
        return;
    }
    for (entry, (x, y)) in entries.iter().zip(places(entries, scene.width)) {
        let (color, box_) = (entry.color, Frame::new(x + 2.0, y - 2.5, 9.0, 5.0));
        match entry.sign {
            Sign::Box => scene.add(Item::Rect(box_, Fill::Solid(color), None)),
            Sign::Line => scene.line([x, y], [x + 13.0, y], Stroke::solid(color, 1.1)),
            Sign::Dash => scene.line([x, y], [x + 13.0, y], Stroke::dashed(color, 1.1)),
            Sign::Dot => {
                let fill = Fill::Solid(color);
                scene.add(Item::Circle { at: [x + 8.0, y], r: 2.0, fill, stroke: None });
            }
        }
        let name = font::fit(&font::visible(&entry.name), TICK, false, scene.width - 24.0);
        scene.add(Text::new(x + 16.0, y, name, TICK).middle());
    }
}

/// Where each entry begins, on its middle line.
fn places(entries: &[Entry], width: f64) -> Vec<(f64, f64)> {
    let (mut x, mut y) = (MARGIN, 6.0);
    let place = |entry: &Entry| {
        let wide = 26.0 + font::width(&font::visible(&entry.name), TICK, false);
        if x + wide - 10.0 > width && x > MARGIN {
            (x, y) = (MARGIN, y + ROW);
        }
        let at = (x, y);
        x += wide;
        at
    };
    entries.iter().map(place).collect()
}
