//! The bars of a waterfall: a running sum that ends exactly where the parts do.

use crate::error::{Error, Result};
use crate::figure::font;
use crate::figure::view::{Sort, View, optional_marks, optional_numbers, optional_texts};
use crate::row::Rows;

/// Parts drawn one by one when the view does not say.
const KEPT: usize = 16;
/// A stated total further from the sum than this share of the largest bar gets a bar for what is missing.
const ROUNDING: f64 = 1e-3;

/// What a bar stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A part of the sum.
    Part,
    /// All the parts without a bar of their own, or what a stated total has beyond the sum.
    Others,
    /// A level: stands on zero.
    Level,
}

/// One bar, from the running sum before it to the one after.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// A few words after the name.
    pub words: String,
    /// What it stands for.
    pub role: Role,
    /// The running sum before it.
    pub from: f64,
    /// The sum after it, NaN where a part has no value: the sum goes on without it.
    pub to: f64,
    /// The interval, where the bar ends.
    pub interval: Option<[f64; 2]>,
}

impl Step {
    /// What it adds; of a level, where it stands.
    pub fn value(&self) -> f64 {
        self.to - self.from
    }

    /// The running sum after it.
    pub fn end(&self) -> f64 {
        if self.to.is_nan() { self.from } else { self.to }
    }
}

/// The bars of a table: a start where it gives one, its parts, at most `most`, one bar for the parts left out, the total.
pub fn steps(rows: &Rows, view: &View, most: usize) -> Result<Vec<Step>> {
    let names = rows.texts(view.need("label", &view.label)?)?;
    let values = rows.numbers(view.need("value", &view.value)?)?;
    let (lo, hi) = (optional_numbers(rows, &view.lo)?, optional_numbers(rows, &view.hi)?);
    let words = optional_texts(rows, &view.role)?;
    let levels = optional_marks(rows, &view.mark)?;
    let value = |i: usize| values[i].filter(|v| v.is_finite());
    let step = |i: usize, role: Role, from: f64| {
        let base = if role == Role::Level { 0.0 } else { from };
        let to = value(i).map_or(f64::NAN, |v| base + v);
        let finite = |v: Option<f64>| v.filter(|v| v.is_finite());
        let interval = finite(lo[i]).zip(finite(hi[i])).map(|(lo, hi)| [base + lo, base + hi]);
        let words = words.as_ref().map_or_else(String::new, |w| font::visible(&w[i]));
        Step { name: font::visible(&names[i]), words, role, from: base, to, interval }
    };

    let last = rows.len().saturating_sub(1);
    let start = levels.first().copied().unwrap_or(false).then_some(0);
    let total = (last > 0 && levels[last]).then_some(last);
    let parts: Vec<usize> = (0..rows.len()).filter(|i| Some(*i) != start && Some(*i) != total).collect();
    if let Some(i) = parts.iter().find(|i| levels[**i]) {
        return Err(Error::input(
            format!("row {} of `{}`, {}, is marked as a level between parts", i + 1, rows.name, names[*i]),
            "only the first row (the start) and the last (the total) may be levels",
        ));
    }
    let (kept, left_out) = chosen(&parts, &values, view, most);

    let mut steps: Vec<Step> = start.iter().map(|i| step(*i, Role::Level, 0.0)).collect();
    let mut sum = steps.first().map_or(0.0, Step::end);
    for i in kept {
        steps.push(step(i, Role::Part, sum));
        sum = steps.last().map_or(sum, Step::end);
    }
    let mut more = |name: String, from: f64, by: f64| {
        let to = from + by;
        steps.push(Step { name, words: String::new(), role: Role::Others, from, to, interval: None });
        to
    };
    let unknown = left_out.iter().filter(|i| value(**i).is_none()).count();
    let others = left_out.len() - unknown;
    if others > 0 {
        let by: f64 = left_out.iter().filter_map(|i| value(*i)).sum();
        sum = more(format!("{others} other{}", if others == 1 { "" } else { "s" }), sum, by);
    }
    if unknown > 0 {
        more(format!("{unknown} without a value"), sum, f64::NAN);
    }
    let largest = parts.iter().filter_map(|i| value(*i)).fold(sum.abs(), |m, v| m.max(v.abs()));
    match total.and_then(|i| Some((i, value(i)?))) {
        Some((i, stated)) => {
            if (stated - sum).abs() > ROUNDING * largest.max(stated.abs()) {
                more("not in these parts".to_owned(), sum, stated - sum);
            }
            steps.push(step(i, Role::Level, 0.0));
        }
        None => {
            let name =
                if view.y_label.is_empty() { "total".to_owned() } else { font::visible(&view.y_label) };
            let (words, interval) = (String::new(), None);
            let none = sum == 0.0 && !values.iter().flatten().any(|v| v.is_finite());
            let to = if none { f64::NAN } else { sum };
            steps.push(Step { name, words, role: Role::Level, from: 0.0, to, interval });
        }
    }
    Ok(steps)
}

