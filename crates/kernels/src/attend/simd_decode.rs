//! Weighted sums of stored values for a few queries.

use crate::format::Format;
use crate::simd_cells::{Ahead, CELL, Next, QUAD, QUERIES, Rows, STREAMS, add_outer, known, place, some_rows};
use crate::simd_vector::Vector;
use std::hint::black_box;

/// `out_i = out_i · factor_i + Σ_s weight_(i, s) · v_s` for the `Q` padded rows `out` (`[Q][stride]`) and the rows of some blocks. `cells` holds
/// the weights times the scales of the rows, `cells_per_block` cells for each block; `factors` is a cell. `ahead` is what will be read next.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn add_weighted<V: Vector, F: Format, const Q: usize, const DIM: usize>(
    cells: &[f32],
    cells_per_block: usize,
    values: &[&[u8]],
    ahead: &mut Ahead<'_>,
    dim: usize,
    factors: &[f32],
    out: &mut [f32],
    stride: usize,
) {
    let dim = known::<DIM>(dim);
    let row_bytes = F::row_bytes(dim);
    // Mostly the maxima stay what they were.
    if (0..Q).any(|i| factors[place(Q, i, 0)] != 1.0) {
        for (i, out) in out.chunks_exact_mut(stride).take(Q).enumerate() {
            let factor = V::splat(factors[place(Q, i, 0)]);
            out.chunks_exact_mut(V::LANES).for_each(|out| V::load(out).mul(factor).store(out));
        }
    }
    let cells = cells.as_chunks::<CELL>().0;
    for (block, rows) in values.iter().enumerate() {
        let slots = rows.len() / row_bytes;
        let cells = &cells[block * cells_per_block..][..slots.div_ceil(QUAD)];
        if V::REGISTERS >= 32 {
            for (quad, cell) in cells.iter().enumerate() {
                // What stands for no slot has no weight.
                let rows = some_rows(rows, row_bytes, slots, quad * QUAD);
                add_rows::<V, F, Q, DIM>(cell, rows, ahead.next(row_bytes), dim, out, stride);
            }
        } else if Q == QUERIES {
            add_block::<V, F, Q, 2>(cells, rows, ahead, dim, out, stride);
        } else {
            add_block::<V, F, Q, 4>(cells, rows, ahead, dim, out, stride);
        }
    }
}

/// The same for a quad, without factors. Rows are read in order, whole and a few together, as processors expect it; what stays in registers
/// are their weights, not the sums.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn add_rows<V: Vector, F: Format, const Q: usize, const DIM: usize>(
    cell: &[f32; CELL],
    rows: [&[u8]; QUAD],
    next: Next<'_, QUAD>,
    dim: usize,
    out: &mut [f32],
    stride: usize,
) {
    let rows = Rows::<F, QUAD, DIM>::new(rows, dim);
    assert!(out.len() >= (Q - 1) * stride + dim.next_multiple_of(V::LANES));
    // Else the compiler keeps a copy of all sums on the stack from quad to quad, and stores each twice.
    let out = black_box(out);
    let mut weights = [[V::splat(0.0); QUAD]; Q];
    for i in 0..Q {
        for s in 0..QUAD {
            weights[i][s] = V::splat(cell[place(Q, i, s)]);
        }
    }
    if DIM > 0 {
        for line in rows.lines() {
            next.ask(line);
            for c in rows.vectors::<V>(line) {
                add_vector::<V, F, Q, DIM, true>(&weights, rows, c, out, stride);
            }
        }
    } else {
        // As for the products of keys.
        rows.lines().for_each(|line| next.ask(line));
        let whole = dim / V::LANES;
        for c in 0..whole {
            add_vector::<V, F, Q, DIM, true>(&weights, rows, c, out, stride);
        }
        if whole * V::LANES < dim {
            add_vector::<V, F, Q, DIM, false>(&weights, rows, whole, out, stride);
        }
    }
}

/// The same for vector `c`.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn add_vector<V: Vector, F: Format, const Q: usize, const DIM: usize, const WHOLE: bool>(
    weights: &[[V; QUAD]; Q],
    rows: Rows<'_, F, QUAD, DIM>,
    c: usize,
    out: &mut [f32],
    stride: usize,
) {
    let mut sums = [V::splat(0.0); Q];
    for i in 0..Q {
        // SAFETY: the caller saw that the sums are padded to whole vectors.
        sums[i] = V::load(unsafe { out.get_unchecked(i * stride + c * V::LANES..i * stride + (c + 1) * V::LANES) });
    }
    for s in 0..QUAD {
        // SAFETY: the caller says whether it is whole.
        let loaded: V = unsafe { rows.load::<V, WHOLE>(s, c) };
        for i in 0..Q {
            sums[i] = weights[i][s].mul_add(loaded, sums[i]);
        }
    }
    for i in 0..Q {
        // SAFETY: as above.
        sums[i].store(unsafe { out.get_unchecked_mut(i * stride + c * V::LANES..i * stride + (c + 1) * V::LANES) });
    }
}

