//! Lines of groups: colour, marker and dashes together, so that none of them must be seen to tell them apart.

use crate::figure::axes::Axis;
use crate::figure::color::{CATEGORICAL, Color, FAINT, WHITE};
use crate::figure::font;
use crate::figure::marker::Marker;
use crate::figure::scene::{Fill, Frame, Group, Item, Scene, Stroke, Text};
use crate::figure::style::Style;

/// Room for the sign before a name.
const LEAD: f64 = 19.0;
/// Markers on a line stand at least so many points apart.
const SPACED: f64 = 5.0;

/// A point of a line, in the coordinates of its axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Across.
    pub x: f64,
    /// Up; not finite where there is none.
    pub y: f64,
    /// The interval's ends; not finite where there is none.
    pub band: [f64; 2],
    /// Beyond a break of the axis: no line leads there.
    pub apart: bool,
    /// Shown on hover.
    pub tip: String,
}

/// How the lines of a group look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Colour of lines, markers and bands.
    pub color: Color,
    /// Dashes, for type of 7 points.
    pub dash: &'static [f64],
    marker: Marker,
}

/// The look of the k-th group.
pub fn look(k: usize) -> Look {
    const DASHES: [&[f64]; 4] = [&[], &[4.0, 1.8], &[1.2, 1.4], &[5.0, 1.4, 1.2, 1.4]];
    Look { color: CATEGORICAL[k % 7], dash: DASHES[k % 4], marker: Marker::of(k) }
}

/// Axes and the frame they span.
#[derive(Clone, Copy)]
pub struct Plot<'a> {
    /// The plotting area.
    pub frame: Frame,
    /// Across.
    pub x: &'a Axis,
    /// Up.
    pub y: &'a Axis,
}

impl Plot<'_> {
    /// Where a point is drawn.
    pub fn at(&self, x: f64, y: f64) -> [f64; 2] {
        let frame = self.frame;
        [self.x.place(x, frame.x, frame.right()), self.y.place(y, frame.bottom(), frame.y)]
    }

    /// Bands of all lines, then the lines, then their markers; what lies outside is cut off.
    pub fn lines<'l>(&self, scene: &mut Scene, style: &Style, lines: impl Iterator<Item = (&'l [Point], Look)>) {
        let (mut bands, mut strokes, mut markers) = (Vec::new(), Vec::new(), Vec::new());
        for (points, look) in lines {
            self.bands(&mut bands, style, points, look);
            for run in runs(points, |p| p.y.is_finite()) {
                let points = run.iter().map(|p| self.at(p.x, p.y)).collect();
                let stroke = look.stroke(style);
                strokes.push(Item::Path { points, closed: false, fill: Fill::None, stroke: Some(stroke) });
            }
            let mut last = f64::NEG_INFINITY;
            for point in points.iter().filter(|p| p.y.is_finite() && self.holds(p)) {
                let at = self.at(point.x, point.y);
                if at[0] >= last + style.space(SPACED) || at[0] == last || point.apart {
                    last = at[0];
                    let items = vec![look.mark(at, style.dot())];
                    markers.push(Group { tip: point.tip.clone(), items, ..Group::default() }.into());
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
        (self.x.range[0]..=self.x.range[1]).contains(&point.x) && (self.y.range[0]..=self.y.range[1]).contains(&point.y)
    }

    /// Areas between the ends of intervals; a whisker where a point stands alone.
    fn bands(&self, items: &mut Vec<Item>, style: &Style, points: &[Point], look: Look) {
        let whole = |p: &Point| p.band.iter().all(|v| v.is_finite());
        for run in runs(points, whole) {
            let there = run.iter().map(|p| self.at(p.x, p.band[0]));
            let back = run.iter().rev().map(|p| self.at(p.x, p.band[1]));
            let fill = Fill::Solid(look.color.alpha(0.18));
            items.push(Item::Path { points: there.chain(back).collect(), closed: true, fill, stroke: None });
        }
        for (i, point) in points.iter().enumerate().filter(|(_, p)| whole(p)) {
            let joined = |k: Option<usize>| k.and_then(|k| points.get(k)).is_some_and(|p| whole(p) && !p.apart);
            if point.apart || !(joined(i.checked_sub(1)) || joined(Some(i + 1))) {
                let ends = point.band.map(|v| self.at(point.x, v)).to_vec();
                let stroke = Some(Stroke::solid(look.color.alpha(0.6), style.line));
                items.push(Item::Path { points: ends, closed: false, fill: Fill::None, stroke });
            }
        }
    }

    /// Writes the name of a dashed line at the end and on the side of it where the fewest points lie.
    pub fn name<'l>(
        &self,
        scene: &mut Scene,
        style: &Style,
        (at, name): (f64, &str),
        lines: impl Iterator<Item = &'l [Point]>,
    ) {
        let name = font::fit(&font::visible(name), style.small, false, self.frame.w);
        let text = Text::new(0.0, 0.0, name, style.small).color(FAINT);
        let (wide, high) = (text.width(), style.small);
        let y = self.at(0.0, at)[1];
        let spots = [(true, false), (false, true), (false, false), (true, true)].map(|(right, above)| {
            let x = if right { self.frame.right() - wide - 2.0 } else { self.frame.x + 3.0 };
            Frame::new(x, if above { y - high - 0.5 } else { y + 1.5 }, wide, high)
        });
        let near: Vec<Frame> = lines.flat_map(|points| self.stretches(points)).collect();
        let crowd = |spot: &Frame| {
            let outside = spot.y < self.frame.y || spot.bottom() > self.frame.bottom();
            near.iter().filter(|near| near.meets(spot)).count() + if outside { 10_000 } else { 0 }
        };
        if let Some(spot) = spots.into_iter().min_by_key(crowd).filter(|_| !text.text.is_empty()) {
            let y = spot.y + high * font::CAP + 0.6;
            scene.add(Text { x: spot.x, y, ..text });
        }
    }

    /// Little boxes along a line.
    fn stretches(&self, points: &[Point]) -> Vec<Frame> {
        let places: Vec<[f64; 2]> = points.iter().filter(|p| p.y.is_finite()).map(|p| self.at(p.x, p.y)).collect();
        let around = |[x, y]: [f64; 2]| Frame::new(x - 3.0, y - 2.0, 6.0, 4.0);
        let between = places.windows(2).flat_map(|w| {
            let steps = ((w[1][0] - w[0][0]).hypot(w[1][1] - w[0][1]) / 4.0).clamp(1.0, 400.0) as usize;
            (0..=steps).map(move |i| {
                let t = i as f64 / steps as f64;
                [0, 1].map(|k| w[0][k] + t * (w[1][k] - w[0][k]))
            })
        });
        places.iter().copied().chain(between).map(around).collect()
    }
}

/// The stretches of two points and more that a line can be drawn through.
fn runs(points: &[Point], there: impl Fn(&Point) -> bool) -> Vec<&[Point]> {
    points.split(|p| p.apart || !there(p)).filter(|run| run.len() > 1).collect()
}

impl Look {
    /// The line's stroke.
    pub fn stroke(&self, style: &Style) -> Stroke {
        let dash = self.dash.iter().map(|d| style.space(*d)).collect();
        Stroke { color: self.color, width: style.line, dash }
    }

    /// The marker about a point.
    pub fn mark(&self, [x, y]: [f64; 2], r: f64) -> Item {
        let (fill, stroke) = (Fill::Solid(self.color), None);
        match self.marker.corners(r) {
            None => Item::Circle { at: [x, y], r, fill, stroke },
            Some(corners) => {
                let points = corners.iter().map(|[dx, dy]| [x + dx, y + dy]).collect();
                Item::Path { points, closed: true, fill, stroke }
            }
        }
    }

    /// The colour for letters: darker where the line's own is too pale to be read.
    pub fn ink(&self) -> Color {
        let mut color = self.color;
        while color.contrast(WHITE) < 4.5 {
            let darker = |v: u8| (f64::from(v) * 0.93) as u8;
            color = Color { r: darker(color.r), g: darker(color.g), b: darker(color.b), a: color.a };
        }
        color
    }
}

/// The name of a group in a legend or over a panel; a name of nothing but spaces is shown as a token is.
pub fn named(name: &str) -> String {
    if name.trim().is_empty() { font::token(name) } else { font::visible(name) }
}

/// An entry of a legend: a look, a name and numbers after it. Names are shortened, numbers are not.
pub struct Entry {
    /// How the line looks.
    pub look: Look,
    /// Its name, visible text.
    pub name: String,
    /// What follows the name; may be empty.
    pub numbers: String,
}

/// Names of lines with their looks, in as many rows as they need.
pub struct Legend<'a> {
    entries: Vec<(Look, String)>,
    style: &'a Style,
    width: f64,
}

