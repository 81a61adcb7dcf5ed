//! An axis across for counts and steps: straight, or logarithmic with a place of its own for 0, set off by a break.

use crate::figure::axes::{self, Axis};
use crate::figure::color::{FAINT, WHITE};
use crate::figure::font;
use crate::figure::scene::{Fill, Frame, Item, Scene, Stroke};
use crate::figure::style::Style;
use crate::figure::ticks;

/// The part of a logarithmic axis that the place of 0 takes, before its first value.
const BEFORE: f64 = 0.14;

/// The axis.
pub struct Across {
    /// Its range and ticks; values go through [`Across::at`] first.
    pub axis: Axis,
    log: bool,
    zero: Option<f64>,
}

/// Whether values span so much that only a logarithmic axis shows the small ones.
pub fn decades(values: &[f64]) -> bool {
    let positive = values.iter().filter(|v| v.is_finite() && **v > 0.0);
    let (least, most) = positive.fold((f64::INFINITY, 0.0f64), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
    most >= 10.0 * least
}

impl Across {
    /// An axis over these values in `room` points. `percent` writes shares as per cent.
    pub fn new(values: &[f64], log: bool, percent: bool, style: &Style, room: f64) -> Across {
        let positive = values.iter().any(|v| v.is_finite() && *v > 0.0);
        if !(log && positive) {
            let range = axes::spread(values.iter().copied(), &[], 0.03);
            let count = (room / (style.tick * 5.0)).clamp(2.0, 9.0) as usize;
            let mut axis = Axis::round(range, count, false);
            if values.iter().all(|v| v.fract() == 0.0) {
                axis.ticks.retain(|(v, _)| (v - v.round()).abs() < 1e-9); // no step two and a half
                let labels = ticks::labels(&axis.ticks.iter().map(|(v, _)| *v).collect::<Vec<_>>());
                axis.ticks.iter_mut().zip(labels).for_each(|(tick, label)| tick.1 = label);
            }
            if percent {
                axis.ticks.iter_mut().for_each(|(v, text)| *text = written(*v, true, false));
            }
            return Across { axis, log: false, zero: None };
        }
        let logs = values.iter().filter(|v| **v > 0.0).map(|v| v.log10());
        let [lo, hi] = axes::spread(logs, &[], 0.03);
        // at least one of 1, 2, 5 is inside, so that something is written
        let widen = ((0.8 - (hi - lo)) / 2.0).max(0.0);
        let [lo, hi] = [lo - widen, hi + widen];
        let mut axis = Axis::powers([lo, hi]);
        axis.rules = false;
        let long = axis.ticks.iter().any(|(v, _)| *v > 4.5);
        axis.ticks.iter_mut().for_each(|(v, text)| *text = written(10f64.powf(*v), percent, long));
        let has_zero = values.contains(&0.0);
        let zero = has_zero.then_some(lo - BEFORE * (hi - lo));
        if let Some(zero) = zero {
            axis.range[0] = zero - 0.05 * (hi - lo);
            axis.ticks.insert(0, (zero, "0".to_owned()));
        }
        let mut across = Across { axis, log: true, zero };
        across.thin(style, room);
        across
    }

    /// Where a value lies, in the axis's own coordinates; NaN where it has no place.
    pub fn at(&self, value: f64) -> f64 {
        match self.zero {
            Some(zero) if value == 0.0 => zero,
            _ if self.log => value.log10(),
            _ => value,
        }
    }

    /// Whether a value is the 0 beyond the break: no line leads there.
    pub fn is_apart(&self, value: f64) -> bool {
        self.zero.is_some() && value == 0.0
    }

    /// Without words: for panels above others that have the same axis.
    pub fn silent(&self) -> Axis {
        let mut axis = self.axis.clone();
        axis.ticks.iter_mut().for_each(|(_, text)| text.clear());
        axis
    }

    /// The break, on the axis below a plot.
    pub fn mark(&self, scene: &mut Scene, style: &Style, frame: Frame) {
        let Some(zero) = self.zero else { return };
        let unit = style.space(1.0);
        let first = self.axis.range[0] + (BEFORE + 0.05) / (1.0 + BEFORE + 0.05) * (self.axis.range[1] - self.axis.range[0]);
        let x = self.axis.place((zero + first) / 2.0, frame.x, frame.right());
        let y = frame.bottom();
        let gap = Frame::new(x - 1.2 * unit, y - 1.0 * unit, 2.4 * unit, 2.0 * unit);
        scene.add(Item::Rect(gap, Fill::Solid(WHITE), None));
        for shift in [-1.2, 1.2] {
            let x = x + shift * unit;
            scene.line([x - unit, y + 2.2 * unit], [x + unit, y - 2.2 * unit], Stroke::solid(FAINT, 1.2 * style.rule));
        }
    }

    /// Leaves out words that would touch their neighbours; the outermost stay longest.
    fn thin(&mut self, style: &Style, room: f64) {
        let places: Vec<(f64, f64)> = self
            .axis
            .ticks
            .iter()
            .map(|(v, text)| (self.axis.place(*v, 0.0, room), font::width(text, style.tick, false) / 2.0))
            .collect();
        let mut kept: Vec<usize> = Vec::new();
        let first = usize::from(self.zero.is_some());
        // 0 and the highest first, then downwards
        let order = (0..first).chain((first..places.len()).rev());
        for i in order {
            let clear = |k: &usize| (places[*k].0 - places[i].0).abs() > places[*k].1 + places[i].1 + 0.4 * style.tick;
            if kept.iter().all(clear) {
                kept.push(i);
            } else {
                self.axis.ticks[i].1.clear();
            }
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
        let raised = format!("{power:.0}").chars().filter_map(|c| digits.chars().nth(c.to_digit(10)? as usize)).collect::<String>();
        return if power < 0.0 { format!("10⁻{raised}") } else { format!("10{raised}") };
    }
    ticks::plain(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::style::Venue;

    fn across(values: &[f64], room: f64) -> Across {
        Across::new(values, true, false, &Venue::Neurips.style(), room)
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
        let words: Vec<&str> = axis.axis.ticks.iter().map(|(_, t)| t.as_str()).filter(|t| !t.is_empty()).collect();
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
        assert!(decades(&[0.0, 1.0, 10.0]) && !decades(&[1.0, 9.0]) && !decades(&[]));
    }
}
