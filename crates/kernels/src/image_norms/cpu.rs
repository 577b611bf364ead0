//! Image norms on the CPU: a group of vectors at a time against a panel of W, with the group's part of the images in registers. Vectors in parallel.

use super::{Measure, PANEL};
use crate::simd::Level;
use crate::simd_vector::{Vector, VectorOf};
use crate::{CacheLines, dispatch};
use rayon::prelude::*;
use std::cell::RefCell;

/// Vectors of one piece of work: few enough for the first-level cache beside a panel, and whole groups of any size below.
const VECTORS: usize = 96;
/// Lanes of the widest vector.
const LANES: usize = 16;

thread_local! {
    /// A piece of work's vectors, turned, and their sums.
    static SCRATCH: RefCell<CacheLines> = const { RefCell::new(CacheLines::new()) };
}

/// See [`super::image_norms`]; lengths that do not agree panic.
pub fn image_norms(level: Level, out: &mut [f32], x: &[f32], panels: &[f32], cols: usize, measure: Measure) {
    if cols == 0 {
        return out.fill(0.0);
    }
    out.par_chunks_mut(VECTORS).zip(x.par_chunks(VECTORS * cols)).for_each(|(out, x)| {
        SCRATCH.with_borrow_mut(|scratch| piece(level, out, x, panels, cols, measure, scratch));
    });
}

dispatch! {
    fn piece(level, out: &mut [f32], x: &[f32], panels: &[f32], cols: usize, measure: Measure, scratch: &mut CacheLines) = body::<VectorOf<Target>>;
}

#[inline(always)]
fn body<V: Vector>(
    out: &mut [f32],
    x: &[f32],
    panels: &[f32],
    cols: usize,
    measure: Measure,
    scratch: &mut CacheLines,
) {
    // Two vectors of W and sums for each x: 24 and 2 of 32 registers, 12 and 2 of 16.
    match V::REGISTERS {
        32 => groups::<V, 12>(out, x, panels, cols, measure, scratch),
        _ => groups::<V, 6>(out, x, panels, cols, measure, scratch),
    }
}

#[inline(always)]
fn groups<V: Vector, const M: usize>(
    out: &mut [f32],
    x: &[f32],
    panels: &[f32],
    cols: usize,
    measure: Measure,
    scratch: &mut CacheLines,
) {
    let groups = out.len().div_ceil(M);
    let scratch = scratch.at_least(groups * M * (cols + LANES));
    scratch.fill(0.0);
    let (turned, sums) = scratch.split_at_mut(groups * M * cols);
    for (index, x) in x.chunks_exact(cols).enumerate() {
        let group = &mut turned[index / M * M * cols..];
        for (c, &x) in x.iter().enumerate() {
            group[c * M + index % M] = x;
        }
    }
    for (p, panel) in panels.chunks_exact(PANEL * cols).enumerate() {
        for at in (0..PANEL).step_by(2 * V::LANES) {
            for (g, turned) in turned.chunks_exact(M * cols).enumerate() {
                let images = images::<V, M>(turned, panel, at);
                for (m, [low, high]) in images.into_iter().enumerate() {
                    let index = g * M + m;
                    let sum = &mut sums[index * LANES..][..V::LANES];
                    let so_far = V::load(sum);
                    match measure {
                        Measure::Magnitude => so_far.add(abs(low)).add(abs(high)).store(sum),
                        Measure::Form if index < out.len() => {
                            let (x, row) = (&x[index * cols..(index + 1) * cols], p * PANEL + at);
                            let so_far = low.mul_add(lanes(x, row), so_far);
                            high.mul_add(lanes(x, row + V::LANES), so_far).store(sum);
                        }
                        Measure::Form => {}
                    }
                }
            }
        }
    }
    for (out, sum) in out.iter_mut().zip(sums.chunks_exact(LANES)) {
        *out = V::load(sum).sum();
    }
}

/// W x for `2 · LANES` rows of W, from the panel's `at` on.
#[inline(always)]
fn images<V: Vector, const M: usize>(turned: &[f32], panel: &[f32], at: usize) -> [[V; 2]; M] {
    let mut images = [[V::splat(0.0); 2]; M];
    for (x, w) in turned.chunks_exact(M).zip(panel.chunks_exact(PANEL)) {
        let (low, high) = (V::load(&w[at..]), V::load(&w[at + V::LANES..]));
        for m in 0..M {
            let x = V::splat(x[m]);
            images[m] = [low.mul_add(x, images[m][0]), high.mul_add(x, images[m][1])];
        }
    }
    images
}

#[inline(always)]
fn abs<V: Vector>(x: V) -> V {
    x.max(V::splat(0.0).sub(x))
}

/// Numbers of `x` from `first` on, and zeros behind its end.
#[inline(always)]
fn lanes<V: Vector>(x: &[f32], first: usize) -> V {
    if first + V::LANES <= x.len() {
        return V::load(&x[first..]);
    }
    let mut padded = [0.0; LANES];
    let rest = &x[first.min(x.len())..];
    padded[..rest.len()].copy_from_slice(rest);
    V::load(&padded)
}
