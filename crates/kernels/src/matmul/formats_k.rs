//! The K-quants: superblocks of 256 weights with quantized scales (layouts after ggml's `ggml-common.h`; see [`super::formats`]).
//!
//! Scales, and quants whose bits are scattered, are unpacked once a block, many at a time.

use super::{
    formats::{Format, bytes, half_at},
    simd_quants::{Affine, Quants},
};

/// Scales of 16 parts of a block, times the block's own.
type Scales = [f32; 16];

/// Scales and negative minima. On cache lines: what is stored across two of them, or across two pages, is slow to be loaded again.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Pairs {
    scales: Scales,
    minima: Scales,
}

/// A block with a byte for each quant, on cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Bytes {
    quants: [u8; 256],
    scales: Scales,
    minima: Scales,
}

impl Default for Bytes {
    fn default() -> Self {
        Self { quants: [0; 256], scales: [0.0; 16], minima: [0.0; 16] }
    }
}

/// `d · scale` of 16 unsigned scales.
#[inline(always)]
fn scale_all<V: Quants>(d: V, scales: &[u8; 16], out: &mut Scales) {
    for at in (0..16).step_by(V::LANES) {
        V::load_bits(&scales[at..], 0, 255).mul(d).store(&mut out[at..]);
    }
}

/// `d · scale` of 16 signed scales.
#[inline(always)]
fn scale_all_signed<V: Quants>(d: V, scales: &[u8; 16], out: &mut Scales) {
    for at in (0..16).step_by(V::LANES) {
        V::load_i8(&scales[at..]).mul(d).store(&mut out[at..]);
    }
}

/// Four bytes as one word, the first in its lowest bits.
#[inline(always)]
fn word(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes(block, at))
}

/// Four words as 16 bytes.
#[inline(always)]
fn sixteen(words: [u32; 4]) -> [u8; 16] {
    let mut out = [0; 16];
    for (bytes, word) in out.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    out
}

/// The 6-bit scales of 8 groups, then their 6-bit minima, from 12 bytes.
#[inline(always)]
fn scales_and_minima(block: &[u8], at: usize) -> [u8; 16] {
    const FOUR: u32 = 0x0f0f_0f0f;
    const SIX: u32 = 0x3f3f_3f3f;
    let [scales, minima, low] = [word(block, at), word(block, at + 4), word(block, at + 8)];
    let upper = |word: u32| (word >> 6 & 0x0303_0303) << 4;
    sixteen([scales & SIX, low & FOUR | upper(scales), minima & SIX, low >> 4 & FOUR | upper(minima)])
}

/// The 16 signed 6-bit scales of a Q3K block: low nibbles in 8 bytes, upper bit pairs in 4.
#[inline(always)]
fn q3_scales(block: &[u8], at: usize) -> [u8; 16] {
    const FOUR: u32 = 0x0f0f_0f0f;
    let [a, b, upper] = [word(block, at), word(block, at + 4), word(block, at + 8)];
    let upper = |shift: u32| (upper >> shift & 0x0303_0303) << 4;
    let unsigned = [a & FOUR | upper(0), b & FOUR | upper(2), a >> 4 & FOUR | upper(4), b >> 4 & FOUR | upper(6)];
    sixteen(unsigned).map(|scale| scale.wrapping_sub(32))
}

/// 32 bytes that are computed on at once, in words that the compiler makes vectors of.
type Words = [u64; 4];

