//! Two numbers of each component against each other: direct against total effect.

use crate::error::{Error, Result};
use crate::figure::Figure;
use crate::figure::axes::{self, Axis, Mark, Shape};
use crate::figure::color::{CATEGORICAL, FAINT};
use crate::figure::font;
use crate::figure::legend::{Entry, Legend, Sign};
use crate::figure::marker::Marker;
use crate::figure::scene::{Frame, Scene, Stroke, Text};
use crate::figure::style::{Span, Style};
use crate::figure::ticks;
use crate::figure::view::{View, optional_categories, optional_marks, optional_texts};
use crate::figure::words::Words;
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "scatter",
    about: "points at `x` and `y` on one scale with the line y = x; `label` names the `top` outermost, or of those that `mark` says, `group` colours",
    takes: &["group", "height", "top"],
    draw,
};

/// Colours times shapes of points.
const SIGNS: usize = 35;
/// Points named when the view does not say.
const NAMED: usize = 8;

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let (x_name, y_name) = (view.need("x", &view.x)?, view.need("y", &view.y)?);
    let (xs, ys) = (rows.numbers(x_name)?, rows.numbers(y_name)?);
    let labels = optional_texts(rows, &view.label)?;
    let (groups, group_of) = optional_categories(rows, &view.group)?;
    if groups.len() > SIGNS {
        let what = format!("{} groups cannot be told apart by colour and shape", groups.len());
        return Err(Error::usage(what, format!("keep at most {SIGNS} with `only`, or leave out `group`")));
    }
    let finite = |i: &usize| xs[*i].is_some_and(f64::is_finite) && ys[*i].is_some_and(f64::is_finite);
    let points: Vec<(usize, [f64; 2])> =
        (0..rows.len()).filter(finite).filter_map(|i| Some((i, [xs[i]?, ys[i]?]))).collect();

    // One scale for both axes, so that distance from y = x can be seen.
    let range = view.limits.unwrap_or_else(|| axes::spread(points.iter().flat_map(|(_, p)| *p), &[], 0.07));
    let (width, style) = (view.points(Span::Half), view.style());
    let radius = style.dot();
    let margin = style.space(4.0);
    let sign = |k: usize| Sign::Point(Marker::of(k), CATEGORICAL[k % 7]);
    let entries = groups.iter().enumerate().map(|(k, name)| Entry::named(sign(k), name)).collect();
    let legend = Legend::new(entries, &style, width - margin);
    let top = legend.height();
    let words = |given: &str, column: &str| {
        if given.is_empty() { column.replace('_', " ") } else { given.to_owned() }
    };
    let across = Words::new(&style, &words(&view.x_label, x_name), width - 2.0);
    let up = Words::new(&style, &words(&view.y_label, y_name), width - 40.0);
    let ticked = 2.0 * style.mark() + style.tick;
    let below = ticked + across.depth() + style.space(3.0);
    let count = (width / style.space(45.0)).clamp(3.0, 7.0) as usize;
    let axis = Axis::round(range, count, true);
    let left = up.depth() + style.space(3.0) + axis.widest(&style) + 2.0 * style.mark() + 1.0;
    let side =
        (width - left - 8.0).min(view.height.unwrap_or(style.tall.min(320.0)).max(100.0) - top - below);
    let left_out = match rows.len() - points.len() {
        0 => String::new(),
        1 => "one point without two finite numbers is not shown".to_owned(),
        n => format!("{n} points without two finite numbers are not shown"),
    };
    let mut scene = Scene { caption: left_out, ..Scene::new(width, top + side + below) };
    let frame = Frame::new(left + (width - left - 8.0 - side) / 2.0, top, side, side);

    let name = |i: usize| labels.as_ref().map_or_else(String::new, |l| font::visible(&l[i]));
    let inside = |p: &[f64; 2]| p.iter().all(|v| (range[0]..=range[1]).contains(v));
    let diagonal =
        Shape::Line { points: range.map(|v| [v, v]).to_vec(), color: FAINT, width: style.thin(), dash: true };
    let mut marks: Vec<Mark> = vec![diagonal.into()];
    if (range[0]..=range[1]).contains(&0.0) {
        for points in [vec![[0.0, range[0]], [0.0, range[1]]], vec![[range[0], 0.0], [range[1], 0.0]]] {
            marks.push(Shape::Line { points, color: FAINT, width: style.rule, dash: false }.into());
        }
    }
    for (i, p) in points.iter().filter(|(_, p)| inside(p)) {
        let color = CATEGORICAL[group_of[*i] % 7].alpha(0.85);
        let tip =
            format!("{}: {} {}, {} {}", name(*i), x_name, ticks::number(p[0]), y_name, ticks::number(p[1]));
        let marker = Marker::of(group_of[*i]);
        marks.push(Mark { tip, shape: Shape::Sign { at: *p, r: radius, color, marker } });
    }
    axes::plot(&mut scene, &style, frame, &axis, &axis, &marks)?;

    let at =
        |p: &[f64; 2]| [axis.place(p[0], frame.x, frame.right()), axis.place(p[1], frame.bottom(), frame.y)];
    let seen: Vec<[f64; 2]> = points.iter().filter(|(_, p)| inside(p)).map(|(_, p)| at(p)).collect();
    let marks = optional_marks(rows, &view.mark)?;
    let may = |i: usize| view.mark.is_none() || marks.get(i).copied().unwrap_or(false);
    let mut outermost = points.iter().filter(|(i, p)| inside(p) && may(*i)).collect::<Vec<_>>();
    outermost.sort_by(|a, b| b.1[0].hypot(b.1[1]).total_cmp(&a.1[0].hypot(a.1[1])).then(a.0.cmp(&b.0)));
    let named = if labels.is_some() { view.top.unwrap_or(NAMED) } else { 0 };
    let names = outermost.iter().take(named).map(|(i, p)| (name(*i), at(p))).collect::<Vec<_>>();
    let diagonal = (0..=200).map(|i| {
        let t = f64::from(i) / 200.0;
        Frame::new(frame.x + t * frame.w - 0.8, frame.bottom() - t * frame.h - 0.8, 1.6, 1.6)
    });
    let near = radius + 0.8;
    let dot = |p: &[f64; 2]| Frame::new(p[0] - near, p[1] - near, 2.0 * near, 2.0 * near);
    let [zero_x, zero_y] = at(&[0.0, 0.0]);
    let zeros =
        [Frame::new(zero_x - 0.4, frame.y, 0.8, frame.h), Frame::new(frame.x, zero_y - 0.4, frame.w, 0.8)];
    let taken = seen.iter().map(dot).chain(diagonal).chain(zeros).collect();
    write_names(&mut scene, &style, frame, &names, taken);

    across.below(&mut scene, frame.x + side / 2.0, frame.bottom() + ticked + style.space(2.0));
    up.beside(&mut scene, frame.x - left, frame.y + side / 2.0);
    if seen.is_empty() {
        axes::nothing(&mut scene, &style, frame);
    }
    legend.draw(&mut scene, margin, 0.0);
    Ok(scene)
}

