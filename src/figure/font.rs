//! The embedded typeface: what is measured is what is drawn, and no system font is read.
//!
//! Tokens are hostile text. [`visible`] shows control and direction marks as signs, so that no text can break a line,
//! reverse its neighbours or hide; escaping for a format is the writer's work.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use ttf_parser::Face;

/// DejaVu Sans.
pub const REGULAR: &[u8] = include_bytes!("../../assets/fonts/DejaVuSans.ttf");
/// DejaVu Sans Bold.
pub const BOLD: &[u8] = include_bytes!("../../assets/fonts/DejaVuSans-Bold.ttf");
/// The family name inside the embedded files.
pub const FAMILY: &str = "DejaVu Sans";
/// Height of capital letters, in ems: half of it below a middle line puts the baseline.
pub const CAP: f64 = 0.729;

/// More characters than any figure can show are not even measured.
const LONGEST: usize = 400;

/// The glyph of a character and how far it advances, in ems; none where the typeface lacks it.
pub fn glyph(c: char, bold: bool) -> Option<(u16, f64)> {
    static FACES: OnceLock<[Option<Face<'static>>; 2]> = OnceLock::new();
    let faces = FACES.get_or_init(|| [Face::parse(REGULAR, 0).ok(), Face::parse(BOLD, 0).ok()]);
    let face = faces[usize::from(bold)].as_ref()?;
    let glyph = face.glyph_index(c)?;
    Some((glyph.0, f64::from(face.glyph_hor_advance(glyph)?) / f64::from(face.units_per_em())))
}

/// Width in points of `text` at `size` points.
pub fn width(text: &str, size: f64, bold: bool) -> f64 {
    // What the typeface lacks is drawn as its code point: see `visible`.
    let em = |c: char| glyph(c, bold).map_or(1.0, |(_, advance)| advance);
    text.chars().take(LONGEST).map(em).sum::<f64>() * size
}

/// Width of the widest of several texts.
pub fn widest<'a>(texts: impl IntoIterator<Item = &'a str>, size: f64, bold: bool) -> f64 {
    texts.into_iter().map(|text| width(text, size, bold)).fold(0.0, f64::max)
}

/// `text` shortened with an ellipsis until it fits `room` points; empty when not even one character fits.
pub fn fit(text: &str, size: f64, bold: bool, room: f64) -> String {
    let short: String = text.chars().take(LONGEST).collect();
    if short.len() == text.len() && width(text, size, bold) <= room {
        return short;
    }
    let mut kept: Vec<char> = short.chars().collect();
    while kept.pop().is_some() {
        let mut tried: String = kept.iter().collect();
        tried.push('…');
        if width(&tried, size, bold) <= room {
            return if kept.is_empty() { String::new() } else { tried };
        }
    }
    String::new()
}

/// Texts, bold or not, shortened as [`fit`] does; those that would come out alike are cut in the middle instead, where their ends may tell
/// them apart.
pub fn apart(texts: &[(&str, bool)], size: f64, room: f64) -> Vec<String> {
    let short: Vec<String> = texts.iter().map(|(text, bold)| fit(text, size, *bold, room)).collect();
    let mut of: HashMap<&str, HashSet<&str>> = HashMap::new();
    for (short, (text, _)) in short.iter().zip(texts) {
        of.entry(short).or_default().insert(text);
    }
    let clash = |short: &str| of.get(short).is_some_and(|texts| texts.len() > 1);
    let each = short.iter().zip(texts);
    each.map(
        |(short, (text, bold))| if clash(short) { middle(text, size, *bold, room) } else { short.clone() },
    )
    .collect()
}

/// `text` with an ellipsis in its middle.
fn middle(text: &str, size: f64, bold: bool, room: f64) -> String {
    let all: Vec<char> = text.chars().take(LONGEST).collect();
    let cut = |kept: usize| {
        let (head, tail) = (all.iter().take(kept / 2), all.iter().skip(all.len() - (kept - kept / 2)));
        head.chain(&['…']).chain(tail).collect::<String>()
    };
    let fits = |text: &String| width(text, size, bold) <= room;
    (2..all.len()).rev().map(cut).find(fits).unwrap_or_else(|| fit(text, size, bold, room))
}

/// Text as it is drawn, alike in every format: as [`inert`], and what the typeface lacks is written as its code point,
/// `<U+65E5>`, so that it neither vanishes nor depends on the fonts of whoever looks at it.
pub fn visible(text: &str) -> String {
    shown(text, |c| glyph(c, false).is_none() || glyph(c, true).is_none())
}

/// Text that can do nothing to what is around it, for words that are not drawn: line ends, tabs, control and direction
/// marks become signs.
pub fn inert(text: &str) -> String {
    shown(text, |_| false)
}

fn shown(text: &str, lacking: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('↵'),
            '\t' => out.push('→'),
            '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => out.push(' '),
            c if acts(c) || lacking(c) => out.push_str(&format!("<U+{:04X}>", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// A token as a label: as [`visible`], with spaces at its ends as `␣` and the empty token as `∅`.
pub fn token(text: &str) -> String {
    let seen = visible(text);
    let inner = seen.trim_matches(' ');
    if inner.is_empty() {
        return if seen.is_empty() { "∅".to_owned() } else { "␣".repeat(seen.len()) };
    }
    let lead = seen.len() - seen.trim_start_matches(' ').len();
    let tail = seen.len() - lead - inner.len();
    // A lone accent needs something to stand on.
    let base = if inner.starts_with(|c| matches!(c, '\u{300}'..='\u{36f}')) { "◌" } else { "" };
    format!("{}{base}{inner}{}", "␣".repeat(lead), "␣".repeat(tail))
}

/// Marks without ink that change what is around them: direction, joining, byte order, tags, line separators.
fn acts(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
        || c.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_the_fonts_own() {
        assert!((width("MM", 10.0, false) - 2.0 * 8.628).abs() < 0.01);
        assert!(width("name mover", 7.0, true) > width("name mover", 7.0, false));
    }

    #[test]
    fn hostile_text_becomes_visible() {
        assert_eq!(visible("a\nb\u{202e}c\u{0}"), "a↵b<U+202E>c<U+0000>");
        assert_eq!((visible("日→é"), inert("日\n")), ("<U+65E5>→é".to_owned(), "日↵".to_owned()));
        assert_eq!(token(" Mary"), "␣Mary");
        assert_eq!((token(""), token("  ")), ("∅".to_owned(), "␣␣".to_owned()));
    }

    #[test]
    fn long_text_is_shortened_to_its_room() {
        let short = fit(&"antidisestablishment".repeat(500), 7.0, false, 40.0);
        assert!(short.ends_with('…') && width(&short, 7.0, false) <= 40.0);
        assert_eq!(fit("wide", 7.0, false, 1.0), "");
        let told =
            [("the quick brown fox jumps", false), ("the quick brown fox rests", false), ("short", false)];
        let apart = apart(&told, 7.0, 60.0);
        assert!(apart[0] != apart[1] && apart[0].ends_with("jumps") && apart[2] == "short", "{apart:?}");
        assert!(apart.iter().all(|text| width(text, 7.0, false) <= 60.0));
    }
}
