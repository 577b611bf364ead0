//! Window scores on the CPU: four rows of logits at a time over all slots, softmax in place, reduced into the result. Query heads in
//! parallel.

use super::{GroupReduce, RowReduce, SUMS, Window, WindowScores, faded};
use crate::CacheLines;
use crate::format::{Format, with_format};
use crate::simd::Level;
use crate::simd_cells::{CELL, QUAD, QUERIES, quad_dots, softmax};
use crate::simd_vector::{Vector, VectorOf};
use crate::{AnyHead, Block, HeadView, dispatch};
use headwise_core::Result;
use rayon::prelude::*;
use std::cell::RefCell;

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
    scores(level, Output::Reduced(kernel), window, kv_head, kv_heads, head, slot_positions)
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
    scores(level, Output::Rows, window, kv_head, kv_heads, head, slot_positions)
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
    scores(level, Output::Sums, window, kv_head, kv_heads, head, slot_positions)
}

/// `[group]` of what [`Output`] says.
#[allow(clippy::too_many_arguments)]
fn scores<B: Block>(
    level: Level,
    output: Output,
    window: &Window<'_>,
    kv_head: usize,
    kv_heads: usize,
    head: HeadView<'_, B>,
    slot_positions: &[u32],
) -> Result<Vec<f32>> {
    let group = window.check(kv_head, kv_heads, head, slot_positions)?;
    let numbers = match output {
        Output::Reduced(_) => head.len,
        Output::Rows => head.len * window.positions.len(),
        Output::Sums => head.len * SUMS,
    };
    let mut out = vec![0.0; group * numbers];
    if head.len > 0 {
        let visible: Vec<usize> =
            window.positions.iter().map(|&p| slot_positions.partition_point(|&slot| slot <= p)).collect();
        out.par_chunks_exact_mut(numbers).enumerate().for_each(|(g, out)| {
            let query_head = kv_head * group + g;
            SCRATCH.with_borrow_mut(|scratch| {
                run(level, output, window, query_head, head.any(), &visible, scratch, out);
            });
        });
    }
    Ok(out)
}

