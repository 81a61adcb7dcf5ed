//! Causal tracing: where restoring a state brings the answer back. Tokens down, layers across, one panel for each kind of
//! state, in the colours that readers of Meng et al. (2022) know: a single state purple, MLPs green, attention red.
//!
//! These maps have one side. What lies below the corrupted run is marked with a minus in its cell, and where that is no
//! small matter the panels take a diverging map instead.

mod layout;

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::cells::{Cell, Panel, Reading};
use crate::figure::color::{Map, Scale};
use crate::figure::evidence;
use crate::figure::font;
use crate::figure::kind::heatmap::{OUTLINE, axis, facets, label};
use crate::figure::labels::Tick;
use crate::figure::once::repeated;
use crate::figure::scene::Scene;
use crate::figure::style::Span;
use crate::figure::ticks;
use crate::figure::view::{View, categories, optional_marks};
use crate::row::Rows;
use layout::{Part, Picture};

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "trace",
    about: "causal tracing: `x` (layer), `y` (position) with its token in `y_text` and subject tokens in `mark`, `value`; \
            `facet` (kind of state) makes panels; the first of `references` is the corrupted run, where colours begin",
    takes: &["facet", "outline", "references"],
    draw,
};

/// A size below the corrupted run, over the largest above it, from which on the map is diverging.
const DIVERGE: f64 = 0.25;
/// The same, from which on a cell is marked.
const MARKED: f64 = 0.05;

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let (x, y) = (view.need("x", &view.x)?, view.need("y", &view.y)?);
    let value = view.need("value", &view.value)?;
    let (layers, xs) = categories(rows, x)?;
    let (places, ys) = categories(rows, y)?;
    let (names, panel_of) = facets(rows, view)?;
    let values: Vec<f64> = rows.numbers(value)?.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect();
    let marks = optional_marks(rows, &view.mark)?;
    let base = view.references.first().map_or(0.0, |r| r.at);
    let over = values.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max((v - base).abs()));
    let differs = evidence::differs(rows, view, base)?;
    let least = view.outline.unwrap_or(OUTLINE * over);

    let (w, h) = (layers.len(), places.len());
    let mut cells = vec![vec![Cell::Missing; w * h]; names.len()];
    for i in 0..rows.len() {
        let place = &mut cells[panel_of[i]][ys[i] * w + xs[i]];
        let at = format!("{x} {} and {y} {}", layers[xs[i]], places[ys[i]]);
        if *place != Cell::Missing {
            return Err(repeated(rows, view, &at));
        }
        let outlined = (values[i] - base).abs() >= least && differs[i];
        let tip = format!("{at}: {}", ticks::number(values[i]));
        *place = Cell::Reading(Reading { value: values[i], outlined, tip, ..Reading::default() });
    }
    let mut tokens = axis(rows, &places, &ys, &view.y_text, &vec![false; rows.len()])?;
    for (i, place) in ys.iter().enumerate().filter(|(i, _)| marks[*i]) {
        if marks[i] && !tokens[*place].bold {
            tokens[*place].text.push('*');
            tokens[*place].bold = true;
        }
    }

    let colours = Colours::new(&values, base, view);
    let parts = names.into_iter().zip(cells).map(|(name, cells)| colours.part(name, cells, view)).collect();
    let picture = Picture {
        parts,
        layers: layers.iter().map(|l| Tick::plain(font::visible(l))).collect(),
        tokens,
        marked: (!colours.diverging).then_some(base - MARKED * over),
        shared: view.shared.unwrap_or(true),
        names: [label(&view.x_label, x, false), label(&view.value_label, value, false)],
        width: view.points(Span::Full),
        style: view.style(),
        note: colours.note(&values),
    };
    Ok(picture.draw())
}

/// How values become colours.
struct Colours {
    base: f64,
    /// Limits of all panels.
    limits: [f64; 2],
    diverging: bool,
    /// How far above the corrupted run the largest lies.
    above: f64,
}

