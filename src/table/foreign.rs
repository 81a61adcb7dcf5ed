//! Tables that other programs and people made: what keeps one from being read, in sentences, before it is read.

use super::Format;
use crate::error::{Error, Result};
use csv_core::{ReadFieldResult, Reader, ReaderBuilder};
use std::collections::BTreeMap;

/// A table that cannot be read: why, and what to do about it.
pub(super) fn refused(name: &str, format: Format, why: &str, hint: &str) -> Error {
    Error::input(format!("the table `{name}` cannot be read as {format}: {why}"), hint)
}

/// Refuses a CSV that is not UTF-8, is separated by other things than commas, has no names of columns in its first line or one
/// name twice, or has a row of more or fewer cells than that line. Empty lines are no rows.
pub(super) fn csv(name: &str, bytes: &[u8]) -> Result<()> {
    let refuse = |why: String, hint: &str| Err(refused(name, Format::Csv, &why, hint));
    if let Err(e) = std::str::from_utf8(bytes) {
        let good = String::from_utf8_lossy(bytes.get(..e.valid_up_to()).unwrap_or_default());
        let mut last: Vec<char> = good.chars().rev().take_while(|c| *c != '\n').take(20).collect();
        last.reverse();
        let after = last.into_iter().collect::<String>();
        let after = if after.is_empty() { String::new() } else { format!(" after {after:?}") };
        let why = format!("line {} is not UTF-8{after}", line(bytes, e.valid_up_to()));
        return refuse(why, "save the file as UTF-8 (in spreadsheets: \"CSV UTF-8\")");
    }
    let names = header(bytes, b',');
    for (separator, word) in [(b';', "semicolons"), (b'\t', "tabs")] {
        if names.len() == 1 && header(bytes, separator).len() > 1 {
            let hint = "save it with commas between cells, and points in numbers";
            return refuse(format!("its cells are separated by {word}"), hint);
        }
    }
    if are_numbers(&names) {
        let hint = "write a first line that names the columns: layer,head,effect";
        return refuse(format!("the first line holds numbers, not names: {}", names.join(",")), hint);
    }
    distinct(name, Format::Csv, names.iter().map(String::as_str))?;

    let (mut reader, mut rest) = (Reader::new(), bytes);
    row(&mut reader, &mut rest, |_| ());
    loop {
        let start = bytes.len() - rest.len();
        match row(&mut reader, &mut rest, |_| ()) {
            0 => return Ok(()),
            cells if cells == names.len() => {}
            cells => {
                let gap = bytes.iter().skip(start).take_while(|byte| b"\r\n".contains(byte)).count();
                let (line, s) = (line(bytes, start + gap), if cells == 1 { "" } else { "s" });
                let hint = if cells > names.len() {
                    "texts with commas, quotes or line breaks go in double quotes"
                } else {
                    "write a missing cell as an empty one (`0,,1`); if this is the last row, the file is cut short"
                };
                let why =
                    format!("line {line} has {cells} cell{s} where the first line names {}", names.len());
                return refuse(why, hint);
            }
        }
    }
}

/// Refuses what does not begin and end as Parquet does.
pub(super) fn parquet(name: &str, bytes: &[u8]) -> Result<()> {
    const MAGIC: &[u8] = b"PAR1";
    let (why, hint) = match (bytes.starts_with(MAGIC), bytes.ends_with(MAGIC)) {
        (true, true) => return Ok(()),
        (true, false) => ("its end is missing: the file is cut short", "copy it or write it again"),
        (false, _) if bytes.is_empty() => ("it is empty", "write it again"),
        (false, _) => {
            ("it is no Parquet file", "if it is CSV, let its name end in .csv; else write it again")
        }
    };
    Err(refused(name, Format::Parquet, why, hint))
}

/// Refuses names that several columns have.
pub(super) fn distinct<'a>(name: &str, format: Format, columns: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, column) in columns.enumerate() {
        places.entry(column).or_default().push(i + 1);
    }
    let twice = places.into_iter().filter(|(_, places)| places.len() > 1);
    let Some((column, places)) = twice.min_by_key(|(_, places)| places.first().copied()) else {
        return Ok(());
    };
    let all: Vec<String> = places.iter().map(ToString::to_string).collect();
    let (last, others) = all.split_last().map_or(("", Vec::new()), |(last, others)| (last, others.to_vec()));
    let places = format!("the columns {} and {last}", others.join(", "));
    let (why, hint) = match (column, all.len()) {
        ("", _) => (format!("{places} have no name"), "name them, or leave them out"),
        (_, 2) => (format!("{places} are both named `{column}`"), "give each column a name of its own"),
        (..) => (format!("{places} are all named `{column}`"), "give each column a name of its own"),
    };
    Err(refused(name, format, &why, hint))
}

/// Whether a first line is no names but a row of numbers. Whole numbers one after the other are how pandas names columns that
/// have no names.
fn are_numbers(names: &[String]) -> bool {
    let all: Option<Vec<f64>> = names.iter().map(|name| name.trim().parse().ok()).collect();
    let Some(all) = all else { return false };
    let counted = all.windows(2).all(|two| matches!(two, [a, b] if *b == a + 1.0));
    !(counted && all.iter().all(|x| x.fract() == 0.0))
}

/// The cells of the first line that is not empty.
fn header(bytes: &[u8], separator: u8) -> Vec<String> {
    let (mut reader, mut rest, mut names) =
        (ReaderBuilder::new().delimiter(separator).build(), bytes, vec![]);
    row(&mut reader, &mut rest, |cell| names.push(String::from_utf8_lossy(cell).into_owned()));
    names
}

