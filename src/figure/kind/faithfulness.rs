//! What circuits of growing size keep of a behaviour, with the areas that MIB reports.

use crate::error::{Error, Result};
use crate::figure::Figure;
use crate::figure::across::Across;
use crate::figure::axes::{self, Axis, Mark, Shape};
use crate::figure::color::FAINT;
use crate::figure::font;
use crate::figure::lines::{self, Entry, Legend, Plot, Point};
use crate::figure::scene::{Frame, Scene};
use crate::figure::style::Span;
use crate::figure::ticks;
use crate::figure::view::{Reference, View, categories, optional_numbers};
use crate::figure::words::Words;
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "faithfulness",
    about: "`value` over the size of circuits, `x` (counts or shares, logarithmic), a line for each `group`, bands from `lo` to `hi`; with the \
            nominal `fraction` of edges, CPR and CMD stand in the legend",
    draw,
};

/// The highest plot, for type of 7 points: more height shows no more.
const TALLEST: f64 = 185.0;
/// MIB's areas run from 0.1 % to all edges (Mueller et al. 2025); areas over less are other numbers and are not given.
const MIB: [f64; 2] = [0.001, 1.0];

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let x_name = view.need("x", &view.x)?;
    let value = view.need("value", &view.value)?;
    let xs: Vec<f64> = rows.numbers(x_name)?.into_iter().map(|x| x.unwrap_or(f64::NAN)).collect();
    if let Some(x) = xs.iter().find(|x| **x < 0.0) {
        let what = format!("a circuit of size {x} cannot be: column `{x_name}` holds a negative size");
        return Err(Error::input(what, "name the column with counts or shares of edges as `x`"));
    }
    let values = rows.numbers(value)?;
    let (lo, hi) = (optional_numbers(rows, &view.lo)?, optional_numbers(rows, &view.hi)?);
    let fractions = optional_numbers(rows, &view.fraction)?;
    let (names, of) = match &view.group {
        Some(column) => categories(rows, column)?,
        None => (vec![String::new()], vec![0; rows.len()]),
    };
    let style = view.style();
    let unit = style.space(1.0);
    let width = view.points(Span::Half);

    let members = |g: usize| (0..rows.len()).filter(|i| of[*i] == g).collect::<Vec<usize>>();
    let named = |(g, name): (usize, &String)| {
        let sized = members(g).into_iter().filter_map(|i| Some((fractions[i]?, values[i]?))).collect();
        let areas = areas(sized).map(|[cpr, cmd]| format!("CPR {cpr:.3}, CMD {cmd:.3}").replace('-', "−"));
        let name = if names.len() > 1 { lines::named(name) } else { font::visible(name) };
        Entry { look: lines::look(g), name, numbers: areas.unwrap_or_default() }
    };
    let entries: Vec<_> = names.iter().enumerate().map(named).collect();
    let told = entries.iter().any(|entry| !(entry.name.is_empty() && entry.numbers.is_empty()));
    let legend = Legend::new(if told { entries } else { Vec::new() }, &style, width - 8.0 * unit);
    let top = 3.0 * unit + legend.height();

    let references = if view.references.is_empty() {
        let named = |at: f64, name: &str| Reference { at, name: name.to_owned(), ..Reference::default() };
        vec![named(1.0, "the whole model"), named(0.0, "nothing kept")]
    } else {
        view.references.clone()
    };
    let drawn = values.iter().chain(&lo).chain(&hi).flatten().copied();
    let range = view.limits.unwrap_or_else(|| axes::spread(drawn, &[0.0, 1.0], 0.0));
    // air on both sides, so that lines at 0 and 1 are not hidden by the frame
    let air = if view.limits.is_some() { 0.0 } else { 0.07 * (range[1] - range[0]) };
    let range = [range[0] - air, range[1] + air];
    let words = |given: &str, column: &str| if given.is_empty() { column.replace('_', " ") } else { given.to_owned() };
    let across = Words::new(&style, &words(&view.x_label, "edges kept"), width - 2.0);
    let ticked = 2.0 * style.mark() + 1.15 * style.tick;
    let below = ticked + across.depth() + 1.0;
    let usual = (width / 1.618).min(style.space(TALLEST)).min(style.tall) + legend.height();
    let high = (view.height.unwrap_or(usual) - top - below).clamp(style.space(40.0), 1000.0);
    let up = words(if view.y_label.is_empty() { &view.value_label } else { &view.y_label }, value);
    let up = Words::new(&style, &up, high + below);
    let y = Axis::round(range, (high / (3.4 * style.tick)).clamp(2.0, 7.0) as usize, true);
    let left = up.depth() + style.space(3.0) + y.widest(&style) + 2.0 * style.mark() + 1.0;
    let frame = Frame::new(left, top, width - left - 8.0 * unit, high);
    let percent = xs.iter().all(|x| !(*x > 1.0)) && xs.iter().any(|x| x.fract() != 0.0);
    let x = Across::new(&xs, true, percent, &style, frame.w);

    let line = |g: usize| {
        let mut points: Vec<(f64, Point)> = members(g)
            .into_iter()
            .filter(|i| x.at(xs[*i]).is_finite())
            .map(|i| {
                let f = values[i].unwrap_or(f64::NAN);
                let band = [lo[i], hi[i]].map(|v| v.unwrap_or(f64::NAN));
                let size = if percent { format!("{} % of edges", ticks::exact(100.0 * xs[i])) } else { format!("{} edges", ticks::exact(xs[i])) };
                let tip = format!("{} {size}: {} [{}, {}]", names[g], ticks::exact(f), ticks::exact(band[0]), ticks::exact(band[1]));
                (xs[i], Point { x: x.at(xs[i]), y: f, band, apart: x.is_apart(xs[i]), tip: tip.trim().to_owned() })
            })
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points.into_iter().map(|(_, point)| point).collect::<Vec<Point>>()
    };
    let all: Vec<Vec<Point>> = (0..names.len()).map(line).collect();

    let mut scene = Scene::new(width, frame.bottom() + below);
    let inside = |r: &&Reference| (range[0]..=range[1]).contains(&r.at);
    let dashed = |r: &Reference| -> Mark {
        let points = x.axis.range.map(|x| [x, r.at]).to_vec();
        Shape::Line { points, color: FAINT, width: style.thin(), dash: true }.into()
    };
    let marks: Vec<Mark> = references.iter().filter(inside).map(dashed).collect();
    axes::plot(&mut scene, &style, frame, &x.axis, &y, &marks)?;
    x.mark(&mut scene, &style, frame);
    let plot = Plot { frame, x: &x.axis, y: &y };
    plot.lines(&mut scene, &style, all.iter().enumerate().map(|(g, points)| (points.as_slice(), lines::look(g))));
    for reference in references.iter().filter(inside) {
        plot.name(&mut scene, &style, (reference.at, &reference.name), all.iter().map(Vec::as_slice));
    }
    across.below(&mut scene, frame.x + frame.w / 2.0, frame.bottom() + ticked);
    up.beside(&mut scene, 0.0, frame.y + frame.h / 2.0);
    if !all.iter().flatten().any(|point| point.y.is_finite()) {
        axes::nothing(&mut scene, &style, frame);
    }
    legend.draw(&mut scene, 4.0 * unit, 3.0 * unit);
    Ok(scene)
}

