//! What the columns of each table are: which say what a row is of, and which number an interval without a name belongs to.

use crate::row::{Column, Rows};

/// Tables, the columns that name a row, and the number whose interval is called `ci_lo` and `ci_hi` and whose test `p` and `q`.
const TABLES: &[(&str, &[&str], &str)] = &[
    ("ablate", &["part", "grain", "metric"], ""),
    ("ablate_effect", &["part", "grain", "pos", "kind", "metric"], "change"),
    ("ablate_set", &["set", "kind", "metric"], "interaction"),
    ("accumulated", &["label"], "logit_diff"),
    ("atp_head", &["site", "direction", "layer", "head"], "effect"),
    ("atp_head_pos", &["site", "direction", "layer", "head", "pos"], "effect"),
    ("atp_neuron", &["site", "direction", "layer", "neuron"], "effect"),
    ("atp_pattern", &["site", "direction", "layer", "head", "pos", "key"], "effect"),
    ("atp_position", &["site", "direction", "layer", "pos"], "effect"),
    ("attention", &["example", "layer", "head", "query", "key"], ""),
    ("attribution", &["component"], "direct"),
    ("attribution_head", &["layer", "head"], "direct"),
    ("attribution_neuron", &["layer", "neuron"], "direct"),
    ("attribution_source", &["layer", "head", "pos"], "direct"),
    ("attribution_swap", &["component"], "direct"),
    ("behaviour", &["metric"], "value"),
    ("circuit", &["edge"], "effect"),
    ("circuit_completeness", &["without"], ""),
    ("circuit_nodes", &["node"], "adds"),
    ("circuit_sizes", &["order", "fraction", "asked", "threshold"], "faithfulness"),
    ("circuit_summary", &["measure"], "value"),
    ("compared", &["model", "quantity", "part"], "value"),
    ("components", &["component"], "total"),
    ("components_set", &["set"], "interaction"),
    ("composition", &["from", "to", "kind"], ""),
    ("decisions", &["example", "rule"], ""),
    ("edges", &["method", "edge"], "effect"),
    ("edges_group", &["from", "to"], "effect"),
    ("edges_truth", &["method"], "auroc"),
    ("eigenvalues", &["layer", "head", "circuit", "index"], ""),
    ("head_scores", &["layer", "head"], ""),
    ("knockout", &["source", "layer", "metric"], "relative"),
    ("lens", &["site", "layer", "pos"], ""),
    ("lens_first", &["site", "layer", "pos"], ""),
    ("patch_head", &["site", "direction", "layer", "head", "unit"], "effect"),
    ("patch_head_pos", &["site", "direction", "layer", "head", "pos", "unit"], "effect"),
    ("patch_layer", &["site", "direction", "layer", "unit"], "effect"),
    ("patch_neuron", &["site", "direction", "layer", "neuron", "unit"], "effect"),
    ("patch_pattern", &["site", "direction", "layer", "head", "query", "key", "unit"], "effect"),
    ("patch_set", &["set", "direction", "unit"], "effect"),
    ("path", &["receivers", "sender", "direction", "freeze"], "effect"),
    ("path_set", &["receivers", "set", "direction", "freeze"], "effect"),
    ("predict", &["example", "rank"], ""),
    ("prediction", &["example"], ""),
    ("probe", &["label", "site", "layer", "depth", "pos", "method"], "accuracy"),
    ("probe_code", &["site", "layer", "pos"], ""),
    ("probe_control", &["site", "layer", "depth", "pos", "method"], ""),
    ("probe_scores", &["site", "layer", "pos", "method", "score"], "value"),
    ("probe_use", &["site", "layer", "depth", "pos", "method", "group"], "change"),
    ("repair", &["ablated", "kind"], ""),
    ("repair_later", &["ablated", "kind", "component"], "change"),
    ("repair_set", &["set", "kind"], "interaction"),
    ("resid_by_pos", &["site", "direction", "layer", "pos", "unit"], "effect"),
    ("singular", &["layer", "head", "circuit", "index", "end"], ""),
    ("spectrum", &["layer", "head", "circuit", "index"], ""),
    ("steer", &["site", "layer", "strength"], "effect"),
    ("steer_curve", &["site", "layer", "direction", "strength"], "effect"),
    ("steer_removed", &["site", "layer"], "gap"),
    ("steer_removed_curve", &["site", "layer", "direction", "share"], "gap"),
    ("trace", &["state", "metric", "layer", "pos"], "effect"),
    ("trace_total", &["metric"], "effect"),
    ("training", &["step", "model", "quantity", "part"], "value"),
    ("training_edges", &["step", "model", "edge"], "effect"),
    ("training_heads", &["step", "model", "quantity", "layer", "head"], "value"),
    ("training_onset", &["model", "quantity", "part"], ""),
    ("virtual", &["from", "to", "kind", "index"], ""),
    ("weights", &["layer", "head"], "copied"),
];

