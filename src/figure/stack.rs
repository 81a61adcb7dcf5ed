//! Lines over one x axis, in one plot or in a tall plot with low strips below it.

use crate::error::Result;
use crate::figure::across::{Across, Places};
use crate::figure::axes::Axis;
use crate::figure::legend::Legend;
use crate::figure::lines::{Line, Plot};
use crate::figure::scene::{Frame, Scene};
use crate::figure::style::Span;
use crate::figure::view::{Reference, View};
use crate::figure::words::Words;

/// Height of a strip over that of the plot above it.
const STRIP: f64 = 0.42;
/// What a strip adds to the height, over the width.
const ADDED: f64 = 0.14;
/// The highest plot, for type of 7 points: more height shows no more.
const TALLEST: f64 = 185.0;

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

/// Draws the plots under each other; the first is the tall one, and in it a place across may be marked by an upright line.
pub fn draw(view: &View, places: &Places, panes: &[Pane], upright: Option<(f64, &str)>) -> Result<Scene> {
    let (style, width) = (view.style(), view.points(Span::Half));
    let margin = style.space(4.0);
    let legend = Legend::of(panes.iter().flat_map(|pane| &pane.lines), &style, width - 2.0 * margin);
    let top = legend.height();
    let strips = panes.len().saturating_sub(1) as f64;
    let part = |k: usize| if k == 0 { 1.0 } else { STRIP };
    // what the legend takes beyond a line, and strips, come on top of the usual shape
    let usual = (width / 1.618).min(style.space(TALLEST))
        + (top - style.space(16.0)).max(0.0)
        + strips * width * ADDED;
    let height = view.height.unwrap_or(usual.min(style.tall)).clamp(60.0, 1000.0);
    let gap = style.tick;

    // how wide the value axes' labels are decides how wide the plots are, and their height which labels there are
    let guess = |k: usize| (height - top - style.space(30.0)) * part(k) / (1.0 + strips * STRIP);
    let round = |(k, pane): (usize, &Pane)| {
        Axis::round(pane.range, (guess(k) / style.space(23.0)).clamp(2.0, 7.0) as usize, true)
    };
    let axes: Vec<Axis> = panes.iter().enumerate().map(round).collect();
    // words longer than their plot have the room below the last, and never reach into a legend
    let last = panes.len().saturating_sub(1);
    let words = |(k, pane): (usize, &Pane)| {
        let more = if k == last { style.space(24.0) } else { 0.0 };
        let set = if k == 0 { Words::new } else { Words::low };
        set(&style, &pane.words, guess(k) + more)
    };
    let words: Vec<Words> = panes.iter().enumerate().map(words).collect();
    let deepest = words.iter().map(Words::depth).fold(0.0, f64::max);
    let ticked = axes.iter().map(|axis| axis.widest(&style)).fold(0.0, f64::max);
    let left = deepest + style.space(3.0) + ticked + 2.0 * style.mark() + 1.0;
    let room = (width - left - style.space(8.0)).max(20.0);
    let x = Across::new(places, &style, room, width - 2.0);
    let least = style.space(30.0) + strips * style.space(20.0);
    // words of more than a line below come on top of the usual shape too
    let more = if view.height.is_none() { (x.words.depth() - 1.2 * style.label).max(0.0) } else { 0.0 };
    let height = (height + more).min(style.tall.max(height)).max(top + x.depth() + strips * gap + least);
    let tall = (height - top - x.depth() - strips * gap) / (1.0 + strips * STRIP);

    let mut scene = Scene::new(width, height);
    let mut frame = Frame::new(left, top, room, tall);
    for (k, ((pane, y), words)) in panes.iter().zip(&axes).zip(&words).enumerate() {
        if k > 0 {
            frame = Frame::new(left, frame.bottom() + gap, room, tall * STRIP);
        }
        let plot = Plot { frame, x: &x, y, style: &style, ticked: k == last };
        plot.draw(&mut scene, &pane.lines, &pane.references, upright.filter(|_| k == 0))?;
        let half = words.widest() / 2.0;
        let highest = frame.y - gap / 2.0 + half;
        let lowest = if k == last { height } else { frame.bottom() + gap / 2.0 } - half;
        words.beside(&mut scene, deepest - words.depth(), (frame.y + frame.h / 2.0).max(highest).min(lowest));
    }
    x.words.below(&mut scene, left + room / 2.0, frame.bottom() + x.ticked);
    legend.draw(&mut scene, margin, 0.0);
    Ok(scene)
}