/// The parts with a bar of their own, in drawing order, and those that share one.
fn chosen(parts: &[usize], values: &[Option<f64>], view: &View, most: usize) -> (Vec<usize>, Vec<usize>) {
    let number = |i: usize| values[i].filter(|v| v.is_finite());
    let size = |i: &usize| number(*i).map_or(-1.0, f64::abs);
    let mut by_size = parts.to_vec();
    by_size.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
    let most = view.top.unwrap_or(KEPT).clamp(1, most.max(1));
    // a bar for one other part takes the room of the part itself
    let most = if parts.len() == most + 1 { parts.len() } else { most.min(parts.len()) };
    let mut left_out = by_size.split_off(most);
    left_out.sort_unstable();
    let mut kept = by_size;
    match view.sort {
        Sort::Value => kept.sort_by(|a, b| {
            let value = |i: usize| number(i).unwrap_or(f64::NEG_INFINITY);
            value(*b).total_cmp(&value(*a)).then(a.cmp(b))
        }),
        Sort::Size => {}
        Sort::Table => kept.sort_unstable(),
    }
    (kept, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Column;

    fn table(values: &[Option<f64>], levels: &[bool]) -> Rows {
        let names = (0..values.len()).map(|i| Some(format!("part {i}"))).collect();
        let column = |name: &str, cells| (name.to_owned(), String::new(), cells);
        let levels = levels.iter().map(|v| Some(*v)).collect();
        Rows {
            name: "t".into(),
            columns: vec![
                column("name", Column::Text(names)),
                column("v", Column::Num(values.to_vec())),
                column("level", Column::Bool(levels)),
            ],
        }
    }

    fn of(rows: &Rows, more: &str) -> Result<Vec<Step>> {
        steps(rows, &toml::from_str(&format!("label='name'\nvalue='v'\n{more}")).unwrap(), 99)
    }

    #[test]
    fn the_last_bar_is_the_sum_of_the_table() {
        let values: Vec<Option<f64>> = (0..200).map(|i| Some((f64::from(i) * 0.7).sin() * 3.0)).collect();
        let sum: f64 = values.iter().flatten().sum();
        for more in ["", "top=3", "top=199\nsort='size'", "top=5\nsort='table'", "top=1000"] {
            let steps = of(&table(&values, &[false; 200]), more).unwrap();
            let [.., before, total] = steps.as_slice() else { panic!() };
            assert!((total.to - sum).abs() < 1e-9 && (before.end() - sum).abs() < 1e-9, "{more}");
            assert!(steps.windows(2).all(|w| w[1].role == Role::Level || w[1].from == w[0].end()));
        }
        let short = of(&table(&values, &[false; 200]), "top=3").unwrap();
        assert_eq!((short.len(), short[3].name.as_str()), (5, "197 others"));
    }

    #[test]
    fn levels_start_and_end_the_sum_and_what_is_missing_is_told() {
        let rows = table(&[Some(1.0), Some(2.0), None, Some(4.0)], &[true, false, false, true]);
        let steps = of(&rows, "mark='level'").unwrap();
        let names: Vec<&str> = steps.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["part 0", "part 1", "part 2", "not in these parts", "part 3"]);
        assert_eq!((steps[1].from, steps[1].to, steps[3].from, steps[3].to), (1.0, 3.0, 3.0, 4.0));
        let between = table(&[Some(1.0), Some(2.0), Some(3.0)], &[false, true, false]);
        assert!(of(&between, "mark='level'").unwrap_err().to_string().contains("part 1"));
    }
}
