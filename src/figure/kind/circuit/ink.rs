//! Shapes of a circuit: nodes, curves, ends of edges.

use super::layout::Label;
use super::name::{Channel, Part};
use crate::figure::color::{CATEGORICAL, Color, FAINT, INK, NEGATIVE, POSITIVE, WHITE, hex};
use crate::figure::font;
use crate::figure::scene::{Anchor, Fill, Frame, Group, Item, Stroke, Text};

/// Width of the weakest edge, for type of 7 points.
const THINNEST: f64 = 0.6;

/// Of edges whose score is 0.
const NEITHER: Color = hex(0x9a9a9a);
/// The halo of a node, for type of 7 points: wide enough to be seen, and so narrow that ends of edges seem to touch the node.
const HALO: f64 = 0.6;

/// Scores to widths.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// The largest size of a score.
    pub largest: f64,
    /// The width that stands for it, for type of 7 points.
    pub widest: f64,
    /// Points for a point of type of 7.
    pub unit: f64,
}

impl Scale {
    /// For so many edges: the strongest of a few is 4 points wide, of many less.
    pub fn new(largest: f64, edges: usize, unit: f64) -> Scale {
        let widest = 4.0 * (12.0 / edges.max(12) as f64).sqrt();
        Scale { largest, widest: widest.max(2.4), unit }
    }
}

/// How an edge looks.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Width of the line.
    pub width: f64,
    /// Colour of the line: the sign.
    pub color: Color,
    /// Colour of the end: the channel.
    pub end: Color,
    /// Dashes of the channel.
    pub dash: Vec<f64>,
    /// A bar instead of an arrowhead.
    pub bar: bool,
    /// An open arrowhead: nobody knows how much it matters.
    pub open: bool,
    /// Points for a point of type of 7.
    pub unit: f64,
}

impl Look {
    /// The look of an edge of this score beside the largest.
    pub fn of(score: Option<f64>, channel: Option<Channel>, scale: &Scale) -> Look {
        let unit = scale.unit;
        let share =
            score.map_or(0.0, |score| if scale.largest > 0.0 { score.abs() / scale.largest } else { 0.0 });
        let width = (THINNEST + (scale.widest - THINNEST) * share) * unit;
        let color = match score {
            None => FAINT,
            Some(score) if score < 0.0 => NEGATIVE,
            Some(score) if score > 0.0 => POSITIVE,
            Some(_) => NEITHER,
        };
        let long = (0.7 + 0.3 * width / unit) * unit;
        let dash: &[f64] = match channel {
            None => &[],
            Some(Channel::Query) => &[4.0, 1.6],
            Some(Channel::Key) => &[1.0, 1.4],
            Some(Channel::Value) => &[5.0, 1.3, 1.0, 1.3],
        };
        let end = channel.map_or(color, hue);
        let dash = dash.iter().map(|d| d * long).collect();
        let (bar, open) = (score.is_some_and(|score| score < 0.0), score.is_none());
        Look { width, color, end, dash, bar, open, unit }
    }

    /// Length of the arrowhead.
    pub fn head(&self) -> f64 {
        if self.bar { 3.0 * self.unit } else { 3.6 * self.unit + 0.8 * self.width }
    }

    /// Half the width of the arrowhead.
    pub fn half(&self) -> f64 {
        1.4 * self.unit + 0.62 * self.width
    }

    /// An edge along these points, upwards into the last of them.
    pub fn edge(&self, points: &[[f64; 2]], tip: String, name: String) -> Group {
        let mut points = points.to_vec();
        let end = points.last().copied().unwrap_or_default();
        let [dx, dy] = arrival(&points);
        if let Some(last) = points.last_mut() {
            *last = [end[0] - 0.8 * self.head() * dx, end[1] - 0.8 * self.head() * dy];
        }
        let stroke = Stroke { color: self.color, width: self.width, dash: self.dash.clone() };
        // drawn from its end, so that a dash and no gap meets the arrowhead
        points.reverse();
        let line =
            Item::Path { points: curve(&points), closed: false, fill: Fill::None, stroke: Some(stroke) };
        let items = std::iter::once(line).chain([self.mark(end, [dx, dy])]).collect();
        Group { tip, data: vec![("edge".into(), name)], items, ..Group::default() }
    }

