//! Panels of coloured cells that share one scale, one colour bar and their tick labels.
//!
//! Heat maps, attention patterns and lens tables are grids. A grid finds the room: how many panels stand beside each
//! other, how large a cell is, how labels turn, where the colour bar goes.

use crate::figure::cells::{self, Look, Panel};
use crate::figure::color::Scale;
use crate::figure::colorbar::Bar;
use crate::figure::font;
use crate::figure::labels::{self, Tick};
use crate::figure::scene::{Anchor, Frame, Scene, Text};
use crate::figure::style::Style;
use crate::figure::words::Words;

/// More cells than this are drawn as rasters.
const MOST_VECTORS: usize = 2500;
/// Room at the figure's edge.
const EDGE: f64 = 2.0;

/// A grid to be laid out and drawn.
pub struct Grid {
    /// Sizes of type and lines.
    pub style: Style,
    /// One or more panels of `rows × columns` cells.
    pub panels: Vec<Panel>,
    /// Labels of the columns.
    pub columns: Vec<Tick>,
    /// Labels above the columns, shortened to a cell's width; empty for none.
    pub above: Vec<Tick>,
    /// Labels of the rows, from the top.
    pub rows: Vec<Tick>,
    /// Colours of all panels.
    pub scale: Scale,
    /// Words along the colour bar.
    pub bar: String,
    /// Words along the axes.
    pub names: [String; 2],
    /// Width of the picture.
    pub width: f64,
    /// Shape of the cells; its sizes are for 7-point ticks and follow the style.
    pub shape: Shape,
    /// Small print below, for signs and for what was left out.
    pub note: String,
}

/// The shape of cells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// As high as wide, between these sizes where there is room; text is left out unless all of it fits.
    Square(f64, f64),
    /// This high and as wide as there is room; text is shortened to fit.
    Text(f64),
}

/// Sizes that follow from the room there is.
struct Layout {
    /// Panels beside each other.
    across: usize,
    cell: [f64; 2],
    left: f64,
    /// Between panels beside each other.
    gap: f64,
    labels: labels::Plan,
    /// From the first panel's top (its name left out) to the last one's bottom.
    high: f64,
    /// Words at the left.
    beside: Words,
}

