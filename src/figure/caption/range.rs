//! What does not fit the drawn range: numbers without end, and cut ones.

use super::listed;
use crate::figure::color::Map;
use crate::figure::view::View;
use crate::row::Rows;

/// How many numbers have no place on any scale.
pub(super) fn infinite(rows: &Rows, view: &View) -> Option<String> {
    let values = drawn(rows, view).into_iter().filter(|v| v.is_infinite()).count();
    let what = match view.kind.as_str() {
        _ if of_colours(view) => "drawn in the end colours",
        "bars" => "written on bars cut at the axis's end",
        "scores" => "written at the edge",
        "circuit" => "drawn as if not scored",
        "waterfall" => "left out of the sum",
        _ => "beyond the axis",
    };
    match values {
        0 => None,
        1 => Some(format!("One value is infinite, and {what}.")),
        n => Some(format!("{n} values are infinite, and {what}.")),
    }
}

/// At which ends colours or the axis were cut.
pub(super) fn clipped(rows: &Rows, view: &View) -> Option<String> {
    let values = drawn(rows, view);
    let [mut lo, mut hi] = view.limits.or_else(|| own(view, &values))?;
    let colours = of_colours(view);
    if colours
        && view.map.unwrap_or(Map::RdBu) == Map::RdBu
        && matches!(view.kind.as_str(), "heatmap" | "tokens")
    {
        let reach = lo.abs().max(hi.abs());
        (lo, hi) = (-reach, reach);
    }
    let slack = 1e-9 * (hi - lo);
    let below = values.iter().any(|v| *v < lo - slack).then(|| plain(lo));
    let above = values.iter().any(|v| *v > hi + slack).then(|| plain(hi));
    let ends: Vec<String> = [below, above].into_iter().flatten().collect();
    let what = if colours { "Colours are" } else { "The axis is" };
    (!ends.is_empty()).then(|| format!("{what} clipped at {}.", listed(&ends)))
}

/// The limits that a kind has where the view gives none: shares, from white on.
fn own(view: &View, values: &[f64]) -> Option<[f64; 2]> {
    let shares = match view.kind.as_str() {
        "attention" => true,
        "lens" => values.iter().all(|v| *v <= 1.0),
        _ => false,
    };
    (shares && view.map.unwrap_or(Map::Blues).from_white()).then_some([0.0, 1.0])
}

/// Whether the kind shows numbers as colours.
fn of_colours(view: &View) -> bool {
    matches!(view.kind.as_str(), "heatmap" | "trace" | "attention" | "lens" | "tokens")
}

/// The drawn numbers.
fn drawn(rows: &Rows, view: &View) -> Vec<f64> {
    let columns = view.series.iter().map(|series| series.value.as_str()).chain(view.value.as_deref());
    columns.filter_map(|column| rows.numbers(column).ok()).flatten().flatten().collect()
}

/// A limit as it was written.
fn plain(limit: f64) -> String {
    limit.to_string().replace('-', "\u{2212}")
}
