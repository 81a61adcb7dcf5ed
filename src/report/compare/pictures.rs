//! The pictures of a report with both runs in them: heat maps as three panels, bars and curves beside each other, the effects of
//! components in one run against those in the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;

use super::Drawn;
use super::captions::{caption, filled, source};
use super::kinds::{self, Wanted};
use super::tables::Made;
use crate::compare::{Compared, Joined, stacked};
use crate::error::Result;
use crate::figure::View;
use crate::report::derive;
use crate::report::figures::{self, Drawing};
use crate::report::story::column;
use crate::row::Rows;

/// Forms that show the largest of one table, which need not be the same in both runs.
const OWN_CHOICE: [&str; 3] = ["composition_top", "patch_pattern_top", "repair_later_view"];
/// Forms whose rows are chosen by another table: chosen for both runs by what is larger in either.
const CHOSEN: [(&str, &str, &str); 4] = [
    ("attribution_source_top", "attribution_head", "direct"),
    ("steer_best", "steer", "effect"),
    ("steer_cost_best", "steer", "effect"),
    ("steer_removed_best", "steer", "effect"),
];

/// Every picture, and what could not be drawn with both runs in it, each with the reason.
pub(super) fn all(compared: &Compared, made: &Made) -> Result<(Vec<Drawn>, Vec<String>)> {
    let sets = sets(compared)?;
    let mut wanted = kinds::against(compared, made)?;
    let mut undrawn = Vec::new();
    for mut view in views(compared)? {
        let Some(sides) = sets.get(&view.table) else { continue };
        // what `only` leaves of each; a run that asked for one direction has no rows for the other's picture
        let [Ok(a), Ok(b), difference] = sides.each_ref().map(|rows| view.rows(rows)) else { continue };
        let difference = difference.unwrap_or_else(|_| a.take(&[]));
        view.only.clear();
        // one kind of evidence for all panels: a difference of runs on other prompts has an interval and no p-value
        view.q = view.q.filter(|q| difference.numbers(q).is_ok_and(|q| q.iter().any(Option::is_some)));
        view.caption = caption(&view, compared);
        // where a column ends is another place in each run
        view.references.retain(|reference| reference.column.is_none());
        view.value_label = filled(&view.value_label, compared);
        view.data = view.data.map(|data| filled(&data, compared));
        let sides = [a, b, difference];
        match view.kind.as_str() {
            "heatmap" | "attention" | "lens" | "trace" => {
                wanted.extend(kinds::grids(view, &sides, compared)?);
            }
            "bars" => match repeated(&view, &sides) {
                None => wanted.extend(kinds::bars(&view, &sides, compared)?),
                Some(name) => {
                    undrawn.push(format!("{}: several rows of one run are called {name}", view.name));
                }
            },
            "curve" | "probe" | "dose" | "training" | "faithfulness" => {
                match kinds::curves(view, &sides, compared)? {
                    (more, None) => wanted.extend(more),
                    (more, Some(left_out)) => {
                        wanted.extend(more);
                        undrawn.push(format!("{left_out}: more lines than can be told apart"));
                    }
                }
            }
            "scatter" => {
                let rows = stacked(sides.get(..2).unwrap_or(&sides), &compared.names)?;
                let caption = format!("{} Colours: the runs.", view.caption);
                wanted.push(Wanted { view: View { group: Some("run".to_owned()), caption, ..view }, rows });
            }
            "circuit" => wanted.extend(kinds::each(&view, &sides, compared)),
            // told by pictures of the same numbers that hold both
            "waterfall" | "scores" => {}
            kind => undrawn.push(format!("{}: a picture of the kind `{kind}` holds one run", view.name)),
        }
    }
    let mut seen = BTreeSet::new();
    wanted.retain(|wanted| seen.insert(wanted.view.name.clone()));
    let facts = source(compared);
    let draw = |Wanted { mut view, rows }: Wanted| {
        view.facts = facts.clone();
        let files = || -> Result<Drawn> {
            let drawing = Drawing::of(&rows, &view)?;
            let files = drawing.files(&view.name)?;
            let Drawing { rows: data, scene, .. } = drawing;
            let svg = scene.to_svg();
            Ok(Drawn { name: view.name.clone(), caption: scene.caption, svg, files, data })
        };
        files().map_err(|error| {
            format!("{}: {}", view.name, error.to_string().lines().next().unwrap_or_default())
        })
    };
    let results: Vec<std::result::Result<Drawn, String>> = wanted.into_par_iter().map(draw).collect();
    let mut drawn = Vec::new();
    for result in results {
        match result {
            Ok(picture) => drawn.push(picture),
            Err(why) => undrawn.push(why),
        }
    }
    Ok((drawn, undrawn))
}

