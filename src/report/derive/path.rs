//! Path patching as a picture: a panel for each set of receivers, layers down, heads and the MLP across.

use crate::error::Result;
use crate::report::story::column;
use crate::row::Rows;

/// `path_view`: senders that are one head or one MLP.
pub(super) fn table(rows: &Rows) -> Result<Rows> {
    let (layers, heads) = (rows.numbers("layer")?, rows.numbers("head")?);
    let (receivers, direction) = (rows.texts("receivers")?, rows.texts("direction")?);
    let directions = direction.iter().any(|word| Some(word) != direction.first());
    let name = |i: usize| {
        if directions { format!("{}, {}", receivers[i], direction[i]) } else { receivers[i].clone() }
    };
    let mut panels: Vec<String> = Vec::new();
    let mut places = Vec::new();
    for (i, _) in layers.iter().enumerate().filter(|(_, layer)| layer.is_some()) {
        let name = name(i);
        let panel = panels.iter().position(|known| *known == name).unwrap_or_else(|| {
            panels.push(name);
            panels.len() - 1
        });
        places.push((panel, heads[i].unwrap_or(f64::INFINITY), i));
    }
    places.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    let keep: Vec<usize> = places.iter().map(|place| place.2).collect();
    let panel: Vec<String> = places.iter().filter_map(|place| panels.get(place.0).cloned()).collect();
    let part: Vec<String> = places
        .iter()
        .map(|(_, head, _)| if head.is_finite() { head.to_string() } else { "mlp".to_owned() })
        .collect();
    let mut view = rows.take(&keep);
    view.columns.push(column("panel", "Who receives, and how.", &panel));
    view.columns.push(column("part", "The head, or the MLP.", &part));
    view.name = "path_view".to_owned();
    Ok(view)
}
