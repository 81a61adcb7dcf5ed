//! Names of colours and lines above or beside a plot, in as many rows as they need.

use crate::figure::color::Color;
use crate::figure::font;
use crate::figure::lines::{Line, Look, Part};
use crate::figure::marker::Marker;
use crate::figure::scene::{Fill, Frame, Item, Scene, Text};
use crate::figure::style::Style;

/// Space between entries, and from row to row, for type of 7 points.
const GAP: f64 = 10.0;

/// What stands before a name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sign {
    /// A filled box: bars, areas.
    Box(Color),
    /// A line with its marker.
    Line(Look),
    /// A point.
    Point(Marker, Color),
}

/// A name, already visible text, and its look.
pub struct Entry {
    /// What stands before it.
    pub sign: Sign,
    /// The name; shortened where it is too long.
    pub name: String,
    /// Numbers after the name, which are not shortened; may be empty.
    pub numbers: String,
}

/// All names with their signs.
pub struct Legend<'a> {
    entries: Vec<(Sign, String)>,
    style: &'a Style,
    width: f64,
}

impl Entry {
    /// A name alone.
    pub fn named(sign: Sign, name: &str) -> Entry {
        Entry { sign, name: font::visible(name), numbers: String::new() }
    }
}

impl<'a> Legend<'a> {
    /// Names within `width` points; none for a single one without numbers: there is nothing to tell apart.
    pub fn new(entries: Vec<Entry>, style: &'a Style, width: f64) -> Legend<'a> {
        let told = entries.len() > 1 || entries.iter().any(|entry| !entry.numbers.is_empty());
        let words = |entry: Entry| {
            let joint = if entry.name.is_empty() || entry.numbers.is_empty() { "" } else { ": " };
            let numbers = format!("{joint}{}", entry.numbers);
            let room = width - entry.sign.lead(style) - font::width(&numbers, style.tick, false);
            (entry.sign, format!("{}{numbers}", font::fit(&entry.name, style.tick, false, room)))
        };
        Legend { entries: entries.into_iter().filter(|_| told).map(words).collect(), style, width }
    }

    /// The names of lines, each once; what is compared with comes last, as its band.
    pub fn of<'l>(lines: impl Iterator<Item = &'l Line>, style: &'a Style, width: f64) -> Legend<'a> {
        let mut lines: Vec<&Line> = lines.filter(|line| !line.name.is_empty()).collect();
        lines.sort_by_key(|line| line.look.part == Part::Ground);
        let mut entries: Vec<Entry> = Vec::new();
        for line in lines {
            if !entries.iter().any(|known| known.name == line.name && known.numbers == line.numbers) {
                let ground = line.look.part == Part::Ground;
                let sign =
                    if ground { Sign::Box(line.look.color.alpha(0.45)) } else { Sign::Line(line.look) };
                entries.push(Entry { sign, name: line.name.clone(), numbers: line.numbers.clone() });
            }
        }
        Legend::new(entries, style, width)
    }

    /// Height that it takes above a plot; a small margin when it is empty.
    pub fn height(&self) -> f64 {
        self.style.space(self.places().last().map_or(4.0, |[_, row]| (row + 1.0) * GAP + 6.0))
    }

    /// Width of its widest entry.
    pub fn widest(&self) -> f64 {
        self.entries.iter().map(|entry| self.wide(entry)).fold(0.0, f64::max)
    }

    /// Draws it with its top left corner at `x, y`.
    pub fn draw(&self, scene: &mut Scene, x: f64, y: f64) {
        let (style, unit) = (self.style, self.style.space(1.0));
        for ((sign, words), [dx, row]) in self.entries.iter().zip(self.places()) {
            let (left, middle) = (x + dx, y + (6.0 + row * GAP) * unit);
            match sign {
                Sign::Box(color) => {
                    let frame = Frame::new(left + 2.0 * unit, middle - 2.5 * unit, 9.0 * unit, 5.0 * unit);
                    scene.add(Item::Rect(frame, Fill::Solid(*color), None));
                }
                Sign::Line(look) => {
                    scene.line([left, middle], [left + 15.0 * unit, middle], look.stroke(style));
                    if look.is_marked() {
                        scene.add(look.mark([left + 7.5 * unit, middle], style.dot()));
                    }
                }
                Sign::Point(marker, color) => {
                    scene.add(marker.item([left + 8.0 * unit, middle], style.dot(), *color));
                }
            }
            let text = Text::new(left + sign.lead(style), middle, words.clone(), style.tick);
            scene.add(text.middle());
        }
    }

    fn wide(&self, (sign, words): &(Sign, String)) -> f64 {
        sign.lead(self.style) + font::width(words, self.style.tick, false)
    }

    /// Where each entry begins, and in which row.
    fn places(&self) -> Vec<[f64; 2]> {
        let (mut x, mut row) = (0.0, 0.0);
        let place = |entry: &(Sign, String)| {
            let wide = self.wide(entry);
            if x > 0.0 && x + wide > self.width {
                (x, row) = (0.0, row + 1.0);
            }
            let at = [x, row];
            x += wide + self.style.space(GAP);
            at
        };
        self.entries.iter().map(place).collect()
    }
}

impl Sign {
    /// Room for it before a name.
    fn lead(&self, style: &Style) -> f64 {
        style.space(if matches!(self, Sign::Line(_)) { 19.0 } else { 16.0 })
    }
}
