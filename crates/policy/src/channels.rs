//! ThinK (arXiv 2407.21018): which numbers of a head's keys matter least.
//!
//! A channel's score is the product of the mean square of the window's queries (mean over the query heads of the KV head) and the mean square of all
//! keys. The cache stores keys whole, so what is pruned here can be a mask only: no session option yet.

use headwise_core::Result;
use headwise_kernels::{Block, topk};

use crate::LayerInput;

/// Scores of the channels, `[kv head][head_dim]`, from the last `window` queries.
pub fn scores<B: Block>(layer: &LayerInput<B>, window: usize) -> Result<Vec<Vec<f32>>> {
    let (queries, positions) = layer.window("channels", window)?;
    let (dim, group, heads) = (layer.shape.head_dim, layer.shape.group, layer.shape.query_heads());
    let mean_square = |rows: &mut dyn Iterator<Item = &[f32]>| -> Vec<f64> {
        let mut squares = vec![0.0; dim];
        let mut count = 0;
        for row in rows {
            squares.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x).powi(2));
            count += 1;
        }
        squares.iter_mut().for_each(|sum| *sum /= f64::from(count.max(1)));
        squares
    };
    debug_assert_eq!(queries.len(), positions.len() * heads * dim);
    let of_head = |head: usize| {
        let of_group =
            |row: usize| (head * group..(head + 1) * group).map(move |h| &queries[(row * heads + h) * dim..][..dim]);
        let queries = mean_square(&mut (0..positions.len()).flat_map(of_group));
        let keys = layer.heads[head].all_keys();
        let keys = mean_square(&mut keys.chunks_exact(dim));
        queries.iter().zip(&keys).map(|(q, k)| (q * k) as f32).collect()
    };
    Ok((0..layer.heads.len()).map(of_head).collect())
}

/// The `count` channels of each head with the lowest scores, ascending.
pub fn pruned(scores: &[Vec<f32>], count: usize) -> Result<Vec<Vec<u32>>> {
    let lowest = |row: &Vec<f32>| topk(&row.iter().map(|score| -score).collect::<Vec<_>>(), count.min(row.len()));
    scores.iter().map(lowest).collect()
}
