//! The circuit as a picture needs it: every edge with the roles of the parts that it joins.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::report::story::column;
use crate::row::Rows;

/// `circuit_graph`.
pub(super) fn tables(found: &BTreeMap<String, Rows>) -> Result<Option<Rows>> {
    let (Some(edges), Some(nodes)) = (found.get("circuit"), found.get("circuit_nodes")) else {
        return Ok(None);
    };
    let roles: BTreeMap<String, String> = nodes.texts("node")?.into_iter().zip(nodes.texts("role")?).collect();
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
