//! The GGML block formats: how weights are read out of their bytes.
//!
//! Layouts after ggml's `ggml-common.h` (<https://github.com/ggml-org/ggml>). Each body is one `#[inline(always)]` function, written
//! once over [`Quants`] and compiled for every instruction set of [`dispatch!`](crate::dispatch). The arithmetic (one multiply,
//! then one add, each rounded, or both at once where the product is exact) is that of ggml, so the values are the same to the bit everywhere.

use super::simd_quants::{Affine, Quants};

/// Rows of `x` are padded to whole pieces of as many numbers. Every format's block is a multiple of it.
pub(super) const PIECE: usize = 32;

/// A GGML weight format.
pub(super) trait Format: 'static {
    /// Bytes of a block.
    const BYTES: usize;
    /// Weights of a group, a multiple of [`PIECE`]: what is done alike for every group of a block.
    const GROUP: usize;
    /// Groups of a block.
    const GROUPS: usize;
    /// Weights of a block.
    const BLOCK: usize = Self::GROUP * Self::GROUPS;
    /// What is worked out once a block.
    type Unpacked: Copy + Default;

    /// Works out what [`Format::weights`] wants to know of `block`, which is [`Format::BYTES`] long.
    fn unpack<V: Quants>(block: &[u8], unpacked: &mut Self::Unpacked);
    /// `V::LANES` weights of `group` from its weight `at`, a multiple of `V::LANES`, on.
    fn weights<V: Quants>(block: &[u8], unpacked: &Self::Unpacked, group: usize, at: usize) -> V;
}

/// Calls the macro `$then!(Format)` for a [`candle_core::quantized::GgmlDType`].
macro_rules! with_format {
    ($dtype:expr, $then:ident) => {{
        use candle_core::quantized::GgmlDType;
        use $crate::matmul::{formats, formats_k};
        match $dtype {
            GgmlDType::F32 => $then!(formats::F32),
            GgmlDType::F16 => $then!(formats::F16),
            GgmlDType::BF16 => $then!(formats::BF16),
            GgmlDType::Q4_0 => $then!(formats::Q4_0),
            GgmlDType::Q4_1 => $then!(formats::Q4_1),
            GgmlDType::Q5_0 => $then!(formats::Q5_0),
            GgmlDType::Q5_1 => $then!(formats::Q5_1),
            GgmlDType::Q8_0 => $then!(formats::Q8_0),
            GgmlDType::Q8_1 => $then!(formats::Q8_1),
            GgmlDType::Q2K => $then!(formats_k::Q2K),
            GgmlDType::Q3K => $then!(formats_k::Q3K),
            GgmlDType::Q4K => $then!(formats_k::Q4K),
            GgmlDType::Q5K => $then!(formats_k::Q5K),
            GgmlDType::Q6K => $then!(formats_k::Q6K),
            GgmlDType::Q8K => $then!(formats_k::Q8K),
        }
    }};
}
pub(super) use with_format;

/// `N` bytes of a block from `at`.
#[inline(always)]
pub(super) fn bytes<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("a block is as long as its format says")
}

/// The f16 at byte `at` in every lane.
#[inline(always)]
pub(super) fn half_at<V: Quants>(block: &[u8], at: usize) -> V {
    V::splat_f16(bytes::<2>(block, at))
}

/// Defines a format of blocks of [`PIECE`] weights, of which nothing is worth working out once: its bytes and its weights.
macro_rules! format {
    ($(#[$meta:meta])* $name:ident: $bytes:expr, |$block:ident, $at:ident| $weights:expr) => {
        $(#[$meta])*
        #[allow(non_camel_case_types)]
        pub(super) enum $name {}
        impl Format for $name {
            const BYTES: usize = $bytes;
            const GROUP: usize = PIECE;
            const GROUPS: usize = 1;
            type Unpacked = ();

            #[inline(always)]
            fn unpack<V: Quants>(_: &[u8], (): &mut ()) {}
            #[inline(always)]
            fn weights<V: Quants>($block: &[u8], (): &(), _: usize, $at: usize) -> V {
                $weights
            }
        }
    };
}

/// Weights `at ..` of 16 bytes that hold the first 16 quants in their low nibbles and the others in the high ones.
#[inline(always)]
fn fours<V: Quants>(packed: &[u8; 16], at: usize, weights: Affine<V>) -> V {
    V::four_bits(&packed[at % 16..], at as u32 / 16 * 4, weights)
}

/// As [`fours`], with fifth bits.
#[inline(always)]
fn fives<V: Quants>(packed: &[u8; 16], fifth: &[u8; 4], at: usize, weights: Affine<V>) -> V {
    let low = V::load_bits(&packed[at % 16..], at as u32 / 16 * 4, 15);
    weights.of(low.add_where(u32::from_le_bytes(*fifth), at as u32, V::splat(16.0)))
}

/// `d · (q − zero)` with the half of a block's first two bytes.
#[inline(always)]
fn symmetric<V: Quants>(block: &[u8], zero: f32) -> Affine<V> {
    Affine { zero, scale: V::splat_halves(bytes::<4>(block, 0)).0, offset: V::splat(-0.0) }
}

/// `d · q + m` with the halves of a block's first four bytes.
#[inline(always)]
fn asymmetric<V: Quants>(block: &[u8]) -> Affine<V> {
    let (scale, offset) = V::splat_halves(bytes::<4>(block, 0));
    Affine { zero: 0.0, scale, offset }
}

format! {
    /// 32-bit floats.
    F32: 128, |block, at| V::load_f32(&block[4 * at..])
}
format! {
    /// IEEE half floats.
    F16: 64, |block, at| V::load_f16(&block[2 * at..])
}
format! {
    /// The upper halves of 32-bit floats.
    BF16: 64, |block, at| V::load_bf16(&block[2 * at..])
}
format! {
    /// `d: f16, quants: [u4; 32]`; d · (q − 8).
    Q4_0: 18, |block, at| fours(bytes(block, 2), at, symmetric(block, 8.0))
}
format! {
    /// `d: f16, m: f16, quants: [u4; 32]`; d · q + m.
    Q4_1: 20, |block, at| fours(bytes(block, 4), at, asymmetric(block))
}
format! {
    /// `d: f16, fifth bits: u32, quants: [u4; 32]`; d · (q − 16).
    Q5_0: 22, |block, at| fives(bytes(block, 6), bytes(block, 2), at, symmetric(block, 16.0))
}
format! {
    /// `d: f16, m: f16, fifth bits: u32, quants: [u4; 32]`; d · q + m.
    Q5_1: 24, |block, at| fives(bytes(block, 8), bytes(block, 4), at, asymmetric(block))
}
format! {
    /// `d: f16, quants: [i8; 32]`; d · q.
    Q8_0: 34, |block, at| V::load_i8(&block[2 + at..]).mul(V::splat_halves(bytes::<4>(block, 0)).0)
}
format! {
    /// `d: f16, sum: f16, quants: [i8; 32]`; d · q.
    Q8_1: 36, |block, at| V::load_i8(&block[4 + at..]).mul(V::splat_halves(bytes::<4>(block, 0)).0)
}
