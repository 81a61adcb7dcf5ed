//! Curves with bands: a number along layers, half-steps or training.

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::axes::{self, Axis, Mark, Shape};
use crate::figure::color::{CATEGORICAL, Color, FAINT};
use crate::figure::font;
use crate::figure::labels::{self, Tick};
use crate::figure::legend::{self, Entry, Sign};
use crate::figure::marker::Marker;
use crate::figure::scene::{Frame, Scene, Text};
use crate::figure::style::{Span, Style};
use crate::figure::ticks;
use crate::figure::view::{Reference, View, categories, optional_numbers, optional_texts};
use crate::figure::words::Words;
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
    let mut lines = lines(rows, view, &xs)?;
    let references = &view.references;
    let drawn = lines.iter().flat_map(|l| l.points.iter().flat_map(|p| p[1..].to_vec()));
    let at: Vec<f64> = references.iter().map(|r| r.at).collect();
    let y_range = view.limits.unwrap_or_else(|| axes::spread(drawn, &at, 0.06));

    let (width, style) = (view.points(Span::Half), view.style());
    let height = view.height.unwrap_or((width / 1.618).min(style.tall)).clamp(60.0, 1000.0);
    let entries: Vec<Entry> = lines.iter().enumerate().map(entry).collect();
    let legend = legend::height(&style, &entries, width);
    let count = (height - style.space(50.0)) / style.space(24.0);
    let y = Axis::round(y_range, count.clamp(2.0, 7.0) as usize, true);
    let value =
        view.value.clone().unwrap_or_else(|| lines.first().map_or_else(String::new, |l| l.name.clone()));
    let up = match (view.value_label.as_str(), view.y_label.as_str()) {
        ("", "") => value.replace('_', " "),
        ("", words) | (words, _) => words.to_owned(),
    };
    let up = Words::new(&style, &up, height - 4.0);
    let left = up.depth() + style.space(3.0) + y.widest(&style) + 2.0 * style.mark() + 1.0;
    let room = width - left - style.space(8.0);

    let mut across = if view.x_label.is_empty() { x.replace('_', " ") } else { view.x_label.clone() };
    let ticks: Vec<Tick> = names.iter().map(|name| Tick::plain(font::visible(name))).collect();
    let mut plan = words.then(|| labels::plan(&style, &ticks, room / (names.len() as f64 - 0.2)));
    let depths = depths(&names).filter(|_| plan.as_ref().is_some_and(|plan| !plan.is_flat()));
    let mut x_axis = if log {
        Axis::powers(axes::spread(xs.iter().copied(), &[], 0.02))
    } else if let Some(depths) = depths {
        // Names of half steps that would have to be turned or thinned are written as numbers.
        plan = None;
        across.push_str(if depths.iter().any(|d| d.fract() != 0.0) {
            " (block; ½:\u{a0}after\u{a0}attention)"
        } else {
            " (block)"
        });
        for point in lines.iter_mut().flat_map(|line| &mut line.points) {
            point[0] = depths.get(point[0] as usize).copied().unwrap_or(f64::NAN);
        }
        whole(axes::spread(depths, &[], 0.015), room, &style)
    } else if words {
        let ticks = (0..names.len()).map(|i| (i as f64, String::new())).collect();
        Axis { range: [-0.4, names.len() as f64 - 0.6], ticks, ..Axis::default() }
    } else if xs.iter().all(|v| v.fract() == 0.0) {
        whole(axes::spread(xs.iter().copied(), &[], 0.02), room, &style)
    } else {
        let range = axes::spread(xs.iter().copied(), &[], 0.02);
        Axis::round(range, (room / style.space(36.0)).clamp(2.0, 9.0) as usize, false)
    };
    x_axis.rules = false;
    let across = Words::new(&style, &across, width - 2.0);
    let ticked = 2.0 * style.mark() + plan.as_ref().map_or(style.tick, |p| p.height) + style.space(2.0);
    let below = ticked + across.depth() + 1.0;

    let mut scene = Scene::new(width, height.max(legend + below + style.space(30.0)));
    let frame = Frame::new(left, legend, room, scene.height - legend - below);
    let dashed = |r: &Reference| {
        let points = x_axis.range.map(|x| [x, r.at]).to_vec();
        Shape::Line { points, color: FAINT, width: style.thin(), dash: true }.into()
    };
    let inside = |r: &&Reference| (y_range[0]..=y_range[1]).contains(&r.at);
    let mut all: Vec<Mark> = references.iter().filter(inside).map(dashed).collect();
    all.extend(marks(&style, &lines, y_range));
    axes::plot(&mut scene, &style, frame, &x_axis, &y, &all)?;
    for reference in references.iter().filter(inside) {
        name_reference(&mut scene, &style, reference, frame, (&x_axis, &y), &lines);
    }
    if let Some(plan) = plan {
        let step = x_axis.place(1.0, 0.0, room) - x_axis.place(0.0, 0.0, room);
        let first = x_axis.place(0.0, frame.x, frame.right());
        plan.draw(&mut scene, first, frame.bottom() + 2.0 * style.mark(), step);
    }
    across.below(&mut scene, frame.x + frame.w / 2.0, frame.bottom() + ticked);
    up.beside(&mut scene, 0.0, frame.y + frame.h / 2.0);
    if !lines.iter().any(|l| l.points.iter().any(|p| p[1].is_finite())) {
        axes::nothing(&mut scene, &style, frame);
    }
    legend::draw(&mut scene, &style, &entries);
    Ok(scene)
}

