//! Vectors of one length beside each other, so that what is computed of each lies in a lane of its own: products with few columns otherwise spend
//! most of their time on adding up lanes.

use crate::rows::widen_rows;
use crate::simd::Level;
use crate::simd_vector::{Vector, VectorOf, transposed};
use crate::{AnyHead, Block, Buffer, Half, HeadView, dispatch};
use rayon::prelude::*;
use std::array::from_fn;

/// Vectors of a strip: the lanes of the widest instruction set.
pub(crate) const STRIP: usize = 16;

/// Strips that are filled by one thread.
const TOGETHER: usize = 16;

/// Rows of a matrix that are packed together.
pub(crate) const ROWS: usize = 12;

/// Vectors `[n][dim]`, sixteen beside each other: `[⌈n / 16⌉][dim][16]`, filled up with zeros.
pub struct Strips {
    dim: usize,
    len: usize,
    numbers: Buffer,
}

impl Strips {
    /// Of `x = [n][dim]`; numbers behind the last whole vector are left out.
    pub fn new(x: &[f32], dim: usize) -> Self {
        let len = x.len().checked_div(dim).unwrap_or(0);
        Self::fill(len, dim, |first, strips| {
            let x = x[first * dim..len * dim].chunks(STRIP * dim);
            for (strip, x) in strips.chunks_exact_mut(STRIP * dim).zip(x) {
                turn(x, dim, strip);
            }
        })
    }

    /// Of the keys of a head.
    pub fn keys<B: Block>(head: HeadView<B>) -> Self {
        Self::stored(head.any(), Half::Keys)
    }

    /// Of the values of a head.
    pub fn values<B: Block>(head: HeadView<B>) -> Self {
        Self::stored(head.any(), Half::Values)
    }

    fn stored(head: AnyHead, half: Half) -> Self {
        let level = Level::detect();
        Self::fill(head.len, head.layout.head_dim, |first, strips| turn_rows(level, head, half, first, strips))
    }

    /// `fill` writes whole strips, from a vector on.
    fn fill(len: usize, dim: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        let mut numbers = Buffer::any(len.div_ceil(STRIP) * dim * STRIP);
        let pieces = numbers.par_chunks_mut((TOGETHER * STRIP * dim).max(1)).enumerate();
        pieces.for_each(|(piece, strips)| fill(piece * TOGETHER * STRIP, strips));
        Self { dim, len, numbers }
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
        &self.numbers
    }
}

