//! A circuit as a graph: who tells whom, layer above layer.
//!
//! Layers are ranks with the input below and the logits above, attention under its layer's MLP. Width is the size of a
//! score; sign shows twice, as colour and as arrowhead or bar; so does what a head reads, as dashes and as colour of the end.

mod ink;
mod key;
mod layout;
mod name;
mod read;
mod routes;

use std::collections::BTreeMap;

use self::key::Key;
use self::layout::{Density, Layout};
use self::name::Channel;
use self::read::Circuit;
use crate::error::Result;
use crate::figure::Figure;
use crate::figure::color::{FAINT, MASKED, WHITE};
use crate::figure::font;
use crate::figure::scene::{Fill, Frame, Item, Scene, Text};
use crate::figure::style::{Span, Style, Venue};
use crate::figure::view::View;
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "circuit",
    about: "edges from `x` to `y` (`input`, `a9.h6`, `m9`, `logits`) as a graph in layers: `value` is width and sign, `group` the \
            channel (q, k, v), `x_text` and `y_text` the roles of both ends; the `top` largest",
    takes: &["group", "height", "top"],
    draw,
};

/// Circuits of up to so many nodes fit half a page.
const SMALL: usize = 10;
/// No edge of so few is left out to make a circuit lower.
const FEWEST: usize = 8;
/// On a screen, parts of a large circuit are still read at this size, in points.
const SMALLEST_ON_A_SLIDE: f64 = 7.0;
/// Channels are also written at the ends of up to so many edges.
const LETTERED: usize = 24;

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let mut circuit = Circuit::read(rows, view)?;
    let style = view.style();
    let mut scene = compose(&circuit, view, &style, Density::Airy);
    if scene.height <= style.tall || view.height.is_some() {
        return Ok(scene);
    }
    // what is higher than a page or slide is set smaller, down to the least that is read there, then closer, and then loses
    // its weakest edges
    let least = if view.venue == Venue::Slide { SMALLEST_ON_A_SLIDE } else { 5.0 };
    let smaller = (0.98 * style.tall / scene.height).max(least / style.small).min(1.0);
    let [label, tick, small, line] =
        [style.label, style.tick, style.small, style.line].map(|size| size * smaller);
    let style = Style { label, tick, small, line, ..style };
    scene = compose(&circuit, view, &style, Density::Airy);
    if scene.height > style.tall {
        scene = compose(&circuit, view, &style, Density::Close);
    }
    while scene.height > style.tall && circuit.edges.len() > FEWEST {
        let top = Some(circuit.edges.len() * 4 / 5);
        circuit = Circuit::read(rows, &View { top, ..view.clone() })?;
        scene = compose(&circuit, view, &style, Density::Close);
    }
    Ok(scene)
}

fn compose(circuit: &Circuit, view: &View, style: &Style, density: Density) -> Scene {
    let unit = style.space(1.0);
    let span = if circuit.nodes.len() <= SMALL { Span::Half } else { Span::Full };
    let width = view.points(span);
    let edge = 3.0 * unit;
    let deepest = circuit.nodes.iter().filter_map(|node| node.part.layer()).max();
    let gutter =
        deepest.map_or(0.0, |layer| font::width(&layer_name(layer), style.small, false) + 4.0 * unit);
    let room = width - 2.0 * edge - gutter;
    let words =
        [Some(&view.value_label), view.value.as_ref()].into_iter().flatten().find(|words| !words.is_empty());
    let words = font::visible(&words.map_or_else(|| "score".to_owned(), |words| words.replace('_', " ")));
    let note = note(circuit);
    let noted = if note.is_empty() { 0.0 } else { style.small * 1.5 };
    // the key is the same whatever the graph's height
    let flat = layout::layout(circuit, style, room, Some(0.0), density);
    let key = Key::new(circuit, &flat, style, &words, width - 2.0 * edge);
    let height = view.height.or((density == Density::Close).then_some(style.tall));
    let height = height.map(|height| height - key.height - noted - 2.0 * edge);
    let layout = layout::layout(circuit, style, room, height, density);

    let height = layout.height + key.height + noted + 2.0 * edge;
    let mut scene = Scene { caption: note.clone(), ..Scene::new(width, height) };
    let origin = [edge + gutter, edge];
    bands(&mut scene, &layout, style, edge);
    edges(&mut scene, circuit, &layout, unit, origin);
    nodes(&mut scene, circuit, &layout, origin);
    letters(&mut scene, circuit, &layout, style, origin);
    key.draw(&mut scene, edge, edge + layout.height);
    if !note.is_empty() {
        let text = font::fit(&note, style.small, false, width - 2.0 * edge);
        scene.add(Text::new(edge, scene.height - edge, text, style.small).color(FAINT));
    }
    scene
}

