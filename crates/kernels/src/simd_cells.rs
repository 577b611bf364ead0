//! Logits of a few queries over stored rows: what decode attention is made of.
//!
//! Those of [`QUAD`] consecutive slots of a block lie together for [`QUERIES`] queries, `[query][slot]`: a *cell*. A cell is one vector
//! of AVX-512, two of AVX2, four of NEON. Softmax runs over cells whatever the vector is, and adding up the lanes of
//! `QUERIES × QUAD` sums is one transposition.

use crate::format::Format;
use crate::simd_vector::{Vector, prefetch};
use std::marker::PhantomData;
use std::ops::Range;

/// Queries that are worked on together: each stored number is converted once for all of them.
pub(crate) const QUERIES: usize = 4;

/// Slots that are worked on together.
pub(crate) const QUAD: usize = 4;

/// Numbers of a cell.
pub(crate) const CELL: usize = QUERIES * QUAD;

/// Places that are asked for in turn. Of one alone a thread reads slower, because the processor's own prefetching stops at page borders.
pub(crate) const STREAMS: usize = QUAD;

/// What will be read next. For each quad that is read, a row of each stream is asked for.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ahead<'a> {
    pub streams: [&'a [u8]; STREAMS],
    pub at: usize,
    /// Into the first-level cache, or else into the second.
    pub first: bool,
}

impl Ahead<'_> {
    /// Asks for a cache line of the next row of some streams: of few at a time, a core can wait for no more.
    #[inline(always)]
    pub fn ask(&self, streams: Range<usize>, line: usize) {
        for stream in &self.streams[streams] {
            let at = self.at + line * 64;
            if self.first { prefetch::<true>(stream, at) } else { prefetch::<false>(stream, at) }
        }
    }
}

/// Some rows of a quad, all of one length.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, F, const S: usize, const DIM: usize> {
    rows: [&'a [u8]; S],
    dim: usize,
    format: PhantomData<F>,
}

