//! Where every head looks on the first prompts, cut to what a page can carry.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::prompts::Shown;
use super::{OF_HEADS, packed};
use crate::error::Result;
use crate::patterns::patterns;
use crate::report::story::{Run, Story};
use crate::row::Rows;

/// Bytes of attention that a page carries, before they are text.
const BYTES: usize = 800_000;
/// What the key of a weight takes where not every key is there.
const KEY: usize = 2;
/// Prompts whose attention it carries at most.
const PROMPTS: usize = 8;
/// The same on a page that is about more than the finished model.
const PROMPTS_BESIDE: usize = 1;
/// Keys of a query that are kept at least: the largest.
const KEYS: usize = 4;
/// Cells that are computed for it at most.
const COMPUTED: usize = 2_000_000;

/// Table `examples_attention`: all heads on the first prompts. Of prompts too long for that only the strongest heads, and of
/// each query the largest weights. None where no table tells of heads.
pub(in crate::report) fn rows(run: &Run, story: &Story) -> Result<Option<Rows>> {
    let config = &run.lab.model.config;
    let Some(first) = run.task.examples.first().filter(|_| OF_HEADS.iter().any(|t| story.table(t).is_some()))
    else {
        return Ok(None);
    };
    let n = first.clean.len().max(1);
    let pairs = if config.causal { n * (n + 1) / 2 } else { n * n };
    let mut heads: Vec<(usize, usize)> =
        story.heads().iter().filter_map(|component| component.head()).collect();
    let all = (0..config.n_layers).flat_map(|layer| (0..config.n_heads).map(move |head| (layer, head)));
    let rest: Vec<(usize, usize)> = all.filter(|head| !heads.contains(head)).collect();
    heads.extend(rest);
    let weight = run.lab.model.dtype().size_in_bytes();
    let whole = heads.len() * pairs * weight <= BYTES;
    let listed = BYTES / ((weight + KEY) * n);
    if !whole {
        heads.truncate((COMPUTED / pairs).min(listed / KEYS));
    }
    if heads.is_empty() {
        return Ok(None);
    }
    heads.sort_unstable();
    let most = if run.study.is_series() { PROMPTS_BESIDE } else { PROMPTS };
    let prompts = if whole { (BYTES / (heads.len() * pairs * weight)).clamp(1, most) } else { 1 };
    let mut joined: Option<Rows> = None;
    for example in 0..prompts.min(run.task.examples.len()) {
        let mut rows = patterns(run.lab, run.task, &heads, example)?;
        if !whole {
            rows = largest(&rows, (listed / heads.len()).max(KEYS))?;
        }
        rows.name = "examples_attention".to_owned();
        match &mut joined {
            None => joined = Some(rows),
            Some(joined) => joined.append(rows)?,
        }
    }
    Ok(joined)
}

/// Of each query the rows with the largest weights, as they stood.
fn largest(rows: &Rows, most: usize) -> Result<Rows> {
    let weights = rows.numbers("weight")?;
    let mut kept = Vec::new();
    for (_, mut own) in queries(rows)? {
        own.sort_by(|&a, &b| weights[b].unwrap_or(0.0).total_cmp(&weights[a].unwrap_or(0.0)));
        own.truncate(most);
        own.sort_unstable();
        kept.extend(own);
    }
    kept.sort_unstable();
    Ok(rows.take(&kept))
}

/// Layer, head, query and the rows that belong to them.
type Queries = BTreeMap<(usize, usize, usize), Vec<usize>>;

fn queries(rows: &Rows) -> Result<Queries> {
    let [layers, heads, queries] = ["layer", "head", "query"].map(|name| rows.numbers(name));
    let (layers, heads, queries) = (layers?, heads?, queries?);
    let whole = |x: Option<f64>| x.unwrap_or(0.0) as usize;
    let mut all = Queries::new();
    for i in 0..rows.len() {
        all.entry((whole(layers[i]), whole(heads[i]), whole(queries[i]))).or_default().push(i);
    }
    Ok(all)
}

/// The table for the script: for each prompt its heads, for each head and query the number of keys that follow, the keys, and
/// the weights.
pub(super) fn value(rows: &Rows, story: &Story, prompts: &Shown) -> Result<Value> {
    let causal = story.run.lab.model.config.causal;
    let ids = rows.texts("example")?;
    let mut examples = Vec::new();
    for (place, example) in prompts.examples(story.run.task).enumerate() {
        let own = rows.filter(|i| ids[i] == example.id);
        if own.is_empty() {
            continue;
        }
        let (keys, weights) = (own.numbers("key")?, own.numbers("weight")?);
        let queries = queries(&own)?;
        let mut heads: Vec<[usize; 2]> = queries.keys().map(|&(layer, head, _)| [layer, head]).collect();
        heads.dedup();
        let cells = || queries.values().flatten().copied();
        let seen = |query: usize| if causal { query + 1 } else { example.clean.len() };
        let full = queries.iter().all(|(&(_, _, query), rows)| rows.len() == seen(query));
        let mut one = json!({
            "example": place,
            "heads": heads,
            "counts": packed::counts(queries.values().map(Vec::len)),
            "weights": packed::reals(&cells().map(|i| weights[i]).collect::<Vec<_>>()),
        });
        if !full {
            // where every key is there, they count from 0
            one["keys"] = packed::counts(cells().map(|i| keys[i].unwrap_or(0.0) as usize));
        }
        examples.push(one);
    }
    Ok(json!({ "causal": causal, "examples": examples }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Column;

    #[test]
    fn the_largest_weights_of_a_query_are_kept_in_order() {
        let int = |name: &str, cells: &[i64]| {
            (name.to_owned(), String::new(), Column::Int(cells.iter().map(|&x| Some(x)).collect()))
        };
        let weights = [1.0, 0.5, 0.5, 0.2, 0.7, 0.1];
        let rows = Rows {
            name: "a".into(),
            columns: vec![
                int("layer", &[0; 6]),
                int("head", &[1; 6]),
                int("query", &[0, 1, 1, 2, 2, 2]),
                int("key", &[0, 0, 1, 0, 1, 2]),
                ("weight".into(), String::new(), Column::Num(weights.map(Some).to_vec())),
            ],
        };
        let kept = largest(&rows, 2).unwrap();
        assert_eq!(kept.numbers("key").unwrap(), [0.0, 0.0, 1.0, 0.0, 1.0].map(Some));
        assert_eq!(largest(&rows, 1).unwrap().numbers("weight").unwrap(), [1.0, 0.5, 0.7].map(Some));
    }
}
