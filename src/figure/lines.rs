//! Lines as data: read from rows, and how they look. Colour, marker and dashes go together, so that none of them must be
//! seen to tell lines apart.

mod plot;

use crate::error::Result;
use crate::figure::across::Places;
use crate::figure::axes;
use crate::figure::color::{CATEGORICAL, Color, FAINT, WHITE};
use crate::figure::font;
use crate::figure::marker::Marker;
use crate::figure::scene::{Item, Stroke};
use crate::figure::style::Style;
use crate::figure::ticks;
use crate::figure::view::{Series, View, optional_categories, optional_numbers};
use crate::figure::words;
use crate::row::Rows;
pub use plot::Plot;

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its name in the legend, visible text; lines of one name share an entry, and one without has none.
    pub name: String,
    /// Numbers after the name, which are never shortened; may be empty.
    pub numbers: String,
    /// From left to right.
    pub points: Vec<Point>,
    /// How it looks.
    pub look: Look,
}

/// A point of a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Across, as in [`Places`].
    pub x: f64,
    /// Up; not finite where there is none: the line has a gap.
    pub y: f64,
    /// The interval's ends; not finite where there is none.
    pub band: [f64; 2],
    /// Shown on hover, after the line's name.
    pub tip: String,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Colour of line, markers and band.
    pub color: Color,
    /// Dashes, for type of 7 points.
    pub dash: &'static [f64],
    /// The shape of its points.
    pub marker: Marker,
    /// What it is in the picture.
    pub part: Part,
}

/// What a line is in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What the picture is about: thicker.
    Main,
    /// One of several.
    One,
    /// One of so many that their bands must be faint.
    OneOfMany,
    /// What others are compared with: thin, before a grey band, without points.
    Ground,
    /// A number that is the same everywhere: thin, without points.
    Level,
}

/// The look of the k-th line.
pub fn look(k: usize) -> Look {
    const DASHES: [&[f64]; 4] = [&[], &[4.0, 1.8], &[1.2, 1.4], &[5.0, 1.4, 1.2, 1.4]];
    Look { color: CATEGORICAL[k % 7], dash: DASHES[k % 4], marker: Marker::of(k), part: Part::One }
}

/// The look of the k-th of several levels: grey, told apart by dashes.
pub fn level(k: usize) -> Look {
    Look { color: FAINT, part: Part::Level, ..look(k + 1) }
}

/// The lines of every series, one for each of the view's groups: all groups of the first series, then those of the next.
pub fn read(rows: &Rows, view: &View, all: &[Series], places: &Places) -> Result<Vec<Line>> {
    let (groups, of) = optional_categories(rows, &view.group)?;
    let mut lines = Vec::new();
    for series in all {
        for (group, points) in groups.iter().zip(points(rows, series, places, &of, groups.len())?) {
            let own = words::series(series);
            let name = match (&view.group, all.len() > 1) {
                (Some(_), true) => format!("{}, {own}", named(group)),
                (Some(_), false) => named(group),
                (None, _) => own,
            };
            lines.push(Line { name, numbers: String::new(), points, look: look(lines.len()) });
        }
    }
    Ok(lines)
}

/// The points of a series for each of `count` lines, from left to right; `of` says to which a row belongs.
pub fn points(
    rows: &Rows,
    series: &Series,
    places: &Places,
    of: &[usize],
    count: usize,
) -> Result<Vec<Vec<Point>>> {
    let values = rows.numbers(&series.value)?;
    let (lo, hi) = (optional_numbers(rows, &series.lo)?, optional_numbers(rows, &series.hi)?);
    let mut lines = vec![Vec::new(); count];
    for (i, x) in places.at.iter().copied().enumerate().filter(|(_, x)| x.is_finite()) {
        let [y, lo, hi] = [values[i], lo[i], hi[i]].map(|v| v.unwrap_or(f64::NAN));
        let interval = if lo.is_finite() && hi.is_finite() {
            format!(" [{}, {}]", ticks::exact(lo), ticks::exact(hi))
        } else {
            String::new()
        };
        let tip = format!("{}: {}{interval}", places.name(x), ticks::exact(y));
        if let Some(line) = lines.get_mut(of[i]) {
            line.push(Point { x, y, band: [lo, hi], tip });
        }
    }
    lines.iter_mut().for_each(|line| line.sort_by(|a, b| a.x.total_cmp(&b.x)));
    Ok(lines)
}

