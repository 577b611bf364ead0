//! Stored rows as f32.

use crate::format::{Format, with_format};
use crate::simd_vector::Vector;
use headwise_core::Codec;

/// f32 numbers of stored bytes. `out` holds exactly as many.
#[inline(always)]
pub(crate) fn widen<V: Vector>(source: &[u8], codec: Codec, out: &mut [f32]) {
    with_format!(codec, F => {
        let mut from = source.chunks_exact(V::LANES * F::BYTES);
        let mut to = out.chunks_exact_mut(V::LANES);
        for (from, to) in (&mut from).zip(&mut to) {
            F::load::<V>(from).store(to);
        }
        for (from, to) in from.remainder().chunks_exact(F::BYTES).zip(to.into_remainder()) {
            *to = F::number(from);
        }
    });
}
