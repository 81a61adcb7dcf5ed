//! Causal tracing: where restoring a state brings the answer back. Tokens down, layers across, one panel for each kind of
//! state, in the colours that readers of Meng et al. (2022) know: a single state purple, MLPs green, attention red.
//!
//! These maps have one side. What lies below the corrupted run is marked with a minus in its cell, and where that is no
//! small matter the panels take a diverging map instead.

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::axes;
use crate::figure::cells::{self, Cell, Look, Panel, Reading};
use crate::figure::color::{FAINT, INK, Map, Scale};
use crate::figure::colorbar::Bar;
use crate::figure::font;
use crate::figure::kind::heatmap::{OUTLINE, axis, facets, label, repeated};
use crate::figure::labels::{self, Tick};
use crate::figure::scene::{Anchor, Frame, Scene, Stroke, Text};
use crate::figure::style::{Span, Style};
use crate::figure::ticks;
use crate::figure::view::{View, categories, optional_marks, optional_numbers};
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "trace",
    about: "causal tracing: `x` (layer), `y` (position) with its token in `y_text` and subject tokens in `mark`, `value`; \
            `facet` (kind of state) makes panels; the first of `references` is the corrupted run, where colours begin",
    draw,
};

/// A size below the corrupted run, over the largest above it, from which on the map is diverging.
const DIVERGE: f64 = 0.25;
/// The same, from which on a cell is marked.
const MARKED: f64 = 0.01;
/// More cells than this are drawn as rasters.
const MOST_VECTORS: usize = 2500;
/// All panels together are made no taller.
const TALLEST: f64 = 560.0;
/// Between panels.
const GAP: f64 = 8.0;

/// A panel with its colours.
struct Part {
    panel: Panel,
    scale: Scale,
}

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let (x, y) = (view.need("x", &view.x)?, view.need("y", &view.y)?);
    let value = view.need("value", &view.value)?;
    let (layers, xs) = categories(rows, x)?;
    let (places, ys) = categories(rows, y)?;
    let (names, panel_of) = facets(rows, view)?;
    let values: Vec<f64> = rows.numbers(value)?.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect();
    let (lo, hi) = (optional_numbers(rows, &view.lo)?, optional_numbers(rows, &view.hi)?);
    let marks = optional_marks(rows, &view.mark)?;
    let base = view.references.first().map_or(0.0, |r| r.at);
    let over = values.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max((v - base).abs()));
    let least = view.outline.unwrap_or(OUTLINE * over);

    let (w, h) = (layers.len(), places.len());
    let mut cells = vec![vec![Cell::Missing; w * h]; names.len()];
    for i in 0..rows.len() {
        let place = &mut cells[panel_of[i]][ys[i] * w + xs[i]];
        let at = format!("{x} {} and {y} {}", layers[xs[i]], places[ys[i]]);
        if *place != Cell::Missing {
            return Err(repeated(rows, view, &at));
        }
        let interval = lo[i].zip(hi[i]);
        let outlined = (values[i] - base).abs() >= least && interval.is_some_and(|(lo, hi)| lo > base || hi < base);
        let tip = format!("{at}: {}", ticks::number(values[i]));
        *place = Cell::Reading(Reading { value: values[i], outlined, tip, ..Reading::default() });
    }
    let mut tokens = axis(rows, &places, &ys, &view.y_text, &vec![false; rows.len()])?;
    for (i, place) in ys.iter().enumerate().filter(|(i, _)| marks[*i]) {
        if marks[i] && !tokens[*place].bold {
            tokens[*place].text.push('*');
            tokens[*place].bold = true;
        }
    }

    let colours = Colours::new(&values, base, view);
    let parts = names.into_iter().zip(cells).map(|(name, cells)| colours.part(name, cells, view)).collect();
    let picture = Picture {
        parts,
        layers: layers.iter().map(|l| Tick::plain(font::visible(l))).collect(),
        tokens,
        marked: (!colours.diverging).then_some([base, base - MARKED * over]),
        shared: view.shared.unwrap_or(true),
        names: [label(&view.x_label, x, false), label(&view.value_label, value, false)],
        width: view.points(Span::Full),
        style: view.style(),
        note: colours.note(&values),
    };
    Ok(picture.draw())
}