impl<'a, F: Format, const S: usize, const DIM: usize> Rows<'a, F, S, DIM> {
    #[inline(always)]
    pub fn new(rows: [&'a [u8]; S], dim: usize) -> Self {
        const { assert!(DIM.is_multiple_of(32)) };
        assert!(rows.iter().all(|row| row.len() == F::row_bytes(dim)));
        Self { rows, dim, format: PhantomData }
    }

    /// Cache lines of a row.
    #[inline(always)]
    pub fn lines(self) -> Range<usize> {
        0..F::row_bytes(known::<DIM>(self.dim)).div_ceil(64)
    }

    /// The vectors that a line of each row holds, for a known `DIM`: whole ones, and pairs of them.
    #[inline(always)]
    pub fn vectors<V: Vector>(self, line: usize) -> Range<usize> {
        let per_line = 64 / (V::LANES * F::BYTES);
        line * per_line..(DIM / V::LANES).min((line + 1) * per_line)
    }

    /// Vector `c` of row `s`, with zeros after the row's numbers.
    ///
    /// # Safety
    /// `WHOLE` only for a vector that ends within the numbers of a row.
    #[inline(always)]
    pub unsafe fn load<V: Vector, const WHOLE: bool>(self, s: usize, c: usize) -> V {
        let (bytes, at) = (V::LANES * F::BYTES, c * V::LANES * F::BYTES);
        if WHOLE {
            // SAFETY: it ends within the numbers of a row, whose length was checked.
            F::load::<V>(unsafe { self.rows[s].get_unchecked(at..at + bytes) })
        } else {
            let end = self.dim * F::BYTES;
            F::load_partial::<V>(&self.rows[s][at.min(end)..end.min(at + bytes)])
        }
    }
}

/// Writes the cells of a block: `cells[slot / QUAD][query][slot % QUAD] = q · k_slot` for the `Q` queries `q` (`[Q][stride]`, padded
/// with zeros to whole vectors) and the stored rows `keys` (`[slots][dim]`). A row's scale comes after its dot product, so that no stored
/// number is multiplied for it. A last quad that is not full repeats its last row.
/// `ahead` is what will be read next.
#[inline(always)]
pub(crate) fn quad_dots<V: Vector, F: Format, const Q: usize, const DIM: usize>(
    q: &[f32],
    stride: usize,
    keys: &[u8],
    dim: usize,
    ahead: &mut Ahead<'_>,
    cells: &mut [f32],
) {
    let dim = known::<DIM>(dim);
    let row_bytes = F::row_bytes(dim);
    let slots = keys.len() / row_bytes;
    assert!(slots > 0 && stride >= dim.next_multiple_of(V::LANES) && q.len() >= Q * stride);
    assert!(cells.len() >= slots.div_ceil(QUAD) * CELL);
    for (quad, cell) in cells.as_chunks_mut::<CELL>().0[..slots.div_ceil(QUAD)].iter_mut().enumerate() {
        let rows = quad_rows(keys, row_bytes, slots, quad);
        // Sixteen sums, four rows and a query fit 32 registers. In 16 there is room for eight sums of two rows and the queries, or twelve of a
        // row after the other.
        if V::REGISTERS >= 32 || Q < QUERIES {
            let sums = dots::<V, F, Q, QUAD, DIM>(q, stride, rows, dim, ahead, 0);
            V::sum_quads(sums, cell);
        } else {
            let [a, b, c, d] = rows;
            for (half, rows) in [[a, b], [c, d]].into_iter().enumerate() {
                let sums = dots::<V, F, Q, 2, DIM>(q, stride, rows, dim, ahead, 2 * half);
                for i in (0..Q).step_by(2) {
                    let [a, b, c, d] = V::sum4([sums[i][0], sums[i][1], sums[i + 1][0], sums[i + 1][1]]);
                    cell[i * QUAD + 2 * half..][..2].copy_from_slice(&[a, b]);
                    cell[(i + 1) * QUAD + 2 * half..][..2].copy_from_slice(&[c, d]);
                }
            }
        }
        scale_cell::<V, F>(rows, cell);
        ahead.at += row_bytes;
    }
}

/// A dimension that was known when the code was compiled, or else `dim`.
#[inline(always)]
pub(crate) fn known<const DIM: usize>(dim: usize) -> usize {
    if DIM > 0 { DIM } else { dim }
}

/// Multiplies the cells of a block by the scales of the stored rows `rows` (`[slots][dim]`).
#[inline(always)]
pub(crate) fn scale_cells<V: Vector, F: Format>(rows: &[u8], dim: usize, cells: &mut [f32]) {
    if F::SCALE_BYTES == 0 {
        return;
    }
    let row_bytes = F::row_bytes(dim);
    let slots = rows.len() / row_bytes;
    assert!(slots > 0);
    for (quad, cell) in cells.chunks_exact_mut(CELL).take(slots.div_ceil(QUAD)).enumerate() {
        scale_cell::<V, F>(quad_rows(rows, row_bytes, slots, quad), cell);
    }
}

/// Multiplies a cell by the scales of its rows, once for all queries.
#[inline(always)]
fn scale_cell<V: Vector, F: Format>(rows: [&[u8]; QUAD], cell: &mut [f32]) {
    if F::SCALE_BYTES == 0 {
        return;
    }
    let [a, b, c, d] = rows;
    let scales = V::splat4([F::scale(a), F::scale(b), F::scale(c), F::scale(d)]);
    for column in (0..CELL).step_by(V::LANES) {
        V::load(&cell[column..]).mul(scales).store(&mut cell[column..]);
    }
}

/// The rows of a quad, one of `slots.div_ceil(QUAD)`. A last quad that is not full repeats its last row.
#[inline(always)]
pub(crate) fn quad_rows(rows: &[u8], row_bytes: usize, slots: usize, quad: usize) -> [&[u8]; QUAD] {
    let last = slots - 1 - quad * QUAD;
    let mut of_quad = [&rows[..0]; QUAD];
    for (s, row) in of_quad.iter_mut().enumerate() {
        let start = quad * QUAD * row_bytes + s.min(last) * row_bytes;
        // SAFETY: the row of a slot before `slots`, and `rows` holds so many.
        *row = unsafe { rows.get_unchecked(start..start + row_bytes) };
    }
    of_quad
}

/// The products of `Q` queries and `S` rows, lane by lane. With each line of the rows one of each of `S` streams is asked for, from number
/// `stream` on.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn dots<V: Vector, F: Format, const Q: usize, const S: usize, const DIM: usize>(
    q: &[f32],
    stride: usize,
    rows: [&[u8]; S],
    dim: usize,
    ahead: &Ahead<'_>,
    stream: usize,
) -> [[V; S]; Q] {
    let rows = Rows::<F, S, DIM>::new(rows, dim);
    assert!(q.len() >= (Q - 1) * stride + dim.next_multiple_of(V::LANES));
    let mut sums = [[V::splat(0.0); S]; Q];
    if DIM > 0 {
        for line in rows.lines() {
            ahead.ask(stream..stream + S, line);
            for c in rows.vectors::<V>(line) {
                add_products::<V, F, Q, S, DIM, true>(&mut sums, q, stride, rows, c);
            }
        }
    } else {
        // Of a length that is not known, short loops take long.
        rows.lines().for_each(|line| ahead.ask(stream..stream + S, line));
        let whole = dim / V::LANES;
        for c in 0..whole {
            add_products::<V, F, Q, S, DIM, true>(&mut sums, q, stride, rows, c);
        }
        if whole * V::LANES < dim {
            add_products::<V, F, Q, S, DIM, false>(&mut sums, q, stride, rows, whole);
        }
    }
    sums
}