#[inline(always)]
fn words(block: &[u8], at: usize) -> Words {
    let mut out = [0; 4];
    for (word, bytes) in out.iter_mut().zip(bytes::<32>(block, at).as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    out
}

/// The same byte eight times.
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// `byte >> shift & mask` of each byte; `mask` has no bit that a neighbour's bits are shifted to.
#[inline(always)]
fn field(words: Words, shift: usize, mask: u8) -> Words {
    let mut out = [0; 4];
    for (out, word) in out.iter_mut().zip(words) {
        *out = word >> shift & eight(mask);
    }
    out
}

/// `low | high << shift` of each byte; `high` has no bit that leaves its byte.
#[inline(always)]
fn join(low: Words, high: Words, shift: usize) -> Words {
    let mut out = [0; 4];
    for (out, (low, high)) in out.iter_mut().zip(low.into_iter().zip(high)) {
        *out = low | high << shift;
    }
    out
}

/// `byte − zero` of each byte as signed bytes; bytes and `zero` are below 128.
#[inline(always)]
fn centred(words: Words, zero: u8) -> Words {
    const TOP: u64 = eight(128);
    let mut out = [0; 4];
    for (out, word) in out.iter_mut().zip(words) {
        *out = ((word | TOP) - eight(zero)) ^ TOP;
    }
    out
}

impl Bytes {
    #[inline(always)]
    fn set(&mut self, group: usize, words: Words) {
        for (out, word) in self.quants[32 * group..].as_chunks_mut().0.iter_mut().zip(words) {
            *out = word.to_le_bytes();
        }
    }
}

/// Defines a format whose quants become bytes: the bytes of a block, how it is unpacked, how its weights are computed.
macro_rules! unpacked {
    ($(#[$meta:meta])* $name:ident: $bytes:expr, |$block:ident, $out:ident| $unpack:expr, |$unpacked:ident, $group:ident, $at:ident| $weights:expr) => {
        $(#[$meta])*
        pub(super) enum $name {}
        impl Format for $name {
            const BYTES: usize = $bytes;
            const GROUP: usize = 32;
            const GROUPS: usize = 8;
            type Unpacked = Bytes;

            #[inline(always)]
            fn unpack<V: Quants>($block: &[u8], $out: &mut Bytes) {
                $unpack
            }
            #[inline(always)]
            fn weights<V: Quants>(_: &[u8], $unpacked: &Bytes, $group: usize, $at: usize) -> V {
                $weights
            }
        }
    };
}

unpacked! {
    /// `scales: [u8; 16] (low nibble scale, high nibble minimum), quants: [u2; 256], d: f16, dmin: f16`; a pair for 16 weights.
    Q2K: 84, |block, out| {
        let (d, dmin) = V::splat_halves(bytes::<4>(block, 80));
        let pairs = bytes::<16>(block, 0);
        for at in (0..16).step_by(V::LANES) {
            V::load_bits(&pairs[at..], 0, 15).mul(d).store(&mut out.scales[at..]);
            V::load_bits(&pairs[at..], 4, 15).mul(dmin).store(&mut out.minima[at..]);
        }
        for half in 0..2 {
            let quants = words(block, 16 + 32 * half);
            for quarter in 0..4 {
                out.set(4 * half + quarter, field(quants, 2 * quarter, 3));
            }
        }
    }, |unpacked, group, at| {
        let part = 2 * group + at / 16;
        let q = V::load_bits(&unpacked.quants[32 * group + at..], 0, 255);
        q.mul(V::splat(unpacked.scales[part])).sub(V::splat(unpacked.minima[part]))
    }
}
unpacked! {
    /// `third bits: [u1; 256], quants: [u2; 256], scales: [u6; 16], d: f16`; d · (scale − 32) · (q − 4), a scale for 16 weights.
    Q3K: 110, |block, out| {
        scale_all_signed::<V>(half_at(block, 108), &q3_scales(block, 96), &mut out.scales);
        let high = words(block, 0);
        for half in 0..2 {
            let low = words(block, 32 + 32 * half);
            for quarter in 0..4 {
                let group = 4 * half + quarter;
                out.set(group, centred(join(field(low, 2 * quarter, 3), field(high, group, 1), 2), 4));
            }
        }
    }, |unpacked, group, at| {
        let q = V::load_i8(&unpacked.quants[32 * group + at..]);
        q.mul(V::splat(unpacked.scales[2 * group + at / 16]))
    }
}
unpacked! {
    /// As Q4K with fifth bits: `d: f16, dmin: f16, scales and minima: [u6; 16], fifth bits: [u1; 256], quants: [u4; 256]`.
    Q5K: 176, |block, out| {
        let (d, dmin) = V::splat_halves(bytes::<4>(block, 0));
        let packed = scales_and_minima(block, 4);
        scale_all(d, &packed, &mut out.scales);
        scale_all(dmin, &packed, &mut out.minima);
        // 64 bytes at a time: the low nibbles of two pairs of groups, then their high ones. In that order they stay.
        let high = words(block, 16);
        for half in 0..2 {
            let low: [Words; 2] = [words(block, 48 + 64 * half), words(block, 80 + 64 * half)];
            for odd in 0..2 {
                let mut five = [0; 8];
                for (i, five) in five.iter_mut().enumerate() {
                    let fifth = high[i % 4] >> (4 * half + odd + i / 4 * 2) & eight(1);
                    *five = low[i / 4][i % 4] >> (4 * odd) & eight(15) | fifth << 4;
                }
                for (out, word) in out.quants[128 * half + 64 * odd..].as_chunks_mut().0.iter_mut().zip(five) {
                    *out = word.to_le_bytes();
                }
            }
        }
    }, |unpacked, group, at| {
        let place = 128 * (group / 4) + 64 * (group % 2) + 32 * (group / 2 % 2);
        let q = V::load_bits(&unpacked.quants[place + at..], 0, 255);
        q.mul(V::splat(unpacked.scales[group])).sub(V::splat(unpacked.minima[8 + group]))
    }
}
unpacked! {
    /// `low nibbles: [u4; 256], upper pairs: [u2; 256], scales: [i8; 16], d: f16`; d · scale · (q − 32), a scale for 16 weights.
    Q6K: 210, |block, out| {
        scale_all_signed::<V>(half_at(block, 208), bytes(block, 192), &mut out.scales);
        for half in 0..2 {
            let high = words(block, 128 + 32 * half);
            for quarter in 0..4 {
                let low = words(block, 64 * half + 32 * (quarter % 2));
                let six = join(field(low, quarter / 2 * 4, 15), field(high, 2 * quarter, 3), 4);
                out.set(4 * half + quarter, centred(six, 32));
            }
        }
    }, |unpacked, group, at| {
        let q = V::load_i8(&unpacked.quants[32 * group + at..]);
        q.mul(V::splat(unpacked.scales[2 * group + at / 16]))
    }
}

/// `d: f16, dmin: f16, scales and minima: [u6; 16], quants: [u4; 256]`; d · scale · q − dmin · minimum, a pair for 32 weights.
pub(super) enum Q4K {}

impl Format for Q4K {
    const BYTES: usize = 144;
    /// 32 low nibbles, then the high ones of the same bytes.
    const GROUP: usize = 64;
    const GROUPS: usize = 4;
    type Unpacked = Pairs;

    #[inline(always)]
    fn unpack<V: Quants>(block: &[u8], out: &mut Pairs) {
        let (d, dmin) = V::splat_halves(bytes::<4>(block, 0));
        let packed = scales_and_minima(block, 4);
        scale_all(d, &packed, &mut out.scales);
        scale_all(V::splat(-0.0).sub(dmin), &packed, &mut out.minima);
    }
    #[inline(always)]
    fn weights<V: Quants>(block: &[u8], unpacked: &Pairs, group: usize, at: usize) -> V {
        let part = 2 * group + at / 32;
        let (scale, offset) = (V::splat(unpacked.scales[part]), V::splat(unpacked.minima[8 + part]));
        let weights = Affine { zero: 0.0, scale, offset };
        V::four_bits(&block[16 + 32 * group + at % 32..], 4 * (at as u32 / 32), weights)
    }
}

/// `d: f32, quants: [i8; 256], sums: [i16; 16]`; d · q.
pub(super) enum Q8K {}

impl Format for Q8K {
    const BYTES: usize = 292;
    const GROUP: usize = 32;
    const GROUPS: usize = 8;
    type Unpacked = ();

    #[inline(always)]
    fn unpack<V: Quants>(_: &[u8], (): &mut ()) {}
    #[inline(always)]
    fn weights<V: Quants>(block: &[u8], (): &(), group: usize, at: usize) -> V {
        let d = V::splat(f32::from_le_bytes(*bytes(block, 0)));
        V::load_i8(&block[4 + 32 * group + at..]).mul(d)
    }
}
