//! The pictures of a report with both runs in them: heat maps as three panels, bars and curves beside each other, the effects of
//! components in one run against those in the other.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::Drawn;
use super::captions::{certainty, filled, panels, source};
use super::tables::{Made, heading, marked, wide};
use crate::compare::{Compared, Interval, stacked};
use crate::error::Result;
use crate::figure::color::Map;
use crate::figure::view::{Series, Sort, categories};
use crate::figure::{Span, View};
use crate::report::derive;
use crate::report::figures::{self, Drawing, ENDINGS};
use crate::report::story::column;
use crate::row::Rows;

/// Changes that are named in a picture.
const NAMED: usize = 8;
/// Letters of a label that fit under a picture.
const LONGEST: usize = 48;
/// Lines of a curve that can be told apart.
const LINES: usize = 10;
/// Forms that show the largest of one table, which need not be the same in both runs.
const OWN_CHOICE: [&str; 3] = ["composition_top", "patch_pattern_top", "repair_later_view"];
/// Forms whose rows are chosen by another table: chosen for both runs by what is larger in either.
const CHOSEN: [(&str, &str, &str); 3] = [
    ("attribution_source_top", "attribution_head", "direct"),
    ("steer_best", "steer", "effect"),
    ("steer_removed_best", "steer", "effect"),
];
/// Forms and the tables whose intervals they have.
const FORM_OF: [(&str, &str); 9] = [
    ("ablate_", "ablate_effect"),
    ("attribution_source_top", "attribution_source"),
    ("edges_first", "edges"),
    ("knockout_view", "knockout"),
    ("path_view", "path"),
    ("repair_view", "repair"),
    ("resid_by_pos_view", "resid_by_pos"),
    ("steer_places", "steer"),
    ("trace_", "trace"),
];

/// A picture to be drawn.
struct Wanted {
    view: View,
    rows: Rows,
}

