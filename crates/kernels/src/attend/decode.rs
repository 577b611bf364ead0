//! Few queries: every stored number is converted in registers and read once for the whole query group.

use super::{Dims, Partial, Query};
use crate::Block;
use crate::dispatch;
use crate::rows::{PaddedRows, add_weighted, dots, exp_in_place, prefetch_start};
use crate::simd_vector::{Vector, VectorOf};
use std::ops::Range;

dispatch! {
    /// Attention of all rows of KV head `head` over its blocks `blocks`, `[rows][group]`.
    pub(super) fn decode_part<B: Block>(level, query: &Query<'_, B>, dims: Dims, head: usize, blocks: Range<usize>) -> Partial = body::<VectorOf<Target>, B>;
}

#[inline(always)]
fn body<V: Vector, B: Block>(query: &Query<'_, B>, dims: Dims, head: usize, blocks: Range<usize>) -> Partial {
    let Dims { query_heads, group, head_dim } = dims;
    let view = query.heads[head];
    let codec = view.layout.codec;
    let count = query.rows * group;
    let mut q = PaddedRows::zeros(count, head_dim);
    for i in 0..count {
        let at = (i / group * query_heads + head * group + i % group) * head_dim;
        for (to, from) in q.row_mut(i).iter_mut().zip(&query.q[at..][..head_dim]) {
            *to = from * query.scale;
        }
    }
    let first = blocks.start * view.layout.slots;
    let end = (blocks.end * view.layout.slots).min(view.len);
    let stride = (end - first).next_multiple_of(16);
    let mut weights = vec![f32::NEG_INFINITY; count * stride];
    for block in blocks.clone() {
        if block + 1 < blocks.end {
            prefetch_start(view.keys(block + 1));
        }
        let at = block * view.layout.slots - first;
        dots::<V>(&q.data, q.stride, view.keys(block), codec, head_dim, &mut weights[at..], stride);
    }
    let mut partial = Partial::empty(count, head_dim);
    for (i, weights) in weights.chunks_exact_mut(stride).enumerate() {
        if let Some(bias) = query.bias {
            for (x, bias) in weights.iter_mut().zip(&bias[head][first..end]) {
                *x += bias;
            }
        }
        let visible = (view.len - query.rows + i / group + 1).saturating_sub(first);
        if let Some(later) = weights.get_mut(visible..) {
            later.fill(f32::NEG_INFINITY);
        }
        (partial.max[i], partial.denominator[i]) = exp_in_place::<V>(weights);
    }
    let mut sums = PaddedRows::zeros(count, head_dim);
    for block in blocks.clone() {
        if block + 1 < blocks.end {
            prefetch_start(view.values(block + 1));
        }
        let at = block * view.layout.slots - first;
        add_weighted::<V>(&weights[at..], stride, view.values(block), codec, head_dim, &mut sums.data, sums.stride);
    }
    for (to, from) in partial.numerator.chunks_exact_mut(head_dim).zip(sums.data.chunks_exact(sums.stride)) {
        to.copy_from_slice(&from[..head_dim]);
    }
    partial
}
