//! Products A·B of a tall and a wide matrix, never multiplied out: the maps that heads are, d_model × d_model of rank d_head.
//! Whatever is asked of them is answered by matrices of the inner width. With `learn`, the one door to dense linear algebra.

use crate::error::{Error, Result};

/// A dense matrix in f64.
pub type Matrix = faer::Mat<f64>;

/// A product A `[m, r]` · B `[r, n]`.
#[derive(Debug, Clone)]
pub struct Factored {
    a: Matrix,
    b: Matrix,
}

/// A·B = Σᵢ sᵢ uᵢ vᵢᵀ with s falling; u `[m, k]`, v `[n, k]`.
#[derive(Debug, Clone)]
pub struct Svd {
    /// What each direction reads, as columns.
    pub u: Matrix,
    /// Singular values, largest first.
    pub s: Vec<f64>,
    /// What each direction writes, as columns.
    pub v: Matrix,
}

/// Numbers in rows → a matrix.
pub fn matrix(values: &[f64], rows: usize, columns: usize) -> Result<Matrix> {
    if values.len() != rows * columns {
        let (got, what) = (vec![values.len()], "the values of a matrix".to_owned());
        return Err(Error::Shape { what, got, expected: format!("{rows} × {columns}") });
    }
    Ok(faer::MatRef::from_row_major_slice(values, rows, columns).to_owned())
}

impl Factored {
    /// a `[m, r]`, b `[r, n]`. Numbers that are not finite are an error.
    pub fn new(a: Matrix, b: Matrix) -> Result<Factored> {
        if a.ncols() != b.nrows() {
            let (got, what) = (vec![b.nrows(), b.ncols()], "the right factor".to_owned());
            return Err(Error::Shape { what, got, expected: format!("{} rows", a.ncols()) });
        }
        if !a.is_all_finite() || !b.is_all_finite() {
            return Err(Error::input(
                "the product of weights holds numbers that are not finite",
                "the model's weights are too large to be multiplied: check the checkpoint",
            ));
        }
        Ok(Factored { a, b })
    }

    /// A, `[m, r]`.
    pub fn a(&self) -> &Matrix {
        &self.a
    }

    /// B, `[r, n]`.
    pub fn b(&self) -> &Matrix {
        &self.b
    }

    /// (A·B)ᵀ.
    #[must_use]
    pub fn transposed(&self) -> Factored {
        Factored { a: self.b.transpose().to_owned(), b: self.a.transpose().to_owned() }
    }

    /// A·B·C·D, with the smaller of the two inner widths.
    pub fn then(&self, next: &Factored) -> Result<Factored> {
        if self.b.ncols() != next.a.nrows() {
            let (got, what) = (vec![next.a.nrows(), next.b.ncols()], "the map that follows".to_owned());
            return Err(Error::Shape { what, got, expected: format!("{} rows", self.b.ncols()) });
        }
        let between = &self.b * &next.a; // [r, r']
        if between.nrows() <= between.ncols() {
            Factored::new(self.a.clone(), between * &next.b)
        } else {
            Factored::new(&self.a * between, next.b.clone())
        }
    }

    /// R·B, where A = Q·R and Q turns without stretching: it has the same norm, and so has its product with whatever follows.
    #[must_use]
    pub fn unturned_left(&self) -> Factored {
        Factored { a: self.a.qr().thin_R().to_owned(), b: self.b.clone() }
    }

    /// The same from the right: A·Rᵀ, where Bᵀ = Q·R.
    #[must_use]
    pub fn unturned_right(&self) -> Factored {
        Factored { a: self.a.clone(), b: self.b.transpose().qr().thin_R().transpose().to_owned() }
    }

    /// The Frobenius norm.
    pub fn norm(&self) -> f64 {
        let small = self.unturned_left().unturned_right();
        (small.a * small.b).norm_l2()
    }

