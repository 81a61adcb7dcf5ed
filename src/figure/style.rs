//! How wide a figure is and how large its type, so that it needs no scaling where it is printed.
//!
//! Widths are in PDF points (1/72 inch, LaTeX's `bp`). They come from the venues' style files; type sizes follow what those
//! ask for and what tueplots, which typesets for the same venues, settled on.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where a figure is to be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Venue {
    /// NeurIPS: one column of 5.5 inches.
    #[default]
    Neurips,
    /// ICML (AISTATS and UAI print the same widths): columns of 3.25 inches.
    Icml,
    /// ICLR: one column of 5.5 inches.
    Iclr,
    /// ACL, EMNLP, NAACL: columns of 7.7 cm on A4.
    Acl,
    /// AAAI: columns of 3.3 inches.
    Aaai,
    /// CVPR and ICCV: columns of 3.28 inches.
    Cvpr,
    /// TMLR: one column of 6.5 inches.
    Tmlr,
    /// A slide of 16:9, ten inches wide, to be read from the last row.
    Slide,
    /// A web page, 720 CSS pixels wide.
    Blog,
}

/// How much of the page's width a figure takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Span {
    /// One column; in a venue of one column, all of it.
    Col,
    /// The whole width of the text.
    Full,
    /// Half of the text, so that two stand beside each other; about a column where there are two.
    Half,
}

/// Sizes in points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Style {
    /// Axis labels, panel names.
    pub label: f64,
    /// Tick labels and legends.
    pub tick: f64,
    /// The smallest type: values inside cells, small print. Never below 5.
    pub small: f64,
    /// Lines that carry data.
    pub line: f64,
    /// Axes and rules; at least 0.5 prints.
    pub rule: f64,
    /// A figure whose height follows from its contents is made no taller than this: what a page leaves beside a caption, or a
    /// slide below its heading.
    pub tall: f64,
}

impl Style {
    /// A distance that is `points` where tick labels are 7 points high, and grows and shrinks with them.
    pub fn space(&self, points: f64) -> f64 {
        points * self.tick / 7.0
    }

    /// Length of tick marks; their labels stand twice as far away.
    pub fn mark(&self) -> f64 {
        self.space(2.0)
    }

    /// Radius of a dot that marks a point of a line or scatter.
    pub fn dot(&self) -> f64 {
        1.6 * self.line
    }

    /// Lines beside those that carry data: intervals, references, outlines.
    pub fn thin(&self) -> f64 {
        (0.65 * self.line).max(self.rule)
    }

    /// How far above a figure's lower edge the baseline of an axis label stands, so that no descender is cut.
    pub fn foot(&self) -> f64 {
        0.26 * self.label + 0.7
    }

    /// Sizes for text that must fit a small place, the preferred one first: from tick labels to the smallest that is
    /// still read, never below 5.
    pub fn sizes(&self) -> [f64; 5] {
        let least = (self.small / 1.2).max(5.0);
        [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| self.tick + (least - self.tick) * part)
    }
}

impl Venue {
    /// Every venue.
    pub const ALL: [Venue; 9] = [
        Venue::Neurips,
        Venue::Icml,
        Venue::Iclr,
        Venue::Acl,
        Venue::Aaai,
        Venue::Cvpr,
        Venue::Tmlr,
        Venue::Slide,
        Venue::Blog,
    ];

    /// The width of a figure, in points.
    pub fn width(self, span: Span) -> f64 {
        let (col, full): (f64, f64) = match self {
            Venue::Neurips | Venue::Iclr => (396.0, 396.0),
            Venue::Icml => (234.0, 486.0),
            Venue::Acl => (218.3, 453.5),
            Venue::Aaai => (237.6, 502.2),
            Venue::Cvpr => (236.2, 495.0),
            Venue::Tmlr => (468.0, 468.0),
            Venue::Slide => (720.0, 720.0),
            Venue::Blog => (540.0, 540.0),
        };
        match span {
            Span::Col => col,
            Span::Full => full,
            Span::Half if col < full => col,
            // as LaTeX authors write it: 0.49\linewidth each, the rest between them
            Span::Half => (0.49 * full * 10.0).round() / 10.0,
        }
    }

    /// The sizes of type and lines.
    pub fn style(self) -> Style {
        let (label, tick, small, line, rule) = match self {
            Venue::Neurips | Venue::Iclr => (9.0, 7.0, 6.0, 1.1, 0.5),
            Venue::Icml => (8.0, 6.0, 5.0, 1.0, 0.5),
            Venue::Acl | Venue::Aaai | Venue::Cvpr => (8.0, 7.0, 6.0, 1.0, 0.5),
            Venue::Tmlr => (9.0, 8.0, 6.5, 1.1, 0.5),
            Venue::Slide => (18.0, 14.0, 12.0, 2.2, 1.0),
            Venue::Blog => (11.0, 9.0, 7.5, 1.4, 0.7),
        };
        let tall = if self == Venue::Slide { 350.0 } else { 520.0 };
        Style { label, tick, small, line, rule, tall }
    }

    /// The name as it is written in views and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Venue::Neurips => "neurips",
            Venue::Icml => "icml",
            Venue::Iclr => "iclr",
            Venue::Acl => "acl",
            Venue::Aaai => "aaai",
            Venue::Cvpr => "cvpr",
            Venue::Tmlr => "tmlr",
            Venue::Slide => "slide",
            Venue::Blog => "blog",
        }
    }
}

impl std::str::FromStr for Venue {
    type Err = Error;

    fn from_str(word: &str) -> Result<Venue> {
        let found = Venue::ALL.into_iter().find(|venue| venue.name() == word);
        found.ok_or_else(|| Error::unknown("venue", word, Venue::ALL.map(Venue::name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_and_lines_print() {
        for venue in Venue::ALL {
            let style = venue.style();
            assert!(style.label >= style.tick && style.tick >= style.small, "{venue:?}");
            assert!(style.sizes().iter().all(|size| *size >= 5.0), "{venue:?}");
            assert!(style.rule >= 0.5 && style.thin() >= 0.5 && style.line > style.thin(), "{venue:?}");
        }
        assert_eq!(Venue::Neurips.style().sizes(), [7.0, 6.5, 6.0, 5.5, 5.0]);
    }
}
