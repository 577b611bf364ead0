//! Attention in f64, the obvious way: all logits of a row, softmax, weighted sum.

use super::{ColumnReduce, Dims, Query};
use crate::Block;

const CONTRACT: &str = "the arguments satisfy the contract";

/// `[rows][query heads][head_dim]`. The arguments must satisfy the contract.
pub fn attend<B: Block>(query: Query<'_, B>) -> Vec<f64> {
    let Dims { query_heads, group, head_dim } = query.check().expect(CONTRACT);
    let values = query.heads.iter().map(|head| numbers(head.len, head_dim, |slot, d| head.value(slot, d)));
    let values: Vec<Vec<f64>> = values.collect();
    let mut out = Vec::with_capacity(query.q.len());
    for (i, weights) in weights(query).iter().enumerate() {
        let values = &values[i % query_heads / group];
        let sum = |d| weights.iter().enumerate().map(|(slot, w)| w * values[slot * head_dim + d]).sum::<f64>();
        out.extend((0..head_dim).map(sum));
    }
    out
}

/// What each slot gets of the weight that all rows give away, summed: per query head one number for each slot of its KV head, head after head.
pub fn sums<B: Block>(query: Query<'_, B>) -> Vec<f64> {
    columns(query, ColumnReduce::Sum, None)
}

/// What [`super::Columns`] grow to from zeros.
pub fn columns<B: Block>(query: Query<'_, B>, reduce: ColumnReduce, factors: Option<&[f32]>) -> Vec<f64> {
    let mut columns: Vec<f64> = Vec::new();
    let query_heads = query.check().expect(CONTRACT).query_heads;
    let weights = weights(query);
    for rows in (0..query_heads).map(|head| weights.iter().skip(head).step_by(query_heads)) {
        let slots = rows.clone().map(Vec::len).max().unwrap_or(0);
        let start = columns.len();
        columns.resize(start + slots, 0.0);
        for (row, weights) in rows.enumerate() {
            let factor = factors.map_or(1.0, |factors| f64::from(factors[row]));
            for (column, weight) in columns[start..].iter_mut().zip(weights) {
                match reduce {
                    ColumnReduce::Sum => *column += weight * factor,
                    ColumnReduce::Max => *column = column.max(weight * factor),
                }
            }
        }
    }
    columns
}

/// The weights of each row and query head, `[rows][query heads][slots that are seen]`.
fn weights<B: Block>(query: Query<'_, B>) -> Vec<Vec<f64>> {
    let Dims { query_heads, group, head_dim } = query.check().expect(CONTRACT);
    let keys = query.heads.iter().map(|head| numbers(head.len, head_dim, |slot, d| head.key(slot, d)));
    let keys: Vec<Vec<f64>> = keys.collect();
    let mut all = Vec::with_capacity(query.rows * query_heads);
    for row in 0..query.rows {
        for query_head in 0..query_heads {
            let kv_head = query_head / group;
            let q = &query.q[(row * query_heads + query_head) * head_dim..][..head_dim];
            let logits: Vec<f64> = (0..=query.heads[kv_head].len - query.rows + row)
                .map(|slot| {
                    let key = &keys[kv_head][slot * head_dim..][..head_dim];
                    let dot: f64 = q.iter().zip(key).map(|(&q, k)| q as f64 * k).sum();
                    dot * query.scale as f64 + query.bias.map_or(0.0, |bias| bias[kv_head][slot] as f64)
                })
                .collect();
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> =
                logits.iter().map(|x| if *x == f64::NEG_INFINITY { 0.0 } else { (x - max).exp() }).collect();
            let total: f64 = weights.iter().sum();
            all.push(weights.into_iter().map(|weight| if total == 0.0 { 0.0 } else { weight / total }).collect());
        }
    }
    all
}

/// The numbers of a head's keys or values, `[slots][head_dim]`.
fn numbers(slots: usize, head_dim: usize, number: impl Fn(usize, usize) -> f32) -> Vec<f64> {
    (0..slots * head_dim).map(|i| number(i / head_dim, i % head_dim).into()).collect()
}
