//! Image norms on the CPU: some rows of W at a time, with their products in registers. Strips of vectors in parallel.

use super::Measure;
use crate::dispatch;
use crate::simd::Level;
use crate::simd_vector::{Vector, VectorOf};
use crate::strips::{ROWS, STRIP, Strips, products, with_tile};
use rayon::prelude::*;

/// Strips of one piece of work: few enough for the first-level cache beside rows of W.
const PIECE: usize = 5;

/// See [`super::ImageNorms::run`].
pub fn image_norms(level: Level, measure: Measure, maps: &[Vec<f32>], x: &Strips) -> Vec<f32> {
    let (n, dim) = (x.len(), x.dim());
    if dim == 0 || maps.is_empty() {
        return Vec::new();
    }
    let sums_of_strip = maps.len() * STRIP;
    let mut sums = vec![0.0; n.div_ceil(STRIP) * sums_of_strip];
    let pieces = sums.par_chunks_mut(PIECE * sums_of_strip).zip(x.numbers().par_chunks(PIECE * dim * STRIP));
    pieces.for_each(|(sums, strips)| piece(level, sums, measure, maps, strips, dim));
    let mut out = Vec::with_capacity(maps.len() * n);
    for map in 0..maps.len() {
        for (strip, sums) in sums.chunks_exact(sums_of_strip).enumerate() {
            out.extend_from_slice(&sums[map * STRIP..][..STRIP.min(n - strip * STRIP)]);
        }
    }
    out
}

dispatch! {
    /// `sums = [strips][maps][16]` of `strips = [strips][dim][16]`.
    fn piece(level, sums: &mut [f32], measure: Measure, maps: &[Vec<f32>], strips: &[f32], dim: usize) = body::<VectorOf<Target>>;
}

#[inline(always)]
fn body<V: Vector>(sums: &mut [f32], measure: Measure, maps: &[Vec<f32>], strips: &[f32], dim: usize) {
    with_tile!(V, add(sums, measure, maps, strips, dim));
}

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn add<V: Vector, const R: usize, const N: usize>(
    sums: &mut [f32],
    measure: Measure,
    maps: &[Vec<f32>],
    strips: &[f32],
    dim: usize,
) {
    for (map, packed) in maps.iter().enumerate() {
        for first in (0..packed.len() / dim).step_by(R) {
            let rows = &packed[first / ROWS * ROWS * dim..][..ROWS * dim];
            // Behind the diagonal of a form are zeros.
            let used = if measure == Measure::Form { dim.min(first + R) } else { dim };
            let strips = strips.chunks_exact(dim * STRIP).zip(sums.chunks_exact_mut(maps.len() * STRIP));
            for (strip, sums) in strips {
                let sums = &mut sums[map * STRIP..][..STRIP];
                for at in (0..STRIP).step_by(N * V::LANES) {
                    let images = products::<V, R, N>(&strip[..used * STRIP], at, &rows[..used * ROWS], first % ROWS);
                    for n in 0..N {
                        let at = at + n * V::LANES;
                        let mut sum = V::load(&sums[at..]);
                        for r in 0..R {
                            let image = images[r][n];
                            sum = match measure {
                                Measure::Magnitude => sum.add(image.max(V::splat(0.0).sub(image))),
                                // The images of rows that are not there are zeros.
                                Measure::Form => {
                                    image.mul_add(V::load(&strip[(first + r).min(dim - 1) * STRIP + at..]), sum)
                                }
                            };
                        }
                        sum.store(&mut sums[at..]);
                    }
                }
            }
        }
    }
}