/// CPR, the area under faithfulness f, and CMD, that under |1 − f|, by trapezoids over nominal fractions of edges as MIB takes
/// them; equal fractions (several orders at random) are averaged first. None unless the fractions span MIB's range.
fn areas(mut points: Vec<(f64, f64)>) -> Option<[f64; 2]> {
    if points.iter().any(|(x, f)| !(x.is_finite() && f.is_finite())) {
        return None;
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mean = |same: &[(f64, f64)]| (same[0].0, same.iter().map(|(_, f)| f).sum::<f64>() / same.len() as f64);
    let points: Vec<(f64, f64)> = points.chunk_by(|a, b| a.0 == b.0).map(mean).collect();
    let spans = points.first().is_some_and(|p| p.0 <= MIB[0]) && points.last().is_some_and(|p| p.0 >= MIB[1]);
    let under = |f: fn(f64) -> f64| -> f64 {
        points.windows(2).map(|w| (w[1].0 - w[0].0) * (f(w[0].1) + f(w[1].1)) / 2.0).sum()
    };
    (spans && points.len() > 2).then(|| [under(|f| f), under(|f| (1.0 - f).abs())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_those_of_mib_or_none() {
        let full = vec![(0.001, 0.0), (0.5, 1.0), (1.0, 1.0)];
        let [cpr, cmd] = areas(full.clone()).unwrap();
        assert!((cpr - (0.499 / 2.0 + 0.5)).abs() < 1e-12 && (cmd - 0.499 / 2.0).abs() < 1e-12);
        let twice = [full, vec![(0.5, 0.0)]].concat();
        assert!((areas(twice).unwrap()[0] - (0.499 * 0.25 + 0.5 * 0.75)).abs() < 1e-12);
        assert!(areas(vec![(0.1, 0.0), (0.5, 1.0), (1.0, 1.0)]).is_none(), "not over the whole range");
        assert!(areas(vec![(0.001, f64::NAN), (0.5, 1.0), (1.0, 1.0)]).is_none() && areas(Vec::new()).is_none());
    }
}
