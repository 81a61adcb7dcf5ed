//! How known edges are found as a threshold falls: true against false positives.

use crate::error::{Error, Result};
use crate::figure::Figure;
use crate::figure::across::Across;
use crate::figure::axes::Axis;
use crate::figure::color::FAINT;
use crate::figure::font;
use crate::figure::legend::{Entry, Legend, Sign};
use crate::figure::lines::{self, Line, Look, Part, Plot, Point};
use crate::figure::scene::{Frame, Scene};
use crate::figure::style::Span;
use crate::figure::ticks;
use crate::figure::view::{View, optional_categories, optional_numbers};
use crate::figure::words::Words;
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "roc",
    about: "true positive rate `y` against false positive rate `x`, a line for each `group` with its area in the legend, and the area's \
            interval from `lo` and `hi`; the diagonal is chance",
    takes: &["group", "height"],
    draw,
};

/// The smallest plot beside a legend and the largest of all, for type of 7 points.
const LEAST: f64 = 120.0;
const LARGEST: f64 = 190.0;

/// One method, or several with one curve.
struct Curve {
    /// What each is called, with the interval of its area.
    methods: Vec<(String, Option<[f64; 2]>)>,
    points: Vec<[f64; 2]>,
}

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let curves = curves(rows, view)?;
    let style = view.style();
    let (unit, width) = (style.space(1.0), view.points(Span::Half));
    let entries = || curves.iter().enumerate().flat_map(|(k, curve)| curve.legend(k)).collect();

    let ticks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|v| (v, ticks::plain(v))).to_vec();
    let y = Axis { range: [-0.02, 1.02], ticks, rules: true, bare: false };
    let across = if view.x_label.is_empty() { "false positive rate" } else { &view.x_label };
    let up = if view.y_label.is_empty() { "true positive rate" } else { &view.y_label };
    let x = Across::of(y.clone(), Words::new(&style, across, width - 2.0), &style);
    let up = Words::new(&style, up, style.space(LARGEST));
    let left = up.depth() + style.space(3.0) + y.widest(&style) + 2.0 * style.mark() + 1.0;
    // beside the plot where that leaves it room, else above
    let natural = Legend::new(entries(), &style, f64::INFINITY).widest();
    let rest = width - left - natural - 20.0 * unit;
    let beside = natural > 0.0 && rest >= style.space(LEAST);
    let legend = Legend::new(entries(), &style, if beside { natural } else { width - 8.0 * unit });
    let top = if beside { 4.0 * unit } else { legend.height() };
    let wished = view.height.unwrap_or(style.tall - x.depth()).max(60.0) - top - x.depth();
    let room = if beside { rest } else { width - left - 8.0 * unit };
    let side = room.min(style.space(LARGEST)).min(wished).max(30.0 * unit);
    let used = left + side + if beside { 20.0 * unit + natural } else { 8.0 * unit };
    let shift = ((width - used) / 2.0).max(0.0);
    let frame = Frame::new(shift + left, top, side, side);

    let mut scene = Scene::new(width, frame.bottom() + x.depth());
    let mut lines: Vec<Line> = curves.iter().enumerate().map(|(k, curve)| curve.line(k)).collect();
    if !lines.is_empty() {
        lines.insert(0, chance());
    }
    let plot = Plot { frame, x: &x, y: &y, style: &style, ticked: true };
    plot.draw(&mut scene, &lines, &[], None)?;
    x.words.below(&mut scene, frame.x + frame.w / 2.0, frame.bottom() + x.ticked);
    up.beside(&mut scene, shift, frame.y + frame.h / 2.0);
    let corner = if beside { [frame.right() + 12.0 * unit, frame.y] } else { [4.0 * unit, 0.0] };
    legend.draw(&mut scene, corner[0], corner[1]);
    Ok(scene)
}

/// Guessing: the diagonal.
fn chance() -> Line {
    let point = |x: f64| Point { x, y: x, band: [f64::NAN; 2], tip: String::new() };
    let look = Look { color: FAINT, dash: &[3.0, 2.0], part: Part::Ground, ..lines::look(0) };
    Line { name: String::new(), numbers: String::new(), points: [0.0, 1.0].map(point).to_vec(), look }
}

