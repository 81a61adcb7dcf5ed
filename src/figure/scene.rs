//! A drawing as plain data, in PDF points (1/72 inch), y downwards.
//!
//! Pictures make scenes, writers turn them into files. A scene knows no data, no colour map and no file format.

use crate::figure::color::{Color, INK};
use crate::figure::font;

/// A finished drawing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scene {
    /// Width in points.
    pub width: f64,
    /// Height in points.
    pub height: f64,
    /// What it is, in a few words: the accessible name, not drawn.
    pub title: String,
    /// The caption: the accessible description, not drawn.
    pub caption: String,
    /// What is drawn, back to front.
    pub items: Vec<Item>,
}

/// A rectangle by its edges.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Frame {
    /// Left edge.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Width.
    pub w: f64,
    /// Height.
    pub h: f64,
}

/// What fills a shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    /// Nothing.
    None,
    /// One colour.
    Solid(Color),
    /// Grey with diagonal lines: a value that is missing, which is not zero.
    Hatch,
}

/// A line's look.
#[derive(Debug, Clone, PartialEq)]
pub struct Stroke {
    /// Colour.
    pub color: Color,
    /// Width in points; at least 0.5 prints.
    pub width: f64,
    /// Lengths of dashes and gaps in points; empty for a solid line.
    pub dash: Vec<f64>,
}

/// Which end of a text stands at its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The text begins there.
    Start,
    /// The text is centred there.
    Middle,
    /// The text ends there.
    End,
}

/// A line of text; `x, y` lie on its baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// Anchor point, across.
    pub x: f64,
    /// Baseline.
    pub y: f64,
    /// The words, unescaped.
    pub text: String,
    /// Size in points.
    pub size: f64,
    /// Bold or regular.
    pub bold: bool,
    /// Colour.
    pub color: Color,
    /// Which end stands at the point.
    pub anchor: Anchor,
    /// Degrees clockwise about the point.
    pub angle: f64,
}

/// Something drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A rectangle.
    Rect(Frame, Fill, Option<Stroke>),
    /// A line, or a polygon when closed.
    Path {
        /// Corners.
        points: Vec<[f64; 2]>,
        /// Whether the last corner joins the first.
        closed: bool,
        /// Inside.
        fill: Fill,
        /// Outline.
        stroke: Option<Stroke>,
    },
    /// A circle.
    Circle {
        /// Centre.
        at: [f64; 2],
        /// Radius.
        r: f64,
        /// Inside.
        fill: Fill,
        /// Outline.
        stroke: Option<Stroke>,
    },
    /// A line of text.
    Text(Text),
    /// A small raster, one pixel per cell, never smoothed.
    Image {
        /// Where it is drawn.
        at: Frame,
        /// Pixels across; rows follow from the length of `rgba`.
        columns: usize,
        /// Four bytes per pixel, row by row, opacity not premultiplied.
        rgba: Vec<u8>,
    },
    /// Things that belong together.
    Group(Group),
}

/// Things that belong together, with what a reader or a script may ask about them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// Shown on hover and read aloud; empty for none.
    pub tip: String,
    /// `data-*` attributes, names without the prefix (letters, digits, hyphens).
    pub data: Vec<(String, String)>,
    /// Nothing is drawn outside of it.
    pub clip: Option<Frame>,
    /// Edges snap to pixels: for cells that must show no seams.
    pub crisp: bool,
    /// The contents.
    pub items: Vec<Item>,
}

impl Scene {
    /// An empty drawing on white paper.
    pub fn new(width: f64, height: f64) -> Scene {
        Scene { width, height, ..Scene::default() }
    }

    /// Adds an item on top.
    pub fn add(&mut self, item: impl Into<Item>) {
        self.items.push(item.into());
    }

    /// Adds a straight line.
    pub fn line(&mut self, from: [f64; 2], to: [f64; 2], stroke: Stroke) {
        self.add(Item::Path {
            points: vec![from, to],
            closed: false,
            fill: Fill::None,
            stroke: Some(stroke),
        });
    }
}

