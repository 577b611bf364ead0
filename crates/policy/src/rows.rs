//! Stored keys and values, row by row.

use headwise_kernels::{Block, HeadView};

/// Calls `f` with every slot and its key, `[head_dim]`.
pub(crate) fn each_key<B: Block>(head: HeadView<B>, mut f: impl FnMut(usize, &[f32])) {
    head.all_keys().chunks_exact(head.layout.head_dim).enumerate().for_each(|(slot, key)| f(slot, key));
}

/// Calls `f` with every slot and its value, `[head_dim]`.
pub(crate) fn each_value<B: Block>(head: HeadView<B>, mut f: impl FnMut(usize, &[f32])) {
    head.all_values().chunks_exact(head.layout.head_dim).enumerate().for_each(|(slot, value)| f(slot, value));
}

/// Euclidean norms of a head's values, `[slots]`.
pub(crate) fn value_norms<B: Block>(head: HeadView<B>) -> Vec<f32> {
    let mut norms = Vec::with_capacity(head.len);
    each_value(head, |_, value| norms.push(value.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() as f32));
    norms
}

/// Indices in falling order of the numbers; ties go to the lower one.
pub(crate) fn falling(numbers: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|&a, &b| numbers[b].total_cmp(&numbers[a]));
    order
}

/// Sums are made in this many lanes, so that the compiler may use vectors; the order of additions is the same everywhere.
const LANES: usize = 16;

/// Σ a · b.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
    }
    sums.iter().sum()
}

/// Σ a.
pub(crate) fn sum(a: &[f32]) -> f64 {
    let mut sums = [0.0; LANES];
    for a in a.chunks(LANES) {
        sums.iter_mut().zip(a).for_each(|(sum, &a)| *sum += f64::from(a));
    }
    sums.iter().sum()
}

/// Σ |a|.
pub(crate) fn magnitude(a: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for a in a.chunks(LANES) {
        sums.iter_mut().zip(a).for_each(|(sum, a)| *sum += a.abs());
    }
    sums.iter().sum()
}
