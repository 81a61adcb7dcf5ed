//! Pictures of tables, good enough for papers.
//!
//! A [`View`] says as data which columns of a table go where; [`draw`] makes a [`Scene`], a drawing in points; a scene
//! is written as SVG, PDF or PNG. Nothing here knows a model. Promises:
//!
//! - the same table and view give the same bytes;
//! - text is at least 5 points, lines at least half a point, no system font is read;
//! - a missing value is hatched, never drawn as zero; clipped colours are shown as clipped;
//! - tokens are hostile text: no token can become markup or hide.
//!
//! A new picture is one file in `kind/` and one line in [`FIGURES`].

pub mod caption;
pub mod color;
pub mod font;
pub mod scene;
pub mod style;
pub mod tex;
pub mod view;

mod across;
mod apart;
mod axes;
mod backend;
mod cells;
mod colorbar;
mod evidence;
mod grid;
pub mod kind;
mod labels;
mod layered;
mod legend;
mod lines;
mod marker;
mod once;
mod pdf;
mod png;
mod stack;
mod svg;
mod ticks;
mod words;

pub use caption::Facts;
pub use pdf::TextAs;
pub use png::{PRINT, SCREEN_2X};
pub use scene::Scene;
pub use style::{Span, Style, Venue};
pub use view::View;

use crate::error::{Error, Result};
use crate::row::Rows;
use view::Sort;

/// A kind of picture.
pub struct Figure {
    /// The name a view gives as its `kind`.
    pub name: &'static str,
    /// What it shows and which columns it needs, in one sentence.
    pub about: &'static str,
    /// Of the parts of a view that only some kinds have, those that it has, named as in a view file.
    pub takes: &'static [&'static str],
    /// Draws the rows that the view keeps; what it leaves out of them stands in the scene's caption, which [`draw`] completes.
    pub draw: fn(&Rows, &View) -> Result<Scene>,
}

/// Every kind of picture.
pub const FIGURES: &[Figure] = &[
    kind::attention::FIGURE,
    kind::bars::FIGURE,
    kind::circuit::FIGURE,
    kind::curve::FIGURE,
    kind::dose::FIGURE,
    kind::faithfulness::FIGURE,
    kind::heatmap::FIGURE,
    kind::lens::FIGURE,
    kind::panels::FIGURE,
    kind::probe::FIGURE,
    kind::roc::FIGURE,
    kind::scatter::FIGURE,
    kind::scores::FIGURE,
    kind::tokens::FIGURE,
    kind::trace::FIGURE,
    kind::training::FIGURE,
    kind::waterfall::FIGURE,
];

/// Draws what the view asks for.
pub fn draw(rows: &Rows, view: &View) -> Result<Scene> {
    let names = || FIGURES.iter().map(|figure| figure.name);
    let figure = FIGURES
        .iter()
        .find(|figure| figure.name == view.kind)
        .ok_or_else(|| Error::unknown("picture", &view.kind, names()))?;
    check(view)?;
    taken(figure, view)?;
    let kept = view.rows(rows)?;
    let view = &view.settled(&kept)?;
    let mut scene = (figure.draw)(&kept, view)?;
    scene.title = if view.name.is_empty() { figure.name.to_owned() } else { view.name.clone() };
    scene.caption = caption::write(&scene, &kept, view);
    Ok(scene)
}

/// Whether a kind of figure has this part of a view.
pub fn takes(kind: &str, part: &str) -> bool {
    FIGURES.iter().any(|figure| figure.name == kind && figure.takes.contains(&part))
}

/// Refuses what this kind would leave out without a word.
fn taken(figure: &Figure, view: &View) -> Result<()> {
    let given = [
        ("facet", view.facet.is_some()),
        ("group", view.group.is_some()),
        ("height", view.height.is_some()),
        ("layer_axis", view.layer_axis.is_some()),
        ("log_x", view.log_x),
        ("onset", view.onset.is_some()),
        ("outline", view.outline.is_some()),
        ("references", !view.references.is_empty()),
        ("sort", view.sort != Sort::default()),
        ("strip", view.strip.is_some()),
        ("top", view.top.is_some()),
    ];
    let Some((part, _)) = given.iter().find(|(part, set)| *set && !figure.takes.contains(part)) else {
        return Ok(());
    };
    let kinds: Vec<&str> =
        FIGURES.iter().filter(|kind| kind.takes.contains(part)).map(|kind| kind.name).collect();
    Err(Error::usage(
        format!("the `{}` picture has no `{part}`", figure.name),
        format!("leave it out; kinds that have it: {}", kinds.join(", ")),
    ))
}

/// Refuses numbers in a view that cannot be laid out.
fn check(view: &View) -> Result<()> {
    let refuse = |what: String, hint: &str| Err(Error::usage(what, hint));
    if let Some([lo, hi]) = view.limits.filter(|[lo, hi]| !(lo.is_finite() && hi.is_finite() && lo < hi)) {
        return refuse(
            format!("`limits` are {lo} and {hi}"),
            "write the lower limit first: `limits = [-1.0, 1.0]`",
        );
    }
    if let Some(outline) = view.outline.filter(|outline| !(outline.is_finite() && *outline >= 0.0)) {
        return refuse(
            format!("`outline` is {outline}"),
            "write the size from which on cells are outlined: 0.05",
        );
    }
    if let Some(width) = view.width.filter(|w| !(120.0..=2000.0).contains(w)) {
        return refuse(
            format!("`width` is {width} points"),
            "choose 120 to 2000 points; 72 points are an inch",
        );
    }
    if let Some(height) = view.height.filter(|h| !(20.0..=4000.0).contains(h)) {
        return refuse(
            format!("`height` is {height} points"),
            "choose 20 to 4000 points; 72 points are an inch",
        );
    }
    Ok(())
}

impl Scene {
    /// The drawing as one SVG document.
    pub fn to_svg(&self) -> String {
        svg::write(self)
    }

    /// The drawing as a PDF page of its size; see [`TextAs`].
    pub fn to_pdf(&self, text: TextAs) -> Result<Vec<u8>> {
        pdf::write(self, text)
    }

    /// The drawing as PNG; see [`PRINT`] and [`SCREEN_2X`].
    pub fn to_png(&self, dpi: f64) -> Result<Vec<u8>> {
        png::write(self, dpi)
    }
}
