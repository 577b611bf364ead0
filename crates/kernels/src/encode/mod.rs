//! Numbers into the storage format of the cache.
//!
//! Rounds to nearest, ties to even; what is beyond the range of f16 (65504) becomes infinite. Int8 stores `x / scale` as signed bytes and behind them
//! the scale: the least f32 that brings the largest number of the row to 127 at most, so that each number comes back within half a scale. With a NaN or
//! an infinity in it, all of an int8 row is NaN (in f16 only that number is what it was): one scale cannot tell them from the others, and a finite number
//! in their place would hide them.

pub mod cpu;
pub mod cuda;

use headwise_core::Codec;

/// Writes a row of numbers in `codec` to `bytes`, which must be `codec.row_bytes(numbers.len())` long and aligned to one number.
pub fn encode(codec: Codec, numbers: &[f32], bytes: &mut [u8]) {
    cpu::encode(codec, numbers, bytes);
}
