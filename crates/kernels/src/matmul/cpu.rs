//! CPU bodies.
//!
//! For few rows of `x` weights are used where they are widened, in registers. For many, a part of the work widens a tile of
//! weights, span by span, into a buffer that stays in the cache, and multiplies all its rows of `x` with it in micro-tiles whose
//! sums stay in registers. A dot product is always added up in the same way (lane by lane over at most [`SPAN`] columns, then
//! over the lanes, then the spans in order), so the partition is free.

use std::cell::RefCell;

use super::{
    Matrix, Product,
    formats::{Format, PIECE, with_format},
    simd_dots::{dots, fetch_ahead, sum_lanes, widened_dots},
    simd_parts::{Part, for_each_part},
    simd_quants::Quants,
};
use crate::{
    CacheLines, dispatch,
    simd::Level,
    simd_vector::{Vector, VectorOf},
};

/// Columns between two additions over the lanes: a micro-tile of that many columns stays in the first-level cache.
const SPAN: usize = 1024;
/// Rows of `x` in one part.
const X_ROWS: usize = 128;
/// Weights whose widening and multiplication by one row of `x` is worth a part of its own, about.
///
/// Measured with all layers of a 135M-parameter Llama in Q4_1, 120 hand-overs a token: with two threads 2.18 ms for parts of 8K or
/// 16K, 2.15 for 32K and 64K, 2.19 for 128K, 2.28 for 256K; with one thread 4.03, 3.98, 3.88, 3.82, 3.82, 3.85. A hand-over costs
/// about 2 µs while the other thread is awake. It falls asleep where it finds nothing for some 15 µs, and is woken too late to be
/// of any use for a product of this size: serial work between products has to be shorter.
const PART_WEIGHTS: usize = 64 * 1024;
/// Multiplications that take as long as one widening, about.
const WIDENING: usize = 4;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Weight rows of a part are a multiple of it where they are widened in registers.
const REGISTER_ROWS: usize = 16;
/// Weight rows of a tile: few enough for the second-level cache.
const TILE_ROWS: usize = 32;

thread_local! {
    /// A tile of widened weights, `[tile rows][span]`.
    static TILE: RefCell<CacheLines> = const { RefCell::new(CacheLines::new()) };
    /// Rows of `x`, padded and on cache lines. More than one where a thread that waits for others was handed another product.
    static PADDED: RefCell<Vec<CacheLines>> = const { RefCell::new(Vec::new()) };
}

/// Up to as many rows of `x` are multiplied with weights in registers. Measured: beyond, where they are widened a second time, a
/// tile is as good or better, and without instructions for the widening it always is.
fn in_registers(level: Level) -> usize {
    match level {
        Level::Baseline if !cfg!(target_arch = "aarch64") => 1,
        Level::Avx2 => 4,
        Level::Baseline | Level::Avx512 => 8,
    }
}

/// `products` of `x[m][cols]`.
pub(super) fn multiply(level: Level, x: &[f32], cols: usize, products: &mut [Product]) {
    let m = x.len() / cols;
    // In registers two rows of weights share a load of x; where all of these cross cache lines, eight rows take a fifth longer.
    let crossing = (2..=in_registers(level)).contains(&m) && x.as_ptr().align_offset(LINE) != 0;
    if cols.is_multiple_of(PIECE) && !crossing {
        return multiply_padded(level, x, m, products);
    }
    let stride = cols.next_multiple_of(PIECE);
    let mut buffer = PADDED.with_borrow_mut(Vec::pop).unwrap_or_default();
    let padded = buffer.at_least(m * stride);
    for (padded, x) in padded.chunks_exact_mut(stride).zip(x.chunks_exact(cols)) {
        padded[..cols].copy_from_slice(x);
        padded[cols..].fill(0.0);
    }
    multiply_padded(level, padded, m, products);
    PADDED.with_borrow_mut(|buffers| buffers.push(buffer));
}

