//! The innermost loops of the products.

use super::formats::{Format, GROUP};
use crate::simd_vector::{Vector, prefetch};

/// Asks memory for what will be read a few microseconds after the `len` bytes from `at` on. Weights are read once a token and
/// come from memory each time; the processor alone foresees them badly.
#[inline(always)]
pub(super) fn fetch_ahead(weights: &[u8], at: usize, len: usize) {
    const AHEAD: usize = 8 * 1024;
    const LINE: usize = 64;
    for line in (0..len).step_by(LINE) {
        prefetch(weights, AHEAD + at + line);
    }
}

/// Lane-wise sums of the products of `M` rows of `x` with `N` rows of `tile: [N][cols]`; `cols` is a multiple of the lanes.
///
/// Loops, not `array::map`: a closure that is not inlined would be compiled without the instruction set.
#[inline(always)]
pub(super) fn dots<V: Vector, const M: usize, const N: usize>(x: [&[f32]; M], tile: &[f32]) -> [[V; N]; M] {
    let cols = x[0].len();
    assert!(cols.is_multiple_of(V::LANES) && tile.len() == N * cols && x.iter().all(|x| x.len() == cols));
    let mut sums = [[V::splat(0.0); N]; M];
    for at in (0..cols).step_by(V::LANES) {
        let mut weights = [V::splat(0.0); N];
        for (n, weights) in weights.iter_mut().enumerate() {
            // SAFETY: `at + LANES <= cols` and `n < N`, so the range ends within the `N * cols` numbers of the tile. A check in
            // this loop costs a quarter of its speed.
            *weights = V::load(unsafe { tile.get_unchecked(n * cols + at..n * cols + at + V::LANES) });
        }
        for (x, sums) in x.iter().zip(&mut sums) {
            // SAFETY: `at + LANES <= cols`, the length of every row of x.
            let x = V::load(unsafe { x.get_unchecked(at..at + V::LANES) });
            for (weights, sum) in weights.iter().zip(sums) {
                *sum = weights.mul_add(x, *sum);
            }
        }
    }
    sums
}

/// Lane-wise sums of the products of `x` with the weights from block `first` of four rows on; `x` is a whole number of blocks.
#[inline(always)]
pub(super) fn widened_dots<F: Format, V: Vector>(rows: [&[u8]; 4], first: usize, x: &[f32]) -> [V; 4] {
    let blocks = x.chunks_exact(F::GROUPS * GROUP);
    assert!(rows.iter().all(|row| row.len() >= (first + blocks.len()) * F::BYTES));
    // Four variables, not an array in a loop, which the compiler would keep in memory.
    let (mut a, mut b, mut c, mut d) = (V::splat(0.0), V::splat(0.0), V::splat(0.0), V::splat(0.0));
    for (index, x) in (first..).zip(blocks) {
        // SAFETY: `index` is below the number of blocks that every row was checked to have.
        let [p, q, r, s] = rows.map(|row| unsafe { row.get_unchecked(index * F::BYTES..(index + 1) * F::BYTES) });
        for (group, x) in x.as_chunks().0.iter().enumerate() {
            // Four streams, but one range of memory.
            let bytes = 4 * F::BYTES / F::GROUPS;
            fetch_ahead(rows[0], (index * F::GROUPS + group) * bytes, bytes);
            accumulate::<F, V>(p, group, x, &mut a);
            accumulate::<F, V>(q, group, x, &mut b);
            accumulate::<F, V>(r, group, x, &mut c);
            accumulate::<F, V>(s, group, x, &mut d);
        }
    }
    [a, b, c, d]
}

#[inline(always)]
fn accumulate<F: Format, V: Vector>(block: &[u8], group: usize, x: &[f32; GROUP], sum: &mut V) {
    let mut weights = [0.0; GROUP];
    F::decode::<V>(block, group, &mut weights);
    for at in (0..GROUP).step_by(V::LANES) {
        *sum = V::load(&weights[at..]).mul_add(V::load(&x[at..]), *sum);
    }
}
