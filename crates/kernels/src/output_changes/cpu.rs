//! Output changes on the CPU: twelve rows against a strip of values at a time.

use super::Outputs;
use crate::dispatch;
use crate::simd::Level;
use crate::simd_vector::{Vector, VectorOf};
use crate::strips::{ROWS, STRIP, Strips, pack_rows, store_products, with_tile};

/// Slots that a row is changed at in a go: rows lie far from each other, often a power of two.
const BLOCK: usize = 4 * STRIP;

/// See [`super::output_changes`].
pub fn output_changes(level: Level, attention: &mut [f32], values: &Strips, outputs: Outputs) {
    if values.len() > 0 {
        let dim = values.dim();
        let packed = pack_rows(outputs.squares.len(), dim, |row, col| outputs.images[row * dim + col]);
        run(level, attention, values, outputs, &packed);
    }
}

dispatch! {
    fn run(level, attention: &mut [f32], values: &Strips, outputs: Outputs<'_>, packed: &[f32]) = body::<VectorOf<Target>>;
}

#[inline(always)]
fn body<V: Vector>(attention: &mut [f32], values: &Strips, outputs: Outputs, packed: &[f32]) {
    with_tile!(V, change_rows(attention, values, outputs, packed));
}

#[inline(always)]
fn change_rows<V: Vector, const R: usize, const N: usize>(
    attention: &mut [f32],
    values: &Strips,
    outputs: Outputs,
    packed: &[f32],
) {
    let (slots, dim) = (values.len(), values.dim());
    let mut tile = [[0.0; BLOCK]; ROWS];
    let blocks = values.numbers().chunks(dim * BLOCK);
    for (start, block) in (0..slots).step_by(BLOCK).zip(blocks) {
        let end = slots.min(start + BLOCK);
        let groups = attention.chunks_mut(ROWS * slots).zip(outputs.squares.chunks(ROWS));
        for ((attention, squares), rows) in groups.zip(packed.chunks_exact(ROWS * dim)) {
            for (first, strip) in (0..).step_by(STRIP).zip(block.chunks_exact(dim * STRIP)) {
                store_products::<V, R, N>(strip, rows, squares.len(), &mut tile.as_flattened_mut()[first..], BLOCK);
            }
            for ((row, &own), products) in attention.chunks_exact_mut(slots).zip(squares).zip(&tile) {
                change(&mut row[start..end], products, &outputs.lengths[start..end], own);
            }
        }
    }
}

#[inline(always)]
fn change(attention: &mut [f32], products: &[f32], lengths: &[f32], own: f32) {
    for ((a, product), length) in attention.iter_mut().zip(products).zip(lengths) {
        let square = own - 2.0 * product + length * length;
        // What rounding made negative is nothing; a NaN stays one.
        let change = if square < 0.0 { 0.0 } else { square.sqrt() };
        *a = *a / (1.0 - *a).max(f32::EPSILON / 2.0) * change;
    }
}
