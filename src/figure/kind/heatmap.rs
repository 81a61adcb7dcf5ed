//! Heat map: layer × head, layer × position, any two columns against a third.

use std::collections::{HashMap, HashSet};

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::cells::{Cell, Panel, Reading};
use crate::figure::color::{Map, Scale};
use crate::figure::evidence;
use crate::figure::font;
use crate::figure::grid::{Grid, Shape};
use crate::figure::labels::Tick;
use crate::figure::once::repeated;
use crate::figure::scene::Scene;
use crate::figure::style::Span;
use crate::figure::ticks;
use crate::figure::view::{LayerAxis, View, categories, optional_marks, optional_numbers, optional_texts};
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "heatmap",
    about: "coloured cells: `x`, `y`, `value`; `facet` makes panels, `q` (corrected p-values) or else `lo` and `hi` outline cells that differ from 0, from the size `outline` on",
    takes: &["facet", "layer_axis", "outline", "top"],
    draw,
};

/// Cells from this share of the largest on are outlined where they differ from 0, unless a view says another size.
pub const OUTLINE: f64 = 0.05;

/// Row labels beyond this many get no text in their cells unless asked for.
const MOST_TEXTS: usize = 400;
/// Numbers of more characters than this are shortened as names of places.
const LONG: usize = 7;
/// Of more panels than this the eye compares colours, and cells carry no numbers.
const MOST_PANELS: usize = 8;

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let layer_axis = view.layer_axis.unwrap_or(LayerAxis::Down);
    let mut parts = [
        (view.need("x", &view.x)?, &view.x_text, &view.x_label),
        (view.need("y", &view.y)?, &view.y_text, &view.y_label),
    ];
    if layer_axis == LayerAxis::X {
        parts.swap(0, 1);
    }
    let [(x, x_text, x_label), (y, y_text, y_label)] = parts;
    let value = view.need("value", &view.value)?;
    let values = rows.numbers(value)?;
    let (x_names, xs) = categories(rows, x)?;
    let (y_names, ys) = categories(rows, y)?;
    let (facets, panel_of) = facets(rows, view)?;
    let (lo, hi) = (optional_numbers(rows, &view.lo)?, optional_numbers(rows, &view.hi)?);
    let differs = evidence::differs(rows, view, 0.0)?;
    let largest = values.iter().flatten().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs()));
    let least = view.outline.unwrap_or(OUTLINE * largest);
    let written = optional_texts(rows, &view.text.clone().or_else(|| view.label.clone()))?;
    let named = top_cells(&values, view.top);

    let (w, h) = (x_names.len(), y_names.len());
    let mut cells = vec![vec![Cell::Missing; w * h]; facets.len()];
    for i in 0..rows.len() {
        let row = if layer_axis == LayerAxis::Up { h - 1 - ys[i] } else { ys[i] };
        let place = &mut cells[panel_of[i]][row * w + xs[i]];
        if *place != Cell::Missing {
            return Err(repeated(rows, view, &format!("{x} {} and {y} {}", x_names[xs[i]], y_names[ys[i]])));
        }
        let number = values[i].unwrap_or(f64::NAN);
        let name = || {
            written
                .as_ref()
                .map_or_else(|| format!("{}.{}", y_names[ys[i]], x_names[xs[i]]), |t| font::visible(&t[i]))
        };
        let text = match view.top {
            Some(_) if named[i] => name(),
            None if written.is_some() => name(),
            None if w * h <= MOST_TEXTS && facets.len() <= MOST_PANELS => ticks::cell(number, largest),
            _ => String::new(),
        };
        let interval = lo[i].zip(hi[i]);
        // an effect that is next to nothing is not set off, however narrow its interval
        let outlined = number.abs() >= least && differs[i];
        let range = interval
            .map_or_else(String::new, |(lo, hi)| format!(" [{}, {}]", ticks::number(lo), ticks::number(hi)));
        let tip = format!("{y} {}, {x} {}: {}{range}", y_names[ys[i]], x_names[xs[i]], ticks::number(number));
        *place = Cell::Reading(Reading { value: number, text, outlined, tip, ..Reading::default() });
    }

    let map = view.map.unwrap_or(Map::RdBu);
    let scale = Scale::over(values.iter().flatten().copied(), map, view.limits);
    let marks = optional_marks(rows, &view.mark)?;
    let mut down = axis(rows, &y_names, &ys, y_text, &marks)?;
    if layer_axis == LayerAxis::Up {
        down.reverse();
    }
    let panels = facets.into_iter().zip(cells).map(|(name, cells)| Panel { name, cells }).collect();
    let grid = Grid {
        style: view.style(),
        panels,
        columns: axis(rows, &x_names, &xs, x_text, &marks)?,
        rows: down,
        scale,
        bar: bar_label(view, map, value),
        names: [label(x_label, x, x_text.is_some()), label(y_label, y, y_text.is_some())],
        width: view.points(Span::Half),
        shape: Shape::Square(if x_text.is_some() { 7.0 } else { 5.0 }, 28.0),
        above: Vec::new(),
        note: String::new(),
    };
    Ok(grid.draw())
}

