//! Weighted sums on the CPU: twelve rows over some slots at a time. Rows in parallel.

use crate::dispatch;
use crate::simd::Level;
use crate::simd_vector::{Vector, VectorOf, prefetch};
use crate::strips::{ROWS, STRIP, widened, with_tile};
use bytemuck::cast_slice;
use rayon::prelude::*;

/// Slots that are added up at a time: the values of these, of 64 dimensions, take half of the first-level cache.
const SLOTS: usize = 64;

/// Weights of some rows and slots, zeros where there are none. In the rows themselves, often a power of two apart, they would be in each other's places of
/// the cache.
type Weights = [[f32; SLOTS]; ROWS];

/// See [`super::weighted_sums`].
pub fn weighted_sums(level: Level, weights: &[f32], values: &[f32], dim: usize) -> Vec<f32> {
    let (slots, width) = (values.len() / dim, dim.next_multiple_of(STRIP));
    if width != dim {
        let sums = weighted_sums(level, weights, &widened(values, dim, width), width);
        return sums.chunks_exact(width).flat_map(|row| &row[..dim]).copied().collect();
    }
    let mut sums = vec![0.0; weights.len() / slots * dim];
    let groups = sums.par_chunks_mut(ROWS * dim).zip(weights.par_chunks(ROWS * slots));
    groups.for_each(|(sums, weights)| run(level, sums, weights, values, dim));
    sums
}

dispatch! {
    /// The sums of up to [`ROWS`] rows, from zeros; `dim` is a multiple of [`STRIP`].
    fn run(level, sums: &mut [f32], weights: &[f32], values: &[f32], dim: usize) = body::<VectorOf<Target>>;
}

#[inline(always)]
fn body<V: Vector>(sums: &mut [f32], weights: &[f32], values: &[f32], dim: usize) {
    let slots = values.len() / dim;
    let mut tile = [[0.0; SLOTS]; ROWS];
    let mut padded = vec![0.0; ROWS * dim];
    for (start, values) in (0..).step_by(SLOTS).zip(values.chunks(SLOTS * dim)) {
        let count = values.len() / dim;
        for (tile, row) in tile.iter_mut().zip(weights.chunks_exact(slots)) {
            let row = &row[start..];
            tile[..count].copy_from_slice(&row[..count]);
            // Pieces of rows are too short for the processor to see what comes next.
            let ahead = SLOTS * size_of::<f32>();
            (0..ahead).step_by(64).for_each(|at| prefetch::<false>(cast_slice(row), ahead + at));
        }
        with_tile!(V, add(&mut padded, &tile, values, dim));
    }
    sums.copy_from_slice(&padded[..sums.len()]);
}

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn add<V: Vector, const R: usize, const N: usize>(sums: &mut [f32], weights: &Weights, values: &[f32], dim: usize) {
    for (weights, sums) in weights.as_chunks::<R>().0.iter().zip(sums.chunks_exact_mut(R * dim)) {
        for at in (0..dim).step_by(N * V::LANES) {
            let mut totals = [[V::splat(0.0); N]; R];
            for (slot, value) in (0..SLOTS).zip(values.chunks_exact(dim)) {
                let value = &value[at..at + N * V::LANES];
                let mut vectors = [V::splat(0.0); N];
                for n in 0..N {
                    vectors[n] = V::load(&value[n * V::LANES..]);
                }
                for r in 0..R {
                    let weight = V::splat(weights[r][slot]);
                    for n in 0..N {
                        totals[r][n] = vectors[n].mul_add(weight, totals[r][n]);
                    }
                }
            }
            for r in 0..R {
                for n in 0..N {
                    let sums = &mut sums[r * dim + at + n * V::LANES..];
                    // Small terms are added to each other before they meet what an attention sink put there.
                    V::load(sums).add(totals[r][n]).store(sums);
                }
            }
        }
    }
}