impl Grid {
    /// The finished picture.
    pub fn draw(&self) -> Scene {
        let style = &self.style;
        let (gap, near) = (self.gap(), self.near());
        let title = self.title();
        // half of the colour bar's highest number stands above it
        let above = (0.42 * style.tick).max(EDGE + 2.0);
        let top = if title == 0.0 && self.above.is_empty() { above } else { EDGE + title };
        let under = Words::new(style, &self.names[0], self.width - 2.0 * EDGE);
        let note = Words::small(style, &self.note, self.width - 2.0 * EDGE);
        let below = |l: &Layout| top + l.high + near + l.labels.height;
        let named =
            |l: &Layout| below(l) + under.depth() + if under.depth() > 0.0 { 0.3 * near } else { near / 2.0 };
        let longest = style.space(200.0);
        let bar = |upright: bool, length: f64, room: f64| {
            Bar::new(style, &self.scale, &self.bar, upright, length, room)
        };
        let noted = if note.depth() > 0.0 { note.depth() + near } else { 0.0 };
        // What the panels leave of the picture's height, and how long words at their sides may be: both follow from the layout.
        let high = |l: &Layout| style.tall - (named(l) - l.high) - noted - EDGE;
        let mut layout =
            self.layout(bar(true, longest, f64::INFINITY).depth() + gap, f64::INFINITY, style.tall);
        for _ in 0..3 {
            let beside = bar(true, layout.high.min(longest), named(&layout) - 4.0).depth() + gap;
            layout = self.layout(beside, named(&layout) - 4.0, high(&layout));
        }
        let upright = layout.high >= style.space(62.0);
        if !upright {
            layout = self.layout(
                0.0,
                named(&layout) - 4.0,
                high(&layout) - bar(false, 60.0, self.width - 8.0).depth(),
            );
        }
        let (columns, rows) = self.size();
        let (w, h) = (columns as f64 * layout.cell[0], rows as f64 * layout.cell[1]);
        let body = layout.across as f64 * (w + layout.gap) - layout.gap;
        let bar = if upright {
            bar(true, layout.high.min(longest), named(&layout) - 4.0)
        } else {
            let length = (self.width - 60.0).clamp(60.0, style.space(150.0).max(60.0));
            bar(false, length, self.width - 8.0)
        };
        let content = layout.left + body + if upright { gap + bar.depth() } else { 0.0 };
        let shift = ((self.width - content) / 2.0).max(EDGE);
        let barred = named(&layout) + if upright { 0.0 } else { near + bar.depth() };

        let mut scene = Scene::new(self.width, barred + noted + EDGE);
        let x0 = shift + layout.left;
        let raster = self.panels.iter().map(|p| p.cells.len()).sum::<usize>() > MOST_VECTORS;
        let shorten = matches!(self.shape, Shape::Text(_));
        let text = cells::text_size(&self.panels, layout.cell, style, shorten);
        let look = Look { style: *style, columns, scale: &self.scale, raster, text };
        // names of small panels are set smaller before they are shortened
        let wide = w + layout.gap - 2.0;
        let fits = |size: &f64| {
            self.panels.iter().all(|p| font::width(&font::visible(&p.name), *size, false) <= wide)
        };
        let sizes = style.sizes();
        let titled = std::iter::once(style.label).chain(sizes).find(fits).unwrap_or(sizes[4]);
        for (i, panel) in self.panels.iter().enumerate() {
            let (across, down) = (i % layout.across, i / layout.across);
            let x = x0 + across as f64 * (w + layout.gap);
            let y = top + down as f64 * (h + title + gap);
            let frame = Frame::new(x, y, w, h);
            if !panel.name.is_empty() {
                let name = font::fit(&font::visible(&panel.name), titled, false, wide);
                scene.add(Text::new(x + w / 2.0, y - near, name, titled).anchor(Anchor::Middle));
            }
            cells::draw(&mut scene, panel, frame, &look);
            if across == 0 {
                self.row_labels(&mut scene, frame, layout.cell[1]);
            }
            if down == 0 {
                self.labels_above(&mut scene, frame, layout.cell[0]);
            }
            if i + layout.across >= self.panels.len() {
                layout.labels.draw(&mut scene, x + layout.cell[0] / 2.0, y + h + near, layout.cell[0]);
            }
        }
        under.below(&mut scene, x0 + body / 2.0, below(&layout) + 0.3 * near);
        layout.beside.beside(&mut scene, shift, top + layout.high / 2.0);
        if upright {
            bar.draw(&mut scene, x0 + body + gap, top + (layout.high - bar.length()) / 2.0);
        } else {
            let x = (x0 + body / 2.0 - bar.length() / 2.0).clamp(8.0, self.width - bar.length() - 8.0);
            bar.draw(&mut scene, x, named(&layout) + near);
        }
        note.note(&mut scene, EDGE, barred + near);
        scene
    }

    /// Columns and rows of each panel, one at least.
    fn size(&self) -> (usize, usize) {
        (self.columns.len().max(1), self.rows.len().max(1))
    }

    /// Between panels.
    fn gap(&self) -> f64 {
        self.style.space(8.0)
    }

    /// Between ticks and cells.
    fn near(&self) -> f64 {
        self.style.space(3.0)
    }

    /// Room above each panel.
    fn title(&self) -> f64 {
        if self.panels.iter().any(|p| !p.name.is_empty()) {
            self.style.label + self.near()
        } else if self.above.is_empty() {
            0.0
        } else {
            self.style.tick + self.near()
        }
    }

