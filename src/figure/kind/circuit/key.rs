//! What the lines and colours of a circuit mean, in rows below it.

use super::ink::{self, Look, Scale};
use super::layout::Layout;
use super::name::{Channel, Part};
use super::read::Circuit;
use crate::figure::color::{Color, INK};
use crate::figure::font;
use crate::figure::scene::{Anchor, Fill, Frame, Item, Scene, Stroke, Text};
use crate::figure::style::Style;
use crate::figure::ticks;

/// What stands before a word.
enum Sign {
    /// A line without an end.
    Line(Look),
    /// A line with its end.
    Edge(Look),
    /// A role: its colour, the initials inside.
    Role(Color, String),
    /// Nothing: the word is a heading.
    None,
}

/// The finished key.
pub struct Key {
    /// Sign, word, and where it begins.
    entries: Vec<(Sign, String, [f64; 2])>,
    /// Its height.
    pub height: f64,
    size: f64,
    unit: f64,
}

impl Key {
    /// The key of a circuit, in `width` points.
    pub fn new(circuit: &Circuit, layout: &Layout, style: &Style, words: &str, width: f64) -> Key {
        let unit = style.space(1.0);
        let mut key = Key { entries: Vec::new(), height: 2.0 * unit, size: style.tick, unit };
        key.row(widths(circuit, words, unit), width);
        key.row(channels(circuit, unit), width);
        let role = |(k, role): (usize, &str)| {
            let short = layout.initials.iter().find(|(_, known)| known == role);
            let short = short.map(|(initials, _)| initials.clone()).unwrap_or_default();
            (Sign::Role(ink::tint(k), short), role.to_owned())
        };
        // roles that stand in the nodes need no key
        if !layout.initials.is_empty() {
            key.row(circuit.roles().into_iter().enumerate().map(role).collect(), width);
        }
        key
    }

    /// Adds entries from the left, in as many rows as they need.
    fn row(&mut self, entries: Vec<(Sign, String)>, width: f64) {
        let row = self.size * 1.6;
        let mut x = 0.0;
        let mut y = self.height + row / 2.0;
        if entries.is_empty() {
            return;
        }
        for (sign, word) in entries {
            let lead = self.lead(&sign);
            let word = font::fit(&word, self.size, false, width - lead);
            let wide = lead + font::width(&word, self.size, false);
            if x > 0.0 && x + wide > width {
                (x, y) = (0.0, y + row);
            }
            self.entries.push((sign, word, [x, y]));
            x += wide + 9.0 * self.unit;
        }
        self.height = y + row / 2.0;
    }

    /// Room for the sign.
    fn lead(&self, sign: &Sign) -> f64 {
        match sign {
            Sign::None => 0.0,
            Sign::Line(_) => 18.0 * self.unit,
            Sign::Edge(_) => 25.0 * self.unit,
            Sign::Role(_, short) => (font::width(short, self.size - 1.0, false) + 9.0 * self.unit).max(14.0 * self.unit),
        }
    }

    /// Draws it with its top left corner at `x, y`.
    pub fn draw(&self, scene: &mut Scene, x: f64, y: f64) {
        for (sign, word, [dx, dy]) in &self.entries {
            let (left, middle) = (x + dx, y + dy);
            let lead = self.lead(sign);
            let end = left + lead - 4.0 * self.unit;
            match sign {
                Sign::None => {}
                Sign::Line(look) | Sign::Edge(look) => {
                    let stroke = Stroke { color: look.color, width: look.width, dash: look.dash.clone() };
                    let is_edge = matches!(sign, Sign::Edge(_));
                    let stop = if is_edge { end - 2.0 * self.unit } else { end };
                    scene.line([left, middle], [stop, middle], stroke);
                    if is_edge {
                        scene.add(look.mark([end, middle], [1.0, 0.0]));
                    }
                }
                Sign::Role(color, short) => {
                    let frame = Frame::new(left, middle - self.size * 0.62, end - left, self.size * 1.24);
                    let points = ink::shape(Part::Head { layer: 0, shared: false, head: 0 }, frame);
                    let stroke = Some(Stroke::solid(INK, 0.5));
                    scene.add(Item::Path { points, closed: true, fill: Fill::Solid(*color), stroke });
                    let size = (self.size - 1.0).max(5.0);
                    let text = Text::new((left + end) / 2.0, middle, short.clone(), size);
                    scene.add(text.middle().anchor(Anchor::Middle));
                }
            }
            scene.add(Text::new(left + lead, middle, word.clone(), self.size).middle());
        }
    }
}

/// What width means, and colour and end.
fn widths(circuit: &Circuit, words: &str, unit: f64) -> Vec<(Sign, String)> {
    let scale = circuit.scale(unit);
    let largest = scale.largest;
    let sample = Scale { largest: 1.0, widest: 1.5, unit };
    let scored = |test: fn(f64) -> bool| circuit.edges.iter().any(|edge| edge.score.is_some_and(test));
    let mut entries = Vec::new();
    if largest > 0.0 {
        entries.push((Sign::None, format!("width: {words}")));
        let step = 10f64.powf(largest.log10().floor());
        // the largest, and a round number below half of it
        let half = [5.0, 2.0, 1.0, 0.5].iter().map(|lead| lead * step).find(|v| *v <= 0.5 * largest);
        for value in half.into_iter().chain([largest]) {
            let line = Look { color: INK, ..Look::of(Some(value), None, &scale) };
            entries.push((Sign::Line(line), ticks::number(value)));
        }
    }
    for (there, value, word) in
        [(scored(|v| v > 0.0), 1.0, "positive"), (scored(|v| v < 0.0), -1.0, "negative"), (scored(|v| v == 0.0), 0.0, "zero")]
    {
        if there {
            entries.push((Sign::Edge(Look::of(Some(value), None, &sample)), word.to_owned()));
        }
    }
    if circuit.edges.iter().any(|edge| edge.score.is_none()) {
        let word = if largest > 0.0 { "no score" } else { "edge (no scores)" };
        entries.push((Sign::Edge(Look::of(None, None, &sample)), word.to_owned()));
    }
    entries
}

/// What dashes and the colours of ends mean.
fn channels(circuit: &Circuit, unit: f64) -> Vec<(Sign, String)> {
    let sample = Scale { largest: 1.0, widest: 1.5, unit };
    let there = |channel: Option<Channel>| circuit.edges.iter().any(|edge| edge.channel == channel);
    let named = [Channel::Query, Channel::Key, Channel::Value].into_iter().filter(|c| there(Some(*c)));
    let sign = |channel: Option<Channel>| {
        Sign::Edge(Look { color: INK, ..Look::of(Some(1.0), channel, &sample) })
    };
    let mut entries: Vec<(Sign, String)> =
        named.map(|channel| (sign(Some(channel)), format!("into {}", channel.word()))).collect();
    if !entries.is_empty() && there(None) {
        let plain = Look { end: INK, color: INK, ..Look::of(Some(1.0), None, &sample) };
        entries.push((Sign::Edge(plain), "into MLP or logits".to_owned()));
    }
    entries
}
