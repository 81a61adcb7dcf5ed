//! Lines in a plot: what is dashed behind them, their bands, their points, and words where they leave room.

use super::{Line, Look, Point};
use crate::error::Result;
use crate::figure::across::Across;
use crate::figure::axes::{self, Axis, Mark, Shape};
use crate::figure::color::{FAINT, WHITE};
use crate::figure::font;
use crate::figure::scene::{Fill, Frame, Group, Item, Scene, Stroke, Text};
use crate::figure::style::Style;
use crate::figure::view::Reference;

/// Every point of a line of at most so many is marked.
const FEW: usize = 16;
/// Markers on longer lines stand at least so many points apart.
const SPACED: f64 = 5.0;
/// Markers on lines of more points than this only tell several lines apart, and are fewer.
const MANY: usize = 40;
/// How much more a line is in the way of words than the edge of a band.
const ON_A_LINE: usize = 10_000;
/// The same of a dashed level, which would strike all of the words through.
const ON_A_LEVEL: usize = 50 * ON_A_LINE;

/// Axes and the frame they span.
#[derive(Clone, Copy)]
pub struct Plot<'a> {
    /// The plotting area.
    pub frame: Frame,
    /// Across.
    pub x: &'a Across,
    /// Up.
    pub y: &'a Axis,
    /// Sizes.
    pub style: &'a Style,
    /// Whether ticks across are named: the lowest of several is.
    pub ticked: bool,
}

