use std::ops::Range;

use candle_core::{DType, Tensor};

use super::{Attend, Stretch, attend};
use crate::ops::Alibi;
use crate::ops::kernel::check::noise;
use crate::ops::kernel::without_kernels;

const ALL: Range<usize> = 0..usize::MAX;

/// What a call is given: q `[queries, heads, d]`, k, v `[keys, kv_heads, d]`, left `[row, pos, kv_heads, d]`.
struct Case {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    left: Option<(Tensor, Tensor)>,
    how: Attend,
}

impl Case {
    fn run(&self, dtype: DType) -> Vec<f64> {
        let to = |x: &Tensor| x.to_dtype(dtype).unwrap();
        let left = self.left.as_ref().map(|(k, v)| (to(k), to(v)));
        let left = left.as_ref().map(|(k, v)| (k, v));
        flat(&attend(&to(&self.q), &to(&self.k), &to(&self.v), left, &self.how).unwrap())
    }

    /// The definition, one number at a time.
    fn naive(&self) -> Vec<f64> {
        let (queries, heads, d) = self.q.dims3().unwrap();
        let group = heads / self.k.dim(1).unwrap();
        let rows = |x: &Tensor| -> Vec<Vec<Vec<f64>>> { x.to_vec3().unwrap() };
        let (q, k, v) = (rows(&self.q), rows(&self.k), rows(&self.v));
        let left = self.left.as_ref().map(|(k, v)| {
            let all =
                |x: &Tensor| (0..x.dim(0).unwrap()).map(|row| rows(&x.get(row).unwrap())).collect::<Vec<_>>();
            (all(k), all(v))
        });
        let mut z = vec![0f64; queries * heads * d];
        let how = &self.how;
        for s in &how.stretches {
            for (i, row) in s.queries.clone().enumerate() {
                for head in 0..heads {
                    let pos = s.first_query + i;
                    let total = s.first_key + s.keys.len();
                    let at = |key: usize| match &left {
                        Some((k, v)) if key < s.first_key => {
                            (&k[s.left][key][head / group], &v[s.left][key][head / group])
                        }
                        _ => {
                            let row = s.keys.start + key - s.first_key;
                            (&k[row][head / group], &v[row][head / group])
                        }
                    };
                    let mut terms = Vec::new();
                    for key in 0..total {
                        let hidden = how.causal && key > pos
                            || how.window.is_some_and(|window| key + window <= pos)
                            || !s.own.contains(&key)
                            || !s.own.contains(&pos);
                        if hidden {
                            continue;
                        }
                        let product: f64 = q[row][head].iter().zip(at(key).0).map(|(a, b)| a * b).sum();
                        let score = how
                            .cap
                            .map_or(product * how.scale, |cap| cap * (product * how.scale / cap).tanh());
                        let bias = how.alibi.as_ref().map_or(0.0, |alibi| {
                            alibi.table[head][key - s.own.start] - alibi.table[head][pos - s.own.start]
                        });
                        terms.push((score + bias, at(key).1));
                    }
                    let sink = how.sinks.as_ref().map_or(0.0, |sinks| sinks[head].exp());
                    let sum: f64 = sink + terms.iter().map(|(score, _)| score.exp()).sum::<f64>();
                    for (score, v) in &terms {
                        for (j, v) in v.iter().enumerate() {
                            z[(row * heads + head) * d + j] += score.exp() / sum * v;
                        }
                    }
                }
            }
        }
        z
    }

