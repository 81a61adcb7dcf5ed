//! Lines with bands over one x axis, in one plot or in a tall plot with a low strip below it.

mod pane;

use crate::error::Result;
use crate::figure::axes::{self, Axis};
use crate::figure::color::Color;
use crate::figure::font;
use crate::figure::labels::{self, Tick};
use crate::figure::legend::{self, Entry, Sign};
use crate::figure::scene::{Frame, Scene};
use crate::figure::style::Style;
use crate::figure::ticks;
use crate::figure::view::{Reference, Series, View, categories, optional_numbers};
use crate::row::{Column, Rows};

/// Height of a strip over that of the plot above it.
const STRIP: f64 = 0.42;

/// One line.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name in the legend; lines of one name share an entry.
    pub name: String,
    /// x, value, lower, upper; a gap where the value is missing.
    pub points: Vec<[f64; 4]>,
    /// How it looks.
    pub look: Look,
}

/// How a line looks.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Colour of line, points and band.
    pub color: Color,
    /// Dashed.
    pub dash: bool,
    /// What it is in the picture.
    pub part: Part,
}

/// What a line is in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What the picture is about: thicker.
    Main,
    /// One of several, with points.
    One,
    /// One of so many that their bands must be faint.
    OneOfMany,
    /// What others are compared with: a grey band before all, without points.
    Ground,
}

/// One plot.
pub struct Pane {
    /// Words along its value axis.
    pub words: String,
    /// Its value axis.
    pub range: [f64; 2],
    /// Its lines.
    pub lines: Vec<Line>,
    /// Dashed lines across.
    pub references: Vec<Reference>,
}

/// The x axis of all plots.
pub struct Across {
    /// Each row's place.
    pub at: Vec<f64>,
    /// Names of places 0, 1, …, where the column holds text.
    names: Option<Vec<String>>,
    words: String,
    /// A value to be marked by an upright line, with its name.
    pub upright: Option<(f64, String)>,
}

impl Across {
    /// Reads the view's `x`.
    pub fn of(rows: &Rows, view: &View) -> Result<Across> {
        let x = view.need("x", &view.x)?;
        let words = if view.x_label.is_empty() { x.replace('_', " ") } else { font::visible(&view.x_label) };
        let (at, names) = if matches!(rows.column(x)?, Column::Text(_)) {
            let (names, places) = categories(rows, x)?;
            (places.into_iter().map(|p| p as f64).collect(), Some(names))
        } else {
            (rows.numbers(x)?.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect(), None)
        };
        Ok(Across { at, names, words, upright: None })
    }

    fn axis(&self, room: f64, style: &Style) -> Axis {
        if let Some(names) = &self.names {
            let ticks = (0..names.len()).map(|i| (i as f64, String::new())).collect();
            return Axis { range: [-0.4, names.len() as f64 - 0.6], ticks, ..Axis::default() };
        }
        let finite = || self.at.iter().copied().filter(|v| v.is_finite());
        let (lo, hi) =
            finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
        // a single place stands in the middle of a unit on either side
        let range = if lo == hi { [lo - 1.0, hi + 1.0] } else { axes::spread(finite(), &[], 0.03) };
        let mut axis = Axis::round(range, (room / style.space(34.0)).clamp(2.0, 9.0) as usize, false);
        if finite().all(|v| (2.0 * v).fract() == 0.0) && range[1] - range[0] >= 2.0 {
            axis.ticks.retain(|(v, _)| (v - v.round()).abs() < 1e-9); // no layer two and a half
            axis.ticks.iter_mut().for_each(|(v, text)| *text = ticks::plain(v.round()));
        }
        axis
    }
}

/// The points of a series, of the rows that `keep` says, from left to right.
pub fn points(
    rows: &Rows,
    series: &Series,
    at: &[f64],
    keep: impl Fn(usize) -> bool,
) -> Result<Vec<[f64; 4]>> {
    let value = rows.numbers(&series.value)?;
    let (lo, hi) = (optional_numbers(rows, &series.lo)?, optional_numbers(rows, &series.hi)?);
    let cell = |v: Option<f64>| v.unwrap_or(f64::NAN);
    let kept = (0..rows.len()).filter(|i| keep(*i) && at[*i].is_finite());
    let mut points: Vec<[f64; 4]> = kept.map(|i| [at[i], cell(value[i]), cell(lo[i]), cell(hi[i])]).collect();
    points.sort_by(|a, b| a[0].total_cmp(&b[0]));
    Ok(points)
}

