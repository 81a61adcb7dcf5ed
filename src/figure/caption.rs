//! Captions: a view says in a sentence what is shown; what else a reader must know follows from the view, the drawn rows, the
//! drawing and the [`Facts`] of the run, and is added here, each once.
//!
//! Added are, where they apply: what a share is a share of, the direction of patching, what takes a part's place, what intervals
//! are, what outlines and hatching mean, at what limits colours or axes are cut, and last the source: model and weights, data and n,
//! seed, type of numbers. Of a table without facts only what the table itself tells is said.

mod range;
mod sure;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::figure::scene::Scene;
use crate::figure::svg;
use crate::figure::view::View;
use crate::row::{Column, Rows};

/// Where numbers come from, as words that can stand in a caption. All empty: nobody said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// The model.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Which weights, short: `weights 874b547`, `revision 607a30d`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub weights: String,
    /// The prompts: `64 prompt pairs of ioi`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data: String,
    /// How many they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// What a bootstrap draws whole: `pairs`, `prompts`; empty for a single prompt, which has no intervals.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub over: String,
    /// What is measured: `logit difference`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metric: String,
    /// What every random draw followed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Type of the numbers, where it is not f32.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dtype: String,
}

impl Facts {
    /// Whether anybody said where the numbers come from.
    fn known(&self) -> bool {
        !self.model.is_empty()
    }
}

/// The caption of a drawing of these rows: all of them are drawn but those that the drawing's own caption says are left out.
pub fn write(scene: &Scene, rows: &Rows, view: &View) -> String {
    let said = match view.caption.trim() {
        "" => shown(view),
        said if said.ends_with(['.', '?', '!']) => said.to_owned(),
        said => format!("{said}."),
    };
    let says = |words: &[&str]| {
        let lower = said.to_lowercase();
        words.iter().any(|word| lower.contains(word))
    };
    let rest = [
        gap(view, &said),
        direction(rows, view).filter(|_| !view.caption.to_lowercase().contains("nois")),
        ablation(rows, view).filter(|_| !says(&["resampl", "mean abl", "zero"])),
        sure::intervals(rows, view).filter(|_| !says(&["band", "whisker", "interval"])),
        sure::outlines(scene, rows, view),
        (svg::hatched(&scene.items) && !says(&["hatch"])).then(|| "Hatched: no value.".to_owned()),
        range::clipped(rows, view),
        range::infinite(rows, view),
        left_out(scene),
        source(rows, view),
    ];
    let all: Vec<String> = std::iter::once(said.clone()).chain(rest.into_iter().flatten()).collect();
    all.join(" ")
}