/// Every picture, and what could not be drawn with both runs in it, each with the reason.
pub(super) fn all(compared: &Compared, made: &Made) -> Result<(Vec<Drawn>, Vec<String>)> {
    let sets = sets(compared)?;
    let mut wanted = against(compared, made)?;
    let mut undrawn = Vec::new();
    for mut view in views(compared)? {
        let Some(sides) = sets.get(&view.table) else { continue };
        // what `only` leaves of each; a run that asked for one direction has no rows for the other's picture
        let [Ok(a), Ok(b), difference] = sides.each_ref().map(|rows| view.rows(rows)) else { continue };
        let difference = difference.unwrap_or_else(|_| a.take(&[]));
        view.only.clear();
        view.caption = filled(&view.caption, compared);
        view.value_label = filled(&view.value_label, compared);
        view.data = view.data.map(|data| filled(&data, compared));
        let sides = [a, b, difference];
        match view.kind.as_str() {
            "heatmap" | "attention" | "lens" | "trace" => wanted.extend(grids(view, &sides, compared)?),
            "bars" => wanted.extend(bars(&view, &sides, compared)?),
            "curve" | "probe" | "dose" | "training" | "faithfulness" => match curves(view, &sides, compared)?
            {
                (more, None) => wanted.extend(more),
                (more, Some(left_out)) => {
                    wanted.extend(more);
                    undrawn.push(format!("{left_out}: more lines than can be told apart"));
                }
            },
            "scatter" => {
                let rows = stacked(sides.get(..2).unwrap_or(&sides), &compared.names)?;
                let caption = format!("{} Colours: the runs.", view.caption);
                wanted.push(Wanted { view: View { group: Some("run".to_owned()), caption, ..view }, rows });
            }
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
            let files = ENDINGS.iter().map(|ending| Ok((*ending, drawing.file(ending, &view.name)?)));
            let files = files.collect::<Result<Vec<_>>>()?;
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
        .filter_map(|(_, table, value)| Some(larger(&compared.tables.get(*table)?.sides, value)))
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

/// A's table with, in each row that B has too, the value that is larger by size.
fn larger([a, b, _]: &[Rows; 3], value: &str) -> Result<Rows> {
    let (own, other) = (a.numbers(value)?, b.numbers(value)?);
    if a.len() != b.len() {
        return Ok(a.clone());
    }
    let size = |x: &Option<f64>| x.map_or(-1.0, f64::abs);
    let cells: Vec<Option<f64>> =
        own.iter().zip(&other).map(|(a, b)| if size(b) > size(a) { *b } else { *a }).collect();
    let mut rows = a.clone();
    rows.columns.iter_mut().filter(|(name, _, _)| name == value).for_each(|(name, about, cell)| {
        *cell = column(name, about, &cells).2;
    });
    Ok(rows)
}

/// What intervals in this table stand on.
fn interval<'a>(compared: &'a Compared, table: &str) -> Option<&'a Interval> {
    let form = FORM_OF.iter().find(|(form, _)| table.starts_with(form)).map_or(table, |(_, table)| table);
    compared.tables.get(form).map(|joined| &joined.interval)
}

/// A heat map, an attention pattern or a lens as three panels; one picture for each panel that it had by itself.
fn grids(view: View, sides: &[Rows; 3], compared: &Compared) -> Result<Vec<Wanted>> {
    let mut view = View { span: Some(Span::Full), map: None, top: None, mark: None, ..view };
    if view.kind != "attention" {
        view.kind = "heatmap".to_owned();
    }
    // a share or a probability has a difference of either sign
    view.limits = match (view.limits, view.kind.as_str()) {
        (Some([lo, hi]), _) => Some([-lo.abs().max(hi.abs()), lo.abs().max(hi.abs())]),
        (None, "attention") => Some([-1.0, 1.0]),
        (None, _) => None,
    };
    if view.kind == "attention" {
        view.map = Some(Map::RdBu);
    }
    let each = panels_of(view, sides)?.into_iter();
    each.map(|(view, sides)| panel(View { facet: Some("run".to_owned()), ..view }, &sides, compared))
        .collect()
}

fn panel(mut view: View, sides: &[Rows; 3], compared: &Compared) -> Result<Wanted> {
    let [_, _, difference] = sides;
    view.caption += &panels(compared, difference, &view);
    let certain = view.lo.as_ref().and_then(|_| interval(compared, &view.table));
    view.caption += &certainty(compared, certain);
    // panels in this order, even where the difference is empty
    let shown = sides.iter().filter(|rows| !rows.is_empty()).count();
    Ok(Wanted { view, rows: stacked(sides.get(..shown).unwrap_or(sides), &compared.names)? })
}

/// Bars of A and B for each number of the view.
fn bars(view: &View, sides: &[Rows; 3], compared: &Compared) -> Result<Vec<Wanted>> {
    let label = view.need("label", &view.label)?;
    let keys: Vec<&str> = std::iter::once(label).chain(view.role.as_deref()).collect();
    let mut made = Vec::new();
    for series in view.all_series()? {
        let ends = series.lo.as_deref().and_then(|lo| lo.strip_suffix("lo")).unwrap_or("none ");
        let rows = wide(sides, &compared.names, &view.table, &keys, &[(&series.value, "", ends)])?;
        let [a, b, _] = &compared.names;
        // by the larger of both, whichever run has it
        let rows = if view.sort == Sort::Size { by_size(&rows, [&heading(a), &heading(b)])? } else { rows };
        let one = |name: &String| {
            let value = heading(name);
            let [lo, hi] = ["lo", "hi"].map(|end| format!("{value}_ci_{end}"));
            let there = rows.column(&lo).is_ok();
            let name = name.clone();
            Series { value, lo: there.then_some(lo), hi: there.then_some(hi), name }
        };
        let several = view.series.len() > 1;
        let sort = if view.sort == Sort::Size { Sort::Table } else { view.sort };
        let mut of =
            View { series: vec![one(a), one(b)], value: None, lo: None, hi: None, sort, ..view.clone() };
        if several {
            of.name = format!("{}_{}", view.name, slug(&series.value));
            let said = if series.name.is_empty() { &series.value } else { &series.name };
            of.caption += &format!(" Here: {said}.");
            let label = format!("{said}: {}", view.value_label);
            if label.chars().count() <= LONGEST {
                of.value_label = label;
            }
        }
        of.caption += &format!(" Both runs: {a} and {b}; hatched where a run has no such row.");
        of.caption += &certainty(compared, None);
        made.push(Wanted { view: of, rows });
    }
    Ok(made)
}

/// The rows by the size of the larger of two numbers, largest first.
fn by_size(rows: &Rows, columns: [&str; 2]) -> Result<Rows> {
    let [a, b] = [rows.numbers(columns[0])?, rows.numbers(columns[1])?];
    let size = |i: usize| [&a, &b].map(|cells| cells.get(i).copied().flatten().map_or(-1.0, f64::abs));
    let most = |i: usize| size(i).into_iter().fold(-1.0, f64::max);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&i, &j| most(j).total_cmp(&most(i)).then(i.cmp(&j)));
    Ok(rows.take(&order))
}

