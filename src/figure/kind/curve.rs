//! Curves with bands: a number along layers, half-steps or training.

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::axes::{self, Axis, Mark, Shape};
use crate::figure::color::{CATEGORICAL, Color, FAINT};
use crate::figure::font;
use crate::figure::labels::{self, Tick};
use crate::figure::legend::{self, Entry, Sign};
use crate::figure::scene::{Frame, Scene, Text};
use crate::figure::style::{Span, Style};
use crate::figure::ticks;
use crate::figure::view::{Reference, View, categories, optional_numbers, optional_texts};
use crate::row::{Column, Rows};

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "curve",
    about: "lines over `x` (numbers, or text in table order): `value` with a band from `lo` to `hi`; `group` or \
            `series` make several; `references` are dashed; `log_x` for training steps",
    draw,
};

/// Points are marked on lines of at most this many.
const MOST_DOTS: usize = 40;

/// One line.
struct Line {
    name: String,
    /// x, value, lower, upper; a gap where the value is missing.
    points: Vec<[f64; 4]>,
}

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let x = view.need("x", &view.x)?;
    let words = matches!(rows.column(x)?, Column::Text(_));
    let (names, places) = categories(rows, x)?;
    let log = view.log_x && !words;
    let xs: Vec<f64> = if words {
        places.iter().map(|p| *p as f64).collect()
    } else {
        let numbers = rows.numbers(x)?.into_iter().map(|v| v.unwrap_or(f64::NAN));
        numbers.map(|v| if log { v.log10() } else { v }).collect()
    };
    let lines = lines(rows, view, &xs)?;
    let drawn = lines.iter().flat_map(|l| l.points.iter().flat_map(|p| p[1..].to_vec()));
    let at: Vec<f64> = view.references.iter().map(|r| r.at).collect();
    let y_range = view.limits.unwrap_or_else(|| axes::spread(drawn, &at, 0.06));

    let (width, style) = (view.points(Span::Half), view.style());
    let height = view.height.unwrap_or((width / 1.618).min(style.tall)).clamp(60.0, 1000.0);
    let entries: Vec<Entry> = lines.iter().enumerate().map(entry).collect();
    let legend = legend::height(&style, &entries, width);
    let y = Axis::round(
        y_range,
        ((height - style.space(50.0)) / style.space(24.0)).clamp(2.0, 7.0) as usize,
        true,
    );
    let value =
        view.value.clone().unwrap_or_else(|| lines.first().map_or_else(String::new, |l| l.name.clone()));
    let y_words = match (view.value_label.as_str(), view.y_label.as_str()) {
        ("", "") => value.replace('_', " "),
        ("", words) | (words, _) => font::visible(words),
    };
    let left = style.label + style.space(4.0) + y.widest(&style) + 2.0 * style.mark() + 2.0;
    let room = width - left - 8.0;

    let mut x_axis = if log {
        Axis::powers(axes::spread(xs.iter().copied(), &[], 0.02))
    } else if words {
        let ticks = (0..names.len()).map(|i| (i as f64, String::new())).collect();
        Axis { range: [-0.4, names.len() as f64 - 0.6], ticks, ..Axis::default() }
    } else {
        let range = axes::spread(xs.iter().copied(), &[], 0.02);
        let mut axis = Axis::round(range, (room / style.space(36.0)).clamp(2.0, 9.0) as usize, false);
        if xs.iter().all(|v| v.fract() == 0.0) {
            axis.ticks.retain(|(v, _)| (v - v.round()).abs() < 1e-9); // no layer two and a half
        }
        axis
    };
    x_axis.rules = false;
    let step = x_axis.place(1.0, 0.0, room) - x_axis.place(0.0, 0.0, room);
    let ticks: Vec<Tick> = names.iter().map(|name| Tick::plain(font::visible(name))).collect();
    let plan = words.then(|| labels::plan(&style, &ticks, step));
    let ticked = plan.as_ref().map_or(style.tick + 1.0, |p| p.height);
    let x_words = if view.x_label.is_empty() { x.replace('_', " ") } else { font::visible(&view.x_label) };
    let below = 2.0 * style.mark() + ticked + style.label + style.space(4.0);

    let mut scene = Scene::new(width, height.max(legend + below + style.space(30.0)));
    let frame = Frame::new(left, legend, room, scene.height - legend - below);
    let dashed = |r: &Reference| {
        let points = x_axis.range.map(|x| [x, r.at]).to_vec();
        Shape::Line { points, color: FAINT, width: style.thin(), dash: true }.into()
    };
    let inside = |r: &&Reference| (y_range[0]..=y_range[1]).contains(&r.at);
    let mut all: Vec<Mark> = view.references.iter().filter(inside).map(dashed).collect();
    all.extend(marks(&style, &lines, y_range));
    axes::plot(&mut scene, &style, frame, &x_axis, &y, &all)?;
    for reference in view.references.iter().filter(inside) {
        name_reference(&mut scene, &style, reference, frame, (&x_axis, &y), &lines);
    }
    if let Some(plan) = plan {
        let first = x_axis.place(0.0, frame.x, frame.right());
        plan.draw(&mut scene, first, frame.bottom() + 2.0 * style.mark(), step);
    }
    let baseline = scene.height - style.foot();
    axes::name(&mut scene, &style, frame, Some((&x_words, baseline)), Some((&y_words, style.label)));
    if !lines.iter().any(|l| l.points.iter().any(|p| p[1].is_finite())) {
        axes::nothing(&mut scene, &style, frame);
    }
    legend::draw(&mut scene, &style, &entries);
    Ok(scene)
}