/// The views of a report and those of both studies, each name once.
fn views(compared: &Compared) -> Result<Vec<View>> {
    let mut views = figures::usual()?;
    for side in &compared.sides {
        let Some(text) = &side.run.study else { continue };
        let Ok(study) = toml::from_str::<toml::Table>(text) else { continue };
        for asked in study.get("figure").and_then(toml::Value::as_array).into_iter().flatten() {
            let Some(asked) = asked.as_table() else { continue };
            let view = figures::asked(asked)?;
            if !views.iter().any(|known| known.name == view.name) {
                views.push(view);
            }
        }
    }
    Ok(views)
}

/// The joined tables and the forms that pictures need, of A, B and the difference.
fn sets(compared: &Compared) -> Result<BTreeMap<String, [Rows; 3]>> {
    let mut sets: BTreeMap<String, [Rows; 3]> =
        compared.tables.iter().map(|(name, joined)| (name.clone(), joined.sides.clone())).collect();
    let of = |k: usize| -> BTreeMap<String, Rows> {
        let side = |(name, sides): (&String, &[Rows; 3])| Some((name.clone(), sides.get(k)?.clone()));
        sets.iter().filter_map(side).filter(|(_, rows)| !rows.is_empty()).collect()
    };
    let guides: Vec<Rows> = CHOSEN
        .iter()
        .filter_map(|(_, table, value)| Some(larger(compared.tables.get(*table)?, value)))
        .collect::<Result<_>>()?;
    let forms = |k: usize| -> Result<Vec<Rows>> {
        let found = of(k);
        let mut guided = found.clone();
        guided.extend(guides.iter().map(|rows| (rows.name.clone(), rows.clone())));
        let is_chosen = |rows: &Rows| CHOSEN.iter().any(|(form, _, _)| *form == rows.name);
        let mut forms = derive::forms(&found, None)?;
        forms.retain(|rows| !is_chosen(rows) && !OWN_CHOICE.contains(&rows.name.as_str()));
        forms.extend(derive::forms(&guided, None)?.into_iter().filter(is_chosen));
        Ok(forms)
    };
    let [a, b, difference] = [forms(0)?, forms(1)?, forms(2)?];
    for rows in a {
        let find = |forms: &[Rows]| forms.iter().find(|known| known.name == rows.name).cloned();
        let Some(other) = find(&b) else { continue };
        let change = find(&difference).unwrap_or_else(|| rows.take(&[]));
        sets.insert(rows.name.clone(), [rows, other, change]);
    }
    sets.retain(|_, [a, b, _]| !a.is_empty() && !b.is_empty());
    Ok(sets)
}

/// A label that two rows of one run have, so that a bar of the other run could belong to either.
fn repeated(view: &View, sides: &[Rows; 3]) -> Option<String> {
    let labels = sides.iter().filter_map(|rows| rows.texts(view.label.as_deref()?).ok());
    labels.into_iter().find_map(|labels| {
        let mut seen = BTreeSet::new();
        labels.into_iter().find(|label| !seen.insert(label.clone()))
    })
}

/// A's table with, in each row that B has too, the value that is larger by size.
fn larger(joined: &Joined, value: &str) -> Result<Rows> {
    let [a, b, _] = &joined.sides;
    let [of_a, of_b] = [a, b].map(|rows| joined.names(rows));
    let size = |x: &Option<f64>| x.filter(|x| x.is_finite()).map_or(-1.0, f64::abs);
    let other: HashMap<String, Option<f64>> = of_b?.into_iter().zip(b.numbers(value)?).collect();
    let cells = of_a?.into_iter().zip(a.numbers(value)?).map(|(name, own)| {
        let other = other.get(&name).copied().flatten();
        if size(&other) > size(&own) { other } else { own }
    });
    let cells: Vec<Option<f64>> = cells.collect();
    let mut rows = a.clone();
    rows.columns.iter_mut().filter(|(name, _, _)| name == value).for_each(|(name, about, cell)| {
        *cell = column(name, about, &cells).2;
    });
    Ok(rows)
}
