//! Labels under a row of ticks: flat where they fit, else slanted, else upright, else thinned out.

use crate::figure::font;
use crate::figure::scene::{Anchor, Scene, Text};
use crate::figure::style::Style;

/// A label that would be longer is shortened with an ellipsis; at 7 points.
const LONGEST: f64 = 62.0;
/// Ticks so far apart are labelled flat even when a long label must be shortened; at 7 points.
const ROOMY: f64 = 44.0;
/// Line height over text size for turned labels that stand side by side.
const LEADING: f64 = 1.12;
/// The same where every label is wanted: ascenders and descenders just do not touch.
pub const TIGHT: f64 = 1.02;

/// One tick's label.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tick {
    /// What is written, already visible text.
    pub text: String,
    /// Set in bold: a token that differs between clean and corrupt.
    pub bold: bool,
}

/// How a row of labels is set.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    size: f64,
    angle: f64,
    texts: Vec<Option<Tick>>,
    /// Room needed below the ticks.
    pub height: f64,
    /// How far the labels reach left of the first tick.
    pub left: f64,
    /// How far the labels reach right of the last tick.
    pub right: f64,
}

impl Tick {
    /// A plain label.
    pub fn plain(text: impl Into<String>) -> Tick {
        Tick { text: text.into(), bold: false }
    }
}

/// Every which label is kept so that labels of `size` stand at least `gap` apart: 1, 2, 5, 10, ….
pub fn every(step: f64, needed: f64) -> usize {
    let strides = (0..6).flat_map(|power| [1, 2, 5].map(|lead| lead * 10usize.pow(power)));
    strides.into_iter().find(|k| *k as f64 * step >= needed).unwrap_or(1_000_000)
}

/// Sets labels for ticks `step` points apart.
pub fn plan(style: &Style, ticks: &[Tick], step: f64) -> Plan {
    let (sizes, air) = (style.sizes(), style.space(3.0));
    let numeric = ticks.iter().all(|tick| tick.text.parse::<f64>().is_ok());
    let widest = |size: f64| ticks.iter().map(|t| font::width(&t.text, size, t.bold)).fold(0.0, f64::max);
    let slant = |size: f64| step * std::f64::consts::FRAC_1_SQRT_2 >= size * LEADING;
    let flat = numeric || widest(style.tick) + air <= step || step >= style.space(ROOMY);
    let (size, angle, stride): (f64, f64, usize) = if flat {
        (style.tick, 0.0, if numeric { every(step, widest(style.tick) + air) } else { 1 })
    } else if let Some(size) = sizes.into_iter().take(3).find(|s| slant(*s)) {
        (size, -45.0, 1)
    } else {
        let [.., least] = sizes;
        let size = sizes.into_iter().find(|s| step >= s * LEADING);
        let size = size.or_else(|| Some(least).filter(|s| step >= s * TIGHT));
        let thinned = || (sizes[2], -90.0, (sizes[2] * LEADING / step).ceil() as usize);
        size.map_or_else(thinned, |s| (s, -90.0, 1))
    };
    let room = if numeric {
        f64::INFINITY
    } else if flat {
        step - air
    } else {
        style.space(LONGEST)
    };
    let set = |(i, tick): (usize, &Tick)| {
        let text =
            if room.is_finite() { font::fit(&tick.text, size, tick.bold, room) } else { tick.text.clone() };
        (i % stride.max(1) == 0).then_some(Tick { text, bold: tick.bold })
    };
    let texts: Vec<Option<Tick>> = ticks.iter().enumerate().map(set).collect();
    let width = |tick: &Option<Tick>| tick.as_ref().map_or(0.0, |t| font::width(&t.text, size, t.bold));
    let longest = texts.iter().map(width).fold(0.0, f64::max);
    let turn = angle.to_radians();
    let cap = size * font::CAP;
    let height = longest * turn.sin().abs() + cap * turn.cos() + 1.0;
    let reach = |i: usize, tick: &Option<Tick>| {
        let half = if angle == 0.0 { width(tick) / 2.0 } else { width(tick) * turn.cos() + cap / 2.0 };
        half - i as f64 * step
    };
    let left = texts.iter().enumerate().map(|(i, t)| reach(i, t)).fold(0.0, f64::max);
    let right = if angle == 0.0 { texts.last().map_or(0.0, |t| width(t) / 2.0) } else { cap / 2.0 };
    Plan { size, angle, texts, height, left, right }
}

impl Plan {
    /// Whether every label is written, and none turned.
    pub fn is_flat(&self) -> bool {
        self.angle == 0.0 && self.texts.iter().all(Option::is_some)
    }

    /// Writes the labels; the first tick stands at `x`, their top at `y`.
    pub fn draw(&self, scene: &mut Scene, x: f64, y: f64, step: f64) {
        for (i, tick) in self.texts.iter().enumerate() {
            let Some(tick) = tick else { continue };
            let at = x + i as f64 * step;
            let cap = self.size * font::CAP;
            let text = if self.angle == 0.0 {
                Text::new(at, y + cap, tick.text.clone(), self.size).anchor(Anchor::Middle)
            } else {
                let top = y + cap / 2.0 * self.angle.to_radians().cos();
                Text::new(at, top, tick.text.clone(), self.size).anchor(Anchor::End).turn(self.angle).middle()
            };
            scene.add(text.bold(tick.bold));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::style::Venue;

    const STYLE: fn() -> Style = || Venue::Neurips.style();

    #[test]
    fn labels_turn_as_room_shrinks() {
        let words: Vec<Tick> = ["When", "Mary", "and", "John"].map(Tick::plain).to_vec();
        let angles: Vec<f64> = [40.0, 14.0, 8.0].map(|step| plan(&STYLE(), &words, step).angle).to_vec();
        assert_eq!(angles, [0.0, -45.0, -90.0]);
        let thin = plan(&STYLE(), &words, 2.0);
        assert!(thin.texts.iter().filter(|t| t.is_some()).count() < 4);
    }

    #[test]
    fn numbers_are_thinned_and_never_turned() {
        let numbers: Vec<Tick> = (0..32).map(|i| Tick::plain(i.to_string())).collect();
        let plan = plan(&STYLE(), &numbers, 5.0);
        assert_eq!(plan.angle, 0.0);
        assert!(plan.texts[1].is_none() && plan.texts[5].is_some());
    }
}
