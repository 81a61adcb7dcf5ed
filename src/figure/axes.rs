//! A plotting area drawn by plotters: axes, rules, and the marks of a picture in data coordinates.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::Color as _;

use crate::error::{Error, Result};
use crate::figure::backend::{Canvas, UNITS};
use crate::figure::color::{Color, FAINT, INK, RULE, WHITE};
use crate::figure::font;
use crate::figure::marker::Marker;
use crate::figure::scene::{Anchor, Fill, Frame, Item, Scene, Text};
use crate::figure::style::Style;
use crate::figure::ticks;

/// One axis.
#[derive(Debug, Clone, Default)]
pub struct Axis {
    /// First and last value.
    pub range: [f64; 2],
    /// Values with a tick, and what is written there; empty text for none.
    pub ticks: Vec<(f64, String)>,
    /// Whether rules cross the plot at its ticks.
    pub rules: bool,
    /// Whether the axis itself is left out.
    pub bare: bool,
}

/// Something drawn in data coordinates.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Shown on hover; empty for none.
    pub tip: String,
    /// What is drawn.
    pub shape: Shape,
}

/// The shape of a mark.
#[derive(Debug, Clone)]
pub enum Shape {
    /// A line through points.
    Line { points: Vec<[f64; 2]>, color: Color, width: f64, dash: bool },
    /// A rectangle from corner to corner.
    Bar { from: [f64; 2], to: [f64; 2], color: Color },
    /// A dot of a radius in points.
    Dot { at: [f64; 2], r: f64, color: Color },
    /// A point of another shape, of about a dot's area.
    Sign { at: [f64; 2], r: f64, color: Color, marker: Marker },
}

impl From<Shape> for Mark {
    fn from(shape: Shape) -> Mark {
        Mark { tip: String::new(), shape }
    }
}

impl Axis {
    /// An axis over `range` with round ticks.
    pub fn round(range: [f64; 2], count: usize, rules: bool) -> Axis {
        let values = ticks::nice(range[0], range[1], count);
        let labels = ticks::labels(&values);
        Axis { range, ticks: values.into_iter().zip(labels).collect(), rules, bare: false }
    }

    /// A logarithmic axis; its range and the marks on it are decimal logarithms.
    pub fn powers(range: [f64; 2]) -> Axis {
        let (first, last) = (range[0].ceil() as i64, range[1].floor() as i64);
        let leads: &[f64] = if last - first >= 2 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let values = (first - 1..=last).flat_map(|p| leads.iter().map(move |l| l * 10f64.powi(p as i32)));
        let inside = values.filter(|v| (range[0]..=range[1]).contains(&v.log10()));
        Axis {
            range,
            ticks: inside.map(|v| (v.log10(), ticks::plain(v))).collect(),
            rules: true,
            bare: false,
        }
    }

    /// Width of the widest tick label.
    pub fn widest(&self, style: &Style) -> f64 {
        font::widest(self.ticks.iter().map(|(_, text)| text.as_str()), style.tick, false)
    }

    /// Where `value` lies between `start` and `end`.
    pub fn place(&self, value: f64, start: f64, end: f64) -> f64 {
        start + (value - self.range[0]) / (self.range[1] - self.range[0]) * (end - start)
    }
}

/// A range around values with a little air, never empty; `anchors` are always inside.
pub fn spread(values: impl IntoIterator<Item = f64>, anchors: &[f64], air: f64) -> [f64; 2] {
    let finite = values.into_iter().chain(anchors.iter().copied()).filter(|v| v.is_finite());
    let (lo, hi) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
    if lo > hi {
        return [0.0, 1.0];
    }
    let size = if hi - lo > 1e-12 * hi.abs().max(lo.abs()) { hi - lo } else { hi.abs().max(1.0) };
    // Bars stand on zero: no air is left on its other side.
    let keep = |v: f64, end: f64| if lo < hi && v == 0.0 && anchors.contains(&v) { v } else { end };
    let air = if lo < hi { air } else { air.max(0.05) };
    [keep(lo, lo - air * size), keep(hi, hi + air * size)]
}

