//! Stored numbers (codecs) as f32, vector by vector and one by one.

use crate::simd_vector::Vector;
use half::{bf16, f16};
use headwise_core::Codec;

/// A codec as a type, so that kernel bodies are compiled for each.
pub trait Format: Copy + 'static {
    /// Bytes of one number.
    const BYTES: usize;
    /// Bytes of the scale behind the numbers of a row; 0 where the scale is 1 and is not stored.
    const SCALE_BYTES: usize = 0;

    /// The first `V::LANES` numbers of `source`, before the scale.
    fn load<V: Vector>(source: &[u8]) -> V;

    /// The number in the first `BYTES` bytes, before the scale.
    fn number(source: &[u8]) -> f32;

    /// What the numbers of a whole row are multiplied with.
    #[inline(always)]
    fn scale(_row: &[u8]) -> f32 {
        1.0
    }

    /// Bytes of a row of `dim` numbers.
    #[inline(always)]
    fn row_bytes(dim: usize) -> usize {
        dim * Self::BYTES + Self::SCALE_BYTES
    }

    /// All numbers of `source`, at most `V::LANES`, followed by zeros.
    #[inline(always)]
    fn load_partial<V: Vector>(source: &[u8]) -> V {
        let mut padded = [0; 64];
        padded[..source.len()].copy_from_slice(source);
        Self::load(&padded)
    }
}

/// 32-bit IEEE float.
#[derive(Clone, Copy)]
pub struct F32;
/// bfloat16.
#[derive(Clone, Copy)]
pub struct Bf16;
/// 16-bit IEEE float.
#[derive(Clone, Copy)]
pub struct F16;
/// Signed bytes and an f32 scale.
#[derive(Clone, Copy)]
pub struct Int8;

impl Format for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    fn load<V: Vector>(source: &[u8]) -> V {
        V::load_f32(source)
    }
    #[inline(always)]
    fn number(source: &[u8]) -> f32 {
        f32::from_ne_bytes([source[0], source[1], source[2], source[3]])
    }
}

impl Format for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    fn load<V: Vector>(source: &[u8]) -> V {
        V::load_bf16(source)
    }
    #[inline(always)]
    fn number(source: &[u8]) -> f32 {
        bf16::from_ne_bytes([source[0], source[1]]).to_f32()
    }
}

impl Format for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    fn load<V: Vector>(source: &[u8]) -> V {
        V::load_f16(source)
    }
    #[inline(always)]
    fn number(source: &[u8]) -> f32 {
        f16::from_ne_bytes([source[0], source[1]]).to_f32()
    }
}

impl Format for Int8 {
    const BYTES: usize = 1;
    const SCALE_BYTES: usize = 4;
    #[inline(always)]
    fn load<V: Vector>(source: &[u8]) -> V {
        V::load_i8(source)
    }
    #[inline(always)]
    fn number(source: &[u8]) -> f32 {
        f32::from(source[0] as i8)
    }
    #[inline(always)]
    fn scale(row: &[u8]) -> f32 {
        f32::from_ne_bytes(*row.last_chunk().expect("a row ends with its scale"))
    }
}

/// `with_format!(codec, F => expression)` evaluates `expression` with `F` the [`Format`] of `codec`.
macro_rules! with_format {
    ($codec:expr, $format:ident => $body:expr) => {
        match $codec {
            headwise_core::Codec::F32 => {
                type $format = $crate::format::F32;
                $body
            }
            headwise_core::Codec::Bf16 => {
                type $format = $crate::format::Bf16;
                $body
            }
            headwise_core::Codec::F16 => {
                type $format = $crate::format::F16;
                $body
            }
            headwise_core::Codec::Int8 => {
                type $format = $crate::format::Int8;
                $body
            }
        }
    };
}
pub(crate) use with_format;

/// Number `d` of a stored row; the slow and obvious way, for references.
pub fn number(codec: Codec, row: &[u8], d: usize) -> f32 {
    with_format!(codec, F => F::number(&row[d * F::BYTES..]) * F::scale(row))
}
