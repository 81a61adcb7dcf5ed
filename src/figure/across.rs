//! The x axis of lines: named places, numbers, or logarithms with a place of its own for 0, set off by a break.

mod places;

use crate::figure::axes::{self, Axis};
use crate::figure::color::{FAINT, WHITE};
use crate::figure::font;
use crate::figure::labels::{self, Plan, Tick};
use crate::figure::scene::{Fill, Frame, Item, Scene, Stroke};
use crate::figure::style::Style;
use crate::figure::ticks;
use crate::figure::words::Words;
pub use places::Places;

/// The part of a logarithmic axis that the place of 0 takes, before its first value.
const BEFORE: f64 = 0.14;

/// The axis.
#[derive(Debug, Clone)]
pub struct Across {
    /// Its range and ticks; values go through [`Across::at`] first.
    pub axis: Axis,
    /// Words below it.
    pub words: Words,
    /// How far below a plot the words begin.
    pub ticked: f64,
    log: bool,
    zero: Option<f64>,
    /// The depths that named places stand for.
    depths: Option<Vec<f64>>,
    names: Option<Plan>,
}

impl Across {
    /// The axis below plots that are `room` points wide, with words of at most `width` points.
    pub fn new(places: &Places, style: &Style, room: f64, width: f64) -> Across {
        let mut words = places.words.clone();
        let (mut log, mut zero, mut depths, mut plan) = (false, None, None, None);
        let axis = if let Some(names) = &places.names {
            let ticks: Vec<Tick> = names.iter().map(|name| Tick::plain(font::visible(name))).collect();
            let set = labels::plan(style, &ticks, room / (names.len() as f64 - 0.2));
            // names of half steps that would have to be turned or thinned are written as numbers
            depths = if set.is_flat() { None } else { places::depths(names) };
            if let Some(depths) = &depths {
                let halves = depths.iter().any(|d| d.fract() != 0.0);
                words.push_str(if halves { " (block; ½:\u{a0}after\u{a0}attention)" } else { " (block)" });
                straight(depths, false, style, room)
            } else {
                let ticks = (0..names.len()).map(|i| (i as f64, String::new())).collect();
                plan = Some(set);
                Axis { range: [-0.4, names.len() as f64 - 0.6], ticks, ..Axis::default() }
            }
        } else if places.log && places.at.iter().any(|v| v.is_finite() && *v > 0.0) {
            let (axis, apart) = logarithmic(places, style, room);
            (log, zero) = (true, apart);
            axis
        } else {
            straight(&places.at, places.percent, style, room)
        };
        let high = plan.as_ref().map_or(1.15 * style.tick, |plan| plan.height + style.space(2.0));
        let (words, ticked) = (Words::new(style, &words, width), 2.0 * style.mark() + high);
        Across { axis, words, ticked, log, zero, depths, names: plan }
    }

    /// An axis as it is.
    pub fn of(axis: Axis, words: Words, style: &Style) -> Across {
        let ticked = 2.0 * style.mark() + 1.15 * style.tick;
        Across { axis, words, ticked, log: false, zero: None, depths: None, names: None }
    }

    /// Where a value lies, in the axis's own coordinates; NaN where it has no place.
    pub fn at(&self, value: f64) -> f64 {
        match (&self.depths, self.zero) {
            (Some(depths), _) => depths.get(value as usize).copied().unwrap_or(f64::NAN),
            (_, Some(zero)) if value == 0.0 => zero,
            _ if self.log => value.log10(),
            _ => value,
        }
    }

    /// Where a value lies below a plot, in points.
    pub fn place(&self, value: f64, frame: Frame) -> f64 {
        self.axis.place(self.at(value), frame.x, frame.right())
    }

    /// Whether a value is the 0 beyond the break: no line leads there.
    pub fn is_apart(&self, value: f64) -> bool {
        self.zero.is_some() && value == 0.0
    }

    /// Height of all that stands below a plot.
    pub fn depth(&self) -> f64 {
        self.ticked + self.words.depth() + 1.0
    }

    /// The axis with the numbers at its ticks or, for plots above others that have the same axis, without.
    pub fn axis(&self, ticked: bool) -> Axis {
        let mut axis = self.axis.clone();
        axis.ticks.iter_mut().filter(|_| !ticked).for_each(|(_, text)| text.clear());
        axis
    }

    /// What an axis below a plot cannot draw itself: the break before 0, and names.
    pub fn finish(&self, scene: &mut Scene, style: &Style, frame: Frame, ticked: bool) {
        if let Some(plan) = self.names.as_ref().filter(|_| ticked) {
            let [first, second] = [0.0, 1.0].map(|place| self.axis.place(place, frame.x, frame.right()));
            plan.draw(scene, first, frame.bottom() + 2.0 * style.mark(), second - first);
        }
        let Some(zero) = self.zero else { return };
        let unit = style.space(1.0);
        let first = self.axis.range[0]
            + (BEFORE + 0.05) / (1.0 + BEFORE + 0.05) * (self.axis.range[1] - self.axis.range[0]);
        let x = self.axis.place((zero + first) / 2.0, frame.x, frame.right());
        let y = frame.bottom();
        let gap = Frame::new(x - 1.2 * unit, y - 1.0 * unit, 2.4 * unit, 2.0 * unit);
        scene.add(Item::Rect(gap, Fill::Solid(WHITE), None));
        for x in [x - 1.2 * unit, x + 1.2 * unit] {
            let ends = [[x - unit, y + 2.2 * unit], [x + unit, y - 2.2 * unit]];
            scene.line(ends[0], ends[1], Stroke::solid(FAINT, 1.2 * style.rule));
        }
    }
}