    fn holds(&self, name: &str) {
        let exact = self.naive();
        assert!(exact.iter().any(|z| z.abs() > 0.1), "{name}: nothing to see");
        let kernel = |dtype| self.run(dtype);
        let composite = |dtype| without_kernels(|| self.run(dtype));
        // the composite is the same code for both types, and its rounding that of candle's products
        for (what, z, tolerance) in [
            ("kernel in f32", kernel(DType::F32), 1e-6),
            ("kernel in f64", kernel(DType::F64), 1e-12),
            ("composite", composite(DType::F64), 1e-12),
        ] {
            assert_eq!(z.len(), exact.len());
            for (i, (z, exact)) in z.iter().zip(&exact).enumerate() {
                let gap = (z - exact).abs();
                assert!(gap <= tolerance * exact.abs().max(1.0), "{name}, {what}: {i}: {z} for {exact}");
            }
        }
    }
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Numbers that f32 holds exactly, so that both types are asked the same.
fn numbers(shape: &[usize], salt: f64) -> Tensor {
    noise(shape, salt).affine(0.5, 0.0).unwrap().to_dtype(DType::F32).unwrap().to_dtype(DType::F64).unwrap()
}

fn how(d: usize, stretches: Vec<Stretch>) -> Attend {
    let scale = 1.0 / (d as f64).sqrt();
    Attend { scale, causal: true, window: None, cap: None, sinks: None, alibi: None, stretches }
}

/// Whole sequences of these lengths, nothing to their left.
fn whole(lengths: &[usize]) -> Vec<Stretch> {
    let mut start = 0;
    let each = |&n: &usize| {
        let rows = start..start + n;
        start += n;
        Stretch { queries: rows.clone(), first_query: 0, keys: rows, first_key: 0, left: 0, own: ALL }
    };
    lengths.iter().map(each).collect()
}

fn case(heads: usize, kv_heads: usize, d: usize, stretches: Vec<Stretch>) -> Case {
    let queries = stretches.iter().map(|s| s.queries.end).max().unwrap();
    let keys = stretches.iter().map(|s| s.keys.end).max().unwrap();
    Case {
        q: numbers(&[queries, heads, d], 0.1),
        k: numbers(&[keys, kv_heads, d], 0.2),
        v: numbers(&[keys, kv_heads, d], 0.3),
        left: Some((numbers(&[3, 150, kv_heads, d], 0.4), numbers(&[3, 150, kv_heads, d], 0.5))),
        how: how(d, stretches),
    }
}

/// Windows of several rows: with and without a base to the left, shorter than their keys, one query, padded.
fn windows() -> Vec<Stretch> {
    let stretch = |queries, first_query, keys, first_key, left, own| Stretch {
        queries,
        first_query,
        keys,
        first_key,
        left,
        own,
    };
    vec![
        stretch(0..5, 10, 0..5, 10, 2, ALL),
        stretch(5..10, 10, 5..10, 10, 0, ALL),
        stretch(10..11, 14, 10..15, 10, 1, ALL), // the last query alone
        stretch(13..20, 0, 15..22, 0, 0, ALL),   // rows 11 and 12 are nobody's
        stretch(20..27, 0, 22..29, 0, 0, 2..usize::MAX),
        stretch(27..34, 0, 29..36, 0, 0, 1..5),
        stretch(34..37, 141, 36..40, 140, 2, 3..144),
        stretch(37..40, 142, 40..44, 141, 2, ALL),
    ]
}

/// Runs `work` on a pool of this many threads.
fn on<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn every_option_is_the_definition() {
    let slopes = |heads: usize| Alibi {
        table: (0..heads)
            .map(|head| (0..200).map(|pos| 0.3 / (head + 1) as f64 * f64::from(pos)).collect())
            .collect(),
    };
    for (heads, kv_heads, d) in [(4, 4, 8), (6, 2, 20), (3, 1, 16), (2, 1, 5)] {
        let with = |change: &dyn Fn(&mut Attend), name: &str| {
            let mut case = case(heads, kv_heads, d, windows());
            change(&mut case.how);
            case.holds(&format!("{name}, {heads} heads"));
        };
        with(&|_| (), "causal");
        with(&|how| how.causal = false, "not causal");
        with(&|how| how.window = Some(3), "a window");
        with(&|how| how.window = Some(130), "a wide window");
        with(&|how| how.cap = Some(0.7), "a cap");
        with(&|how| how.sinks = Some((0..heads).map(|head| 1.5 - head as f64).collect()), "sinks");
        with(&|how| how.alibi = Some(slopes(heads)), "distances");
        let all = |how: &mut Attend| {
            how.window = Some(9);
            how.cap = Some(2.0);
            how.sinks = Some((0..heads).map(|head| head as f64).collect());
            how.alibi = Some(slopes(heads));
        };
        with(&all, "all at once");
    }
}

#[test]
fn long_sequences_are_the_definition() {
    case(2, 1, 64, whole(&[300, 17])).holds("long");
    let mut windowed = case(2, 2, 24, whole(&[400]));
    windowed.how.window = Some(150);
    windowed.holds("long with a window");
}

#[test]
fn a_query_gets_the_same_bits_in_every_company() {
    for dtype in [DType::F32, DType::F64] {
        for (heads, kv_heads, n) in [(2, 2, 150), (6, 2, 150), (2, 1, 30)] {
            let together = case(heads, kv_heads, 24, whole(&[n, n, 7]));
            let whole = together.run(dtype);
            assert_eq!(whole, on(1, || together.run(dtype)), "one thread");
            assert_eq!(whole, on(3, || together.run(dtype)), "three threads");
            let width = heads * 24;
            let base = |x: &Tensor| x.narrow(0, 0, n).unwrap().unsqueeze(0).unwrap();
            for (first, count) in [(0, n), (n - 1, 1), (n - 5, 5), (20, 9), (n / 2, n - n / 2)] {
                // the same queries of the first sequence, with what is before them read from a base
                let last = first + count;
                let window = Stretch {
                    queries: 0..count,
                    first_query: first,
                    keys: 0..count,
                    first_key: first,
                    left: 0,
                    own: ALL,
                };
                let alone = Case {
                    q: together.q.narrow(0, first, count).unwrap(),
                    k: together.k.narrow(0, first, count).unwrap(),
                    v: together.v.narrow(0, first, count).unwrap(),
                    left: Some((base(&together.k), base(&together.v))),
                    how: how(24, vec![window]),
                };
                assert_eq!(whole[first * width..last * width], alone.run(dtype), "{first} to {last} of {n}");
            }
            // filled up on the left, a sequence is still itself
            let filled = |x: &Tensor| Tensor::cat(&[&x.narrow(0, 0, 3).unwrap(), x], 0).unwrap();
            let padded = Stretch {
                queries: 0..n + 3,
                first_query: 0,
                keys: 0..n + 3,
                first_key: 0,
                left: 0,
                own: 3..usize::MAX,
            };
            let padded = Case {
                q: filled(&together.q),
                k: filled(&together.k),
                v: filled(&together.v),
                left: None,
                how: how(24, vec![padded]),
            };
            assert_eq!(whole[..n * width], padded.run(dtype)[3 * width..(n + 3) * width], "padded");
        }
    }
}

#[test]
fn parts_of_wider_rows_are_read_where_they_are() {
    let whole = case(4, 2, 8, whole(&[21]));
    let joined = Tensor::cat(&[&whole.q, &whole.k, &whole.v], 1).unwrap(); // [query, 4 + 2 + 2 heads, d]
    let part = |from, n| joined.narrow(1, from, n).unwrap();
    let parts = Case { q: part(0, 4), k: part(4, 2), v: part(6, 2), left: None, how: whole.how.clone() };
    assert_eq!(parts.run(DType::F64), whole.run(DType::F64));
    let z = attend(&part(0, 4), &part(4, 2), &part(6, 2), None, &whole.how).unwrap();
    assert_eq!(flat(&z), whole.run(DType::F64));
}

#[test]
fn what_is_no_number_spreads_to_those_who_see_it_only() {
    let mut case = case(1, 1, 8, whole(&[6]));
    let mut k: Vec<f64> = case.k.flatten_all().unwrap().to_vec1().unwrap();
    k[3 * 8] = f64::NAN;
    case.k = Tensor::from_vec(k, case.k.shape(), case.k.device()).unwrap();
    for (i, z) in case.run(DType::F32).chunks(8).enumerate() {
        assert_eq!(z.iter().any(|z| z.is_nan()), i >= 3, "query {i}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |change: &dyn Fn(&mut Case), says: &str| {
        let mut case = case(4, 2, 8, windows());
        change(&mut case);
        let left = case.left.as_ref().map(|(k, v)| (k, v));
        let error = attend(&case.q, &case.k, &case.v, left, &case.how).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    refused(&|case| case.left = None, "to the left");
    refused(&|case| case.how.stretches[0].left = 3, "to the left");
    refused(&|case| case.how.stretches[0].first_query = 11, "do not fit 15 keys");
    refused(&|case| case.how.stretches.swap(0, 1), "overlap");
    refused(&|case| case.how.stretches[7].keys.end += 1, "exceed the 44");
    refused(&|case| case.how.sinks = Some([1.0].into()), "sinks for 4 heads");
    refused(&|case| case.how.alibi = Some(Alibi { table: vec![vec![0.0; 9]; 4].into() }), "distance biases");
    refused(&|case| case.v = case.v.narrow(0, 0, 43).unwrap(), "do not fit");
}
