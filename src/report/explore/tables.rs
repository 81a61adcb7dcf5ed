//! Tables as JSON: whole, or numbers by prompt, packed; either with every digit.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::packed::{number, reals};
use super::prompts::Shown;
use crate::error::Result;
use crate::report::story::Story;
use crate::row::{Column, Rows};
use crate::show;

/// Tables whose rows have a value on every prompt: the table, its columns of numbers, and the columns that name a row.
const EACH: [(&str, &[&str], &[&str]); 3] = [
    ("components", &["total", "direct"], &["component"]),
    ("patch_head", &["effect"], &["site", "direction", "layer", "head"]),
    ("atp_head", &["effect"], &["site", "direction", "layer", "head"]),
];

/// Numbers by prompt that a page carries in all, up to eight bytes each.
const NUMBERS: usize = 100_000;
/// Rows of the lens that it carries, beside the first prompt's.
const READINGS: usize = 8000;
/// What the lens reads that a page shows.
const READ: [&str; 5] = ["prob", "rank", "logit_diff", "entropy", "kl"];

/// A table as columns, each number with all its digits.
pub(super) fn exact(rows: &Rows) -> Value {
    let columns: Vec<Value> = rows
        .columns
        .iter()
        .map(|(name, about, column)| {
            let mut value = match column {
                Column::Text(cells) => texts(cells),
                Column::Num(cells) => json!({ "num": cells.iter().map(number).collect::<Vec<_>>() }),
                Column::Int(cells) => json!({ "int": cells }),
                Column::Bool(cells) => json!({ "bool": cells }),
            };
            value["name"] = show::visible(name).into();
            value["about"] = show::inert(about).replace('\n', " ").into();
            value
        })
        .collect();
    json!({ "rows": rows.len(), "columns": columns })
}

/// Texts as places in a list of distinct ones.
fn texts(cells: &[Option<String>]) -> Value {
    let mut words: Vec<String> = Vec::new();
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    let mut places = Vec::new();
    for cell in cells {
        places.push(cell.as_deref().map(|text| {
            *known.entry(text).or_insert_with(|| {
                words.push(if text.is_empty() { String::new() } else { show::visible(text) });
                words.len() - 1
            })
        }));
    }
    json!({ "text": places, "words": words })
}

/// By table and column, each row's value on the first prompts, row after row.
pub(super) fn each(story: &Story, prompts: &Shown) -> Result<Value> {
    let carried = |name: &str| story.table(name).filter(|rows| rows.len() <= super::MOST_ROWS);
    let both = |name: &str| carried(name).zip(story.table(&format!("examples_{name}")));
    let numbers = |(name, columns, _): &(&str, &[&str], &[&str])| {
        both(name).map_or(0, |(rows, _)| rows.len() * columns.len())
    };
    let most = prompts.0.min(NUMBERS / EACH.iter().map(numbers).sum::<usize>().max(1));
    let mut all = Map::new();
    for (name, columns, names) in EACH {
        let Some((rows, own)) = both(name) else { continue };
        let key = |rows: &Rows| -> Result<Vec<Vec<String>>> {
            let columns = names.iter().map(|name| rows.texts(name)).collect::<Result<Vec<_>>>()?;
            Ok((0..rows.len()).map(|i| columns.iter().map(|column| column[i].clone()).collect()).collect())
        };
        let (wanted, found, ids) = (key(rows)?, key(own)?, own.texts("example")?);
        let place: BTreeMap<(&[String], &str), usize> =
            (0..own.len()).map(|i| ((found[i].as_slice(), ids[i].as_str()), i)).collect();
        let mut value = Map::from_iter([("prompts".to_owned(), most.into())]);
        for column in columns {
            let numbers = own.numbers(column)?;
            let cells = wanted.iter().flat_map(|key| {
                let examples = story.run.task.examples.iter().take(most);
                examples.map(|example| numbers[*place.get(&(key.as_slice(), example.id.as_str()))?])
            });
            value.insert((*column).to_owned(), reals(&cells.collect::<Vec<_>>()));
        }
        all.insert(name.to_owned(), value.into());
    }
    Ok(all.into())
}

/// What the lens reads on the first prompts, row by row: prompt, site, layer, position, the first token, numbers.
pub(super) fn readings(story: &Story, prompts: &Shown) -> Result<Option<Value>> {
    let Some(rows) = story.table("examples_lens") else { return Ok(None) };
    let ids = rows.texts("example")?;
    let known: BTreeMap<&str, usize> =
        prompts.examples(story.run.task).enumerate().map(|(i, example)| (example.id.as_str(), i)).collect();
    // a prompt is there in whole or not at all
    let most = (READINGS * story.run.task.examples.len() / rows.len().max(1)).max(1);
    let kept: Vec<usize> =
        (0..rows.len()).filter(|&i| known.get(ids[i].as_str()).is_some_and(|&at| at < most)).collect();
    let own = rows.take(&kept);
    let mut value = json!({
        "rows": own.len(),
        "example": kept.iter().map(|&i| known.get(ids[i].as_str())).collect::<Vec<_>>(),
    });
    for name in ["site", "top"] {
        value[name] = match own.column(name)? {
            Column::Text(cells) => texts(cells),
            _ => Value::Null,
        };
    }
    for name in ["layer", "pos"] {
        value[name] = own.numbers(name)?.iter().map(|x| x.map(|x| x as i64)).collect::<Vec<_>>().into();
    }
    for name in READ {
        value[name] = reals(&own.numbers(name)?);
    }
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_its_digits_and_what_is_no_number() {
        let rows = Rows {
            name: "t".into(),
            columns: vec![
                (
                    "x".into(),
                    "A\nnumber.".into(),
                    Column::Num(vec![Some(0.1 + 0.2), None, Some(f64::NAN), Some(f64::NEG_INFINITY)]),
                ),
                (
                    "t".into(),
                    String::new(),
                    Column::Text(vec![Some("</script>".into()), None, Some(" a".into()), Some(" a".into())]),
                ),
            ],
        };
        let value = exact(&rows);
        assert_eq!(value["columns"][0]["num"], json!([0.300_000_000_000_000_04, null, "NaN", "-inf"]));
        assert_eq!(value["columns"][0]["about"], "A number.");
        assert_eq!(value["columns"][1]["text"], json!([0, null, 1, 1]));
        assert_eq!(value["columns"][1]["words"], json!(["</script>", "␣a"]));
    }
}
