//! Few queries: the blocks of a head are read once, in order, a tile of slots at a time, and every stored number is converted in
//! registers for the whole query group.

use super::columns::keep_tile;
use super::partial::Sums;
use super::simd_decode::add_weighted;
use super::{Dims, HeadQuery};
use crate::CacheLines;
use crate::format::{Format, with_format};
use crate::simd::{Level, first_cache};
use crate::simd_cells::{Ahead, CELL, QUAD, QUERIES, known, place, quad_dots, scale_cells, softmax};
use crate::simd_vector::{Vector, VectorOf};
use crate::{AnyHead, dispatch};
use std::ops::Range;

/// How a head is gone through.
struct Pace {
    /// Bytes of one step of the online softmax, to be rounded to whole blocks: enough slots to hide its latency.
    tile_bytes: usize,
    /// Tiles between the one that is asked for and the one that is read.
    ahead: usize,
    /// See [`Ahead::first`].
    first: bool,
}

/// Most blocks of a tile: so many are asked for at once.
const TILE_BLOCKS: usize = 2;

impl Pace {
    /// Where the first-level cache holds a tile and the next two (48 KB, Zen 5), two threads read, with 1, 2 and 3 tiles ahead, 86%, 88% and 84% of the
    /// bandwidth at 64 f16 numbers, 86%, 90% and 88% at 128. A smaller one (32 KB, Zen 3) gets from the second what lies one larger tile ahead:
    /// at 128 numbers in 0.9 of the time of the other way.
    fn of_machine() -> Self {
        if first_cache() >= 48 << 10 {
            Self { tile_bytes: 16 << 10, ahead: 2, first: true }
        } else {
            Self { tile_bytes: 32 << 10, ahead: 1, first: false }
        }
    }
}

/// What one task attends to.
pub(super) struct Part<'a> {
    /// Of the blocks of the KV head.
    pub blocks: Range<usize>,
    /// What the next task reads: a head, from a block on.
    pub then: Option<(AnyHead<'a>, usize)>,
}

/// Attention of all rows of a KV head over a part of its blocks, `[rows][group]`. `scratch` grows when it must. `weights`, all that the
/// slots of these blocks get (`[rows][group][slots]`, relative to the maxima in `out`), are written if there is a place for them.
pub(super) fn decode_part(
    level: Level,
    query: &HeadQuery<'_>,
    dims: Dims,
    of: Part<'_>,
    scratch: &mut CacheLines,
    out: Sums<'_>,
    weights: Option<&mut [f32]>,
) {
    with_format!(query.view.layout.codec, F => run::<F>(level, query, dims, of, scratch, out, weights));
}

dispatch! {
    /// A function for each format: together in one, they come out slower.
    fn run<F: Format>(level, query: &HeadQuery<'_>, dims: Dims, of: Part<'_>, scratch: &mut CacheLines, out: Sums<'_>, weights: Option<&mut [f32]>) = part::<VectorOf<Target>, F>;
}

/// Up to [`QUERIES`] stacked queries (row, head of the group) and their running softmax.
struct Chunk<'a> {
    /// Scaled, padded with zeros. `[queries][stride]`
    q: &'a mut [f32],
    /// `[queries][stride]`
    sums: &'a mut [f32],
    /// The cells of a tile.
    cells: &'a mut [f32],
    max: &'a mut [f32; CELL],
    denominator: &'a mut [f32; CELL],
}

