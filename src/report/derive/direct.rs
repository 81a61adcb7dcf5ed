//! The direct effects with their total below them: what a waterfall draws.

use crate::error::Result;
use crate::report::story::column;
use crate::row::{Column, Rows};

/// `attribution_sum`: every component, and last the model's own logit difference, which `accumulated` ends with.
pub(super) fn sum(parts: &Rows, accumulated: &Rows) -> Result<Option<Rows>> {
    let Some(last) = accumulated.len().checked_sub(1) else { return Ok(None) };
    let total = accumulated.take(&[last]);
    let ends = |rows: &Rows, value: &str| -> Result<[Vec<Option<f64>>; 3]> {
        Ok([rows.numbers(value)?, rows.numbers("ci_lo")?, rows.numbers("ci_hi")?])
    };
    let [mut direct, mut lo, mut hi] = ends(parts, "direct")?;
    for (column, more) in [&mut direct, &mut lo, &mut hi].into_iter().zip(ends(&total, "logit_diff")?) {
        column.extend(more);
    }
    let mut names = parts.texts("component")?;
    names.push("logit difference".to_owned());
    let level: Vec<bool> = (0..names.len()).map(|i| i + 1 == names.len()).collect();
    let mut n = parts.numbers("n")?;
    n.extend(total.numbers("n")?);
    let n = Column::Int(n.into_iter().map(|n| n.map(|n| n as i64)).collect());
    Ok(Some(Rows {
        name: "attribution_sum".to_owned(),
        columns: vec![
            column("component", "The component; last what all of them add up to.", &names),
            column(
                "direct",
                "Its direct effect (logits); of the last row the model's logit difference.",
                &direct,
            ),
            column("ci_lo", "Lower end of its 95 % interval.", &lo),
            column("ci_hi", "Upper end.", &hi),
            column("total", "Whether it is the total.", &level),
            ("n".to_owned(), "Examples.".to_owned(), n),
        ],
    }))
}