/// Panel names and each row's panel: one nameless panel where nothing splits the rows.
pub fn facets(rows: &Rows, view: &View) -> Result<(Vec<String>, Vec<usize>)> {
    match &view.facet {
        Some(column) => categories(rows, column),
        None => Ok((vec![String::new()], vec![0; rows.len()])),
    }
}

/// Labels along an axis: the token at each place where one column names them all alike, else the place itself.
pub fn axis(
    rows: &Rows,
    names: &[String],
    places: &[usize],
    tokens: &Option<String>,
    marks: &[bool],
) -> Result<Vec<Tick>> {
    let mut ticks: Vec<Tick> = written(names).into_iter().map(Tick::plain).collect();
    let Some(tokens) = optional_texts(rows, tokens)? else { return Ok(ticks) };
    let mut seen: HashMap<usize, &String> = HashMap::new();
    let alike =
        places.iter().zip(&tokens).all(|(place, token)| *seen.entry(*place).or_insert(token) == token);
    for (i, place) in places.iter().enumerate() {
        if alike {
            ticks[*place].text = font::token(&tokens[i]);
        }
        ticks[*place].bold |= marks[i];
    }
    Ok(ticks)
}

/// Names of places as they are drawn: numbers of many digits in few, where they stay apart.
fn written(names: &[String]) -> Vec<String> {
    let number = |name: &String| name.parse::<f64>().ok().filter(|v| v.is_finite() && name.len() > LONG);
    let short: Vec<String> =
        names.iter().map(|name| number(name).map_or_else(|| font::visible(name), ticks::number)).collect();
    let apart = short.iter().collect::<HashSet<_>>().len() == short.len();
    if apart { short } else { names.iter().map(|name| font::visible(name)).collect() }
}

/// Words along an axis: as given, else the column's name; nothing where tokens speak for themselves.
pub fn label(given: &str, column: &str, tokens: bool) -> String {
    match (given.is_empty(), tokens) {
        (false, _) => given.to_owned(),
        (true, true) => String::new(),
        (true, false) => column.replace('_', " "),
    }
}

/// Words along the colour bar; a diverging one says which colour is positive.
pub fn bar_label(view: &View, map: Map, value: &str) -> String {
    let words = label(&view.value_label, value, false);
    match map.positive() {
        Some(color) if !words.contains(color) => format!("{words} ({color}\u{a0}=\u{a0}positive)"),
        _ => words,
    }
}

fn top_cells(values: &[Option<f64>], top: Option<usize>) -> Vec<bool> {
    let size = |i: &usize| values[*i].filter(|v| v.is_finite()).map_or(-1.0, f64::abs);
    let mut order: Vec<usize> = (0..values.len()).filter(|i| size(i) > 0.0).collect();
    order.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
    let mut named = vec![false; values.len()];
    for i in order.into_iter().take(top.unwrap_or(0)) {
        named[i] = true;
    }
    named
}
