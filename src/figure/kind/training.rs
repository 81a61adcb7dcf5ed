//! How a model came to be: quantities along the steps of its training, a panel for each.

mod panel;

use self::panel::Panel;
use crate::error::Result;
use crate::figure::Figure;
use crate::figure::across::{Across, Places};
use crate::figure::color::FAINT;
use crate::figure::font;
use crate::figure::legend::{Entry, Legend, Sign};
use crate::figure::lines::{self, Plot};
use crate::figure::scene::{Fill, Frame, Item, Scene, Text};
use crate::figure::style::Span;
use crate::figure::view::View;
use crate::figure::words::{self, Words};
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "training",
    about: "`value` along steps of training `x` (logarithmic over decades, step 0 beyond a break), a panel for each `facet`, colours by \
            `group`, lines named by `label`, bands from `lo` to `hi`; `onset` brackets where a line passed half of its way",
    takes: &["facet", "group", "height", "log_x", "onset", "references"],
    draw,
};

/// The lowest panel, for type of 7 points.
const LOWEST: f64 = 22.0;
/// The narrowest panel, in sizes of ticks.
const NARROWEST: f64 = 12.0;

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let style = view.style();
    let unit = style.space(1.0);
    let width = view.points(Span::Full);
    let mut places = Places::read(rows, view, "step of training")?;
    places.log = view.log_x || places.decades();
    let (groups, panels) = panel::read(rows, view, &places)?;

    let gap = 7.0 * unit;
    let n = panels.len().max(1);
    let edge = 4.0 * unit;
    let titled = panels.iter().any(|panel| !panel.name.is_empty());
    let up = match words::value(view, &view.y_label)? {
        // panels named after quantities say more than a column of values of any kind
        words if titled && words == "value" => String::new(),
        words => words,
    };
    let up = Words::new(&style, &up, style.space(130.0));
    let named = if up.depth() > 0.0 { up.depth() + 2.0 * unit } else { 0.0 };
    let ends = panels.iter().map(|panel| panel.ends(&style)).fold(0.0, f64::max);
    let right = if ends > 0.0 { ends + 4.0 * unit } else { 2.0 * unit };
    let room = width - named - 2.0 * edge;
    let most = (((room + gap) / (NARROWEST * style.tick + gap)) as usize).clamp(1, n);
    // as even as can be: 6 panels where 4 would fit are two rows of 3
    let down = n.div_ceil(most);
    let across = n.div_ceil(down);
    let each = (room - (across - 1) as f64 * gap) / across as f64;
    let title = if titled { 1.6 * style.tick } else { 0.4 * style.tick };

    let sign = |g: usize| Sign::Line(lines::look(g));
    let entry = |(g, name): (usize, &String)| Entry { name: lines::named(name), ..Entry::named(sign(g), "") };
    let entries = groups.iter().enumerate().map(entry).collect();
    let legend = Legend::new(entries, &style, width - 2.0 * edge);
    let has_onset = panels.iter().any(Panel::has_onset);
    let key = if has_onset { 1.3 * style.tick } else { 0.0 };
    let top = legend.height() + key;
    let bottom = Across::new(&places, &style, each, width - 2.0).depth();
    let usual = (each * if n == 1 { 0.45 } else { 0.62 }).clamp(44.0 * unit, 130.0 * unit);
    let fixed = top + bottom + down as f64 * title + (down - 1) as f64 * gap;
    let fitting = |height: f64| ((height - fixed) / down as f64).max(LOWEST * unit);
    let high = view.height.map_or(usual.min(fitting(style.tall)), fitting);
    let widest = panels.iter().map(|panel| panel.y(&style, high, view).widest(&style)).fold(0.0, f64::max);
    let left = widest + 2.0 * style.mark() + 2.0 * unit;
    let inner = (each - left - right).max(20.0);
    let x = Across::new(&places, &style, inner, width - 2.0);

    let mut scene = Scene::new(width, fixed + down as f64 * high);
    for (i, panel) in panels.iter().enumerate() {
        let at = [
            edge + named + (i % across) as f64 * (each + gap),
            top + (i / across) as f64 * (title + high + gap),
        ];
        let frame = Frame::new(at[0] + left, at[1] + title, inner, high);
        let y = panel.y(&style, high, view);
        let plot = Plot { frame, x: &x, y: &y, style: &style, ticked: i + across >= n };
        panel.draw(&mut scene, &plot)?;
        let name = font::fit(&panel.name, style.tick, false, each);
        scene.add(Text::new(
            at[0] + left.min(4.0 * unit),
            at[1] + title - 0.55 * style.tick,
            name,
            style.tick,
        ));
    }
    let whole = Frame::new(edge + named + left, top, room - left - right, scene.height - top - bottom);
    x.words.below(&mut scene, whole.x + whole.w / 2.0, whole.bottom() + x.ticked);
    up.beside(&mut scene, edge, whole.y + whole.h / 2.0);
    legend.draw(&mut scene, edge, 0.0);
    if has_onset {
        let y = legend.height() + 0.4 * style.tick;
        let bar = Frame::new(edge, y - unit, 15.0 * unit, 2.0 * unit);
        scene.add(Item::Rect(bar, Fill::Solid(FAINT), None));
        let text = "half of the way is passed here";
        let text = font::fit(text, style.tick, false, width - 2.0 * edge - 19.0 * unit);
        scene.add(Text::new(edge + 19.0 * unit, y, text, style.tick).middle());
    }
    Ok(scene)
}
