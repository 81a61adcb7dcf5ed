//! Several pictures as one: panels with letters, in rows, on one scale where that is asked for.

use super::scatter;
use crate::error::{Error, Result};
use crate::figure::scene::{Group, Scene, Text};
use crate::figure::style::Span;
use crate::figure::view::{View, optional_numbers};
use crate::figure::{self, Figure, axes};
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "panels",
    about: "several views of one table as `panels = [{ kind = \"…\", … }, …]` with the letters (a), (b), … in rows; `shared` \
            puts their values on one scale",
    takes: &[],
    draw,
};

/// Panels beside each other are no narrower than this at 7-point ticks; narrower ones stand below each other.
const NARROWEST: f64 = 150.0;
/// Panels are made no lower than this, in sizes of ticks, for the whole to fit: a few bars and their axis.
const LOWEST: f64 = 11.0;
/// Kinds whose values are colours: their limits get no air.
const COLORED: [&str; 5] = ["attention", "heatmap", "lens", "tokens", "trace"];

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let refuse = |what: &str, hint: &str| Err(Error::usage(what, hint));
    if view.panels.is_empty() {
        return refuse(
            "`panels` holds no view",
            "write `panels = [{ kind = \"heatmap\", … }, { kind = \"bars\", … }]`",
        );
    }
    if view.panels.iter().any(|panel| panel.kind == FIGURE.name) {
        return refuse("a panel cannot hold panels", "list all pictures in the outer `panels`");
    }
    if view.panels.len() > 26 {
        return refuse(
            &format!("{} panels have no letters", view.panels.len()),
            "draw at most 26, or split the rows of one picture with `facet`",
        );
    }
    let (width, style) = (view.points(Span::Full), view.style());
    let gap = style.space(10.0);
    let limits = limits(rows, view)?;
    let panels: Vec<View> = view.panels.iter().map(|p| fitted(p, view, width, gap, limits)).collect();
    let strip = style.label + style.space(2.0); // for the letter

    let lines = lines(&panels, width, gap);
    let between = style.space(4.0);
    // what letters and the space between lines leave of the picture's height
    let tall = style.tall - strip * lines.len() as f64 - between * (lines.len() - 1) as f64;
    let mut drawn = lines.iter().map(|line| Line::draw(rows, line, None)).collect::<Result<Vec<_>>>()?;
    let high: f64 = drawn.iter().map(|line| line.high).sum();
    if high > tall {
        for (line, own) in lines.iter().zip(&mut drawn) {
            let share = (own.high * tall / high).max(LOWEST * style.tick);
            *own = Line::draw(rows, line, Some(share))?;
        }
    }

    let mut scene = Scene::new(width, 0.0);
    let mut letters = 'a'..='z';
    let mut y = 0.0;
    for line in drawn {
        let mut x = 0.0;
        for (own, letter) in line.panels.into_iter().zip(letters.by_ref()) {
            scene.add(Text::new(x + 1.0, y + style.label, format!("({letter})"), style.label).bold(true));
            let wide = own.width;
            let items = own.items.into_iter().map(|item| item.moved([x, y + strip])).collect();
            let data = vec![("panel".to_owned(), letter.to_string())];
            scene.add(Group { data, items, ..Group::default() });
            x += wide + gap;
        }
        y += strip + line.high + between;
    }
    scene.height = y - between;
    Ok(scene)
}

/// Which panels stand beside each other: as many as the width takes.
fn lines(panels: &[View], width: f64, gap: f64) -> Vec<&[View]> {
    let wide = |panels: &[View]| panels.iter().map(|p| p.points(Span::Full) + gap).sum::<f64>() - gap;
    let (mut lines, mut rest) = (Vec::new(), panels);
    while !rest.is_empty() {
        let most = (1..=rest.len()).rev().find(|&n| wide(&rest[..n]) <= width + 0.2).unwrap_or(1);
        let (line, after) = rest.split_at(most);
        lines.push(line);
        rest = after;
    }
    lines
}

/// Panels beside each other.
struct Line {
    panels: Vec<Scene>,
    high: f64,
}

impl Line {
    /// Draws them, no taller than `tall` where that is possible.
    fn draw(rows: &Rows, views: &[View], tall: Option<f64>) -> Result<Line> {
        let views: Vec<View> =
            views.iter().map(|view| View { tall: tall.or(view.tall), ..view.clone() }).collect();
        let mut panels = views.iter().map(|view| figure::draw(rows, view)).collect::<Result<Vec<_>>>()?;
        let high = panels.iter().map(|scene| scene.height).fold(0.0, f64::max);
        for (view, own) in views.iter().zip(&mut panels) {
            // What can be of any height is as high as its neighbours.
            if view.height.is_none() && own.height < high {
                let taller = figure::draw(rows, &View { height: Some(high), ..view.clone() });
                *own =
                    taller.ok().filter(|taller| taller.height <= high + 0.2).unwrap_or_else(|| own.clone());
            }
        }
        Ok(Line { panels, high })
    }
}

/// A panel for this page: the outer picture's venue, its own share of the width, the shared limits.
fn fitted(panel: &View, view: &View, width: f64, gap: f64, limits: Option<[f64; 2]>) -> View {
    let half = (width - gap) / 2.0;
    let half = if half >= view.style().space(NARROWEST) { half } else { width };
    let own = match (panel.width, panel.span) {
        (Some(points), _) => points.min(width),
        (None, Some(Span::Full)) => width,
        (None, Some(Span::Col)) => view.venue.width(Span::Col).min(width),
        (None, Some(Span::Half) | None) => half,
    };
    View { venue: view.venue, width: Some(own), limits: panel.limits.or(limits), ..panel.clone() }
}

/// The limits that every panel takes which has none of its own.
fn limits(rows: &Rows, view: &View) -> Result<Option<[f64; 2]>> {
    if view.limits.is_some() || view.shared != Some(true) {
        return Ok(view.limits);
    }
    let mut values = Vec::new();
    for panel in &view.panels {
        let kept = panel.rows(rows)?;
        if panel.kind == scatter::FIGURE.name {
            for axis in [panel.need("x", &panel.x)?, panel.need("y", &panel.y)?] {
                values.extend(kept.numbers(axis)?);
            }
            continue;
        }
        for series in panel.all_series()? {
            values.extend(kept.numbers(&series.value)?);
            for end in [&series.lo, &series.hi] {
                values.extend(optional_numbers(&kept, end)?);
            }
        }
    }
    let finite = || values.iter().flatten().copied().filter(|v| v.is_finite());
    let (lo, hi) = finite().fold((0.0, 0.0), |(lo, hi): (f64, f64), v| (lo.min(v), hi.max(v)));
    let colored = view.panels.iter().all(|panel| COLORED.contains(&panel.kind.as_str()));
    Ok(match (colored, lo < hi) {
        (_, false) => None, // nothing but zeros: each kind's own choice
        (true, true) => Some([lo, hi]),
        (false, true) => Some(axes::spread(finite(), &[0.0], 0.06)),
    })
}
