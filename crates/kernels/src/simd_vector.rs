//! A vector of f32 lanes, one type per instruction set, so that a kernel body is written once, generic over [`Vector`], and
//! compiled for each by [`dispatch!`](crate::dispatch).
//!
//! The types may only be used inside functions that [`dispatch!`](crate::dispatch) compiles for their instruction set; that is
//! what makes their intrinsics legal and lets them be inlined.

use crate::simd::{self, Isa};

/// `LANES` numbers that are computed on together. Slices that are too short panic.
pub trait Vector: Copy {
    /// Numbers in one vector.
    const LANES: usize;
    /// Vector registers of the instruction set: how large a block of sums may stay out of memory.
    const REGISTERS: usize;
    /// Whether [`Vector::mul_add`] rounds once.
    const FUSED: bool;

    /// The same number in every lane.
    fn splat(x: f32) -> Self;
    /// The first `LANES` numbers.
    fn load(source: &[f32]) -> Self;
    /// Writes the first `LANES` numbers.
    fn store(self, target: &mut [f32]);
    /// The first `LANES` numbers of native-endian f32 bytes, at any alignment.
    fn load_f32(source: &[u8]) -> Self;
    /// The first `LANES` numbers of bfloat16 bytes.
    fn load_bf16(source: &[u8]) -> Self;
    /// The first `LANES` numbers of IEEE half bytes; exact, subnormal numbers included.
    fn load_f16(source: &[u8]) -> Self;

    /// The same four numbers, one after another, as often as they fit.
    fn splat4(numbers: [f32; 4]) -> Self;
    /// Each of the first `LANES / 4` numbers four times.
    #[inline(always)]
    fn splat_each(numbers: &[f32]) -> Self {
        let mut lanes = [0.0; 16];
        for (four, number) in lanes.as_chunks_mut::<4>().0.iter_mut().zip(&numbers[..Self::LANES / 4]) {
            *four = [*number; 4];
        }
        Self::load(&lanes)
    }
    /// The IEEE half of the first two bytes in every lane.
    fn splat_f16(source: &[u8]) -> Self;
    /// The first `LANES` signed bytes.
    fn load_i8(source: &[u8]) -> Self;
    /// The first `LANES` bytes as the numbers `byte >> shift & mask`.
    fn load_bits(source: &[u8], shift: u32, mask: u8) -> Self;

    /// Lane by lane `self + other`.
    fn add(self, other: Self) -> Self;
    /// Lane by lane `self - other`.
    fn sub(self, other: Self) -> Self;
    /// Lane by lane `self * other`.
    fn mul(self, other: Self) -> Self;
    /// Lane by lane `self * factor + term`, with one rounding where [`Vector::FUSED`].
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The larger number of each lane; `other` where either is NaN.
    fn max(self, other: Self) -> Self;
    /// `then` in the lanes where `a >= b`, else `otherwise` (also where either is NaN).
    fn select_ge(a: Self, b: Self, then: Self, otherwise: Self) -> Self;
    /// A bit for each lane, the first one lowest: whether it is at least that of `bound`.
    fn at_least(self, bound: Self) -> u32;
    /// Adds the low bits of `counter` to the exponent: `self * 2^n` for `counter = 1.5 * 2^23 + n`.
    fn scale_by_power_of_two(self, counter: Self) -> Self;
    /// The sums over the lanes of four vectors.
    fn sum4(vectors: [Self; 4]) -> [f32; 4];

    /// Writes the sums over the lanes of up to four quads of vectors, with the bits of [`Vector::sum4`]: `out[4 q + s]` of `quads[q][s]`.
    /// What it writes beyond them (to the
    /// end of its last vector) is arbitrary; `out` has room for that.
    #[inline(always)]
    fn sum_quads<const Q: usize>(quads: [[Self; 4]; Q], out: &mut [f32]) {
        for (q, quad) in quads.into_iter().enumerate() {
            out[4 * q..][..4].copy_from_slice(&Self::sum4(quad));
        }
    }

    /// The same numbers. Where a loop needs all registers, it makes the compiler hold the first three in registers before it loads what follows. Else
    /// the compiler loads ahead as if registers were never short, and keeps a sum in memory to make room.
    #[inline(always)]
    fn settled<const N: usize>(vectors: [Self; N]) -> [Self; N] {
        vectors
    }

    /// Sum over the lanes.
    #[inline(always)]
    fn sum(self) -> f32 {
        let zero = Self::splat(0.0);
        Self::sum4([self, zero, zero, zero])[0]
    }

