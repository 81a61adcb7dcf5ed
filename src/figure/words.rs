//! Words along an axis or a colour bar, broken into lines where they are longer than it.

use crate::error::Result;
use crate::figure::color::FAINT;
use crate::figure::font;
use crate::figure::scene::{Anchor, Scene, Text};
use crate::figure::style::Style;
use crate::figure::view::{Series, View};

/// The name of a drawn number: its own, or its column's.
pub fn series(series: &Series) -> String {
    font::visible(&if series.name.is_empty() { series.value.replace('_', " ") } else { series.name.clone() })
}

/// Words along a value axis: the view's, then those of `axis`, its label in the view, else the first drawn number's name.
pub fn value(view: &View, axis: &str) -> Result<String> {
    let given = [view.value_label.as_str(), axis].into_iter().find(|words| !words.is_empty());
    let first = || Ok(view.all_series()?.first().map_or_else(String::new, series));
    given.map_or_else(first, |words| Ok(words.to_owned()))
}

/// More lines than this are a caption.
const MOST: usize = 4;

/// Words in lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Words {
    lines: Vec<String>,
    size: f64,
}

impl Words {
    /// `text` in the size of axis labels, in lines of at most `room` points, broken at spaces; no-break spaces hold words
    /// together.
    pub fn new(style: &Style, text: &str, room: f64) -> Words {
        Words::sized(style.label, text, room)
    }

    /// The same in the size of tick labels: for low plots.
    pub fn low(style: &Style, text: &str, room: f64) -> Words {
        Words::sized(style.tick, text, room)
    }

    /// The same in small print: a note.
    pub fn small(style: &Style, text: &str, room: f64) -> Words {
        Words::sized(style.small, text, room)
    }

    fn sized(size: f64, text: &str, room: f64) -> Words {
        let words: Vec<String> = text.split(' ').filter(|word| !word.is_empty()).map(font::visible).collect();
        let mut lines = broken(&words, size, room);
        // As many lines as needed, but about as long as each other.
        for part in (5..20).rev().map(|part| f64::from(part) / 20.0).filter(|_| room.is_finite()) {
            let even = broken(&words, size, part * room);
            let whole = even.iter().all(|line| font::width(line, size, false) <= room);
            if even.len() > lines.len() || !whole {
                break;
            }
            lines = even;
        }
        let rest = lines.split_off(lines.len().min(MOST));
        if let Some(last) = lines.last_mut().filter(|_| !rest.is_empty()) {
            *last = format!("{last} {}", rest.join(" ")); // what does not fit is cut with an ellipsis
        }
        let room = room.max(20.0);
        Words { lines: lines.iter().map(|line| font::fit(line, size, false, room)).collect(), size }
    }

    /// All of it in one line.
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// Width of its longest line.
    pub fn widest(&self) -> f64 {
        font::widest(self.lines.iter().map(String::as_str), self.size, false)
    }

    /// Height of its lines, from the top of the first to below the last; 0 for no words.
    pub fn depth(&self) -> f64 {
        self.lines.len() as f64 * self.step()
    }

    /// Writes it below `top`, centred at `middle` where the paper is wide enough, else moved inside.
    pub fn below(&self, scene: &mut Scene, middle: f64, top: f64) {
        for (line, at) in self.lines.iter().zip(self.baselines(top)) {
            let x = self.inside(line, middle, scene.width);
            scene.add(Text::new(x, at, line.clone(), self.size).anchor(Anchor::Middle));
        }
    }

    /// Writes it upwards at the right of `left`, centred at `middle` where the paper is high enough, else moved inside.
    pub fn beside(&self, scene: &mut Scene, left: f64, middle: f64) {
        for (line, at) in self.lines.iter().zip(self.baselines(left)) {
            let y = self.inside(line, middle, scene.height);
            scene.add(Text::new(at, y, line.clone(), self.size).anchor(Anchor::Middle).turn(-90.0));
        }
    }

    /// Writes it below `top` from `left` on, in grey.
    pub fn note(&self, scene: &mut Scene, left: f64, top: f64) {
        for (line, at) in self.lines.iter().zip(self.baselines(top)) {
            scene.add(Text::new(left, at, line.clone(), self.size).color(FAINT));
        }
    }

    fn step(&self) -> f64 {
        1.18 * self.size
    }

    fn baselines(&self, top: f64) -> impl Iterator<Item = f64> {
        let (size, step) = (self.size, self.step());
        (0..MOST).map(move |line| top + 0.88 * size + line as f64 * step)
    }

    fn inside(&self, line: &str, middle: f64, paper: f64) -> f64 {
        let half = font::width(line, self.size, false) / 2.0 + 1.0;
        middle.min(paper - half).max(half)
    }
}

/// Lines of at most `room` points, filled one after the other.
fn broken(words: &[String], size: f64, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if font::width(&format!("{line} {word}"), size, false) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.clone()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::style::Venue;

    #[test]
    fn long_labels_are_broken_at_spaces() {
        let style = Venue::Neurips.style();
        let words = Words::new(&style, "share of the logit difference restored (blue = positive)", 100.0);
        assert!(
            words.lines.len() > 1
                && words.lines.iter().all(|line| font::width(line, words.size, false) <= 100.0)
        );
        assert!(words.depth() >= 2.0 * style.label);
        assert_eq!(Words::new(&style, "", 50.0).depth(), 0.0);
        let many = Words::new(&style, &"word ".repeat(60), 60.0);
        assert_eq!((many.lines.len(), many.text().ends_with('…')), (MOST, true), "what is left out is seen");
    }
}