/// The products of vector `c`.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn add_products<V: Vector, F: Format, const Q: usize, const S: usize, const DIM: usize, const WHOLE: bool>(
    sums: &mut [[V; S]; Q],
    q: &[f32],
    stride: usize,
    rows: Rows<'_, F, S, DIM>,
    c: usize,
) {
    // The queries stay in registers, of the rows one at a time.
    let mut factors = [V::splat(0.0); Q];
    for i in 0..Q {
        // SAFETY: the caller saw that queries are padded to whole vectors.
        factors[i] = V::load(unsafe { q.get_unchecked(i * stride + c * V::LANES..i * stride + (c + 1) * V::LANES) });
    }
    for s in 0..S {
        // SAFETY: the caller says whether it is whole.
        let loaded: V = unsafe { rows.load::<V, WHOLE>(s, c) };
        for i in 0..Q {
            sums[i][s] = factors[i].mul_add(loaded, sums[i][s]);
        }
    }
}

/// One step of the online softmax over the cells of a tile: raises the maxima (`max`, each query's [`QUAD`] times over), turns logits into
/// weights, adds them to the running sums (`denominator`, a cell of its own), and writes by which factors all earlier sums shrink.
#[inline(always)]
pub(crate) fn softmax<V: Vector>(
    cells: &mut [f32],
    max: &mut [f32; CELL],
    denominator: &mut [f32; CELL],
    factors: &mut [f32; CELL],
) {
    let old = *max;
    for column in (0..CELL).step_by(V::LANES) {
        // Two chains, because each maximum waits for the one before.
        let (mut even, mut odd) = (V::load(&max[column..]), V::load(&max[column..]));
        let (pairs, rest) = cells.as_chunks::<{ 2 * CELL }>();
        for pair in pairs {
            even = V::load(&pair[column..]).max(even);
            odd = V::load(&pair[CELL + column..]).max(odd);
        }
        if !rest.is_empty() {
            even = V::load(&rest[column..]).max(even);
        }
        even.max(odd).store(&mut max[column..]);
    }
    for quad in max.as_chunks_mut::<QUAD>().0 {
        let [a, b, c, d] = *quad;
        let (ab, cd) = (if a > b { a } else { b }, if c > d { c } else { d });
        *quad = [if ab > cd { ab } else { cd }; QUAD];
    }
    for column in (0..CELL).step_by(V::LANES) {
        // With a finite base -∞ - base stays -∞ where a query has seen nothing yet.
        let base = V::load(&max[column..]).max(V::splat(f32::MIN));
        let factor = V::load(&old[column..]).sub(base).exp();
        let mut sum = V::splat(0.0);
        for cell in cells.as_chunks_mut::<CELL>().0 {
            let p = V::load(&cell[column..]).sub(base).exp();
            p.store(&mut cell[column..]);
            sum = sum.add(p);
        }
        V::load(&denominator[column..]).mul_add(factor, sum).store(&mut denominator[column..]);
        factor.store(&mut factors[column..]);
    }
}