/// Every line with its points from left to right.
fn lines(rows: &Rows, view: &View, xs: &[f64]) -> Result<Vec<Line>> {
    let groups = optional_texts(rows, &view.group)?;
    let (names, of) = match &view.group {
        Some(column) => categories(rows, column)?,
        None => (vec![String::new()], vec![0; rows.len()]),
    };
    let mut lines = Vec::new();
    for series in view.all_series()? {
        let values = rows.numbers(&series.value)?;
        let (lo, hi) = (optional_numbers(rows, &series.lo)?, optional_numbers(rows, &series.hi)?);
        for (g, group) in names.iter().enumerate() {
            let own =
                if series.name.is_empty() { series.value.replace('_', " ") } else { series.name.clone() };
            let name = match (groups.is_some(), view.series.len() > 1) {
                (true, true) => format!("{group}, {own}"),
                (true, false) => group.clone(),
                (false, _) => own,
            };
            let cell = |v: Option<f64>| v.unwrap_or(f64::NAN);
            let mut points: Vec<[f64; 4]> = (0..rows.len())
                .filter(|i| of[*i] == g && xs[*i].is_finite())
                .map(|i| [xs[i], cell(values[i]), cell(lo[i]), cell(hi[i])])
                .collect();
            points.sort_by(|a, b| a[0].total_cmp(&b[0]));
            lines.push(Line { name: font::visible(&name), points });
        }
    }
    Ok(lines)
}

/// Bands first, then lines, broken where a value is missing, then their points.
fn marks(style: &Style, lines: &[Line], [lowest, highest]: [f64; 2]) -> Vec<Mark> {
    let clamp = |v: f64| v.clamp(lowest, highest);
    let (mut bands, mut strokes) = (Vec::new(), Vec::new());
    for (k, line) in lines.iter().enumerate() {
        let (color, dash) = look(k);
        for run in line.points.split(|p| p[2].is_nan() || p[3].is_nan()).filter(|run| run.len() > 1) {
            let points = run.iter().map(|p| [p[0], clamp(p[2]), clamp(p[3])]).collect();
            bands.push(Shape::Band { points, color: color.alpha(0.2) }.into());
        }
        for run in line.points.split(|p| !p[1].is_finite()).filter(|run| run.len() > 1) {
            let points = run.iter().map(|p| [p[0], clamp(p[1])]).collect();
            strokes.push(Shape::Line { points, color, width: style.line, dash }.into());
        }
        let seen = line.points.iter().filter(|p| p[1].is_finite() && p[1] == clamp(p[1]));
        for p in seen.filter(|_| line.points.len() <= MOST_DOTS) {
            let tip = format!("{} {}", line.name, ticks::number(p[1]));
            let shape = Shape::Dot { at: [p[0], p[1]], r: style.dot(), color };
            strokes.push(Mark { tip, shape });
        }
    }
    bands.into_iter().chain(strokes).collect()
}

/// Writes a reference's name at the end and on the side of its line where the fewest points lie.
fn name_reference(
    scene: &mut Scene,
    style: &Style,
    reference: &Reference,
    frame: Frame,
    (x, y): (&Axis, &Axis),
    lines: &[Line],
) {
    let at = y.place(reference.at, frame.bottom(), frame.y);
    let text = Text::new(0.0, 0.0, font::visible(&reference.name), style.sizes()[1]).color(FAINT);
    let (w, h) = (text.width(), style.tick);
    let spots = [(true, true), (true, false), (false, true), (false, false)].map(|(right, above)| {
        let left = if right { frame.right() - w - 2.0 } else { frame.x + 3.0 };
        Frame::new(left, if above { at - h - 0.5 } else { at + 1.5 }, w, h)
    });
    let crowd = |spot: &Frame| {
        let near = lines.iter().flat_map(|l| &l.points).filter(|p| p[1].is_finite()).filter(|p| {
            let px = x.place(p[0], frame.x, frame.right());
            let py = y.place(p[1], frame.bottom(), frame.y);
            Frame::new(px - 6.0, py - 3.0, 12.0, 6.0).meets(spot)
        });
        near.count() + if spot.y < frame.y || spot.bottom() > frame.bottom() { 1000 } else { 0 }
    };
    if let Some(spot) = spots.into_iter().min_by_key(crowd).filter(|_| !reference.name.is_empty()) {
        scene.add(Text { x: spot.x, y: spot.y + style.tick * font::CAP + 0.5, ..text });
    }
}

fn look(k: usize) -> (Color, bool) {
    (CATEGORICAL[k % CATEGORICAL.len()], k % 2 == 1)
}

fn entry((k, line): (usize, &Line)) -> Entry {
    let (color, dash) = look(k);
    Entry { name: line.name.clone(), color, sign: if dash { Sign::Dash } else { Sign::Line } }
}
