use bytemuck::cast_slice;
use headwise_core::{KvShape, Rotation};
use headwise_kernels::matmul::{GgmlDType, Matrix, linear};
use rayon::prelude::*;

use super::Gather;

/// How a text is cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkGrid {
    /// Positions of a chunk.
    pub chunk: usize,
    /// First positions that lie in no chunk.
    pub start: usize,
    /// Last positions that lie in no chunk.
    pub end: usize,
}

/// Attention inside the chunks of one layer, every query of a chunk seeing every key of it, summed over the queries: the non-causal attention of
/// Compactor (arXiv 2507.08143). Logits are `q · k`, not divided by √d, as in kvpress.
///
/// A chunk is done as soon as it is known to be whole; the queries and keys of the last ones are held until then.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkAttention {
    grid: ChunkGrid,
    shape: KvShape,
    /// Positions that were given so far, those before the grid too.
    seen: usize,
    /// Sums of the chunks that are done, `[positions][query heads]`.
    done: Vec<f32>,
    /// Queries and keys behind them, `[positions][heads][head_dim]`.
    queries: Vec<f32>,
    keys: Vec<f32>,
}

impl ChunkAttention {
    /// No rows yet.
    pub fn new(shape: KvShape, grid: ChunkGrid) -> Self {
        Self { grid, shape, seen: 0, done: Vec::new(), queries: Vec::new(), keys: Vec::new() }
    }

    /// How the text is cut.
    pub fn grid(&self) -> ChunkGrid {
        self.grid
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        (self.done.len() + self.queries.len() + self.keys.len()) * size_of::<f32>()
    }

    /// The sums so far, `[positions][query heads]`, of the positions from the grid's start to its end. Behind the last whole chunk there may be a
    /// part of one; with `padded` it is filled up with keys and queries of zeros, as kvpress does (its mask of −1e−9 masks nothing).
    pub fn finish(&self, padded: bool) -> Vec<f32> {
        let (width, narrow) = self.widths();
        let rows = (self.keys.len() / narrow).saturating_sub(self.grid.end);
        let mut sums = self.done.clone();
        if rows > 0 {
            let padding = if padded { self.grid.chunk.saturating_sub(rows) } else { 0 };
            sums.extend(self.sums(&self.queries[..rows * width], &self.keys[..rows * narrow], padding));
        }
        sums
    }

    fn widths(&self) -> (usize, usize) {
        let KvShape { kv_heads, head_dim, .. } = self.shape;
        (self.shape.query_heads() * head_dim, kv_heads * head_dim)
    }

    /// Column sums of one chunk's softmax, `[positions][query heads]`, beside `padding` keys and queries of zeros.
    fn sums(&self, queries: &[f32], keys: &[f32], padding: usize) -> Vec<f32> {
        let KvShape { group, head_dim: dim, .. } = self.shape;
        let (width, narrow) = self.widths();
        let (heads, rows) = (self.shape.query_heads(), keys.len() / narrow);
        let of_head = |head: usize| {
            let pick = |data: &[f32], width: usize, head: usize| -> Vec<f32> {
                data.chunks_exact(width).flat_map(|row| &row[head * dim..][..dim]).copied().collect()
            };
            let (q, k) = (pick(queries, width, head), pick(keys, narrow, head / group));
            let mut logits = vec![0.0; rows * rows];
            // The shapes are those that this type has checked: `dim` numbers a row, `rows` rows.
            let product =
                Matrix::new(cast_slice(&k), GgmlDType::F32, rows, dim).and_then(|k| linear(&mut logits, &q, k, None));
            debug_assert_eq!(product, Ok(()));
            let mut sums = vec![padding as f64 / (rows + padding) as f64; rows];
            for row in logits.chunks_exact(rows) {
                let max = row.iter().copied().fold(if padding > 0 { 0.0 } else { f32::NEG_INFINITY }, f32::max);
                let exp: Vec<f64> = row.iter().map(|&x| f64::from(x - max).exp()).collect();
                let all = exp.iter().sum::<f64>() + padding as f64 * f64::from(-max).exp();
                sums.iter_mut().zip(&exp).for_each(|(sum, exp)| *sum += exp / all);
            }
            sums
        };
        let columns: Vec<Vec<f64>> = (0..heads).into_par_iter().map(of_head).collect();
        (0..rows).flat_map(|row| columns.iter().map(move |column| column[row] as f32)).collect()
    }
}

impl Gather for ChunkAttention {
    /// Rotated queries, `[rows][query heads][head_dim]`, and keys, `[rows][KV heads][head_dim]`.
    type Rows = (Vec<f32>, Vec<f32>);

    fn take(&mut self, (queries, keys): &(Vec<f32>, Vec<f32>)) {
        let (width, narrow) = self.widths();
        let rows = keys.len() / narrow;
        let skip = self.grid.start.saturating_sub(self.seen).min(rows);
        self.queries.extend_from_slice(&queries[skip * width..]);
        self.keys.extend_from_slice(&keys[skip * narrow..]);
        self.seen += rows;
        let chunk = self.grid.chunk;
        let mut whole = 0;
        while self.keys.len() / narrow >= (whole + 1) * chunk + self.grid.end {
            let rows = whole * chunk..(whole + 1) * chunk;
            let sums = self.sums(
                &self.queries[rows.start * width..rows.end * width],
                &self.keys[rows.start * narrow..rows.end * narrow],
                0,
            );
            self.done.extend(sums);
            whole += 1;
        }
        self.queries.drain(..whole * chunk * width);
        self.keys.drain(..whole * chunk * narrow);
    }

    fn turn_back(&mut self, rotation: &dyn Rotation, by: u32) {
        rotation.renumber(&mut self.queries, by, 0);
        rotation.renumber(&mut self.keys, by, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: KvShape = KvShape { layers: 1, kv_heads: 2, group: 2, head_dim: 4 };

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + seed) * 7919 % 211) as f32 - 105.0) / 60.0).collect()
    }

    fn gather(grid: ChunkGrid, positions: usize, cut: usize) -> ChunkAttention {
        let (queries, keys) = (numbers(positions * 16, 1), numbers(positions * 8, 5));
        let mut gathered = ChunkAttention::new(SHAPE, grid);
        for (q, k) in queries.chunks(cut * 16).zip(keys.chunks(cut * 8)) {
            gathered.take(&(q.to_vec(), k.to_vec()));
        }
        gathered
    }

    #[test]
    fn sums_do_not_depend_on_how_the_text_comes() {
        let grid = ChunkGrid { chunk: 6, start: 3, end: 2 };
        let whole = gather(grid, 40, 40);
        assert_eq!(whole.finish(false).len(), (40 - 3 - 2) * 4);
        for cut in [1, 5, 6, 7, 13] {
            assert_eq!(gather(grid, 40, cut).finish(false), whole.finish(false), "{cut}");
        }
    }

    #[test]
    fn every_chunk_gives_away_as_much_as_it_has_queries() {
        let sums = gather(ChunkGrid { chunk: 8, start: 0, end: 0 }, 20, 9).finish(false);
        for (chunk, size) in [(0, 8), (1, 8), (2, 4)] {
            let of_head = |head: usize| -> f32 { (0..size).map(|i| sums[(chunk * 8 + i) * 4 + head]).sum() };
            (0..4).for_each(|head| assert!((of_head(head) - size as f32).abs() < 1e-4));
        }
    }
}