/// Tables whose effects are shares of a gap, which is an estimate itself, and the analysis that keeps the gap of each example
/// (`examples_gap_<analysis>`).
const SHARES: [(&str, &str); 17] = [
    ("atp_head", "atp"),
    ("atp_head_pos", "atp"),
    ("atp_neuron", "atp"),
    ("atp_pattern", "atp"),
    ("atp_position", "atp"),
    ("circuit", "circuit"),
    ("edges", "edges"),
    ("edges_group", "edges"),
    ("patch_head", "patch"),
    ("patch_head_pos", "patch"),
    ("patch_layer", "patch"),
    ("patch_neuron", "patch"),
    ("patch_pattern", "patch"),
    ("patch_set", "patch"),
    ("path", "path"),
    ("path_set", "path"),
    ("resid_by_pos", "patch"),
];

/// Tables whose tests are corrected in several families, and the columns that tell those apart. All other tables are one family.
const FAMILIES: [(&str, &[&str]); 9] = [
    ("ablate_effect", &["metric", "kind"]),
    ("atp_head", &["direction"]),
    ("atp_head_pos", &["direction"]),
    ("atp_neuron", &["direction"]),
    ("atp_pattern", &["direction"]),
    ("atp_position", &["direction"]),
    ("edges", &["method"]),
    ("trace", &["metric"]),
    ("training_heads", &["quantity"]),
];

/// The columns that tell apart the families of tests of this table, within each of which its q-values control false discoveries;
/// none where the whole table is one. A table of several models or steps of training is corrected within each of them too,
/// except one of all stages (`training_heads`).
pub fn family(table: &str) -> &'static [&'static str] {
    FAMILIES.iter().find(|(name, _)| *name == table).map_or(&[], |(_, columns)| columns)
}

/// The same as words after "corrected for all tests": "of each metric and kind", "of the table".
pub fn family_in_words(table: &str) -> String {
    match family(table) {
        [] => "of the table".to_owned(),
        columns => format!("of each {}", columns.join(" and ")),
    }
}

/// What tells how many, how sure and in which order, rather than what or how much.
const BESIDE: [&str; 6] = ["n", "p", "q", "notable", "rank", "beside"];

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Says what the row is of.
    Key,
    /// A number that has a difference.
    Value,
    /// An end of an interval.
    Bound,
    /// Examples, p-values, ranks: they have no difference; p and q of one are those of the difference itself.
    Beside,
    /// Whole numbers and answers that say more about what the row is of: a layer, the ends of a window.
    Fact,
    /// Words.
    Words,
}

/// What one table's columns are.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    /// The columns that name a row.
    pub(super) keys: Vec<String>,
    /// The number that `ci_lo` and `ci_hi` belong to, and `p` and `q`.
    main: String,
    /// The analysis that keeps the gap that effects are shares of, if they are.
    pub(super) share_of: Option<&'static str>,
    /// The columns that tell apart the families in which its tests are corrected.
    pub(super) family: Vec<String>,
}

