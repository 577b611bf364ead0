//! CPU bodies.
//!
//! For one row of `x` weights are used where they are widened, in registers. For several, a task widens a tile of weights, span by
//! span, into a buffer that stays in the cache, and multiplies all its rows of `x` with it in micro-tiles whose sums stay in
//! registers. A dot product is always added up in the same way (lane by lane over at most [`SPAN`] columns, then over the lanes,
//! then the spans in order), so the partition into tasks is free.

use std::{borrow::Cow, cell::RefCell};

use rayon::prelude::*;

use super::{
    Matrix, Product,
    formats::{Format, GROUP, with_format},
    simd_dots::{dots, fetch_ahead, widened_dots},
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
/// Weights whose widening and multiplication by one row of `x` is worth a task of its own, about.
const TASK_WEIGHTS: usize = 64 * 1024;
/// Multiplications that take as long as one widening, about.
const WIDENING: usize = 4;
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
    let weights = TASK_WEIGHTS * (WIDENING + 1) / (WIDENING + m.min(X_ROWS));
    let rows = (weights / stride).next_multiple_of(tile_rows).max(tile_rows);
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
    match &mut task.out[..] {
        [out] if stride == task.w.cols => multiply_row(level, task.w, task.first, task.x, out),
        _ => multiply_rows(level, stride, tile_rows, task, buffer),
    }
    if let Some(bias) = task.bias {
        for row in &mut task.out {
            row.iter_mut().zip(&bias[task.first..]).for_each(|(out, bias)| *out += bias);
        }
    }
}

/// One row of `x`: the weights are used where they are widened, in registers.
fn multiply_row(level: Level, w: &Matrix, first: usize, x: &[f32], out: &mut [f32]) {
    macro_rules! dots {
        ($format:ty) => {
            dot_rows::<$format>(level, w.row_range(first, out.len()), w.row_bytes(), x, out)
        };
    }
    with_format!(w.dtype, dots);
}

/// Several rows of `x`: tile by tile, span by span.
fn multiply_rows(level: Level, stride: usize, tile_rows: usize, task: &mut Task, buffer: &mut Vec<f32>) {
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
            multiply_span(level, Span { x: task.x, stride, start, tile, cols, first, out: &mut task.out });
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
    fn dot_rows<F: Format>(level, rows: &[u8], row_bytes: usize, x: &[f32], out: &mut [f32]) = dot_rows_body::<F, VectorOf<Target>>;
}
dispatch! {
    fn multiply_span(level, span: Span<'_, '_>) = multiply_span_body::<VectorOf<Target>>;
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
            fetch_ahead(block, group * F::BYTES / F::GROUPS, F::BYTES / F::GROUPS);
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

/// The rows of `x` and of `out` that are still to be multiplied with a span of a tile.
struct Span<'a, 'b> {
    x: &'a [f32],
    stride: usize,
    /// First column.
    start: usize,
    /// `[tile rows][cols]`.
    tile: &'a [f32],
    cols: usize,
    /// Where the tile's rows begin in each row of `out`.
    first: usize,
    out: &'a mut [&'b mut [f32]],
}

#[inline(always)]
fn multiply_span_body<V: Vector>(mut span: Span) {
    // With four rows of weights, 24 sums, four weights and one x: the 32 registers; or eight sums, four and one: of 16.
    if V::REGISTERS >= 32 {
        span.groups::<V, 6>();
        span.groups::<V, 4>();
    }
    span.groups::<V, 2>();
    span.groups::<V, 1>();
}

impl Span<'_, '_> {
    /// Takes as many rows as there are in groups of `M`.
    #[inline(always)]
    fn groups<V: Vector, const M: usize>(&mut self) {
        let (groups, rest) = std::mem::take(&mut self.out).as_chunks_mut::<M>();
        let (x, x_rest) = self.x.split_at(groups.len() * M * self.stride);
        for (out, x) in groups.iter_mut().zip(x.chunks_exact(M * self.stride)) {
            let mut rows = [&x[..0]; M];
            for (row, x) in rows.iter_mut().zip(x.chunks_exact(self.stride)) {
                *row = &x[self.start..][..self.cols];
            }
            multiply_columns::<V, M>(rows, self.tile, self.start == 0, self.first, out);
        }
        (self.out, self.x) = (rest, x_rest);
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
        for (out, sums) in out.iter_mut().zip(&sums) {
            for (out, sum) in out[j..].iter_mut().zip(V::sum4(*sums)) {
                *out = if fresh { sum } else { *out + sum };
            }
        }
    }
    for (row, j) in rest.zip(singles..) {
        for (out, [sum]) in out.iter_mut().zip(&dots::<V, M, 1>(x, row)) {
            let sum = sum.sum();
            out[j] = if fresh { sum } else { out[j] + sum };
        }
    }
}

#[inline(always)]
fn dot_rows_body<F: Format, V: Vector>(rows: &[u8], row_bytes: usize, x: &[f32], out: &mut [f32]) {
    let (quads, rest) = out.as_chunks_mut::<4>();
    let (quad_rows, rest_rows) = rows.split_at(quads.len() * 4 * row_bytes);
    for (out, rows) in quads.iter_mut().zip(quad_rows.chunks_exact(4 * row_bytes)) {
        let (first, second) = rows.split_at(2 * row_bytes);
        let ((a, b), (c, d)) = (first.split_at(row_bytes), second.split_at(row_bytes));
        *out = dots_in_registers::<F, V>([a, b, c, d], x);
    }
    for (out, row) in rest.iter_mut().zip(rest_rows.chunks_exact(row_bytes)) {
        *out = dots_in_registers::<F, V>([row; 4], x)[0];
    }
}

/// Dot products of four rows, which are whole blocks, with `x`: the additions of [`dots`] in the same order.
#[inline(always)]
fn dots_in_registers<F: Format, V: Vector>(rows: [&[u8]; 4], x: &[f32]) -> [f32; 4] {
    let mut totals = [0.0; 4];
    for (span, x) in x.chunks(SPAN).enumerate() {
        let sums = widened_dots::<F, V>(rows, span * (SPAN / GROUP / F::GROUPS), x);
        for (total, sum) in totals.iter_mut().zip(V::sum4(sums)) {
            *total = if span == 0 { sum } else { *total + sum };
        }
    }
    totals
}