/// What is shown, of a view that does not say it.
fn shown(view: &View) -> String {
    let words = |column: &Option<String>| column.as_deref().map(spoken);
    let or = |given: &str, column: &Option<String>| match given {
        "" => words(column),
        given => Some(given.to_owned()),
    };
    let series: Vec<String> = view
        .series
        .iter()
        .map(|s| if s.name.is_empty() { spoken(&s.value) } else { s.name.clone() })
        .collect();
    let value = or(&view.value_label, &view.value).or_else(|| (!series.is_empty()).then(|| listed(&series)));
    let (x, y) = (or(&view.x_label, &view.x), or(&view.y_label, &view.y));
    let axes: Vec<String> = [&x, &y].into_iter().flatten().cloned().collect();
    let by: Vec<String> = if axes.is_empty() { words(&view.label).into_iter().collect() } else { axes };
    let mut text = match (value, x, y) {
        (None, Some(x), Some(y)) => format!("{y} against {x}"),
        (Some(value), ..) if !by.is_empty() => format!("{value} by {}", listed(&by)),
        (value, ..) => value.unwrap_or_else(|| view.kind.clone()),
    };
    for (column, what) in [(&view.group, "in each"), (&view.facet, "one panel for each")] {
        text += &words(column).map(|column| format!(", {what} {column}")).unwrap_or_default();
    }
    let only: Vec<String> =
        view.only.iter().map(|(column, value)| format!("{} {value}", spoken(column))).collect();
    if !only.is_empty() {
        text += &format!("; {} only", listed(&only));
    }
    sentence(&text)
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

/// What shares are shares of.
fn gap(view: &View, said: &str) -> Option<String> {
    let metric = &view.facts.metric;
    let labels = [&view.value_label, &view.x_label, &view.y_label];
    let shares = labels.iter().any(|label| label.contains("gap"));
    let known = said.contains(metric.as_str()) || labels.iter().any(|label| label.contains(metric.as_str()));
    (shares && !known).then(|| format!("The gap is that in {metric} between clean and corrupt prompts."))
}

/// From which run activations were taken, where all rows agree and it is not one of several panels.
fn direction(rows: &Rows, view: &View) -> Option<String> {
    view.facts.known().then_some(())?;
    match single(rows, "direction")?.as_str() {
        "denoise" => Some("Denoising: values of the clean run are put into the corrupt run.".to_owned()),
        "noise" => Some("Noising: values of the corrupt run are put into the clean run.".to_owned()),
        _ => None,
    }
}

/// What stands in the place of a part that is taken out, in the words of the tables and in plain ones.
const IN_PLACE: [(&str, &str); 4] = [
    ("zero", "zero"),
    ("mean", "its mean"),
    ("mean-by-position", "its mean at the same position"),
    ("resample", "its value on another prompt"),
];

/// What stood in the place of a part that was taken out.
fn ablation(rows: &Rows, view: &View) -> Option<String> {
    view.facts.known().then_some(())?;
    let kinds: BTreeSet<String> = rows.texts("kind").ok()?.into_iter().collect();
    let known = |kind: &String| IN_PLACE.iter().any(|(name, _)| name == kind);
    if kinds.is_empty() || !kinds.iter().all(known) {
        return None;
    }
    let several = kinds.len() > 1;
    let said = IN_PLACE.iter().filter(|(name, _)| kinds.contains(*name)).map(|(name, words)| match several {
        true if name != words => format!("{words} ({name})"),
        _ => (*words).to_owned(),
    });
    let said: Vec<String> = said.collect();
    Some(match said.split_last() {
        Some((last, before)) if several => {
            format!("In place of a part stands {} or {last}.", before.join(", "))
        }
        _ => format!("In place of a part stands {}.", said.concat()),
    })
}

/// What the drawing says it has no room for.
fn left_out(scene: &Scene) -> Option<String> {
    (!scene.caption.is_empty()).then(|| sentence(&scene.caption))
}

/// Model, data, seed and type of numbers.
fn source(rows: &Rows, view: &View) -> Option<String> {
    let facts = &view.facts;
    if !facts.known() {
        let data = view.data.as_deref().filter(|data| !data.is_empty())?;
        return Some(format!("Data: {data}."));
    }
    let weights = if facts.weights.is_empty() { String::new() } else { format!(" ({})", facts.weights) };
    let mut parts = vec![match models(rows).filter(|models| *models != [facts.model.as_str()]) {
        Some(models) => format!("Models: {}", listed(&models)),
        None => format!("Model: {}{weights}", facts.model),
    }];
    let own = view.data.as_deref();
    let (data, n) = (own.unwrap_or(&facts.data), counts(rows));
    let known = own.is_none() && n == facts.n.map(|n| (n, n));
    let n = n.filter(|_| !known && own != Some("")).map(|(least, most)| match least == most {
        true => format!("n = {most}"),
        false => format!("n = {least} to {most}"),
    });
    match (data, n) {
        ("", None) => {}
        ("", Some(n)) => parts.push(n),
        (data, None) => parts.push(format!("data: {data}")),
        (data, Some(n)) => parts.push(format!("data: {data}, {n}")),
    }
    parts.extend(facts.seed.map(|seed| format!("seed {seed}")));
    if !facts.dtype.is_empty() {
        parts.push(format!("computed in {}", facts.dtype));
    }
    Some(format!("{}.", parts.join("; ")))
}

/// The models that the rows tell of, if they name them.
fn models(rows: &Rows) -> Option<Vec<String>> {
    let mut models: Vec<String> = Vec::new();
    for model in rows.texts("model").ok()? {
        if !model.is_empty() && !models.contains(&model) {
            models.push(model);
        }
    }
    (!models.is_empty()).then_some(models)
}

/// The least and the largest number of prompts behind a row.
fn counts(rows: &Rows) -> Option<(u64, u64)> {
    let Ok(Column::Int(cells)) = rows.column("n") else { return None };
    let counts = || cells.iter().flatten().filter_map(|n| u64::try_from(*n).ok());
    Some((counts().min()?, counts().max().filter(|most| *most > 1)?))
}

/// The one text that a column holds in every row.
fn single(rows: &Rows, column: &str) -> Option<String> {
    let texts = rows.texts(column).ok()?;
    let first = texts.first()?.clone();
    texts.iter().all(|text| *text == first).then_some(first)
}

/// A column's name as words.
fn spoken(column: &str) -> String {
    column.replace('_', " ")
}

/// "a, b and c".
fn listed(items: &[String]) -> String {
    match items {
        [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        [only] => only.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::draw;

    fn rows() -> Rows {
        let int = |v: [i64; 4]| Column::Int(v.map(Some).to_vec());
        let num = |v: [f64; 4]| Column::Num(v.map(Some).to_vec());
        let text = |v: &str| Column::Text(vec![Some(v.to_owned()); 4]);
        let column = |name: &str, column| (name.to_owned(), String::new(), column);
        Rows {
            name: "t".into(),
            columns: vec![
                column("layer", int([0, 0, 1, 1])),
                column("head", int([0, 1, 0, 1])),
                column("effect", num([0.9, -0.2, f64::NAN, 0.0])),
                column("ci_lo", num([0.8, -0.4, f64::NAN, -0.1])),
                column("ci_hi", num([1.0, 0.1, f64::NAN, 0.1])),
                column("n", int([32; 4])),
                column("direction", text("denoise")),
            ],
        }
    }

    const VIEW: &str =
        "kind='heatmap'\nx='head'\ny='layer'\nvalue='effect'\nlo='ci_lo'\nhi='ci_hi'\nlimits=[-0.5, 0.5]\n";
    const FACTS: &str = "[facts]\nmodel='m'\nweights='weights abc'\ndata='64 prompt pairs of ioi'\nn=64\nover='pairs'\n\
                         metric='logit difference'\nseed=7\ndtype='f64'";

    #[test]
    fn infinite_values_are_counted() {
        let mut rows = rows();
        if let Some((_, _, column)) = rows.columns.iter_mut().find(|(name, ..)| name == "effect") {
            *column = Column::Num([f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1.0].map(Some).to_vec());
        }
        let of = |view: &str| draw(&rows, &toml::from_str(view).unwrap()).unwrap().caption;
        assert!(of(VIEW).contains("2 values are infinite, and drawn in the end colours."));
        let curve = "kind='curve'\nx='head'\nvalue='effect'\ngroup='layer'";
        assert!(of(curve).contains("2 values are infinite, and beyond the axis."));
        let bars = of("kind='bars'\nlabel='head'\nvalue='effect'\ntop=3");
        assert!(bars.contains("2 values are infinite, and written on bars"), "{bars}");
        assert!(bars.ends_with("1 more without a value not shown."), "{bars}");
    }

    fn caption(view: &str) -> String {
        draw(&rows(), &toml::from_str(view).unwrap()).unwrap().caption
    }

    #[test]
    fn a_run_tells_where_its_numbers_come_from() {
        assert_eq!(
            caption(&format!(
                "{VIEW}caption='Every head patched'\nvalue_label='share of the gap'\noutline=0.1\n{FACTS}"
            )),
            "Every head patched. The gap is that in logit difference between clean and corrupt prompts. Denoising: values of \
             the clean run are put into the corrupt run. Outlined: 0.1 or more from 0, with a 95 % bootstrap interval (over \
             whole pairs) that excludes 0. Hatched: no value. Colours are clipped at 0.5. Model: m (weights abc); data: 64 \
             prompt pairs of ioi, n = 32; seed 7; computed in f64."
        );
        let bars = "kind='bars'\nlabel='head'\nvalue='effect'\nlo='ci_lo'\nhi='ci_hi'\nover='groups'\ndata='noise'\ncaption='Denoised.'\n";
        assert_eq!(
            caption(&format!("{bars}{FACTS}")),
            "Denoised. Whiskers: 95 % bootstrap intervals over whole groups. Hatched: no value. Model: m (weights abc); data: \
             noise, n = 32; seed 7; computed in f64."
        );
    }

    #[test]
    fn a_table_of_ones_own_says_what_it_knows() {
        assert_eq!(
            caption(VIEW),
            "Effect by head and layer. Outlined: a twentieth of the largest or more, with an interval (ci lo to ci hi) that \
             excludes 0. Hatched: no value. Colours are clipped at 0.5."
        );
        assert_eq!(
            caption(
                "kind='curve'\nx='head'\nvalue='effect'\nlo='ci_lo'\nhi='ci_hi'\ngroup='layer'\nonly={layer='0'}"
            ),
            "Effect by head, in each layer; layer 0 only. Bands: from ci lo to ci hi."
        );
        assert_eq!(
            caption("kind='scatter'\nx='ci_lo'\ny='effect'"),
            "Effect against ci lo. One point without two finite numbers is not shown."
        );
    }
}
