//! Stored keys and values, row by row.

use half::{bf16, f16};
use headwise_core::Codec;
use headwise_kernels::{Block, HeadView};

/// Calls `f` with every slot and its key, `[head_dim]`.
pub(crate) fn each_key<B: Block>(head: HeadView<B>, f: impl FnMut(usize, &[f32])) {
    each_row(head, |block| head.keys(block), f);
}

/// Calls `f` with every slot and its value, `[head_dim]`.
pub(crate) fn each_value<B: Block>(head: HeadView<B>, f: impl FnMut(usize, &[f32])) {
    each_row(head, |block| head.values(block), f);
}

fn each_row<'a, B: Block>(head: HeadView<B>, bytes: impl Fn(usize) -> &'a [u8], mut f: impl FnMut(usize, &[f32])) {
    let layout = head.layout;
    let mut row = vec![0.0; layout.head_dim];
    for block in 0..head.block_count() {
        for (at, bytes) in bytes(block).chunks_exact(layout.row_bytes()).enumerate() {
            let numbers = bytes.chunks_exact(layout.codec.bytes());
            row.iter_mut().zip(numbers).for_each(|(out, bytes)| *out = number(layout.codec, bytes));
            f(block * layout.slots + at, &row);
        }
    }
}

fn number(codec: Codec, bytes: &[u8]) -> f32 {
    match codec {
        Codec::F32 => f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        Codec::Bf16 => bf16::from_ne_bytes([bytes[0], bytes[1]]).to_f32(),
        Codec::F16 => f16::from_ne_bytes([bytes[0], bytes[1]]).to_f32(),
    }
}

/// All keys of a head, `[slots][head_dim]`.
pub(crate) fn keys<B: Block>(head: HeadView<B>) -> Vec<f32> {
    let mut keys = Vec::with_capacity(head.len * head.layout.head_dim);
    each_key(head, |_, key| keys.extend_from_slice(key));
    keys
}

/// All values of a head, `[slots][head_dim]`.
pub(crate) fn values<B: Block>(head: HeadView<B>) -> Vec<f32> {
    let mut values = Vec::with_capacity(head.len * head.layout.head_dim);
    each_value(head, |_, value| values.extend_from_slice(value));
    values
}

/// Euclidean norms of a head's values, `[slots]`.
pub(crate) fn value_norms<B: Block>(head: HeadView<B>) -> Vec<f32> {
    let mut norms = Vec::with_capacity(head.len);
    each_value(head, |_, value| norms.push(value.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() as f32));
    norms
}
