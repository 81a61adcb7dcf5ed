//! Head scores: every head of every layer by its score, the highest by name, one panel per kind of score.
//!
//! Heads stand in the order of the model, layer after layer, so that the same picture reads for a dozen heads and for
//! a thousand: what stands out does so by height, and where in the model it is can be seen.

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::axes::{self, Axis, Mark, Shape};
use crate::figure::color::{CATEGORICAL, FAINT, INK, RULE};
use crate::figure::font;
use crate::figure::kind::heatmap::{facets, label};
use crate::figure::kind::scatter::write_names;
use crate::figure::labels::every;
use crate::figure::once::repeated;
use crate::figure::scene::{Anchor, Fill, Frame, Item, Scene, Text};
use crate::figure::style::{Span, Style};
use crate::figure::ticks;
use crate::figure::view::{View, categories, optional_numbers, optional_texts};
use crate::figure::words::Words;
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "scores",
    about: "every head by its score: `x` (head), `y` (layer), `value` with `lo` and `hi`; `facet` makes a panel per kind, \
            `label` names heads, the `top` of each are written",
    takes: &["facet", "height", "top"],
    draw,
};

/// Heads named in each panel when the view does not say.
const NAMED: usize = 3;
/// A head below this share of its panel's largest is not named.
const NOTABLE: f64 = 0.2;
/// Panels with more heads have whiskers on the named ones only.
const MOST_WHISKERS: usize = 160;
/// The height of panels, in sizes of ticks, below which more of them stand beside each other.
const LOWEST: f64 = 6.0;
/// Heads of the picture beyond which dots on the same spot are drawn once.
const MOST_DOTS: usize = 2500;

/// One head in one panel.
struct Head {
    row: usize,
    panel: usize,
    layer: usize,
    /// Its place in the order of the model.
    at: f64,
    value: f64,
    interval: Option<[f64; 2]>,
}

