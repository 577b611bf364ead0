//! Weighted sums of stored values for a few queries.

use crate::format::Format;
use crate::simd_cells::{Ahead, CELL, QUAD, Rows, known, quad_rows};
use crate::simd_vector::Vector;
use std::hint::black_box;

/// `out_i = out_i · factor_i + Σ_s weight_(i, s) · v_s` for the `Q` padded rows `out` (`[Q][stride]`) and the rows of some blocks. `cells` holds
/// the weights times the scales of the rows, `cells_per_block` cells for each block; `factors` is a cell. `ahead` is what will be read next.
///
/// Rows are read in order, whole and a few together, as their processor expects it; what stays in registers are their weights, not the sums.
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
    for (i, out) in out.chunks_exact_mut(stride).take(Q).enumerate() {
        let factor = V::splat(factors[i * QUAD]);
        out.chunks_exact_mut(V::LANES).for_each(|out| V::load(out).mul(factor).store(out));
    }
    for (block, rows) in values.iter().enumerate() {
        let cells = &cells[block * cells_per_block * CELL..];
        let slots = rows.len() / row_bytes;
        for (quad, cell) in cells.as_chunks::<CELL>().0[..slots.div_ceil(QUAD)].iter().enumerate() {
            // What stands for no slot has no weight.
            let rows = quad_rows(rows, row_bytes, slots, quad);
            if V::REGISTERS >= 32 {
                add_rows::<V, F, Q, DIM, 1>(cell, rows, ahead, dim, out, stride);
            } else {
                add_rows::<V, F, Q, DIM, 2>(cell, rows, ahead, dim, out, stride);
            }
            ahead.at += row_bytes;
        }
    }
}

/// The same for a quad, without factors, `C` vectors of columns at a time.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn add_rows<V: Vector, F: Format, const Q: usize, const DIM: usize, const C: usize>(
    cell: &[f32; CELL],
    rows: [&[u8]; QUAD],
    ahead: &Ahead<'_>,
    dim: usize,
    out: &mut [f32],
    stride: usize,
) {
    let rows = Rows::<F, QUAD, DIM>::new(rows, dim);
    assert!(out.len() >= (Q - 1) * stride + dim.next_multiple_of(C * V::LANES));
    // Else the compiler keeps a copy of all sums on the stack from quad to quad, and stores each twice.
    let out = black_box(out);
    // In 32 registers there is room for the weights too.
    let mut weights = [[V::splat(0.0); QUAD]; Q];
    if V::REGISTERS >= 32 {
        for i in 0..Q {
            for s in 0..QUAD {
                weights[i][s] = V::splat(cell[i * QUAD + s]);
            }
        }
    }
    if DIM > 0 {
        for line in rows.lines() {
            ahead.ask(0..QUAD, line);
            for first in rows.vectors::<V>(line).step_by(C) {
                add_vectors::<V, F, Q, DIM, C, true>(cell, &weights, rows, first, out, stride);
            }
        }
    } else {
        // As for the products of keys.
        rows.lines().for_each(|line| ahead.ask(0..QUAD, line));
        let whole = dim / V::LANES / C * C;
        for first in (0..whole).step_by(C) {
            add_vectors::<V, F, Q, DIM, C, true>(cell, &weights, rows, first, out, stride);
        }
        for first in (whole..dim.div_ceil(V::LANES)).step_by(C) {
            add_vectors::<V, F, Q, DIM, C, false>(cell, &weights, rows, first, out, stride);
        }
    }
}

/// The same for the vectors from `first` on. `weights` are those of the cell if they are in registers.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn add_vectors<V: Vector, F: Format, const Q: usize, const DIM: usize, const C: usize, const WHOLE: bool>(
    cell: &[f32; CELL],
    weights: &[[V; QUAD]; Q],
    rows: Rows<'_, F, QUAD, DIM>,
    first: usize,
    out: &mut [f32],
    stride: usize,
) {
    let at = |i: usize, c: usize| i * stride + (first + c) * V::LANES;
    let mut sums = [[V::splat(0.0); C]; Q];
    for i in 0..Q {
        for c in 0..C {
            // SAFETY: the caller saw that the sums are padded to whole vectors, and pairs of them.
            sums[i][c] = V::load(unsafe { out.get_unchecked(at(i, c)..at(i, c) + V::LANES) });
        }
    }
    for s in 0..QUAD {
        let mut loaded = [V::splat(0.0); C];
        for c in 0..C {
            // SAFETY: the caller says whether they are whole.
            loaded[c] = unsafe { rows.load::<V, WHOLE>(s, first + c) };
        }
        for i in 0..Q {
            let weight = if V::REGISTERS >= 32 { weights[i][s] } else { V::splat(cell[i * QUAD + s]) };
            for c in 0..C {
                sums[i][c] = weight.mul_add(loaded[c], sums[i][c]);
            }
        }
    }
    for i in 0..Q {
        for c in 0..C {
            // SAFETY: as above.
            sums[i][c].store(unsafe { out.get_unchecked_mut(at(i, c)..at(i, c) + V::LANES) });
        }
    }
}
