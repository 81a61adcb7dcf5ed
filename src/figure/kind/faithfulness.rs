//! What circuits of growing size keep of a behaviour, with the areas that MIB reports.

use crate::error::{Error, Result};
use crate::figure::Figure;
use crate::figure::across::Places;
use crate::figure::lines;
use crate::figure::once;
use crate::figure::scene::Scene;
use crate::figure::stack::{self, Pane};
use crate::figure::view::{Reference, View, optional_categories, optional_numbers};
use crate::figure::words;
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "faithfulness",
    about: "`value` over the size of circuits, `x` (counts or shares, logarithmic), a line for each `group`, bands from `lo` to `hi`; with the \
            nominal `fraction` of edges, CPR and CMD stand in the legend",
    takes: &["group", "height", "log_x", "references"],
    draw,
};

/// MIB's areas run from 0.1 % to all edges (Mueller et al. 2025); areas over less are other numbers and are not given.
const MIB: [f64; 2] = [0.001, 1.0];

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let mut places = Places::read(rows, view, "edges kept")?;
    if let Some(x) = places.at.iter().find(|x| **x < 0.0) {
        let column = view.need("x", &view.x)?;
        let what = format!("a circuit of size {x} cannot be: column `{column}` holds a negative size");
        return Err(Error::input(what, "name the column with counts or shares of edges as `x`"));
    }
    places.log = true;
    let sizes = || places.at.iter().filter(|x| x.is_finite());
    places.percent = sizes().all(|x| *x <= 1.0) && sizes().any(|x| x.fract() != 0.0);

    let value = view.need("value", &view.value)?;
    let (values, fractions) = (rows.numbers(value)?, optional_numbers(rows, &view.fraction)?);
    let (_, of) = optional_categories(rows, &view.group)?;
    let view = &View { series: Vec::new(), ..view.clone() };
    let mut lines = lines::read(rows, view, &view.all_series()?, &places)?;
    if view.fraction.is_none() {
        // thresholds near each other may keep the same edges; with nominal fractions, several may also be rounded to one size
        let mut distinct = lines.clone();
        distinct.iter_mut().for_each(|line| line.points.dedup_by(|a, b| (a.x, a.y) == (b.x, b.y)));
        once::single(&distinct, rows, view, &places)?;
    }
    for (g, line) in lines.iter_mut().enumerate() {
        let own = (0..rows.len()).filter(|i| of[*i] == g);
        let areas = areas(own.filter_map(|i| Some((fractions[i]?, values[i]?))).collect());
        let written = areas.map(|[cpr, cmd]| format!("CPR {cpr:.3}, CMD {cmd:.3}").replace('-', "−"));
        line.numbers = written.unwrap_or_default();
    }

    let references = if view.references.is_empty() {
        let named = |at: f64, name: &str| Reference { at, name: name.to_owned(), ..Reference::default() };
        vec![named(1.0, "the whole model"), named(0.0, "nothing kept")]
    } else {
        view.references.clone()
    };
    // air on both sides, so that lines at 0 and 1 are not hidden by the frame
    let [lo, hi] = lines::range(&lines, [0.0, 1.0], 0.0);
    let range = view.limits.unwrap_or([lo - 0.1 * (hi - lo), hi + 0.1 * (hi - lo)]);
    let words = words::value(view, &view.y_label)?;
    stack::draw(view, &places, &[Pane { words, range, lines, references }], None)
}

/// CPR, the area under faithfulness f, and CMD, that under |1 − f|, by trapezoids over nominal fractions of edges as MIB takes
/// them; equal fractions (several orders at random) are averaged first. None unless the fractions span MIB's range.
fn areas(mut points: Vec<(f64, f64)>) -> Option<[f64; 2]> {
    if points.iter().any(|(x, f)| !(x.is_finite() && f.is_finite())) {
        return None;
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mean =
        |same: &[(f64, f64)]| (same[0].0, same.iter().map(|(_, f)| f).sum::<f64>() / same.len() as f64);
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
        assert!(
            areas(vec![(0.001, f64::NAN), (0.5, 1.0), (1.0, 1.0)]).is_none() && areas(Vec::new()).is_none()
        );
    }
}