/// [`multiply`] with rows of `x` that were padded with zeros to whole pieces.
fn multiply_padded(level: Level, x: &[f32], m: usize, products: &mut [Product]) {
    let stride = x.len() / m;
    let weights = PART_WEIGHTS * (WIDENING + 1) / (WIDENING + m.min(X_ROWS));
    let in_registers = m <= in_registers(level);
    let rows = if in_registers {
        // As many parts as give every thread the same: with five for two, one waits for a fifth of the time.
        let all: usize = products.iter().map(|product| product.w.rows).sum();
        let parts = all.div_ceil((weights / stride).max(1)).next_multiple_of(rayon::current_num_threads());
        all.div_ceil(parts.max(1)).next_multiple_of(REGISTER_ROWS).max(REGISTER_ROWS)
    } else {
        (weights / stride).next_multiple_of(TILE_ROWS).max(TILE_ROWS)
    };
    for_each_part(products, m, rows, X_ROWS, |mut part| {
        let x = &x[part.x.start * stride..part.x.end * stride];
        if in_registers && stride == part.w.cols {
            multiply_in_registers(level, x, &mut part);
        } else {
            TILE.with_borrow_mut(|buffer| multiply_tiles(level, x, stride, &mut part, buffer));
        }
        part.add_bias();
    });
}

/// Few rows of `x`: the weights are used where they are widened, in registers.
fn multiply_in_registers(level: Level, x: &[f32], part: &mut Part) {
    macro_rules! multiply {
        ($format:ty) => {
            multiply_rows::<$format>(level, x, part)
        };
    }
    with_format!(part.w.dtype, multiply);
}

