//! Forms of the steering tables that pictures need: places by name, and the place with the strongest direction alone.
//!
//! In the curves of one place `n` counts pairs: random directions, whose `n` in the table counts directions, have none.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::report::story::column;
use crate::row::{Column, Rows};

/// What the tables call the comparison.
const RANDOM: &str = "random directions";

/// `steer_places`, `steer_best`, `steer_cost_best` (about texts, not pairs: without `n`) and `steer_removed_best`.
pub(super) fn tables(found: &BTreeMap<String, Rows>) -> Result<Vec<Rows>> {
    let (Some(rows), Some(curves)) = (found.get("steer"), found.get("steer_curve")) else {
        return Ok(Vec::new());
    };
    let mut made = vec![places(rows)?];
    if let Some(site) = strongest(rows)? {
        made.push(compared(curves, &site, "steer_best")?);
        let mut cost = compared(curves, &site, "steer_cost_best")?;
        cost.columns.retain(|(name, _, _)| name != "n");
        made.push(cost);
        if let Some(removed) = found.get("steer_removed_curve") {
            made.push(compared(removed, &site, "steer_removed_best")?);
        }
    }
    Ok(made)
}

/// One place's curves, with which of them are the comparison.
fn compared(curves: &Rows, site: &str, name: &str) -> Result<Rows> {
    let mut rows = Rows { name: name.to_owned(), ..curves.only("site", site)? };
    let random: Vec<bool> = rows.texts("direction")?.iter().map(|direction| direction == RANDOM).collect();
    for (_, _, cells) in rows.columns.iter_mut().filter(|(name, _, _)| name == "n") {
        if let Column::Int(cells) = cells {
            cells.iter_mut().zip(&random).filter(|(_, random)| **random).for_each(|(n, _)| *n = None);
        }
    }
    rows.columns.push(column("random", "Whether these are random directions, for comparison.", &random));
    Ok(rows)
}

/// `16 random directions`: how many the steering vector is compared with.
pub(in crate::report) fn against(curves: Option<&Rows>) -> String {
    let n = || {
        let random = curves?.only("direction", RANDOM).ok()?;
        random.numbers("n").ok()?.first().copied().flatten()
    };
    n().map_or_else(|| RANDOM.to_owned(), |n| format!("{n} {RANDOM}"))
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