impl Spec {
    /// The declared columns of a known table; of any other, all words and whole numbers name a row, and an interval without a name
    /// belongs to the first number.
    pub(super) fn of(rows: &Rows) -> Spec {
        let there = |name: &str| rows.columns.iter().any(|(known, _, _)| known == name);
        let share_of = SHARES.iter().find(|(name, _)| *name == rows.name).map(|(_, analysis)| *analysis);
        let family =
            family(&rows.name).iter().filter(|key| there(key)).map(|key| (*key).to_owned()).collect();
        if let Some((_, keys, main)) = TABLES.iter().find(|(name, _, _)| *name == rows.name) {
            let keys = keys.iter().filter(|key| there(key)).map(|key| (*key).to_owned()).collect();
            return Spec { keys, main: (*main).to_owned(), share_of, family };
        }
        let names = |wanted: fn(&Column) -> bool| {
            let such = rows.columns.iter().filter(move |(_, _, column)| wanted(column));
            such.map(|(name, _, _)| name.clone()).filter(|name| !is_beside(name) && !is_bound(name))
        };
        let keys = names(|column| matches!(column, Column::Text(_) | Column::Int(_))).collect();
        let main = names(|column| matches!(column, Column::Num(_))).next().unwrap_or_default();
        Spec { keys, main, share_of, family }
    }

    /// What a column is for.
    pub(super) fn part(&self, name: &str, column: &Column) -> Part {
        match column {
            _ if self.keys.iter().any(|key| key == name) => Part::Key,
            _ if is_bound(name) => Part::Bound,
            _ if is_beside(name) && !(name == "rank" && matches!(column, Column::Num(_))) => Part::Beside,
            Column::Num(_) => Part::Value,
            Column::Int(_) | Column::Bool(_) => Part::Fact,
            Column::Text(_) => Part::Words,
        }
    }

    /// Whether the columns `p` and `q` are of this number.
    pub(super) fn is_tested(&self, value: &str) -> bool {
        value == self.main
    }

    /// The columns with the ends of a number's interval, if the table has them.
    pub(super) fn bounds(&self, rows: &Rows, value: &str) -> Option<[String; 2]> {
        let there = |name: &str| rows.columns.iter().any(|(known, _, _)| known == name);
        let mut stems = vec![format!("{value}_ci_"), format!("{value}_")];
        if value == self.main {
            stems.push("ci_".to_owned());
        }
        let ends = |stem: String| ["lo", "hi"].map(|end| format!("{stem}{end}"));
        stems.into_iter().map(ends).find(|names| names.iter().all(|name| there(name)))
    }
}

fn is_bound(name: &str) -> bool {
    ["lo", "hi"].iter().any(|end| name == *end || name.ends_with(&format!("_{end}")))
}

fn is_beside(name: &str) -> bool {
    BESIDE.contains(&name) || name.ends_with("_p") || name.ends_with("_q")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_nobody_declared_is_joined_by_its_words() {
        let column = |name: &str, column: Column| (name.to_owned(), String::new(), column);
        let num = || Column::Num(vec![Some(1.0)]);
        let rows = Rows {
            name: "mine".into(),
            columns: vec![
                column("layer", Column::Int(vec![Some(1)])),
                column("name", Column::Text(vec![Some("x".into())])),
                column("score", num()),
                column("ci_lo", num()),
                column("ci_hi", num()),
                column("n", Column::Int(vec![Some(9)])),
            ],
        };
        let spec = Spec::of(&rows);
        assert_eq!(spec.keys, ["layer", "name"]);
        assert_eq!(spec.bounds(&rows, "score").unwrap(), ["ci_lo", "ci_hi"]);
        let parts: Vec<Part> = rows.columns.iter().map(|(name, _, column)| spec.part(name, column)).collect();
        assert_eq!(parts, [Part::Key, Part::Key, Part::Value, Part::Bound, Part::Bound, Part::Beside]);
    }
}
