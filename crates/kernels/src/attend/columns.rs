//! Sums, or the largest, over the rows: what each slot gets of the weight that all queries give away.
//!
//! A weight is known only when its row's maximum and denominator are, that is after the last slot. Until then it is kept as the online
//! softmax left it, relative to the maximum so far, and then joined with what is missing as a factor. That costs a pass over memory, a
//! few percent of the products; computing the logits again would cost half of attention.

use super::ColumnReduce;
use super::prefill::KEY_TILE;
use super::simd_product::panel_vectors;
use crate::simd_cells::{CELL, QUAD, QUERIES, place};
use crate::simd_vector::Vector;
use std::ops::Range;

/// The weights of a task of the prefill way.
pub(super) struct Kept<'a> {
    /// `[key tile][panel][slot][width]`
    weights: &'a mut [f32],
    /// The maxima that they are relative to. `[key tile][panel][width]`
    maxima: &'a mut [f32],
    panels: usize,
    width: usize,
}

impl<'a> Kept<'a> {
    /// Numbers that the weights of `tiles` key tiles and `panels` panels take.
    pub fn len(tiles: usize, panels: usize, width: usize) -> usize {
        tiles * panels * (KEY_TILE + 1) * width
    }

    /// In memory of [`Kept::len`] numbers.
    pub fn new(memory: &'a mut [f32], tiles: usize, panels: usize, width: usize) -> Self {
        let (weights, maxima) = memory.split_at_mut(tiles * panels * KEY_TILE * width);
        Self { weights, maxima, panels, width }
    }

    /// Where a panel's weights for the slots of a tile go, `[slot][width]`.
    pub fn place(&mut self, tile: usize, panel: usize) -> &mut [f32] {
        let size = KEY_TILE * self.width;
        &mut self.weights[(tile * self.panels + panel) * size..][..size]
    }

    /// The panel's maxima after that tile.
    pub fn set_maxima(&mut self, tile: usize, panel: usize, maxima: &[f32]) {
        self.maxima[(tile * self.panels + panel) * self.width..][..self.width].copy_from_slice(maxima);
    }

    /// Takes the weights of the panels `panels` for the first `slots` slots of a tile into `columns`, whose heads are `stride` apart. `maxima`
    /// (`[panel][width]`) are those of whole rows, and `shares` (`[group][panel][width]`) hold the row's factor / denominator where the query is
    /// one of that head of the group, else 0. `factors` is memory of the size of `shares`.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub fn add<V: Vector>(
        &self,
        tile: usize,
        panels: Range<usize>,
        slots: usize,
        maxima: &[f32],
        shares: &[f32],
        factors: &mut [f32],
        reduce: ColumnReduce,
        columns: &mut [f32],
        stride: usize,
    ) {
        let lanes = self.panels * self.width;
        let seen = panels.start * self.width..panels.end * self.width;
        let tile_maxima = &self.maxima[tile * lanes..][..lanes];
        for at in seen.clone().step_by(V::LANES) {
            // As in the softmax: with a finite base -∞ - base stays -∞ where a query has seen nothing.
            let base = |maxima: &[f32]| V::load(&maxima[at..]).max(V::splat(f32::MIN));
            let late = base(tile_maxima).sub(base(maxima)).exp();
            for (shares, factors) in shares.chunks_exact(lanes).zip(factors.chunks_exact_mut(lanes)) {
                late.mul(V::load(&shares[at..])).store(&mut factors[at..]);
            }
        }
        let size = KEY_TILE * self.width;
        let weights = &self.weights[(tile * self.panels + panels.start) * size..][..panels.len() * size];
        // Sixteen columns and four weights fit 32 registers; of 16 the half.
        let most = if V::REGISTERS >= 32 { QUERIES } else { QUERIES / 2 };
        for (factors, columns) in factors.chunks(most * lanes).zip(columns.chunks_mut(most * stride)) {
            let heads = factors.len() / lanes;
            let factors = &factors[seen.start..];
            let columns = &mut *columns;
            match (reduce, heads) {
                (ColumnReduce::Sum, 1) => add_heads::<V, 1>(weights, factors, lanes, slots, columns, stride),
                (ColumnReduce::Sum, 2) => add_heads::<V, 2>(weights, factors, lanes, slots, columns, stride),
                (ColumnReduce::Sum, 3) => add_heads::<V, 3>(weights, factors, lanes, slots, columns, stride),
                (ColumnReduce::Sum, _) => add_heads::<V, 4>(weights, factors, lanes, slots, columns, stride),
                (ColumnReduce::Max, 1) => raise_heads::<V, 1>(weights, factors, lanes, slots, columns, stride),
                (ColumnReduce::Max, 2) => raise_heads::<V, 2>(weights, factors, lanes, slots, columns, stride),
                (ColumnReduce::Max, 3) => raise_heads::<V, 3>(weights, factors, lanes, slots, columns, stride),
                (ColumnReduce::Max, _) => raise_heads::<V, 4>(weights, factors, lanes, slots, columns, stride),
            }
        }
    }
}

