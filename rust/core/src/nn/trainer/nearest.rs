//! Cosine similarities of many vectors to many, as one matrix product.

use rayon::prelude::*;

use crate::kernel::gemm::{Gemm, Left, Start};
use crate::pool::Pool;

/// Unit vectors to compare with, as the columns of a matrix.
pub(super) struct Gallery {
    columns: Vec<f32>,
    len: usize,
    width: usize,
}

impl Gallery {
    /// From vectors of `width` numbers; their lengths do not matter. A zero vector is similar to nothing.
    pub(super) fn new(mut rows: Vec<f32>, width: usize) -> Self {
        normalize(&mut rows, width);
        let len = rows.len() / width;
        let mut columns = vec![0.0; rows.len()];
        for (at, row) in rows.chunks_exact(width).enumerate() {
            for (k, x) in row.iter().enumerate() {
                columns[k * len + at] = *x;
            }
        }
        Self { columns, len, width }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many rows to compare at a time so that the similarities stay within some megabytes.
    pub(super) fn rows_at_a_time(&self) -> usize {
        ((1 << 21) / self.len.max(1)).clamp(16, 1024)
    }

    /// The cosines of `rows` to all of the gallery, `[rows, len]`. The rows are brought to length 1.
    pub(super) fn cosines(&self, pool: &Pool, rows: &mut [f32], cosines: &mut Vec<f32>) {
        normalize(rows, self.width);
        cosines.resize(rows.len() / self.width * self.len, 0.0);
        if cosines.is_empty() {
            return;
        }
        let (rows, gemm): (&[f32], _) = (rows, Gemm::best());
        pool.run(|| {
            let targets = cosines.par_chunks_mut(64 * self.len);
            targets.zip(rows.par_chunks(64 * self.width)).for_each(|(target, rows)| {
                let rows = Left::rows(rows, self.width);
                gemm.multiply(rows, &self.columns, self.len, target, Start::Zero);
            });
        });
    }
}

fn normalize(rows: &mut [f32], width: usize) {
    for row in rows.chunks_exact_mut(width) {
        let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if norm > 0.0 {
            for x in row {
                *x = (f64::from(*x) / norm) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::cosine;
    use crate::rng::Rng;

    #[test]
    fn the_matrix_of_cosines_agrees_with_each_pair() {
        let draw = |stream, n| (0..n).map(|i| Rng::new(5, stream).normal(i) as f32).collect();
        let (mut gallery, mut rows): (Vec<f32>, Vec<f32>) = (draw(0, 37 * 13), draw(1, 150 * 13));
        gallery[13..26].fill(0.0);
        let originals = rows.clone();
        let mut cosines = Vec::new();
        Gallery::new(gallery.clone(), 13).cosines(&Pool::new(2).unwrap(), &mut rows, &mut cosines);
        assert_eq!(cosines.len(), 150 * 37);
        for (i, row) in originals.chunks(13).enumerate() {
            for (j, column) in gallery.chunks(13).enumerate() {
                let exact = cosine(row, column);
                assert!((f64::from(cosines[i * 37 + j]) - exact).abs() < 1e-5, "{i} {j}");
            }
        }
    }
}