    /// Where things go when the colour bar takes `bar` points at the right, the words at the left are broken to `long` and
    /// the panels may be `tall` together.
    fn layout(&self, bar: f64, long: f64, tall: f64) -> Layout {
        let (style, gap, (columns, rows)) = (&self.style, self.gap(), self.size());
        let panels = self.panels.len().max(1);
        let widths = self.rows.iter().map(|t| font::width(&t.text, style.tick, t.bold));
        let widest = widths.fold(0.0, f64::max).min(style.space(64.0));
        let beside = Words::new(style, &self.names[1], long);
        let mut left = beside.depth() + widest + self.near() + if beside.depth() > 0.0 { 1.0 } else { 0.0 };
        let size = |left: f64, across: usize, between: f64| {
            let room = self.width - 2.0 * EDGE - left - bar - (across - 1) as f64 * between;
            let each = (room / (across * columns) as f64).max(0.2);
            let down = panels.div_ceil(across) as f64;
            let high = (tall - (down - 1.0) * (self.title() + gap)) / (down * rows as f64);
            match self.shape {
                Shape::Square(_, most) => [each.min(style.space(most)).min(high.max(1.0)); 2],
                Shape::Text(height) => [each, style.space(height)],
            }
        };
        let name = |p: &Panel| font::width(&font::visible(&p.name), style.sizes()[4], false);
        let longest = self.panels.iter().map(name).fold(0.0, f64::max);
        let least = style.space(if let Shape::Square(least, _) = self.shape { least } else { 23.0 });
        let pick = |left: f64| {
            let all = || (1..=panels).rev();
            // of layouts with cells alike the one with the fewest rows of panels
            let widest =
                || (1..=panels).max_by(|a, b| size(left, *a, gap)[0].total_cmp(&size(left, *b, gap)[0]));
            let fine = |n: &usize| size(left, *n, gap)[0] >= least;
            // panels of which a name must be shortened stand beside fewer
            let named = |n: &usize| size(left, *n, gap)[0] * columns as f64 + gap - 2.0 >= longest;
            let whole = all().find(|n| fine(n) && named(n));
            whole.or_else(|| all().find(fine)).or_else(widest).unwrap_or(1)
        };
        let mut across = pick(left);
        let mut cell = size(left, across, gap);
        let mut labels = labels::plan(style, &self.columns, cell[0]);
        let reach = labels.left - cell[0] / 2.0;
        if reach > left {
            left = reach;
            across = pick(left);
            cell = size(left, across, gap);
            labels = labels::plan(style, &self.columns, cell[0]);
        }
        // Beside an unfinished row, labels that lean left must not reach the panel of the next one.
        let hole = !panels.is_multiple_of(across);
        let between = if hole { gap.max(labels.left - cell[0] / 2.0 + self.near()) } else { gap };
        if between > gap {
            cell = size(left, across, between);
            labels = labels::plan(style, &self.columns, cell[0]);
        }
        let down = panels.div_ceil(across) as f64;
        let high = down * rows as f64 * cell[1] + (down - 1.0) * (self.title() + gap);
        Layout { across, cell, left, gap: between, labels, high, beside }
    }

    fn row_labels(&self, scene: &mut Scene, frame: Frame, step: f64) {
        let size = self.style.tick.min(step * 0.96).max(self.style.sizes()[4]);
        let (stride, near) = (labels::every(step, size), self.near());
        let numeric = self.rows.iter().all(|t| t.text.parse::<f64>().is_ok());
        let first: f64 = self.rows.first().and_then(|t| t.text.parse().ok()).unwrap_or(0.0);
        let told: Vec<(&str, bool)> = self.rows.iter().map(|tick| (tick.text.as_str(), tick.bold)).collect();
        let texts = font::apart(&told, size, self.style.space(64.0));
        for (i, (tick, text)) in self.rows.iter().zip(texts).enumerate() {
            // Rows counted from the bottom keep the label of their first row too.
            let place = if numeric && first > 0.0 { self.rows.len() - 1 - i } else { i };
            if place % stride == 0 {
                let text = Text::new(frame.x - near, frame.y + (i as f64 + 0.5) * step, text, size).middle();
                scene.add(text.anchor(Anchor::End).bold(tick.bold));
            }
        }
    }

    fn labels_above(&self, scene: &mut Scene, frame: Frame, step: f64) {
        for (i, tick) in self.above.iter().enumerate() {
            let size = self.style.sizes()[1];
            let text = font::fit(&tick.text, size, tick.bold, step - 2.0);
            let x = frame.x + (i as f64 + 0.5) * step;
            let text = Text::new(x, frame.y - self.near(), text, size).anchor(Anchor::Middle);
            scene.add(text.bold(tick.bold));
        }
    }
}
