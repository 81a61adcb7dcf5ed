//! Waterfall: how parts add up to a total, each bar floating from where the one before ended.

use crate::error::{Error, Result};
use crate::figure::Figure;
use crate::figure::axes::{self, Axis, Mark, Shape};
use crate::figure::color::{Color, FAINT, INK, NEGATIVE, POSITIVE};
use crate::figure::font;
use crate::figure::scene::{Anchor, Fill, Frame, Item, Scene, Stroke, Text};
use crate::figure::style::{Span, Style};
use crate::figure::ticks;
use crate::figure::view::{Sort, View, optional_marks, optional_numbers, optional_texts};
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "waterfall",
    about: "how parts add up: `label`, `value` with `lo` and `hi`, from a running sum; `top` keeps the largest and one bar \
            holds the others, so that the sum is exact; `mark` tells rows that are levels (start, total) from parts",
    draw,
};

/// Parts drawn one by one when the view does not say.
const KEPT: usize = 16;
/// A stated total further from the sum than this share of the largest bar gets a bar for what is missing.
const ROUNDING: f64 = 1e-3;

/// What a bar stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A part of the sum.
    Part,
    /// All the parts without a bar of their own, or what a stated total has beyond the sum.
    Others,
    /// A level: stands on zero.
    Level,
}

/// One bar, from the running sum before it to the one after.
#[derive(Debug, Clone, PartialEq)]
struct Step {
    name: String,
    words: String,
    role: Role,
    from: f64,
    /// NaN where a part has no value: the sum goes on without it.
    to: f64,
    /// The interval, where the bar ends.
    interval: Option<[f64; 2]>,
}

impl Step {
    /// What it adds; of a level, where it stands.
    fn value(&self) -> f64 {
        self.to - self.from
    }

    /// The running sum after it.
    fn end(&self) -> f64 {
        if self.to.is_nan() { self.from } else { self.to }
    }
}

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let steps = steps(rows, view)?;
    let style = view.style();
    let width = view.points(Span::Full);
    let (tick, thick) = (style.tick, style.tick);
    let pitch = thick * 1.5;

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
    let below = 2.0 * style.mark() + tick + style.label + style.space(4.0);
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
    let words = match (view.value_label.as_str(), view.x_label.as_str()) {
        ("", "") => view.need("value", &view.value)?.replace('_', " "),
        ("", words) | (words, _) => font::visible(words),
    };
    let baseline = scene.height - style.foot();
    axes::name(&mut scene, &style, frame, Some((&words, baseline)), None);
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
        let (middle, cap) = (top + thick / 2.0, thick * 0.25);
        let mut line =
            |points| marks.push(Shape::Line { points, color: INK, width: style.thin(), dash: false }.into());
        line(vec![[clamp(lo), middle], [clamp(hi), middle]]);
        for end in [lo, hi].into_iter().filter(|v| *v == clamp(*v)) {
            line(vec![[end, middle - cap], [end, middle + cap]]);
        }
    }
    marks
}

/// The bars of a table: a start where it gives one, its parts, one bar for the parts left out, the total.
fn steps(rows: &Rows, view: &View) -> Result<Vec<Step>> {
    let names = rows.texts(view.need("label", &view.label)?)?;
    let values = rows.numbers(view.need("value", &view.value)?)?;
    let (lo, hi) = (optional_numbers(rows, &view.lo)?, optional_numbers(rows, &view.hi)?);
    let words = optional_texts(rows, &view.role)?;
    let levels = optional_marks(rows, &view.mark)?;
    let value = |i: usize| values[i].filter(|v| v.is_finite());
    let step = |i: usize, role: Role, from: f64| {
        let base = if role == Role::Level { 0.0 } else { from };
        let to = value(i).map_or(f64::NAN, |v| base + v);
        let finite = |v: Option<f64>| v.filter(|v| v.is_finite());
        let interval = finite(lo[i]).zip(finite(hi[i])).map(|(lo, hi)| [base + lo, base + hi]);
        let words = words.as_ref().map_or_else(String::new, |w| font::visible(&w[i]));
        Step { name: font::visible(&names[i]), words, role, from: base, to, interval }
    };

    let last = rows.len().saturating_sub(1);
    let start = levels.first().copied().unwrap_or(false).then_some(0);
    let total = (last > 0 && levels[last]).then_some(last);
    let parts: Vec<usize> = (0..rows.len()).filter(|i| Some(*i) != start && Some(*i) != total).collect();
    if let Some(i) = parts.iter().find(|i| levels[**i]) {
        return Err(Error::input(
            format!("row {} of `{}`, {}, is marked as a level between parts", i + 1, rows.name, names[*i]),
            "only the first row (the start) and the last (the total) may be levels",
        ));
    }
    let (kept, left_out) = chosen(&parts, &values, view);

    let mut steps: Vec<Step> = start.iter().map(|i| step(*i, Role::Level, 0.0)).collect();
    let mut sum = steps.first().map_or(0.0, Step::end);
    for i in kept {
        steps.push(step(i, Role::Part, sum));
        sum = steps.last().map_or(sum, Step::end);
    }
    let mut more = |name: String, from: f64, by: f64| {
        let to = from + by;
        steps.push(Step { name, words: String::new(), role: Role::Others, from, to, interval: None });
        to
    };
    let unknown = left_out.iter().filter(|i| value(**i).is_none()).count();
    let others = left_out.len() - unknown;
    if others > 0 {
        let by: f64 = left_out.iter().filter_map(|i| value(*i)).sum();
        sum = more(format!("{others} other{}", if others == 1 { "" } else { "s" }), sum, by);
    }
    if unknown > 0 {
        more(format!("{unknown} without a value"), sum, f64::NAN);
    }
    let largest = parts.iter().filter_map(|i| value(*i)).fold(sum.abs(), |m, v| m.max(v.abs()));
    match total.and_then(|i| Some((i, value(i)?))) {
        Some((i, stated)) => {
            if (stated - sum).abs() > ROUNDING * largest.max(stated.abs()) {
                more("not in these parts".to_owned(), sum, stated - sum);
            }
            steps.push(step(i, Role::Level, 0.0));
        }
        None => {
            let name =
                if view.y_label.is_empty() { "total".to_owned() } else { font::visible(&view.y_label) };
            let (words, interval) = (String::new(), None);
            let none = sum == 0.0 && !values.iter().flatten().any(|v| v.is_finite());
            let to = if none { f64::NAN } else { sum };
            steps.push(Step { name, words, role: Role::Level, from: 0.0, to, interval });
        }
    }
    Ok(steps)
}

