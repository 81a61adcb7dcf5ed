//! The coloured cells of one panel: as vectors that can be asked for their value, or as one raster.

use crate::figure::color::{FAINT, INK, MASKED, MISSING, Scale};
use crate::figure::font;
use crate::figure::scene::{Anchor, Fill, Frame, Group, Item, Scene, Stroke, Text};
use crate::figure::style::Style;

/// Between a cell's text and its edges, both sides together.
const INSET: f64 = 1.6;

/// One panel.
pub struct Panel {
    /// Written above it; empty for none.
    pub name: String,
    /// Row by row from the top.
    pub cells: Vec<Cell>,
}

/// One cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Cell {
    /// Cannot exist: the future under a causal mask.
    Masked,
    /// Has no value: hatched.
    #[default]
    Missing,
    /// Has a value.
    Reading(Reading),
}

/// A value in a cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// The number; NaN is drawn as missing.
    pub value: f64,
    /// Written into the cell.
    pub text: String,
    /// Set in bold.
    pub bold: bool,
    /// Drawn with an outline: its interval excludes zero.
    pub outlined: bool,
    /// Its corner is filled: something begins here.
    pub corner: bool,
    /// Shown on hover.
    pub tip: String,
}

/// How a panel is drawn.
pub struct Look<'a> {
    /// Sizes of type and lines.
    pub style: Style,
    /// Cells beside each other.
    pub columns: usize,
    /// Values to colours.
    pub scale: &'a Scale,
    /// One raster instead of a shape per cell.
    pub raster: bool,
    /// Size of the text; none where there is none. See [`text_size`].
    pub text: Option<f64>,
}

/// Draws a panel into its frame.
pub fn draw(scene: &mut Scene, panel: &Panel, frame: Frame, look: &Look) {
    let columns = look.columns.max(1);
    let rows = panel.cells.len().div_ceil(columns).max(1);
    let (w, h) = (frame.w / columns as f64, frame.h / rows as f64);
    let place =
        |i: usize| Frame::new(frame.x + (i % columns) as f64 * w, frame.y + (i / columns) as f64 * h, w, h);
    // A cell reaches under the next ones, right and below, so that no viewer shows a seam where it rounds their edges.
    let under = |i: usize| {
        let more =
            |last: bool, side: f64| if last || look.raster { side } else { side + (0.5 * side).min(1.0) };
        let (last, lowest) = (i % columns == columns - 1, i / columns == rows - 1);
        Frame { w: more(last, w), h: more(lowest, h), ..place(i) }
    };
    let size = look.text;
    let mut items = Vec::new();
    if look.raster {
        let rgba = panel.cells.iter().flat_map(|cell| pixel(cell, look.scale)).collect();
        items.push(Item::Image { at: frame, columns, rgba });
    }
    for (i, cell) in panel.cells.iter().enumerate() {
        match cell {
            Cell::Reading(reading) if !reading.value.is_nan() => {
                let inside = value(reading, place(i), under(i), look, size);
                if !inside.is_empty() {
                    items.push(Group { tip: reading.tip.clone(), items: inside, ..Group::default() }.into());
                }
            }
            Cell::Masked if look.raster => {}
            // masked cells beside each other are one shape
            Cell::Masked if i % columns > 0 && panel.cells[i - 1] == Cell::Masked => {}
            Cell::Masked => {
                let row = panel.cells.iter().skip(i).take(columns - i % columns);
                let (first, run) = (under(i), row.take_while(|cell| **cell == Cell::Masked).count());
                let w = under(i + run - 1).right() - first.x;
                items.push(Item::Rect(Frame { w, ..first }, Fill::Solid(MASKED), None));
            }
            Cell::Missing | Cell::Reading(_) => {
                let tip = if let Cell::Reading(reading) = cell { reading.tip.clone() } else { String::new() };
                let tip = if tip.is_empty() { "no value".to_owned() } else { tip };
                let hatch = vec![Item::Rect(under(i), Fill::Hatch, None)];
                items.push(Group { tip, items: hatch, ..Group::default() }.into());
            }
        }
    }
    for (i, cell) in panel.cells.iter().enumerate() {
        if matches!(cell, Cell::Reading(r) if r.outlined && !r.value.is_nan()) && w > 3.0 {
            let (at, inset) = (place(i), 0.75 * look.style.thin());
            let inside = Frame::new(at.x + inset, at.y + inset, w - 2.0 * inset, h - 2.0 * inset);
            items.push(Item::Rect(inside, Fill::None, Some(Stroke::solid(INK, look.style.thin()))));
        }
    }
    let data = vec![("panel".to_owned(), panel.name.clone())];
    scene.add(Group { data, crisp: true, items, ..Group::default() });
    scene.add(Item::Rect(frame, Fill::None, Some(Stroke::solid(FAINT, look.style.rule))));
}

