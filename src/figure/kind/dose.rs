//! Dose–response: what a strength of steering does, beside random directions, and what it costs.

use crate::error::Result;
use crate::figure::Figure;
use crate::figure::across::Places;
use crate::figure::color::{FAINT, Map};
use crate::figure::lines::{self, Line, Look, Part};
use crate::figure::marker::Marker;
use crate::figure::once;
use crate::figure::scene::Scene;
use crate::figure::stack::{self, Pane};
use crate::figure::view::{Reference, Series, View, optional_categories, optional_marks};
use crate::figure::words;
use crate::row::Rows;

/// This picture.
pub const FIGURE: Figure = Figure {
    name: "dose",
    about: "`value` with `lo` and `hi` against the strength `x`, a line per `group`; 0 is marked; rows that `mark` says are \
            the comparison (random directions), a grey band; `strip` is a low plot of the cost",
    takes: &["group", "height", "log_x", "references", "strip"],
    draw,
};

/// Lines that have a colour of their own; more are coloured in order.
const CATEGORIES: usize = 6;

fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let places = Places::read(rows, view, "")?;
    let marks = optional_marks(rows, &view.mark)?;
    let (groups, of) = optional_categories(rows, &view.group)?;
    // a group is the comparison when all of its rows are
    let is_ground = |g: usize| {
        let mut own = (0..rows.len()).filter(|i| of[*i] == g).peekable();
        own.peek().is_some() && own.all(|i| marks[i])
    };
    let grounds: Vec<bool> = (0..groups.len()).map(is_ground).collect();
    let told = grounds.iter().filter(|ground| !**ground).count();
    let look = |g: usize, s: usize| {
        let plain = Look { dash: &[], marker: Marker::Dot, ..lines::look(0) };
        if grounds[g] {
            return Look { color: FAINT, dash: &[3.0, 2.0], part: Part::Ground, ..plain };
        }
        let k = grounds[..g].iter().filter(|ground| !**ground).count() + s * told;
        match told {
            1 if s == 0 => Look { part: Part::Main, ..plain },
            _ if told <= CATEGORIES => lines::look(k),
            // of many, such as layers, colours show the place in their order
            _ => {
                let color = Map::Viridis.at(0.9 * (k % told) as f64 / (told - 1) as f64);
                Look { color, part: Part::OneOfMany, ..plain }
            }
        }
    };
    let lines = |all: &[Series]| -> Result<Vec<Line>> {
        let mut lines = lines::read(rows, view, all, &places)?;
        for (i, line) in lines.iter_mut().enumerate() {
            line.look = look(i % groups.len(), i / groups.len());
        }
        // the comparison lies under the rest
        lines.sort_by_key(|line| line.look.part != Part::Ground);
        Ok(lines)
    };
    let references = view.references.clone();
    let own = lines(&view.all_series()?)?;
    once::single(&own, rows, view, &places)?;
    let range = view.limits.unwrap_or_else(|| lines::range(&own, references.iter().map(|r| r.at), 0.06));
    let words = words::value(view, &view.y_label)?;
    let mut panes = vec![Pane { words, range, lines: own, references }];
    if let Some(strip) = &view.strip {
        let mut own = lines(std::slice::from_ref(strip))?;
        if view.group.is_none() {
            own.iter_mut().for_each(|line| line.name.clear()); // its axis says it
        }
        let range = lines::range(&own, [0.0], 0.06);
        let references = vec![Reference::default()];
        panes.push(Pane { words: words::series(strip), range, lines: own, references });
    }
    stack::draw(view, &places, &panes, Some((0.0, "no steering")))
}