    /// Largest lane.
    #[inline(always)]
    fn max_lane(self) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; 16];
        self.store(&mut lanes);
        let mut width = Self::LANES;
        while width > 1 {
            width /= 2;
            for i in 0..width {
                lanes[i] = if lanes[i] > lanes[i + width] { lanes[i] } else { lanes[i + width] };
            }
        }
        lanes[0]
    }

    /// `e^x` for `x <= 88`, within 2 ulp; 0 below -87, where the result would be subnormal; NaN stays NaN.
    ///
    /// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; `e^r` is the polynomial that interpolates `(e^r - 1) / r` at the Chebyshev
    /// nodes of that interval, so that `e^0` is exactly 1.
    #[inline(always)]
    fn exp(self) -> Self {
        let magic = Self::splat(12_582_912.0); // 1.5 * 2^23: adding it leaves the rounded number in the low bits
        let counter = self.mul_add(Self::splat(std::f32::consts::LOG2_E), magic);
        let n = counter.sub(magic);
        let r = n.mul_add(Self::splat(-0.693_359_4), self); // ln 2 in two parts: n times the first is exact
        let r = n.mul_add(Self::splat(2.121_944_4e-4), r);
        let mut p = Self::splat(1.393_365e-3);
        for coefficient in [8.369_155e-3, 4.166_646_7e-2, 1.666_650_5e-1, 0.5, 1.0, 1.0] {
            p = p.mul_add(r, Self::splat(coefficient));
        }
        // A NaN is given as it came: scaled, some would be numbers.
        let beyond = Self::splat(0.0).max(self);
        Self::select_ge(self, Self::splat(-87.0), p.scale_by_power_of_two(counter), beyond)
    }
}

/// Four lanes in plain Rust, for every machine: SSE2 on baseline x86-64.
#[derive(Debug, Clone, Copy)]
pub struct F32x4(pub(crate) [f32; 4]);

impl F32x4 {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let (a, b) = (self.0, other.0);
        Self([f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])])
    }

    #[inline(always)]
    fn from_halves(source: &[u8], f: impl Fn(u32) -> f32) -> Self {
        let at = |i: usize| f(u16::from_ne_bytes([source[2 * i], source[2 * i + 1]]) as u32);
        Self([at(0), at(1), at(2), at(3)])
    }
}

impl Vector for F32x4 {
    const LANES: usize = 4;
    const REGISTERS: usize = 16;
    const FUSED: bool = false;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 4])
    }
    #[inline(always)]
    fn load(source: &[f32]) -> Self {
        Self([source[0], source[1], source[2], source[3]])
    }
    #[inline(always)]
    fn store(self, target: &mut [f32]) {
        target[..4].copy_from_slice(&self.0);
    }
    #[inline(always)]
    fn load_f32(source: &[u8]) -> Self {
        let at = |i: usize| f32::from_ne_bytes([source[i], source[i + 1], source[i + 2], source[i + 3]]);
        Self([at(0), at(4), at(8), at(12)])
    }
    #[inline(always)]
    fn load_bf16(source: &[u8]) -> Self {
        Self::from_halves(source, |bits| f32::from_bits(bits << 16))
    }
    #[inline(always)]
    fn load_f16(source: &[u8]) -> Self {
        // The exponent moves from bias 15 to bias 127 by a product with 2^112, which also normalizes subnormal numbers;
        // infinity and NaN keep an all-ones exponent.
        Self::from_halves(source, |bits| {
            let magnitude = (bits & 0x7fff) << 13;
            let scaled = (f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23)).to_bits();
            let special = if magnitude >= 0x7c00 << 13 { 0x7f80_0000 } else { 0 };
            f32::from_bits(scaled | special | (bits & 0x8000) << 16)
        })
    }
    #[inline(always)]
    fn splat4(numbers: [f32; 4]) -> Self {
        Self(numbers)
    }
    #[inline(always)]
    fn splat_f16(source: &[u8]) -> Self {
        let (a, b) = (source[0], source[1]);
        Self::load_f16(&[a, b, a, b, a, b, a, b])
    }
    #[inline(always)]
    fn load_i8(source: &[u8]) -> Self {
        let at = |i: usize| f32::from(source[i] as i8);
        Self([at(0), at(1), at(2), at(3)])
    }
    #[inline(always)]
    fn load_bits(source: &[u8], shift: u32, mask: u8) -> Self {
        let at = |i: usize| f32::from(source[i] >> shift & mask);
        Self([at(0), at(1), at(2), at(3)])
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        // `f32::mul_add` would be a slow library call.
        self.mul(factor).add(term)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn select_ge(a: Self, b: Self, then: Self, otherwise: Self) -> Self {
        let pick = |i: usize| if a.0[i] >= b.0[i] { then.0[i] } else { otherwise.0[i] };
        Self([pick(0), pick(1), pick(2), pick(3)])
    }
    #[inline(always)]
    fn at_least(self, bound: Self) -> u32 {
        (0..4).map(|i| u32::from(self.0[i] >= bound.0[i]) << i).sum()
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, counter: Self) -> Self {
        self.zip(counter, |x, n| f32::from_bits(x.to_bits().wrapping_add(n.to_bits() << 23)))
    }
    #[inline(always)]
    fn sum4(vectors: [Self; 4]) -> [f32; 4] {
        vectors.map(|Self([a, b, c, d])| (a + c) + (b + d))
    }
}

