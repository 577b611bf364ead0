//! The matrix product of prefill attention: a few rows of numbers times a panel of queries.

use crate::simd_vector::Vector;

/// Vectors in one row of a panel.
pub(super) const PANEL_VECTORS: usize = 3;

/// A matrix inside a slice: element `(m, k)` lies at `m * row + k * depth`.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub depth: usize,
}

/// `c[m][j] = c[m][j] · correction[j] + Σ_k a(m, k) · b[k][j]` for `m < rows`, where rows of `b` (`[depth][width]`) and `c`
/// (`[rows][width]`) are `width = PANEL_VECTORS · V::LANES` long. Without `correction` the old `c` counts as zero.
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
    let width = PANEL_VECTORS * V::LANES;
    assert!(rows > 0 && depth > 0);
    assert!((rows - 1) * a.row + (depth - 1) * a.depth < a.data.len());
    assert!(depth * width <= b.len() && rows * width <= c.len());
    assert!(correction.is_none_or(|correction| correction.len() >= width));
    // Blocks of sums as high as the registers allow: 8 × 3 of 32, 4 × 3 of 16.
    let height = if V::REGISTERS >= 32 { 8 } else { 4 };
    let mut m = 0;
    while m < rows {
        let step = if rows - m >= height { height } else { 1 };
        // SAFETY: rows m .. m + step are below `rows`, and the assertions above bound all offsets of such rows.
        unsafe {
            let a_row = a.data.as_ptr().add(m * a.row);
            let c_row = c.as_mut_ptr().add(m * width);
            match step {
                8 => block::<V, 8>(a_row, a.row, a.depth, b.as_ptr(), depth, c_row, correction),
                4 => block::<V, 4>(a_row, a.row, a.depth, b.as_ptr(), depth, c_row, correction),
                _ => block::<V, 1>(a_row, a.row, a.depth, b.as_ptr(), depth, c_row, correction),
            }
        }
        m += step;
    }
}

/// # Safety
/// `a` is readable at `m * a_row + k * a_depth` for `m < M`, `k < depth`, `b` for `depth` and `c` for `M` panel rows.
#[inline(always)]
unsafe fn block<V: Vector, const M: usize>(
    a: *const f32,
    a_row: usize,
    a_depth: usize,
    b: *const f32,
    depth: usize,
    c: *mut f32,
    correction: Option<&[f32]>,
) {
    let width = PANEL_VECTORS * V::LANES;
    let mut sums = [[V::splat(0.0); PANEL_VECTORS]; M];
    // SAFETY: `c` has M panel rows.
    let c = unsafe { std::slice::from_raw_parts_mut(c, M * width) };
    if let Some(correction) = correction {
        for m in 0..M {
            for n in 0..PANEL_VECTORS {
                let factor = V::load(&correction[n * V::LANES..]);
                sums[m][n] = V::load(&c[m * width + n * V::LANES..]).mul(factor);
            }
        }
    }
    for k in 0..depth {
        // SAFETY: `b` has `depth` panel rows.
        let b = unsafe { std::slice::from_raw_parts(b.add(k * width), width) };
        let mut loaded = [V::splat(0.0); PANEL_VECTORS];
        for n in 0..PANEL_VECTORS {
            loaded[n] = V::load(&b[n * V::LANES..]);
        }
        for m in 0..M {
            // SAFETY: the caller vouches for these offsets.
            let factor = V::splat(unsafe { *a.add(m * a_row + k * a_depth) });
            for n in 0..PANEL_VECTORS {
                sums[m][n] = factor.mul_add(loaded[n], sums[m][n]);
            }
        }
    }
    for m in 0..M {
        for n in 0..PANEL_VECTORS {
            sums[m][n].store(&mut c[m * width + n * V::LANES..]);
        }
    }
}
