//! Weighted sums of stored values for a few queries.

use crate::format::Format;
use crate::simd_cells::{Ahead, CELL, QUAD, STREAMS};
use crate::simd_vector::Vector;

/// `out_i = out_i · factor_i + Σ_s weight_(i, s) · v_s` for the `Q` padded rows `out` (`[Q][stride]`) and the rows of some blocks. `cells` holds
/// the weights times the scales of the rows, `cells_per_block` cells for each block; `factors` is a cell. `ahead` is what will be read next.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn add_weighted<'a, V: Vector, F: Format, I: Iterator<Item = &'a [u8]> + Clone, const Q: usize>(
    cells: &[f32],
    cells_per_block: usize,
    values: I,
    ahead: &Ahead<'_>,
    dim: usize,
    factors: &[f32],
    out: &mut [f32],
    stride: usize,
) {
    let mut start = 0;
    while start < dim {
        let left = dim - start;
        macro_rules! columns {
            ($count:literal) => {{
                columns::<V, F, I, Q, $count>(
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
            columns!(4)
        } else if left >= 2 * V::LANES {
            columns!(2)
        } else {
            columns!(1)
        }
    }
}

/// The same for the `C` vectors of columns from `start` on, of which the last may reach past `dim`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn columns<'a, V: Vector, F: Format, I: Iterator<Item = &'a [u8]>, const Q: usize, const C: usize>(
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
    let vector_bytes = V::LANES * F::BYTES;
    let row_bytes = F::row_bytes(dim);
    let from = start * F::BYTES;
    let to = (from + C * vector_bytes).min(dim * F::BYTES);
    let whole = to - from == C * vector_bytes;
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
        assert!(cells.len() >= slots.div_ceil(QUAD) * CELL);
        for s in 0..slots {
            // SAFETY: row `s` of `slots`, of which the columns `from..to` lie within `row_bytes`.
            let row = unsafe { rows.get_unchecked(s * row_bytes + from..s * row_bytes + to) };
            ahead.ask(s % STREAMS, from, asked);
            if s % STREAMS == STREAMS - 1 {
                ahead.at += row_bytes;
            }
            let mut loaded = [V::splat(0.0); C];
            if whole {
                for (c, loaded) in loaded.iter_mut().enumerate() {
                    // SAFETY: `row` holds exactly C vectors.
                    *loaded = F::load::<V>(unsafe { row.get_unchecked(c * vector_bytes..(c + 1) * vector_bytes) });
                }
            } else {
                loaded[0] = F::load_partial::<V>(row);
            }
            for i in 0..Q {
                // SAFETY: cell `s / QUAD` exists, as checked above.
                let weight = V::splat(unsafe { *cells.get_unchecked(s / QUAD * CELL + i * QUAD + s % QUAD) });
                for c in 0..C {
                    sums[i][c] = weight.mul_add(loaded[c], sums[i][c]);
                }
            }
        }
    }
    for i in 0..Q {
        for c in 0..C {
            sums[i][c].store(&mut out[i * stride + start + c * V::LANES..]);
        }
    }
}
