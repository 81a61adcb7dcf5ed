//! A picture never averages: rows that fall into one place are refused.

use crate::error::{Error, Result};
use crate::figure;
use crate::figure::across::Places;
use crate::figure::lines::Line;
use crate::figure::view::View;
use crate::row::Rows;

/// Two rows for one place, said with what this kind of picture could do with them.
pub fn repeated(rows: &Rows, view: &View, place: &str) -> Error {
    let ways = [("group", "draw a line for each with `group`"), ("facet", "split the rows with `facet`")];
    let ways: String = ways
        .iter()
        .filter(|(part, _)| figure::takes(&view.kind, part))
        .map(|(_, way)| format!(", or {way}"))
        .collect();
    Error::input(
        format!("two rows of `{}` fall into one place of the `{}` picture: {place}", rows.name, view.kind),
        format!("keep one kind of row with `only = {{ column = \"value\" }}`{ways}"),
    )
}

/// Refuses a line through two values at one place: a zigzag that nobody measured.
pub fn single<'a>(
    lines: impl IntoIterator<Item = &'a Line>,
    rows: &Rows,
    view: &View,
    places: &Places,
) -> Result<()> {
    for line in lines {
        if let Some([one, _]) = line.points.array_windows().find(|[one, two]| one.x == two.x) {
            let name = if line.name.is_empty() { String::new() } else { format!("{} at ", line.name) };
            return Err(repeated(rows, view, &format!("{name}{}", places.name(one.x))));
        }
    }
    Ok(())
}
