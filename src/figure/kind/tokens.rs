//! The prompt itself, every token coloured by a value: which words a head reads.

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::color::{FAINT, Map, RULE, Scale};
use crate::figure::colorbar::Bar;
use crate::figure::font;
use crate::figure::kind::heatmap::bar_label;
use crate::figure::once::repeated;
use crate::figure::scene::{Anchor, Fill, Frame, Group, Item, Scene, Stroke, Text};
use crate::figure::style::{Span, Style};
use crate::figure::ticks;
use crate::figure::view::{View, categories};
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "tokens",
    about: "the tokens of a prompt in reading order, coloured: `x` (position), `x_text` (token), `value`; `group` makes \
            one strip per head",
    takes: &["group"],
    draw,
};

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let (x, value) = (view.need("x", &view.x)?, view.need("value", &view.value)?);
    let values = rows.numbers(value)?;
    let tokens = rows.texts(view.need("x_text", &view.x_text)?)?;
    let (x_names, xs) = categories(rows, x)?;
    let (strips, strip_of) = match view.group.as_ref().or(view.y.as_ref()) {
        Some(column) => categories(rows, column)?,
        None => (vec![String::new()], vec![0; rows.len()]),
    };
    let mut places: Vec<Vec<Option<usize>>> = vec![vec![None; x_names.len()]; strips.len()];
    for i in 0..rows.len() {
        let place = &mut places[strip_of[i]][xs[i]];
        if place.replace(i).is_some() {
            return Err(repeated(rows, view, &format!("{} {x} {}", strips[strip_of[i]], x_names[xs[i]])));
        }
    }

    let map = view.map.unwrap_or(Map::RdBu);
    let scale = Scale::over(values.iter().flatten().copied(), map, view.limits);
    let (width, style) = (view.points(Span::Full), view.style());
    let (size, line) = (style.label - 1.0, style.space(14.0)); // of tokens, and of a line of them
    let widest = style.space(90.0); // a longer token is shortened
    let names: Vec<String> =
        strips.iter().map(|s| font::fit(&font::visible(s), style.tick, true, style.space(80.0))).collect();
    let named = font::widest(names.iter().map(String::as_str), style.tick, true);
    let left = if named > 0.0 { named + 8.0 } else { 4.0 };

    let mut scene = Scene::new(width, 0.0);
    let mut y = 3.0;
    for (strip, name) in places.iter().zip(&names) {
        scene.add(Text::new(4.0, y + line / 2.0, name.clone(), style.tick).bold(true).middle());
        let mut at = left;
        for &i in strip.iter().flatten() {
            let token = font::fit(&font::token(&tokens[i]), size, false, widest.min(width - left - 10.0));
            let wide = font::width(&token, size, false) + style.space(5.0);
            if at + wide > width - 3.0 && at > left {
                (at, y) = (left, y + line + 1.5);
            }
            scene.add(cell(&style, Frame::new(at, y, wide, line), &token, values[i], &scale));
            at += wide + 1.5;
        }
        y += line + style.space(5.0);
    }
    let length = style.space(120.0).min(width - 40.0);
    let label = bar_label(view, map, value);
    let bar = Bar::new(&style, &scale, &label, false, length, width - 8.0);
    let half = font::width(&label, style.label, false).min(width - 8.0) / 2.0 - length / 2.0;
    scene.height = y + 3.0 + bar.depth() + 2.0;
    bar.draw(&mut scene, (left + 4.0).max(half + 5.0).min(width - length - 12.0), y + 3.0);
    Ok(scene)
}

/// One token on its colour; hatched where it has no value.
fn cell(style: &Style, frame: Frame, token: &str, value: Option<f64>, scale: &Scale) -> Group {
    let value = value.filter(|v| !v.is_nan());
    let (fill, ink) = match value {
        Some(v) => (Fill::Solid(scale.color(v)), scale.color(v).ink()),
        None => (Fill::Hatch, FAINT),
    };
    let text = Text::new(frame.x + frame.w / 2.0, frame.y + frame.h / 2.0, token, style.label - 1.0).middle();
    let items = vec![
        Item::Rect(frame, fill, Some(Stroke::solid(RULE, style.rule))),
        text.anchor(Anchor::Middle).color(ink).into(),
    ];
    let tip = format!("{token}: {}", value.map_or_else(|| "no value".to_owned(), ticks::number));
    Group { tip, items, ..Group::default() }
}
