//! Names of colours above a plot, in as many rows as they need.

use crate::figure::color::Color;
use crate::figure::font;
use crate::figure::marker::Marker;
use crate::figure::scene::{Fill, Frame, Item, Scene, Stroke, Text};
use crate::figure::style::Style;

/// What stands before a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// A filled box: bars.
    Box,
    /// A line.
    Line,
    /// A dashed line.
    Dash,
    /// A point.
    Marker(Marker),
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
pub fn height(style: &Style, entries: &[Entry], width: f64) -> f64 {
    let lowest = places(style, entries, width).last().map_or(0.0, |(_, y)| *y);
    if entries.len() > 1 { lowest + style.space(10.0) } else { style.space(4.0) }
}

/// Draws the names from the top left corner on; nothing for a single one.
pub fn draw(scene: &mut Scene, style: &Style, entries: &[Entry]) {
    if entries.len() < 2 {
        return;
    }
    let room = scene.width - style.space(24.0);
    for (entry, (x, y)) in entries.iter().zip(places(style, entries, scene.width)) {
        let color = entry.color;
        let end = [x + style.space(13.0), y];
        match entry.sign {
            Sign::Box => {
                let high = style.space(5.0);
                let frame = Frame::new(x + style.space(2.0), y - high / 2.0, style.space(9.0), high);
                scene.add(Item::Rect(frame, Fill::Solid(color), None));
            }
            Sign::Line => scene.line([x, y], end, Stroke::solid(color, style.line)),
            Sign::Dash => scene.line([x, y], end, Stroke::dashed(color, style.line)),
            Sign::Marker(marker) => point(scene, style, [x + style.space(8.0), y], color, marker),
        }
        let name = font::fit(&font::visible(&entry.name), style.tick, false, room);
        scene.add(Text::new(x + style.space(16.0), y, name, style.tick).middle());
    }
}

fn point(scene: &mut Scene, style: &Style, at: [f64; 2], color: Color, marker: Marker) {
    let (r, fill, stroke) = (style.dot(), Fill::Solid(color), None);
    scene.add(match marker.corners(r) {
        None => Item::Circle { at, r, fill, stroke },
        Some(corners) => {
            let points = corners.iter().map(|[x, y]| [at[0] + x, at[1] + y]).collect();
            Item::Path { points, closed: true, fill, stroke }
        }
    });
}

/// Where each entry begins, on its middle line.
fn places(style: &Style, entries: &[Entry], width: f64) -> Vec<(f64, f64)> {
    let margin = style.space(4.0);
    let (mut x, mut y) = (margin, style.space(6.0));
    let place = |entry: &Entry| {
        let wide = style.space(26.0) + font::width(&font::visible(&entry.name), style.tick, false);
        if x + wide - style.space(10.0) > width && x > margin {
            (x, y) = (margin, y + style.space(10.0));
        }
        let at = (x, y);
        x += wide;
        at
    };
    entries.iter().map(place).collect()
}