#[inline(always)]
fn part<V: Vector, F: Format>(
    query: &HeadQuery<'_>,
    dims: Dims,
    of: Part<'_>,
    scratch: &mut CacheLines,
    out: Sums<'_>,
    mut weights: Option<&mut [f32]>,
) {
    let Dims { query_heads, group, head_dim } = dims;
    let Part { blocks, then } = of;
    let HeadQuery { head, view, .. } = *query;
    let count = query.rows * group;
    let q_stride = head_dim.next_multiple_of(16);
    let tile_blocks = (Pace::of_machine().tile_bytes / view.layout.bytes()).clamp(1, TILE_BLOCKS);
    let tile_cells = tile_blocks * view.layout.slots.div_ceil(QUAD) * CELL;
    let chunk_len = 2 * QUERIES * q_stride + tile_cells + 2 * CELL;
    let chunks = count.div_ceil(QUERIES);
    let scratch = scratch.at_least(chunks * chunk_len);

    for (c, data) in scratch.chunks_exact_mut(chunk_len).enumerate() {
        let chunk = Chunk::split(data, q_stride, tile_cells);
        chunk.q.fill(0.0);
        chunk.sums.fill(0.0);
        chunk.max.fill(f32::NEG_INFINITY);
        chunk.denominator.fill(0.0);
        for i in c * QUERIES..count.min((c + 1) * QUERIES) {
            let at = (i / group * query_heads + head * group + i % group) * head_dim;
            let to = &mut chunk.q[i % QUERIES * q_stride..][..head_dim];
            for (to, from) in to.iter_mut().zip(&query.q[at..][..head_dim]) {
                *to = from * query.scale;
            }
        }
    }
    for start in blocks.clone().step_by(tile_blocks) {
        let tile = Tile { view, end: blocks.end, then, blocks: start..(start + tile_blocks).min(blocks.end) };
        for (c, data) in scratch.chunks_exact_mut(chunk_len).enumerate() {
            let queries = c * QUERIES..count.min((c + 1) * QUERIES);
            let chunk = Chunk::split(data, q_stride, tile_cells);
            let (slots, stride) = (view.layout.slots, blocks.len() * view.layout.slots);
            let (rows, from) = (queries.start * stride..queries.end * stride, (start - blocks.start) * slots);
            let keep = |cells: &[f32], factors: &[f32; CELL]| {
                if let Some(weights) = &mut weights {
                    keep_tile(cells, slots, factors, &mut weights[rows], stride, from);
                }
            };
            match queries.len() {
                1 => tile.attend::<V, F, 1>(query, group, queries, chunk, keep),
                2 => tile.attend::<V, F, 2>(query, group, queries, chunk, keep),
                3 => tile.attend::<V, F, 3>(query, group, queries, chunk, keep),
                _ => tile.attend::<V, F, 4>(query, group, queries, chunk, keep),
            }
        }
    }
    for (c, data) in scratch.chunks_exact_mut(chunk_len).enumerate() {
        let chunk = Chunk::split(data, q_stride, tile_cells);
        let queries = c * QUERIES..count.min((c + 1) * QUERIES);
        for (i, at) in queries.clone().enumerate() {
            let [a, b, c, d] = [0, 1, 2, 3].map(|s| chunk.denominator[place(queries.len(), i, s)]);
            out.max[at] = chunk.max[place(queries.len(), i, 0)];
            out.denominator[at] = (a + b) + (c + d);
            out.numerator[at * head_dim..][..head_dim].copy_from_slice(&chunk.sums[i * q_stride..][..head_dim]);
        }
    }
}

/// Consecutive blocks of a head.
struct Tile<'a> {
    view: AnyHead<'a>,
    blocks: Range<usize>,
    /// Where the part's blocks end.
    end: usize,
    /// See [`Part::then`].
    then: Option<(AnyHead<'a>, usize)>,
}

impl<'a> Tile<'a> {
    /// One step of the online softmax for the `Q` queries of a chunk, `queries` of all. Shows `keep` the weights, as cells, and the factors by
    /// which earlier ones shrink.
    #[inline(always)]
    fn attend<V: Vector, F: Format, const Q: usize>(
        &self,
        query: &HeadQuery<'_>,
        group: usize,
        queries: Range<usize>,
        chunk: Chunk<'_>,
        keep: impl FnOnce(&[f32], &[f32; CELL]),
    ) {
        // Instructions are the limit, not memory: loops of a known length take a tenth fewer. Where numbers are converted without instructions
        // for it (SSE2) they come out slower, and f32 is for tests.
        let known = V::LANES * V::REGISTERS > 64 && F::BYTES < 4;
        match self.view.layout.head_dim {
            64 if known => self.attend_rows::<V, F, Q, 64>(query, group, queries, chunk, keep),
            128 if known => self.attend_rows::<V, F, Q, 128>(query, group, queries, chunk, keep),
            _ => self.attend_rows::<V, F, Q, 0>(query, group, queries, chunk, keep),
        }
    }