/// Methods of a vector type whose bodies are one expression of intrinsics each.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! methods {
    ($($(#[check($slice:ident, $length:expr)])? fn $name:ident($($arg:tt)*) $(-> $ret:ty)? = $body:expr;)*) => {
        $(
            #[inline(always)]
            fn $name($($arg)*) $(-> $ret)? {
                $(assert!($slice.len() >= $length);)?
                // SAFETY: these types are only used in functions compiled for, and called on, machines with their
                // features (`dispatch!`); what is read or written lies in the slice whose length was checked.
                unsafe { $body }
            }
        )*
    };
}
#[cfg(target_arch = "aarch64")]
pub(crate) use methods;

#[cfg(target_arch = "x86_64")]
pub use x86::{F32x8, F32x16};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::asm;
    use std::arch::x86_64::*;

    /// Eight lanes: AVX2 + FMA + F16C.
    #[derive(Clone, Copy)]
    pub struct F32x8(pub(crate) __m256);

    /// Sixteen lanes: AVX-512 F, BW, DQ, VL.
    #[derive(Clone, Copy)]
    pub struct F32x16(pub(crate) __m512);

    impl Vector for F32x8 {
        const LANES: usize = 8;
        const REGISTERS: usize = 16;
        const FUSED: bool = true;

        methods! {
            fn splat(x: f32) -> Self = Self(_mm256_set1_ps(x));
            #[check(source, 8)]
            fn load(source: &[f32]) -> Self = Self(_mm256_loadu_ps(source.as_ptr()));
            #[check(target, 8)]
            fn store(self, target: &mut [f32]) = _mm256_storeu_ps(target.as_mut_ptr(), self.0);
            #[check(source, 32)]
            fn load_f32(source: &[u8]) -> Self = Self(_mm256_loadu_ps(source.as_ptr().cast()));
            #[check(source, 16)]
            fn load_bf16(source: &[u8]) -> Self = Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(
                _mm256_cvtepu16_epi32(_mm_loadu_si128(source.as_ptr().cast())),
            )));
            #[check(source, 16)]
            fn load_f16(source: &[u8]) -> Self = Self(_mm256_cvtph_ps(_mm_loadu_si128(source.as_ptr().cast())));
            fn splat4(numbers: [f32; 4]) -> Self = Self(_mm256_broadcast_ps(&std::mem::transmute::<[f32; 4], __m128>(numbers)));
            #[check(source, 2)]
            fn splat_f16(source: &[u8]) -> Self = Self(_mm256_cvtph_ps(_mm_set1_epi16(i16::from_ne_bytes([source[0], source[1]]))));
            #[check(source, 8)]
            fn load_i8(source: &[u8]) -> Self =
                Self(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(source.as_ptr().cast()))));
            #[check(source, 8)]
            fn load_bits(source: &[u8], shift: u32, mask: u8) -> Self = Self(_mm256_cvtepi32_ps(_mm256_and_si256(
                _mm256_srl_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64(source.as_ptr().cast())), _mm_cvtsi32_si128(shift as i32)),
                _mm256_set1_epi32(i32::from(mask)),
            )));
            fn add(self, other: Self) -> Self = Self(_mm256_add_ps(self.0, other.0));
            fn sub(self, other: Self) -> Self = Self(_mm256_sub_ps(self.0, other.0));
            fn mul(self, other: Self) -> Self = Self(_mm256_mul_ps(self.0, other.0));
            fn mul_add(self, factor: Self, term: Self) -> Self = Self(_mm256_fmadd_ps(self.0, factor.0, term.0));
            fn max(self, other: Self) -> Self = Self(_mm256_max_ps(self.0, other.0));
            fn select_ge(a: Self, b: Self, then: Self, otherwise: Self) -> Self =
                Self(_mm256_blendv_ps(otherwise.0, then.0, _mm256_cmp_ps::<_CMP_GE_OQ>(a.0, b.0)));
            fn at_least(self, bound: Self) -> u32 =
                _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(self.0, bound.0)) as u32;
            fn scale_by_power_of_two(self, counter: Self) -> Self = Self(_mm256_castsi256_ps(_mm256_add_epi32(
                _mm256_castps_si256(self.0),
                _mm256_slli_epi32::<23>(_mm256_castps_si256(counter.0)),
            )));
            fn sum4(vectors: [Self; 4]) -> [f32; 4] = {
                let [a, b, c, d] = vectors;
                // Horizontal additions would be shorter to write, and take twice as long.
                let ab = _mm256_castps_pd(_mm256_add_ps(_mm256_unpacklo_ps(a.0, b.0), _mm256_unpackhi_ps(a.0, b.0)));
                let cd = _mm256_castps_pd(_mm256_add_ps(_mm256_unpacklo_ps(c.0, d.0), _mm256_unpackhi_ps(c.0, d.0)));
                let pairs = _mm256_add_ps(
                    _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd)),
                    _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd)),
                );
                let sums = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
                std::mem::transmute::<__m128, [f32; 4]>(sums)
            };
        }

        #[inline(always)]
        fn settled<const N: usize>(mut vectors: [Self; N]) -> [Self; N] {
            if let Some(some) = vectors.first_chunk_mut() {
                // SAFETY: as for every method of `F32x8`.
                *some = unsafe { settle(*some) };
            }
            vectors
        }
    }

    #[inline]
    #[target_feature(enable = "avx")]
    fn settle([F32x8(mut a), F32x8(mut b), F32x8(mut c)]: [F32x8; 3]) -> [F32x8; 3] {
        // As far as the compiler knows it writes memory, which keeps loads behind it.
        // SAFETY: there is no instruction in it.
        unsafe {
            asm!("/* {0} {1} {2} */", inout(ymm_reg) a, inout(ymm_reg) b, inout(ymm_reg) c, options(nostack, preserves_flags));
        }
        [F32x8(a), F32x8(b), F32x8(c)]
    }

    impl Vector for F32x16 {
        const LANES: usize = 16;
        const REGISTERS: usize = 32;
        const FUSED: bool = true;

        methods! {
            fn splat(x: f32) -> Self = Self(_mm512_set1_ps(x));
            #[check(source, 16)]
            fn load(source: &[f32]) -> Self = Self(_mm512_loadu_ps(source.as_ptr()));
            #[check(target, 16)]
            fn store(self, target: &mut [f32]) = _mm512_storeu_ps(target.as_mut_ptr(), self.0);
            #[check(source, 64)]
            fn load_f32(source: &[u8]) -> Self = Self(_mm512_loadu_ps(source.as_ptr().cast()));
            #[check(source, 32)]
            fn load_bf16(source: &[u8]) -> Self = Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(
                _mm512_cvtepu16_epi32(_mm256_loadu_si256(source.as_ptr().cast())),
            )));
            #[check(source, 32)]
            fn load_f16(source: &[u8]) -> Self = Self(_mm512_cvt_roundph_ps::<4>(_mm256_loadu_si256(source.as_ptr().cast())));
            fn splat4(numbers: [f32; 4]) -> Self =
                Self(_mm512_broadcast_f32x4(std::mem::transmute::<[f32; 4], __m128>(numbers)));
            #[check(source, 2)]
            fn splat_f16(source: &[u8]) -> Self = Self(_mm512_cvtph_ps(_mm256_set1_epi16(i16::from_ne_bytes([source[0], source[1]]))));
            #[check(source, 16)]
            fn load_i8(source: &[u8]) -> Self =
                Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(source.as_ptr().cast()))));
            #[check(source, 16)]
            fn load_bits(source: &[u8], shift: u32, mask: u8) -> Self = Self(_mm512_cvtepi32_ps(_mm512_and_si512(
                _mm512_srl_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128(source.as_ptr().cast())), _mm_cvtsi32_si128(shift as i32)),
                _mm512_set1_epi32(i32::from(mask)),
            )));
            fn add(self, other: Self) -> Self = Self(_mm512_add_ps(self.0, other.0));
            fn sub(self, other: Self) -> Self = Self(_mm512_sub_ps(self.0, other.0));
            fn mul(self, other: Self) -> Self = Self(_mm512_mul_ps(self.0, other.0));
            fn mul_add(self, factor: Self, term: Self) -> Self = Self(_mm512_fmadd_ps(self.0, factor.0, term.0));
            fn max(self, other: Self) -> Self = Self(_mm512_max_ps(self.0, other.0));
            fn select_ge(a: Self, b: Self, then: Self, otherwise: Self) -> Self =
                Self(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(a.0, b.0), otherwise.0, then.0));
            fn at_least(self, bound: Self) -> u32 = u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(self.0, bound.0));
            fn scale_by_power_of_two(self, counter: Self) -> Self = Self(_mm512_castsi512_ps(_mm512_add_epi32(
                _mm512_castps_si512(self.0),
                _mm512_slli_epi32::<23>(_mm512_castps_si512(counter.0)),
            )));
        }

        #[inline(always)]
        fn sum_quads<const Q: usize>(quads: [[Self; 4]; Q], out: &mut [f32]) {
            let zero = Self::splat(0.0);
            let first = quarters(quads[0]);
            let second = if Q > 1 { quarters(quads[1 % Q]) } else { zero };
            let third = if Q > 2 { quarters(quads[2 % Q]) } else { zero };
            let fourth = if Q > 3 { quarters(quads[3 % Q]) } else { zero };
            join_quarters([first, second, third, fourth]).store(out);
        }

        #[inline(always)]
        fn sum4(vectors: [Self; 4]) -> [f32; 4] {
            let quarters = quarters(vectors).0;
            // SAFETY: as for every method of `F32x16`.
            unsafe {
                let halves = _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps::<1>(quarters));
                let sums = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
                std::mem::transmute::<__m128, [f32; 4]>(sums)
            }
        }
    }

    /// In each quarter of the lanes, the sums over that quarter of four vectors.
    #[inline(always)]
    fn quarters([a, b, c, d]: [F32x16; 4]) -> F32x16 {
        // SAFETY: as for every method of `F32x16`.
        unsafe {
            let ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a.0, b.0), _mm512_unpackhi_ps(a.0, b.0)));
            let cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c.0, d.0), _mm512_unpackhi_ps(c.0, d.0)));
            F32x16(_mm512_add_ps(
                _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)),
            ))
        }
    }

    /// The sums of the quarters of each vector, one after another.
    #[inline(always)]
    fn join_quarters([a, b, c, d]: [F32x16; 4]) -> F32x16 {
        // SAFETY: as for every method of `F32x16`.
        unsafe {
            let ab = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a.0, b.0), _mm512_shuffle_f32x4::<0xee>(a.0, b.0));
            let cd = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(c.0, d.0), _mm512_shuffle_f32x4::<0xee>(c.0, d.0));
            F32x16(_mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xdd>(ab, cd)))
        }
    }
}

