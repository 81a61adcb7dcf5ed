//! Panels of coloured cells that share one scale, one colour bar and their tick labels.
//!
//! Heat maps, attention patterns and lens tables are grids. A grid finds the room: how many panels stand beside each
//! other, how large a cell is, how labels turn, where the colour bar goes.

use crate::figure::axes::{LABEL, TICK};
use crate::figure::cells::{self, Look, Panel};
use crate::figure::color::{FAINT, Scale};
use crate::figure::colorbar::Bar;
use crate::figure::font;
use crate::figure::labels::{self, Tick};
use crate::figure::scene::{Anchor, Frame, Scene, Text};

/// More cells than this are drawn as rasters.
const MOST_VECTORS: usize = 2500;
/// A grid is made no taller than this: its cells shrink.
const TALLEST: f64 = 600.0;
/// Between panels.
const GAP: f64 = 8.0;
/// Between ticks and cells.
const NEAR: f64 = 3.0;
/// Room at the figure's edge.
const EDGE: f64 = 2.0;

/// A grid to be laid out and drawn.
pub struct Grid {
    /// One or more panels of `rows × columns` cells.
    pub panels: Vec<Panel>,
    /// Labels of the columns.
    pub columns: Vec<Tick>,
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
    /// Shape of the cells.
    pub shape: Shape,
    /// Small print below, for what was left out.
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
    title: f64,
    labels: labels::Plan,
}

impl Grid {
    /// The finished picture.
    pub fn draw(&self) -> Scene {
        let (columns, rows) = (self.columns.len().max(1), self.rows.len().max(1));
        let title = if self.panels.iter().any(|p| !p.name.is_empty()) { LABEL + 3.0 } else { 0.0 };
        let high = |l: &Layout| {
            let down = self.panels.len().div_ceil(l.across) as f64;
            down * (l.title + rows as f64 * l.cell[1]) + (down - 1.0) * GAP
        };
        let top = EDGE + if title == 0.0 { 2.0 } else { 0.0 };
        let below = |l: &Layout| top + high(l) + NEAR + l.labels.height;
        let named = |l: &Layout| below(l) + if self.names[0].is_empty() { 0.0 } else { LABEL + 3.0 };
        // The bar's label is broken to the picture's height, which follows from the room that the bar leaves.
        let long = |l: &Layout| (high(l) - title).min(200.0);
        let beside =
            |length: f64, room: f64| Bar::new(&self.scale, &self.bar, true, length, room).depth() + GAP;
        let mut layout = self.layout(columns, rows, title, beside(200.0, f64::INFINITY));
        for _ in 0..3 {
            layout = self.layout(columns, rows, title, beside(long(&layout), named(&layout) - 4.0));
        }
        let upright = high(&layout) >= 62.0;
        if !upright {
            layout = self.layout(columns, rows, title, 0.0);
        }
        let (w, h) = (columns as f64 * layout.cell[0], rows as f64 * layout.cell[1]);
        let body = layout.across as f64 * (w + GAP) - GAP;
        let length =
            if upright { (high(&layout) - title).min(200.0) } else { (self.width - 60.0).clamp(60.0, 150.0) };
        let room = if upright { named(&layout) - 4.0 } else { self.width - 8.0 };
        let bar = Bar::new(&self.scale, &self.bar, upright, length, room);
        let content = layout.left + body + if upright { GAP + bar.depth() } else { 0.0 };
        let shift = ((self.width - content) / 2.0).max(EDGE);
        let (below, named) = (below(&layout), named(&layout));
        let barred = named + if upright { 0.0 } else { 6.0 + bar.depth() };
        let height = barred + if self.note.is_empty() { EDGE } else { 11.0 };

        let mut scene = Scene::new(self.width, height);
        let x0 = shift + layout.left;
        let raster = self.panels.iter().map(|p| p.cells.len()).sum::<usize>() > MOST_VECTORS;
        let shorten = matches!(self.shape, Shape::Text(_));
        let look = Look { columns, scale: &self.scale, raster, shorten };
        for (i, panel) in self.panels.iter().enumerate() {
            let (across, down) = (i % layout.across, i / layout.across);
            let x = x0 + across as f64 * (w + GAP);
            let y = top + down as f64 * (h + layout.title + GAP) + layout.title;
            let frame = Frame::new(x, y, w, h);
            if !panel.name.is_empty() {
                let name = font::fit(&font::visible(&panel.name), LABEL, false, w + GAP - 2.0);
                scene.add(Text::new(x + w / 2.0, y - 3.0, name, LABEL).anchor(Anchor::Middle));
            }
            cells::draw(&mut scene, panel, frame, &look);
            if across == 0 {
                self.row_labels(&mut scene, frame, layout.cell[1]);
            }
            if i + layout.across >= self.panels.len() {
                layout.labels.draw(&mut scene, x + layout.cell[0] / 2.0, y + h + NEAR, layout.cell[0]);
            }
        }
        let frame = Frame::new(x0, top + title, body, high(&layout) - title);
        let x_name = (self.names[0].as_str(), below + LABEL);
        let y_name = (self.names[1].as_str(), shift + LABEL * font::CAP);
        crate::figure::axes::name(&mut scene, frame, Some(x_name), Some(y_name));
        if upright {
            bar.draw(&mut scene, x0 + body + GAP, frame.y + (frame.h - length) / 2.0);
        } else {
            bar.draw(
                &mut scene,
                (x0 + body / 2.0 - length / 2.0).clamp(8.0, self.width - length - 8.0),
                named + 6.0,
            );
        }
        if !self.note.is_empty() {
            let note = font::fit(&self.note, 6.0, false, self.width - 4.0);
            scene.add(Text::new(EDGE, height - 3.0, note, 6.0).color(FAINT));
        }
        scene
    }

