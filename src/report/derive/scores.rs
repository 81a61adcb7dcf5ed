//! Head scores in long form: a row for each head and score, for panels beside each other.

use crate::error::Result;
use crate::figure::view::optional_numbers;
use crate::report::story::column;
use crate::row::{Column, Rows};

/// Scores that are shares of attention, by column and by name.
const ATTENTION: [(&str, &str); 4] = [
    ("previous", "previous token"),
    ("duplicate", "duplicate token"),
    ("induction", "induction"),
    ("bos", "first token"),
];
/// The others.
const MORE: [(&str, &str); 2] = [("prefix", "prefix matching"), ("copying", "copying (weights)")];

/// `16 sequences`: how many the table's scores are means over.
pub(in crate::report) fn sequences(scores: Option<&Rows>) -> String {
    let n = scores.and_then(|rows| rows.numbers("n").ok()?.first().copied().flatten());
    n.map_or_else(|| "sequences".to_owned(), |n| format!("{n} sequences"))
}

/// `head_scores_long`, the shares of attention for heat maps on one scale, and `head_scores_each`, all scores with intervals.
pub(super) fn tables(rows: &Rows) -> Result<Vec<Rows>> {
    let each = [ATTENTION.as_slice(), MORE.as_slice()].concat();
    Ok(vec![long(rows, &ATTENTION, "head_scores_long")?, long(rows, &each, "head_scores_each")?])
}

fn long(rows: &Rows, scores: &[(&str, &str)], table: &str) -> Result<Rows> {
    let (mut kinds, mut values, mut lo, mut hi) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut kept = Vec::new();
    for (score, name) in scores {
        let own = rows.numbers(score)?;
        // a score that no head has, such as prefix matching in a short context, is left out
        if own.iter().all(Option::is_none) {
            continue;
        }
        let end = |end: &str| Some(format!("{score}_ci_{end}")).filter(|name| rows.column(name).is_ok());
        lo.extend(optional_numbers(rows, &end("lo"))?);
        hi.extend(optional_numbers(rows, &end("hi"))?);
        values.extend(own);
        kinds.extend(vec![(*name).to_owned(); rows.len()]);
        kept.extend(0..rows.len());
    }
    let repeat = |column: &Column| column.take(&kept);
    Ok(Rows {
        name: table.to_owned(),
        columns: vec![
            ("layer".to_owned(), "Layer.".to_owned(), repeat(rows.column("layer")?)),
            ("head".to_owned(), "Head.".to_owned(), repeat(rows.column("head")?)),
            column("kind", "Which score.", &kinds),
            column("score", "The score.", &values),
            column("ci_lo", "Lower end of its 95 % interval.", &lo),
            column("ci_hi", "Upper end of its 95 % interval.", &hi),
        ],
    })
}
