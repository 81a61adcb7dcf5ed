//! Round numbers along an axis, and how numbers are written.

/// About `count` round values inside `lo..=hi`; three at least where steps of some size give them, because two do not show
/// a scale.
pub fn nice(lo: f64, hi: f64, count: usize) -> Vec<f64> {
    let enough = (count..count + 3).map(|count| round(lo, hi, count)).find(|values| values.len() >= 3);
    enough.unwrap_or_else(|| round(lo, hi, count + 3))
}

fn round(lo: f64, hi: f64, count: usize) -> Vec<f64> {
    let step = step(lo, hi, count);
    if !(step > 0.0 && step.is_finite()) {
        return vec![lo];
    }
    let (first, last) = ((lo / step - 1e-6).ceil(), (hi / step + 1e-6).floor());
    let steps = (last - first).clamp(0.0, 1000.0) as usize;
    (0..=steps).map(|i| (first + i as f64) * step).collect()
}

/// Labels for values a constant step apart, all with the same number of decimals.
pub fn labels(values: &[f64]) -> Vec<String> {
    let step = values.windows(2).map(|w| (w[1] - w[0]).abs()).fold(f64::INFINITY, f64::min);
    let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let unit = if step.is_finite() && step > 0.0 { step } else { largest };
    if largest != 0.0 && !(1e-4..1e6).contains(&largest) {
        return values.iter().map(|v| minus(short(*v))).collect();
    }
    let decimals = (0..8).find(|d| unit == 0.0 || is_whole(unit * 10f64.powi(*d))).unwrap_or(8) as usize;
    values.iter().map(|v| minus(format!("{:.decimals$}", v + 0.0))).collect()
}

/// A number in few characters: three significant digits, a true minus sign.
pub fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞" } else { "−∞" }.to_owned();
    }
    let size = value.abs();
    minus(match size {
        0.0 => "0".to_owned(),
        _ if !(1e-3..1e5).contains(&size) => short(value),
        _ if size >= 100.0 => format!("{value:.0}"),
        _ if size >= 9.995 => format!("{value:.1}"),
        _ if size >= 0.0995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    })
}

/// A bound in few characters: two significant digits, no smaller than the number.
pub fn no_less(most: f64) -> String {
    if !(most.is_finite() && most > 0.0) {
        return number(most);
    }
    let digits = |size: f64| 1 - (size * (1.0 + 1e-12)).log10().floor() as i32;
    let unit = 10f64.powi(-digits(most));
    let bound = (most / unit - 1e-9).ceil() * unit;
    match (1e-3..1e5).contains(&bound) {
        true => format!("{bound:.0$}", digits(bound).max(0) as usize),
        false => minus(short(bound)),
    }
}

/// A number as exactly as anyone quotes it: six significant digits, a true minus sign.
pub fn exact(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || (size != 0.0 && !(1e-4..1e6).contains(&size)) {
        return if value.is_finite() { minus(format!("{value:.5e}")) } else { number(value) };
    }
    let digits = if size == 0.0 { 0 } else { (5 - size.log10().floor() as i32).max(0) as usize };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    minus(text.to_owned())
}

/// A round number as it is: 1, 0.05, 20000.
pub fn plain(value: f64) -> String {
    if (1e-4..1e6).contains(&value.abs()) {
        minus(format!("{}", (value * 1e9).round() / 1e9))
    } else {
        minus(short(value))
    }
}

/// A number for a small cell among others of up to this size: two decimals, or as many as show the largest, without the zero before the
/// point; nothing where that would be too many.
pub fn cell(value: f64, largest: f64) -> String {
    let more = match largest {
        0.01..0.095 => 3,
        0.001..0.01 => 4,
        _ if largest > 0.0 && largest < 0.001 => return String::new(),
        _ => 2,
    };
    if !value.is_finite() || value.abs() >= 9.995 {
        return if value.is_finite() { minus(format!("{value:.0}")) } else { number(value) };
    }
    let decimals = if value.abs() >= 0.995 { 1 } else { more };
    let text = format!("{value:.decimals$}");
    let zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    if zero { "0".to_owned() } else { minus(text.replace("0.", ".")) }
}

fn step(lo: f64, hi: f64, count: usize) -> f64 {
    let rough = (hi - lo) / count.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let lead = rough / power;
    let round = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|r| lead <= r * 1.0001);
    round.unwrap_or(10.0) * power
}

fn is_whole(v: f64) -> bool {
    (v - v.round()).abs() < 1e-6 * v.abs().max(1e-9) && v.round() != 0.0
}

/// Scientific notation with at most two decimals.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{value:.2e}");
    let Some((digits, power)) = text.split_once('e') else { return text };
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}e{power}")
}

fn minus(text: String) -> String {
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_no_smaller_than_what_it_bounds() {
        let cases = [
            (0.4747, "0.48"),
            (0.00134, "0.0014"),
            (0.45, "0.45"),
            (1.9944, "2.0"),
            (0.0996, "0.10"),
            (12345.0, "13000"),
        ];
        cases.iter().for_each(|(most, said)| assert_eq!(no_less(*most), *said));
        assert_eq!(
            (no_less(0.0), no_less(1.21e-7), no_less(f64::INFINITY)),
            ("0".into(), "1.3e−7".into(), "∞".into())
        );
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(nice(-1.0, 1.0, 4), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(labels(&nice(0.0, 0.97, 5)), ["0.0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(labels(&nice(-12.0, 3.0, 4)), ["−10", "−5", "0"].map(String::from));
        assert_eq!(nice(2.0, 2.0, 4), [2.0]);
        assert_eq!(nice(-19.0, 17.0, 3), [-10.0, 0.0, 10.0], "not 0 alone");
        assert_eq!(labels(&[0.0]), ["0"]);
        assert_eq!(labels(&[0.0, 2.5, 5.0]), ["0.0", "2.5", "5.0"]);
        assert!(labels(&nice(0.0, 1e-9, 3)).iter().any(|l| l.contains('e')));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [number(-0.1234), number(12.345), number(1e-7), number(0.0)],
            ["−0.12", "12.3", "1e−7", "0"]
        );
        assert_eq!(
            [0.983, -0.05, 0.0001, 12.3, 0.999].map(|value| cell(value, 12.3)),
            [".98", "−.05", "0", "12", "1.0"]
        );
        // numbers of a faint picture are not all 0
        assert_eq!([cell(0.042, 0.05), cell(-0.0031, 0.0031), cell(0.0003, 0.0005)], [".042", "−.0031", ""]);
        assert_eq!(
            [exact(1.1014644), exact(-0.0123456789), exact(250.0), exact(0.0), exact(1.5e-7)],
            ["1.10146", "−0.0123457", "250", "0", "1.50000e−7"]
        );
    }
}
