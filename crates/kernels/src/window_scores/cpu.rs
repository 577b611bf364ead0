//! Window scores on the CPU: four rows of logits at a time over all slots, softmax in place, reduced into the result. Query heads in
//! parallel.

use super::{GroupReduce, RowReduce, Window, WindowScores};
use crate::CacheLines;
use crate::format::{Format, with_format};
use crate::simd::Level;
use crate::simd_cells::{Ahead, CELL, QUAD, QUERIES, quad_dots, softmax};
use crate::simd_vector::{Vector, VectorOf};
use crate::{Block, HeadView, dispatch};
use headwise_core::Result;
use rayon::prelude::*;
use std::cell::RefCell;

thread_local! {
    /// Logits and sums of one query head.
    static SCRATCH: RefCell<CacheLines> = const { RefCell::new(CacheLines::new()) };
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
    scores(level, Some(kernel.rows), window, kv_head, kv_heads, head, slot_positions)
}

/// See [`super::window_rows`].
pub fn window_rows<B: Block>(
    level: Level,
    window: &Window<'_>,
    kv_head: usize,
    kv_heads: usize,
    head: HeadView<'_, B>,
    slot_positions: &[u32],
) -> Result<Vec<f32>> {
    scores(level, None, window, kv_head, kv_heads, head, slot_positions)
}

/// `[group][slots]`, or with no reduction `[group][rows][slots]`.
#[allow(clippy::too_many_arguments)]
fn scores<B: Block>(
    level: Level,
    rows: Option<RowReduce>,
    window: &Window<'_>,
    kv_head: usize,
    kv_heads: usize,
    head: HeadView<'_, B>,
    slot_positions: &[u32],
) -> Result<Vec<f32>> {
    let group = window.check(kv_head, kv_heads, head, slot_positions)?;
    let numbers = head.len * if rows.is_some() { 1 } else { window.positions.len() };
    let mut out = vec![0.0; group * numbers];
    if head.len > 0 {
        let visible: Vec<usize> =
            window.positions.iter().map(|&p| slot_positions.partition_point(|&slot| slot <= p)).collect();
        out.par_chunks_exact_mut(numbers).enumerate().for_each(|(g, out)| {
            let query_head = kv_head * group + g;
            SCRATCH.with_borrow_mut(|scratch| {
                run(level, rows, window, query_head, head, &visible, scratch, out);
            });
        });
    }
    Ok(out)
}

