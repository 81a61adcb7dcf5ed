//! The view that file and flags say together.

use std::path::Path;

use super::Plot;
use super::words::{only, reference, series};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::figure::view::Series;
use crate::figure::{FIGURES, Facts, View};

impl Plot {
    /// The view of file and flags.
    pub(super) fn view(&self) -> Result<View> {
        let begun = self.view.as_deref().map_or_else(|| Ok(View::default()), read)?;
        // a flag takes the place of the file's word
        let written = |e: toml::ser::Error| {
            Error::usage(format!("this cannot be drawn: {e}"), "check the numbers of view and flags")
        };
        let mut all = toml::Table::try_from(begun).map_err(written)?;
        let parts = toml::Table::try_from(&self.part).map_err(written)?;
        if !self.series.is_empty() {
            ["value", "lo", "hi"].iter().for_each(|part| drop(all.remove(*part)));
        } else if parts.contains_key("value") {
            all.remove("series");
        }
        all.extend(parts);
        let mut view: View = all.try_into().map_err(|e: toml::de::Error| {
            let hint = "`glassbox plot --help` explains each flag, and `glassbox list figures` each kind";
            Error::usage(format!("this cannot be drawn: {}", e.message()), hint)
        })?;
        if !self.series.is_empty() {
            let each = self.series.iter().map(|words| series("series", words));
            view.series = each.collect::<Result<Vec<Series>>>()?;
        }
        if let Some(words) = &self.strip {
            view.strip = Some(series("strip", words)?);
        }
        if !self.reference.is_empty() {
            view.references = self.reference.iter().map(|words| reference(words)).collect::<Result<_>>()?;
        }
        view.log_x |= self.log_x;
        let pairs = only(&self.only)?.into_iter();
        view.only.extend(pairs.map(|(column, text)| (column.to_owned(), text.to_owned())));
        if !FIGURES.iter().any(|figure| figure.name == view.kind) {
            let message = match view.kind.as_str() {
                "" => "no `--kind` says what to draw".to_owned(),
                kind => format!("there is no kind of figure named `{kind}`"),
            };
            let kinds: Vec<String> =
                FIGURES.iter().map(|figure| format!("\n    {}: {}", figure.name, figure.about)).collect();
            return Err(Error::usage(message, format!("the kinds are{}", kinds.concat())));
        }
        if view.name.is_empty() {
            view.name = self.table.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
        if view.facts == Facts::default() {
            view.facts = facts(&self.table);
        }
        Ok(view)
    }
}

/// What the manifest of the run says that wrote this table; nothing of any other table.
fn facts(table: &Path) -> Facts {
    let table = std::path::absolute(table).unwrap_or_else(|_| table.to_owned());
    let manifest = |folder: &Path| {
        let text = checkpoint::read_text(&folder.join("manifest.json")).ok()?;
        let all: serde_json::Value = serde_json::from_str(&text).ok()?;
        let inside = table.strip_prefix(folder).ok()?;
        let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        let (own, outputs) = (parts.join("/"), all["outputs"].as_array()?);
        outputs.iter().any(|output| output["path"] == own.as_str()).then_some(())?;
        serde_json::from_value(all["facts"].clone()).ok()
    };
    table.ancestors().skip(1).take(2).find_map(manifest).unwrap_or_default()
}

/// A view from a file.
fn read(path: &Path) -> Result<View> {
    let text = checkpoint::read_text(path)?;
    toml::from_str(&text).map_err(|e: toml::de::Error| {
        let before = text.get(..e.span().unwrap_or_default().start).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let (why, hint) = told(e.message());
        Error::usage(format!("the view {} cannot be drawn: line {line}: {why}", path.display()), hint)
    })
}

/// What the reader of TOML found, in a sentence, and the way out.
fn told(words: &str) -> (String, String) {
    let a_view = || "a view is TOML, as `figures/NAME.toml` of a run".to_owned();
    if let Some((name, known)) = words.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        // the names that could stand there follow, each in such quotes
        return match Error::unknown("key", name, known.split('`').skip(1).step_by(2)) {
            Error::Unknown { near, .. } => (format!("there is no key named `{name}`"), near),
            other => (other.to_string(), a_view()),
        };
    }
    let wrong = ["invalid type: ", "invalid value: "].iter().find_map(|known| words.strip_prefix(known));
    match wrong.and_then(|rest| rest.split_once(", expected ")) {
        Some((found, needed)) => {
            let needed = match needed {
                "f64" => "a number",
                "usize" | "u64" => "a whole number from 0 on",
                other => other,
            };
            (format!("{found} stands where {needed} is needed"), a_view())
        }
        None => (words.trim_end().replace('\n', "; "), a_view()),
    }
}
