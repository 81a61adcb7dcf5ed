//! The key to a colour map: a bar with round ticks, its label, and pointed ends where values are clipped.

use crate::figure::color::{FAINT, Scale};
use crate::figure::font;
use crate::figure::scene::{Anchor, Fill, Group, Item, Scene, Stroke, Text};
use crate::figure::style::Style;
use crate::figure::ticks;

/// Thickness of the bar at 7-point ticks: 0.08 inch.
const THICK: f64 = 5.76;
/// Colour steps drawn.
const STEPS: usize = 128;

/// A bar to be drawn.
pub struct Bar<'a> {
    style: Style,
    scale: &'a Scale,
    lines: Vec<String>,
    upright: bool,
    length: f64,
}

impl<'a> Bar<'a> {
    /// A bar of `length` points; its label is broken into lines of at most `room` points.
    pub fn new(
        style: &Style,
        scale: &'a Scale,
        label: &str,
        upright: bool,
        length: f64,
        room: f64,
    ) -> Bar<'a> {
        Bar { style: *style, scale, lines: wrap(label, style.label, room), upright, length }
    }

    /// Thickness of the bar.
    fn thick(&self) -> f64 {
        self.style.space(THICK)
    }

    /// Between bar, tick labels and label.
    fn gap(&self) -> f64 {
        self.style.space(3.0)
    }

    /// Height of a line of the label.
    fn line(&self) -> f64 {
        self.style.label * 1.18
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        let each = self.style.space(if self.upright { 22.0 } else { 32.0 });
        let wanted = (self.length / each).clamp(2.0, 6.0);
        let values = ticks::nice(self.scale.lo, self.scale.hi, wanted as usize);
        let labels = ticks::labels(&values);
        values.into_iter().zip(labels).collect()
    }

    /// How much room it takes across its length, labels included.
    pub fn depth(&self) -> f64 {
        let ticks = self.ticks();
        let widest = font::widest(ticks.iter().map(|(_, text)| text.as_str()), self.style.tick, false);
        let beside = if self.upright { widest } else { self.style.tick * font::CAP };
        let words = self.lines.len() as f64 * self.line();
        self.thick() + self.gap() + beside + words + if self.lines.is_empty() { 0.0 } else { self.gap() }
    }

    /// Draws it with its top left corner at `x, y`.
    pub fn draw(&self, scene: &mut Scene, x: f64, y: f64) {
        let style = &self.style;
        let (thick, rule) = (self.thick(), Stroke::solid(FAINT, style.rule));
        let ends = self.scale.clipped.map(|clipped| if clipped { style.space(4.0) } else { 0.0 });
        let inner = self.length - ends[0] - ends[1];
        // Along the bar, 0 is the low end; every step reaches on to the high end, so that no seam shows.
        let place = |along: f64, across: f64| match self.upright {
            true => [x + across, y + self.length - along],
            false => [x + along, y + across],
        };
        let quad =
            |from: f64, to: f64| vec![place(from, 0.0), place(to, 0.0), place(to, thick), place(from, thick)];
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
                let points = vec![place(at, 0.0), place(tip, thick / 2.0), place(at, thick)];
                let fill = Fill::Solid(self.scale.map.at(t));
                items.push(Item::Path { points, closed: true, fill, stroke: Some(rule.clone()) });
            }
        }
        let points = quad(ends[0], ends[0] + inner);
        items.push(Item::Path { points, closed: true, fill: Fill::None, stroke: Some(rule.clone()) });
        for (value, text) in self.ticks() {
            let along = ends[0] + inner * (value - self.scale.lo) / (self.scale.hi - self.scale.lo);
            let mark = vec![place(along, thick), place(along, thick + self.gap() / 2.0)];
            items.push(Item::Path {
                points: mark,
                closed: false,
                fill: Fill::None,
                stroke: Some(rule.clone()),
            });
            let [tx, ty] = place(along, thick + self.gap());
            items.push(match self.upright {
                true => Text::new(tx, ty, text, style.tick).middle().into(),
                false => {
                    let baseline = ty + style.tick * font::CAP;
                    Text::new(tx, baseline, text, style.tick).anchor(Anchor::Middle).into()
                }
            });
        }
        let data = vec![("part".into(), "colorbar".into())];
        scene.add(Group { tip: self.lines.join(" "), data, items, ..Group::default() });
        let first = self.depth() - self.lines.len() as f64 * self.line() + style.label * 0.88;
        for (i, line) in self.lines.iter().enumerate() {
            let off = first + i as f64 * self.line();
            let half = font::width(line, style.label, false) / 2.0 + 1.0;
            // Centred on the bar where the paper is long enough, else moved inside.
            let inside = |middle: f64, paper: f64| middle.min(paper - half).max(half);
            let text = Text::new(0.0, 0.0, line.clone(), style.label).anchor(Anchor::Middle);
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
fn wrap(text: &str, size: f64, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()).map(font::visible) {
        match lines.last_mut() {
            Some(line) if font::width(&format!("{line} {word}"), size, false) <= room => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines.truncate(4);
    lines.iter().map(|line| font::fit(line, size, false, room.max(20.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_labels_are_broken_at_spaces() {
        let lines = wrap("share of the logit difference restored (blue = positive)", 8.0, 100.0);
        assert!(lines.len() > 1 && lines.iter().all(|l| font::width(l, 8.0, false) <= 100.0));
        assert!(wrap("", 8.0, 50.0).is_empty());
    }
}
