//! How a value is shown to a person: hostile text made visible, numbers with sensible digits.
//!
//! Tokens may hold anything: terminal escapes, marks that turn the line around, line ends, nothing at all. What a
//! person reads never holds a character that acts on the screen; files for machines (CSV, Parquet, JSON) keep the
//! token as it is. Escaping for HTML is the page's own business and comes after this.

use crate::row::Column;
use std::fmt::Write;
use unicode_width::UnicodeWidthChar;

/// The text with every character that acts instead of showing replaced by a sign for it.
///
/// Line ends and tabs become `↵` and `→`, other controls their byte (`<0x1B>`), marks of direction and zero
/// width their code point (`<U+202E>`). Spaces inside stay; those at either end become `␣`. An empty text is `∅`, so that it cannot be
/// taken for a missing one.
pub fn visible(text: &str) -> String {
    if text.is_empty() {
        return "∅".to_owned();
    }
    let inner = text.trim_matches(' ');
    let lead = text.len() - text.trim_start_matches(' ').len();
    let trail = text.len() - inner.len() - lead.min(text.len() - inner.len());
    let mut out = "␣".repeat(lead);
    for (i, c) in inner.chars().enumerate() {
        match c {
            '\n' => out.push('↵'),
            '\t' => out.push('→'),
            '\u{0}'..='\u{1f}' | '\u{7f}' => write!(out, "<0x{:02X}>", c as u32).unwrap_or_default(),
            c if acts(c) => write!(out, "<U+{:04X}>", c as u32).unwrap_or_default(),
            c => {
                if i == 0 && c.width() == Some(0) {
                    out.push('◌'); // a lone accent needs something to stand on
                }
                out.push(c);
            }
        }
    }
    out + &"␣".repeat(trail)
}

/// Text of several lines with nothing in it that acts on the screen: as [`visible`], but line ends and spaces stay.
pub fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            c if c.is_control() || acts(c) => out += &visible(c.encode_utf8(&mut [0; 4])),
            c => out.push(c),
        }
    }
    out
}

/// Characters that are not seen but change how others are: C1 controls, direction, zero width, line separators, tags.
fn acts(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' | '\u{fffe}' | '\u{ffff}')
        || c != ' ' && c != '\u{3000}' && c.is_whitespace() && !c.is_ascii()
}

/// The cells of a column as a person reads them; missing cells are empty.
///
/// Real numbers of one column share their decimals, three or four digits of the largest, so that they line up; one too
/// small to show that way is written with an exponent rather than as zero.
pub fn column(column: &Column) -> Vec<String> {
    fn each<T>(cells: &[Option<T>], show: impl Fn(&T) -> String) -> Vec<String> {
        cells.iter().map(|cell| cell.as_ref().map(&show).unwrap_or_default()).collect()
    }
    match column {
        Column::Int(cells) => each(cells, i64::to_string),
        Column::Bool(cells) => each(cells, |&yes| if yes { "yes" } else { "no" }.to_owned()),
        Column::Text(cells) => each(cells, |text| visible(text)),
        Column::Num(cells) => {
            if of_unlike_size(cells) {
                return each(cells, |&x| number(x));
            }
            let decimals = decimals(cells.iter().flatten().copied());
            each(cells, |&x| fixed(x, decimals))
        }
    }
}

/// Whether a column holds ranks beside shares: numbers in the hundreds and below one, which no decimals serve together.
fn of_unlike_size(cells: &[Option<f64>]) -> bool {
    let sizes = || cells.iter().flatten().map(|x| x.abs()).filter(|x| x.is_finite() && *x > 0.0);
    sizes().any(|x| x >= 100.0) && sizes().any(|x| x < 1.0)
}

/// One number by itself, with three or four digits.
pub fn number(x: f64) -> String {
    fixed(x, decimals([x].into_iter()))
}

/// How many decimals show the largest of these numbers with three or four digits; `None` when only an exponent will do.
fn decimals(numbers: impl Iterator<Item = f64>) -> Option<usize> {
    let largest = numbers.filter(|x| x.is_finite()).fold(0.0_f64, |most, x| most.max(x.abs()));
    match largest {
        0.0 => Some(0),
        x if !(1e-4..1e7).contains(&x) => None,
        x if x >= 10.0 => Some((3 - x.log10().floor() as i64).max(0) as usize),
        x => Some((2 - x.log10().floor() as i64) as usize),
    }
}

fn fixed(x: f64, decimals: Option<usize>) -> String {
    match decimals {
        _ if x.is_nan() => "NaN".to_owned(),
        _ if x.is_infinite() => if x > 0.0 { "inf" } else { "-inf" }.to_owned(),
        _ if x == 0.0 => format!("{:.*}", decimals.unwrap_or(0), 0.0),
        Some(decimals) if x.abs() >= 0.5 * 0.1_f64.powi(decimals as i32) => format!("{x:.decimals$}"),
        _ => format!("{x:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_becomes_visible() {
        for (token, shown) in [
            (" Mary", "␣Mary"),
            ("a b", "a b"),
            ("  ", "␣␣"),
            (" a ", "␣a␣"),
            ("", "∅"),
            ("\n\n", "↵↵"),
            ("\r\t", "<0x0D>→"),
            ("\u{1b}[31mred", "<0x1B>[31mred"),
            ("\u{202e}evil", "<U+202E>evil"),
            ("\u{301}", "◌\u{301}"),
            ("\u{9b}2J", "<U+009B>2J"),
            ("\u{feff}\u{200b}", "<U+FEFF><U+200B>"),
            ("\u{a0}", "<U+00A0>"),
            ("<0xE2>", "<0xE2>"),
            ("\u{fffd}", "\u{fffd}"),
            ("שלום", "שלום"),
        ] {
            assert_eq!(visible(token), shown, "{token:?}");
        }
        let all: String = (0..=0x10_ffff).filter_map(char::from_u32).collect();
        assert!(!visible(&all).chars().any(char::is_control));
        assert!(!inert(&all).chars().any(|c| c != '\n' && (c.is_control() || acts(c))));
        assert_eq!(inert("  hint: a\u{1b}[2J\n\u{9b}b\t"), "  hint: a<0x1B>[2J\n<U+009B>b→");
    }

    #[test]
    fn numbers_of_a_column_line_up() {
        let show = |v: &[f64]| column(&Column::Num(v.iter().map(|&x| Some(x)).collect()));
        assert_eq!(show(&[2.7354, -0.02, 0.0]), ["2.74", "-0.02", "0.00"]);
        assert_eq!(show(&[0.931, 1e-9]), ["0.931", "1.0e-9"]);
        assert_eq!(show(&[12345.6, 2.0]), ["12346", "2"]);
        assert_eq!(show(&[1e-8, f64::NAN, f64::NEG_INFINITY]), ["1.0e-8", "NaN", "-inf"]);
        assert_eq!(show(&[0.0, -0.0]), ["0", "0"]);
        assert_eq!(number(0.0625), "0.0625");
        assert_eq!(column(&Column::Bool(vec![Some(true), None])), ["yes", ""]);
    }
}