/// Curves of both runs, and of the difference where a run has one line; one picture for each panel and each number that there were.
/// Beside them the name of a picture that would have had too many lines.
fn curves(view: View, sides: &[Rows; 3], compared: &Compared) -> Result<(Vec<Wanted>, Option<String>)> {
    let mut view = View { span: Some(Span::Full), mark: None, strip: None, text: None, ..view };
    view.log_x |= view.kind == "faithfulness";
    if view.kind == "training" {
        view.group = Some("line".to_owned());
    }
    view.kind = "curve".to_owned();
    let mut made = Vec::new();
    let mut left_out = None;
    for (view, sides) in panels_of(view, sides)? {
        for series in view.all_series()? {
            let mut of = View {
                series: vec![Series { name: String::new(), ..series.clone() }],
                value: None,
                lo: None,
                hi: None,
                ..view.clone()
            };
            if view.series.len() > 1 {
                of.name = format!("{}_{}", view.name, slug(&series.value));
                of.caption += &format!(" Here: {}.", series.name);
            }
            let name = of.name.clone();
            match lines(of, &series, &sides, compared)? {
                Some(wanted) => made.push(wanted),
                None => left_out = Some(name),
            }
        }
    }
    Ok((made, left_out))
}

/// A view with panels as views without, each with its rows; as it is where there are none.
fn panels_of(mut view: View, sides: &[Rows; 3]) -> Result<Vec<(View, [Rows; 3])>> {
    let Some(facet) = view.facet.take() else { return Ok(vec![(view, sides.clone())]) };
    let [a, b, _] = sides;
    let (values, others) = (categories(a, &facet)?.0, categories(b, &facet)?.0);
    let each = values.iter().filter(|value| others.contains(value)).map(|value| {
        let [a, b, difference] = sides.each_ref().map(|rows| rows.only(&facet, value));
        let name = format!("{}_{}", view.name, slug(value));
        let caption = format!("{} Here: {}.", view.caption, crate::show::visible(value));
        Ok((View { name, caption, ..view.clone() }, [a?, b?, difference?]))
    });
    each.collect()
}

/// One picture of curves; nothing where there are too many lines.
fn lines(mut of: View, series: &Series, sides: &[Rows; 3], compared: &Compared) -> Result<Option<Wanted>> {
    let [a, b, _] = &compared.names;
    let shown = if of.group.is_some() { 2 } else { 3 };
    let mut rows = stacked(sides.get(..shown).unwrap_or(sides), &compared.names)?;
    if let Some(group) = of.group.replace("run".to_owned()) {
        let groups = rows.texts(&group)?.into_iter().zip(rows.texts("run")?);
        let lines: Vec<String> = groups.map(|(group, run)| format!("{group}, {run}")).collect();
        rows.columns.push(column("line of run", "The line, and whose it is.", &lines));
        of.group = Some("line of run".to_owned());
        if categories(&rows, "line of run")?.0.len() > LINES {
            return Ok(None);
        }
    } else {
        of.limits = None; // a difference may lie below
    }
    of.log_x |= figures::decades(&rows, &of)?;
    let more = if shown == 3 { format!(", and their difference ({b} minus {a})") } else { String::new() };
    of.caption += &format!(" Both runs: {a} and {b}{more}.");
    let certain = series.lo.as_ref().filter(|_| shown == 3).and_then(|_| interval(compared, &of.table));
    of.caption += &certainty(compared, certain);
    Ok(Some(Wanted { view: of, rows }))
}

/// The effects of components in A against those in B.
fn against(compared: &Compared, made: &Made) -> Result<Vec<Wanted>> {
    let Some(rows) = &made.changes else { return Ok(Vec::new()) };
    let [a, b, _] = &compared.names;
    let one = |kind: &str| -> Result<Wanted> {
        let mut rows = rows.clone();
        let named = marked(&rows, &format!("change of {kind}"), NAMED)?;
        rows.columns.push(("named".to_owned(), "Whether it is among the largest changes.".to_owned(), named));
        let caption = format!(
            "What changed: the {kind} effect of each component on the logit difference in {a} (across) and in {b} (up), in logits. On \
             the dashed line nothing changed; the {NAMED} largest changes are named."
        );
        let view = View {
            name: format!("components_{kind}_beside"),
            table: rows.name.clone(),
            kind: "scatter".to_owned(),
            caption: caption + &certainty(compared, None),
            x: Some(format!("{kind}, {}", heading(a))),
            y: Some(format!("{kind}, {}", heading(b))),
            label: Some("component".to_owned()),
            mark: Some("named".to_owned()),
            x_label: format!("{kind} effect in {a} (logits)"),
            y_label: format!("{kind} effect in {b} (logits)"),
            span: Some(Span::Half),
            ..View::default()
        };
        Ok(Wanted { view, rows })
    };
    ["total", "direct"].into_iter().map(one).collect()
}

/// A value as part of a file's name.
fn slug(value: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
    let name: String = value.chars().map(plain).collect();
    name.split('_').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_")
}