/// The picture's order of heads.
struct Model {
    layers: Vec<String>,
    /// Heads per layer.
    wide: usize,
}

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let (x, y) = (view.need("x", &view.x)?, view.need("y", &view.y)?);
    let values = rows.numbers(view.need("value", &view.value)?)?;
    let (heads, xs) = categories(rows, x)?;
    let (layers, ys) = categories(rows, y)?;
    let (panels, panel_of) = facets(rows, view)?;
    let (lo, hi) = (optional_numbers(rows, &view.lo)?, optional_numbers(rows, &view.hi)?);
    let model = Model { layers, wide: heads.len().max(1) };
    let mut seen = std::collections::HashSet::new();
    let mut all = Vec::new();
    for i in 0..rows.len() {
        if !seen.insert((panel_of[i], ys[i], xs[i])) {
            let cell = format!("{y} {} and {x} {}", model.layers[ys[i]], heads[xs[i]]);
            return Err(repeated(rows, view, &cell));
        }
        all.push(Head {
            row: i,
            panel: panel_of[i],
            layer: ys[i],
            at: (ys[i] * model.wide + xs[i]) as f64,
            value: values[i].unwrap_or(f64::NAN),
            interval: lo[i].zip(hi[i]).map(|(lo, hi)| [lo, hi]),
        });
    }
    let texts = optional_texts(rows, &view.label)?;
    let name = |h: &Head| match &texts {
        Some(texts) => font::visible(&texts[h.row]),
        None => format!("L{}H{}", font::visible(&model.layers[h.layer]), font::visible(&heads[xs[h.row]])),
    };

    let style = view.style();
    let width = view.points(Span::Full);
    let count = model.layers.len() * model.wide;
    let ranges: Vec<[f64; 2]> = (0..panels.len())
        .map(|k| view.limits.unwrap_or_else(|| range(all.iter().filter(|h| h.panel == k))))
        .collect();
    let title = if panels.iter().any(|p| !p.is_empty()) { style.label + 3.0 } else { 2.0 };
    let y_axes: Vec<Axis> = ranges.iter().map(|r| Axis::round(*r, 3, true)).collect();
    let ticked = y_axes.iter().flat_map(|a| a.ticks.iter().map(|(_, text)| text.as_str()));
    let ticked = font::widest(ticked, style.tick, false) + 2.0 * style.mark() + 2.0;
    let words = font::visible(&label(&view.value_label, view.need("value", &view.value)?, false));
    let named = if view.x_label.is_empty() { "layer (its heads in order)" } else { &view.x_label };
    let named = Words::new(&style, named, width - 2.0);
    let (gap, ticks_high) = (style.tick, 2.0 * style.mark() + style.tick + 1.0);
    let below = named.depth() + style.space(3.0);
    // two panels beside each other where every head still has room, and as many as it takes to fit a page or slide
    let fitting = |across: usize, tall: f64| {
        let down = panels.len().div_ceil(across) as f64;
        (tall - below + gap) / down - title - ticks_high - gap
    };
    let room = |across: usize, least: f64| width / across as f64 >= least;
    let usual = if panels.len() > 1 && room(2, (21.0 * style.tick).max(0.9 * count as f64)) { 2 } else { 1 };
    let fits = |across: &usize| fitting(*across, style.tall) >= LOWEST * style.tick;
    let across = (usual..=panels.len())
        .take_while(|n| *n == usual || room(*n, 14.0 * style.tick))
        .find(fits)
        .unwrap_or(usual);
    let down = panels.len().div_ceil(across);
    let wished =
        view.height.map_or(fitting(across, style.tall).min(9.5 * style.tick), |h| fitting(across, h));
    let high = wished.max(4.0 * style.tick);
    let up = Words::new(&style, &words, down as f64 * (high + style.tick));
    let left = up.depth() + style.space(2.0);
    let each = (width - left - 3.0) / across as f64;
    let pitch = title + high + ticks_high;
    let mut scene = Scene::new(width, down as f64 * (pitch + gap) - gap + below);

    for (k, panel) in panels.iter().enumerate() {
        let x0 = left + (k % across) as f64 * each + ticked;
        let y0 = (k / across) as f64 * (pitch + gap) + title;
        let frame = Frame::new(x0, y0, each - ticked - 5.0, high);
        let own: Vec<&Head> = all.iter().filter(|h| h.panel == k).collect();
        let text = font::fit(&font::visible(panel), style.label, false, frame.w);
        scene.add(Text::new(frame.x + frame.w / 2.0, y0 - 3.0, text, style.label).anchor(Anchor::Middle));
        let plot = Plot { model: &model, frame, style, y: &y_axes[k], many: all.len() > MOST_DOTS };
        plot.draw(&mut scene, &own, view.top.unwrap_or(NAMED), &name)?;
    }
    let body = scene.height - below;
    named.below(&mut scene, left + (width - left) / 2.0, body + style.space(2.0));
    up.beside(&mut scene, 0.0, body / 2.0);
    Ok(scene)
}

/// A panel's value axis: shares from 0 to 1, signed ones from −1, others as they lie; with air for names.
fn range<'a>(heads: impl Iterator<Item = &'a Head>) -> [f64; 2] {
    let values: Vec<f64> = heads.map(|h| h.value).filter(|v| v.is_finite()).collect();
    let (least, most) = values.iter().fold((0.0f64, 0.0f64), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
    if most > 1.0 || least < -1.0 {
        axes::spread(values, &[0.0], 0.2)
    } else if least < 0.0 {
        [-1.5, 1.5]
    } else {
        [-0.05, 1.22]
    }
}

/// One panel.
struct Plot<'a> {
    model: &'a Model,
    frame: Frame,
    style: Style,
    y: &'a Axis,
    many: bool,
}