/// Draws axes and marks; the plotting area is exactly `frame`, tick labels stand outside of it.
pub fn plot(
    scene: &mut Scene,
    style: &Style,
    frame: Frame,
    x: &Axis,
    y: &Axis,
    marks: &[Mark],
) -> Result<()> {
    draw(scene, style, frame, x, y, marks).map_err(|e| {
        Error::input(format!("the picture could not be laid out: {e}"), "ask for a larger picture")
    })
}

/// Says in the middle of a plot that there is nothing in it.
pub fn nothing(scene: &mut Scene, style: &Style, frame: Frame) {
    let text = Text::new(frame.x + frame.w / 2.0, frame.y + frame.h / 2.0, "no values", style.label).middle();
    let half = text.width() / 2.0 + 2.0;
    let ground = Frame::new(text.x - half, frame.y + (frame.h - style.label) / 2.0, 2.0 * half, style.label);
    scene.add(Item::Rect(ground, Fill::Solid(WHITE), None));
    scene.add(text.anchor(Anchor::Middle).color(FAINT));
}

/// The interval of a horizontal bar that is `thick` from `top` down, with a cap at each end inside `range`.
pub fn whisker(
    style: &Style,
    ends: [f64; 2],
    [lowest, highest]: [f64; 2],
    (top, thick): (f64, f64),
) -> Vec<Mark> {
    let (middle, cap) = (top + thick / 2.0, thick * 0.25);
    let line = |points| Shape::Line { points, color: INK, width: style.thin(), dash: false }.into();
    let clamped = ends.map(|v| v.clamp(lowest, highest));
    let caps = ends.into_iter().zip(clamped).filter(|(end, clamped)| end == clamped);
    let caps = caps.map(|(end, _)| line(vec![[end, middle - cap], [end, middle + cap]]));
    std::iter::once(line(clamped.map(|v| [v, middle]).to_vec())).chain(caps).collect()
}

type Fault<'a> = DrawingAreaErrorKind<<Canvas<'a> as DrawingBackend>::ErrorType>;

fn draw<'a>(
    scene: &'a mut Scene,
    style: &Style,
    frame: Frame,
    x: &Axis,
    y: &Axis,
    marks: &[Mark],
) -> std::result::Result<(), Fault<'a>> {
    let (right, below) = (scene.width - frame.right(), scene.height - frame.bottom());
    let canvas = Rc::new(RefCell::new(Canvas::on(scene)));
    let area: DrawingArea<Canvas<'a>, Shift> = (&canvas).into();
    let mut chart = ChartBuilder::on(&area)
        .margin_top(units(frame.y))
        .margin_right(units(right))
        .x_label_area_size(units(below))
        .y_label_area_size(units(frame.x))
        .build_cartesian_2d(Ruler(x.clone()), Ruler(y.clone()))?;
    let mut mesh = chart.configure_mesh();
    mesh.max_light_lines(0)
        .bold_line_style(ink(RULE).stroke_width(units(style.rule) as u32))
        .axis_style(ink(FAINT).stroke_width(units(1.2 * style.rule) as u32))
        .label_style(("sans-serif", style.tick * UNITS).into_font().color(&ink(INK)))
        .set_all_tick_mark_size(units(style.mark()));
    if !x.rules {
        mesh.disable_x_mesh();
    }
    if !y.rules {
        mesh.disable_y_mesh();
    }
    if y.bare {
        mesh.disable_y_axis();
    }
    mesh.draw()?;
    for mark in marks {
        let first = canvas.borrow().begin();
        draw_shape(&mut chart, style, &mark.shape)?;
        canvas.borrow_mut().group(first, &mark.tip);
    }
    Ok(())
}

