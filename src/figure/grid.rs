//! Panels of coloured cells that share one scale, one colour bar and their tick labels.
//!
//! Heat maps, attention patterns and lens tables are grids. A grid finds the room: how many panels stand beside each
//! other, how large a cell is, how labels turn, where the colour bar goes.

use crate::figure::cells::{self, Look, Panel};
use crate::figure::color::{FAINT, Scale};
use crate::figure::colorbar::Bar;
use crate::figure::font;
use crate::figure::labels::{self, Tick};
use crate::figure::scene::{Anchor, Frame, Scene, Text};
use crate::figure::style::Style;

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
        let style = &self.style;
        let (gap, near) = (self.gap(), self.near());
        let (columns, rows) = (self.columns.len().max(1), self.rows.len().max(1));
        let title = if self.panels.iter().any(|p| !p.name.is_empty()) { style.label + near } else { 0.0 };
        let edge = if self.names[0].is_empty() { EDGE } else { style.foot() - 1.0 };
        let high = |l: &Layout| {
            let down = self.panels.len().div_ceil(l.across) as f64;
            down * (l.title + rows as f64 * l.cell[1]) + (down - 1.0) * gap
        };
        let top = EDGE + if title == 0.0 { 2.0 } else { 0.0 };
        let below = |l: &Layout| top + high(l) + near + l.labels.height;
        let named = |l: &Layout| below(l) + if self.names[0].is_empty() { 0.0 } else { style.label + near };
        let longest = style.space(200.0);
        // The bar's label is broken to the picture's height, which follows from the room that the bar leaves.
        let long = |l: &Layout| (high(l) - title).min(longest);
        let beside = |length: f64, room: f64| {
            Bar::new(style, &self.scale, &self.bar, true, length, room).depth() + gap
        };
        let mut layout = self.layout(columns, rows, title, beside(longest, f64::INFINITY));
        for _ in 0..3 {
            layout = self.layout(columns, rows, title, beside(long(&layout), named(&layout) - 4.0));
        }
        let upright = high(&layout) >= style.space(62.0);
        if !upright {
            layout = self.layout(columns, rows, title, 0.0);
        }
        let (w, h) = (columns as f64 * layout.cell[0], rows as f64 * layout.cell[1]);
        let body = layout.across as f64 * (w + gap) - gap;
        let length = if upright {
            long(&layout)
        } else {
            (self.width - 60.0).clamp(60.0, style.space(150.0).max(60.0))
        };
        let room = if upright { named(&layout) - 4.0 } else { self.width - 8.0 };
        let bar = Bar::new(style, &self.scale, &self.bar, upright, length, room);
        let content = layout.left + body + if upright { gap + bar.depth() } else { 0.0 };
        let shift = ((self.width - content) / 2.0).max(EDGE);
        let (below, named) = (below(&layout), named(&layout));
        let barred = named + if upright { 0.0 } else { style.space(6.0) + bar.depth() };
        let height = barred + if self.note.is_empty() { edge } else { style.small + 7.0 };

        let mut scene = Scene::new(self.width, height);
        let x0 = shift + layout.left;
        let raster = self.panels.iter().map(|p| p.cells.len()).sum::<usize>() > MOST_VECTORS;
        let shorten = matches!(self.shape, Shape::Text(_));
        let look = Look { style: *style, columns, scale: &self.scale, raster, shorten };
        for (i, panel) in self.panels.iter().enumerate() {
            let (across, down) = (i % layout.across, i / layout.across);
            let x = x0 + across as f64 * (w + gap);
            let y = top + down as f64 * (h + layout.title + gap) + layout.title;
            let frame = Frame::new(x, y, w, h);
            if !panel.name.is_empty() {
                let name = font::fit(&font::visible(&panel.name), style.label, false, w + gap - 2.0);
                scene.add(Text::new(x + w / 2.0, y - near, name, style.label).anchor(Anchor::Middle));
            }
            cells::draw(&mut scene, panel, frame, &look);
            if across == 0 {
                self.row_labels(&mut scene, frame, layout.cell[1]);
            }
            if i + layout.across >= self.panels.len() {
                layout.labels.draw(&mut scene, x + layout.cell[0] / 2.0, y + h + near, layout.cell[0]);
            }
        }
        let frame = Frame::new(x0, top + title, body, high(&layout) - title);
        let x_name = (self.names[0].as_str(), below + style.label);
        let y_name = (self.names[1].as_str(), shift + style.label * font::CAP);
        crate::figure::axes::name(&mut scene, style, frame, Some(x_name), Some(y_name));
        if upright {
            bar.draw(&mut scene, x0 + body + gap, frame.y + (frame.h - length) / 2.0);
        } else {
            bar.draw(
                &mut scene,
                (x0 + body / 2.0 - length / 2.0).clamp(8.0, self.width - length - 8.0),
                named + style.space(6.0),
            );
        }
        if !self.note.is_empty() {
            let note = font::fit(&self.note, style.small, false, self.width - 4.0);
            scene.add(Text::new(EDGE, height - 0.3 * style.small - 1.0, note, style.small).color(FAINT));
        }
        scene
    }

    /// Between panels.
    fn gap(&self) -> f64 {
        self.style.space(8.0)
    }

    /// Between ticks and cells.
    fn near(&self) -> f64 {
        self.style.space(3.0)
    }

    fn layout(&self, columns: usize, rows: usize, title: f64, bar: f64) -> Layout {
        let (style, gap) = (&self.style, self.gap());
        let widths = self.rows.iter().map(|t| font::width(&t.text, style.tick, t.bold));
        let widest = widths.fold(0.0, f64::max).min(style.space(64.0));
        let name = if self.names[1].is_empty() { 0.0 } else { style.label + self.near() };
        let mut left = name + widest + self.near();
        let size = |left: f64, across: usize| {
            let room = self.width - 2.0 * EDGE - left - bar - (across - 1) as f64 * gap;
            let each = (room / (across * columns) as f64).max(0.2);
            let down = self.panels.len().div_ceil(across).max(1) as f64;
            let high = (style.tall - down * (title + gap)) / (down * rows as f64);
            match self.shape {
                Shape::Square(_, most) => [each.min(style.space(most)).min(high.max(1.0)); 2],
                Shape::Text(height) => [each, style.space(height)],
            }
        };
        let least = style.space(if let Shape::Square(least, _) = self.shape { least } else { 23.0 });
        let pick = |left: f64| {
            let all = || (1..=self.panels.len().max(1)).rev();
            let widest = || all().max_by(|a, b| size(left, *a)[0].total_cmp(&size(left, *b)[0]));
            all().find(|n| size(left, *n)[0] >= least).or_else(widest).unwrap_or(1)
        };
        let mut across = pick(left);
        let mut cell = size(left, across);
        let mut labels = labels::plan(style, &self.columns, cell[0]);
        let reach = labels.left - cell[0] / 2.0;
        if reach > left {
            left = reach;
            across = pick(left);
            cell = size(left, across);
            labels = labels::plan(style, &self.columns, cell[0]);
        }
        Layout { across, cell, left, title, labels }
    }

    fn row_labels(&self, scene: &mut Scene, frame: Frame, step: f64) {
        let size = self.style.tick.min(step * 0.96).max(self.style.sizes()[4]);
        let (stride, near) = (labels::every(step, size), self.near());
        let numeric = self.rows.iter().all(|t| t.text.parse::<f64>().is_ok());
        let first: f64 = self.rows.first().and_then(|t| t.text.parse().ok()).unwrap_or(0.0);
        for (i, tick) in self.rows.iter().enumerate() {
            // Rows counted from the bottom keep the label of their first row too.
            let place = if numeric && first > 0.0 { self.rows.len() - 1 - i } else { i };
            if place % stride == 0 {
                let text = font::fit(&tick.text, size, tick.bold, self.style.space(64.0));
                let text = Text::new(frame.x - near, frame.y + (i as f64 + 0.5) * step, text, size).middle();
                scene.add(text.anchor(Anchor::End).bold(tick.bold));
            }
        }
    }
}