/// The same for a block where there are 16 registers. The weights do not fit them, and loading and storing the sums for every quad took a tenth longer
/// (a third where another thread had the same core). So `C` vectors of each query's sums stay in registers for the whole block.
#[inline(always)]
fn add_block<V: Vector, F: Format, const Q: usize, const C: usize>(
    cells: &[[f32; CELL]],
    rows: &[u8],
    ahead: &mut Ahead<'_>,
    dim: usize,
    out: &mut [f32],
    stride: usize,
) {
    assert!(out.len() >= (Q - 1) * stride + dim.next_multiple_of(V::LANES));
    let whole = dim / V::LANES / C * C;
    // Each quad of each group of vectors asks for as much as it reads, of the streams in turn.
    let asked = ahead.rows / STREAMS * F::row_bytes(dim);
    for first in (0..whole).step_by(C) {
        add_columns::<V, F, Q, C, true>(cells, rows, ahead, asked, first / C, dim, first, out, stride);
    }
    let asked = asked + whole * cells.len() * QUAD * V::LANES * F::BYTES / STREAMS;
    for c in whole..dim / V::LANES {
        add_columns::<V, F, Q, 1, true>(cells, rows, ahead, asked, c - whole, dim, c, out, stride);
    }
    if !dim.is_multiple_of(V::LANES) {
        let c = dim / V::LANES;
        add_columns::<V, F, Q, 1, false>(cells, rows, ahead, asked, c - whole, dim, c, out, stride);
    }
    ahead.rows += cells.len() * QUAD;
}

/// The same for the `C` vectors from `first` on, which are number `group` of those that ask for what comes from `asked` on.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn add_columns<V: Vector, F: Format, const Q: usize, const C: usize, const WHOLE: bool>(
    cells: &[[f32; CELL]],
    rows: &[u8],
    ahead: &Ahead<'_>,
    asked: usize,
    group: usize,
    dim: usize,
    first: usize,
    out: &mut [f32],
    stride: usize,
) {
    let row_bytes = F::row_bytes(dim);
    let mut sums = [[V::splat(0.0); C]; Q];
    for i in 0..Q {
        for c in 0..C {
            let at = i * stride + (first + c) * V::LANES;
            // SAFETY: the caller saw that the sums are padded to whole vectors.
            sums[i][c] = V::load(unsafe { out.get_unchecked(at..at + V::LANES) });
        }
    }
    let quads = rows.chunks_exact(QUAD * row_bytes);
    let last = quads.remainder();
    for (quad, (cell, rows)) in cells.iter().zip(quads).enumerate() {
        let bytes = QUAD * C * V::LANES * F::BYTES;
        let turn = group * cells.len() + quad;
        ahead.ask(turn % STREAMS, asked + turn / STREAMS * bytes, bytes);
        for s in 0..QUAD {
            add_row::<V, F, Q, C, WHOLE>(cell, s, &rows[s * row_bytes..][..row_bytes], dim, first, &mut sums);
        }
    }
    for (s, row) in last.chunks_exact(row_bytes).enumerate() {
        add_row::<V, F, Q, C, WHOLE>(&cells[cells.len() - 1], s, row, dim, first, &mut sums);
    }
    for i in 0..Q {
        for c in 0..C {
            let at = i * stride + (first + c) * V::LANES;
            // SAFETY: as above.
            sums[i][c].store(unsafe { out.get_unchecked_mut(at..at + V::LANES) });
        }
    }
}

/// The same for a row, which is that of slot `s` of a cell.
#[inline(always)]
fn add_row<V: Vector, F: Format, const Q: usize, const C: usize, const WHOLE: bool>(
    cell: &[f32; CELL],
    s: usize,
    row: &[u8],
    dim: usize,
    first: usize,
    sums: &mut [[V; C]; Q],
) {
    let row = Rows::<F, 1, 0>::new([row], dim);
    let weight = |i: usize| V::splat(cell[place(Q, i, s)]);
    // SAFETY: the caller says whether it is whole.
    let value = |c: usize| -> V { unsafe { row.load::<V, WHOLE>(0, first + c) } };
    add_outer(sums, weight, value);
}