impl Plot<'_> {
    fn draw(
        &self,
        scene: &mut Scene,
        heads: &[&Head],
        top: usize,
        name: &dyn Fn(&Head) -> String,
    ) -> Result<()> {
        let Plot { model, frame, style, y, .. } = *self;
        let wide = model.wide as f64;
        let layer = frame.w / model.layers.len().max(1) as f64;
        let widest = font::widest(model.layers.iter().map(String::as_str), style.tick, false);
        let stride = every(layer, widest + 4.0);
        let middles = model.layers.iter().enumerate().step_by(stride);
        let x = Axis {
            range: [-0.5, (model.layers.len() * model.wide) as f64 - 0.5],
            ticks: middles
                .map(|(l, text)| (l as f64 * wide + (wide - 1.0) / 2.0, font::visible(text)))
                .collect(),
            ..Axis::default()
        };
        let [lowest, highest] = y.range;
        let ground = (0..model.layers.len()).filter(|l| l % 2 == 1).map(|l| {
            let (from, to) = ([l as f64 * wide - 0.5, lowest], [(l + 1) as f64 * wide - 0.5, highest]);
            Mark::from(Shape::Bar { from, to, color: RULE.alpha(0.4) })
        });
        let mut marks: Vec<Mark> = ground.collect();

        let inside = |v: f64| (lowest..=highest).contains(&v);
        let mut ranked: Vec<&&Head> =
            heads.iter().filter(|h| h.value.is_finite() && inside(h.value)).collect();
        ranked.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()).then(a.row.cmp(&b.row)));
        let floor = ranked.first().map_or(0.0, |h| NOTABLE * h.value.abs());
        let notable = |h: &&&Head| h.value != 0.0 && h.value.abs() >= floor;
        let named: Vec<&&Head> = ranked.iter().take(top).copied().filter(notable).collect();
        let is_named = |h: &Head| named.iter().any(|n| n.row == h.row);
        let r = (frame.w / (x.range[1] - x.range[0]) * 0.5).clamp(style.line * 0.75, style.line * 1.6);
        let at =
            |h: &Head| [x.place(h.at, frame.x, frame.right()), y.place(h.value, frame.bottom(), frame.y)];
        let mut spots = std::collections::HashSet::new();
        // the highest last, on top of the others
        for h in ranked.iter().rev() {
            let spot = at(h).map(|v| (v / (r * 0.6)).round() as i64);
            let set_off = is_named(h);
            if self.many && !set_off && !spots.insert(spot) {
                continue;
            }
            let color =
                if set_off { CATEGORICAL[2] } else { CATEGORICAL[if h.layer % 2 == 0 { 0 } else { 3 }] };
            let whisker = h.interval.filter(|_| set_off || heads.len() <= MOST_WHISKERS);
            if let Some([lo, hi]) = whisker.filter(|[lo, hi]| lo.is_finite() && hi.is_finite()) {
                let points = [lo, hi].map(|v| [h.at, v.clamp(lowest, highest)]).to_vec();
                marks.push(Shape::Line { points, color: INK, width: style.rule, dash: false }.into());
            }
            let tip = format!("{}: {}", name(h), ticks::number(h.value));
            let r = if set_off { r.max(style.line * 1.4) } else { r };
            marks.push(Mark { tip, shape: Shape::Dot { at: [h.at, h.value], r, color } });
        }
        axes::plot(scene, &style, frame, &x, y, &marks)?;
        for h in heads.iter().filter(|h| h.value.is_infinite()) {
            let [middle, _] = at(h);
            let top = if h.value > 0.0 { frame.y } else { frame.bottom() - style.small };
            let text = Text::new(middle, top + style.small / 2.0, ticks::number(h.value), style.small);
            scene.add(text.anchor(Anchor::Middle).middle());
        }
        for h in heads.iter().filter(|h| h.value.is_nan()) {
            let [middle, _] = at(h);
            let wide = (2.0 * r).max(1.0);
            let stub = Frame::new(middle - wide / 2.0, frame.bottom() - 5.0, wide, 5.0);
            scene.add(Item::Rect(stub, Fill::Hatch, None));
        }
        if heads.iter().all(|h| h.value.is_nan()) {
            axes::nothing(scene, &style, frame);
        }
        let out = heads.iter().filter(|h| h.value.is_finite() && !inside(h.value)).count();
        if out > 0 {
            let text =
                Text::new(frame.right() - 2.0, frame.y + style.small, format!("{out} outside"), style.small);
            scene.add(text.anchor(Anchor::End).color(FAINT));
        }
        let dot = |h: &Head| {
            let [x, y] = at(h);
            Frame::new(x - r, y - r, 2.0 * r, 2.0 * r)
        };
        let taken = ranked.iter().map(|h| dot(h)).collect();
        let names: Vec<(String, [f64; 2])> = named.iter().map(|h| (name(h), at(h))).collect();
        write_names(scene, &style, frame, &names, taken);
        Ok(())
    }
}