impl Plot<'_> {
    /// Where a point is drawn.
    pub fn at(&self, x: f64, y: f64) -> [f64; 2] {
        let frame = self.frame;
        [self.x.place(x, frame), self.y.place(y, frame.bottom(), frame.y)]
    }

    /// Draws it all; `upright` is a place across with its name.
    pub fn draw(
        &self,
        scene: &mut Scene,
        lines: &[Line],
        references: &[Reference],
        upright: Option<(f64, &str)>,
    ) -> Result<()> {
        let axis = self.x.axis(self.ticked);
        let upright = upright.map(|(at, name)| (self.x.at(at), name));
        let upright = upright.filter(|(at, _)| axis.range[0] < *at && *at < axis.range[1]);
        let inside = |r: &&Reference| (self.y.range[0]..=self.y.range[1]).contains(&r.at);
        let references: Vec<&Reference> = references.iter().filter(inside).collect();
        let dashed = |points: [[f64; 2]; 2]| -> Mark {
            Shape::Line { points: points.to_vec(), color: FAINT, width: self.style.thin(), dash: true }.into()
        };
        let across = references.iter().map(|r| dashed(axis.range.map(|x| [x, r.at])));
        let marks: Vec<Mark> =
            across.chain(upright.map(|(at, _)| dashed(self.y.range.map(|y| [at, y])))).collect();
        axes::plot(scene, self.style, self.frame, &axis, self.y, &marks)?;
        self.x.finish(scene, self.style, self.frame, self.ticked);
        self.lines(scene, lines);
        if !lines.iter().flat_map(|line| &line.points).any(|p| p.y.is_finite()) {
            axes::nothing(scene, self.style, self.frame);
        }

        let frame = self.frame;
        let mut taken: Vec<(Frame, usize)> = lines.iter().flat_map(|line| self.taken(&line.points)).collect();
        let level = |r: &&Reference| {
            let [_, at] = self.at(0.0, r.at);
            (Frame::new(frame.x, at - 0.5, frame.w, 1.0), ON_A_LEVEL)
        };
        taken.extend(references.iter().map(level));
        for reference in references {
            let [_, at] = self.at(0.0, reference.at);
            self.write(scene, &mut taken, &reference.name, |w, h| {
                // at the right, at the left, else anywhere between
                let free = frame.w - w - 5.0;
                let parts = [1.0, 0.0].into_iter().chain((1..12).map(|k| f64::from(k) / 12.0));
                let lefts = parts.map(|part| frame.x + 3.0 + part * free);
                lefts.flat_map(|x| [at - h - 1.2, at + 1.5].map(|y| [x, y])).collect()
            });
        }
        if let Some((at, name)) = upright {
            let at = axis.place(at, frame.x, frame.right());
            self.write(scene, &mut taken, name, |w, h| {
                let tops = [frame.bottom() - h - 2.0, frame.y + 2.0];
                tops.map(|y| [at + 2.0, at - w - 2.0].map(|x| [x, y])).concat()
            });
        }
        Ok(())
    }

    /// Bands of all lines, then the lines, then their markers; what lies outside is cut off.
    fn lines(&self, scene: &mut Scene, lines: &[Line]) {
        let style = self.style;
        let (mut bands, mut strokes, mut markers) = (Vec::new(), Vec::new(), Vec::new());
        for Line { name, points, look, .. } in lines {
            self.bands(&mut bands, points, *look);
            for run in self.runs(points, |p| p.y.is_finite()) {
                let points = run.iter().map(|p| self.at(p.x, p.y)).collect();
                let stroke = Some(look.stroke(style));
                strokes.push(Item::Path { points, closed: false, fill: Fill::None, stroke });
            }
            // a lone point has no line to show it
            let radius = style.line * if points.len() == 1 { 1.8 } else { look.weight().2 };
            let spaced = match points.len() {
                few if few <= FEW => 0.0,
                some if some <= MANY => style.space(SPACED),
                _ if lines.len() > 1 => style.space(3.0 * SPACED),
                _ => f64::INFINITY,
            };
            let many = points.len() > MANY;
            let mut last = f64::MIN;
            for point in points.iter().filter(|p| radius > 0.0 && self.holds(p)) {
                let at = self.at(point.x, point.y);
                if at[0] >= last + spaced || !many && at[0] == last || self.x.is_apart(point.x) {
                    last = at[0];
                    let tip = format!("{name} {}", point.tip).trim().to_owned();
                    markers
                        .push(Group { tip, items: vec![look.mark(at, radius)], ..Group::default() }.into());
                }
            }
        }
        // half of a line along the edge is drawn outside
        let Frame { x, y, w, h } = self.frame;
        let clip = Frame::new(x - style.line, y - style.line, w + 2.0 * style.line, h + 2.0 * style.line);
        bands.extend(strokes);
        scene.add(Group { clip: Some(clip), items: bands, ..Group::default() });
        scene.items.extend(markers);
    }

    fn holds(&self, point: &Point) -> bool {
        let within = |v: f64, [lo, hi]: [f64; 2]| lo <= v && v <= hi;
        within(self.x.at(point.x), self.x.axis.range) && within(point.y, self.y.range)
    }

    /// Areas between the ends of intervals; a whisker where a point stands alone.
    fn bands(&self, items: &mut Vec<Item>, points: &[Point], look: Look) {
        let whole = |p: &Point| p.band.iter().all(|v| v.is_finite());
        for run in self.runs(points, whole) {
            let there = run.iter().map(|p| self.at(p.x, p.band[0]));
            let back = run.iter().rev().map(|p| self.at(p.x, p.band[1]));
            let fill = Fill::Solid(look.band());
            items.push(Item::Path { points: there.chain(back).collect(), closed: true, fill, stroke: None });
        }
        for (i, point) in points.iter().enumerate().filter(|(_, p)| whole(p)) {
            let apart = self.x.is_apart(point.x);
            let near = [i.checked_sub(1), Some(i + 1)].into_iter().flatten().filter_map(|k| points.get(k));
            if apart || !near.into_iter().any(|p| whole(p) && !self.x.is_apart(p.x)) {
                let ends = point.band.map(|v| self.at(point.x, v)).to_vec();
                let stroke = Some(Stroke::solid(look.color.alpha(0.6), self.style.line));
                items.push(Item::Path { points: ends, closed: false, fill: Fill::None, stroke });
            }
        }
    }

    /// The stretches of two points and more that a line can be drawn through: none leads over the axis's break.
    fn runs<'l>(&self, points: &'l [Point], there: impl Fn(&Point) -> bool) -> Vec<&'l [Point]> {
        let stop = |p: &Point| !there(p) || self.x.is_apart(p.x) || !self.x.at(p.x).is_finite();
        points.split(stop).filter(|run| run.len() > 1).collect()
    }

    /// Writes a name at that of some spots where the least is in the way.
    fn write(
        &self,
        scene: &mut Scene,
        taken: &mut Vec<(Frame, usize)>,
        name: &str,
        spots: impl Fn(f64, f64) -> Vec<[f64; 2]>,
    ) {
        let (frame, size) = (self.frame, self.style.small);
        let name = font::fit(&font::visible(name), size, false, frame.w * 0.6);
        let wide = font::width(&name, size, false);
        let spots = spots(wide, size).into_iter().map(|[x, y]| Frame::new(x, y, wide, size));
        let inside = |f: &Frame| {
            f.y >= frame.y && f.bottom() <= frame.bottom() && f.x >= frame.x && f.right() <= frame.right()
        };
        let crowd =
            |f: &Frame| taken.iter().filter(|(t, _)| t.meets(f)).map(|(_, weight)| weight).sum::<usize>();
        let best = spots.filter(inside).min_by_key(crowd).filter(|_| !name.is_empty());
        let Some(spot) = best else { return };
        if crowd(&spot) >= ON_A_LINE {
            // no room without lines: they show faintly behind the words
            scene.add(Item::Rect(spot, Fill::Solid(WHITE.alpha(0.7)), None));
        }
        scene.add(Text::new(spot.x, spot.y + size / 2.0, name, size).color(FAINT).middle());
        taken.push((spot, 100 * ON_A_LINE));
    }

    /// Little boxes along a line, and along the ends of its band, which are less in the way.
    fn taken(&self, points: &[Point]) -> Vec<(Frame, usize)> {
        let along = |value: fn(&Point) -> f64, weight: usize| {
            let finite = points.iter().filter(move |p| value(p).is_finite());
            let places: Vec<[f64; 2]> = finite.map(|p| self.at(p.x, value(p))).collect();
            let between = places.windows(2).flat_map(|w| {
                let steps = ((w[1][0] - w[0][0]).hypot(w[1][1] - w[0][1]) / 4.0).clamp(1.0, 400.0) as usize;
                (0..=steps).map(move |i| {
                    let t = i as f64 / steps as f64;
                    [0, 1].map(|k| w[0][k] + t * (w[1][k] - w[0][k]))
                })
            });
            let all = between.chain(places.iter().copied());
            all.map(|[x, y]| (Frame::new(x - 3.0, y - 2.0, 6.0, 4.0), weight)).collect::<Vec<_>>()
        };
        [along(|p| p.y, ON_A_LINE), along(|p| p.band[0], 1), along(|p| p.band[1], 1)].concat()
    }
}
