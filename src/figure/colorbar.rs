//! The key to a colour map: a bar with round ticks, its label, and pointed ends where values are clipped.

use crate::figure::color::{FAINT, Scale};
use crate::figure::font;
use crate::figure::scene::{Anchor, Fill, Frame, Group, Item, Scene, Stroke, Text};
use crate::figure::style::Style;
use crate::figure::ticks;
use crate::figure::words::Words;

/// Thickness of the bar at 7-point ticks: 0.08 inch.
const THICK: f64 = 5.76;
/// Colour steps drawn.
const STEPS: usize = 256;

/// A bar to be drawn.
pub struct Bar<'a> {
    style: Style,
    scale: &'a Scale,
    words: Words,
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
        Bar { style: *style, scale, words: Words::new(style, label, room), upright, length }
    }

    /// Its length, pointed ends included.
    pub fn length(&self) -> f64 {
        self.length
    }

    /// Thickness of the bar.
    fn thick(&self) -> f64 {
        self.style.space(THICK)
    }

    /// Between bar, tick labels and label.
    fn gap(&self) -> f64 {
        self.style.space(3.0)
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        if self.scale.empty {
            return Vec::new();
        }
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
        let words = self.words.depth();
        self.thick() + self.gap() + beside + words + if words > 0.0 { self.gap() } else { 0.0 }
    }

    /// Draws it with its top left corner at `x, y`.
    pub fn draw(&self, scene: &mut Scene, x: f64, y: f64) {
        let style = &self.style;
        let (thick, rule) = (self.thick(), Stroke::solid(FAINT, style.rule));
        let ends = self.scale.clipped.map(|clipped| if clipped { style.space(4.0) } else { 0.0 });
        let inner = self.length - ends[0] - ends[1];
        // Along the bar, 0 is the low end.
        let place = |along: f64, across: f64| match self.upright {
            true => [x + across, y + self.length - along],
            false => [x + along, y + across],
        };
        let quad =
            |from: f64, to: f64| vec![place(from, 0.0), place(to, 0.0), place(to, thick), place(from, thick)];
        let shade = |i: usize| {
            let color = self.scale.map.at((i as f64 + 0.5) / STEPS as f64);
            [color.r, color.g, color.b, 255]
        };
        let (at, columns, rgba) = match self.upright {
            true => (Frame::new(x, y + ends[1], thick, inner), 1, (0..STEPS).rev().flat_map(shade).collect()),
            false => (Frame::new(x + ends[0], y, inner, thick), STEPS, (0..STEPS).flat_map(shade).collect()),
        };
        let mut items = vec![Item::Image { at, columns, rgba }];
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
        scene.add(Group { tip: self.words.text(), data, items, ..Group::default() });
        let first = self.depth() - self.words.depth();
        match self.upright {
            true => self.words.beside(scene, x + first, y + self.length / 2.0),
            false => self.words.below(scene, x + self.length / 2.0, y + first),
        }
    }
}