/// The ground and the text of a cell.
fn value(reading: &Reading, at: Frame, under: Frame, look: &Look, size: Option<f64>) -> Vec<Item> {
    let ground = look.scale.color(reading.value);
    let mut items = Vec::new();
    if !look.raster {
        items.push(Item::Rect(under, Fill::Solid(ground), None));
    }
    if let Some(size) = size {
        let text = font::fit(&reading.text, size, reading.bold, at.w - INSET);
        if !text.is_empty() {
            let text = Text::new(at.x + at.w / 2.0, at.y + at.h / 2.0, text, size).middle();
            items.push(text.anchor(Anchor::Middle).bold(reading.bold).color(ground.ink()).into());
        }
    }
    if reading.corner {
        let side = look.style.space(3.2).min(at.w / 2.0).min(at.h / 2.0);
        let points = vec![[at.x, at.y], [at.x + side, at.y], [at.x, at.y + side]];
        items.push(Item::Path { points, closed: true, fill: Fill::Solid(ground.ink()), stroke: None });
    }
    items
}

/// The size of text in cells of these sizes, the same in all panels; none where they are too small for it. Text that does not fit
/// is shortened if it may be; otherwise none is written unless all of it fits.
pub fn text_size(panels: &[Panel], [w, h]: [f64; 2], style: &Style, shorten: bool) -> Option<f64> {
    let cells = panels.iter().flat_map(|panel| &panel.cells);
    let texts = cells.filter_map(|c| if let Cell::Reading(r) = c { Some(r) } else { None });
    let widths: Vec<f64> = texts.map(|r| font::width(&r.text, 1.0, r.bold)).collect();
    let fitting = |size: f64| widths.iter().filter(|width| *width * size <= w - INSET).count();
    let sizes = style.sizes();
    if shorten {
        // The largest size at which nine in ten need no ellipsis, but no smaller than the third for that.
        let most = |size: &f64| fitting(*size) * 10 >= widths.len() * 9;
        let size = sizes.into_iter().take(2).find(most).unwrap_or(sizes[2]);
        return Some(size).filter(|size| size * 1.1 <= h);
    }
    let mut sizes = sizes.into_iter().filter(|size| size * 1.1 <= h);
    sizes.find(|size| fitting(*size) == widths.len())
}

fn pixel(cell: &Cell, scale: &Scale) -> [u8; 4] {
    let color = match cell {
        Cell::Reading(r) if !r.value.is_nan() => scale.color(r.value),
        Cell::Masked => MASKED,
        Cell::Missing | Cell::Reading(_) => MISSING,
    };
    [color.r, color.g, color.b, 255]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::color::Map;
    use crate::figure::style::Venue;

    #[test]
    fn missing_is_hatched_and_zero_is_not() {
        for raster in [false, true] {
            let zero = Cell::Reading(Reading::default());
            let nan = Cell::Reading(Reading { value: f64::NAN, ..Reading::default() });
            let panel = Panel { name: String::new(), cells: vec![zero, nan, Cell::Missing, Cell::Masked] };
            let scale = Scale::over([0.0, 1.0], Map::RdBu, None);
            let look = Look { style: Venue::Neurips.style(), columns: 2, scale: &scale, raster, text: None };
            let mut scene = Scene::new(20.0, 20.0);
            draw(&mut scene, &panel, Frame::new(0.0, 0.0, 20.0, 20.0), &look);
            assert_eq!(scene.to_svg().matches("url(#").count(), 2, "raster: {raster}");
        }
    }
}
