//! Sorted horizontal bars with intervals: which components matter, and by how much.

use std::collections::HashMap;

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::axes::{self, Axis, Mark, Shape};
use crate::figure::color::{CATEGORICAL, Color, FAINT, INK, NEGATIVE, POSITIVE, WHITE};
use crate::figure::font;
use crate::figure::legend::{Entry, Legend, Sign};
use crate::figure::scene::{Anchor, Fill, Frame, Item, Scene, Stroke, Text};
use crate::figure::style::{Span, Style};
use crate::figure::ticks;
use crate::figure::view::{Series, Sort, View, optional_numbers, optional_texts};
use crate::figure::words::{self, Words};
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "bars",
    about: "sorted horizontal bars: `label`, `value` with `lo` and `hi`, or several `series`; `role` adds words, `top` keeps the largest",
    takes: &["sort", "top"],
    draw,
};

/// Bars kept when the view does not say.
const KEPT: usize = 20;

/// Of the value axis, at least so much lies on a side where a bar has no end.
const ENDLESS: f64 = 0.12;

/// One drawn number of every bar.
struct Numbers {
    name: String,
    value: Vec<Option<f64>>,
    lo: Vec<Option<f64>>,
    hi: Vec<Option<f64>>,
}

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let labels: Vec<String> =
        rows.texts(view.need("label", &view.label)?)?.iter().map(|l| font::visible(l)).collect();
    let roles = optional_texts(rows, &view.role)?;
    let series = view.all_series()?;
    let all: Vec<Numbers> = series.iter().map(|s| numbers(rows, s)).collect::<Result<_>>()?;
    let (width, style) = (view.points(Span::Full), view.style());
    let n = all.len().max(1);
    let thick = if n == 1 { style.space(7.0) } else { style.space(4.6) };
    let pitch = n as f64 * thick + style.space(if n == 1 { 4.0 } else { 5.0 });
    let margin = style.space(4.0);
    let entry = |(k, s): (usize, &Numbers)| Entry::named(Sign::Box(shade(k)), &s.name);
    let names = Legend::new(all.iter().enumerate().map(entry).collect(), &style, width - margin);
    let legend = names.height();
    // several are named in the legend
    let words = if n > 1 && view.value_label.is_empty() {
        view.x_label.clone()
    } else {
        words::value(view, &view.x_label)?
    };
    let words = Words::new(&style, &words, width - 2.0);
    let ticked = 2.0 * style.mark() + style.tick + style.space(2.0);
    let most = (style.tall - legend - ticked - words.depth() - 2.0 * style.small - 8.0) / pitch;
    let (order, left_out) = order(&all, view, most.max(1.0) as usize);

    let role = |i: usize| roles.as_ref().map_or_else(String::new, |r| font::visible(&r[i]));
    let room = width * 0.42;
    let told: Vec<(&str, bool)> = order.iter().map(|i| (labels[*i].as_str(), false)).collect();
    let called: HashMap<usize, String> =
        order.iter().copied().zip(font::apart(&told, style.tick, room)).collect();
    let name = |i: usize| called.get(&i).cloned().unwrap_or_default();
    let full = |i: usize| {
        let (name, role) = (name(i), role(i));
        let rest = room - font::width(&name, style.tick, false) - 4.0;
        let role = font::fit(&role, style.tick, false, rest);
        (name, role)
    };
    let used = |i: usize| {
        let (name, role) = full(i);
        let gap = if role.is_empty() { 0.0 } else { 4.0 };
        font::width(&name, style.tick, false) + gap + font::width(&role, style.tick, false)
    };
    let left = order.iter().map(|i| used(*i)).fold(0.0, f64::max) + 6.0;
    let drawn = all.iter().flat_map(|s| order.iter().flat_map(|i| [s.value[*i], s.lo[*i], s.hi[*i]]));
    let range = view.limits.unwrap_or_else(|| range(drawn.flatten().collect()));
    let said = note(&all, &left_out);
    let high = order.len() as f64 * pitch + 4.0;
    let note = Words::small(&style, &said, width - 8.0);
    let below = ticked + words.depth() + note.depth() + 4.0;
    let mut scene = Scene { caption: said, ..Scene::new(width, legend + high + below) };
    let frame = Frame::new(left, legend, width - left - 10.0, high);
    let x = Axis::round(range, (frame.w / style.space(45.0)).clamp(2.0, 8.0) as usize, true);
    let y = Axis { range: [high, 0.0], ticks: Vec::new(), rules: false, bare: true };
    let (mut marks, mut clipped) = (Vec::new(), Vec::new());
    for (row, &i) in order.iter().enumerate() {
        let top = 2.0 + row as f64 * pitch + (pitch - n as f64 * thick) / 2.0;
        let (name, role) = full(i);
        let middle = legend + top + n as f64 * thick / 2.0;
        let label = Text::new(4.0, middle, name, style.tick).middle();
        let after = label.x + label.width() + 4.0;
        scene.add(label);
        scene.add(Text::new(after, middle, role, style.tick).middle().color(FAINT));
        for (k, s) in all.iter().enumerate() {
            let place = top + k as f64 * thick;
            marks.extend(bar(&style, s, i, &labels[i], range, (k, n, place, thick)));
            if let Some(v) = s.value[i].filter(|v| *v < range[0] || *v > range[1]) {
                // Cut off by the frame: the bar says its number.
                let ends = [0.0, v].map(|v| x.place(v.clamp(range[0], range[1]), frame.x, frame.right()));
                clipped.push((ticks::number(v), ends, frame.y + place));
            }
            if s.value[i].is_none_or(f64::is_nan) {
                let zero = x.place(0f64.clamp(range[0], range[1]), frame.x, frame.right());
                let stub = Frame::new(zero, frame.y + place + 0.4, style.space(8.0), thick - 0.8);
                scene.add(Item::Rect(stub, Fill::Hatch, None));
            }
        }
    }
    axes::plot(&mut scene, &style, frame, &x, &y, &marks)?;
    for (text, [from, to], top) in clipped {
        let left = to < frame.x + frame.w / 2.0;
        let (inset, anchor) = if left { (2.0, Anchor::Start) } else { (-2.0, Anchor::End) };
        let size = thick.min(style.small).max(5.0);
        let text = Text::new(to + inset, top + thick / 2.0, text, size).bold(true).middle().anchor(anchor);
        let inside = (to - from).abs() >= text.width() + 4.0;
        scene.add(text.color(if inside { WHITE } else { INK }));
    }
    if (range[0]..=range[1]).contains(&0.0) {
        let zero = x.place(0.0, frame.x, frame.right());
        scene.line([zero, frame.y], [zero, frame.bottom()], Stroke::solid(INK, style.thin()));
    }
    words.below(&mut scene, frame.x + frame.w / 2.0, frame.bottom() + ticked);
    names.draw(&mut scene, margin, 0.0);
    note.note(&mut scene, 4.0, frame.bottom() + ticked + words.depth() + 2.0);
    Ok(scene)
}

