//! Weighted sums of stored values for a few queries.

use crate::format::Format;
use crate::simd_cells::{Ahead, CELL, QUAD, known, quad_rows};
use crate::simd_vector::Vector;

/// `out_i = out_i · factor_i + Σ_s weight_(i, s) · v_s` for the `Q` padded rows `out` (`[Q][stride]`) and the rows of some blocks. `cells` holds
/// the weights times the scales of the rows, `cells_per_block` cells for each block; `factors` is a cell. `ahead` is what will be read next.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn add_weighted<
    'a,
    V: Vector,
    F: Format,
    I: Iterator<Item = &'a [u8]> + Clone,
    const Q: usize,
    const DIM: usize,
>(
    cells: &[f32],
    cells_per_block: usize,
    values: I,
    ahead: &Ahead<'_>,
    dim: usize,
    factors: &[f32],
    out: &mut [f32],
    stride: usize,
) {
    let dim = known::<DIM>(dim);
    let mut start = 0;
    while start < dim {
        let left = dim - start;
        macro_rules! columns {
            ($count:literal, $whole:literal) => {{
                columns::<V, F, I, Q, DIM, $count, $whole>(
                    cells,
                    cells_per_block,
                    values.clone(),
                    ahead,
                    dim,
                    start,
                    factors,
                    out,
                    stride,
                );
                start += $count * V::LANES;
            }};
        }
        if V::REGISTERS >= 32 && left >= 4 * V::LANES {
            columns!(4, true)
        } else if left >= 2 * V::LANES {
            columns!(2, true)
        } else if left >= V::LANES {
            columns!(1, true)
        } else {
            columns!(1, false)
        }
    }
}

/// The same for the `C` vectors of columns from `start` on, of which the last may reach past `dim`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn columns<
    'a,
    V: Vector,
    F: Format,
    I: Iterator<Item = &'a [u8]>,
    const Q: usize,
    const DIM: usize,
    const C: usize,
    const WHOLE: bool,
>(
    cells: &[f32],
    cells_per_block: usize,
    values: I,
    ahead: &Ahead<'_>,
    dim: usize,
    start: usize,
    factors: &[f32],
    out: &mut [f32],
    stride: usize,
) {
    let dim = known::<DIM>(dim);
    let vector_bytes = V::LANES * F::BYTES;
    let row_bytes = F::row_bytes(dim);
    let from = start * F::BYTES;
    let to = (from + C * vector_bytes).min(dim * F::BYTES);
    assert!(!WHOLE || to - from == C * vector_bytes);
    // With its last columns comes the scale of a row.
    let asked = C * vector_bytes + if to == dim * F::BYTES { F::SCALE_BYTES } else { 0 };
    let mut sums = [[V::splat(0.0); C]; Q];
    for i in 0..Q {
        for c in 0..C {
            sums[i][c] = V::load(&out[i * stride + start + c * V::LANES..]).mul(V::splat(factors[i * QUAD]));
        }
    }
    let mut ahead = *ahead;
    for (block, rows) in values.enumerate() {
        let cells = &cells[block * cells_per_block * CELL..];
        let slots = rows.len() / row_bytes;
        for (quad, cell) in cells.as_chunks::<CELL>().0[..slots.div_ceil(QUAD)].iter().enumerate() {
            for (s, row) in quad_rows(rows, row_bytes, slots, quad).into_iter().enumerate() {
                ahead.ask(s, from, asked);
                let mut loaded = [V::splat(0.0); C];
                if WHOLE {
                    for (c, loaded) in loaded.iter_mut().enumerate() {
                        let at = from + c * vector_bytes;
                        // SAFETY: the columns `from..to` of a row are exactly C vectors.
                        *loaded = F::load::<V>(unsafe { row.get_unchecked(at..at + vector_bytes) });
                    }
                } else {
                    loaded[0] = F::load_partial::<V>(&row[from..to]);
                }
                for i in 0..Q {
                    // What stands for no slot has no weight.
                    let weight = V::splat(cell[i * QUAD + s]);
                    for c in 0..C {
                        sums[i][c] = weight.mul_add(loaded[c], sums[i][c]);
                    }
                }
            }
            ahead.at += row_bytes;
        }
    }
    for i in 0..Q {
        for c in 0..C {
            sums[i][c].store(&mut out[i * stride + start + c * V::LANES..]);
        }
    }
}