impl Colours {
    fn new(values: &[f64], base: f64, view: &View) -> Colours {
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        let (above, below) = finite().fold((0.0f64, 0.0f64), |(a, b), v| (a.max(v - base), b.max(base - v)));
        let own = base == 0.0 && below > DIVERGE * above && below > 1e-9;
        let diverging = view.map.map_or(own, |map| map.positive().is_some());
        let limits = view.limits.unwrap_or(if diverging {
            [-below.max(above), below.max(above)]
        } else {
            [base, base + above]
        });
        Colours { base, limits, diverging, above: above.max(below) }
    }

    /// The map that readers expect of a kind of state.
    fn map(&self, name: &str, view: &View) -> Map {
        let name = name.to_lowercase();
        // a stream whose later MLPs or attention are held back is still a single state
        let stream =
            ["post", "pre", "mid", "resid", "state", "stream"].iter().any(|word| name.starts_with(word));
        match view.map {
            Some(map) => map,
            None if self.diverging => Map::RdBu,
            None if !stream && name.contains("mlp") => Map::Greens,
            None if !stream && name.contains("att") => Map::Reds,
            None => Map::Purples,
        }
    }

    fn part(&self, name: String, cells: Vec<Cell>, view: &View) -> Part {
        let values =
            || cells.iter().filter_map(|cell| if let Cell::Reading(r) = cell { Some(r.value) } else { None });
        let limits = if view.shared.unwrap_or(true) || view.limits.is_some() {
            self.limits
        } else {
            let most = values().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max((v - self.base).abs()));
            [if self.diverging { -most } else { self.base }, self.base + most]
        };
        let scale = Scale::over(values(), self.map(&name, view), Some(limits));
        Part { panel: Panel { name, cells }, scale }
    }

    /// What a minus means.
    fn note(&self, values: &[f64]) -> String {
        let from = self.base - MARKED * self.above;
        let lowest = values.iter().copied().filter(|v| v.is_finite()).fold(f64::INFINITY, f64::min);
        if self.diverging || lowest.partial_cmp(&from) != Some(std::cmp::Ordering::Less) {
            return String::new();
        }
        let run = if self.base == 0.0 { String::new() } else { "the corrupted run's ".to_owned() };
        let (base, lowest) = (ticks::number(self.base), ticks::number(lowest));
        format!("\u{2212}: below {run}{base} (lowest {lowest})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colours(values: &[f64], view: &str) -> Colours {
        let view: View = toml::from_str(view).unwrap();
        Colours::new(values, view.references.first().map_or(0.0, |r| r.at), &view)
    }

    #[test]
    fn nothing_below_the_corrupted_run_is_hidden() {
        let rounding = [0.6, -0.02, 0.0, f64::NAN];
        let (small, large) = ([0.6, -0.05], [0.6, -0.3]);
        assert!(!colours(&rounding, "").diverging && colours(&rounding, "").note(&rounding).is_empty());
        assert!(!colours(&small, "").diverging);
        assert_eq!(colours(&small, "").note(&small), "\u{2212}: below 0 (lowest \u{2212}0.050)");
        assert!(colours(&large, "").diverging && colours(&large, "").note(&large).is_empty());
        let run = colours(&[0.7, 0.05], "references=[{at=0.1}]");
        assert_eq!((run.limits[0], run.diverging), (0.1, false));
        assert!(run.note(&[0.7, 0.05]).contains("corrupted run"));
    }

    #[test]
    fn kinds_of_state_have_their_colours() {
        let (all, view) = (colours(&[1.0], ""), View::default());
        let maps = ["single state", "MLP window", "attention", "post, mlp cut", "resid_post"];
        assert_eq!(
            maps.map(|name| all.map(name, &view)),
            [Map::Purples, Map::Greens, Map::Reds, Map::Purples, Map::Purples]
        );
    }
}