    /// The end of an edge at `tip`, in a direction of length 1: an arrowhead or, of negative edges, a bar.
    pub fn mark(&self, tip: [f64; 2], [dx, dy]: [f64; 2]) -> Item {
        let (long, half) = (self.head(), self.half());
        let at = |back: f64, side: f64| [tip[0] - dx * back - dy * side, tip[1] - dy * back + dx * side];
        let points = if self.bar {
            let half = half + 1.5 * self.unit;
            vec![at(HALO * self.unit, -half), at(HALO * self.unit, half), at(long, half), at(long, -half)]
        } else {
            vec![at(HALO * self.unit, 0.0), at(long, half), at(long, -half)]
        };
        let (fill, edge) = if self.open { (WHITE, self.end) } else { (self.end, WHITE) };
        let outline = Stroke::solid(edge, if self.open { 0.7 * self.unit } else { 0.5 });
        Item::Path { points, closed: true, fill: Fill::Solid(fill), stroke: Some(outline) }
    }
}

/// The colour of a channel's end.
pub fn hue(channel: Channel) -> Color {
    match channel {
        Channel::Query => CATEGORICAL[1],
        Channel::Key => CATEGORICAL[6],
        Channel::Value => CATEGORICAL[5],
    }
}

/// The light colour of the k-th role.
pub fn tint(role: usize) -> Color {
    let color = CATEGORICAL[[3, 1, 5, 6, 2, 0, 4][role % 7]];
    let light = |v: u8| (f64::from(v) + (255.0 - f64::from(v)) * 0.68).round() as u8;
    Color { r: light(color.r), g: light(color.g), b: light(color.b), a: 1.0 }
}

/// How much of the slope of their first and last piece edges have at their ends: those of one rank leave upright, long ones on
/// their way.
const LEAN: f64 = 0.75;

/// The slope (across for each point down) at the ends of a line of pieces with these slopes.
fn lean(slope: f64, pieces: usize, high: f64) -> f64 {
    if pieces == 1 && high.abs() < 45.0 { 0.0 } else { LEAN * slope }
}

/// The direction in which an edge arrives, of length 1.
fn arrival(points: &[[f64; 2]]) -> [f64; 2] {
    let Some([a, b]) = points.last_chunk::<2>() else { return [0.0, -1.0] };
    let high = b[1] - a[1];
    let slope = lean(if high.abs() > 1e-9 { (b[0] - a[0]) / high } else { 0.0 }, points.len() - 1, high);
    let long = slope.hypot(1.0);
    [-slope / long, -1.0 / long]
}

/// A smooth line through points that rise: x as a monotone function of y (Fritsch and Carlson 1980).
fn curve(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let n = points.len();
    let slope = |i: usize| {
        let (a, b) = (points[i], points[i + 1]);
        if (b[1] - a[1]).abs() > 1e-9 { (b[0] - a[0]) / (b[1] - a[1]) } else { 0.0 }
    };
    let tangent = |i: usize| {
        if i == 0 || i + 1 == n {
            let piece = i.min(n - 2);
            return lean(slope(piece), n - 1, points[piece + 1][1] - points[piece][1]);
        }
        let (before, after) = (slope(i - 1), slope(i));
        if before * after > 0.0 { 2.0 * before * after / (before + after) } else { 0.0 }
    };
    let mut line: Vec<[f64; 2]> = points.first().copied().into_iter().collect();
    for i in 0..n.saturating_sub(1) {
        let (a, b) = (points[i], points[i + 1]);
        let (high, from, to) = (b[1] - a[1], tangent(i), tangent(i + 1));
        let straight = (from - slope(i)).abs() < 1e-3 && (to - slope(i)).abs() < 1e-3;
        let steps = if straight { 1 } else { 12 };
        for step in 1..=steps {
            let t = f64::from(step) / f64::from(steps);
            let (t2, t3) = (t * t, t * t * t);
            let x = a[0] * (2.0 * t3 - 3.0 * t2 + 1.0)
                + b[0] * (3.0 * t2 - 2.0 * t3)
                + high * (from * (t3 - 2.0 * t2 + t) + to * (t3 - t2));
            line.push([x, a[1] + high * t]);
        }
    }
    thin(&line)
}

