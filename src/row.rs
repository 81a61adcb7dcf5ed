//! Typed results as plain columns.
//!
//! An analysis returns rows of a struct declared with [`row!`]; [`Rows`] holds them as named columns, each with the
//! sentence that explains it. Tables, figures and reports read `Rows`; only `table.rs` turns them into frames.

use crate::error::{Error, Result};

/// One column: every cell may be missing. NaN and infinities are values, a missing cell is `None`.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Whole numbers: layer, head, position, count.
    Int(Vec<Option<i64>>),
    /// Real numbers.
    Num(Vec<Option<f64>>),
    /// Text: component, site, token. Tokens are hostile text; each writer escapes them.
    Text(Vec<Option<String>>),
    /// Yes or no.
    Bool(Vec<Option<bool>>),
}

impl Column {
    /// How many cells.
    pub fn len(&self) -> usize {
        match self {
            Column::Int(v) => v.len(),
            Column::Num(v) => v.len(),
            Column::Text(v) => v.len(),
            Column::Bool(v) => v.len(),
        }
    }

    /// True when there are no cells.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds another column's cells; false if they are of another kind.
    fn append(&mut self, other: Column) -> bool {
        match (self, other) {
            (Column::Int(own), Column::Int(more)) => own.extend(more),
            (Column::Num(own), Column::Num(more)) => own.extend(more),
            (Column::Text(own), Column::Text(more)) => own.extend(more),
            (Column::Bool(own), Column::Bool(more)) => own.extend(more),
            _ => return false,
        }
        true
    }

    /// The cells at `keep`, in that order. Indices outside the column are left out.
    pub fn take(&self, keep: &[usize]) -> Column {
        fn pick<T: Clone>(v: &[Option<T>], keep: &[usize]) -> Vec<Option<T>> {
            keep.iter().filter_map(|&i| v.get(i).cloned()).collect()
        }
        match self {
            Column::Int(v) => Column::Int(pick(v, keep)),
            Column::Num(v) => Column::Num(pick(v, keep)),
            Column::Text(v) => Column::Text(pick(v, keep)),
            Column::Bool(v) => Column::Bool(pick(v, keep)),
        }
    }
}

/// A table as plain columns: what analyses return and what figures and files are made from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// The table's name, which is its file name: `patch_head`.
    pub name: String,
    /// Column name, what it means, and the cells; all of one length.
    pub columns: Vec<(String, String, Column)>,
}

impl Rows {
    /// A table of typed rows.
    pub fn of<R: Row>(name: impl Into<String>, rows: &[R]) -> Rows {
        Rows { name: name.into(), columns: R::columns(rows) }
    }

    /// Adds another table's rows below. Its columns must be the same, in any order.
    pub fn append(&mut self, other: Rows) -> Result<()> {
        let differ = |name: &str| {
            Error::input(
                format!("two tables `{}` cannot be joined: their columns `{name}` differ", other.name),
                "only tables of one kind can stand below each other",
            )
        };
        let mut more: Vec<(String, Column)> =
            other.columns.iter().map(|(n, _, c)| (n.clone(), c.clone())).collect();
        if let Some((name, _)) = more.iter().find(|(name, _)| self.column(name).is_err()) {
            return Err(differ(name));
        }
        for (name, _, column) in &mut self.columns {
            let place = more.iter().position(|(known, _)| known == name).ok_or_else(|| differ(name))?;
            if !column.append(more.swap_remove(place).1) {
                return Err(differ(name));
            }
        }
        Ok(())
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.columns.first().map_or(0, |(_, _, column)| column.len())
    }

    /// True when the table has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The named column, or an error that lists the columns there are.
    pub fn column(&self, name: &str) -> Result<&Column> {
        let found = self.columns.iter().find(|(n, _, _)| n == name);
        let names = || self.columns.iter().map(|(n, _, _)| n.as_str());
        found.map(|(_, _, column)| column).ok_or_else(|| Error::unknown("column", name, names()))
    }