/// Reads one row off the rest of a file and gives the number of its cells: 0 at the end.
fn row(reader: &mut Reader, rest: &mut &[u8], mut each: impl FnMut(&[u8])) -> usize {
    let (mut count, mut piece, mut cell) = (0, [0; 1024], Vec::new());
    loop {
        let (state, read, written) = reader.read_field(rest, &mut piece);
        *rest = rest.get(read..).unwrap_or_default();
        cell.extend_from_slice(piece.get(..written).unwrap_or_default());
        match state {
            // asked again with nothing left, the reader gives the last cell of a file without a line break at its end
            ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull => {}
            ReadFieldResult::Field { record_end } => {
                count += 1;
                each(&cell);
                cell.clear();
                if record_end {
                    return count;
                }
            }
            ReadFieldResult::End => return count,
        }
    }
}

/// The number of the line, from 1, in which a byte stands.
fn line(bytes: &[u8], at: usize) -> usize {
    1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    #[test]
    fn what_is_wrong_with_a_csv_is_said_with_its_place() {
        let cases: &[(&[u8], &[&str])] = &[
            (
                b"layer,head,effect,effect\n0,0,1,2\n",
                &["the columns 3 and 4 are both named `effect`", "name of its own"],
            ),
            (b"a,b,a,b,a\n1,2,3,4,5\n", &["the columns 1, 3 and 5 are all named `a`"]),
            (b"a,b,,\n1,2,3,4\n", &["the columns 3 and 4 have no name"]),
            (
                b"0,0,0.5\n0,1,0.25\n",
                &["holds numbers, not names: 0,0,0.5", "first line that names the columns"],
            ),
            (b"0,0.5\n", &["holds numbers, not names: 0,0.5"]),
            (b"layer;head;effect\n0;0;0,5\n", &["separated by semicolons", "save it with commas"]),
            (b"\"layer\"\t\"effect\"\n0\t0.5\n", &["separated by tabs", "save it with commas"]),
            (b"a,b\n1,2\ncaf\xe9,3\n", &["line 3 is not UTF-8 after \"caf\"", "save the file as UTF-8"]),
            (b"\xff\xfea\0,\0b\0\n\0", &["line 1 is not UTF-8\n", "save the file as UTF-8"]),
            (
                b"a,b,c\n1,2,3\n\n1,2,3,4\n",
                &["line 4 has 4 cells where the first line names 3", "double quotes"],
            ),
            (b"a,b,c\r\n\"x\r\ny\",2,3\r\n4\r\n", &["line 4 has 1 cell where the first line names 3"]),
            (b"a,b,c\n1,2,3\n4,5", &["line 3 has 2 cells where the first line names 3", "cut short"]),
            (b"a,b\n1,2\n\"3,4\n5,6\n", &["line 3 has 1 cell where the first line names 2", "cut short"]),
        ];
        for (bytes, expected) in cases {
            let said = read("t", bytes, Format::Csv).unwrap_err().to_string();
            assert!(said.starts_with("the table `t` cannot be read as csv: "), "{said}");
            for words in *expected {
                assert!(said.contains(words), "{words}: {said}");
            }
        }
    }

    #[test]
    fn what_is_well_formed_is_left_alone() {
        let cases: &[(&[u8], usize, usize)] = &[
            (b"\xef\xbb\xbfa,b\r\n1,2\r\n", 2, 1),
            (b"a\n1\n\n3\n", 1, 3), // the empty line is a missing cell of the only column
            (b",0,1,2\n0,1,2,3\n", 4, 1), // as pandas writes a frame whose columns have no names
            (b"0,1,2\n5,6,7\n", 3, 1),
            (b"\"a;b\"\n1\n", 1, 1),
            (b"a,b\n\"x, \"\"y\"\"\nz\",2\n", 2, 1),
        ];
        for (bytes, columns, rows) in cases {
            let read = read("t", bytes, Format::Csv).unwrap();
            assert_eq!((read.columns.len(), read.len()), (*columns, *rows), "{:?}", read.columns);
        }
    }

    #[test]
    fn what_is_wrong_with_a_parquet_is_said_in_our_words() {
        let column =
            |name: &str| (name.to_owned(), String::new(), crate::row::Column::Num(vec![Some(0.5), None]));
        let rows = crate::row::Rows { name: "t".into(), columns: vec![column("effect"), column("effecs")] };
        let whole = super::super::write(&rows, Format::Parquet).unwrap();
        let said = |bytes: &[u8]| read("t", bytes, Format::Parquet).unwrap_err().to_string();
        assert!(said(&whole[..whole.len() - 9]).contains("its end is missing: the file is cut short"));
        assert!(said(b"layer,head\n").contains("it is no Parquet file\n  hint: if it is CSV"));
        assert!(said(b"").contains("it is empty"));

        // names stand in the file as they are: as many letters, so that all else stays in its place
        let mut twice = whole.clone();
        let places: Vec<usize> =
            (0..twice.len() - 6).filter(|i| twice[*i..].starts_with(b"effecs")).collect();
        places.iter().for_each(|i| twice[i + 5] = b't');
        assert!(said(&twice).contains("the columns 1 and 2 are both named `effect`"), "{}", said(&twice));

        let mut broken = whole;
        let end = broken.len() - 8;
        broken[end - 40..end].fill(0xff);
        let said = said(&broken);
        assert!(said.contains("cannot be read as parquet: its contents are damaged"), "{said}");
    }
}