/// The curves, from (0, 0) to (1, 1); equal ones are one, so that none is hidden under another.
fn curves(rows: &Rows, view: &View) -> Result<Vec<Curve>> {
    let (x, y) = (view.need("x", &view.x)?, view.need("y", &view.y)?);
    let (xs, ys) = (rows.numbers(x)?, rows.numbers(y)?);
    let (lo, hi) = (optional_numbers(rows, &view.lo)?, optional_numbers(rows, &view.hi)?);
    let (names, of) = optional_categories(rows, &view.group)?;
    let mut curves: Vec<Curve> = Vec::new();
    for (g, name) in names.iter().enumerate() {
        let own = || (0..rows.len()).filter(|i| of[*i] == g);
        let mut points: Vec<[f64; 2]> = own()
            .filter_map(|i| Some([xs[i]?, ys[i]?]))
            .filter(|p| p.iter().all(|v| v.is_finite()))
            .collect();
        if let Some([x, y]) = points.iter().find(|p| p.iter().any(|v| !(0.0..=1.0).contains(v))) {
            return Err(Error::input(
                format!("({x}, {y}) is no point of a ROC curve: rates lie between 0 and 1"),
                "name the column of false positive rates as `x` and that of true positive rates as `y`",
            ));
        }
        if points.is_empty() {
            continue;
        }
        points.extend([[0.0, 0.0], [1.0, 1.0]]);
        points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
        if let Some([_, [x, y]]) = points.array_windows().find(|[before, after]| after[1] < before[1] - 1e-9)
        {
            return Err(Error::input(
                format!("the points of `{}` are not one ROC curve: at ({x}, {y}) it would fall", rows.name),
                "name the column that tells curves apart as `group`, or keep one with `only = { column = \"value\" }`",
            ));
        }
        let points = corners(&points);
        let interval =
            own().find_map(|i| Some([lo[i]?, hi[i]?])).filter(|ends| ends.iter().all(|v| v.is_finite()));
        let name = if names.len() > 1 { lines::named(name) } else { font::visible(name) };
        match curves.iter_mut().find(|known| known.points == points) {
            Some(known) => known.methods.push((name, interval)),
            None => curves.push(Curve { methods: vec![(name, interval)], points }),
        }
    }
    Ok(curves)
}

/// The points at which a line turns: ties are one slanted piece, all others steps.
fn corners(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut kept: Vec<[f64; 2]> = Vec::new();
    for point in points {
        if kept.last() == Some(point) {
            continue;
        }
        if let Some([a, b]) = kept.last_chunk::<2>() {
            let turn = (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0]);
            if turn.abs() < 1e-12 {
                kept.pop();
            }
        }
        kept.push(*point);
    }
    kept
}

impl Curve {
    /// The area under the curve, by trapezoids.
    fn area(&self) -> f64 {
        self.points.windows(2).map(|w| (w[1][0] - w[0][0]) * (w[1][1] + w[0][1]) / 2.0).sum()
    }

    fn line(&self, k: usize) -> Line {
        let point = |[x, y]: &[f64; 2]| {
            let tip = format!("{} found, {} false alarms", ticks::exact(*y), ticks::exact(*x));
            Point { x: *x, y: *y, band: [f64::NAN; 2], tip }
        };
        let names: Vec<&str> = self.methods.iter().map(|(name, _)| name.as_str()).collect();
        let (name, points) = (names.join(", "), self.points.iter().map(point).collect());
        Line { name, numbers: String::new(), points, look: lines::look(k) }
    }

    /// An entry for each of its methods: they share a line.
    fn legend(&self, k: usize) -> Vec<Entry> {
        let (sign, area) = (Sign::Line(lines::look(k)), self.area());
        let entry = |(name, interval): &(String, Option<[f64; 2]>)| {
            let interval = interval.map_or_else(String::new, |[lo, hi]| format!(" [{lo:.3}, {hi:.3}]"));
            Entry { sign, name: name.clone(), numbers: format!("AUC {area:.3}{interval}") }
        };
        self.methods.iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_corners_stay() {
        let steps = [[0.0, 0.0], [0.0, 0.5], [0.0, 1.0], [0.0, 1.0], [0.5, 1.0], [1.0, 1.0]];
        assert_eq!(corners(&steps), [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]);
        assert_eq!(corners(&[[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]), [[0.0, 0.0], [1.0, 1.0]]);
    }
}
