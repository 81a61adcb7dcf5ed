//! Logit-lens table: what the model would say after each layer, with how sure it would be as colour.

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::cells::{Cell, Panel, Reading};
use crate::figure::color::{Map, Scale};
use crate::figure::font;
use crate::figure::grid::{Grid, Shape};
use crate::figure::kind::heatmap::{axis, bar_label, label};
use crate::figure::labels::Tick;
use crate::figure::once::repeated;
use crate::figure::scene::Scene;
use crate::figure::style::Span;
use crate::figure::ticks;
use crate::figure::view::{LayerAxis, View, categories, optional_marks, optional_texts};
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "lens",
    about: "a table of top tokens: `x` (position, named by `x_text`), `y` (layer, last on top), `text`, coloured by \
            `value`; `target` (the token that should follow) or `mark` (yes where `text` is right) set right predictions in \
            bold, and show where they begin",
    takes: &["layer_axis"],
    draw,
};

/// A cell narrower than this, at 7-point ticks, shows no token.
const NARROWEST: f64 = 23.0;
/// Height of a row, at 7-point ticks.
const ROW: f64 = 10.5;

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let (x, y) = (view.need("x", &view.x)?, view.need("y", &view.y)?);
    let (text, value) = (view.need("text", &view.text)?, view.need("value", &view.value)?);
    let (texts, values) = (rows.texts(text)?, rows.numbers(value)?);
    let (x_names, xs) = categories(rows, x)?;
    let (y_names, ys) = categories(rows, y)?;
    let (marks, targets) = (optional_marks(rows, &view.mark)?, optional_texts(rows, &view.target)?);
    let (width, style) = (view.points(Span::Full), view.style());

    let columns = axis(rows, &x_names, &xs, &view.x_text, &vec![false; rows.len()])?;
    let fit = ((width - style.space(75.0)) / style.space(NARROWEST)).max(1.0) as usize;
    let first = columns.len().saturating_sub(fit);
    // More layers than the paper is long are thinned, the last one always kept.
    let most = ((style.tall - style.space(65.0)) / style.space(ROW)).max(1.0) as usize;
    let stride = y_names.len().div_ceil(most).max(1);
    let last = y_names.len() - 1;
    let mut kept: Vec<usize> = (0..y_names.len()).filter(|l| (last - l) % stride == 0).collect();
    if view.layer_axis != Some(LayerAxis::Down) {
        kept.reverse();
    }
    let mut row_of = vec![None; y_names.len()];
    for (row, layer) in kept.iter().enumerate() {
        row_of[*layer] = Some(row);
    }

    let across = columns.len() - first;
    let mut right: Vec<Option<usize>> = vec![None; across]; // the first shown layer that is right, and
    let mut arrived = vec![false; across]; // whether the last one is
    let mut cells = vec![Cell::Missing; kept.len() * across];
    for i in 0..rows.len() {
        let (Some(row), Some(column)) = (row_of[ys[i]], xs[i].checked_sub(first)) else { continue };
        let place = &mut cells[row * across + column];
        let at = format!("{y} {}, {x} {}", y_names[ys[i]], x_names[xs[i]]);
        if *place != Cell::Missing {
            return Err(repeated(rows, view, &at));
        }
        let number = values[i].unwrap_or(f64::NAN);
        let token = font::token(&texts[i]);
        let bold = marks[i] || targets.as_ref().is_some_and(|t| t[i] == texts[i]);
        if bold && !number.is_nan() {
            right[column] = Some(right[column].map_or(ys[i], |layer| layer.min(ys[i])));
            arrived[column] |= ys[i] == last;
        }
        let tip = format!("{at}: {token} {}", ticks::number(number));
        *place = Cell::Reading(Reading { value: number, text: token, bold, tip, ..Reading::default() });
    }
    for (column, layer) in right.iter().enumerate() {
        let row = layer.and_then(|layer| row_of[layer]);
        if let Some(Cell::Reading(reading)) = row.and_then(|row| cells.get_mut(row * across + column)) {
            reading.corner = true;
        }
    }
    let mut above = Vec::new();
    if targets.is_some() || arrived.contains(&true) {
        above = arrived.iter().map(|arrived| Tick { text: stars(*arrived), bold: true }).collect();
    }
    for (i, target) in targets.iter().flatten().enumerate() {
        if let Some(tick) = xs[i].checked_sub(first).and_then(|column| above.get_mut(column)) {
            *tick = Tick { text: font::token(target) + &stars(arrived[xs[i] - first]), bold: false };
        }
    }

    let map = view.map.unwrap_or(Map::Blues);
    let limits = view
        .limits
        .or((map.from_white() && values.iter().flatten().all(|v| *v <= 1.0)).then_some([0.0, 1.0]));
    let mut note = Vec::new();
    if right.iter().any(Option::is_some) {
        note.push("◤\u{a0}first layer whose top token is right".to_owned());
    }
    if targets.is_some() {
        note.push("above, the token that follows".to_owned());
    }
    if arrived.contains(&true) {
        note.push("*\u{a0}right after the last layer".to_owned());
    }
    if first > 0 {
        note.push(format!("the first {first} of {} positions are not shown", columns.len()));
    }
    if stride > 1 {
        note.push(format!("one row in {stride} is shown, the last one included"));
    }
    let grid = Grid {
        style,
        panels: vec![Panel { name: String::new(), cells }],
        columns: columns[first..].to_vec(),
        rows: kept.iter().map(|layer| Tick::plain(font::visible(&y_names[*layer]))).collect(),
        scale: Scale::over(values.iter().flatten().copied(), map, limits),
        bar: bar_label(view, map, value),
        names: [label(&view.x_label, x, view.x_text.is_some()), label(&view.y_label, y, false)],
        width,
        shape: Shape::Text(ROW),
        above,
        note: note.join("; "),
    };
    Ok(grid.draw())
}

/// The sign of a right prediction.
fn stars(right: bool) -> String {
    if right { "*".to_owned() } else { String::new() }
}
