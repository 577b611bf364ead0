//! What the block formats ask of a vector beyond arithmetic.

use crate::simd_vector::{F32x4, Vector};

/// The weights that quants q stand for: `(q − zero) · scale + offset`. Of quants of up to 6 bits and scales of up to 17 the product is exact, so
/// that rounding once gives the bits of rounding twice.
#[derive(Clone, Copy)]
pub(super) struct Affine<V> {
    pub zero: f32,
    pub scale: V,
    pub offset: V,
}

impl<V: Vector> Affine<V> {
    #[inline(always)]
    pub fn of(self, q: V) -> V {
        q.sub(V::splat(self.zero)).mul_add(self.scale, self.offset)
    }
}

/// A vector that quants are widened into.
pub(super) trait Quants: Vector {
    /// `self + x` in the lanes i where bit `first + i`, counted from the lowest, is set. `x` is a finite number.
    #[inline(always)]
    fn add_where(self, bits: u32, first: u32, x: Self) -> Self {
        let mut set = [0.0; 16];
        for (set, bit) in set[..Self::LANES].iter_mut().zip(first..) {
            *set = (bits >> bit & 1) as f32;
        }
        Self::load(&set).mul_add(x, self)
    }

    /// The two IEEE halves of the first four bytes, each in every lane.
    #[inline(always)]
    fn splat_halves(source: &[u8]) -> (Self, Self) {
        (Self::splat_f16(source), Self::splat_f16(&source[2..]))
    }

    /// What bits `shift .. shift + 4` of the first `LANES` bytes stand for.
    #[inline(always)]
    fn four_bits(packed: &[u8], shift: u32, weights: Affine<Self>) -> Self {
        weights.of(Self::load_bits(packed, shift, 15))
    }
}

impl Quants for F32x4 {}

#[cfg(target_arch = "aarch64")]
impl Quants for crate::simd_neon::F32x4 {}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Affine, Quants};
    use crate::simd_vector::{F32x8, F32x16, Vector};

    impl Quants for F32x8 {
        #[inline(always)]
        fn add_where(self, bits: u32, first: u32, x: Self) -> Self {
            // SAFETY: this type is only used in functions compiled for, and called on, machines with AVX2 (`dispatch!`).
            unsafe {
                let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
                let lanes = _mm256_sll_epi32(lanes, _mm_cvtsi32_si128(first as i32));
                let set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits as i32), lanes), lanes);
                Self(_mm256_add_ps(self.0, _mm256_and_ps(_mm256_castsi256_ps(set), x.0)))
            }
        }
    }

    /// Sixteen weights are a register, in which one permutation finds what would take a mask, a conversion, a product and a sum.
    impl Quants for F32x16 {
        #[inline(always)]
        fn add_where(self, bits: u32, first: u32, x: Self) -> Self {
            // SAFETY: this type is only used in functions compiled for, and called on, machines with AVX-512 (`dispatch!`).
            unsafe { Self(_mm512_mask_add_ps(self.0, (bits >> first) as __mmask16, self.0, x.0)) }
        }

        #[inline(always)]
        fn splat_halves(source: &[u8]) -> (Self, Self) {
            let both = i32::from_ne_bytes([source[0], source[1], source[2], source[3]]);
            // SAFETY: as above.
            unsafe {
                // Only 128 bits are converted: that costs no shuffle, of which everything else here has many.
                let both = _mm_cvtph_ps(_mm_cvtsi32_si128(both));
                (Self(_mm512_broadcastss_ps(both)), Self(_mm512_broadcastss_ps(_mm_movehdup_ps(both))))
            }
        }

        #[inline(always)]
        fn four_bits(packed: &[u8], shift: u32, weights: Affine<Self>) -> Self {
            assert!(packed.len() >= 16);
            let quants = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
            let table = weights.of(Self::load(&quants));
            // SAFETY: as above; the slice has the 16 bytes that are read.
            unsafe {
                let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(packed.as_ptr().cast()));
                // The permutation looks at the lowest four bits of an index only.
                let indices = _mm512_srl_epi32(bytes, _mm_cvtsi32_si128(shift as i32));
                Self(_mm512_permutexvar_ps(indices, table.0))
            }
        }
    }
}