/// `columns[h][s] += Σ weights[panel][s][lane] · factors[h][panel][lane]` for `H` heads, whose factors are `lanes` apart.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps sums in memory")]
fn add_heads<V: Vector, const H: usize>(
    weights: &[f32],
    factors: &[f32],
    lanes: usize,
    slots: usize,
    columns: &mut [f32],
    stride: usize,
) {
    let width = panel_vectors::<V>() * V::LANES;
    let mut cell = [0.0; CELL];
    for start in (0..slots).step_by(QUAD) {
        let mut sums = [[V::splat(0.0); QUAD]; H];
        for (p, weights) in weights.chunks_exact(KEY_TILE * width).enumerate() {
            let rows = &weights[start * width..][..QUAD * width];
            for column in (0..width).step_by(V::LANES) {
                let mut loaded = [V::splat(0.0); QUAD];
                for s in 0..QUAD {
                    loaded[s] = V::load(&rows[s * width + column..]);
                }
                for h in 0..H {
                    let factor = V::load(&factors[h * lanes + p * width + column..]);
                    for s in 0..QUAD {
                        sums[h][s] = factor.mul_add(loaded[s], sums[h][s]);
                    }
                }
            }
        }
        V::sum_quads(sums, &mut cell);
        for h in 0..H {
            let sums = &cell[h * QUAD..][..QUAD.min(slots - start)];
            let columns = &mut columns[h * stride + start..];
            columns.iter_mut().zip(sums).for_each(|(column, sum)| *column += sum);
        }
    }
}

/// As [`add_heads`] with the largest in place of the sum.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with iterators the compiler keeps the largest in memory")]
fn raise_heads<V: Vector, const H: usize>(
    weights: &[f32],
    factors: &[f32],
    lanes: usize,
    slots: usize,
    columns: &mut [f32],
    stride: usize,
) {
    let width = panel_vectors::<V>() * V::LANES;
    for start in (0..slots).step_by(QUAD) {
        let mut largest = [[V::splat(0.0); QUAD]; H];
        for (p, weights) in weights.chunks_exact(KEY_TILE * width).enumerate() {
            let rows = &weights[start * width..][..QUAD * width];
            for column in (0..width).step_by(V::LANES) {
                let mut loaded = [V::splat(0.0); QUAD];
                for s in 0..QUAD {
                    loaded[s] = V::load(&rows[s * width + column..]);
                }
                for h in 0..H {
                    let factor = V::load(&factors[h * lanes + p * width + column..]);
                    for s in 0..QUAD {
                        largest[h][s] = factor.mul(loaded[s]).max(largest[h][s]);
                    }
                }
            }
        }
        for h in 0..H {
            let columns = &mut columns[h * stride + start..];
            for (s, largest) in largest[h].iter().enumerate().take(slots - start) {
                columns[s] = columns[s].max(largest.max_lane());
            }
        }
    }
}

/// Takes over the weights of a tile of the decode way for the queries of a chunk: `rows` (`[query][stride]`) hold the weights before slot `from`,
/// which shrink by `factors` (a cell) as sums do, and get those in `cells`, `slots` of every block.
pub(super) fn keep_tile(
    cells: &[f32],
    slots: usize,
    factors: &[f32; CELL],
    rows: &mut [f32],
    stride: usize,
    from: usize,
) {
    let queries = rows.len() / stride;
    for (i, row) in rows.chunks_exact_mut(stride).enumerate() {
        let (before, row) = row.split_at_mut(from);
        let factor = factors[place(queries, i, 0)];
        if factor != 1.0 {
            before.iter_mut().for_each(|weight| *weight *= factor);
        }
        let blocks = cells.chunks_exact(slots.div_ceil(QUAD) * CELL);
        for (row, cells) in row.chunks_exact_mut(slots).zip(blocks) {
            for (to, cell) in row.chunks_mut(QUAD).zip(cells.chunks_exact(CELL)) {
                for (s, to) in to.iter_mut().enumerate() {
                    *to = cell[place(queries, i, s)];
                }
            }
        }
    }
}
