//! Vectors of one length beside each other, so that what is computed of each lies in a lane of its own: products with few columns otherwise spend
//! most of their time on adding up lanes.

use crate::CacheLines;
use crate::simd_vector::Vector;
use rayon::prelude::*;

/// Vectors of a strip: the lanes of the widest instruction set.
pub(crate) const STRIP: usize = 16;

/// Strips that one thread fills at least.
const TOGETHER: usize = 32;

/// Rows of a matrix that are packed together.
pub(crate) const ROWS: usize = 12;

/// Vectors `[n][dim]`, sixteen beside each other: `[⌈n / 16⌉][dim][16]`, filled up with zeros.
pub struct Strips {
    dim: usize,
    len: usize,
    lines: CacheLines,
}

impl Strips {
    /// Of `x = [n][dim]`; numbers behind the last whole vector are left out.
    pub fn new(x: &[f32], dim: usize) -> Self {
        let len = x.len().checked_div(dim).unwrap_or(0);
        let mut lines = CacheLines::new();
        let size = (dim * STRIP).max(1);
        let strips = lines.at_least(len.div_ceil(STRIP) * dim * STRIP).par_chunks_exact_mut(size);
        strips.zip(x[..len * dim].par_chunks(size)).with_min_len(TOGETHER).for_each(|(strip, x)| {
            for (d, line) in strip.chunks_exact_mut(STRIP).enumerate() {
                line.iter_mut().zip(x[d..].iter().step_by(dim)).for_each(|(to, &from)| *to = from);
            }
        });
        Self { dim, len, lines }
    }

    /// Vectors.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Numbers of a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Strip after strip, `[dim][16]` each.
    pub(crate) fn numbers(&self) -> &[f32] {
        &self.lines[..self.len.div_ceil(STRIP) * self.dim * STRIP]
    }
}

/// A matrix of `rows` rows for [`products`]: `[⌈rows / 12⌉][cols][12]`, filled up with zeros. `number` gives that of a row and column.
pub(crate) fn pack_rows(rows: usize, cols: usize, number: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut packed = vec![0.0; rows.div_ceil(ROWS) * cols * ROWS];
    for row in 0..rows {
        let group = &mut packed[row / ROWS * cols * ROWS..];
        (0..cols).for_each(|col| group[col * ROWS + row % ROWS] = number(row, col));
    }
    packed
}

/// Products of `R` packed rows from `row` on with the `N` vectors of lanes from `at` on, over as many columns as there are of both.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
pub(crate) fn products<V: Vector, const R: usize, const N: usize>(
    strip: &[f32],
    at: usize,
    rows: &[f32],
    row: usize,
) -> [[V; N]; R] {
    let mut sums = [[V::splat(0.0); N]; R];
    for (x, w) in strip.as_chunks::<STRIP>().0.iter().zip(rows.as_chunks::<ROWS>().0) {
        let w = &w[row..row + R];
        let mut vectors = [V::splat(0.0); N];
        for n in 0..N {
            vectors[n] = V::load(&x[at + n * V::LANES..]);
        }
        for r in 0..R {
            let w = V::splat(w[r]);
            for n in 0..N {
                sums[r][n] = vectors[n].mul_add(w, sums[r][n]);
            }
        }
    }
    sums
}

/// Calls `$tile::<V, R, N>` with the shape whose sums, and what they are made of, fit the registers of `$vector` and keep the multipliers busy: a vector of
/// the strip that is all of it is multiplied with twelve rows, two smaller ones with six.
macro_rules! with_tile {
    ($vector:ident, $tile:ident($($argument:expr),* $(,)?)) => {
        if $vector::LANES == $crate::strips::STRIP {
            $tile::<$vector, 12, 1>($($argument),*)
        } else {
            $tile::<$vector, 6, 2>($($argument),*)
        }
    };
}
pub(crate) use with_tile;
