//! Logits of a few queries over stored rows: what decode attention is made of.
//!
//! Those of [`QUAD`] consecutive slots of a block lie together for [`QUERIES`] queries, in the order of [`place`]: a *cell*. A cell is one
//! vector of AVX-512, two of AVX2, four of NEON. Softmax runs over cells whatever the vector is, and the lanes of four sums are added up by
//! transpositions (sixteen at once with AVX-512).

use crate::format::Format;
use crate::simd_vector::{Vector, prefetch};
use std::marker::PhantomData;
use std::ops::Range;

/// Queries that are worked on together: each stored number is converted once for all of them.
pub(crate) const QUERIES: usize = 4;

/// Slots of a cell.
pub(crate) const QUAD: usize = 4;

/// Rows whose products with four queries are found together where sixteen sums do not fit the registers.
const TRIPLE: usize = 3;

/// Numbers of a cell.
pub(crate) const CELL: usize = QUERIES * QUAD;

/// Where a cell of so many queries keeps what is of query `i` and slot `s`: of four queries slot by slot, because the products of a row with all of
/// them are added up together whatever the number of rows; of fewer query by query, so that no lane is added up for a query that is not there.
#[inline(always)]
pub(crate) const fn place(queries: usize, i: usize, s: usize) -> usize {
    if queries == QUERIES { s * QUERIES + i } else { i * QUAD + s }
}

/// Places that are asked for in turn. Of one alone a thread reads slower, because the processor's own prefetching stops at page borders.
pub(crate) const STREAMS: usize = QUAD;

/// What will be read next. For each row that is read one is asked for, of the streams in turn.
pub(crate) struct Ahead<'a> {
    pub streams: [&'a [u8]; STREAMS],
    /// Rows that have been asked for.
    pub rows: usize,
    /// Into the first-level cache, or else into the second.
    pub first: bool,
}

impl<'a> Ahead<'a> {
    /// The next `S` rows to ask for.
    #[inline(always)]
    pub fn next<const S: usize>(&mut self, row_bytes: usize) -> Next<'a, S> {
        let rows = std::array::from_fn(|s| {
            if S == STREAMS {
                // One of each, known when this is compiled.
                (self.streams[s], self.rows / STREAMS * row_bytes)
            } else {
                let row = self.rows + s;
                (self.streams[row % STREAMS], row / STREAMS * row_bytes)
            }
        });
        self.rows += S;
        Next { rows, first: self.first }
    }

    /// Asks for `bytes` bytes of a stream from `at` on.
    #[inline(always)]
    pub fn ask(&self, stream: usize, at: usize, bytes: usize) {
        for line in (0..bytes).step_by(64) {
            ask(self.streams[stream], at + line, self.first);
        }
    }
}

/// Rows that are being asked for, a cache line of each at a time: a core can wait for few.
#[derive(Clone, Copy)]
pub(crate) struct Next<'a, const S: usize> {
    rows: [(&'a [u8], usize); S],
    first: bool,
}

impl<const S: usize> Next<'_, S> {
    #[inline(always)]
    pub fn ask(self, line: usize) {
        for (stream, at) in self.rows {
            ask(stream, at + line * 64, self.first);
        }
    }
}

#[inline(always)]
fn ask(stream: &[u8], at: usize, first: bool) {
    if first { prefetch::<true>(stream, at) } else { prefetch::<false>(stream, at) }
}

/// Some rows of a block, all of one length.
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

    /// The vectors that a line of each row holds, for a known `DIM`: whole ones.
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

/// Writes the cells of a block, `q · k_slot` for the `Q` queries `q` (`[Q][stride]`, padded with zeros to whole vectors) and the stored rows `keys`
/// (`[slots][dim]`). A row's scale comes after its dot product, so that no stored number is multiplied for it. What a last cell holds for slots that
/// are not there is arbitrary. `ahead` is what will be read next.
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
    let cells = &mut cells.as_chunks_mut::<CELL>().0[..slots.div_ceil(QUAD)];
    if V::REGISTERS >= 32 || Q < QUERIES {
        for (quad, cell) in cells.iter_mut().enumerate() {
            let rows = some_rows(keys, row_bytes, slots, quad * QUAD);
            let sums = dots::<V, F, Q, QUAD, DIM>(q, stride, rows, dim, ahead.next(row_bytes));
            if Q == QUERIES {
                let sums: [[V; QUERIES]; QUAD] = std::array::from_fn(|s| std::array::from_fn(|i| sums[i % Q][s]));
                V::sum_quads(sums, cell);
            } else {
                V::sum_quads(sums, cell);
            }
        }
    } else {
        // Sixteen sums do not fit 16 registers; twelve do, with three rows and a query. (Eight would wait for themselves: they take a tenth
        // longer, and a sixth where another thread has the same core.)
        for first in (0..slots).step_by(TRIPLE) {
            let rows = some_rows(keys, row_bytes, slots, first);
            let sums = dots::<V, F, Q, TRIPLE, DIM>(q, stride, rows, dim, ahead.next(row_bytes));
            for s in 0..TRIPLE {
                let sums = V::sum4(std::array::from_fn(|i| sums[i % Q][s]));
                // A row that was there again has the same sums.
                cells.as_flattened_mut()[(first + s).min(slots - 1) * QUERIES..][..QUERIES].copy_from_slice(&sums);
            }
        }
    }
    scale_cells::<V, F, Q>(keys, dim, cells.as_flattened_mut());
}

