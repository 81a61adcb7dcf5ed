//! Colours that survive colour blindness, grey printing and WCAG contrast.

use serde::{Deserialize, Serialize};

/// An sRGB colour with opacity from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Color {
    /// Red.
    pub r: u8,
    /// Green.
    pub g: u8,
    /// Blue.
    pub b: u8,
    /// Opacity.
    pub a: f64,
}

/// An opaque colour from its six hexadecimal digits.
pub const fn hex(rgb: u32) -> Color {
    Color { r: (rgb >> 16) as u8, g: (rgb >> 8) as u8, b: rgb as u8, a: 1.0 }
}

/// Text and axes.
pub const INK: Color = hex(0x222222);
/// Secondary text.
pub const FAINT: Color = hex(0x595959);
/// Grid lines.
pub const RULE: Color = hex(0xdddddd);
/// Cells that do not exist: the future under a causal mask.
pub const MASKED: Color = hex(0xececec);
/// Ground under the hatching of missing values.
pub const MISSING: Color = hex(0xe0e0e0);
/// Lines of the hatching of missing values.
pub const HATCH: Color = hex(0x8c8c8c);
/// Paper.
pub const WHITE: Color = hex(0xffffff);
/// Black.
pub const BLACK: Color = hex(0x000000);
/// Positive values where colour means sign; the blue of RdBu.
pub const POSITIVE: Color = hex(0x2166ac);
/// Negative values where colour means sign; the red of RdBu.
pub const NEGATIVE: Color = hex(0xb2182b);

/// Okabe and Ito's categorical colours, ordered so that the first ones also differ in grey. Any two stay apart with each
/// kind of colour blindness, but the last three are near each other in grey: lines are dashed and dots take other shapes
/// in turn.
pub const CATEGORICAL: [Color; 7] =
    [hex(0x0072b2), hex(0xe69f00), hex(0xd55e00), hex(0x56b4e9), hex(0x000000), hex(0xcc79a7), hex(0x009e73)];

/// ColorBrewer RdBu, red (negative) to blue (positive).
const RD_BU: [u32; 11] = [
    0x67001f, 0xb2182b, 0xd6604d, 0xf4a582, 0xfddbc7, 0xf7f7f7, 0xd1e5f0, 0x92c5de, 0x4393c3, 0x2166ac,
    0x053061,
];
/// ColorBrewer PuOr, orange (negative) to purple (positive).
const PU_OR: [u32; 11] = [
    0x7f3b08, 0xb35806, 0xe08214, 0xfdb863, 0xfee0b6, 0xf7f7f7, 0xd8daeb, 0xb2abd2, 0x8073ac, 0x542788,
    0x2d004b,
];
/// ColorBrewer Blues from white.
const BLUES: [u32; 9] =
    [0xffffff, 0xdeebf7, 0xc6dbef, 0x9ecae1, 0x6baed6, 0x4292c6, 0x2171b5, 0x08519c, 0x08306b];
/// ColorBrewer Purples from white, without its palest step, which a tritanope does not tell from white.
const PURPLES: [u32; 8] = [0xffffff, 0xdadaeb, 0xbcbddc, 0x9e9ac8, 0x807dba, 0x6a51a3, 0x54278f, 0x3f007d];
/// ColorBrewer Greens from white.
const GREENS: [u32; 9] =
    [0xffffff, 0xe5f5e0, 0xc7e9c0, 0xa1d99b, 0x74c476, 0x41ab5d, 0x238b45, 0x006d2c, 0x00441b];
/// ColorBrewer Reds from white.
const REDS: [u32; 9] =
    [0xffffff, 0xfee0d2, 0xfcbba1, 0xfc9272, 0xfb6a4a, 0xef3b2c, 0xcb181d, 0xa50f15, 0x67000d];
/// Matplotlib's cividis (Nuñez et al. 2018), made for colour-blind readers.
const CIVIDIS: [u32; 11] = [
    0x00224e, 0x083370, 0x35456c, 0x4f576c, 0x666970, 0x7d7c78, 0x948e77, 0xaea371, 0xc8b866, 0xe5cf52,
    0xfee838,
];
/// Matplotlib's viridis.
const VIRIDIS: [u32; 11] = [
    0x440154, 0x482475, 0x414487, 0x355f8d, 0x2a788e, 0x21918c, 0x22a884, 0x44bf70, 0x7ad151, 0xbddf26,
    0xfde725,
];

/// A colour map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Map {
    /// Diverging, centred at zero with symmetric limits; blue is positive.
    RdBu,
    /// Sequential from white, for probabilities.
    Blues,
    /// Sequential, for entropies and divergences.
    Viridis,
    /// Diverging like `RdBu`; purple is positive.
    PuOr,
    /// Sequential from white; causal tracing's single states.
    Purples,
    /// Sequential from white; causal tracing's MLPs.
    Greens,
    /// Sequential from white; causal tracing's attention.
    Reds,
    /// Sequential, nearly alike to every reader.
    Cividis,
}

impl Map {
    /// Every map.
    pub const ALL: [Map; 8] =
        [Map::RdBu, Map::PuOr, Map::Blues, Map::Purples, Map::Greens, Map::Reds, Map::Viridis, Map::Cividis];