    /// Singular values and vectors, as many as the inner width or the smaller side.
    pub fn svd(&self) -> Result<Svd> {
        let (left, right) = (self.a.qr(), self.b.transpose().qr());
        let core = left.thin_R() * right.thin_R().transpose();
        let svd = core.thin_svd().map_err(|_| stuck("singular values"))?;
        Ok(Svd {
            u: left.compute_thin_Q() * svd.U(),
            s: svd.S().column_vector().iter().copied().collect(),
            v: right.compute_thin_Q() * svd.V(),
        })
    }

    /// The eigenvalues of a square A·B as [real, imaginary], largest first: those of B·A, which has the same but for zeros.
    pub fn eigenvalues(&self) -> Result<Vec<[f64; 2]>> {
        if self.a.nrows() != self.b.ncols() {
            let (got, what) = (vec![self.a.nrows(), self.b.ncols()], "a map with eigenvalues".to_owned());
            return Err(Error::Shape { what, got, expected: "a square".to_owned() });
        }
        let wide = self.a.nrows() < self.a.ncols();
        let small = if wide { &self.a * &self.b } else { &self.b * &self.a };
        let found = small.eigenvalues().map_err(|_| stuck("eigenvalues"))?;
        let mut found: Vec<[f64; 2]> = found.into_iter().map(|value| [value.re, value.im]).collect();
        let size = |[re, im]: &[f64; 2]| re.hypot(*im);
        found.sort_by(|x, y| {
            size(y).total_cmp(&size(x)).then(y[0].total_cmp(&x[0])).then(y[1].total_cmp(&x[1]))
        });
        Ok(found)
    }

    /// Σ Re λ / Σ |λ| over the eigenvalues: 1 where each direction comes back as it went in, −1 where it comes back reversed
    /// (Elhage et al. 2021). None where all of them are 0, to rounding.
    pub fn positivity(&self, eigenvalues: &[[f64; 2]]) -> Option<f64> {
        let (mut real, mut size) = (0.0, 0.0);
        for [re, im] in eigenvalues {
            real += re;
            size += re.hypot(*im);
        }
        let floor = 1e-12 * self.a.norm_l2() * self.b.norm_l2();
        (size > floor).then(|| real / size)
    }
}

/// How many directions share the squares of singular values: (Σ s²)² / Σ s⁴, from 1 to their number. None of nothing.
pub fn participation(s: &[f64]) -> Option<f64> {
    let largest = s.iter().copied().fold(0.0, f64::max);
    let squares = || s.iter().map(|s| (s / largest).powi(2));
    (largest > 0.0).then(|| squares().sum::<f64>().powi(2) / squares().map(|x| x * x).sum::<f64>())
}