/// The value axis; a bar that ends nowhere has a side to be drawn on.
fn range(values: Vec<f64>) -> [f64; 2] {
    let endless = [f64::NEG_INFINITY, f64::INFINITY].map(|v| values.contains(&v));
    let [lo, hi] = axes::spread(values, &[0.0], 0.04);
    let side = ENDLESS * (hi - lo);
    [if endless[0] { lo.min(-side) } else { lo }, if endless[1] { hi.max(side) } else { hi }]
}

/// One bar with its interval; nothing where the value is missing.
fn bar(
    style: &Style,
    s: &Numbers,
    i: usize,
    label: &str,
    [lowest, highest]: [f64; 2],
    (k, n, top, thick): (usize, usize, f64, f64),
) -> Vec<Mark> {
    let clamp = |v: f64| v.clamp(lowest, highest);
    let Some(v) = s.value[i].filter(|v| !v.is_nan()) else { return Vec::new() };
    let color = if n > 1 {
        shade(k)
    } else if v < 0.0 {
        NEGATIVE
    } else {
        POSITIVE
    };
    let tip = if n > 1 {
        format!("{label}, {}: {}", s.name, ticks::number(v))
    } else {
        format!("{label}: {}", ticks::number(v))
    };
    let (from, to) = ([clamp(0.0), top + 0.4], [clamp(v), top + thick - 0.4]);
    let mut marks = vec![Mark { tip, shape: Shape::Bar { from, to, color } }];
    if let (Some(lo), Some(hi)) = (s.lo[i].filter(|v| !v.is_nan()), s.hi[i].filter(|v| !v.is_nan())) {
        marks.extend(axes::whisker(style, [lo, hi], [lowest, highest], (top, thick)));
    }
    marks
}

/// The places of the kept rows, at most `most`, in drawing order, and of those left out.
fn order(all: &[Numbers], view: &View, most: usize) -> (Vec<usize>, Vec<usize>) {
    let rows = all.first().map_or(0, |s| s.value.len());
    let first = |i: usize| all.first().and_then(|s| s.value[i]).unwrap_or(f64::NAN);
    let size = |i: usize| {
        all.iter().filter_map(|s| s.value[i]).filter(|v| !v.is_nan()).map(f64::abs).fold(-1.0, f64::max)
    };
    let mut by_size: Vec<usize> = (0..rows).collect();
    by_size.sort_by(|a, b| size(*b).total_cmp(&size(*a)).then(a.cmp(b)));
    let mut kept: Vec<usize> =
        by_size.iter().copied().take(view.top.unwrap_or(KEPT).clamp(1, most)).collect();
    let left_out = by_size[kept.len()..].to_vec();
    let descending = |v: f64| if v.is_nan() { f64::NEG_INFINITY } else { v };
    match view.sort {
        Sort::Value => {
            kept.sort_by(|a, b| descending(first(*b)).total_cmp(&descending(first(*a))).then(a.cmp(b)));
        }
        Sort::Size => kept.sort_by(|a, b| {
            descending(first(*b).abs()).total_cmp(&descending(first(*a).abs())).then(a.cmp(b))
        }),
        Sort::Table => kept.sort_unstable(),
    }
    (kept, left_out)
}

fn note(all: &[Numbers], left_out: &[usize]) -> String {
    let values = all.iter().flat_map(|s| left_out.iter().filter_map(|i| s.value[*i]));
    let sizes: Vec<f64> = values.filter(|v| !v.is_nan()).map(f64::abs).collect();
    match (left_out.len(), sizes.len()) {
        (0, _) => String::new(),
        (n, 0) => format!("{n} more without a value not shown"),
        (n, _) => {
            let most = sizes.into_iter().fold(0.0, f64::max);
            format!("{n} more not shown, each of size at most {}", ticks::no_less(most))
        }
    }
}

fn shade(k: usize) -> Color {
    CATEGORICAL[k % CATEGORICAL.len()]
}

fn numbers(rows: &Rows, series: &Series) -> Result<Numbers> {
    Ok(Numbers {
        name: words::series(series),
        value: rows.numbers(&series.value)?,
        lo: optional_numbers(rows, &series.lo)?,
        hi: optional_numbers(rows, &series.hi)?,
    })
}
