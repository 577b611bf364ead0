//! The matrix product of prefill attention: a few rows of numbers times a panel of queries.

use crate::simd_vector::Vector;

/// Most vectors in one row of a panel.
pub(super) const MAX_PANEL_VECTORS: usize = 3;

/// Vectors in one row of a panel. Blocks of sums are as large as the registers allow, with room for their factors: 8 × 3 of
/// 32, 6 × 2 of 16 (one more and the compiler spills a running sum).
#[inline(always)]
pub(super) fn panel_vectors<V: Vector>() -> usize {
    if V::REGISTERS >= 32 { 3 } else { 2 }
}

/// A matrix inside a slice: element `(m, k)` lies at `m * row + k * depth`.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub depth: usize,
}

/// `c[m][j] = c[m][j] · correction[j] + Σ_k a(m, k) · b[k][j]` for `m < rows`, where rows of `b` (`[depth][width]`) and `c`
/// (`[rows][width]`) are `width = panel_vectors · V::LANES` long. Without `correction` the old `c` counts as zero.
/// Every sum runs over `k` in order, whatever the other rows and columns are.
#[inline(always)]
pub(super) fn panel_product<V: Vector>(
    a: Strided<'_>,
    rows: usize,
    b: &[f32],
    depth: usize,
    c: &mut [f32],
    correction: Option<&[f32]>,
) {
    let width = panel_vectors::<V>() * V::LANES;
    assert!(rows > 0 && depth > 0);
    assert!((rows - 1) * a.row + (depth - 1) * a.depth < a.data.len());
    assert!(depth * width <= b.len() && rows * width <= c.len());
    assert!(correction.is_none_or(|correction| correction.len() >= width));
    let mut m = 0;
    while m < rows {
        let left = rows - m;
        // SAFETY: rows m .. m + step are below `rows`, and the assertions above bound all offsets of such rows.
        unsafe {
            let a_row = a.data.as_ptr().add(m * a.row);
            let c_row = c.as_mut_ptr().add(m * width);
            macro_rules! step {
                ($rows:literal, $vectors:literal) => {{
                    block::<V, $rows, $vectors>(a_row, a.row, a.depth, b.as_ptr(), depth, c_row, correction);
                    m += $rows;
                }};
            }
            match (V::REGISTERS >= 32, left) {
                (true, 8..) => step!(8, 3),
                (true, 2..) => step!(2, 3),
                (true, _) => step!(1, 3),
                (false, 6..) => step!(6, 2),
                (false, 2..) => step!(2, 2),
                (false, _) => step!(1, 2),
            }
        }
    }
}

/// # Safety
/// `a` is readable at `m * a_row + k * a_depth` for `m < M`, `k < depth`, `b` for `depth` and `c` for `M` rows of `N` vectors.
#[inline(always)]
unsafe fn block<V: Vector, const M: usize, const N: usize>(
    a: *const f32,
    a_row: usize,
    a_depth: usize,
    b: *const f32,
    depth: usize,
    c: *mut f32,
    correction: Option<&[f32]>,
) {
    let width = N * V::LANES;
    let mut sums = [[V::splat(0.0); N]; M];
    // SAFETY: `c` has M panel rows.
    let c = unsafe { std::slice::from_raw_parts_mut(c, M * width) };
    if let Some(correction) = correction {
        for m in 0..M {
            for n in 0..N {
                let factor = V::load(&correction[n * V::LANES..]);
                sums[m][n] = V::load(&c[m * width + n * V::LANES..]).mul(factor);
            }
        }
    }
    for k in 0..depth {
        // SAFETY: `b` has `depth` panel rows.
        let b = unsafe { std::slice::from_raw_parts(b.add(k * width), width) };
        let mut loaded = [V::splat(0.0); N];
        for n in 0..N {
            loaded[n] = V::load(&b[n * V::LANES..]);
        }
        for (m, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller vouches for these offsets.
            let factor = V::splat(unsafe { *a.add(m * a_row + k * a_depth) });
            for n in 0..N {
                sums[n] = factor.mul_add(loaded[n], sums[n]);
            }
        }
    }
    for m in 0..M {
        for n in 0..N {
            sums[m][n].store(&mut c[m * width + n * V::LANES..]);
        }
    }
}