dispatch! {
    /// The scores of one query head, `out = [head.len]`, or with no reduction `[rows][head.len]`; row `i` of the window sees the first `visible[i]` slots.
    fn run<B: Block>(level, rows: Option<RowReduce>, window: &Window<'_>, query_head: usize, head: HeadView<'_, B>, visible: &[usize], scratch: &mut CacheLines, out: &mut [f32]) = body::<VectorOf<Target>, B>;
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn body<V: Vector, B: Block>(
    rows: Option<RowReduce>,
    window: &Window<'_>,
    query_head: usize,
    head: HeadView<'_, B>,
    visible: &[usize],
    scratch: &mut CacheLines,
    out: &mut [f32],
) {
    with_format!(head.layout.codec, F => {
        query_head_scores::<V, F, B>(rows, window, query_head, head, visible, scratch, out)
    });
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn query_head_scores<V: Vector, F: Format, B: Block>(
    rows: Option<RowReduce>,
    window: &Window<'_>,
    query_head: usize,
    head: HeadView<'_, B>,
    visible: &[usize],
    scratch: &mut CacheLines,
    out: &mut [f32],
) {
    let (dim, slots) = (head.layout.head_dim, head.layout.slots);
    let stride = dim.next_multiple_of(16);
    let block_len = slots.div_ceil(QUAD) * CELL;
    let len = head.block_count() * block_len;
    let scratch = scratch.at_least(QUERIES * stride + 2 * len);
    scratch.fill(0.0);
    let (q, rest) = scratch.split_at_mut(QUERIES * stride);
    let (cells, sums) = rest.split_at_mut(len);
    for (first, visible) in (0..).step_by(QUERIES).zip(visible.chunks(QUERIES)) {
        for (i, row) in q.chunks_exact_mut(stride).enumerate() {
            // A row beyond the last one is zeros, and is left out below.
            let at = ((first + i) * window.query_heads + query_head) * dim;
            let query = if i < visible.len() { &window.queries[at..at + dim] } else { &[] };
            row.fill(0.0);
            row.iter_mut().zip(query).for_each(|(to, from)| *to = from * window.scale);
        }
        for (block, cells) in cells.chunks_exact_mut(block_len).enumerate() {
            let keys = head.keys(block);
            match visible.len() {
                1 if V::LANES < CELL => quad_dots::<V, F, 1>(q, stride, keys, dim, &mut Ahead::default(), cells),
                _ => quad_dots::<V, F, QUERIES>(q, stride, keys, dim, &mut Ahead::default(), cells),
            }
        }
        hide(cells, block_len, slots, head.len, visible);
        let (mut max, mut total, mut factors) = ([f32::NEG_INFINITY; CELL], [0.0; CELL], [0.0; CELL]);
        softmax::<V>(cells, &mut max, &mut total, &mut factors);
        let mut inverse = [0.0; CELL];
        for (i, inverse) in inverse.as_chunks_mut::<QUAD>().0.iter_mut().enumerate().take(visible.len()) {
            let [a, b, c, d] = [0, 1, 2, 3].map(|s| total[i * QUAD + s]);
            let total = (a + b) + (c + d);
            inverse.fill(if total == 0.0 { 0.0 } else { 1.0 / total });
        }
        match rows {
            Some(rows) => add::<V>(rows, cells, &inverse, sums),
            None => {
                let rows = out.chunks_exact_mut(head.len).skip(first).zip(inverse.as_chunks::<QUAD>().0);
                for (i, (row, inverse)) in rows.take(visible.len()).enumerate() {
                    spread(cells, i, inverse[0], block_len / CELL, slots, row);
                }
            }
        }
    }
    let Some(rows) = rows else { return };
    // The four rows of every cell.
    let count = visible.len() as f32;
    let block_cells = block_len / CELL;
    for (q, cell) in sums.as_chunks::<CELL>().0.iter().enumerate() {
        let slot = q / block_cells * slots + q % block_cells * QUAD;
        let end = (slot + QUAD).min(q / block_cells * slots + slots).min(out.len());
        for (s, out) in out[slot.min(end)..end].iter_mut().enumerate() {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| cell[i * QUAD + s]);
            *out = match rows {
                RowReduce::Mean => ((a + b) + (c + d)) / count,
                RowReduce::Sum => (a + b) + (c + d),
                RowReduce::L2 => ((a + b) + (c + d)).sqrt(),
                RowReduce::Max => a.max(b).max(c.max(d)),
            };
        }
    }
}

/// Hides from each row what it does not see, and the cells that stand for no slot.
#[inline(always)]
fn hide(cells: &mut [f32], block_len: usize, slots: usize, len: usize, visible: &[usize]) {
    let open = visible.iter().copied().min().unwrap_or(0).min(len);
    let whole = slots.is_multiple_of(QUAD);
    for (block, cells) in cells.chunks_exact_mut(block_len).enumerate() {
        if whole && (block + 1) * slots <= open {
            continue;
        }
        for (q, cell) in cells.as_chunks_mut::<CELL>().0.iter_mut().enumerate() {
            for (i, logits) in cell.as_chunks_mut::<QUAD>().0.iter_mut().enumerate() {
                let visible = visible.get(i).copied().unwrap_or(0);
                for (row, logit) in (q * QUAD..).zip(logits) {
                    if row >= slots || block * slots + row >= visible {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
}

/// Row `i` of the cells times `inverse`, slot by slot.
#[inline(always)]
fn spread(cells: &[f32], i: usize, inverse: f32, block_cells: usize, slots: usize, row: &mut [f32]) {
    for (q, cell) in cells.as_chunks::<CELL>().0.iter().enumerate() {
        let slot = q / block_cells * slots + q % block_cells * QUAD;
        let end = (slot + QUAD).min(q / block_cells * slots + slots).min(row.len());
        for (out, p) in row[slot.min(end)..end].iter_mut().zip(&cell[i * QUAD..]) {
            *out = p * inverse;
        }
    }
}

/// Adds the probabilities `cells · inverse` to the sums, or what the reduction asks for instead.
#[inline(always)]
fn add<V: Vector>(rows: RowReduce, cells: &[f32], inverse: &[f32; CELL], sums: &mut [f32]) {
    for (cell, sums) in cells.as_chunks::<CELL>().0.iter().zip(sums.as_chunks_mut::<CELL>().0) {
        for column in (0..CELL).step_by(V::LANES) {
            let p = V::load(&cell[column..]).mul(V::load(&inverse[column..]));
            let sum = V::load(&sums[column..]);
            let sum = match rows {
                RowReduce::Mean | RowReduce::Sum => sum.add(p),
                RowReduce::Max => sum.max(p),
                RowReduce::L2 => p.mul_add(p, sum),
            };
            sum.store(&mut sums[column..]);
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