fn draw_shape<'a>(
    chart: &mut ChartContext<'_, Canvas<'a>, Cartesian2d<Ruler, Ruler>>,
    style: &Style,
    shape: &Shape,
) -> std::result::Result<(), Fault<'a>> {
    let pair = |p: &[f64; 2]| (p[0], p[1]);
    let (on, off) = (units(style.space(3.0)), units(style.space(2.0)));
    match shape {
        Shape::Line { points, color, width, dash } => {
            let ink = ink(*color).stroke_width(units(*width).max(1) as u32);
            let points: Vec<(f64, f64)> = points.iter().map(pair).collect();
            if *dash {
                chart.draw_series(DashedLineSeries::new(points, on, off, ink))?;
            } else {
                chart.draw_series(LineSeries::new(points, ink))?;
            }
        }
        Shape::Bar { from, to, color } => {
            chart.draw_series([Rectangle::new([pair(from), pair(to)], ink(*color).filled())])?;
        }
        Shape::Dot { at, r, color } => {
            chart.draw_series([Circle::new(pair(at), units(*r), ink(*color).filled())])?;
        }
        Shape::Sign { at, r, color, marker } => match marker.corners(*r) {
            None => draw_shape(chart, style, &Shape::Dot { at: *at, r: *r, color: *color })?,
            Some(corners) => {
                let corners: Vec<(i32, i32)> = corners.iter().map(|[x, y]| (units(*x), units(*y))).collect();
                let sign = EmptyElement::at(pair(at)) + Polygon::new(corners, ink(*color).filled());
                chart.draw_series([sign])?;
            }
        },
    }
    Ok(())
}

/// An axis as plotters sees it: its ticks are ours, its places are rounded to a unit.
struct Ruler(Axis);

impl Ranged for Ruler {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        self.0.place(*value, f64::from(start), f64::from(end)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let light = hint.weight().allow_light_points();
        if light { Vec::new() } else { self.0.ticks.iter().map(|(value, _)| *value).collect() }
    }

    fn range(&self) -> Range<f64> {
        self.0.range[0]..self.0.range[1]
    }
}

impl ValueFormatter<f64> for Ruler {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.0.ticks.iter().find(|(at, _)| at == value);
        tick.map(|(_, text)| text.clone()).unwrap_or_default()
    }
}

fn units(points: f64) -> i32 {
    (points * UNITS).round() as i32
}

fn ink(color: Color) -> RGBAColor {
    RGBAColor(color.r, color.g, color.b, color.a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::style::Venue;

    #[test]
    fn marks_land_where_the_axis_says() {
        let mut scene = Scene::new(200.0, 100.0);
        let frame = Frame::new(40.0, 10.0, 150.0, 60.0);
        let (x, y) = (Axis::round([0.0, 10.0], 5, true), Axis::round([0.0, 1.0], 4, false));
        let dot = Shape::Dot { at: [5.0, 0.25], r: 2.0, color: INK };
        plot(&mut scene, &Venue::Neurips.style(), frame, &x, &y, &[dot.into()]).unwrap();
        let Some(Item::Circle { at, .. }) = scene.items.last() else { panic!("no dot") };
        assert!((at[0] - x.place(5.0, 40.0, 190.0)).abs() < 0.02, "{at:?}");
        assert!((at[1] - y.place(0.25, 70.0, 10.0)).abs() < 0.02, "{at:?}");
    }

    #[test]
    fn ranges_are_never_empty() {
        for values in [vec![], vec![f64::NAN], vec![0.0, 0.0], vec![3.0, 3.0], vec![f64::INFINITY]] {
            for anchors in [&[][..], &[0.0]] {
                let [lo, hi] = spread(values.clone(), anchors, 0.05);
                assert!(lo < hi && lo.is_finite() && hi.is_finite());
            }
        }
        assert_eq!(spread([1.0, 2.0], &[0.0], 0.1), [0.0, 2.2]);
    }
}
