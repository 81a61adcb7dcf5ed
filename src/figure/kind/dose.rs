//! Dose–response: what a strength of steering does, beside random directions, and what it costs.

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::axes;
use crate::figure::color::{CATEGORICAL, Color, FAINT, Map};
use crate::figure::font;
use crate::figure::scene::Scene;
use crate::figure::stack::{self, Across, Line, Look, Pane, Part, named, points};
use crate::figure::style::Span;
use crate::figure::view::{Reference, Series, View, categories, optional_marks};
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "dose",
    about: "`value` with `lo` and `hi` against the strength `x`, a line per `group`; 0 is marked; rows that `mark` says are \
            the comparison (random directions), a grey band; `strip` is a low plot of the cost",
    draw,
};

/// Lines that have a colour of their own; more are coloured in order.
const CATEGORIES: usize = 6;

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let mut across = Across::of(rows, view)?;
    across.upright = Some((0.0, "no steering".to_owned()));
    let marks = optional_marks(rows, &view.mark)?;
    let (groups, of) = match &view.group {
        Some(column) => categories(rows, column)?,
        None => (vec![String::new()], vec![0; rows.len()]),
    };
    // a group is the comparison when all of its rows are
    let is_ground = |g: usize| {
        let mut own = (0..rows.len()).filter(|i| of[*i] == g).peekable();
        own.peek().is_some() && own.all(|i| marks[i])
    };
    let grounds: Vec<bool> = (0..groups.len()).map(is_ground).collect();
    let told = grounds.iter().filter(|ground| !**ground).count();
    let look = |g: usize, s: usize| {
        if grounds[g] {
            return Look { color: FAINT, dash: true, part: Part::Ground };
        }
        let k = grounds[..g].iter().filter(|ground| !**ground).count() + s * told;
        let part = match told {
            1 if s == 0 => Part::Main,
            _ if told <= CATEGORIES => Part::One,
            _ => Part::OneOfMany,
        };
        Look { color: shade(k, told), dash: part == Part::One && k % 2 == 1, part }
    };
    let lines = |all: &[Series]| -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        for (s, series) in all.iter().enumerate() {
            for (g, group) in groups.iter().enumerate() {
                let name = match (view.group.is_some(), all.len() > 1) {
                    (true, true) => format!("{group}, {}", named(series)),
                    (true, false) => group.clone(),
                    (false, _) => named(series),
                };
                let points = points(rows, series, &across.at, |i| of[i] == g)?;
                lines.push(Line { name: font::visible(&name), points, look: look(g, s) });
            }
        }
        // the comparison lies under the rest
        lines.sort_by_key(|line| line.look.part != Part::Ground);
        Ok(lines)
    };
    let series = view.all_series()?;
    let own = lines(&series)?;
    let at: Vec<f64> = view.references.iter().map(|r| r.at).collect();
    let words = match (view.value_label.as_str(), view.y_label.as_str()) {
        ("", "") => series.first().map_or_else(String::new, named),
        ("", words) | (words, _) => font::visible(words),
    };
    let range = view.limits.unwrap_or_else(|| spread(&own, &at));
    let mut panes = vec![Pane { words, range, lines: own, references: view.references.clone() }];
    if let Some(strip) = &view.strip {
        let mut own = lines(std::slice::from_ref(strip))?;
        if view.group.is_none() {
            own.iter_mut().for_each(|line| line.name.clear()); // its axis says it
        }
        let range = spread(&own, &[0.0]);
        let zero = Reference::default();
        panes.push(Pane { words: named(strip), range, lines: own, references: vec![zero] });
    }
    stack::draw(view, &across, &panes, view.points(Span::Half))
}

fn spread(lines: &[Line], anchors: &[f64]) -> [f64; 2] {
    axes::spread(lines.iter().flat_map(|l| l.points.iter().flat_map(|p| p[1..].to_vec())), anchors, 0.06)
}

/// A colour of its own for few lines; of many, such as layers, the place in their order.
fn shade(k: usize, of: usize) -> Color {
    if of <= CATEGORIES {
        CATEGORICAL[k % CATEGORICAL.len()]
    } else {
        Map::Viridis.at(0.9 * (k % of) as f64 / (of - 1) as f64)
    }
}
