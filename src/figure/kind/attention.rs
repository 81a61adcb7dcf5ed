//! Attention patterns: from each query (down) to each key (across), one small panel per head.

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::cells::{Cell, Panel, Reading};
use crate::figure::color::{Map, Scale};
use crate::figure::grid::{Grid, Shape};
use crate::figure::kind::heatmap::{axis, facets, label};
use crate::figure::labels;
use crate::figure::once::repeated;
use crate::figure::scene::Scene;
use crate::figure::style::Span;
use crate::figure::ticks;
use crate::figure::view::{View, categories, optional_marks};
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "attention",
    about: "attention patterns: `x` (key), `y` (query), `value`, tokens in `x_text` and `y_text`; `facet` (head) makes \
            panels; the future is grey",
    takes: &["facet"],
    draw,
};

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let (x, y) = (view.need("x", &view.x)?, view.need("y", &view.y)?);
    let value = view.need("value", &view.value)?;
    let values = rows.numbers(value)?;
    let (keys, queries) = (rows.numbers(x)?, rows.numbers(y)?);
    let (x_names, xs) = categories(rows, x)?;
    let (y_names, ys) = categories(rows, y)?;
    let (heads, head_of) = facets(rows, view)?;
    let (w, h) = (x_names.len(), y_names.len());

    // Without a row, a key after its query is the future; before it, a value is missing.
    let number = |name: &String| name.parse::<f64>().unwrap_or(f64::NAN);
    let future = |i: usize| number(&x_names[i % w]) > number(&y_names[i / w]);
    let empty: Vec<Cell> = (0..w * h).map(|i| if future(i) { Cell::Masked } else { Cell::Missing }).collect();
    let mut cells = vec![empty; heads.len()];
    for i in 0..rows.len() {
        let place = &mut cells[head_of[i]][ys[i] * w + xs[i]];
        let at = format!("query {}, key {}", y_names[ys[i]], x_names[xs[i]]);
        if matches!(place, Cell::Reading(_)) {
            return Err(repeated(rows, view, &at));
        }
        let masked =
            keys[i].zip(queries[i]).is_some_and(|(k, q)| k > q) && values[i].is_none_or(|v| v == 0.0);
        if !masked {
            let number = values[i].unwrap_or(f64::NAN);
            let tip = format!("{at}: {}", ticks::number(number));
            *place = Cell::Reading(Reading { value: number, tip, ..Reading::default() });
        }
    }

    let map = view.map.unwrap_or(Map::Blues);
    let limits = view.limits.or(map.from_white().then_some([0.0, 1.0]));
    let marks = optional_marks(rows, &view.mark)?;
    let (down, across) = (&view.y_text, &view.x_text);
    // One token column serves both axes when the same positions stand on both.
    let shared = down.is_none() && x_names == y_names;
    let columns = axis(rows, &x_names, &xs, across, &marks)?;
    let lines =
        if shared { columns.clone() } else { axis(rows, &y_names, &ys, down, &vec![false; rows.len()])? };
    let words = if view.value_label.is_empty() { "attention" } else { &view.value_label };
    let named =
        |given: &str, name: &str| if given.is_empty() { name.to_owned() } else { label(given, name, false) };
    let style = view.style();
    // the smallest cells that have room for a label each
    let labelled = labels::TIGHT * style.sizes()[4] / style.space(1.0);
    let grid = Grid {
        style,
        panels: heads.into_iter().zip(cells).map(|(name, cells)| Panel { name, cells }).collect(),
        columns,
        rows: lines,
        scale: Scale::over(values.iter().flatten().copied(), map, limits),
        bar: words.to_owned(),
        names: [named(&view.x_label, "key (attended to)"), named(&view.y_label, "query (attends)")],
        width: view.points(Span::Full),
        shape: Shape::Square(if w > 32 { 3.0 } else { labelled }, 16.0),
        above: Vec::new(),
        note: String::new(),
    };
    Ok(grid.draw())
}