dispatch! {
    /// Strips of a head's rows, from vector `first` on.
    fn turn_rows(level, head: AnyHead<'_>, half: Half, first: usize, strips: &mut [f32]) = turn_rows_body::<VectorOf<Target>>;
}

#[inline(always)]
fn turn_rows_body<V: Vector>(head: AnyHead, half: Half, first: usize, strips: &mut [f32]) {
    let dim = head.layout.head_dim;
    let mut rows = vec![0.0; STRIP * dim];
    for (first, strip) in (first..).step_by(STRIP).zip(strips.chunks_exact_mut(STRIP * dim)) {
        widen_rows::<V>(head, first, STRIP.min(head.len - first), half, &mut rows);
        turn(&rows, dim, strip);
    }
}

/// One strip of up to 16 vectors, zeros where there are none.
#[inline(always)]
fn turn(x: &[f32], dim: usize, strip: &mut [f32]) {
    const QUAD: usize = 4;
    if x.len() < strip.len() {
        strip.fill(0.0);
    }
    let (lines, _) = strip.as_chunks_mut::<STRIP>();
    let quads = x.chunks_exact(QUAD * dim);
    let rest = (x.len() / (QUAD * dim) * QUAD, quads.remainder());
    for (first, rows) in (0..).step_by(QUAD).zip(quads) {
        let rows: [_; QUAD] = from_fn(|row| &rows[row * dim..][..dim]);
        let (squares, rest) = lines[..dim].as_chunks_mut::<QUAD>();
        for (d, square) in squares.iter_mut().enumerate() {
            let columns = transposed(rows.map(|row| row.as_chunks::<QUAD>().0[d]));
            square
                .iter_mut()
                .zip(columns)
                .for_each(|(line, column)| line[first..first + QUAD].copy_from_slice(&column));
        }
        for (d, line) in (dim - rest.len()..).zip(rest) {
            line[first..first + QUAD].copy_from_slice(&rows.map(|row| row[d]));
        }
    }
    for (row, x) in (rest.0..).zip(rest.1.chunks_exact(dim)) {
        lines.iter_mut().zip(x).for_each(|(line, &x)| line[row] = x);
    }
}

/// Vectors `[n][dim]` with zeros behind each, `[n][width]`.
pub(crate) fn widened(x: &[f32], dim: usize, width: usize) -> Vec<f32> {
    let mut wide = vec![0.0; x.len() / dim * width];
    wide.chunks_exact_mut(width).zip(x.chunks_exact(dim)).for_each(|(to, from)| to[..dim].copy_from_slice(from));
    wide
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
pub(crate) fn products<V: Vector, const R: usize, const N: usize>(
    strip: &[f32],
    at: usize,
    rows: &[f32],
    row: usize,
) -> [[V; N]; R] {
    if V::FUSED {
        return chain::<V, R, N>(strip, at, rows, row);
    }
    // Where products are rounded before they are added, a long chain loses more: sums of few are added up.
    const COLUMNS: usize = 32;
    let mut sums = [[V::splat(0.0); N]; R];
    for (strip, rows) in strip.chunks(COLUMNS * STRIP).zip(rows.chunks(COLUMNS * ROWS)) {
        let more = chain::<V, R, N>(strip, at, rows, row);
        sums.as_flattened_mut().iter_mut().zip(more.as_flattened()).for_each(|(sum, &more)| *sum = sum.add(more));
    }
    sums
}

/// The same, one product added after the other.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn chain<V: Vector, const R: usize, const N: usize>(strip: &[f32], at: usize, rows: &[f32], row: usize) -> [[V; N]; R] {
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

/// Products of the first `rows` of up to twelve packed rows with all of a strip: rows of sixteen, `stride` apart. Behind them may lie more.
#[inline(always)]
pub(crate) fn store_products<V: Vector, const R: usize, const N: usize>(
    strip: &[f32],
    packed: &[f32],
    rows: usize,
    out: &mut [f32],
    stride: usize,
) {
    let mut row = 0;
    while row < rows {
        let (left, out) = (rows - row, &mut out[row * stride..]);
        row += if left.next_multiple_of(4) < left.next_multiple_of(R) {
            store_tile::<V, 4, N>(strip, packed, row, out, stride)
        } else {
            store_tile::<V, R, N>(strip, packed, row, out, stride)
        };
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn store_tile<V: Vector, const R: usize, const N: usize>(
    strip: &[f32],
    packed: &[f32],
    row: usize,
    out: &mut [f32],
    stride: usize,
) -> usize {
    for at in (0..STRIP).step_by(N * V::LANES) {
        let products = products::<V, R, N>(strip, at, packed, row);
        for r in 0..R {
            for n in 0..N {
                products[r][n].store(&mut out[r * stride + at + n * V::LANES..]);
            }
        }
    }
    R
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockLayout, ReuseBuffers};
    use headwise_core::Codec;

    #[test]
    fn strips_hold_the_numbers_of_a_head_and_zeros() {
        // Whatever was in their memory before.
        let _reuse = ReuseBuffers::start();
        for (len, dim, slots) in
            [(0, 4, 8), (1, 1, 1), (3, 5, 7), (15, 64, 9), (16, 4, 24), (17, 20, 32), (257, 17, 7), (600, 64, 32)]
        {
            for codec in [Codec::F32, Codec::F16, Codec::Int8] {
                let layout = BlockLayout { codec, head_dim: dim, slots };
                let byte = |at: usize| (at * 37 % 61) as u8;
                let blocks: Vec<Vec<u8>> =
                    (0..layout.blocks_for(len)).map(|b| (0..layout.bytes()).map(|i| byte(b + i)).collect()).collect();
                let head = HeadView { layout, blocks: &blocks, len };
                drop([0; 5].map(|_| Strips::new(&vec![f32::NAN; len.next_multiple_of(STRIP) * dim], dim)));
                for (strips, rows) in [(Strips::keys(head), head.all_keys()), (Strips::values(head), head.all_values())]
                {
                    let number = |at: usize| {
                        let (strip, d, lane) = (at / (STRIP * dim), at / STRIP % dim, at % STRIP);
                        rows.get((strip * STRIP + lane) * dim + d).map_or(0, |x| x.to_bits())
                    };
                    let expected: Vec<u32> = (0..len.div_ceil(STRIP) * STRIP * dim).map(number).collect();
                    for strips in [&strips, &Strips::new(&rows, dim)] {
                        let got: Vec<u32> = strips.numbers().iter().map(|x| x.to_bits()).collect();
                        assert_eq!((strips.len(), strips.dim(), got), (len, dim, expected.clone()), "{codec:?}");
                    }
                }
            }
        }
    }
}
