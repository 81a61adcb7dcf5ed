//! Numbers for the running text of a paper: `figures/macros.tex`.
//!
//! A new number is one line in [`SOURCES`].

use super::derive::scored;
use super::story::Story;
use crate::compare::Compared;
use crate::error::Result;
use crate::figure::tex::{self, Finding};
use crate::row::Rows;
use crate::show;

/// Numbers of one table: each of its largest rows gives one, named by the row's texts.
struct Source {
    table: &'static str,
    /// Rows with this text in that column alone.
    only: Option<(&'static str, &'static str)>,
    /// In front of the row's name.
    prefix: &'static str,
    /// Columns whose texts name a row.
    names: &'static [&'static str],
    value: &'static str,
    /// Columns with the interval's ends.
    interval: Option<[&'static str; 2]>,
    /// How many rows, largest value first; 0 for all.
    top: usize,
    about: &'static str,
}

const CI: Option<[&str; 2]> = Some(["ci_lo", "ci_hi"]);
const TOTAL: Option<[&str; 2]> = Some(["total_ci_lo", "total_ci_hi"]);
const DIRECT: Option<[&str; 2]> = Some(["direct_ci_lo", "direct_ci_hi"]);

#[rustfmt::skip]
const SOURCES: &[Source] = &[
    Source { table: "behaviour", only: None, prefix: "", names: &["metric"], value: "value", interval: CI, top: 0, about: "mean over the prompts" },
    Source { table: "components", only: None, prefix: "total", names: &["component"], value: "total", interval: TOTAL, top: 10, about: "total effect (logits)" },
    Source { table: "components", only: None, prefix: "direct", names: &["component"], value: "direct", interval: DIRECT, top: 10, about: "direct effect (logits)" },
    Source { table: "components_set", only: None, prefix: "total", names: &["set"], value: "total", interval: TOTAL, top: 0, about: "total effect of the set (logits)" },
    Source { table: "patch_set", only: None, prefix: "patch", names: &["set", "direction"], value: "effect", interval: CI, top: 0, about: "effect of patching the set" },
    Source { table: "ablate_effect", only: Some(("grain", "set")), prefix: "ablate change", names: &["part", "kind", "metric"], value: "change", interval: CI, top: 0, about: "change when the set is taken out" },
    Source { table: "edges_first", only: None, prefix: "edge", names: &["edge"], value: "effect", interval: CI, top: 10, about: "share of the gap lost with the edge cut" },
    Source { table: "circuit_summary", only: None, prefix: "circuit", names: &["measure"], value: "value", interval: CI, top: 0, about: "of the circuit" },
    Source { table: "trace_total", only: None, prefix: "trace", names: &["metric"], value: "effect", interval: CI, top: 0, about: "total effect of the corruption: clean minus corrupt" },
    Source { table: "probe", only: None, prefix: "probe", names: &["site", "layer", "pos", "method"], value: "accuracy", interval: CI, top: 3, about: "accuracy of the probe on unseen groups" },
    Source { table: "repair", only: None, prefix: "self-repair", names: &["ablated", "kind"], value: "self_repair", interval: Some(["self_repair_ci_lo", "self_repair_ci_hi"]), top: 10, about: "self-repair (logits)" },
    Source { table: "steer", only: None, prefix: "steer", names: &["site", "strength"], value: "effect", interval: CI, top: 3, about: "change of the metric" },
    Source { table: "training_onset", only: None, prefix: "onset", names: &["quantity", "part", "model"], value: "by", interval: None, top: 0, about: "step of training by which half of the change had come" },
];

/// The text of `macros.tex`.
pub(super) fn write(story: &Story) -> Result<String> {
    let run = &story.run;
    let name = |name: &str, value: String, about: &str| Finding {
        name: name.to_owned(),
        value,
        interval: None,
        about: about.to_owned(),
    };
    let count = |n: usize| tex::escape(&n.to_string());
    let mut all = vec![name("model", tex::escape(&run.lab.about.name), "the model")];
    if !run.task.examples.is_empty() {
        all.push(name("task", tex::escape(&run.task.name), "the task"));
        all.push(name("n", count(run.task.examples.len()), "prompts, or pairs of prompts"));
    }
    all.push(name("parameters", count(run.lab.about.parameters), "numbers of the model's weights"));
    all.push(name("seed", run.study.seed.to_string(), "what every random draw followed from"));
    for source in SOURCES {
        if let Some(rows) = story.table(source.table) {
            all.extend(source.findings(rows)?);
        }
    }
    let title = format!("{} on {}", run.lab.about.name, run.task.name);
    Ok(tex::macros(&title, &all))
}

