//! Window scores in f64: every probability, then the reduction.

use super::{GroupReduce, RowReduce, Window, WindowScores};
use crate::{Block, HeadView};

/// `[group][head.len]`. The arguments must satisfy the contract.
pub fn window_scores<B: Block>(
    kernel: WindowScores,
    window: &Window<'_>,
    kv_head: usize,
    kv_heads: usize,
    head: HeadView<'_, B>,
    slot_positions: &[u32],
) -> Vec<f64> {
    let group = window.query_heads / kv_heads;
    let head_dim = head.layout.head_dim;
    let keys: Vec<f64> = (0..head.len * head_dim).map(|i| head.key(i / head_dim, i % head_dim) as f64).collect();
    let mut out = Vec::new();
    for query_head in kv_head * group..(kv_head + 1) * group {
        let mut rows = Vec::new();
        for (row, &position) in window.positions.iter().enumerate() {
            let q = &window.queries[(row * window.query_heads + query_head) * head_dim..][..head_dim];
            let weights: Vec<f64> = {
                let logit = |slot: usize| {
                    let key = &keys[slot * head_dim..][..head_dim];
                    let dot: f64 = q.iter().zip(key).map(|(&q, k)| q as f64 * k).sum();
                    if slot_positions[slot] <= position { dot * window.scale as f64 } else { f64::NEG_INFINITY }
                };
                let logits: Vec<f64> = (0..head.len).map(logit).collect();
                let max = logits.iter().copied().fold(f64::MIN, f64::max);
                logits.iter().map(|x| (x - max).exp()).collect()
            };
            let total: f64 = weights.iter().sum();
            let fade = f64::from(kernel.fade).powi((window.positions.len() - 1 - row) as i32);
            rows.push(
                weights.into_iter().map(|w| if total == 0.0 { 0.0 } else { fade * w / total }).collect::<Vec<_>>(),
            );
        }
        for slot in 0..head.len {
            let column: Vec<f64> = rows.iter().map(|row| row[slot]).collect();
            out.push(match kernel.rows {
                RowReduce::Mean => column.iter().sum::<f64>() / column.len() as f64,
                RowReduce::Max if column.iter().any(|p| p.is_nan()) => f64::NAN,
                RowReduce::Max => column.iter().copied().fold(0.0, f64::max),
                RowReduce::L2 => column.iter().map(|p| p * p).sum::<f64>().sqrt(),
                RowReduce::Sum => column.iter().sum(),
            });
        }
    }
    out
}

/// `[n]` from `[group][n]`.
pub fn group_reduce(scores: &[f32], group: usize, reduce: GroupReduce) -> Vec<f64> {
    let n = scores.len() / group;
    let column = |slot: usize| (0..group).map(move |g| scores[g * n + slot] as f64);
    (0..n)
        .map(|slot| match reduce {
            GroupReduce::Mean => column(slot).sum::<f64>() / group as f64,
            GroupReduce::Max => column(slot).fold(f64::NEG_INFINITY, f64::max),
            GroupReduce::Sum => column(slot).sum(),
        })
        .collect()
}