/// Points that lie on each other share one name: "a0.h1, a1.h1, m0".
fn together(names: &[(String, [f64; 2])], near: f64) -> Vec<(String, [f64; 2])> {
    let mut groups: Vec<(String, [f64; 2])> = Vec::new();
    for (name, [x, y]) in names {
        let close = |at: &[f64; 2]| (at[0] - x).abs() < near && (at[1] - y).abs() < near;
        match groups.iter_mut().find(|(_, at)| close(at)) {
            // one name for several points of it
            Some((group, _)) if group.split(", ").any(|known| known == name) => {}
            Some((group, _)) => {
                group.push_str(", ");
                group.push_str(name);
            }
            None => groups.push((name.clone(), [*x, *y])),
        }
    }
    groups
}

/// Writes names beside their points where they cover nothing `taken` nor each other, with a thin line when moved away;
/// a name that finds no place is left out.
pub fn write_names(
    scene: &mut Scene,
    style: &Style,
    frame: Frame,
    names: &[(String, [f64; 2])],
    mut taken: Vec<Frame>,
) {
    let (size, radius) = (style.sizes()[1], style.dot());
    // names and the lines to them, which no other line to a name crosses
    let mut written: Vec<Frame> = Vec::new();
    for (name, [x, y]) in &together(names, 3.0 * radius) {
        let (w, h) = (font::width(name, size, false), size * 0.95);
        let mut spots = Vec::new();
        for far in [0.0, 6.0, 12.0, 20.0, 30.0].map(|far| style.space(far)) {
            let (dx, dy) = (radius + 1.5 + far, radius + 1.0 + far);
            spots.extend([
                (far, Frame::new(x + dx, y - h / 2.0, w, h)),
                (far, Frame::new(x - dx - w, y - h / 2.0, w, h)),
                (far, Frame::new(x - w / 2.0, y - dy - h, w, h)),
                (far, Frame::new(x - w / 2.0, y + dy, w, h)),
                (far, Frame::new(x + dx * 0.7, y - dy * 0.7 - h, w, h)),
                (far, Frame::new(x - dx * 0.7 - w, y - dy * 0.7 - h, w, h)),
                (far, Frame::new(x + dx * 0.7, y + dy * 0.7, w, h)),
                (far, Frame::new(x - dx * 0.7 - w, y + dy * 0.7, w, h)),
            ]);
        }
        let within = |f: &Frame| {
            f.x > frame.x && f.right() < frame.right() && f.y > frame.y && f.bottom() < frame.bottom()
        };
        let nearest = |f: &Frame| [x.clamp(f.x, f.right()), y.clamp(f.y, f.bottom())];
        let way = |far: f64, f: &Frame| {
            let [to_x, to_y] = nearest(f);
            let steps = if far > 0.0 { 0..20 } else { 0..0 };
            steps.map(f64::from).map(move |k| {
                Frame::new(x + k / 20.0 * (to_x - x) - 0.5, y + k / 20.0 * (to_y - y) - 0.5, 1.0, 1.0)
            })
        };
        let clear = |f: &Frame, of: &[Frame]| !of.iter().any(|t| t.meets(f));
        let free = spots.into_iter().find(|(far, f)| {
            within(f) && clear(f, &taken) && way(*far, f).all(|step| clear(&step, &written))
        });
        if let Some((far, spot)) = free {
            if far > 0.0 {
                scene.line([*x, *y], nearest(&spot), Stroke::solid(FAINT, style.rule));
            }
            let line: Vec<Frame> = way(far, &spot).collect();
            taken.extend_from_slice(&line);
            written.extend(line);
            written.push(spot);
            scene.add(Text::new(spot.x, spot.y + h / 2.0, name.clone(), size).middle());
            taken.push(spot);
        }
    }
}
