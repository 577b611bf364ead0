//! Window scores on the CPU: a few rows of logits at a time, softmax in place, added to the result. Query heads in parallel.

use super::{GroupReduce, RowReduce, Window, WindowScores};
use crate::rows::{PaddedRows, QUERIES, dots, exp_in_place};
use crate::simd::Level;
use crate::simd_vector::{Vector, VectorOf};
use crate::{Block, HeadView, dispatch};
use headwise_core::Result;
use rayon::prelude::*;

/// See [`WindowScores::run`].
pub fn window_scores<B: Block>(
    level: Level,
    kernel: WindowScores,
    window: &Window<'_>,
    kv_head: usize,
    kv_heads: usize,
    head: HeadView<'_, B>,
    slot_positions: &[u32],
) -> Result<Vec<f32>> {
    let group = window.check(kv_head, kv_heads, head, slot_positions)?;
    let mut out = vec![0.0; group * head.len];
    if head.len > 0 {
        let visible: Vec<usize> =
            window.positions.iter().map(|&p| slot_positions.partition_point(|&slot| slot <= p)).collect();
        out.par_chunks_exact_mut(head.len).enumerate().for_each(|(g, out)| {
            query_head(level, kernel.rows, window, kv_head * group + g, head, &visible, out);
        });
    }
    Ok(out)
}

dispatch! {
    /// The scores of one query head, `out = [head.len]`; row `i` of the window sees the first `visible[i]` slots.
    fn query_head<B: Block>(level, rows: RowReduce, window: &Window<'_>, query_head: usize, head: HeadView<'_, B>, visible: &[usize], out: &mut [f32]) = body::<VectorOf<Target>, B>;
}

#[inline(always)]
fn body<V: Vector, B: Block>(
    rows: RowReduce,
    window: &Window<'_>,
    query_head: usize,
    head: HeadView<'_, B>,
    visible: &[usize],
    out: &mut [f32],
) {
    let layout = head.layout;
    let stride = head.len.next_multiple_of(16);
    let mut weights = vec![0.0; QUERIES * stride];
    for first in (0..visible.len()).step_by(QUERIES) {
        let count = QUERIES.min(visible.len() - first);
        let mut q = PaddedRows::zeros(count, layout.head_dim);
        for i in 0..count {
            let at = ((first + i) * window.query_heads + query_head) * layout.head_dim;
            for (to, from) in q.row_mut(i).iter_mut().zip(&window.queries[at..][..layout.head_dim]) {
                *to = from * window.scale;
            }
        }
        let weights = &mut weights[..count * stride];
        for block in 0..head.block_count() {
            let at = block * layout.slots;
            dots::<V>(&q.data, q.stride, head.keys(block), layout.codec, layout.head_dim, &mut weights[at..], stride);
        }
        for (row, visible) in weights.chunks_exact_mut(stride).zip(&visible[first..]) {
            row[*visible..].fill(f32::NEG_INFINITY);
            let (_, total) = exp_in_place::<V>(row);
            let inverse = if total == 0.0 { 0.0 } else { 1.0 / total };
            for (out, weight) in out.iter_mut().zip(row) {
                let p = *weight * inverse;
                *out = match rows {
                    RowReduce::Mean | RowReduce::Sum => *out + p,
                    RowReduce::Max => {
                        if *out > p {
                            *out
                        } else {
                            p
                        }
                    }
                    RowReduce::L2 => *out + p * p,
                };
            }
        }
    }
    let count = visible.len() as f32;
    match rows {
        RowReduce::Mean => out.iter_mut().for_each(|x| *x /= count),
        RowReduce::L2 => out.iter_mut().for_each(|x| *x = x.sqrt()),
        RowReduce::Max | RowReduce::Sum => {}
    }
}

/// See [`super::group_reduce`].
pub fn group_reduce(scores: &[f32], group: usize, reduce: GroupReduce) -> Vec<f32> {
    let n = scores.len() / group;
    let mut out = scores[..n].to_vec();
    for row in 1..group {
        for (out, &x) in out.iter_mut().zip(&scores[row * n..][..n]) {
            *out = match reduce {
                GroupReduce::Max => out.max(x),
                GroupReduce::Mean | GroupReduce::Sum => *out + x,
            };
        }
    }
    if reduce == GroupReduce::Mean {
        out.iter_mut().for_each(|x| *x /= group as f32);
    }
    out
}
