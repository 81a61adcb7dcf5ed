//! A figure as files: the drawing for page, paper and slides, the numbers in it, the view that draws them again, and its LaTeX.

use rayon::prelude::*;
use serde::Deserialize;

use super::story::{Picture, Story};
use super::{derive, facts};
use crate::error::{Error, Result};
use crate::figure::view::Series;
use crate::figure::{self, Facts, PRINT, Scene, TextAs, Venue, View, tex};
use crate::row::Rows;
use crate::show;
use crate::table::{self, Format};

/// The pictures a report draws when their table is there.
const VIEWS: &str = include_str!("views.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Views {
    figure: Vec<View>,
}

/// The endings of a figure's files.
pub const ENDINGS: [&str; 6] = ["svg", "pdf", "png", "csv", "toml", "tex"];

/// A picture of a table, and what it was drawn from.
pub struct Drawing<'a> {
    view: &'a View,
    pub(super) rows: Rows,
    pub(super) scene: Scene,
    /// How the letters of the PDF are written.
    pub text: TextAs,
}

impl Drawing<'_> {
    /// Draws the rows that the view keeps.
    pub fn of<'a>(rows: &Rows, view: &'a View) -> Result<Drawing<'a>> {
        let scene = figure::draw(rows, view)?;
        Ok(Drawing { view, rows: view.rows(rows)?, scene, text: TextAs::default() })
    }

    /// All its files, by their endings.
    pub(super) fn files(&self, name: &str) -> Result<Vec<(&'static str, Vec<u8>)>> {
        ENDINGS.iter().map(|ending| Ok((*ending, self.file(ending, name)?))).collect()
    }

    /// The file with this ending, one of [`ENDINGS`]. The numbers are the drawn rows, so that view and numbers draw the same
    /// picture; whatever the file is called, the LaTeX of it includes the PDF `<name>.pdf`.
    pub fn file(&self, ending: &str, name: &str) -> Result<Vec<u8>> {
        let Scene { caption, width, .. } = &self.scene;
        match ending {
            "svg" => Ok(self.scene.to_svg().into()),
            "pdf" => self.scene.to_pdf(self.text),
            "png" => self.scene.to_png(PRINT),
            "csv" => table::write(&self.rows, Format::Csv),
            "toml" => {
                let again = format!("# glassbox plot {name}.csv --view {name}.toml -o {name}.pdf\n");
                Ok((again + &self.view.to_toml()?).into())
            }
            "tex" => {
                plain(name)?;
                Ok(tex::figure(name, caption, *width, self.view.venue).into())
            }
            _ => Err(Error::unknown("kind of figure file", ending, ENDINGS)),
        }
    }
}

/// Refuses a name of a figure that LaTeX or a web address could read as something else.
fn plain(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.is_empty() && name.chars().all(fine) {
        return Ok(());
    }
    Err(Error::usage(
        format!("a figure cannot be called {name:?}: LaTeX would not find its file"),
        "use letters, digits, `-` and `_`",
    ))
}

