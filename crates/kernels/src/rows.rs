//! Stored rows as f32.

use crate::dispatch;
use crate::format::{Format, with_format};
use crate::simd::Level;
use crate::simd_vector::{Vector, VectorOf};
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

/// f32 numbers of stored bytes; `out` holds exactly as many.
pub fn numbers(source: &[u8], codec: Codec, out: &mut [f32]) {
    run(Level::detect(), source, codec, out);
}

dispatch! {
    fn run(level, source: &[u8], codec: Codec, out: &mut [f32]) = widen::<VectorOf<Target>>;
}
