//! Waterfall: how parts add up to a total, each bar floating from where the one before ended.

mod steps;

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::axes::{self, Axis, Mark, Shape};
use crate::figure::color::{Color, FAINT, INK, NEGATIVE, POSITIVE};
use crate::figure::font;
use crate::figure::scene::{Anchor, Fill, Frame, Item, Scene, Stroke, Text};
use crate::figure::style::{Span, Style};
use crate::figure::ticks;
use crate::figure::view::View;
use crate::figure::words::{self, Words};
use crate::row::Rows;
use steps::{Role, Step, steps};

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "waterfall",
    about: "how parts add up: `label`, `value` with `lo` and `hi`, from a running sum; `top` keeps the largest and one bar \
            holds the others, so that the sum is exact; `mark` tells rows that are levels (start, total) from parts",
    takes: &["sort", "top"],
    draw,
};

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let style = view.style();
    let width = view.points(Span::Full);
    let (tick, thick) = (style.tick, style.tick);
    let pitch = thick * 1.5;
    let across = Words::new(&style, &words::value(view, &view.x_label)?, width - 2.0);
    let ticked = 2.0 * style.mark() + tick + style.space(2.0);
    let below = ticked + across.depth() + 1.0;
    // beside the parts, there may be a start, the others, those without a value, and the total
    let most = (style.tall - 8.0 - below) / pitch - 4.0;
    let steps = steps(rows, view, most.max(1.0) as usize)?;

    let room = width * 0.42;
    let bold = |step: &Step| step.role == Role::Level;
    let name = |step: &Step| font::fit(&step.name, tick, bold(step), room);
    let named = |step: &Step| font::width(&name(step), tick, bold(step));
    let words = |step: &Step| font::fit(&step.words, tick, false, (room - named(step) - 4.0).max(0.0));
    let used = |step: &Step| {
        let words = font::width(&words(step), tick, false);
        named(step) + words + if words > 0.0 { 4.0 } else { 0.0 }
    };
    let left = steps.iter().map(used).fold(0.0, f64::max) + 8.0;
    let decimals = decimals(&steps);
    let written = |step: &Step| match (step.role, step.value()) {
        (_, v) if v.is_nan() => "no value".to_owned(),
        (Role::Level, v) => number(v, decimals),
        (_, v) if v > 0.0 => format!("+{}", number(v, decimals)),
        (_, v) => number(v, decimals),
    };
    let numbers = steps.iter().map(|step| font::width(&written(step), tick, bold(step)));
    let right = numbers.fold(0.0, f64::max) + 7.0;

    let ends = steps.iter().flat_map(|step| {
        let [lo, hi] = step.interval.unwrap_or([f64::NAN; 2]);
        [step.from, step.to, lo, hi]
    });
    let range = view.limits.unwrap_or_else(|| axes::spread(ends, &[0.0], 0.04));
    let high = steps.len() as f64 * pitch + 4.0;
    let mut scene = Scene::new(width, 4.0 + high + below);
    let frame = Frame::new(left, 4.0, (width - left - right).max(20.0), high);
    let x = axis(range, frame.w, &style);
    let y = Axis { range: [high, 0.0], ticks: Vec::new(), rules: false, bare: true };
    let place = |v: f64| x.place(v.clamp(range[0], range[1]), frame.x, frame.right());
    let mut marks: Vec<Mark> = Vec::new();
    for (row, step) in steps.iter().enumerate() {
        let top = 2.0 + row as f64 * pitch + (pitch - thick) / 2.0;
        let middle = frame.y + top + thick / 2.0;
        scene.add(Text::new(4.0, middle, name(step), tick).bold(bold(step)).middle());
        scene.add(Text::new(8.0 + named(step), middle, words(step), tick).color(FAINT).middle());
        let number = Text::new(width - 3.0, middle, written(step), tick).anchor(Anchor::End);
        scene.add(number.bold(bold(step)).color(if step.to.is_nan() { FAINT } else { INK }).middle());
        marks.extend(bar(&style, step, range, (top, thick), &written(step)));
        if step.to.is_nan() {
            let stub = Frame::new(place(step.from), frame.y + top, 8.0, thick);
            scene.add(Item::Rect(stub, Fill::Hatch, None));
        }
        if row + 1 < steps.len() {
            let points =
                [top, top + pitch + thick].map(|y| [step.end().clamp(range[0], range[1]), y]).to_vec();
            marks.push(Shape::Line { points, color: FAINT, width: style.rule, dash: false }.into());
        }
    }
    axes::plot(&mut scene, &style, frame, &x, &y, &marks)?;
    if (range[0]..=range[1]).contains(&0.0) {
        let zero = place(0.0);
        scene.line([zero, frame.y], [zero, frame.bottom()], Stroke::solid(INK, style.rule));
    }
    across.below(&mut scene, frame.x + frame.w / 2.0, frame.bottom() + ticked);
    Ok(scene)
}

/// Round ticks whose labels stand apart; every other one, counted from zero, where even few do not.
fn axis(range: [f64; 2], room: f64, style: &Style) -> Axis {
    let mut axis = Axis::round(range, (room / style.space(45.0)).clamp(2.0, 8.0) as usize, true);
    let apart = |axis: &Axis| {
        let near = axis.ticks.windows(2).map(|w| w[1].0 - w[0].0).fold(f64::INFINITY, f64::min);
        near / (range[1] - range[0]) * room >= axis.widest(style) + 4.0
    };
    while axis.ticks.len() > 2 && !apart(&axis) {
        let zero = axis.ticks.iter().position(|(at, _)| *at == 0.0).unwrap_or(0);
        let mut places = 0..;
        axis.ticks.retain(|_| places.next().is_some_and(|i: usize| i.abs_diff(zero) % 2 == 0));
    }
    axis
}

/// Decimals that suit the largest bar; none where plain decimals would be long.
fn decimals(steps: &[Step]) -> Option<usize> {
    let sizes = steps.iter().map(|step| step.value().abs()).filter(|v| *v > 0.0);
    match sizes.fold(0.0, f64::max) {
        0.01..0.1 => Some(4),
        0.1..1.0 => Some(3),
        1.0..100.0 => Some(2),
        100.0..1e4 => Some(1),
        1e4..1e6 => Some(0),
        _ => None,
    }
}

/// A number as it stands beside its bar; what rounds to zero has no sign.
fn number(value: f64, decimals: Option<usize>) -> String {
    let Some(decimals) = decimals else { return ticks::number(value) };
    let text = format!("{value:.decimals$}");
    let zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    text.replace('-', if zero { "" } else { "−" })
}

/// A floating bar and its whisker; nothing where the part has no value.
fn bar(
    style: &Style,
    step: &Step,
    [lowest, highest]: [f64; 2],
    (top, thick): (f64, f64),
    written: &str,
) -> Vec<Mark> {
    if step.to.is_nan() {
        return Vec::new();
    }
    let clamp = |v: f64| v.clamp(lowest, highest);
    let sign = if step.value() < 0.0 { NEGATIVE } else { POSITIVE };
    let color: Color = match step.role {
        Role::Level => FAINT,
        Role::Part => sign,
        Role::Others => sign.alpha(0.5),
    };
    let shape = Shape::Bar { from: [clamp(step.from), top], to: [clamp(step.to), top + thick], color };
    let mut marks = vec![Mark { tip: format!("{}: {written}", step.name), shape }];
    if let Some([lo, hi]) = step.interval {
        marks.extend(axes::whisker(style, [lo, hi], [lowest, highest], (top, thick)));
    }
    marks
}