/// The parts with a bar of their own, in drawing order, and those that share one.
fn chosen(parts: &[usize], values: &[Option<f64>], view: &View) -> (Vec<usize>, Vec<usize>) {
    let number = |i: usize| values[i].filter(|v| v.is_finite());
    let size = |i: &usize| number(*i).map_or(-1.0, f64::abs);
    let mut by_size = parts.to_vec();
    by_size.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
    let most = view.top.unwrap_or(KEPT).max(1);
    // a bar for one other part takes the room of the part itself
    let most = if parts.len() == most + 1 { parts.len() } else { most.min(parts.len()) };
    let mut left_out = by_size.split_off(most);
    left_out.sort_unstable();
    let mut kept = by_size;
    match view.sort {
        Sort::Value => kept.sort_by(|a, b| {
            let value = |i: usize| number(i).unwrap_or(f64::NEG_INFINITY);
            value(*b).total_cmp(&value(*a)).then(a.cmp(b))
        }),
        Sort::Size => {}
        Sort::Table => kept.sort_unstable(),
    }
    (kept, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Column;

    fn table(values: &[Option<f64>], levels: &[bool]) -> Rows {
        let names = (0..values.len()).map(|i| Some(format!("part {i}"))).collect();
        let column = |name: &str, cells| (name.to_owned(), String::new(), cells);
        let levels = levels.iter().map(|v| Some(*v)).collect();
        Rows {
            name: "t".into(),
            columns: vec![
                column("name", Column::Text(names)),
                column("v", Column::Num(values.to_vec())),
                column("level", Column::Bool(levels)),
            ],
        }
    }

    fn of(rows: &Rows, more: &str) -> Result<Vec<Step>> {
        steps(rows, &toml::from_str(&format!("label='name'\nvalue='v'\n{more}")).unwrap())
    }

    #[test]
    fn the_last_bar_is_the_sum_of_the_table() {
        let values: Vec<Option<f64>> = (0..200).map(|i| Some((f64::from(i) * 0.7).sin() * 3.0)).collect();
        let sum: f64 = values.iter().flatten().sum();
        for more in ["", "top=3", "top=199\nsort='size'", "top=5\nsort='table'", "top=1000"] {
            let steps = of(&table(&values, &[false; 200]), more).unwrap();
            let [.., before, total] = steps.as_slice() else { panic!() };
            assert!((total.to - sum).abs() < 1e-9 && (before.end() - sum).abs() < 1e-9, "{more}");
            assert!(steps.windows(2).all(|w| w[1].role == Role::Level || w[1].from == w[0].end()));
        }
        let short = of(&table(&values, &[false; 200]), "top=3").unwrap();
        assert_eq!((short.len(), short[3].name.as_str()), (5, "197 others"));
    }

    #[test]
    fn levels_start_and_end_the_sum_and_what_is_missing_is_told() {
        let rows = table(&[Some(1.0), Some(2.0), None, Some(4.0)], &[true, false, false, true]);
        let steps = of(&rows, "mark='level'").unwrap();
        let names: Vec<&str> = steps.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["part 0", "part 1", "part 2", "not in these parts", "part 3"]);
        assert_eq!((steps[1].from, steps[1].to, steps[3].from, steps[3].to), (1.0, 3.0, 3.0, 4.0));
        let between = table(&[Some(1.0), Some(2.0), Some(3.0)], &[false, true, false]);
        assert!(of(&between, "mark='level'").unwrap_err().to_string().contains("part 1"));
    }
}