    /// A column as real numbers; integers and booleans are converted, missing cells stay missing.
    pub fn numbers(&self, name: &str) -> Result<Vec<Option<f64>>> {
        Ok(match self.column(name)? {
            Column::Int(v) => v.iter().map(|x| x.map(|x| x as f64)).collect(),
            Column::Num(v) => v.clone(),
            Column::Bool(v) => v.iter().map(|x| x.map(|x| f64::from(u8::from(x)))).collect(),
            // a column without a cell has no type: read from CSV it counts as text
            Column::Text(v) if v.iter().all(Option::is_none) => vec![None; v.len()],
            Column::Text(_) => {
                return Err(Error::input(
                    format!("column `{name}` of `{}` holds text, not numbers", self.name),
                    "choose a numeric column",
                ));
            }
        })
    }

    /// A column as text: numbers are written plainly, missing cells are empty.
    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        fn show<T: ToString>(v: &[Option<T>]) -> Vec<String> {
            v.iter().map(|x| x.as_ref().map(T::to_string).unwrap_or_default()).collect()
        }
        Ok(match self.column(name)? {
            Column::Int(v) => show(v),
            Column::Num(v) => show(v),
            Column::Text(v) => show(v),
            Column::Bool(v) => show(v),
        })
    }

    /// The rows for which `keep` says yes, in order; `keep` is given the row number.
    pub fn filter(&self, keep: impl Fn(usize) -> bool) -> Rows {
        let kept: Vec<usize> = (0..self.len()).filter(|&i| keep(i)).collect();
        self.take(&kept)
    }

    /// The rows where the text of `column` equals `value`.
    pub fn only(&self, column: &str, value: &str) -> Result<Rows> {
        let texts = self.texts(column)?;
        Ok(self.filter(|i| texts[i] == value))
    }

    /// The rows at these places, in this order.
    pub fn take(&self, rows: &[usize]) -> Rows {
        let columns =
            self.columns.iter().map(|(n, d, column)| (n.clone(), d.clone(), column.take(rows))).collect();
        Rows { name: self.name.clone(), columns }
    }
}

/// A struct whose fields are a table's columns; declared with [`row!`].
pub trait Row: Sized {
    /// Column name, meaning and cells of these rows.
    fn columns(rows: &[Self]) -> Vec<(String, String, Column)>;
}

/// A value that can stand in a cell.
pub trait Cell {
    /// A column of such values.
    fn column<'a>(cells: impl Iterator<Item = &'a Self>) -> Column
    where
        Self: 'a;
}

macro_rules! cells {
    ($($t:ty => $variant:ident, |$x:ident| $value:expr;)*) => { $(
        impl Cell for $t {
            fn column<'a>(cells: impl Iterator<Item = &'a Self>) -> Column {
                Column::$variant(cells.map(|$x| Some($value)).collect())
            }
        }
        impl Cell for Option<$t> {
            fn column<'a>(cells: impl Iterator<Item = &'a Self>) -> Column {
                Column::$variant(cells.map(|x| x.as_ref().map(|$x| $value)).collect())
            }
        }
    )* };
}

cells! {
    f64 => Num, |x| *x;
    f32 => Num, |x| f64::from(*x);
    usize => Int, |x| *x as i64;
    u32 => Int, |x| i64::from(*x);
    i64 => Int, |x| *x;
    bool => Bool, |x| *x;
    String => Text, |x| x.clone();
}

/// Declares a row: a struct whose documented fields are the columns, in order.
///
/// ```
/// glassbox::row! {
///     /// One reading.
///     pub struct Reading {
///         /// Block whose output was read.
///         pub layer: usize,
///         /// Logit of the answer minus logit of the foil.
///         pub logit_diff: f64,
///     }
/// }
/// let rows = glassbox::row::Rows::of("readings", &[Reading { layer: 0, logit_diff: 1.5 }]);
/// assert_eq!(rows.numbers("logit_diff").unwrap(), [Some(1.5)]);
/// ```
#[macro_export]
macro_rules! row {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[doc = $doc:literal])* pub $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $($(#[doc = $doc])* pub $field: $ty,)* }
        impl $crate::row::Row for $name {
            fn columns(rows: &[Self]) -> Vec<(String, String, $crate::row::Column)> {
                vec![$((
                    stringify!($field).to_owned(),
                    concat!($($doc),*).trim().to_owned(),
                    <$ty as $crate::row::Cell>::column(rows.iter().map(|row| &row.$field)),
                )),*]
            }
        }
    };
}