/// The text of a comparison's `macros.tex`: each number of A, of B, and its change. Where a table gives its largest rows, these are
/// the rows that changed most.
pub(super) fn beside(compared: &Compared) -> Result<String> {
    let [name_a, name_b, _] = compared.names.each_ref().map(String::as_str);
    let mut all = Vec::new();
    for source in SOURCES {
        let Some(joined) = compared.tables.get(source.table) else { continue };
        let [a, b, change] = &joined.sides;
        let [of_a, of_b, changed] = [joined.names(a)?, joined.names(b)?, joined.names(change)?];
        for i in source.chosen(change)? {
            let place = |names: &[String]| names.iter().position(|name| Some(name) == changed.get(i));
            for (rows, at, run) in
                [(a, place(&of_a), name_a), (b, place(&of_b), name_b), (change, Some(i), "change")]
            {
                let Some(finding) = at.map(|at| source.finding(rows, at)).transpose()?.flatten() else {
                    continue;
                };
                all.push(Finding {
                    name: format!("{} {run}", finding.name),
                    about: format!("{}; {run}", finding.about),
                    ..finding
                });
            }
        }
    }
    Ok(tex::macros(&format!("{name_a} and {name_b}, and the change from one to the other"), &all))
}

impl Source {
    fn findings(&self, rows: &Rows) -> Result<Vec<Finding>> {
        let chosen = self.chosen(rows)?;
        chosen.into_iter().filter_map(|i| self.finding(rows, i).transpose()).collect()
    }

    /// The rows that give a number.
    fn chosen(&self, rows: &Rows) -> Result<Vec<usize>> {
        let values = rows.numbers(self.value)?;
        let size = |i: &usize| values.get(*i).copied().flatten().map_or(-1.0, f64::abs);
        let texts =
            self.only.map(|(column, text)| rows.texts(column).map(|cells| (cells, text))).transpose()?;
        let is_meant = |i: &usize| {
            texts.as_ref().is_none_or(|(cells, text)| cells.get(*i).is_some_and(|cell| cell == text))
        };
        let mut chosen: Vec<usize> =
            (0..rows.len()).filter(is_meant).filter(|i| size(i).is_finite() && size(i) >= 0.0).collect();
        if self.top > 0 {
            chosen.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
            chosen.truncate(self.top);
        }
        Ok(chosen)
    }

    /// The number of one row.
    fn finding(&self, rows: &Rows, i: usize) -> Result<Option<Finding>> {
        let cell = |column: &str| -> Result<Option<f64>> {
            Ok(rows.numbers(column)?.get(i).copied().flatten().filter(|x| x.is_finite()))
        };
        let Some(value) = cell(self.value)? else { return Ok(None) };
        let mut parts = Vec::new();
        for column in self.names {
            parts.extend(rows.texts(column)?.get(i).cloned());
        }
        let own: Vec<String> =
            parts.iter().filter(|part| !part.is_empty()).map(|part| show::visible(part)).collect();
        // what lies beside a value and does not hold it is the interval of something else: of resamples, say
        let holds = |[lo, hi]: &[f64; 2]| *lo <= value && value <= *hi;
        let interval = match self.interval {
            Some([lo, hi]) => cell(lo)?.zip(cell(hi)?).map(|(lo, hi)| [lo, hi]).filter(holds),
            None => None,
        };
        let estimated =
            if self.table == "edges_first" { scored(Some(&rows.take(&[i]))) } else { String::new() };
        let whole = value.fract() == 0.0 && interval.is_none();
        let digits = if whole { Some([value - 1e3, value + 1e3]) } else { interval };
        Ok(Some(Finding {
            name: format!("{} {}", self.prefix, parts.join(" ")),
            value: tex::number(value, digits),
            interval: interval.map(|interval| tex::interval(value, interval)),
            about: format!("{}: {}{estimated}", own.join(", "), self.about),
        }))
    }
}