    /// What its positive half is called, for maps that are centred at zero.
    pub fn positive(self) -> Option<&'static str> {
        match self {
            Map::RdBu => Some("blue"),
            Map::PuOr => Some("purple"),
            _ => None,
        }
    }

    /// Whether it begins white: for shares and probabilities, where nothing is no colour.
    pub fn from_white(self) -> bool {
        matches!(self, Map::Blues | Map::Purples | Map::Greens | Map::Reds)
    }

    /// The colour at `t` from 0 to 1; outside values take the end colours.
    pub fn at(self, t: f64) -> Color {
        let stops: &[u32] = match self {
            Map::RdBu => &RD_BU,
            Map::Blues => &BLUES,
            Map::Viridis => &VIRIDIS,
            Map::PuOr => &PU_OR,
            Map::Purples => &PURPLES,
            Map::Greens => &GREENS,
            Map::Reds => &REDS,
            Map::Cividis => &CIVIDIS,
        };
        let last = stops.len() - 1;
        let place = t.clamp(0.0, 1.0) * last as f64;
        let below = (place as usize).min(last - 1);
        let part = place - below as f64;
        let (a, b) = (hex(stops[below]), hex(stops[below + 1]));
        let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * part).round() as u8;
        Color { r: mix(a.r, b.r), g: mix(a.g, b.g), b: mix(a.b, b.b), a: 1.0 }
    }
}

/// Values to colours: a map and its limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// The map.
    pub map: Map,
    /// Value of the lowest colour.
    pub lo: f64,
    /// Value of the highest colour.
    pub hi: f64,
    /// Some value lies below `lo` or above `hi`: the colour bar shows it by a pointed end.
    pub clipped: [bool; 2],
    /// There is no number and no limit was given: the colour bar has none either.
    pub empty: bool,
}

impl Scale {
    /// A scale over `values`: given limits, else the data's own; diverging ones symmetric about zero, sequential ones
    /// from zero where no value is negative. NaN does not count; infinities lie outside every limit.
    pub fn over(values: impl IntoIterator<Item = f64>, map: Map, limits: Option<[f64; 2]>) -> Scale {
        let values: Vec<f64> = values.into_iter().filter(|v| !v.is_nan()).collect();
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        let (least, most) = (finite().fold(0.0, f64::min), finite().fold(0.0, f64::max));
        let [mut lo, mut hi] = limits.unwrap_or([least, most]);
        let centred = map.positive().is_some();
        if centred {
            let reach = lo.abs().max(hi.abs());
            (lo, hi) = (-reach, reach);
        }
        if !(lo.is_finite() && hi.is_finite() && hi - lo > f64::MIN_POSITIVE) {
            (lo, hi) = if centred { (-1.0, 1.0) } else { (0.0, 1.0) };
        }
        let slack = 1e-9 * (hi - lo);
        let clipped = [values.iter().any(|v| *v < lo - slack), values.iter().any(|v| *v > hi + slack)];
        let empty = limits.is_none() && finite().next().is_none();
        Scale { map, lo, hi, clipped, empty }
    }

    /// The colour of a value.
    pub fn color(&self, value: f64) -> Color {
        self.map.at((value - self.lo) / (self.hi - self.lo))
    }
}

impl Color {
    /// The same colour at another opacity.
    pub const fn alpha(self, a: f64) -> Color {
        Color { a, ..self }
    }

    /// WCAG relative luminance.
    pub fn luminance(self) -> f64 {
        let linear = |v: u8| {
            let v = f64::from(v) / 255.0;
            if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.r) + 0.7152 * linear(self.g) + 0.0722 * linear(self.b)
    }

    /// WCAG contrast ratio, 1 to 21.
    pub fn contrast(self, other: Color) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// Black or white, whichever reads better on this colour; the ratio is never under 4.5.
    pub fn ink(self) -> Color {
        if self.contrast(BLACK) >= self.contrast(WHITE) { BLACK } else { WHITE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_on_every_colour() {
        for map in Map::ALL {
            for i in 0..=200 {
                let ground = map.at(f64::from(i) / 200.0);
                assert!(ground.contrast(ground.ink()) >= 4.5, "{map:?} at {i}");
            }
        }
        assert!(FAINT.contrast(WHITE) >= 4.5);
    }

    #[test]
    fn zero_is_the_neutral_colour_and_blue_is_positive() {
        let scale = Scale::over([-0.5, 2.0, f64::NAN], Map::RdBu, None);
        assert_eq!((scale.lo, scale.hi), (-2.0, 2.0));
        assert_eq!(scale.color(0.0), hex(0xf7f7f7));
        assert!(scale.color(2.0).b > scale.color(2.0).r);
    }

    #[test]
    fn extremes_leave_finite_limits() {
        let scale = Scale::over([0.0, 0.0], Map::RdBu, None);
        assert_eq!((scale.lo, scale.hi), (-1.0, 1.0));
        let scale = Scale::over([1.0, f64::INFINITY], Map::Blues, None);
        assert_eq!((scale.lo, scale.hi, scale.clipped), (0.0, 1.0, [false, true]));
    }

    #[test]
    fn neighbouring_categories_differ_in_grey() {
        for pair in CATEGORICAL[..4].windows(2) {
            assert!((pair[0].luminance() - pair[1].luminance()).abs() > 0.05, "{pair:?}");
        }
    }
}