/// How values become colours.
struct Colours {
    base: f64,
    /// Limits of all panels.
    limits: [f64; 2],
    diverging: bool,
    /// How far above the corrupted run the largest lies.
    above: f64,
}

impl Colours {
    fn new(values: &[f64], base: f64, view: &View) -> Colours {
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        let (above, below) = finite().fold((0.0f64, 0.0f64), |(a, b), v| (a.max(v - base), b.max(base - v)));
        let own = base == 0.0 && below > DIVERGE * above && below > 1e-9;
        let diverging = view.map.map_or(own, |map| map == Map::RdBu);
        let limits = view.limits.unwrap_or(if diverging { [-below.max(above), below.max(above)] } else { [base, base + above] });
        Colours { base, limits, diverging, above: above.max(below) }
    }

    /// The map that readers expect of a kind of state.
    fn map(&self, name: &str, view: &View) -> Map {
        let name = name.to_lowercase();
        // a stream whose later MLPs or attention are held back is still a single state
        let stream = ["post", "pre", "mid", "resid", "state", "stream"].iter().any(|word| name.starts_with(word));
        match view.map {
            Some(map) => map,
            None if self.diverging => Map::RdBu,
            None if !stream && name.contains("mlp") => Map::Greens,
            None if !stream && name.contains("att") => Map::Reds,
            None => Map::Purples,
        }
    }

    fn part(&self, name: String, cells: Vec<Cell>, view: &View) -> Part {
        let values = || {
            cells.iter().filter_map(|cell| if let Cell::Reading(r) = cell { Some(r.value) } else { None })
        };
        let limits = if view.shared.unwrap_or(true) || view.limits.is_some() {
            self.limits
        } else {
            let most = values().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max((v - self.base).abs()));
            [if self.diverging { -most } else { self.base }, self.base + most]
        };
        let scale = Scale::over(values(), self.map(&name, view), Some(limits));
        Part { panel: Panel { name, cells }, scale }
    }

    /// What a minus means.
    fn note(&self, values: &[f64]) -> String {
        let from = self.base - MARKED * self.above;
        let lowest = values.iter().copied().filter(|v| v.is_finite()).fold(f64::INFINITY, f64::min);
        if self.diverging || lowest.partial_cmp(&from) != Some(std::cmp::Ordering::Less) {
            return String::new();
        }
        let run = if self.base == 0.0 { "0".to_owned() } else { format!("the corrupted run, {},", ticks::number(self.base)) };
        format!("\u{2212} marks cells below {run} by more than 1 % of the largest effect; lowest {}", ticks::number(lowest))
    }
}

/// Everything to be laid out.
struct Picture {
    parts: Vec<Part>,
    layers: Vec<Tick>,
    tokens: Vec<Tick>,
    /// Cells below the second of these get a minus.
    marked: Option<[f64; 2]>,
    shared: bool,
    /// Words under the layers and under the colour bars.
    names: [String; 2],
    width: f64,
    style: Style,
    note: String,
}

