//! Forms of the steering tables that pictures need: places by name, and the place with the strongest direction alone.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::report::story::column;
use crate::row::Rows;

/// `steer_places`, `steer_best` and `steer_removed_best`.
pub(super) fn tables(found: &BTreeMap<String, Rows>) -> Result<Vec<Rows>> {
    let (Some(rows), Some(curves)) = (found.get("steer"), found.get("steer_curve")) else {
        return Ok(Vec::new());
    };
    let mut made = vec![places(rows)?];
    if let Some(site) = strongest(rows)? {
        made.push(compared(curves, &site, "steer_best")?);
        if let Some(removed) = found.get("steer_removed_curve") {
            made.push(compared(removed, &site, "steer_removed_best")?);
        }
    }
    Ok(made)
}

/// One place's curves, with which of them are the comparison.
fn compared(curves: &Rows, site: &str, name: &str) -> Result<Rows> {
    let mut rows = Rows { name: name.to_owned(), ..curves.only("site", site)? };
    let random: Vec<bool> =
        rows.texts("direction")?.iter().map(|direction| direction == "random directions").collect();
    rows.columns.push(column("random", "Whether these are random directions, for comparison.", &random));
    Ok(rows)
}

/// The doses with a column `at`: how a place is written in a legend.
fn places(rows: &Rows) -> Result<Rows> {
    let layers = rows.texts("layer")?.into_iter().zip(rows.texts("site")?);
    let at: Vec<String> = layers
        .map(|(layer, site)| format!("layer {layer}, {}", site.rsplit("hook_").next().unwrap_or_default()))
        .collect();
    let mut rows = Rows { name: "steer_places".to_owned(), ..rows.clone() };
    rows.columns.push(column("at", "How the place is written.", &at));
    Ok(rows)
}

/// The place whose direction moves the metric furthest.
fn strongest(rows: &Rows) -> Result<Option<String>> {
    let (sites, effects) = (rows.texts("site")?, rows.numbers("effect")?);
    let mut ranges: BTreeMap<&str, [f64; 2]> = BTreeMap::new();
    for (site, effect) in sites.iter().zip(effects) {
        let range = ranges.entry(site).or_insert([f64::INFINITY, f64::NEG_INFINITY]);
        let effect = effect.unwrap_or(f64::NAN);
        *range = [range[0].min(effect), range[1].max(effect)];
    }
    let widest = ranges.iter().max_by(|(_, a), (_, b)| (a[1] - a[0]).total_cmp(&(b[1] - b[0])));
    Ok(widest.map(|(site, _)| (*site).to_owned()))
}
