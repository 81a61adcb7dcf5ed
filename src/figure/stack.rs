//! Lines with bands over one x axis, in one plot or in a tall plot with a low strip below it.

use crate::error::Result;
use crate::figure::axes::{self, Axis, Mark, Shape};
use crate::figure::color::{Color, FAINT};
use crate::figure::font;
use crate::figure::labels::{self, Tick};
use crate::figure::legend::{self, Entry, Sign};
use crate::figure::scene::{Anchor, Frame, Scene, Text};
use crate::figure::style::Style;
use crate::figure::ticks;
use crate::figure::view::{Reference, Series, View, categories, optional_numbers};
use crate::row::{Column, Rows};

/// Points are marked on lines of at most this many.
const MOST_DOTS: usize = 40;
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
    /// A level: thin and without points.
    Level,
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

impl Pane {
    fn draw(
        &self,
        scene: &mut Scene,
        style: &Style,
        frame: Frame,
        (x, y): (&Axis, &Axis),
        upright: Option<&(f64, String)>,
    ) -> Result<()> {
        let dashed = |points: [[f64; 2]; 2]| -> Mark {
            Shape::Line { points: points.to_vec(), color: FAINT, width: style.thin(), dash: true }.into()
        };
        let within = |at: f64, [lo, hi]: [f64; 2]| lo < at && at < hi;
        let references: Vec<&Reference> =
            self.references.iter().filter(|r| within(r.at, self.range)).collect();
        let upright = upright.filter(|(at, _)| within(*at, x.range));
        let mut marks: Vec<Mark> = references.iter().map(|r| dashed(x.range.map(|x| [x, r.at]))).collect();
        marks.extend(upright.map(|(at, _)| dashed(self.range.map(|y| [*at, y]))));
        marks.extend(self.marks(style));
        axes::plot(scene, style, frame, x, y, &marks)?;

        let mut taken = self.taken(frame, x, y);
        let size = style.small;
        let mut write = |name: &str, spots: &dyn Fn(f64, f64) -> Vec<Frame>| {
            let (name, h) = (font::fit(&font::visible(name), size, false, frame.w * 0.6), size);
            let inside = |f: &Frame| f.y >= frame.y && f.bottom() <= frame.bottom() && f.x >= frame.x;
            let crowd = |f: &Frame| taken.iter().filter(|t| t.meets(f)).count();
            let spots = spots(font::width(&name, size, false), h).into_iter().filter(inside);
            if let Some(spot) = spots.min_by_key(crowd).filter(|_| !name.is_empty()) {
                scene.add(Text::new(spot.x, spot.y + h / 2.0, name, size).color(FAINT).middle());
                taken.push(spot);
            }
        };
        for reference in references {
            let at = y.place(reference.at, frame.bottom(), frame.y);
            write(&reference.name, &|w, h| {
                let lefts = [frame.right() - w - 2.0, frame.x + 3.0, frame.x + (frame.w - w) / 2.0];
                lefts.iter().flat_map(|x| [at - h - 0.5, at + 1.5].map(|y| Frame::new(*x, y, w, h))).collect()
            });
        }
        if let Some((at, name)) = upright {
            let at = x.place(*at, frame.x, frame.right());
            write(name, &|w, h| {
                let tops = [frame.bottom() - h - 2.0, frame.y + 2.0];
                tops.iter().flat_map(|y| [at + 2.0, at - w - 2.0].map(|x| Frame::new(x, *y, w, h))).collect()
            });
        }
        if !self.lines.iter().any(|l| l.points.iter().any(|p| p[1].is_finite())) {
            axes::nothing(scene, style, frame);
        }
        self.name(scene, style, frame);
        Ok(())
    }

    /// The words along the value axis, kept beside their own plot where they are longer than it is tall.
    fn name(&self, scene: &mut Scene, style: &Style, frame: Frame) {
        let room = frame.h + style.tick;
        let size =
            if font::width(&self.words, style.label, false) <= room { style.label } else { style.tick };
        let words = font::fit(&self.words, size, false, scene.height - 2.0);
        let half = font::width(&words, size, false) / 2.0;
        let middle = frame.y + frame.h / 2.0;
        let [least, most] = [half + 1.0, scene.height - half - 1.0];
        // a plot above has room above it, a strip below it
        let middle = if frame.bottom() > 0.75 * scene.height {
            middle.max(frame.y - style.tick / 2.0 + half)
        } else {
            middle.min(frame.bottom() + style.tick / 2.0 - half)
        };
        let text = Text::new(style.label, middle.min(most).max(least), words, size);
        scene.add(text.anchor(Anchor::Middle).turn(-90.0));
    }

    /// Bands first, then lines, broken where a value is missing, then their points.
    fn marks(&self, style: &Style) -> Vec<Mark> {
        let clamp = |v: f64| v.clamp(self.range[0], self.range[1]);
        let (mut bands, mut strokes) = (Vec::new(), Vec::new());
        for line in &self.lines {
            let Look { color, dash, part } = line.look;
            let (alpha, width, dot) = match part {
                Part::Main => (0.2, 1.25, 1.8),
                Part::One => (0.2, 1.0, 1.5),
                Part::OneOfMany => (0.07, 1.0, 1.3),
                Part::Level => (0.0, 0.8, 0.0),
                Part::Ground => (0.28, 0.7, 0.0),
            };
            let band = |run: &&[[f64; 4]]| run.len() > 1;
            for run in line.points.split(|p| !(p[2].is_finite() && p[3].is_finite())).filter(band) {
                let points = run.iter().map(|p| [p[0], clamp(p[2]), clamp(p[3])]).collect();
                bands.push(Shape::Band { points, color: color.alpha(alpha) }.into());
            }
            for run in line.points.split(|p| !p[1].is_finite()).filter(band) {
                let points = run.iter().map(|p| [p[0], clamp(p[1])]).collect();
                strokes.push(Shape::Line { points, color, width: style.line * width, dash }.into());
            }
            // a lone point has no line to show it
            let dot = if line.points.len() == 1 { 1.8 } else { dot };
            let seen = line.points.iter().filter(|p| p[1].is_finite() && p[1] == clamp(p[1]));
            for p in seen.filter(|_| dot > 0.0 && line.points.len() <= MOST_DOTS) {
                let tip = format!("{} {}", line.name, ticks::number(p[1]));
                let shape = Shape::Dot { at: [p[0], p[1]], r: style.line * dot, color };
                strokes.push(Mark { tip, shape });
            }
        }
        bands.into_iter().chain(strokes).collect()
    }

    /// Where lines run: words keep away from there.
    fn taken(&self, frame: Frame, x: &Axis, y: &Axis) -> Vec<Frame> {
        let at = |p: &[f64; 4]| {
            let value = p[1].clamp(self.range[0], self.range[1]);
            [x.place(p[0], frame.x, frame.right()), y.place(value, frame.bottom(), frame.y)]
        };
        let mut taken = Vec::new();
        for line in &self.lines {
            let finite: Vec<[f64; 2]> = line.points.iter().filter(|p| p[1].is_finite()).map(at).collect();
            for pair in finite.windows(2) {
                taken.extend((0..=8).map(|k| {
                    let t = f64::from(k) / 8.0;
                    let mix = |i: usize| pair[0][i] + t * (pair[1][i] - pair[0][i]);
                    Frame::new(mix(0) - 2.0, mix(1) - 2.0, 4.0, 4.0)
                }));
            }
        }
        taken
    }
}
