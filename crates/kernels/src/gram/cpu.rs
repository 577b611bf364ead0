//! Gram matrices on the CPU: tiles of the lower triangle, over some vectors at a time.

use crate::dispatch;
use crate::simd::Level;
use crate::simd_vector::{Vector, VectorOf};
use crate::strips::{STRIP, widened, with_tile};

/// Vectors that are added up at a time: these, of 64 dimensions, take half of the first-level cache.
const VECTORS: usize = 64;

/// See [`super::gram`].
pub fn gram(level: Level, x: &[f32], dim: usize) -> Vec<f32> {
    let width = dim.next_multiple_of(STRIP);
    if width != dim {
        let gram = gram(level, &widened(x, dim, width), width);
        return gram.chunks_exact(width).take(dim).flat_map(|row| &row[..dim]).copied().collect();
    }
    let mut out = vec![0.0; dim * dim];
    run(level, &mut out, x, dim);
    for row in 0..dim {
        for column in row + 1..dim {
            out[row * dim + column] = out[column * dim + row];
        }
    }
    out
}

dispatch! {
    /// The lower triangle, from zeros, and of what is above it anything. `dim` is a multiple of [`STRIP`].
    fn run(level, out: &mut [f32], x: &[f32], dim: usize) = body::<VectorOf<Target>>;
}

#[inline(always)]
fn body<V: Vector>(out: &mut [f32], x: &[f32], dim: usize) {
    for x in x.chunks(VECTORS * dim) {
        with_tile!(V, add(out, x, dim));
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn add<V: Vector, const R: usize, const N: usize>(out: &mut [f32], x: &[f32], dim: usize) {
    for row in (0..dim).step_by(R) {
        // The last tile begins among rows that are there already.
        let first = row.min(dim - R);
        for at in (0..first + R).step_by(N * V::LANES) {
            let mut sums = [[V::splat(0.0); N]; R];
            for x in x.chunks_exact(dim) {
                let (rows, columns) = (&x[first..first + R], &x[at..at + N * V::LANES]);
                let mut vectors = [V::splat(0.0); N];
                for n in 0..N {
                    vectors[n] = V::load(&columns[n * V::LANES..]);
                }
                for r in 0..R {
                    let row = V::splat(rows[r]);
                    for n in 0..N {
                        sums[r][n] = vectors[n].mul_add(row, sums[r][n]);
                    }
                }
            }
            for r in row - first..R {
                for n in 0..N {
                    let out = &mut out[(first + r) * dim + at + n * V::LANES..];
                    V::load(out).add(sums[r][n]).store(out);
                }
            }
        }
    }
}
