//! The forms of ablation's tables that pictures need: one metric, kinds side by side.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::report::story::column;
use crate::row::Rows;

/// Kinds of ablation and the columns they get side by side.
const KINDS: [(&str, &str); 4] =
    [("zero", "zero"), ("mean", "mean"), ("mean-by-position", "mean_by_position"), ("resample", "resample")];

/// The rows of the metric that leads, by grain: `ablate_head` and `ablate_position` as they are, the rest as `ablate_kinds`.
pub(super) fn tables(effects: &Rows, summary: &Rows) -> Result<Vec<Rows>> {
    let metric = summary.texts("metric")?.first().cloned().unwrap_or_default();
    let led = effects.only("metric", &metric)?;
    let positions = super::labelled(led.only("grain", "position")?, "ablate_position")?;
    let heads = Rows { name: "ablate_head".to_owned(), ..led.only("grain", "head")? };
    Ok(vec![heads, positions, kinds(&led, summary)?])
}

/// One row for each part, with the change and its interval under every kind.
fn kinds(led: &Rows, summary: &Rows) -> Result<Rows> {
    let grains = summary.texts("grain")?;
    let mut wide = summary.filter(|i| grains[i] != "neuron");
    wide.columns.retain(|(name, _, _)| matches!(name.as_str(), "part" | "grain" | "role"));
    let key = |rows: &Rows| -> Result<Vec<(String, String)>> {
        Ok(rows.texts("part")?.into_iter().zip(rows.texts("grain")?).collect())
    };
    let wanted = key(&wide)?;
    for (kind, name) in KINDS {
        let rows = led.only("kind", kind)?;
        let place: BTreeMap<(String, String), usize> =
            key(&rows)?.into_iter().enumerate().map(|(i, key)| (key, i)).collect();
        for (source, ending) in [("change", ""), ("ci_lo", "_ci_lo"), ("ci_hi", "_ci_hi")] {
            let values = rows.numbers(source)?;
            let cells: Vec<Option<f64>> =
                wanted.iter().map(|key| place.get(key).and_then(|&i| values[i])).collect();
            wide.columns.push(column(&format!("{name}{ending}"), "As in `ablate_effect`.", &cells));
        }
    }
    wide.name = "ablate_kinds".to_owned();
    Ok(wide)
}
