//! Curves along training as a picture needs them: named panels, and with each line when it passed half of its way.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::report::story::column;
use crate::row::Rows;

/// Quantities, and what stands over their panels where that is more.
const PANELS: [(&str, &str); 4] = [
    ("logit difference", "logit difference (logits)"),
    ("probability", "probability of the answer"),
    ("total effect", "total effect (logits)"),
    ("direct effect", "direct effect (logits)"),
];

/// `training_view`.
pub(super) fn tables(found: &BTreeMap<String, Rows>) -> Result<Option<Rows>> {
    let Some(points) = found.get("training") else { return Ok(None) };
    let key = |rows: &Rows| -> Result<Vec<[String; 3]>> {
        let [models, quantities, parts] =
            [rows.texts("model")?, rows.texts("quantity")?, rows.texts("part")?];
        Ok(models.into_iter().zip(quantities).zip(parts).map(|((m, q), p)| [m, q, p]).collect())
    };
    let mut onsets: BTreeMap<[String; 3], [Option<f64>; 2]> = BTreeMap::new();
    if let Some(rows) = found.get("training_onset").filter(|rows| !rows.is_empty()) {
        let ends = rows.numbers("after")?.into_iter().zip(rows.numbers("by")?);
        onsets.extend(key(rows)?.into_iter().zip(ends.map(|(after, by)| [after, by])));
    }
    let keys = key(points)?;
    let panel = |key: &[String; 3]| {
        let longer = PANELS.iter().find(|(quantity, _)| *quantity == key[1]);
        longer.map_or_else(|| key[1].clone(), |(_, panel)| (*panel).to_owned())
    };
    let end = |end: usize| keys.iter().map(|key| onsets.get(key)?[end]).collect::<Vec<Option<f64>>>();
    let mut view = Rows { name: "training_view".to_owned(), ..points.clone() };
    view.columns.push(column("panel", "What is followed, and its unit.", &keys.iter().map(panel).collect::<Vec<_>>()));
    view.columns.push(column("after", "The last step before the line passed half of its way.", &end(0)));
    view.columns.push(column("by", "The step at which it had.", &end(1)));
    Ok(Some(view))
}