/// Asks for the cache line `ahead` bytes after the start of `bytes`, which may lie outside: into the first-level cache if `FIRST`, else
/// into the second. Only a hint; nothing where the compiler has no way to say it.
#[inline(always)]
pub fn prefetch<const FIRST: bool>(bytes: &[u8], ahead: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and cannot fault, at any address; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        let at = bytes.as_ptr().wrapping_add(ahead).cast();
        if FIRST { _mm_prefetch::<_MM_HINT_T0>(at) } else { _mm_prefetch::<_MM_HINT_T1>(at) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, ahead);
}

/// Rows and columns change places, in registers. Without words for it, the compiler sends them through memory.
#[inline(always)]
pub(crate) fn transposed(square: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m128, _MM_TRANSPOSE4_PS};
        let [mut a, mut b, mut c, mut d]: [__m128; 4] = bytemuck::cast(square);
        // SAFETY: SSE is part of x86-64.
        unsafe { _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d) };
        bytemuck::cast([a, b, c, d])
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::array::from_fn(|column| square.map(|row| row[column]))
}

/// The [`Vector`] of an instruction set: `dispatch! { fn name(level, a: A) = body::<VectorOf<Target>>; }`.
pub type VectorOf<I> = <I as Vectors>::Vector;

/// Instruction sets and their vectors.
pub trait Vectors: Isa {
    /// The widest vector worth using.
    type Vector: Vector;
}

#[cfg(not(target_arch = "aarch64"))]
impl Vectors for simd::Baseline {
    type Vector = F32x4;
}

#[cfg(target_arch = "aarch64")]
impl Vectors for simd::Baseline {
    type Vector = crate::simd_neon::F32x4;
}

#[cfg(target_arch = "x86_64")]
impl Vectors for simd::Avx2 {
    type Vector = F32x8;
}

#[cfg(target_arch = "x86_64")]
impl Vectors for simd::Avx512 {
    type Vector = F32x16;
}
