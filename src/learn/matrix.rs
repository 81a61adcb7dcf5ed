//! Rows of numbers, with the few operations that linear models need.

/// `[rows, cols]`, row after row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matrix {
    /// How many rows.
    pub rows: usize,
    /// How long a row is.
    pub cols: usize,
    /// The numbers.
    pub data: Vec<f64>,
}

impl Matrix {
    /// All zeros.
    pub fn zeros(rows: usize, cols: usize) -> Matrix {
        Matrix { rows, cols, data: vec![0.0; rows * cols] }
    }

    /// From rows of one length.
    pub fn of(rows: &[Vec<f64>]) -> Matrix {
        let cols = rows.first().map_or(0, Vec::len);
        debug_assert!(rows.iter().all(|row| row.len() == cols));
        Matrix { rows: rows.len(), cols, data: rows.concat() }
    }

    /// A row.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }

    /// A row, to be written.
    pub fn row_mut(&mut self, i: usize) -> &mut [f64] {
        &mut self.data[i * self.cols..(i + 1) * self.cols]
    }

    /// These rows, in this order.
    pub fn take(&self, rows: &[usize]) -> Matrix {
        let data = rows.iter().flat_map(|&i| self.row(i).iter().copied()).collect();
        Matrix { rows: rows.len(), cols: self.cols, data }
    }

    /// The mean of the rows; zeros when there are none.
    pub fn mean_row(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.cols];
        (0..self.rows).for_each(|i| add(&mut mean, 1.0, self.row(i)));
        mean.iter_mut().for_each(|value| *value /= self.rows.max(1) as f64);
        mean
    }

    /// A·Aᵀ `[rows, rows]`.
    pub fn outer_gram(&self) -> Matrix {
        let mut gram = Matrix::zeros(self.rows, self.rows);
        for i in 0..self.rows {
            for j in 0..=i {
                let value = dot(self.row(i), self.row(j));
                gram.data[i * self.rows + j] = value;
                gram.data[j * self.rows + i] = value;
            }
        }
        gram
    }

    /// The transpose.
    pub fn t(&self) -> Matrix {
        let mut t = Matrix::zeros(self.cols, self.rows);
        for i in 0..self.rows {
            for (j, value) in self.row(i).iter().enumerate() {
                t.data[j * self.rows + i] = *value;
            }
        }
        t
    }

    /// The lower Cholesky factor L of a symmetric matrix, L·Lᵀ = A; none unless it is positive definite.
    pub fn cholesky(&self) -> Option<Matrix> {
        let n = self.rows;
        let mut l = Matrix::zeros(n, n);
        for i in 0..n {
            for j in 0..=i {
                let rest = self.data[i * n + j] - dot(&l.row(i)[..j], &l.row(j)[..j]);
                if i == j {
                    if rest <= 0.0 || !rest.is_finite() {
                        return None;
                    }
                    l.data[i * n + i] = rest.sqrt();
                } else {
                    l.data[i * n + j] = rest / l.data[j * n + j];
                }
            }
        }
        Some(l)
    }

    /// x with L·Lᵀ·x = b, where this is L.
    pub fn cholesky_solve(&self, b: &[f64]) -> Vec<f64> {
        let n = self.rows;
        let mut x = b.to_vec();
        for i in 0..n {
            x[i] = (x[i] - dot(&self.row(i)[..i], &x[..i])) / self.data[i * n + i];
        }
        for i in (0..n).rev() {
            x[i] /= self.data[i * n + i];
            let (above, here) = x.split_at_mut(i);
            add(above, -here[0], &self.row(i)[..i]);
        }
        x
    }
}

/// Σ a·b. The partial sums have a fixed order, whatever the machine.
#[inline(always)]
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for k in 0..8 {
            sums[k] += a[k] * b[k];
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// y += factor · x.
#[inline(always)]
pub(super) fn add(y: &mut [f64], factor: f64, x: &[f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += factor * x);
}

/// An orthonormal basis of the rows' span, as rows (modified Gram–Schmidt, twice). Rows that add less than a millionth of the
/// largest row's length are taken to lie in the span of those before them.
pub fn basis(rows: &Matrix) -> Matrix {
    let length = |v: &[f64]| dot(v, v).sqrt();
    let largest = (0..rows.rows).map(|i| length(rows.row(i))).fold(0.0, f64::max);
    let mut found: Vec<Vec<f64>> = Vec::new();
    for i in 0..rows.rows {
        let mut v = rows.row(i).to_vec();
        for _ in 0..2 {
            for b in &found {
                let along = dot(&v, b);
                add(&mut v, -along, b);
            }
        }
        let left = length(&v);
        if left > 1e-6 * largest {
            v.iter_mut().for_each(|value| *value /= left);
            found.push(v);
        }
    }
    Matrix { cols: rows.cols, ..Matrix::of(&found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: usize, cols: usize) -> Matrix {
        let data = (0..rows * cols).map(|i| ((i * 37 % 101) as f64 - 50.0) / 17.0).collect();
        Matrix { rows, cols, data }
    }

    #[test]
    fn cholesky_solves() {
        let mut a = sample(11, 19).outer_gram();
        (0..11).for_each(|i| a.data[i * 11 + i] += 0.5);
        let b: Vec<f64> = (0..11).map(|i| f64::from(i) - 4.0).collect();
        let x = a.cholesky().unwrap().cholesky_solve(&b);
        for (i, b) in b.iter().enumerate() {
            assert!((dot(a.row(i), &x) - b).abs() < 1e-9);
        }
        assert!(Matrix { rows: 1, cols: 1, data: vec![-1.0] }.cholesky().is_none());
    }

    #[test]
    fn a_basis_is_orthonormal_and_of_the_rank() {
        let mut rows = sample(3, 9);
        let sum: Vec<f64> = (0..9).map(|j| rows.data[j] - 2.0 * rows.data[9 + j]).collect();
        rows = Matrix { rows: 4, cols: 9, data: [rows.data, sum].concat() };
        let b = basis(&rows);
        assert_eq!((b.rows, b.cols), (3, 9));
        for i in 0..3 {
            for j in 0..3 {
                assert!((dot(b.row(i), b.row(j)) - f64::from(u8::from(i == j))).abs() < 1e-12);
            }
        }
        assert_eq!(basis(&Matrix::zeros(2, 4)).rows, 0);
    }
}
