//! The GGML block formats: how 32 consecutive weights are read out of their bytes.
//!
//! Layouts after ggml's `ggml-common.h` (<https://github.com/ggml-org/ggml>). Each body is one `#[inline(always)]` function over
//! fixed arrays, so that the compiler vectorizes it for every instruction set of [`dispatch!`](crate::dispatch). The arithmetic
//! (one multiply, then one add, each rounded) is that of ggml, so the values are the same to the bit everywhere.

use crate::simd_vector::Vector;

/// Weights that are decoded at once. Every format's block is a multiple of it.
pub const GROUP: usize = 32;

/// A GGML weight format.
pub trait Format: 'static {
    /// Bytes of a block.
    const BYTES: usize;
    /// Groups of [`GROUP`] weights in a block.
    const GROUPS: usize;

    /// Weights `32 · group ..` of `block`, which is [`Format::BYTES`] long; `group` is below [`Format::GROUPS`].
    fn decode<V: Vector>(block: &[u8], group: usize, out: &mut [f32; GROUP]);
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
pub(crate) use with_format;

/// `N` bytes of a block from `at`.
#[inline(always)]
pub(super) fn bytes<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("a block is as long as its format says")
}

/// The f16 at byte `at` in every lane.
#[inline(always)]
pub(super) fn half_at<V: Vector>(block: &[u8], at: usize) -> V {
    V::splat_f16(bytes::<2>(block, at))
}

/// Nibbles `at ..` of 16 bytes: the low ones first, then the high ones. (The compiler takes loops over 16 bytes apart instead
/// of vectorizing them, hence the vectors.)
#[inline(always)]
fn nibbles<V: Vector>(packed: &[u8; 16], at: usize) -> V {
    V::load_bits(&packed[at % 16..], at as u32 / 16 * 4, 15)
}

/// 16 in each of 32 bytes whose bit is set.
#[inline(always)]
fn sixteens(bits: &[u8; 4]) -> [u8; GROUP] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut out = [0; GROUP];
    for (bytes, &bits) in out.as_chunks_mut().0.iter_mut().zip(bits) {
        // Bit i of the byte goes to byte i of the word; where it is set, adding 127 makes it carry into the upper bit.
        let spread = (u64::from(bits) * ONES) & 0x8040_2010_0804_0201;
        *bytes = (((spread + 0x7f * ONES) >> 3) & (16 * ONES)).to_le_bytes();
    }
    out
}

/// `scale · q` of 32 signed bytes.
#[inline(always)]
pub(super) fn signed<V: Vector>(quants: &[u8; GROUP], scale: V, out: &mut [f32; GROUP]) {
    for at in (0..GROUP).step_by(V::LANES) {
        V::load_i8(&quants[at..]).mul(scale).store(&mut out[at..]);
    }
}

/// Defines a format: its bytes, its groups, and the decoding of a group.
macro_rules! format {
    ($(#[$meta:meta])* $name:ident: $bytes:expr, $groups:expr, |$block:ident, $group:pat_param, $out:ident| $decode:expr) => {
        $(#[$meta])*
        #[allow(non_camel_case_types)]
        pub enum $name {}
        impl Format for $name {
            const BYTES: usize = $bytes;
            const GROUPS: usize = $groups;
            #[inline(always)]
            fn decode<V: Vector>($block: &[u8], $group: usize, $out: &mut [f32; GROUP]) {
                $decode
            }
        }
    };
}
pub(super) use format;

format! {
    /// 32-bit floats.
    F32: 128, 1, |block, _, out| {
        for at in (0..GROUP).step_by(V::LANES) {
            V::load_f32(&block[4 * at..]).store(&mut out[at..]);
        }
    }
}
format! {
    /// IEEE half floats.
    F16: 64, 1, |block, _, out| {
        for at in (0..GROUP).step_by(V::LANES) {
            V::load_f16(&block[2 * at..]).store(&mut out[at..]);
        }
    }
}
format! {
    /// The upper halves of 32-bit floats.
    BF16: 64, 1, |block, _, out| {
        for at in (0..GROUP).step_by(V::LANES) {
            V::load_bf16(&block[2 * at..]).store(&mut out[at..]);
        }
    }
}
format! {
    /// `d: f16, quants: [u4; 32]`; d · (q − 8).
    Q4_0: 18, 1, |block, _, out| {
        let (d, zero) = (half_at::<V>(block, 0), V::splat(8.0));
        for at in (0..GROUP).step_by(V::LANES) {
            nibbles::<V>(bytes(block, 2), at).sub(zero).mul(d).store(&mut out[at..]);
        }
    }
}
format! {
    /// `d: f16, m: f16, quants: [u4; 32]`; d · q + m.
    Q4_1: 20, 1, |block, _, out| {
        let (d, m) = (half_at::<V>(block, 0), half_at::<V>(block, 2));
        for at in (0..GROUP).step_by(V::LANES) {
            nibbles::<V>(bytes(block, 4), at).mul(d).add(m).store(&mut out[at..]);
        }
    }
}
format! {
    /// `d: f16, fifth bits: u32, quants: [u4; 32]`; d · (q − 16).
    Q5_0: 22, 1, |block, _, out| {
        let (d, zero) = (half_at::<V>(block, 0), V::splat(16.0));
        let high = sixteens(bytes(block, 2));
        for at in (0..GROUP).step_by(V::LANES) {
            let high = V::load_bits(&high[at..], 0, 16);
            nibbles::<V>(bytes(block, 6), at).add(high).sub(zero).mul(d).store(&mut out[at..]);
        }
    }
}
format! {
    /// `d: f16, m: f16, fifth bits: u32, quants: [u4; 32]`; d · q + m.
    Q5_1: 24, 1, |block, _, out| {
        let (d, m) = (half_at::<V>(block, 0), half_at::<V>(block, 2));
        let high = sixteens(bytes(block, 4));
        for at in (0..GROUP).step_by(V::LANES) {
            let high = V::load_bits(&high[at..], 0, 16);
            nibbles::<V>(bytes(block, 8), at).add(high).mul(d).add(m).store(&mut out[at..]);
        }
    }
}
format! {
    /// `d: f16, quants: [i8; 32]`; d · q.
    Q8_0: 34, 1, |block, _, out| signed(bytes(block, 2), half_at::<V>(block, 0), out)
}
format! {
    /// `d: f16, sum: f16, quants: [i8; 32]`; d · q.
    Q8_1: 36, 1, |block, _, out| signed(bytes(block, 4), half_at::<V>(block, 0), out)
}