dispatch! {
    /// The scores of one query head, `out` as [`Output`] says; row `i` of the window sees the first `visible[i]` slots.
    fn run(level, output: Output, window: &Window<'_>, query_head: usize, head: AnyHead<'_>, visible: &[usize], scratch: &mut CacheLines, out: &mut [f32]) = body::<VectorOf<Target>>;
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn body<V: Vector>(
    output: Output,
    window: &Window<'_>,
    query_head: usize,
    head: AnyHead<'_>,
    visible: &[usize],
    scratch: &mut CacheLines,
    out: &mut [f32],
) {
    with_format!(head.layout.codec, F => {
        query_head_scores::<V, F>(output, window, query_head, head, visible, scratch, out)
    });
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn query_head_scores<V: Vector, F: Format>(
    output: Output,
    window: &Window<'_>,
    query_head: usize,
    head: AnyHead<'_>,
    visible: &[usize],
    scratch: &mut CacheLines,
    out: &mut [f32],
) {
    let (dim, slots) = (head.layout.head_dim, head.layout.slots);
    let stride = dim.next_multiple_of(16);
    let block_len = slots.div_ceil(QUAD) * CELL;
    let len = head.block_count() * block_len;
    let scratch = scratch.at_least(QUERIES * stride + (2 + SUMS) * len);
    let (q, rest) = scratch.split_at_mut(QUERIES * stride);
    let (cells, rest) = rest.split_at_mut(len);
    let (sums, logits) = rest.split_at_mut(SUMS * len);
    let sums = match output {
        Output::Reduced(_) => &mut sums[..len],
        Output::Rows => &mut [],
        Output::Sums => sums,
    };
    cells.fill(0.0);
    sums.fill(0.0);
    let count = visible.len();
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
                1 if V::LANES < CELL => quad_dots::<V, F, 1, 0>(q, stride, keys, dim, None, cells),
                _ => quad_dots::<V, F, QUERIES, 0>(q, stride, keys, dim, None, cells),
            }
        }
        hide(cells, block_len, slots, head.len, visible);
        if let Output::Sums = output {
            logits.copy_from_slice(cells);
        }
        let (mut max, mut total, mut factors) = ([f32::NEG_INFINITY; CELL], [0.0; CELL], [0.0; CELL]);
        softmax::<V>(cells, &mut max, &mut total, &mut factors);
        let mut inverse = [0.0; CELL];
        let fade = if let Output::Reduced(kernel) = output { kernel.fade } else { 1.0 };
        for (i, inverse) in inverse.as_chunks_mut::<QUAD>().0.iter_mut().enumerate().take(visible.len()) {
            let [a, b, c, d] = [0, 1, 2, 3].map(|s| total[i * QUAD + s]);
            let total = (a + b) + (c + d);
            inverse.fill(if total == 0.0 { 0.0 } else { faded(fade, first + i, count) / total });
        }
        match output {
            Output::Reduced(kernel) => add::<V>(kernel.rows, cells, &inverse, sums),
            Output::Sums => {
                // ln p = (logit - max) - ln(total), in this order: the difference of large numbers is exact. A row that sees nothing has no max.
                let mut logs = [0.0; CELL];
                for (i, &inverse) in inverse.iter().enumerate() {
                    (max[i], logs[i]) = if inverse == 0.0 { (0.0, 0.0) } else { (max[i], inverse.ln()) };
                }
                add_sums::<V>(cells, &inverse, logits, &max, &logs, sums);
            }
            Output::Rows => {
                let rows = out.chunks_exact_mut(head.len).skip(first).zip(inverse.as_chunks::<QUAD>().0);
                for (i, (row, inverse)) in rows.take(visible.len()).enumerate() {
                    spread(cells, i, inverse[0], block_len / CELL, slots, row);
                }
            }
        }
    }
    let rows = match output {
        Output::Reduced(kernel) => kernel.rows,
        Output::Sums => RowReduce::Sum,
        Output::Rows => return,
    };
    // The four rows of every cell.
    let block_cells = block_len / CELL;
    for (sums, out) in sums.chunks_exact(len).zip(out.chunks_exact_mut(head.len)) {
        for (q, cell) in sums.as_chunks::<CELL>().0.iter().enumerate() {
            let slot = q / block_cells * slots + q % block_cells * QUAD;
            let end = (slot + QUAD).min(q / block_cells * slots + slots).min(out.len());
            for (s, out) in out[slot.min(end)..end].iter_mut().enumerate() {
                let [a, b, c, d] = [0, 1, 2, 3].map(|i| cell[i * QUAD + s]);
                *out = match rows {
                    RowReduce::Mean => ((a + b) + (c + d)) / count as f32,
                    RowReduce::Sum => (a + b) + (c + d),
                    RowReduce::L2 => ((a + b) + (c + d)).sqrt(),
                    RowReduce::Max => a.max(b).max(c.max(d)),
                };
            }
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

/// Adds the probabilities `p = cells · inverse`, their squares and `-p (logits - max + logs) = -p ln p` to the three parts of the sums.
#[inline(always)]
fn add_sums<V: Vector>(
    cells: &[f32],
    inverse: &[f32; CELL],
    logits: &[f32],
    max: &[f32; CELL],
    logs: &[f32; CELL],
    sums: &mut [f32],
) {
    let (ones, rest) = sums.split_at_mut(cells.len());
    let (squares, entropies) = rest.split_at_mut(cells.len());
    let parts = ones
        .as_chunks_mut::<CELL>()
        .0
        .iter_mut()
        .zip(squares.as_chunks_mut::<CELL>().0)
        .zip(entropies.as_chunks_mut::<CELL>().0);
    let cells = cells.as_chunks::<CELL>().0.iter().zip(logits.as_chunks::<CELL>().0);
    for ((cell, logits), ((ones, squares), entropies)) in cells.zip(parts) {
        for column in (0..CELL).step_by(V::LANES) {
            let p = V::load(&cell[column..]).mul(V::load(&inverse[column..]));
            // What is hidden has p = 0 and logit -∞: any finite number will do.
            let log = V::load(&logits[column..]).sub(V::load(&max[column..])).add(V::load(&logs[column..]));
            let log = log.max(V::splat(-200.0));
            add_product(p, V::splat(1.0), &mut ones[column..]);
            add_product(p, p, &mut squares[column..]);
            add_product(p, V::splat(0.0).sub(log), &mut entropies[column..]);
        }
    }
}

#[inline(always)]
fn add_product<V: Vector>(x: V, factor: V, sum: &mut [f32]) {
    x.mul_add(factor, V::load(sum)).store(sum);
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