    fn layout(&self, columns: usize, rows: usize, title: f64, bar: f64) -> Layout {
        let widest =
            self.rows.iter().map(|t| font::width(&t.text, TICK, t.bold)).fold(0.0, f64::max).min(64.0);
        let name = if self.names[1].is_empty() { 0.0 } else { LABEL + 3.0 };
        let mut left = name + widest + NEAR;
        let size = |left: f64, across: usize| {
            let room = self.width - 2.0 * EDGE - left - bar - (across - 1) as f64 * GAP;
            let each = (room / (across * columns) as f64).max(0.2);
            let down = self.panels.len().div_ceil(across).max(1) as f64;
            let high = (TALLEST - down * (title + GAP)) / (down * rows as f64);
            match self.shape {
                Shape::Square(_, most) => [each.min(most).min(high.max(1.0)); 2],
                Shape::Text(height) => [each, height],
            }
        };
        let least = if let Shape::Square(least, _) = self.shape { least } else { 23.0 };
        let pick = |left: f64| {
            (1..=self.panels.len().max(1)).rev().find(|n| size(left, *n)[0] >= least).unwrap_or(1)
        };
        let mut across = pick(left);
        let mut cell = size(left, across);
        let mut labels = labels::plan(&self.columns, cell[0]);
        let reach = labels.left - cell[0] / 2.0;
        if reach > left {
            left = reach;
            across = pick(left);
            cell = size(left, across);
            labels = labels::plan(&self.columns, cell[0]);
        }
        Layout { across, cell, left, title, labels }
    }

    fn row_labels(&self, scene: &mut Scene, frame: Frame, step: f64) {
        let size = TICK.min(step * 0.96).max(5.0);
        let stride = labels::every(step, size);
        let numeric = self.rows.iter().all(|t| t.text.parse::<f64>().is_ok());
        let first: f64 = self.rows.first().and_then(|t| t.text.parse().ok()).unwrap_or(0.0);
        for (i, tick) in self.rows.iter().enumerate() {
            // Rows counted from the bottom keep the label of their first row too.
            let place = if numeric && first > 0.0 { self.rows.len() - 1 - i } else { i };
            if place % stride == 0 {
                let text = font::fit(&tick.text, size, tick.bold, 64.0);
                let text = Text::new(frame.x - NEAR, frame.y + (i as f64 + 0.5) * step, text, size).middle();
                scene.add(text.anchor(Anchor::End).bold(tick.bold));
            }
        }
    }
}
