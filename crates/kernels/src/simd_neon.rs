//! The vector of aarch64, where every machine has NEON.

use std::arch::{aarch64::*, asm};

use crate::simd_vector::{Vector, methods};

/// Four lanes: NEON.
#[derive(Clone, Copy)]
pub struct F32x4(float32x4_t);

impl Vector for F32x4 {
    const LANES: usize = 4;
    const REGISTERS: usize = 32;
    const FUSED: bool = true;

    methods! {
        fn splat(x: f32) -> Self = Self(vdupq_n_f32(x));
        #[check(source, 4)]
        fn load(source: &[f32]) -> Self = Self(vld1q_f32(source.as_ptr()));
        #[check(target, 4)]
        fn store(self, target: &mut [f32]) = vst1q_f32(target.as_mut_ptr(), self.0);
        #[check(source, 16)]
        fn load_f32(source: &[u8]) -> Self = Self(vreinterpretq_f32_u8(vld1q_u8(source.as_ptr())));
        #[check(source, 8)]
        fn load_bf16(source: &[u8]) -> Self =
            Self(vreinterpretq_f32_u32(vshll_n_u16::<16>(vreinterpret_u16_u8(vld1_u8(source.as_ptr())))));
        #[check(source, 8)]
        fn load_f16(source: &[u8]) -> Self = Self(widened(vreinterpret_u16_u8(vld1_u8(source.as_ptr()))));
        fn splat4(numbers: [f32; 4]) -> Self = Self(vld1q_f32(numbers.as_ptr()));
        #[check(source, 2)]
        fn splat_f16(source: &[u8]) -> Self =
            Self(widened(vdup_n_u16(u16::from_ne_bytes([source[0], source[1]]))));
        #[check(source, 4)]
        fn load_i8(source: &[u8]) -> Self =
            Self(vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(four(source)))))));
        #[check(source, 4)]
        fn load_bits(source: &[u8], shift: u32, mask: u8) -> Self = Self(vcvtq_f32_u32(vandq_u32(
            // A negative shift goes to the right.
            vshlq_u32(vmovl_u16(vget_low_u16(vmovl_u8(four(source)))), vdupq_n_s32(-(shift as i32))),
            vdupq_n_u32(u32::from(mask)),
        )));
        fn add(self, other: Self) -> Self = Self(vaddq_f32(self.0, other.0));
        fn sub(self, other: Self) -> Self = Self(vsubq_f32(self.0, other.0));
        fn mul(self, other: Self) -> Self = Self(vmulq_f32(self.0, other.0));
        fn mul_add(self, factor: Self, term: Self) -> Self = Self(vfmaq_f32(term.0, self.0, factor.0));
        // Not `vmaxq_f32`, which gives NaN where either is.
        fn max(self, other: Self) -> Self = Self(vbslq_f32(vcgtq_f32(self.0, other.0), self.0, other.0));
        fn select_ge(a: Self, b: Self, then: Self, otherwise: Self) -> Self =
            Self(vbslq_f32(vcgeq_f32(a.0, b.0), then.0, otherwise.0));
        fn at_least(self, bound: Self) -> u32 =
            vaddvq_u32(vandq_u32(vcgeq_f32(self.0, bound.0), std::mem::transmute::<[u32; 4], uint32x4_t>([1, 2, 4, 8])));
        fn scale_by_power_of_two(self, counter: Self) -> Self = Self(vreinterpretq_f32_u32(vaddq_u32(
            vreinterpretq_u32_f32(self.0),
            vshlq_n_u32::<23>(vreinterpretq_u32_f32(counter.0)),
        )));
        fn sum4(vectors: [Self; 4]) -> [f32; 4] = {
            let [a, b, c, d] = vectors;
            let mut sums = [0.0; 4];
            vst1q_f32(sums.as_mut_ptr(), vpaddq_f32(vpaddq_f32(a.0, b.0), vpaddq_f32(c.0, d.0)));
            sums
        };
    }
}

/// The first four bytes in the lower lanes.
#[inline(always)]
fn four(source: &[u8]) -> uint8x8_t {
    let bytes = u32::from_le_bytes([source[0], source[1], source[2], source[3]]);
    // SAFETY: NEON is part of aarch64; nothing is read from memory.
    unsafe { vcreate_u8(u64::from(bytes)) }
}

/// IEEE halves as f32. The intrinsic for it, `vcvt_f32_f16`, came with Rust 1.94.
#[inline(always)]
fn widened(halves: uint16x4_t) -> float32x4_t {
    let numbers;
    // SAFETY: the instruction is part of NEON; it reads one register and writes another.
    unsafe {
        asm!(
            "fcvtl {numbers:v}.4s, {halves:v}.4h",
            numbers = lateout(vreg) numbers,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    numbers
}
