//! Window scores on the CPU: the keys lie beside each other and are multiplied with twelve rows at a time, so that no sum is over lanes; softmax in place,
//! reduced into the result. Query heads in parallel.

use super::{GroupReduce, RowReduce, SUMS, Window, WindowScores, faded};
use crate::simd::Level;
use crate::simd_vector::{Vector, VectorOf};
use crate::strips::{ROWS, STRIP, Strips, pack_rows, store_products, with_tile};
use crate::{Block, Buffer, HeadView, dispatch};
use headwise_core::Result;
use rayon::prelude::*;
use std::ops::DerefMut;

/// What a query head's rows become.
#[derive(Debug, Clone, Copy)]
enum Output {
    /// One number a slot.
    Reduced(WindowScores),
    /// All of them, `[rows][slots]`.
    Rows,
    /// [`SUMS`] numbers a slot, `[SUMS][slots]`.
    Sums,
}

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
    scores(level, Output::Reduced(kernel), window, kv_head, kv_heads, head, slot_positions, |len| vec![0.0; len])
}

/// See [`super::window_rows`].
pub fn window_rows<B: Block>(
    level: Level,
    window: &Window<'_>,
    kv_head: usize,
    kv_heads: usize,
    head: HeadView<'_, B>,
    slot_positions: &[u32],
) -> Result<Buffer> {
    scores(level, Output::Rows, window, kv_head, kv_heads, head, slot_positions, Buffer::any)
}

/// See [`super::window_sums`].
pub fn window_sums<B: Block>(
    level: Level,
    window: &Window<'_>,
    kv_head: usize,
    kv_heads: usize,
    head: HeadView<'_, B>,
    slot_positions: &[u32],
) -> Result<Vec<f32>> {
    scores(level, Output::Sums, window, kv_head, kv_heads, head, slot_positions, |len| vec![0.0; len])
}

/// `[group]` of what [`Output`] says, in what `room` makes for so many numbers, of whatever value.
#[allow(clippy::too_many_arguments)]
fn scores<B: Block, T: DerefMut<Target = [f32]>>(
    level: Level,
    output: Output,
    window: &Window<'_>,
    kv_head: usize,
    kv_heads: usize,
    head: HeadView<'_, B>,
    slot_positions: &[u32],
    room: impl FnOnce(usize) -> T,
) -> Result<T> {
    let group = window.check(kv_head, kv_heads, head, slot_positions)?;
    let numbers = match output {
        Output::Reduced(_) => head.len,
        Output::Rows => head.len * window.positions.len(),
        Output::Sums => head.len * SUMS,
    };
    let mut out = room(group * numbers);
    if head.len > 0 {
        let visible: Vec<usize> =
            window.positions.iter().map(|&p| slot_positions.partition_point(|&slot| slot <= p)).collect();
        let keys = Strips::keys(head);
        out.par_chunks_exact_mut(numbers).enumerate().for_each(|(g, out)| {
            let query_head = kv_head * group + g;
            run(level, output, window, query_head, &keys, &visible, out);
        });
    }
    Ok(out)
}

