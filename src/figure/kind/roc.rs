//! How known edges are found as a threshold falls: true against false positives.

use crate::error::{Error, Result};
use crate::figure::Figure;
use crate::figure::axes::{self, Axis, Shape};
use crate::figure::color::FAINT;
use crate::figure::font;
use crate::figure::lines::{self, Legend, Plot, Point};
use crate::figure::scene::{Frame, Scene};
use crate::figure::style::Span;
use crate::figure::ticks;
use crate::figure::view::{View, categories, optional_numbers};
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "roc",
    about: "true positive rate `y` against false positive rate `x`, a line for each `group` with its area in the legend, and the area's \
            interval from `lo` and `hi`; the diagonal is chance",
    draw,
};

/// From this width on, the legend stands beside the plot.
const BESIDE: f64 = 40.0;
/// The largest plot, in sizes of ticks.
const LARGEST: f64 = 34.0;

/// One method, or several with one curve.
struct Curve {
    names: Vec<String>,
    points: Vec<[f64; 2]>,
    interval: Option<[f64; 2]>,
}

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let curves = curves(rows, view)?;
    let style = view.style();
    let unit = style.tick / 7.0;
    let width = view.points(Span::Half);
    let entries: Vec<_> = curves.iter().enumerate().map(|(k, curve)| (lines::look(k), curve.legend())).collect();

    let axis = Axis { range: [-0.02, 1.02], ..Axis::round([0.0, 1.0], 4, true) };
    let widest = font::widest(axis.ticks.iter().map(|t| t.1.as_str()), style.tick, false);
    let left = style.label + 4.0 * unit + widest + 2.0 * axes::TICK_MARK + 2.0;
    let below = 2.0 * axes::TICK_MARK + 1.1 * style.tick + style.label + 5.0 * unit;
    let beside = width >= BESIDE * style.tick;
    let most = (LARGEST * style.tick).min(if beside { 0.5 * width } else { f64::INFINITY });
    let legend = Legend::new(entries, &style, width - if beside { left + most + 12.0 * unit } else { 8.0 * unit });
    let top = 4.0 * unit + if beside { 0.0 } else { legend.height() };
    let wished = view.height.map_or(f64::INFINITY, |height| (height - top - below).max(60.0));
    let side = (width - left - 8.0 * unit).min(most).min(wished);
    let used = left + side + if beside { 12.0 * unit + legend.widest() } else { 0.0 };
    let shift = ((width - used) / 2.0).max(0.0);
    let frame = Frame::new(shift + left, top, side, side);

    let mut scene = Scene::new(width, frame.bottom() + below);
    let chance =
        Shape::Line { points: vec![[0.0, 0.0], [1.0, 1.0]], color: FAINT, width: 1.4 * style.rule, dash: true };
    axes::plot(&mut scene, frame, &axis, &axis, &[chance.into()])?;
    let plot = Plot { frame, x: &axis, y: &axis };
    let point = |curve: &Curve, [x, y]: [f64; 2]| Point {
        x,
        y,
        band: [f64::NAN; 2],
        apart: false,
        tip: format!("{}: {} found, {} false alarms", curve.names.join(", "), ticks::exact(y), ticks::exact(x)).trim_start_matches(": ").to_owned(),
    };
    let all: Vec<Vec<Point>> =
        curves.iter().map(|curve| curve.points.iter().map(|p| point(curve, *p)).collect()).collect();
    plot.lines(&mut scene, &style, all.iter().enumerate().map(|(k, points)| (points.as_slice(), lines::look(k))));
    let words = |given: &str, usual: &str| font::visible(if given.is_empty() { usual } else { given });
    let (across, up) = (words(&view.x_label, "false positive rate"), words(&view.y_label, "true positive rate"));
    axes::name(&mut scene, frame, Some((&across, frame.bottom() + below - 3.0 * unit)), Some((&up, shift + style.label)));
    if curves.is_empty() {
        axes::nothing(&mut scene, frame);
    }
    if beside {
        legend.draw(&mut scene, frame.right() + 12.0 * unit, frame.y);
    } else {
        legend.draw(&mut scene, 4.0 * unit, 4.0 * unit);
    }
    Ok(scene)
}

/// The curves, from (0, 0) to (1, 1); equal ones are one, so that none is hidden under another.
fn curves(rows: &Rows, view: &View) -> Result<Vec<Curve>> {
    let (x, y) = (view.need("x", &view.x)?, view.need("y", &view.y)?);
    let (xs, ys) = (rows.numbers(x)?, rows.numbers(y)?);
    let (lo, hi) = (optional_numbers(rows, &view.lo)?, optional_numbers(rows, &view.hi)?);
    let (names, of) = match &view.group {
        Some(column) => categories(rows, column)?,
        None => (vec![String::new()], vec![0; rows.len()]),
    };
    let mut curves: Vec<Curve> = Vec::new();
    for (g, name) in names.iter().enumerate() {
        let own = || (0..rows.len()).filter(|i| of[*i] == g);
        let mut points: Vec<[f64; 2]> =
            own().filter_map(|i| Some([xs[i]?, ys[i]?])).filter(|p| p.iter().all(|v| v.is_finite())).collect();
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
        let points = corners(&points);
        let interval = own().find_map(|i| Some([lo[i]?, hi[i]?])).filter(|ends| ends.iter().all(|v| v.is_finite()));
        let name = font::visible(name);
        match curves.iter_mut().find(|known| known.points == points && known.interval == interval) {
            Some(known) => known.names.push(name),
            None => curves.push(Curve { names: vec![name], points, interval }),
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

    fn legend(&self) -> String {
        let interval = self.interval.map_or_else(String::new, |[lo, hi]| format!(" [{lo:.3}, {hi:.3}]"));
        let area = format!("AUC {:.3}{interval}", self.area());
        let names: Vec<&str> = self.names.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        match names.as_slice() {
            [] => area,
            [name] => format!("{name}: {area}"),
            // the number first: a list of many names is shortened at its end
            names => format!("{area}: {}", names.join(", ")),
        }
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