fn stuck(what: &str) -> Error {
    Error::Tensor(format!("the {what} of a product of weights did not converge"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    fn random(rows: usize, columns: usize, seed: u64) -> Matrix {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f64> = (0..rows * columns).map(|_| rng.random_range(-1.0..1.0)).collect();
        matrix(&values, rows, columns).unwrap()
    }

    /// Inner widths below, at and above the outer ones.
    const SHAPES: [(usize, usize, usize); 5] = [(9, 3, 7), (7, 3, 9), (4, 4, 4), (3, 8, 5), (1, 1, 1)];

    #[test]
    fn a_decomposition_is_of_the_product() {
        for (m, r, n) in SHAPES {
            let map = Factored::new(random(m, r, 1), random(r, n, 2)).unwrap();
            let dense = map.a() * map.b();
            assert!((map.norm() / dense.norm_l2() - 1.0).abs() < 1e-12, "{m} {r} {n}");
            let svd = map.svd().unwrap();
            let stretched = Matrix::from_fn(svd.u.nrows(), svd.s.len(), |i, k| svd.u[(i, k)] * svd.s[k]);
            assert!((stretched * svd.v.transpose() - &dense).norm_l2() < 1e-12 * dense.norm_l2());
            let unit = Matrix::identity(svd.s.len(), svd.s.len());
            assert!((svd.u.transpose() * &svd.u - &unit).norm_l2() < 1e-12);
            assert!((svd.v.transpose() * &svd.v - &unit).norm_l2() < 1e-12);
            assert!(svd.s.is_sorted_by(|a, b| a >= b));
            let back = map.transposed();
            assert!((back.a() * back.b() - dense.transpose()).norm_l2() < 1e-12);
        }
    }

    /// Σ λᵏ = tr Mᵏ for every k up to the rank, which no other set of as many numbers fulfils.
    #[test]
    fn eigenvalues_have_the_power_sums_of_the_product() {
        for (n, r) in [(9, 3), (4, 4), (3, 8), (1, 1)] {
            let map = Factored::new(random(n, r, 3), random(r, n, 4)).unwrap();
            let dense = map.a() * map.b();
            let eigenvalues = map.eigenvalues().unwrap();
            assert_eq!(eigenvalues.len(), n.min(r));
            let mut power = Matrix::identity(n, n);
            let mut each: Vec<[f64; 2]> = vec![[1.0, 0.0]; eigenvalues.len()];
            for k in 1..=eigenvalues.len() {
                power = power * &dense;
                let trace: f64 = (0..n).map(|i| power[(i, i)]).sum();
                for (x, [re, im]) in each.iter_mut().zip(&eigenvalues) {
                    *x = [x[0] * re - x[1] * im, x[0] * im + x[1] * re];
                }
                let (re, im) = each.iter().fold((0.0, 0.0), |(re, im), x| (re + x[0], im + x[1]));
                assert!((re - trace).abs() < 1e-10 * power.norm_l2().max(1.0), "{n} {r} {k}: {re} {trace}");
                assert!(im.abs() < 1e-10);
            }
        }
    }

    #[test]
    fn products_and_their_norms_need_no_outer_side() {
        let (one, two) = (
            Factored::new(random(9, 2, 5), random(2, 7, 6)).unwrap(),
            Factored::new(random(7, 3, 7), random(3, 8, 8)).unwrap(),
        );
        let dense = one.a() * one.b() * two.a() * two.b();
        for (one, two) in [(&one, &two), (&two.transposed(), &one.transposed())] {
            let both = one.then(two).unwrap();
            assert_eq!(both.a().ncols(), 2, "the smaller inner width");
            assert!((both.norm() - dense.norm_l2()).abs() < 1e-12 * dense.norm_l2());
            let small = one.unturned_left().then(&two.unturned_right()).unwrap();
            assert!(small.a().nrows() <= 3 && small.b().ncols() <= 3);
            assert!((small.norm() - dense.norm_l2()).abs() < 1e-12 * dense.norm_l2());
        }
        assert!(one.then(&one).is_err());
        assert!(one.eigenvalues().is_err(), "9 × 7 is no square");
        assert!(Factored::new(random(2, 3, 0), random(2, 3, 0)).is_err());
        assert!(Factored::new(matrix(&[f64::NAN], 1, 1).unwrap(), random(1, 1, 0)).is_err());
    }

    #[test]
    fn what_has_no_eigenvalue_but_zero_has_no_sign() {
        // [1, 0] → [0, 1] → 0
        let shift =
            Factored::new(matrix(&[1.0, 0.0], 2, 1).unwrap(), matrix(&[0.0, 1.0], 1, 2).unwrap()).unwrap();
        let eigenvalues = shift.eigenvalues().unwrap();
        assert_eq!((eigenvalues.as_slice(), shift.positivity(&eigenvalues)), (&[[0.0, 0.0]][..], None));
        let copy = Factored::new(random(6, 2, 9), random(6, 2, 9).transpose().to_owned()).unwrap();
        assert!((copy.positivity(&copy.eigenvalues().unwrap()).unwrap() - 1.0).abs() < 1e-12);
        let turned = Factored::new(copy.a() * -1.0, copy.b().clone()).unwrap();
        assert!((turned.positivity(&turned.eigenvalues().unwrap()).unwrap() + 1.0).abs() < 1e-12);
    }

    #[test]
    fn as_many_directions_take_part_as_share_alike() {
        assert_eq!(participation(&[2.0, 2.0, 2.0, 0.0]), Some(3.0));
        assert_eq!(participation(&[5.0]), Some(1.0));
        assert_eq!(participation(&[0.0, 0.0]), None);
        assert_eq!(participation(&[]), None);
    }
}
