//! Forms of the probes' tables that pictures need: one kind of probe along the stream, and layers by positions.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::row::Rows;

/// The probe that curves show: the first position and the first method of the table.
fn shown(rows: &Rows) -> Result<Option<(String, String)>> {
    Ok(rows.texts("pos")?.into_iter().zip(rows.texts("method")?).next())
}

/// "logistic probes of city at subject", for captions; empty where nothing was probed.
pub(in crate::report) fn probed(found: &BTreeMap<String, Rows>) -> String {
    let words = |rows: &Rows| -> Result<Option<String>> {
        let label = rows.texts("label")?.into_iter().next().unwrap_or_default();
        Ok(shown(rows)?.map(|(pos, method)| format!("{method} probes of {label} at {pos}")))
    };
    found.get("probe").and_then(|rows| words(rows).ok().flatten()).unwrap_or_default()
}

/// The tables that the pictures of probes draw from.
pub(super) fn tables(found: &BTreeMap<String, Rows>) -> Result<Vec<Rows>> {
    let Some(rows) = found.get("probe") else { return Ok(Vec::new()) };
    let Some((pos, method)) = shown(rows)? else { return Ok(Vec::new()) };
    let (sites, places) = (rows.texts("site")?, rows.texts("pos")?);
    // one line along the stream; where the stream was not asked about, along the first site that was
    let embedding = sites.first().cloned().unwrap_or_default();
    let other = sites.iter().find(|site| **site != embedding).cloned().unwrap_or_default();
    let streams = sites.iter().any(|site| *site != embedding && site.starts_with("resid"));
    let along =
        |site: &str| site == embedding || if streams { site.starts_with("resid") } else { site == other };
    let line = |rows: &Rows, name: &str| -> Result<Rows> {
        let (sites, places, methods) = (rows.texts("site")?, rows.texts("pos")?, rows.texts("method")?);
        let kept = rows.filter(|i| along(&sites[i]) && places[i] == pos && methods[i] == method);
        Ok(Rows { name: name.to_owned(), ..kept })
    };
    let mut made = vec![line(rows, "probe_curve")?];
    if let Some(control) = found.get("probe_control").filter(|rows| !rows.is_empty()) {
        made.push(line(control, "probe_control_curve")?);
    }
    if let Some(used) = found.get("probe_use") {
        let used = line(used, "probe_use_curve")?;
        let groups = used.texts("group")?;
        let parts = used.filter(|i| groups[i] != "all");
        made.push(used.filter(|i| groups[i] == "all"));
        if !parts.is_empty() {
            made.push(Rows { name: "probe_use_groups".to_owned(), ..parts });
        }
    }
    if places.iter().any(|place| *place != pos) {
        let methods = rows.texts("method")?;
        let grid = rows.filter(|i| along(&sites[i]) && methods[i] == method);
        made.push(Rows { name: "probe_grid".to_owned(), ..grid });
    }
    Ok(made)
}
