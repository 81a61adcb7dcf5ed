//! The circuit as a picture needs it: every edge with the roles of the parts that it joins.

use std::collections::BTreeMap;

use crate::analysis::circuit::Circuits;
use crate::analysis::edges::Scoring;
use crate::error::Result;
use crate::report::story::{column, figure};
use crate::row::Rows;
use crate::study::Study;

/// " of 8 edges, scored by eap-ig-inputs, which keeps 0.989 of the behaviour", for captions; empty where none was chosen.
pub(in crate::report) fn chosen(study: &Study, found: &BTreeMap<String, Rows>) -> String {
    let told = || -> Option<String> {
        let summary = found.get("circuit_summary")?;
        let (measures, values) = (summary.texts("measure").ok()?, summary.numbers("value").ok()?);
        let of = |name: &str| values.get(measures.iter().position(|known| known == name)?).copied().flatten();
        let step = study.steps.iter().find(|step| step.name == "circuit")?;
        let scored = match step.parameters.get("method").and_then(toml::Value::as_str) {
            _ if study.circuit.is_some() => "given as a file".to_owned(),
            Some("acdc") => "found by acdc".to_owned(),
            method => format!("scored by {}", method.unwrap_or(Circuits::default().method.name())),
        };
        Some(format!(
            " of {} edges, {scored}, which keeps {} of the behaviour",
            of("edges")?,
            figure(of("faithfulness")?)
        ))
    };
    told().unwrap_or_default()
}

/// ", estimated by eap" where edges were scored by other means than by cutting them; for captions.
pub(in crate::report) fn scored(edges: Option<&Rows>) -> String {
    let method = edges.and_then(|rows| rows.texts("method").ok()?.into_iter().next());
    method
        .filter(|method| method != Scoring::Exact.name())
        .map_or_else(String::new, |method| format!(", estimated by {method}"))
}

/// `circuit_graph`.
pub(super) fn tables(found: &BTreeMap<String, Rows>) -> Result<Option<Rows>> {
    let (Some(edges), Some(nodes)) = (found.get("circuit"), found.get("circuit_nodes")) else {
        return Ok(None);
    };
    let roles: BTreeMap<String, String> =
        nodes.texts("node")?.into_iter().zip(nodes.texts("role")?).collect();
    let role = |name: &String| {
        let part = name.split_once('<').map_or(name.as_str(), |(part, _)| part);
        roles.get(part).cloned().unwrap_or_default()
    };
    let of = |end: &str| -> Result<Vec<String>> { Ok(edges.texts(end)?.iter().map(role).collect()) };
    let (from, to) = (of("from")?, of("to")?);
    let mut graph = Rows { name: "circuit_graph".to_owned(), ..edges.clone() };
    graph.columns.push(column("from_role", "What the writer is for, where the model says.", &from));
    graph.columns.push(column("to_role", "What the reader is for, where the model says.", &to));
    Ok(Some(graph))
}
