//! Stored numbers (codecs) as f32, vector by vector and one by one.

use crate::simd_vector::Vector;
use half::{bf16, f16};
use headwise_core::Codec;

/// A codec as a type, so that kernel bodies are compiled for each.
pub trait Format: Copy + 'static {
    /// Bytes of one number.
    const BYTES: usize;

    /// The first `V::LANES` numbers of `source`.
    fn load<V: Vector>(source: &[u8]) -> V;

    /// The number in the first `BYTES` bytes.
    fn number(source: &[u8]) -> f32;

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
        }
    };
}
pub(crate) use with_format;

/// Number `d` of a stored row; the slow and obvious way, for references.
pub fn number(codec: Codec, row: &[u8], d: usize) -> f32 {
    with_format!(codec, F => F::number(&row[d * F::BYTES..]))
}