/// Names of places along the residual stream as depths in blocks, when all of them are such names in order: `0_pre` is 0,
/// `0_mid` (after the first block's attention) one half, `0_post` is 1, `final_post` lies one after the last block.
fn depths(names: &[String]) -> Option<Vec<f64>> {
    let mut depths: Vec<f64> = Vec::new();
    for name in names {
        let (block, place) = name.split_once('_')?;
        let after = match place {
            "pre" => 0.0,
            "mid" => 0.5,
            "post" => 1.0,
            _ => return None,
        };
        let last = depths.last().copied();
        let depth = match block {
            "final" => last.map_or(1.0, |d: f64| d.floor() + 1.0),
            _ => block.parse::<u32>().ok().map(f64::from)? + after,
        };
        if last.is_some_and(|last| depth <= last) {
            return None;
        }
        depths.push(depth);
    }
    Some(depths)
}

/// An axis with ticks at whole numbers only: there is no layer two and a half.
fn whole(range: [f64; 2], room: f64, style: &Style) -> Axis {
    let mut axis = Axis::round(range, (room / style.space(36.0)).clamp(2.0, 9.0) as usize, false);
    axis.ticks.retain(|(v, _)| (v - v.round()).abs() < 1e-9);
    let labels = ticks::labels(&axis.ticks.iter().map(|(v, _)| *v).collect::<Vec<_>>());
    axis.ticks.iter_mut().zip(labels).for_each(|(tick, label)| tick.1 = label);
    axis
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
            let shape = Shape::Sign { at: [p[0], p[1]], r: style.dot(), color, marker: Marker::of(k) };
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
        let places = lines.iter().flat_map(|l| &l.points).flat_map(|p| [1, 2, 3].map(|i| [p[0], p[i]]));
        let near = places.filter(|p| p[1].is_finite()).filter(|p| {
            let px = x.place(p[0], frame.x, frame.right());
            let py = y.place(p[1], frame.bottom(), frame.y);
            Frame::new(px - h, py - h / 2.0, 2.0 * h, h).meets(spot)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_along_the_stream_are_depths() {
        let read = |names: &[&str]| depths(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            read(&["0_pre", "0_mid", "1_pre", "1_mid", "final_post"]),
            Some(vec![0.0, 0.5, 1.0, 1.5, 2.0])
        );
        assert_eq!(read(&["0_pre", "0_post", "1_post"]), Some(vec![0.0, 1.0, 2.0]));
        assert!(read(&["1_pre", "0_pre"]).is_none() && read(&["0_pre", "the"]).is_none());
    }
}
