//! Which cells of a picture differ from nothing, by the evidence that its table holds.

use crate::error::Result;
use crate::figure::view::{View, optional_numbers};
use crate::row::Rows;

/// From this corrected p-value down a cell counts.
pub(super) const LEVEL: f64 = 0.05;

/// Whether p-values corrected for the number of cells decide: where the view names them and some row has one. Else intervals do.
pub(super) fn corrected(rows: &Rows, view: &View) -> bool {
    optional_numbers(rows, &view.q).is_ok_and(|q| q.iter().any(Option::is_some))
}

/// Whether each row's value differs from `base`. A row without evidence does not.
pub(super) fn differs(rows: &Rows, view: &View, base: f64) -> Result<Vec<bool>> {
    let q = optional_numbers(rows, &view.q)?;
    if corrected(rows, view) {
        return Ok(q.into_iter().map(|q| q.is_some_and(|q| q <= LEVEL)).collect());
    }
    let (lo, hi) = (optional_numbers(rows, &view.lo)?, optional_numbers(rows, &view.hi)?);
    let excludes =
        |(lo, hi): (Option<f64>, Option<f64>)| lo.is_some_and(|x| x > base) || hi.is_some_and(|x| x < base);
    let both = |&(lo, hi): &(Option<f64>, Option<f64>)| lo.is_some() && hi.is_some();
    Ok(lo.into_iter().zip(hi).map(|ends| both(&ends) && excludes(ends)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Column;

    #[test]
    fn corrected_p_values_decide_where_there_are_any() {
        let column = |name: &str, cells: [Option<f64>; 4]| {
            (name.to_owned(), String::new(), Column::Num(cells.to_vec()))
        };
        let rows = |q: [Option<f64>; 4]| Rows {
            name: "t".into(),
            columns: vec![
                column("lo", [Some(0.1), Some(-0.1), Some(-0.3), None]),
                column("hi", [Some(0.3), Some(0.1), Some(-0.1), Some(-0.1)]),
                column("q", q),
            ],
        };
        let view: View = toml::from_str("kind='heatmap'\nlo='lo'\nhi='hi'\nq='q'").unwrap();
        let by_interval = rows([None; 4]);
        assert!(!corrected(&by_interval, &view));
        assert_eq!(differs(&by_interval, &view, 0.0).unwrap(), [true, false, true, false]);
        assert_eq!(differs(&by_interval, &view, -0.2).unwrap(), [true, true, false, false]);
        let by_q = rows([Some(0.06), Some(0.05), None, Some(f64::NAN)]);
        assert!(corrected(&by_q, &view));
        assert_eq!(differs(&by_q, &view, 0.0).unwrap(), [false, true, false, false]);
    }
}