/// Leaves out points that lie on the line between their neighbours, to a fiftieth of a point.
fn thin(line: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut kept: Vec<[f64; 2]> = Vec::new();
    for (i, point) in line.iter().enumerate() {
        let straight = kept.last().zip(line.get(i + 1)).is_some_and(|(before, after)| {
            let (dx, dy) = (after[0] - before[0], after[1] - before[1]);
            let off = (dx * (point[1] - before[1]) - dy * (point[0] - before[0])).abs();
            off <= 0.02 * dx.hypot(dy)
        });
        if !straight {
            kept.push(*point);
        }
    }
    kept
}

/// A node with its label.
pub fn node(part: Part, frame: Frame, label: &Label, fill: Color, tip: String) -> Group {
    let outline = |points: Vec<[f64; 2]>, grow: f64, color: Color, width: f64| {
        let [x, y] = [frame.x + frame.w / 2.0, frame.y + frame.h / 2.0];
        let (wide, high) = (1.0 + 2.0 * grow / frame.w, 1.0 + 2.0 * grow / frame.h);
        let points = points.iter().map(|p| [x + (p[0] - x) * wide, y + (p[1] - y) * high]).collect();
        let stroke = (width > 0.0).then(|| Stroke::solid(INK, width));
        Item::Path { points, closed: true, fill: Fill::Solid(color), stroke }
    };
    let shape = shape(part, frame);
    // a halo keeps edges that pass behind apart from the node
    let mut items = vec![outline(shape.clone(), 0.35 + HALO, WHITE, 0.0), outline(shape, 0.0, fill, 0.7)];
    let middle = [frame.x + frame.w / 2.0, frame.y + frame.h / 2.0];
    let up = if label.role.is_empty() { 0.0 } else { label.size * 0.5 };
    items.push(
        Text::new(middle[0], middle[1] - up, label.name.clone(), label.size)
            .middle()
            .anchor(Anchor::Middle)
            .into(),
    );
    if !label.role.is_empty() {
        let text = Text::new(middle[0], middle[1] + up, label.role.clone(), label.role_size());
        items.push(text.middle().anchor(Anchor::Middle).color(INK).into());
    }
    Group { tip, data: vec![("component".into(), part.name())], items, ..Group::default() }
}

/// The outline of a node: heads are round, MLPs square, the ends rounded boxes.
pub fn shape(part: Part, frame: Frame) -> Vec<[f64; 2]> {
    let arc = |x: f64, y: f64, rx: f64, ry: f64, from: f64, steps: u32| {
        (0..=steps).map(move |i| {
            let angle = (from + 90.0 * f64::from(i) / f64::from(steps)).to_radians();
            [x + rx * angle.cos(), y + ry * angle.sin()]
        })
    };
    let (rx, ry, steps) = match part {
        Part::Head { .. } => (frame.w / 2.0, frame.h / 2.0, 8),
        Part::Mlp(_) => (0.0, 0.0, 1),
        Part::Input | Part::Logits => (frame.h / 3.0, frame.h / 3.0, 4),
    };
    let (left, right) = (frame.x + rx, frame.right() - rx);
    let (top, bottom) = (frame.y + ry, frame.bottom() - ry);
    let corners = [(right, bottom, 0.0), (left, bottom, 90.0), (left, top, 180.0), (right, top, 270.0)];
    corners.into_iter().flat_map(|(x, y, from)| arc(x, y, rx, ry, from, steps)).collect()
}

/// A letter on a light ground, so that it can be read over edges.
pub fn letter(x: f64, y: f64, text: &str, size: f64) -> [Item; 2] {
    let r = font::width(text, size, true).max(size * font::CAP) / 2.0 + 0.6;
    let ground = Item::Circle { at: [x, y], r, fill: Fill::Solid(WHITE.alpha(0.85)), stroke: None };
    [ground, Text::new(x, y, text, size).middle().anchor(Anchor::Middle).bold(true).into()]
}