impl<'a> Legend<'a> {
    /// Names within `width` points.
    pub fn new(entries: Vec<Entry>, style: &'a Style, width: f64) -> Legend<'a> {
        let words = |entry: Entry| {
            let joint = if entry.name.is_empty() || entry.numbers.is_empty() { "" } else { ": " };
            let numbers = format!("{joint}{}", entry.numbers);
            let room = width - style.space(LEAD) - font::width(&numbers, style.tick, false);
            (entry.look, format!("{}{numbers}", font::fit(&entry.name, style.tick, false, room)))
        };
        Legend { entries: entries.into_iter().map(words).collect(), style, width }
    }

    /// Its height.
    pub fn height(&self) -> f64 {
        self.places().last().map_or(0.0, |[_, y]| y + 0.9 * self.style.tick)
    }

    /// Width of its widest entry.
    pub fn widest(&self) -> f64 {
        self.entries.iter().map(|(_, words)| self.wide(words)).fold(0.0, f64::max)
    }

    /// Draws it with its top left corner at `x, y`.
    pub fn draw(&self, scene: &mut Scene, x: f64, y: f64) {
        let style = self.style;
        for ((look, words), [dx, dy]) in self.entries.iter().zip(self.places()) {
            let (left, middle) = (x + dx, y + dy);
            scene.line([left, middle], [left + style.space(15.0), middle], look.stroke(style));
            scene.add(look.mark([left + style.space(7.5), middle], style.dot()));
            scene.add(Text::new(left + style.space(LEAD), middle, words.clone(), style.tick).middle());
        }
    }

    fn wide(&self, words: &str) -> f64 {
        self.style.space(LEAD) + font::width(words, self.style.tick, false)
    }

    fn places(&self) -> Vec<[f64; 2]> {
        let size = self.style.tick;
        let (mut x, mut y) = (0.0, 0.8 * size);
        let place = |(_, words): &(Look, String)| {
            let wide = self.wide(words);
            if x > 0.0 && x + wide > self.width {
                (x, y) = (0.0, y + 1.45 * size);
            }
            let at = [x, y];
            x += wide + self.style.space(10.0);
            at
        };
        self.entries.iter().map(place).collect()
    }
}