/// What was left out.
fn note(circuit: &Circuit) -> String {
    match (circuit.edges.len(), circuit.all) {
        (0, _) => "no edges".to_owned(),
        (kept, all) if kept < all => format!("the {kept} largest of {all} edges"),
        _ => String::new(),
    }
}

fn layer_name(layer: usize) -> String {
    format!("L{layer}")
}

/// A light band behind every other layer, and their names at the left.
fn bands(scene: &mut Scene, layout: &Layout, style: &Style, edge: f64) {
    for (k, (layer, [top, bottom])) in layout.layers.iter().enumerate() {
        let frame = Frame::new(edge, edge + top, scene.width - 2.0 * edge, bottom - top);
        let fill = if k % 2 == 0 { MASKED.alpha(0.55) } else { WHITE };
        scene.add(Item::Rect(frame, Fill::Solid(fill), None));
        let text = Text::new(edge + 2.0, frame.y + frame.h / 2.0, layer_name(*layer), style.small);
        scene.add(text.middle().color(FAINT));
    }
}

/// Edges, the widest at the back.
fn edges(scene: &mut Scene, circuit: &Circuit, layout: &Layout, unit: f64, [x, y]: [f64; 2]) {
    let mut order: Vec<usize> = (0..circuit.edges.len()).collect();
    let size = |i: usize| circuit.edges[i].score.map_or(0.0, f64::abs);
    order.sort_by(|&a, &b| size(b).total_cmp(&size(a)).then(a.cmp(&b)));
    for i in order {
        let edge = &circuit.edges[i];
        let points: Vec<[f64; 2]> = layout.routes[i].iter().map(|p| [p[0] + x, p[1] + y]).collect();
        let look = circuit.look(edge, unit);
        let channel = edge.channel.map_or_else(String::new, |channel| format!("<{}>", channel.letter()));
        let [from, to] = edge.ends.map(|node| circuit.nodes[node].part.name());
        scene.add(look.edge(&points, edge.tip.clone(), format!("{from}->{to}{channel}")));
    }
}

fn nodes(scene: &mut Scene, circuit: &Circuit, layout: &Layout, [x, y]: [f64; 2]) {
    let roles = circuit.roles();
    for (i, node) in circuit.nodes.iter().enumerate() {
        let frame = Frame { x: layout.nodes[i].x + x, y: layout.nodes[i].y + y, ..layout.nodes[i] };
        let role = roles.iter().position(|role| *role == node.role);
        let count = |end: usize| circuit.edges.iter().filter(|edge| edge.ends[end] == i).count();
        let spoken = if node.role.is_empty() { String::new() } else { format!(" ({})", node.role) };
        let tip = format!("{}{spoken}: {} edges in, {} out", node.part.name(), count(1), count(0));
        scene.add(ink::node(node.part, frame, &layout.labels[i], role.map_or(WHITE, ink::tint), tip));
    }
}

/// `q`, `k` or `v` beside the ends of edges, where they are few enough.
fn letters(scene: &mut Scene, circuit: &Circuit, layout: &Layout, style: &Style, [x, y]: [f64; 2]) {
    if circuit.edges.len() > LETTERED {
        return;
    }
    let unit = style.space(1.0);
    // one letter for all edges into one place, beside the outermost
    let mut ends: BTreeMap<(usize, Channel), [f64; 2]> = BTreeMap::new();
    for (edge, route) in circuit.edges.iter().zip(&layout.routes) {
        let (Some(channel), Some(end)) = (edge.channel, route.last()) else { continue };
        let side = if channel == Channel::Query { -1.0 } else { 1.0 };
        let out = end[0] + side * (circuit.look(edge, unit).half() + 3.4 * unit);
        let at = ends.entry((edge.ends[1], channel)).or_insert([out, end[1]]);
        if side * (out - at[0]) > 0.0 {
            *at = [out, end[1]];
        }
    }
    for ((_, channel), at) in ends {
        scene.items.extend(ink::letter(x + at[0], y + at[1] + 5.5 * unit, channel.letter(), style.small));
    }
}
