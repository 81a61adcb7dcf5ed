//! The forms of patching's tables that pictures need.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::report::story::column;
use crate::row::Rows;

/// How many heads a picture has room for.
const SHOWN: usize = 4;

/// The cells, in shares of the gap, of the heads whose attention has the largest effect on one cell, each with its name and direction.
pub(super) fn patterns(rows: &Rows) -> Result<Rows> {
    let rows = &rows.only("unit", "gap")?;
    let (layers, heads) = (rows.texts("layer")?, rows.texts("head")?);
    let (directions, effects) = (rows.texts("direction")?, rows.numbers("effect")?);
    let head = |i: usize| format!("L{}H{}", layers[i], heads[i]);
    let name = |i: usize| format!("{} {}", head(i), directions[i]);
    // each head with its directions, always in the same order
    let mut largest: BTreeMap<String, (f64, BTreeSet<String>)> = BTreeMap::new();
    for (i, effect) in effects.iter().enumerate() {
        let (most, panels) = largest.entry(head(i)).or_default();
        *most = most.max(effect.unwrap_or(0.0).abs());
        panels.insert(name(i));
    }
    let mut order: Vec<_> = largest.into_iter().collect();
    order.sort_by(|(a, (more, _)), (b, (less, _))| less.total_cmp(more).then_with(|| a.cmp(b)));
    let panels: Vec<String> = order.into_iter().flat_map(|(_, (_, panels))| panels).take(SHOWN).collect();
    let shown: Vec<usize> =
        panels.iter().flat_map(|panel| (0..rows.len()).filter(move |&i| name(i) == *panel)).collect();
    let names: Vec<String> = shown.iter().map(|&i| name(i)).collect();
    let mut top = Rows { name: "patch_pattern_top".to_owned(), ..rows.take(&shown) };
    top.columns.push(column("name", "The head, and the direction.", &names));
    Ok(top)
}
