//! Panels of tokens by layers: how many stand beside each other, and where their colour bars go.

use crate::figure::cells::{self, Cell, Panel};
use crate::figure::color::{FAINT, Scale};
use crate::figure::colorbar::Bar;
use crate::figure::font;
use crate::figure::labels::{self, Tick};
use crate::figure::scene::{Anchor, Frame, Scene, Stroke, Text};
use crate::figure::style::Style;
use crate::figure::words::Words;

/// More cells than this are drawn as rasters.
const MOST_VECTORS: usize = 2500;

/// A panel with its colours.
pub struct Part {
    /// Its cells.
    pub panel: Panel,
    /// Its colours.
    pub scale: Scale,
}

/// Everything to be laid out.
pub struct Picture {
    /// The panels.
    pub parts: Vec<Part>,
    /// Labels of the columns.
    pub layers: Vec<Tick>,
    /// Labels of the rows, from the top.
    pub tokens: Vec<Tick>,
    /// Cells below this get a minus.
    pub marked: Option<f64>,
    /// Whether all panels have one scale.
    pub shared: bool,
    /// Words under the layers and under the colour bars.
    pub names: [String; 2],
    /// Width of the picture.
    pub width: f64,
    /// Sizes of type and lines.
    pub style: Style,
    /// Small print below.
    pub note: String,
}

impl Picture {
    /// The finished picture.
    pub fn draw(&self) -> Scene {
        let style = &self.style;
        let Style { label, tick, .. } = *style;
        let near = style.space(3.0);
        let (columns, rows, n) =
            (self.layers.len().max(1), self.tokens.len().max(1), self.parts.len().max(1));
        let room = self.width * 0.3;
        let written = self.tokens.iter().map(|t| font::fit(&t.text, tick, t.bold, room));
        let widest =
            written.zip(&self.tokens).map(|(text, t)| font::width(&text, tick, t.bold)).fold(0.0, f64::max);
        let left = widest + near + 3.0;
        let gap = style.space(8.0);

        // panels beside each other, as many as there is room for, and no row of them nearly empty
        let each = |across: usize| (self.width - left - 4.0 - (across - 1) as f64 * gap) / across as f64;
        let fits =
            |across: &usize| each(*across) >= style.space(77.0) && (n % across == 0 || n > *across + 1);
        let across = (1..=n).rev().find(fits).unwrap_or(1);
        let down = n.div_ceil(across);
        // names, layers and colour bars take about so much
        let taken = style.space(40.0) * (1 + down) as f64;
        let cell_h = style.space(9.0).min((style.tall - taken) / (down * rows) as f64).max(1.5);
        let panel_h = cell_h * rows as f64;
        // one bar serves all panels of one map and one scale; upright ones stand beside panels in a single file
        let one = self.shared && self.parts.windows(2).all(|p| p[0].scale.map == p[1].scale.map);
        let upright = across == 1 && !one && panel_h >= style.space(40.0);
        let bar =
            |part: &Part, length: f64| Bar::new(style, &part.scale, "", upright, length, length).depth();
        let deep = |length: f64| {
            self.parts.iter().map(|part| bar(part, length)).fold(0.0, f64::max) + style.space(5.0)
        };
        let beside = if upright { deep(panel_h) } else { 0.0 };
        let cell_w = ((each(across) - beside) / columns as f64).min(style.space(42.0));
        let panel_w = cell_w * columns as f64;
        let length =
            if upright { panel_h } else { (panel_w * 0.86).clamp(style.space(63.0), style.space(150.0)) };

        let named = self.parts.iter().any(|p| !p.panel.name.is_empty());
        let title = if named { label + near } else { near };
        let plan = labels::plan(style, &self.layers, cell_w);
        // layers are counted under every row of panels, in a single file under the last panel only; what they are is said once
        let across_words = Words::new(style, &self.names[0], self.width - 2.0);
        let barred = if upright { 0.0 } else { deep(length) };
        let ticked = |d: usize| {
            near + plan.height + 0.8 * near + if d + 1 == down { across_words.depth() } else { 0.0 }
        };
        let under = |d: usize| match (upright && d + 1 < down, one) {
            (true, _) => near,
            (false, true) => ticked(d),
            (false, false) => ticked(d) + barred + near,
        };
        let below =
            (0..down).map(|d| title + panel_h + under(d)).sum::<f64>() + if one { barred } else { 0.0 };
        let noted = if self.note.is_empty() { 0.0 } else { style.small + near };
        let signed = self.parts.iter().find_map(|part| part.scale.map.positive());
        let signed = signed.map_or_else(String::new, |colour| format!(" ({colour} = positive)"));
        let words = font::visible(&self.names[1]) + &signed;
        let words = if upright { format!("colour: {words}") } else { words };
        let words = Words::new(style, &words, self.width - 2.0);
        let mut scene = Scene::new(self.width, below + words.depth() + near + noted);
        let body = across as f64 * (panel_w + gap) - gap;
        let x0 = left + ((self.width - left - 4.0 - body - beside) / 2.0).max(0.0);

        let look = |part| cells::Look {
            style: *style,
            columns,
            scale: part,
            raster: n * columns * rows > MOST_VECTORS,
            text: None,
        };
        let mut top = 0.0;
        for (i, part) in self.parts.iter().enumerate() {
            let (a, d) = (i % across, i / across);
            let frame = Frame::new(x0 + a as f64 * (panel_w + gap), top + title, panel_w, panel_h);
            let wide =
                if across == 1 { self.width - 2.0 * left.min(self.width / 4.0) } else { panel_w + gap - 2.0 };
            self.name(&mut scene, &part.panel.name, frame, wide);
            cells::draw(&mut scene, &part.panel, frame, &look(&part.scale));
            self.minus(&mut scene, &part.panel, frame, columns, [cell_w, cell_h]);
            if a == 0 {
                self.tokens(&mut scene, frame, cell_h, room);
            }
            let last = !upright || d + 1 == down;
            if last {
                plan.draw(&mut scene, frame.x + cell_w / 2.0, frame.bottom() + near, cell_w);
            }
            if a == 0 && d + 1 == down {
                let count = (n - d * across).min(across) as f64;
                let row = Frame::new(x0, frame.y, count * (panel_w + gap) - gap, panel_h);
                let top = frame.bottom() + near + plan.height + 0.6 * near;
                across_words.below(&mut scene, row.x + row.w / 2.0, top);
            }
            let own = Bar::new(style, &part.scale, "", upright, length, length);
            if upright {
                own.draw(&mut scene, frame.right() + style.space(5.0), frame.y);
            } else if !one {
                own.draw(
                    &mut scene,
                    frame.x + (panel_w - length) / 2.0,
                    frame.bottom() + ticked(d) + style.space(5.0),
                );
            } else if i == 0 {
                own.draw(&mut scene, x0 + (body - length) / 2.0, below - barred + style.space(3.0));
            }
            if a + 1 == across {
                top += title + panel_h + under(d);
            }
        }
        words.below(&mut scene, x0 + body / 2.0, below + 0.5 * near);
        if !self.note.is_empty() {
            let note = font::fit(&self.note, style.small, false, self.width - 4.0);
            let baseline = scene.height - style.foot();
            scene.add(Text::new(2.0, baseline, note, style.small).color(FAINT));
        }
        scene
    }

