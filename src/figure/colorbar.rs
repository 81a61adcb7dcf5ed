//! The key to a colour map: a bar with round ticks, its label, and pointed ends where values are clipped.

use crate::figure::axes::{LABEL, TICK};
use crate::figure::color::{FAINT, Scale};
use crate::figure::font;
use crate::figure::scene::{Anchor, Fill, Group, Item, Scene, Stroke, Text};
use crate::figure::ticks;

/// Thickness of the bar: 0.08 inch.
const THICK: f64 = 5.76;
/// Length of a pointed end.
const POINT: f64 = 4.0;
/// Colour steps drawn.
const STEPS: usize = 128;
/// Height of a line of the label.
const LINE: f64 = LABEL + 1.5;
/// Between bar, tick labels and label.
const GAP: f64 = 3.0;

/// A bar to be drawn.
pub struct Bar<'a> {
    scale: &'a Scale,
    lines: Vec<String>,
    upright: bool,
    length: f64,
}

impl<'a> Bar<'a> {
    /// A bar of `length` points; its label is broken into lines of at most `room` points.
    pub fn new(scale: &'a Scale, label: &str, upright: bool, length: f64, room: f64) -> Bar<'a> {
        Bar { scale, lines: wrap(label, room), upright, length }
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        let wanted = if self.upright {
            (self.length / 22.0).clamp(2.0, 6.0)
        } else {
            (self.length / 32.0).clamp(2.0, 6.0)
        };
        let values = ticks::nice(self.scale.lo, self.scale.hi, wanted as usize);
        let labels = ticks::labels(&values);
        values.into_iter().zip(labels).collect()
    }

    /// How much room it takes across its length, labels included.
    pub fn depth(&self) -> f64 {
        let ticks = self.ticks();
        let widest = font::widest(ticks.iter().map(|(_, text)| text.as_str()), TICK, false);
        let beside = if self.upright { widest } else { TICK * font::CAP };
        THICK + GAP + beside + self.lines.len() as f64 * LINE + if self.lines.is_empty() { 0.0 } else { GAP }
    }

    /// Draws it with its top left corner at `x, y`.
    pub fn draw(&self, scene: &mut Scene, x: f64, y: f64) {
        let ends = self.scale.clipped.map(|clipped| if clipped { POINT } else { 0.0 });
        let inner = self.length - ends[0] - ends[1];
        // Along the bar, 0 is the low end; every step reaches on to the high end, so that no seam shows.
        let place = |along: f64, across: f64| match self.upright {
            true => [x + across, y + self.length - along],
            false => [x + along, y + across],
        };
        let quad =
            |from: f64, to: f64| vec![place(from, 0.0), place(to, 0.0), place(to, THICK), place(from, THICK)];
        let mut items = Vec::new();
        for i in 0..STEPS {
            let color = self.scale.map.at((i as f64 + 0.5) / STEPS as f64);
            let from = ends[0] + inner * i as f64 / STEPS as f64;
            let points = quad(from, ends[0] + inner);
            items.push(Item::Path { points, closed: true, fill: Fill::Solid(color), stroke: None });
        }
        for (end, at, tip, t) in [(ends[0], ends[0], 0.0, 0.0), (ends[1], ends[0] + inner, self.length, 1.0)]
        {
            if end > 0.0 {
                let points = vec![place(at, 0.0), place(tip, THICK / 2.0), place(at, THICK)];
                let fill = Fill::Solid(self.scale.map.at(t));
                items.push(Item::Path {
                    points,
                    closed: true,
                    fill,
                    stroke: Some(Stroke::solid(FAINT, 0.5)),
                });
            }
        }
        let points = quad(ends[0], ends[0] + inner);
        items.push(Item::Path {
            points,
            closed: true,
            fill: Fill::None,
            stroke: Some(Stroke::solid(FAINT, 0.5)),
        });
        for (value, text) in self.ticks() {
            let along = ends[0] + inner * (value - self.scale.lo) / (self.scale.hi - self.scale.lo);
            let mark = vec![place(along, THICK), place(along, THICK + 1.5)];
            items.push(Item::Path {
                points: mark,
                closed: false,
                fill: Fill::None,
                stroke: Some(Stroke::solid(FAINT, 0.5)),
            });
            let [tx, ty] = place(along, THICK + GAP);
            items.push(match self.upright {
                true => Text::new(tx, ty, text, TICK).middle().into(),
                false => Text::new(tx, ty + TICK * font::CAP, text, TICK).anchor(Anchor::Middle).into(),
            });
        }
        let data = vec![("part".into(), "colorbar".into())];
        scene.add(Group { tip: self.lines.join(" "), data, items, ..Group::default() });
        let first = self.depth() - self.lines.len() as f64 * LINE + LABEL - 1.0;
        for (i, line) in self.lines.iter().enumerate() {
            let off = first + i as f64 * LINE;
            let half = font::width(line, LABEL, false) / 2.0 + 1.0;
            // Centred on the bar where the paper is long enough, else moved inside.
            let inside = |middle: f64, paper: f64| middle.min(paper - half).max(half);
            let text = Text::new(0.0, 0.0, line.clone(), LABEL).anchor(Anchor::Middle);
            scene.add(match self.upright {
                true => {
                    Text { x: x + off, y: inside(y + self.length / 2.0, scene.height), angle: -90.0, ..text }
                }
                false => Text { x: inside(x + self.length / 2.0, scene.width), y: y + off, ..text },
            });
        }
    }
}

/// Breaks text into lines of at most `room` points at spaces; no-break spaces hold words together.
fn wrap(text: &str, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()).map(font::visible) {
        match lines.last_mut() {
            Some(line) if font::width(&format!("{line} {word}"), LABEL, false) <= room => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines.truncate(4);
    lines.iter().map(|line| font::fit(line, LABEL, false, room.max(20.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_labels_are_broken_at_spaces() {
        let lines = wrap("share of the logit difference restored (blue = positive)", 100.0);
        assert!(lines.len() > 1 && lines.iter().all(|l| font::width(l, LABEL, false) <= 100.0));
        assert!(wrap("", 50.0).is_empty());
    }
}
