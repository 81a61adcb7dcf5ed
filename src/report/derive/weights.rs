//! Forms of the tables of weights that pictures need: the strongest compositions, and spectra of the heads that stand out.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::report::story::column;
use crate::row::Rows;

/// Bars of composition.
const TOP: usize = 14;
/// Lines of singular values.
const LINES: usize = 6;

/// `composition_top` and `spectrum_top`.
pub(super) fn tables(found: &BTreeMap<String, Rows>) -> Result<Vec<Rows>> {
    let mut made = Vec::new();
    if let Some(rows) = found.get("composition") {
        made.push(composition(rows)?);
    }
    if let (Some(rows), Some(weights)) = (found.get("spectrum"), found.get("weights")) {
        made.push(spectra(rows, weights)?);
    }
    Ok(made)
}

/// The pairs with the largest excess, each named in one column.
fn composition(rows: &Rows) -> Result<Rows> {
    let excess = rows.numbers("excess")?;
    let mut order: Vec<usize> = (0..rows.len()).filter(|&i| excess[i].is_some()).collect();
    order.sort_by(|&a, &b| excess[b].unwrap_or(0.0).total_cmp(&excess[a].unwrap_or(0.0)).then(a.cmp(&b)));
    order.truncate(TOP);
    let mut top = Rows { name: "composition_top".to_owned(), ..rows.take(&order) };
    let names = top.texts("from")?.into_iter().zip(top.texts("to")?).zip(top.texts("kind")?);
    let names: Vec<String> = names.map(|((from, to), kind)| format!("{from} → {to} ({kind})")).collect();
    top.columns.push(column("edge", "Who writes, who reads, and with what.", &names));
    Ok(top)
}

/// Singular values of W_OV on a logarithmic scale, of the heads whose score for copying is furthest from 0.
fn spectra(rows: &Rows, weights: &Rows) -> Result<Rows> {
    let names = |rows: &Rows| -> Result<Vec<String>> {
        let places = rows.texts("layer")?.into_iter().zip(rows.texts("head")?);
        Ok(places.map(|(layer, head)| format!("L{layer}H{head}")).collect())
    };
    let mut heads: Vec<(String, f64)> = names(weights)?
        .into_iter()
        .zip(weights.numbers("copying")?)
        .map(|(name, score)| (name, score.map_or(0.0, f64::abs)))
        .collect();
    heads.sort_by(|a, b| b.1.total_cmp(&a.1)); // stable: the earlier of equals first
    heads.truncate(LINES);
    let (all, circuits, values) = (names(rows)?, rows.texts("circuit")?, rows.numbers("value")?);
    let keep: Vec<usize> = (0..rows.len())
        .filter(|&i| {
            circuits[i] == "ov" && values[i] > Some(0.0) && heads.iter().any(|(name, _)| *name == all[i])
        })
        .collect();
    let mut kept = Rows { name: "spectrum_top".to_owned(), ..rows.take(&keep) };
    let names: Vec<String> = keep.iter().map(|&i| all[i].clone()).collect();
    let log: Vec<Option<f64>> = keep.iter().map(|&i| values[i].map(f64::log10)).collect();
    kept.columns.push(column("name", "The head.", &names));
    kept.columns.push(column("log_value", "log₁₀ of the singular value.", &log));
    Ok(kept)
}
