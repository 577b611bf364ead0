//! Stored rows as f32.

use crate::dispatch;
use crate::format::{Format, with_format};
use crate::simd::Level;
use crate::simd_vector::{Vector, VectorOf};
use crate::{AnyHead, Half};
use headwise_core::Codec;

/// f32 numbers of stored rows. `out` holds exactly as many, `[rows][dim]`.
#[inline(always)]
pub(crate) fn widen<V: Vector>(rows: &[u8], codec: Codec, dim: usize, out: &mut [f32]) {
    with_format!(codec, F => {
        // Without scales between them, all rows are one.
        let dim = if F::SCALE_BYTES == 0 { out.len().max(1) } else { dim };
        for (row, out) in rows.chunks_exact(F::row_bytes(dim)).zip(out.chunks_exact_mut(dim)) {
            let scale = F::scale(row);
            let mut from = row[..dim * F::BYTES].chunks_exact(V::LANES * F::BYTES);
            let mut to = out.chunks_exact_mut(V::LANES);
            for (from, to) in (&mut from).zip(&mut to) {
                F::load::<V>(from).mul(V::splat(scale)).store(to);
            }
            for (from, to) in from.remainder().chunks_exact(F::BYTES).zip(to.into_remainder()) {
                *to = F::number(from) * scale;
            }
        }
    });
}

/// Rows `start .. start + filled` of a head as f32, then zeros to the end of `out`.
#[inline(always)]
pub(crate) fn widen_rows<V: Vector>(view: AnyHead<'_>, start: usize, filled: usize, half: Half, out: &mut [f32]) {
    let (head_dim, block_slots, row_bytes) = (view.layout.head_dim, view.layout.slots, view.layout.row_bytes());
    let mut done = 0;
    while done < filled {
        let slot = start + done;
        let rows = &view.rows(slot / block_slots, half)[slot % block_slots * row_bytes..];
        let count = (rows.len() / row_bytes).min(filled - done);
        let out = &mut out[done * head_dim..][..count * head_dim];
        widen::<V>(&rows[..count * row_bytes], view.layout.codec, head_dim, out);
        done += count;
    }
    out[done * head_dim..].fill(0.0);
}

/// f32 numbers of the stored rows `rows`, `dim` each; `out` holds exactly as many.
pub fn numbers(rows: &[u8], codec: Codec, dim: usize, out: &mut [f32]) {
    run(Level::detect(), rows, codec, dim, out);
}

dispatch! {
    fn run(level, rows: &[u8], codec: Codec, dim: usize, out: &mut [f32]) = widen::<VectorOf<Target>>;
}
