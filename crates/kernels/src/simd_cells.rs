//! Logits of a few queries over stored rows: what decode attention and window scores are made of.
//!
//! Those of [`QUAD`] consecutive slots of a block lie together for [`QUERIES`] queries, `[query][slot]`: a *cell*. A cell is one vector
//! of AVX-512, two of AVX2, four of NEON. Softmax runs over cells whatever the vector is, and adding up the lanes of
//! `QUERIES × QUAD` sums is one transposition.

use crate::format::Format;
use crate::simd_vector::{Vector, prefetch};

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
    /// Asks for `len` bytes of the next row of a stream, from byte `from` of it on.
    #[inline(always)]
    pub fn ask(&self, stream: usize, from: usize, len: usize) {
        let lines = (0..len).step_by(64);
        if self.first {
            lines.for_each(|line| prefetch::<true>(self.streams[stream], self.at + from + line));
        } else {
            lines.for_each(|line| prefetch::<false>(self.streams[stream], self.at + from + line));
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
    mut ahead: Option<&mut Ahead<'_>>,
    cells: &mut [f32],
) {
    let dim = known::<DIM>(dim);
    let row_bytes = F::row_bytes(dim);
    let slots = keys.len() / row_bytes;
    assert!(slots > 0 && stride >= dim.next_multiple_of(V::LANES) && q.len() >= Q * stride);
    assert!(cells.len() >= slots.div_ceil(QUAD) * CELL);
    for (quad, cell) in cells.as_chunks_mut::<CELL>().0[..slots.div_ceil(QUAD)].iter_mut().enumerate() {
        let rows = quad_rows(keys, row_bytes, slots, quad);
        // Sixteen sums, four rows and a query fit 32 registers; of 16 the half.
        if V::REGISTERS >= 32 {
            dots::<V, F, Q, DIM>(q, stride, rows, dim, ahead.as_deref(), cell);
        } else {
            match Q {
                1 => dots::<V, F, 1, DIM>(q, stride, rows, dim, ahead.as_deref(), cell),
                2 => dots::<V, F, 2, DIM>(q, stride, rows, dim, ahead.as_deref(), cell),
                _ => {
                    let (first, second) = cell.split_at_mut(2 * QUAD);
                    dots::<V, F, 2, DIM>(q, stride, rows, dim, ahead.as_deref(), first);
                    if Q == 3 {
                        dots::<V, F, 1, DIM>(&q[2 * stride..], stride, rows, dim, None, second);
                    } else {
                        dots::<V, F, 2, DIM>(&q[2 * stride..], stride, rows, dim, None, second);
                    }
                }
            }
        }
        scale_cell::<V, F>(rows, cell);
        if let Some(ahead) = &mut ahead {
            ahead.at += row_bytes;
        }
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

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn dots<V: Vector, F: Format, const Q: usize, const DIM: usize>(
    q: &[f32],
    stride: usize,
    rows: [&[u8]; QUAD],
    dim: usize,
    ahead: Option<&Ahead<'_>>,
    cell: &mut [f32],
) {
    let dim = known::<DIM>(dim);
    let vector_bytes = V::LANES * F::BYTES;
    let whole = dim / V::LANES;
    assert!(q.len() >= (Q - 1) * stride + dim.next_multiple_of(V::LANES));
    assert!(rows.iter().all(|row| row.len() == F::row_bytes(dim)));
    // All lines of a row of each stream, a few with each vector: a core can wait for few at a time.
    let lines = STREAMS * F::row_bytes(dim).div_ceil(64);
    let asked = lines.div_ceil(whole.max(1));
    let mut sums = [[V::splat(0.0); QUAD]; Q];
    for c in 0..whole {
        let mut loaded = [V::splat(0.0); QUAD];
        if let Some(ahead) = ahead {
            for line in c * asked..lines.min((c + 1) * asked) {
                ahead.ask(line % STREAMS, line / STREAMS * 64, 1);
            }
        }
        for s in 0..QUAD {
            // SAFETY: vector `c` of `whole` lies within the row, whose length was checked.
            loaded[s] = F::load::<V>(unsafe { rows[s].get_unchecked(c * vector_bytes..(c + 1) * vector_bytes) });
        }
        for i in 0..Q {
            let at = i * stride + c * V::LANES;
            // SAFETY: vector `c` of query `i < Q`, as checked above.
            let factor = V::load(unsafe { q.get_unchecked(at..at + V::LANES) });
            for s in 0..QUAD {
                sums[i][s] = factor.mul_add(loaded[s], sums[i][s]);
            }
        }
    }
    if whole * V::LANES < dim {
        for s in 0..QUAD {
            let loaded = F::load_partial::<V>(&rows[s][whole * vector_bytes..dim * F::BYTES]);
            for i in 0..Q {
                sums[i][s] = V::load(&q[i * stride + whole * V::LANES..]).mul_add(loaded, sums[i][s]);
            }
        }
    }
    V::sum_quads(sums, cell);
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
