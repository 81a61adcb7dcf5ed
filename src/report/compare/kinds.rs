//! How each kind of picture holds both runs.

use std::collections::HashSet;

use super::captions::{certainty, panels};
use super::tables::{Made, heading, marked, wide};
use crate::compare::{Compared, Interval, stacked};
use crate::error::Result;
use crate::figure::color::Map;
use crate::figure::view::{Series, Sort, categories};
use crate::figure::{Span, View};
use crate::report::figures;
use crate::report::story::column;
use crate::row::Rows;

/// Changes that are named in a picture.
const NAMED: usize = 8;
/// Letters of a label that fit under a picture.
const LONGEST: usize = 48;
/// Lines of a curve that can be told apart.
const LINES: usize = 10;
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
pub(super) struct Wanted {
    pub(super) view: View,
    pub(super) rows: Rows,
}

/// What intervals in this table stand on.
fn interval<'a>(compared: &'a Compared, table: &str) -> Option<&'a Interval> {
    let form = FORM_OF.iter().find(|(form, _)| table.starts_with(form)).map_or(table, |(_, table)| table);
    compared.tables.get(form).map(|joined| &joined.interval)
}

/// A heat map, an attention pattern or a lens as three panels; one picture for each panel that it had by itself.
pub(super) fn grids(view: View, sides: &[Rows; 3], compared: &Compared) -> Result<Vec<Wanted>> {
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

/// One picture for each run.
pub(super) fn each(view: &View, sides: &[Rows; 3], compared: &Compared) -> Vec<Wanted> {
    let [a, b, _] = sides;
    let one = |((rows, run), end): ((&Rows, &String), &str)| {
        let (name, caption) = (format!("{}_{end}", view.name), format!("{} Here: {run}.", view.caption));
        Wanted { view: View { name, caption, ..view.clone() }, rows: rows.clone() }
    };
    [a, b].into_iter().zip(&compared.names).zip(["a", "b"]).map(one).collect()
}

/// Bars of A and B for each number of the view.
pub(super) fn bars(view: &View, sides: &[Rows; 3], compared: &Compared) -> Result<Vec<Wanted>> {
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

/// Curves of both runs, and below them of the difference where a run has one line; one picture for each panel and each number that
/// there were.
/// Beside them the name of a picture that would have had too many lines.
pub(super) fn curves(
    view: View,
    sides: &[Rows; 3],
    compared: &Compared,
) -> Result<(Vec<Wanted>, Option<String>)> {
    let mut view = View { span: Some(Span::Full), mark: None, strip: None, text: None, onset: None, ..view };
    view.log_x |= view.kind == "faithfulness";
    let sides = &match view.kind.as_str() {
        // thresholds near each other may keep the same edges
        "faithfulness" => of_all(sides, |rows| distinct(rows, &[&view.group, &view.x, &view.value]))?,
        _ => sides.clone(),
    };
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

/// The same of all three.
fn of_all(sides: &[Rows; 3], of: impl Fn(&Rows) -> Result<Rows>) -> Result<[Rows; 3]> {
    let [a, b, change] = sides;
    Ok([of(a)?, of(b)?, of(change)?])
}

/// Of rows that say the same in these columns the first.
fn distinct(rows: &Rows, columns: &[&Option<String>]) -> Result<Rows> {
    let said = columns.iter().filter_map(|column| column.as_deref());
    let said: Vec<Vec<String>> = said.map(|column| rows.texts(column)).collect::<Result<_>>()?;
    let mut seen = HashSet::new();
    let first: Vec<usize> = (0..rows.len())
        .filter(|&i| seen.insert(said.iter().map(|texts| texts.get(i)).collect::<Vec<_>>()))
        .collect();
    Ok(rows.take(&first))
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
        let first = sides.iter().take(2).map(Rows::len).sum();
        of.strip = apart(&mut rows, first, series)?;
    }
    of.log_x |= figures::decades(&rows, &of)?;
    let more =
        if of.strip.is_some() { format!("; below, their difference ({b} minus {a})") } else { String::new() };
    of.caption += &format!(" Both runs: {a} and {b}{more}.");
    let certain =
        series.lo.as_ref().filter(|_| of.strip.is_some()).and_then(|_| interval(compared, &of.table));
    of.caption += &certainty(compared, certain);
    Ok(Some(Wanted { view: of, rows }))
}

/// Moves the numbers of the rows from `first` on, those of the difference, to columns of their own; nothing where there are none.
fn apart(rows: &mut Rows, first: usize, series: &Series) -> Result<Option<Series>> {
    let mut strip = Series { name: "difference".to_owned(), ..Series::default() };
    let ends = [(&series.lo, &mut strip.lo), (&series.hi, &mut strip.hi)];
    let mut moved: Vec<String> = vec![series.value.clone()];
    for (own, end) in ends {
        *end = own.as_ref().map(|name| difference_of(name));
        moved.extend(own.clone().filter(|name| !moved.contains(name)));
    }
    strip.value = difference_of(&series.value);
    let mut any = false;
    for name in moved {
        let cells = rows.numbers(&name)?;
        let part = |is_difference: bool| -> Vec<Option<f64>> {
            let cell = |(i, x): (usize, &Option<f64>)| x.filter(|_| (i >= first) == is_difference);
            cells.iter().enumerate().map(cell).collect()
        };
        let (own, difference) = (part(false), part(true));
        any |= name == series.value && difference.iter().flatten().any(|x| x.is_finite());
        let Some(cells) = rows.columns.iter_mut().find(|(known, _, _)| *known == name) else { continue };
        *cells = column(&name, &cells.1.clone(), &own);
        rows.columns.push(column(&difference_of(&name), "The same of the difference.", &difference));
    }
    Ok(any.then_some(strip))
}

fn difference_of(name: &str) -> String {
    format!("difference of {name}")
}

/// The effects of components in A against those in B.
pub(super) fn against(compared: &Compared, made: &Made) -> Result<Vec<Wanted>> {
    let Some(rows) = &made.changes else { return Ok(Vec::new()) };
    let [a, b, _] = &compared.names;
    let one = |kind: &str| -> Result<Wanted> {
        let mut rows = rows.clone();
        let named = marked(&rows, &format!("change of {kind}"), NAMED)?;
        rows.columns.push(("named".to_owned(), "Whether it is among the largest changes.".to_owned(), named));
        let caption = format!(
            "What changed: the {kind} effect of each component on the logit difference in {a} (across) and in {b} (up), in logits. On \
             the dashed line nothing changed; the largest changes, {NAMED} at most, are named."
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