    /// A panel's name above it.
    fn name(&self, scene: &mut Scene, name: &str, frame: Frame, room: f64) {
        let name = font::visible(name);
        let [small, large] = [self.style.tick, self.style.label];
        let size = if font::width(&name, large, false) <= room { large } else { small };
        let name = font::fit(&name, size, false, room);
        let half = font::width(&name, size, false) / 2.0;
        let middle = (frame.x + frame.w / 2.0).min(self.width - half - 1.0).max(half + 1.0);
        scene.add(Text::new(middle, frame.y - self.style.space(3.0), name, size).anchor(Anchor::Middle));
    }

    /// The tokens at the left of a panel.
    fn tokens(&self, scene: &mut Scene, frame: Frame, step: f64, room: f64) {
        let size = self.style.tick.min(step * 0.96).max(5.0);
        for (k, token) in self.tokens.iter().enumerate().step_by(labels::every(step, size)) {
            let text = font::fit(&token.text, size, token.bold, room);
            let (x, y) = (frame.x - self.style.space(3.0), frame.y + (k as f64 + 0.5) * step);
            scene.add(Text::new(x, y, text, size).middle().anchor(Anchor::End).bold(token.bold));
        }
    }

    /// A minus in every cell below the corrupted run.
    fn minus(&self, scene: &mut Scene, panel: &Panel, frame: Frame, columns: usize, [w, h]: [f64; 2]) {
        let Some(from) = self.marked else { return };
        for (i, cell) in panel.cells.iter().enumerate() {
            if matches!(cell, Cell::Reading(r) if r.value < from) {
                let (x, y) =
                    (frame.x + ((i % columns) as f64 + 0.5) * w, frame.y + ((i / columns) as f64 + 0.5) * h);
                let half = (w * 0.28).min(self.style.space(2.4));
                scene.line([x - half, y], [x + half, y], Stroke::solid(FAINT, self.style.thin()));
            }
        }
    }
}
