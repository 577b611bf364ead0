//! The innermost loops of the products.

use std::ops::Range;

use super::{formats::Format, simd_quants::Quants};
use crate::simd_vector::{Vector, prefetch};

/// Asks memory for what will be read a few microseconds after the `len` bytes from `at` on. Weights are read once a token and
/// come from memory each time; the processor alone foresees them badly.
#[inline(always)]
pub(super) fn fetch_ahead(weights: &[u8], at: usize, len: usize) {
    const AHEAD: usize = 8 * 1024;
    const LINE: usize = 64;
    for line in (0..len).step_by(LINE) {
        prefetch::<true>(weights, AHEAD + at + line);
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

/// Lane-wise sums of the products of `M` rows of `x` with the weights from block `first` of `N` rows on; `x` is a whole number of
/// blocks. The additions of [`dots`] in the same order, with weights that are used where they are widened, in registers.
#[inline(always)]
pub(super) fn widened_dots<F: Format, V: Quants, const M: usize, const N: usize>(
    rows: [&[u8]; N],
    first: usize,
    x: [&[f32]; M],
) -> [[V; N]; M] {
    let cols = x[0].len();
    let blocks = first..first + cols / F::BLOCK;
    assert!(rows.iter().all(|row| row.len() >= blocks.end * F::BYTES) && x.iter().all(|x| x.len() == cols));
    if V::REGISTERS >= 32 && F::GROUP == 2 * V::LANES {
        return widened_ahead::<F, V, M, N>(rows, blocks, x);
    }
    let mut sums = [[V::splat(0.0); N]; M];
    let mut unpacked = [F::Unpacked::default(); N];
    for (index, start) in blocks.zip((0..cols).step_by(F::BLOCK)) {
        let mut block = [&[][..]; N];
        for n in 0..N {
            // SAFETY: `index` is below the number of blocks that every row was checked to have.
            block[n] = unsafe { rows[n].get_unchecked(index * F::BYTES..(index + 1) * F::BYTES) };
            F::unpack::<V>(block[n], &mut unpacked[n]);
        }
        // N streams, but one range of memory.
        fetch_ahead(rows[0], index * N * F::BYTES, N * F::BYTES);
        for group in 0..F::GROUPS {
            let column = start + group * F::GROUP;
            if M == 1 && V::LANES < 16 {
                // SAFETY: the columns are below `cols`, the length of x.
                let x = unsafe { x[0].get_unchecked(column..column + F::GROUP) };
                for n in 0..N {
                    sums[0][n] = add_group::<F, V>(block[n], &unpacked[n], group, x, sums[0][n]);
                }
                continue;
            }
            for at in (0..F::GROUP).step_by(V::LANES) {
                let mut weights = [V::splat(0.0); N];
                for n in 0..N {
                    weights[n] = F::weights(block[n], &unpacked[n], group, at);
                }
                for m in 0..M {
                    // SAFETY: the column is below `cols`, a multiple of the lanes and the length of every row of x.
                    let x = V::load(unsafe { x[m].get_unchecked(column + at..column + at + V::LANES) });
                    for n in 0..N {
                        sums[m][n] = weights[n].mul_add(x, sums[m][n]);
                    }
                }
            }
        }
    }
    sums
}

/// [`widened_dots`] where a group is two vectors and there are registers to widen the next group while this one is multiplied: a weight takes
/// thirty cycles from memory to its first product, too many for the processor to find other work by itself. With AVX-512 that saves 5% for
/// one and two rows of x, 8% for four, 3% for eight.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn widened_ahead<F: Format, V: Quants, const M: usize, const N: usize>(
    rows: [&[u8]; N],
    blocks: Range<usize>,
    x: [&[f32]; M],
) -> [[V; N]; M] {
    let cols = x[0].len();
    assert!(blocks.len() * F::BLOCK <= cols && x.iter().all(|x| x.len() == cols));
    assert!(rows.iter().all(|row| row.len() >= blocks.end * F::BYTES));
    let mut sums = [[V::splat(0.0); N]; M];
    let mut weights = [[V::splat(0.0); N]; 2];
    let mut unpacked = [F::Unpacked::default(); N];
    let mut block = [&[][..]; N];
    let groups = blocks.len() * F::GROUPS;
    macro_rules! multiply {
        ($group:expr, $half:expr) => {
            let column = $group * F::GROUP + $half * V::LANES;
            for m in 0..M {
                // SAFETY: all groups of `blocks` lie within the columns that every row of x was checked to have.
                let x = V::load(unsafe { x[m].get_unchecked(column..column + V::LANES) });
                for n in 0..N {
                    sums[m][n] = weights[$half][n].mul_add(x, sums[m][n]);
                }
            }
        };
    }
    for ahead in 0..groups {
        let group = ahead % F::GROUPS;
        if group == 0 {
            let index = blocks.start + ahead / F::GROUPS;
            // N streams, but one range of memory.
            fetch_ahead(rows[0], index * N * F::BYTES, N * F::BYTES);
            for n in 0..N {
                // SAFETY: every row was checked to have all `blocks`.
                block[n] = unsafe { rows[n].get_unchecked(index * F::BYTES..(index + 1) * F::BYTES) };
                F::unpack::<V>(block[n], &mut unpacked[n]);
            }
        }
        for half in 0..2 {
            if ahead > 0 {
                multiply!((ahead - 1), half);
            }
            for n in 0..N {
                weights[half][n] = F::weights(block[n], &unpacked[n], group, half * V::LANES);
            }
        }
    }
    if groups > 0 {
        multiply!((groups - 1), 0);
        multiply!((groups - 1), 1);
    }
    sums
}

/// One row of `x`, one group: where vectors are short, several of them are cut out of one load.
#[inline(always)]
fn add_group<F: Format, V: Quants>(block: &[u8], unpacked: &F::Unpacked, group: usize, x: &[f32], mut sum: V) -> V {
    for (at, x) in (0..).step_by(V::LANES).zip(x.chunks_exact(V::LANES)) {
        sum = F::weights::<V>(block, unpacked, group, at).mul_add(V::load(x), sum);
    }
    sum
}

/// The sums over the lanes of `M × N` vectors, 4, 8 or 16.
#[inline(always)]
pub(super) fn sum_lanes<V: Vector, const M: usize, const N: usize>(sums: &[[V; N]; M]) -> [[f32; N]; M] {
    let (quads, rest) = sums.as_flattened().as_chunks::<4>();
    assert!(rest.is_empty() && quads.len() <= 4);
    let (sixteens, rest) = quads.as_chunks::<4>();
    let (eights, fours) = rest.as_chunks::<2>();
    let mut numbers = [0.0; 32]; // room for what is written beyond
    let mut at = 0;
    for sixteen in sixteens {
        V::sum_quads(*sixteen, &mut numbers[at..]);
        at += 16;
    }
    for eight in eights {
        V::sum_quads(*eight, &mut numbers[at..]);
        at += 8;
    }
    for four in fours {
        numbers[at..][..4].copy_from_slice(&V::sum4(*four));
    }
    let mut totals = [[0.0; N]; M];
    totals.as_flattened_mut().copy_from_slice(&numbers[..M * N]);
    totals
}