impl Item {
    /// The same, `by` further right and down.
    pub fn moved(self, by: [f64; 2]) -> Item {
        let point = |[x, y]: [f64; 2]| [x + by[0], y + by[1]];
        let frame = |f: Frame| Frame { x: f.x + by[0], y: f.y + by[1], ..f };
        match self {
            Item::Rect(at, fill, stroke) => Item::Rect(frame(at), fill, stroke),
            Item::Path { points, closed, fill, stroke } => {
                Item::Path { points: points.into_iter().map(point).collect(), closed, fill, stroke }
            }
            Item::Circle { at, r, fill, stroke } => Item::Circle { at: point(at), r, fill, stroke },
            Item::Text(text) => Item::Text(Text { x: text.x + by[0], y: text.y + by[1], ..text }),
            Item::Image { at, columns, rgba } => Item::Image { at: frame(at), columns, rgba },
            Item::Group(group) => {
                let items = group.items.into_iter().map(|item| item.moved(by)).collect();
                Item::Group(Group { clip: group.clip.map(frame), items, ..group })
            }
        }
    }
}

impl Frame {
    /// From left, top, width and height.
    pub fn new(x: f64, y: f64, w: f64, h: f64) -> Frame {
        Frame { x, y, w, h }
    }

    /// Right edge.
    pub fn right(&self) -> f64 {
        self.x + self.w
    }

    /// Bottom edge.
    pub fn bottom(&self) -> f64 {
        self.y + self.h
    }

    /// Whether two frames share any area.
    pub fn meets(&self, other: &Frame) -> bool {
        self.x < other.right() && other.x < self.right() && self.y < other.bottom() && other.y < self.bottom()
    }
}

impl Stroke {
    /// A solid line.
    pub fn solid(color: Color, width: f64) -> Stroke {
        Stroke { color, width, dash: Vec::new() }
    }

    /// A dashed line; the dashes grow with its width.
    pub fn dashed(color: Color, width: f64) -> Stroke {
        Stroke { color, width, dash: vec![2.8 * width, 1.8 * width] }
    }
}

impl Text {
    /// Dark regular text that begins at `x` and stands on the baseline `y`.
    pub fn new(x: f64, y: f64, text: impl Into<String>, size: f64) -> Text {
        Text { x, y, text: text.into(), size, bold: false, color: INK, anchor: Anchor::Start, angle: 0.0 }
    }

    /// Centred about the line `y` instead of standing on it.
    pub fn middle(mut self) -> Text {
        let drop = self.size * font::CAP / 2.0;
        let (sin, cos) = self.angle.to_radians().sin_cos();
        self.x -= drop * sin;
        self.y += drop * cos;
        self
    }

    /// Another end at the point.
    pub fn anchor(self, anchor: Anchor) -> Text {
        Text { anchor, ..self }
    }

    /// Turned clockwise by `angle` degrees; call before [`Text::middle`].
    pub fn turn(self, angle: f64) -> Text {
        Text { angle, ..self }
    }

    /// In another colour.
    pub fn color(self, color: Color) -> Text {
        Text { color, ..self }
    }

    /// Bold where `bold` holds.
    pub fn bold(self, bold: bool) -> Text {
        Text { bold, ..self }
    }

    /// Width in points, along the text.
    pub fn width(&self) -> f64 {
        font::width(&self.text, self.size, self.bold)
    }
}

impl From<Text> for Item {
    fn from(text: Text) -> Item {
        Item::Text(text)
    }
}

impl From<Group> for Item {
    fn from(group: Group) -> Item {
        Item::Group(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centred_text_keeps_its_middle_when_turned() {
        let flat = Text::new(10.0, 10.0, "x", 10.0).middle();
        let up = Text::new(10.0, 10.0, "x", 10.0).turn(-90.0).middle();
        assert!((flat.y - 13.645).abs() < 1e-9 && flat.x == 10.0);
        assert!((up.x - 13.645).abs() < 1e-9 && (up.y - 10.0).abs() < 1e-9);
    }
}
