//! One plot of a stack: its lines, and words where lines leave room.

use super::{Look, Pane, Part};
use crate::error::Result;
use crate::figure::axes::{self, Axis, Mark, Shape};
use crate::figure::color::{FAINT, WHITE};
use crate::figure::font;
use crate::figure::scene::{Anchor, Fill, Frame, Item, Scene, Text};
use crate::figure::style::Style;
use crate::figure::ticks;
use crate::figure::view::Reference;

/// Points are marked on lines of at most this many.
const MOST_DOTS: usize = 40;

impl Pane {
    pub fn draw(
        &self,
        scene: &mut Scene,
        style: &Style,
        frame: Frame,
        (x, y): (&Axis, &Axis),
        upright: Option<&(f64, String)>,
    ) -> Result<()> {
        let dashed = |points: [[f64; 2]; 2]| -> Mark {
            Shape::Line { points: points.to_vec(), color: FAINT, width: style.thin(), dash: true }.into()
        };
        let within = |at: f64, [lo, hi]: [f64; 2]| lo < at && at < hi;
        let references: Vec<&Reference> =
            self.references.iter().filter(|r| within(r.at, self.range)).collect();
        let upright = upright.filter(|(at, _)| within(*at, x.range));
        let mut marks: Vec<Mark> = references.iter().map(|r| dashed(x.range.map(|x| [x, r.at]))).collect();
        marks.extend(upright.map(|(at, _)| dashed(self.range.map(|y| [*at, y]))));
        marks.extend(self.marks(style));
        axes::plot(scene, style, frame, x, y, &marks)?;

        let mut taken = self.taken(frame, x, y);
        let size = style.small;
        let mut write = |name: &str, spots: &dyn Fn(f64, f64) -> Vec<Frame>| {
            let (name, h) = (font::fit(&font::visible(name), size, false, frame.w * 0.6), size);
            let inside = |f: &Frame| f.y >= frame.y && f.bottom() <= frame.bottom() && f.x >= frame.x;
            let crowd = |f: &Frame| taken.iter().filter(|t| t.meets(f)).count();
            let spots = spots(font::width(&name, size, false), h).into_iter().filter(inside);
            if let Some(spot) = spots.min_by_key(crowd).filter(|_| !name.is_empty()) {
                if crowd(&spot) > 0 {
                    // no room without lines: they show faintly behind the words
                    scene.add(Item::Rect(spot, Fill::Solid(WHITE.alpha(0.7)), None));
                }
                scene.add(Text::new(spot.x, spot.y + h / 2.0, name, size).color(FAINT).middle());
                taken.push(spot);
            }
        };
        for reference in references {
            let at = y.place(reference.at, frame.bottom(), frame.y);
            write(&reference.name, &|w, h| {
                let lefts = [frame.right() - w - 2.0, frame.x + 3.0, frame.x + (frame.w - w) / 2.0];
                lefts.iter().flat_map(|x| [at - h - 0.5, at + 1.5].map(|y| Frame::new(*x, y, w, h))).collect()
            });
        }
        if let Some((at, name)) = upright {
            let at = x.place(*at, frame.x, frame.right());
            write(name, &|w, h| {
                let tops = [frame.bottom() - h - 2.0, frame.y + 2.0];
                tops.iter().flat_map(|y| [at + 2.0, at - w - 2.0].map(|x| Frame::new(x, *y, w, h))).collect()
            });
        }
        if !self.lines.iter().any(|l| l.points.iter().any(|p| p[1].is_finite())) {
            axes::nothing(scene, style, frame);
        }
        self.name(scene, style, frame);
        Ok(())
    }

    /// The words along the value axis, kept beside their own plot where they are longer than it is tall.
    fn name(&self, scene: &mut Scene, style: &Style, frame: Frame) {
        let room = frame.h + style.tick;
        let size =
            if font::width(&self.words, style.label, false) <= room { style.label } else { style.tick };
        let words = font::fit(&self.words, size, false, scene.height - 2.0);
        let half = font::width(&words, size, false) / 2.0;
        let middle = frame.y + frame.h / 2.0;
        let [least, most] = [half + 1.0, scene.height - half - 1.0];
        // a plot above has room above it, a strip below it
        let middle = if frame.bottom() > 0.75 * scene.height {
            middle.max(frame.y - style.tick / 2.0 + half)
        } else {
            middle.min(frame.bottom() + style.tick / 2.0 - half)
        };
        let text = Text::new(style.label, middle.min(most).max(least), words, size);
        scene.add(text.anchor(Anchor::Middle).turn(-90.0));
    }

    /// Bands first, then lines, broken where a value is missing, then their points.
    fn marks(&self, style: &Style) -> Vec<Mark> {
        let clamp = |v: f64| v.clamp(self.range[0], self.range[1]);
        let (mut bands, mut strokes) = (Vec::new(), Vec::new());
        for line in &self.lines {
            let Look { color, dash, part } = line.look;
            let (alpha, width, dot) = match part {
                Part::Main => (0.2, 1.25, 1.8),
                Part::One => (0.2, 1.0, 1.5),
                Part::OneOfMany => (0.07, 1.0, 1.3),
                Part::Ground => (0.28, 0.7, 0.0),
            };
            let band = |run: &&[[f64; 4]]| run.len() > 1;
            for run in line.points.split(|p| !(p[2].is_finite() && p[3].is_finite())).filter(band) {
                let points = run.iter().map(|p| [p[0], clamp(p[2]), clamp(p[3])]).collect();
                bands.push(Shape::Band { points, color: color.alpha(alpha) }.into());
            }
            for run in line.points.split(|p| !p[1].is_finite()).filter(band) {
                let points = run.iter().map(|p| [p[0], clamp(p[1])]).collect();
                strokes.push(Shape::Line { points, color, width: style.line * width, dash }.into());
            }
            // a lone point has no line to show it
            let dot = if line.points.len() == 1 { 1.8 } else { dot };
            let seen = line.points.iter().filter(|p| p[1].is_finite() && p[1] == clamp(p[1]));
            for p in seen.filter(|_| dot > 0.0 && line.points.len() <= MOST_DOTS) {
                let tip = format!("{} {}", line.name, ticks::number(p[1]));
                let shape = Shape::Dot { at: [p[0], p[1]], r: style.line * dot, color };
                strokes.push(Mark { tip, shape });
            }
        }
        bands.into_iter().chain(strokes).collect()
    }

    /// Where lines run: words keep away from there.
    fn taken(&self, frame: Frame, x: &Axis, y: &Axis) -> Vec<Frame> {
        let at = |p: &[f64; 4]| {
            let value = p[1].clamp(self.range[0], self.range[1]);
            [x.place(p[0], frame.x, frame.right()), y.place(value, frame.bottom(), frame.y)]
        };
        let mut taken = Vec::new();
        for line in &self.lines {
            let finite: Vec<[f64; 2]> = line.points.iter().filter(|p| p[1].is_finite()).map(at).collect();
            for pair in finite.windows(2) {
                taken.extend((0..=8).map(|k| {
                    let t = f64::from(k) / 8.0;
                    let mix = |i: usize| pair[0][i] + t * (pair[1][i] - pair[0][i]);
                    Frame::new(mix(0) - 2.0, mix(1) - 2.0, 4.0, 4.0)
                }));
            }
        }
        taken
    }
}