/// A dimension that was known when the code was compiled, or else `dim`.
#[inline(always)]
pub(crate) fn known<const DIM: usize>(dim: usize) -> usize {
    if DIM > 0 { DIM } else { dim }
}

/// Multiplies the cells of a block by the scales of the stored rows `rows` (`[slots][dim]`).
#[inline(always)]
pub(crate) fn scale_cells<V: Vector, F: Format, const Q: usize>(rows: &[u8], dim: usize, cells: &mut [f32]) {
    if F::SCALE_BYTES == 0 {
        return;
    }
    let row_bytes = F::row_bytes(dim);
    let slots = rows.len() / row_bytes;
    assert!(slots > 0);
    for (quad, cell) in cells.as_chunks_mut::<CELL>().0[..slots.div_ceil(QUAD)].iter_mut().enumerate() {
        let scales = some_rows(rows, row_bytes, slots, quad * QUAD).map(F::scale);
        for column in (0..CELL).step_by(V::LANES) {
            let scales = if Q == QUERIES { V::splat_each(&scales[column / QUERIES..]) } else { V::splat4(scales) };
            V::load(&cell[column..]).mul(scales).store(&mut cell[column..]);
        }
    }
}

/// `S` rows from slot `first` on, one of the `slots`. Where there are no more, the last one again.
#[inline(always)]
pub(crate) fn some_rows<const S: usize>(rows: &[u8], row_bytes: usize, slots: usize, first: usize) -> [&[u8]; S] {
    let last = slots - 1 - first;
    let mut some = [&rows[..0]; S];
    for (s, row) in some.iter_mut().enumerate() {
        let start = first * row_bytes + s.min(last) * row_bytes;
        // SAFETY: the row of a slot before `slots`, and `rows` holds so many.
        *row = unsafe { rows.get_unchecked(start..start + row_bytes) };
    }
    some
}

/// The products of `Q` queries and `S` rows, lane by lane. With each line of the rows one of each row of `next` is asked for.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn dots<V: Vector, F: Format, const Q: usize, const S: usize, const DIM: usize>(
    q: &[f32],
    stride: usize,
    rows: [&[u8]; S],
    dim: usize,
    next: Next<'_, S>,
) -> [[V; S]; Q] {
    let rows = Rows::<F, S, DIM>::new(rows, dim);
    assert!(q.len() >= (Q - 1) * stride + dim.next_multiple_of(V::LANES));
    let mut sums = [[V::splat(0.0); S]; Q];
    if DIM > 0 {
        for line in rows.lines() {
            next.ask(line);
            for c in rows.vectors::<V>(line) {
                add_products::<V, F, Q, S, DIM, true>(&mut sums, q, stride, rows, c);
            }
        }
    } else {
        // Of a length that is not known, short loops take long.
        rows.lines().for_each(|line| next.ask(line));
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
fn add_products<V: Vector, F: Format, const Q: usize, const S: usize, const DIM: usize, const WHOLE: bool>(
    sums: &mut [[V; S]; Q],
    q: &[f32],
    stride: usize,
    rows: Rows<'_, F, S, DIM>,
    c: usize,
) {
    // SAFETY: the caller saw that queries are padded to whole vectors.
    let query =
        |i: usize| V::load(unsafe { q.get_unchecked(i * stride + c * V::LANES..i * stride + (c + 1) * V::LANES) });
    // SAFETY: the caller says whether it is whole.
    let row = |s: usize| -> V { unsafe { rows.load::<V, WHOLE>(s, c) } };
    add_outer(sums, query, row);
}

/// `sums[m][n] += left(m) · right(n)`. The fewer of the two stay in registers, of the others one at a time.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
pub(crate) fn add_outer<V: Vector, const M: usize, const N: usize>(
    sums: &mut [[V; N]; M],
    left: impl Fn(usize) -> V,
    right: impl Fn(usize) -> V,
) {
    if N < M {
        let mut rights = [V::splat(0.0); N];
        for n in 0..N {
            rights[n] = right(n);
        }
        for m in 0..M {
            let left = left(m);
            sums[m] = V::settled(std::array::from_fn(|n| left.mul_add(rights[n], sums[m][n])));
        }
    } else {
        let mut lefts = [V::splat(0.0); M];
        for m in 0..M {
            lefts[m] = left(m);
        }
        for n in 0..N {
            let right = right(n);
            let products: [V; M] = V::settled(std::array::from_fn(|m| lefts[m].mul_add(right, sums[m][n])));
            for m in 0..M {
                sums[m][n] = products[m];
            }
        }
    }
}

/// One step of the online softmax over the cells of a tile: raises the maxima (`max`, a cell with each query's in the places of all slots), turns
/// logits into weights, adds them to the running sums (`denominator`, a cell of its own), and writes by which factors all earlier sums shrink.
#[inline(always)]
pub(crate) fn softmax<V: Vector, const Q: usize>(
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
    for i in 0..QUERIES {
        let [a, b, c, d] = [0, 1, 2, 3].map(|s| max[place(Q, i, s)]);
        let (ab, cd) = (if a > b { a } else { b }, if c > d { c } else { d });
        for s in 0..QUAD {
            max[place(Q, i, s)] = if ab > cd { ab } else { cd };
        }
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