    /// [`Tile::attend`] of rows of `dim` numbers.
    #[inline(always)]
    fn attend_rows<V: Vector, F: Format, const Q: usize, const DIM: usize>(
        &self,
        query: &HeadQuery<'_>,
        group: usize,
        queries: Range<usize>,
        chunk: Chunk<'_>,
        keep: impl FnOnce(&[f32], &[f32; CELL]),
    ) {
        let dim = known::<DIM>(self.view.layout.head_dim);
        let stride = dim.next_multiple_of(16);
        let block_cells = self.view.layout.slots.div_ceil(QUAD) * CELL;
        let cells = &mut chunk.cells[..self.blocks.len() * block_cells];
        let mut ahead = self.ahead();
        for (block, cells) in self.blocks.clone().zip(cells.chunks_exact_mut(block_cells)) {
            quad_dots::<V, F, Q, DIM>(chunk.q, stride, self.rows::<F>(block, dim, 0), dim, &mut ahead, cells);
        }
        self.adjust::<Q>(query, group, queries, cells);
        let mut factors = [0.0; CELL];
        softmax::<V, Q>(cells, chunk.max, chunk.denominator, &mut factors);
        keep(cells, &factors);
        // Found once for all columns: a call among them would send the sums to memory.
        let mut values = [&[][..]; TILE_BLOCKS];
        for (values, block) in values.iter_mut().zip(self.blocks.clone()) {
            *values = self.rows::<F>(block, dim, self.view.layout.slots);
        }
        let values = &values[..self.blocks.len()];
        for (values, cells) in values.iter().zip(cells.chunks_exact_mut(block_cells)) {
            scale_cells::<V, F, Q>(values, dim, cells);
        }
        add_weighted::<V, F, Q, DIM>(cells, block_cells / CELL, values, &mut ahead, dim, &factors, chunk.sums, stride);
    }

    /// The filled rows of a block from row `first` on, 0 for keys, the slots of a block for values.
    #[inline(always)]
    fn rows<F: Format>(&self, block: usize, dim: usize, first: usize) -> &'a [u8] {
        let row_bytes = F::row_bytes(dim);
        let bytes = self.view.block(block).expect("blocks were counted");
        &bytes[first * row_bytes..][..self.view.filled(block) * row_bytes]
    }

    /// What to ask for while this tile is read: a later one, its blocks at once. It may be of the next task, for the same thread is
    /// likely to run it. Not inlined: the loops beside it come out slower.
    #[inline(never)]
    fn ahead(&self) -> Ahead<'a> {
        let Pace { ahead, first, .. } = Pace::of_machine();
        let next = self.blocks.start + ahead * self.blocks.len();
        let block = |index: usize| {
            let bytes = match self.then {
                _ if index < self.end => self.view.block(index),
                Some((head, from)) => head.block(from + index - self.end),
                None => None,
            };
            bytes.and_then(|bytes| bytes.split_at_checked(self.view.layout.half_bytes())).unwrap_or_default()
        };
        let (keys, values) = block(next);
        let streams = if self.blocks.len() == 1 {
            let ((a, b), (c, d)) = (keys.split_at(keys.len() / 2), values.split_at(values.len() / 2));
            [a, b, c, d]
        } else {
            let (later_keys, later_values) = block(next + 1);
            [keys, values, later_keys, later_values]
        };
        Ahead { streams, rows: 0, first }
    }

    /// Adds the bias and hides what a query does not see: later slots, and cells that stand for no slot.
    #[inline(always)]
    fn adjust<const Q: usize>(&self, query: &HeadQuery<'_>, group: usize, queries: Range<usize>, cells: &mut [f32]) {
        let slots = self.view.layout.slots;
        let visible = |i: usize| self.view.len - query.rows + i / group + 1;
        let all_visible = visible(queries.start) >= self.blocks.end * slots;
        if all_visible && query.bias.is_none() && slots.is_multiple_of(QUAD) {
            return;
        }
        let quads = slots.div_ceil(QUAD);
        for (q, cell) in cells.as_chunks_mut::<CELL>().0.iter_mut().enumerate() {
            for (at, i) in queries.clone().enumerate() {
                for s in 0..QUAD {
                    let row = q % quads * QUAD + s;
                    let slot = (self.blocks.start + q / quads) * slots + row;
                    let logit = &mut cell[place(Q, at, s)];
                    if row >= slots || slot >= visible(i) {
                        *logit = f32::NEG_INFINITY;
                    } else if let Some(bias) = query.bias {
                        *logit += bias[slot];
                    }
                }
            }
        }
    }
}

impl<'a> Chunk<'a> {
    #[inline(always)]
    fn split(data: &'a mut [f32], stride: usize, tile_cells: usize) -> Self {
        let (max, rest) = data.split_first_chunk_mut().expect("a chunk begins with two cells");
        let (denominator, rest) = rest.split_first_chunk_mut().expect("a chunk begins with two cells");
        let (cells, rest) = rest.split_at_mut(tile_cells);
        let (q, sums) = rest.split_at_mut(QUERIES * stride);
        Self { q, sums, cells, max, denominator }
    }
}