/// One figure of a report.
pub(super) struct Drawn {
    pub(super) name: String,
    pub(super) picture: Picture,
    /// Its files, by their endings.
    pub(super) files: Vec<(&'static str, Vec<u8>)>,
}

/// Draws every view whose table is there.
pub(super) fn draw(story: &Story) -> Result<Vec<Drawn>> {
    let drawn = views(story)?.into_par_iter().map(|mut view| {
        view.caption = filled(&view.caption, story);
        view.value_label = filled(&view.value_label, story);
        view.strip = view.strip.map(|strip| Series { name: filled(&strip.name, story), ..strip });
        view.data = view.data.map(|data| filled(&data, story));
        let rows = story.table(&view.table).ok_or_else(|| Error::unknown("table", &view.table, []))?;
        if view.rows(rows).is_err() {
            // A run that asked for one direction has no rows for the other's picture.
            return Ok(None);
        }
        view.log_x |= decades(rows, &view)?;
        story.run.lab.check()?;
        let drawing = Drawing::of(rows, &view)?;
        let files = drawing.files(&view.name)?;
        let Drawing { rows, scene, .. } = drawing;
        let picture = Picture { svg: scene.to_svg(), caption: scene.caption, rows };
        Ok(Some(Drawn { name: view.name, picture, files }))
    });
    drawn.filter_map(Result::transpose).collect()
}

/// The views of every report.
pub(super) fn usual() -> Result<Vec<View>> {
    Ok(toml::from_str::<Views>(VIEWS).map_err(broken)?.figure)
}

/// The view that a study asks for.
pub(super) fn asked(own: &toml::Table) -> Result<View> {
    own.clone().try_into().map_err(broken)
}

fn broken(e: toml::de::Error) -> Error {
    Error::usage(format!("a figure of the study cannot be read: {e}"), "see the views in the README")
}

/// The views of a report and of its study, for the venue that the study names.
fn views(story: &Story) -> Result<Vec<View>> {
    let study = story.run.study;
    let venue = study.venue.unwrap_or_default();
    // heights in the list are meant for the usual venue's type
    let grown = venue.style().tick / Venue::default().style().tick;
    let mut views = usual()?;
    for view in &mut views {
        view.venue = venue;
        view.height = view.height.map(|height| height * grown);
    }
    for own in &study.figures {
        let mut view = asked(own)?;
        if !own.contains_key("venue") {
            view.venue = venue;
        }
        story
            .table(&view.table)
            .ok_or_else(|| Error::unknown("table", &view.table, story.tables.keys().map(String::as_str)))?;
        plain(&view.name)?;
        views.push(view);
    }
    views.retain(|view| story.table(&view.table).is_some());
    let facts: Facts = facts::of(story.run.study, story.run.lab, story.run.task);
    views.iter_mut().for_each(|view| view.facts = facts.clone());
    Ok(views)
}

/// Whether a picture along training spans so many steps that only a logarithmic axis shows the early ones.
pub(super) fn decades(rows: &Rows, view: &View) -> Result<bool> {
    if view.x.as_deref() != Some("step") {
        return Ok(false);
    }
    let steps: Vec<f64> = rows.numbers("step")?.into_iter().flatten().collect();
    let (least, most) = steps.iter().fold((f64::INFINITY, 0.0f64), |(a, b), &x| (a.min(x), b.max(x)));
    Ok(least > 0.0 && most >= 10.0 * least)
}

/// Words of a view with their placeholders filled from the run.
fn filled(words: &str, story: &Story) -> String {
    let run = &story.run;
    let pairs = if run.task.is_paired() { " (clean to corrupt)" } else { " (mean ablation)" };
    let which = if run.study.heads.is_empty() {
        "of the heads with the largest total effect"
    } else {
        "of the heads asked for"
    };
    words
        .replace("{which}", which)
        .replace("{probe}", &derive::probed(&story.tables))
        .replace("{circuit}", &derive::chosen(run.study, &story.tables))
        .replace("{corruption}", &corruption(story))
        .replace("{random}", &derive::against(story.table("steer_curve")))
        .replace("{sequences}", &derive::sequences(story.table("head_scores")))
        .replace("{scored}", &derive::scored(story.table("edges_first").or(story.table("training_edges"))))
        .replace("{model}", &run.lab.about.name)
        .replace("{task}", &run.task.name)
        .replace("{n}", &run.task.examples.len().to_string())
        .replace("{metric}", facts::metric(run.study.metric))
        .replace("{pairs}", pairs)
        .replace("{answer}", &answer(story))
}

/// What the first prompt should be answered with.
fn answer(story: &Story) -> String {
    let tokens = story.run.task.examples.first().map_or(&[][..], |example| &example.answers);
    let said = tokens.iter().map(|token| show::visible(&story.run.lab.vocabulary.token(*token)));
    match tokens.len() {
        0 => String::new(),
        1..=3 => format!(" ({})", said.collect::<Vec<_>>().join(" or ")),
        n => format!(" (any of {n} tokens)"),
    }
}

/// How causal tracing took the answer away, in the words of its note.
fn corruption(story: &Story) -> String {
    let traced = story.run.outcomes.iter().filter(|outcome| outcome.name == "trace");
    let told =
        traced.flat_map(|outcome| &outcome.findings.notes).find_map(|note| note.strip_prefix("corrupt: "));
    let first = told.and_then(|told| told.split(". ").next());
    // names that a note sets off in the terminal are plain words under a picture
    first.map_or_else(String::new, |words| format!(" ({})", words.trim_end_matches('.').replace('`', "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What follows from view, table and run is not written down a second time.
    #[test]
    fn views_say_what_is_shown_and_leave_the_facts_to_the_caption() {
        for view in toml::from_str::<Views>(VIEWS).unwrap().figure {
            plain(&view.name).unwrap();
            for known in ["{over}", "{whiskers}", "{outlined}", "{n}", "as above", "The same"] {
                assert!(!view.caption.contains(known), "{} says {known}", view.name);
            }
            assert!(view.caption.ends_with('.'), "{}", view.name);
        }
    }

    #[test]
    fn names_are_plain() {
        assert!(plain("patch_head-2.b").is_ok());
        for wrong in ["", "a b", "50%", "a/b", "\u{e9}"] {
            assert!(plain(wrong).is_err(), "{wrong}");
        }
    }
}
