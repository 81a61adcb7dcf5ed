//! The bytes of a tensor as numbers: any float type of a file → the type computed in, turned over if need be.

use candle_core::WithDType;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// Whether values of this type can be read.
pub(super) fn readable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
}

/// Little-endian bytes → values. With `turned: Some((rows, columns))` a row-major `[rows, columns]` becomes `[columns, rows]`.
/// `None` if the type is not [`readable`].
pub(super) fn values<T: WithDType>(
    bytes: &[u8],
    dtype: Dtype,
    turned: Option<(usize, usize)>,
) -> Option<Vec<T>> {
    Some(match dtype {
        Dtype::F16 => fill(bytes, turned, |raw| f16::from_le_bytes(raw).to_f64()),
        Dtype::BF16 => fill(bytes, turned, |raw| bf16::from_le_bytes(raw).to_f64()),
        Dtype::F32 => fill(bytes, turned, |raw| f64::from(f32::from_le_bytes(raw))),
        Dtype::F64 => fill(bytes, turned, f64::from_le_bytes),
        _ => return None,
    })
}

/// How many values are NaN or infinite.
pub(super) fn not_finite<T: WithDType>(values: &[T]) -> usize {
    values.par_iter().with_min_len(1 << 14).filter(|value| !value.to_f64().is_finite()).count()
}

fn fill<T: WithDType, const N: usize>(
    bytes: &[u8],
    turned: Option<(usize, usize)>,
    decode: impl Fn([u8; N]) -> f64 + Sync,
) -> Vec<T> {
    /// Columns turned together: what one cache line of the file holds.
    const STRIP: usize = 16;
    let count = bytes.len() / N;
    let at = |i: usize| {
        let mut raw = [0; N];
        raw.copy_from_slice(&bytes[i * N..(i + 1) * N]);
        T::from_f64(decode(raw))
    };
    let Some((rows, columns)) = turned else {
        return (0..count).into_par_iter().with_min_len(1 << 14).map(at).collect();
    };
    let mut values = vec![T::zero(); count];
    values.par_chunks_mut((rows * STRIP).max(1)).enumerate().for_each(|(strip, values)| {
        for row in 0..rows {
            for (column, values) in values.chunks_exact_mut(rows).enumerate() {
                values[row] = at(row * columns + strip * STRIP + column);
            }
        }
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_exactly_and_turned() {
        let (rows, columns) = (37, 21); // neither is a multiple of the strip
        let numbers: Vec<f64> = (0..rows * columns).map(|i| (i as f64 - 300.0) / 8.0).collect(); // exact in every type
        let half: Vec<u8> = numbers.iter().flat_map(|&x| f16::from_f64(x).to_le_bytes()).collect();
        let single: Vec<u8> = numbers.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
        let double: Vec<u8> = numbers.iter().flat_map(|&x| x.to_le_bytes()).collect();
        let turned: Vec<f64> =
            (0..columns).flat_map(|j| (0..rows).map(move |i| i * columns + j)).map(|k| numbers[k]).collect();
        for (bytes, dtype) in [(&half, Dtype::F16), (&single, Dtype::F32), (&double, Dtype::F64)] {
            assert_eq!(values::<f64>(bytes, dtype, None).unwrap(), numbers, "{dtype:?}");
            assert_eq!(values::<f64>(bytes, dtype, Some((rows, columns))).unwrap(), turned, "{dtype:?}");
        }
        let brain: Vec<u8> = [1.5f64, -0.25].iter().flat_map(|&x| bf16::from_f64(x).to_le_bytes()).collect();
        assert_eq!(values::<f32>(&brain, Dtype::BF16, None).unwrap(), [1.5, -0.25]);
        assert!(values::<f32>(&[0; 8], Dtype::I64, None).is_none());
    }

    #[test]
    fn a_number_too_large_for_the_type_is_not_finite() {
        let bytes: Vec<u8> = [1e300f64, 1.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(not_finite(&values::<f32>(&bytes, Dtype::F64, None).unwrap()), 1);
        assert_eq!(not_finite(&values::<f64>(&bytes, Dtype::F64, None).unwrap()), 0);
    }
}
