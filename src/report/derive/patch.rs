//! The forms of patching's tables that pictures need.

use std::collections::BTreeMap;

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
    let name = |i: usize| format!("L{}H{} {}", layers[i], heads[i], directions[i]);
    let mut largest: BTreeMap<String, f64> = BTreeMap::new();
    for (i, effect) in effects.iter().enumerate() {
        let most = largest.entry(name(i)).or_default();
        *most = most.max(effect.unwrap_or(0.0).abs());
    }
    let mut order: Vec<(String, f64)> = largest.into_iter().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    order.truncate(SHOWN);
    let shown: Vec<usize> =
        order.iter().flat_map(|(head, _)| (0..rows.len()).filter(move |&i| name(i) == *head)).collect();
    let names: Vec<String> = shown.iter().map(|&i| name(i)).collect();
    let mut top = Rows { name: "patch_pattern_top".to_owned(), ..rows.take(&shown) };
    top.columns.push(column("name", "The head, and the direction.", &names));
    Ok(top)
}