/// Many rows of `x`: tile by tile, span by span.
fn multiply_tiles(level: Level, x: &[f32], stride: usize, part: &mut Part, buffer: &mut CacheLines) {
    let w = part.w;
    for first in part.rows.clone().step_by(TILE_ROWS) {
        let rows = TILE_ROWS.min(part.rows.end - first);
        let bytes = w.row_range(first, rows);
        for start in (0..stride).step_by(SPAN) {
            let cols = SPAN.min(stride - start);
            // As long as any tile, so that a thread allocates once in its life.
            let tile = &mut buffer.at_least(TILE_ROWS * SPAN)[..rows * cols];
            macro_rules! widen {
                ($format:ty) => {
                    widen_tile::<$format>(level, bytes, w.row_bytes(), start, cols, tile)
                };
            }
            with_format!(w.dtype, widen);
            multiply_span(level, Span { x, stride, start, tile, cols, first: first - part.rows.start, row: 0, part });
        }
    }
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
    fn widen_row<F: Format>(level, row: &[u8], start: usize, out: &mut [f32]) = widen_row_body::<F, VectorOf<Target>>;
}
dispatch! {
    fn widen_tile<F: Format>(level, rows: &[u8], row_bytes: usize, start: usize, cols: usize, tile: &mut [f32]) = widen_tile_body::<F, VectorOf<Target>>;
}
dispatch! {
    fn multiply_rows<F: Format>(level, x: &[f32], part: &mut Part<'_>) = multiply_rows_body::<F, VectorOf<Target>>;
}
dispatch! {
    fn multiply_span(level, span: Span<'_, '_>) = multiply_span_body::<VectorOf<Target>>;
}

#[inline(always)]
fn widen_tile_body<F: Format, V: Quants>(rows: &[u8], row_bytes: usize, start: usize, cols: usize, tile: &mut [f32]) {
    for (row, out) in rows.chunks_exact(row_bytes).zip(tile.chunks_exact_mut(cols)) {
        widen_row_body::<F, V>(row, start, out);
    }
}

/// Widens a row from column `start`, where a block begins, on. What `out` has beyond the end of the row becomes 0.
#[inline(always)]
fn widen_row_body<F: Format, V: Quants>(row: &[u8], start: usize, out: &mut [f32]) {
    let row = &row[start / F::BLOCK * F::BYTES..];
    let whole = (row.len() / F::BYTES * F::BLOCK).min(out.len());
    let (out, rest) = out.split_at_mut(whole);
    for (block, out) in row.chunks_exact(F::BYTES).zip(out.chunks_exact_mut(F::BLOCK)) {
        fetch_ahead(block, 0, F::BYTES);
        widen_block::<F, V>(block, out);
    }
    if !rest.is_empty() {
        // Only a row of plain floats ends inside a block.
        let bytes = row.chunks_exact(F::BYTES).remainder();
        let (mut block, mut weights) = ([0; 4 * PIECE], [0.0; PIECE]);
        block[..bytes.len()].copy_from_slice(bytes);
        widen_block::<F, V>(&block[..F::BYTES], &mut weights);
        rest.copy_from_slice(&weights[..rest.len()]);
    }
}

#[inline(always)]
fn widen_block<F: Format, V: Quants>(block: &[u8], out: &mut [f32]) {
    let mut unpacked = F::Unpacked::default();
    F::unpack::<V>(block, &mut unpacked);
    for (group, out) in out.chunks_exact_mut(F::GROUP).enumerate() {
        for at in (0..F::GROUP).step_by(V::LANES) {
            F::weights::<V>(block, &unpacked, group, at).store(&mut out[at..]);
        }
    }
}

#[inline(always)]
fn multiply_rows_body<F: Format, V: Quants>(x: &[f32], part: &mut Part) {
    let cols = part.w.cols;
    let mut row = 0;
    macro_rules! rows {
        ($m:literal, $n:literal) => {
            while part.x.len() - row >= $m {
                multiply_group::<F, V, $m, $n>(&x[row * cols..(row + $m) * cols], row, part);
                row += $m;
            }
        };
    }
    if V::REGISTERS >= 32 {
        rows!(8, 2);
    }
    rows!(4, 2);
    rows!(2, 4);
    rows!(1, 4);
}

/// Products of `M` rows of `x`, the part's `row` and the next, with all its weight rows, `N` at a time.
#[inline(always)]
fn multiply_group<F: Format, V: Quants, const M: usize, const N: usize>(x: &[f32], row: usize, part: &mut Part) {
    let Matrix { cols, .. } = part.w;
    let row_bytes = part.w.row_bytes();
    let rows = part.rows.len();
    let weights = part.w.row_range(part.rows.start, rows);
    for first in (0..rows).step_by(N) {
        let mut streams = [&[][..]; N];
        for (n, stream) in streams.iter_mut().enumerate() {
            // Where there are fewer rows, the last one serves for those that lack.
            let index = (first + n).min(rows - 1);
            *stream = &weights[index * row_bytes..(index + 1) * row_bytes];
        }
        let mut totals = [[0.0; N]; M];
        for start in (0..cols).step_by(SPAN) {
            let mut spans = [&[][..]; M];
            for m in 0..M {
                spans[m] = &x[m * cols + start..m * cols + cols.min(start + SPAN)];
            }
            let sums = widened_dots::<F, V, M, N>(streams, start / F::BLOCK, spans);
            for (totals, sums) in totals.iter_mut().zip(sum_lanes(&sums)) {
                for (total, sum) in totals.iter_mut().zip(sums) {
                    *total = if start == 0 { sum } else { *total + sum };
                }
            }
        }
        for (m, totals) in totals.iter().enumerate() {
            let [out] = part.out(row + m);
            match out[first..].first_chunk_mut() {
                Some(out) => *out = *totals,
                None => out[first..].copy_from_slice(&totals[..rows - first]),
            }
        }
    }
}

/// The rows of `x` that are still to be multiplied with a span of a tile.
struct Span<'a, 'b> {
    x: &'a [f32],
    stride: usize,
    /// First column.
    start: usize,
    /// `[tile rows][cols]`.
    tile: &'a [f32],
    cols: usize,
    /// Where the tile's rows begin among the part's.
    first: usize,
    /// The next row of `x`.
    row: usize,
    part: &'a mut Part<'b>,
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
        while self.row + M <= self.part.x.len() {
            let mut rows = [&[][..]; M];
            for (m, row) in rows.iter_mut().enumerate() {
                *row = &self.x[(self.row + m) * self.stride + self.start..][..self.cols];
            }
            let out = self.part.out(self.row);
            multiply_columns::<V, M>(rows, self.tile, self.start == 0, self.first, out);
            self.row += M;
        }
    }
}

/// Products of `M` rows of `x` with the rows of a tile, whose first belongs to `out[..][j]`.
#[inline(always)]
fn multiply_columns<V: Vector, const M: usize>(
    x: [&[f32]; M],
    tile: &[f32],
    fresh: bool,
    j: usize,
    mut out: [&mut [f32]; M],
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
