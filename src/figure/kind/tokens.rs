//! The prompt itself, every token coloured by a value: which words a head reads.

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::axes::{LABEL, TICK};
use crate::figure::color::{FAINT, Map, RULE, Scale};
use crate::figure::colorbar::Bar;
use crate::figure::font;
use crate::figure::kind::heatmap::{bar_label, repeated};
use crate::figure::scene::{Anchor, Fill, Frame, Group, Item, Scene, Stroke, Text};
use crate::figure::style::Span;
use crate::figure::ticks;
use crate::figure::view::{View, categories};
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "tokens",
    about: "the tokens of a prompt in reading order, coloured: `x` (position), `x_text` (token), `value`; `group` makes \
            one strip per head",
    draw,
};

/// Size of the tokens.
const SIZE: f64 = 8.0;
/// Height of a line of tokens.
const LINE: f64 = 14.0;
/// A token wider than this is shortened.
const WIDEST: f64 = 90.0;

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
    let width = view.points(Span::Full);
    let names: Vec<String> = strips.iter().map(|s| font::fit(&font::visible(s), TICK, true, 80.0)).collect();
    let widest = font::widest(names.iter().map(String::as_str), TICK, true);
    let left = if widest > 0.0 { widest + 8.0 } else { 4.0 };

    let mut scene = Scene::new(width, 0.0);
    let mut y = 3.0;
    for (strip, name) in places.iter().zip(&names) {
        scene.add(Text::new(4.0, y + LINE / 2.0, name.clone(), TICK).bold(true).middle());
        let mut at = left;
        for &i in strip.iter().flatten() {
            let token = font::fit(&font::token(&tokens[i]), SIZE, false, WIDEST.min(width - left - 10.0));
            let wide = font::width(&token, SIZE, false) + 5.0;
            if at + wide > width - 3.0 && at > left {
                (at, y) = (left, y + LINE + 1.5);
            }
            scene.add(cell(Frame::new(at, y, wide, LINE), &token, values[i], &scale));
            at += wide + 1.5;
        }
        y += LINE + 5.0;
    }
    let length = 120f64.min(width - 40.0);
    let label = bar_label(view, map, value);
    let bar = Bar::new(&scale, &label, false, length, width - 8.0);
    let half = font::width(&label, LABEL, false).min(width - 8.0) / 2.0 - length / 2.0;
    scene.height = y + 3.0 + bar.depth() + 3.0;
    bar.draw(&mut scene, (left + 4.0).max(half + 5.0).min(width - length - 12.0), y + 3.0);
    Ok(scene)
}

/// One token on its colour; hatched where it has no value.
fn cell(frame: Frame, token: &str, value: Option<f64>, scale: &Scale) -> Group {
    let value = value.filter(|v| !v.is_nan());
    let (fill, ink) = match value {
        Some(v) => (Fill::Solid(scale.color(v)), scale.color(v).ink()),
        None => (Fill::Hatch, FAINT),
    };
    let text = Text::new(frame.x + frame.w / 2.0, frame.y + frame.h / 2.0, token, SIZE).middle();
    let items = vec![
        Item::Rect(frame, fill, Some(Stroke::solid(RULE, 0.5))),
        text.anchor(Anchor::Middle).color(ink).into(),
    ];
    let tip = format!("{token}: {}", value.map_or_else(|| "no value".to_owned(), ticks::number));
    Group { tip, items, ..Group::default() }
}
