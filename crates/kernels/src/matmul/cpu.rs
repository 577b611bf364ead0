//! CPU bodies.
//!
//! A task widens a tile of weights, span by span, into a buffer that stays in the cache, and multiplies all its rows of `x` with
//! it in micro-tiles whose sums stay in registers. A dot product is always added up in the same way (the lanes of a vector over
//! at most [`SPAN`] columns, then over the lanes, then the spans in order), so the partition into tasks is free.

use std::{borrow::Cow, cell::RefCell};

use rayon::prelude::*;

use super::{
    Matrix, Product,
    formats::{Format, GROUP, with_format},
};
use crate::{
    dispatch,
    simd::Level,
    simd_vector::{Vector, VectorOf},
};

/// Columns between two additions over the lanes: a micro-tile of that many columns stays in the first-level cache.
const SPAN: usize = 1024;
/// Rows of `x` in one task.
const X_ROWS: usize = 128;
/// Products of one weight and one activation that are worth a task of their own, about.
const TASK: usize = 32 * 1024;
/// Weight rows of a tile: few enough for the first-level cache, or, with many rows of `x`, for the second.
const TILE_ROWS: [usize; 2] = [8, 32];

thread_local! {
    /// A tile of widened weights, `[tile rows][span]`, from the first cache line on.
    static TILE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `x[m][cols]` with each row padded with zeros to whole groups.
pub(super) fn padded(x: &[f32], cols: usize) -> Cow<'_, [f32]> {
    if cols.is_multiple_of(GROUP) {
        return Cow::Borrowed(x);
    }
    let rest = cols.next_multiple_of(GROUP) - cols;
    Cow::Owned(x.chunks_exact(cols).flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, rest))).collect())
}

/// A range of weight rows and a range of rows of `x`.
struct Task<'a, 'b> {
    w: &'a Matrix<'a>,
    bias: Option<&'a [f32]>,
    first: usize,
    x: &'a [f32],
    /// One slice for each row of `x`, as long as there are weight rows.
    out: Vec<&'b mut [f32]>,
}

/// `x` holds `m` rows, [`padded`].
pub(super) fn multiply(level: Level, x: &[f32], m: usize, products: &mut [Product]) {
    let stride = x.len() / m;
    let tile_rows = TILE_ROWS[usize::from(m > 16)];
    let rows = (TASK / (m.min(X_ROWS) * stride)).next_multiple_of(tile_rows).max(tile_rows);
    let mut tasks = Vec::new();
    for Product { out, w, bias } in products.iter_mut().filter(|product| product.w.rows > 0) {
        for (out, x) in out.chunks_mut(X_ROWS * w.rows).zip(x.chunks(X_ROWS * stride)) {
            let mut parts: Vec<_> = out.chunks_mut(w.rows).map(|row| row.chunks_mut(rows)).collect();
            for first in (0..w.rows).step_by(rows) {
                let out = parts.iter_mut().filter_map(Iterator::next).collect();
                tasks.push(Task { w, bias: *bias, first, x, out });
            }
        }
    }
    tasks
        .into_par_iter()
        .for_each(|mut task| TILE.with_borrow_mut(|buffer| run(level, stride, tile_rows, &mut task, buffer)));
}

fn run(level: Level, stride: usize, tile_rows: usize, task: &mut Task, buffer: &mut Vec<f32>) {
    let rows = task.out[0].len();
    for first in (0..rows).step_by(tile_rows) {
        let rows = tile_rows.min(rows - first);
        let bytes = task.w.row_range(task.first + first, rows);
        for start in (0..stride).step_by(SPAN) {
            let cols = SPAN.min(stride - start);
            let tile = cache_lines(buffer, rows * cols);
            macro_rules! widen {
                ($format:ty) => {
                    widen_tile::<$format>(level, bytes, task.w.row_bytes(), start / GROUP, cols, tile)
                };
            }
            with_format!(task.w.dtype, widen);
            multiply_tile(level, task.x, stride, start, tile, cols, first, &mut task.out);
        }
    }
    if let Some(bias) = task.bias {
        for row in &mut task.out {
            row.iter_mut().zip(&bias[task.first..]).for_each(|(out, bias)| *out += bias);
        }
    }
}

/// `len` numbers of the buffer that begin on a cache line, so that no load of theirs crosses one.
fn cache_lines(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    const LINE: usize = 64;
    if buffer.len() < len + LINE {
        buffer.resize(len + LINE, 0.0);
    }
    let start = buffer.as_ptr().align_offset(LINE);
    &mut buffer[start..start + len]
}

/// Widens one row.
pub(super) fn dequantize(level: Level, w: Matrix, row: usize, out: &mut [f32]) {
    macro_rules! widen {
        ($format:ty) => {
            widen_row::<$format>(level, w.row_range(row, 1), 0, out)
        };
    }
    with_format!(w.dtype, widen);
}

dispatch! {
    fn widen_row<F: Format>(level, row: &[u8], group: usize, out: &mut [f32]) = widen_row_body::<F, VectorOf<Target>>;
}
dispatch! {
    fn widen_tile<F: Format>(level, rows: &[u8], row_bytes: usize, group: usize, cols: usize, tile: &mut [f32]) = widen_tile_body::<F, VectorOf<Target>>;
}
dispatch! {
    fn multiply_tile(
        level, x: &[f32], stride: usize, start: usize, tile: &[f32], cols: usize, j: usize, out: &mut [&mut [f32]],
    ) = multiply_tile_body::<VectorOf<Target>>;
}