impl Picture {
    fn draw(&self) -> Scene {
        let Style { label, tick, small, .. } = self.style;
        let (columns, rows) = (self.layers.len().max(1), self.tokens.len().max(1));
        let room = self.width * 0.3;
        let text = |t: &Tick| font::fit(&t.text, tick, t.bold, room);
        let widest = self.tokens.iter().map(|t| font::width(&text(t), tick, t.bold)).fold(0.0, f64::max);
        let left = widest + 6.0;
        let n = self.parts.len().max(1);
        let each = |across: usize| (self.width - left - 6.0 - (across - 1) as f64 * GAP) / across as f64;
        let across = (1..=n).rev().find(|a| each(*a) >= tick * 11.0 && n.div_ceil(*a) * a < n + *a).unwrap_or(1);
        let down = n.div_ceil(across);
        let cell_w = (each(across) / columns as f64).min(tick * 4.0);
        let panel_w = cell_w * columns as f64;
        let cell_h = (tick * 1.3).min(TALLEST / (down * rows) as f64).max(1.5);
        let panel_h = cell_h * rows as f64;

        let title = if self.parts.iter().any(|p| !p.panel.name.is_empty()) { label + 3.0 } else { 3.0 };
        let plan = labels::plan(&self.layers, cell_w);
        let length = panel_w.min(tick * 22.0);
        let bar = |part: &'_ Part| Bar::new(&part.scale, "", false, length, length).depth();
        // one bar serves all panels of one map and one scale
        let one = self.shared && self.parts.windows(2).all(|p| p[0].scale.map == p[1].scale.map);
        let barred = self.parts.first().map_or(0.0, bar) + 5.0;
        let ticked = 3.0 + plan.height + label + 3.0;
        let pitch = title + panel_h + ticked + if one { 0.0 } else { barred } + 3.0;
        let noted = if self.note.is_empty() { 0.0 } else { small + 3.0 };
        let height = down as f64 * pitch + if one { barred } else { 0.0 } + label + 4.0 + noted;
        let mut scene = Scene::new(self.width, height);
        let body = left + across as f64 * (panel_w + GAP) - GAP;
        let x0 = left + ((self.width - body - 6.0) / 2.0).max(0.0);

        let raster = n * columns * rows > MOST_VECTORS;
        for (i, part) in self.parts.iter().enumerate() {
            let (a, d) = (i % across, i / across);
            let frame =
                Frame::new(x0 + a as f64 * (panel_w + GAP), title + d as f64 * pitch, panel_w, panel_h);
            let name = font::fit(&font::visible(&part.panel.name), label, false, panel_w + GAP - 2.0);
            scene.add(Text::new(frame.x + panel_w / 2.0, frame.y - 3.0, name, label).anchor(Anchor::Middle));
            cells::draw(&mut scene, &part.panel, frame, &Look { columns, scale: &part.scale, raster, shorten: false });
            self.minus(&mut scene, &part.panel, frame, columns, [cell_w, cell_h]);
            if a == 0 {
                let size = tick.min(cell_h * 0.96).max(5.0);
                let stride = labels::every(cell_h, size);
                for (k, token) in self.tokens.iter().enumerate().step_by(stride) {
                    let text = font::fit(&token.text, size, token.bold, room);
                    let text = Text::new(frame.x - 3.0, frame.y + (k as f64 + 0.5) * cell_h, text, size).middle();
                    scene.add(text.anchor(Anchor::End).bold(token.bold));
                }
            }
            plan.draw(&mut scene, frame.x + cell_w / 2.0, frame.bottom() + 3.0, cell_w);
            let under = frame.bottom() + ticked;
            if a == 0 || across == 1 {
                let last = (n - d * across).min(across) as f64;
                let row = Frame::new(x0, frame.y, last * (panel_w + GAP) - GAP, panel_h);
                axes::name(&mut scene, row, Some((&font::visible(&self.names[0]), under - 2.5)), None);
            }
            if !one {
                let own = Bar::new(&part.scale, "", false, length, length);
                own.draw(&mut scene, frame.x + (panel_w - length) / 2.0, under + 5.0);
            }
        }
        let middle = Frame::new(x0, 0.0, body - left, height);
        if let Some(part) = self.parts.first().filter(|_| one) {
            let own = Bar::new(&part.scale, "", false, length, length);
            own.draw(&mut scene, middle.x + (middle.w - length) / 2.0, down as f64 * pitch + 2.0);
        }
        let signed = self.parts.iter().any(|part| part.scale.map == Map::RdBu);
        let words = font::visible(&self.names[1]) + if signed { " (blue = positive)" } else { "" };
        axes::name(&mut scene, middle, Some((&words, height - 3.0 - noted)), None);
        if !self.note.is_empty() {
            let note = font::fit(&self.note, small, false, self.width - 4.0);
            scene.add(Text::new(2.0, height - 3.0, note, small).color(FAINT));
        }
        scene
    }

    /// A minus in every cell below the corrupted run.
    fn minus(&self, scene: &mut Scene, panel: &Panel, frame: Frame, columns: usize, [w, h]: [f64; 2]) {
        let Some([_, from]) = self.marked else { return };
        for (i, cell) in panel.cells.iter().enumerate() {
            if matches!(cell, Cell::Reading(r) if r.value < from) {
                let (x, y) = (frame.x + ((i % columns) as f64 + 0.5) * w, frame.y + ((i / columns) as f64 + 0.5) * h);
                let half = (w * 0.28).min(2.4);
                scene.line([x - half, y], [x + half, y], Stroke::solid(INK, self.style.rule.max(0.7)));
            }
        }
    }
}
