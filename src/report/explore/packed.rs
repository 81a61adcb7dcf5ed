//! Numbers as little-endian bytes in base64, behind a digit that says how many bytes each takes: 2, 4 or 8.
//!
//! Nothing is rounded: real numbers take 4 bytes where 32 bits hold every one of them, and 8 otherwise.

use serde_json::{Value, json};

use crate::report::html::base64;

/// Counts below 65536, which is far beyond any prompt's length; larger ones are cut to that.
pub(super) fn counts(numbers: impl Iterator<Item = usize>) -> Value {
    packed(numbers.map(|x| u16::try_from(x).unwrap_or(u16::MAX).to_le_bytes()))
}

/// Real numbers. Where one is missing, which is not the same as no number, all are written out.
pub(super) fn reals(cells: &[Option<f64>]) -> Value {
    let known: Vec<f64> = cells.iter().flatten().copied().collect();
    if known.len() < cells.len() {
        cells.iter().map(number).collect()
    } else if known.iter().all(|&x| x.is_nan() || f64::from(x as f32) == x) {
        packed(known.iter().map(|&x| (x as f32).to_le_bytes()))
    } else {
        packed(known.iter().map(|x| x.to_le_bytes()))
    }
}

/// JSON has no NaN and no infinities: they are words.
pub(super) fn number(cell: &Option<f64>) -> Value {
    match cell {
        Some(x) if x.is_nan() => "NaN".into(),
        Some(x) if x.is_infinite() => if *x > 0.0 { "inf" } else { "-inf" }.into(),
        cell => json!(cell),
    }
}

fn packed<const N: usize>(words: impl Iterator<Item = [u8; N]>) -> Value {
    format!("{N}{}", base64(&words.flatten().collect::<Vec<u8>>())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        // half is 0x3f000000 in 32 bits; a third needs 64
        assert_eq!(reals(&[Some(0.5), Some(f64::from(1e-7_f32))]), "4AAAAP5W/1jM=");
        assert_eq!(reals(&[Some(1.0 / 3.0)]), "8VVVVVVVV1T8=");
        assert_eq!(reals(&[Some(f64::NAN)]), "4AADAfw==");
        let exact = Some(0.1 + 0.2);
        assert_eq!(reals(&[None, exact, Some(f64::NAN)]), json!([null, 0.300_000_000_000_000_04, "NaN"]));
        assert_eq!(counts([1, 65_535, 70_000].into_iter()), "2AQD/////");
    }
}