/// A range that holds all lines with their bands, and the `anchors`, with a share of air.
pub fn range(lines: &[Line], anchors: impl IntoIterator<Item = f64>, air: f64) -> [f64; 2] {
    axes::spread(values(lines), &anchors.into_iter().collect::<Vec<_>>(), air)
}

/// All finite values and ends of intervals.
pub fn values(lines: &[Line]) -> impl Iterator<Item = f64> {
    let all = lines.iter().flat_map(|line| &line.points).flat_map(|p| [p.y, p.band[0], p.band[1]]);
    all.filter(|v| v.is_finite())
}

/// The name of a group in a legend or over a panel; a name of nothing but spaces is shown as a token is.
pub fn named(name: &str) -> String {
    if name.trim().is_empty() { font::token(name) } else { font::visible(name) }
}

impl Look {
    /// The line's stroke.
    pub fn stroke(&self, style: &Style) -> Stroke {
        let dash = self.dash.iter().map(|d| style.space(*d)).collect();
        Stroke { color: self.color, width: style.line * self.weight().1, dash }
    }

    /// Whether points of the line are marked.
    pub fn is_marked(&self) -> bool {
        self.weight().2 > 0.0
    }

    /// The marker about a point.
    pub fn mark(&self, at: [f64; 2], r: f64) -> Item {
        self.marker.item(at, r, self.color)
    }

    /// Colour of its band.
    pub fn band(&self) -> Color {
        self.color.alpha(self.weight().0)
    }

    /// The colour for letters: darker where the line's own is too pale to be read.
    pub fn ink(&self) -> Color {
        let mut color = self.color;
        while color.contrast(WHITE) < 4.5 {
            let darker = |v: u8| (f64::from(v) * 0.93) as u8;
            color = Color { r: darker(color.r), g: darker(color.g), b: darker(color.b), a: color.a };
        }
        color
    }

    /// How dense its band is, and width of the line and radius of points over the usual line's width.
    fn weight(&self) -> (f64, f64, f64) {
        match self.part {
            Part::Main => (0.2, 1.25, 1.8),
            Part::One => (0.18, 1.0, 1.6),
            Part::OneOfMany => (0.07, 1.0, 1.3),
            Part::Ground => (0.28, 0.7, 0.0),
            Part::Level => (0.0, 0.8, 0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Column;

    #[test]
    fn rows_become_lines_of_groups_and_series() {
        let text = |all: [&str; 3]| Column::Text(all.map(|s| Some(s.to_owned())).to_vec());
        let rows = Rows {
            name: "t".into(),
            columns: vec![
                ("step".into(), String::new(), Column::Num(vec![Some(2.0), None, Some(1.0)])),
                ("order".into(), String::new(), text(["a", "a", "a"])),
                ("loss".into(), String::new(), Column::Num(vec![Some(0.5), Some(9.0), Some(f64::NAN)])),
                ("top".into(), String::new(), Column::Num(vec![Some(0.25); 3])),
            ],
        };
        let view = "x='step'\ngroup='order'\nseries=[{value='loss', lo='top', hi='top'}, {value='top', name='best'}]";
        let view: View = toml::from_str(view).unwrap();
        let places = Places::read(&rows, &view, "").unwrap();
        let lines = read(&rows, &view, &view.all_series().unwrap(), &places).unwrap();
        assert_eq!(lines.iter().map(|line| line.name.as_str()).collect::<Vec<_>>(), ["a, loss", "a, best"]);
        let points = &lines[0].points;
        assert!(points.len() == 2 && points[0].x == 1.0 && points[0].y.is_nan());
        assert_eq!(points[1].tip, "step 2: 0.5 [0.25, 0.25]");
        assert_ne!(lines[0].look, lines[1].look);
    }
}