#[inline(always)]
fn widen_tile_body<F: Format, V: Vector>(rows: &[u8], row_bytes: usize, group: usize, cols: usize, tile: &mut [f32]) {
    for (row, out) in rows.chunks_exact(row_bytes).zip(tile.chunks_exact_mut(cols)) {
        widen_row_body::<F, V>(row, group, out);
    }
}

/// Widens a row from `group`, which begins a block, on. What `out` has beyond the end of the row becomes 0.
#[inline(always)]
fn widen_row_body<F: Format, V: Vector>(row: &[u8], group: usize, out: &mut [f32]) {
    let row = &row[group / F::GROUPS * F::BYTES..];
    let whole = (row.len() / F::BYTES * F::GROUPS * GROUP).min(out.len());
    let (out, rest) = out.split_at_mut(whole);
    for (block, out) in row.chunks_exact(F::BYTES).zip(out.chunks_exact_mut(F::GROUPS * GROUP)) {
        for (group, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
            F::decode::<V>(block, group, out);
        }
    }
    if !rest.is_empty() {
        // Only a row of plain floats ends inside a group.
        let bytes = row.chunks_exact(F::BYTES).remainder();
        let (mut block, mut weights) = ([0; 4 * GROUP], [0.0; GROUP]);
        block[..bytes.len()].copy_from_slice(bytes);
        F::decode::<V>(&block, 0, &mut weights);
        rest.copy_from_slice(&weights[..rest.len()]);
    }
}

#[inline(always)]
fn multiply_tile_body<V: Vector>(
    x: &[f32],
    stride: usize,
    start: usize,
    tile: &[f32],
    cols: usize,
    j: usize,
    out: &mut [&mut [f32]],
) {
    if V::REGISTERS >= 32 {
        multiply_rows::<V, 4>(x, stride, start, tile, cols, j, out);
    } else {
        multiply_rows::<V, 2>(x, stride, start, tile, cols, j, out);
    }
}

/// `out[i][j ..] += x[i] · tile[..]` over the span from column `start`, `M` rows of `x` at a time.
#[inline(always)]
fn multiply_rows<V: Vector, const M: usize>(
    x: &[f32],
    stride: usize,
    start: usize,
    tile: &[f32],
    cols: usize,
    j: usize,
    out: &mut [&mut [f32]],
) {
    let (groups, rest) = out.as_chunks_mut::<M>();
    let (x_groups, x_rest) = x.split_at(groups.len() * M * stride);
    for (out, x) in groups.iter_mut().zip(x_groups.chunks_exact(M * stride)) {
        let mut rows = [&x[..0]; M];
        for (row, x) in rows.iter_mut().zip(x.chunks_exact(stride)) {
            *row = &x[start..][..cols];
        }
        multiply_columns::<V, M>(rows, tile, start == 0, j, out);
    }
    for (out, x) in rest.iter_mut().zip(x_rest.chunks_exact(stride)) {
        multiply_columns::<V, 1>([&x[start..][..cols]], tile, start == 0, j, std::array::from_mut(out));
    }
}

#[inline(always)]
fn multiply_columns<V: Vector, const M: usize>(
    x: [&[f32]; M],
    tile: &[f32],
    fresh: bool,
    j: usize,
    out: &mut [&mut [f32]; M],
) {
    const N: usize = 4;
    let cols = x[0].len();
    let quads = tile.chunks_exact(N * cols);
    let rest = quads.remainder().chunks_exact(cols);
    let singles = j + quads.len() * N;
    for (quad, j) in quads.zip((j..).step_by(N)) {
        let sums = dots::<V, M, N>(x, quad);
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sum) in out[j..].iter_mut().zip(V::sum4(sums)) {
                *out = if fresh { sum } else { *out + sum };
            }
        }
    }
    for (row, j) in rest.zip(singles..) {
        for (out, [sum]) in out.iter_mut().zip(dots::<V, M, 1>(x, row)) {
            let sum = sum.sum();
            out[j] = if fresh { sum } else { out[j] + sum };
        }
    }
}

/// Lane-wise sums of the products of `M` rows of `x` with `N` rows of weights. Loops, not `array::map`: a closure that is not
/// inlined would be compiled without the instruction set.
#[inline(always)]
fn dots<V: Vector, const M: usize, const N: usize>(x: [&[f32]; M], tile: &[f32]) -> [[V; N]; M] {
    let cols = x[0].len();
    let mut sums = [[V::splat(0.0); N]; M];
    for at in (0..cols).step_by(V::LANES) {
        let mut weights = [V::splat(0.0); N];
        for (n, weights) in weights.iter_mut().enumerate() {
            *weights = V::load(&tile[n * cols + at..]);
        }
        for (x, sums) in x.iter().zip(&mut sums) {
            let x = V::load(&x[at..]);
            for (weights, sum) in weights.iter().zip(sums) {
                *sum = weights.mul_add(x, *sum);
            }
        }
    }
    sums
}
