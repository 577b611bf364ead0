//! The K-quants: superblocks of 256 weights with quantized scales (layouts after ggml's `ggml-common.h`; see [`super::formats`]).

use super::formats::{Format, GROUP, bytes, format, half_at, signed};
use crate::simd_vector::Vector;

/// The 6-bit (scale, minimum) of `group` in the 12 bytes that Q4K and Q5K share.
#[inline(always)]
fn scale_and_minimum(packed: &[u8; 12], group: usize) -> (f32, f32) {
    let (scale, minimum) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let low = packed[group + 4];
        (low & 15 | packed[group - 4] >> 6 << 4, low >> 4 | packed[group] >> 6 << 4)
    };
    (f32::from(scale), f32::from(minimum))
}

/// The signed 6-bit scale `index` of the 16 in a Q3K block: low nibbles in 8 bytes, upper bit pairs in 4.
#[inline(always)]
fn q3_scale(packed: &[u8; 12], index: usize) -> f32 {
    let low = packed[index % 8] >> (4 * (index / 8)) & 15;
    let high = packed[8 + index % 4] >> (2 * (index / 4)) & 3;
    f32::from(low | high << 4) - 32.0
}

format! {
    /// `scales: [u8; 16] (low nibble scale, high nibble minimum), quants: [u2; 256], d: f16, dmin: f16`; a pair for 16 weights.
    Q2K: 84, 8, |block, group, out| {
        let (d, dmin) = (half_at::<V>(block, 80), half_at::<V>(block, 82));
        let scales = bytes::<16>(block, 0);
        let quants = bytes::<32>(block, 16 + 32 * (group / 4));
        let shift = 2 * (group as u32 % 4);
        for at in (0..GROUP).step_by(V::LANES) {
            let packed = scales[2 * group + at / 16];
            let scale = d.mul(V::splat(f32::from(packed & 15)));
            let minimum = dmin.mul(V::splat(f32::from(packed >> 4)));
            V::load_bits(&quants[at..], shift, 3).mul(scale).sub(minimum).store(&mut out[at..]);
        }
    }
}
format! {
    /// `third bits: [u1; 256], quants: [u2; 256], scales: [u6; 16], d: f16`; d · (scale − 32) · (q − 4), a scale for 16 weights.
    Q3K: 110, 8, |block, group, out| {
        let d = half_at::<V>(block, 108);
        let scales = bytes::<12>(block, 96);
        let high = bytes::<32>(block, 0);
        let low = bytes::<32>(block, 32 + 32 * (group / 4));
        let shift = 2 * (group as u32 % 4);
        for at in (0..GROUP).step_by(V::LANES) {
            let scale = d.mul(V::splat(q3_scale(scales, 2 * group + at / 16)));
            let (low, high) = (V::load_bits(&low[at..], shift, 3), V::load_bits(&high[at..], group as u32, 1));
            high.mul_add(V::splat(4.0), low).sub(V::splat(4.0)).mul(scale).store(&mut out[at..]);
        }
    }
}
format! {
    /// `d: f16, dmin: f16, scales and minima: [u6; 16], quants: [u4; 256]`; d · scale · q − dmin · minimum, a pair for 32 weights.
    Q4K: 144, 8, |block, group, out| {
        let (scale, minimum) = scale_and_minimum(bytes(block, 4), group);
        let scale = half_at::<V>(block, 0).mul(V::splat(scale));
        let minimum = half_at::<V>(block, 2).mul(V::splat(minimum));
        let quants = bytes::<32>(block, 16 + 32 * (group / 2));
        let shift = 4 * (group as u32 % 2);
        for at in (0..GROUP).step_by(V::LANES) {
            V::load_bits(&quants[at..], shift, 15).mul(scale).sub(minimum).store(&mut out[at..]);
        }
    }
}
format! {
    /// As Q4K with fifth bits: `d: f16, dmin: f16, scales and minima: [u6; 16], fifth bits: [u1; 256], quants: [u4; 256]`.
    Q5K: 176, 8, |block, group, out| {
        let (scale, minimum) = scale_and_minimum(bytes(block, 4), group);
        let scale = half_at::<V>(block, 0).mul(V::splat(scale));
        let minimum = half_at::<V>(block, 2).mul(V::splat(minimum));
        let high = bytes::<32>(block, 16);
        let low = bytes::<32>(block, 48 + 32 * (group / 2));
        let shift = 4 * (group as u32 % 2);
        for at in (0..GROUP).step_by(V::LANES) {
            let (low, high) = (V::load_bits(&low[at..], shift, 15), V::load_bits(&high[at..], group as u32, 1));
            high.mul_add(V::splat(16.0), low).mul(scale).sub(minimum).store(&mut out[at..]);
        }
    }
}
format! {
    /// `low nibbles: [u4; 256], upper pairs: [u2; 256], scales: [i8; 16], d: f16`; d · scale · (q − 32), a scale for 16 weights.
    Q6K: 210, 8, |block, group, out| {
        let d = half_at::<V>(block, 208);
        let scales = bytes::<16>(block, 192);
        let (half, quarter) = (group / 4, group % 4);
        let low = bytes::<32>(block, 64 * half + 32 * (quarter % 2));
        let high = bytes::<32>(block, 128 + 32 * half);
        let (low_shift, high_shift) = (4 * (quarter as u32 / 2), 2 * quarter as u32);
        for at in (0..GROUP).step_by(V::LANES) {
            let scale = d.mul(V::splat(f32::from(scales[2 * group + at / 16] as i8)));
            let (low, high) = (V::load_bits(&low[at..], low_shift, 15), V::load_bits(&high[at..], high_shift, 3));
            high.mul_add(V::splat(16.0), low).sub(V::splat(32.0)).mul(scale).store(&mut out[at..]);
        }
    }
}
format! {
    /// `d: f32, quants: [i8; 256], sums: [i16; 16]`; d · q.
    Q8K: 292, 8, |block, group, out| {
        signed(bytes(block, 4 + 32 * group), V::splat(f32::from_le_bytes(*bytes(block, 0))), out);
    }
}