/// A series' name in a legend.
pub fn named(series: &Series) -> String {
    if series.name.is_empty() { series.value.replace('_', " ") } else { font::visible(&series.name) }
}

/// Draws the plots under each other; the first is the tall one.
pub fn draw(view: &View, across: &Across, panes: &[Pane], width: f64) -> Result<Scene> {
    let style = view.style();
    let entries = entries(panes);
    let legend = legend::height(&style, &entries, width);
    let strips = panes.len().saturating_sub(1) as f64;
    // what the legend takes beyond a line, and strips, come on top of the usual shape
    let shape =
        (width / 1.618).min(style.tall) + (legend - style.space(11.0)).max(0.0) + strips * width * 0.14;
    let height = view.height.unwrap_or(shape).clamp(60.0, 1000.0);
    let gap = style.tick;
    let y_axis = |pane: &Pane, high: f64| {
        Axis::round(pane.range, (high / style.space(22.0)).clamp(2.0, 6.0) as usize, true)
    };

    // how wide the value axes' labels are decides how wide the plots are, and their height which labels there are
    let guess = |k: usize| {
        (height - legend - style.space(30.0)) * if k == 0 { 1.0 } else { STRIP } / (1.0 + strips * STRIP)
    };
    let ticked =
        panes.iter().enumerate().map(|(k, pane)| y_axis(pane, guess(k)).widest(&style)).fold(0.0, f64::max);
    let left = style.label + style.space(4.0) + ticked + 2.0 * style.mark() + 2.0;
    let room = (width - left - style.space(8.0)).max(20.0);
    let x = across.axis(room, &style);
    let step = x.place(1.0, 0.0, room) - x.place(0.0, 0.0, room);
    let plan = across.names.as_ref().map(|names| {
        let ticks: Vec<Tick> = names.iter().map(|name| Tick::plain(font::visible(name))).collect();
        labels::plan(&style, &ticks, step)
    });
    let below = 2.0 * style.mark()
        + plan.as_ref().map_or(style.tick + 1.0, |p| p.height)
        + style.label
        + style.space(4.0);
    let least = style.space(30.0) + strips * style.space(20.0);
    let height = height.max(legend + below + strips * gap + least);
    let body = height - legend - below - strips * gap;
    let tall = body / (1.0 + strips * STRIP);

    let mut scene = Scene::new(width, height);
    let mut top = legend;
    for (k, pane) in panes.iter().enumerate() {
        let high = if k == 0 { tall } else { tall * STRIP };
        let frame = Frame::new(left, top, room, high);
        let mut own = x.clone();
        if k + 1 < panes.len() {
            own.ticks.iter_mut().for_each(|(_, text)| text.clear());
        }
        let upright = across.upright.as_ref().filter(|_| k == 0);
        pane.draw(&mut scene, &style, frame, (&own, &y_axis(pane, guess(k))), upright)?;
        top = frame.bottom() + gap;
    }
    if let Some(plan) = plan {
        let first = x.place(0.0, left, left + room);
        plan.draw(&mut scene, first, top - gap + 2.0 * style.mark(), step);
    }
    let frame = Frame::new(left, legend, room, body);
    axes::name(&mut scene, &style, frame, Some((&across.words, height - style.foot())), None);
    legend::draw(&mut scene, &style, &entries);
    Ok(scene)
}

/// The legend: every name once.
fn entries(panes: &[Pane]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut lines: Vec<&Line> = panes.iter().flat_map(|pane| &pane.lines).collect();
    lines.sort_by_key(|line| line.look.part == Part::Ground);
    for line in lines.into_iter().filter(|line| !line.name.is_empty()) {
        if !entries.iter().any(|known| known.name == line.name) {
            let ground = line.look.part == Part::Ground;
            let sign = match line.look.dash {
                _ if ground => Sign::Box,
                true => Sign::Dash,
                false => Sign::Line,
            };
            let color = if ground { line.look.color.alpha(0.45) } else { line.look.color };
            entries.push(Entry { name: line.name.clone(), color, sign });
        }
    }
    entries
}
