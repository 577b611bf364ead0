use headwise_core::{KvShape, Rotation};
use rayon::prelude::*;

use super::Gather;

/// Rows that are remembered one by one, so that attention sinks can be left out.
const FIRST: usize = 16;

/// Mean and covariance of one layer's queries before their rotation, as Expected Attention (arXiv 2510.00636) needs them.
///
/// Sums in f64, row after row, so that they do not depend on how the prompt was cut.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryMoments {
    dim: usize,
    rows: usize,
    heads: Vec<Sums>,
    /// The first [`FIRST`] rows, `[rows][query heads][head_dim]`.
    first: Vec<f32>,
}

#[derive(Debug, Clone, PartialEq)]
struct Sums {
    /// Σ q, `[head_dim]`.
    sum: Vec<f64>,
    /// Σ q qᵀ, `[head_dim][head_dim]`, the lower triangle.
    outer: Vec<f64>,
}

/// Moments of a query head.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// `[head_dim]`
    pub mean: Vec<f64>,
    /// Population covariance, `[head_dim][head_dim]`.
    pub covariance: Vec<f64>,
}

impl QueryMoments {
    /// Most rows that [`of`](Self::of) can leave out.
    pub const MOST_SKIPPED: usize = FIRST;

    /// No rows yet.
    pub fn new(shape: KvShape) -> Self {
        let dim = shape.head_dim;
        let sums = Sums { sum: vec![0.0; dim], outer: vec![0.0; dim * dim] };
        Self { dim, rows: 0, heads: vec![sums; shape.query_heads()], first: Vec::new() }
    }

    /// Rotated queries, `[rows][query heads][head_dim]`, as they were before these angles turned them, `[rows][head_dim / 2]`.
    pub fn unturned(queries: &[f32], rotation: &dyn Rotation, cos: &[f32], sin: &[f32], shape: KvShape) -> Vec<f32> {
        let (half, width) = (shape.head_dim / 2, shape.query_heads() * shape.head_dim);
        let mut plain = queries.to_vec();
        let back: Vec<f32> = sin.iter().map(|&sin| -sin).collect();
        for ((row, cos), sin) in plain.chunks_exact_mut(width).zip(cos.chunks_exact(half)).zip(back.chunks_exact(half))
        {
            rotation.rotate(row, cos, sin);
        }
        plain
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.heads.len() * (self.dim + self.dim * self.dim) * size_of::<f64>() + self.first.len() * size_of::<f32>()
    }

    /// Mean and covariance of a query head without the first `skip` rows, at most [`Self::MOST_SKIPPED`]; zeros where no row is left.
    pub fn of(&self, head: usize, skip: usize) -> Moments {
        let (dim, skip) = (self.dim, skip.min(FIRST).min(self.rows));
        let Sums { mut sum, mut outer } = self.heads[head].clone();
        for row in self.first.chunks_exact(dim * self.heads.len()).take(skip) {
            let row = &row[head * dim..][..dim];
            for i in 0..dim {
                sum[i] -= f64::from(row[i]);
                for j in 0..=i {
                    outer[i * dim + j] -= f64::from(row[i]) * f64::from(row[j]);
                }
            }
        }
        let count = (self.rows - skip).max(1) as f64;
        sum.iter_mut().for_each(|sum| *sum /= count);
        for i in 0..dim {
            for j in 0..=i {
                let covariance = outer[i * dim + j] / count - sum[i] * sum[j];
                outer[i * dim + j] = covariance;
                outer[j * dim + i] = covariance;
            }
        }
        Moments { mean: sum, covariance: outer }
    }
}

impl Gather for QueryMoments {
    /// Queries before their rotation, `[rows][query heads][head_dim]`.
    type Rows = Vec<f32>;

    fn take(&mut self, plain: &Vec<f32>) {
        let (dim, width) = (self.dim, self.dim * self.heads.len());
        self.heads.par_iter_mut().enumerate().for_each(|(head, sums)| {
            let mut q = vec![0.0; dim];
            for row in plain.chunks_exact(width) {
                q.iter_mut().zip(&row[head * dim..]).for_each(|(wide, &x)| *wide = f64::from(x));
                sums.sum.iter_mut().zip(&q).for_each(|(sum, x)| *sum += x);
                for (i, outer) in sums.outer.chunks_exact_mut(dim).enumerate() {
                    outer[..=i].iter_mut().zip(&q).for_each(|(sum, x)| *sum += q[i] * x);
                }
            }
        });
        let missing = FIRST.saturating_sub(self.rows) * width;
        self.first.extend_from_slice(&plain[..missing.min(plain.len())]);
        self.rows += plain.len() / width.max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_definition_however_the_rows_come() {
        let shape = KvShape { layers: 1, kv_heads: 1, group: 2, head_dim: 4 };
        let rows: Vec<f32> = (0..40 * 8).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
        let (mut whole, mut cut) = (QueryMoments::new(shape), QueryMoments::new(shape));
        whole.take(&rows);
        for part in rows.chunks(8 * 7) {
            cut.take(&part.to_vec());
        }
        assert_eq!(whole, cut);
        let Moments { mean, covariance } = whole.of(1, 3);
        let q = |row: usize, d: usize| f64::from(rows[row * 8 + 4 + d]);
        for i in 0..4 {
            let expected = (3..40).map(|row| q(row, i)).sum::<f64>() / 37.0;
            assert!((mean[i] - expected).abs() < 1e-12);
            for j in 0..4 {
                let expected = (3..40).map(|row| (q(row, i) - mean[i]) * (q(row, j) - mean[j])).sum::<f64>() / 37.0;
                assert!((covariance[i * 4 + j] - expected).abs() < 1e-11);
            }
        }
    }
}
