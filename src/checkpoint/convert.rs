//! The bytes of a tensor as numbers: any float type of a file → the type computed in, turned over if need be.

use std::io::{self, Read};

use candle_core::WithDType;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// Bytes that are read at a time: they are still in the processor's cache when they are turned into numbers.
const BLOCK: usize = 1 << 21;
/// Columns turned together: what one cache line of the file holds.
const STRIP: usize = 16;
/// Numbers that a thread converts at a time.
const PIECE: usize = 1 << 14;

/// Whether values of this type can be read.
pub(super) fn readable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
}

/// The next `count` numbers of a file, little-endian, and how many of them are NaN or infinite as what they become. With
/// `turned: Some((rows, columns))` a row-major `[rows, columns]` becomes `[columns, rows]`. The type must be [`readable`]; of any
/// other no number is read.
pub(super) fn values<T: WithDType>(
    from: &mut dyn Read,
    dtype: Dtype,
    count: usize,
    turned: Option<(usize, usize)>,
) -> io::Result<(Vec<T>, usize)> {
    match dtype {
        Dtype::F16 => fill(from, count, turned, |raw| f64::from(f16::from_le_bytes(raw).to_f32())),
        Dtype::BF16 => fill(from, count, turned, |raw| f64::from(bf16::from_le_bytes(raw).to_f32())),
        Dtype::F32 => fill(from, count, turned, |raw| f64::from(f32::from_le_bytes(raw))),
        Dtype::F64 => fill(from, count, turned, f64::from_le_bytes),
        _ => Ok((Vec::new(), 0)),
    }
}

/// Block by block, whole rows at a time.
fn fill<T: WithDType, const N: usize>(
    from: &mut dyn Read,
    count: usize,
    turned: Option<(usize, usize)>,
    decode: impl Fn([u8; N]) -> f64 + Sync,
) -> io::Result<(Vec<T>, usize)> {
    let (rows, columns) = turned.unwrap_or((count, 1));
    if count == 0 {
        return Ok((Vec::new(), 0));
    }
    let together = (BLOCK / (N * columns)).clamp(1, rows);
    let mut values = vec![T::zero(); count];
    let mut bytes = vec![0; together * columns * N];
    let mut bad = 0;
    for first in (0..rows).step_by(together) {
        let these = together.min(rows - first);
        let (bytes, _) = bytes.split_at_mut(these * columns * N);
        from.read_exact(bytes)?;
        let (raw, _) = bytes.as_chunks::<N>();
        let one = |to: &mut T, raw: &[u8; N]| {
            *to = T::from_f64(decode(*raw));
            usize::from(!to.to_f64().is_finite())
        };
        bad += match turned {
            None => {
                let (_, values) = values.split_at_mut(first);
                let pieces = values.par_chunks_mut(PIECE).zip(raw.par_chunks(PIECE));
                pieces
                    .map(|(to, raw)| to.iter_mut().zip(raw).map(|(to, raw)| one(to, raw)).sum::<usize>())
                    .sum::<usize>()
            }
            Some(_) => {
                let strips = values.par_chunks_mut(rows * STRIP).enumerate();
                strips
                    .map(|(strip, values)| {
                        let mut bad = 0;
                        for (row, raw) in raw.chunks_exact(columns).enumerate() {
                            let raw = raw.iter().skip(strip * STRIP);
                            for (column, raw) in values.chunks_exact_mut(rows).zip(raw) {
                                bad += one(&mut column[first + row], raw);
                            }
                        }
                        bad
                    })
                    .sum::<usize>()
            }
        };
    }
    Ok((values, bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: WithDType>(bytes: &[u8], dtype: Dtype, turned: Option<(usize, usize)>) -> (Vec<T>, usize) {
        let count = bytes.len() * 8 / dtype.bitsize();
        values(&mut { bytes }, dtype, count, turned).unwrap()
    }

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
            assert_eq!(read::<f64>(bytes, dtype, None), (numbers.clone(), 0), "{dtype:?}");
            assert_eq!(read::<f64>(bytes, dtype, Some((rows, columns))), (turned.clone(), 0), "{dtype:?}");
        }
        let brain: Vec<u8> = [1.5f64, -0.25].iter().flat_map(|&x| bf16::from_f64(x).to_le_bytes()).collect();
        assert_eq!(read::<f32>(&brain, Dtype::BF16, None).0, [1.5, -0.25]);
        assert!(read::<f32>(&[0; 8], Dtype::I64, None).0.is_empty());
    }

    /// More than a block, whose rows do not divide it.
    #[test]
    fn blocks_join() {
        for (rows, columns) in [(1500, 1001), (3, 700_001), (700_001, 3)] {
            let bytes: Vec<u8> = (0..rows * columns).flat_map(|i| (i as f32).to_le_bytes()).collect();
            let straight: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            assert!(read::<f32>(&bytes, Dtype::F32, None).0 == straight);
            let (turned, _) = read::<f32>(&bytes, Dtype::F32, Some((rows, columns)));
            let right = |k: usize| turned[k] == ((k % rows) * columns + k / rows) as f32;
            assert!((0..rows * columns).all(right), "{rows} {columns}");
            let short = &mut &bytes[..bytes.len() - 1];
            assert!(values::<f32>(short, Dtype::F32, rows * columns, None).is_err());
        }
    }

    #[test]
    fn a_number_too_large_for_the_type_is_not_finite() {
        let bytes: Vec<u8> = [1e300f64, 1.0, f64::NAN].iter().flat_map(|x| x.to_le_bytes()).collect();
        for turned in [None, Some((1, 3)), Some((3, 1))] {
            assert_eq!(read::<f32>(&bytes, Dtype::F64, turned).1, 2);
            assert_eq!(read::<f64>(&bytes, Dtype::F64, turned).1, 1);
        }
    }
}