dispatch! {
    /// The scores of one query head, `out` as [`Output`] says; row `i` of the window sees the first `visible[i]` slots.
    fn run(level, output: Output, window: &Window<'_>, query_head: usize, keys: &Strips, visible: &[usize], out: &mut [f32]) = body::<VectorOf<Target>>;
}

#[inline(always)]
fn body<V: Vector>(
    output: Output,
    window: &Window<'_>,
    query_head: usize,
    keys: &Strips,
    visible: &[usize],
    out: &mut [f32],
) {
    let (dim, slots, count) = (keys.dim(), keys.len(), visible.len());
    // An odd number of cache lines: else rows of a power of two of slots would be in each other's places of the cache.
    let stride = (slots.div_ceil(STRIP) | 1) * STRIP;
    let results = match output {
        Output::Reduced(_) => stride,
        Output::Rows => 0,
        Output::Sums => (1 + SUMS) * stride,
    };
    let mut scratch = Buffer::any(ROWS * stride + results);
    let (logits, results) = scratch.split_at_mut(ROWS * stride);
    results.fill(0.0);
    let query = |row: usize| &window.queries[(row * window.query_heads + query_head) * dim..][..dim];
    let packed = pack_rows(count, dim, |row, d| query(row)[d] * window.scale);
    for (first, queries) in (0..count).step_by(ROWS).zip(packed.chunks_exact(ROWS * dim)) {
        let visible = &visible[first..count.min(first + ROWS)];
        with_tile!(V, multiply(keys, queries, visible.len(), logits, stride));
        for ((row, &visible), logits) in (first..).zip(visible).zip(logits.chunks_exact_mut(stride)) {
            logits[visible..].fill(f32::NEG_INFINITY);
            match output {
                Output::Reduced(kernel) => {
                    let (_, total) = exponentials::<V>(logits);
                    add::<V>(kernel.rows, logits, share(total) * faded(kernel.fade, row, count), results);
                }
                Output::Rows => {
                    let (_, total) = exponentials::<V>(logits);
                    let share = share(total);
                    for (out, p) in out[row * slots..][..slots].iter_mut().zip(&*logits) {
                        *out = p * share;
                    }
                }
                Output::Sums => {
                    let (before, sums) = results.split_at_mut(stride);
                    before.copy_from_slice(logits);
                    let (max, total) = exponentials::<V>(logits);
                    add_sums::<V>(logits, before, max, total, sums);
                }
            }
        }
    }
    match output {
        Output::Reduced(kernel) => out.iter_mut().zip(&*results).for_each(|(out, &sum)| {
            *out = match kernel.rows {
                RowReduce::Mean => sum / count as f32,
                RowReduce::L2 => sum.sqrt(),
                RowReduce::Sum | RowReduce::Max => sum,
            }
        }),
        Output::Sums => {
            let sums = results.chunks_exact(stride).skip(1);
            out.chunks_exact_mut(slots).zip(sums).for_each(|(out, sums)| out.copy_from_slice(&sums[..slots]));
        }
        Output::Rows => {}
    }
}

/// The logits of `rows` packed rows: as many rows, `stride` apart.
#[inline(always)]
fn multiply<V: Vector, const R: usize, const N: usize>(
    keys: &Strips,
    packed: &[f32],
    rows: usize,
    logits: &mut [f32],
    stride: usize,
) {
    for (start, strip) in (0..).step_by(STRIP).zip(keys.numbers().chunks_exact(keys.dim() * STRIP)) {
        store_products::<V, R, N>(strip, packed, rows, &mut logits[start..], stride);
    }
}

/// Vectors in a strip, of the smallest instruction set.
const VECTORS: usize = STRIP / 4;

/// `e^(logit - max)` in place of the logits; gives max and their sum, both of what is seen: a row that sees nothing has zeros.
#[inline(always)]
fn exponentials<V: Vector>(logits: &mut [f32]) -> (f32, f32) {
    // Each maximum and each sum waits for the one before: that of one vector of a strip need not wait for the next one's.
    let mut max = [V::splat(f32::NEG_INFINITY); VECTORS];
    for strip in logits.as_chunks::<STRIP>().0 {
        for (logits, max) in strip.chunks_exact(V::LANES).zip(&mut max) {
            *max = V::load(logits).max(*max);
        }
    }
    let mut most = max[0];
    for &other in &max[1..] {
        most = most.max(other);
    }
    let max = most.max_lane();
    // With a finite base -∞ - base stays -∞ where nothing is seen.
    let base = V::splat(max.max(f32::MIN));
    let mut sums = [V::splat(0.0); VECTORS];
    for strip in logits.as_chunks_mut::<STRIP>().0 {
        for (logits, sum) in strip.chunks_exact_mut(V::LANES).zip(&mut sums) {
            let p = V::load(logits).sub(base).exp();
            p.store(logits);
            *sum = sum.add(p);
        }
    }
    (max, V::sum4(sums).iter().sum())
}

/// What exponentials are multiplied with, to be probabilities.
#[inline(always)]
fn share(total: f32) -> f32 {
    if total == 0.0 { 0.0 } else { 1.0 / total }
}

/// Adds the probabilities `p = exponentials · share` to the sums, or what the reduction asks for instead.
#[inline(always)]
fn add<V: Vector>(rows: RowReduce, exponentials: &[f32], share: f32, sums: &mut [f32]) {
    let (nan, share) = (share.is_nan(), V::splat(share));
    for (x, sums) in exponentials.chunks_exact(V::LANES).zip(sums.chunks_exact_mut(V::LANES)) {
        let (p, sum) = (V::load(x).mul(share), V::load(sums));
        let sum = match rows {
            RowReduce::Mean | RowReduce::Sum => sum.add(p),
            // All of a row is NaN or nothing is, and a maximum forgets it.
            RowReduce::Max if nan => V::splat(f32::NAN),
            RowReduce::Max => p.max(sum),
            RowReduce::L2 => p.mul_add(p, sum),
        };
        sum.store(sums);
    }
}

/// Adds the probabilities p, their squares and -p ln p to the three parts of the sums.
#[inline(always)]
fn add_sums<V: Vector>(exponentials: &[f32], logits: &[f32], max: f32, total: f32, sums: &mut [f32]) {
    // ln p = (logit - max) - ln(total), in this order: the difference of large numbers is exact. A row that sees nothing has no max.
    let share = share(total);
    let (max, log) = if share == 0.0 { (0.0, 0.0) } else { (max, share.ln()) };
    let (share, max, log) = (V::splat(share), V::splat(max), V::splat(log));
    let (ones, rest) = sums.split_at_mut(logits.len());
    let (squares, entropies) = rest.split_at_mut(logits.len());
    for at in (0..logits.len()).step_by(V::LANES) {
        let p = V::load(&exponentials[at..]).mul(share);
        // What is hidden has p = 0 and logit -∞: any finite number will do.
        let log = V::load(&logits[at..]).sub(max).add(log).max(V::splat(-200.0));
        let minus_log = V::splat(0.0).sub(log);
        for (factor, sums) in [(V::splat(1.0), &mut *ones), (p, &mut *squares), (minus_log, &mut *entropies)] {
            p.mul_add(factor, V::load(&sums[at..])).store(&mut sums[at..]);
        }
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