/// An axis of numbers; where all are whole or half, its ticks are whole: there is no layer two and a quarter.
fn straight(values: &[f64], percent: bool, style: &Style, room: f64) -> Axis {
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let (lo, hi) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
    // a single place stands in the middle of a unit on either side
    let range = if lo == hi { [lo - 1.0, hi + 1.0] } else { axes::spread(finite(), &[], 0.025) };
    let mut axis = Axis::round(range, (room / style.space(36.0)).clamp(2.0, 9.0) as usize, false);
    let whole = |times: f64| finite().all(|v| (times * v).fract() == 0.0);
    if whole(1.0) || whole(2.0) && range[1] - range[0] >= 2.0 {
        axis.ticks.retain(|(v, _)| (v - v.round()).abs() < 1e-9);
        axis.ticks.iter_mut().for_each(|(v, text)| *text = ticks::plain(v.round()));
    }
    axis.ticks.iter_mut().filter(|_| percent).for_each(|(v, text)| *text = written(*v, true, false));
    axis
}

/// An axis of logarithms, and where 0 lies on it when it is among the values.
fn logarithmic(places: &Places, style: &Style, room: f64) -> (Axis, Option<f64>) {
    let logs = places.at.iter().filter(|v| **v > 0.0).map(|v| v.log10());
    let [lo, hi] = axes::spread(logs, &[], 0.03);
    // at least one of 1, 2, 5 is inside, so that something is written
    let widen = ((0.8 - (hi - lo)) / 2.0).max(0.0);
    let [lo, hi] = [lo - widen, hi + widen];
    let mut axis = Axis::powers([lo, hi]);
    axis.rules = false;
    let long = axis.ticks.iter().any(|(v, _)| *v > 4.5);
    axis.ticks.iter_mut().for_each(|(v, text)| *text = written(10f64.powf(*v), places.percent, long));
    let zero = places.at.contains(&0.0).then_some(lo - BEFORE * (hi - lo));
    if let Some(zero) = zero {
        axis.range[0] = zero - 0.05 * (hi - lo);
        axis.ticks.insert(0, (zero, "0".to_owned()));
    }
    thin(&mut axis, usize::from(zero.is_some()), style, room);
    (axis, zero)
}

/// Leaves out words that would touch their neighbours; those of the first ticks and the outermost stay longest.
fn thin(axis: &mut Axis, first: usize, style: &Style, room: f64) {
    let half = |text: &str| font::width(text, style.tick, false) / 2.0;
    let spot = |(v, text): &(f64, String)| (axis.place(*v, 0.0, room), half(text));
    let places: Vec<(f64, f64)> = axis.ticks.iter().map(spot).collect();
    let mut kept: Vec<usize> = Vec::new();
    // 0 and the highest first, then downwards
    for i in (0..first).chain((first..places.len()).rev()) {
        let clear =
            |k: &usize| (places[*k].0 - places[i].0).abs() > places[*k].1 + places[i].1 + 0.4 * style.tick;
        if kept.iter().all(clear) {
            kept.push(i);
        } else {
            axis.ticks[i].1.clear();
        }
    }
}

/// A tick's words.
fn written(value: f64, percent: bool, long: bool) -> String {
    if percent {
        return format!("{} %", ticks::plain(100.0 * value));
    }
    let power = value.log10().round();
    if long && value > 0.0 && (value.log10() - power).abs() < 1e-9 {
        let digits = "⁰¹²³⁴⁵⁶⁷⁸⁹";
        let raised = format!("{power:.0}")
            .chars()
            .filter_map(|c| digits.chars().nth(c.to_digit(10)? as usize))
            .collect::<String>();
        return if power < 0.0 { format!("10⁻{raised}") } else { format!("10{raised}") };
    }
    ticks::plain(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::style::Venue;

    fn across(values: &[f64], room: f64) -> Across {
        let places = Places { at: values.to_vec(), log: true, ..Places::default() };
        Across::new(&places, &Venue::Neurips.style(), room, room)
    }

    #[test]
    fn zero_has_a_place_before_all_others() {
        let axis = across(&[0.0, 1.0, 512.0], 100.0);
        assert!(axis.at(0.0) < axis.at(1.0) && axis.at(0.0) > axis.axis.range[0]);
        assert!(axis.is_apart(0.0) && !axis.is_apart(1.0));
        assert!(!across(&[1.0, 512.0], 100.0).is_apart(0.0));
        assert!(across(&[-1.0, 1.0], 100.0).at(-1.0).is_nan());
    }

    #[test]
    fn words_do_not_touch() {
        let axis = across(&[0.0, 1.0, 1e6], 40.0);
        let words: Vec<&str> =
            axis.axis.ticks.iter().map(|(_, t)| t.as_str()).filter(|t| !t.is_empty()).collect();
        assert!(words.len() < 5 && words[0] == "0" && words.contains(&"10⁶"), "{words:?}");
        assert_eq!(written(0.001, true, false), "0.1 %");
        assert_eq!(written(0.01, false, true), "10⁻²");
    }

    #[test]
    fn nothing_positive_is_no_logarithm() {
        for values in [&[0.0, 0.0][..], &[], &[f64::NAN], &[-3.0]] {
            let axis = across(values, 100.0);
            assert!(axis.axis.range[0] < axis.axis.range[1]);
        }
    }
}
