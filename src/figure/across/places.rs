//! Where rows lie across a plot of lines.

use crate::error::{Error, Result};
use crate::figure::font;
use crate::figure::ticks;
use crate::figure::view::{View, categories};
use crate::row::{Column, Rows};

/// Where rows lie across, and how that is to be shown.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Each row's place: a number, or the place of a text among all texts; NaN for none.
    pub at: Vec<f64>,
    /// Logarithmic where that can be.
    pub log: bool,
    /// Numbers are shares, written as per cent.
    pub percent: bool,
    /// Names of places 0, 1, …, where the column holds text.
    pub names: Option<Vec<String>>,
    /// The column, in words.
    pub column: String,
    /// Words below the axis.
    pub words: String,
}

impl Places {
    /// Reads the view's `x`; `words` stand below the axis where the view has none, and without them the column's name.
    pub fn read(rows: &Rows, view: &View, words: &str) -> Result<Places> {
        let x = view.need("x", &view.x)?;
        let column = x.replace('_', " ");
        let given = [view.x_label.as_str(), words].into_iter().find(|words| !words.is_empty());
        let words = given.unwrap_or(&column).to_owned();
        if matches!(rows.column(x)?, Column::Text(_)) {
            let (names, places) = categories(rows, x)?;
            let at = places.into_iter().map(|p| p as f64).collect();
            return Ok(Places { at, names: Some(names), column, words, ..Places::default() });
        }
        let at: Vec<f64> = rows.numbers(x)?.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect();
        if let Some(negative) = at.iter().find(|v| view.log_x && **v < 0.0) {
            let what = format!("a logarithmic axis has no place for {negative}, which column `{x}` holds");
            return Err(Error::input(what, "leave out `log_x`, or keep the rows that are not negative"));
        }
        Ok(Places { at, log: view.log_x, column, words, ..Places::default() })
    }

    /// Whether values span so much that only a logarithmic axis shows the small ones.
    pub fn decades(&self) -> bool {
        if self.at.iter().any(|v| *v < 0.0) {
            return false;
        }
        let positive = self.at.iter().filter(|v| v.is_finite() && **v > 0.0);
        let (least, most) = positive.fold((f64::INFINITY, 0.0f64), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
        most >= 10.0 * least
    }

    /// A place in words.
    pub fn name(&self, at: f64) -> String {
        match &self.names {
            Some(names) => names.get(at as usize).map_or_else(String::new, |name| font::visible(name)),
            None => format!("{} {}", font::visible(&self.column), ticks::exact(at)),
        }
    }
}

/// Names of places along the residual stream as depths in blocks, when all of them are such names in order: `0_pre` is 0,
/// `0_mid` (after the first block's attention) one half, `0_post` is 1, `final_post` lies one after the last block.
pub fn depths(names: &[String]) -> Option<Vec<f64>> {
    let mut depths: Vec<f64> = Vec::new();
    for name in names {
        let (block, place) = name.split_once('_')?;
        let after = match place {
            "pre" => 0.0,
            "mid" => 0.5,
            "post" => 1.0,
            _ => return None,
        };
        let last = depths.last().copied();
        let depth = match block {
            "final" => last.map_or(1.0, |d: f64| d.floor() + 1.0),
            _ => block.parse::<u32>().ok().map(f64::from)? + after,
        };
        if last.is_some_and(|last| depth <= last) {
            return None;
        }
        depths.push(depth);
    }
    Some(depths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decades_ask_for_logarithms() {
        let decades = |at: &[f64]| Places { at: at.to_vec(), ..Places::default() }.decades();
        assert!(decades(&[0.0, 1.0, 10.0]) && !decades(&[1.0, 9.0]) && !decades(&[]));
    }

    #[test]
    fn names_along_the_stream_are_depths() {
        let read = |names: &[&str]| depths(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            read(&["0_pre", "0_mid", "1_pre", "1_mid", "final_post"]),
            Some(vec![0.0, 0.5, 1.0, 1.5, 2.0])
        );
        assert_eq!(read(&["0_pre", "0_post", "1_post"]), Some(vec![0.0, 1.0, 2.0]));
        assert!(read(&["1_pre", "0_pre"]).is_none() && read(&["0_pre", "the"]).is_none());
    }
}
