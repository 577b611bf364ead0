//! What the block formats ask of a vector beyond arithmetic.

use crate::simd_vector::{F32x4, Vector};

/// A vector that small whole numbers are widened into.
pub(super) trait Quants: Vector {
    /// What the numbers 0 .. 16 stand for.
    type Nibbles: Copy;

    /// `(q − zero) · scale − minimum`, each operation rounded, for q in 0 .. 16.
    fn nibbles(zero: f32, scale: Self, minimum: Self) -> Self::Nibbles;
    /// What bits `shift .. shift + 4` of the first `LANES` bytes stand for.
    fn pick(nibbles: Self::Nibbles, packed: &[u8], shift: u32) -> Self;
    /// `self + x` in the lanes whose bit, counted from the lowest, is set.
    fn add_where(self, bits: u32, x: Self) -> Self;
}

/// [`Quants::Nibbles`] where the vector is too narrow for a table.
#[derive(Clone, Copy)]
pub(super) struct Affine<V> {
    zero: V,
    scale: V,
    minimum: V,
}

/// The methods for vectors without a table.
macro_rules! affine {
    () => {
        type Nibbles = Affine<Self>;

        #[inline(always)]
        fn nibbles(zero: f32, scale: Self, minimum: Self) -> Affine<Self> {
            Affine { zero: Self::splat(zero), scale, minimum }
        }
        #[inline(always)]
        fn pick(nibbles: Affine<Self>, packed: &[u8], shift: u32) -> Self {
            Self::load_bits(packed, shift, 15).sub(nibbles.zero).mul(nibbles.scale).sub(nibbles.minimum)
        }
    };
}

impl Quants for F32x4 {
    affine!();

    #[inline(always)]
    fn add_where(self, bits: u32, x: Self) -> Self {
        let pick = |i: usize| if bits >> i & 1 == 1 { x.0[i] } else { 0.0 };
        self.add(Self([pick(0), pick(1), pick(2), pick(3)]))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Affine, Quants};
    use crate::simd_vector::{F32x8, F32x16, Vector};

    impl Quants for F32x8 {
        affine!();

        #[inline(always)]
        fn add_where(self, bits: u32, x: Self) -> Self {
            // SAFETY: this type is only used in functions compiled for, and called on, machines with AVX2 (`dispatch!`).
            unsafe {
                let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
                let set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits as i32), lanes), lanes);
                Self(_mm256_add_ps(self.0, _mm256_and_ps(_mm256_castsi256_ps(set), x.0)))
            }
        }
    }

    impl Quants for F32x16 {
        /// All 16 of them: one permutation then does what takes a mask, a conversion, a product and a sum.
        type Nibbles = F32x16;

        #[inline(always)]
        fn nibbles(zero: f32, scale: Self, minimum: Self) -> Self {
            let mut q = [0.0; 16];
            let mut next = -zero;
            for q in &mut q {
                *q = next;
                next += 1.0;
            }
            Self::load(&q).mul(scale).sub(minimum)
        }
        #[inline(always)]
        fn pick(nibbles: Self, packed: &[u8], shift: u32) -> Self {
            assert!(packed.len() >= 16);
            // SAFETY: this type is only used in functions compiled for, and called on, machines with AVX-512 (`dispatch!`);
            // the slice has the 16 bytes that are read.
            unsafe {
                let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(packed.as_ptr().cast()));
                // The permutation looks at the lowest four bits only.
                let indices = _mm512_srl_epi32(bytes, _mm_cvtsi32_si128(shift as i32));
                Self(_mm512_permutexvar_ps(indices, nibbles.0))
            }
        }
        #[inline(always)]
        fn add_where(self, bits: u32, x: Self) -> Self {
            // SAFETY: as above; nothing is read.
            unsafe { Self(_mm512_mask_add_ps(self.0, bits as __mmask16, self.0, x.0)) }
        }
    }
}
